/* SPDX-License-Identifier: BSD-3-Clause
 * Closing: FINs in any order, resets in each state, TIME-WAIT, segments of nobody.
 */
#include "tcp_wire.h"

#include <string.h>

#include "tcp/timewait.h"

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

static char got[64];

/* --- In order ------------------------------------------------------------------------------ */

/* Brings a fresh connection of that side to a state; each is one step behind another. */
enum stage {
    STAGE_ESTABLISHED,
    STAGE_FIN_WAIT_1, /* our FIN is on its way */
    STAGE_FIN_WAIT_2, /* and acknowledged */
    STAGE_CLOSE_WAIT, /* the peer's FIN came */
    STAGE_CLOSING,    /* both are on their way */
    STAGE_LAST_ACK,   /* the peer's came, then ours left */
    STAGE_CNT,
};

static void enter(enum stage stage, enum side side)
{
    peer_done(&peer);
    peer_init(&peer, side);
    peer_connects(&peer, 1460, 7);
    if (stage == STAGE_CLOSE_WAIT || stage == STAGE_LAST_ACK) {
        peer_send(&peer, PACKET_FIN | PACKET_ACK, NULL, 0);
        wire_advance(2 * STACK_TICK_MS);
        peer_expect_ack(&peer);
    }
    if (stage != STAGE_ESTABLISHED && stage != STAGE_CLOSE_WAIT) {
        leg_shutdown(&peer.leg);
        free(peer_expect(&peer, PACKET_FIN | PACKET_ACK));
        assert_true(peer.fin);
    }
    if (stage == STAGE_FIN_WAIT_2)
        peer_ack(&peer);
    if (stage == STAGE_CLOSING) {
        peer.ack--; /* the FINs have crossed */
        peer_send(&peer, PACKET_FIN | PACKET_ACK, NULL, 0);
        peer.ack++;
        peer_expect_ack(&peer);
    }
    leg_take_events(&peer.leg);
}

static void expect_gone(unsigned events)
{
    assert_int_equal(leg_take_events(&peer.leg), events);
    assert_null(peer.leg.pcb);
    assert_false(stack_needs_tick());
}

static void test_we_close_first(void **state)
{
    for (int side = 0; side < SIDE_CNT; side++) {
        enter(STAGE_FIN_WAIT_2, (enum side)side);
        assert_false(stack_needs_tick()); /* a half-closed leg costs nothing */
        peer_send(&peer, PACKET_ACK, "late", 4);
        assert_int_equal(leg_read(&peer.leg, got, sizeof(got)), 4);
        leg_take_events(&peer.leg);
        peer_send(&peer, PACKET_FIN | PACKET_ACK, NULL, 0);
        expect_gone(LEG_EV_FIN | LEG_EV_CLOSED);
        peer_pull(&peer);
        peer_expect_nothing(&peer);
    }
}

static void test_peer_closes_first(void **state)
{
    for (int side = 0; side < SIDE_CNT; side++) {
        enter(STAGE_CLOSE_WAIT, (enum side)side);
        assert_false(stack_needs_tick());
        leg_send(&peer.leg, "late", 4);
        peer_pull(&peer);
        assert_int_equal(peer.rx_len, 4);
        peer_ack(&peer);
        leg_shutdown(&peer.leg);
        leg_shutdown(&peer.leg); /* once is enough */
        peer_pull(&peer);
        assert_true(peer.fin);
        leg_take_events(&peer.leg);
        peer_ack(&peer);
        expect_gone(LEG_EV_CLOSED);
        peer_expect_nothing(&peer);
    }
}

