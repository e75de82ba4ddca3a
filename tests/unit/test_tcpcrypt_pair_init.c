/* SPDX-License-Identifier: BSD-3-Clause
 * Two sessions against each other: Init messages in pieces, and of any length.
 */
#include "pair_world.h"

#include <string.h>

/* --- Ignored bytes: RFC 8548 4.1 --------------------------------------------------- */

static void test_ignored_bytes_in_init1(void **state)
{
    struct wire init1;

    /* Our host A never sends them and does not hash them, so the keys differ; but Init1
     * is accepted. test_tcpcrypt_session.c has the matching known answer. */
    start_exchange(&init1);
    memset(init1.bytes + init1.len, 0xee, 300);
    init1.len += 300;
    init1.bytes[6] = (uint8_t)(init1.len >> 8);
    init1.bytes[7] = (uint8_t)init1.len;
    assert_int_equal(pair_feed(pair.server, &init1, 11, &got), TCNS_OK);
    assert_true(session_is_open(pair.server));
}

/* --- Init messages in pieces: RFC 8548 3.3, 4.1 ------------------------------------------ */

static void test_init_messages_byte_by_byte(void **state)
{
    for (size_t t = 0; t < sizeof(all_teps); t++) {
        pair.server_cfg.teps[0] = all_teps[t];
        pair.server_cfg.tep_cnt = 1;
        to_client.len = 0;
        start_exchange(&to_server);
        assert_int_equal(pair_feed(pair.server, &to_server, 1, &got), TCNS_OK);
        pair_output(pair.server, &to_client);
        assert_int_equal(pair_feed(pair.client, &to_client, 1, &got), TCNS_OK);
        check_same_id();
        pair_check_data(pair.client, pair.server, "all there");
    }
}

/* One segment has Init2 and what follows it, in all pieces that TCP could make of it. */
static void test_init2_with_first_frames(void **state)
{
    for (size_t step = 1; step <= 140; step++) {
        memset(&got, 0, sizeof(got));
        to_client.len = 0;
        start_exchange(&to_server);
        pair_deliver(pair.server, &to_server, &got);
        pair_output(pair.server, &to_client);
        pair_seal(pair.server, "at once", 7, 0, &to_client);
        pair_seal(pair.server, ", really", 8, SESSION_SEAL_FIN, &to_client);
        assert_int_equal(pair_feed(pair.client, &to_client, step, &got), TCNS_OK);
        assert_int_equal(got.len, 15);
        assert_memory_equal(got.data, "at once, really", 15);
        assert_true(got.fin);
    }
}

static void test_frame_header_split(void **state)
{
    pair_open(&pair);
    for (size_t cut = 1; cut < 5; cut++) {
        struct session_rx rx;
        size_t used;

        to_server.len = 0;
        pair_seal(pair.client, "header", 6, 0, &to_server);
        assert_int_equal(session_open(pair.server, to_server.bytes, cut, &used, &rx),
                         TCNS_ERR_AGAIN);
        assert_int_equal(used, cut);
        assert_int_equal(
            session_open(pair.server, to_server.bytes + cut, to_server.len - cut, &used, &rx),
            TCNS_OK);
        assert_int_equal(used, to_server.len - cut);
        assert_memory_equal(buf_data(rx.data), "header", 6);
        buf_unref(rx.data);
    }
}

static void set_init_len(struct wire *init, uint32_t len)
{
    for (size_t i = 0; i < 4; i++)
        init->bytes[4 + i] = (uint8_t)(len >> (24 - 8 * i));
}

/* Interpretation I11. Refused when the length has arrived, before memory is set aside. */
static void test_init_length_limits(void **state)
{
    static const uint32_t bad[] = {UINT32_MAX, 0x80000000u, 65536, 8193, 0, 7, 8};
    size_t total;

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        start_exchange(&to_server);
        total = buf_total();
        set_init_len(&to_server, bad[i]);
        to_server.len = 7;
        assert_int_equal(pair_feed(pair.server, &to_server, SIZE_MAX, &got), TCNS_ERR_AGAIN);
        to_server.bytes[0] = to_server.bytes[7];
        to_server.len = 1;
        assert_int_equal(pair_feed(pair.server, &to_server, SIZE_MAX, &got), TCNS_ERR_INIT_LENGTH);
        assert_int_equal(buf_total(), total);
    }
    start_exchange(&to_server); /* ignored bytes fill it up: RFC 8548 4.1 */
    memset(to_server.bytes + to_server.len, 0xa5, 4096 - to_server.len);
    to_server.len = 4096;
    set_init_len(&to_server, 4096);
    assert_int_equal(pair_feed(pair.server, &to_server, 999, &got), TCNS_OK);
    assert_true(session_is_open(pair.server));
}

#define T(name) cmocka_unit_test_setup_teardown(name, pair_world_set_up, pair_world_tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_ignored_bytes_in_init1),  T(test_init_messages_byte_by_byte),
        T(test_init2_with_first_frames), T(test_frame_header_split),
        T(test_init_length_limits),
    };

    return cmocka_run_group_tests_name("tcpcrypt/pair_init", tests, NULL, NULL);
}
