/* SPDX-License-Identifier: BSD-3-Clause
 * Table of relayed connections.
 */
#include "tunnel/flow.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "base/clock.h"

#define BUCKET_FIRST_CNT 256
/* Half-open connections; at the cap the one that has waited longest goes. */
#define CONNECTING_MAX_CNT 8192

int flow_table_init(struct flow_table *t, const struct siphash_key *key, size_t max_cnt)
{
    *t = (struct flow_table){.key = *key, .max_cnt = max_cnt, .bucket_cnt = BUCKET_FIRST_CNT};
    t->queue_end = &t->queue;
    t->buckets = calloc(t->bucket_cnt, sizeof(*t->buckets));
    return t->buckets ? 0 : -ENOMEM;
}

void flow_table_done(struct flow_table *t)
{
    assert(t->cnt == 0);
    free(t->buckets);
}

static struct flow **bucket_of(const struct flow_table *t, const struct tuple *tuple)
{
    return &t->buckets[siphash(&t->key, tuple, sizeof(*tuple)) & (t->bucket_cnt - 1)];
}

struct flow *flow_find(const struct flow_table *t, const struct tuple *tuple)
{
    struct flow *f = *bucket_of(t, tuple);

    while (f && !tuple_eq(&f->tuple, tuple))
        f = f->chain;
    return f;
}

static void grow(struct flow_table *t)
{
    struct flow **old = t->buckets;
    size_t old_cnt = t->bucket_cnt;
    struct flow **buckets = calloc(old_cnt * 2, sizeof(*buckets));

    if (!buckets)
        return; /* longer chains still work */
    t->buckets = buckets;
    t->bucket_cnt = old_cnt * 2;
    for (size_t i = 0; i < old_cnt; i++) {
        struct flow *next;
        for (struct flow *f = old[i]; f; f = next) {
            struct flow **bucket = bucket_of(t, &f->tuple);
            next = f->chain;
            f->chain = *bucket;
            *bucket = f;
        }
    }
    free(old);
}

static void append(struct flow **oldest, struct flow **youngest, struct flow *f)
{
    f->older = *youngest;
    f->younger = NULL;
    if (f->older)
        f->older->younger = f;
    else
        *oldest = f;
    *youngest = f;
}

static void take_out(struct flow **oldest, struct flow **youngest, struct flow *f)
{
    if (f->older)
        f->older->younger = f->younger;
    else
        *oldest = f->younger;
    if (f->younger)
        f->younger->older = f->older;
    else
        *youngest = f->older;
    f->older = f->younger = NULL;
}

static void link_connecting(struct flow_table *t, struct flow *f, uint64_t now_ms)
{
    f->touched_ms = now_ms;
    append(&t->connecting_old, &t->connecting_new, f);
    t->connecting_cnt++;
}

static void unlink_connecting(struct flow_table *t, struct flow *f)
{
    take_out(&t->connecting_old, &t->connecting_new, f);
    t->connecting_cnt--;
}

struct flow *flow_new(struct flow_table *t, const struct tuple *tuple, bool inbound,
                      struct buf *syn, uint64_t now_ms)
{
    struct flow *f = NULL;

    if (t->connecting_cnt >= CONNECTING_MAX_CNT) {
        struct flow *oldest = t->connecting_old;
        for (int side = 0; side < SIDE_CNT; side++)
            leg_drop(&oldest->legs[side]);
        flow_kill(t, oldest);
    }
    if (t->cnt < t->max_cnt)
        f = calloc(1, sizeof(*f));
    if (!f) {
        buf_unref(syn);
        return NULL;
    }
    f->tuple = *tuple;
    f->inbound = inbound;
    f->syn = syn;
    f->legs[SIDE_INNER].side = SIDE_INNER;
    f->legs[SIDE_OUTER].side = SIDE_OUTER;
    f->started_s = clock_epoch_s();
    f->opened_us = clock_us();
    f->opened_ms = now_ms;
    link_connecting(t, f, now_ms);

    if (t->cnt >= t->bucket_cnt)
        grow(t);
    struct flow **bucket = bucket_of(t, tuple);
    f->chain = *bucket;
    *bucket = f;
    t->cnt++;
    return f;
}

