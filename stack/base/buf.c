/* SPDX-License-Identifier: BSD-3-Clause
 * Reference-counted byte buffer; packet-sized ones lie in slabs.
 */
#include "base/buf.h"

#include <assert.h>
#include <stdbool.h>
#include <stdlib.h>

#include "base/slab.h"

/* Sizes from the one to the other take a slot. */
#define LARGE_MIN (32u * 1024)
#define LARGE_CAP (SLAB_SLOT_LEN - sizeof(struct buf))

static size_t total;

struct buf *buf_new(size_t cap)
{
    bool is_large = cap >= LARGE_MIN && cap <= LARGE_CAP;
    struct buf *b;

    if (cap > UINT32_MAX)
        return NULL;
    if (is_large)
        cap = LARGE_CAP;
    b = is_large ? slab_alloc() : malloc(sizeof(*b) + cap);
    if (!b)
        return NULL;
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
    if (b->cap == LARGE_CAP)
        slab_free(b);
    else
        free(b);
}

size_t buf_total(void)
{
    return total;
}
