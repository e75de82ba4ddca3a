/* SPDX-License-Identifier: BSD-3-Clause
 * The worker as the supervisor's child: it is forked, told of uplinks, watched, replaced when it
 * dies, and ended.
 */
#include "ctl/daemon/supervisor_impl.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "ctl/daemon/channel.h"
#include "ctl/daemon/fds.h"
#include "tunnel/uplink.h"

#define WORKER_STOP_MS 2000 /* to reset its connections; then it is killed */
#define WATCH_MS       2500 /* between two looks whether it beats */
#define MISSES_MAX     4    /* looks in a row without a beat; then it is killed */
#define DEATHS_MS      5000 /* see DEATHS_FREE */
#define BACKOFF_MIN_MS 200
#define BACKOFF_MAX_MS 10000

/* --- A worker's start and end ---------------------------------------------- */

static struct worker_links current_links(const struct supervisor *s)
{
    return (struct worker_links){*netcfg_uplinks(s->cfg), *netcfg_native(s->cfg),
                                 netcfg_hooked(s->cfg)};
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
        .tun_fd = netcfg_tun_fd(s->cfg),
        .rx_fd = netcfg_rx_fd(s->cfg),
        .tun_ifindex = netcfg_tun_ifindex(s->cfg),
        .tun_gso_max_len = netcfg_tun_gso_max_len(s->cfg),
        .links = s->told,
        .doors = &s->doors,
        .older = &s->older,
        .restarts = s->restarts,
        .started_s = s->started_s,
        .netns_inode = s->netns_inode,
    };

    netcfg_forget(s->cfg);
    int keep[] = {channel,
                  ask_channel,
                  args.tun_fd,
                  args.rx_fd,
                  args.beat_fd,
                  s->doors.path_fd,
                  s->doors.abstract_fd,
                  s->doors.extra_fd,
                  s->opts->keylog_fd,
                  s->wishes.set_fd};
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

int supervisor_fork_worker(struct supervisor *s)
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

/* Closing the channel tells it; what it sends to reset its connections still
 * passes. Return: whether it ended in order. */
bool supervisor_end_worker(struct supervisor *s)
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

/* --- While it lives -------------------------------------------------------- */

/* Should the worker not take it, it hangs and ends soon, or takes it the next time. */
void supervisor_tell_links(void *arg)
{
    struct supervisor *s = arg;
    struct supervisor_message m = {.event = SUPERVISOR_LINKS, .links = current_links(s)};
    int fds[CHANNEL_FD_MAX_CNT];
    size_t fd_cnt = 0;

    if (s->channel < 0)
        return;
    for (size_t i = 0; i < m.links.uplinks.cnt; i++) {
        const struct links_entry *e = &m.links.uplinks.entries[i];

        if (e->ifindex == 0 || worker_links_same(&s->told, &m.links, e->ifindex))
            continue;
        if (!links_has(&s->told.uplinks, e->ifindex))
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

/* Looks are counted, not the time: when all of us were stopped for a while, the
 * worker gets the time of several looks to beat again. Its end comes to
 * supervisor_on_worker_end(). */
void supervisor_watch_worker(struct supervisor *s)
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

/* --- Replacing it ---------------------------------------------------------- */

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
void supervisor_next_worker(struct supervisor *s)
{
    supervisor_reset_all(s);
    netcfg_drain(s->cfg);
    s->restarts++;
    int err = supervisor_fork_worker(s);
    supervisor_tell_state(s);
    if (err) {
        log_error("cannot fork a worker: %s", strerror(-err));
        s->start_at_ms = clock_ms() + BACKOFF_MIN_MS;
    }
}

static void replace_worker(struct supervisor *s, int delay_ms)
{
    forget_worker(s);
    if (delay_ms == 0) {
        supervisor_next_worker(s);
        return;
    }
    log_warn("the worker dies often; the next starts in %d ms", delay_ms);
    supervisor_reset_all(s);
    s->start_at_ms = clock_ms() + delay_ms;
}

static void log_end(int status)
{
    if (WIFSIGNALED(status))
        log_error("the worker was ended by signal %d (%s)", WTERMSIG(status),
                  strsignal(WTERMSIG(status)));
    else
        log_error("the worker ended with status %d", WEXITSTATUS(status));
}

void supervisor_on_worker_end(struct supervisor *s)
{
    int status = 0;

    waitpid(s->worker, &status, 0);
    if (s->give_up_ms) {
        if (!s->failed)
            supervisor_fail(s, -ECHILD, "the worker died before it was ready");
        forget_worker(s);
        s->end = true;
        return;
    }
    log_end(status);
    if (s->drain_end_ms) { /* what was waited for is gone */
        forget_worker(s);
        supervisor_reset_all(s);
        s->end = true;
        return;
    }
    replace_worker(s, delay_after_death(s));
}
