/* SPDX-License-Identifier: BSD-3-Clause
 * Data: windows, credit, order, sizes on the wire, blocked devices, urgent bytes.
 */
#include "tcp_wire.h"

#include <string.h>

static struct peer peer;

static int set_up(void **state)
{
    wire_set_up(state);
    peer_init(&peer, SIDE_OUTER);
    return 0;
}

static int tear_down(void **state)
{
    peer_done(&peer);
    return wire_tear_down(state);
}

static void use_side(enum side side)
{
    peer_done(&peer);
    peer_init(&peer, side);
}

/* All that the leg was given arrives at a peer that acknowledges. */
static void check_stream(size_t len)
{
    for (int i = 0; i < 2000 && peer.rx_len < len; i++) {
        if (wire_cnt(peer.side) == 0)
            wire_advance(STACK_TICK_MS);
        if (peer_pull(&peer) > 0)
            peer_ack(&peer);
    }
    assert_int_equal(peer.rx_len, len);
    assert_memory_equal(peer.rx, pattern(0), len);
}

static uint8_t got[PATTERN_MAX_LEN];

static void check_received(size_t off, size_t len)
{
    assert_int_equal(peer.leg.rx_len, len);
    assert_int_equal(leg_read(&peer.leg, got, sizeof(got)), len);
    assert_memory_equal(got, pattern(off), len);
    assert_int_equal(peer.leg.rx_len, 0);
}

/* --- Receiving ------------------------------------------------------------------------------ */

static void test_peek_and_consume(void **state)
{
    struct leg_chunk chunks[8];

    peer_connects(&peer, 1460, 7);
    peer_send(&peer, PACKET_ACK, pattern(0), 100);
    peer_send(&peer, PACKET_ACK, pattern(100), 50);
    assert_int_equal(leg_take_events(&peer.leg), LEG_EV_DATA);
    assert_int_equal(leg_peek(&peer.leg, chunks, 8, SIZE_MAX), 2);
    assert_int_equal(chunks[0].len, 100);
    assert_int_equal(chunks[1].len, 50);
    assert_memory_equal(chunks[1].data, pattern(100), 50);
    assert_int_equal(leg_peek(&peer.leg, chunks, 1, SIZE_MAX), 1);
    leg_consume(&peer.leg, 0);
    leg_consume(&peer.leg, 30);
    assert_int_equal(leg_peek(&peer.leg, chunks, 8, SIZE_MAX), 2);
    assert_int_equal(chunks[0].len, 70);
    assert_memory_equal(chunks[0].data, pattern(30), 70);
    struct buf *kept = buf_ref(chunks[1].buf);
    leg_consume(&peer.leg, 120);
    assert_int_equal(leg_peek(&peer.leg, chunks, 8, SIZE_MAX), 0);
    assert_int_equal(peer.leg.rx_len, 0);
    assert_memory_equal(chunks[1].data, pattern(100), 50); /* the reference holds it */
    buf_unref(kept);
}

/* One small segment waits for company; a long one, or a second, is acknowledged with
 * the batch. */
static void test_acknowledgements(void **state)
{
    peer_connects(&peer, 1460, -1);
    peer_send(&peer, PACKET_ACK, pattern(0), 100);
    leg_output(&peer.leg);
    peer_expect_nothing(&peer);
    wire_advance(2 * STACK_TICK_MS);
    peer_expect_ack(&peer);
    peer_send(&peer, PACKET_ACK, pattern(100), 100);
    peer_send(&peer, PACKET_ACK, pattern(200), 100);
    leg_output(&peer.leg);
    peer_expect_ack(&peer);
    peer_send(&peer, PACKET_ACK, pattern(300), 10000);
    leg_output(&peer.leg);
    peer_expect_ack(&peer);
    assert_false(stack_needs_tick());
}

