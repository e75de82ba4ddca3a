/* SPDX-License-Identifier: BSD-3-Clause
 * Memory for packet-sized buffers.
 *
 * How it works: slots of one size lie in regions of 2 MiB, each the size of a
 * huge page. A busy relay holds some 60 MB of them: in pages of 4 KiB every copy
 * would wait for address translation, and malloc() would give the memory back and
 * fetch it again, zeroed, many times a second. The slot that was freed last is
 * used first, as it is the likeliest to be in the processor's cache.
 *
 * Not for threads: there is one event loop.
 */
#ifndef TCNS_BASE_SLAB_H
#define TCNS_BASE_SLAB_H

#include <stddef.h>

/* A whole packet of 64 KiB, and room for what is kept beside it. Bytes. */
#define SLAB_SLOT_LEN 73728u

/* Return: SLAB_SLOT_LEN bytes, aligned for any type, not initialised; NULL when out of memory. */
void *slab_alloc(void);

/* slot: from slab_alloc(). */
void slab_free(void *slot);

/* Gives half of what nobody used since the last call back to the system; to be called about
 * once a second. */
void slab_trim(void);

/* Return: bytes that regions take up. */
size_t slab_held(void);

#endif
