/* SPDX-License-Identifier: BSD-3-Clause
 * Loss: selective acknowledgements, time-outs, and what is written meanwhile.
 */
#include "tcp_wire.h"

#include <string.h>
#include <time.h>

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

/* --- A receiver with SACK ------------------------------------------------------------- */

#define STREAM_MAX_LEN (1u << 19)

/* The peer's receive buffer: which bytes of the leg's stream have arrived. */
struct receiver {
    uint32_t first_seq;
    uint8_t bytes[STREAM_MAX_LEN];
    bool has[STREAM_MAX_LEN];
    size_t in_order;
    size_t fin_at; /* SIZE_MAX: not seen */
};

static struct receiver rx;

static void receiver_init(void)
{
    memset(&rx, 0, sizeof(rx));
    rx.first_seq = peer.ack;
    rx.fin_at = SIZE_MAX;
}

static void receiver_take(const struct packet *p)
{
    size_t off = (uint32_t)(p->seq - rx.first_seq);

    if (off + p->data_len > STREAM_MAX_LEN)
        return; /* before the first byte */
    memcpy(rx.bytes + off, p->data, p->data_len);
    memset(rx.has + off, true, p->data_len);
    while (rx.in_order < STREAM_MAX_LEN && rx.has[rx.in_order])
        rx.in_order++;
    if (p->flags & PACKET_FIN)
        rx.fin_at = off + p->data_len;
    peer.ack = rx.first_seq + (uint32_t)rx.in_order + (rx.in_order >= rx.fin_at);
}

static void put32(uint8_t *p, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        p[i] = (uint8_t)(v >> (24 - 8 * i));
}

/* SACK blocks: the lowest three. */
static size_t put_sack(uint8_t *out, size_t limit)
{
    size_t blocks = 0;

    for (size_t i = rx.in_order; i < limit && blocks < 3; i++) {
        if (!rx.has[i])
            continue;
        size_t end = i;
        while (end < limit && rx.has[end])
            end++;
        put32(out + 4 + 8 * blocks, rx.first_seq + (uint32_t)i);
        put32(out + 8 + 8 * blocks, rx.first_seq + (uint32_t)end);
        blocks++;
        i = end;
    }
    if (blocks == 0)
        return 0;
    out[0] = out[1] = 1;
    out[2] = 5;
    out[3] = (uint8_t)(2 + 8 * blocks);
    return 4 + 8 * blocks;
}

static void ack_selectively(size_t limit)
{
    peer.options_len = put_sack(peer.options, limit);
    peer_ack(&peer);
    peer.options_len = 0;
}

/* Takes the packets that are on the wire, but for those whose bit is set. */
static void take_but(uint64_t lost)
{
    struct sent *s;

    for (unsigned i = 0; (s = wire_next(SIDE_OUTER)); i++) {
        if (!(lost >> i & 1))
            receiver_take(&s->p);
        free(s);
    }
}

static void check_stream(size_t len, bool fin)
{
    for (int i = 0; i < 600 && (rx.in_order < len || (fin && rx.fin_at == SIZE_MAX)); i++) {
        wire_advance(STACK_TICK_MS);
        if (wire_cnt(SIDE_OUTER) > 0) {
            take_but(0);
            ack_selectively(len);
        }
    }
    assert_int_equal(rx.in_order, len);
    assert_memory_equal(rx.bytes, pattern(0), len);
    assert_int_equal(rx.fin_at, fin ? len : SIZE_MAX);
}

/* --- Speed ------------------------------------------------------------------------------ */

#define MSS 1000

static void start(void)
{
    peer_connects(&peer, MSS, 7);
    receiver_init();
}

static void sleep_ms(long ms)
{
    struct timespec left = {.tv_nsec = ms * 1000000};

    while (nanosleep(&left, &left) < 0)
        ;
}

/* What has arrived counts, not what the window would allow: a slow path shows itself by it. */
static void test_speed_is_what_arrives(void **state)
{
    start();
    assert_int_equal(leg_bytes_in(&peer.leg, 1000000), 0); /* nothing known */
    leg_send(&peer.leg, pattern(0), 2 * MSS);
    sleep_ms(20);
    take_but(0);
    ack_selectively(2 * MSS);
    assert_in_range(leg_bytes_in(&peer.leg, 10000), 1, MSS);
    assert_true(leg_bytes_in(&peer.leg, UINT32_MAX) >= 10 * MSS); /* a window at most */
    assert_int_equal(leg_bytes_in(&peer.leg, UINT32_MAX), leg_window(&peer.leg));
    check_stream(2 * MSS, false);
}

/* --- One loss --------------------------------------------------------------------------- */