/* The ACK of a FIN waits a moment for our own FIN, but not for ever. */
static void test_one_segment_for_fin_and_ack(void **state)
{
    for (int side = 0; side < SIDE_CNT; side++) {
        enter(STAGE_ESTABLISHED, (enum side)side);
        peer_send(&peer, PACKET_FIN | PACKET_ACK, NULL, 0);
        leg_output(&peer.leg);
        peer_expect_nothing(&peer);
        leg_shutdown(&peer.leg);
        struct sent *s = peer_expect(&peer, PACKET_FIN | PACKET_ACK);
        assert_int_equal(s->p.ack, peer.seq);
        free(s);
        peer_expect_nothing(&peer);
        peer_ack(&peer);
        expect_gone(LEG_EV_FIN | LEG_EV_CLOSED);
    }
}

static void test_both_close_at_once(void **state)
{
    enter(STAGE_CLOSING, SIDE_OUTER);
    peer_ack(&peer);
    expect_gone(LEG_EV_CLOSED);
}

/* FIN and the ACK of ours in one segment. */
static void test_three_segments(void **state)
{
    enter(STAGE_FIN_WAIT_1, SIDE_OUTER);
    peer_send(&peer, PACKET_FIN | PACKET_ACK, NULL, 0);
    expect_gone(LEG_EV_FIN | LEG_EV_CLOSED);
    peer_expect_ack(&peer);
}

static void test_fin_with_data(void **state)
{
    enter(STAGE_ESTABLISHED, SIDE_OUTER);
    peer_send(&peer, PACKET_FIN | PACKET_ACK, "end", 3);
    assert_int_equal(leg_take_events(&peer.leg), LEG_EV_DATA | LEG_EV_FIN);
    assert_int_equal(leg_read(&peer.leg, got, sizeof(got)), 3);
    leg_send(&peer.leg, "answer", 6);
    leg_shutdown(&peer.leg);
    peer_pull(&peer);
    assert_true(peer.fin);
    assert_memory_equal(peer.rx, "answer", 6);
    leg_take_events(&peer.leg);
    peer_ack(&peer);
    expect_gone(LEG_EV_SENT | LEG_EV_CLOSED);
}

/* What was received before the end can be read after it. */
static void test_data_outlives_the_connection(void **state)
{
    enter(STAGE_FIN_WAIT_2, SIDE_OUTER);
    peer_send(&peer, PACKET_FIN | PACKET_ACK, "last words", 10);
    assert_null(peer.leg.pcb);
    assert_int_equal(peer.leg.rx_len, 10);
    assert_int_equal(leg_read(&peer.leg, got, sizeof(got)), 10);
    assert_memory_equal(got, "last words", 10);
    wire_discard(SIDE_OUTER);
}

static void test_our_fin_is_lost(void **state)
{
    enter(STAGE_FIN_WAIT_1, SIDE_OUTER);
    wire_advance(2000);
    free(peer_expect(&peer, PACKET_FIN | PACKET_ACK));
    peer_ack(&peer);
    wire_discard(SIDE_OUTER);
    wire_advance(2000);
    peer_expect_nothing(&peer);
    assert_false(stack_needs_tick());
}

static void test_peers_fin_comes_twice(void **state)
{
    enter(STAGE_CLOSE_WAIT, SIDE_OUTER);
    peer_send_at(&peer, -1, PACKET_FIN | PACKET_ACK, NULL, 0);
    assert_int_equal(leg_take_events(&peer.leg), 0);
    peer_expect_ack(&peer);
}

static void test_data_after_fin_is_ignored(void **state)
{
    enter(STAGE_CLOSE_WAIT, SIDE_OUTER);
    peer_send_at(&peer, 0, PACKET_ACK, "more", 4);
    assert_int_equal(peer.leg.rx_len, 0);
    wire_discard(SIDE_OUTER);
}

/* A FIN that comes before the data in front of it. */
static void test_fin_out_of_order(void **state)
{
    enter(STAGE_ESTABLISHED, SIDE_OUTER);
    peer_send_at(&peer, 4, PACKET_FIN | PACKET_ACK, NULL, 0);
    assert_int_equal(leg_take_events(&peer.leg), 0);
    peer_send(&peer, PACKET_ACK, "data", 4);
    peer.seq++;
    assert_int_equal(leg_take_events(&peer.leg), LEG_EV_DATA | LEG_EV_FIN);
    peer_pull(&peer);
}