/* The SYN announced the first window: a short connection has no segment for its sake. */
static void test_first_window(void **state)
{
    peer_connects(&peer, 1460, 7);
    leg_output(&peer.leg);
    peer_expect_nothing(&peer);
    peer_send(&peer, PACKET_ACK, pattern(0), 100);
    leg_consume(&peer.leg, 100);
    leg_output(&peer.leg);
    peer_expect_nothing(&peer);
    wire_advance(2 * STACK_TICK_MS);
    struct sent *s = peer_expect(&peer, PACKET_ACK);
    assert_true((uint32_t)s->p.window << 8 >= 65535 - 512); /* counted in 256 */
    free(s);
}

/* While more input is known to wait, one ACK covers several super-segments. */
static void test_acknowledgements_of_a_busy_side(void **state)
{
    peer_connects(&peer, 1460, 7);
    leg_output(&peer.leg);
    wire_discard(SIDE_OUTER);
    stack_set_busy(SIDE_OUTER, true);
    for (size_t i = 0; i < 3; i++) {
        peer_send(&peer, PACKET_ACK, pattern(i * 20000), 20000);
        leg_output(&peer.leg);
    }
    peer_expect_nothing(&peer);
    stack_set_busy(SIDE_OUTER, false);
    peer_expect_ack(&peer);
    stack_set_busy(SIDE_OUTER, true);
    peer_send(&peer, PACKET_ACK, pattern(0), 20000);
    leg_output(&peer.leg);
    leg_drop(&peer.leg); /* gone while it waits */
    wire_discard(SIDE_OUTER);
    stack_set_busy(SIDE_OUTER, false);
    peer_expect_nothing(&peer);
}

/* What is not consumed stays in the window. */
static void test_window_closes_and_opens(void **state)
{
    size_t sent = 0;
    struct sent *s;

    peer_connects(&peer, 1460, -1);
    while (sent < 65535) {
        size_t n = 65535 - sent < 10000 ? 65535 - sent : 10000;
        peer_send(&peer, PACKET_ACK, pattern(sent), n);
        sent += n;
        leg_output(&peer.leg);
        s = peer_expect(&peer, PACKET_ACK);
        assert_int_equal(s->p.window, 65535 - sent);
        free(s);
    }
    peer_send_at(&peer, 0, PACKET_ACK, pattern(sent), 1); /* a probe */
    s = peer_expect(&peer, PACKET_ACK);
    assert_int_equal(s->p.ack, peer.seq);
    assert_int_equal(s->p.window, 0);
    free(s);
    assert_int_equal(peer.leg.rx_len, 65535);
    check_received(0, 65535);
    s = peer_expect(&peer, PACKET_ACK); /* the update */
    assert_int_equal(s->p.window, 65535);
    free(s);
    peer_send(&peer, PACKET_ACK, pattern(sent), 1000);
    check_received(sent, 1000);
}

/* It grows as it is used, up to 4 MB. */
static void test_window_grows(void **state)
{
    uint32_t first, widest = 0;

    peer_connects(&peer, 1460, 7);
    first = peer.leg.rx_window_len;
    assert_in_range(first, 65535, 1 << 20);
    for (int i = 0; i < 400; i++) {
        peer_send(&peer, PACKET_ACK, pattern(0), 60000);
        leg_consume(&peer.leg, 60000);
        leg_output(&peer.leg);
        struct sent *s;
        while ((s = wire_next(SIDE_OUTER))) {
            if ((uint32_t)s->p.window << 8 > widest)
                widest = (uint32_t)s->p.window << 8;
            free(s);
        }
    }
    assert_int_equal(peer.leg.rx_window_len, 4 << 20);
    assert_true(widest > 2 * first);
    assert_true(widest <= 4 << 20);
}

static void widen_window(uint32_t len)
{
    while (peer.leg.rx_window_len < len) {
        peer_send(&peer, PACKET_ACK, pattern(0), 60000);
        leg_consume(&peer.leg, 60000);
        leg_output(&peer.leg);
    }
    leg_take_events(&peer.leg);
    wire_discard(peer.side);
}

