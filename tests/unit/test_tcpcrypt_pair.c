/* SPDX-License-Identifier: BSD-3-Clause
 * Two sessions against each other: data, FIN, and an attacker on the path.
 */
#include "tcpcrypt/kex_pool.h"
#include "pair_world.h"

#include <sodium.h>
#include <string.h>

static const uint16_t all_aeads[] = {AEAD_AES_128_GCM, AEAD_AES_256_GCM, AEAD_CHACHA20_POLY1305};

static size_t min_len(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* --- Good cases ---------------------------------------------------------------- */

static void check_combination(uint8_t tep, uint16_t aead)
{
    struct session_info c, s;

    pair.server_cfg.teps[0] = tep;
    pair.server_cfg.tep_cnt = 1;
    pair.server_cfg.aeads[0] = aead;
    pair.server_cfg.aead_cnt = 1;
    pair_open(&pair);
    c = info_of(pair.client);
    s = info_of(pair.server);
    assert_true(c.enabled && s.enabled);
    assert_int_equal(c.reason, SESSION_REASON_FULL);
    assert_int_equal(c.role, SESSION_ROLE_A);
    assert_int_equal(s.role, SESSION_ROLE_B);
    assert_int_equal(c.tep, tep);
    assert_int_equal(s.tep, tep);
    assert_int_equal(c.aead, aead);
    assert_int_equal(s.aead, aead);
    assert_int_equal(c.id[0], tep);
    check_same_id();
    pair_check_data(pair.client, pair.server, "from client");
    pair_check_data(pair.server, pair.client, "from server");
    pair_check_data(pair.client, pair.server, "again");
}

static void test_every_tep_and_aead(void **state)
{
    for (size_t t = 0; t < sizeof(all_teps); t++)
        for (size_t a = 0; a < sizeof(all_aeads) / sizeof(all_aeads[0]); a++)
            check_combination(all_teps[t], all_aeads[a]);
}

static void test_ids_differ_between_connections(void **state)
{
    struct session_info first, second;

    pair_open(&pair);
    first = info_of(pair.client);
    pair_open(&pair);
    second = info_of(pair.client);
    assert_memory_not_equal(first.id, second.id, sizeof(first.id));
}

/* Both hosts take keys that were made before; a session with a key of its own goes on. */
static void test_keys_made_ahead(void **state)
{
    struct kex_pool *keys = kex_pool_new(randombytes_buf);
    struct kex_key key;

    pair.client_cfg.keys = pair.server_cfg.keys = keys;
    for (int i = 0; i < 3; i++)
        kex_pool_add(keys);
    for (int i = 0; i < 2; i++) {
        pair_open(&pair);
        check_same_id();
        pair_check_data(pair.client, pair.server, "from client");
    }
    assert_false(kex_pool_take(keys, TEP_ECDHE_CURVE25519, &key));
    pair_done(&pair);
    kex_pool_free(keys);
    pair_init(&pair);
}

static void test_sizes(void **state)
{
    static const size_t sizes[] = {
        1, 2, 15, 16, 17, 1447, 1448, 4096, 32768, 65000, SESSION_FRAME_DATA_MAX_LEN};
    static uint8_t data[SESSION_FRAME_DATA_MAX_LEN];

    fill(data, sizeof(data));
    for (size_t a = 0; a < sizeof(all_aeads) / sizeof(all_aeads[0]); a++) {
        pair.server_cfg.aeads[0] = all_aeads[a];
        pair_open(&pair);
        for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
            to_server.len = 0;
            got.len = 0;
            pair_seal(pair.client, data, sizes[i], 0, &to_server);
            pair_deliver(pair.server, &to_server, &got);
            assert_int_equal(got.len, sizes[i]);
            assert_memory_equal(got.data, data, got.len);
        }
    }
}

