/* SPDX-License-Identifier: BSD-3-Clause
 * Opening, pumping and ending of relayed connections.
 */
#include "tunnel/relay.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "tcpcrypt/resume.h"
#include "tunnel/endlog.h"
#include "tunnel/keylog.h"
#include "tunnel/pump.h"
#include "tunnel/silence.h"

/* An application's kernel repeats a SYN after a second (RFC 6298 2.1). */
#define SYN_LOST_MS 700u

/* Linux sends its last but one SYN 63 s before it gives up. */
#define OPENER_SILENT_MAX_MS 75000

static struct leg *opener_leg(struct flow *f)
{
    return &f->legs[f->inbound ? SIDE_OUTER : SIDE_INNER];
}

static struct leg *answerer_leg(struct flow *f)
{
    return &f->legs[f->inbound ? SIDE_INNER : SIDE_OUTER];
}

static void tell(const struct relay *r, enum tunnel_event event, const struct tunnel_session *s)
{
    if (r->on_event)
        r->on_event(event, s, r->event_arg);
}

static void tell_of(const struct relay *r, enum tunnel_event event, const struct flow *f)
{
    struct tunnel_session s;

    if (!r->on_event)
        return;
    relay_describe(f, &s);
    tell(r, event, &s);
}

/* --- Ending ---------------------------------------------------------------------- */

static enum tunnel_state state_while_it_lived(const struct flow *f, const struct tunnel_session *s)
{
    if (s->info.has_id)
        return TUNNEL_STATE_ENCRYPTED;
    return f->phase == FLOW_RELAYING && !f->session ? TUNNEL_STATE_CLEAR : TUNNEL_STATE_OPENING;
}

/* RST to whichever end is still there. */
static void end_with(struct relay *r, struct flow *f, enum tunnel_end end, enum tcns_err err)
{
    struct tunnel_session last;

    relay_describe(f, &last);
    last.end = end;
    last.error = err;
    last.ended_s = clock_epoch_s();
    history_add(&r->history, &last);
    r->metrics.ended[end]++;
    tell(r, TUNNEL_EVENT_ENDED, &last);
    endlog_write(&last, state_while_it_lived(f, &last));
    for (int side = 0; side < SIDE_CNT; side++)
        leg_abort(&f->legs[side]);
    flow_kill(&r->flows, f);
}

static void end_flow(struct relay *r, struct flow *f, enum tunnel_end end)
{
    end_with(r, f, end, TCNS_OK);
}

static void abort_flow(struct relay *r, struct flow *f, enum tcns_err err)
{
    r->counters.flows_aborted++;
    end_with(r, f, TUNNEL_END_ERROR, err);
}

/* --- Opening --------------------------------------------------------------------- */

static bool held_syn(const struct flow *f, struct packet *ret)
{
    if (packet_parse(buf_data(f->syn), f->syn->len, true, ret) != PACKET_TCP)
        return false;
    ret->via = f->legs[SIDE_OUTER].via;
    return true;
}

/* The opener gets a RST for its SYN. */
static void refuse(struct relay *r, struct flow *f, enum tunnel_end end)
{
    struct packet syn;

    if (held_syn(f, &syn))
        stack_reset(opener_leg(f)->side, &syn);
    end_flow(r, f, end);
}

static void refuse_clear(struct relay *r, struct flow *f)
{
    r->counters.flows_refused++;
    f->reason = TUNNEL_REASON_REQUIRE_REFUSED;
    if (f->phase == FLOW_CONNECTING)
        refuse(r, f, TUNNEL_END_REFUSED);
    else
        end_flow(r, f, TUNNEL_END_REFUSED);
}

void relay_fail_opening(struct relay *r, struct flow *f, enum tunnel_end end)
{
    end_flow(r, f, end);
}

static uint64_t age_us(const struct flow *f)
{
    return (uint64_t)(clock_us() - f->opened_us);
}

