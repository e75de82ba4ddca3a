/* SPDX-License-Identifier: BSD-3-Clause
 * Opening, pumping and ending of relayed connections.
 */
#include "tunnel/relay.h"

#include <assert.h>
#include <stdlib.h>

#include "base/log.h"

/* Linux sends its last but one SYN 63 s before it gives up. */
#define OPENER_SILENT_MAX_MS 75000

#define CHUNK_MAX_CNT 64

/* A frame is not worth sealing for fewer bytes than this while more are waiting. */
#define FRAME_ROOM_MIN_LEN 2048u

static struct leg *opener_leg(struct flow *f)
{
    return &f->legs[f->inbound ? SIDE_OUTER : SIDE_INNER];
}

static struct leg *answerer_leg(struct flow *f)
{
    return &f->legs[f->inbound ? SIDE_INNER : SIDE_OUTER];
}

/* --- Ending ---------------------------------------------------------------------- */

static void end_flow(struct relay *r, struct flow *f)
{
    for (int side = 0; side < SIDE_CNT; side++)
        leg_abort(&f->legs[side]);
    flow_kill(&r->flows, f);
}

static void abort_flow(struct relay *r, struct flow *f, enum tcns_err err)
{
    char peer[ADDR_STR_LEN];

    log_info("%s port %u: connection reset: %s", addr_str(&f->tuple.peer, peer), f->tuple.peer_port,
             err_text(err));
    r->counters.flows_aborted++;
    end_flow(r, f);
}

/* --- Opening --------------------------------------------------------------------- */

static bool held_syn(const struct flow *f, struct packet *ret)
{
    return packet_parse(buf_data(f->syn), f->syn->len, true, ret) == PACKET_TCP;
}

/* The opener gets a RST for its SYN. */
static void refuse(struct relay *r, struct flow *f)
{
    struct packet syn;

    if (held_syn(f, &syn))
        stack_reset(opener_leg(f)->side, &syn);
    end_flow(r, f);
}

void relay_fail_opening(struct relay *r, struct flow *f)
{
    end_flow(r, f);
}

static void settle(struct relay *r, struct flow *f)
{
    struct session_info info;

    if (!f->session) {
        f->reason = SESSION_REASON_OFF;
        r->counters.flows_clear++;
        return;
    }
    session_get_info(f->session, &info);
    f->reason = info.reason;
    if (info.enabled) {
        r->counters.flows_encrypted++;
        return;
    }
    r->counters.flows_clear++;
    session_free(f->session);
    f->session = NULL;
}

static bool must_refuse_clear(const struct relay *r, const struct flow *f)
{
    return r->policy == TUNNEL_POLICY_REQUIRE && !f->session;
}

/* Outbound: our SYN carries the ENO option. */
static bool start_outbound(struct flow *f)
{
    struct leg_option *opt = &f->legs[SIDE_OUTER].syn_option;
    uint8_t bytes[ENO_OPTION_MAX_LEN];
    size_t len = 0;

    if (f->session && session_connect(f->session, bytes, &len) != TCNS_OK)
        return false;
    if (len > sizeof(opt->bytes))
        return false;
    memcpy(opt->bytes, bytes, len);
    opt->len = (uint8_t)len;
    return leg_connect(&f->legs[SIDE_OUTER], &f->tuple) == 0;
}

/* Inbound: the peer's SYN is read now, and answered when the application has accepted. */
static bool start_inbound(struct flow *f, const struct packet *syn)
{
    struct leg_option *opt = &f->legs[SIDE_OUTER].syn_option;
    uint8_t bytes[ENO_OPTION_MAX_LEN];
    size_t len = 0;

    if (f->session && session_accept(f->session, packet_options(syn), syn->options_len, bytes,
                                     &len) != TCNS_OK)
        return false;
    if (len > sizeof(opt->bytes))
        return false;
    memcpy(opt->bytes, bytes, len);
    opt->len = (uint8_t)len;
    return true;
}

