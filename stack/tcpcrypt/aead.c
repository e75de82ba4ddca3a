/* SPDX-License-Identifier: BSD-3-Clause
 * One direction's AEAD: the RFC's part of it. The ciphers are libraries'.
 */
#include "tcpcrypt/aead.h"

#include <assert.h>
#include <sodium.h>
#include <string.h>

#include "tcpcrypt/aead_impl.h"
#include "tcpcrypt/session.h"

static const struct alg {
    uint16_t id;
    uint8_t key_len;
    const char *name;
} algs[] = {
    {AEAD_AES_128_GCM, 16, "AEAD_AES_128_GCM"},
    {AEAD_AES_256_GCM, 32, "AEAD_AES_256_GCM"},
    {AEAD_CHACHA20_POLY1305, 32, "AEAD_CHACHA20_POLY1305"},
};

static const struct alg *find_alg(uint16_t id)
{
    for (size_t i = 0; i < sizeof(algs) / sizeof(algs[0]); i++)
        if (algs[i].id == id)
            return &algs[i];
    return NULL;
}

size_t aead_key_len(uint16_t id)
{
    const struct alg *alg = find_alg(id);

    return alg ? alg->key_len : 0;
}

const char *aead_name(uint16_t id)
{
    const struct alg *alg = find_alg(id);

    return alg ? alg->name : NULL;
}

enum tcns_err aead_init_with(struct aead *a, const struct aead_ops *ops, uint16_t id, bool seals)
{
    void *ctx = ops->new (id, seals);

    if (!ctx)
        return TCNS_ERR_NO_MEMORY;
    *a = (struct aead){.ops = ops, .ctx = ctx, .id = id};
    return TCNS_OK;
}

enum tcns_err aead_init(struct aead *a, uint16_t id, bool seals)
{
    const struct aead_ops *ops = NULL;

    assert(find_alg(id));
#ifdef HAVE_IPSEC_MB
    ops = aead_ops_ipsec_mb(id);
#endif
    if (!ops)
        ops = aead_ops_libcrypto(id);
    return ops ? aead_init_with(a, ops, id, seals) : TCNS_ERR_CRYPTO;
}

void aead_done(struct aead *a)
{
    if (a->ops)
        a->ops->free(a->ctx);
    sodium_memzero(a, sizeof(*a));
}

enum tcns_err aead_set_key(struct aead *a, const uint8_t *key)
{
    if (!a->ops->set_key(a->ctx, key))
        return TCNS_ERR_CRYPTO;
    memcpy(a->nr, key + aead_key_len(a->id), AEAD_NONCE_LEN);
    return TCNS_OK;
}

/* RFC 8548 3.6 and 4.2.3: N = frame_ID XOR NR; the frame ID is the offset, padded on the left. */
static void make_nonce(const uint8_t nr[AEAD_NONCE_LEN], uint64_t offset,
                       uint8_t ret[AEAD_NONCE_LEN])
{
    memcpy(ret, nr, AEAD_NONCE_LEN);
    for (size_t i = 0; i < sizeof(offset); i++)
        ret[AEAD_NONCE_LEN - 1 - i] ^= (uint8_t)(offset >> (8 * i));
}

enum tcns_err aead_begin(struct aead *a, uint64_t offset, const uint8_t *ad, size_t ad_len)
{
    uint8_t nonce[AEAD_NONCE_LEN];

    make_nonce(a->nr, offset, nonce);
    return a->ops->begin(a->ctx, nonce, ad, ad_len) ? TCNS_OK : TCNS_ERR_CRYPTO;
}

enum tcns_err aead_update(struct aead *a, uint8_t *out, const uint8_t *in, size_t len)
{
    assert(len <= UINT16_MAX);
    return len == 0 || a->ops->update(a->ctx, out, in, len) ? TCNS_OK : TCNS_ERR_CRYPTO;
}

enum tcns_err aead_seal_tag(struct aead *a, uint8_t ret_tag[AEAD_TAG_LEN])
{
    return a->ops->seal_tag(a->ctx, ret_tag) ? TCNS_OK : TCNS_ERR_CRYPTO;
}

enum tcns_err aead_open_tag(struct aead *a, const uint8_t tag[AEAD_TAG_LEN])
{
    return a->ops->open_tag(a->ctx, tag) ? TCNS_OK : TCNS_ERR_FRAME_AUTH;
}