static void settle(struct relay *r, struct flow *f)
{
    struct session_info info;

    if (!f->session) {
        r->counters.flows_clear++;
        r->metrics.settled[f->reason]++;
        return;
    }
    session_get_info(f->session, &info);
    f->reason = (enum tunnel_reason)info.reason; /* the same numbers: tunnel.h */
    r->metrics.settled[f->reason]++;
    if (info.enabled) {
        r->counters.flows_encrypted++;
        if (info.reason == SESSION_REASON_RESUMED) {
            r->counters.flows_resumed++;
            histogram_add(&r->metrics.resumed, age_us(f));
        }
        return;
    }
    r->counters.flows_clear++;
    session_free(f->session);
    f->session = NULL;
}

/* What holds for this connection: the one place that says so. */
static struct policy_verdict verdict_of(const struct flow *f)
{
    struct policy_verdict v =
        policy_verdict(f->policy, f->rule, f->inbound ? SESSION_ROLE_B : SESSION_ROLE_A);

    if (f->own) {
        v.policy = f->own->policy;
        v.session = &f->own->session;
    }
    return v;
}

static bool is_required(const struct flow *f)
{
    return verdict_of(f).policy == TUNNEL_POLICY_REQUIRE;
}

static bool must_refuse_clear(const struct flow *f)
{
    return !f->session && is_required(f);
}

static bool set_option(struct leg_option *opt, const uint8_t *bytes, size_t len)
{
    if (len > sizeof(opt->bytes))
        return false;
    memcpy(opt->bytes, bytes, len);
    opt->len = (uint8_t)len;
    return true;
}

/* The peer by the name under which session secrets are kept (RFC 8548 3.5). */
static void name_peer(struct flow *f)
{
    uint8_t name[sizeof(f->tuple.peer) + sizeof(f->tuple.peer_port)];

    _Static_assert(sizeof(name) <= SESSION_PEER_MAX_LEN, "a peer's name fits the cache");
    memcpy(name, &f->tuple.peer, sizeof(f->tuple.peer));
    memcpy(name + sizeof(f->tuple.peer), &f->tuple.peer_port, sizeof(f->tuple.peer_port));
    session_set_peer(f->session, name, sizeof(name), sizeof(f->tuple.peer));
}

/* Outbound: our SYN carries the ENO option. */
static bool start_outbound(struct flow *f)
{
    struct leg *outer = &f->legs[SIDE_OUTER];
    uint8_t bytes[ENO_OPTION_MAX_LEN];
    size_t len = 0;

    if (f->session) {
        name_peer(f);
        if (session_connect(f->session, bytes, &len) != TCNS_OK)
            return false;
    }
    leg_hold_first_ack(outer); /* Init1 goes with it */
    return set_option(&outer->syn_option, bytes, len) && leg_connect(outer, &f->tuple) == 0;
}

/* Inbound: the peer's SYN is read now, and answered when the application has accepted. */
static bool start_inbound(struct flow *f, const struct packet *syn)
{
    uint8_t bytes[ENO_OPTION_MAX_LEN];
    size_t len = 0;

    if (f->session) {
        name_peer(f);
        if (session_accept(f->session, packet_options(syn), syn->options_len, bytes, &len) !=
            TCNS_OK)
            return false;
    }
    return set_option(&f->legs[SIDE_OUTER].syn_option, bytes, len);
}

void relay_set_policy(struct relay *r, struct policy *policy)
{
    policy_unref(r->policy);
    r->policy = policy;
    policy_set_stores(policy, r->cache, r->keys);
}

/* The policy's rule, and what the application wants on top. Return: false when that cannot
 * be known now. */
static bool choose_rule(struct relay *r, struct flow *f)
{
    struct wish wish;

    f->policy = policy_ref(r->policy);
    f->rule = policy_find(f->policy, &f->tuple, f->inbound);
    int found = r->wish ? r->wish(r->wish_arg, &f->tuple, f->inbound, &wish) : 0;
    if (found <= 0)
        return found == 0;
    struct policy_verdict v = verdict_of(f);
    f->own = malloc(sizeof(*f->own));
    if (!f->own)
        return false;
    *f->own = (struct flow_own){v.policy, *v.session};
    wish_apply(&wish, &f->own->policy, &f->own->session);
    return true;
}