void relay_open(struct relay *r, const struct tuple *tuple, enum side side, struct buf *buf,
                const struct packet *packet, uint64_t now_ms)
{
    bool inbound = side == SIDE_OUTER;

    buf->off = (uint32_t)(packet->ip - buf->bytes);
    buf->len = (uint32_t)packet->len;
    struct flow *f = flow_new(&r->flows, tuple, inbound, buf, now_ms);
    if (!f) {
        r->counters.drop_memory++;
        return;
    }
    r->counters.flows_opened++;
    if (r->policy != TUNNEL_POLICY_OFF) {
        f->session = session_new(&r->session);
        if (!f->session) {
            r->counters.drop_memory++;
            end_flow(r, f);
            return;
        }
    }
    if (!inbound) {
        if (!start_outbound(f))
            end_flow(r, f);
        return;
    }
    if (!start_inbound(f, packet)) {
        end_flow(r, f);
        return;
    }
    if (f->legs[SIDE_OUTER].syn_option.len == 0) {
        settle(r, f); /* nothing that the ACK could bring would enable it */
        if (must_refuse_clear(r, f)) {
            r->counters.flows_refused++;
            refuse(r, f);
            return;
        }
    }
    if (leg_connect(&f->legs[SIDE_INNER], &f->tuple) < 0)
        end_flow(r, f);
}

void relay_on_opener(struct relay *r, struct flow *f, const struct packet *packet, uint64_t now_ms)
{
    struct packet syn;

    if (packet->flags & PACKET_RST || !held_syn(f, &syn) ||
        (packet->flags & PACKET_SYN && packet->seq != syn.seq)) {
        /* It gave up, or opens anew from the same port: its next SYN starts over. */
        end_flow(r, f);
        return;
    }
    if (packet->flags & PACKET_SYN) {
        flow_touch(&r->flows, f, now_ms);
        leg_retransmit_syn(answerer_leg(f));
    }
}

void relay_on_established(struct relay *r, struct leg *leg, const struct packet *packet)
{
    struct flow *f = flow_from_leg(leg);

    if (leg->side != SIDE_OUTER || !f->session)
        return;
    enum tcns_err err =
        f->inbound
            ? session_accept_ack(f->session, packet_options(packet), packet->options_len)
            : session_connect_synack(f->session, packet_options(packet), packet->options_len);
    if (err != TCNS_OK)
        log_debug("negotiation: %s", err_text(err)); /* the session says disabled */
    if (!f->inbound && session_is_enabled(f->session)) {
        memcpy(leg->ack_option.bytes, eno_ack_option, ENO_ACK_OPTION_LEN);
        leg->ack_option.len = ENO_ACK_OPTION_LEN;
    }
}

/* The far end has answered: now the opener gets its SYN-ACK. */
static void answer_opener(struct relay *r, struct flow *f)
{
    struct leg *leg = opener_leg(f);
    struct packet syn;

    if (!held_syn(f, &syn)) {
        end_flow(r, f);
        return;
    }
    struct buf *buf = buf_ref(f->syn);
    flow_start_relaying(&r->flows, f);
    if (leg_accept(leg, buf, &syn) < 0)
        end_flow(r, f);
}

static void run_connecting(struct relay *r, struct flow *f)
{
    unsigned ev = leg_take_events(answerer_leg(f));

    if (ev & LEG_EV_RESET) {
        refuse(r, f);
        return;
    }
    if (ev & LEG_EV_GONE) {
        end_flow(r, f); /* silence for silence */
        return;
    }
    if (!(ev & LEG_EV_ESTABLISHED))
        return;
    answerer_leg(f)->events = ev & ~LEG_EV_ESTABLISHED; /* data may have come along */
    if (!f->inbound) {
        settle(r, f);
        if (must_refuse_clear(r, f)) {
            r->counters.flows_refused++;
            refuse(r, f);
            return;
        }
    }
    answer_opener(r, f);
}

/* --- Pumping --------------------------------------------------------------------- */

static enum tcns_err write_buf(struct flow *f, enum side side, struct buf *b)
{
    int err = leg_write(&f->legs[side], b, buf_data(b), b->len);

    buf_unref(b);
    return err < 0 ? TCNS_ERR_NO_MEMORY : TCNS_OK;
}

/* Init messages, and answers to a rekey. */
static enum tcns_err send_output(struct flow *f)
{
    struct buf *b = NULL;
    enum tcns_err err = session_output(f->session, &b);

    if (err != TCNS_OK || !b)
        return err;
    return write_buf(f, SIDE_OUTER, b);
}

/* How many application bytes the next frame takes: whole super-segments where the
 * path is wide, no more than one flight where it is narrow. */
