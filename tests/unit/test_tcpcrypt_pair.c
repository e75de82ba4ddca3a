/* SPDX-License-Identifier: BSD-3-Clause
 * Two sessions against each other: data, FIN, fallback, and an attacker who flips bits.
 */
#include "tcpcrypt/kex_pool.h"
#include "tcpcrypt_pair.h"

#include <sodium.h>
#include <string.h>

static const uint8_t all_teps[] = {TEP_ECDHE_P256, TEP_ECDHE_P521, TEP_ECDHE_CURVE25519,
                                   TEP_ECDHE_CURVE448};
static const uint16_t all_aeads[] = {AEAD_AES_128_GCM, AEAD_AES_256_GCM, AEAD_CHACHA20_POLY1305};

static struct pair pair;
static struct wire to_server, to_client;
static struct received got;

static int set_up(void **state)
{
    pair_init(&pair);
    to_server.len = 0;
    to_client.len = 0;
    memset(&got, 0, sizeof(got));
    return 0;
}

static int tear_down(void **state)
{
    pair_done(&pair);
    return buf_total() == 0 ? 0 : -1; /* no buffer is lost */
}

static struct session_info info_of(const struct session *s)
{
    struct session_info info;

    session_get_info(s, &info);
    return info;
}

static void check_same_id(void)
{
    struct session_info c = info_of(pair.client), s = info_of(pair.server);

    assert_true(c.has_id && s.has_id);
    assert_memory_equal(c.id, s.id, sizeof(c.id));
}

static size_t min_len(size_t a, size_t b)
{
    return a < b ? a : b;
}

static void start_exchange(struct wire *init1)
{
    pair_new_sessions(&pair);
    pair_options(&pair);
    init1->len = 0;
    pair_output(pair.client, init1);
}

