/* SPDX-License-Identifier: BSD-3-Clause
 * Opening: both directions, options, retransmission, refusal.
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

/* Return: where the option of that kind is in a segment's options; NULL: nowhere. */
static const uint8_t *find_option(const struct packet *p, uint8_t kind)
{
    const uint8_t *opt = packet_options(p), *end = opt + p->options_len;

    while (opt < end && *opt != 0) {
        if (*opt == kind)
            return opt;
        assert_true(*opt == 1 || opt[1] >= 2);
        opt += *opt == 1 ? 1 : opt[1];
        assert_true(opt <= end);
    }
    return NULL;
}

static unsigned mss_of(const struct packet *p)
{
    const uint8_t *opt = find_option(p, 2);

    assert_non_null(opt);
    assert_int_equal(opt[1], 4);
    return (unsigned)opt[2] << 8 | opt[3];
}

/* --- What a SYN and a SYN-ACK say ---------------------------------------------------------- */

static void check_syn(enum side side, bool v6, unsigned mss)
{
    peer_done(&peer);
    (v6 ? peer_init_v6 : peer_init)(&peer, side);
    assert_int_equal(leg_connect(&peer.leg, &peer.tuple), 0);
    assert_true(leg_is_connecting(&peer.leg));
    struct sent *s = peer_expect(&peer, PACKET_SYN);
    bool inner = side == SIDE_INNER;

    assert_int_equal(s->p.v6, v6);
    assert_true(addr_eq(&s->p.src, inner ? &peer.tuple.peer : &peer.tuple.local));
    assert_true(addr_eq(&s->p.dst, inner ? &peer.tuple.local : &peer.tuple.peer));
    assert_int_equal(s->p.src_port, inner ? peer.tuple.peer_port : peer.tuple.local_port);
    assert_int_equal(s->p.dst_port, inner ? peer.tuple.local_port : peer.tuple.peer_port);
    assert_int_equal(mss_of(&s->p), mss);
    assert_int_equal(s->p.options_len, 12);
    assert_int_equal(find_option(&s->p, 3)[2], 8);
    assert_non_null(find_option(&s->p, 4));
    assert_int_equal(s->p.ack, 0);
    assert_int_equal(s->p.data_len, 0);
    if (!v6)
        assert_int_equal(s->p.ip[6] & 0x40, 0x40); /* don't fragment */
    free(s);
    leg_drop(&peer.leg);
    assert_int_equal(wire_cnt(side), 0);
}

static void test_syn(void **state)
{
    for (int side = 0; side < SIDE_CNT; side++) {
        check_syn((enum side)side, false, 1460);
        check_syn((enum side)side, true, 1440);
    }
    stack_set_mtu(SIDE_INNER, 9000);
    check_syn(SIDE_INNER, false, 8960);
    check_syn(SIDE_OUTER, false, 1460);
}

static void check_syn_ack(int wscale, bool v6)
{
    peer_done(&peer);
    (v6 ? peer_init_v6 : peer_init)(&peer, SIDE_OUTER);
    peer_set_syn_options(&peer, 1400, wscale);
    peer_send(&peer, PACKET_SYN, NULL, 0);
    struct sent *s = peer_expect(&peer, PACKET_SYN | PACKET_ACK);

    assert_int_equal(s->p.ack, peer.seq);
    assert_int_equal(mss_of(&s->p), v6 ? 1440 : 1460);
    assert_int_equal(find_option(&s->p, 3) != NULL, wscale >= 0);
    assert_int_equal(find_option(&s->p, 4) != NULL, wscale >= 0);
    assert_int_equal(s->p.window, 65535);
    free(s);
    peer.options_len = 0;
    assert_false(peer.leg.established);
    peer_ack(&peer);
    assert_true(peer.leg.established);
    assert_int_equal(peer.leg.wire_mss, 1400);
    assert_int_equal(leg_take_events(&peer.leg), LEG_EV_ESTABLISHED);
    assert_int_equal(leg_take_events(&peer.leg), 0);
    peer_expect_nothing(&peer);
    assert_false(stack_needs_tick());
}

static void test_syn_ack(void **state)
{
    check_syn_ack(7, false);
    check_syn_ack(-1, false);
    check_syn_ack(0, true);
    check_syn_ack(14, true);
}