static void test_lost_segment_comes_at_once(void **state)
{
    start();
    leg_send(&peer.leg, pattern(0), 10 * MSS);
    take_but(1);
    ack_selectively(10 * MSS);
    assert_int_equal(wire_cnt(SIDE_OUTER), 1);
    take_but(0);
    assert_int_equal(rx.in_order, 10 * MSS);
    ack_selectively(10 * MSS);
    assert_false(stack_needs_tick());
    check_stream(10 * MSS, false);
}

static void test_two_gaps_are_filled_in_one_round(void **state)
{
    start();
    leg_send(&peer.leg, pattern(0), 10 * MSS);
    take_but(1 | 1 << 4);
    assert_int_equal(stack_counters()->retransmits[SIDE_OUTER], 0);
    ack_selectively(10 * MSS);
    assert_int_equal(wire_cnt(SIDE_OUTER), 2);
    assert_int_equal(stack_counters()->retransmits[SIDE_OUTER], 2);
    assert_int_equal(stack_counters()->retransmits[SIDE_INNER], 0);
    check_stream(10 * MSS, false);
}

/* A segment is lost when enough has arrived behind it; before, it may be late. */
static void test_reordering_is_no_loss(void **state)
{
    start();
    leg_send(&peer.leg, pattern(0), 3 * MSS);
    take_but(1);
    ack_selectively(3 * MSS);
    assert_int_equal(wire_cnt(SIDE_OUTER), 0);
    check_stream(3 * MSS, false);
}

static void test_resent_segment_is_lost_again(void **state)
{
    start();
    leg_send(&peer.leg, pattern(0), 10 * MSS);
    take_but(1);
    leg_send(&peer.leg, pattern(10 * MSS), 20 * MSS);
    ack_selectively(10 * MSS);
    take_but(1); /* the resent one; new data came behind it */
    ack_selectively(30 * MSS);
    assert_true(wire_cnt(SIDE_OUTER) > 0);
    check_stream(30 * MSS, false);
}

static void test_lost_last_segment_waits_for_timer(void **state)
{
    start();
    leg_send(&peer.leg, pattern(0), 2 * MSS);
    take_but(1 << 1);
    ack_selectively(2 * MSS);
    wire_advance(100);
    assert_int_equal(wire_cnt(SIDE_OUTER), 0);
    check_stream(2 * MSS, false);
}

/* A receiver may drop what it had selectively acknowledged (RFC 2018 8). */
static void test_receiver_reneges(void **state)
{
    start();
    leg_send(&peer.leg, pattern(0), 10 * MSS);
    take_but(1);
    ack_selectively(10 * MSS);
    wire_discard(SIDE_OUTER);
    memset(rx.has, 0, sizeof(rx.has));
    check_stream(10 * MSS, false);
}

/* Options that end too early, blocks of what was never sent, and of what is long done. */
static void test_nonsense_in_sack(void **state)
{
    start();
    leg_send(&peer.leg, pattern(0), 10 * MSS);
    take_but(1);
    for (int i = 0; i < 6; i++) {
        uint8_t options[6][12] = {{5}, {5, 0}, {5, 1}, {1, 1, 5, 200}, {5, 9, 0, 0}, {5, 10}};
        put32(options[5] + 2, peer.ack + (uint32_t)i * 1000000); /* beyond, or backwards */
        put32(options[5] + 6, peer.ack + 5 * MSS);
        memcpy(peer.options, options[i], 12);
        peer.options_len = 12;
        peer_ack(&peer);
    }
    uint8_t duplicate[12] = {1, 1, 5, 10}; /* RFC 2883 */
    put32(duplicate + 4, peer.ack - 500);
    put32(duplicate + 8, peer.ack + 3 * MSS);
    memcpy(peer.options, duplicate, 12);
    peer_ack(&peer);
    peer.options_len = 0;
    assert_int_equal(wire_cnt(SIDE_OUTER), 0);
    ack_selectively(10 * MSS);
    check_stream(10 * MSS, false);
}

static void test_without_sack(void **state)
{
    peer_connects(&peer, MSS, -1);
    receiver_init();
    leg_send(&peer.leg, pattern(0), 10 * MSS);
    take_but(1);
    for (int i = 0; i < 3; i++)
        peer_ack(&peer);
    assert_int_equal(wire_cnt(SIDE_OUTER), 1);
    take_but(0);
    peer_ack(&peer);
    check_stream(10 * MSS, false);
}

/* --- Segments of many packets -------------------------------------------------------------- */

/* Slow start, until segments are many packets long. Return: bytes sent. */
static size_t widen(void)
{
    size_t sent = 0;

    for (int i = 0; i < 7; i++) {
        leg_send(&peer.leg, pattern(sent), 30 * MSS);
        sent += 30 * MSS;
        while (wire_cnt(SIDE_OUTER) > 0) {
            take_but(0);
            ack_selectively(sent);
        }
    }
    return sent;
}