/* Segments in any order, over and over, cut anywhere. */
static void receive_at_random(uint32_t seed, size_t total)
{
    uint32_t at = peer.seq;

    for (int i = 0; i < 3000 && peer.leg.rx_len < total; i++) {
        seed = seed * 1664525 + 1013904223;
        size_t off = (seed >> 8) % total, len = (seed >> 4) % (total / 7);
        if (i % 5 == 0)
            off = peer.leg.rx_len; /* so that it ends some day */
        if (len > total - off)
            len = total - off;
        peer.seq = at + (uint32_t)off;
        peer_send_at(&peer, 0, PACKET_ACK | (off + len == total ? PACKET_FIN : 0u), pattern(off),
                     len);
        if (i % 7 == 0)
            wire_discard(peer.side);
    }
    peer.seq = at + total + 1;
    check_received(0, total);
    assert_true(peer.leg.events & LEG_EV_FIN);
    wire_discard(peer.side);
}

static void test_any_order(void **state)
{
    for (uint32_t seed = 0; seed < 50; seed++) {
        use_side(seed % 2 ? SIDE_INNER : SIDE_OUTER);
        peer_connects(&peer, 1460, seed % 3 ? 7 : -1);
        receive_at_random(seed, seed % 5 ? 20000 : 60000);
    }
    for (uint32_t seed = 0; seed < 20; seed++) { /* more than lwIP's 16 bits count */
        use_side(SIDE_OUTER);
        peer_connects(&peer, 1460, 7);
        widen_window(200000);
        receive_at_random(seed, 200000);
    }
}

static void test_sack_of_what_is_out_of_order(void **state)
{
    peer_connects(&peer, 1460, 7);
    peer_send_at(&peer, 1000, PACKET_ACK, pattern(1000), 500);
    struct sent *s = peer_expect(&peer, PACKET_ACK);
    const uint8_t *opt = packet_options(&s->p);

    assert_int_equal(s->p.ack, peer.seq);
    assert_int_equal(s->p.options_len, 12);
    assert_int_equal(opt[2], 5);
    assert_int_equal((uint32_t)opt[4] << 24 | opt[5] << 16 | opt[6] << 8 | opt[7], peer.seq + 1000);
    assert_int_equal((uint32_t)opt[8] << 24 | opt[9] << 16 | opt[10] << 8 | opt[11],
                     peer.seq + 1500);
    free(s);
    peer_send(&peer, PACKET_ACK, pattern(0), 1000);
    peer.seq += 500;
    check_received(0, 1500);
    wire_advance(100);
    s = peer_expect(&peer, PACKET_ACK);
    assert_int_equal(s->p.options_len, 0);
    free(s);
}

static void test_beyond_the_window(void **state)
{
    peer_connects(&peer, 1460, -1);
    peer_send_at(&peer, 65535, PACKET_ACK, pattern(0), 100);
    struct sent *s = peer_expect(&peer, PACKET_ACK);
    assert_int_equal(s->p.ack, peer.seq);
    free(s);
    peer_send_at(&peer, -2000, PACKET_ACK, pattern(0), 1000); /* long ago */
    s = peer_expect(&peer, PACKET_ACK);
    assert_int_equal(s->p.ack, peer.seq);
    free(s);
    assert_int_equal(peer.leg.rx_len, 0);
    assert_false(stack_needs_tick());
}

/* --- Sending --------------------------------------------------------------------------------- */

static void test_sizes_on_the_wire(void **state)
{
    for (int side = 0; side < SIDE_CNT; side++) {
        use_side((enum side)side);
        peer_connects(&peer, 1000, 7);
        leg_send(&peer.leg, pattern(0), 5500);
        for (int i = 0; i < 6; i++) {
            struct sent *s = peer_expect(&peer, PACKET_ACK);
            assert_int_equal(s->p.data_len, i < 5 ? 1000 : 500);
            assert_int_equal(!!(s->p.flags & PACKET_PSH), i == 5);
            free(s);
        }
        peer_expect_nothing(&peer);
        assert_memory_equal(peer.rx, pattern(0), 5500);
        peer_ack(&peer);
    }
    assert_true(wire.super_cnt >= 1);
}

static void test_ipv6(void **state)
{
    peer_init_v6(&peer, SIDE_OUTER);
    peer_accepts(&peer, 1440, 7);
    leg_send(&peer.leg, pattern(0), 100000);
    check_stream(100000);
    peer_send(&peer, PACKET_ACK, pattern(0), 5000);
    check_received(0, 5000);
}