/* The FIN follows what could not be sent yet. */
static void test_shutdown_with_data_waiting(void **state)
{
    peer_half_connects(&peer, 1460, -1);
    peer.window = 0;
    peer_ack(&peer);
    leg_send(&peer.leg, pattern(0), 3000);
    leg_shutdown(&peer.leg);
    peer_expect_nothing(&peer);
    peer.window = 2000;
    for (int i = 0; i < 200 && !peer.fin; i++) {
        peer_ack(&peer);
        wire_advance(STACK_TICK_MS);
        peer_pull(&peer);
    }
    assert_true(peer.fin);
    assert_int_equal(peer.rx_len, 3000);
    assert_memory_equal(peer.rx, pattern(0), 3000);
}

/* --- Resets --------------------------------------------------------------------------------- */

static void test_reset_in_each_state(void **state)
{
    for (int stage = 0; stage < STAGE_CNT; stage++) {
        enter((enum stage)stage, stage % 2 ? SIDE_INNER : SIDE_OUTER);
        peer_send(&peer, PACKET_RST, NULL, 0);
        expect_gone(LEG_EV_RESET);
        peer_expect_nothing(&peer);
    }
}

/* RFC 5961 3.2: anywhere else in the window it is asked for again. */
static void test_reset_that_was_guessed(void **state)
{
    for (int stage = 0; stage < STAGE_CNT; stage++) {
        enter((enum stage)stage, SIDE_OUTER);
        peer_send_at(&peer, 1, PACKET_RST, NULL, 0);
        assert_non_null(peer.leg.pcb);
        peer_pull(&peer); /* the challenge */
        peer_send_at(&peer, -1, PACKET_RST, NULL, 0);
        peer_send_at(&peer, 0x20000000, PACKET_RST, NULL, 0);
        assert_non_null(peer.leg.pcb);
        peer_expect_nothing(&peer);
        assert_int_equal(leg_take_events(&peer.leg), 0);
    }
}

/* RFC 5961 4.2: so is a SYN. */
static void test_syn_in_each_state(void **state)
{
    for (int stage = 0; stage < STAGE_CNT; stage++) {
        enter((enum stage)stage, SIDE_OUTER);
        peer_send_at(&peer, 0, PACKET_SYN, NULL, 0);
        peer_send_at(&peer, 1000, PACKET_SYN | PACKET_ACK, NULL, 0);
        assert_non_null(peer.leg.pcb);
        assert_int_equal(leg_take_events(&peer.leg), 0);
        assert_int_equal(peer.leg.rx_len, 0);
        struct sent *s = peer_expect(&peer, PACKET_ACK);
        assert_int_equal(s->p.ack, peer.seq);
        free(s);
        wire_discard(SIDE_OUTER);
    }
}

/* What was received and not read goes with the connection. */
static void test_reset_with_data(void **state)
{
    enter(STAGE_ESTABLISHED, SIDE_OUTER);
    size_t before = buf_total();
    peer_send(&peer, PACKET_ACK, pattern(0), 1000);
    leg_send(&peer.leg, pattern(0), 3000);
    leg_take_events(&peer.leg);
    peer_send(&peer, PACKET_RST, NULL, 0);
    expect_gone(LEG_EV_RESET);
    assert_int_equal(peer.leg.rx_len, 1000); /* may still be read */
    leg_abort(&peer.leg);
    assert_int_equal(buf_total(), before);
    wire_discard(SIDE_OUTER);
}

static void test_abort_in_each_state(void **state)
{
    for (int stage = 0; stage < STAGE_CNT; stage++) {
        enter((enum stage)stage, SIDE_OUTER);
        leg_abort(&peer.leg);
        struct sent *s = wire_next(SIDE_OUTER);
        assert_true(s->p.flags & PACKET_RST);
        assert_int_equal(s->p.seq, peer.ack);
        free(s);
        peer_expect_nothing(&peer);
        expect_gone(0);
    }
}

