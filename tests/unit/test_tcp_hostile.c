/* SPDX-License-Identifier: BSD-3-Clause
 * What only a strange or evil peer sends. lwIP asserts many things that the other
 * end decides; each test leads to one of them.
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

/* lwIP believes a smaller window only with news: here with the handshake's last ACK. */
static void connect_with_window(uint16_t mss, uint16_t window)
{
    peer_half_connects(&peer, mss, -1);
    peer.window = window;
    peer_ack(&peer);
    assert_true(peer.leg.established);
}

/* All that the leg was given arrives once the peer has opened its window. */
static void check_stream(size_t len)
{
    for (int i = 0; i < 400 && peer.rx_len < len; i++) {
        wire_advance(STACK_TICK_MS);
        if (peer_pull(&peer) > 0)
            peer_ack(&peer);
    }
    assert_int_equal(peer.rx_len, len);
    assert_memory_equal(peer.rx, pattern(0), len);
}

/* --- MSS option where it does not belong ------------------------------------------- */

static void send_mss_option(uint16_t mss)
{
    peer_set_syn_options(&peer, mss, -1);
    peer_ack(&peer);
    peer.options_len = 0;
}

/* "mss_local is too small": the queued segment is larger than the new MSS. */
static void test_mss_option_shrinks_later(void **state)
{
    connect_with_window(1460, 0);
    leg_send(&peer.leg, pattern(0), 1460);
    send_mss_option(100);
    leg_send(&peer.leg, pattern(1460), 100);
    peer.window = 60000;
    peer_ack(&peer);
    check_stream(1560);
}

/* "split <= mss" */
static void test_mss_option_before_split(void **state)
{
    connect_with_window(1460, 1000);
    leg_send(&peer.leg, pattern(0), 1460);
    send_mss_option(100);
    wire_advance(1000);
    peer.window = 60000;
    peer_pull(&peer);
    peer_ack(&peer);
    check_stream(1460);
}

/* The segments of one leg must not outgrow the path. */
static void test_mss_option_grows_later(void **state)
{
    peer_half_connects(&peer, 1000, 7);
    send_mss_option(9000); /* with the ACK that completes the handshake */
    assert_true(peer.leg.established);
    leg_send(&peer.leg, pattern(0), 20000);
    check_stream(20000);
}

/* lwIP looks for the length of an option behind the area, and behind the packet. */
static void test_option_cut_off(void **state)
{
    for (uint8_t kind = 2; kind < 6; kind++) {
        uint8_t options[4] = {1, 1, 1, kind};
        struct segment s = {.flags = PACKET_SYN, .seq = peer.seq, .options = options};
        s.options_len = 4;
        peer_send_segment(&peer, &s);
        peer.seq++;
        free(peer_expect(&peer, PACKET_SYN | PACKET_ACK));
        memcpy(peer.options, options, 4);
        peer.options_len = 4;
        peer_ack(&peer);
        assert_true(peer.leg.established);
        peer_ack(&peer);
        leg_drop(&peer.leg);
        peer.leg = (struct leg){.side = SIDE_OUTER};
    }
}

/* --- Segments split for a small window ------------------------------------------------ */

static void test_small_window_splits(void **state)
{
    connect_with_window(1460, 10);
    leg_send(&peer.leg, pattern(0), 1460);
    wire_advance(1000);
    assert_true(peer_pull(&peer) > 0);
    assert_int_equal(peer.rx_len, 10);
    peer.window = 60000;
    peer_ack(&peer);
    check_stream(1460);
}

static void test_small_window_splits_again_and_again(void **state)
{
    peer_connects(&peer, 1460, -1);
    leg_send(&peer.leg, pattern(0), 1); /* so that the window may shrink */
    peer_pull(&peer);
    peer.window = 7;
    peer_ack(&peer);
    leg_send(&peer.leg, pattern(1), 300);
    check_stream(301);
}

/* Parts of a split segment, both lost: they leave again in one packet. */
static void test_split_parts_are_lost(void **state)
{
    connect_with_window(1460, 10);
    leg_send(&peer.leg, pattern(0), 60);
    wire_advance(400);
    assert_int_equal(peer_pull(&peer), 1);
    assert_int_equal(peer.rx_len, 10);
    peer_ack(&peer);
    wire_advance(400);
    wire_discard(SIDE_OUTER); /* the second part */
    peer.window = 60000;
    peer_ack(&peer);
    wire_discard(SIDE_OUTER); /* the third */
    check_stream(60);
}

static void test_split_keeps_fin_last(void **state)
{
    connect_with_window(1460, 10);
    leg_send(&peer.leg, pattern(0), 1000);
    leg_shutdown(&peer.leg);
    wire_advance(1000);
    peer_pull(&peer);
    assert_false(peer.fin);
    assert_int_equal(peer.rx_len, 10);
    peer.window = 60000;
    peer_ack(&peer);
    check_stream(1000);
    assert_true(peer.fin);
}

