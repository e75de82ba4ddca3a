/* SPDX-License-Identifier: BSD-3-Clause
 * The key schedule of RFC 8548 3.3 to 3.5: from the ephemeral secret to session
 * secrets, session ids, resumption identifiers, master keys and traffic keys.
 * Every TEP defined so far uses HKDF with SHA-256 and K_LEN = 32 (RFC 8548 5).
 */
#ifndef TCNS_TCPCRYPT_KEYS_H
#define TCNS_TCPCRYPT_KEYS_H

#include <stddef.h>
#include <stdint.h>

#include "tcpcrypt/hmac.h"
#include "tcpcrypt/session.h"

#define KEYS_K_LEN           32 /* K_LEN, RFC 8548 5 */
#define KEYS_NONCE_LEN       32 /* N_A_LEN and N_B_LEN, RFC 8548 5 */
#define KEYS_RESUME_ID_LEN   18 /* RFC 8548 3.5 */
#define KEYS_RESUME_HALF     9
#define KEYS_SN_MAX_LEN      16        /* two resumption nonces, RFC 8548 3.5 */
#define KEYS_TRAFFIC_MAX_LEN (32 + 12) /* the longest AEAD key and nonce, RFC 8548 6 */

/* PRK = Extract(N_A, eno_transcript | Init1 | Init2 | ES), RFC 8548 3.3, fed in
 * that order. Holds nothing secret until ES goes in. */
struct keys_prk {
    struct hmac hmac;
};

void keys_prk_init(struct keys_prk *p, const uint8_t n_a[KEYS_NONCE_LEN]);
void keys_prk_update(struct keys_prk *p, const uint8_t *bytes, size_t len);
/* Gives ss[0] and wipes p. */
void keys_prk_final(struct keys_prk *p, uint8_t ret_ss[KEYS_K_LEN]);

/* CPRF of RFC 8548 3.1: HKDF-Expand with SHA-256. len is at most 255 * 32. */
void keys_cprf(const uint8_t key[KEYS_K_LEN], const uint8_t *info, size_t info_len, uint8_t *ret,
               size_t len);

/* ss[i+1] from ss[i]; ret may be ss. */
void keys_next_secret(const uint8_t ss[KEYS_K_LEN], uint8_t ret[KEYS_K_LEN]);
void keys_resume_id(const uint8_t ss[KEYS_K_LEN], uint8_t ret[KEYS_RESUME_ID_LEN]);
/* tep_byte is host B's initial suboption byte as sent (RFC 8548 3.4). */
void keys_session_id(uint8_t tep_byte, const uint8_t ss[KEYS_K_LEN], const uint8_t *sn,
                     size_t sn_len, uint8_t ret[SESSION_ID_LEN]);

/* mk[0] of a session; sn_len is 0 after a fresh key exchange. */
void keys_first_master(const uint8_t ss[KEYS_K_LEN], const uint8_t *sn, size_t sn_len,
                       uint8_t ret[KEYS_K_LEN]);
/* mk[j+1] from mk[j]; ret may be mk. */
void keys_next_master(const uint8_t mk[KEYS_K_LEN], uint8_t ret[KEYS_K_LEN]);
/* k_ab when the sender's original role is A, k_ba when it is B. */
void keys_traffic(const uint8_t mk[KEYS_K_LEN], enum session_role sender, uint8_t *ret, size_t len);

#endif