/* With data on its way, and more than the window lets out. */
static void test_abort_with_data(void **state)
{
    enter(STAGE_ESTABLISHED, SIDE_OUTER);
    peer_send(&peer, PACKET_ACK, pattern(0), 1000);
    peer_send_at(&peer, 5000, PACKET_ACK, pattern(0), 1000);
    leg_send(&peer.leg, pattern(0), 100000);
    leg_take_events(&peer.leg);
    leg_abort(&peer.leg);
    peer_pull(&peer);
    assert_true(peer.rst);
    expect_gone(0);
    assert_int_equal(peer.leg.rx_len, 0);
    assert_int_equal(peer.leg.tx_len, 0);
}

static void test_drop_says_nothing(void **state)
{
    for (int stage = 0; stage < STAGE_CNT; stage++) {
        enter((enum stage)stage, SIDE_OUTER);
        leg_drop(&peer.leg);
        peer_expect_nothing(&peer);
        expect_gone(0);
    }
}

/* --- TIME-WAIT ---------------------------------------------------------------------------------
 */

static void enter_time_wait(enum side side)
{
    enter(STAGE_FIN_WAIT_2, side);
    peer_send(&peer, PACKET_FIN | PACKET_ACK, NULL, 0);
    peer_expect_ack(&peer);
    expect_gone(LEG_EV_FIN | LEG_EV_CLOSED);
}

static void test_time_wait_answers(void **state)
{
    for (int side = 0; side < SIDE_CNT; side++) {
        enter_time_wait((enum side)side);
        peer_send_at(&peer, -1, PACKET_FIN | PACKET_ACK, NULL, 0);
        peer_expect_ack(&peer);
        peer_send_at(&peer, -5, PACKET_ACK, "data", 4);
        peer_expect_ack(&peer);
        peer_ack(&peer);                       /* nothing to say */
        peer_send(&peer, PACKET_RST, NULL, 0); /* RFC 1337 */
        peer_expect_nothing(&peer);
        peer_send_at(&peer, -1, PACKET_FIN | PACKET_ACK, NULL, 0);
        peer_expect_ack(&peer);
    }
}

static void test_time_wait_ends(void **state)
{
    enter_time_wait(SIDE_OUTER);
    wire_advance(59000);
    peer_send_at(&peer, -1, PACKET_FIN | PACKET_ACK, NULL, 0);
    peer_expect_ack(&peer);
    wire_advance(2000);
    peer_send_at(&peer, -1, PACKET_FIN | PACKET_ACK, NULL, 0);
    peer_pull(&peer);
    assert_true(peer.rst);
}

/* RFC 1122 4.2.2.13: the peer may open anew with higher numbers. */
static void test_time_wait_reopens(void **state)
{
    enter_time_wait(SIDE_OUTER);
    peer_send_at(&peer, -100, PACKET_SYN, NULL, 0);
    peer_expect_ack(&peer); /* an old one */
    peer_send_at(&peer, 0, PACKET_SYN, NULL, 0);
    peer_expect_ack(&peer);
    assert_null(peer.leg.pcb);
    peer.seq += 1;
    peer_connects(&peer, 1460, 7);
    peer_send(&peer, PACKET_ACK, "again", 5);
    assert_int_equal(peer.leg.rx_len, 5);
}

/* The peer has forgotten the connection, and its numbers are lower than what it sent: it resets
 * what we answer, and tries again. */
static void test_time_wait_gives_way(void **state)
{
    enter_time_wait(SIDE_OUTER);
    uint32_t seq = peer.seq;

    peer_send_at(&peer, -100, PACKET_SYN, NULL, 0);
    peer_expect_ack(&peer);
    peer_send_at(&peer, 1, PACKET_RST, NULL, 0); /* a guess */
    peer_send_at(&peer, -100, PACKET_SYN, NULL, 0);
    peer_expect_ack(&peer);
    peer_send(&peer, PACKET_RST, NULL, 0);
    peer.seq = seq - 100;
    peer_connects(&peer, 1460, 7);
    peer_send(&peer, PACKET_ACK, "again", 5);
    assert_int_equal(peer.leg.rx_len, 5);
}