/* The peer's MSS and what the link carries: the smaller one counts, and none is tiny. */
static void check_wire_mss(uint16_t mss, uint16_t want)
{
    peer_done(&peer);
    peer_init(&peer, SIDE_OUTER);
    peer_connects(&peer, mss, 7);
    assert_int_equal(peer.leg.wire_mss, want);
    peer_done(&peer);
    peer_init(&peer, SIDE_OUTER);
    peer_accepts(&peer, mss, 7);
    assert_int_equal(peer.leg.wire_mss, want);
}

static void test_mss(void **state)
{
    check_wire_mss(1460, 1460);
    check_wire_mss(536, 536);
    check_wire_mss(65535, 1460);
    check_wire_mss(0, 1460); /* nonsense: as large as we can */
    check_wire_mss(1, 88);
}

static void test_no_mss_option(void **state)
{
    peer.options_len = 0;
    peer_send(&peer, PACKET_SYN, NULL, 0);
    free(peer_expect(&peer, PACKET_SYN | PACKET_ACK));
    peer_ack(&peer);
    assert_int_equal(peer.leg.wire_mss, 536); /* RFC 9293 3.7.1 */
}

/* --- The option slot ------------------------------------------------------------------------ */

static void set_option(struct leg_option *opt, size_t len)
{
    opt->bytes[0] = 69;
    opt->bytes[1] = (uint8_t)len;
    for (size_t i = 2; i < len; i++)
        opt->bytes[i] = (uint8_t)(0x20 + i);
    opt->len = (uint8_t)len;
}

static void check_option(const struct packet *p, const struct leg_option *want)
{
    const uint8_t *got = find_option(p, 69);

    assert_true(p->options_len <= 40);
    assert_int_equal(got != NULL, want->len > 0);
    if (got)
        assert_memory_equal(got, want->bytes, want->len);
}

static void test_syn_option_of_every_length(void **state)
{
    for (size_t len = 2; len <= LEG_OPTION_MAX_LEN; len++) {
        peer_done(&peer);
        peer_init(&peer, SIDE_OUTER);
        set_option(&peer.leg.syn_option, len);
        assert_int_equal(leg_connect(&peer.leg, &peer.tuple), 0);
        struct sent *s = peer_expect(&peer, PACKET_SYN);
        check_option(&s->p, &peer.leg.syn_option);
        assert_non_null(find_option(&s->p, 2));
        assert_non_null(find_option(&s->p, 3));
        assert_non_null(find_option(&s->p, 4));
        free(s);
    }
}

static void check_same_options(struct sent *a, struct sent *b)
{
    assert_int_equal(a->p.seq, b->p.seq);
    assert_int_equal(a->p.options_len, b->p.options_len);
    assert_memory_equal(packet_options(&a->p), packet_options(&b->p), a->p.options_len);
}

/* Not by a timer: the opener's kernel retransmits its own SYN, and with it ours. */
static void test_syn_retransmission(void **state)
{
    set_option(&peer.leg.syn_option, 20);
    assert_int_equal(leg_connect(&peer.leg, &peer.tuple), 0);
    struct sent *first = peer_expect(&peer, PACKET_SYN);

    assert_false(stack_needs_tick());
    wire_advance(100000);
    peer_expect_nothing(&peer);
    for (int i = 0; i < 20; i++) {
        leg_retransmit_syn(&peer.leg);
        struct sent *again = peer_expect(&peer, PACKET_SYN);
        check_same_options(first, again);
        free(again);
        peer_expect_nothing(&peer);
    }
    free(first);
    peer_set_syn_options(&peer, 1460, 7);
    peer_send(&peer, PACKET_SYN | PACKET_ACK, NULL, 0);
    assert_true(peer.leg.established);
    leg_retransmit_syn(&peer.leg); /* too late */
    peer_expect_ack(&peer);
}

static void test_syn_that_was_blocked(void **state)
{
    wire.blocked[SIDE_OUTER] = true;
    assert_int_equal(leg_connect(&peer.leg, &peer.tuple), 0);
    leg_retransmit_syn(&peer.leg);
    wire.blocked[SIDE_OUTER] = false;
    stack_writable(SIDE_OUTER);
    free(peer_expect(&peer, PACKET_SYN));
    leg_retransmit_syn(&peer.leg);
    free(peer_expect(&peer, PACKET_SYN));
}