/* Init messages of two hosts whose SYN exchange is over. */
static void start_keys(void)
{
    to_server.len = 0;
    to_client.len = 0;
    pair_output(pair.client, &to_server);
    pair_deliver(pair.server, &to_server, &got);
    pair_output(pair.server, &to_client);
    pair_deliver(pair.client, &to_client, &got);
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

static void fill(uint8_t *data, size_t len)
{
    for (size_t i = 0; i < len; i++)
        data[i] = (uint8_t)(i % 253);
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

/* --- Fallback: RFC 8547 4.6 ------------------------------------------------------ */

static void check_plain(struct session *s, enum session_reason reason)
{
    struct session_info info = info_of(s);
    struct session_rx rx;
    struct buf *b = NULL;
    size_t used;

    assert_false(info.enabled || info.has_id);
    assert_int_equal(info.reason, reason);
    assert_false(session_is_enabled(s) || session_is_open(s));
    assert_int_equal(session_output(s, &b), TCNS_OK);
    assert_null(b);
    assert_int_equal(session_seal(s, NULL, 0, SESSION_SEAL_FIN, 0, &b), TCNS_ERR_STATE);
    assert_int_equal(session_open(s, (const uint8_t *)"x", 1, &used, &rx), TCNS_ERR_STATE);
    assert_int_equal(session_on_fin(s), TCNS_ERR_STATE);
    assert_int_equal(session_rekey(s), TCNS_ERR_STATE);
}

#define AREA(...) (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__})

static void check_passive(enum session_reason reason, const uint8_t *area, size_t len)
{
    uint8_t out[ENO_OPTION_MAX_LEN];
    size_t out_len = 99;

    pair_new_sessions(&pair);
    assert_int_equal(session_accept(pair.server, area, len, out, &out_len), TCNS_OK);
    assert_int_equal(out_len, 0);
    check_plain(pair.server, reason);
    /* an ENO option on later segments changes nothing */
    assert_int_equal(session_accept_ack(pair.server, eno_ack_option, ENO_ACK_OPTION_LEN), TCNS_OK);
    check_plain(pair.server, reason);
}

static void check_active(enum session_reason reason, const uint8_t *area, size_t len)
{
    pair_new_sessions(&pair);
    assert_int_equal(session_connect(pair.client, pair.syn, &pair.syn_len), TCNS_OK);
    assert_int_equal(session_connect_synack(pair.client, area, len), TCNS_OK);
    check_plain(pair.client, reason);
}

static void test_fallback_passive(void **state)
{
    check_passive(SESSION_REASON_PEER_NO_ENO, NULL, 0);
    check_passive(SESSION_REASON_PEER_NO_ENO, AREA(2, 4, 5, 0xb4, 1, 3, 3, 7));
    check_passive(SESSION_REASON_PEER_NO_ENO, AREA(69, 3, 0x23, 69, 3, 0x23));
    check_passive(SESSION_REASON_PEER_ILL_FORMED, AREA(69, 4, 0x23, 0x80));
    check_passive(SESSION_REASON_PEER_VACUOUS, AREA(69, 2));
    check_passive(SESSION_REASON_PEER_VACUOUS, AREA(69, 3, 0x02));
    check_passive(SESSION_REASON_NO_COMMON_TEP, AREA(69, 3, 0x20));
    check_passive(SESSION_REASON_ROLE_CONFLICT, AREA(69, 4, 0x01, 0x23));
    pair.server_cfg.mandatory_app_aware = true;
    check_passive(SESSION_REASON_NOT_APP_AWARE, AREA(69, 3, 0x23));
    pair.server_cfg.tep_cnt = 0;
    check_passive(SESSION_REASON_OFF, AREA(69, 3, 0x23));
}

static void test_fallback_active(void **state)
{
    check_active(SESSION_REASON_PEER_NO_ENO, NULL, 0);
    check_active(SESSION_REASON_PEER_NO_ENO, AREA(2, 4, 5, 0xb4));
    check_active(SESSION_REASON_PEER_NO_ENO, AREA(69, 4, 1, 0x23, 69, 4, 1, 0x23));
    check_active(SESSION_REASON_PEER_ILL_FORMED, AREA(69, 5, 1, 0x23, 0x80));
    check_active(SESSION_REASON_PEER_VACUOUS, AREA(69, 3, 0x01));
    check_active(SESSION_REASON_NO_COMMON_TEP, AREA(69, 4, 0x01, 0x20));
    check_active(SESSION_REASON_ROLE_CONFLICT, AREA(69, 3, 0x23));
    pair.client_cfg.app_aware = true;
    pair.client_cfg.mandatory_app_aware = true;
    check_active(SESSION_REASON_NOT_APP_AWARE, AREA(69, 4, 0x01, 0x23));
}

static void test_off_sends_nothing(void **state)
{
    pair.client_cfg.tep_cnt = 0;
    pair_open(&pair);
    assert_int_equal(pair.syn_len, 0);
    assert_int_equal(pair.synack_len, 0);
    check_plain(pair.client, SESSION_REASON_OFF);
    check_plain(pair.server, SESSION_REASON_PEER_NO_ENO);
}

static void test_stripped_ack(void **state)
{
    pair_new_sessions(&pair);
    assert_int_equal(session_connect(pair.client, pair.syn, &pair.syn_len), TCNS_OK);
    assert_int_equal(
        session_accept(pair.server, pair.syn, pair.syn_len, pair.synack, &pair.synack_len),
        TCNS_OK);
    assert_int_equal(info_of(pair.server).reason, SESSION_REASON_PENDING);
    assert_int_equal(session_accept_ack(pair.server, NULL, 0), TCNS_OK);
    check_plain(pair.server, SESSION_REASON_ENO_STRIPPED);
}

static void test_repeated_segments(void **state)
{
    uint8_t again[ENO_OPTION_MAX_LEN];
    size_t len;

    pair_new_sessions(&pair);
    pair_options(&pair);
    /* the same option on every retransmission, whenever it is asked for */
    assert_int_equal(session_connect(pair.client, again, &len), TCNS_OK);
    assert_int_equal(len, pair.syn_len);
    assert_memory_equal(again, pair.syn, len);
    assert_int_equal(session_accept(pair.server, pair.syn, pair.syn_len, again, &len), TCNS_OK);
    assert_int_equal(len, pair.synack_len);
    assert_memory_equal(again, pair.synack, len);
    /* and what was settled stays settled */
    assert_int_equal(session_connect_synack(pair.client, NULL, 0), TCNS_OK);
    assert_int_equal(session_accept_ack(pair.server, NULL, 0), TCNS_OK);
    assert_true(session_is_enabled(pair.client) && session_is_enabled(pair.server));
}

/* RFC 8547 4.6: what the first SYN-ACK settled stays. */
static void test_synack_again_without_eno(void **state)
{
    const uint8_t other_option[] = {69, 4, 1, TEP_ECDHE_P256};

    pair_new_sessions(&pair);
    pair_options(&pair);
    assert_int_equal(session_connect_synack(pair.client, NULL, 0), TCNS_OK);
    assert_int_equal(session_connect_synack(pair.client, other_option, sizeof(other_option)),
                     TCNS_OK);
    assert_int_equal(info_of(pair.client).tep, TEP_ECDHE_CURVE25519);
    start_keys();
    pair_check_data(pair.client, pair.server, "still encrypted");
}

/* A SYN that is altered between transmissions: the first counts, and the SYN-ACK does not
 * change. Who sent the second will not come to the same keys (RFC 8547 4.8). */
static void test_second_syn_with_another_option(void **state)
{
    const uint8_t second[] = {69, 3, TEP_ECDHE_P256};
    uint8_t again[ENO_OPTION_MAX_LEN];
    size_t len;

    pair_new_sessions(&pair);
    assert_int_equal(session_connect(pair.client, pair.syn, &pair.syn_len), TCNS_OK);
    assert_int_equal(
        session_accept(pair.server, pair.syn, pair.syn_len, pair.synack, &pair.synack_len),
        TCNS_OK);
    assert_int_equal(session_accept(pair.server, second, sizeof(second), again, &len), TCNS_OK);
    assert_int_equal(len, pair.synack_len);
    assert_memory_equal(again, pair.synack, len);
    assert_int_equal(session_connect_synack(pair.client, pair.synack, pair.synack_len), TCNS_OK);
    assert_int_equal(session_accept_ack(pair.server, eno_ack_option, ENO_ACK_OPTION_LEN), TCNS_OK);
    start_keys();
    pair_check_data(pair.client, pair.server, "as the first SYN had it");
}

/* The SYN-ACK for these options beside ours. Return: its length. */
static size_t answer_to(const uint8_t *area, size_t len, uint8_t out[ENO_OPTION_MAX_LEN])
{
    size_t out_len;

    pair_new_sessions(&pair);
    assert_int_equal(session_accept(pair.server, area, len, out, &out_len), TCNS_OK);
    return out_len;
}

/* Drafts used the experimental kind 253 with ExID 0x454E. RFC 8547 has kind 69 only. */
static void test_experimental_option_253(void **state)
{
    uint8_t out[ENO_OPTION_MAX_LEN];

    check_passive(SESSION_REASON_PEER_NO_ENO, AREA(253, 5, 0x45, 0x4e, 0x23));
    check_active(SESSION_REASON_PEER_NO_ENO, AREA(253, 6, 0x45, 0x4e, 0x01, 0x23));
    assert_int_equal(answer_to(AREA(253, 5, 0x45, 0x4e, 0x21, 69, 3, 0x23), out), 4);
    assert_int_equal(out[3], TEP_ECDHE_CURVE25519);
    assert_int_equal(answer_to(AREA(69, 3, 0x23, 253, 4, 0x45, 0x4e), out), 4);
    assert_int_equal(out[3], TEP_ECDHE_CURVE25519);
}

/* RFC 8547 4.7: it decides about SYN data, which we discard in any case; not about ENO. */
static void test_tfo_option(void **state)
{
    uint8_t out[ENO_OPTION_MAX_LEN];
    const uint8_t expected[] = {69, 4, 1, TEP_ECDHE_CURVE25519};

    assert_int_equal(answer_to(AREA(34, 10, 1, 2, 3, 4, 5, 6, 7, 8, 69, 3, 0x23), out), 4);
    assert_memory_equal(out, expected, 4);
    assert_int_equal(answer_to(AREA(69, 3, 0x23, 34, 2), out), 4);
    assert_memory_equal(out, expected, 4);
}

/* RFC 8547 8.1: a middlebox that sends the SYN's options back. */
static void test_echoed_option(void **state)
{
    pair_new_sessions(&pair);
    assert_int_equal(session_connect(pair.client, pair.syn, &pair.syn_len), TCNS_OK);
    assert_int_equal(session_connect_synack(pair.client, pair.syn, pair.syn_len), TCNS_OK);
    check_plain(pair.client, SESSION_REASON_ROLE_CONFLICT);
}

/* RFC 8547 4.1: contents of the non-SYN form are ignored, and several count as one. */
static void test_ack_option_with_contents(void **state)
{
    const uint8_t area[] = {69, 5, 0x80, 0x00, 0xff, 69, 2};

    pair_new_sessions(&pair);
    assert_int_equal(session_connect(pair.client, pair.syn, &pair.syn_len), TCNS_OK);
    assert_int_equal(
        session_accept(pair.server, pair.syn, pair.syn_len, pair.synack, &pair.synack_len),
        TCNS_OK);
    assert_int_equal(session_accept_ack(pair.server, area, sizeof(area)), TCNS_OK);
    assert_true(session_is_enabled(pair.server));
    assert_int_equal(ENO_ACK_OPTION_LEN, 2); /* ours has none */
}

static void test_app_aware_bits(void **state)
{
    pair.client_cfg.app_aware = true;
    pair_open(&pair);
    assert_false(info_of(pair.client).peer_app_aware);
    assert_true(info_of(pair.server).peer_app_aware);
    check_same_id();
}

/* RFC 8547 4.3: two active openers, one of which has set b = 1. */
static void test_simultaneous_open(void **state)
{
    struct wire w = {.len = 0};

    pair.server_cfg.passive_role = true;
    pair_new_sessions(&pair);
    assert_int_equal(session_connect(pair.client, pair.syn, &pair.syn_len), TCNS_OK);
    assert_int_equal(session_connect(pair.server, pair.synack, &pair.synack_len), TCNS_OK);
    assert_int_equal(session_connect_synack(pair.client, pair.synack, pair.synack_len), TCNS_OK);
    assert_int_equal(session_connect_synack(pair.server, pair.syn, pair.syn_len), TCNS_OK);
    assert_int_equal(info_of(pair.client).role, SESSION_ROLE_A);
    assert_int_equal(info_of(pair.server).role, SESSION_ROLE_B);
    pair_output(pair.client, &to_server);
    pair_deliver(pair.server, &to_server, &got);
    pair_output(pair.server, &w);
    pair_deliver(pair.client, &w, &got);
    check_same_id();
    pair_check_data(pair.client, pair.server, "hello");
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

/* --- Rekeying: RFC 8548 3.8, 3.9 ----------------------------------------------------- */

static void check_generations(const struct session *s, uint32_t tx, uint32_t rx)
{
    struct session_info info = info_of(s);

    assert_int_equal(info.tx_generation, tx);
    assert_int_equal(info.rx_generation, rx);
}

static void carry(struct session *from, struct session *to)
{
    struct wire w = {.len = 0};

    pair_output(from, &w);
    pair_deliver(to, &w, &got);
}

static void test_rekey_is_answered(void **state)
{
    struct buf *b = NULL;

    pair_open(&pair);
    assert_int_equal(session_rekey(pair.client), TCNS_OK);
    assert_int_equal(session_rekey(pair.client), TCNS_OK); /* one at a time */
    carry(pair.client, pair.server);
    check_generations(pair.client, 1, 0);
    check_generations(pair.server, 0, 1);
    carry(pair.server, pair.client);
    check_generations(pair.client, 1, 1);
    check_generations(pair.server, 1, 1);
    assert_int_equal(session_output(pair.client, &b), TCNS_OK);
    assert_null(b); /* the answer is not answered */
    pair_check_data(pair.client, pair.server, "new keys");
    pair_check_data(pair.server, pair.client, "here too");
    assert_int_equal(got.len, 0);
}

static void test_rekey_rides_on_data(void **state)
{
    struct session_rx rx;
    size_t used;

    pair_open(&pair);
    assert_int_equal(session_rekey(pair.server), TCNS_OK);
    pair_seal(pair.server, "data", 4, 0, &to_client);
    assert_int_equal(to_client.bytes[0], 0x01);
    pair_seal(pair.server, "more", 4, 0, &to_client);
    assert_int_equal(to_client.bytes[4 + SESSION_FRAME_OVERHEAD_LEN], 0x00);
    assert_int_equal(session_open(pair.client, to_client.bytes, to_client.len, &used, &rx),
                     TCNS_OK);
    assert_true(rx.output);
    buf_unref(rx.data);
    pair_seal(pair.client, "answer with data", 16, 0, &to_server);
    assert_int_equal(to_server.bytes[0], 0x01);
    pair_deliver(pair.server, &to_server, &got);
    check_generations(pair.server, 1, 1);
    check_generations(pair.client, 1, 1);
}

static void test_crossed_rekeys(void **state)
{
    struct wire from_client = {.len = 0}, from_server = {.len = 0};

    pair_open(&pair);
    for (uint32_t i = 1; i <= 5; i++) {
        from_client.len = from_server.len = 0;
        assert_int_equal(session_rekey(pair.client), TCNS_OK);
        assert_int_equal(session_rekey(pair.server), TCNS_OK);
        pair_output(pair.client, &from_client);
        pair_output(pair.server, &from_server);
        pair_deliver(pair.server, &from_client, &got);
        pair_deliver(pair.client, &from_server, &got);
        check_generations(pair.client, i, i);
        check_generations(pair.server, i, i);
    }
    pair_check_data(pair.client, pair.server, "fifth generation");
}

/* Interpretation I16: after our final frame a rekey is not answered. */
static void test_rekey_after_fin(void **state)
{
    struct session_rx rx;
    struct buf *b = NULL;
    size_t used;

    pair_open(&pair);
    pair_seal(pair.server, "end", 3, SESSION_SEAL_FIN, &to_client);
    pair_deliver(pair.client, &to_client, &got);
    assert_int_equal(session_rekey(pair.client), TCNS_OK);
    pair_output(pair.client, &to_server);
    assert_int_equal(session_open(pair.server, to_server.bytes, to_server.len, &used, &rx),
                     TCNS_OK);
    assert_false(rx.output);
    assert_int_equal(session_output(pair.server, &b), TCNS_OK);
    assert_null(b);
    pair_check_data(pair.client, pair.server, "goes on");
}

/* A final frame can carry new keys; it is answered as any other. */
static void test_fin_with_rekey(void **state)
{
    pair_open(&pair);
    assert_int_equal(session_rekey(pair.client), TCNS_OK);
    pair_seal(pair.client, "end", 3, SESSION_SEAL_FIN, &to_server);
    assert_int_equal(to_server.bytes[0], 0x01);
    pair_deliver(pair.server, &to_server, &got);
    assert_true(got.fin);
    check_generations(pair.server, 0, 1);
    carry(pair.server, pair.client);
    check_generations(pair.client, 1, 1);
    pair_check_data(pair.server, pair.client, "under new keys");
    assert_int_equal(session_on_fin(pair.server), TCNS_OK);
}

/* A rekey that is owed when we end rides on the final frame. */
static void test_owed_rekey_rides_on_fin(void **state)
{
    struct session_rx rx;
    struct buf *b = NULL;
    size_t used;

    pair_open(&pair);
    assert_int_equal(session_rekey(pair.client), TCNS_OK);
    pair_output(pair.client, &to_server);
    assert_int_equal(session_open(pair.server, to_server.bytes, to_server.len, &used, &rx),
                     TCNS_OK);
    assert_true(rx.output);
    pair_seal(pair.server, NULL, 0, SESSION_SEAL_FIN, &to_client);
    assert_int_equal(to_client.bytes[0], 0x01);
    assert_int_equal(session_output(pair.server, &b), TCNS_OK);
    assert_null(b);
    pair_deliver(pair.client, &to_client, &got);
    assert_true(got.fin);
    check_generations(pair.client, 1, 1);
}

/* After both FINs at one side, with frames still coming from the other. */
static void test_rekey_after_both_fins(void **state)
{
    struct session_rx rx;
    size_t used;

    pair_open(&pair);
    pair_seal(pair.server, "end", 3, SESSION_SEAL_FIN, &to_client);
    pair_deliver(pair.client, &to_client, &got);
    assert_int_equal(session_on_fin(pair.client), TCNS_OK); /* the TCP FIN arrived as well */
    for (int i = 0; i < 3; i++) {                           /* unanswered: data goes on */
        to_server.len = 0;
        assert_int_equal(session_rekey(pair.client), TCNS_OK);
        pair_seal(pair.client, "more", 4, i == 2 ? SESSION_SEAL_FIN : 0, &to_server);
        assert_int_equal(session_open(pair.server, to_server.bytes, to_server.len, &used, &rx),
                         TCNS_OK);
        assert_false(rx.output);
        assert_int_equal(rx.fin, i == 2);
        buf_unref(rx.data);
    }
    assert_int_equal(session_on_fin(pair.server), TCNS_OK);
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

/* An attacker sets the rekey bit: the frame fails, and no generation changes. */
static void test_forged_rekey_bit(void **state)
{
    pair_open(&pair);
    pair_seal(pair.client, "data", 4, 0, &to_server);
    to_server.bytes[0] = 0x01;
    assert_int_equal(pair_feed(pair.server, &to_server, SIZE_MAX, &got), TCNS_ERR_FRAME_AUTH);
    check_generations(pair.server, 0, 0);
    assert_int_equal(got.len, 0);
}

/* A frame with rekey = 1 that was sealed with the keys of another connection. */
static void test_rekey_under_the_wrong_key(void **state)
{
    pair_open(&pair);
    assert_int_equal(session_rekey(pair.client), TCNS_OK);
    pair_seal(pair.client, "data", 4, 0, &to_server);
    pair_open(&pair);
    assert_int_equal(pair_feed(pair.server, &to_server, SIZE_MAX, &got), TCNS_ERR_FRAME_AUTH);
    check_generations(pair.server, 0, 0);
    assert_int_equal(got.len, 0);
}

/* cres and fres: RFC 8548 4.2, 4.2.1. */
static void test_reserved_bits_are_sent_as_zero(void **state)
{
    pair_open(&pair);
    pair_seal(pair.client, "x", 1, SESSION_SEAL_FIN, &to_server);
    assert_int_equal(to_server.bytes[0] & 0xfe, 0);
}

/* Control byte of a frame of len bytes, which arrives. */
static uint8_t send_control(struct session *from, struct session *to, size_t len)
{
    static uint8_t data[1000];
    uint8_t control;

    to_server.len = 0;
    pair_seal(from, data, len, 0, &to_server);
    control = to_server.bytes[0];
    got.len = 0;
    pair_deliver(to, &to_server, &got);
    return control;
}

/* We rekey after a number of frames, or of bytes on the wire. */
static void test_rekey_after_frames(void **state)
{
    pair.client_cfg.rekey_frames = 3;
    pair_open(&pair);
    for (uint32_t generation = 0; generation < 4; generation++) {
        for (int i = 0; i < 3; i++) {
            bool is_first = i == 0 && generation > 0;

            assert_int_equal(send_control(pair.client, pair.server, 10), is_first);
            check_generations(pair.server, generation > 0 ? generation - is_first : 0, generation);
            if (is_first)
                carry(pair.server, pair.client);
        }
        check_generations(pair.client, generation, generation);
    }
}

static void test_rekey_after_bytes(void **state)
{
    pair.client_cfg.rekey_bytes = 1000;
    pair_open(&pair);
    assert_int_equal(send_control(pair.client, pair.server, 979), 0); /* 999 bytes */
    assert_int_equal(send_control(pair.client, pair.server, 1), 0);
    assert_int_equal(send_control(pair.client, pair.server, 1), 1);
    /* unanswered: data may go on to the next generation, RFC 8548 3.8 */
    assert_int_equal(send_control(pair.client, pair.server, 979), 0);
    assert_int_equal(send_control(pair.client, pair.server, 1), 1);
    check_generations(pair.client, 2, 0);
    check_generations(pair.server, 0, 2);
    carry(pair.server, pair.client); /* two frames, one per generation (I08) */
    check_generations(pair.client, 2, 2);
    check_generations(pair.server, 2, 2);
}

/* RFC 8548 3.8: an empty frame does not initiate while an earlier rekeying is unanswered. */
static void test_empty_frames_rekey_once(void **state)
{
    pair.client_cfg.rekey_frames = 2;
    pair_open(&pair);
    assert_int_equal(send_control(pair.client, pair.server, 0), 0);
    assert_int_equal(send_control(pair.client, pair.server, 0), 0);
    assert_int_equal(send_control(pair.client, pair.server, 0), 1);
    for (int i = 0; i < 5; i++)
        assert_int_equal(send_control(pair.client, pair.server, 0), 0);
    carry(pair.server, pair.client);
    assert_int_equal(send_control(pair.client, pair.server, 0), 1);
}

/* The limit on frames per key is kept without the caller's help, whatever he asks for. */
static void test_rekey_by_itself(void **state)
{
    struct iovec iov = {(void *)(uintptr_t) "x", 1};
    struct buf *b;
    uint8_t control = 0;

    pair.client_cfg.rekey_frames = UINT32_MAX;
    pair_open(&pair);
    for (uint32_t i = 0; i < SESSION_REKEY_FRAMES_MAX; i++) {
        assert_int_equal(session_seal(pair.client, &iov, 1, 0, 0, &b), TCNS_OK);
        control |= b->bytes[0];
        buf_unref(b);
    }
    assert_int_equal(control, 0);
    for (int is_first = 1; is_first >= 0; is_first--) {
        assert_int_equal(session_seal(pair.client, &iov, 1, 0, 0, &b), TCNS_OK);
        assert_int_equal(b->bytes[0], is_first);
        buf_unref(b);
    }
}

/* --- Urgent data: RFC 8548 3.7, interpretation I07 ----------------------------------- */

/* One frame from client to server. */
static void send_urgent(size_t len, unsigned flags, uint16_t off, struct session_rx *rx)
{
    static uint8_t data[SESSION_FRAME_DATA_MAX_LEN];
    struct iovec iov = {data, len};
    struct buf *b;
    size_t used;

    fill(data, len);
    assert_int_equal(session_seal(pair.client, &iov, 1, flags, off, &b), TCNS_OK);
    assert_int_equal(b->len, len + SESSION_FRAME_OVERHEAD_LEN +
                                 (flags & SESSION_SEAL_URGENT ? SESSION_FRAME_URGENT_LEN : 0));
    assert_int_equal(session_open(pair.server, buf_data(b), b->len, &used, rx), TCNS_OK);
    buf_unref(b);
    assert_int_equal(rx->data ? rx->data->len : 0, len);
    if (rx->data)
        assert_memory_equal(buf_data(rx->data), data, len);
    buf_unref(rx->data);
}

static void test_urgent_mark_is_carried(void **state)
{
    static const struct {
        size_t len;
        uint16_t off;
    } marks[] = {{1, 0}, {10, 9}, {10, 10}, {10, 65535}, {0, 0}, {0, 65535}, {65516, 65515}};
    struct session_rx rx;

    pair_open(&pair);
    for (size_t i = 0; i < sizeof(marks) / sizeof(marks[0]); i++) {
        send_urgent(marks[i].len, SESSION_SEAL_URGENT, marks[i].off, &rx);
        assert_true(rx.urgent);
        assert_int_equal(rx.urgent_off, marks[i].off);
        send_urgent(5, 0, 3, &rx); /* without the flag the offset means nothing */
        assert_false(rx.urgent);
        assert_int_equal(rx.urgent_off, 0);
    }
    send_urgent(4, SESSION_SEAL_URGENT | SESSION_SEAL_FIN, 3, &rx);
    assert_true(rx.urgent && rx.fin);
}

static void test_urgent_mark_takes_room(void **state)
{
    static uint8_t data[SESSION_FRAME_DATA_MAX_LEN];
    struct iovec iov = {data, SESSION_FRAME_DATA_MAX_LEN - SESSION_FRAME_URGENT_LEN + 1};
    struct session_rx rx;
    struct buf *b = NULL;

    pair_open(&pair);
    assert_int_equal(session_seal(pair.client, &iov, 1, SESSION_SEAL_URGENT, 0, &b),
                     TCNS_ERR_TOO_LARGE);
    assert_null(b);
    send_urgent(iov.iov_len - 1, SESSION_SEAL_URGENT, 7, &rx);
    assert_int_equal(rx.urgent_off, 7);
    send_urgent(SESSION_FRAME_DATA_MAX_LEN, 0, 0, &rx);
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

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

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
        T(test_fallback_passive),
        T(test_fallback_active),
        T(test_off_sends_nothing),
        T(test_stripped_ack),
        T(test_repeated_segments),
        T(test_synack_again_without_eno),
        T(test_second_syn_with_another_option),
        T(test_experimental_option_253),
        T(test_tfo_option),
        T(test_echoed_option),
        T(test_ack_option_with_contents),
        T(test_app_aware_bits),
        T(test_simultaneous_open),
        T(test_replay_reorder_drop),
        T(test_reflection),
        T(test_plaintext_instead_of_init),
        T(test_ignored_bytes_in_init1),
        T(test_init_messages_byte_by_byte),
        T(test_init2_with_first_frames),
        T(test_frame_header_split),
        T(test_init_length_limits),
        T(test_rekey_is_answered),
        T(test_rekey_rides_on_data),
        T(test_crossed_rekeys),
        T(test_rekey_after_fin),
        T(test_fin_with_rekey),
        T(test_owed_rekey_rides_on_fin),
        T(test_rekey_after_both_fins),
        T(test_fin_without_finp),
        T(test_finp_before_fin),
        T(test_forged_rekey_bit),
        T(test_rekey_under_the_wrong_key),
        T(test_reserved_bits_are_sent_as_zero),
        T(test_rekey_after_frames),
        T(test_rekey_after_bytes),
        T(test_empty_frames_rekey_once),
        T(test_rekey_by_itself),
        T(test_urgent_mark_is_carried),
        T(test_urgent_mark_takes_room),
        T(test_calls_out_of_order),
        T(test_empty_input),
        T(test_free_in_any_state),
    };

    return cmocka_run_group_tests_name("tcpcrypt/pair", tests, NULL, NULL);
}
