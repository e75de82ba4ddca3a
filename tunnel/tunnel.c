/* SPDX-License-Identifier: BSD-3-Clause
 * The loop around the data path: packets in, flows run, packets out.
 *
 * How it works: a readable device gives a handful of packets; each finds its flow
 * and goes through lwIP, which only notes events; then the flows that have
 * events are run, and what came of it is flushed. Nothing blocks.
 */
#include "tunnel/tunnel.h"

#include <errno.h>
#include <ev.h>
#include <poll.h>
#include <sodium.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "tcp/timewait.h"
#include "tcpcrypt/kex_pool.h"
#include "tcpcrypt/resume.h"
#include "tunnel/capture.h"
#include "tunnel/icmp.h"
#include "tunnel/older.h"
#include "tunnel/relay.h"
#include "tunnel/share.h"
#include "tunnel/uplinks.h"

/* Input before flows are run: measured, see docs/PERFORMANCE.md. */
#define BATCH_MAX_CNT       16
#define BATCH_MAX_LEN       (256u * 1024) /* and the frames made of it: a processor's own cache */
#define BURST_US            20u
#define LARGE_PACKET_LEN    4096u
#define SWEEP_S             1.0
#define NEXTHOP_TICK_SWEEPS 5
#define MEMORY_DEFAULT_LEN  (256u << 20)
#define FLOW_DEFAULT_CNT    100000
#define FALLBACK_DEFAULT_S  600
#define MTU_DEFAULT         1500

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
    ev_idle fill_keys;
    int64_t turn_start_us; /* when the loop last woke; 0: it has not */
    unsigned sweeps;
    uint64_t turn_us[SIDE_CNT]; /* when the last batch from that side was worked off */
    bool busy[SIDE_CNT];        /* more input is waiting on that side */
};

/* lwIP's callbacks carry no context of ours, and there is one tunnel per process. */
static struct tunnel *the_tunnel;

static struct tunnel_counters *counters(struct tunnel *t)
{
    return &t->relay.counters;
}

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

static bool on_output(const struct stack_tx *tx)
{
    struct tunnel *t = the_tunnel;

    if (tx->side == SIDE_OUTER)
        return uplink_output(t, tx);
    /* A TUN never asks to wait: it queues or drops. */
    if (vnet_send(t->cfg.tun_fd, tx, NULL, 0) == 0) {
        counters(t)->tun_tx_packets++;
        if (t->captures.cnt)
            captures_tx(&t->captures, &t->relay.flows, tx);
    } else {
        counters(t)->drop_tx++;
    }
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
    bool opens = (packet->flags & (PACKET_SYN | PACKET_ACK | PACKET_RST)) == PACKET_SYN;
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
        if (!timewait_input(side, &f->tuple, packet))
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

static void on_icmp_error(struct tunnel *t, const struct vnet_packet *vp)
{
    struct icmp_error e;
    struct packet syn;

    if (!icmp_parse(vp->ip, vp->len, &e))
        return;
    struct flow *f = flow_find(&t->relay.flows, &e.tuple);
    if (!f || !leg_owns_seq(&f->legs[SIDE_OUTER], e.seq))
        return; /* the kernel has its own look at ICMP for its own connections */
    if (e.too_big) {
        leg_set_path_mtu(&f->legs[SIDE_OUTER], e.mtu);
        return;
    }
    /* Soft for an established connection, the end of one that is being opened. */
    if (f->phase == FLOW_CONNECTING && !f->inbound &&
        packet_parse(buf_data(f->syn), f->syn->len, true, &syn) == PACKET_TCP) {
        write_icmp(t, &syn, e.code);
        relay_fail_opening(&t->relay, f, TUNNEL_END_UNREACHABLE);
    }
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

/* via: the uplink that it came in by; 0: the TUN device. */
static void on_packet(struct tunnel *t, enum side side, int via, const struct vnet_packet *vp)
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
        counters(t)->drop_not_ours++;
        return;
    }
    struct flow *f = flow_find(&t->relay.flows, &tuple);
    if (f)
        flow_input(t, f, side, vp, &packet);
    else
        no_flow(t, side, &tuple, vp, &packet);
}

/* --- The loop -------------------------------------------------------------------- */

static void start_turn(struct tunnel *t)
{
    if (!stack_needs_tick())
        stack_set_time(clock_coarse_ms());
}

static void end_turn(struct tunnel *t)
{
    relay_run(&t->relay);
    stack_set_busy(SIDE_INNER, t->busy[SIDE_INNER]);
    stack_set_busy(SIDE_OUTER, t->busy[SIDE_OUTER]);
    stack_flush();
    if (stack_needs_tick() && !ev_is_active(&t->tick))
        ev_timer_again(t->cfg.loop, &t->tick);
}

