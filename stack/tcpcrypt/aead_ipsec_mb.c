/* SPDX-License-Identifier: BSD-3-Clause
 * AES-GCM of the Intel Multi-Buffer library, for x86 processors with VAES.
 *
 * Why another library: OpenSSL 3.0 knows nothing of VAES. Here a 64 KiB frame takes
 * a fifth of the time (docs/PERFORMANCE.md). Without VAES both are alike, and
 * libcrypto is used.
 */
#include <intel-ipsec-mb.h>
#include <sodium.h>
#include <stdalign.h>
#include <stdlib.h>

#include "tcpcrypt/aead_impl.h"
#include "tcpcrypt/session.h"

/* 64-byte aligned, as the library asks. */
struct gcm {
    struct gcm_key_data key;
    struct gcm_context_data frame;
    uint16_t id;
    bool seals;
};

static IMB_MGR *mgr; /* the library's table of functions for this processor */

static bool has_vaes(void)
{
    const uint64_t wanted = IMB_FEATURE_VAES | IMB_FEATURE_VPCLMULQDQ;

    if (!mgr && (mgr = alloc_mb_mgr(0)))
        init_mb_mgr_auto(mgr, NULL);
    return mgr && (mgr->features & wanted) == wanted && imb_get_errno(mgr) == 0;
}

static void *mb_new(uint16_t id, bool seals)
{
    struct gcm *g = aligned_alloc(alignof(struct gcm), sizeof(*g));

    if (g) {
        g->id = id;
        g->seals = seals;
    }
    return g;
}

static void mb_free(void *ctx)
{
    if (ctx)
        sodium_memzero(ctx, sizeof(struct gcm));
    free(ctx);
}

static bool mb_set_key(void *ctx, const uint8_t *key)
{
    struct gcm *g = ctx;

    if (g->id == AEAD_AES_128_GCM)
        IMB_AES128_GCM_PRE(mgr, key, &g->key);
    else
        IMB_AES256_GCM_PRE(mgr, key, &g->key);
    return true;
}

static bool mb_begin(void *ctx, const uint8_t nonce[AEAD_NONCE_LEN], const uint8_t *ad,
                     size_t ad_len)
{
    struct gcm *g = ctx;

    if (g->id == AEAD_AES_128_GCM)
        IMB_AES128_GCM_INIT(mgr, &g->key, &g->frame, nonce, ad, ad_len);
    else
        IMB_AES256_GCM_INIT(mgr, &g->key, &g->frame, nonce, ad, ad_len);
    return true;
}

static bool mb_update(void *ctx, uint8_t *out, const uint8_t *in, size_t len)
{
    struct gcm *g = ctx;

    if (g->id == AEAD_AES_128_GCM && g->seals)
        IMB_AES128_GCM_ENC_UPDATE(mgr, &g->key, &g->frame, out, in, len);
    else if (g->id == AEAD_AES_128_GCM)
        IMB_AES128_GCM_DEC_UPDATE(mgr, &g->key, &g->frame, out, in, len);
    else if (g->seals)
        IMB_AES256_GCM_ENC_UPDATE(mgr, &g->key, &g->frame, out, in, len);
    else
        IMB_AES256_GCM_DEC_UPDATE(mgr, &g->key, &g->frame, out, in, len);
    return true;
}

static bool mb_seal_tag(void *ctx, uint8_t ret_tag[AEAD_TAG_LEN])
{
    struct gcm *g = ctx;

    if (g->id == AEAD_AES_128_GCM)
        IMB_AES128_GCM_ENC_FINALIZE(mgr, &g->key, &g->frame, ret_tag, AEAD_TAG_LEN);
    else
        IMB_AES256_GCM_ENC_FINALIZE(mgr, &g->key, &g->frame, ret_tag, AEAD_TAG_LEN);
    return true;
}

static bool mb_open_tag(void *ctx, const uint8_t tag[AEAD_TAG_LEN])
{
    struct gcm *g = ctx;
    uint8_t computed[AEAD_TAG_LEN];

    if (g->id == AEAD_AES_128_GCM)
        IMB_AES128_GCM_DEC_FINALIZE(mgr, &g->key, &g->frame, computed, AEAD_TAG_LEN);
    else
        IMB_AES256_GCM_DEC_FINALIZE(mgr, &g->key, &g->frame, computed, AEAD_TAG_LEN);
    return sodium_memcmp(computed, tag, AEAD_TAG_LEN) == 0;
}

const struct aead_ops *aead_ops_ipsec_mb(uint16_t id)
{
    static const struct aead_ops ops = {
        .new = mb_new,
        .free = mb_free,
        .set_key = mb_set_key,
        .begin = mb_begin,
        .update = mb_update,
        .seal_tag = mb_seal_tag,
        .open_tag = mb_open_tag,
    };

    return (id == AEAD_AES_128_GCM || id == AEAD_AES_256_GCM) && has_vaes() ? &ops : NULL;
}