/* "mss_local is too small": segments are at most half the largest window seen so far,
 * but of any length while none was seen. */
static void test_window_opens_late(void **state)
{
    static const uint16_t windows[] = {2, 3, 100, 2000};

    for (size_t i = 0; i < 4; i++) {
        peer_done(&peer);
        peer_init(&peer, i % 2 ? SIDE_INNER : SIDE_OUTER);
        peer.window = 0;
        peer_connects(&peer, 1460, -1);
        leg_send(&peer.leg, pattern(0), 2000);
        peer.window = windows[i];
        peer_ack(&peer);
        leg_send(&peer.leg, pattern(2000), 1);
        peer.window = 60000;
        peer_ack(&peer);
        check_stream(2001);
    }
}

/* --- Zero-window probes --------------------------------------------------------------- */

/* "persist ticking with empty send buffer": the probe's byte was all there was. */
static void test_probe_takes_last_byte(void **state)
{
    connect_with_window(1460, 0);
    leg_send(&peer.leg, pattern(0), 1);
    wire_advance(1000);
    assert_true(peer_pull(&peer) > 0);
    assert_int_equal(peer.rx_len, 1);
    peer.window = 1000;
    peer_ack(&peer);
    peer_send(&peer, PACKET_ACK, "x", 1); /* a delayed ACK starts the clock */
    wire_advance(2000);
    leg_send(&peer.leg, pattern(1), 100);
    check_stream(101);
}

/* The probe's byte is taken, and then the window stays tiny. What is split off the queued
 * segment begins with that byte again; a window of one byte would never get past it, and
 * the connection would time out. No TCP keeps such a window. */
static void test_probe_is_taken_and_window_stays_tiny(void **state)
{
    for (uint16_t window = 2; window < 5; window++) {
        peer_done(&peer);
        peer_init(&peer, SIDE_OUTER);
        connect_with_window(1460, 0);
        leg_send(&peer.leg, pattern(0), 20);
        wire_advance(1000);
        assert_true(peer_pull(&peer) > 0);
        assert_int_equal(peer.rx_len, 1);
        peer.window = window;
        peer_ack(&peer);
        for (int i = 0; i < 20000 && peer.rx_len < 20 && peer.leg.pcb; i++) {
            wire_advance(STACK_TICK_MS);
            if (peer_pull(&peer) > 0)
                peer_ack(&peer);
        }
        assert_int_equal(peer.rx_len, 20);
        assert_memory_equal(peer.rx, pattern(0), 20);
    }
}

/* The same after a window that was taken back from data in flight. */
static void test_window_taken_back_and_all_acked(void **state)
{
    peer_connects(&peer, 1460, -1);
    leg_send(&peer.leg, pattern(0), 1000);
    peer.window = 0;
    peer_ack(&peer);
    wire_advance(3000);
    peer_pull(&peer);
    peer_ack(&peer);
    peer_send(&peer, PACKET_ACK, "x", 1);
    wire_advance(2000);
    peer.window = 1000;
    peer_ack(&peer);
    leg_send(&peer.leg, pattern(1000), 100);
    check_stream(1100);
}

/* --- Out of order -------------------------------------------------------------------- */

/* What the leg received is p[0..len), and nothing else. */
static void check_received(size_t len)
{
    static uint8_t out[PATTERN_MAX_LEN];

    assert_int_equal(peer.leg.rx_len, len);
    assert_int_equal(leg_read(&peer.leg, out, sizeof(out)), len);
    assert_memory_equal(out, pattern(0), len);
}

/* 60,000 of 65,535 bytes of window are used up. */
#define USED 60000
#define LEFT (65535 - USED)

static void use_window_up(void)
{
    peer_connects(&peer, 1460, -1);
    peer_send(&peer, PACKET_ACK, pattern(0), USED);
}

/* "ooseq tcplen > rcv_wnd": data up to the window's edge, and a FIN beyond it. */
static void test_fin_beyond_edge_out_of_order(void **state)
{
    use_window_up();
    peer_send_at(&peer, 100, PACKET_ACK | PACKET_FIN, pattern(USED + 100), LEFT - 100);
    peer_send_at(&peer, 0, PACKET_ACK, pattern(USED), 100);
    check_received(65535);
    assert_false(peer.leg.events & LEG_EV_FIN);
}

/* "tcplen > rcv_wnd": a FIN waits out of order, and data covers it up to the edge. */
static void test_data_covers_fin_up_to_edge(void **state)
{
    use_window_up();
    peer_send_at(&peer, 5, PACKET_ACK | PACKET_FIN, NULL, 0);
    peer_send_at(&peer, 0, PACKET_ACK, pattern(USED), LEFT);
    check_received(USED + 5);
    assert_true(peer.leg.events & LEG_EV_FIN);
}

