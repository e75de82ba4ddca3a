/* SPDX-License-Identifier: BSD-3-Clause
 * When something happens: the watchers of the data path's event loop.
 *
 * How it works: a readable device gives a handful of packets; each finds its flow
 * and goes through lwIP, which only notes events; then the flows that have
 * events are run, and what came of it is flushed. Nothing blocks.
 */
#include <ev.h>
#include <poll.h>
#include <sched.h>
#include <string.h>

#include "base/clock.h"
#include "base/slab.h"
#include "tcpcrypt/kex_pool.h"
#include "tunnel/icmp.h"
#include "tunnel/share.h"
#include "tunnel/tunnel_impl.h"

/* Input before flows are run: measured, see docs/PERFORMANCE.md. */
#define BATCH_MAX_CNT       16
#define BATCH_MAX_LEN       (64u * 1024) /* two super-segments; then the other side has its turn */
#define BURST_US            20u
#define LARGE_PACKET_LEN    4096u
#define BULK_US             1000 /* after a large packet more are to be expected */
#define MTU_MIN             68u  /* RFC 791 3.2 */
#define SWEEP_S             1.0
#define NEXTHOP_TICK_SWEEPS 5

/* --- The loop -------------------------------------------------------------------- */

static void start_turn(struct tunnel *t)
{
    if (!stack_needs_tick())
        stack_set_time(clock_coarse_ms());
}

static void end_turn(struct tunnel *t)
{
    packets_set_gso_max_len(t); /* a capture may have ended */
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
    struct pollfd fd = {from ? from->rx_fd : t->cfg.tun_fd, POLLIN, 0};

    return poll(&fd, 1, 0) == 1;
}

/* A lone small packet, as in request and response, is worked off at once; to ask for
 * another that is not there would cost as much as the rest. Large ones, and small ones
 * that follow each other closely, are read by the batch. */
static bool expects_more(const struct tunnel *t, enum side side, const struct vnet_packet *vp)
{
    return vp->len >= LARGE_PACKET_LEN || clock_us() - t->turn_us[side] < BURST_US;
}

/* The peer's next large packets are on their way: to sleep and be woken for each costs more than to
 * let others have the processor once while they gather. After small ones see awake.h. */
static void rest(struct tunnel *t, enum side side, size_t len)
{
    bool is_large = len >= LARGE_PACKET_LEN;

    if (side == SIDE_OUTER && is_large && !t->busy[side])
        sched_yield();
    int64_t now_us = clock_us();
    t->turn_us[side] = now_us;
    if (is_large)
        t->bulk_until_us = now_us + BULK_US;
    if (awake_rest(&t->awake, now_us) && now_us >= t->bulk_until_us)
        ev_idle_start(t->cfg.loop, &t->stay_awake);
    else
        ev_idle_stop(t->cfg.loop, &t->stay_awake);
}

static void on_stay_awake(struct ev_loop *loop, ev_idle *w, int revents)
{
    struct tunnel *t = w->data;
    int64_t before_us = clock_us();

    t->turn_start_us = 0; /* to look is no turn: see on_turn_end() */
    if (!awake_goes_on(&t->awake, before_us)) {
        ev_idle_stop(loop, w);
        return;
    }
    sched_yield();
    int64_t now_us = clock_us();
    awake_yielded(&t->awake, now_us, now_us - before_us);
}

static void on_readable(struct tunnel *t, struct uplink *from)
{
    enum side side = from ? SIDE_OUTER : SIDE_INNER;
    struct vnet_packet vp;
    size_t len = 0;
    int cnt = 0;

    awake_input(&t->awake, t->turn_start_us);
    start_turn(t);
    stack_set_busy(side, true); /* until it is known to be otherwise */
    while (cnt < BATCH_MAX_CNT && len < BATCH_MAX_LEN && read_packet(t, from, &vp) > 0) {
        packets_input(t, side, from ? from->ifindex : 0, &vp);
        len += vp.len;
        if (++cnt == 1 && !expects_more(t, side, &vp))
            break;
    }
    t->busy[side] = (cnt == BATCH_MAX_CNT || len >= BATCH_MAX_LEN) && is_readable(t, from);
    end_turn(t);
    rest(t, side, len);
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
    slab_trim();
    packets_watch_long(t);
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
    struct packet sent;
    uint8_t copy[128];

    if (len > sizeof(copy))
        return;
    memcpy(copy, bytes, len);
    if (packet_parse(copy, len, true, &sent) != PACKET_TCP)
        return;
    struct tuple tuple = {sent.src, sent.dst, sent.src_port, sent.dst_port};
    struct flow *f = flow_find(&t->relay.flows, &tuple);
    if (f)
        packets_fail_opening(t, f, icmp_code(ICMP_REASON_HOST, sent.v6));
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

/* The largest super-segment that the kernel makes of packets of this size, and a frame's
 * overhead, fit a super-segment on the wire: so each becomes a frame as it is. */
static uint16_t inner_mtu(uint16_t mtu)
{
    unsigned packets;

    if (mtu < MTU_MIN)
        return mtu;
    packets = PACKET_MAX_LEN / mtu;
    return (uint16_t)(mtu - (SESSION_FRAME_OVERHEAD_LEN + packets - 1) / packets);
}

static void on_mtu(void *arg, unsigned mtu)
{
    struct tunnel *t = arg;

    stack_set_mtu(SIDE_INNER, inner_mtu(mtu16(mtu)));
    stack_set_mtu(SIDE_OUTER, mtu16(mtu));
    flow_each(&t->relay.flows, lower_mtu, &mtu);
}

static void on_resolve(void *arg, int ifindex, const struct addr *neighbour)
{
    struct tunnel *t = arg;

    t->cfg.resolve(t->cfg.host_arg, ifindex, neighbour);
}

const struct uplinks_ops loop_uplinks_ops = {
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

void loop_start(struct tunnel *t)
{
    struct ev_loop *loop = t->cfg.loop;

    ev_io_init(&t->tun_io, on_tun_readable, t->cfg.tun_fd, EV_READ);
    ev_timer_init(&t->tick, on_tick, STACK_TICK_MS / 1e3, STACK_TICK_MS / 1e3);
    ev_timer_init(&t->sweep, on_sweep, SWEEP_S, SWEEP_S);
    ev_check_init(&t->turn_start, on_turn_start);
    ev_prepare_init(&t->turn_end, on_turn_end);
    ev_idle_init(&t->fill_keys, on_fill_keys);
    ev_idle_init(&t->stay_awake, on_stay_awake);
    ev_set_priority(&t->turn_start, EV_MAXPRI); /* before all others */
    t->tun_io.data = t->tick.data = t->sweep.data = t->turn_start.data = t->turn_end.data = t;
    t->fill_keys.data = t->stay_awake.data = t;
    ev_io_start(loop, &t->tun_io);
    ev_timer_start(loop, &t->sweep);
    ev_check_start(loop, &t->turn_start);
    ev_prepare_start(loop, &t->turn_end);
}

void loop_stop(struct tunnel *t)
{
    struct ev_loop *loop = t->cfg.loop;

    ev_io_stop(loop, &t->tun_io);
    ev_timer_stop(loop, &t->tick);
    ev_timer_stop(loop, &t->sweep);
    ev_check_stop(loop, &t->turn_start);
    ev_prepare_stop(loop, &t->turn_end);
    ev_idle_stop(loop, &t->fill_keys);
    ev_idle_stop(loop, &t->stay_awake);
}
