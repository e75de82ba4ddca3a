/* SPDX-License-Identifier: BSD-3-Clause
 * The TCP-ENO handshake of one connection.
 */
#include "tcpcrypt/handshake.h"

#include <assert.h>
#include <sodium.h>
#include <string.h>

/* What else a SYN of ours carries: MSS, SACK-permitted, window scale and padding
 * (12 bytes), so all TEPs and a resumption must fit beside it: RFC 9293 3.1. */
#define OTHER_SYN_OPTIONS_LEN 12
#define TEPS_MAX_CNT          4

static_assert(ENO_HEADER_LEN + 1 + (TEPS_MAX_CNT - 1) +
                      (1 + KEYS_RESUME_HALF + RESUME_NONCE_MAX_LEN) + OTHER_SYN_OPTIONS_LEN <=
                  ENO_OPTION_MAX_LEN,
              "40 bytes of TCP options");

void handshake_init(struct handshake *h, const struct session_config *cfg)
{
    *h = (struct handshake){
        .cfg = cfg,
        .reason = cfg->tep_cnt == 0 ? SESSION_REASON_OFF : SESSION_REASON_PENDING,
        .no_resume = cfg->no_resume,
        .nonce_len = RESUME_NONCE_MAX_LEN,
    };
}

void handshake_forget_secret(struct handshake *h)
{
    if (h->is_secret_found)
        resume_give_up_passive(h->cfg->cache, &h->secret);
    h->has_secret = h->is_secret_found = false;
    sodium_memzero(&h->secret, sizeof(h->secret));
}

void handshake_done(struct handshake *h)
{
    handshake_forget_secret(h);
    sodium_memzero(h, sizeof(*h));
}

/* Encryption is off for good; a secret that was taken is never used. */
static void disable(struct handshake *h, enum session_reason reason)
{
    h->reason = reason;
    h->has_agreed = false;
    h->result = (struct negotiation){0};
    handshake_forget_secret(h);
}

/* --- Our option ------------------------------------------------------------- */

/* RFC 8548 3.5: random. A SYN that comes again, also as a new connection, gets the
 * same answer (RFC 8547 4.6). */
static void make_nonce(struct handshake *h, uint8_t *ret)
{
    if (h->is_secret_found)
        resume_answer_nonce(h->cfg->cache, &h->secret, h->cfg->random, ret, h->nonce_len);
    else if (h->nonce_len > 0)
        h->cfg->random(ret, h->nonce_len);
}

/* The resumption suboption: our half of the identifier and a nonce. */
static struct eno_suboption make_resumption(struct handshake *h, uint8_t *data)
{
    uint8_t theirs[KEYS_RESUME_HALF];

    resume_halves(&h->secret, data, theirs);
    make_nonce(h, data + KEYS_RESUME_HALF);
    return (struct eno_suboption){
        .first = ENO_V | h->secret.tep,
        .data = data,
        .data_len = (uint8_t)(KEYS_RESUME_HALF + h->nonce_len),
    };
}

static enum tcns_err store_local(struct handshake *h, const struct eno_suboption *subs, size_t cnt)
{
    size_t len;
    enum tcns_err e = eno_emit(subs, cnt, h->local, &len);

    if (e == TCNS_OK)
        h->local_len = (uint8_t)len;
    return e;
}

/* TEPs in the order of increasing priority, as host B would list them; a
 * resumption comes last, where it needs no length byte. */
enum tcns_err handshake_connect(struct handshake *h, const struct resume_peer *peer)
{
    const struct session_config *cfg = h->cfg;
    struct eno_suboption subs[1 + TEPS_MAX_CNT];
    uint8_t data[KEYS_RESUME_HALF + RESUME_NONCE_MAX_LEN];
    size_t cnt = 0;
    uint8_t global = (cfg->passive_role ? ENO_GLOBAL_B : 0) | (cfg->app_aware ? ENO_GLOBAL_A : 0);

    if (h->local_len > 0 || h->reason != SESSION_REASON_PENDING)
        return TCNS_OK;
    if (cfg->cache && !h->no_resume)
        h->has_secret = resume_take_active(cfg->cache, cfg, peer, &h->secret);
    if (global)
        subs[cnt++] = (struct eno_suboption){.first = global};
    for (size_t i = cfg->tep_cnt; i-- > 0;)
        if (!h->has_secret || cfg->teps[i] != h->secret.tep)
            subs[cnt++] = (struct eno_suboption){.first = cfg->teps[i]};
    if (h->has_secret)
        subs[cnt++] = make_resumption(h, data);
    return store_local(h, subs, cnt);
}

/* RFC 8548 3.5: agrees to the first proposal that names a secret of ours; that
 * goes before the order of TEPs (interpretation I20). */
static bool find_proposed(struct handshake *h, const struct eno_option *remote)
{
    if (!h->cfg->cache || h->no_resume)
        return false;
    for (size_t i = 0; i < h->cfg->tep_cnt; i++) {
        const struct eno_suboption *sub = negotiate_resumption(remote, h->cfg->teps[i]);

        if (sub &&
            resume_find_passive(h->cfg->cache, h->cfg, h->cfg->teps[i], sub->data, &h->secret))
            return true;
    }
    return false;
}

/* Passive opener: the global suboption and the one TEP to use. */
static enum tcns_err answer(struct handshake *h, const struct eno_option *remote)
{
    uint8_t data[KEYS_RESUME_HALF + RESUME_NONCE_MAX_LEN];
    struct eno_suboption subs[2] = {
        {.first = ENO_GLOBAL_B | (h->cfg->app_aware ? ENO_GLOBAL_A : 0)},
    };