static void test_long_segment_is_cut_for_a_small_window(void **state)
{
    start();
    size_t sent = widen();
    peer.window = 20000 >> 7;
    leg_send(&peer.leg, pattern(sent), MSS);
    take_but(0);
    ack_selectively(sent += MSS);
    wire.super_cnt = 0;
    leg_send(&peer.leg, pattern(sent), 30 * MSS);
    leg_send(&peer.leg, pattern(sent + 30 * MSS), 10);
    stack_flush();
    assert_true(wire.super_cnt > 0);
    take_but(1);
    ack_selectively(sent + 20 * MSS); /* a loss: from now on segments are short */
    leg_send(&peer.leg, pattern(sent + 30 * MSS + 10), 10);
    peer.window = 1500 >> 7;
    take_but(0);
    ack_selectively(sent + 30 * MSS); /* what is queued is longer than the window */
    wire_advance(2000);
    peer.window = 65535;
    check_stream(sent + 30 * MSS + 20, false);
}

/* --- Lost segments that cannot leave at once ---------------------------------------------- */

#define SMALL 500

/* Ten small segments, of which lost ones are missing; the device takes nothing while
 * the leg learns it. */
static void lose_while_blocked(uint64_t lost)
{
    start();
    for (size_t i = 0; i < 10; i++) {
        leg_send(&peer.leg, pattern(i * SMALL), SMALL);
        stack_flush();
    }
    take_but(lost);
    wire.blocked[SIDE_OUTER] = true;
    peer_send_at(&peer, -1, PACKET_ACK, "x", 1); /* answered by an ACK, which blocks */
    ack_selectively(10 * SMALL);
}

static void unblock(void)
{
    wire.blocked[SIDE_OUTER] = false;
    stack_writable(SIDE_OUTER);
}

/* What is written meanwhile belongs behind all that was sent, not behind the lost one. */
static void test_write_while_lost_segment_waits(void **state)
{
    lose_while_blocked(1);
    leg_send(&peer.leg, pattern(10 * SMALL), 200);
    unblock();
    check_stream(10 * SMALL + 200, false);
}

static void test_shutdown_while_lost_segment_waits(void **state)
{
    lose_while_blocked(1);
    leg_shutdown(&peer.leg);
    unblock();
    check_stream(10 * SMALL, true);
}

static void test_timeout_while_lost_segment_waits(void **state)
{
    lose_while_blocked(1 | 1 << 5);
    wire_advance(1500);
    unblock();
    memset(rx.has, 0, sizeof(rx.has)); /* no help from selective ones */
    check_stream(10 * SMALL, false);
}

/* Found lost one after the other, they still leave in order. */
static void test_losses_one_after_the_other(void **state)
{
    start();
    for (size_t i = 0; i < 10; i++) {
        leg_send(&peer.leg, pattern(i * SMALL), SMALL);
        stack_flush();
    }
    leg_shutdown(&peer.leg);
    take_but(1 | 1 << 1 | 1 << 2);
    wire.blocked[SIDE_OUTER] = true;
    peer_send_at(&peer, -1, PACKET_ACK, "x", 1);
    ack_selectively(9 * SMALL + 100); /* 6 segments above: the first is lost */
    ack_selectively(10 * SMALL);
    struct packet late = {.seq = rx.first_seq, .data_len = SMALL};
    late.data = memcpy((uint8_t[SMALL]){0}, pattern(0), SMALL);
    receiver_take(&late); /* the first was not lost, then */
    ack_selectively(10 * SMALL);
    unblock();
    check_stream(10 * SMALL, true);
}

/* --- Black holes ---------------------------------------------------------------------------- */

/* A router that drops large packets and says nothing (RFC 4821 1). */
static void fall_into_black_hole(bool v6, size_t mtu)
{
    enum { LEN = 20000 };
    struct sent *s;

    peer_done(&peer);
    (v6 ? peer_init_v6 : peer_init)(&peer, SIDE_OUTER);
    peer_connects(&peer, 1440, 7);
    receiver_init();
    leg_send(&peer.leg, pattern(0), LEN);
    leg_shutdown(&peer.leg);
    for (int i = 0; i < 4000 && rx.fin_at == SIZE_MAX; i++) {
        bool any = false;
        while ((s = wire_next(SIDE_OUTER))) {
            if (s->p.len <= mtu) {
                receiver_take(&s->p);
                any = true;
            }
            free(s);
        }
        if (any)
            ack_selectively(LEN);
        wire_advance(STACK_TICK_MS);
    }
    assert_int_equal(rx.in_order, LEN);
    assert_memory_equal(rx.bytes, pattern(0), LEN);
    assert_int_equal(rx.fin_at, LEN);
}

static void test_black_hole(void **state)
{
    fall_into_black_hole(false, 1400);
    fall_into_black_hole(false, 576);
    fall_into_black_hole(true, 1280);
}

