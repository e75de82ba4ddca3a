/* SPDX-License-Identifier: BSD-3-Clause
 * The data path of one container, from outside: made, told, asked, ended.
 */
#include "tunnel/tunnel.h"

#include <errno.h>
#include <sodium.h>
#include <stdlib.h>

#include "base/clock.h"
#include "tcpcrypt/kex_pool.h"
#include "tcpcrypt/resume.h"
#include "tunnel/tunnel_impl.h"

#define MEMORY_DEFAULT_LEN (256u << 20)
#define FLOW_DEFAULT_CNT   100000
#define FALLBACK_DEFAULT_S 600

/* --- Start and end ------------------------------------------------------------------ */

static int configure_relay(struct tunnel *t)
{
    const struct tunnel_config *cfg = &t->cfg;

    t->relay.on_event = t->cfg.on_event;
    t->relay.event_arg = t->cfg.event_arg;
    t->relay.wish = cfg->wish;
    t->relay.wish_arg = cfg->wish_arg;
    t->relay.keylog_fd = cfg->keylog_fd;
    tunnel_set_fallback_time(t, cfg->fallback_s);
    /* Without memory for it connections are merely not resumed. */
    t->relay.cache = cfg->resume_max_cnt ? resume_cache_new(cfg->resume_max_cnt) : NULL;
    if (t->relay.cache)
        resume_cache_tick(t->relay.cache, clock_coarse_ms());
    t->relay.keys = kex_pool_new(session_config_default.random);
    return tunnel_set_policy(t, &cfg->policy);
}

static void forget_policy(struct tunnel *t)
{
    policy_unref(t->relay.policy);
    resume_cache_free(t->relay.cache);
    kex_pool_free(t->relay.keys);
}

int tunnel_new(const struct tunnel_config *cfg, struct tunnel **ret)
{
    struct siphash_key key;
    int err = -ENOMEM;

    if (sodium_init() < 0)
        return -ENOMEM;
    struct tunnel *t = calloc(1, sizeof(*t));
    if (!t)
        return -ENOMEM;
    t->cfg = *cfg;
    if (!t->cfg.memory_max_len)
        t->cfg.memory_max_len = MEMORY_DEFAULT_LEN;
    if (!t->cfg.flow_max_cnt)
        t->cfg.flow_max_cnt = FLOW_DEFAULT_CNT;
    err = configure_relay(t);
    if (err < 0)
        goto fail_table;

    randombytes_buf(&key, sizeof(key));
    err = flow_table_init(&t->relay.flows, &key, t->cfg.flow_max_cnt);
    if (err < 0)
        goto fail_table;
    err = uplinks_new(t->cfg.loop, &loop_uplinks_ops, t, &t->uplinks);
    if (err < 0)
        goto fail_uplinks;
    err = packets_start(t);
    if (err < 0)
        goto fail_stack;
    loop_start(t);
    *ret = t;
    return 0;

fail_stack:
    uplinks_free(t->uplinks);
fail_uplinks:
    flow_table_done(&t->relay.flows);
fail_table:
    forget_policy(t);
    free(t);
    return err;
}

void tunnel_free(struct tunnel *t)
{
    if (!t)
        return;
    relay_abort_all(&t->relay);
    stack_flush();
    captures_done(&t->captures);
    loop_stop(t);
    packets_stop();
    uplinks_free(t->uplinks);
    older_done(&t->older);
    flow_table_done(&t->relay.flows);
    forget_policy(t);
    free(t);
}

int tunnel_set_policy(struct tunnel *t, const struct policy_config *cfg)
{
    struct policy *policy;
    int err = policy_new(cfg, &policy);

    if (err == 0)
        relay_set_policy(&t->relay, policy);
    return err;
}

void tunnel_set_key_timeout(struct tunnel *t, unsigned seconds)
{
    t->relay.key_timeout_ms = seconds * 1000ull;
}

void tunnel_set_bypass(struct tunnel *t, const struct port_range *ports, size_t port_cnt,
                       const struct policy_match *matches, size_t match_cnt)
{
    struct uplink_config cfg = {
        .bypass = ports, .bypass_cnt = port_cnt, .matches = matches, .match_cnt = match_cnt};

    t->cfg.bypass = ports;
    t->cfg.bypass_cnt = port_cnt;
    t->cfg.bypass_matches = matches;
    t->cfg.bypass_match_cnt = match_cnt;
    uplinks_set_bypass(t->uplinks, &cfg);
}

void tunnel_set_fallback_time(struct tunnel *t, unsigned seconds)
{
    t->relay.fallback_ms = (seconds ? seconds : FALLBACK_DEFAULT_S) * 1000ull;
}

const struct policy *tunnel_policy(const struct tunnel *t)
{
    return t->relay.policy;
}

_Static_assert(TUNNEL_UPLINK_MAX_CNT == NEXTHOP_LINK_MAX_CNT, "as many links as uplinks");

int tunnel_add_uplink(struct tunnel *t, int ifindex, int fd, int rx_fd)
{
    struct uplink_config cfg = {
        .ifindex = ifindex,
        .rx_fd = rx_fd,
        .bypass = t->cfg.bypass,
        .bypass_cnt = t->cfg.bypass_cnt,
        .matches = t->cfg.bypass_matches,
        .match_cnt = t->cfg.bypass_match_cnt,
    };

    return uplinks_add(t->uplinks, fd, &cfg);
}

void tunnel_del_uplink(struct tunnel *t, int ifindex)
{
    uplinks_del(t->uplinks, ifindex);
}