static enum tunnel_reason reason_of_off(const struct flow *f, const struct policy_verdict *v)
{
    if (f->own && policy_verdict(f->policy, f->rule, SESSION_ROLE_A).policy != TUNNEL_POLICY_OFF)
        return TUNNEL_REASON_SOCKET_OFF;
    return v->rule ? TUNNEL_REASON_RULE_OFF : TUNNEL_REASON_OFF;
}

static void on_key(const struct session_key *key, void *arg)
{
    const struct flow *f = arg;

    keylog_write(f->keylog_fd, &f->tuple, key);
}

/* With or without tcpcrypt? Return: false when out of memory. */
static bool choose_session(struct relay *r, struct flow *f, uint64_t now_ms)
{
    struct policy_verdict v = verdict_of(f);

    r->has_keepalive |= v.keepalive_s > 0;
    if (v.policy == TUNNEL_POLICY_OFF) {
        f->reason = reason_of_off(f, &v);
        return true;
    }
    if (!f->inbound && v.policy != TUNNEL_POLICY_REQUIRE &&
        fallback_has(&r->fallback, &f->tuple.peer, now_ms)) {
        f->reason = TUNNEL_REASON_FALLBACK_CACHE;
        return true;
    }
    f->session = session_new(v.session);
    if (!f->session)
        return false;
    session_set_counters(f->session, &r->metrics.session);
    f->keylog_fd = r->keylog_fd;
    if (f->keylog_fd > 0)
        session_set_key_log(f->session, on_key, f);
    return true;
}

static void open_outbound(struct relay *r, struct flow *f)
{
    if (!start_outbound(f))
        end_with(r, f, TUNNEL_END_ERROR, TCNS_ERR_NO_MEMORY);
}

static void open_inbound(struct relay *r, struct flow *f, const struct packet *syn)
{
    if (!start_inbound(f, syn)) {
        end_with(r, f, TUNNEL_END_ERROR, TCNS_ERR_NO_MEMORY);
        return;
    }
    if (f->legs[SIDE_OUTER].syn_option.len == 0) {
        settle(r, f); /* nothing that the ACK could bring would enable it */
        if (must_refuse_clear(f)) {
            refuse_clear(r, f);
            return;
        }
    }
    leg_hold_first_ack(&f->legs[SIDE_INNER]);
    if (leg_connect(&f->legs[SIDE_INNER], &f->tuple) < 0)
        end_with(r, f, TUNNEL_END_ERROR, TCNS_ERR_NO_MEMORY);
}

void relay_open(struct relay *r, const struct tuple *tuple, enum side side, struct buf *buf,
                const struct packet *packet, uint64_t now_ms)
{
    buf->off = (uint32_t)(packet->ip - buf->bytes);
    buf->len = (uint32_t)packet->len;
    struct flow *f = flow_new(&r->flows, tuple, side == SIDE_OUTER, buf, now_ms);
    if (!f) {
        r->counters.drop_memory++;
        return;
    }
    f->legs[SIDE_OUTER].via = packet->via;
    r->counters.flows_opened++;
    tell_of(r, TUNNEL_EVENT_OPENED, f);
    if (!choose_rule(r, f) || !choose_session(r, f, now_ms))
        end_with(r, f, TUNNEL_END_ERROR, TCNS_ERR_NO_MEMORY);
    else if (f->inbound)
        open_inbound(r, f, packet);
    else
        open_outbound(r, f);
}

/* RFC 8547 4.6: the active opener may drop the option from a retransmitted SYN, to
 * get past middleboxes that drop SYNs with it. Not when it was we who were late with the
 * first: then the answer has had no time to come. */
static void give_up_eno(struct flow *f, uint64_t now_ms)
{
    if (f->inbound || !f->session || is_required(f) || now_ms - f->opened_ms < SYN_LOST_MS)
        return;
    f->legs[SIDE_OUTER].syn_option.len = 0;
    f->reason = TUNNEL_REASON_ENO_DROPPED;
    session_free(f->session);
    f->session = NULL;
}

/* RFC 8547 4.6 (1): a repeated SYN without ENO ends encryption, and the SYN-ACK has none
 * from then on. A box that drops SYN-ACKs with it would drop each of them. */
