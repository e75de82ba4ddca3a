/* SPDX-License-Identifier: BSD-3-Clause
 * What the worker says over its channels, and what follows from it. A drain may also begin with a
 * signal.
 */
#include "ctl/daemon/supervisor_impl.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "ctl/daemon/channel.h"
#include "ctl/daemon/privilege.h"

static void on_ready(struct supervisor *s)
{
    if (s->give_up_ms && !s->ready(s->ready_arg)) {
        supervisor_fail(s, -ECANCELED, "nobody waits for the daemon any more");
        s->end = true;
    }
    if (s->give_up_ms && s->opts->keylog_fd > 0)
        log_warn(DAEMON_KEYLOG_WARNING, s->opts->keylog_path);
    if (s->give_up_ms)
        log_info("attached; %zu uplinks, the first is %s, policy %s, %zu older connections",
                 s->told.uplinks.cnt, s->told.uplinks.entries[0].name, policy_name(s->opts->policy),
                 s->older.cnt);
    if (s->give_up_ms)
        supervisor_tell_ready(s);
    s->give_up_ms = 0;
}

static void on_failed(struct supervisor *s, const struct worker_message *m)
{
    if (s->give_up_ms)
        supervisor_fail(s, m->err, "%.*s", WORKER_TEXT_LEN, m->text);
    else
        log_error("the worker cannot start: %.*s", WORKER_TEXT_LEN, m->text);
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

void supervisor_start_drain(struct supervisor *s, unsigned timeout_s, enum tunnel_drain new)
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

static void on_drain(struct supervisor *s, const struct worker_message *m, int client_fd)
{
    add_waiter(s, client_fd);
    supervisor_start_drain(s, m->drain_s, m->drain);
}

/* --- Reading them ---------------------------------------------------------- */

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

void supervisor_on_channel(struct supervisor *s)
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
            supervisor_on_draining(s);
            break;
        case WORKER_DRAINED:
            s->end = true;
            break;
        case WORKER_CHANGE:
            supervisor_on_change(s, in.request[0] ? in.request : NULL);
            break;
        case WORKER_RESOLVE:
            netcfg_resolve(s->cfg, m->ifindex, &m->neighbour);
            break;
        case WORKER_PASSED_BY:
            netcfg_abort(s->cfg, &m->tuple);
            break;
        }
    }
}

/* Of a worker that ends we hear elsewhere. */
void supervisor_on_question(struct supervisor *s)
{
    if (privilege_answer(s->ask_channel))
        return;
    close(s->ask_channel);
    s->ask_channel = -1;
}
