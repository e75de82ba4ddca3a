/* SPDX-License-Identifier: BSD-3-Clause
 * Cache of session secrets for resumption.
 *
 * How it works: entries are named by number. Each is on two lists, in the order
 * of use (for eviction) and of birth (for ageing), and in hash tables: once by
 * name, and with each identifier of its window by that. ss[i] lies in slot i
 * modulo RESUME_WINDOW_CNT, so a step along the chain changes one slot. A slot
 * has a secret of its own, for the one that is used must go while connections
 * that began before it still wait for theirs.
 *
 * An unused secret before a used one, a gap, leads to the used one, as each does
 * to those behind it: it must not stay for long. Entries with gaps are on a third
 * list, in the order in which the gaps were noticed.
 */
#include "tcpcrypt/resume.h"

#include <assert.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "base/siphash.h"

#define NONE UINT32_MAX

enum order { ORDER_USE, ORDER_BIRTH, ORDER_GAP, ORDER_CNT };

/* What a SYN may name, and what it was answered. */
struct slot {
    uint32_t next; /* in its bucket */
    bool is_unused;
    bool has_nonce;
    uint8_t ss[KEYS_K_LEN];
    uint8_t theirs[KEYS_RESUME_HALF];
    uint8_t nonce_len;
    uint8_t nonce[RESUME_NONCE_MAX_LEN];
    uint64_t answered_ms; /* when the nonce was drawn */
    uint32_t opening_cnt; /* connections that were answered with it, and wait for their ACK */
};

struct entry {
    /* index is the first of the window, ss the one behind the window; chain = 0: the entry
     * is free */
    struct resume_secret secret;
    struct resume_peer peer;
    struct slot slots[RESUME_WINDOW_CNT];
    uint64_t born_ms;
    uint64_t used_end; /* behind the last index used */
    bool has_gap;      /* on the list ORDER_GAP; gap_end and gap_ms are valid */
    uint64_t gap_end;  /* used_end when the gap was noticed, at gap_ms */
    uint64_t gap_ms;
    uint32_t name_next; /* in its bucket */
    struct {
        uint32_t older, newer;
    } order[ORDER_CNT];
};

