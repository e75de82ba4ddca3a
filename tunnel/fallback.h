/* SPDX-License-Identifier: BSD-3-Clause
 * Peers on whose path SYNs with an ENO option disappear: they are opened without
 * one for a while (RFC 8547 4.6 allows to remove it, and says nothing of how long).
 *
 * One lost SYN is no proof: any packet may get lost, and a clear path of ten minutes is a high
 * price. So the first loss only makes a peer suspect, and a second one, of a connection that was
 * opened later, with no answered SYN in between, puts it into the table.
 */
#ifndef TCNS_TUNNEL_FALLBACK_H
#define TCNS_TUNNEL_FALLBACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/tuple.h"

#define FALLBACK_MAX_CNT 1024 /* a later peer may replace an earlier one */

struct fallback {
    struct addr peer;
    uint64_t end_ms; /* 0: free */
};

struct fallback_suspect {
    struct addr peer;
    uint64_t noted_ms;
    uint64_t end_ms; /* 0: free */
};

struct fallback_table {
    struct fallback entries[FALLBACK_MAX_CNT];
    struct fallback_suspect suspects[FALLBACK_MAX_CNT];
};

void fallback_add(struct fallback_table *t, const struct addr *peer, uint64_t now_ms,
                  uint64_t keep_ms);
/* A connection that was opened at opened_ms is established now, but its SYN with the option got
 * no answer. */
void fallback_note_loss(struct fallback_table *t, const struct addr *peer, uint64_t opened_ms,
                        uint64_t now_ms, uint64_t keep_ms);
/* A SYN with the option was answered. */
void fallback_note_answer(struct fallback_table *t, const struct addr *peer);
bool fallback_has(const struct fallback_table *t, const struct addr *peer, uint64_t now_ms);
/* Calls fn with each peer and the seconds that it stays, rounded up. */
void fallback_each(const struct fallback_table *t, uint64_t now_ms,
                   void (*fn)(const struct addr *peer, unsigned left_s, void *arg), void *arg);
void fallback_clear(struct fallback_table *t);

#endif