/* from: NULL for the TUN device. */
static int read_packet(struct tunnel *t, struct uplink *from, struct vnet_packet *vp)
{
    int n = from ? uplink_read(from, vp) : vnet_read(t->cfg.tun_fd, 0, vp);

    if (n > 0 && !from)
        counters(t)->tun_rx_packets++;
    else if (n > 0)
        counters(t)->uplink_rx_packets++;
    return n;
}

/* A full batch does not mean that there is more, and nothing would wake us then. */
static bool is_readable(const struct tunnel *t, const struct uplink *from)
{
    struct pollfd fd = {from ? from->fd : t->cfg.tun_fd, POLLIN, 0};

    return poll(&fd, 1, 0) == 1;
}

/* A lone small packet, as in request and response, is worked off at once; to ask for
 * another that is not there would cost as much as the rest. Large ones, and small ones
 * that follow each other closely, are read by the batch. */
static bool expects_more(const struct tunnel *t, enum side side, const struct vnet_packet *vp)
{
    return vp->len >= LARGE_PACKET_LEN || clock_us() - t->turn_us[side] < BURST_US;
}

static void on_readable(struct tunnel *t, struct uplink *from)
{
    enum side side = from ? SIDE_OUTER : SIDE_INNER;
    struct vnet_packet vp;
    size_t len = 0;
    int cnt = 0;

    start_turn(t);
    stack_set_busy(side, true); /* until it is known to be otherwise */
    while (cnt < BATCH_MAX_CNT && len < BATCH_MAX_LEN && read_packet(t, from, &vp) > 0) {
        on_packet(t, side, from ? from->ifindex : 0, &vp);
        len += vp.len;
        if (++cnt == 1 && !expects_more(t, side, &vp))
            break;
    }
    t->busy[side] = (cnt == BATCH_MAX_CNT || len >= BATCH_MAX_LEN) && is_readable(t, from);
    end_turn(t);
    t->turn_us[side] = clock_us();
}

static void on_tun_readable(struct ev_loop *loop, ev_io *w, int revents)
{
    on_readable(w->data, NULL);
}

static void on_uplink_readable(void *arg, struct uplink *u)
{
    on_readable(arg, u);
}

static void on_uplink_writable(void *arg)
{
    struct tunnel *t = arg;

    start_turn(t);
    stack_writable(SIDE_OUTER);
    end_turn(t);
}

static void on_tick(struct ev_loop *loop, ev_timer *w, int revents)
{
    struct tunnel *t = w->data;

    stack_tick(clock_coarse_ms());
    end_turn(t);
    if (!stack_needs_tick())
        ev_timer_stop(loop, w);
}

static void on_sweep(struct ev_loop *loop, ev_timer *w, int revents)
{
    struct tunnel *t = w->data;

    start_turn(t);
    relay_tick(&t->relay, clock_coarse_ms());
    older_tick(&t->older, clock_coarse_ms());
    stack_set_window_cap(share_window(buf_total(), t->cfg.memory_max_len, t->relay.flows.cnt));
    if (++t->sweeps % NEXTHOP_TICK_SWEEPS == 0)
        nexthop_tick(uplinks_nexthop(t->uplinks));
    end_turn(t);
}

static void on_nexthop_change(void *arg)
{
    struct tunnel *t = arg;

    start_turn(t);
    nexthop_read(uplinks_nexthop(t->uplinks));
    end_turn(t);
}

/* The turn of the loop, whoever's watchers take part in it: so long a packet may wait. */
static void on_turn_start(struct ev_loop *loop, ev_check *w, int revents)
{
    struct tunnel *t = w->data;

    t->turn_start_us = clock_us();
}

static void on_turn_end(struct ev_loop *loop, ev_prepare *w, int revents)
{
    struct tunnel *t = w->data;

    if (t->turn_start_us)
        histogram_add(&t->relay.metrics.lag, (uint64_t)(clock_us() - t->turn_start_us));
    if (t->relay.keys && !kex_pool_is_full(t->relay.keys))
        ev_idle_start(loop, &t->fill_keys);
}

/* There is nothing else to do. */
static void on_fill_keys(struct ev_loop *loop, ev_idle *w, int revents)
{
    struct tunnel *t = w->data;

    kex_pool_add(t->relay.keys);
    if (kex_pool_is_full(t->relay.keys))
        ev_idle_stop(loop, w);
}

/* --- What the kernel tells of the uplinks ------------------------------------------ */

static void on_resolved(void *arg, const struct nexthop_path *path, const uint8_t *bytes,
                        size_t len)
{
    static const struct virtio_net_hdr none;
    struct tunnel *t = arg;

    if (uplinks_forward(t->uplinks, path, &none, bytes, len) < 0)
        return;
    counters(t)->uplink_tx_packets++;
    if (t->captures.cnt)
        captures_tx_bytes(&t->captures, &t->relay.flows, SIDE_OUTER, bytes, len, false);
}