/* No congestion window towards the application, ten segments towards the network. */
static void test_first_flight(void **state)
{
    use_side(SIDE_INNER);
    peer_connects(&peer, 1000, 7);
    leg_send(&peer.leg, pattern(0), 500000);
    assert_int_equal(wire_cnt(SIDE_INNER), 500);
    use_side(SIDE_OUTER);
    peer_connects(&peer, 1000, 7);
    leg_send(&peer.leg, pattern(0), 500000);
    assert_int_equal(wire_cnt(SIDE_OUTER), 10);
    check_stream(500000);
}

static void test_room(void **state)
{
    peer_connects(&peer, 1000, 7);
    size_t room = leg_room(&peer.leg);
    assert_true(room > 100000);
    leg_send(&peer.leg, pattern(0), 100000);
    assert_int_equal(leg_room(&peer.leg), room - 100000);
    assert_int_equal(peer.leg.tx_len, 100000);
    leg_send(&peer.leg, pattern(100000), room - 100000);
    assert_int_equal(leg_room(&peer.leg), 0);
    leg_take_events(&peer.leg);
    peer_pull(&peer);
    peer_ack(&peer);
    assert_true(leg_take_events(&peer.leg) & LEG_EV_SENT);
    assert_true(leg_room(&peer.leg) > 0);
    check_stream(room);
    assert_int_equal(peer.leg.tx_len, 0);
    leg_shutdown(&peer.leg);
    assert_int_equal(leg_room(&peer.leg), 0);
}

static void test_no_room_before_the_handshake_is_over(void **state)
{
    assert_int_equal(leg_room(&peer.leg), 0);
    peer_half_connects(&peer, 1460, 7);
    assert_int_equal(leg_room(&peer.leg), 0);
    peer_ack(&peer);
    assert_true(leg_room(&peer.leg) > 0);
    leg_drop(&peer.leg);
    assert_int_equal(leg_room(&peer.leg), 0);
    assert_int_equal(leg_window(&peer.leg), 0);
    struct buf *b = buf_new(10);
    assert_true(leg_write(&peer.leg, b, b->bytes, 10) < 0);
    buf_unref(b);
}

/* The buffer is free when all of it was acknowledged, and not before. */
static void test_buffers_are_kept_until_acknowledged(void **state)
{
    peer_connects(&peer, 1000, 7);
    size_t before = buf_total();
    leg_send(&peer.leg, pattern(0), 1500);
    leg_send(&peer.leg, pattern(1500), 1000);
    assert_true(buf_total() >= before + 2500);
    peer.ack += 1000;
    peer_ack(&peer);
    assert_true(buf_total() >= before + 2500);
    peer.ack += 500;
    peer_ack(&peer);
    assert_true(buf_total() < before + 2500);
    peer.ack += 1000;
    peer_ack(&peer);
    assert_int_equal(buf_total(), before);
    wire_discard(SIDE_OUTER);
}

static void test_retransmission(void **state)
{
    peer_connects(&peer, 1000, 7);
    leg_send(&peer.leg, pattern(0), 3000);
    wire_discard(SIDE_OUTER);
    wire_advance(600);
    peer_expect_nothing(&peer);
    wire_advance(600);
    struct sent *s = peer_expect(&peer, PACKET_ACK);
    assert_int_equal(s->p.data_len, 1000);
    free(s);
    check_stream(3000);
}

/* A peer that is gone: in the end the leg gives up, and gives its buffers back. */
static void test_silence(void **state)
{
    size_t before;
    int cnt = 0;

    peer_connects(&peer, 1000, 7);
    before = buf_total();
    leg_send(&peer.leg, pattern(0), 30000);
    leg_take_events(&peer.leg);
    for (; peer.leg.pcb && cnt < 100000; cnt++) {
        wire_advance(STACK_TICK_MS);
        wire_discard(SIDE_OUTER);
    }
    assert_in_range(cnt, 30000 / STACK_TICK_MS, 1200000 / STACK_TICK_MS);
    assert_int_equal(leg_take_events(&peer.leg), LEG_EV_TIMEOUT);
    assert_int_equal(buf_total(), before);
    assert_false(stack_needs_tick());
}