/* A frame sealed from many pieces is the same stream as one sealed from one. */
static void test_seal_gathers(void **state)
{
    static uint8_t data[3000];
    struct iovec iov[64];
    size_t cnt = 0;
    struct buf *b;

    fill(data, sizeof(data));
    for (size_t pos = 0, len = 0; pos < sizeof(data); pos += len, cnt++) {
        len = min_len(cnt * 7 % 100, sizeof(data) - pos); /* some are empty */
        iov[cnt] = (struct iovec){data + pos, len};
        if (cnt == 63)
            iov[cnt].iov_len = len = sizeof(data) - pos;
    }
    pair_open(&pair);
    assert_int_equal(session_seal(pair.client, iov, cnt, 0, 0, &b), TCNS_OK);
    memcpy(to_server.bytes, buf_data(b), b->len);
    to_server.len = b->len;
    buf_unref(b);
    pair_deliver(pair.server, &to_server, &got);
    assert_int_equal(got.len, sizeof(data));
    assert_memory_equal(got.data, data, sizeof(data));
}

/* The two parts of a stream that is cut at one byte. */
static enum tcns_err feed_in_two(struct session *s, const struct wire *w, size_t cut, size_t step)
{
    static struct wire part;
    enum tcns_err e = TCNS_ERR_AGAIN;

    part.len = min_len(cut, w->len);
    memcpy(part.bytes, w->bytes, part.len);
    if (part.len > 0)
        e = pair_feed(s, &part, step, &got);
    assert_true(e == TCNS_OK || e == TCNS_ERR_AGAIN);
    memcpy(part.bytes, w->bytes + part.len, w->len - part.len);
    part.len = w->len - part.len;
    return part.len > 0 ? pair_feed(s, &part, step, &got) : e;
}

/* Init1, then Init2 and two frames. */
static void check_split(size_t cut, size_t step)
{
    memset(&got, 0, sizeof(got));
    to_server.len = 0;
    to_client.len = 0;
    pair_new_sessions(&pair);
    pair_options(&pair);
    pair_output(pair.client, &to_server);
    assert_int_equal(feed_in_two(pair.server, &to_server, cut, step), TCNS_OK);
    assert_true(got.opened);

    memset(&got, 0, sizeof(got));
    pair_output(pair.server, &to_client);
    pair_seal(pair.server, "first", 5, 0, &to_client);
    pair_seal(pair.server, "second", 6, SESSION_SEAL_FIN, &to_client);
    assert_int_equal(feed_in_two(pair.client, &to_client, cut, step), TCNS_OK);
    assert_int_equal(got.len, 11);
    assert_memory_equal(got.data, "firstsecond", 11);
    assert_int_equal(got.frame_cnt, 3);
    assert_true(got.fin && got.opened);
}

static void test_split_at_every_byte(void **state)
{
    const size_t stream_len =
        74 + (5 + SESSION_FRAME_OVERHEAD_LEN) + (6 + SESSION_FRAME_OVERHEAD_LEN);

    for (size_t cut = 0; cut <= stream_len; cut++)
        check_split(cut, SIZE_MAX);
    check_split(0, 1);
    check_split(0, 2);
    check_split(0, 3);
    assert_int_equal(to_client.len, stream_len);
}

/* --- FIN: RFC 8548 3.7 ---------------------------------------------------------- */

static void test_fin(void **state)
{
    struct buf *b = NULL;

    pair_open(&pair);
    pair_seal(pair.client, "bye", 3, SESSION_SEAL_FIN, &to_server);
    assert_int_equal(session_seal(pair.client, NULL, 0, 0, 0, &b), TCNS_ERR_STATE);
    assert_int_equal(session_seal(pair.client, NULL, 0, SESSION_SEAL_FIN, 0, &b), TCNS_ERR_STATE);
    assert_int_equal(session_rekey(pair.client), TCNS_ERR_STATE);
    pair_deliver(pair.server, &to_server, &got);
    assert_true(got.fin);
    assert_memory_equal(got.data, "bye", 3);
    assert_int_equal(session_on_fin(pair.server), TCNS_OK);
    /* half-closed: the other direction goes on */
    pair_check_data(pair.server, pair.client, "still here");
    to_client.len = 0;
    pair_seal(pair.server, NULL, 0, SESSION_SEAL_FIN, &to_client);
    memset(&got, 0, sizeof(got));
    pair_deliver(pair.client, &to_client, &got);
    assert_true(got.fin);
    assert_int_equal(got.len, 0);
    assert_int_equal(session_on_fin(pair.client), TCNS_OK);
}