/* --- Giving up ---------------------------------------------------------------------------- */

/* Return: ticks until a leg whose segment is never acknowledged gives up, at most max. */
static unsigned ticks_of_silence(unsigned max)
{
    unsigned ticks = 0;

    peer_done(&peer);
    peer_init(&peer, SIDE_OUTER);
    start();
    leg_send(&peer.leg, pattern(0), 100);
    for (; peer.leg.pcb && ticks < max; ticks++) {
        wire_advance(STACK_TICK_MS);
        wire_discard(SIDE_OUTER);
    }
    return ticks;
}

/* The tick that gives the leg up first hands out what was blocked before: its bytes must
 * still be there when the packet leaves. */
static void test_given_up_with_a_packet_in_the_making(void **state)
{
    unsigned ticks = ticks_of_silence(UINT32_MAX);

    ticks_of_silence(ticks - 4);
    assert_non_null(peer.leg.pcb);
    for (int i = 0; peer.leg.pcb && i < 10; i++) {
        wire.blocked[SIDE_OUTER] = true;
        peer_send_at(&peer, -1, PACKET_ACK, "x", 1);
        leg_send(&peer.leg, pattern(100), 10);
        peer_send(&peer, PACKET_ACK, "y", 1);
        wire.blocked[SIDE_OUTER] = false; /* and nobody has told yet */
        wire_advance(STACK_TICK_MS);
        wire_discard(SIDE_OUTER);
    }
    assert_int_equal(leg_take_events(&peer.leg) & LEG_EV_GONE, LEG_EV_TIMEOUT);
}

/* --- Everything at once ----------------------------------------------------------------- */

static uint32_t random_state;

static uint32_t random_below(uint32_t n)
{
    random_state = random_state * 1664525 + 1013904223;
    return (random_state >> 8) % n;
}

/* Some of what is on the wire arrives, in any order. */
static void take_at_random(uint32_t loss_percent)
{
    struct sent *s, *late = NULL;

    while ((s = wire_next(SIDE_OUTER))) {
        if (random_below(100) < loss_percent) {
            free(s);
        } else if (!late && random_below(10) == 0) {
            late = s;
        } else {
            receiver_take(&s->p);
            free(s);
        }
    }
    if (late)
        receiver_take(&late->p);
    free(late);
}

static void run_at_random(uint32_t seed, size_t len)
{
    size_t written = 0;
    bool shut = false;

    random_state = seed;
    for (int turn = 0; turn < 20000 && !(rx.in_order == len && rx.fin_at == len); turn++) {
        if (written < len && random_below(3) > 0) {
            size_t n = random_below(2) ? random_below(300) + 1 : random_below(5000) + 1;
            n = n < len - written ? n : len - written;
            leg_send(&peer.leg, pattern(written), n);
            written += n;
        }
        if (written == len && !shut) {
            leg_shutdown(&peer.leg);
            shut = true;
        }
        wire.blocked[SIDE_OUTER] = random_below(8) == 0;
        if (!wire.blocked[SIDE_OUTER])
            stack_writable(SIDE_OUTER);
        take_at_random(seed % 30);
        if (random_below(100) >= seed % 20)
            ack_selectively(written);
        if (random_below(4) == 0)
            wire_advance(STACK_TICK_MS);
    }
    assert_int_equal(rx.fin_at, len);
    assert_int_equal(rx.in_order, len);
    assert_memory_equal(rx.bytes, pattern(0), len);
}

static void test_at_random(void **state)
{
    for (uint32_t seed = 0; seed < 60; seed++) {
        peer_done(&peer);
        peer_init(&peer, SIDE_OUTER);
        peer_connects(&peer, seed % 3 == 0 ? 1460 : 536, seed % 7 == 0 ? -1 : 7);
        receiver_init();
        run_at_random(seed, 60000);
        wire.blocked[SIDE_OUTER] = false;
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_speed_is_what_arrives),
        TEST(test_lost_segment_comes_at_once),
        TEST(test_two_gaps_are_filled_in_one_round),
        TEST(test_reordering_is_no_loss),
        TEST(test_resent_segment_is_lost_again),
        TEST(test_lost_last_segment_waits_for_timer),
        TEST(test_receiver_reneges),
        TEST(test_nonsense_in_sack),
        TEST(test_without_sack),
        TEST(test_long_segment_is_cut_for_a_small_window),
        TEST(test_write_while_lost_segment_waits),
        TEST(test_shutdown_while_lost_segment_waits),
        TEST(test_timeout_while_lost_segment_waits),
        TEST(test_losses_one_after_the_other),
        TEST(test_black_hole),
        TEST(test_given_up_with_a_packet_in_the_making),
        TEST(test_at_random),
    };

    return wire_run_tests(tests);
}
