/* SPDX-License-Identifier: BSD-3-Clause
 * Connections that existed before tcpcrypt-ns was attached: named once, at the
 * start; their packets pass untouched until they end.
 */
#ifndef TCNS_TUNNEL_OLDER_H
#define TCNS_TUNNEL_OLDER_H

#include <stddef.h>
#include <stdint.h>

#include "tcp/leg.h"

struct older {
    struct older *chain;
    struct tuple tuple;
    uint64_t bytes[SIDE_CNT]; /* payload that came from that side */
    uint64_t end_ms;          /* both sides have sent a FIN: forgotten then; 0 before */
    bool fin[SIDE_CNT];
    bool is_new; /* not older at all, but opened while the tunnel drains */
};

#define OLDER_BUCKET_CNT 1024

struct older_table {
    struct older *buckets[OLDER_BUCKET_CNT];
    size_t cnt;
};

/* Return: 0; -ENOMEM. Adding a tuple twice is a no-op. */
int older_add(struct older_table *t, const struct tuple *tuple);
struct older *older_find(const struct older_table *t, const struct tuple *tuple);
void older_remove(struct older_table *t, struct older *o);
/* A packet passes: follows the end of the connection. */
void older_note(struct older_table *t, struct older *o, enum side from, const struct packet *packet,
                uint64_t now_ms);
/* Forgets those that have ended. */
void older_tick(struct older_table *t, uint64_t now_ms);
void older_done(struct older_table *t);

#endif
