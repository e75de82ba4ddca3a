/* SPDX-License-Identifier: BSD-3-Clause
 * Ephemeral keys made ahead of need.
 */
#include "tcpcrypt/kex_pool.h"

#include <sodium.h>
#include <string.h>

#define KEY_LEN 32 /* private and public: RFC 7748 5 */

struct pool_key {
    uint8_t public[KEY_LEN], private[KEY_LEN];
};

struct kex_pool {
    session_random_fn random;
    size_t cnt;
    bool has_failed;
    struct pool_key keys[KEX_POOL_CNT];
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
    struct kex_key key;

    if (kex_pool_is_full(p))
        return;
    if (kex_ephemeral(TEP_ECDHE_CURVE25519, p->random, &key) == TCNS_OK) {
        struct pool_key *k = &p->keys[p->cnt++];
        memcpy(k->public, key.public, KEY_LEN);
        memcpy(k->private, key.private, KEY_LEN);
    } else {
        p->has_failed = true;
    }
    sodium_memzero(&key, sizeof(key));
}

bool kex_pool_take(struct kex_pool *p, uint8_t tep, struct kex_key *ret)
{
    if (tep != TEP_ECDHE_CURVE25519 || p->cnt == 0)
        return false;
    struct pool_key *k = &p->keys[--p->cnt];
    *ret = (struct kex_key){.tep = tep, .public_len = KEY_LEN};
    memcpy(ret->public, k->public, KEY_LEN);
    memcpy(ret->private, k->private, KEY_LEN);
    sodium_memzero(k, sizeof(*k));
    return true;
}
