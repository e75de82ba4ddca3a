/* SPDX-License-Identifier: BSD-3-Clause
 * Init1 and Init2 on the wire.
 */
#include "tcpcrypt/init.h"

#include <assert.h>
#include <string.h>

#include "base/wire.h"

#define MAGIC_LEN  4
#define CIPHER_LEN 2
#define PREFIX_LEN 2 /* pubkey_len, RFC 8548 5 */

static_assert(INIT_RECV_MAX_LEN >= 4096, "interpretation I11");
static_assert(INIT_RECV_MAX_LEN >= INIT_HEADER_LEN + 1 + CIPHER_LEN * INIT_CIPHERS_MAX_CNT +
                                       KEYS_NONCE_LEN + PREFIX_LEN + KEX_PUBLIC_MAX_LEN,
              "every legal list of ciphers fits");

static uint32_t magic_of(enum session_role sender)
{
    return sender == SESSION_ROLE_A ? INIT1_MAGIC : INIT2_MAGIC;
}

enum tcns_err init_check_header(enum session_role sender, const uint8_t *bytes, size_t len,
                                size_t *ret_len)
{
    uint8_t magic[MAGIC_LEN];
    size_t msg_len;

    put_be32(magic, magic_of(sender));
    for (size_t i = 0; i < len && i < MAGIC_LEN; i++)
        if (bytes[i] != magic[i])
            return TCNS_ERR_INIT_MAGIC;
    if (len < INIT_HEADER_LEN)
        return TCNS_ERR_AGAIN;
    msg_len = get_be32(bytes + MAGIC_LEN);
    if (msg_len <= INIT_HEADER_LEN || msg_len > INIT_RECV_MAX_LEN)
        return TCNS_ERR_INIT_LENGTH;
    *ret_len = msg_len;
    return TCNS_OK;
}

/* A cursor over the message; take() gives NULL past the end. */
struct reader {
    const uint8_t *next;
    size_t left;
};

static const uint8_t *take(struct reader *r, size_t len)
{
    const uint8_t *p = r->next;

    if (len > r->left)
        return NULL;
    r->next += len;
    r->left -= len;
    return p;
}

static bool take_ciphers(struct reader *r, enum session_role sender, struct init_msg *m)
{
    const uint8_t *p = take(r, sender == SESSION_ROLE_A ? 1 : CIPHER_LEN);

    if (!p)
        return false;
    if (sender == SESSION_ROLE_B) {
        m->cipher = get_be16(p);
        return true;
    }
    m->cipher_cnt = p[0];
    m->ciphers = take(r, m->cipher_cnt * CIPHER_LEN);
    return m->ciphers != NULL;
}

static bool take_public(struct reader *r, uint8_t tep, struct init_msg *m)
{
    const uint8_t *prefix;

    m->public_len = kex_public_len(tep);
    if (kex_has_length_prefix(tep)) {
        prefix = take(r, PREFIX_LEN);
        if (!prefix)
            return false;
        m->public_len = get_be16(prefix);
    }
    m->public = take(r, m->public_len);
    return m->public != NULL;
}

enum tcns_err init_parse(enum session_role sender, uint8_t tep, const uint8_t *msg, size_t len,
                         struct init_msg *ret)
{
    struct init_msg m = {0};
    struct reader r = {msg, len};
    size_t msg_len;
    enum tcns_err e = init_check_header(sender, msg, len, &msg_len);

    if (e == TCNS_ERR_AGAIN || (e == TCNS_OK && msg_len != len))
        return TCNS_ERR_INIT_LENGTH;
    if (e != TCNS_OK)
        return e;
    if (!take(&r, INIT_HEADER_LEN) || !take_ciphers(&r, sender, &m))
        return TCNS_ERR_INIT_LENGTH;
    m.nonce = take(&r, KEYS_NONCE_LEN);
    if (!m.nonce || !take_public(&r, tep, &m))
        return TCNS_ERR_INIT_LENGTH;
    *ret = m;
    return TCNS_OK;
}

/* The part that both messages share: N, Pub, and the length of it all at the start. */
static size_t emit_rest(uint8_t *out, size_t pos, const uint8_t nonce[KEYS_NONCE_LEN],
                        const struct kex_key *key)
{
    memcpy(out + pos, nonce, KEYS_NONCE_LEN);
    pos += KEYS_NONCE_LEN;
    if (kex_has_length_prefix(key->tep)) {
        put_be16(out + pos, key->public_len);
        pos += PREFIX_LEN;
    }
    memcpy(out + pos, key->public, key->public_len);
    pos += key->public_len;
    put_be32(out + MAGIC_LEN, (uint32_t)pos);
    return pos;
}

size_t init_emit1(uint8_t out[INIT_SEND_MAX_LEN], const uint16_t *ciphers, size_t cipher_cnt,
                  const uint8_t nonce[KEYS_NONCE_LEN], const struct kex_key *key)
{
    size_t pos = INIT_HEADER_LEN;

    assert(cipher_cnt <= 3);
    put_be32(out, INIT1_MAGIC);
    out[pos++] = (uint8_t)cipher_cnt;
    for (size_t i = 0; i < cipher_cnt; i++, pos += CIPHER_LEN)
        put_be16(out + pos, ciphers[i]);
    return emit_rest(out, pos, nonce, key);
}

size_t init_emit2(uint8_t out[INIT_SEND_MAX_LEN], uint16_t cipher,
                  const uint8_t nonce[KEYS_NONCE_LEN], const struct kex_key *key)
{
    put_be32(out, INIT2_MAGIC);
    put_be16(out + INIT_HEADER_LEN, cipher);
    return emit_rest(out, INIT_HEADER_LEN + CIPHER_LEN, nonce, key);
}

enum tcns_err init_select(const uint8_t *list, size_t list_cnt, const uint16_t *preference,
                          size_t preference_cnt, uint16_t *ret)
{
    for (size_t p = 0; p < preference_cnt; p++) {
        for (size_t i = 0; i < list_cnt; i++) {
            if (get_be16(list + i * CIPHER_LEN) == preference[p]) {
                *ret = preference[p];
                return TCNS_OK;
            }
        }
    }
    return TCNS_ERR_INIT_CIPHER;
}

enum tcns_err init_check_selected(const uint16_t *offered, size_t offered_cnt, uint16_t cipher)
{
    for (size_t i = 0; i < offered_cnt; i++)
        if (offered[i] == cipher)
            return TCNS_OK;
    return TCNS_ERR_INIT_CIPHER;
}
