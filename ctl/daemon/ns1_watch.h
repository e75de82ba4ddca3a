/* SPDX-License-Identifier: BSD-3-Clause
 * The method Watch: events for those who watch.
 *
 * How it works: an event becomes text once, and goes into the output buffer of every
 * client that watches. For one that is slow to read there is no room: it loses events, and
 * is told how many as soon as there is room again. Without watchers nothing is done.
 */
#ifndef TCNS_CTL_NS1_WATCH_H
#define TCNS_CTL_NS1_WATCH_H

#include "ctl/daemon/ctlserver.h"
#include "tunnel/tunnel.h"

struct watcher;

/* All watchers of a daemon; all zero: none. They must be gone (ctlserver_free()) before it is. */
struct ns1_watch {
    struct watcher *first;
};

/* Of a connection; a tunnel_event_fn, arg is a struct ns1_watch. */
void ns1_watch_session(enum tunnel_event event, const struct tunnel_session *s, void *arg);

/* Of the daemon itself; text is a sentence for people. */
void ns1_watch_daemon(struct ns1_watch *w, const char *text);

/* The method. */
void ns1_watch(struct ctlserver_client *c, struct ns1_watch *w, bool more);

#endif