static void test_syn_ack_retransmission(void **state)
{
    set_option(&peer.leg.syn_option, 28);
    peer_set_syn_options(&peer, 1460, 7);
    peer_send(&peer, PACKET_SYN, NULL, 0);
    struct sent *first = peer_expect(&peer, PACKET_SYN | PACKET_ACK), *again;

    check_option(&first->p, &peer.leg.syn_option);
    wire_advance(1500); /* by the timer */
    again = peer_expect(&peer, PACKET_SYN | PACKET_ACK);
    check_same_options(first, again);
    free(again);
    peer_expect_nothing(&peer);
    peer.seq--; /* and because the peer asks */
    peer_send(&peer, PACKET_SYN, NULL, 0);
    again = peer_expect(&peer, PACKET_SYN | PACKET_ACK);
    check_same_options(first, again);
    free(again);
    free(first);
    peer.options_len = 0;
    peer_ack(&peer);
    assert_true(peer.leg.established);
}

static uint8_t ack_option_len;

static void set_ack_option(struct leg *leg, const struct packet *packet)
{
    set_option(&leg->ack_option, ack_option_len);
}

/* On every segment from the very first ACK until it is taken away. */
static void test_ack_option(void **state)
{
    for (ack_option_len = 2; ack_option_len <= 9; ack_option_len++) {
        struct sent *s;
        peer_done(&peer);
        peer_init(&peer, SIDE_OUTER);
        wire.on_established = set_ack_option;
        set_option(&peer.leg.syn_option, 10);
        assert_int_equal(leg_connect(&peer.leg, &peer.tuple), 0);
        s = peer_expect(&peer, PACKET_SYN);
        check_option(&s->p, &peer.leg.syn_option);
        free(s);
        peer_set_syn_options(&peer, 1460, 7);
        peer_send(&peer, PACKET_SYN | PACKET_ACK, NULL, 0);
        peer.options_len = 0;
        s = peer_expect(&peer, PACKET_ACK);
        check_option(&s->p, &peer.leg.ack_option);
        free(s);
        leg_send(&peer.leg, pattern(0), 3000);
        while ((s = wire_next(SIDE_OUTER))) {
            check_option(&s->p, &peer.leg.ack_option);
            assert_true(s->p.len <= 1500);
            free(s);
        }
        peer.leg.ack_option.len = 0;
        peer.ack += 3000;
        peer_ack(&peer);
        leg_send(&peer.leg, pattern(3000), 3000);
        s = wire_next(SIDE_OUTER);
        assert_int_equal(s->p.options_len, 0);
        assert_int_equal(s->p.data_len, 1460);
        free(s);
    }
}

/* With all SACK blocks there is still room. */
static void test_ack_option_beside_sack(void **state)
{
    peer_connects(&peer, 1460, 7);
    set_option(&peer.leg.ack_option, 2);
    for (int i = 1; i <= 6; i++)
        peer_send_at(&peer, i * 100, PACKET_ACK, "x", 1);
    stack_flush();
    while (wire_cnt(SIDE_OUTER) > 1)
        free(wire_next(SIDE_OUTER));
    struct sent *s = wire_next(SIDE_OUTER);
    assert_int_equal(s->p.options_len, 40);
    check_option(&s->p, &peer.leg.ack_option);
    assert_int_equal(find_option(&s->p, 5)[1], 2 + 4 * 8);
    free(s);
}

/* On a link whose packets are as long as IP allows: no length field may overflow. */
static void test_ack_option_on_the_largest_link(void **state)
{
    for (int v6 = 0; v6 < 2; v6++) {
        peer_done(&peer);
        (v6 ? peer_init_v6 : peer_init)(&peer, SIDE_OUTER);
        wire_set_mtu(65535);
        peer_connects(&peer, 65495, 7);
        set_option(&peer.leg.ack_option, 2);
        leg_send(&peer.leg, pattern(0), 300000);
        peer_pull_all(&peer);
        assert_int_equal(peer.rx_len, 300000);
        assert_memory_equal(peer.rx, pattern(0), 300000);
    }
}

/* The relay sees the options of the segment that completes the handshake. */
static void test_established_options(void **state)
{
    static const uint8_t eno[] = {69, 2, 1, 1};

    peer_half_connects(&peer, 1460, 7);
    memcpy(peer.options, eno, 4);
    peer.options_len = 4;
    peer_ack(&peer);
    assert_int_equal(wire.established_cnt, 1);
    assert_int_equal(wire.established_options_len, 4);
    assert_memory_equal(wire.established_options, eno, 4);
    peer_ack(&peer);
    assert_int_equal(wire.established_cnt, 1);
}

/* --- Data with the handshake ------------------------------------------------------------------ */

