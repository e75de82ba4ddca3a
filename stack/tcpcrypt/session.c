/* SPDX-License-Identifier: BSD-3-Clause
 * One connection's TCP-ENO negotiation and tcpcrypt session.
 *
 * The session only puts its parts in order: handshake (options), exchange (Init
 * messages), frame (AEAD frames), rekey (generations), resume (secrets kept).
 */
#include "tcpcrypt/session.h"

#include <assert.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "base/dashed.h"
#include "tcpcrypt/exchange.h"
#include "tcpcrypt/frame.h"
#include "tcpcrypt/handshake.h"
#include "tcpcrypt/rekey.h"
#include "tcpcrypt/resume.h"

/* What the session waits for, in order. */
enum state {
    STATE_OPTIONS,    /* the SYN exchange; only handshake is valid */
    STATE_PLAIN,      /* encryption is disabled; nothing more happens */
    STATE_WAIT_INIT1, /* we are host B; exchange is valid */
    STATE_WAIT_INIT2, /* we are host A; exchange is valid */
    STATE_OPEN,       /* frames both ways; tx, rx, id are valid */
    STATE_DEAD,       /* after an error of ours or the peer's: fatal says which */
};

struct session {
    const struct session_config *cfg;
    enum state state;
    enum tcns_err fatal; /* STATE_DEAD only */
    struct handshake handshake;
    struct exchange exchange;
    struct buf *init_out; /* our Init message until session_output() takes it */
    struct frame_tx tx;
    struct frame_rx rx;
    struct rekey rekey;
    uint32_t key_frame_cnt; /* frames sealed with the current key */
    uint64_t key_byte_cnt;  /* their bytes on the wire */
    bool is_active;         /* session_connect() was called */
    bool fin_sent;
    bool fin_received;
    bool has_id;
    uint16_t aead;
    uint8_t id[SESSION_ID_LEN];
    uint64_t chain; /* cache entry that this session used or made; 0: none */
    bool no_cache;
    struct session_counters *counters; /* borrowed; NULL: not counted */
    session_key_fn key_log;            /* NULL: none */
    void *key_log_arg;
    struct resume_peer peer;
};

const struct session_config session_config_default = {
    .teps = {TEP_ECDHE_CURVE25519, TEP_ECDHE_CURVE448, TEP_ECDHE_P256, TEP_ECDHE_P521},
    .tep_cnt = 4,
    .aeads = {AEAD_AES_128_GCM, AEAD_AES_256_GCM, AEAD_CHACHA20_POLY1305},
    .aead_cnt = 3,
    .random = randombytes_buf,
};

/* --- Names ------------------------------------------------------------------ */

const char *session_reason_name(enum session_reason reason)
{
    static const char *const upper[] = {
#define X(name) #name,
        SESSION_REASON_LIST(X)
#undef X
    };
    static char names[sizeof(upper) / sizeof(upper[0])][DASHED_MAX_LEN];

    if ((size_t)reason >= sizeof(upper) / sizeof(upper[0]))
        return "unknown";
    return dashed(upper[reason], names[reason]);
}

const char *session_aead_name(uint16_t aead)
{
    const char *name = aead_name(aead);

    return name ? name : "unknown";
}

const char *session_tep_name(uint8_t tep)
{
    const char *name = kex_name(tep & ENO_GLT_MASK);

    return name ? name : "unknown";
}

/* --- Life ------------------------------------------------------------------- */

static bool is_config_sane(const struct session_config *cfg)
{
    if (cfg->tep_cnt > sizeof(cfg->teps) / sizeof(cfg->teps[0]) ||
        cfg->aead_cnt > sizeof(cfg->aeads) / sizeof(cfg->aeads[0]) || !cfg->random)
        return false;
    for (size_t i = 0; i < cfg->tep_cnt; i++)
        if (!kex_is_known(cfg->teps[i]))
            return false;
    for (size_t i = 0; i < cfg->aead_cnt; i++)
        if (aead_key_len(cfg->aeads[i]) == 0)
            return false;
    return true;
}

struct session *session_new(const struct session_config *cfg)
{
    struct session *s;

    assert(is_config_sane(cfg));
    if (sodium_init() < 0)
        return NULL;
    s = calloc(1, sizeof(*s));
    if (!s)
        return NULL;
    s->cfg = cfg;
    s->no_cache = cfg->no_cache;
    handshake_init(&s->handshake, cfg);
    return s;
}

