/* SPDX-License-Identifier: BSD-3-Clause
 * A relay between two scripted peers: "app", the application's kernel, and "net", the
 * far host, whose tcpcrypt is a session of its own.
 */
#include "base/clock.h"
#include "tcp_wire.h"

#include <errno.h>
#include <string.h>

#include "relay_input.h"
#include "tcpcrypt/resume.h"
#include "tunnel/silence.h"

static struct relay relay;
static struct peer app, net;

/* The far host above TCP. */
static struct {
    struct session_config cfg;
    struct session *session; /* NULL: it has no tcpcrypt */
    size_t taken;            /* of net.rx */
    uint8_t text[PATTERN_MAX_LEN];
    size_t text_len;
    bool fin;
    enum tcns_err err;  /* why it stopped */
    uint32_t urgent_at; /* position in text; 0: none */
} far;

/* What the relay told of the connection: a letter for each event. */
static char events[8];

/* --- The world ------------------------------------------------------------------------------ */

static void on_event(struct leg *leg)
{
    flow_queue(&relay.flows, flow_from_leg(leg));
}

static void on_told(enum tunnel_event event, const struct tunnel_session *s, void *arg)
{
    size_t len = strlen(events);

    assert_true(len + 1 < sizeof(events));
    events[len] = "oEcx"[event];
    assert_true(event != TUNNEL_EVENT_ENCRYPTED || s->info.has_id);
    assert_int_equal(s->end != TUNNEL_END_LIVE, event == TUNNEL_EVENT_ENDED);
}

static void on_established(struct leg *leg, const struct packet *packet)
{
    relay_on_established(&relay, leg, packet);
}

static void on_crossing_syn(struct leg *leg, const struct packet *packet)
{
    relay_on_crossing_syn(&relay, leg, packet);
}

static void run(void)
{
    relay_run(&relay);
    stack_flush();
}

static bool in_one_turn; /* several packets before the relay runs */

static void deliver(struct peer *p, struct buf *buf, struct packet *packet)
{
    relay_input(&relay, p->side, buf, packet, wire.now_ms);
    if (!in_one_turn)
        run();
}

static void pass(unsigned ms)
{
    for (unsigned i = 0; i < ms; i += STACK_TICK_MS) {
        wire_advance(STACK_TICK_MS);
        run();
    }
    relay_tick(&relay, wire.now_ms);
    stack_flush();
}

/* New ends of a connection; app and net are two sides of one tuple. */
static void new_connection(void)
{
    peer_done(&app);
    peer_done(&net);
    peer_init(&app, SIDE_INNER);
    peer_init(&net, SIDE_OUTER);
    net.tuple = app.tuple;
    app.deliver = net.deliver = deliver;
    app.seq = 1000;
    session_free(far.session);
    far.session = session_new(&far.cfg);
    far.taken = far.text_len = 0;
    far.fin = false;
    far.urgent_at = 0;
    far.err = TCNS_OK;
    memset(events, 0, sizeof(events));
}

static void use_policy(const struct policy_config *cfg)
{
    struct policy *policy;

    assert_int_equal(policy_new(cfg, &policy), 0);
    relay_set_policy(&relay, policy);
}

static void set_policy(enum tunnel_policy policy)
{
    use_policy(&(struct policy_config){.policy = policy});
}

static int set_up(void **state)
{
    wire_set_up(state);
    wire.on_event = on_event;
    wire.on_established = on_established;
    wire.on_crossing_syn = on_crossing_syn;
    memset(&relay, 0, sizeof(relay));
    relay.on_event = on_told;
    set_policy(TUNNEL_POLICY_PREFER);
    relay.fallback_ms = 600000;
    in_one_turn = false;
    memset(&far, 0, sizeof(far));
    far.cfg = session_config_default;
    assert_int_equal(flow_table_init(&relay.flows, &(struct siphash_key){1, 2}, 100), 0);
    new_connection();
    return 0;
}

static int tear_down(void **state)
{
    relay_abort_all(&relay);
    assert_int_equal(relay.flows.cnt, 0);
    flow_table_done(&relay.flows);
    policy_unref(relay.policy);
    session_free(far.session);
    far.session = NULL;
    peer_done(&app);
    peer_done(&net);
    return wire_tear_down(state);
}

static struct flow *the_flow(void)
{
    return flow_find(&relay.flows, &app.tuple);
}

static struct tunnel_session last_ended(void)
{
    assert_true(relay.history.cnt > 0);
    return relay.history
        .ended[(relay.history.next + TUNNEL_ENDED_MAX_CNT - 1) % TUNNEL_ENDED_MAX_CNT];
}

static void expect_end(enum tunnel_end end, enum tcns_err err)
{
    assert_null(the_flow());
    struct tunnel_session last = last_ended();
    assert_int_equal(last.end, end);
    assert_int_equal(last.error, err);
}

static void expect_rst(struct peer *p)
{
    peer_pull(p);
    assert_true(p->rst);
}

/* --- Options --------------------------------------------------------------------------------- */

static void add_option(struct peer *p, const uint8_t *option, size_t len)
{
    assert_true(p->options_len + len <= sizeof(p->options));
    memcpy(p->options + p->options_len, option, len);
    p->options_len += len;
    while (p->options_len % 4)
        p->options[p->options_len++] = 1;
}

static bool has_eno(const struct packet *p)
{
    const uint8_t *opt;
    size_t len;

    for (size_t i = 0; i < p->options_len; i += len) {
        opt = packet_options(p) + i;
        if (*opt == 69)
            return true;
        len = *opt < 2 ? 1 : opt[1];
    }
    return false;
}

/* --- Opening --------------------------------------------------------------------------------- */

static void app_sends_syn(void)
{
    peer_set_syn_options(&app, 1460, 7);
    peer_send(&app, PACKET_SYN, NULL, 0);
    app.options_len = 0;
}

/* The far host answers the SYN, with ENO when it has a session. */
static void net_answers(void)
{
    uint8_t option[ENO_OPTION_MAX_LEN];
    size_t len = 0;
    struct sent *s = peer_expect(&net, PACKET_SYN);

    peer_set_syn_options(&net, 1460, 7);
    if (far.session)
        assert_int_equal(
            session_accept(far.session, packet_options(&s->p), s->p.options_len, option, &len),
            TCNS_OK);
    add_option(&net, option, len);
    free(s);
    peer_send(&net, PACKET_SYN | PACKET_ACK, NULL, 0);
    net.options_len = 0;
}

static void app_completes(void)
{
    free(peer_expect(&app, PACKET_SYN | PACKET_ACK));
    peer_ack(&app);
}

/* The first ACK of ours decides for the far host. */
static void net_sees_ack(void)
{
    struct sent *s = peer_expect(&net, PACKET_ACK);

    if (far.session)
        assert_int_equal(session_accept_ack(far.session, packet_options(&s->p), s->p.options_len),
                         TCNS_OK);
    free(s);
}

static void open_outbound(void)
{
    app_sends_syn();
    net_answers();
    net_sees_ack();
    app_completes();
}

static void net_sends_syn(void)
{
    uint8_t option[ENO_OPTION_MAX_LEN];
    size_t len = 0;

    peer_set_syn_options(&net, 1460, 7);
    if (far.session)
        assert_int_equal(session_connect(far.session, option, &len), TCNS_OK);
    add_option(&net, option, len);
    peer_send(&net, PACKET_SYN, NULL, 0);
    net.options_len = 0;
}

