/* SPDX-License-Identifier: BSD-3-Clause
 * The worker: the process that moves packets and answers on the ctl socket.
 */
#include "ctl/daemon/worker.h"

#include <errno.h>
#include <ev.h>
#include <link.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "ctl/conf/settings.h"
#include "ctl/daemon/change.h"
#include "ctl/daemon/channel.h"
#include "ctl/daemon/ctlserver.h"
#include "ctl/daemon/ns1.h"
#include "ctl/daemon/sandbox.h"
#include "tunnel/tunnel.h"
#include "tunnel/uplink.h"

/* Secrets for the next connection to a peer; about 150 bytes of locked memory each. */
#define RESUME_MAX_CNT 1024

#define ANSWER_MS 5000 /* of the supervisor, see change.h */

#define DRAIN_LOOK_S  0.1
#define DRAIN_TELL_MS 1000

struct worker {
    const struct worker_args *args;
    struct ev_loop *loop;
    struct tunnel *tunnel;
    struct wishes *wishes; /* NULL: not possible here */
    struct ctlserver *server;
    struct ns1 ns1;
    struct ns1_watch watch;
    struct ns1_drain drain;
    struct worker_links links;
    ev_timer drain_look;
    int64_t drain_until_ms, drain_told_ms;
    size_t drain_left;          /* as last told */
    struct daemon_options opts; /* as they are now */
    bool reload_wanted;
    struct bypass bypass;
    ev_io channel;
    ev_signal term;
    ev_timer beat;
};

/* fd goes along when it is not negative. */
static void tell(const struct worker_args *args, const struct worker_message *m, int fd)
{
    int err = channel_send(args->channel, m, sizeof(*m), &fd, fd >= 0);

    if (err)
        log_error("worker: the supervisor does not listen: %s", strerror(-err));
}

static void fail(const struct worker_args *args, int err, const char *what)
{
    struct worker_message m = {.event = WORKER_FAILED, .err = err};

    snprintf(m.text, sizeof(m.text), "%s: %s", what, strerror(-err));
    tell(args, &m, -1);
    _exit(1);
}

/* The terminal's Ctrl-C goes to the supervisor too, which ends us in its order. */
static void set_signals(void)
{
    sigset_t none;

    signal(SIGINT, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGTERM, SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

/* Without its supervisor nobody would close the namespace if the worker died too. */
static void die_with(pid_t supervisor)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != supervisor)
        _exit(1);
}

/* --- Uplinks ---------------------------------------------------------------- */

static int add_uplink(struct worker *w, const struct worker_links *links,
                      const struct links_entry *e, int fd)
{
    if (fd < 0)
        return fd;
    int rx_fd = links->hooked == e->ifindex ? w->args->rx_fd : -1;
    int err = tunnel_add_uplink(w->tunnel, e->ifindex, fd, rx_fd);
    if (err)
        log_warn("cannot use %s: %s", e->name, strerror(-err));
    return err;
}

static void on_links(struct worker *w, const struct worker_links *new, const int *fds,
                     size_t fd_cnt)
{
    const struct links *before = &w->links.uplinks;
    size_t next = 0;

    for (size_t i = 0; i < before->cnt; i++)
        if (!worker_links_same(&w->links, new, before->entries[i].ifindex))
            tunnel_del_uplink(w->tunnel, before->entries[i].ifindex);
    for (size_t i = 0; i < new->uplinks.cnt &&next < fd_cnt; i++) {
        const struct links_entry *e = &new->uplinks.entries[i];

        if (e->ifindex > 0 && !worker_links_same(&w->links, new, e->ifindex))
            (void)add_uplink(w, new, e, fds[next++]);
    }
    w->links = *new;
}

/* --- Draining --------------------------------------------------------------- */

static void look_at_drain(struct ev_loop *loop, ev_timer *t, int events)
{
    struct worker *w = t->data;
    struct worker_message m = {.event = WORKER_DRAINED};
    size_t left = tunnel_flow_cnt(w->tunnel);
    int64_t until = w->drain_until_ms - clock_ms();

    if (left != w->drain_left || clock_ms() - w->drain_told_ms >= DRAIN_TELL_MS) {
        ns1_drain_tell(&w->drain, left, until > 0 ? (unsigned)(until / 1000) : 0);
        w->drain_left = left;
        w->drain_told_ms = clock_ms();
    }
    if (left > 0)
        return;
    ev_timer_stop(loop, t);
    tell(w->args, &m, -1);
}