/* Between the program's kernel and us nothing old is under way. */
static void test_time_wait_of_the_program(void **state)
{
    enter_time_wait(SIDE_INNER);
    peer.seq -= 100;
    peer_connects(&peer, 1460, 7);
    peer_send(&peer, PACKET_ACK, "again", 5);
    assert_int_equal(peer.leg.rx_len, 5);
}

/* 100 times so much is four seconds of the clock that numbers come from. */
static void receive_much(void)
{
    enum { LEN = 10000 };

    for (int i = 0; i < 100; i++) {
        assert_int_equal(leg_send(&peer.leg, pattern(0), LEN), 0);
        leg_output(&peer.leg);
        while (peer_pull(&peer) > 0)
            peer_ack(&peer);
    }
    assert_int_equal(peer.rx_len, 100 * LEN);
    peer.rx_len = 0;
    leg_take_events(&peer.leg);
}

/* The other end may be in TIME-WAIT, and knows what it has received. */
static void test_next_connection_begins_behind(void **state)
{
    for (int side = 0; side < SIDE_CNT; side++) {
        for (int peer_first = 0; peer_first < 2; peer_first++) {
            enter(STAGE_ESTABLISHED, (enum side)side);
            receive_much();
            if (peer_first)
                peer_send(&peer, PACKET_FIN | PACKET_ACK, NULL, 0);
            leg_shutdown(&peer.leg);
            free(peer_expect(&peer, PACKET_FIN | PACKET_ACK));
            if (peer_first)
                peer_ack(&peer);
            else
                peer_send(&peer, PACKET_FIN | PACKET_ACK, NULL, 0);
            uint32_t end = peer.ack;
            leg_drop(&peer.leg);
            wire_discard(peer.side);
            peer.leg = (struct leg){.side = peer.side};
            assert_int_equal(leg_connect(&peer.leg, &peer.tuple), 0);
            struct sent *syn = wire_next(peer.side);
            assert_true((int32_t)(syn->p.seq - end) > 0);
            free(syn);
        }
    }
}

/* The waits of both sides are two. */
static void test_time_wait_of_the_other_side(void **state)
{
    struct peer other;

    enter_time_wait(SIDE_OUTER);
    peer_init(&other, SIDE_INNER);
    other.tuple = peer.tuple;
    other.seq = 1;
    peer_send(&other, PACKET_FIN | PACKET_ACK, NULL, 0);
    peer_pull(&other);
    assert_true(other.rst);
    peer_done(&other);
}

static struct tuple tuple_of(uint32_t n)
{
    struct tuple t = {.local_port = (uint16_t)n, .peer_port = (uint16_t)(n >> 16)};

    t.local = addr_from_v4((uint8_t[]){192, 0, 2, 1});
    t.peer = addr_from_v4((uint8_t[]){198, 51, 100, 2});
    return t;
}

static bool waits(uint32_t n)
{
    struct tuple t = tuple_of(n);
    struct packet packet = {.flags = PACKET_ACK};

    return timewait_input(SIDE_OUTER, &t, &packet);
}

/* At the cap the oldest goes. */
static void test_time_wait_cap(void **state)
{
    enum { CAP = 65536 };

    for (uint32_t n = 0; n < CAP + 10; n++) {
        struct tuple t = tuple_of(n);
        timewait_add(SIDE_OUTER, &t, 1, 2, 3);
    }
    for (uint32_t n = 0; n < 20; n++)
        assert_int_equal(waits(n), n >= 10);
    assert_true(waits(CAP + 9));
    wire_advance(61000);
    assert_false(waits(CAP + 9));
}

