/* SPDX-License-Identifier: BSD-3-Clause
 * The daemon's numbers in Prometheus' text form (exposition format 0.0.4).
 *
 * How it works: the caller gathers a snapshot, in as many steps as it likes, and this
 * makes text of it. Every series is there from the start, with 0, so that a rate over
 * the first event is not lost.
 */
#ifndef TCNS_CTL_METRICS_H
#define TCNS_CTL_METRICS_H

#include <stdint.h>

#include "base/err.h"
#include "tunnel/metrics.h"

#define METRICS_CONTENT_TYPE "text/plain; version=0.0.4; charset=utf-8"

/* All errors, in the order of TCNS_ERR_LIST. */
extern const enum tcns_err metrics_errors[];
extern const size_t metrics_error_cnt;
#define METRICS_ERROR_MAX_CNT 64

struct metrics {
    const struct tunnel_counters *counters;
    struct tunnel_metrics tunnel;
    struct tunnel_levels levels;
    uint64_t connections[TUNNEL_STATE_CNT][TUNNEL_REASON_CNT]; /* that live now */
    uint64_t errors[METRICS_ERROR_MAX_CNT];                    /* as metrics_errors[] */
    unsigned worker_restarts;
    double started_s; /* of the daemon */
    const char *version;
    const char *policy;
};

/* Counts one connection that lives. */
void metrics_add_connection(struct metrics *m, const struct tunnel_session *s);

/* Return: the text, caller frees; NULL when out of memory. */
char *metrics_text(const struct metrics *m);

#endif
