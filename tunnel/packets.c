/* SPDX-License-Identifier: BSD-3-Clause
 * What happens to a packet: in, to its flow, to what is older than we are, or nowhere; out,
 * to the device of its side.
 */
#include <errno.h>
#include <inttypes.h>
#include <sodium.h>

#include "base/clock.h"
#include "base/log.h"
#include "tcp/timewait.h"
#include "tunnel/icmp.h"
#include "tunnel/share.h"
#include "tunnel/tunnel_impl.h"

#define MTU_DEFAULT 1500

/* Of a sample of long packets so many are lost, and a third, before there are no more. */
#define LONG_SAMPLE_CNT   64
#define LONG_LOST_MIN_CNT 3
#define LONG_LOST_SHARE   3

static struct tunnel *the_tunnel;

/* --- Out ------------------------------------------------------------------------- */

static bool uplink_output(struct tunnel *t, const struct stack_tx *tx)
{
    switch (uplinks_send(t->uplinks, tx)) {
    case 0:
        counters(t)->uplink_tx_packets++;
        if (t->captures.cnt)
            captures_tx(&t->captures, &t->relay.flows, tx);
        return true;
    case -EAGAIN:
        return false;
    case -EINPROGRESS:
        return true;
    case -ENETUNREACH:
        counters(t)->drop_no_route++;
        return true;
    default:
        counters(t)->drop_tx++;
        return true;
    }
}

/* What is captured has the lengths that readers of captures expect. */
void packets_set_gso_max_len(struct tunnel *t)
{
    stack_set_gso_max_len(SIDE_INNER, t->captures.cnt ? PACKET_MAX_LEN : t->cfg.tun_gso_max_len);
}

static void lower_gso_max_len(struct tunnel *t, size_t len)
{
    t->cfg.tun_gso_max_len = len > PACKET_MAX_LEN ? len : PACKET_MAX_LEN;
    packets_set_gso_max_len(t);
}

/* The kernel has no memory in pieces so large: it gets along with 17 for a packet. */
static void shorten_packets(struct tunnel *t, size_t len)
{
    lower_gso_max_len(t, len / 2);
    log_info("the TUN device did not take a packet of %zu bytes: at most %zu from now on", len,
             t->cfg.tun_gso_max_len);
}

/* Between us and the program no network is that would lose some. But its kernel may be told to
 * refuse hop-by-hop options (net.ipv6.max_hbh_opts_number), or a firewall may: in vain each long
 * packet would wait for its retransmission. */
void packets_watch_long(struct tunnel *t)
{
    const struct stack_counters *now = stack_counters();
    uint64_t sent = now->long_packets - t->long_since.long_packets;
    uint64_t lost = now->long_retransmits - t->long_since.long_retransmits;

    if (t->cfg.tun_gso_max_len == PACKET_MAX_LEN)
        return;
    if (lost >= LONG_LOST_MIN_CNT && lost * LONG_LOST_SHARE >= sent) {
        lower_gso_max_len(t, PACKET_MAX_LEN);
        log_warn("packets of more than 64 KiB do not reach the programs (%" PRIu64 " of %" PRIu64
                 " lost): ordinary ones from now on",
                 lost, sent);
    }
    if (sent >= LONG_SAMPLE_CNT)
        t->long_since = *now;
}

static bool on_output(const struct stack_tx *tx)
{
    struct tunnel *t = the_tunnel;

    if (tx->side == SIDE_OUTER)
        return uplink_output(t, tx);
    /* A TUN never asks to wait: it queues or drops. */
    int err = vnet_send(t->cfg.tun_fd, tx, NULL, 0);
    if (err == 0) {
        counters(t)->tun_tx_packets++;
        if (t->captures.cnt)
            captures_tx(&t->captures, &t->relay.flows, tx);
        return true;
    }
    counters(t)->drop_tx++;
    if (err != -EIO && tx->hdr_len + tx->data_len > PACKET_MAX_LEN) /* it is down: that passes */
        shorten_packets(t, tx->hdr_len + tx->data_len);
    return true;
}

static void on_leg_event(struct leg *leg)
{
    flow_queue(&the_tunnel->relay.flows, flow_from_leg(leg));
}