static void app_answers(void)
{
    struct sent *s = peer_expect(&app, PACKET_SYN);

    assert_false(has_eno(&s->p)); /* that is between the hosts */
    free(s);
    peer_set_syn_options(&app, 1460, 7);
    peer_send(&app, PACKET_SYN | PACKET_ACK, NULL, 0);
    app.options_len = 0;
}

/* stripped: its last ACK loses the option on the way. */
static void net_completes(bool stripped)
{
    struct sent *s = peer_expect(&net, PACKET_SYN | PACKET_ACK);

    if (far.session)
        assert_int_equal(
            session_connect_synack(far.session, packet_options(&s->p), s->p.options_len), TCNS_OK);
    free(s);
    if (far.session && session_is_enabled(far.session) && !stripped)
        add_option(&net, eno_ack_option, ENO_ACK_OPTION_LEN);
    peer_ack(&net);
    net.options_len = 0;
}

static void open_inbound(void)
{
    net_sends_syn();
    app_answers();
    net_completes(false);
    peer_pull(&app);
}

static void no_tcpcrypt_far(void)
{
    session_free(far.session);
    far.session = NULL;
}

/* --- Streams ---------------------------------------------------------------------------------- */

static void net_sends_buf(struct buf *b)
{
    for (size_t off = 0; off < b->len; off += 20000)
        peer_send(&net, PACKET_ACK, buf_data(b) + off, b->len - off < 20000 ? b->len - off : 20000);
    buf_unref(b);
}

static void net_sends_output(void)
{
    struct buf *b = NULL;

    assert_int_equal(session_output(far.session, &b), TCNS_OK);
    if (b)
        net_sends_buf(b);
}

static void take_opened(struct session_rx *rx)
{
    if (rx->urgent)
        far.urgent_at = (uint32_t)(far.text_len + rx->urgent_off);
    if (rx->data) {
        memcpy(far.text + far.text_len, buf_data(rx->data), rx->data->len);
        far.text_len += rx->data->len;
    }
    buf_unref(rx->data);
    far.fin |= rx->fin;
    if (rx->output || rx->opened)
        net_sends_output();
}

/* The far host reads what has come: plain, or through its session. */
static void net_reads(void)
{
    while (peer_pull(&net) > 0)
        peer_ack(&net);
    while (far.taken < net.rx_len && far.err == TCNS_OK) {
        size_t used = net.rx_len - far.taken;
        struct session_rx rx = {0};
        if (!far.session || !session_is_enabled(far.session)) {
            memcpy(far.text + far.text_len, net.rx + far.taken, used);
            far.text_len += used;
        } else {
            far.err = session_open(far.session, net.rx + far.taken, used, &used, &rx);
            if (far.err == TCNS_ERR_AGAIN)
                far.err = TCNS_OK;
            else if (far.err == TCNS_OK)
                take_opened(&rx);
        }
        far.taken += used;
    }
}

static void app_reads(void)
{
    while (peer_pull(&app) > 0)
        peer_ack(&app);
}

static void settle(void)
{
    for (int i = 0; i < 8; i++) {
        net_reads();
        app_reads();
    }
    pass(100);
    net_reads();
    app_reads();
}

static void net_seals(const void *data, size_t len, unsigned flags)
{
    struct iovec iov = {(void *)(uintptr_t)data, len};
    struct buf *b;

    assert_int_equal(session_seal(far.session, &iov, len > 0, flags, 0, &b), TCNS_OK);
    net_sends_buf(b);
}

static void net_sends(const void *data, size_t len)
{
    if (far.session && session_is_enabled(far.session))
        net_seals(data, len, 0);
    else
        peer_send(&net, PACKET_ACK, data, len);
}

/* A byte string each way. */
static void check_both_ways(void)
{
    size_t at_far = far.text_len, at_app = app.rx_len;

    peer_send(&app, PACKET_ACK, "question", 8);
    settle();
    assert_int_equal(far.text_len, at_far + 8);
    assert_memory_equal(far.text + at_far, "question", 8);
    net_sends("answer", 6);
    settle();
    assert_int_equal(app.rx_len, at_app + 6);
    assert_memory_equal(app.rx + at_app, "answer", 6);
}

/* Both directions end, the application's first. */
static void close_in_order(void)
{
    peer_send(&app, PACKET_FIN | PACKET_ACK, NULL, 0);
    settle();
    assert_true(net.fin);
    if (far.session && session_is_enabled(far.session)) {
        assert_true(far.fin);
        net_seals(NULL, 0, SESSION_SEAL_FIN);
    }
    peer_send(&net, PACKET_FIN | PACKET_ACK, NULL, 0);
    settle();
    assert_true(app.fin);
    expect_end(TUNNEL_END_CLOSED, TCNS_OK);
    assert_false(app.rst || net.rst);
}

static void check_reason(enum tunnel_reason reason)
{
    struct tunnel_session s;

    assert_non_null(the_flow());
    relay_describe(the_flow(), &s);
    assert_int_equal(s.reason, reason);
}

/* --- Fresh sessions --------------------------------------------------------------------------- */

static void test_outbound(void **state)
{
    app_sends_syn();
    struct sent *s = wire.first[SIDE_OUTER];
    assert_non_null(s);
    assert_true(has_eno(&s->p));
    assert_true(addr_eq(&s->p.src, &app.tuple.local));
    assert_int_equal(s->p.src_port, app.tuple.local_port);
    peer_expect_nothing(&app); /* not before the far end has answered */
    net_answers();
    s = wire.first[SIDE_OUTER];
    assert_true(has_eno(&s->p)); /* the first ACK */
    net_sees_ack();
    assert_true(session_is_enabled(far.session));
    app_completes();
    settle();
    assert_true(session_is_open(far.session));
    check_reason(TUNNEL_REASON_FULL);
    check_both_ways();
    /* No plaintext went out. */
    for (size_t i = 0; i + 8 <= net.rx_len; i++)
        assert_int_not_equal(memcmp(net.rx + i, "question", 8), 0);
    close_in_order();
    assert_int_equal(relay.counters.flows_opened, 1);
    assert_int_equal(relay.counters.flows_encrypted, 1);
    assert_int_equal(relay.counters.flows_clear, 0);
    struct tunnel_session last = last_ended();
    assert_int_equal(last.tx_bytes, 8);
    assert_int_equal(last.rx_bytes, 6);
    const struct tunnel_metrics *m = &relay.metrics;
    assert_int_equal(m->settled[TUNNEL_REASON_FULL], 1);
    assert_int_equal(m->ended[TUNNEL_END_CLOSED], 1);
    assert_int_equal(m->encrypted_bytes[SIDE_INNER], 8);
    assert_int_equal(m->encrypted_bytes[SIDE_OUTER], 6);
    assert_int_equal(m->clear_bytes[SIDE_INNER] + m->clear_bytes[SIDE_OUTER], 0);
    assert_true(m->full.sum_us > 0 && m->full.sum_us == m->full.max_us);
    assert_int_equal(m->resumed.sum_us, 0);
    assert_int_equal(m->session.frames_sealed, 2); /* the question, the end */
    assert_int_equal(m->session.frames_opened, 2);
}

static void test_inbound(void **state)
{
    open_inbound();
    assert_true(session_is_enabled(far.session));
    net_sends_output(); /* the active opener sends Init1 */
    settle();
    assert_true(session_is_open(far.session));
    check_reason(TUNNEL_REASON_FULL);
    check_both_ways();
    close_in_order();
    assert_int_equal(relay.counters.flows_encrypted, 1);
    assert_true(last_ended().inbound);
}