int tunnel_pass(struct tunnel *t, const struct tuple *tuple)
{
    if (t->older.cnt >= t->cfg.flow_max_cnt)
        return -ENOSPC;
    return older_add(&t->older, tuple);
}

void tunnel_drain(struct tunnel *t, enum tunnel_drain drain)
{
    t->drain = drain;
}

size_t tunnel_flow_cnt(const struct tunnel *t)
{
    return t->relay.flows.cnt;
}

void tunnel_flush(struct tunnel *t)
{
    if (t->relay.cache)
        resume_cache_clear(t->relay.cache);
    fallback_clear(&t->relay.fallback);
}

size_t tunnel_resume_cnt(const struct tunnel *t)
{
    return t->relay.cache ? resume_cache_cnt(t->relay.cache) : 0;
}

void tunnel_list_fallback(const struct tunnel *t, tunnel_fallback_fn fn, void *arg)
{
    fallback_each(&t->relay.fallback, clock_coarse_ms(), fn, arg);
}

/* --- What is seen from outside -------------------------------------------------------- */

struct list_call {
    tunnel_session_fn fn;
    void *arg;
    bool stopped;
};

static void list_session(struct list_call *call, const struct tunnel_session *s)
{
    call->stopped |= !call->fn(s, call->arg);
}

static void list_flow(struct flow *f, void *arg)
{
    struct tunnel_session s;

    relay_describe(f, &s);
    list_session(arg, &s);
}

static void describe_older(const struct older *o, struct tunnel_session *ret)
{
    *ret = (struct tunnel_session){
        .tuple = o->tuple,
        .state = o->end_ms ? TUNNEL_STATE_CLOSING : TUNNEL_STATE_CLEAR,
        .reason = o->is_new ? TUNNEL_REASON_DRAINING : TUNNEL_REASON_OLDER,
        .tx_bytes = o->bytes[SIDE_INNER],
        .rx_bytes = o->bytes[SIDE_OUTER],
    };
}

static void list_older(const struct older *o, struct list_call *call)
{
    struct tunnel_session s;

    describe_older(o, &s);
    list_session(call, &s);
}

bool tunnel_list_from(struct tunnel *t, struct tunnel_cursor *c, tunnel_session_fn fn, void *arg)
{
    struct list_call call = {fn, arg, false};

    /* The bucket is 0 again when the flows are through. */
    while (!call.stopped && !c->is_older)
        c->is_older = !flow_scan(&t->relay.flows, &c->bucket, list_flow, &call);
    while (!call.stopped && c->bucket < OLDER_BUCKET_CNT)
        for (struct older *o = t->older.buckets[c->bucket++]; o; o = o->chain)
            list_older(o, &call);
    return !c->is_older || c->bucket < OLDER_BUCKET_CNT;
}

bool tunnel_find(struct tunnel *t, const struct tuple *tuple, struct tunnel_session *ret)
{
    const struct flow *f = flow_find(&t->relay.flows, tuple);
    const struct older *o = f ? NULL : older_find(&t->older, tuple);

    if (f)
        relay_describe(f, ret);
    else if (o)
        describe_older(o, ret);
    return f || o;
}

int tunnel_mark_authenticated(struct tunnel *t, const struct tuple *tuple)
{
    struct flow *f = flow_find(&t->relay.flows, tuple);

    if (!f)
        return -ENOENT;
    if (!f->session || !session_is_open(f->session))
        return -ENODATA;
    f->authenticated = true;
    return 0;
}

int tunnel_forget(struct tunnel *t, const struct tuple *tuple)
{
    struct flow *f = flow_find(&t->relay.flows, tuple);

    if (!f)
        return -ENOENT;
    if (f->session)
        session_forget(f->session);
    return 0;
}

void tunnel_list_ended(struct tunnel *t, tunnel_session_fn fn, void *arg)
{
    history_each(&t->relay.history, fn, arg);
}

uint64_t tunnel_error_cnt(const struct tunnel *t, enum tcns_err err)
{
    return history_error_cnt(&t->relay.history, err);
}

const struct tunnel_counters *tunnel_counters(const struct tunnel *t)
{
    return &t->relay.counters;
}

void tunnel_get_metrics(const struct tunnel *t, struct tunnel_metrics *ret)
{
    *ret = t->relay.metrics;
    memcpy(ret->retransmits, stack_counters()->retransmits, sizeof(ret->retransmits));
}

static void count_peer(const struct addr *peer, unsigned left_s, void *arg)
{
    size_t *cnt = arg;

    (*cnt)++;
}

void tunnel_get_levels(const struct tunnel *t, struct tunnel_levels *ret)
{
    *ret = (struct tunnel_levels){
        .flow_cnt = t->relay.flows.cnt,
        .flow_max_cnt = t->relay.flows.max_cnt,
        .opening_cnt = t->relay.flows.connecting_cnt,
        .older_cnt = t->older.cnt,
        .buffer_len = buf_total(),
        .buffer_max_len = t->cfg.memory_max_len,
        .resume_cnt = tunnel_resume_cnt(t),
    };
    tunnel_list_fallback(t, count_peer, &ret->fallback_cnt);
}

int tunnel_capture_start(struct tunnel *t, const struct tunnel_capture *cfg, int fd,
                         tunnel_capture_fn on_end, void *arg, struct tap **ret)
{
    int err = captures_add(&t->captures, t->cfg.loop, cfg, fd, on_end, arg, ret);

    packets_set_gso_max_len(t);
    return err;
}

void tunnel_capture_stop(struct tunnel *t, struct tap *tap)
{
    captures_del(&t->captures, tap);
}
