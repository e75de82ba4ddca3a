/* SPDX-License-Identifier: BSD-3-Clause
 * Ephemeral keys made ahead of need, while there is nothing else to do: making one takes
 * as long as agreeing on a secret with it. Of Curve25519 only, which nearly every
 * connection takes.
 *
 * A key is in memory for longer than without the pool, locked and kept out of core
 * dumps; it serves one connection, and is wiped as it is taken.
 */
#ifndef TCNS_TCPCRYPT_KEX_POOL_H
#define TCNS_TCPCRYPT_KEX_POOL_H

#include <stdbool.h>

#include "tcpcrypt/kex.h"

/* Enough for the connections of a burst; 64 KB, and 27 ms of time that nobody needed. */
#define KEX_POOL_CNT 1024u

/* An empty one. Return: NULL when out of memory. */
struct kex_pool *kex_pool_new(session_random_fn random);
/* Wipes all. NULL is a no-op. */
void kex_pool_free(struct kex_pool *p);

/* Also when keys cannot be made here: nobody should try again and again. */
bool kex_pool_is_full(const struct kex_pool *p);
/* Makes one key more, if it is not full. */
void kex_pool_add(struct kex_pool *p);
/* Return: false when there is none of that TEP. */
bool kex_pool_take(struct kex_pool *p, uint8_t tep, struct kex_key *ret);

#endif