/* The program has no connection before the peer has completed the handshake. */
static void test_inbound_waits_for_the_peer(void **state)
{
    net_sends_syn();
    app_answers();
    assert_int_equal(wire_cnt(SIDE_INNER), 0);
    pass(1000);
    assert_int_equal(wire_cnt(SIDE_INNER), 0);
    net_completes(false);
    free(peer_expect(&app, PACKET_ACK));
    net_sends_output();
    settle();
    check_both_ways();
    close_in_order();
}

static void test_peer_gives_up_inbound(void **state)
{
    net_sends_syn();
    app_answers();
    free(peer_expect(&net, PACKET_SYN | PACKET_ACK));
    peer_send(&net, PACKET_RST, NULL, 0);
    assert_true(peer_pull(&app) > 0);
    assert_true(app.rst);
}

/* What Init1 or a resumed session's first frame can carry needs no packet of its own. */
static void test_first_ack_comes_with_init1(void **state)
{
    app_sends_syn();
    net_answers();
    struct sent *s = peer_expect(&net, PACKET_ACK);
    assert_true(s->p.data_len > 0);
    assert_true(has_eno(&s->p));
    free(s);
    peer_expect_nothing(&net);
}

/* Our segments bear ENO until one without SYN has come (RFC 8547 4.6). */
static void test_eno_until_the_peer_speaks(void **state)
{
    open_outbound();
    settle();
    net_seals("x", 1, 0);
    peer_send(&app, PACKET_ACK, "y", 1);
    struct sent *s = peer_expect(&net, PACKET_ACK);
    assert_false(has_eno(&s->p));
    free(s);
}

static void send_much(size_t len)
{
    for (size_t off = 0; off < len; off += 50000) {
        peer_send(&app, PACKET_ACK, pattern(off), 50000);
        settle();
        net_sends(pattern(off), 50000);
        settle();
    }
    assert_int_equal(far.text_len, len);
    assert_memory_equal(far.text, pattern(0), len);
    assert_int_equal(app.rx_len, len);
    assert_memory_equal(app.rx, pattern(0), len);
}

static void test_much_data(void **state)
{
    open_outbound();
    settle();
    send_much(500000);
    close_in_order();
}

static void test_much_data_plain(void **state)
{
    no_tcpcrypt_far();
    open_inbound();
    send_much(500000);
    close_in_order();
}

/* What the application says before the keys are agreed waits for them. */
static void test_data_and_fin_before_keys(void **state)
{
    open_outbound();
    peer_send(&app, PACKET_ACK, "early", 5);
    peer_send(&app, PACKET_FIN | PACKET_ACK, NULL, 0);
    settle();
    assert_int_equal(far.text_len, 5);
    assert_memory_equal(far.text, "early", 5);
    assert_true(far.fin);
    assert_true(net.fin);
    net_seals("late", 4, 0); /* half-close: the other way goes on */
    net_seals(NULL, 0, SESSION_SEAL_FIN);
    peer_send(&net, PACKET_FIN | PACKET_ACK, NULL, 0);
    settle();
    assert_int_equal(app.rx_len, 4);
    assert_true(app.fin);
    expect_end(TUNNEL_END_CLOSED, TCNS_OK);
}

/* The peer's final frame ends the application's stream; TCP's FIN may come later. */
static void test_peer_closes_first(void **state)
{
    open_outbound();
    settle();
    net_seals("bye", 3, SESSION_SEAL_FIN);
    settle();
    assert_true(app.fin);
    peer_send(&app, PACKET_ACK, "still here", 10);
    settle();
    assert_int_equal(far.text_len, 10);
    peer_send(&net, PACKET_FIN | PACKET_ACK, NULL, 0);
    peer_send(&app, PACKET_FIN | PACKET_ACK, NULL, 0);
    settle();
    assert_true(far.fin && net.fin);
    expect_end(TUNNEL_END_CLOSED, TCNS_OK);
}

/* --- Breaches -----------------------------------------------------------------------------------
 */

static void expect_both_reset(enum tcns_err err)
{
    expect_rst(&app);
    expect_rst(&net);
    expect_end(TUNNEL_END_ERROR, err);
    assert_int_equal(relay.counters.flows_aborted, 1);
    assert_int_equal(history_error_cnt(&relay.history, err), 1);
}

static void test_truncation(void **state)
{
    open_outbound();
    settle();
    net_seals("half", 4, 0);
    settle();
    peer_send(&net, PACKET_FIN | PACKET_ACK, NULL, 0);
    expect_both_reset(TCNS_ERR_TRUNCATED);
    assert_false(app.fin); /* it must not look like an end */
    assert_string_equal(events, "oEx");
}

static void test_truncation_before_keys(void **state)
{
    open_outbound();
    peer_send(&net, PACKET_FIN | PACKET_ACK, NULL, 0);
    expect_both_reset(TCNS_ERR_TRUNCATED);
    assert_string_equal(events, "ox");
}

static void test_flipped_bit(void **state)
{
    struct iovec iov = {(void *)(uintptr_t) "transfer 100", 12};
    struct buf *b;

    open_outbound();
    settle();
    assert_int_equal(session_seal(far.session, &iov, 1, 0, 0, &b), TCNS_OK);
    buf_data(b)[b->len - 20] ^= 1;
    net_sends_buf(b);
    expect_both_reset(TCNS_ERR_FRAME_AUTH);
    assert_int_equal(app.rx_len, 0);
}

/* Bytes of a middlebox in front of a frame. */
static void test_inserted_bytes(void **state)
{
    open_outbound();
    settle();
    peer_send(&net, PACKET_ACK, "HTTP/1.1 400", 12); /* looks like a frame of 21,588 bytes */
    peer_send(&net, PACKET_ACK, pattern(0), 21600);
    expect_both_reset(TCNS_ERR_FRAME_AUTH);
    assert_int_equal(app.rx_len, 0);
}

static void test_nonsense_in_place_of_init(void **state)
{
    open_outbound();
    peer_send(&net, PACKET_ACK, "220 ready\r\n", 11);
    expect_both_reset(TCNS_ERR_INIT_MAGIC);
}

/* --- Without tcpcrypt ---------------------------------------------------------------------------
 */

/* So much later. */
static void tick(unsigned *now_ms, unsigned seconds)
{
    *now_ms += seconds * 1000;
    relay_tick(&relay, (uint64_t)clock_coarse_ms() + *now_ms);
    run();
}

/* The peer agreed to encrypt and then says nothing: the program must not wait for ever. */
static void test_key_exchange_without_end(void **state)
{
    unsigned later_ms = 0;

    relay.key_timeout_ms = 30000;
    open_outbound();
    tick(&later_ms, 29);
    assert_int_equal(the_flow()->phase, FLOW_RELAYING);
    tick(&later_ms, 2);
    expect_both_reset(TCNS_ERR_KEY_TIMEOUT);
}

static void test_key_exchange_without_begin(void **state)
{
    unsigned later_ms = 0;

    relay.key_timeout_ms = 30000;
    open_inbound();
    tick(&later_ms, 31);
    expect_both_reset(TCNS_ERR_KEY_TIMEOUT);
}

/* What is open, or clear, has all the time. */
static void test_key_timeout_spares_others(void **state)
{
    unsigned later_ms = 0;

    relay.key_timeout_ms = 30000;
    open_outbound();
    settle();
    tick(&later_ms, 1000);
    assert_int_equal(the_flow()->phase, FLOW_RELAYING);
    assert_null(relay.flows.keying_old);
}

