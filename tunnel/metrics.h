/* SPDX-License-Identifier: BSD-3-Clause
 * What is counted for observers, beside the counters of tunnel.h: connections by what
 * became of them, bytes, and how long things took. All since tunnel_new().
 */
#ifndef TCNS_TUNNEL_METRICS_H
#define TCNS_TUNNEL_METRICS_H

#include "base/histogram.h"
#include "tcp/leg.h"
#include "tunnel/tunnel.h"

#define METRICS_ONE(name) +1
enum {
    TUNNEL_REASON_CNT = 0 SESSION_REASON_LIST(METRICS_ONE) TUNNEL_REASON_LIST(METRICS_ONE),
    TUNNEL_END_CNT = 0 TUNNEL_END_LIST(METRICS_ONE),
    TUNNEL_STATE_CNT = TUNNEL_STATE_CLOSING + 1,
};
#undef METRICS_ONE

struct tunnel_metrics {
    struct session_counters session;
    uint64_t settled[TUNNEL_REASON_CNT]; /* connections, when it was known how they go on */
    uint64_t ended[TUNNEL_END_CNT];
    uint64_t encrypted_bytes[SIDE_CNT]; /* of applications, by the side they came from */
    uint64_t clear_bytes[SIDE_CNT];     /* likewise; without connections older than us */
    uint64_t retransmits[SIDE_CNT];     /* segments, by the side they left on */
    struct histogram full;              /* from the first SYN to agreed keys */
    struct histogram resumed;           /* likewise, keys from an earlier connection */
    struct histogram lag;               /* one turn of the loop: so long anything may wait */
};

void tunnel_get_metrics(const struct tunnel *t, struct tunnel_metrics *ret);

/* How much there is of something now, and how much there may be. */
struct tunnel_levels {
    size_t flow_cnt, flow_max_cnt;
    size_t opening_cnt; /* of flow_cnt: the far end has not answered yet */
    size_t older_cnt;   /* connections that pass untouched */
    size_t buffer_len, buffer_max_len;
    size_t resume_cnt;
    size_t fallback_cnt;
};

void tunnel_get_levels(const struct tunnel *t, struct tunnel_levels *ret);

#endif
