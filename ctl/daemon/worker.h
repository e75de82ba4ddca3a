/* SPDX-License-Identifier: BSD-3-Clause
 * The worker: the process that moves packets and answers on the ctl socket.
 *
 * It owns nothing in the namespace. It is forked by the supervisor and ends when
 * the supervisor closes the channel or sends SIGTERM, and is killed when the
 * supervisor dies. Its loop beats every WORKER_BEAT_S: the supervisor kills a
 * worker that has stopped to.
 */
#ifndef TCNS_CTL_WORKER_H
#define TCNS_CTL_WORKER_H

#include <stdint.h>
#include <sys/types.h>

#include "ctl/daemon/change.h"
#include "ctl/daemon/ctlsock.h"
#include "ctl/daemon/daemon.h"
#include "ctl/daemon/wishes.h"
#include "ctl/net/links.h"
#include "ctl/net/sockdiag.h"

/* What the worker tells the supervisor; one message of a SOCK_SEQPACKET pair. */
enum worker_event {
    WORKER_READY,     /* packets flow */
    WORKER_FAILED,    /* err and text say why; it ends */
    WORKER_DOWN,      /* a client asks to detach; its descriptor comes along (SCM_RIGHTS) */
    WORKER_DRAIN,     /* likewise, but as drain_s and drain say */
    WORKER_DRAINING,  /* no new connection is carried from now on */
    WORKER_DRAINED,   /* none is left */
    WORKER_CHANGE,    /* see change.h; a request follows, or nothing: read the configuration */
    WORKER_RESOLVE,   /* the kernel is to resolve neighbour of ifindex */
    WORKER_PASSED_BY, /* the connection of tuple has sent past the tunnel */
};

#define WORKER_TEXT_LEN 200
#define WORKER_BEAT_S   2

struct worker_message {
    enum worker_event event;
    int err; /* -errno */
    unsigned drain_s;
    enum tunnel_drain drain;
    int ifindex;
    struct addr neighbour;
    struct tuple tuple;
    char text[WORKER_TEXT_LEN];
};

struct worker_links {
    struct links uplinks, native;
    int hooked; /* the uplink whose packets come by the receiving TUN device (hook.h); 0: none */
};

/* Return: whether an uplink is in both, and receives in the same way. */
static inline bool worker_links_same(const struct worker_links *a, const struct worker_links *b,
                                     int ifindex)
{
    return links_has(&a->uplinks, ifindex) && links_has(&b->uplinks, ifindex) &&
           (a->hooked == ifindex) == (b->hooked == ifindex);
}

/* What the supervisor tells the worker. That it is to end, by closing the channel. */
enum supervisor_event {
    SUPERVISOR_LINKS,  /* which uplinks there are now. For each that is not the same as last time
                          (worker_links_same()) a packet socket comes along, in that order */
    SUPERVISOR_DRAIN,  /* carry no new connection, and tell when the last has ended */
    SUPERVISOR_RELOAD, /* send WORKER_CHANGE */
    SUPERVISOR_ANSWER, /* to WORKER_CHANGE; new settings come along, or an error: see change.h */
};

struct supervisor_message {
    enum supervisor_event event;
    struct worker_links links;
    struct change_answer answer;
    enum tunnel_drain drain;
    int64_t drain_until_ms; /* CLOCK_MONOTONIC; for show */
};

struct worker_args {
    const struct daemon_options *opts;
    pid_t supervisor;
    int channel;     /* to the supervisor; the worker's end */
    int ask_channel; /* likewise, for privilege_ask() */
    int beat_fd;     /* eventfd */
    const struct wishes_store *wishes;
    int tun_fd;
    int rx_fd; /* of the receiving TUN device; -1: there is none */
    int tun_ifindex;
    size_t tun_gso_max_len;
    struct worker_links links;
    const struct ctlsock *doors;
    const struct sockdiag_list *older; /* connections to pass untouched */
    unsigned restarts;                 /* workers before this one */
    double started_s;                  /* of the supervisor, since the epoch */
    ino_t netns_inode;
};

/* Runs until told to end, then ends every connection and the process. */
void worker_run(const struct worker_args *args) __attribute__((noreturn));

#endif