static void test_zero_window(void **state)
{
    peer_half_connects(&peer, 1460, -1);
    peer.window = 0;
    peer_ack(&peer);
    leg_send(&peer.leg, pattern(0), 500);
    peer_expect_nothing(&peer);
    for (int probe = 0; probe < 50; probe++) { /* more than there are retransmissions */
        for (int i = 0; i < 1000 && wire_cnt(SIDE_OUTER) == 0; i++)
            wire_advance(STACK_TICK_MS);
        struct sent *s = wire_next(SIDE_OUTER);
        assert_int_equal(s->p.data_len, 1);
        assert_int_equal(s->p.data[0], pattern(0)[0]);
        free(s);
        peer_expect_nothing(&peer);
        peer_ack(&peer); /* nothing taken, window still closed */
        assert_non_null(peer.leg.pcb);
    }
    peer.window = 1000;
    peer_ack(&peer);
    check_stream(500);
}

static void test_tiny_windows(void **state)
{
    static const uint16_t windows[] = {1, 2, 3, 7, 100, 1459};

    for (size_t i = 0; i < sizeof(windows) / sizeof(*windows); i++) {
        use_side(i % 2 ? SIDE_INNER : SIDE_OUTER);
        peer_half_connects(&peer, 1460, -1);
        peer.window = windows[i];
        peer_ack(&peer);
        size_t len = (size_t)windows[i] * 10 + 1;
        leg_send(&peer.leg, pattern(0), len);
        check_stream(len);
    }
}

static void test_tiny_mss(void **state)
{
    peer_connects(&peer, 1, -1);
    leg_send(&peer.leg, pattern(0), 1000);
    check_stream(1000);
}

/* --- Path MTU --------------------------------------------------------------------------------- */

/* Return: the longest packet. */
static size_t longest_packet(void)
{
    size_t longest = 0;
    struct sent *s;

    while ((s = wire_next(SIDE_OUTER))) {
        if (s->p.len > longest)
            longest = s->p.len;
        if (s->p.seq == peer.ack)
            peer_receive(&peer, s->p.data, s->p.data_len);
        free(s);
    }
    return longest;
}

static void test_path_mtu(void **state)
{
    peer_connects(&peer, 1460, 7);
    leg_send(&peer.leg, pattern(0), 5000);
    assert_int_equal(wire_cnt(SIDE_OUTER), 4);
    wire_discard(SIDE_OUTER); /* too large for some router */
    leg_set_path_mtu(&peer.leg, 1000);
    assert_int_equal(longest_packet(), 1000); /* at once, what was lost */
    peer_ack(&peer);
    leg_send(&peer.leg, pattern(5000), 20000);
    assert_int_equal(longest_packet(), 1000);
    leg_set_path_mtu(&peer.leg, 1400); /* it never grows again */
    peer_ack(&peer);
    assert_int_equal(longest_packet(), 1000);
    peer_ack(&peer);
    check_stream(25000);
}

static void check_path_mtu_floor(bool v6, uint32_t mtu, size_t want)
{
    peer_done(&peer);
    (v6 ? peer_init_v6 : peer_init)(&peer, SIDE_OUTER);
    peer_connects(&peer, 1440, 7);
    leg_set_path_mtu(&peer.leg, mtu);
    leg_send(&peer.leg, pattern(0), 5000);
    assert_int_equal(longest_packet(), want);
}

static void test_path_mtu_floor(void **state)
{
    check_path_mtu_floor(false, 0, 552);
    check_path_mtu_floor(false, 551, 552);
    check_path_mtu_floor(false, 553, 553);
    check_path_mtu_floor(true, 0, 1280);
    check_path_mtu_floor(true, 1279, 1280);
    check_path_mtu_floor(true, 1281, 1281);
    check_path_mtu_floor(true, 0xffffffff, 1500);
}