static size_t frame_data_max(const struct leg *outer)
{
    size_t flight = leg_window(outer);
    size_t frame = flight > outer->wire_mss ? flight : outer->wire_mss;

    frame = frame / outer->wire_mss * outer->wire_mss; /* fill packets */
    size_t limit = (SESSION_FRAME_DATA_MAX_LEN + SESSION_FRAME_OVERHEAD_LEN) / outer->wire_mss *
                   outer->wire_mss;
    if (frame > limit)
        frame = limit;
    return frame - SESSION_FRAME_OVERHEAD_LEN;
}

/* Gathers at most max bytes of what was received, without taking them. */
static size_t gather(const struct leg *leg, struct iovec *iov, size_t *ret_cnt, size_t max)
{
    struct leg_chunk chunks[CHUNK_MAX_CNT];
    size_t cnt = leg_peek(leg, chunks, CHUNK_MAX_CNT);
    size_t len = 0, n = 0;

    for (; n < cnt && len < max; n++) {
        size_t take = chunks[n].len < max - len ? chunks[n].len : max - len;
        iov[n] = (struct iovec){chunks[n].data, take};
        len += take;
    }
    *ret_cnt = n;
    return len;
}

static enum tcns_err seal_up(struct flow *f)
{
    struct leg *inner = &f->legs[SIDE_INNER], *outer = &f->legs[SIDE_OUTER];

    while (!outer->fin_sent && (inner->rx_len > 0 || f->fin_in[SIDE_INNER])) {
        struct iovec iov[CHUNK_MAX_CNT];
        size_t iov_cnt, room = leg_room(outer);
        if (room < FRAME_ROOM_MIN_LEN)
            return TCNS_OK;
        size_t max = frame_data_max(outer);
        if (max > room - SESSION_FRAME_OVERHEAD_LEN)
            max = room - SESSION_FRAME_OVERHEAD_LEN;
        size_t len = gather(inner, iov, &iov_cnt, max);
        bool fin = f->fin_in[SIDE_INNER] && len == inner->rx_len;

        struct buf *frame;
        enum tcns_err err =
            session_seal(f->session, iov, iov_cnt, fin ? SESSION_SEAL_FIN : 0, &frame);
        if (err == TCNS_OK)
            err = write_buf(f, SIDE_OUTER, frame);
        if (err != TCNS_OK)
            return err;
        leg_consume(inner, len);
        f->bytes_in[SIDE_INNER] += len;
        if (fin)
            leg_shutdown(outer);
    }
    return TCNS_OK;
}

/* Plain TCP, either direction. */
static enum tcns_err copy_plain(struct flow *f, enum side from)
{
    struct leg *in = &f->legs[from], *out = &f->legs[side_other(from)];
    struct leg_chunk chunk;

    while (leg_peek(in, &chunk, 1) > 0) {
        size_t room = leg_room(out);
        size_t len = chunk.len < room ? chunk.len : room;
        if (len == 0)
            return TCNS_OK;
        if (leg_write(out, chunk.buf, chunk.data, len) < 0)
            return TCNS_ERR_NO_MEMORY;
        leg_consume(in, len);
        f->bytes_in[from] += len;
    }
    if (f->fin_in[from])
        leg_shutdown(out);
    return TCNS_OK;
}

static enum tcns_err take_opened(struct flow *f, struct session_rx *rx)
{
    struct leg *inner = &f->legs[SIDE_INNER];
    enum tcns_err err = TCNS_OK;

    if (rx->output)
        err = send_output(f);
    if (rx->data && err == TCNS_OK) {
        f->bytes_in[SIDE_OUTER] += rx->data->len;
        err = write_buf(f, SIDE_INNER, rx->data);
    } else {
        buf_unref(rx->data);
    }
    if (err == TCNS_OK && rx->fin)
        leg_shutdown(inner);
    return err;
}

static enum tcns_err open_down(struct flow *f)
{
    struct leg *inner = &f->legs[SIDE_INNER], *outer = &f->legs[SIDE_OUTER];
    struct leg_chunk chunk;

    while (leg_peek(outer, &chunk, 1) > 0) {
        struct session_rx rx = {0};
        size_t used = 0;
        /* One frame more than the room is bounded; half a frame can't be given on. */
        if (session_is_open(f->session) && leg_room(inner) == 0 && !inner->fin_sent)
            return TCNS_OK;
        enum tcns_err err = session_open(f->session, chunk.data, chunk.len, &used, &rx);
        if (err_class(err) == ERR_CLASS_WAIT)
            used = chunk.len;
        else if (err != TCNS_OK)
            return err;
        leg_consume(outer, used);
        if (err == TCNS_OK)
            err = take_opened(f, &rx);
        if (err_class(err) > ERR_CLASS_WAIT)
            return err;
    }
    /* A FIN without a final frame is not the end of the peer's data: RFC 8548 3.7. */
    if (f->fin_in[SIDE_OUTER]) {
        enum tcns_err err = session_on_fin(f->session);
        if (err != TCNS_OK)
            return err;
    }
    return TCNS_OK;
}

