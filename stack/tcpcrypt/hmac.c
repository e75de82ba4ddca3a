/* SPDX-License-Identifier: BSD-3-Clause
 * HMAC with SHA-256.
 */
#define OPENSSL_API_COMPAT 10100 /* SHA256_Init() and its kin are called low-level since 3.0 */

#include "tcpcrypt/hmac.h"

#include <sodium.h>
#include <string.h>

#define IPAD 0x36
#define OPAD 0x5c

static void start(SHA256_CTX *sha, const uint8_t key[HMAC_KEY_LEN], uint8_t pad)
{
    uint8_t block[SHA256_CBLOCK];

    memset(block, pad, sizeof(block));
    for (size_t i = 0; i < HMAC_KEY_LEN; i++)
        block[i] ^= key[i];
    SHA256_Init(sha);
    SHA256_Update(sha, block, sizeof(block));
    sodium_memzero(block, sizeof(block));
}

void hmac_init(struct hmac *h, const uint8_t key[HMAC_KEY_LEN])
{
    start(&h->inner, key, IPAD);
    start(&h->outer, key, OPAD);
}

void hmac_update(struct hmac *h, const void *bytes, size_t len)
{
    SHA256_Update(&h->inner, bytes, len);
}

void hmac_final(struct hmac *h, uint8_t ret[HMAC_LEN])
{
    SHA256_Final(ret, &h->inner);
    SHA256_Update(&h->outer, ret, HMAC_LEN);
    SHA256_Final(ret, &h->outer);
    sodium_memzero(h, sizeof(*h));
}