static void on_leg_established(struct leg *leg, const struct packet *packet)
{
    relay_on_established(&the_tunnel->relay, leg, packet);
}

static void on_crossing_syn(struct leg *leg, const struct packet *packet)
{
    relay_on_crossing_syn(&the_tunnel->relay, leg, packet);
}

static const struct stack_ops stack_callbacks = {
    .output = on_output,
    .on_event = on_leg_event,
    .on_established = on_leg_established,
    .on_crossing_syn = on_crossing_syn,
};

static void write_icmp(struct tunnel *t, const struct packet *packet, uint8_t code)
{
    static const struct virtio_net_hdr none;
    uint8_t bytes[ICMP_MAX_LEN];
    size_t len = icmp_make_unreachable(packet, code, bytes);

    if (vnet_forward(t->cfg.tun_fd, &none, bytes, len, NULL, 0) < 0)
        counters(t)->drop_tx++;
    else if (t->captures.cnt)
        captures_tx_bytes(&t->captures, &t->relay.flows, SIDE_INNER, bytes, len, false);
}

/* --- In -------------------------------------------------------------------------- */

static struct tuple tuple_of(enum side side, const struct packet *p)
{
    if (side == SIDE_INNER)
        return (struct tuple){p->src, p->dst, p->src_port, p->dst_port};
    return (struct tuple){p->dst, p->src, p->dst_port, p->src_port};
}

static void forward_older(struct tunnel *t, struct older *o, enum side side,
                          const struct vnet_packet *vp, const struct packet *packet)
{
    struct nexthop_path path = {.src = packet->src, .dst = packet->dst};
    int err = side == SIDE_INNER
                  ? uplinks_forward(t->uplinks, &path, &vp->hdr, packet->ip, packet->len)
                  : vnet_forward(t->cfg.tun_fd, &vp->hdr, packet->ip, packet->len, NULL, 0);

    if (err < 0)
        counters(t)->drop_tx++;
    else if (t->captures.cnt)
        captures_tx_bytes(&t->captures, &t->relay.flows, side_other(side), packet->ip, packet->len,
                          vp->hdr.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM);
    older_note(&t->older, o, side, packet, clock_coarse_ms());
}

/* Gives the packet to fn in a buffer that fn takes. */
static struct buf *own_packet(struct tunnel *t, const struct vnet_packet *vp, struct packet *packet)
{
    uint8_t *ip;
    struct buf *b;

    if (packet->data_len == 0 && !(packet->flags & PACKET_SYN)) {
        ip = vp->ip; /* lwIP keeps nothing of it */
        b = buf_ref(vp->buf);
    } else {
        b = vnet_own(vp, &ip);
    }
    if (!b) {
        counters(t)->drop_memory++;
        return NULL;
    }
    packet->tcp += ip - packet->ip;
    packet->data += ip - packet->ip;
    packet->ip = ip;
    return b;
}

/* Its packets pass untouched; so it goes on when the tunnel is gone. */
static bool pass_new(struct tunnel *t, enum side side, const struct tuple *tuple,
                     const struct vnet_packet *vp, const struct packet *packet)
{
    if (tunnel_pass(t, tuple) < 0)
        return false;
    struct older *o = older_find(&t->older, tuple);
    o->is_new = true;
    forward_older(t, o, side, vp, packet);
    return true;
}

static void open_while_draining(struct tunnel *t, enum side side, const struct tuple *tuple,
                                const struct vnet_packet *vp, const struct packet *packet)
{
    bool inbound = side == SIDE_OUTER;
    unsigned rule = policy_find(t->relay.policy, tuple, inbound);
    struct policy_verdict v =
        policy_verdict(t->relay.policy, rule, inbound ? SESSION_ROLE_B : SESSION_ROLE_A);

    if (t->drain == TUNNEL_DRAIN_CLEAR && v.policy != TUNNEL_POLICY_REQUIRE &&
        pass_new(t, side, tuple, vp, packet))
        return;
    counters(t)->flows_refused++;
    stack_reset(side, packet);
}

