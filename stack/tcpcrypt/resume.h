/* SPDX-License-Identifier: BSD-3-Clause
 * Cache of session secrets for resumption (RFC 8548 3.5).
 *
 * How it works: one entry per chain ss[1], ss[2], ... that came out of a fresh
 * key exchange. It holds a window of RESUME_WINDOW_CNT secrets and knows their
 * identifiers. Either host may open the next connection:
 *
 *   active    takes the secret for good when it makes its SYN, whatever becomes
 *             of the connection. Entries are found by the peer's name.
 *   passive   finds the secret that a SYN names, and takes it only when the
 *             ACK with ENO has come, so that replayed SYNs use nothing up. Any
 *             secret of the window is recognised: SYNs get lost, and many
 *             connections may open at once. What is half a window behind the
 *             last one used was lost, and is dropped, unless its SYN was answered
 *             and the ACK is awaited. So is, awaited or not, what a later one
 *             overtook a while ago (RESUME_GAP_MAX_MS): a secret leads to all behind it,
 *             and those that were used must be gone for good.
 *
 * What is awaited may hold the window back, and a SYN beyond it gets a key exchange.
 * Somebody can bring that about with a SYN that he has seen, from any address, if it
 * was never completed. The wait is over when his connection is, which the caller
 * bounds, or RESUME_GAP_MAX_MS after it was overtaken (twice that at most); and one
 * key exchange ends it for the peer, which goes on with the new chain. Nothing is
 * used up, and no connection is reset. Each connection answers for its own wait, so
 * the end of his does not end the peer's.
 *
 * A secret that was taken is gone, so none can be enabled twice, in either
 * role: of crossing proposals of the same secret both are refused. While a SYN
 * is answered and its ACK is awaited, active opens leave the entry alone.
 *
 * The table is fixed, locked in memory and kept out of core dumps; when it is
 * full the entry unused for longest goes, and each goes some time after its key
 * exchange. Nothing is written to disk. Look-ups go through keyed hashes: a
 * stranger chooses names, and a peer can choose identifiers.
 */
#ifndef TCNS_TCPCRYPT_RESUME_H
#define TCNS_TCPCRYPT_RESUME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "tcpcrypt/keys.h"
#include "tcpcrypt/session.h"

#define RESUME_NONCE_MAX_LEN 8  /* RFC 8548 3.5 */
#define RESUME_WINDOW_CNT    32 /* secrets of a chain that a SYN may name */

/* How long a chain lives, from its key exchange; bounds forward secrecy. */
#define RESUME_AGE_DEFAULT_MS (2 * 60 * 60 * 1000ull)
/* How long an answered SYN may wait for its ACK; Linux retries a SYN-ACK for 63 s. */
#define RESUME_ANSWER_MAX_MS (120 * 1000ull)

/* A secret is kept so long, twice that at most, when a later one of its chain has been used.
 * Connections that open at once overtake each other by a few retransmissions. */
#define RESUME_GAP_MAX_MS (30 * 1000ull)

struct resume_secret {
    uint8_t tep;
    uint16_t aead;                   /* of the original session (interpretation I06) */
    enum session_role original_role; /* ours in the session with ss[0] */
    uint64_t chain;                  /* names the entry; 0: none */
    uint64_t index;                  /* in the chain: 0 for the secret that was put */
    uint8_t ss[KEYS_K_LEN];
};

/* A peer by name, any bytes. The first host_len of len name its host, all of them
 * the service there. */
struct resume_peer {
    uint8_t len; /* 0: no name */
    uint8_t host_len;
    uint8_t name[SESSION_PEER_MAX_LEN];
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
/* From now on; RESUME_AGE_DEFAULT_MS unless set. */
void resume_cache_set_age(struct resume_cache *c, uint64_t age_ms);
/* Tells the time, of a clock that never goes back, and wipes what is too old. Without
 * ticks nothing ages. */
void resume_cache_tick(struct resume_cache *c, uint64_t now_ms);

/* Adds an unused secret under a new chain. After an active open it is found by
 * the service, in place of older ones of that TEP but those that are awaited; after a passive open by the
 * host, where there may be several behind one address. Without a name only SYNs
 * find it. Return: the chain. */
uint64_t resume_put(struct resume_cache *c, const struct resume_secret *secret,
                    const struct resume_peer *peer, bool was_active);

/* Takes the secret to propose to the peer, one that cfg still allows. Return: false
 * when there is none. */
bool resume_take_active(struct resume_cache *c, const struct session_config *cfg,
                        const struct resume_peer *peer, struct resume_secret *ret);

/* Finds the secret that a SYN names with the other host's half. It stays. */
bool resume_find_passive(struct resume_cache *c, const struct session_config *cfg, uint8_t tep,
                         const uint8_t half[KEYS_RESUME_HALF], struct resume_secret *ret);
/* The nonce for the answer to that SYN: drawn once, then the same until the secret is
 * taken or RESUME_ANSWER_MAX_MS have passed. The connection's ACK is awaited from now on: it
 * ends with resume_take_passive() or resume_give_up_passive(), once. */
void resume_answer_nonce(struct resume_cache *c, const struct resume_secret *secret,
                         session_random_fn random, uint8_t *ret, size_t len);
/* Takes a secret that was found: encryption will be enabled with it. Return: false when
 * it is gone, taken by another connection or forgotten; it must not be used then. */
bool resume_take_passive(struct resume_cache *c, const struct resume_secret *secret);
/* That connection has ended, or goes on without the secret, which stays. Others that were
 * answered with it are awaited as before. No-op when it is gone. */
void resume_give_up_passive(struct resume_cache *c, const struct resume_secret *secret);

/* Forgets the rest of a chain. */
void resume_forget(struct resume_cache *c, uint64_t chain);

#endif
