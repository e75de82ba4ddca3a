/* SPDX-License-Identifier: BSD-3-Clause
 * HMAC with SHA-256 (RFC 2104), what RFC 8548 4.3 builds its Extract and CPRF from.
 *
 * libcrypto's SHA-256 uses the processor's SHA instructions and libsodium's does not:
 * a quarter of the time. Its EVP interface would allocate, could fail, and would keep
 * keys where we can't wipe them.
 */
#ifndef TCNS_TCPCRYPT_HMAC_H
#define TCNS_TCPCRYPT_HMAC_H

#include <openssl/sha.h>
#include <stddef.h>
#include <stdint.h>

#define HMAC_KEY_LEN 32
#define HMAC_LEN     32

struct hmac {
    SHA256_CTX inner, outer;
};

void hmac_init(struct hmac *h, const uint8_t key[HMAC_KEY_LEN]);
void hmac_update(struct hmac *h, const void *bytes, size_t len);
/* Wipes h. */
void hmac_final(struct hmac *h, uint8_t ret[HMAC_LEN]);

#endif
