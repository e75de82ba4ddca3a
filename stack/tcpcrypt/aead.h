/* SPDX-License-Identifier: BSD-3-Clause
 * One direction's AEAD (RFC 8548 6) with the nonce and key handling of RFC 8548
 * 3.6. One context of a crypto library lives as long as the direction; a frame costs
 * no allocation. Frames are worked on piece by piece:
 * begin, update as often as needed, then seal_tag or open_tag.
 */
#ifndef TCNS_TCPCRYPT_AEAD_H
#define TCNS_TCPCRYPT_AEAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define AEAD_TAG_LEN   16
#define AEAD_NONCE_LEN 12 /* ae_nonce_len of all three, RFC 8548 6 table 3 */

struct aead_ops;

struct aead {
    const struct aead_ops *ops; /* of the library that does it */
    void *ctx;                  /* the library's */
    uint16_t id;
    uint8_t nr[AEAD_NONCE_LEN]; /* nonce randomizer, RFC 8548 3.6 */
};

/* Return: ae_key_len; 0 when the identifier is unknown. */
size_t aead_key_len(uint16_t id);
/* Return: the name in RFC 8548 7 table 5; NULL when the identifier is unknown. */
const char *aead_name(uint16_t id);

/* id must be known; seals: encrypts, otherwise it decrypts. No key yet: aead_set_key()
 * comes first. */
enum tcns_err aead_init(struct aead *a, uint16_t id, bool seals) MUST_CHECK;
/* Wipes the keys. A zeroed object is fine. */
void aead_done(struct aead *a);

/* key: aead_key_len() bytes and the nonce randomizer. */
enum tcns_err aead_set_key(struct aead *a, const uint8_t *key) MUST_CHECK;

/* Starts the frame at this offset of the TCP data stream. */
enum tcns_err aead_begin(struct aead *a, uint64_t offset, const uint8_t *ad,
                         size_t ad_len) MUST_CHECK;
/* out and in are len bytes each; the same place or apart. */
enum tcns_err aead_update(struct aead *a, uint8_t *out, const uint8_t *in, size_t len) MUST_CHECK;
enum tcns_err aead_seal_tag(struct aead *a, uint8_t ret_tag[AEAD_TAG_LEN]) MUST_CHECK;
/* Return: OK; FRAME_AUTH when the tag does not match: what was decrypted must not be used. */
enum tcns_err aead_open_tag(struct aead *a, const uint8_t tag[AEAD_TAG_LEN]) MUST_CHECK;

#endif
