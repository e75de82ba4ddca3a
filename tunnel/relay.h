/* SPDX-License-Identifier: BSD-3-Clause
 * What happens to a flow: opening, moving bytes between its legs through the
 * tcpcrypt session, ending.
 *
 * How it works: the SYN of one side opens the leg of the other side; only when
 * that is established the SYN is answered, so the opener sees refused,
 * unreachable and silence as it would without us. Then one function per
 * direction pumps, whenever bytes arrived, room came free or keys were agreed.
 * There are no queues of our own: what one leg has no room for stays in the
 * receive window of the other.
 */
#ifndef TCNS_TUNNEL_RELAY_H
#define TCNS_TUNNEL_RELAY_H

#include "tunnel/fallback.h"
#include "tunnel/flow.h"
#include "tunnel/history.h"
#include "tunnel/metrics.h"
#include "tunnel/tunnel.h"
#include "tunnel/wish.h"

struct relay {
    struct flow_table flows;
    struct policy *policy;      /* of new connections */
    struct resume_cache *cache; /* may be NULL */
    struct kex_pool *keys;      /* likewise */
    wish_fn wish;               /* NULL: nobody wishes */
    void *wish_arg;
    bool has_keepalive;         /* a rule asks for it, or did */
    uint64_t key_timeout_ms;    /* for a key exchange; 0: no limit */
    uint64_t fallback_ms;       /* how long a peer stays in the fallback table */
    struct fallback_table fallback;
    tunnel_event_fn on_event; /* NULL: none */
    void *event_arg;
    struct tunnel_counters counters;
    struct tunnel_metrics metrics;
    int keylog_fd; /* see struct tunnel_config */
    struct history history;
};

/* Takes the policy, for connections that are opened from now on. */
void relay_set_policy(struct relay *r, struct policy *policy);

/* A SYN without a flow; takes buf, in which packet lies. */
void relay_open(struct relay *r, const struct tuple *tuple, enum side side, struct buf *buf,
                const struct packet *packet, uint64_t now_ms);
/* Another SYN, or other segment, of the opener while its flow is CONNECTING. */
void relay_on_opener(struct relay *r, struct flow *f, const struct packet *packet, uint64_t now_ms);
/* A segment for a leg that is there. Return: false when that has ended the flow. */
bool relay_note(struct relay *r, struct flow *f, enum side side, const struct packet *packet);
/* The peer's SYN has come again before its ACK; the SYN-ACK is about to. */
void relay_on_syn_again(struct flow *f, const struct packet *packet);
/* The far end of a CONNECTING flow can't be reached. */
void relay_fail_opening(struct relay *r, struct flow *f, enum tunnel_end end);

/* Called from within lwIP when a leg's handshake is complete. */
void relay_on_established(struct relay *r, struct leg *leg, const struct packet *packet);

/* Called when the peer's SYN has crossed ours. */
void relay_on_crossing_syn(struct relay *r, struct leg *leg, const struct packet *packet);

/* Works off all queued flows: events, pumping, reaping. */
void relay_run(struct relay *r);
/* A second has passed: openers that have given up are forgotten, idle sessions prove
 * that they are alive. */
void relay_tick(struct relay *r, uint64_t now_ms);
/* RST to both ends of every flow. */
void relay_abort_all(struct relay *r);

void relay_describe(const struct flow *f, struct tunnel_session *ret);

#endif