/* Everything but what session_get_info() still tells. */
static void wipe_keys(struct session *s)
{
    handshake_forget_secret(&s->handshake);
    exchange_done(&s->exchange);
    frame_tx_done(&s->tx);
    frame_rx_done(&s->rx);
    buf_unref(s->init_out);
    s->init_out = NULL;
}

void session_free(struct session *s)
{
    if (!s)
        return;
    wipe_keys(s);
    sodium_memzero(s, sizeof(*s));
    free(s);
}

/* Return: e, which is final. */
static enum tcns_err die(struct session *s, enum tcns_err e)
{
    wipe_keys(s);
    s->state = STATE_DEAD;
    s->fatal = e;
    return e;
}

void session_set_peer(struct session *s, const void *name, size_t len, size_t host_len)
{
    assert(len <= sizeof(s->peer.name) && host_len <= len);
    memcpy(s->peer.name, name, len);
    s->peer.len = (uint8_t)len;
    s->peer.host_len = (uint8_t)host_len;
}

void session_set_no_resume(struct session *s, bool no_resume)
{
    s->handshake.no_resume = no_resume;
}

void session_set_no_cache(struct session *s, bool no_cache)
{
    s->no_cache = no_cache;
}

void session_set_counters(struct session *s, struct session_counters *counters)
{
    s->counters = counters;
}

void session_set_key_log(struct session *s, session_key_fn fn, void *arg)
{
    s->key_log = fn;
    s->key_log_arg = arg;
}

enum tcns_err session_set_resume_nonce_len(struct session *s, size_t len)
{
    if (len > RESUME_NONCE_MAX_LEN)
        return TCNS_ERR_TOO_LARGE;
    s->handshake.nonce_len = (uint8_t)len;
    return TCNS_OK;
}

void session_forget(struct session *s)
{
    if (s->cfg->cache)
        resume_forget(s->cfg->cache, s->chain);
}

/* --- Keys ------------------------------------------------------------------- */

/* What opening takes, whether the keys are fresh or resumed. */
struct opening {
    const uint8_t *ss;
    uint16_t aead;
    enum session_role original_role;
    uint64_t tx_offset;
    uint64_t rx_offset;
};

static enum session_role other_role(enum session_role role)
{
    return role == SESSION_ROLE_A ? SESSION_ROLE_B : SESSION_ROLE_A;
}

static enum tcns_err init_frames(struct session *s, const struct opening *o)
{
    const struct negotiation *n = &s->handshake.result;
    uint8_t mk0[KEYS_K_LEN];
    enum tcns_err e;

    keys_first_master(o->ss, n->sn, n->sn_len, mk0);
    e = frame_tx_init(&s->tx, o->aead, mk0, o->original_role, o->tx_offset);
    if (e == TCNS_OK)
        e = frame_rx_init(&s->rx, o->aead, mk0, other_role(o->original_role), o->rx_offset);
    sodium_memzero(mk0, sizeof(mk0));
    return e;
}

static void log_key(const struct session *s, const struct frame_keys *k, bool seals,
                    uint32_t generation)
{
    uint8_t bytes[KEYS_TRAFFIC_MAX_LEN];
    struct session_key key = {
        .seals = seals,
        .generation = generation,
        .aead = s->aead,
        .key_len = (uint8_t)aead_key_len(s->aead),
        .id = s->id,
        .key = bytes,
        .nonce = bytes + aead_key_len(s->aead),
    };

    if (!s->key_log)
        return;
    keys_traffic(k->mk, k->sender, bytes, key.key_len + AEAD_NONCE_LEN);
    s->key_log(&key, s->key_log_arg);
    sodium_memzero(bytes, sizeof(bytes));
}

static enum tcns_err open_session(struct session *s, const struct opening *o)
{
    const struct negotiation *n = &s->handshake.result;
    enum tcns_err e = init_frames(s, o);

    if (e != TCNS_OK)
        return e;
    keys_session_id(n->tep_byte, o->ss, n->sn, n->sn_len, s->id);
    s->aead = o->aead;
    s->has_id = true;
    s->state = STATE_OPEN;
    log_key(s, &s->tx.keys, true, 0);
    log_key(s, &s->rx.keys, false, 0);
    return TCNS_OK;
}

