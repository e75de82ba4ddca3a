/* SPDX-License-Identifier: BSD-3-Clause
 * The connections that ended last, and how many ended for each error.
 */
#ifndef TCNS_TUNNEL_HISTORY_H
#define TCNS_TUNNEL_HISTORY_H

#include "tunnel/tunnel.h"

#define HISTORY_ERROR_CLASS_CNT 5
#define HISTORY_ERROR_NUM_CNT   32

struct history {
    struct tunnel_session ended[TUNNEL_ENDED_MAX_CNT]; /* ring */
    size_t next, cnt;
    uint64_t errors[HISTORY_ERROR_CLASS_CNT][HISTORY_ERROR_NUM_CNT];
};

void history_add(struct history *h, const struct tunnel_session *session);
void history_each(const struct history *h, tunnel_session_fn fn, void *arg);
uint64_t history_error_cnt(const struct history *h, enum tcns_err err);

#endif