/* One half has ended, and nothing comes any more from anybody. */
static void test_half_closed_and_silent(void **state)
{
    unsigned later_ms = 0;

    open_outbound();
    settle();
    peer_send(&app, PACKET_FIN | PACKET_ACK, NULL, 0);
    app.seq++;
    settle();
    for (int i = 0; i < SILENCE_PROBES_MAX; i++) {
        tick(&later_ms, SILENCE_LOOK_MS / 1000);
        assert_int_equal(the_flow()->phase, FLOW_RELAYING);
    }
    tick(&later_ms, SILENCE_LOOK_MS / 1000);
    tick(&later_ms, SILENCE_LOOK_MS / 1000);
    assert_null(the_flow());
    expect_end(TUNNEL_END_TIMEOUT, TCNS_OK);
}

/* Both kernels answer: it may wait. */
static void test_half_closed_and_alive(void **state)
{
    unsigned later_ms = 0;

    open_outbound();
    settle();
    peer_send(&app, PACKET_FIN | PACKET_ACK, NULL, 0);
    app.seq++;
    settle();
    for (int i = 0; i < 3 * SILENCE_PROBES_MAX; i++) {
        tick(&later_ms, SILENCE_LOOK_MS / 1000);
        peer_ack(&app);
        peer_ack(&net);
        wire_discard(SIDE_INNER);
        wire_discard(SIDE_OUTER);
    }
    assert_int_equal(the_flow()->phase, FLOW_RELAYING);
}

static void test_peer_without_eno(void **state)
{
    no_tcpcrypt_far();
    open_outbound();
    check_reason(TUNNEL_REASON_PEER_NO_ENO);
    check_both_ways();
    close_in_order();
    assert_int_equal(relay.counters.flows_clear, 1);
    assert_int_equal(relay.metrics.settled[TUNNEL_REASON_PEER_NO_ENO], 1);
    assert_int_equal(relay.metrics.clear_bytes[SIDE_INNER], 8);
    assert_int_equal(relay.metrics.clear_bytes[SIDE_OUTER], 6);
    assert_int_equal(relay.metrics.full.max_us, 0);
}

static void test_inbound_without_eno(void **state)
{
    no_tcpcrypt_far();
    open_inbound();
    check_reason(TUNNEL_REASON_PEER_NO_ENO);
    check_both_ways();
    close_in_order();
    assert_int_equal(relay.counters.flows_clear, 1);
}

/* Something on the way took the option off the last ACK. */
static void test_inbound_eno_stripped(void **state)
{
    net_sends_syn();
    app_answers();
    net_completes(true);
    check_reason(TUNNEL_REASON_ENO_STRIPPED);
    no_tcpcrypt_far();
    peer_pull(&app);
    check_both_ways();
    close_in_order();
}

static void test_policy_off(void **state)
{
    set_policy(TUNNEL_POLICY_OFF);
    app_sends_syn();
    assert_false(has_eno(&wire.first[SIDE_OUTER]->p));
    no_tcpcrypt_far();
    net_answers();
    net_sees_ack();
    app_completes();
    check_reason(TUNNEL_REASON_OFF);
    check_both_ways();
    assert_string_equal(events, "oc");
}

static void test_require_outbound(void **state)
{
    set_policy(TUNNEL_POLICY_REQUIRE);
    no_tcpcrypt_far();
    app_sends_syn();
    net_answers();
    expect_rst(&app);
    expect_rst(&net);
    expect_end(TUNNEL_END_REFUSED, TCNS_OK);
    assert_int_equal(last_ended().reason, TUNNEL_REASON_REQUIRE_REFUSED);
    assert_int_equal(relay.counters.flows_refused, 1);
    assert_string_equal(events, "ox");
}

static void test_require_inbound(void **state)
{
    set_policy(TUNNEL_POLICY_REQUIRE);
    no_tcpcrypt_far();
    net_sends_syn();
    expect_rst(&net);
    peer_expect_nothing(&app); /* it has not heard of it */
    expect_end(TUNNEL_END_REFUSED, TCNS_OK);
}

static void test_require_inbound_eno_stripped(void **state)
{
    set_policy(TUNNEL_POLICY_REQUIRE);
    net_sends_syn();
    app_answers();
    net_completes(true);
    expect_rst(&net);
    expect_rst(&app);
    expect_end(TUNNEL_END_REFUSED, TCNS_OK);
}

static void test_require_with_tcpcrypt(void **state)
{
    set_policy(TUNNEL_POLICY_REQUIRE);
    open_outbound();
    settle();
    check_both_ways();
}

/* Its rule, and the rule's name, are told; another connection is the default's. */
static void test_rule_off(void **state)
{
    struct policy_rule rule = {.name = "plain", .action = TUNNEL_POLICY_OFF, .dir = POLICY_DIR_OUT};
    struct tunnel_session s;

    use_policy(
        &(struct policy_config){.policy = TUNNEL_POLICY_REQUIRE, .rules = &rule, .rule_cnt = 1});
    app_sends_syn();
    assert_false(has_eno(&wire.first[SIDE_OUTER]->p));
    no_tcpcrypt_far();
    net_answers();
    net_sees_ack();
    app_completes();
    check_reason(TUNNEL_REASON_RULE_OFF);
    relay_describe(the_flow(), &s);
    assert_int_equal(s.rule, 1);
    assert_string_equal(s.rule_name, "plain");
    check_both_ways();
    close_in_order();
    assert_string_equal(last_ended().rule_name, "plain");

    new_connection();
    no_tcpcrypt_far();
    net_sends_syn();
    expect_rst(&net);
    assert_int_equal(last_ended().reason, TUNNEL_REASON_REQUIRE_REFUSED);
    assert_int_equal(last_ended().rule, 0);
    assert_string_equal(last_ended().rule_name, "");
}

/* A connection keeps what held when it was opened, cipher and refusal included. */
static void test_policy_changes(void **state)
{
    struct policy_rule rule = {
        .action = TUNNEL_POLICY_REQUIRE,
        .settings = {.set = POLICY_SET_AEADS_A,
                     .session = {{.aeads = {AEAD_CHACHA20_POLY1305}, .aead_cnt = 1}}}};
    struct tunnel_session s;

    use_policy(&(struct policy_config){.rules = &rule, .rule_cnt = 1});
    app_sends_syn();
    set_policy(TUNNEL_POLICY_OFF);
    net_answers();
    net_sees_ack();
    app_completes();
    settle();
    check_reason(TUNNEL_REASON_FULL);
    relay_describe(the_flow(), &s);
    assert_int_equal(s.rule, 1);
    assert_int_equal(s.info.aead, AEAD_CHACHA20_POLY1305);
    check_both_ways();
    close_in_order();
}

static void test_later_require_spares_clear(void **state)
{
    no_tcpcrypt_far();
    app_sends_syn();
    net_answers();
    net_sees_ack();
    set_policy(TUNNEL_POLICY_REQUIRE);
    app_completes();
    check_reason(TUNNEL_REASON_PEER_NO_ENO);
    check_both_ways();
    pass(3000);
    check_both_ways();
    close_in_order();
}

/* A server that speaks, and closes, before the application's kernel has acknowledged. */
static void test_server_first(void **state)
{
    no_tcpcrypt_far();
    app_sends_syn();
    free(peer_expect(&net, PACKET_SYN));
    peer_set_syn_options(&net, 1460, 7);
    in_one_turn = true;
    peer_send(&net, PACKET_SYN | PACKET_ACK, NULL, 0);
    net.options_len = 0;
    peer_send(&net, PACKET_ACK, "hello", 5);
    peer_send(&net, PACKET_FIN | PACKET_ACK, NULL, 0);
    in_one_turn = false;
    run();
    app_completes();
    settle();
    assert_int_equal(app.rx_len, 5);
    assert_memory_equal(app.rx, "hello", 5);
    assert_true(app.fin);
    for (size_t off = 0; off < 500000; off += 10000) { /* the other way stays open */
        peer_send(&app, PACKET_ACK, pattern(off), 10000);
        settle();
    }
    assert_int_equal(far.text_len, 500000);
    assert_memory_equal(far.text, pattern(0), 500000);
    peer_send(&app, PACKET_FIN | PACKET_ACK, NULL, 0);
    settle();
    expect_end(TUNNEL_END_CLOSED, TCNS_OK);
}