static void test_path_mtu_of_nothing(void **state)
{
    leg_set_path_mtu(&peer.leg, 600); /* no leg */
    assert_int_equal(leg_connect(&peer.leg, &peer.tuple), 0);
    leg_set_path_mtu(&peer.leg, 600); /* not established */
    free(peer_expect(&peer, PACKET_SYN));
    peer_expect_nothing(&peer);
}

/* --- Devices that take nothing ---------------------------------------------------------------- */

static void unblock(void)
{
    wire.blocked[SIDE_OUTER] = false;
    stack_writable(SIDE_OUTER);
}

static void test_blocked(void **state)
{
    peer_connects(&peer, 1460, 7);
    wire.blocked[SIDE_OUTER] = true;
    leg_send(&peer.leg, pattern(0), 1000);
    stack_flush();
    leg_send(&peer.leg, pattern(1000), 100000);
    stack_flush();
    assert_int_equal(wire_cnt(SIDE_OUTER), 0);
    assert_true(wire.refused_cnt > 0);
    stack_writable(SIDE_OUTER); /* a false alarm */
    assert_int_equal(wire_cnt(SIDE_OUTER), 0);
    unblock();
    assert_true(wire_cnt(SIDE_OUTER) >= 10);
    check_stream(101000);
}

/* The packet that waits is a copy: what it was made from may be freed. */
static void test_blocked_then_acknowledged(void **state)
{
    peer_connects(&peer, 1460, 7);
    leg_send(&peer.leg, pattern(0), 1000);
    wire_discard(SIDE_OUTER);
    wire.blocked[SIDE_OUTER] = true;
    wire_advance(1500); /* sent again, in vain */
    peer.ack += 1000;   /* the first one had arrived */
    peer_ack(&peer);
    assert_int_equal(peer.leg.tx_len, 0);
    unblock();
    struct sent *s = wire_next(SIDE_OUTER);
    assert_int_equal(s->p.data_len, 1000);
    assert_memory_equal(s->p.data, pattern(0), 1000);
    free(s);
}

static void test_blocked_then_aborted(void **state)
{
    peer_connects(&peer, 1460, 7);
    wire.blocked[SIDE_OUTER] = true;
    leg_send(&peer.leg, pattern(0), 5000);
    leg_abort(&peer.leg);
    unblock();
    assert_true(wire_cnt(SIDE_OUTER) >= 4);
    wire_discard(SIDE_OUTER);
}

/* One side's device does not hold up the other's. */
static void test_blocked_one_side(void **state)
{
    struct peer inner;

    peer_init(&inner, SIDE_INNER);
    peer_connects(&peer, 1460, 7);
    peer_connects(&inner, 1460, 7);
    wire.blocked[SIDE_OUTER] = true;
    leg_send(&peer.leg, pattern(0), 5000);
    leg_send(&inner.leg, pattern(0), 5000);
    assert_int_equal(wire_cnt(SIDE_INNER), 4);
    peer_done(&inner);
    unblock();
    check_stream(5000);
}

/* --- Many legs ------------------------------------------------------------------------------- */

static void test_segments_of_two_legs_do_not_mix(void **state)
{
    struct peer other;

    peer_init(&other, SIDE_OUTER);
    peer_connects(&peer, 1460, 7);
    peer_connects(&other, 1460, 7);
    for (size_t i = 0; i < 5; i++) {
        leg_send(&peer.leg, pattern(i * 100), 100);
        leg_send(&other.leg, pattern(i * 50), 50);
    }
    stack_flush();
    for (struct sent *s; (s = wire_next(SIDE_OUTER)); free(s)) {
        struct peer *p = s->p.src_port == peer.tuple.local_port ? &peer : &other;
        size_t off = s->p.seq - p->ack;
        assert_memory_equal(s->p.data, pattern(off), s->p.data_len);
    }
    peer.ack += 500;
    peer_ack(&peer);
    other.ack += 250;
    peer_ack(&other);
    peer_done(&other);
    assert_false(stack_needs_tick());
}