static void open_flow(struct tunnel *t, enum side side, const struct tuple *tuple,
                      const struct vnet_packet *vp, struct packet *packet)
{
    struct nexthop_path path = {.src = packet->src, .dst = packet->dst};
    struct nexthop_way way;

    if (side == SIDE_INNER &&
        nexthop_lookup(uplinks_nexthop(t->uplinks), &path, &way) == NEXTHOP_NO_ROUTE) {
        write_icmp(t, packet, icmp_code(ICMP_REASON_NO_ROUTE, packet->v6));
        counters(t)->drop_no_route++;
        return;
    }
    struct buf *b = own_packet(t, vp, packet);
    if (b)
        relay_open(&t->relay, tuple, side, b, packet, clock_coarse_ms());
}

/* The uplink's filter copies none of these; should one come, it is not ours to reset. */
static bool is_bypassed(const struct tunnel *t, const struct tuple *tuple)
{
    for (size_t i = 0; i < t->cfg.bypass_cnt; i++) {
        const struct port_range *r = &t->cfg.bypass[i];

        if ((tuple->local_port >= r->first && tuple->local_port <= r->last) ||
            (tuple->peer_port >= r->first && tuple->peer_port <= r->last))
            return true;
    }
    for (size_t i = 0; i < t->cfg.bypass_match_cnt; i++)
        if (policy_match_takes(&t->cfg.bypass_matches[i], tuple))
            return true;
    return false;
}

/* A host that forwards may do so under its own address; only its kernel knows whose answers
 * these are. So in doubt no RST. */
static bool may_be_forwarded(const struct tunnel *t, const struct packet *packet)
{
    return nexthop_forwards(uplinks_nexthop(t->uplinks), !packet->v6);
}

static void no_flow(struct tunnel *t, enum side side, const struct tuple *tuple,
                    const struct vnet_packet *vp, struct packet *packet)
{
    bool opens = packet_is_opening(packet);
    struct older *o = older_find(&t->older, tuple);

    if (o && !opens) {
        forward_older(t, o, side, vp, packet);
        return;
    }
    if (o)
        older_remove(&t->older, o); /* the tuple begins a new life */
    /* A SYN of the application's: it was sent before that was bypassed, and comes again past us. */
    if ((side == SIDE_OUTER || opens) && is_bypassed(t, tuple))
        return;
    if (timewait_input(side, tuple, packet))
        return;
    if (opens && t->drain != TUNNEL_DRAIN_NONE) {
        open_while_draining(t, side, tuple, vp, packet);
        return;
    }
    if (opens) {
        open_flow(t, side, tuple, vp, packet);
        return;
    }
    if (side == SIDE_OUTER && may_be_forwarded(t, packet)) {
        counters(t)->drop_not_ours++;
        return;
    }
    counters(t)->rst_unknown++;
    stack_reset(side, packet);
}

static bool has_its_share(const struct tunnel *t, const struct flow *f)
{
    size_t limit = share_limit(buf_total(), t->cfg.memory_max_len, t->relay.flows.cnt);

    return limit < SIZE_MAX &&
           leg_held(&f->legs[SIDE_INNER]) + leg_held(&f->legs[SIDE_OUTER]) >= limit;
}

static void flow_input(struct tunnel *t, struct flow *f, enum side side,
                       const struct vnet_packet *vp, struct packet *packet)
{
    struct leg *leg = &f->legs[side];

    if (f->phase == FLOW_CONNECTING && f->inbound == (side == SIDE_OUTER)) {
        relay_on_opener(&t->relay, f, packet, clock_coarse_ms());
        return;
    }
    if (!leg->pcb) {
        /* A SYN that opens anew comes again when the other leg has ended, too. */
        if (!timewait_input(side, &f->tuple, packet) && !packet_is_opening(packet))
            stack_reset(side, packet);
        return;
    }
    if (packet->data_len > 0 && has_its_share(t, f)) {
        counters(t)->drop_memory++; /* it comes again when there is room */
        return;
    }
    if (!relay_note(&t->relay, f, side, packet))
        return;
    struct buf *b = own_packet(t, vp, packet);
    if (!b)
        return;
    /* RFC 8547 4.6: our segments carry ENO until a non-SYN segment has come. */
    if (side == SIDE_OUTER && !(packet->flags & PACKET_SYN))
        leg->ack_option.len = 0;
    if (side == SIDE_OUTER && leg_is_syn_again(leg, packet))
        relay_on_syn_again(f, packet);
    leg_input(leg, b, packet);
}