static void check_truncated(struct session *s)
{
    size_t used;
    struct session_rx rx;

    assert_int_equal(session_on_fin(s), TCNS_ERR_TRUNCATED);
    assert_int_equal(session_on_fin(s), TCNS_ERR_TRUNCATED);
    assert_int_equal(session_open(s, (const uint8_t *)"x", 1, &used, &rx), TCNS_ERR_TRUNCATED);
    assert_false(session_is_open(s));
}

static void test_truncation(void **state)
{
    pair_new_sessions(&pair);
    pair_options(&pair);
    check_truncated(pair.server); /* before Init1 */
    check_truncated(pair.client); /* before Init2 */
    pair_open(&pair);
    check_truncated(pair.server); /* between frames */
}

static void test_truncation_inside_final_frame(void **state)
{
    pair_open(&pair);
    pair_seal(pair.client, "data", 4, SESSION_SEAL_FIN, &to_server);
    to_server.len--;
    assert_int_equal(pair_feed(pair.server, &to_server, SIZE_MAX, &got), TCNS_ERR_AGAIN);
    assert_int_equal(got.len, 0);
    check_truncated(pair.server);
}

/* Interpretation I10: nothing after the final frame reaches the application, or harms. */
static void test_frames_after_fin_are_ignored(void **state)
{
    struct wire replay = {.len = 0};

    pair_open(&pair);
    pair_seal(pair.client, "one", 3, 0, &replay);
    pair_seal(pair.client, "two", 3, SESSION_SEAL_FIN, &replay);
    memcpy(to_server.bytes, replay.bytes, replay.len);
    memcpy(to_server.bytes + replay.len, replay.bytes, replay.len);
    memcpy(to_server.bytes + 2 * replay.len, "garbage", 7);
    to_server.len = 2 * replay.len + 7;
    assert_int_equal(pair_feed(pair.server, &to_server, SIZE_MAX, &got), TCNS_ERR_AGAIN);
    assert_int_equal(got.len, 6);
    assert_int_equal(got.frame_cnt, 2);
    assert_true(got.fin);
    assert_int_equal(session_on_fin(pair.server), TCNS_OK);
    pair_check_data(pair.server, pair.client, "still here");
}

static void test_fin_without_finp(void **state)
{
    pair_open(&pair);
    pair_seal(pair.client, "all but the end", 15, 0, &to_server);
    pair_deliver(pair.server, &to_server, &got);
    check_truncated(pair.server);
}

static void test_finp_before_fin(void **state)
{
    pair_open(&pair);
    pair_seal(pair.client, "end", 3, SESSION_SEAL_FIN, &to_server);
    pair_deliver(pair.server, &to_server, &got);
    assert_true(got.fin); /* end of file is reported now: RFC 8548 3.7 */
    assert_int_equal(session_on_fin(pair.server), TCNS_OK);
    assert_int_equal(session_on_fin(pair.server), TCNS_OK); /* a retransmitted one */
}

/* --- An attacker on the path -------------------------------------------------------- */

static void test_replay_reorder_drop(void **state)
{
    const size_t frame_len = 3 + SESSION_FRAME_OVERHEAD_LEN;
    static const uint8_t orders[][2] = {{0, 0}, {1, 0}, {1, 1}};

    for (size_t i = 0; i < sizeof(orders) / sizeof(orders[0]); i++) {
        struct wire mixed = {.len = 2 * frame_len};

        memset(&got, 0, sizeof(got));
        to_server.len = 0;
        pair_open(&pair);
        pair_seal(pair.client, "one", 3, 0, &to_server);
        pair_seal(pair.client, "two", 3, 0, &to_server);
        for (size_t j = 0; j < 2; j++)
            memcpy(mixed.bytes + j * frame_len, to_server.bytes + orders[i][j] * frame_len,
                   frame_len);
        assert_int_equal(pair_feed(pair.server, &mixed, SIZE_MAX, &got), TCNS_ERR_FRAME_AUTH);
        assert_int_equal(got.len, orders[i][0] == 0 ? 3 : 0);
    }
}

/* A frame sent back to its sender: the directions have different keys. */
static void test_reflection(void **state)
{
    pair_open(&pair);
    pair_seal(pair.client, "echo", 4, 0, &to_server);
    assert_int_equal(pair_feed(pair.client, &to_server, SIZE_MAX, &got), TCNS_ERR_FRAME_AUTH);
    assert_int_equal(got.len, 0);
}