static void start_drain(struct worker *w, const struct supervisor_message *from)
{
    struct worker_message m = {.event = WORKER_DRAINING};

    tunnel_drain(w->tunnel, from->drain);
    w->drain_until_ms = from->drain_until_ms;
    w->drain_told_ms = 0;
    tell(w->args, &m, -1);
    if (!ev_is_active(&w->drain_look)) {
        ev_timer_init(&w->drain_look, look_at_drain, 0, DRAIN_LOOK_S);
        w->drain_look.data = w;
        ev_timer_start(w->loop, &w->drain_look);
    }
}

/* --- Changes ---------------------------------------------------------------- */

static int use_settings(struct worker *w, int fd)
{
    struct tuple *older;
    size_t older_cnt;

    int err = change_load(fd, &w->opts, &older, &older_cnt);
    if (err)
        return err;
    settings_bypass(&w->opts, &w->bypass);
    tunnel_set_bypass(w->tunnel, w->bypass.ranges, w->bypass.cnt, w->bypass.matches,
                      w->bypass.match_cnt);
    for (size_t i = 0; i < older_cnt; i++)
        (void)tunnel_pass(w->tunnel, &older[i]);
    free(older);
    struct policy_config cfg = daemon_policy(&w->opts);
    err = tunnel_set_policy(w->tunnel, &cfg);
    if (err)
        return err;
    tunnel_set_key_timeout(w->tunnel, w->opts.key_timeout_s);
    tunnel_set_fallback_time(w->tunnel, w->opts.fallback_s);
    ns1_watch_daemon(&w->watch, "the policy has changed");
    return 0;
}

/* Leaves in a what became of it. */
static void on_answer(struct worker *w, struct change_answer *a, int fd)
{
    if (a->err)
        return;
    a->err = fd < 0 ? -EIO : use_settings(w, fd);
    if (!a->err)
        return;
    snprintf(a->text, sizeof(a->text), "cannot use the new settings: %s", strerror(-a->err));
    log_error("worker: %s", a->text);
}

static int send_request(const struct worker *w, const char *request)
{
    static struct {
        struct worker_message m;
        char request[CHANGE_REQUEST_LEN];
    } out;
    size_t len = request ? strlen(request) : 0; /* change_request() has seen to it that it fits */

    out.m = (struct worker_message){.event = WORKER_CHANGE};
    memcpy(out.request, request ? request : "", len);
    return channel_send(w->args->channel, &out, sizeof(out.m) + len, NULL, 0);
}

/* --- The supervisor --------------------------------------------------------- */

/* m->answer becomes what became of it. */
static void on_message(struct worker *w, struct supervisor_message *m, const int *fds,
                       size_t fd_cnt)
{
    switch (m->event) {
    case SUPERVISOR_LINKS:
        on_links(w, &m->links, fds, fd_cnt);
        break;
    case SUPERVISOR_DRAIN:
        start_drain(w, m);
        break;
    case SUPERVISOR_RELOAD:
        w->reload_wanted = true;
        break;
    case SUPERVISOR_ANSWER:
        on_answer(w, &m->answer, fd_cnt > 0 ? fds[0] : -1);
        if (fd_cnt > 0)
            close(fds[0]);
        break;
    }
}

/* Return: whether there was a message; -errno when there is nobody any more. */
static int take_message(struct worker *w, struct supervisor_message *ret)
{
    int fds[CHANNEL_FD_MAX_CNT];
    size_t fd_cnt;
    ssize_t n = channel_receive(w->args->channel, ret, sizeof(*ret), fds, &fd_cnt);

    if (n == (ssize_t)sizeof(*ret)) {
        on_message(w, ret, fds, fd_cnt);
        return 1;
    }
    return n == 0 ? -ECONNRESET : n < 0 && n != -EAGAIN && n != -EINTR ? (int)n : 0;
}