void flow_queue(struct flow_table *t, struct flow *f)
{
    if (f->queued)
        return;
    f->queued = true;
    f->queue_next = NULL;
    *t->queue_end = f;
    t->queue_end = &f->queue_next;
}

struct flow *flow_next_queued(struct flow_table *t)
{
    struct flow *f = t->queue;

    if (!f)
        return NULL;
    t->queue = f->queue_next;
    if (!t->queue)
        t->queue_end = &t->queue;
    f->queued = false;
    return f;
}

void flow_touch(struct flow_table *t, struct flow *f, uint64_t now_ms)
{
    unlink_connecting(t, f);
    link_connecting(t, f, now_ms);
}

void flow_start_relaying(struct flow_table *t, struct flow *f)
{
    assert(f->phase == FLOW_CONNECTING);
    unlink_connecting(t, f);
    buf_unref(f->syn);
    f->syn = NULL;
    f->phase = FLOW_RELAYING;
}

void flow_start_keying(struct flow_table *t, struct flow *f, uint64_t now_ms)
{
    assert(f->phase == FLOW_RELAYING && !f->keying);
    f->keying = true;
    f->touched_ms = now_ms;
    append(&t->keying_old, &t->keying_new, f);
}

void flow_stop_keying(struct flow_table *t, struct flow *f)
{
    if (f->keying)
        take_out(&t->keying_old, &t->keying_new, f);
    f->keying = false;
}

void flow_start_half(struct flow_table *t, struct flow *f, uint64_t now_ms)
{
    assert(f->phase == FLOW_RELAYING && !f->keying);
    flow_stop_half(t, f);
    f->half = true;
    f->touched_ms = now_ms;
    append(&t->half_old, &t->half_new, f);
}

void flow_stop_half(struct flow_table *t, struct flow *f)
{
    if (f->half)
        take_out(&t->half_old, &t->half_new, f);
    f->half = false;
}

void flow_kill(struct flow_table *t, struct flow *f)
{
    struct flow **link = bucket_of(t, &f->tuple);

    if (f->phase == FLOW_DEAD)
        return;
    assert(!f->legs[SIDE_INNER].pcb && !f->legs[SIDE_OUTER].pcb);
    if (f->phase == FLOW_CONNECTING)
        unlink_connecting(t, f);
    flow_stop_keying(t, f);
    flow_stop_half(t, f);
    f->phase = FLOW_DEAD;
    /* Off the table at once: the tuple may be opened anew before this is reaped. */
    while (*link != f)
        link = &(*link)->chain;
    *link = f->chain;
    flow_queue(t, f);
}

void flow_reap(struct flow_table *t, struct flow *f)
{
    assert(f->phase == FLOW_DEAD);
    session_free(f->session);
    policy_unref(f->policy); /* after the session, which borrows from it, or from own */
    free(f->own);
    buf_unref(f->syn);
    t->cnt--;
    free(f);
}

void flow_each(struct flow_table *t, bool (*fn)(struct flow *f, void *arg), void *arg)
{
    for (size_t i = 0; i < t->bucket_cnt; i++) {
        struct flow *next;
        for (struct flow *f = t->buckets[i]; f; f = next) {
            next = f->chain; /* fn may kill f */
            if (!fn(f, arg))
                return;
        }
    }
}

/* Counts with the highest bit first, as Redis' SCAN does: when the table doubles, the
 * flows of bucket b go to b and b + old size, which stand side by side in this order. */
static size_t next_bucket(size_t bucket, size_t bucket_cnt)
{
    size_t bit = bucket_cnt >> 1;

    while (bucket & bit) {
        bucket ^= bit;
        bit >>= 1;
    }
    return bucket | bit;
}

bool flow_scan(const struct flow_table *t, size_t *cursor, void (*fn)(struct flow *f, void *arg),
               void *arg)
{
    for (struct flow *f = t->buckets[*cursor]; f; f = f->chain)
        fn(f, arg);
    *cursor = next_bucket(*cursor, t->bucket_cnt);
    return *cursor != 0;
}
