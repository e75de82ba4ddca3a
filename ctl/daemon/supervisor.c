/* SPDX-License-Identifier: BSD-3-Clause
 * The supervisor: owns the configuration, keeps a worker running.
 */
#include "ctl/daemon/supervisor.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/pidfd.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "ctl/conf/settings.h"
#include "ctl/conf/sources.h"
#include "ctl/daemon/change.h"
#include "ctl/daemon/channel.h"
#include "ctl/daemon/ctlsock.h"
#include "ctl/daemon/fds.h"
#include "ctl/daemon/ns1.h"
#include "ctl/daemon/privilege.h"
#include "ctl/daemon/sandbox.h"
#include "ctl/daemon/sdnotify.h"
#include "ctl/daemon/worker.h"
#include "ctl/net/netcfg.h"
#include "ctl/net/netns.h"
#include "tunnel/uplink.h"

#define START_MS       10000 /* a first worker that is not ready by then has failed */
#define WORKER_STOP_MS 2000  /* to reset its connections; then it is killed */
#define WATCH_MS       2500  /* between two looks whether it beats */
#define MISSES_MAX     4     /* looks in a row without a beat; then it is killed */
#define DEATHS_FREE    5     /* within DEATHS_MS: replaced at once */
#define DEATHS_MS      5000
#define BACKOFF_MIN_MS 200
#define BACKOFF_MAX_MS 10000
#define FOLLOW_MS      1000 /* between two looks whether the namespace's name leads there */
#define GONE_MAX       2    /* looks in a row at which it does not; then we end */
#define NEWS_REST      10
#define WAITERS_MAX    8 /* clients whose Down is not answered yet */

struct supervisor {
    const struct daemon_options *opts; /* now */
    struct daemon_options now;         /* as given, with later changes */
    struct netcfg *cfg;
    struct ctlsock doors;
    struct sockdiag_list older; /* connections that were there first; sorted */
    ino_t netns_inode;
    pid_t pid; /* our own */
    int signal_fd;
    int waiters[WAITERS_MAX];
    size_t waiter_cnt;

    pid_t worker;             /* -1: none */
    struct worker_links told; /* what the worker knows of uplinks */
    int worker_pidfd;
    int channel;
    int ask_channel; /* for privilege_answer() */
    unsigned restarts;
    int64_t died_ms[DEATHS_FREE]; /* ring of the last deaths; 0: none */
    unsigned deaths;
    int backoff_ms;
    int64_t start_at_ms; /* of the next worker; 0: there is one */
    int beat_fd;         /* eventfd, the worker writes */
    struct wishes_store wishes;
    int64_t watch_at_ms; /* next look at it; 0: there is no worker */
    unsigned misses;
    int64_t news_at_ms; /* not before then, see on_news(); 0: at once */

    int64_t give_up_ms;   /* not ready by then; 0: is ready */
    int64_t follow_at_ms; /* next look at opts->follow; 0: it is not followed */
    unsigned gone_looks;
    bool abandoned; /* the namespace's name is gone: leave it closed */

    int64_t drain_end_ms;         /* 0: not draining */
    bool drains;                  /* the worker carries no sockets but these */
    struct sockdiag_list carried; /* sorted */

    bool end;   /* told to */
    int failed; /* -errno: could not start */
    char *err;  /* DAEMON_ERROR_LEN bytes; the caller's */
    supervisor_ready_fn ready;
    void *ready_arg;
    double started_s;
};