/* RFC 8547 4.7: what a SYN carries is left alone, and comes again. */
static void test_syn_data_is_not_taken(void **state)
{
    uint32_t iss = peer.seq;

    peer_set_syn_options(&peer, 1460, 7);
    peer_send(&peer, PACKET_SYN, "early", 5);
    peer.options_len = 0;
    struct sent *s = peer_expect(&peer, PACKET_SYN | PACKET_ACK);
    assert_int_equal(s->p.ack, iss + 1);
    free(s);
    peer.seq = iss + 1;
    peer_ack(&peer);
    assert_int_equal(peer.leg.rx_len, 0);
    peer_send(&peer, PACKET_ACK, "early", 5);
    assert_int_equal(peer.leg.rx_len, 5);
}

static void test_syn_ack_data_is_not_taken(void **state)
{
    assert_int_equal(leg_connect(&peer.leg, &peer.tuple), 0);
    free(peer_expect(&peer, PACKET_SYN));
    peer_set_syn_options(&peer, 1460, 7);
    peer_send(&peer, PACKET_SYN | PACKET_ACK, "early", 5);
    peer.options_len = 0;
    peer.seq -= 5;
    assert_true(peer.leg.established);
    assert_int_equal(peer.leg.rx_len, 0);
    peer_expect_ack(&peer);
    peer_send(&peer, PACKET_ACK, "early", 5);
    assert_int_equal(peer.leg.rx_len, 5);
}

static void test_handshake_ack_with_data_and_fin(void **state)
{
    char out[8];

    peer_half_connects(&peer, 1460, 7);
    peer_send(&peer, PACKET_ACK | PACKET_FIN, "all", 3);
    assert_true(peer.leg.established);
    assert_int_equal(leg_take_events(&peer.leg), LEG_EV_ESTABLISHED | LEG_EV_DATA | LEG_EV_FIN);
    assert_int_equal(leg_read(&peer.leg, out, sizeof(out)), 3);
    wire_advance(2 * STACK_TICK_MS);
    peer_expect_ack(&peer);
}

/* --- Refusal ------------------------------------------------------------------------------- */

static void test_refused(void **state)
{
    assert_int_equal(leg_connect(&peer.leg, &peer.tuple), 0);
    free(peer_expect(&peer, PACKET_SYN));
    peer.ack += 5; /* a RST for something else */
    peer_send(&peer, PACKET_RST | PACKET_ACK, NULL, 0);
    peer.ack -= 5;
    peer_send(&peer, PACKET_RST, NULL, 0); /* one without ACK */
    assert_true(leg_is_connecting(&peer.leg));
    peer_expect_nothing(&peer);
    peer_send(&peer, PACKET_RST | PACKET_ACK, NULL, 0);
    assert_null(peer.leg.pcb);
    assert_int_equal(leg_take_events(&peer.leg), LEG_EV_RESET);
    peer_expect_nothing(&peer);
}

/* RFC 9293 3.10.7.3: an ACK of something else is answered by RST. */
static void test_wrong_ack_of_syn(void **state)
{
    assert_int_equal(leg_connect(&peer.leg, &peer.tuple), 0);
    free(peer_expect(&peer, PACKET_SYN));
    uint32_t right = peer.ack;
    peer_set_syn_options(&peer, 100, 7);
    peer.ack += 5;
    peer_send_at(&peer, 0, PACKET_SYN | PACKET_ACK, NULL, 0);
    struct sent *s = wire_next(SIDE_OUTER);
    assert_true(s->p.flags & PACKET_RST);
    assert_int_equal(s->p.seq, right + 5);
    free(s);
    wire_discard(SIDE_OUTER); /* it may ask again at once */
    assert_true(leg_is_connecting(&peer.leg));
    peer.ack = right;
    peer_set_syn_options(&peer, 1000, -1);
    peer_send(&peer, PACKET_SYN | PACKET_ACK, NULL, 0);
    assert_true(peer.leg.established);
    assert_int_equal(peer.leg.wire_mss, 1000);
    assert_int_equal(peer.leg.rx_window_len, 65535); /* what was refused agreed on nothing */
}

static void test_reset_before_last_ack(void **state)
{
    peer_half_connects(&peer, 1460, 7);
    peer_send_at(&peer, 100000000, PACKET_RST, NULL, 0);
    assert_non_null(peer.leg.pcb);
    peer_send(&peer, PACKET_RST, NULL, 0);
    assert_null(peer.leg.pcb);
    assert_int_equal(leg_take_events(&peer.leg), LEG_EV_RESET);
    assert_false(peer.leg.established);
}

