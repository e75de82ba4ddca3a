/* SPDX-License-Identifier: BSD-3-Clause
 * The key exchange of a fresh session at one host (RFC 8548 3.3): host A sends
 * Init1 and waits for Init2, host B waits for Init1 and answers Init2.
 *
 * How it works: PRK is hashed as its parts become known (transcript, Init1,
 * Init2, ES), so no message is kept. The private key lives from
 * exchange_start() to exchange_done() at host A, and only inside one call at
 * host B.
 */
#ifndef TCNS_TCPCRYPT_EXCHANGE_H
#define TCNS_TCPCRYPT_EXCHANGE_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "tcpcrypt/handshake.h"
#include "tcpcrypt/init.h"

struct exchange {
    const struct session_config *cfg; /* borrowed */
    enum session_role role;           /* ours */
    uint8_t tep;
    uint8_t header_len;
    uint8_t header[INIT_HEADER_LEN]; /* of the peer's message */
    struct buf *in;                  /* the peer's message once its length is known */
    size_t in_len;
    size_t out_len;      /* of our message */
    struct kex_key key;  /* host A */
    struct keys_prk prk; /* host A: up to Init1 */
    uint8_t transcript[HANDSHAKE_TRANSCRIPT_MAX_LEN];
    size_t transcript_len;
};

struct exchange_result {
    uint8_t ss[KEYS_K_LEN]; /* ss[0]; the caller wipes */
    uint16_t aead;
    size_t out_len; /* of our Init message: offset of our first frame */
    size_t in_len;  /* of the peer's */
};

/* transcript is copied. Host A: *ret_out is Init1, caller owns. Host B: NULL. */
enum tcns_err exchange_start(struct exchange *x, const struct session_config *cfg,
                             enum session_role role, uint8_t tep, const uint8_t *transcript,
                             size_t transcript_len, struct buf **ret_out) MUST_CHECK;

/* Eats bytes up to the end of the peer's Init message. With OK *ret is filled
 * and *ret_out is Init2 at host B (caller owns), NULL at host A.
 * Return: OK; AGAIN; INIT_*; a LOCAL error. After an error only exchange_done(). */
enum tcns_err exchange_receive(struct exchange *x, const uint8_t *in, size_t in_len,
                               size_t *ret_used, struct exchange_result *ret,
                               struct buf **ret_out) MUST_CHECK;

/* Wipes. A zeroed object is fine. */
void exchange_done(struct exchange *x);

#endif