void relay_on_syn_again(struct flow *f, const struct packet *packet)
{
    uint8_t bytes[ENO_OPTION_MAX_LEN];
    size_t len = 0;

    if (!f->inbound || !f->session ||
        session_accept(f->session, packet_options(packet), packet->options_len, bytes, &len) !=
            TCNS_OK)
        return;
    set_option(&f->legs[SIDE_OUTER].syn_option, bytes, len);
}

void relay_on_opener(struct relay *r, struct flow *f, const struct packet *packet, uint64_t now_ms)
{
    struct packet syn;
    bool have_syn = held_syn(f, &syn);

    /* RFC 5961 3.2: anybody can send a RST, few know the number it must bear. */
    if (packet->flags & PACKET_RST && have_syn && packet->seq != syn.seq + 1)
        return;
    if (packet->flags & PACKET_RST || !have_syn ||
        (packet->flags & PACKET_SYN && packet->seq != syn.seq)) {
        /* It gave up, or opens anew from the same port: its next SYN starts over. */
        end_flow(r, f, f->inbound ? TUNNEL_END_RESET_BY_PEER : TUNNEL_END_RESET_BY_APPLICATION);
        return;
    }
    if (packet->flags & PACKET_SYN) {
        flow_touch(&r->flows, f, now_ms);
        give_up_eno(f, now_ms);
        relay_on_syn_again(f, packet);
        leg_retransmit_syn(answerer_leg(f));
    }
}

void relay_on_established(struct relay *r, struct leg *leg, const struct packet *packet)
{
    struct flow *f = flow_from_leg(leg);

    if (leg->side != SIDE_OUTER || !f->session || f->crossing)
        return;
    enum tcns_err err =
        f->inbound
            ? session_accept_ack(f->session, packet_options(packet), packet->options_len)
            : session_connect_synack(f->session, packet_options(packet), packet->options_len);
    if (err != TCNS_OK)
        log_debug("negotiation: %s", err_text(err)); /* the session can only fail from here */
    if (!f->inbound && session_is_enabled(f->session)) {
        memcpy(leg->ack_option.bytes, eno_ack_option, ENO_ACK_OPTION_LEN);
        leg->ack_option.len = ENO_ACK_OPTION_LEN;
    }
}

/* RFC 8547 4.6: the two SYNs settle it, and a host that is thereby disabled may send
 * its SYN-ACK without ENO. */
void relay_on_crossing_syn(struct relay *r, struct leg *leg, const struct packet *packet)
{
    struct flow *f = flow_from_leg(leg);

    f->crossing = true;
    if (!f->session)
        return;
    if (session_connect_synack(f->session, packet_options(packet), packet->options_len) !=
            TCNS_OK ||
        !session_is_enabled(f->session))
        leg->syn_option.len = 0;
}

/* The far end has answered: now the opener gets its SYN-ACK. */
static void answer_opener(struct relay *r, struct flow *f)
{
    struct leg *leg = opener_leg(f);
    struct packet syn;

    if (!held_syn(f, &syn)) {
        end_with(r, f, TUNNEL_END_ERROR, TCNS_ERR_STATE);
        return;
    }
    struct buf *buf = buf_ref(f->syn);
    flow_start_relaying(&r->flows, f);
    if (f->session && !session_is_open(f->session))
        flow_start_keying(&r->flows, f, (uint64_t)clock_coarse_ms());
    if (leg_accept(leg, buf, &syn) < 0)
        end_with(r, f, TUNNEL_END_ERROR, TCNS_ERR_NO_MEMORY);
}

