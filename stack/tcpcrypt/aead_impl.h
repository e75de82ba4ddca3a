/* SPDX-License-Identifier: BSD-3-Clause
 * What stands behind aead.h: libraries that know how to do an AEAD.
 */
#ifndef TCNS_TCPCRYPT_AEAD_IMPL_H
#define TCNS_TCPCRYPT_AEAD_IMPL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tcpcrypt/aead.h"

/* One direction's context, made by new(). The calls come in the order of aead.h; those
 * that return false have failed for a reason that no caller can mend. */
struct aead_ops {
    /* Return: NULL when out of memory. */
    void *(*new)(uint16_t id, bool seals);
    void (*free)(void *ctx); /* wipes */
    bool (*set_key)(void *ctx, const uint8_t *key);
    bool (*begin)(void *ctx, const uint8_t nonce[AEAD_NONCE_LEN], const uint8_t *ad, size_t ad_len);
    bool (*update)(void *ctx, uint8_t *out, const uint8_t *in, size_t len);
    bool (*seal_tag)(void *ctx, uint8_t ret_tag[AEAD_TAG_LEN]);
    bool (*open_tag)(void *ctx, const uint8_t tag[AEAD_TAG_LEN]); /* false: no match */
};

/* Return: the library's way for an AEAD of this identifier; NULL when it has none on this
 * processor. */
const struct aead_ops *aead_ops_libcrypto(uint16_t id);
const struct aead_ops *aead_ops_ipsec_mb(uint16_t id);

/* aead_init() with a library of the caller's choice. */
enum tcns_err aead_init_with(struct aead *a, const struct aead_ops *ops, uint16_t id,
                             bool seals) MUST_CHECK;

#endif