static void on_resolve_failed(void *arg, const struct nexthop_path *path, const uint8_t *bytes,
                              size_t len)
{
    struct tunnel *t = arg;
    struct packet sent, syn;
    uint8_t copy[128];

    if (len > sizeof(copy))
        return;
    memcpy(copy, bytes, len);
    if (packet_parse(copy, len, true, &sent) != PACKET_TCP)
        return;
    struct tuple tuple = {sent.src, sent.dst, sent.src_port, sent.dst_port};
    struct flow *f = flow_find(&t->relay.flows, &tuple);
    if (f && f->phase == FLOW_CONNECTING && !f->inbound &&
        packet_parse(buf_data(f->syn), f->syn->len, true, &syn) == PACKET_TCP) {
        write_icmp(t, &syn, icmp_code(ICMP_REASON_HOST, syn.v6));
        relay_fail_opening(&t->relay, f, TUNNEL_END_UNREACHABLE);
    }
}

static bool lower_mtu(struct flow *f, void *arg)
{
    unsigned *mtu = arg;

    leg_set_path_mtu(&f->legs[SIDE_OUTER], *mtu);
    return true;
}

static uint16_t mtu16(unsigned mtu)
{
    return (uint16_t)(mtu < PACKET_MAX_LEN ? mtu : PACKET_MAX_LEN);
}

static void on_mtu(void *arg, unsigned mtu)
{
    struct tunnel *t = arg;

    stack_set_mtu(SIDE_INNER, mtu16(mtu));
    stack_set_mtu(SIDE_OUTER, mtu16(mtu));
    flow_each(&t->relay.flows, lower_mtu, &mtu);
}

static void on_resolve(void *arg, int ifindex, const struct addr *neighbour)
{
    struct tunnel *t = arg;

    t->cfg.resolve(t->cfg.resolve_arg, ifindex, neighbour);
}

static const struct uplinks_ops uplinks_callbacks = {
    .on_readable = on_uplink_readable,
    .on_writable = on_uplink_writable,
    .on_news = on_nexthop_change,
    .nexthop =
        {
            .resolve = on_resolve,
            .on_resolved = on_resolved,
            .on_failed = on_resolve_failed,
            .on_mtu = on_mtu,
        },
};

/* --- Start and end ------------------------------------------------------------------ */

static void start_watchers(struct tunnel *t)
{
    struct ev_loop *loop = t->cfg.loop;

    ev_io_init(&t->tun_io, on_tun_readable, t->cfg.tun_fd, EV_READ);
    ev_timer_init(&t->tick, on_tick, STACK_TICK_MS / 1e3, STACK_TICK_MS / 1e3);
    ev_timer_init(&t->sweep, on_sweep, SWEEP_S, SWEEP_S);
    ev_check_init(&t->turn_start, on_turn_start);
    ev_prepare_init(&t->turn_end, on_turn_end);
    ev_idle_init(&t->fill_keys, on_fill_keys);
    ev_set_priority(&t->turn_start, EV_MAXPRI); /* before all others */
    t->tun_io.data = t->tick.data = t->sweep.data = t->turn_start.data = t->turn_end.data = t;
    t->fill_keys.data = t;
    ev_io_start(loop, &t->tun_io);
    ev_timer_start(loop, &t->sweep);
    ev_check_start(loop, &t->turn_start);
    ev_prepare_start(loop, &t->turn_end);
}

static void stop_watchers(struct tunnel *t)
{
    struct ev_loop *loop = t->cfg.loop;

    ev_io_stop(loop, &t->tun_io);
    ev_timer_stop(loop, &t->tick);
    ev_timer_stop(loop, &t->sweep);
    ev_check_stop(loop, &t->turn_start);
    ev_prepare_stop(loop, &t->turn_end);
    ev_idle_stop(loop, &t->fill_keys);
}

static int start_stack(struct tunnel *t)
{
    /* Until the first uplink says more, see on_mtu(). */
    struct stack_config cfg = {.ops = &stack_callbacks, .mtu = {MTU_DEFAULT, MTU_DEFAULT}};

    randombytes_buf(&cfg.isn_key, sizeof(cfg.isn_key));
    return stack_init(&cfg);
}

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

    if (the_tunnel || sodium_init() < 0)
        return -EBUSY;
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
    err = uplinks_new(t->cfg.loop, &uplinks_callbacks, t, &t->uplinks);
    if (err < 0)
        goto fail_uplinks;
    err = start_stack(t);
    if (err < 0)
        goto fail_stack;
    start_watchers(t);
    the_tunnel = t;
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
    stop_watchers(t);
    stack_done();
    uplinks_free(t->uplinks);
    older_done(&t->older);
    flow_table_done(&t->relay.flows);
    forget_policy(t);
    free(t);
    the_tunnel = NULL;
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

int tunnel_add_uplink(struct tunnel *t, int ifindex, int fd)
{
    struct uplink_config cfg = {
        .ifindex = ifindex,
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
    return captures_add(&t->captures, t->cfg.loop, cfg, fd, on_end, arg, ret);
}

void tunnel_capture_stop(struct tunnel *t, struct tap *tap)
{
    captures_del(&t->captures, tap);
}