/* One that closes at once and says nothing. */
static void test_server_closes_at_once(void **state)
{
    no_tcpcrypt_far();
    app_sends_syn();
    free(peer_expect(&net, PACKET_SYN));
    peer_set_syn_options(&net, 1460, 7);
    in_one_turn = true;
    peer_send(&net, PACKET_SYN | PACKET_ACK, NULL, 0);
    net.options_len = 0;
    peer_send(&net, PACKET_FIN | PACKET_ACK, NULL, 0);
    in_one_turn = false;
    run();
    app_completes();
    settle();
    assert_true(app.fin);
    for (size_t off = 0; off < 500000; off += 10000) {
        peer_send(&app, PACKET_ACK, pattern(off), 10000);
        settle();
    }
    assert_int_equal(far.text_len, 500000);
}

/* --- Opening that fails
 * ---------------------------------------------------------------------------- */

static void test_refused(void **state)
{
    app_sends_syn();
    free(peer_expect(&net, PACKET_SYN));
    peer_send(&net, PACKET_RST | PACKET_ACK, NULL, 0);
    struct sent *s = wire_next(SIDE_INNER);
    assert_int_equal(s->p.flags, PACKET_RST | PACKET_ACK);
    assert_int_equal(s->p.ack, app.seq); /* Linux checks it */
    free(s);
    peer_expect_nothing(&app);
    expect_end(TUNNEL_END_REFUSED, TCNS_OK);
    assert_string_equal(events, "ox");
}

static void test_inbound_refused(void **state)
{
    net_sends_syn();
    free(peer_expect(&app, PACKET_SYN));
    peer_send(&app, PACKET_RST | PACKET_ACK, NULL, 0);
    struct sent *s = wire_next(SIDE_OUTER);
    assert_int_equal(s->p.flags, PACKET_RST | PACKET_ACK);
    assert_int_equal(s->p.ack, net.seq);
    free(s);
    expect_end(TUNNEL_END_REFUSED, TCNS_OK);
}

/* Silence for silence: the opener's own time-outs count. */
static void test_silent(void **state)
{
    app_sends_syn();
    wire_discard(SIDE_OUTER);
    pass(70000);
    assert_non_null(the_flow());
    peer_expect_nothing(&app);
    peer_expect_nothing(&net);
    pass(20000);
    assert_null(the_flow());
    peer_expect_nothing(&app);
    peer_expect_nothing(&net);
    expect_end(TUNNEL_END_TIMEOUT, TCNS_OK);
}

static void test_opener_gives_up(void **state)
{
    app_sends_syn();
    wire_discard(SIDE_OUTER);
    peer_send(&app, PACKET_RST, NULL, 0);
    assert_null(the_flow());
    peer_expect_nothing(&net); /* it has not answered */
    expect_end(TUNNEL_END_RESET_BY_APPLICATION, TCNS_OK);
}

/* A SYN with other numbers: the kernel has forgotten the first. */
static void test_opener_starts_over(void **state)
{
    app_sends_syn();
    wire_discard(SIDE_OUTER);
    app.seq = 77777;
    app_sends_syn();
    assert_null(the_flow());
    app.seq = 77777;
    app_sends_syn(); /* sent again */
    assert_non_null(the_flow());
    net_answers();
    net_sees_ack();
    app_completes();
    settle();
    check_both_ways();
}

static void test_opener_sends_other_segments(void **state)
{
    app_sends_syn();
    wire_discard(SIDE_OUTER);
    peer_send_at(&app, 0, PACKET_ACK, "x", 1);
    peer_send_at(&app, 0, PACKET_FIN | PACKET_ACK, NULL, 0);
    assert_non_null(the_flow());
    peer_expect_nothing(&app);
    peer_expect_nothing(&net);
}

/* --- Lost SYNs
 * -------------------------------------------------------------------------------------- */

static void app_sends_syn_again(void)
{
    app.seq--;
    app_sends_syn();
}

/* The second SYN has no ENO; when it is answered, the next connection has none either. */
/* A connection whose SYN with ENO gets no answer, and the one without does. */
static void eno_is_dropped(void)
{
    app_sends_syn();
    wire_discard(SIDE_OUTER);
    app_sends_syn_again(); /* at once: the first was late in coming here */
    assert_true(has_eno(&wire.first[SIDE_OUTER]->p));
    wire_discard(SIDE_OUTER);
    wire.now_ms += 1000;
    app_sends_syn_again();
    while (the_flow()->session) { /* it may try with ENO more than once */
        wire_discard(SIDE_OUTER);
        app_sends_syn_again();
    }
    while (wire_cnt(SIDE_OUTER) > 1)
        free(wire_next(SIDE_OUTER));
    assert_false(has_eno(&wire.first[SIDE_OUTER]->p));
    no_tcpcrypt_far();
    net_answers();
    net_sees_ack();
    app_completes();
    check_reason(TUNNEL_REASON_ENO_DROPPED);
    check_both_ways();
}

/* The second in a row is remembered: one lost SYN is no proof. */
static void test_fallback(void **state)
{
    eno_is_dropped();
    pass(25);
    new_connection();
    eno_is_dropped();

    new_connection();
    no_tcpcrypt_far();
    app_sends_syn();
    assert_false(has_eno(&wire.first[SIDE_OUTER]->p));
    net_answers();
    net_sees_ack();
    app_completes();
    check_reason(TUNNEL_REASON_FALLBACK_CACHE);

    pass(25);
    wire.now_ms += relay.fallback_ms;
    new_connection();
    app_sends_syn();
    assert_true(has_eno(&wire.first[SIDE_OUTER]->p));
    wire_discard(SIDE_OUTER);
}

static void test_no_fallback_under_require(void **state)
{
    set_policy(TUNNEL_POLICY_REQUIRE);
    app_sends_syn();
    struct sent *first = wire_next(SIDE_OUTER);
    for (int i = 0; i < 6; i++) {
        app_sends_syn_again();
        struct sent *again = wire_next(SIDE_OUTER);
        assert_int_equal(first->p.options_len, again->p.options_len);
        assert_memory_equal(packet_options(&first->p), packet_options(&again->p),
                            first->p.options_len);
        free(again);
        peer_expect_nothing(&net);
    }
    free(first);
}

/* --- What applications wish -------------------------------------------------------------- */

static struct wish the_wish;
static int wish_found;

static int on_wish(void *arg, const struct tuple *tuple, bool inbound, struct wish *ret)
{
    assert_ptr_equal(arg, &the_wish);
    assert_true(tuple_eq(tuple, &app.tuple));
    *ret = the_wish;
    return wish_found;
}

static void wish_for(struct wish w)
{
    relay.wish = on_wish;
    relay.wish_arg = &the_wish;
    the_wish = w;
    wish_found = 1;
}

static void test_wish_off(void **state)
{
    wish_for((struct wish){.set = WISH_POLICY, .policy = TUNNEL_POLICY_OFF});
    app_sends_syn();
    assert_false(has_eno(&wire.first[SIDE_OUTER]->p));
    no_tcpcrypt_far();
    net_answers();
    net_sees_ack();
    app_completes();
    check_reason(TUNNEL_REASON_SOCKET_OFF);
    check_both_ways();
    close_in_order();

    set_policy(TUNNEL_POLICY_OFF); /* then it is not the socket's doing */
    new_connection();
    no_tcpcrypt_far();
    app_sends_syn();
    net_answers();
    net_sees_ack();
    app_completes();
    check_reason(TUNNEL_REASON_OFF);
    close_in_order();
}

