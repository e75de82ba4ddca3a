/* SPDX-License-Identifier: BSD-3-Clause
 * What the files of the tunnel itself share: tunnel.c makes and describes it, loop.c says
 * when something happens, packets.c what happens to a packet.
 */
#ifndef TCNS_TUNNEL_TUNNEL_IMPL_H
#define TCNS_TUNNEL_TUNNEL_IMPL_H

#include <ev.h>

#include "tunnel/awake.h"
#include "tunnel/capture.h"
#include "tunnel/older.h"
#include "tunnel/relay.h"
#include "tunnel/tunnel.h"
#include "tunnel/uplinks.h"

struct tunnel {
    struct tunnel_config cfg;
    struct relay relay;
    struct older_table older;
    struct captures captures;
    enum tunnel_drain drain;
    struct uplinks *uplinks;
    ev_io tun_io;
    ev_timer tick, sweep;
    ev_check turn_start;
    ev_prepare turn_end;
    ev_idle fill_keys, stay_awake;
    struct awake awake;
    int64_t bulk_until_us; /* large packets pass */
    int64_t turn_start_us; /* when the loop last woke; 0: it has not */
    unsigned sweeps;
    struct stack_counters long_since; /* see packets_watch_long() */
    uint64_t turn_us[SIDE_CNT];       /* when the last batch from that side was worked off */
    bool busy[SIDE_CNT];              /* more input is waiting on that side */
};

static inline struct tunnel_counters *counters(struct tunnel *t)
{
    return &t->relay.counters;
}

/* Starts lwIP. Its callbacks carry no context of ours, so there is one tunnel per
 * process. Return: 0; -EBUSY when there is one; -ENOMEM. */
int packets_start(struct tunnel *t);
void packets_stop(void);
/* One packet from a device. via: the uplink's index, 0 for the TUN. */
void packets_input(struct tunnel *t, enum side side, int via, const struct vnet_packet *vp);
/* How long packets to the TUN device may be, after a change of what that depends on. */
void packets_set_gso_max_len(struct tunnel *t);
/* To be called now and then: makes them short again when many long ones get lost. */
void packets_watch_long(struct tunnel *t);
/* The peer is unreachable: the end of a connection that the application is opening, which is
 * told so with this ICMP code. Nothing for an established one, where such errors are soft. */
void packets_fail_opening(struct tunnel *t, struct flow *f, uint8_t code);

extern const struct uplinks_ops loop_uplinks_ops;
void loop_start(struct tunnel *t);
void loop_stop(struct tunnel *t);

#endif