/* RFC 8548 3.5: after a fresh exchange ss[1] is kept for a later connection. */
static void remember(struct session *s, const struct exchange_result *r)
{
    const struct negotiation *n = &s->handshake.result;
    struct resume_secret secret = {.tep = n->tep, .aead = r->aead, .original_role = n->role};

    /* An active open whose peer has no name could never find its secret again. */
    if (!s->cfg->cache || s->no_cache || (s->is_active && s->peer.len == 0))
        return;
    keys_next_secret(r->ss, secret.ss);
    s->chain = resume_put(s->cfg->cache, &secret, &s->peer, s->is_active);
    sodium_memzero(&secret, sizeof(secret));
}

static enum tcns_err start_resumed(struct session *s)
{
    struct resume_secret *secret = &s->handshake.secret;
    struct opening o = {
        .ss = secret->ss,
        .aead = secret->aead,
        .original_role = secret->original_role,
    };
    enum tcns_err e = open_session(s, &o);

    s->chain = secret->chain;
    if (s->no_cache)
        resume_forget(s->cfg->cache, s->chain);
    handshake_forget_secret(&s->handshake);
    return e;
}

static enum tcns_err start_fresh(struct session *s)
{
    uint8_t transcript[HANDSHAKE_TRANSCRIPT_MAX_LEN];
    size_t len = handshake_transcript(&s->handshake, transcript);
    const struct negotiation *n = &s->handshake.result;
    enum tcns_err e =
        exchange_start(&s->exchange, s->cfg, n->role, n->tep, transcript, len, &s->init_out);

    if (e == TCNS_OK)
        s->state = n->role == SESSION_ROLE_A ? STATE_WAIT_INIT2 : STATE_WAIT_INIT1;
    return e;
}

/* --- Options ---------------------------------------------------------------- */

/* After each segment: the handshake may have come to its end. */
static enum tcns_err settle(struct session *s)
{
    enum tcns_err e = TCNS_OK;

    if (s->state != STATE_OPTIONS || s->handshake.reason == SESSION_REASON_PENDING)
        return TCNS_OK;
    if (!handshake_is_enabled(&s->handshake))
        s->state = STATE_PLAIN;
    else if (s->handshake.result.is_resumed)
        e = start_resumed(s);
    else
        e = start_fresh(s);
    return e == TCNS_OK ? TCNS_OK : die(s, e);
}

static enum tcns_err receive(struct session *s, unsigned flags, const uint8_t *area,
                             size_t area_len)
{
    enum tcns_err e;

    if (s->state == STATE_DEAD)
        return s->fatal;
    e = handshake_receive(&s->handshake, flags, area, area_len);
    return e == TCNS_OK ? settle(s) : die(s, e);
}

enum tcns_err session_connect(struct session *s, uint8_t ret_option[ENO_OPTION_MAX_LEN],
                              size_t *ret_len)
{
    enum tcns_err e;

    if (s->state == STATE_DEAD)
        return s->fatal;
    s->is_active = true;
    e = handshake_connect(&s->handshake, &s->peer);
    if (e != TCNS_OK)
        return die(s, e);
    handshake_option(&s->handshake, HANDSHAKE_SYN, ret_option, ret_len);
    return settle(s);
}

enum tcns_err session_connect_synack(struct session *s, const uint8_t *area, size_t area_len)
{
    return receive(s, HANDSHAKE_SYN | HANDSHAKE_ACK, area, area_len);
}

enum tcns_err session_accept(struct session *s, const uint8_t *area, size_t area_len,
                             uint8_t ret_option[ENO_OPTION_MAX_LEN], size_t *ret_len)
{
    enum tcns_err e = receive(s, HANDSHAKE_SYN, area, area_len);

    if (e == TCNS_OK)
        handshake_option(&s->handshake, HANDSHAKE_SYN | HANDSHAKE_ACK, ret_option, ret_len);
    return e;
}

enum tcns_err session_accept_ack(struct session *s, const uint8_t *area, size_t area_len)
{
    return receive(s, HANDSHAKE_ACK, area, area_len);
}

/* --- What was negotiated ---------------------------------------------------- */

void session_get_info(const struct session *s, struct session_info *ret_info)
{
    const struct handshake *h = &s->handshake;

    *ret_info = (struct session_info){
        .reason = h->reason,
        .enabled = session_is_enabled(s),
        .has_id = s->has_id,
        .peer_app_aware = h->result.peer_app_aware,
        .role = h->result.role,
        .tep = h->result.tep,
        .aead = s->aead,
        .tx_generation = s->rekey.sealed,
        .rx_generation = s->rekey.remote,
    };
    memcpy(ret_info->id, s->id, sizeof(ret_info->id));
}