/* Waits, see change.h; an answer that is late is taken when it comes. */
static int change(void *arg, const char *request, char text[CHANGE_TEXT_LEN])
{
    struct worker *w = arg;
    struct pollfd p = {.fd = w->args->channel, .events = POLLIN};
    int64_t until = clock_ms() + ANSWER_MS, left = ANSWER_MS;
    struct supervisor_message m;
    int err = send_request(w, request);

    while (err >= 0 && left > 0) {
        err = poll(&p, 1, (int)left) == 1 ? take_message(w, &m) : 0;
        if (err == 1 && m.event == SUPERVISOR_ANSWER) {
            snprintf(text, CHANGE_TEXT_LEN, "%s", m.answer.text);
            return m.answer.err;
        }
        left = until - clock_ms();
    }
    snprintf(text, CHANGE_TEXT_LEN, "the supervisor does not answer");
    return err < 0 ? err : -ETIMEDOUT;
}

static void on_channel(struct ev_loop *loop, ev_io *w, int events)
{
    struct worker *worker = w->data;
    struct supervisor_message m;
    char text[CHANGE_TEXT_LEN];

    if (take_message(worker, &m) < 0)
        ev_break(loop, EVBREAK_ALL);
    if (!worker->reload_wanted)
        return;
    worker->reload_wanted = false;
    (void)change(worker, NULL, text); /* the supervisor has logged what came of it */
}

/* The first of all; later ones come with a socket from the supervisor. At least one must
 * work. */
static void open_uplinks(struct worker *w)
{
    const struct links *all = &w->args->links.uplinks;
    int err = -ENODEV;
    bool open = false;

    for (size_t i = 0; i < all->cnt; i++) {
        if (all->entries[i].ifindex == 0)
            continue;
        int fd = uplink_socket();
        if (fd == -EPERM)
            fail(w->args, fd, "cannot open the uplink (CAP_NET_RAW is needed)");
        err = add_uplink(w, &w->args->links, &all->entries[i], fd);
        open |= err == 0;
    }
    if (!open && w->args->restarts == 0)
        fail(w->args, err, "cannot open the uplink");
    w->links = w->args->links;
}

/* --- Events ----------------------------------------------------------------- */

static void on_beat(struct ev_loop *loop, ev_timer *w, int events)
{
    const struct worker *worker = w->data;

    /* It fails only when nobody has read for ages. */
    (void)!eventfd_write(worker->args->beat_fd, 1);
    sandbox_tell();
}

static void on_term(struct ev_loop *loop, ev_signal *w, int events)
{
    ev_break(loop, EVBREAK_ALL);
}

static void on_down(void *arg, int client_fd)
{
    const struct worker *w = arg;
    struct worker_message m = {.event = WORKER_DOWN};

    tell(w->args, &m, client_fd);
}

static void on_drain(void *arg, int client_fd, unsigned timeout_s, enum tunnel_drain new)
{
    const struct worker *w = arg;
    struct worker_message m = {.event = WORKER_DRAIN, .drain_s = timeout_s, .drain = new};

    tell(w->args, &m, client_fd);
}

static void on_resolve(void *arg, int ifindex, const struct addr *neighbour)
{
    const struct worker *w = arg;
    struct worker_message m = {
        .event = WORKER_RESOLVE, .ifindex = ifindex, .neighbour = *neighbour};

    tell(w->args, &m, -1);
}

/* Should the supervisor have no time now: who sends packets past us sends more. */
static void on_passed_by(void *arg, const struct tuple *tuple)
{
    const struct worker *w = arg;
    struct worker_message m = {.event = WORKER_PASSED_BY, .tuple = *tuple};

    (void)channel_send(w->args->channel, &m, sizeof(m), NULL, 0);
}

/* Not only to find out: what the crypto libraries load on first use is loaded now. */
static void test_crypto(const struct worker_args *args)
{
    char err[SETTINGS_ERROR_LEN];
    int e = settings_test(args->opts, err);

    if (e)
        fail(args, e, err);
    /* What a later policy may need. */
    if (session_selftest(&session_config_default) != TCNS_OK)
        log_info("the crypto libraries cannot do everything; what is used, they can");
}

static int drop_code(struct dl_phdr_info *object, size_t len, void *arg)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);

    for (int i = 0; i < object->dlpi_phnum; i++) {
        const ElfW(Phdr) *p = &object->dlpi_phdr[i];
        uintptr_t first = (object->dlpi_addr + p->p_vaddr) & ~(page - 1);
        uintptr_t end = object->dlpi_addr + p->p_vaddr + p->p_memsz;

        if (p->p_type == PT_LOAD && !(p->p_flags & PF_W))
            (void)madvise((void *)first, end - first, MADV_DONTNEED);
    }
    return 0;
}

