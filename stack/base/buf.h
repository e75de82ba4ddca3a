/* SPDX-License-Identifier: BSD-3-Clause
 * Reference-counted byte buffer: one allocation, header and bytes together.
 *
 * Frames, plaintext and large packets travel in these, so that a byte is
 * copied only where it must be. All bytes held are counted in one place, so
 * that the daemon can bound its memory.
 */
#ifndef TCNS_BASE_BUF_H
#define TCNS_BASE_BUF_H

#include <stddef.h>
#include <stdint.h>

/* A received packet starts here in its buffer; the stack keeps its bookkeeping before it. */
#define BUF_PACKET_HEADROOM_LEN 64

/* What a buffer costs beside its bytes: this header, malloc's, a reference in a queue and
 * the segment it belongs to. A stream of single bytes is mostly this. */
#define BUF_COST 128

struct buf {
    uint32_t refs;
    uint32_t cap;    /* bytes allocated in bytes[] */
    uint32_t off;    /* first valid byte */
    uint32_t len;    /* valid bytes from off */
    uint8_t bytes[]; /* never moves while refs > 0 */
};

/* Return: a buffer of cap bytes with off = len = 0, refs = 1; NULL when out of memory. */
struct buf *buf_new(size_t cap);

/* One more owner. Return: b. */
struct buf *buf_ref(struct buf *b);

/* Gives up one reference; the last one frees. NULL is a no-op. Bytes are not wiped. */
void buf_unref(struct buf *b);

static inline uint8_t *buf_data(struct buf *b)
{
    return b->bytes + b->off;
}

/* Return: bytes of capacity held by all live buffers of this process, and BUF_COST for each. */
size_t buf_total(void);

#endif
