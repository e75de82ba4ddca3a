/* SPDX-License-Identifier: BSD-3-Clause
 * The TCP connections of a namespace as people want to see them: what the daemon lists,
 * with the local process where the kernel tells it, and on request also those that the
 * kernel keeps for itself.
 */
#ifndef TCNS_CTL_CONNECTIONS_H
#define TCNS_CTL_CONNECTIONS_H

#include <jansson.h>
#include <stdbool.h>

#include "ctl/cli/query.h"
#include "ctl/cli/session_filter.h"

struct connections {
    struct query *query; /* connected */
    const struct session_filter *filter;
    bool ended; /* those that have ended, in their order */
    bool all;   /* also those that are not the daemon's: bypassed */
};

/* s is borrowed: a Session, with "pid" and "process" where they are known. */
typedef void (*connections_fn)(const json_t *s, void *arg);

/* Calls fn for each that passes the filter, in no order; exits on failure. Moves the calling
 * process into the namespace, if it may; else there are no processes to tell (with "all" it
 * exits). Nothing grows with the daemon's list but what the kernel says of its sockets. */
void connections_each(const struct connections *c, connections_fn fn, void *arg);

#endif