static void test_wish_require(void **state)
{
    wish_for((struct wish){.set = WISH_POLICY, .policy = TUNNEL_POLICY_REQUIRE});
    no_tcpcrypt_far();
    app_sends_syn();
    free(wire_next(SIDE_OUTER));
    app_sends_syn_again(); /* with ENO still: no falling back */
    assert_true(has_eno(&wire.first[SIDE_OUTER]->p));
    net_answers();
    expect_rst(&app);
    expect_rst(&net);
    assert_int_equal(last_ended().reason, TUNNEL_REASON_REQUIRE_REFUSED);

    new_connection(); /* and no more than that one socket */
    relay.wish = NULL;
    no_tcpcrypt_far();
    open_outbound();
    check_reason(TUNNEL_REASON_PEER_NO_ENO);
    close_in_order();
}

static void test_wish_require_inbound(void **state)
{
    wish_for((struct wish){.set = WISH_POLICY, .policy = TUNNEL_POLICY_REQUIRE});
    no_tcpcrypt_far();
    net_sends_syn();
    expect_rst(&net);
    expect_end(TUNNEL_END_REFUSED, TCNS_OK);
}

static void test_wish_cannot_weaken(void **state)
{
    set_policy(TUNNEL_POLICY_REQUIRE);
    wish_for((struct wish){.set = WISH_POLICY, .policy = TUNNEL_POLICY_OFF});
    no_tcpcrypt_far();
    app_sends_syn();
    net_answers();
    expect_rst(&app);
    expect_rst(&net);
    assert_int_equal(last_ended().reason, TUNNEL_REASON_REQUIRE_REFUSED);
}

/* Nobody knows what the application wanted: nothing goes out. */
static void test_wish_unknown(void **state)
{
    wish_for((struct wish){.set = 0});
    wish_found = -EIO;
    app_sends_syn();
    assert_null(wire.first[SIDE_OUTER]);
    assert_int_equal(relay.flows.cnt, 0);
}

static void test_wish_cipher(void **state)
{
    struct tunnel_session s;

    wish_for((struct wish){.set = WISH_AEADS, .aeads = {AEAD_CHACHA20_POLY1305}, .aead_cnt = 1});
    open_outbound();
    settle();
    set_policy(TUNNEL_POLICY_OFF); /* the connection's own settings live on */
    relay_describe(the_flow(), &s);
    assert_int_equal(s.info.aead, AEAD_CHACHA20_POLY1305);
    check_both_ways();
    close_in_order();
}

static void test_wish_no_cache(void **state)
{
    relay.cache = resume_cache_new(10);
    set_policy(TUNNEL_POLICY_PREFER);
    wish_for((struct wish){.set = WISH_CACHE, .no_cache = true});
    open_outbound();
    settle();
    check_both_ways();
    assert_int_equal(resume_cache_cnt(relay.cache), 0);
    close_in_order();
    wish_found = 0; /* a socket nobody has spoken of */
    new_connection();
    open_outbound();
    settle();
    check_both_ways();
    assert_int_equal(resume_cache_cnt(relay.cache), 1);
    session_forget(the_flow()->session);
    assert_int_equal(resume_cache_cnt(relay.cache), 0);
    close_in_order();
    resume_cache_free(relay.cache);
    relay.cache = NULL;
}

static void test_inbound_syn_again(void **state)
{
    net_sends_syn();
    free(peer_expect(&app, PACKET_SYN));
    uint32_t after = net.seq;
    net.seq--;
    peer_set_syn_options(&net, 1460, 7);
    peer_send(&net, PACKET_SYN, NULL, 0);
    net.options_len = 0;
    assert_int_equal(net.seq, after);
    app_answers(); /* to the SYN that was sent again */
    net_completes(false);
    net_sends_output();
    settle();
    check_both_ways();
}

/* --- Resets
 * ------------------------------------------------------------------------------------------- */

static void test_reset_by_application(void **state)
{
    open_outbound();
    settle();
    peer_send(&app, PACKET_RST, NULL, 0);
    expect_rst(&net);
    expect_end(TUNNEL_END_RESET_BY_APPLICATION, TCNS_OK);
}

static void test_reset_by_peer(void **state)
{
    open_outbound();
    settle();
    peer_send(&net, PACKET_RST, NULL, 0);
    expect_rst(&app);
    expect_end(TUNNEL_END_RESET_BY_PEER, TCNS_OK);
}

static void test_abort_all(void **state)
{
    open_outbound();
    settle();
    struct peer old_app = app, old_net = net;
    app.rx = net.rx = NULL;
    peer_init(&app, SIDE_INNER);
    peer_init(&net, SIDE_OUTER);
    net.tuple = app.tuple;
    app.deliver = net.deliver = deliver;
    app_sends_syn(); /* a second one, that connects */
    wire_discard(SIDE_OUTER);
    relay_abort_all(&relay);
    stack_flush();
    assert_int_equal(relay.flows.cnt, 0);
    assert_int_equal(wire_cnt(SIDE_INNER), 2);
    assert_int_equal(wire_cnt(SIDE_OUTER), 1);
    assert_true(wire.first[SIDE_INNER]->p.flags & PACKET_RST);
    assert_true(wire.first[SIDE_INNER]->next->p.flags & PACKET_RST);
    assert_true(wire.first[SIDE_OUTER]->p.flags & PACKET_RST);
    expect_end(TUNNEL_END_DETACHED, TCNS_OK);
    free(old_app.rx);
    free(old_net.rx);
}

/* A peer that vanishes: in the end the application hears of it. */
static void test_peer_vanishes(void **state)
{
    no_tcpcrypt_far();
    open_outbound();
    peer_send(&app, PACKET_ACK, "anybody?", 8);
    for (int i = 0; i < 2000 && the_flow(); i++) {
        pass(1000);
        wire_discard(SIDE_OUTER);
    }
    expect_end(TUNNEL_END_TIMEOUT, TCNS_OK);
    expect_rst(&app);
}

/* --- Back-pressure
 * ---------------------------------------------------------------------------------------- */

/* Return: how many bytes the leg says that net may send. */
static size_t announced_room(void)
{
    static uint32_t edge;
    struct sent *s;

    while ((s = wire_next(SIDE_OUTER))) {
        edge = s->p.ack + ((uint32_t)s->p.window << 8);
        free(s);
    }
    return (int32_t)(edge - net.seq) > 0 ? edge - net.seq : 0;
}

/* The application reads nothing: the peer's window closes, and what is held is bounded. */
static void check_back_pressure(void)
{
    enum { STEP = 50000 };
    size_t sent = 0, before = buf_total();

    app.window = 0;
    peer_send(&app, PACKET_ACK, "x", 1); /* tells the window */
    pass(25);
    while (announced_room() > STEP + 100 && sent < 40u << 20) {
        net_sends(pattern(sent % 500000), STEP);
        sent += STEP;
        pass(25);
    }
    assert_in_range(sent, 1u << 20, 39u << 20); /* the window did close */
    assert_true(buf_total() - before < 20u << 20);
    app.window = 65535;
    for (int i = 0; i < 2000 && app.rx_len < sent; i++) {
        peer_ack(&app);
        app_reads();
        pass(STACK_TICK_MS);
    }
    assert_int_equal(app.rx_len, sent);
    for (size_t off = 0; off < sent; off += 500000) {
        size_t len = sent - off < 500000 ? sent - off : 500000;
        assert_memory_equal(app.rx + off, pattern(0), len);
    }
    assert_true(announced_room() > 1u << 20);
}

