/* SPDX-License-Identifier: BSD-3-Clause
 * The method GetSession.
 *
 * How it works: a reply that is to wait is a stream that pauses. The connection is looked
 * up each time the loop is about to sleep, so as soon as anything has happened to it; each
 * client waits for one at a time. Nothing keeps the connection: when it is gone at a look,
 * the answer is NoSession.
 */
#include <ev.h>
#include <stdlib.h>

#include "ctl/daemon/ns1.h"
#include "ctl/daemon/ns1_params.h"
#include "tunnel/tunnel.h"

#define WAIT_MAX_MS 60000

struct waiting {
    struct ev_loop *loop;
    struct tunnel *tunnel;
    struct ctlserver_client *client;
    struct tuple tuple;
    ev_prepare look;
    ev_timer limit;
};

static void answer(struct ctlserver_client *c, struct tunnel *t, const struct tuple *tuple)
{
    struct tunnel_session s;

    if (tunnel_find(t, tuple, &s))
        ctlserver_reply(c, json_pack("{s:o}", "session", ns1_session_json(&s)));
    else
        ctlserver_error(c, NS1_INTERFACE ".NoSession", NULL);
}

static bool is_opening(struct tunnel *t, const struct tuple *tuple)
{
    struct tunnel_session s;

    return tunnel_find(t, tuple, &s) && s.state == TUNNEL_STATE_OPENING;
}

static bool end_waiting(struct ctlserver_client *c, void *state)
{
    const struct waiting *w = state;

    answer(c, w->tunnel, &w->tuple);
    return false;
}

static void on_look(struct ev_loop *loop, ev_prepare *look, int events)
{
    const struct waiting *w = look->data;

    if (!is_opening(w->tunnel, &w->tuple)) {
        ev_prepare_stop(loop, look);
        ctlserver_resume(w->client);
    }
}

static void on_limit(struct ev_loop *loop, ev_timer *limit, int events)
{
    const struct waiting *w = limit->data;

    ctlserver_resume(w->client);
}

static void free_waiting(void *state)
{
    struct waiting *w = state;

    ev_prepare_stop(w->loop, &w->look);
    ev_timer_stop(w->loop, &w->limit);
    free(w);
}

static void wait_for(struct ctlserver_client *c, const struct ns1 *n, const struct tuple *tuple,
                     uint32_t wait_ms)
{
    struct waiting *w = calloc(1, sizeof(*w));

    if (!w) {
        ctlserver_error(c, NS1_INTERFACE ".OutOfMemory", NULL);
        return;
    }
    *w = (struct waiting){.loop = n->loop, .tunnel = n->tunnel, .client = c, .tuple = *tuple};
    ev_prepare_init(&w->look, on_look);
    ev_timer_init(&w->limit, on_limit, wait_ms / 1e3, 0);
    w->look.data = w->limit.data = w;
    ev_prepare_start(n->loop, &w->look);
    ev_timer_start(n->loop, &w->limit);
    ctlserver_stream(c, end_waiting, w, free_waiting);
    ctlserver_pause(c);
}

void ns1_get_session(struct ctlserver_client *c, const struct ns1 *n, const json_t *params)
{
    struct tuple tuple;
    uint32_t wait_ms;

    const char *wrong = ns1_params_tuple(params, &tuple);
    if (!wrong && !ns1_params_number(params, "wait", WAIT_MAX_MS, &wait_ms))
        wrong = "wait";
    if (wrong)
        ns1_invalid_parameter(c, wrong);
    else if (wait_ms > 0 && is_opening(n->tunnel, &tuple))
        wait_for(c, n, &tuple, wait_ms);
    else
        answer(c, n->tunnel, &tuple);
}
