/* SPDX-License-Identifier: BSD-3-Clause
 * What an application wants for the connections of one of its sockets, on top of what
 * the policy says.
 *
 * How it works: pure. A wish never weakens: where the policy says require it stays, what
 * the policy forbids (resumption, a cipher, a peer that knows nothing of encryption) stays
 * forbidden. All else is the application's to choose.
 */
#ifndef TCNS_TUNNEL_WISH_H
#define TCNS_TUNNEL_WISH_H

#include <stdbool.h>
#include <stddef.h>

#include "base/tuple.h"
#include "tcpcrypt/session.h"
#include "tunnel/policy.h"

/* What is wished for; the rest is as the policy has it. */
enum wish_bit {
    WISH_POLICY = 0x01,
    WISH_AEADS = 0x02,
    WISH_APP_AWARE = 0x04, /* both app-aware flags */
    WISH_RESUME = 0x08,
    WISH_CACHE = 0x10,
    WISH_PASSIVE_ROLE = 0x20,
};

#define WISH_AEADS_MAX_CNT 3

struct wish {
    unsigned set;                       /* of enum wish_bit */
    enum tunnel_policy policy;          /* not BYPASS */
    uint16_t aeads[WISH_AEADS_MAX_CNT]; /* best first */
    size_t aead_cnt;
    bool app_aware;           /* RFC 8547 4.3: the a bit */
    bool mandatory_app_aware; /* and no encryption with a peer that has it not */
    bool no_resume;           /* RFC 8548 3.5: a fresh key exchange */
    bool no_cache;            /* RFC 8548 3.5: no secret is kept */
    bool passive_role;        /* RFC 8547 4.3: b = 1 in an active open */
};

/* Looks up what is wished for a connection that begins. Return: 1 and *ret; 0: nothing;
 * -errno when that cannot be known now, then the connection must not begin. */
typedef int (*wish_fn)(void *arg, const struct tuple *tuple, bool inbound, struct wish *ret);

/* Changes policy and cfg, which are what the policy says. Ciphers: those of the wish that
 * cfg has, in the order of the wish; cfg's own when it has none of them. */
void wish_apply(const struct wish *w, enum tunnel_policy *policy, struct session_config *cfg);

#endif
