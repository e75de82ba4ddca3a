/* SPDX-License-Identifier: BSD-3-Clause
 * Two sessions and their streams, for tests.
 */
#include "pair_world.h"

#include <string.h>

const uint8_t all_teps[4] = {TEP_ECDHE_P256, TEP_ECDHE_P521, TEP_ECDHE_CURVE25519,
                             TEP_ECDHE_CURVE448};

struct pair pair;
struct wire to_server, to_client;
struct received got;

int pair_world_set_up(void **state)
{
    pair_init(&pair);
    to_server.len = 0;
    to_client.len = 0;
    memset(&got, 0, sizeof(got));
    return 0;
}

int pair_world_tear_down(void **state)
{
    pair_done(&pair);
    return buf_total() == 0 ? 0 : -1; /* no buffer is lost */
}

struct session_info info_of(const struct session *s)
{
    struct session_info info;

    session_get_info(s, &info);
    return info;
}

void check_same_id(void)
{
    struct session_info c = info_of(pair.client), s = info_of(pair.server);

    assert_true(c.has_id && s.has_id);
    assert_memory_equal(c.id, s.id, sizeof(c.id));
}

void start_exchange(struct wire *init1)
{
    pair_new_sessions(&pair);
    pair_options(&pair);
    init1->len = 0;
    pair_output(pair.client, init1);
}

void fill(uint8_t *data, size_t len)
{
    for (size_t i = 0; i < len; i++)
        data[i] = (uint8_t)(i % 253);
}