static void run_connecting(struct relay *r, struct flow *f)
{
    unsigned ev = leg_take_events(answerer_leg(f));

    if (ev & LEG_EV_RESET) {
        refuse(r, f, TUNNEL_END_REFUSED);
        return;
    }
    if (ev & LEG_EV_GONE) {
        end_flow(r, f, TUNNEL_END_TIMEOUT); /* silence for silence */
        return;
    }
    if (!(ev & LEG_EV_ESTABLISHED))
        return;
    answerer_leg(f)->events = ev & ~LEG_EV_ESTABLISHED; /* data may have come along */
    if (!f->inbound) {
        settle(r, f);
        if (f->reason == TUNNEL_REASON_ENO_DROPPED)
            fallback_note_loss(&r->fallback, &f->tuple.peer, f->opened_ms, f->touched_ms,
                               r->fallback_ms);
        else if (f->legs[SIDE_OUTER].syn_option.len > 0)
            fallback_note_answer(&r->fallback, &f->tuple.peer);
        if (must_refuse_clear(f)) {
            refuse_clear(r, f);
            return;
        }
    }
    answer_opener(r, f);
}

/* Pumps, and counts what came of it. */
static enum tcns_err move_bytes(struct relay *r, struct flow *f)
{
    uint64_t *bytes = f->session ? r->metrics.encrypted_bytes : r->metrics.clear_bytes;
    uint64_t before[SIDE_CNT] = {f->bytes_in[SIDE_INNER], f->bytes_in[SIDE_OUTER]};
    bool awaits_keys = f->session && !session_is_open(f->session);
    enum tcns_err err = pump(f);

    for (int side = 0; side < SIDE_CNT; side++)
        bytes[side] += f->bytes_in[side] - before[side];
    if (!f->session || session_is_open(f->session))
        flow_stop_keying(&r->flows, f);
    if (awaits_keys && session_is_open(f->session))
        histogram_add(&r->metrics.full, age_us(f));
    return err;
}

/* --- Running --------------------------------------------------------------------- */

/* Once for each connection that comes so far. */
static void tell_settled(const struct relay *r, struct flow *f)
{
    if (f->settled || !f->legs[SIDE_OUTER].established ||
        (f->session && !session_is_open(f->session)))
        return;
    f->settled = true;
    tell_of(r, f->session ? TUNNEL_EVENT_ENCRYPTED : TUNNEL_EVENT_CLEAR, f);
}

static enum tunnel_end end_told_by(const unsigned ev[SIDE_CNT])
{
    if (ev[SIDE_INNER] & LEG_EV_RESET)
        return TUNNEL_END_RESET_BY_APPLICATION;
    if (ev[SIDE_OUTER] & LEG_EV_RESET)
        return TUNNEL_END_RESET_BY_PEER;
    return (ev[SIDE_INNER] | ev[SIDE_OUTER]) & LEG_EV_TIMEOUT ? TUNNEL_END_TIMEOUT
                                                              : TUNNEL_END_LIVE;
}

/* One end is gone, the other gets a RST: behind what came before, which it could read if we
 * were not in between. What is not sealed yet waits for the keys. */
static void end_behind_data(struct relay *r, struct flow *f, enum tcns_err err)
{
    struct leg *inner = &f->legs[SIDE_INNER], *outer = &f->legs[SIDE_OUTER];

    leg_output(inner);
    leg_output(outer);
    if (err == TCNS_OK && f->keying && outer->pcb && inner->rx_len > 0)
        return;
    end_flow(r, f, f->ending);
}

static void run_relaying(struct relay *r, struct flow *f)
{
    struct leg *inner = &f->legs[SIDE_INNER], *outer = &f->legs[SIDE_OUTER];
    unsigned ev[SIDE_CNT] = {leg_take_events(inner), leg_take_events(outer)};

    enum tunnel_end end = end_told_by(ev);

    if (end != TUNNEL_END_LIVE)
        f->ending = end;
    if (ev[SIDE_OUTER] & LEG_EV_ESTABLISHED && f->inbound && f->session) {
        settle(r, f);
        if (must_refuse_clear(f)) {
            refuse_clear(r, f);
            return;
        }
    }
    for (int side = 0; side < SIDE_CNT; side++) {
        if (ev[side] & LEG_EV_FIN)
            f->fin_in[side] = true;
    }
    enum tcns_err err = move_bytes(r, f);
    tell_settled(r, f);
    if (f->ending != TUNNEL_END_LIVE) {
        end_behind_data(r, f, err);
        return;
    }
    if (err != TCNS_OK) {
        abort_flow(r, f, err);
        return;
    }
    if (!f->half && !f->keying && f->fin_in[SIDE_INNER] != f->fin_in[SIDE_OUTER])
        flow_start_half(&r->flows, f, (uint64_t)clock_coarse_ms());
    leg_output(inner);
    leg_output(outer);
    if (outer->established) /* the program gets no connection that the peer has not completed */
        leg_let_first_ack(answerer_leg(f));
    if (!inner->pcb && !outer->pcb)
        end_flow(r, f, TUNNEL_END_CLOSED);
}