bool session_is_enabled(const struct session *s)
{
    return handshake_is_enabled(&s->handshake);
}

bool session_is_open(const struct session *s)
{
    return s->state == STATE_OPEN;
}

/* --- Stream out ------------------------------------------------------------- */

static uint64_t limit_of(uint64_t wanted, uint64_t max)
{
    return wanted > 0 && wanted < max ? wanted : max;
}

/* Our sealing key has done enough. RFC 8548 3.8: an empty frame must not initiate while
 * an earlier rekeying is unanswered. */
static bool is_key_worn(const struct session *s, bool has_data)
{
    const struct session_config *cfg = s->cfg;

    if (!has_data && s->rekey.remote < s->rekey.local)
        return false;
    return s->key_frame_cnt >= limit_of(cfg->rekey_frames, SESSION_REKEY_FRAMES_MAX) ||
           s->key_byte_cnt >= limit_of(cfg->rekey_bytes, SESSION_REKEY_BYTES_MAX);
}

static void count_frame(struct session *s, bool is_first, size_t len)
{
    if (s->counters) {
        s->counters->frames_sealed++;
        s->counters->rekeys_sent += is_first;
    }
    if (is_first) {
        s->key_frame_cnt = 0;
        s->key_byte_cnt = 0;
    }
    s->key_frame_cnt++;
    s->key_byte_cnt += len;
}

/* What the next frame says of keys; *rekey is the session's once the frame is sealed. */
static void plan_rekey(const struct session *s, bool has_data, struct frame_head *head,
                       struct rekey *rekey)
{
    *rekey = s->rekey;
    if (!rekey_is_owed(rekey) && is_key_worn(s, has_data))
        rekey_initiate(rekey);
    if (rekey_on_seal(rekey))
        head->control |= FRAME_CONTROL_REKEY;
}

/* e: what came of sealing; len: of the frame, if there is one. */
static enum tcns_err end_seal(struct session *s, enum tcns_err e, const struct frame_head *head,
                              const struct rekey *rekey, size_t len)
{
    if (e == TCNS_ERR_CRYPTO)
        return die(s, e); /* the nonce may be used up */
    if (e != TCNS_OK)
        return e;
    count_frame(s, head->control & FRAME_CONTROL_REKEY, len);
    s->rekey = *rekey;
    if (head->control & FRAME_CONTROL_REKEY)
        log_key(s, &s->tx.keys, true, rekey->sealed);
    s->fin_sent = head->flags & FRAME_FLAG_FIN;
    return TCNS_OK;
}

static enum tcns_err seal(struct session *s, struct frame_head head, const struct iovec *iov,
                          size_t iov_cnt, struct buf **ret)
{
    struct rekey rekey;

    plan_rekey(s, iov_cnt > 0, &head, &rekey);
    enum tcns_err e = frame_seal(&s->tx, &head, iov, iov_cnt, ret);
    return end_seal(s, e, &head, &rekey, e == TCNS_OK ? (*ret)->len : 0);
}

/* Our Init message must be on its way first: frame offsets count from behind it. */
static bool may_seal(const struct session *s)
{
    return s->state == STATE_OPEN && !s->fin_sent && !s->init_out;
}

enum tcns_err session_seal(struct session *s, const struct iovec *iov, size_t iov_cnt,
                           unsigned flags, uint16_t urgent_off, struct buf **ret)
{
    struct frame_head head = {0};

    if (!may_seal(s))
        return TCNS_ERR_STATE;
    if (flags & SESSION_SEAL_FIN)
        head.flags |= FRAME_FLAG_FIN;
    if (flags & SESSION_SEAL_URGENT) {
        head.flags |= FRAME_FLAG_URG;
        head.urgent = urgent_off;
    }
    return seal(s, head, iov, iov_cnt, ret);
}

enum tcns_err session_seal_in_place(struct session *s, struct buf *b, bool fin)
{
    struct frame_head head = {.flags = fin ? FRAME_FLAG_FIN : 0};
    struct rekey rekey;

    if (!may_seal(s))
        return TCNS_ERR_STATE;
    plan_rekey(s, true, &head, &rekey);
    enum tcns_err e = frame_seal_in_place(&s->tx, &head, b);
    return end_seal(s, e, &head, &rekey, b->len);
}

static bool has_output(const struct session *s)
{
    return s->init_out || (s->state == STATE_OPEN && !s->fin_sent && rekey_is_owed(&s->rekey));
}

