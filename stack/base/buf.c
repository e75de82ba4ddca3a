/* SPDX-License-Identifier: BSD-3-Clause
 * Reference-counted byte buffer with a free list for packet-sized ones.
 */
#include "base/buf.h"

#include <assert.h>
#include <stdlib.h>

/* Buffers that can hold a whole 64 KB packet come and go at packet rate; a few
 * are kept, because malloc would give such sizes back to the kernel each time. */
#define LARGE_MIN      (32 * 1024)
#define LARGE_CAP      (68 * 1024)
#define LARGE_KEPT_MAX 64

static struct buf *large_kept[LARGE_KEPT_MAX];
static size_t large_kept_cnt;
static size_t total;

struct buf *buf_new(size_t cap)
{
    struct buf *b;

    if (cap >= LARGE_MIN && cap <= LARGE_CAP)
        cap = LARGE_CAP;
    if (cap == LARGE_CAP && large_kept_cnt > 0) {
        b = large_kept[--large_kept_cnt];
    } else {
        if (cap > UINT32_MAX)
            return NULL;
        b = malloc(sizeof(*b) + cap);
        if (!b)
            return NULL;
    }
    b->refs = 1;
    b->cap = (uint32_t)cap;
    b->off = 0;
    b->len = 0;
    total += cap + BUF_COST;
    return b;
}

struct buf *buf_ref(struct buf *b)
{
    assert(b->refs > 0);
    b->refs++;
    return b;
}

void buf_unref(struct buf *b)
{
    if (!b)
        return;
    assert(b->refs > 0);
    if (--b->refs > 0)
        return;
    total -= b->cap + BUF_COST;
    if (b->cap == LARGE_CAP && large_kept_cnt < LARGE_KEPT_MAX)
        large_kept[large_kept_cnt++] = b;
    else
        free(b);
}

size_t buf_total(void)
{
    return total;
}