/* Neighbours are one super-packet. */
static void test_coalescing(void **state)
{
    peer_connects(&peer, 1460, 7);
    leg_send(&peer.leg, pattern(0), 700);
    leg_send(&peer.leg, pattern(700), 1460);
    leg_send(&peer.leg, pattern(2160), 740);
    assert_int_equal(wire_cnt(SIDE_OUTER), 2);
    check_stream(2900);
}

/* A device may take packets that are longer than an IP header can tell: one goes on as long as it
 * may, and the next begins. */
static void check_long_packets(size_t max_len)
{
    wire.longest[SIDE_INNER] = 0;
    wire_set_gso_max_len(SIDE_INNER, max_len);
    peer_connects(&peer, 1000, 7);
    leg_send(&peer.leg, pattern(0), 500000);
    check_stream(500000);
    assert_in_range(wire.longest[SIDE_INNER], max_len - 65535, max_len);
}

static void test_long_packets(void **state)
{
    static const size_t lens[] = {PACKET_MAX_LEN, 100000, STACK_GSO_MAX_LEN};

    for (size_t i = 0; i < sizeof(lens) / sizeof(*lens); i++) {
        use_side(SIDE_INNER);
        check_long_packets(lens[i]);
        peer_done(&peer);
        peer_init_v6(&peer, SIDE_INNER);
        check_long_packets(lens[i]);
    }
}

/* The other device does not. */
static void test_long_packets_of_one_side(void **state)
{
    wire_set_gso_max_len(SIDE_INNER, STACK_GSO_MAX_LEN);
    peer_connects(&peer, 1000, 7);
    leg_send(&peer.leg, pattern(0), 500000);
    check_stream(500000);
    assert_in_range(wire.longest[SIDE_OUTER], 60000, PACKET_MAX_LEN);
}

/* What waits for the device is copied whole. */
static void test_long_packet_is_blocked(void **state)
{
    use_side(SIDE_INNER);
    wire_set_gso_max_len(SIDE_INNER, STACK_GSO_MAX_LEN);
    peer_connects(&peer, 1000, 7);
    wire.blocked[SIDE_INNER] = true;
    leg_send(&peer.leg, pattern(0), 250000);
    stack_flush();
    assert_true(wire.refused_cnt > 0);
    wire.blocked[SIDE_INNER] = false;
    stack_writable(SIDE_INNER);
    assert_in_range(wire.longest[SIDE_INNER], 200000, STACK_GSO_MAX_LEN);
    check_stream(250000);
}

/* What is sent again is counted apart when a long packet had it. */
static void test_long_packet_is_lost(void **state)
{
    uint64_t before;

    use_side(SIDE_INNER);
    peer_connects(&peer, 1000, 7);
    leg_send(&peer.leg, pattern(0), 100000);
    wire_discard(SIDE_INNER);
    wire_advance(3000);
    assert_true(stack_counters()->retransmits[SIDE_INNER] > 0);
    assert_int_equal(stack_counters()->long_packets, 0);
    assert_int_equal(stack_counters()->long_retransmits, 0);
    check_stream(100000);

    wire_set_gso_max_len(SIDE_INNER, STACK_GSO_MAX_LEN);
    leg_send(&peer.leg, pattern(100000), 100000);
    wire_discard(SIDE_INNER);
    assert_int_equal(stack_counters()->long_packets, 1);
    before = stack_counters()->retransmits[SIDE_INNER];
    wire_advance(3000);
    assert_true(stack_counters()->long_retransmits > 0);
    assert_int_equal(stack_counters()->long_retransmits,
                     stack_counters()->retransmits[SIDE_INNER] - before);
    check_stream(200000);
}

/* --- Urgent data -------------------------------------------------------------------------------
 */

static void send_urgent(uint16_t pointer, size_t off, size_t len)
{
    struct packet packet;
    struct segment s = {.flags = PACKET_ACK | PACKET_URG,
                        .seq = peer.seq,
                        .ack = peer.ack,
                        .data = pattern(off),
                        .len = len};
    struct buf *b = peer_packet(&peer, &s, &packet);

    packet.urgent = pointer;
    peer.seq += (uint32_t)len;
    leg_input(&peer.leg, b, &packet);
}

