/* SPDX-License-Identifier: BSD-3-Clause
 * Ephemeral keys made ahead of need.
 */
#include "tcpcrypt/kex_pool.h"

#include <sodium.h>

struct kex_pool {
    session_random_fn random;
    size_t cnt;
    bool has_failed;
    struct kex_key keys[KEX_POOL_CNT];
};

struct kex_pool *kex_pool_new(session_random_fn random)
{
    struct kex_pool *p = sodium_init() < 0 ? NULL : sodium_malloc(sizeof(*p));

    if (p) {
        p->random = random;
        p->cnt = 0;
        p->has_failed = false;
    }
    return p;
}

void kex_pool_free(struct kex_pool *p)
{
    sodium_free(p); /* wipes */
}

bool kex_pool_is_full(const struct kex_pool *p)
{
    return p->cnt == KEX_POOL_CNT || p->has_failed;
}

void kex_pool_add(struct kex_pool *p)
{
    if (kex_pool_is_full(p))
        return;
    if (kex_ephemeral(TEP_ECDHE_CURVE25519, p->random, &p->keys[p->cnt]) == TCNS_OK)
        p->cnt++;
    else
        p->has_failed = true;
}

bool kex_pool_take(struct kex_pool *p, uint8_t tep, struct kex_key *ret)
{
    if (tep != TEP_ECDHE_CURVE25519 || p->cnt == 0)
        return false;
    p->cnt--;
    *ret = p->keys[p->cnt];
    sodium_memzero(&p->keys[p->cnt], sizeof(p->keys[p->cnt]));
    return true;
}
