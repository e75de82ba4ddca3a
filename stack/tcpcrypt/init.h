/* SPDX-License-Identifier: BSD-3-Clause
 * Init1 and Init2 on the wire (RFC 8548 4.1) and the choice of the AEAD
 * (RFC 8548 3.3). Both messages start with a magic number and their length.
 */
#ifndef TCNS_TCPCRYPT_INIT_H
#define TCNS_TCPCRYPT_INIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "tcpcrypt/keys.h"
#include "tcpcrypt/kex.h"

#define INIT1_MAGIC 0x15101a0eu /* RFC 8548 4.3 */
#define INIT2_MAGIC 0x097105e0u

#define INIT_HEADER_LEN 8 /* magic and message_len */

/* The RFC sets no limit. Ours leaves room for 255 ciphers and a few KB of
 * ignored bytes, and bounds what a peer makes us hold. */
#define INIT_RECV_MAX_LEN 8192

#define INIT_CIPHERS_MAX_CNT 255
/* The longest message we send: three ciphers and a P-521 key. */
#define INIT_SEND_MAX_LEN (INIT_HEADER_LEN + 1 + 2 * 3 + KEYS_NONCE_LEN + 2 + KEX_PUBLIC_MAX_LEN)

/* Parts of a received message, borrowed from it. */
struct init_msg {
    const uint8_t *ciphers; /* Init1: cipher_cnt identifiers of two bytes */
    size_t cipher_cnt;
    uint16_t cipher; /* Init2: sym_cipher */
    const uint8_t *nonce;
    const uint8_t *public; /* without length prefix; not validated */
    size_t public_len;
};

/* Checks as much of the header as has arrived; ret_len is set when all of it has.
 * sender says which message it is: A sends Init1.
 * Return: OK; AGAIN; INIT_MAGIC as soon as one byte differs; INIT_LENGTH. */
enum tcns_err init_check_header(enum session_role sender, const uint8_t *bytes, size_t len,
                                size_t *ret_len) MUST_CHECK;

/* Parses a whole message. Bytes after the public key are ignored.
 * Return: OK, INIT_MAGIC or INIT_LENGTH. */
enum tcns_err init_parse(enum session_role sender, uint8_t tep, const uint8_t *msg, size_t len,
                         struct init_msg *ret) MUST_CHECK;

/* Return: length of the message. */
size_t init_emit1(uint8_t out[INIT_SEND_MAX_LEN], const uint16_t *ciphers, size_t cipher_cnt,
                  const uint8_t nonce[KEYS_NONCE_LEN], const struct kex_key *key);
size_t init_emit2(uint8_t out[INIT_SEND_MAX_LEN], uint16_t cipher,
                  const uint8_t nonce[KEYS_NONCE_LEN], const struct kex_key *key);

/* Host B: the best of preference that is in host A's list of cnt two-byte identifiers.
 * Return: OK; INIT_CIPHER when nothing is. */
enum tcns_err init_select(const uint8_t *list, size_t list_cnt, const uint16_t *preference,
                          size_t preference_cnt, uint16_t *ret) MUST_CHECK;

/* Host A: Return: OK when it had offered cipher; INIT_CIPHER otherwise. */
enum tcns_err init_check_selected(const uint16_t *offered, size_t offered_cnt,
                                  uint16_t cipher) MUST_CHECK;

#endif