static void test_urgent_in(void **state)
{
    uint32_t off = 77;

    peer_connects(&peer, 1460, 7);
    assert_false(leg_has_urgent(&peer.leg, &off));
    peer_send(&peer, PACKET_ACK, pattern(0), 10);
    send_urgent(5, 10, 20); /* the byte at 14 */
    assert_true(leg_has_urgent(&peer.leg, &off));
    assert_int_equal(off, 14);
    leg_consume(&peer.leg, 14);
    assert_true(leg_has_urgent(&peer.leg, &off));
    assert_int_equal(off, 0);
    leg_consume(&peer.leg, 1);
    assert_false(leg_has_urgent(&peer.leg, &off));
    send_urgent(100, 30, 5); /* announced, still under way */
    assert_true(leg_has_urgent(&peer.leg, &off));
    assert_int_equal(off, 15 + 99);
    send_urgent(50, 35, 5); /* sent before the last one, come behind it */
    assert_true(leg_has_urgent(&peer.leg, &off));
    assert_int_equal(off, 15 + 99);
    send_urgent(0, 40, 5); /* nothing before it */
    assert_true(leg_has_urgent(&peer.leg, &off));
}

static void test_urgent_out(void **state)
{
    peer_connects(&peer, 1000, 7);
    leg_set_urgent(&peer.leg, 2499);
    leg_send(&peer.leg, pattern(0), 5000);
    for (int i = 0; i < 5; i++) {
        struct sent *s = wire_next(SIDE_OUTER);
        assert_int_equal(!!(s->p.flags & PACKET_URG), i < 3);
        assert_int_equal(s->p.urgent, i < 3 ? 2500 - i * 1000 : 0);
        assert_int_equal(s->p.data_len, 1000);
        assert_memory_equal(s->p.data, pattern((size_t)i * 1000), 1000);
        free(s);
    }
    peer_expect_nothing(&peer);
    peer.ack += 5000;
    peer_ack(&peer);
    leg_send(&peer.leg, pattern(5000), 100);
    struct sent *s = wire_next(SIDE_OUTER);
    assert_false(s->p.flags & PACKET_URG);
    free(s);
}

/* The mark must not come back when sequence numbers have gone half round. */
static void test_urgent_is_forgotten(void **state)
{
    peer_connects(&peer, 1000, 7);
    leg_set_urgent(&peer.leg, 0);
    leg_send(&peer.leg, pattern(0), 10);
    peer_pull_all(&peer);
    assert_false(peer.leg.tx_urgent_set);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_peek_and_consume),
        TEST(test_acknowledgements),
        TEST(test_first_window),
        TEST(test_acknowledgements_of_a_busy_side),
        TEST(test_window_closes_and_opens),
        TEST(test_window_grows),
        TEST(test_any_order),
        TEST(test_sack_of_what_is_out_of_order),
        TEST(test_beyond_the_window),
        TEST(test_sizes_on_the_wire),
        TEST(test_ipv6),
        TEST(test_first_flight),
        TEST(test_room),
        TEST(test_no_room_before_the_handshake_is_over),
        TEST(test_buffers_are_kept_until_acknowledged),
        TEST(test_retransmission),
        TEST(test_silence),
        TEST(test_zero_window),
        TEST(test_tiny_windows),
        TEST(test_tiny_mss),
        TEST(test_path_mtu),
        TEST(test_path_mtu_floor),
        TEST(test_path_mtu_of_nothing),
        TEST(test_blocked),
        TEST(test_blocked_then_acknowledged),
        TEST(test_blocked_then_aborted),
        TEST(test_blocked_one_side),
        TEST(test_segments_of_two_legs_do_not_mix),
        TEST(test_coalescing),
        TEST(test_long_packets),
        TEST(test_long_packets_of_one_side),
        TEST(test_long_packet_is_blocked),
        TEST(test_long_packet_is_lost),
        TEST(test_urgent_in),
        TEST(test_urgent_out),
        TEST(test_urgent_is_forgotten),
    };

    return wire_run_tests(tests);
}