enum tcns_err session_output(struct session *s, struct buf **ret)
{
    if (s->state == STATE_DEAD)
        return s->fatal;
    *ret = s->init_out;
    s->init_out = NULL;
    if (!*ret && has_output(s))
        return seal(s, (struct frame_head){0}, NULL, 0, ret);
    return TCNS_OK;
}

enum tcns_err session_rekey(struct session *s)
{
    if (s->state != STATE_OPEN || s->fin_sent)
        return TCNS_ERR_STATE;
    /* RFC 8548 3.8: one at a time, because there may be no data to send with it */
    if (s->rekey.local == s->rekey.remote)
        rekey_initiate(&s->rekey);
    return TCNS_OK;
}

/* --- Stream in -------------------------------------------------------------- */

static enum tcns_err on_init(struct session *s, const uint8_t *in, size_t in_len, size_t *used,
                             struct session_rx *rx)
{
    struct exchange_result r;
    struct buf *out;
    enum tcns_err e = exchange_receive(&s->exchange, in, in_len, used, &r, &out);

    if (e != TCNS_OK)
        return e;
    e = open_session(s, &(struct opening){
                            .ss = r.ss,
                            .aead = r.aead,
                            .original_role = s->handshake.result.role,
                            .tx_offset = r.out_len,
                            .rx_offset = r.in_len,
                        });
    if (e == TCNS_OK) {
        remember(s, &r);
        if (out)
            s->init_out = out; /* host B; host A's may still wait to be sent */
        rx->opened = true;
    } else {
        buf_unref(out);
    }
    exchange_done(&s->exchange);
    sodium_memzero(&r, sizeof(r));
    return e;
}

static enum tcns_err on_frame(struct session *s, const uint8_t *in, size_t in_len, size_t *used,
                              struct session_rx *rx)
{
    struct frame_head head;
    enum tcns_err e;

    if (s->fin_received) {
        /* Nothing after the final frame counts (interpretation I10). Anyone can inject it,
         * so it is no reason to reset what ended well. */
        *used = in_len;
        return TCNS_ERR_AGAIN;
    }
    e = frame_open(&s->rx, in, in_len, used, &head, &rx->data);
    if (e != TCNS_OK)
        return e;
    rekey_on_frame(&s->rekey, head.control & FRAME_CONTROL_REKEY);
    if (head.control & FRAME_CONTROL_REKEY)
        log_key(s, &s->rx.keys, false, s->rekey.remote);
    if (s->counters) {
        s->counters->frames_opened++;
        s->counters->rekeys_received += (head.control & FRAME_CONTROL_REKEY) != 0;
    }
    s->fin_received = head.flags & FRAME_FLAG_FIN;
    rx->fin = s->fin_received;
    rx->urgent = head.flags & FRAME_FLAG_URG;
    rx->urgent_off = rx->urgent ? head.urgent : 0;
    return TCNS_OK;
}

enum tcns_err session_open(struct session *s, const uint8_t *in, size_t in_len, size_t *ret_used,
                           struct session_rx *ret_rx)
{
    struct session_rx rx = {0};
    enum tcns_err e = TCNS_ERR_STATE;

    *ret_used = 0;
    switch (s->state) {
    case STATE_OPTIONS:
    case STATE_PLAIN:
        return TCNS_ERR_STATE;
    case STATE_WAIT_INIT1:
    case STATE_WAIT_INIT2:
        e = on_init(s, in, in_len, ret_used, &rx);
        break;
    case STATE_OPEN:
        e = on_frame(s, in, in_len, ret_used, &rx);
        break;
    case STATE_DEAD:
        return s->fatal;
    }
    if (e == TCNS_ERR_AGAIN)
        return e;
    if (e != TCNS_OK)
        return die(s, e);
    rx.output = has_output(s);
    *ret_rx = rx;
    return TCNS_OK;
}

enum tcns_err session_on_fin(struct session *s)
{
    switch (s->state) {
    case STATE_OPTIONS:
    case STATE_PLAIN:
        return TCNS_ERR_STATE;
    case STATE_WAIT_INIT1:
    case STATE_WAIT_INIT2:
        return die(s, TCNS_ERR_TRUNCATED);
    case STATE_OPEN:
        return s->fin_received ? TCNS_OK : die(s, TCNS_ERR_TRUNCATED);
    case STATE_DEAD:
        return s->fatal;
    }
    return TCNS_ERR_STATE;
}