/* A peer that sends plaintext is found out at its first byte. */
static void test_plaintext_instead_of_init(void **state)
{
    size_t used;
    struct session_rx rx;

    pair_new_sessions(&pair);
    pair_options(&pair);
    assert_int_equal(session_open(pair.server, (const uint8_t *)"GET", 3, &used, &rx),
                     TCNS_ERR_INIT_MAGIC);
    assert_int_equal(session_open(pair.client, (const uint8_t *)"SSH", 3, &used, &rx),
                     TCNS_ERR_INIT_MAGIC);
}

/* --- Calls that do not fit the state -------------------------------------------------- */

static void test_calls_out_of_order(void **state)
{
    struct session_rx rx;
    struct buf *b = NULL;
    size_t used = 99;
    const struct iovec iov = {(void *)(uintptr_t) "x", 1};

    pair_new_sessions(&pair);
    assert_int_equal(session_open(pair.client, (const uint8_t *)"x", 1, &used, &rx),
                     TCNS_ERR_STATE);
    assert_int_equal(used, 0);
    assert_int_equal(session_seal(pair.client, &iov, 1, 0, 0, &b), TCNS_ERR_STATE);
    assert_int_equal(session_on_fin(pair.client), TCNS_ERR_STATE);
    assert_int_equal(session_output(pair.client, &b), TCNS_OK);
    assert_null(b);
    pair_options(&pair);
    assert_int_equal(session_seal(pair.client, &iov, 1, 0, 0, &b), TCNS_ERR_STATE);
    assert_int_equal(session_rekey(pair.client), TCNS_ERR_STATE);
    pair_output(pair.client, &to_server);
    pair_deliver(pair.server, &to_server, &got);
    /* Init2 is not out yet: a frame must not overtake it */
    assert_int_equal(session_seal(pair.server, &iov, 1, 0, 0, &b), TCNS_ERR_STATE);
    assert_null(b);
    pair_output(pair.server, &to_client);
    assert_int_equal(session_seal(pair.server, &iov, 1, 0, 0, &b), TCNS_OK);
    buf_unref(b);
}

static void test_empty_input(void **state)
{
    struct session_rx rx;
    size_t used = 99;

    pair_new_sessions(&pair);
    pair_options(&pair);
    assert_int_equal(session_open(pair.server, NULL, 0, &used, &rx), TCNS_ERR_AGAIN);
    assert_int_equal(used, 0);
    pair_open(&pair);
    assert_int_equal(session_open(pair.server, NULL, 0, &used, &rx), TCNS_ERR_AGAIN);
    pair_check_data(pair.client, pair.server, "fine");
}

/* Freed in any state without a leak: tear_down() and the leak sanitizer look. */
static void test_free_in_any_state(void **state)
{
    session_free(NULL);
    pair_new_sessions(&pair);
    pair_new_sessions(&pair);
    pair_options(&pair); /* Init1 not fetched */
    pair_new_sessions(&pair);
    pair_options(&pair);
    pair_output(pair.client, &to_server);
    to_server.len -= 3; /* half an Init1 */
    assert_int_equal(pair_feed(pair.server, &to_server, 10, &got), TCNS_ERR_AGAIN);
    pair_open(&pair);
    to_server.len = 0;
    pair_seal(pair.client, "half a frame", 12, 0, &to_server);
    to_server.len /= 2;
    assert_int_equal(pair_feed(pair.server, &to_server, 10, &got), TCNS_ERR_AGAIN);
}

#define T(name) cmocka_unit_test_setup_teardown(name, pair_world_set_up, pair_world_tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_every_tep_and_aead),
        T(test_ids_differ_between_connections),
        T(test_keys_made_ahead),
        T(test_sizes),
        T(test_seal_gathers),
        T(test_split_at_every_byte),
        T(test_fin),
        T(test_truncation),
        T(test_truncation_inside_final_frame),
        T(test_frames_after_fin_are_ignored),
        T(test_replay_reorder_drop),
        T(test_reflection),
        T(test_plaintext_instead_of_init),
        T(test_fin_without_finp),
        T(test_finp_before_fin),
        T(test_calls_out_of_order),
        T(test_empty_input),
        T(test_free_in_any_state),
    };

    return cmocka_run_group_tests_name("tcpcrypt/pair", tests, NULL, NULL);
}