struct resume_cache {
    struct entry *entries; /* of sodium_malloc() */
    uint32_t entry_max;
    uint32_t cnt;
    uint32_t free; /* list through order[ORDER_USE].older */
    uint32_t oldest[ORDER_CNT], newest[ORDER_CNT];
    uint32_t *by_name, *by_id; /* buckets: numbers of entries, and of slots */
    uint32_t name_mask, id_mask;
    struct siphash_key key;
    uint64_t now_ms, age_ms;
    uint64_t put_cnt; /* makes chains unique */
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

/* --- Lists ------------------------------------------------------------------ */

static void list_append(struct resume_cache *c, enum order o, uint32_t n)
{
    struct entry *en = &c->entries[n];

    en->order[o].older = c->newest[o];
    en->order[o].newer = NONE;
    if (c->newest[o] == NONE)
        c->oldest[o] = n;
    else
        c->entries[c->newest[o]].order[o].newer = n;
    c->newest[o] = n;
}

static void list_remove(struct resume_cache *c, enum order o, uint32_t n)
{
    uint32_t older = c->entries[n].order[o].older, newer = c->entries[n].order[o].newer;

    if (older == NONE)
        c->oldest[o] = newer;
    else
        c->entries[older].order[o].newer = newer;
    if (newer == NONE)
        c->newest[o] = older;
    else
        c->entries[newer].order[o].older = older;
}

static void note_use(struct resume_cache *c, uint32_t n)
{
    list_remove(c, ORDER_USE, n);
    list_append(c, ORDER_USE, n);
}

/* --- Hash tables ------------------------------------------------------------ */

static struct slot *slot_at(const struct resume_cache *c, uint32_t slot_no)
{
    return &c->entries[slot_no / RESUME_WINDOW_CNT].slots[slot_no % RESUME_WINDOW_CNT];
}

static uint32_t *id_bucket(const struct resume_cache *c, const uint8_t half[KEYS_RESUME_HALF])
{
    return &c->by_id[siphash(&c->key, half, KEYS_RESUME_HALF) & c->id_mask];
}

static uint32_t *name_bucket(const struct resume_cache *c, const uint8_t *name, size_t len)
{
    return &c->by_name[siphash(&c->key, name, len) & c->name_mask];
}

static void id_add(struct resume_cache *c, uint32_t slot_no)
{
    struct slot *slot = slot_at(c, slot_no);
    uint32_t *bucket = id_bucket(c, slot->theirs);

    slot->next = *bucket;
    *bucket = slot_no;
}

static void id_remove(struct resume_cache *c, uint32_t slot_no)
{
    struct slot *slot = slot_at(c, slot_no);
    uint32_t *link = id_bucket(c, slot->theirs);

    while (*link != slot_no)
        link = &slot_at(c, *link)->next;
    *link = slot->next;
    sodium_memzero(slot, sizeof(*slot));
}

static void name_add(struct resume_cache *c, uint32_t n)
{
    struct entry *en = &c->entries[n];
    uint32_t *bucket;

    if (en->peer.len == 0)
        return;
    bucket = name_bucket(c, en->peer.name, en->peer.len);
    en->name_next = *bucket;
    *bucket = n;
}

static void name_remove(struct resume_cache *c, uint32_t n)
{
    const struct entry *en = &c->entries[n];
    uint32_t *link;

    if (en->peer.len == 0)
        return;
    link = name_bucket(c, en->peer.name, en->peer.len);
    while (*link != n)
        link = &c->entries[*link].name_next;
    *link = en->name_next;
}

/* --- Entries ---------------------------------------------------------------- */

static uint32_t slot_no_of(uint32_t n, uint64_t index)
{
    return n * RESUME_WINDOW_CNT + (uint32_t)(index % RESUME_WINDOW_CNT);
}

/* A SYN that names it was answered, not long ago. */
static bool is_answered(const struct resume_cache *c, const struct slot *slot)
{
    return slot->has_nonce && c->now_ms - slot->answered_ms < RESUME_ANSWER_MAX_MS;
}

/* And the ACK may still come. */
static bool is_awaited(const struct resume_cache *c, const struct slot *slot)
{
    return is_answered(c, slot) && slot->opening_cnt > 0;
}

/* Puts the entry's ss, which is that of index, into its slot and goes on to the next. */
static void fill_slot(struct resume_cache *c, uint32_t n, uint64_t index)
{
    struct resume_secret *secret = &c->entries[n].secret;
    uint32_t slot_no = slot_no_of(n, index);
    struct slot *slot = slot_at(c, slot_no);
    uint8_t ours[KEYS_RESUME_HALF];

    memcpy(slot->ss, secret->ss, sizeof(slot->ss));
    slot->is_unused = true;
    resume_halves(secret, ours, slot->theirs);
    id_add(c, slot_no);
    keys_next_secret(secret->ss, secret->ss);
}

static void empty_slot(struct resume_cache *c, uint32_t slot_no)
{
    if (slot_at(c, slot_no)->is_unused)
        id_remove(c, slot_no); /* wipes */
}

static struct slot *first_slot(const struct resume_cache *c, uint32_t n)
{
    return slot_at(c, slot_no_of(n, c->entries[n].secret.index));
}

/* The window moves on by one. */
static void step(struct resume_cache *c, uint32_t n)
{
    struct resume_secret *secret = &c->entries[n].secret;

    empty_slot(c, slot_no_of(n, secret->index));
    fill_slot(c, n, secret->index + RESUME_WINDOW_CNT);
    secret->index++;
}

/* Watches for unused secrets before used ones. */
static void note_gap(struct resume_cache *c, uint32_t n)
{
    struct entry *en = &c->entries[n];
    bool has_gap = en->secret.index < en->used_end;

    if (en->has_gap && !has_gap)
        list_remove(c, ORDER_GAP, n);
    if (!en->has_gap && has_gap) {
        en->gap_end = en->used_end;
        en->gap_ms = c->now_ms;
        list_append(c, ORDER_GAP, n);
    }
    en->has_gap = has_gap;
}

/* The window begins with an unused secret, and less than half a window behind the last that was
 * used: what is missing there was lost. But one whose ACK is awaited stays in it, for the peer
 * believes that it has resumed: without the secret that connection ends with a reset. */
static bool is_over(const struct resume_cache *c, uint32_t n)
{
    const struct entry *en = &c->entries[n];
    const struct slot *first = first_slot(c, n);

    return !first->is_unused ||
           (en->secret.index + RESUME_WINDOW_CNT / 2 < en->used_end && !is_awaited(c, first));
}

static void move_window(struct resume_cache *c, uint32_t n)
{
    while (is_over(c, n))
        step(c, n);
    note_gap(c, n);
}

/* RFC 8548 3.5: a secret is used once. */
static void use(struct resume_cache *c, uint32_t n, uint64_t index)
{
    empty_slot(c, slot_no_of(n, index));
    if (c->entries[n].used_end <= index)
        c->entries[n].used_end = index + 1;
    move_window(c, n);
    note_use(c, n);
}

/* Also what is awaited goes then. */
static void close_gap(struct resume_cache *c, uint32_t n)
{
    struct entry *en = &c->entries[n];

    while (en->secret.index < en->gap_end)
        step(c, n);
    list_remove(c, ORDER_GAP, n);
    en->has_gap = false;
    move_window(c, n); /* there may be a younger gap */
}

static void drop(struct resume_cache *c, uint32_t n)
{
    struct entry *en = &c->entries[n];

    for (uint64_t i = 0; i < RESUME_WINDOW_CNT; i++)
        empty_slot(c, slot_no_of(n, i));
    name_remove(c, n);
    list_remove(c, ORDER_USE, n);
    list_remove(c, ORDER_BIRTH, n);
    if (en->has_gap)
        list_remove(c, ORDER_GAP, n);
    sodium_memzero(en, sizeof(*en));
    en->order[ORDER_USE].older = c->free;
    c->free = n;
    c->cnt--;
}

/* The low half of a chain's name is the number of its entry. */
static uint32_t entry_of(const struct resume_cache *c, uint64_t chain)
{
    uint32_t n = (uint32_t)chain;

    return chain != 0 && n < c->entry_max && c->entries[n].secret.chain == chain ? n : NONE;
}

static bool has_name(const struct entry *en, const uint8_t *name, size_t len)
{
    return en->peer.len == len && sodium_memcmp(en->peer.name, name, len) == 0;
}

/* --- The cache -------------------------------------------------------------- */

static uint32_t mask_for(size_t cnt)
{
    uint32_t size = 1;

    while (size < cnt)
        size *= 2;
    return size - 1;
}

static uint32_t *new_buckets(uint32_t mask)
{
    return malloc(((size_t)mask + 1) * sizeof(uint32_t));
}

struct resume_cache *resume_cache_new(size_t entry_max)
{
    struct resume_cache *c = calloc(1, sizeof(*c));