static int fail(struct supervisor *s, int err, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

static int fail(struct supervisor *s, int err, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(s->err, DAEMON_ERROR_LEN, fmt, ap);
    va_end(ap);
    s->failed = err;
    return err;
}

/* --- Worker ----------------------------------------------------------------- */

static struct worker_links current_links(const struct supervisor *s)
{
    return (struct worker_links){*netcfg_uplinks(s->cfg), *netcfg_native(s->cfg)};
}

static void become_worker(struct supervisor *s, int channel, int ask_channel)
{
    struct worker_args args = {
        .opts = s->opts,
        .supervisor = s->pid,
        .channel = channel,
        .ask_channel = ask_channel,
        .beat_fd = s->beat_fd,
        .wishes = &s->wishes,
        .tun_ifindex = netcfg_tun_ifindex(s->cfg),
        .links = s->told,
        .doors = &s->doors,
        .older = &s->older,
        .restarts = s->restarts,
        .started_s = s->started_s,
        .netns_inode = s->netns_inode,
    };

    args.tun_fd = netcfg_forget(s->cfg);
    int keep[] = {channel,           ask_channel,        args.tun_fd,
                  args.beat_fd,      s->doors.path_fd,   s->doors.abstract_fd,
                  s->doors.extra_fd, s->opts->keylog_fd, s->wishes.set_fd};
    fds_close_others(keep, sizeof(keep) / sizeof(keep[0]));
    worker_run(&args);
}

static void close_pair(const int pair[2])
{
    close(pair[0]);
    close(pair[1]);
}

static int make_pair(int pair[2])
{
    return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0 ? -errno : 0;
}

static int fork_worker(struct supervisor *s)
{
    int pair[2], ask_pair[2];

    int err = make_pair(pair);
    if (err)
        return err;
    err = make_pair(ask_pair);
    if (err) {
        close_pair(pair);
        return err;
    }
    s->told = current_links(s);
    pid_t pid = fork();
    if (pid < 0) {
        err = -errno;
        close_pair(pair);
        close_pair(ask_pair);
        return err;
    }
    if (pid == 0)
        become_worker(s, pair[1], ask_pair[1]);
    close(pair[1]);
    close(ask_pair[1]);
    s->worker = pid;
    s->channel = pair[0];
    s->ask_channel = ask_pair[0];
    s->worker_pidfd = pidfd_open(pid, 0);
    s->start_at_ms = 0;
    s->watch_at_ms = clock_ms() + WATCH_MS;
    s->misses = 0;
    return 0;
}

static void close_channels(struct supervisor *s)
{
    if (s->channel >= 0)
        close(s->channel);
    if (s->ask_channel >= 0)
        close(s->ask_channel);
    s->channel = s->ask_channel = -1;
}

static void forget_worker(struct supervisor *s)
{
    close_channels(s);
    if (s->worker_pidfd >= 0)
        close(s->worker_pidfd);
    s->worker_pidfd = -1;
    s->worker = -1;
    s->watch_at_ms = 0;
}

static void log_end(int status)
{
    if (WIFSIGNALED(status))
        log_error("the worker was ended by signal %d (%s)", WTERMSIG(status),
                  strsignal(WTERMSIG(status)));
    else
        log_error("the worker ended with status %d", WEXITSTATUS(status));
}

/* Closing the channel tells it; what it sends to reset its connections still
 * passes. Return: whether it ended in order. */
static bool end_worker(struct supervisor *s)
{
    struct pollfd p = {.fd = s->worker_pidfd, .events = POLLIN};
    int status = 0;

    if (s->worker < 0)
        return false;
    close_channels(s);
    int64_t until = clock_ms() + WORKER_STOP_MS;
    int left = WORKER_STOP_MS;
    while (poll(&p, 1, left) < 0 && errno == EINTR)
        left = until > clock_ms() ? (int)(until - clock_ms()) : 0;
    if (!(p.revents & POLLIN)) {
        log_error("the worker does not end; killing it");
        kill(s->worker, SIGKILL);
    }
    waitpid(s->worker, &status, 0);
    forget_worker(s);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* --- Sockets ---------------------------------------------------------------- */

/* What the worker could not end (a RST does not always fit the receiver's
 * window) must not go on past us; connections older than us do. */
static void reset_all_but_older(struct supervisor *s)
{
    struct sockdiag_list all;
    size_t kept = 0;

    int err = netcfg_list_sockets(s->cfg, &all);
    if (err) {
        log_error("cannot list sockets: %s", strerror(-err));
        return;
    }
    for (size_t i = 0; i < all.cnt; i++)
        if (!sockdiag_has(&s->older, &all.sockets[i]) &&
            (!s->drains || sockdiag_has(&s->carried, &all.sockets[i])))
            all.sockets[kept++] = all.sockets[i];
    all.cnt = kept;
    err = netcfg_destroy_list(s->cfg, &all);
    if (err)
        log_error("cannot reset connections: %s", strerror(-err));
    sockdiag_done(&all);
}

static void reset_all(struct supervisor *s)
{
    int err = netcfg_destroy_sockets(s->cfg);

    if (err)
        log_error("cannot reset connections: %s", strerror(-err));
    sockdiag_done(&s->older);
}

/* --- The service manager ----------------------------------------------------- */

static void state_line(const struct supervisor *s, char *ret, size_t size)
{
    const struct links *l = &s->told.uplinks;
    const char *first = l->cnt > 0 ? l->entries[0].name : "none";

    snprintf(ret, size, "Uplink %s%s, policy %s, %u worker restarts", first,
             l->cnt > 1 ? " and others" : "", policy_name(s->opts->policy), s->restarts);
}

static void tell_state(const struct supervisor *s)
{
    char text[100];

    state_line(s, text, sizeof(text));
    sdnotify_status(s->opts->notify, text);
}

static void tell_ready(const struct supervisor *s)
{
    char text[100];

    state_line(s, text, sizeof(text));
    sdnotify_ready(s->opts->notify, text);
}

/* --- Replacing the worker --------------------------------------------------- */

/* Return: milliseconds to wait before the next worker. */
static int delay_after_death(struct supervisor *s)
{
    int64_t now = clock_ms();
    int64_t *oldest = &s->died_ms[s->deaths++ % DEATHS_FREE];
    bool often = *oldest && now - *oldest < DEATHS_MS;

    *oldest = now;
    if (!often) {
        s->backoff_ms = 0;
        return 0;
    }
    s->backoff_ms = s->backoff_ms ? 2 * s->backoff_ms : BACKOFF_MIN_MS;
    if (s->backoff_ms > BACKOFF_MAX_MS)
        s->backoff_ms = BACKOFF_MAX_MS;
    return s->backoff_ms;
}

/* Nothing of the old connections may reach the next worker: the sockets go
 * first, then what they have queued. */
static void next_worker(struct supervisor *s)
{
    reset_all(s);
    netcfg_drain(s->cfg);
    s->restarts++;
    int err = fork_worker(s);
    tell_state(s);
    if (err) {
        log_error("cannot fork a worker: %s", strerror(-err));
        s->start_at_ms = clock_ms() + BACKOFF_MIN_MS;
    }
}

static void replace_worker(struct supervisor *s, int delay_ms)
{
    forget_worker(s);
    if (delay_ms == 0) {
        next_worker(s);
        return;
    }
    log_warn("the worker dies often; the next starts in %d ms", delay_ms);
    reset_all(s);
    s->start_at_ms = clock_ms() + delay_ms;
}

/* --- Events ----------------------------------------------------------------- */

static void on_ready(struct supervisor *s)
{
    if (s->give_up_ms && !s->ready(s->ready_arg)) {
        fail(s, -ECANCELED, "nobody waits for the daemon any more");
        s->end = true;
    }
    if (s->give_up_ms && s->opts->keylog_fd > 0)
        log_warn(DAEMON_KEYLOG_WARNING, s->opts->keylog_path);
    if (s->give_up_ms)
        log_info("attached; %zu uplinks, the first is %s, policy %s, %zu older connections",
                 s->told.uplinks.cnt, s->told.uplinks.entries[0].name, policy_name(s->opts->policy),
                 s->older.cnt);
    if (s->give_up_ms)
        tell_ready(s);
    s->give_up_ms = 0;
}

static void add_waiter(struct supervisor *s, int client_fd)
{
    if (client_fd < 0)
        return;
    if (s->waiter_cnt < WAITERS_MAX)
        s->waiters[s->waiter_cnt++] = client_fd;
    else
        close(client_fd);
}

static void on_down(struct supervisor *s, int client_fd)
{
    s->end = true;
    add_waiter(s, client_fd);
}

/* --- Draining ---------------------------------------------------------------- */

static void start_drain(struct supervisor *s, unsigned timeout_s, enum tunnel_drain new)
{
    struct supervisor_message m = {.event = SUPERVISOR_DRAIN, .drain = new};

    if (s->channel < 0 || s->give_up_ms) { /* nothing is carried */
        s->end = true;
        return;
    }
    log_info("draining: %u s at most", timeout_s);
    sdnotify_status(s->opts->notify, "Draining");
    s->drain_end_ms = m.drain_until_ms = clock_ms() + (int64_t)timeout_s * 1000;
    int err = channel_send(s->channel, &m, sizeof(m), NULL, 0);
    if (err) {
        log_error("cannot tell the worker to drain: %s", strerror(-err));
        s->end = true;
    }
    sdnotify_stopping(s->opts->notify);
}

/* What the tunnel carries are sockets of now, at most; later ones are the kernel's own. */
static void on_draining(struct supervisor *s)
{
    if (s->drains)
        return;
    int err = netcfg_list_sockets(s->cfg, &s->carried);
    if (err) {
        log_error("cannot list sockets: %s", strerror(-err));
        return;
    }
    sockdiag_sort(&s->carried);
    s->drains = true;
}

static void on_drain(struct supervisor *s, const struct worker_message *m, int client_fd)
{
    add_waiter(s, client_fd);
    start_drain(s, m->drain_s, m->drain);
}

static void on_failed(struct supervisor *s, const struct worker_message *m)
{
    if (s->give_up_ms)
        fail(s, m->err, "%.*s", WORKER_TEXT_LEN, m->text);
    else
        log_error("the worker cannot start: %.*s", WORKER_TEXT_LEN, m->text);
}

/* --- Changes ---------------------------------------------------------------- */

static int use(struct supervisor *s, struct daemon_options *next, struct sockdiag_list *ret_older,
               char text[CHANGE_TEXT_LEN])
{
    struct ingress_policy ingress;
    int err = settings_test(next, text);

    settings_ingress(next, &ingress);
    if (!err)
        err = netcfg_change(s->cfg, &ingress, ret_older, text);
    if (err) {
        settings_done(next);
        return err;
    }
    settings_done(&s->now);
    s->now = *next;
    log_info("policy %s, %zu rules", policy_name(s->now.policy), s->now.rule_cnt);
    return 0;
}

/* Return: 0; -errno and a sentence: nothing has changed. */
static int change(struct supervisor *s, const char *request, struct sockdiag_list *ret_older,
                  char text[CHANGE_TEXT_LEN])
{
    struct daemon_options next;
    int err;

    if (request)
        err = change_make(s->opts, request, &next, text);
    else
        err = sources_reload(s->opts->sources, s->opts, &next, text);
    if (!err)
        err = use(s, &next, ret_older, text);
    if (err)
        log_error("cannot change the settings: %s", text);
    return err;
}

/* They stay when others are reset. */
static void add_older(struct supervisor *s, struct sockdiag_list *older)
{
    if (older->cnt > 0)
        log_info("%zu connections go on through the tunnel untouched", older->cnt);
    if (sockdiag_append(&s->older, older) < 0)
        log_error("out of memory for connections that are older");
    sockdiag_done(older);
    sockdiag_sort(&s->older);
}

/* The worker waits for it. */
static void on_change(struct supervisor *s, const char *request)
{
    struct supervisor_message m = {.event = SUPERVISOR_ANSWER};
    struct sockdiag_list older = {.cnt = 0};
    struct change_answer *a = &m.answer;

    sdnotify_reloading(s->opts->notify);
    a->err = change(s, request, &older, a->text);
    tell_ready(s);
    int fd = a->err ? -1 : change_store(s->opts, &older);
    if (!a->err && fd < 0) {
        a->err = fd;
        snprintf(a->text, sizeof(a->text), "cannot hand the settings over: %s", strerror(-fd));
    }
    int err = channel_send(s->channel, &m, sizeof(m), &fd, fd >= 0);
    if (err)
        log_error("cannot answer the worker: %s", strerror(-err));
    if (fd >= 0)
        close(fd);
    add_older(s, &older);
}

/* The worker asks then, so that it stands still meanwhile. */
static void on_hangup(struct supervisor *s)
{
    struct supervisor_message m = {.event = SUPERVISOR_RELOAD};
    struct sockdiag_list older = {.cnt = 0};
    char text[CHANGE_TEXT_LEN];

    if (s->channel >= 0)
        (void)channel_send(s->channel, &m, sizeof(m), NULL, 0);
    else
        (void)change(s, NULL, &older, text);
    add_older(s, &older);
}

/* A message of the worker. */
struct incoming {
    struct worker_message m;
    char request[CHANGE_REQUEST_LEN + 1]; /* "": none */
};

/* Return: whether there was a message; *ret_fd is -1 when none came along. */
static bool receive(int channel, struct incoming *ret, int *ret_fd)
{
    int fds[CHANNEL_FD_MAX_CNT];
    size_t fd_cnt;
    ssize_t n = channel_receive(channel, ret, sizeof(*ret) - 1, fds, &fd_cnt);

    if (n < (ssize_t)sizeof(ret->m))
        return false;
    ret->request[n - (ssize_t)sizeof(ret->m)] = '\0';
    *ret_fd = fd_cnt > 0 ? fds[0] : -1;
    return true;
}

static void on_channel(struct supervisor *s)
{
    static struct incoming in;
    const struct worker_message *m = &in.m;
    int fd;

    while (s->channel >= 0 && receive(s->channel, &in, &fd)) {
        switch (m->event) {
        case WORKER_READY:
            on_ready(s);
            break;
        case WORKER_FAILED:
            on_failed(s, m);
            break;
        case WORKER_DOWN:
            on_down(s, fd);
            break;
        case WORKER_DRAIN:
            on_drain(s, m, fd);
            break;
        case WORKER_DRAINING:
            on_draining(s);
            break;
        case WORKER_DRAINED:
            s->end = true;
            break;
        case WORKER_CHANGE:
            on_change(s, in.request[0] ? in.request : NULL);
            break;
        case WORKER_RESOLVE:
            netcfg_resolve(s->cfg, m->ifindex, &m->neighbour);
            break;
        }
    }
}

/* Of a worker that ends we hear elsewhere. */
static void on_question(struct supervisor *s)
{
    if (privilege_answer(s->ask_channel))
        return;
    close(s->ask_channel);
    s->ask_channel = -1;
}

static void on_worker_end(struct supervisor *s)
{
    int status = 0;

    on_channel(s); /* its last words */
    waitpid(s->worker, &status, 0);
    if (s->give_up_ms) {
        if (!s->failed)
            fail(s, -ECHILD, "the worker died before it was ready");
        forget_worker(s);
        s->end = true;
        return;
    }
    log_end(status);
    if (s->drain_end_ms) { /* what was waited for is gone */
        forget_worker(s);
        reset_all(s);
        s->end = true;
        return;
    }
    replace_worker(s, delay_after_death(s));
}

/* As the first process of a container we inherit other people's children. The worker's
 * end is on_worker_end()'s to read. */
static void reap_orphans(const struct supervisor *s)
{
    siginfo_t info = {.si_pid = 0};

    while (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid > 0 &&
           info.si_pid != s->worker) {
        waitpid(info.si_pid, NULL, 0);
        info.si_pid = 0;
    }
}

static void on_signal(struct supervisor *s)
{
    struct signalfd_siginfo info;

    if (read(s->signal_fd, &info, sizeof(info)) != (ssize_t)sizeof(info))
        return;
    if (info.ssi_signo == SIGCHLD)
        return; /* it was only to wake us, see reap_orphans() */
    if (info.ssi_signo == SIGHUP) {
        log_info("signal %u from process %u: reading the configuration", info.ssi_signo,
                 info.ssi_pid);
        on_hangup(s);
        return;
    }
    log_info("ending: signal %u from process %u", info.ssi_signo, info.ssi_pid);
    if (s->opts->drain_s && !s->drain_end_ms && !s->give_up_ms) {
        start_drain(s, s->opts->drain_s, s->opts->drain_new);
        return;
    }
    s->end = true;
    if (s->give_up_ms)
        fail(s, -EINTR, "interrupted");
}

/* Should the worker not take it, it hangs and ends soon, or takes it the next time. */
static void tell_links(void *arg)
{
    struct supervisor *s = arg;
    struct supervisor_message m = {.event = SUPERVISOR_LINKS, .links = current_links(s)};
    int fds[CHANNEL_FD_MAX_CNT];
    size_t fd_cnt = 0;

    if (s->channel < 0)
        return;
    for (size_t i = 0; i < m.links.uplinks.cnt; i++) {
        const struct links_entry *e = &m.links.uplinks.entries[i];

        if (e->ifindex == 0 || links_has(&s->told.uplinks, e->ifindex))
            continue;
        log_info("%s is an uplink now", e->name);
        fds[fd_cnt] = uplink_socket();
        if (fds[fd_cnt] < 0)
            break;
        fd_cnt++;
    }
    int err = channel_send(s->channel, &m, sizeof(m), fds, fd_cnt);
    if (err)
        log_error("cannot tell the worker of uplinks: %s", strerror(-err));
    else
        s->told = m.links;
    while (fd_cnt > 0)
        close(fds[--fd_cnt]);
}

/* A table of many routes that change all the time must not take the machine: the
 * next look waits NEWS_REST times as long as this one took. */
static void on_news(struct supervisor *s)
{
    int64_t start = clock_ms();
    netcfg_on_event(s->cfg, tell_links, s);
    int64_t took = clock_ms() - start;

    s->news_at_ms = took > 0 ? start + took * (1 + NEWS_REST) : 0;
}

/* Looks are counted, not the time: when all of us were stopped for a while, the
 * worker gets the time of several looks to beat again. Its end comes to on_worker_end(). */
static void watch_worker(struct supervisor *s)
{
    eventfd_t beats;

    s->watch_at_ms = clock_ms() + WATCH_MS;
    s->misses = eventfd_read(s->beat_fd, &beats) == 0 ? 0 : s->misses + 1;
    if (s->misses == 0)
        sdnotify_alive(s->opts->notify);
    if (s->misses < MISSES_MAX)
        return;
    log_error("the worker hangs; killing it");
    kill(s->worker, SIGKILL);
}

/* What cannot be looked at for another reason than that it is gone counts as there. */
static bool is_gone(const struct supervisor *s)
{
    ino_t inode;

    int fd = netns_open(s->opts->follow);
    if (fd < 0)
        return fd == -ENOENT || fd == -EINVAL || fd == -ESRCH;
    bool other = netns_inode(fd, &inode) == 0 && inode != s->netns_inode;
    close(fd);
    return other;
}

static void follow_netns(struct supervisor *s)
{
    s->follow_at_ms = clock_ms() + FOLLOW_MS;
    s->gone_looks = is_gone(s) ? s->gone_looks + 1 : 0;
    if (s->gone_looks < GONE_MAX)
        return;
    log_warn("%s does not lead to the namespace any more; ending", s->opts->follow);
    s->abandoned = true;
    s->end = true;
}

static int next_timeout(const struct supervisor *s)
{
    const int64_t times[] = {s->give_up_ms, s->start_at_ms,  s->watch_at_ms,
                             s->news_at_ms, s->follow_at_ms, s->drain_end_ms};
    int64_t first = 0;

    for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++)
        if (times[i] && (!first || times[i] < first))
            first = times[i];
    if (!first)
        return -1;
    int64_t left = first - clock_ms();
    return left > 0 ? (int)left : 0;
}

static void on_time(struct supervisor *s)
{
    int64_t now = clock_ms();

    if (s->give_up_ms && now >= s->give_up_ms) {
        fail(s, -ETIMEDOUT, "the worker was not ready after %d s", START_MS / 1000);
        s->end = true;
    }
    if (s->start_at_ms && now >= s->start_at_ms)
        next_worker(s);
    if (s->drain_end_ms && now >= s->drain_end_ms) {
        log_info("not all connections have ended in time");
        s->end = true;
    }
    if (s->watch_at_ms && now >= s->watch_at_ms)
        watch_worker(s);
    if (s->news_at_ms && now >= s->news_at_ms)
        s->news_at_ms = 0;
    if (s->follow_at_ms && now >= s->follow_at_ms)
        follow_netns(s);
}

static void loop(struct supervisor *s)
{
    while (!s->end) {
        struct pollfd p[] = {
            {.fd = s->worker_pidfd, .events = POLLIN},
            {.fd = s->channel, .events = POLLIN},
            {.fd = s->ask_channel, .events = POLLIN},
            {.fd = s->signal_fd, .events = POLLIN},
            {.fd = s->news_at_ms ? -1 : netcfg_event_fd(s->cfg), .events = POLLIN},
        };

        if (poll(p, sizeof(p) / sizeof(p[0]), next_timeout(s)) < 0)
            continue;
        /* A dead worker first: its connections are waiting. Each of these may
         * replace the worker, so the rest is looked at in the next turn. */
        if (p[0].revents)
            on_worker_end(s);
        else if (p[3].revents)
            on_signal(s);
        else if (p[1].revents)
            on_channel(s);
        else if (p[2].revents)
            on_question(s);
        else if (p[4].revents)
            on_news(s);
        if (s->pid == 1)
            reap_orphans(s);
        on_time(s);
    }
    if (s->give_up_ms && !s->failed)
        fail(s, -ECANCELED, "told to end before it was ready");
}

/* --- Start and end ---------------------------------------------------------- */

static int take_signals(struct supervisor *s)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    if (s->pid == 1)
        sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_SETMASK, &set, NULL);
    signal(SIGHUP, SIG_DFL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGCHLD, SIG_DFL);
    s->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return s->signal_fd < 0 ? fail(s, -errno, "cannot watch signals: %s", strerror(errno)) : 0;
}

