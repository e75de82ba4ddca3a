/* SPDX-License-Identifier: BSD-3-Clause
 * Two sessions, the streams between them, and what came out of those, for tests.
 */
#ifndef TCNS_TESTS_PAIR_WORLD_H
#define TCNS_TESTS_PAIR_WORLD_H

#include "tcpcrypt_pair.h"

extern const uint8_t all_teps[4];

extern struct pair pair;
extern struct wire to_server, to_client;
extern struct received got;

/* cmocka set-up and tear-down: pair_init(), empty streams. The second checks that all
 * buffers were given back. */
int pair_world_set_up(void **state);
int pair_world_tear_down(void **state);

struct session_info info_of(const struct session *s);
/* Both have a session ID, and it is one. */
void check_same_id(void);
/* New sessions, options; Init1 has not arrived yet. */
void start_exchange(struct wire *init1);
/* Bytes that differ. */
void fill(uint8_t *data, size_t len);

#endif
