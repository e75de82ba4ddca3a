/* SPDX-License-Identifier: BSD-3-Clause
 * The key exchange of a fresh session.
 */
#include "tcpcrypt/exchange.h"

#include <assert.h>
#include <sodium.h>
#include <string.h>

#include "tcpcrypt/kex_pool.h"

static struct buf *buf_of(const uint8_t *bytes, size_t len)
{
    struct buf *b = buf_new(len);

    if (!b)
        return NULL;
    memcpy(b->bytes, bytes, len);
    b->len = (uint32_t)len;
    return b;
}

static enum tcns_err make_key(const struct exchange *x, struct kex_key *ret)
{
    if (x->cfg->keys && kex_pool_take(x->cfg->keys, x->tep, ret))
        return TCNS_OK;
    return kex_ephemeral(x->tep, x->cfg->random, ret);
}

/* Host A's opening. Order of draws: nonce, private key. */
static enum tcns_err send_init1(struct exchange *x, struct buf **ret_out)
{
    uint8_t msg[INIT_SEND_MAX_LEN];
    uint8_t nonce[KEYS_NONCE_LEN];
    struct buf *out;
    enum tcns_err e;

    x->cfg->random(nonce, sizeof(nonce));
    e = make_key(x, &x->key);
    if (e != TCNS_OK)
        return e;
    x->out_len = init_emit1(msg, x->cfg->aeads, x->cfg->aead_cnt, nonce, &x->key);
    out = buf_of(msg, x->out_len);
    if (!out)
        return TCNS_ERR_NO_MEMORY;
    keys_prk_init(&x->prk, nonce);
    keys_prk_update(&x->prk, x->transcript, x->transcript_len);
    keys_prk_update(&x->prk, msg, x->out_len);
    *ret_out = out;
    return TCNS_OK;
}

enum tcns_err exchange_start(struct exchange *x, const struct session_config *cfg,
                             enum session_role role, uint8_t tep, const uint8_t *transcript,
                             size_t transcript_len, struct buf **ret_out)
{
    enum tcns_err e = TCNS_OK;

    assert(transcript_len <= sizeof(x->transcript));
    *x = (struct exchange){.cfg = cfg, .role = role, .tep = tep, .transcript_len = transcript_len};
    memcpy(x->transcript, transcript, transcript_len);
    if (role == SESSION_ROLE_A)
        e = send_init1(x, ret_out);
    else
        *ret_out = NULL;
    if (e != TCNS_OK)
        exchange_done(x);
    return e;
}

void exchange_done(struct exchange *x)
{
    buf_unref(x->in);
    sodium_memzero(x, sizeof(*x));
}

/* --- The peer's message, piece by piece --------------------------------------- */

static enum session_role sender_of(const struct exchange *x)
{
    return x->role == SESSION_ROLE_A ? SESSION_ROLE_B : SESSION_ROLE_A;
}

static size_t min_len(size_t a, size_t b)
{
    return a < b ? a : b;
}

static enum tcns_err eat_header(struct exchange *x, const uint8_t *in, size_t in_len, size_t *used)
{
    size_t n = min_len(in_len, sizeof(x->header) - x->header_len);
    enum tcns_err e;

    if (n > 0)
        memcpy(x->header + x->header_len, in, n);
    x->header_len += (uint8_t)n;
    *used = n;
    e = init_check_header(sender_of(x), x->header, x->header_len, &x->in_len);
    if (e != TCNS_OK)
        return e;
    x->in = buf_new(x->in_len);
    if (!x->in)
        return TCNS_ERR_NO_MEMORY;
    memcpy(x->in->bytes, x->header, INIT_HEADER_LEN);
    x->in->len = INIT_HEADER_LEN;
    return TCNS_OK;
}

static enum tcns_err eat_message(struct exchange *x, const uint8_t *in, size_t in_len, size_t *used)
{
    enum tcns_err e;
    size_t n;

