/* SPDX-License-Identifier: BSD-3-Clause
 * What the files of the supervisor share. Each calls those below it only:
 *
 *   supervisor.c            start, loop and end: signals, times, the namespace
 *   supervisor_messages.c   what the worker says, and what follows from it
 *   supervisor_change.c     other settings        supervisor_worker.c   the worker as a child
 *   supervisor_sockets.c    which connections end, and which go on
 *   supervisor_report.c     what starter and service manager are told
 */
#ifndef TCNS_CTL_SUPERVISOR_IMPL_H
#define TCNS_CTL_SUPERVISOR_IMPL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "ctl/daemon/ctlsock.h"
#include "ctl/daemon/daemon.h"
#include "ctl/daemon/supervisor.h"
#include "ctl/daemon/wishes.h"
#include "ctl/daemon/worker.h"
#include "ctl/net/netcfg.h"
#include "ctl/net/sockdiag.h"

#define DEATHS_FREE 5 /* within DEATHS_MS: replaced at once; see supervisor_worker.c */
#define WAITERS_MAX 8 /* clients whose Down is not answered yet */

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

/* --- supervisor_messages.c ----------------------------------------------------- */

/* Takes what is there of the worker's messages. */
void supervisor_on_channel(struct supervisor *s);
/* Likewise of the channel on which it asks for privileges, which is closed when the worker is
 * gone. */
void supervisor_on_question(struct supervisor *s);
/* The worker is to carry no new connection, and to tell when the last has ended. */
void supervisor_start_drain(struct supervisor *s, unsigned timeout_s, enum tunnel_drain new);

/* --- supervisor_change.c --------------------------------------------------------- */

/* Changes the settings and answers the worker. request: see change.h; NULL: read the
 * configuration again. */
void supervisor_on_change(struct supervisor *s, const char *request);
/* SIGHUP: the configuration is to be read again. */
void supervisor_on_hangup(struct supervisor *s);

/* --- supervisor_worker.c --------------------------------------------------------- */

/* Return: 0; -errno: there is none. */
int supervisor_fork_worker(struct supervisor *s);
/* The time for the next one has come, start_at_ms; again when it cannot be forked. */
void supervisor_next_worker(struct supervisor *s);
/* The time to look whether it beats, watch_at_ms. One that hangs is killed. */
void supervisor_watch_worker(struct supervisor *s);
/* arg: the supervisor. Tells the worker which uplinks there are now. */
void supervisor_tell_links(void *arg);
/* It has died, and its last messages are read: replaces it, or we end with it. */
void supervisor_on_worker_end(struct supervisor *s);
/* Waits until it has ended, or kills it. Return: whether there was one that ended in order. */
bool supervisor_end_worker(struct supervisor *s);

/* --- supervisor_sockets.c -------------------------------------------------------- */

/* After a worker that ended in order. */
void supervisor_reset_all_but_older(struct supervisor *s);
/* After one that did not; older ones end as well, and none is older from then on. */
void supervisor_reset_all(struct supervisor *s);
/* Takes the contents of older. */
void supervisor_add_older(struct supervisor *s, struct sockdiag_list *older);
/* The worker carries no new connection from now on. */
void supervisor_on_draining(struct supervisor *s);

/* --- supervisor_report.c --------------------------------------------------------- */

/* Keeps the sentence and err, for supervisor_run() to return. Return: err. */
int supervisor_fail(struct supervisor *s, int err, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* The line for people, to the service manager. */
void supervisor_tell_state(const struct supervisor *s);
/* Likewise, and that packets flow. */
void supervisor_tell_ready(const struct supervisor *s);

#endif