static void test_back_pressure(void **state)
{
    open_outbound();
    settle();
    check_back_pressure();
}

static void test_back_pressure_plain(void **state)
{
    no_tcpcrypt_far();
    open_outbound();
    check_back_pressure();
}

/* --- Urgent data
 * -------------------------------------------------------------------------------------------- */

static void app_sends_urgent(const char *text)
{
    struct packet packet;
    size_t len = strlen(text);
    struct segment s = {
        .flags = PACKET_ACK | PACKET_URG, .seq = app.seq, .ack = app.ack, .data = text, .len = len};
    struct buf *b = peer_packet(&app, &s, &packet);

    packet.urgent = (uint16_t)len;
    app.seq += (uint32_t)len;
    deliver(&app, b, &packet);
}

static void test_urgent_through_frames(void **state)
{
    open_outbound();
    settle();
    check_both_ways();
    app_sends_urgent("stop!");
    settle();
    assert_int_equal(far.text_len, 13);
    assert_int_equal(far.urgent_at, 12);
}

static void test_urgent_plain(void **state)
{
    no_tcpcrypt_far();
    open_outbound();
    app_sends_urgent("stop!");
    struct sent *s = wire_next(SIDE_OUTER);
    assert_true(s->p.flags & PACKET_URG);
    assert_int_equal(s->p.urgent, 5);
    free(s);
}

/* --- Resumption and keep-alive
 * --------------------------------------------------------------------------------- */

static void test_resumption(void **state)
{
    relay.cache = resume_cache_new(10);
    set_policy(TUNNEL_POLICY_PREFER);
    far.cfg.cache = resume_cache_new(10);
    new_connection();
    open_outbound();
    settle();
    check_reason(TUNNEL_REASON_FULL);
    check_both_ways();
    close_in_order();

    struct tuple first = app.tuple;
    new_connection();
    app.tuple.peer_port = net.tuple.peer_port = first.peer_port;
    open_outbound();
    settle();
    check_reason(TUNNEL_REASON_RESUMED);
    assert_int_equal(relay.counters.flows_resumed, 1);
    check_both_ways();
    close_in_order();
    session_free(far.session);
    far.session = NULL;
    resume_cache_free(relay.cache);
    resume_cache_free(far.cfg.cache);
}

/* A server that speaks first, through a resumed session, and closes: the final frame is
 * there before the application's kernel has acknowledged. */
static void test_resumed_server_first(void **state)
{
    struct buf *b;

    relay.cache = resume_cache_new(10);
    set_policy(TUNNEL_POLICY_PREFER);
    far.cfg.cache = resume_cache_new(10);
    new_connection();
    open_outbound();
    settle();
    close_in_order();

    new_connection();
    app_sends_syn();
    net_answers();
    net_sees_ack();
    assert_true(session_is_open(far.session));
    struct iovec iov = {(void *)(uintptr_t) "hello", 5};
    assert_int_equal(session_seal(far.session, &iov, 1, SESSION_SEAL_FIN, 0, &b), TCNS_OK);
    net_sends_buf(b);
    peer_send(&net, PACKET_FIN | PACKET_ACK, NULL, 0);
    app_completes();
    settle();
    assert_int_equal(app.rx_len, 5);
    assert_true(app.fin);
    check_reason(TUNNEL_REASON_RESUMED);
    peer_send(&app, PACKET_FIN | PACKET_ACK, "bye", 3);
    settle();
    assert_int_equal(far.text_len, 3);
    expect_end(TUNNEL_END_CLOSED, TCNS_OK);
    session_free(far.session);
    far.session = NULL;
    resume_cache_free(relay.cache);
    resume_cache_free(far.cfg.cache);
}

static void test_keep_alive(void **state)
{
    use_policy(&(struct policy_config){.keepalive_s = 3});
    open_outbound();
    settle();
    check_both_ways();
    for (int s = 0; s < 10; s++) { /* the far host answers each time */
        pass(1000);
        settle();
    }
    assert_non_null(the_flow());
    for (int s = 0; s < 20 && the_flow(); s++) {
        pass(1000);
        wire_discard(SIDE_OUTER);
    }
    expect_end(TUNNEL_END_TIMEOUT, TCNS_OK);
}

/* --- Both open at once
 * -------------------------------------------------------------------------------------------- */

static void test_crossing_syns(void **state)
{
    no_tcpcrypt_far();
    app_sends_syn();
    free(peer_expect(&net, PACKET_SYN));
    peer_set_syn_options(&net, 1460, 7);
    peer_send(&net, PACKET_SYN, NULL, 0);
    struct sent *s = peer_expect(&net, PACKET_SYN | PACKET_ACK);
    assert_false(has_eno(&s->p));
    free(s);
    peer_send_at(&net, -1, PACKET_SYN | PACKET_ACK, NULL, 0);
    net.options_len = 0;
    peer_pull(&net);
    app_completes();
    check_both_ways();
    close_in_order();
}

/* --- Everything at once ------------------------------------------------------------------- */

static uint32_t random_state;

static uint32_t random_below(uint32_t n)
{
    random_state = random_state * 1664525 + 1013904223;
    return (random_state >> 8) % n;
}

/* An honest TCP of a poor sort: it sends from the oldest unacknowledged byte on, now
 * and then all over again, and takes only what comes in order. */
struct honest {
    struct peer *p;
    uint8_t out[1u << 20];
    size_t len, acked, next;
    bool closed, fin_acked;
    uint32_t first_seq;
    size_t window;
};

static struct honest ends[SIDE_CNT];
static uint32_t loss_percent;

static void honest_init(struct peer *p)
{
    struct honest *h = &ends[p->side];

    h->p = p;
    h->len = h->acked = h->next = 0;
    h->closed = h->fin_acked = false;
    h->first_seq = p->seq;
    h->window = 65535;
}

static void honest_write(struct honest *h, const void *data, size_t len)
{
    assert_true(h->len + len <= sizeof(h->out));
    memcpy(h->out + h->len, data, len);
    h->len += len;
}

/* Return: something came. */
static bool honest_take(struct honest *h)
{
    struct sent *s;
    bool any = false;

    while ((s = wire_next(h->p->side))) {
        size_t acked = s->p.ack - h->first_seq;
        if (random_below(100) >= loss_percent) {
            if (acked <= h->len + 1 && acked > h->acked)
                h->acked = acked;
            h->fin_acked |= h->closed && acked == h->len + 1;
            h->window = (size_t)s->p.window << 8;
            assert_false(s->p.flags & PACKET_RST);
            peer_follow(h->p, &s->p);
            any = true;
        }
        free(s);
    }
    return any;
}

static void honest_send_one(struct honest *h)
{
    size_t room = h->acked + h->window > h->next ? h->acked + h->window - h->next : 0;
    size_t len = h->len > h->next ? h->len - h->next : 0, max = random_below(3) ? 1400 : 20000;
    uint8_t flags = PACKET_ACK;

    if (h->fin_acked)
        return;
    len = len < room ? len : room;
    len = len < max ? len : max;
    if (h->closed && h->next + len == h->len && room > len)
        flags |= PACKET_FIN;
    if (random_below(100) >= loss_percent)
        peer_send_at(h->p, (int32_t)(h->first_seq + h->next - h->p->seq), flags, h->out + h->next,
                     len);
    h->next += len;
}

