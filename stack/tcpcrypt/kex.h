/* SPDX-License-Identifier: BSD-3-Clause
 * Key agreement of the four TEPs (RFC 8548 5): ephemeral keys, public keys as
 * they stand in Init messages, and the ephemeral secret ES.
 */
#ifndef TCNS_TCPCRYPT_KEX_H
#define TCNS_TCPCRYPT_KEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "tcpcrypt/session.h"

#define KEX_PRIVATE_MAX_LEN 66 /* P-521 scalar */
#define KEX_PUBLIC_MAX_LEN  67 /* P-521 point, compressed */
#define KEX_SECRET_MAX_LEN  66 /* P-521 field element */

struct kex_key {
    uint8_t tep;
    uint8_t public_len;
    uint8_t public[KEX_PUBLIC_MAX_LEN]; /* without the length prefix of P-256 and P-521 */
    uint8_t private[KEX_PRIVATE_MAX_LEN];
};

/* Return: one of the four TEPs of RFC 8548 7 table 4. */
bool kex_is_known(uint8_t tep);
/* Return: the name in table 4; NULL when the identifier is unknown. */
const char *kex_name(uint8_t tep);

/* Lengths for a known TEP. */
size_t kex_private_len(uint8_t tep);
size_t kex_public_len(uint8_t tep);
size_t kex_secret_len(uint8_t tep);
/* The public key has a two-byte length before it in Init messages (RFC 8548 5). */
bool kex_has_length_prefix(uint8_t tep);

/* The one place where ephemeral keys are made. */
enum tcns_err kex_ephemeral(uint8_t tep, session_random_fn random, struct kex_key *ret) MUST_CHECK;

/* private: kex_private_len() bytes, big-endian for P-256 and P-521.
 * Return: OK; CRYPTO, also for a scalar out of range. */
enum tcns_err kex_from_private(uint8_t tep, const uint8_t *private, struct kex_key *ret) MUST_CHECK;

/* Gives ES, kex_secret_len() bytes, of our key and the peer's public key of any
 * length. Return: OK; INIT_PUBKEY when the peer's key must be refused. */
enum tcns_err kex_agree(const struct kex_key *key, const uint8_t *peer, size_t peer_len,
                        uint8_t ret_es[KEX_SECRET_MAX_LEN]) MUST_CHECK;

#endif
