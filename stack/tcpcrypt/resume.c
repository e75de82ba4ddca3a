/* SPDX-License-Identifier: BSD-3-Clause
 * Cache of session secrets for resumption.
 */
#include "tcpcrypt/resume.h"

#include <assert.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

struct entry {
    struct resume_secret secret; /* chain = 0: the entry is free */
    uint64_t used_at;            /* value of cache->clock */
    uint8_t theirs[KEYS_RESUME_HALF];
    uint8_t peer_len; /* 0: for passive opens */
    uint8_t peer[SESSION_PEER_MAX_LEN];
};

struct resume_cache {
    struct entry *entries; /* of sodium_malloc() */
    size_t entry_max;
    uint64_t clock; /* counts uses, for eviction */
    uint64_t last_chain;
};

void resume_halves(const struct resume_secret *secret, uint8_t ret_ours[KEYS_RESUME_HALF],
                   uint8_t ret_theirs[KEYS_RESUME_HALF])
{
    uint8_t id[KEYS_RESUME_ID_LEN];
    bool was_a = secret->original_role == SESSION_ROLE_A;

    keys_resume_id(secret->ss, id);
    memcpy(ret_ours, id + (was_a ? 0 : KEYS_RESUME_HALF), KEYS_RESUME_HALF);
    memcpy(ret_theirs, id + (was_a ? KEYS_RESUME_HALF : 0), KEYS_RESUME_HALF);
    sodium_memzero(id, sizeof(id));
}

struct resume_cache *resume_cache_new(size_t entry_max)
{
    struct resume_cache *c = calloc(1, sizeof(*c));

    assert(entry_max > 0);
    if (!c || sodium_init() < 0) {
        free(c);
        return NULL;
    }
    c->entry_max = entry_max;
    c->entries = sodium_allocarray(entry_max, sizeof(*c->entries));
    if (!c->entries) {
        free(c);
        return NULL;
    }
    resume_cache_clear(c);
    return c;
}

void resume_cache_free(struct resume_cache *c)
{
    if (!c)
        return;
    sodium_free(c->entries); /* wipes */
    free(c);
}

void resume_cache_clear(struct resume_cache *c)
{
    sodium_memzero(c->entries, c->entry_max * sizeof(*c->entries));
}

size_t resume_cache_cnt(const struct resume_cache *c)
{
    size_t cnt = 0;

    for (size_t i = 0; i < c->entry_max; i++)
        cnt += c->entries[i].secret.chain != 0;
    return cnt;
}

static bool has_peer(const struct entry *en, const uint8_t *peer, size_t peer_len)
{
    return en->secret.chain != 0 && peer_len > 0 && en->peer_len == peer_len &&
           sodium_memcmp(en->peer, peer, peer_len) == 0;
}

/* The entry to overwrite: the peer's older one of that TEP, a free one, or the one unused longest.
 */
static struct entry *find_room(struct resume_cache *c, uint8_t tep, const uint8_t *peer,
                               size_t peer_len)
{
    struct entry *oldest = &c->entries[0];

    for (size_t i = 0; i < c->entry_max; i++) {
        struct entry *en = &c->entries[i];

        if (has_peer(en, peer, peer_len) && en->secret.tep == tep)
            return en;
        if (en->used_at < oldest->used_at)
            oldest = en;
    }
    return oldest;
}

static void note_secret(struct resume_cache *c, struct entry *en)
{
    uint8_t ours[KEYS_RESUME_HALF];

    resume_halves(&en->secret, ours, en->theirs);
    sodium_memzero(ours, sizeof(ours));
    en->used_at = ++c->clock;
}

uint64_t resume_put(struct resume_cache *c, const struct resume_secret *secret, const uint8_t *peer,
                    size_t peer_len)
{
    struct entry *en;

    assert(peer_len <= SESSION_PEER_MAX_LEN);
    en = find_room(c, secret->tep, peer, peer_len);
    sodium_memzero(en, sizeof(*en));
    en->secret = *secret;
    en->secret.chain = ++c->last_chain;
    en->peer_len = (uint8_t)peer_len;
    if (peer_len > 0)
        memcpy(en->peer, peer, peer_len);
    note_secret(c, en);
    return en->secret.chain;
}

/* RFC 8548 3.5: ss[i] leaves the cache, ss[i+1] takes its place. */
static void take(struct resume_cache *c, struct entry *en, struct resume_secret *ret)
{
    *ret = en->secret;
    keys_next_secret(en->secret.ss, en->secret.ss);
    note_secret(c, en);
}

static bool is_allowed(const struct session_config *cfg, const struct resume_secret *secret)
{
    bool has_tep = false;
    bool has_aead = false;

    for (size_t i = 0; i < cfg->tep_cnt; i++)
        has_tep |= cfg->teps[i] == secret->tep;
    for (size_t i = 0; i < cfg->aead_cnt; i++)
        has_aead |= cfg->aeads[i] == secret->aead;
    return has_tep && has_aead;
}

bool resume_take_active(struct resume_cache *c, const struct session_config *cfg,
                        const uint8_t *peer, size_t peer_len, struct resume_secret *ret)
{
    struct entry *newest = NULL;

    for (size_t i = 0; i < c->entry_max; i++) {
        struct entry *en = &c->entries[i];

        if (has_peer(en, peer, peer_len) && is_allowed(cfg, &en->secret) &&
            (!newest || en->used_at > newest->used_at))
            newest = en;
    }
    if (!newest)
        return false;
    take(c, newest, ret);
    return true;
}

bool resume_take_passive(struct resume_cache *c, const struct session_config *cfg, uint8_t tep,
                         const uint8_t half[KEYS_RESUME_HALF], struct resume_secret *ret)
{
    for (size_t i = 0; i < c->entry_max; i++) {
        struct entry *en = &c->entries[i];

        if (en->secret.chain != 0 && en->peer_len == 0 && en->secret.tep == tep &&
            is_allowed(cfg, &en->secret) &&
            sodium_memcmp(en->theirs, half, KEYS_RESUME_HALF) == 0) {
            take(c, en, ret);
            return true;
        }
    }
    return false;
}

void resume_forget(struct resume_cache *c, uint64_t chain)
{
    for (size_t i = 0; i < c->entry_max; i++)
        if (chain != 0 && c->entries[i].secret.chain == chain)
            sodium_memzero(&c->entries[i], sizeof(c->entries[i]));
}