static void test_wrong_ack_of_syn_ack(void **state)
{
    peer_half_connects(&peer, 1460, 7);
    peer.ack += 7;
    peer_ack(&peer);
    peer.ack -= 7;
    struct sent *s = wire_next(SIDE_OUTER);
    assert_true(s->p.flags & PACKET_RST);
    free(s);
    assert_false(peer.leg.established);
    peer_ack(&peer);
    assert_true(peer.leg.established);
}

static void test_silence_after_syn_ack(void **state)
{
    peer_half_connects(&peer, 1460, 7);
    assert_true(stack_needs_tick());
    wire_advance(30000);
    assert_null(peer.leg.pcb);
    assert_int_equal(leg_take_events(&peer.leg), LEG_EV_TIMEOUT);
    assert_false(stack_needs_tick());
    wire_discard(SIDE_OUTER);
}

static void test_abort_and_drop(void **state)
{
    assert_int_equal(leg_connect(&peer.leg, &peer.tuple), 0);
    free(peer_expect(&peer, PACKET_SYN));
    leg_abort(&peer.leg); /* nobody has answered: nobody is told */
    peer_expect_nothing(&peer);
    leg_abort(&peer.leg);
    leg_drop(&peer.leg);
    assert_int_equal(leg_take_events(&peer.leg), 0);

    peer.leg = (struct leg){.side = SIDE_OUTER};
    peer_half_connects(&peer, 1460, 7);
    leg_abort(&peer.leg);
    struct sent *s = wire_next(SIDE_OUTER);
    assert_true(s->p.flags & PACKET_RST);
    assert_int_equal(s->p.seq, peer.ack);
    free(s);
    peer_expect_nothing(&peer);
    assert_null(peer.leg.pcb);
    assert_int_equal(leg_take_events(&peer.leg), 0);
}

/* --- Questions ------------------------------------------------------------------------------ */

/* For ICMP: a stranger must guess what is under way. */
static void test_owns_seq(void **state)
{
    assert_false(leg_owns_seq(&peer.leg, 0));
    assert_int_equal(leg_connect(&peer.leg, &peer.tuple), 0);
    free(peer_expect(&peer, PACKET_SYN));
    assert_true(leg_owns_seq(&peer.leg, peer.ack - 1)); /* the SYN */
    assert_false(leg_owns_seq(&peer.leg, peer.ack));
    assert_false(leg_owns_seq(&peer.leg, peer.ack - 2));
    peer_set_syn_options(&peer, 1460, 7);
    peer_send(&peer, PACKET_SYN | PACKET_ACK, NULL, 0);
    peer.options_len = 0;
    assert_false(leg_owns_seq(&peer.leg, peer.ack));
    leg_send(&peer.leg, pattern(0), 100);
    assert_true(leg_owns_seq(&peer.leg, peer.ack));
    assert_true(leg_owns_seq(&peer.leg, peer.ack + 99));
    assert_false(leg_owns_seq(&peer.leg, peer.ack + 100));
    assert_false(leg_owns_seq(&peer.leg, peer.ack - 1));
    peer_pull_all(&peer);
    assert_false(leg_owns_seq(&peer.leg, peer.ack - 1));
}

/* --- Both at once ----------------------------------------------------------------------------- */

static void forget_option(struct leg *leg, const struct packet *packet)
{
    leg->syn_option.len = 0;
}

/* RFC 9293 3.5, figure 8 */
static void test_crossing_syns(void **state)
{
    wire.on_crossing_syn = forget_option;
    set_option(&peer.leg.syn_option, 10);
    assert_int_equal(leg_connect(&peer.leg, &peer.tuple), 0);
    struct sent *syn = peer_expect(&peer, PACKET_SYN);
    peer_set_syn_options(&peer, 1400, 7);
    peer_send(&peer, PACKET_SYN, NULL, 0);
    struct sent *s = peer_expect(&peer, PACKET_SYN | PACKET_ACK);
    assert_int_equal(s->p.seq, syn->p.seq);
    assert_int_equal(s->p.ack, peer.seq);
    assert_null(find_option(&s->p, 69));
    free(s);
    free(syn);
    peer_send_at(&peer, -1, PACKET_SYN | PACKET_ACK, NULL, 0); /* the peer's answer to our SYN */
    peer.options_len = 0;
    assert_true(peer.leg.established);
    assert_int_equal(peer.leg.wire_mss, 1400);
    wire_discard(SIDE_OUTER);
    peer_send(&peer, PACKET_ACK, "hello", 5);
    assert_int_equal(peer.leg.rx_len, 5);
}

