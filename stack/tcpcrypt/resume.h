/* SPDX-License-Identifier: BSD-3-Clause
 * Cache of session secrets for resumption (RFC 8548 3.5).
 *
 * How it works: one entry per chain ss[1], ss[2], ... that came out of a fresh
 * key exchange; it holds the lowest secret not used yet. Taking a secret leaves
 * the next one of the chain in the entry, so no secret can be taken twice, not
 * even by connections that start at the same time. An entry serves either our
 * active opens (found by the peer's name) or our passive opens (found by the
 * identifier in the SYN), as the host opened the first connection: the two ends
 * then never propose the same secret to each other at once.
 *
 * The table is fixed, locked in memory and kept out of core dumps; when it is
 * full the entry unused for longest goes. Nothing is written to disk.
 */
#ifndef TCNS_TCPCRYPT_RESUME_H
#define TCNS_TCPCRYPT_RESUME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "tcpcrypt/keys.h"
#include "tcpcrypt/session.h"

#define RESUME_NONCE_MAX_LEN 8 /* RFC 8548 3.5 */

struct resume_secret {
    uint8_t tep;
    uint16_t aead;                   /* of the original session (interpretation I06) */
    enum session_role original_role; /* ours in the session with ss[0] */
    uint64_t chain;                  /* names the entry; 0: none */
    uint8_t ss[KEYS_K_LEN];
};

/* Gives the halves of a secret's identifier that the two hosts send. */
void resume_halves(const struct resume_secret *secret, uint8_t ret_ours[KEYS_RESUME_HALF],
                   uint8_t ret_theirs[KEYS_RESUME_HALF]);

/* Room for entry_max secrets, at least one. Return: NULL when out of memory. */
struct resume_cache *resume_cache_new(size_t entry_max);
/* Wipes all. NULL is a no-op. */
void resume_cache_free(struct resume_cache *c);
/* Forgets all secrets. */
void resume_cache_clear(struct resume_cache *c);
size_t resume_cache_cnt(const struct resume_cache *c);

/* Adds an unused secret under a new chain. peer names the host for active
 * opens; peer_len = 0 makes it one for passive opens. A peer has one entry per
 * TEP: an older one goes. Return: the chain. */
uint64_t resume_put(struct resume_cache *c, const struct resume_secret *secret, const uint8_t *peer,
                    size_t peer_len);

/* Takes the secret to propose to the peer, one that cfg still allows. */
bool resume_take_active(struct resume_cache *c, const struct session_config *cfg,
                        const uint8_t *peer, size_t peer_len, struct resume_secret *ret);

/* Takes the secret that a SYN names with the other host's half. */
bool resume_take_passive(struct resume_cache *c, const struct session_config *cfg, uint8_t tep,
                         const uint8_t half[KEYS_RESUME_HALF], struct resume_secret *ret);

/* Forgets the rest of a chain. */
void resume_forget(struct resume_cache *c, uint64_t chain);

#endif
