/* SPDX-License-Identifier: BSD-3-Clause
 * Slots of one size in regions of a huge page. See slab.h.
 */
#include "base/slab.h"

#include <stdalign.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/mman.h>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(addr, len)   ((void)(addr))
#define ASAN_UNPOISON_MEMORY_REGION(addr, len) ((void)(addr))
#endif

#define REGION_LEN ((size_t)2 << 20)

struct slot {
    struct slot *next;
};

/* At the region's start; a slot's address leads to it. */
struct region {
    alignas(64) struct region *next;
    unsigned used_cnt;
    bool leaves; /* in slab_trim() */
};

#define SLOT_CNT ((unsigned)((REGION_LEN - sizeof(struct region)) / SLAB_SLOT_LEN))
_Static_assert(SLAB_SLOT_LEN % alignof(max_align_t) == 0, "slots follow each other");

static struct region *regions; /* the newest first */
static unsigned region_cnt, empty_cnt;
static unsigned spare_cnt;      /* as many were empty all the time since the last trim */
static unsigned fresh_cnt;      /* slots of the newest that nobody used yet, nor touched */
static struct slot *free_slots; /* of all regions, the last freed first */

static struct region *region_of(const void *slot)
{
    return (struct region *)((uintptr_t)slot & ~(uintptr_t)(REGION_LEN - 1));
}

/* mmap() aligns to pages; what lies beside the aligned part goes back. */
static void *map_aligned(void)
{
    uint8_t *p =
        mmap(NULL, 2 * REGION_LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (p == MAP_FAILED)
        return NULL;
    size_t before = (size_t)(-(uintptr_t)p & (REGION_LEN - 1));
    if (before > 0)
        munmap(p, before);
    munmap(p + before + REGION_LEN, REGION_LEN - before);
    return p + before;
}

static bool add_region(void)
{
    struct region *r = map_aligned();

    if (!r)
        return false;
    /* An idle daemon uses a slot or two: its region has pages of the usual size. */
    if (region_cnt > 0)
        (void)madvise(r, REGION_LEN, MADV_HUGEPAGE); /* refused: slower */
    *r = (struct region){.next = regions};
    regions = r;
    region_cnt++;
    empty_cnt++;
    fresh_cnt = SLOT_CNT;
    return true;
}

void *slab_alloc(void)
{
    struct slot *slot = free_slots;

    if (slot) {
        free_slots = slot->next;
    } else {
        if (fresh_cnt == 0 && !add_region())
            return NULL;
        slot = (void *)((uint8_t *)(regions + 1) + (SLOT_CNT - fresh_cnt--) * SLAB_SLOT_LEN);
    }
    ASAN_UNPOISON_MEMORY_REGION(slot, SLAB_SLOT_LEN);
    if (region_of(slot)->used_cnt++ == 0)
        empty_cnt--;
    if (spare_cnt > empty_cnt)
        spare_cnt = empty_cnt;
    return slot;
}

void slab_free(void *p)
{
    struct slot *slot = p;

    slot->next = free_slots;
    free_slots = slot;
    ASAN_POISON_MEMORY_REGION(slot + 1, SLAB_SLOT_LEN - sizeof(*slot));
    if (--region_of(slot)->used_cnt == 0)
        empty_cnt++;
}

static void forget_slots_that_leave(void)
{
    struct slot **link = &free_slots;

    for (struct slot *slot = free_slots; slot; slot = slot->next) {
        if (region_of(slot)->leaves)
            continue;
        *link = slot;
        link = &slot->next;
    }
    *link = NULL;
}

void slab_trim(void)
{
    unsigned give = (spare_cnt + 1) / 2, left = give;

    spare_cnt = empty_cnt - give;
    if (give == 0)
        return;
    for (struct region *r = regions; r && left > 0; r = r->next) {
        r->leaves = r->used_cnt == 0;
        left -= r->leaves;
    }
    forget_slots_that_leave();
    if (regions->leaves)
        fresh_cnt = 0;
    for (struct region **link = &regions, *r; (r = *link);) {
        if (!r->leaves) {
            link = &r->next;
            continue;
        }
        *link = r->next;
        ASAN_UNPOISON_MEMORY_REGION(r, REGION_LEN);
        munmap(r, REGION_LEN);
    }
    region_cnt -= give;
    empty_cnt -= give;
}

size_t slab_held(void)
{
    return region_cnt * REGION_LEN;
}