/* Each cipher and curve ran once: megabytes of code that most workers never need again.
 * What is needed comes back from the page cache. */
static void forget_tested_code(void)
{
    dl_iterate_phdr(drop_code, NULL);
}

static void start_tunnel(struct worker *w)
{
    const struct worker_args *a = w->args;
    int err = wishes_new(w->loop, a->tun_ifindex, a->wishes, &w->wishes);
    if (err)
        log_warn("applications cannot choose settings for their sockets: %s", strerror(-err));
    settings_bypass(&w->opts, &w->bypass);
    struct tunnel_config cfg = {
        .loop = w->loop,
        .tun_fd = a->tun_fd,
        .tun_ifindex = a->tun_ifindex,
        .tun_gso_max_len = a->tun_gso_max_len,
        .resolve = on_resolve,
        .passed_by = on_passed_by,
        .host_arg = w,
        .policy = daemon_policy(&w->opts),
        .wish = w->wishes ? wishes_find : NULL,
        .wish_arg = w->wishes,
        .resume_max_cnt = RESUME_MAX_CNT,
        .fallback_s = a->opts->fallback_s,
        .bypass = w->bypass.ranges,
        .bypass_cnt = w->bypass.cnt,
        .bypass_matches = w->bypass.matches,
        .bypass_match_cnt = w->bypass.match_cnt,
        .on_event = ns1_watch_session,
        .event_arg = &w->watch,
        .keylog_fd = a->opts->keylog_fd,
    };

    err = tunnel_new(&cfg, &w->tunnel);
    if (err)
        fail(a, err, "cannot start the tunnel");
    tunnel_set_key_timeout(w->tunnel, a->opts->key_timeout_s);
    open_uplinks(w);
    for (size_t i = 0; i < a->older->cnt; i++) {
        err = tunnel_pass(w->tunnel, &a->older->sockets[i].tuple);
        if (err) {
            log_warn("%zu older connections are more than fit", a->older->cnt);
            break;
        }
    }
}

static void start_server(struct worker *w)
{
    const struct worker_args *a = w->args;

    w->ns1 = (struct ns1){
        .loop = w->loop,
        .tunnel = w->tunnel,
        .wishes = w->wishes,
        .supervisor = a->supervisor,
        .links = &w->links,
        .opts = &w->opts,
        .change = change,
        .restarts = a->restarts,
        .started_s = a->started_s,
        .netns_inode = a->netns_inode,
        .watch = &w->watch,
        .drain = &w->drain,
        .on_down = on_down,
        .on_drain = on_drain,
        .arg = w,
    };
    w->server = ctlserver_new(w->loop, a->doors, ns1_call, &w->ns1);
    if (!w->server)
        fail(a, -ENOMEM, "cannot serve the ctl socket");
    ctlserver_ask(w->server, a->ask_channel);
}

static void start_events(struct worker *w)
{
    ev_io_init(&w->channel, on_channel, w->args->channel, EV_READ);
    w->channel.data = w;
    ev_io_start(w->loop, &w->channel);
    ev_signal_init(&w->term, on_term, SIGTERM);
    ev_signal_start(w->loop, &w->term);
    ev_timer_init(&w->beat, on_beat, 0, WORKER_BEAT_S);
    w->beat.data = w;
    ev_timer_start(w->loop, &w->beat);
}

void worker_run(const struct worker_args *args)
{
    struct worker w = {.args = args};
    struct worker_message ready = {.event = WORKER_READY};

    prctl(PR_SET_NAME, "tcpcrypt-worker");
    set_signals();
    die_with(args->supervisor);
    /* libev handles signals in its default loop only. */
    w.loop = ev_default_loop(EVFLAG_AUTO);
    if (!w.loop)
        fail(args, -ENOMEM, "cannot make an event loop");
    if (settings_copy(args->opts, &w.opts) < 0)
        fail(args, -ENOMEM, "cannot read the settings");
    test_crypto(args);
    start_tunnel(&w);
    start_server(&w);
    start_events(&w);
    json_object_seed(0); /* from /dev/urandom, or by itself when it is too late to open that */
    sandbox_enter();
    forget_tested_code();
    tell(args, &ready, -1);
    ev_run(w.loop, 0);
    tunnel_free(w.tunnel);
    ctlserver_free(w.server);
    wishes_free(w.wishes);
    settings_done(&w.opts);
    _exit(0);
}