    *used = 0;
    if (!x->in) {
        e = eat_header(x, in, in_len, used);
        if (e != TCNS_OK)
            return e;
    }
    n = min_len(in_len - *used, x->in_len - x->in->len);
    if (n > 0)
        memcpy(x->in->bytes + x->in->len, in + *used, n);
    x->in->len += (uint32_t)n;
    *used += n;
    return x->in->len == x->in_len ? TCNS_OK : TCNS_ERR_AGAIN;
}

/* --- A whole message ----------------------------------------------------------- */

/* ES into the hash, PRK out of it: RFC 8548 3.3. */
static enum tcns_err finish_prk(struct keys_prk *prk, const struct kex_key *key,
                                const struct init_msg *peer, uint8_t ret_ss[KEYS_K_LEN])
{
    uint8_t es[KEX_SECRET_MAX_LEN];
    enum tcns_err e = kex_agree(key, peer->public, peer->public_len, es);

    if (e == TCNS_OK) {
        keys_prk_update(prk, es, kex_secret_len(key->tep));
        keys_prk_final(prk, ret_ss);
    }
    sodium_memzero(es, sizeof(es));
    return e;
}

static enum tcns_err on_init2(struct exchange *x, const struct init_msg *m,
                              struct exchange_result *ret)
{
    enum tcns_err e = init_check_selected(x->cfg->aeads, x->cfg->aead_cnt, m->cipher);

    if (e != TCNS_OK)
        return e;
    ret->aead = m->cipher;
    keys_prk_update(&x->prk, x->in->bytes, x->in->len);
    return finish_prk(&x->prk, &x->key, m, ret->ss);
}

/* Host B's answer with a key made for it. Order of draws: nonce, private key. */
static enum tcns_err answer(struct exchange *x, const struct init_msg *m, struct kex_key *key,
                            struct exchange_result *ret, struct buf **ret_out)
{
    uint8_t msg[INIT_SEND_MAX_LEN];
    uint8_t nonce[KEYS_NONCE_LEN];
    struct keys_prk prk;
    struct buf *out;
    enum tcns_err e;

    x->cfg->random(nonce, sizeof(nonce));
    e = make_key(x, key);
    if (e != TCNS_OK)
        return e;
    x->out_len = init_emit2(msg, ret->aead, nonce, key);
    out = buf_of(msg, x->out_len);
    if (!out)
        return TCNS_ERR_NO_MEMORY;
    keys_prk_init(&prk, m->nonce);
    keys_prk_update(&prk, x->transcript, x->transcript_len);
    keys_prk_update(&prk, x->in->bytes, x->in->len);
    keys_prk_update(&prk, msg, x->out_len);
    e = finish_prk(&prk, key, m, ret->ss);
    if (e != TCNS_OK) {
        buf_unref(out);
        return e;
    }
    *ret_out = out;
    return TCNS_OK;
}

static enum tcns_err on_init1(struct exchange *x, const struct init_msg *m,
                              struct exchange_result *ret, struct buf **ret_out)
{
    struct kex_key key;
    enum tcns_err e =
        init_select(m->ciphers, m->cipher_cnt, x->cfg->aeads, x->cfg->aead_cnt, &ret->aead);

    if (e != TCNS_OK)
        return e;
    e = answer(x, m, &key, ret, ret_out);
    sodium_memzero(&key, sizeof(key));
    return e;
}

enum tcns_err exchange_receive(struct exchange *x, const uint8_t *in, size_t in_len,
                               size_t *ret_used, struct exchange_result *ret, struct buf **ret_out)
{
    struct exchange_result result = {0};
    struct buf *out = NULL;
    struct init_msg m;
    enum tcns_err e = eat_message(x, in, in_len, ret_used);

    if (e == TCNS_OK)
        e = init_parse(sender_of(x), x->tep, x->in->bytes, x->in->len, &m);
    if (e != TCNS_OK)
        return e;
    if (x->role == SESSION_ROLE_A)
        e = on_init2(x, &m, &result);
    else
        e = on_init1(x, &m, &result, &out);
    if (e == TCNS_OK) {
        result.in_len = x->in_len;
        result.out_len = x->out_len;
        *ret = result;
        *ret_out = out;
    }
    sodium_memzero(&result, sizeof(result));
    return e;
}
