/* SPDX-License-Identifier: BSD-3-Clause
 * Table of the peers that get no ENO option for a while.
 */
#include "tunnel/fallback.h"

#include "base/siphash.h"

/* Only our own applications choose which peers are tried: no need for a secret key. */
static const struct siphash_key key = {0x66616c6c, 0x6261636b};

static size_t slot_of(const struct addr *peer)
{
    return siphash(&key, peer, sizeof(*peer)) % FALLBACK_MAX_CNT;
}

void fallback_add(struct fallback_table *t, const struct addr *peer, uint64_t now_ms,
                  uint64_t keep_ms)
{
    t->entries[slot_of(peer)] = (struct fallback){*peer, now_ms + keep_ms};
}

void fallback_note_loss(struct fallback_table *t, const struct addr *peer, uint64_t opened_ms,
                        uint64_t now_ms, uint64_t keep_ms)
{
    struct fallback_suspect *s = &t->suspects[slot_of(peer)];

    if (s->end_ms <= now_ms || !addr_eq(&s->peer, peer)) {
        *s = (struct fallback_suspect){*peer, now_ms, now_ms + keep_ms};
        return;
    }
    if (opened_ms < s->noted_ms)
        return; /* side by side with the first: one outage */
    fallback_add(t, peer, now_ms, keep_ms);
    s->end_ms = 0;
}

void fallback_note_answer(struct fallback_table *t, const struct addr *peer)
{
    struct fallback_suspect *s = &t->suspects[slot_of(peer)];

    if (addr_eq(&s->peer, peer))
        s->end_ms = 0;
}

bool fallback_has(const struct fallback_table *t, const struct addr *peer, uint64_t now_ms)
{
    const struct fallback *f = &t->entries[slot_of(peer)];

    return f->end_ms > now_ms && addr_eq(&f->peer, peer);
}

void fallback_each(const struct fallback_table *t, uint64_t now_ms,
                   void (*fn)(const struct addr *peer, unsigned left_s, void *arg), void *arg)
{
    for (size_t i = 0; i < FALLBACK_MAX_CNT; i++) {
        const struct fallback *f = &t->entries[i];

        if (f->end_ms > now_ms)
            fn(&f->peer, (unsigned)((f->end_ms - now_ms + 999) / 1000), arg);
    }
}

void fallback_clear(struct fallback_table *t)
{
    *t = (struct fallback_table){0};
}