/* --- A first ACK that is held back --------------------------------------------------------- */

static void connect_holding_ack(void)
{
    peer_done(&peer);
    peer_init(&peer, SIDE_OUTER);
    leg_hold_first_ack(&peer.leg);
    assert_int_equal(leg_connect(&peer.leg, &peer.tuple), 0);
    free(peer_expect(&peer, PACKET_SYN));
    peer_set_syn_options(&peer, 1460, 7);
    peer_send(&peer, PACKET_SYN | PACKET_ACK, NULL, 0);
    assert_true(peer.leg.established);
    leg_output(&peer.leg);
    peer_expect_nothing(&peer);
}

static void test_first_ack_comes_with_data(void **state)
{
    connect_holding_ack();
    leg_send(&peer.leg, "hello", 5);
    struct sent *s = peer_expect(&peer, PACKET_ACK);
    assert_int_equal(s->p.ack, peer.seq);
    assert_int_equal(s->p.data_len, 5);
    free(s);
    leg_let_first_ack(&peer.leg);
    peer_expect_nothing(&peer);
    peer_ack(&peer);
    peer_send(&peer, PACKET_ACK, pattern(0), 3000); /* what comes later is acknowledged as ever */
    leg_output(&peer.leg);
    peer_expect_ack(&peer);
}

static void test_first_ack_comes_with_fin(void **state)
{
    connect_holding_ack();
    leg_shutdown(&peer.leg);
    free(peer_expect(&peer, PACKET_FIN | PACKET_ACK));
}

static void test_first_ack_goes_when_it_may(void **state)
{
    connect_holding_ack();
    leg_let_first_ack(&peer.leg);
    struct sent *s = peer_expect(&peer, PACKET_ACK);
    assert_int_equal(s->p.ack, peer.seq);
    free(s);
    leg_let_first_ack(&peer.leg);
    peer_expect_nothing(&peer);
}

/* The other end repeats its SYN-ACK meanwhile. */
static void test_first_ack_is_held_on(void **state)
{
    connect_holding_ack();
    peer_send_at(&peer, -1, PACKET_SYN | PACKET_ACK, NULL, 0);
    leg_output(&peer.leg);
    peer_expect_nothing(&peer);
    leg_let_first_ack(&peer.leg);
    peer_expect_ack(&peer);
    peer_send_at(&peer, -1, PACKET_SYN | PACKET_ACK, NULL, 0);
    peer_expect_ack(&peer);
}

static void test_first_ack_of_a_leg_that_ends(void **state)
{
    connect_holding_ack();
    leg_abort(&peer.leg);
    free(peer_expect(&peer, PACKET_RST | PACKET_ACK));
    leg_let_first_ack(&peer.leg);
    peer_expect_nothing(&peer);
    connect_holding_ack();
    peer_send(&peer, PACKET_RST, NULL, 0);
    assert_true(leg_take_events(&peer.leg) & LEG_EV_RESET);
    leg_let_first_ack(&peer.leg);
    peer_expect_nothing(&peer);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_syn),
        TEST(test_syn_ack),
        TEST(test_mss),
        TEST(test_no_mss_option),
        TEST(test_syn_option_of_every_length),
        TEST(test_syn_retransmission),
        TEST(test_syn_that_was_blocked),
        TEST(test_syn_ack_retransmission),
        TEST(test_ack_option),
        TEST(test_ack_option_beside_sack),
        TEST(test_ack_option_on_the_largest_link),
        TEST(test_established_options),
        TEST(test_syn_data_is_not_taken),
        TEST(test_syn_ack_data_is_not_taken),
        TEST(test_handshake_ack_with_data_and_fin),
        TEST(test_refused),
        TEST(test_wrong_ack_of_syn),
        TEST(test_reset_before_last_ack),
        TEST(test_wrong_ack_of_syn_ack),
        TEST(test_silence_after_syn_ack),
        TEST(test_abort_and_drop),
        TEST(test_owns_seq),
        TEST(test_crossing_syns),
        TEST(test_first_ack_comes_with_data),
        TEST(test_first_ack_comes_with_fin),
        TEST(test_first_ack_goes_when_it_may),
        TEST(test_first_ack_is_held_on),
        TEST(test_first_ack_of_a_leg_that_ends),
    };

    return wire_run_tests(tests);
}