static void honest_turn(struct honest *h)
{
    bool any = honest_take(h), over = h->fin_acked && h->p->fin;

    if (h->next < h->acked || random_below(6) == 0)
        h->next = h->acked < h->len ? h->acked : h->len; /* all over again */
    for (uint32_t i = random_below(4); i > 0; i--)
        honest_send_one(h);
    if (over ? any : random_below(3) == 0) /* in TIME-WAIT it only answers */
        peer_send_at(h->p, (int32_t)(h->first_seq + h->acked - h->p->seq), PACKET_ACK, NULL, 0);
}

static void far_writes(const void *data, size_t len, unsigned flags)
{
    struct iovec iov = {(void *)(uintptr_t)data, len};
    struct buf *b = NULL;

    if (!far.session) {
        honest_write(&ends[SIDE_OUTER], data, len);
        return;
    }
    assert_int_equal(session_seal(far.session, &iov, len > 0, flags, 0, &b), TCNS_OK);
    honest_write(&ends[SIDE_OUTER], buf_data(b), b->len);
    buf_unref(b);
}

static void far_reads(void)
{
    while (far.taken < net.rx_len) {
        size_t used = net.rx_len - far.taken;
        struct session_rx rx = {0};
        struct buf *b = NULL;
        enum tcns_err err = TCNS_OK;
        if (!far.session) {
            memcpy(far.text + far.text_len, net.rx + far.taken, used);
            far.text_len += used;
        } else {
            err = session_open(far.session, net.rx + far.taken, used, &used, &rx);
            assert_true(err == TCNS_OK || err == TCNS_ERR_AGAIN);
        }
        if (rx.data)
            memcpy(far.text + far.text_len, buf_data(rx.data), rx.data->len);
        far.text_len += rx.data ? rx.data->len : 0;
        buf_unref(rx.data);
        far.fin |= rx.fin;
        far.taken += used;
        if (err == TCNS_OK && far.session && session_output(far.session, &b) == TCNS_OK && b)
            honest_write(&ends[SIDE_OUTER], buf_data(b), b->len);
        buf_unref(b);
    }
}

enum { SOAK_LEN = 60000 };

/* Both ends write a little more, and close when all is written. */
static void write_more(size_t *app_written, size_t *far_written)
{
    size_t n = random_below(4000);

    if (*app_written < SOAK_LEN && random_below(3) == 0) {
        n = n < SOAK_LEN - *app_written ? n : SOAK_LEN - *app_written;
        honest_write(&ends[SIDE_INNER], pattern(*app_written), n);
        *app_written += n;
        ends[SIDE_INNER].closed = *app_written == SOAK_LEN;
    }
    n = random_below(4000) + 1;
    bool may = !far.session || session_is_open(far.session);
    if (may && *far_written < SOAK_LEN && random_below(3) == 0) {
        n = n < SOAK_LEN - *far_written ? n : SOAK_LEN - *far_written;
        far_writes(pattern(*far_written), n, *far_written + n == SOAK_LEN ? SESSION_SEAL_FIN : 0);
        *far_written += n;
        ends[SIDE_OUTER].closed = *far_written == SOAK_LEN;
    }
}

static void block_at_random(void)
{
    for (int side = 0; side < SIDE_CNT; side++) {
        wire.blocked[side] = random_below(10) == 0;
        if (!wire.blocked[side])
            stack_writable((enum side)side);
    }
}

static void soak(uint32_t seed, bool inbound, bool encrypted)
{
    size_t app_written = 0, far_written = 0;
    int turn;

    new_connection();
    random_state = seed;
    loss_percent = seed % 4 * 5;
    if (!encrypted)
        no_tcpcrypt_far();
    inbound ? open_inbound() : open_outbound();
    honest_init(&app);
    honest_init(&net);
    if (inbound && encrypted) {
        struct buf *b = NULL;
        assert_int_equal(session_output(far.session, &b), TCNS_OK);
        honest_write(&ends[SIDE_OUTER], buf_data(b), b->len);
        buf_unref(b);
    }
    for (turn = 0; turn < 40000 && the_flow(); turn++) {
        write_more(&app_written, &far_written);
        block_at_random();
        in_one_turn = random_below(2);
        honest_turn(&ends[SIDE_INNER]);
        honest_turn(&ends[SIDE_OUTER]);
        in_one_turn = false;
        run();
        far_reads();
        if (random_below(3) == 0)
            pass(STACK_TICK_MS);
    }
    wire.blocked[SIDE_INNER] = wire.blocked[SIDE_OUTER] = false;
    expect_end(TUNNEL_END_CLOSED, TCNS_OK);
    assert_int_equal(app.rx_len, SOAK_LEN);
    assert_memory_equal(app.rx, pattern(0), SOAK_LEN);
    assert_int_equal(far.text_len, SOAK_LEN);
    assert_memory_equal(far.text, pattern(0), SOAK_LEN);
    assert_true(!encrypted || far.fin);
    assert_string_equal(events, encrypted ? "oEx" : "ocx");
}

static void test_soak(void **state)
{
    for (uint32_t seed = 0; seed < 100; seed++)
        soak(seed, seed & 1, seed & 2);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_outbound),
        TEST(test_inbound),
        TEST(test_inbound_waits_for_the_peer),
        TEST(test_peer_gives_up_inbound),
        TEST(test_first_ack_comes_with_init1),
        TEST(test_eno_until_the_peer_speaks),
        TEST(test_much_data),
        TEST(test_much_data_plain),
        TEST(test_data_and_fin_before_keys),
        TEST(test_peer_closes_first),
        TEST(test_truncation),
        TEST(test_truncation_before_keys),
        TEST(test_flipped_bit),
        TEST(test_inserted_bytes),
        TEST(test_nonsense_in_place_of_init),
        TEST(test_key_exchange_without_end),
        TEST(test_key_exchange_without_begin),
        TEST(test_key_timeout_spares_others),
        TEST(test_half_closed_and_silent),
        TEST(test_half_closed_and_alive),
        TEST(test_peer_without_eno),
        TEST(test_inbound_without_eno),
        TEST(test_inbound_eno_stripped),
        TEST(test_policy_off),
        TEST(test_rule_off),
        TEST(test_policy_changes),
        TEST(test_wish_off),
        TEST(test_wish_require),
        TEST(test_wish_require_inbound),
        TEST(test_wish_cannot_weaken),
        TEST(test_wish_unknown),
        TEST(test_wish_cipher),
        TEST(test_wish_no_cache),
        TEST(test_later_require_spares_clear),
        TEST(test_require_outbound),
        TEST(test_require_inbound),
        TEST(test_require_inbound_eno_stripped),
        TEST(test_require_with_tcpcrypt),
        TEST(test_server_first),
        TEST(test_server_closes_at_once),
        TEST(test_refused),
        TEST(test_inbound_refused),
        TEST(test_silent),
        TEST(test_opener_gives_up),
        TEST(test_opener_starts_over),
        TEST(test_opener_sends_other_segments),
        TEST(test_fallback),
        TEST(test_no_fallback_under_require),
        TEST(test_inbound_syn_again),
        TEST(test_reset_by_application),
        TEST(test_reset_by_peer),
        TEST(test_abort_all),
        TEST(test_peer_vanishes),
        TEST(test_back_pressure),
        TEST(test_back_pressure_plain),
        TEST(test_urgent_through_frames),
        TEST(test_urgent_plain),
        TEST(test_resumption),
        TEST(test_resumed_server_first),
        TEST(test_keep_alive),
        TEST(test_crossing_syns),
        TEST(test_soak),
    };

    return wire_run_tests(tests);
}
