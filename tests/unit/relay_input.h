/* SPDX-License-Identifier: BSD-3-Clause
 * Input to a relay as tunnel.c does it, without devices: which flow, which leg.
 */
#ifndef TCNS_TESTS_RELAY_INPUT_H
#define TCNS_TESTS_RELAY_INPUT_H

#include "tcp/timewait.h"
#include "tunnel/relay.h"

static inline struct tuple relay_tuple_of(enum side side, const struct packet *p)
{
    if (side == SIDE_INNER)
        return (struct tuple){p->src, p->dst, p->src_port, p->dst_port};
    return (struct tuple){p->dst, p->src, p->dst_port, p->src_port};
}

static inline void relay_flow_input(struct relay *r, struct flow *f, enum side side,
                                    struct buf *buf, struct packet *packet, uint64_t now_ms)
{
    struct leg *leg = &f->legs[side];

    if (f->phase == FLOW_CONNECTING && f->inbound == (side == SIDE_OUTER)) {
        relay_on_opener(r, f, packet, now_ms);
        buf_unref(buf);
        return;
    }
    if (!leg->pcb) {
        if (!timewait_input(side, &f->tuple, packet))
            stack_reset(side, packet);
        buf_unref(buf);
        return;
    }
    if (!relay_note(r, f, side, packet)) {
        buf_unref(buf);
        return;
    }
    if (side == SIDE_OUTER && !(packet->flags & PACKET_SYN))
        leg->ack_option.len = 0;
    if (side == SIDE_OUTER && leg_is_syn_again(leg, packet))
        relay_on_syn_again(f, packet);
    leg_input(leg, buf, packet);
}

/* Takes buf, in which packet lies. */
static inline void relay_input(struct relay *r, enum side side, struct buf *buf,
                               struct packet *packet, uint64_t now_ms)
{
    struct tuple tuple = relay_tuple_of(side, packet);
    struct flow *f = flow_find(&r->flows, &tuple);

    if (f) {
        relay_flow_input(r, f, side, buf, packet, now_ms);
        return;
    }
    if (timewait_input(side, &tuple, packet)) {
        buf_unref(buf);
        return;
    }
    if ((packet->flags & (PACKET_SYN | PACKET_ACK | PACKET_RST)) == PACKET_SYN) {
        relay_open(r, &tuple, side, buf, packet, now_ms);
        return;
    }
    stack_reset(side, packet);
    buf_unref(buf);
}

#endif
