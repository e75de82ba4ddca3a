/* SPDX-License-Identifier: BSD-3-Clause
 * Generation numbers of the key sets (RFC 8548 3.8). Counting only; the keys
 * are with the frames.
 *
 * How it works: local is the generation that we have decided to send with,
 * sealed that of the last frame we sent, remote that of the last frame we
 * received. A frame with rekey = 1 moves by exactly one generation, so the next
 * frame has rekey = 1 while sealed is behind local (interpretation I08).
 */
#ifndef TCNS_TCPCRYPT_REKEY_H
#define TCNS_TCPCRYPT_REKEY_H

#include <stdbool.h>
#include <stdint.h>

struct rekey {
    uint32_t local;
    uint32_t remote; /* never ahead of local between calls */
    uint32_t sealed; /* at most local */
};

/* A frame with rekey = 1 is owed to the peer. */
static inline bool rekey_is_owed(const struct rekey *r)
{
    return r->sealed != r->local;
}

/* Our own wish for new keys. The next frame carries it. */
static inline void rekey_initiate(struct rekey *r)
{
    r->local++;
}

/* The next frame is being sealed. Return: its rekey bit. */
static inline bool rekey_on_seal(struct rekey *r)
{
    if (!rekey_is_owed(r))
        return false;
    r->sealed++;
    return true;
}

/* An authentic frame arrived. Return: a frame with rekey = 1 must be sent at once. */
static inline bool rekey_on_frame(struct rekey *r, bool rekey_bit)
{
    if (!rekey_bit)
        return false;
    r->remote++;
    if (r->remote <= r->local)
        return false;
    r->local = r->remote;
    return true;
}

#endif