    assert(entry_max > 0 && entry_max <= 1u << 24);
    if (!c || sodium_init() < 0) {
        free(c);
        return NULL;
    }
    c->entry_max = (uint32_t)entry_max;
    c->age_ms = RESUME_AGE_DEFAULT_MS;
    c->name_mask = mask_for(entry_max);
    c->id_mask = mask_for(entry_max * RESUME_WINDOW_CNT);
    c->by_name = new_buckets(c->name_mask);
    c->by_id = new_buckets(c->id_mask);
    c->entries = sodium_allocarray(entry_max, sizeof(*c->entries));
    if (!c->by_name || !c->by_id || !c->entries) {
        resume_cache_free(c);
        return NULL;
    }
    randombytes_buf(&c->key, sizeof(c->key));
    resume_cache_clear(c);
    return c;
}

void resume_cache_free(struct resume_cache *c)
{
    if (!c)
        return;
    sodium_free(c->entries); /* wipes */
    free(c->by_name);
    free(c->by_id);
    free(c);
}

void resume_cache_clear(struct resume_cache *c)
{
    sodium_memzero(c->entries, c->entry_max * sizeof(*c->entries));
    memset(c->by_name, 0xff, ((size_t)c->name_mask + 1) * sizeof(*c->by_name)); /* NONE */
    memset(c->by_id, 0xff, ((size_t)c->id_mask + 1) * sizeof(*c->by_id));
    for (enum order o = 0; o < ORDER_CNT; o++)
        c->oldest[o] = c->newest[o] = NONE;
    c->cnt = 0;
    c->free = NONE;
    for (uint32_t n = c->entry_max; n-- > 0;) {
        c->entries[n].order[ORDER_USE].older = c->free;
        c->free = n;
    }
}

size_t resume_cache_cnt(const struct resume_cache *c)
{
    return c->cnt;
}

static bool is_too_old(const struct resume_cache *c, uint32_t n)
{
    return c->now_ms - c->entries[n].born_ms >= c->age_ms;
}

static void drop_old(struct resume_cache *c)
{
    while (c->oldest[ORDER_BIRTH] != NONE && is_too_old(c, c->oldest[ORDER_BIRTH]))
        drop(c, c->oldest[ORDER_BIRTH]);
}

void resume_cache_set_age(struct resume_cache *c, uint64_t age_ms)
{
    c->age_ms = age_ms;
    drop_old(c);
}

static void close_old_gaps(struct resume_cache *c)
{
    uint32_t n;

    while ((n = c->oldest[ORDER_GAP]) != NONE &&
           c->now_ms - c->entries[n].gap_ms >= RESUME_GAP_MAX_MS)
        close_gap(c, n);
}

void resume_cache_tick(struct resume_cache *c, uint64_t now_ms)
{
    c->now_ms = now_ms;
    drop_old(c);
    close_old_gaps(c);
}

static bool is_any_awaited(const struct resume_cache *c, const struct entry *en)
{
    for (size_t i = 0; i < RESUME_WINDOW_CNT; i++)
        if (is_awaited(c, &en->slots[i]))
            return true;
    return false;
}

/* --- Putting in ------------------------------------------------------------- */

/* One whose ACK is awaited stays until its next successor comes: the connection that
 * resumes from it would end with a reset. */
static void drop_predecessors(struct resume_cache *c, const struct resume_peer *peer, uint8_t tep)
{
    uint32_t n, next;

    for (n = *name_bucket(c, peer->name, peer->len); n != NONE; n = next) {
        const struct entry *en = &c->entries[n];

        next = en->name_next;
        if (has_name(en, peer->name, peer->len) && en->secret.tep == tep && !is_any_awaited(c, en))
            drop(c, n);
    }
}

static uint32_t take_free(struct resume_cache *c)
{
    uint32_t n;

    if (c->free == NONE)
        drop(c, c->oldest[ORDER_USE]);
    n = c->free;
    c->free = c->entries[n].order[ORDER_USE].older;
    c->cnt++;
    return n;
}

uint64_t resume_put(struct resume_cache *c, const struct resume_secret *secret,
                    const struct resume_peer *peer, bool was_active)
{
    struct entry *en;
    uint32_t n;

    assert(peer->host_len <= peer->len && peer->len <= sizeof(peer->name));
    if (was_active && peer->len > 0)
        drop_predecessors(c, peer, secret->tep);
    n = take_free(c);
    en = &c->entries[n];
    en->secret = *secret;
    en->secret.index = 0;
    en->secret.chain = ++c->put_cnt << 32 | n;
    en->born_ms = c->now_ms;
    en->peer = *peer;
    if (!was_active)
        en->peer.len = peer->host_len; /* the port it came from serves nobody */
    list_append(c, ORDER_USE, n);
    list_append(c, ORDER_BIRTH, n);
    name_add(c, n);
    for (uint64_t i = 0; i < RESUME_WINDOW_CNT; i++)
        fill_slot(c, n, i);
    return en->secret.chain;
}

/* --- Taking out ------------------------------------------------------------- */

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

/* Buckets begin with what was put last. Return: NONE when there is nothing to propose. */
static uint32_t find_by_name(const struct resume_cache *c, const struct session_config *cfg,
                             const uint8_t *name, size_t len)
{
    if (len == 0)
        return NONE;
    for (uint32_t n = *name_bucket(c, name, len); n != NONE; n = c->entries[n].name_next) {
        const struct entry *en = &c->entries[n];

        if (has_name(en, name, len) && is_allowed(cfg, &en->secret) && !is_any_awaited(c, en))
            return n;
    }
    return NONE;
}

static struct resume_secret secret_at(const struct resume_cache *c, uint32_t n, uint64_t index)
{
    struct resume_secret secret = c->entries[n].secret;