static int enter(struct supervisor *s)
{
    int fd = s->opts->netns_fd;

    int err = fd >= 0 ? netns_enter(fd) : 0;
    if (err == -EPERM)
        return fail(s, err, "cannot enter the namespace: permission denied");
    if (err)
        return fail(s, err, "cannot enter the namespace: %s", strerror(-err));
    int self = fd >= 0 ? fd : netns_open("self");
    if (self < 0)
        return fail(s, self, "cannot open the namespace: %s", strerror(-self));
    err = netns_inode(self, &s->netns_inode);
    if (self != fd)
        close(self);
    return err ? fail(s, err, "cannot open the namespace: %s", strerror(-err)) : 0;
}

static int start(struct supervisor *s)
{
    char text[NETCFG_ERROR_LEN];
    struct ingress_policy ingress;

    int err = take_signals(s);
    if (!err)
        err = enter(s);
    if (err)
        return err;
    settings_ingress(s->opts, &ingress);
    err = netcfg_new(&s->opts->uplinks, &ingress, &s->cfg, text);
    if (err)
        return fail(s, err, "%s", text);
    err = netcfg_list_older(s->cfg, &s->older);
    if (err)
        return fail(s, err, "cannot list sockets: %s", strerror(-err));
    s->beat_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (s->beat_fd < 0)
        return fail(s, -errno, "cannot watch a worker: %s", strerror(errno));
    err = wishes_store_init(&s->wishes);
    if (err)
        return fail(s, err, "cannot keep settings of sockets: %s", strerror(-err));
    ctlsock_listen(&s->doors, s->netns_inode);
    err = s->opts->ctl ? ctlsock_listen_extra(&s->doors, s->opts->ctl) : 0;
    if (err)
        return fail(s, err, "cannot listen at %s: %s", s->opts->ctl, strerror(-err));
    s->follow_at_ms = s->opts->follow ? clock_ms() + FOLLOW_MS : 0;
    s->give_up_ms = clock_ms() + START_MS;
    err = fork_worker(s);
    return err ? fail(s, err, "cannot fork a worker: %s", strerror(-err)) : 0;
}