    h->has_secret = h->is_secret_found = find_proposed(h, remote);
    if (h->has_secret)
        subs[1] = make_resumption(h, data);
    else
        subs[1].first = negotiate_choose(h->cfg, remote);
    if (subs[1].first == 0) {
        disable(h, SESSION_REASON_NO_COMMON_TEP);
        return TCNS_OK;
    }
    return store_local(h, subs, 2);
}

/* --- Segments that come in --------------------------------------------------- */

/* Both options are there: settles what they mean. */
static void compare(struct handshake *h, const struct eno_option *remote)
{
    struct eno_option local;
    enum session_reason reason;

    if (eno_parse(h->local, h->local_len, &local) != TCNS_OK) {
        assert(!"our own option is well-formed");
        return;
    }
    reason = negotiate(&local, remote, h->cfg->mandatory_app_aware,
                       h->has_secret ? &h->secret : NULL, &h->result);
    if (reason != SESSION_REASON_FULL && reason != SESSION_REASON_RESUMED)
        disable(h, reason);
    else
        h->has_agreed = true;
}

static enum tcns_err on_first_syn(struct handshake *h, const struct eno_option *remote)
{
    enum tcns_err e = TCNS_OK;
    enum session_reason reason;

    if (h->local_len == 0) {
        reason = negotiate_check_offer(h->cfg, remote);
        if (reason != SESSION_REASON_PENDING)
            disable(h, reason);
        else
            e = answer(h, remote);
    }
    if (e == TCNS_OK && h->reason == SESSION_REASON_PENDING)
        compare(h, remote);
    return e;
}

/* A SYN segment: the first one counts. A repeated one must have an option too
 * (RFC 8547 4.6 (1)); altering it is not allowed, and the transcript shows it. */
static enum tcns_err on_syn(struct handshake *h, const uint8_t *area, size_t area_len)
{
    const uint8_t *option = NULL;
    size_t len = 0;
    struct eno_option remote;

    /* RFC 8547 4.1: several options count as none */
    if (eno_scan(area, area_len, &option, &len) != 1) {
        disable(h, SESSION_REASON_PEER_NO_ENO);
        return TCNS_OK;
    }
    if (eno_parse(option, len, &remote) != TCNS_OK) {
        disable(h, SESSION_REASON_PEER_ILL_FORMED);
        return TCNS_OK;
    }
    if (h->has_agreed)
        return TCNS_OK;
    memcpy(h->remote, option, len);
    h->remote_len = (uint8_t)len;
    return on_first_syn(h, &remote);
}

/* The first ACK has come and has the option: encryption is on. RFC 8548 3.5: from here on
 * the secret is used up. Another connection may have been faster. */
static enum tcns_err enable(struct handshake *h)
{
    bool is_found = h->is_secret_found;

    h->reason = h->result.is_resumed ? SESSION_REASON_RESUMED : SESSION_REASON_FULL;
    if (!h->result.is_resumed) {
        handshake_forget_secret(h); /* proposed in vain: used up as well */
        return TCNS_OK;
    }
    h->is_secret_found = false;
    if (is_found && !resume_take_passive(h->cfg->cache, &h->secret))
        return TCNS_ERR_SECRET_GONE;
    return TCNS_OK;
}

enum tcns_err handshake_receive(struct handshake *h, unsigned flags, const uint8_t *area,
                                size_t area_len)
{
    const uint8_t *option;
    size_t len;
    enum tcns_err e = TCNS_OK;

    if (!(flags & HANDSHAKE_SYN))
        h->non_syn_received = true;
    if (h->reason != SESSION_REASON_PENDING)
        return TCNS_OK;
    if (flags & HANDSHAKE_SYN)
        e = on_syn(h, area, area_len);
    else if (eno_scan(area, area_len, &option, &len) == 0)
        disable(h, SESSION_REASON_ENO_STRIPPED);
    if (e == TCNS_OK && (flags & HANDSHAKE_ACK) && h->has_agreed)
        e = enable(h);
    return e;
}

/* --- Segments that go out ---------------------------------------------------- */

enum handshake_rule handshake_option(const struct handshake *h, unsigned flags,
                                     uint8_t ret_option[ENO_OPTION_MAX_LEN], size_t *ret_len)
{
    *ret_len = 0;
    if (h->reason != SESSION_REASON_PENDING && !handshake_is_enabled(h))
        return HANDSHAKE_FORBIDDEN;
    if (flags & HANDSHAKE_SYN) {
        memcpy(ret_option, h->local, h->local_len);
        *ret_len = h->local_len;
        return HANDSHAKE_REQUIRED;
    }
    if (h->non_syn_received)
        return HANDSHAKE_OPTIONAL;
    memcpy(ret_option, eno_ack_option, ENO_ACK_OPTION_LEN);
    *ret_len = ENO_ACK_OPTION_LEN;
    return HANDSHAKE_REQUIRED;
}

size_t handshake_transcript(const struct handshake *h, uint8_t ret[HANDSHAKE_TRANSCRIPT_MAX_LEN])
{
    bool is_a = h->result.role == SESSION_ROLE_A;
    size_t a_len = is_a ? h->local_len : h->remote_len;
    size_t b_len = is_a ? h->remote_len : h->local_len;

    memcpy(ret, is_a ? h->local : h->remote, a_len);
    memcpy(ret + a_len, is_a ? h->remote : h->local, b_len);
    return a_len + b_len;
}