/* The same connection once more: the later wait counts, and lasts its full time. */
static void test_time_wait_twice(void **state)
{
    struct tuple t = tuple_of(0x10001);
    struct packet fin = {.flags = PACKET_FIN | PACKET_ACK};

    timewait_add(SIDE_OUTER, &t, 100, 200, 3);
    wire_advance(50000);
    timewait_add(SIDE_OUTER, &t, 300, 400, 5);
    wire_advance(20000);
    assert_true(timewait_input(SIDE_OUTER, &t, &fin));
    struct sent *s = wire_next(SIDE_OUTER);
    assert_int_equal(s->p.seq, 300);
    assert_int_equal(s->p.ack, 400);
    assert_int_equal(s->p.window, 5);
    free(s);
    wire_advance(41000);
    assert_false(waits(0x10001));
}

/* --- Segments of nobody ---------------------------------------------------------------------- */

static void check_reset(uint8_t flags, size_t len, bool answered)
{
    peer_send_at(&peer, 0, flags, pattern(0), len);
    struct sent *s = wire_next(SIDE_OUTER);

    assert_int_equal(s != NULL, answered);
    if (!s)
        return;
    /* RFC 9293 3.10.7.1 */
    if (flags & PACKET_ACK) {
        assert_int_equal(s->p.flags, PACKET_RST);
        assert_int_equal(s->p.seq, peer.ack);
    } else {
        assert_int_equal(s->p.flags, PACKET_RST | PACKET_ACK);
        assert_int_equal(s->p.seq, 0);
        assert_int_equal(s->p.ack,
                         peer.seq + len + !!(flags & PACKET_SYN) + !!(flags & PACKET_FIN));
    }
    assert_int_equal(s->p.data_len, 0);
    free(s);
    peer_expect_nothing(&peer);
}

static void to_nobody(struct peer *p, struct buf *buf, struct packet *packet)
{
    stack_reset(p->side, packet);
    buf_unref(buf);
}

static void test_segments_of_nobody(void **state)
{
    for (int v6 = 0; v6 < 2; v6++) {
        (v6 ? peer_init_v6 : peer_init)(&peer, SIDE_OUTER);
        peer.deliver = to_nobody;
        peer.ack = 12345;
        check_reset(PACKET_ACK, 0, true);
        check_reset(PACKET_ACK | PACKET_FIN, 10, true);
        check_reset(PACKET_SYN | PACKET_ACK, 0, true);
        check_reset(PACKET_SYN, 0, true);
        check_reset(PACKET_SYN | PACKET_FIN, 7, true);
        check_reset(0, 5, true);
        check_reset(PACKET_RST, 0, false);
        check_reset(PACKET_RST | PACKET_ACK, 0, false);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_we_close_first),
        TEST(test_peer_closes_first),
        TEST(test_one_segment_for_fin_and_ack),
        TEST(test_both_close_at_once),
        TEST(test_three_segments),
        TEST(test_fin_with_data),
        TEST(test_data_outlives_the_connection),
        TEST(test_our_fin_is_lost),
        TEST(test_peers_fin_comes_twice),
        TEST(test_data_after_fin_is_ignored),
        TEST(test_fin_out_of_order),
        TEST(test_shutdown_with_data_waiting),
        TEST(test_reset_in_each_state),
        TEST(test_reset_that_was_guessed),
        TEST(test_syn_in_each_state),
        TEST(test_reset_with_data),
        TEST(test_abort_in_each_state),
        TEST(test_abort_with_data),
        TEST(test_drop_says_nothing),
        TEST(test_time_wait_answers),
        TEST(test_time_wait_ends),
        TEST(test_time_wait_reopens),
        TEST(test_time_wait_gives_way),
        TEST(test_time_wait_of_the_program),
        TEST(test_next_connection_begins_behind),
        TEST(test_time_wait_of_the_other_side),
        TEST(test_time_wait_cap),
        TEST(test_time_wait_twice),
        TEST(test_segments_of_nobody),
    };

    return wire_run_tests(tests);
}