static void stop(struct supervisor *s)
{
    bool had_worker = s->worker >= 0;

    sdnotify_stopping(s->opts->notify);
    bool in_order = end_worker(s);

    if (s->cfg && had_worker) {
        if (in_order)
            reset_all_but_older(s);
        else
            reset_all(s);
    }
    ctlsock_done(&s->doors);
    if (s->abandoned)
        close(netcfg_forget(s->cfg));
    else
        netcfg_free(s->cfg);
    for (size_t i = 0; i < s->waiter_cnt; i++) {
        (void)send(s->waiters[i], NS1_DOWN_REPLY, sizeof(NS1_DOWN_REPLY), MSG_NOSIGNAL);
        close(s->waiters[i]);
    }
    sockdiag_done(&s->older);
    sockdiag_done(&s->carried);
    settings_done(&s->now);
    wishes_store_done(&s->wishes);
    if (s->beat_fd >= 0)
        close(s->beat_fd);
    if (s->signal_fd >= 0)
        close(s->signal_fd);
}

/* In a file, lines need a time of their own. */
static enum log_format log_format(const struct daemon_options *opts)
{
    bool is_text = opts->log_format == LOG_FORMAT_AUTO || opts->log_format == LOG_FORMAT_TEXT;

    return opts->log_path && is_text ? LOG_FORMAT_FILE : opts->log_format;
}

int supervisor_run(const struct daemon_options *opts, supervisor_ready_fn ready, void *arg,
                   char err[DAEMON_ERROR_LEN])
{
    struct supervisor s = {
        .now = *opts,
        .doors = CTLSOCK_NONE,
        .pid = getpid(),
        .signal_fd = -1,
        .beat_fd = -1,
        .wishes = WISHES_STORE_NONE,
        .worker = -1,
        .worker_pidfd = -1,
        .channel = -1,
        .ask_channel = -1,
        .err = err,
        .ready = ready,
        .ready_arg = arg,
        .started_s = clock_epoch_s(),
    };

    s.opts = &s.now;
    log_set_level(opts->log_level);
    log_set_format(log_format(opts));
    sandbox_begin();
    if (settings_copy(opts, &s.now) < 0)
        fail(&s, -ENOMEM, "out of memory");
    else if (start(&s) == 0)
        loop(&s);
    stop(&s);
    return s.failed;
}
