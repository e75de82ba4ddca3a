/* SPDX-License-Identifier: BSD-3-Clause
 * What the fuzz targets share: reading the input, checking, and hosts whose
 * randomness is fixed, so that a corpus file always takes the same way.
 */
#ifndef TCNS_TESTS_FUZZ_H
#define TCNS_TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Holds with NDEBUG too. */
#define FUZZ_CHECK(cond)                                                                           \
    do {                                                                                           \
        if (!(cond))                                                                               \
            abort();                                                                               \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct fuzz_input {
    const uint8_t *next;
    size_t left;
};

/* Return: the next byte, 0 past the end. */
static inline uint8_t fuzz_byte(struct fuzz_input *in)
{
    if (in->left == 0)
        return 0;
    in->left--;
    return *in->next++;
}

/* Return: up to max bytes, copied to memory of that size, so that sanitizers see
 * any overrun; caller frees. */
static inline uint8_t *fuzz_bytes(struct fuzz_input *in, size_t max, size_t *ret_len)
{
    size_t len = max < in->left ? max : in->left;
    uint8_t *copy = malloc(len ? len : 1);

    FUZZ_CHECK(copy);
    memcpy(copy, in->next, len);
    in->next += len;
    in->left -= len;
    *ret_len = len;
    return copy;
}

/* Different bytes in each call, the same in each run after fuzz_random_reset(). */
static uint8_t fuzz_random_state;

static inline void fuzz_random_reset(void)
{
    fuzz_random_state = 0;
}

static inline void fuzz_random(void *out, size_t len)
{
    memset(out, ++fuzz_random_state, len);
}

#endif
