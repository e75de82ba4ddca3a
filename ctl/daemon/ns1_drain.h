/* SPDX-License-Identifier: BSD-3-Clause
 * The method Drain: telling clients how far it is.
 *
 * How it works: the supervisor has each such client's descriptor as well, and gives the last
 * reply when everything is taken away. Until then the worker says what is left, on the
 * same descriptor.
 */
#ifndef TCNS_CTL_NS1_DRAIN_H
#define TCNS_CTL_NS1_DRAIN_H

#include <stddef.h>

#include "ctl/daemon/ctlserver.h"

struct ns1;
struct drainer;

#define NS1_DRAIN_MAX_S (24 * 60 * 60)

/* Clients that are told; all zero: none. They must be gone (ctlserver_free()) before it is. */
struct ns1_drain {
    struct drainer *first;
};

/* The method. */
void ns1_drain(struct ctlserver_client *c, const struct ns1 *n, const json_t *params, bool more);

/* So many connections are left, and so many seconds. */
void ns1_drain_tell(struct ns1_drain *d, size_t left, unsigned seconds);

#endif
