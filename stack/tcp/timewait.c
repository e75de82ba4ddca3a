/* SPDX-License-Identifier: BSD-3-Clause
 * TIME-WAIT records: a hash table for look-up and a queue for expiry, for all
 * waits take equally long.
 */
#include "tcp/timewait.h"

#include <stdlib.h>

#include "base/siphash.h"
#include "tcp/stack.h"

#define WAIT_MS        60000 /* two maximum segment lifetimes, as Linux has it */
#define BUCKET_MIN_CNT 256
#define WAIT_MAX_CNT   65536

struct wait {
    struct wait *chain; /* same bucket */
    struct wait *younger;
    struct tuple tuple;
    uint64_t end_ms;
    uint32_t ours, theirs;
    uint16_t window;
    uint8_t side;
    bool answered_syn;
    bool over; /* no longer in its bucket; waits for its turn in the queue */
};

static struct wait **buckets; /* as many as there are waits, about */
static size_t bucket_cnt;     /* a power of two; 0 before the first wait */
static struct wait *oldest, *youngest;
static size_t wait_cnt;

static struct wait **bucket_of(enum side side, const struct tuple *tuple)
{
    uint64_t h = siphash(&stack.cfg.isn_key, tuple, sizeof(*tuple));

    return &buckets[(h + side) & (bucket_cnt - 1)];
}

static void put(struct wait **bucket, struct wait *w)
{
    w->chain = *bucket;
    *bucket = w;
}

/* Without memory the chains get longer. Return: there are buckets. */
static bool make_room(void)
{
    size_t cnt = bucket_cnt ? 2 * bucket_cnt : BUCKET_MIN_CNT;
    struct wait **more;

    if (wait_cnt < bucket_cnt)
        return true;
    more = calloc(cnt, sizeof(*more));
    if (!more)
        return bucket_cnt > 0;
    free(buckets);
    buckets = more;
    bucket_cnt = cnt;
    for (struct wait *w = oldest; w; w = w->younger)
        if (!w->over)
            put(bucket_of((enum side)w->side, &w->tuple), w);
    return true;
}

/* There are buckets. */
static struct wait **find(enum side side, const struct tuple *tuple)
{
    struct wait **link = bucket_of(side, tuple);

    while (*link && ((*link)->side != side || !tuple_eq(&(*link)->tuple, tuple)))
        link = &(*link)->chain;
    return link;
}

static void end_wait(struct wait **link)
{
    struct wait *w = *link;

    *link = w->chain;
    w->over = true;
}

static void drop_oldest(void)
{
    struct wait *w = oldest;

    if (!w->over)
        end_wait(find((enum side)w->side, &w->tuple));
    oldest = w->younger;
    wait_cnt--;
    free(w);
    if (!oldest) {
        youngest = NULL;
        free(buckets);
        buckets = NULL;
        bucket_cnt = 0;
    }
}

void timewait_add(enum side side, const struct tuple *tuple, uint32_t ours, uint32_t theirs,
                  uint16_t window)
{
    if (wait_cnt == WAIT_MAX_CNT)
        drop_oldest();
    struct wait *w = make_room() ? malloc(sizeof(*w)) : NULL;
    if (!w)
        return; /* as if two lifetimes had passed: late segments get a RST */
    struct wait **link = find(side, tuple);
    if (*link)
        end_wait(link);
    *w = (struct wait){
        .tuple = *tuple,
        .end_ms = stack.now_ms + WAIT_MS,
        .ours = ours,
        .theirs = theirs,
        .window = window,
        .side = (uint8_t)side,
    };
    put(link, w); /* the end of its chain */
    if (youngest)
        youngest->younger = w;
    else
        oldest = w;
    youngest = w;
    wait_cnt++;
}

/* RFC 9293 3.6.1, RFC 1122 4.2.2.13: a SYN above what we have seen may. So may each of the
 * program's kernel: nothing old is under way between us. */
static bool opens_anew(const struct wait *w, const struct packet *syn)
{
    return w->side == SIDE_INNER || (int32_t)(syn->seq - w->theirs) > 0;
}

bool timewait_input(enum side side, const struct tuple *tuple, const struct packet *packet)
{
    struct wait **link = wait_cnt > 0 ? find(side, tuple) : NULL;
    struct wait *w = link ? *link : NULL;

    if (!w)
        return false;
    if (packet->flags & PACKET_RST) {
        /* Ignored (RFC 1337), unless it is the answer to ours to a SYN: the other end has
         * forgotten the connection, and wants to open anew with a number that we have seen. */
        if (w->answered_syn && packet->seq == w->theirs)
            end_wait(link);
        return true;
    }
    if (packet_is_opening(packet)) {
        if (opens_anew(w, packet)) {
            end_wait(link);
            return false;
        }
        w->answered_syn = true;
    }
    if (packet->data_len > 0 || packet->flags & (PACKET_SYN | PACKET_FIN))
        stack_send_control(side, tuple, packet, w->ours, w->theirs, PACKET_ACK, w->window);
    return true;
}

void timewait_tick(uint64_t now_ms)
{
    while (oldest && oldest->end_ms <= now_ms)
        drop_oldest();
}

void timewait_clear(void)
{
    while (oldest)
        drop_oldest();
}
