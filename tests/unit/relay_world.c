/* SPDX-License-Identifier: BSD-3-Clause
 * The world around a relay, for tests.
 */
#include "relay_world.h"

#include <string.h>

struct relay relay;
struct peer app, net;
struct far_host far;
char events[8];
bool in_one_turn;

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

void run(void)
{
    relay_run(&relay);
    stack_flush();
}

void deliver(struct peer *p, struct buf *buf, struct packet *packet)
{
    relay_input(&relay, p->side, buf, packet, wire.now_ms);
    if (!in_one_turn)
        run();
}

void pass(unsigned ms)
{
    for (unsigned i = 0; i < ms; i += STACK_TICK_MS) {
        wire_advance(STACK_TICK_MS);
        run();
    }
    relay_tick(&relay, wire.now_ms);
    stack_flush();
}

void new_connection(void)
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
    far.urgent_announced = far.urgent_at = 0;
    far.urgent_cnt = 0;
    far.err = TCNS_OK;
    memset(events, 0, sizeof(events));
}

void use_policy(const struct policy_config *cfg)
{
    struct policy *policy;

    assert_int_equal(policy_new(cfg, &policy), 0);
    relay_set_policy(&relay, policy);
}

void set_policy(enum tunnel_policy policy)
{
    use_policy(&(struct policy_config){.policy = policy});
}

int relay_world_set_up(void **state)
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

int relay_world_tear_down(void **state)
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

struct flow *the_flow(void)
{
    return flow_find(&relay.flows, &app.tuple);
}

struct tunnel_session last_ended(void)
{
    assert_true(relay.history.cnt > 0);
    return relay.history
        .ended[(relay.history.next + TUNNEL_ENDED_MAX_CNT - 1) % TUNNEL_ENDED_MAX_CNT];
}

void expect_end(enum tunnel_end end, enum tcns_err err)
{
    assert_null(the_flow());
    struct tunnel_session last = last_ended();
    assert_int_equal(last.end, end);
    assert_int_equal(last.error, err);
}

void expect_rst(struct peer *p)
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

bool has_eno(const struct packet *p)
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

void app_sends_syn(void)
{
    peer_set_syn_options(&app, 1460, 7);
    peer_send(&app, PACKET_SYN, NULL, 0);
    app.options_len = 0;
}

void app_sends_syn_again(void)
{
    app.seq--;
    app_sends_syn();
}

void net_answers(void)
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

void app_completes(void)
{
    free(peer_expect(&app, PACKET_SYN | PACKET_ACK));
    peer_ack(&app);
}

void net_sees_ack(void)
{
    struct sent *s = peer_expect(&net, PACKET_ACK);

    if (far.session)
        assert_int_equal(session_accept_ack(far.session, packet_options(&s->p), s->p.options_len),
                         TCNS_OK);
    free(s);
}

void finish_outbound(void)
{
    net_answers();
    net_sees_ack();
    app_completes();
}

void open_outbound(void)
{
    app_sends_syn();
    finish_outbound();
}

void net_sends_syn(void)
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

void app_answers(void)
{
    struct sent *s = peer_expect(&app, PACKET_SYN);

    assert_false(has_eno(&s->p)); /* that is between the hosts */
    free(s);
    peer_set_syn_options(&app, 1460, 7);
    peer_send(&app, PACKET_SYN | PACKET_ACK, NULL, 0);
    app.options_len = 0;
}

void net_completes(bool stripped)
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

void open_inbound(void)
{
    net_sends_syn();
    app_answers();
    net_completes(false);
    peer_pull(&app);
}

void no_tcpcrypt_far(void)
{
    session_free(far.session);
    far.session = NULL;
}

/* --- Streams ---------------------------------------------------------------------------------- */

void net_sends_buf(struct buf *b)
{
    for (size_t off = 0; off < b->len; off += 20000)
        peer_send(&net, PACKET_ACK, buf_data(b) + off, b->len - off < 20000 ? b->len - off : 20000);
    buf_unref(b);
}

void net_sends_output(void)
{
    struct buf *b = NULL;

    assert_int_equal(session_output(far.session, &b), TCNS_OK);
    if (b)
        net_sends_buf(b);
}

static void take_opened(struct session_rx *rx)
{
    if (rx->urgent)
        far.urgent_announced = far.text_len + rx->urgent_off;
    if (rx->data) {
        memcpy(far.text + far.text_len, buf_data(rx->data), rx->data->len);
        far.text_len += rx->data->len;
    }
    if (far.urgent_announced > 0 && far.urgent_announced < far.text_len) {
        far.urgent_at = far.urgent_announced;
        far.urgent_announced = 0;
        far.urgent_cnt++;
    }
    buf_unref(rx->data);
    far.fin |= rx->fin;
    if (rx->output || rx->opened)
        net_sends_output();
}

/* The far host reads what has come: plain, or through its session. */
static void net_reads(void)
{
    while (peer_pull(&net) > 0 && !net.rst)
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

void app_reads(void)
{
    while (peer_pull(&app) > 0 && !app.rst)
        peer_ack(&app);
}

void settle(void)
{
    for (int i = 0; i < 8; i++) {
        net_reads();
        app_reads();
    }
    pass(100);
    net_reads();
    app_reads();
}

void net_seals(const void *data, size_t len, unsigned flags)
{
    struct iovec iov = {(void *)(uintptr_t)data, len};
    struct buf *b;

    assert_int_equal(session_seal(far.session, &iov, len > 0, flags, 0, &b), TCNS_OK);
    net_sends_buf(b);
}

void net_sends(const void *data, size_t len)
{
    if (far.session && session_is_enabled(far.session))
        net_seals(data, len, 0);
    else
        peer_send(&net, PACKET_ACK, data, len);
}

void check_both_ways(void)
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

void close_in_order(void)
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

void check_reason(enum tunnel_reason reason)
{
    struct tunnel_session s;

    assert_non_null(the_flow());
    relay_describe(the_flow(), &s);
    assert_int_equal(s.reason, reason);
}