static enum tcns_err pump(struct flow *f)
{
    enum tcns_err err = TCNS_OK;

    if (!f->legs[SIDE_OUTER].established)
        return TCNS_OK; /* not settled yet */
    if (!f->session) {
        err = copy_plain(f, SIDE_INNER);
        return err == TCNS_OK ? copy_plain(f, SIDE_OUTER) : err;
    }
    err = send_output(f);
    if (err == TCNS_OK)
        err = open_down(f);
    if (err == TCNS_OK && session_is_open(f->session))
        err = seal_up(f);
    return err;
}

/* --- Running --------------------------------------------------------------------- */

static void run_relaying(struct relay *r, struct flow *f)
{
    struct leg *inner = &f->legs[SIDE_INNER], *outer = &f->legs[SIDE_OUTER];
    unsigned ev[SIDE_CNT] = {leg_take_events(inner), leg_take_events(outer)};

    if ((ev[SIDE_INNER] | ev[SIDE_OUTER]) & (LEG_EV_RESET | LEG_EV_TIMEOUT)) {
        end_flow(r, f); /* the other end gets a RST as well */
        return;
    }
    if (ev[SIDE_OUTER] & LEG_EV_ESTABLISHED && f->inbound && f->session) {
        settle(r, f);
        if (must_refuse_clear(r, f)) {
            r->counters.flows_refused++;
            end_flow(r, f);
            return;
        }
    }
    for (int side = 0; side < SIDE_CNT; side++) {
        if (ev[side] & LEG_EV_FIN)
            f->fin_in[side] = true;
    }
    enum tcns_err err = pump(f);
    if (err != TCNS_OK) {
        abort_flow(r, f, err);
        return;
    }
    leg_output(inner);
    leg_output(outer);
    if (!inner->pcb && !outer->pcb)
        flow_kill(&r->flows, f);
}

void relay_run(struct relay *r)
{
    struct flow *f;

    while ((f = flow_next_queued(&r->flows))) {
        if (f->phase == FLOW_CONNECTING)
            run_connecting(r, f);
        if (f->phase == FLOW_RELAYING)
            run_relaying(r, f);
        if (f->phase == FLOW_DEAD && !f->queued)
            flow_reap(&r->flows, f);
    }
}

void relay_tick(struct relay *r, uint64_t now_ms)
{
    struct flow *f;

    while ((f = r->flows.connecting_old) && now_ms - f->touched_ms > OPENER_SILENT_MAX_MS)
        relay_fail_opening(r, f);
    relay_run(r);
}

static bool abort_one(struct flow *f, void *arg)
{
    struct relay *r = arg;

    if (f->phase == FLOW_CONNECTING)
        refuse(r, f);
    else
        end_flow(r, f);
    return true;
}

void relay_abort_all(struct relay *r)
{
    flow_each(&r->flows, abort_one, r);
    relay_run(r);
}

static enum tunnel_state state_of(const struct flow *f)
{
    if (f->phase != FLOW_RELAYING || !f->legs[SIDE_OUTER].established)
        return TUNNEL_STATE_OPENING;
    if (f->fin_in[SIDE_INNER] && f->fin_in[SIDE_OUTER])
        return TUNNEL_STATE_CLOSING;
    if (!f->session)
        return TUNNEL_STATE_CLEAR;
    return session_is_open(f->session) ? TUNNEL_STATE_ENCRYPTED : TUNNEL_STATE_OPENING;
}

void relay_describe(const struct flow *f, struct tunnel_session *ret)
{
    *ret = (struct tunnel_session){
        .tuple = f->tuple,
        .inbound = f->inbound,
        .state = state_of(f),
        .reason = session_reason_name(f->reason),
        .tx_bytes = f->bytes_in[SIDE_INNER],
        .rx_bytes = f->bytes_in[SIDE_OUTER],
        .started_s = f->started_s,
    };
    if (f->session)
        session_get_info(f->session, &ret->info);
}
