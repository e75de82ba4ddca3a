/* SPDX-License-Identifier: BSD-3-Clause
 * The schemes behind kex.h; all lengths are those of the TEP.
 */
#ifndef TCNS_TCPCRYPT_KEX_IMPL_H
#define TCNS_TCPCRYPT_KEX_IMPL_H

#include <stdint.h>

#include "base/err.h"
#include "tcpcrypt/session.h"

/* kex_x.c: X25519 and X448, RFC 7748 */
enum tcns_err kex_x25519_public(uint8_t tep, const uint8_t *private,
                                uint8_t *ret_public) MUST_CHECK;
enum tcns_err kex_x25519_agree(uint8_t tep, const uint8_t *private, const uint8_t *peer,
                               uint8_t *ret_es) MUST_CHECK;
enum tcns_err kex_x448_public(uint8_t tep, const uint8_t *private, uint8_t *ret_public) MUST_CHECK;
enum tcns_err kex_x448_agree(uint8_t tep, const uint8_t *private, const uint8_t *peer,
                             uint8_t *ret_es) MUST_CHECK;

/* kex_nist.c: P-256 and P-521 */
enum tcns_err kex_nist_generate(uint8_t tep, session_random_fn random,
                                uint8_t *ret_private) MUST_CHECK;
enum tcns_err kex_nist_public(uint8_t tep, const uint8_t *private, uint8_t *ret_public) MUST_CHECK;
enum tcns_err kex_nist_agree(uint8_t tep, const uint8_t *private, const uint8_t *peer,
                             uint8_t *ret_es) MUST_CHECK;

#endif
