/* SPDX-License-Identifier: BSD-3-Clause
 * The method GetMetrics.
 *
 * How it works: the connections that live are counted in steps, with turns of the data
 * path between them, because there may be many; all else is read at the end.
 */
#include <stdlib.h>

#include "ctl/daemon/metrics.h"
#include "ctl/daemon/ns1.h"
#include "tunnel/policy.h"

/* Connections that are counted in one call of a stream; the server makes several in a turn. */
#define STEP_CNT 128

struct census {
    const struct ns1 *ns1;
    struct tunnel_cursor cursor;
    unsigned cnt; /* in this step */
    struct metrics metrics;
};

static bool count(const struct tunnel_session *s, void *arg)
{
    struct census *c = arg;

    metrics_add_connection(&c->metrics, s);
    return ++c->cnt < STEP_CNT;
}

static void read_rest(struct census *c)
{
    const struct ns1 *n = c->ns1;
    struct metrics *m = &c->metrics;

    m->counters = tunnel_counters(n->tunnel);
    tunnel_get_metrics(n->tunnel, &m->tunnel);
    tunnel_get_levels(n->tunnel, &m->levels);
    for (size_t i = 0; i < metrics_error_cnt; i++)
        m->errors[i] = tunnel_error_cnt(n->tunnel, metrics_errors[i]);
    m->worker_restarts = n->restarts;
    m->started_s = n->started_s;
    m->version = TCNS_VERSION;
    m->policy = policy_name(n->opts->policy);
}

static bool produce(struct ctlserver_client *client, void *state)
{
    struct census *c = state;

    c->cnt = 0;
    if (tunnel_list_from(c->ns1->tunnel, &c->cursor, count, c))
        return true;
    read_rest(c);
    char *text = metrics_text(&c->metrics);
    if (text)
        ctlserver_reply(client, json_pack("{s:s}", "text", text));
    else
        ctlserver_error(client, NS1_INTERFACE ".OutOfMemory", NULL);
    free(text);
    return false;
}

void ns1_get_metrics(struct ctlserver_client *client, const struct ns1 *n)
{
    struct census *c = calloc(1, sizeof(*c));

    if (!c) {
        ctlserver_error(client, NS1_INTERFACE ".OutOfMemory", NULL);
        return;
    }
    c->ns1 = n;
    ctlserver_stream(client, produce, c, free);
}
