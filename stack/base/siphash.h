/* SPDX-License-Identifier: BSD-3-Clause
 * SipHash-2-4: a keyed hash for tables whose keys a stranger chooses, and for
 * initial sequence numbers (RFC 6528 3).
 */
#ifndef TCNS_BASE_SIPHASH_H
#define TCNS_BASE_SIPHASH_H

#include <stddef.h>
#include <stdint.h>

struct siphash_key {
    uint64_t k0, k1;
};

uint64_t siphash(const struct siphash_key *key, const void *data, size_t len);

#endif