void packets_fail_opening(struct tunnel *t, struct flow *f, uint8_t code)
{
    struct packet syn;

    if (f->phase == FLOW_CONNECTING && !f->inbound &&
        packet_parse(buf_data(f->syn), f->syn->len, true, &syn) == PACKET_TCP) {
        write_icmp(t, &syn, code);
        relay_fail_opening(&t->relay, f, TUNNEL_END_UNREACHABLE);
    }
}

static void on_icmp_error(struct tunnel *t, const struct vnet_packet *vp)
{
    struct icmp_error e;

    if (!icmp_parse(vp->ip, vp->len, &e))
        return;
    struct flow *f = flow_find(&t->relay.flows, &e.tuple);
    if (!f || !leg_owns_seq(&f->legs[SIDE_OUTER], e.seq))
        return; /* the kernel has its own look at ICMP for its own connections */
    if (e.too_big) {
        leg_set_path_mtu(&f->legs[SIDE_OUTER], e.mtu);
        return;
    }
    packets_fail_opening(t, f, e.code);
}

static void count_verdict(struct tunnel *t, enum packet_verdict verdict)
{
    switch (verdict) {
    case PACKET_TCP:
    case PACKET_NOT_TCP:
        break;
    case PACKET_TRUNCATED:
        counters(t)->drop_truncated++;
        break;
    case PACKET_MALFORMED:
        counters(t)->drop_malformed++;
        break;
    case PACKET_CHECKSUM:
        counters(t)->drop_checksum++;
        break;
    case PACKET_FRAGMENT:
        counters(t)->drop_fragment++;
        break;
    }
}

static bool is_link_local(const struct tuple *tuple)
{
    return IN6_IS_ADDR_LINKLOCAL(&tuple->local.in6) || IN6_IS_ADDR_LINKLOCAL(&tuple->peer.in6);
}

static void not_ours(struct tunnel *t, enum side side, const struct packet *packet)
{
    struct tuple sent = tuple_of(SIDE_INNER, packet);

    if (side == SIDE_OUTER && nexthop_is_local(uplinks_nexthop(t->uplinks), &sent.local))
        t->cfg.passed_by(t->cfg.host_arg, &sent);
    else
        counters(t)->drop_not_ours++;
}

/* via: the uplink that it came in by; 0: the TUN device. */
void packets_input(struct tunnel *t, enum side side, int via, const struct vnet_packet *vp)
{
    struct packet packet;

    if (t->captures.cnt)
        captures_rx(&t->captures, &t->relay.flows, side, vp);
    enum packet_verdict verdict = packet_parse(vp->ip, vp->len, vnet_csum_ok(&vp->hdr), &packet);

    if (verdict != PACKET_TCP) {
        count_verdict(t, verdict);
        if (verdict == PACKET_NOT_TCP && side == SIDE_OUTER)
            on_icmp_error(t, vp);
        return;
    }
    packet.via = via;
    struct tuple tuple = tuple_of(side, &packet);
    if (side == SIDE_OUTER && is_link_local(&tuple))
        return; /* the kernel's own */
    if (!nexthop_is_local(uplinks_nexthop(t->uplinks), &tuple.local)) {
        not_ours(t, side, &packet);
        return;
    }
    struct flow *f = flow_find(&t->relay.flows, &tuple);
    if (f)
        flow_input(t, f, side, vp, &packet);
    else
        no_flow(t, side, &tuple, vp, &packet);
}

/* --- Start and end ------------------------------------------------------------------ */

int packets_start(struct tunnel *t)
{
    /* Until the first uplink says more, see on_mtu(). */
    struct stack_config cfg = {.ops = &stack_callbacks, .mtu = {MTU_DEFAULT, MTU_DEFAULT}};

    if (the_tunnel)
        return -EBUSY;
    randombytes_buf(&cfg.isn_key, sizeof(cfg.isn_key));
    int err = stack_init(&cfg);
    if (err == 0)
        the_tunnel = t;
    return err;
}

void packets_stop(void)
{
    stack_done();
    the_tunnel = NULL;
}
