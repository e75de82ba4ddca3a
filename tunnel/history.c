/* SPDX-License-Identifier: BSD-3-Clause
 * Ring of ended connections.
 */
#include "tunnel/history.h"

#define X(name, class, num, text)                                                                  \
    _Static_assert(ERR_CLASS_##class < HISTORY_ERROR_CLASS_CNT && (num) < HISTORY_ERROR_NUM_CNT,   \
                   "errors are counted by class and number");
TCNS_ERR_LIST(X)
#undef X

void history_add(struct history *h, const struct tunnel_session *session)
{
    h->ended[h->next] = *session;
    h->next = (h->next + 1) % TUNNEL_ENDED_MAX_CNT;
    if (h->cnt < TUNNEL_ENDED_MAX_CNT)
        h->cnt++;
    if (session->error != TCNS_OK)
        h->errors[err_class(session->error)][session->error & 0xff]++;
}

void history_each(const struct history *h, tunnel_session_fn fn, void *arg)
{
    size_t first = (h->next + TUNNEL_ENDED_MAX_CNT - h->cnt) % TUNNEL_ENDED_MAX_CNT;

    for (size_t i = 0; i < h->cnt; i++) {
        if (!fn(&h->ended[(first + i) % TUNNEL_ENDED_MAX_CNT], arg))
            return;
    }
}

uint64_t history_error_cnt(const struct history *h, enum tcns_err err)
{
    return h->errors[err_class(err)][err & 0xff];
}
