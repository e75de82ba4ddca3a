/* SPDX-License-Identifier: BSD-3-Clause
 * One relayed connection, and the table of all of them.
 *
 * How it works: a flow is found by its tuple from either side. It begins with a
 * SYN, which is kept while the other leg connects (phase CONNECTING); then both
 * legs exist (RELAYING); in the end it is DEAD and freed by flow_reap(), at the
 * end of a loop turn, never inside a callback.
 *
 *   phase       valid                          ways out
 *   CONNECTING  syn, the leg away from the     RELAYING when that leg is established;
 *               opener                         DEAD when it is refused or times out
 *   RELAYING    both legs, session             DEAD when both legs are gone
 *   DEAD        nothing but the list link
 */
#ifndef TCNS_TUNNEL_FLOW_H
#define TCNS_TUNNEL_FLOW_H

#include "base/siphash.h"
#include "tcp/leg.h"
#include "tcpcrypt/session.h"
#include "tunnel/policy.h"
#include "tunnel/tunnel.h"

/* What holds for one connection alone. */
struct flow_own {
    enum tunnel_policy policy;
    struct session_config session;
};

enum flow_phase { FLOW_CONNECTING, FLOW_RELAYING, FLOW_DEAD };

/* Of one end, see silence.h. */
struct silence {
    bool heard; /* since the last look, or the last probe of the program */
    uint8_t missed;
};

struct flow {
    struct flow *chain;           /* same bucket */
    struct flow *queue_next;      /* has events, or is dead */
    struct flow *older, *younger; /* list of the CONNECTING ones, of those that await
                                     keys, or of half-closed ones */
    struct tuple tuple;
    struct leg legs[SIDE_CNT];
    struct session *session; /* NULL: plain TCP */
    struct policy *policy;   /* a reference: what held when it was opened */
    struct flow_own *own;    /* in place of what policy says; NULL: nothing */
    struct buf *syn;         /* the SYN that opened it: (off, len) is an IP packet */
    enum flow_phase phase;
    enum tunnel_reason reason; /* why it is encrypted or clear */
    unsigned rule;             /* of policy; 0: its default */
    bool inbound;              /* the peer opened it */
    bool authenticated;        /* the application says so */
    bool crossing;             /* both opened it at once: the SYNs settled ENO */
    bool settled;              /* encrypted or clear has been told */
    enum tunnel_end ending;    /* one end is gone; so it ends when what it sent has gone on */
    bool queued;
    bool fin_in[SIDE_CNT];       /* that side has sent all it has */
    uint64_t bytes_in[SIDE_CNT]; /* application bytes that came from that side */
    uint64_t active_bytes;       /* bytes_in together, at the last look for idleness */
    uint32_t idle_s;
    uint32_t probed_generation; /* the peer's key set when it was asked to rekey */
    bool keying;                /* RELAYING, and in the list of those that await keys */
    bool half;                  /* likewise of those of which one half has ended */
    struct silence by_look[SIDE_CNT], by_probe;
    uint64_t opened_ms;  /* its first SYN */
    uint64_t touched_ms; /* CONNECTING: last SYN of the opener; keying: begin; half: last look */
    double started_s;    /* wall clock */
    int keylog_fd;       /* see struct tunnel_config */
    int64_t opened_us;   /* clock_us() then */
};

struct flow_table {
    struct siphash_key key;
    struct flow **buckets;
    size_t bucket_cnt; /* a power of two */
    size_t cnt, max_cnt;
    struct flow *queue, **queue_end; /* to be run, then reaped */
    struct flow *connecting_old, *connecting_new;
    size_t connecting_cnt;
    struct flow *keying_old, *keying_new; /* in the order in which they began */
    struct flow *half_old, *half_new;     /* in the order of the last look */
};

/* Return: 0; -ENOMEM. */
int flow_table_init(struct flow_table *t, const struct siphash_key *key, size_t max_cnt);
/* The flows must be gone. */
void flow_table_done(struct flow_table *t);

struct flow *flow_find(const struct flow_table *t, const struct tuple *tuple);

/* A flow in phase CONNECTING, opened by syn; takes syn also when it fails.
 * Return: NULL at the cap or out of memory. */
struct flow *flow_new(struct flow_table *t, const struct tuple *tuple, bool inbound,
                      struct buf *syn, uint64_t now_ms);

/* The flow has something to do; it will come out of flow_next_queued(). */
void flow_queue(struct flow_table *t, struct flow *f);
struct flow *flow_next_queued(struct flow_table *t);

/* CONNECTING goes on: it is the youngest again. */
void flow_touch(struct flow_table *t, struct flow *f, uint64_t now_ms);
/* Both legs exist now; the SYN is dropped. */
void flow_start_relaying(struct flow_table *t, struct flow *f);
/* Its keys are awaited from now on; not any more. */
void flow_start_keying(struct flow_table *t, struct flow *f, uint64_t now_ms);
void flow_stop_keying(struct flow_table *t, struct flow *f);
/* One half has ended, or was looked at; no more is to be looked at. Not while keys are awaited. */
void flow_start_half(struct flow_table *t, struct flow *f, uint64_t now_ms);
void flow_stop_half(struct flow_table *t, struct flow *f);
/* Nothing more is to happen; both legs must be gone. */
void flow_kill(struct flow_table *t, struct flow *f);
/* Frees a dead flow. */
void flow_reap(struct flow_table *t, struct flow *f);

/* Calls fn for all, until it returns false; fn must not add or reap flows. */
void flow_each(struct flow_table *t, bool (*fn)(struct flow *f, void *arg), void *arg);

/* One step of a walk that may take any number of calls: calls fn for the flows of one
 * bucket. *cursor is 0 before the first step. Flows may come, go and make the table
 * grow between steps; those that are there all the time are given exactly once.
 * Return: false after the last step. */
bool flow_scan(const struct flow_table *t, size_t *cursor, void (*fn)(struct flow *f, void *arg),
               void *arg);

static inline struct flow *flow_from_leg(struct leg *leg)
{
    return (struct flow *)(void *)((char *)(leg - leg->side) - offsetof(struct flow, legs));
}

#endif