    secret.index = index;
    memcpy(secret.ss, slot_at(c, slot_no_of(n, index))->ss, sizeof(secret.ss));
    return secret;
}

bool resume_take_active(struct resume_cache *c, const struct session_config *cfg,
                        const struct resume_peer *peer, struct resume_secret *ret)
{
    uint32_t n = find_by_name(c, cfg, peer->name, peer->len);

    if (n == NONE && peer->host_len < peer->len)
        n = find_by_name(c, cfg, peer->name, peer->host_len);
    if (n == NONE)
        return false;
    *ret = secret_at(c, n, c->entries[n].secret.index);
    use(c, n, ret->index);
    return true;
}

static bool is_in_window(const struct entry *en, uint64_t index)
{
    return index - en->secret.index < RESUME_WINDOW_CNT;
}

static uint64_t index_in_window(const struct entry *en, uint32_t slot_no)
{
    uint64_t lowest = en->secret.index;

    return lowest + (slot_no - lowest) % RESUME_WINDOW_CNT;
}

bool resume_find_passive(struct resume_cache *c, const struct session_config *cfg, uint8_t tep,
                         const uint8_t half[KEYS_RESUME_HALF], struct resume_secret *ret)
{
    uint32_t slot_no;

    for (slot_no = *id_bucket(c, half); slot_no != NONE; slot_no = slot_at(c, slot_no)->next) {
        const struct entry *en = &c->entries[slot_no / RESUME_WINDOW_CNT];
        uint64_t index = index_in_window(en, slot_no);

        if (en->secret.tep != tep || !is_allowed(cfg, &en->secret) ||
            sodium_memcmp(slot_at(c, slot_no)->theirs, half, KEYS_RESUME_HALF) != 0)
            continue;
        *ret = secret_at(c, slot_no / RESUME_WINDOW_CNT, index);
        return true;
    }
    return false;
}

void resume_answer_nonce(struct resume_cache *c, const struct resume_secret *secret,
                         session_random_fn random, uint8_t *ret, size_t len)
{
    uint32_t n = entry_of(c, secret->chain);
    struct slot *slot;

    assert(n != NONE && len <= RESUME_NONCE_MAX_LEN);
    slot = slot_at(c, slot_no_of(n, secret->index));
    if (!is_answered(c, slot) || slot->nonce_len != len) {
        slot->has_nonce = true;
        slot->nonce_len = (uint8_t)len;
        slot->answered_ms = c->now_ms;
        if (len > 0)
            random(slot->nonce, len);
    }
    slot->opening_cnt++;
    memcpy(ret, slot->nonce, len);
}

/* Return: NULL when it was used or forgotten. */
static struct slot *slot_of(const struct resume_cache *c, const struct resume_secret *secret)
{
    uint32_t n = entry_of(c, secret->chain);
    struct slot *slot;

    if (n == NONE || !is_in_window(&c->entries[n], secret->index))
        return NULL;
    slot = slot_at(c, slot_no_of(n, secret->index));
    return slot->is_unused ? slot : NULL;
}

bool resume_take_passive(struct resume_cache *c, const struct resume_secret *secret)
{
    if (!slot_of(c, secret))
        return false;
    use(c, entry_of(c, secret->chain), secret->index);
    return true;
}

void resume_give_up_passive(struct resume_cache *c, const struct resume_secret *secret)
{
    struct slot *slot = slot_of(c, secret);

    if (!slot)
        return;
    assert(slot->opening_cnt > 0);
    slot->opening_cnt--;
    move_window(c, entry_of(c, secret->chain));
}

void resume_forget(struct resume_cache *c, uint64_t chain)
{
    uint32_t n = entry_of(c, chain);

    if (n != NONE)
        drop(c, n);
}
