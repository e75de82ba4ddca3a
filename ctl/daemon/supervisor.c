/* SPDX-License-Identifier: BSD-3-Clause
 * The supervisor from its start to its end, and the loop between: what it waits for. What it does
 * then is in the files that supervisor_impl.h names.
 */
#include "ctl/daemon/supervisor.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "ctl/conf/settings.h"
#include "ctl/daemon/ns1.h"
#include "ctl/daemon/sandbox.h"
#include "ctl/daemon/supervisor_impl.h"
#include "ctl/net/netns.h"

#define START_MS  10000 /* a first worker that is not ready by then has failed */
#define FOLLOW_MS 1000  /* between two looks whether the namespace's name leads there */
#define GONE_MAX  2     /* looks in a row at which it does not; then we end */
#define NEWS_REST 10

/* --- Events ---------------------------------------------------------------- */

/* As the first process of a container we inherit other people's children. The worker's
 * end is supervisor_on_worker_end()'s to read. */
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
        supervisor_on_hangup(s);
        return;
    }
    log_info("ending: signal %u from process %u", info.ssi_signo, info.ssi_pid);
    if (s->opts->drain_s && !s->drain_end_ms && !s->give_up_ms) {
        supervisor_start_drain(s, s->opts->drain_s, s->opts->drain_new);
        return;
    }
    s->end = true;
    if (s->give_up_ms)
        supervisor_fail(s, -EINTR, "interrupted");
}

/* A table of many routes that change all the time must not take the machine: the
 * next look waits NEWS_REST times as long as this one took. */
static void on_news(struct supervisor *s)
{
    int64_t start = clock_ms();
    int tun_ifindex = netcfg_tun_ifindex(s->cfg);

    netcfg_on_event(s->cfg, supervisor_tell_links, s);
    if (netcfg_tun_ifindex(s->cfg) != tun_ifindex && s->worker >= 0)
        kill(s->worker, SIGKILL); /* the next one gets the new device */
    int64_t took = clock_ms() - start;

    s->news_at_ms = took > 0 ? start + took * (1 + NEWS_REST) : 0;
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

/* --- Loop ------------------------------------------------------------------ */

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
        supervisor_fail(s, -ETIMEDOUT, "the worker was not ready after %d s", START_MS / 1000);
        s->end = true;
    }
    if (s->start_at_ms && now >= s->start_at_ms)
        supervisor_next_worker(s);
    if (s->drain_end_ms && now >= s->drain_end_ms) {
        log_info("not all connections have ended in time");
        s->end = true;
    }
    if (s->watch_at_ms && now >= s->watch_at_ms)
        supervisor_watch_worker(s);
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
        if (p[0].revents) {
            supervisor_on_channel(s); /* its last words */
            supervisor_on_worker_end(s);
        } else if (p[3].revents)
            on_signal(s);
        else if (p[1].revents)
            supervisor_on_channel(s);
        else if (p[2].revents)
            supervisor_on_question(s);
        else if (p[4].revents)
            on_news(s);
        if (s->pid == 1)
            reap_orphans(s);
        on_time(s);
    }
    if (s->give_up_ms && !s->failed)
        supervisor_fail(s, -ECANCELED, "told to end before it was ready");
}

/* --- Start and end --------------------------------------------------------- */

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
    if (s->signal_fd < 0)
        return supervisor_fail(s, -errno, "cannot watch signals: %s", strerror(errno));
    return 0;
}

static int enter(struct supervisor *s)
{
    int fd = s->opts->netns_fd;

    int err = fd >= 0 ? netns_enter(fd) : 0;
    if (err == -EPERM)
        return supervisor_fail(s, err, "cannot enter the namespace: permission denied");
    if (err)
        return supervisor_fail(s, err, "cannot enter the namespace: %s", strerror(-err));
    int self = fd >= 0 ? fd : netns_open("self");
    if (self < 0)
        return supervisor_fail(s, self, "cannot open the namespace: %s", strerror(-self));
    err = netns_inode(self, &s->netns_inode);
    if (self != fd)
        close(self);
    return err ? supervisor_fail(s, err, "cannot open the namespace: %s", strerror(-err)) : 0;
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
        return supervisor_fail(s, err, "%s", text);
    err = netcfg_list_older(s->cfg, &s->older);
    if (err)
        return supervisor_fail(s, err, "cannot list sockets: %s", strerror(-err));
    s->beat_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (s->beat_fd < 0)
        return supervisor_fail(s, -errno, "cannot watch a worker: %s", strerror(errno));
    err = wishes_store_init(&s->wishes);
    if (err)
        return supervisor_fail(s, err, "cannot keep settings of sockets: %s", strerror(-err));
    ctlsock_listen(&s->doors, s->netns_inode);
    err = s->opts->ctl ? ctlsock_listen_extra(&s->doors, s->opts->ctl) : 0;
    if (err)
        return supervisor_fail(s, err, "cannot listen at %s: %s", s->opts->ctl, strerror(-err));
    s->follow_at_ms = s->opts->follow ? clock_ms() + FOLLOW_MS : 0;
    s->give_up_ms = clock_ms() + START_MS;
    err = supervisor_fork_worker(s);
    return err ? supervisor_fail(s, err, "cannot fork a worker: %s", strerror(-err)) : 0;
}

static void stop(struct supervisor *s)
{
    bool had_worker = s->worker >= 0;

    sdnotify_stopping(s->opts->notify);
    bool in_order = supervisor_end_worker(s);

    if (s->cfg && had_worker) {
        if (in_order)
            supervisor_reset_all_but_older(s);
        else
            supervisor_reset_all(s);
    }
    ctlsock_done(&s->doors);
    if (s->abandoned)
        netcfg_abandon(s->cfg);
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
        supervisor_fail(&s, -ENOMEM, "out of memory");
    else if (start(&s) == 0)
        loop(&s);
    stop(&s);
    return s.failed;
}