/* The same, where the covering data is out of order too. */
static void test_data_covers_fin_out_of_order(void **state)
{
    use_window_up();
    peer_send_at(&peer, 200, PACKET_ACK | PACKET_FIN, NULL, 0);
    peer_send_at(&peer, 100, PACKET_ACK, pattern(USED + 100), LEFT - 100);
    peer_send_at(&peer, 0, PACKET_ACK, pattern(USED), 100);
    check_received(USED + 200);
    assert_true(peer.leg.events & LEG_EV_FIN);
}

/* The ACK of the handshake carries data that lies beyond the window. */
static void test_handshake_ack_beyond_edge(void **state)
{
    peer_half_connects(&peer, 1460, -1);
    peer_send_at(&peer, 1000, PACKET_ACK, pattern(1000), 65400);
    assert_true(peer.leg.established);
    peer_send_at(&peer, 0, PACKET_ACK, pattern(0), 1000);
    check_received(65535);
}

/* A second SYN with other options must not change what was agreed. */
static void test_second_syn_with_window_scale(void **state)
{
    peer_half_connects(&peer, 1460, -1);
    peer.seq--;
    peer_set_syn_options(&peer, 9000, 14);
    peer_send(&peer, PACKET_SYN, NULL, 0);
    peer.options_len = 0;
    wire_discard(SIDE_OUTER);
    peer_ack(&peer);
    assert_true(peer.leg.established);
    assert_true(peer.leg.wire_mss <= 1460);
    peer_send_at(&peer, 120000, PACKET_ACK, pattern(120000), 60000);
    peer_send(&peer, PACKET_ACK, pattern(0), 10);
    assert_int_equal(peer.leg.rx_len, 10);
    leg_consume(&peer.leg, 10);
    peer_send(&peer, PACKET_ACK, pattern(10), 60000);
    leg_consume(&peer.leg, peer.leg.rx_len);
    peer_send(&peer, PACKET_ACK, pattern(60010), 59990);
    assert_int_equal(peer.leg.rx_len, 59990);
}

/* Every other byte: lwIP walks the list of what is out of order for each of them. */
static void test_every_other_byte(void **state)
{
    enum { LEN = 20000 };
    size_t before;

    peer_connects(&peer, 1460, 7);
    before = buf_total();
    for (int32_t off = 1; off < LEN; off += 2) {
        peer_send_at(&peer, off, PACKET_ACK, pattern((size_t)off), 1);
        wire_discard(SIDE_OUTER);
    }
    assert_true(buf_total() - before < 1u << 20);
    peer_send(&peer, PACKET_ACK, pattern(0), LEN);
    check_received(LEN);
    wire_discard(SIDE_OUTER);
}

/* --- Many small writes ---------------------------------------------------------------- */

/* One segment of more pieces than a super-packet has room for. */
static void test_segment_of_many_pieces(void **state)
{
    connect_with_window(1460, 0);
    for (size_t i = 0; i < 1400; i++)
        leg_send(&peer.leg, pattern(i), 1);
    peer.window = 60000;
    peer_ack(&peer);
    check_stream(1400);
}

/* --- Closing before the handshake is over ----------------------------------------------- */

static void test_shutdown_before_handshake_ends(void **state)
{
    peer_half_connects(&peer, 1460, 7);
    leg_shutdown(&peer.leg);
    peer_pull(&peer);
    peer_ack(&peer);
    assert_true(peer.leg.established);
    peer_pull_all(&peer);
    assert_true(peer.fin);
    /* The other direction goes on, for more than one window. */
    for (size_t off = 0; off < 600000; off += 1000) {
        peer_send(&peer, PACKET_ACK, pattern(off), 1000);
        assert_int_equal(peer.leg.rx_len, 1000);
        leg_consume(&peer.leg, 1000);
        leg_output(&peer.leg);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_mss_option_shrinks_later),
        TEST(test_mss_option_before_split),
        TEST(test_mss_option_grows_later),
        TEST(test_option_cut_off),
        TEST(test_small_window_splits),
        TEST(test_small_window_splits_again_and_again),
        TEST(test_split_parts_are_lost),
        TEST(test_split_keeps_fin_last),
        TEST(test_window_opens_late),
        TEST(test_probe_takes_last_byte),
        TEST(test_probe_is_taken_and_window_stays_tiny),
        TEST(test_window_taken_back_and_all_acked),
        TEST(test_fin_beyond_edge_out_of_order),
        TEST(test_data_covers_fin_up_to_edge),
        TEST(test_data_covers_fin_out_of_order),
        TEST(test_handshake_ack_beyond_edge),
        TEST(test_second_syn_with_window_scale),
        TEST(test_every_other_byte),
        TEST(test_segment_of_many_pieces),
        TEST(test_shutdown_before_handshake_ends),
    };

    return wire_run_tests(tests);
}
