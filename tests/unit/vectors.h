/* SPDX-License-Identifier: BSD-3-Clause
 * Known-answer vectors for cmocka tests: loads the file, walks a section, turns
 * hex into bytes. A failure anywhere ends the running test and names the case.
 */
#ifndef TCNS_TESTS_VECTORS_H
#define TCNS_TESTS_VECTORS_H

#include <jansson.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

/* Bytes of one hex string; they live until the section is done. */
struct bytes {
    uint8_t *p;
    size_t len;
};

/* Group set-up and tear-down. The file is $TCNS_VECTORS, else what the build was told; without
 * it the group fails. */
int vectors_setup(void **state);
int vectors_teardown(void **state);

/* Calls check for every case and prints how many passed. A section without cases fails. */
void vectors_run(const char *section, void (*check)(json_t *c));

/* Tear-down of a test: names the case that failed. */
int vectors_blame(void **state);

/* Fields; a missing one fails the test. */
const char *vec_str(json_t *c, const char *field);
bool vec_is(json_t *c, const char *field, const char *text);
bool vec_bool(json_t *c, const char *field);
uint64_t vec_int(json_t *c, const char *field);
json_t *vec_list(json_t *c, const char *field);
bool vec_has(json_t *c, const char *field); /* there and not null */
struct bytes vec_hex(json_t *c, const char *field);
struct bytes vec_hex_of(json_t *string);
uint16_t vec_hex_int(json_t *c, const char *field); /* one or two bytes, big-endian */
size_t vec_hex_ints(json_t *c, const char *field, uint16_t *out, size_t max);

/* Compares; lengths first. */
void assert_bytes(struct bytes expected, const void *p, size_t len);

#endif
