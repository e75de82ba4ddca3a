/* SPDX-License-Identifier: BSD-3-Clause
 * Table of the connections that are older than the tunnel.
 */
#include "tunnel/older.h"

#include <errno.h>
#include <stdlib.h>

#include "base/siphash.h"

#define LINGER_MS 60000 /* for the last ACKs, and retransmitted FINs */

/* The set is fixed at the start, by the container's own sockets: no stranger fills it. */
static const struct siphash_key key = {0x6f6c646572, 0x7470};

static struct older **bucket_of(const struct older_table *t, const struct tuple *tuple)
{
    uint64_t h = siphash(&key, tuple, sizeof(*tuple));

    return (struct older **)&t->buckets[h % OLDER_BUCKET_CNT];
}

struct older *older_find(const struct older_table *t, const struct tuple *tuple)
{
    struct older *o = *bucket_of(t, tuple);

    while (o && !tuple_eq(&o->tuple, tuple))
        o = o->chain;
    return o;
}

int older_add(struct older_table *t, const struct tuple *tuple)
{
    if (older_find(t, tuple))
        return 0;
    struct older *o = calloc(1, sizeof(*o));
    if (!o)
        return -ENOMEM;
    struct older **bucket = bucket_of(t, tuple);
    o->tuple = *tuple;
    o->chain = *bucket;
    *bucket = o;
    t->cnt++;
    return 0;
}

void older_remove(struct older_table *t, struct older *o)
{
    struct older **link = bucket_of(t, &o->tuple);

    while (*link != o)
        link = &(*link)->chain;
    *link = o->chain;
    t->cnt--;
    free(o);
}

void older_note(struct older_table *t, struct older *o, enum side from, const struct packet *packet,
                uint64_t now_ms)
{
    o->bytes[from] += packet->data_len;
    if (packet->flags & PACKET_RST) {
        older_remove(t, o);
        return;
    }
    if (packet->flags & PACKET_FIN)
        o->fin[from] = true;
    if (o->fin[SIDE_INNER] && o->fin[SIDE_OUTER] && !o->end_ms)
        o->end_ms = now_ms + LINGER_MS;
}

void older_tick(struct older_table *t, uint64_t now_ms)
{
    if (t->cnt == 0)
        return;
    for (size_t i = 0; i < OLDER_BUCKET_CNT; i++) {
        struct older *next;
        for (struct older *o = t->buckets[i]; o; o = next) {
            next = o->chain;
            if (o->end_ms && o->end_ms <= now_ms)
                older_remove(t, o);
        }
    }
}

void older_done(struct older_table *t)
{
    for (size_t i = 0; i < OLDER_BUCKET_CNT; i++) {
        while (t->buckets[i])
            older_remove(t, t->buckets[i]);
    }
}