bool relay_note(struct relay *r, struct flow *f, enum side side, const struct packet *packet)
{
    if (silence_note(f, side, packet))
        return true;
    end_flow(r, f, TUNNEL_END_TIMEOUT);
    return false;
}

/* Both halves ended, and the legs take their time with it: that is lwIP's to bound. */
static void look_at_half(struct relay *r, struct flow *f, uint64_t now_ms)
{
    if (f->fin_in[SIDE_INNER] && f->fin_in[SIDE_OUTER])
        flow_stop_half(&r->flows, f);
    else if (silence_look(f))
        flow_start_half(&r->flows, f, now_ms);
    else
        end_flow(r, f, TUNNEL_END_TIMEOUT);
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

/* RFC 8548 3.9 */
static bool keep_alive(struct flow *f, void *arg)
{
    struct relay *r = arg;
    uint64_t bytes = f->bytes_in[SIDE_INNER] + f->bytes_in[SIDE_OUTER];
    struct session_info info;

    if (f->phase != FLOW_RELAYING || !f->session || !session_is_open(f->session))
        return true;
    unsigned keepalive_s = verdict_of(f).keepalive_s;
    if (!keepalive_s)
        return true;
    session_get_info(f->session, &info);
    if (bytes != f->active_bytes) {
        f->active_bytes = bytes;
        f->idle_s = 0;
        return true;
    }
    f->idle_s++;
    if (f->idle_s == keepalive_s) {
        f->probed_generation = info.rx_generation;
        if (session_rekey(f->session) == TCNS_OK)
            flow_queue(&r->flows, f); /* pump() sends what rekeying put out */
    } else if (f->idle_s > keepalive_s && info.rx_generation != f->probed_generation) {
        f->idle_s = 0; /* it answered */
    } else if (f->idle_s >= 2 * keepalive_s) {
        end_flow(r, f, TUNNEL_END_TIMEOUT);
    }
    return true;
}

void relay_tick(struct relay *r, uint64_t now_ms)
{
    struct flow *f;

    if (r->has_keepalive)
        flow_each(&r->flows, keep_alive, r);
    if (r->cache)
        resume_cache_tick(r->cache, now_ms);
    while ((f = r->flows.connecting_old) && now_ms - f->touched_ms > OPENER_SILENT_MAX_MS)
        end_flow(r, f, TUNNEL_END_TIMEOUT);
    while (r->key_timeout_ms && (f = r->flows.keying_old) &&
           now_ms - f->touched_ms > r->key_timeout_ms)
        abort_flow(r, f, TCNS_ERR_KEY_TIMEOUT);
    while ((f = r->flows.half_old) && now_ms >= f->touched_ms + SILENCE_LOOK_MS)
        look_at_half(r, f, now_ms);
    relay_run(r);
}

static bool abort_one(struct flow *f, void *arg)
{
    struct relay *r = arg;

    if (f->phase == FLOW_CONNECTING)
        refuse(r, f, TUNNEL_END_DETACHED);
    else
        end_flow(r, f, TUNNEL_END_DETACHED);
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
        .reason = f->reason,
        .tx_bytes = f->bytes_in[SIDE_INNER],
        .rx_bytes = f->bytes_in[SIDE_OUTER],
        .tx_pending = f->legs[SIDE_INNER].rx_len + f->legs[SIDE_OUTER].tx_len,
        .started_s = f->started_s,
        .rule = f->rule,
        .authenticated = f->authenticated,
    };
    if (f->rule)
        strcpy(ret->rule_name, verdict_of(f).name);
    if (f->session)
        session_get_info(f->session, &ret->info);
    ret->app_aware = f->session && verdict_of(f).session->app_aware;
}
