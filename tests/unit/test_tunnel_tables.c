/* SPDX-License-Identifier: BSD-3-Clause
 * Small tables: peers without ENO, ended connections, names.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <string.h>

#include "tunnel/fallback.h"
#include "tunnel/history.h"

static struct addr peer_of(uint32_t n)
{
    return addr_from_v4((uint8_t[]){10, (uint8_t)(n >> 16), (uint8_t)(n >> 8), (uint8_t)n});
}

/* --- Fallback ---------------------------------------------------------------------------- */

static struct fallback_table fallback;

static void test_fallback_ends(void **state)
{
    struct addr a = peer_of(1), b = peer_of(2);

    fallback_clear(&fallback);
    assert_false(fallback_has(&fallback, &a, 0));
    fallback_add(&fallback, &a, 1000, 500);
    assert_true(fallback_has(&fallback, &a, 1000));
    assert_true(fallback_has(&fallback, &a, 1499));
    assert_false(fallback_has(&fallback, &a, 1500));
    assert_false(fallback_has(&fallback, &b, 1000));
    fallback_add(&fallback, &a, 2000, 500);
    assert_true(fallback_has(&fallback, &a, 2400));
    fallback_clear(&fallback);
    assert_false(fallback_has(&fallback, &a, 2400));
}

/* The unspecified address is what an empty slot bears. */
/* One loss makes nothing; neither do several side by side; an answer starts it over. */
static void test_fallback_takes_two_losses(void **state)
{
    struct addr a = peer_of(1), b = peer_of(2);

    fallback_clear(&fallback);
    fallback_note_loss(&fallback, &a, 1000, 2000, 500);
    fallback_note_loss(&fallback, &a, 1900, 2010, 500);
    assert_false(fallback_has(&fallback, &a, 2010));
    fallback_note_answer(&fallback, &b);
    fallback_note_loss(&fallback, &a, 2020, 2100, 500);
    assert_true(fallback_has(&fallback, &a, 2100));

    fallback_clear(&fallback);
    fallback_note_loss(&fallback, &a, 1000, 2000, 500);
    fallback_note_answer(&fallback, &a);
    fallback_note_loss(&fallback, &a, 2020, 2100, 500);
    assert_false(fallback_has(&fallback, &a, 2100));
    /* That was the first again, and is forgotten by then. */
    fallback_note_loss(&fallback, &a, 2700, 2700, 500);
    assert_false(fallback_has(&fallback, &a, 2700));
    fallback_note_loss(&fallback, &a, 2701, 2702, 500);
    assert_true(fallback_has(&fallback, &a, 2702));
}

static void test_fallback_empty_slot(void **state)
{
    struct addr none = {0};

    fallback_clear(&fallback);
    assert_false(fallback_has(&fallback, &none, 0));
}

/* More than fit: the latest is always there, and no other is taken for it. */
static void test_fallback_many(void **state)
{
    size_t left = 0;

    fallback_clear(&fallback);
    for (uint32_t n = 0; n < 3 * FALLBACK_MAX_CNT; n++) {
        struct addr a = peer_of(n);
        fallback_add(&fallback, &a, 0, 1000);
        assert_true(fallback_has(&fallback, &a, 0));
    }
    for (uint32_t n = 0; n < 3 * FALLBACK_MAX_CNT; n++) {
        struct addr a = peer_of(n);
        left += fallback_has(&fallback, &a, 0);
    }
    assert_in_range(left, FALLBACK_MAX_CNT / 2, FALLBACK_MAX_CNT);
}

static size_t listed_cnt;
static unsigned listed_s;

static void list(const struct addr *peer, unsigned left_s, void *arg)
{
    listed_cnt++;
    listed_s += left_s;
}

static void test_fallback_list(void **state)
{
    struct addr a = peer_of(1), b = peer_of(2);

    fallback_clear(&fallback);
    listed_cnt = listed_s = 0;
    fallback_add(&fallback, &a, 0, 1500);
    fallback_add(&fallback, &b, 0, 10000);
    fallback_each(&fallback, 1000, list, NULL);
    assert_int_equal(listed_cnt, 2);
    assert_int_equal(listed_s, 1 + 9); /* rounded up */
    fallback_each(&fallback, 2000, list, NULL);
    assert_int_equal(listed_cnt, 3);
}

/* --- History ------------------------------------------------------------------------------ */

static struct history history;
static uint64_t seen[TUNNEL_ENDED_MAX_CNT];
static size_t seen_cnt, seen_max;

static bool see(const struct tunnel_session *s, void *arg)
{
    seen[seen_cnt++] = s->tx_bytes;
    return seen_cnt < seen_max;
}

static void add_many(uint64_t cnt)
{
    memset(&history, 0, sizeof(history));
    seen_cnt = 0;
    seen_max = SIZE_MAX;
    for (uint64_t i = 0; i < cnt; i++)
        history_add(&history, &(struct tunnel_session){.tx_bytes = i});
}

static void test_history_order(void **state)
{
    static const uint64_t cnts[] = {0,
                                    1,
                                    TUNNEL_ENDED_MAX_CNT - 1,
                                    TUNNEL_ENDED_MAX_CNT,
                                    TUNNEL_ENDED_MAX_CNT + 1,
                                    3 * TUNNEL_ENDED_MAX_CNT + 7};

    for (size_t i = 0; i < sizeof(cnts) / sizeof(*cnts); i++) {
        uint64_t cnt = cnts[i], kept = cnt < TUNNEL_ENDED_MAX_CNT ? cnt : TUNNEL_ENDED_MAX_CNT;
        add_many(cnt);
        history_each(&history, see, NULL);
        assert_int_equal(seen_cnt, kept);
        for (size_t j = 0; j < kept; j++)
            assert_int_equal(seen[j], cnt - kept + j);
    }
    seen_cnt = 0;
    seen_max = 5;
    history_each(&history, see, NULL);
    assert_int_equal(seen_cnt, 5);
}

static void test_history_counts_errors(void **state)
{
    struct tunnel_session s = {.error = TCNS_ERR_FRAME_AUTH};

    add_many(300);
    history_add(&history, &s);
    history_add(&history, &s);
    s.error = TCNS_ERR_NO_MEMORY;
    history_add(&history, &s);
    assert_int_equal(history_error_cnt(&history, TCNS_ERR_FRAME_AUTH), 2);
    assert_int_equal(history_error_cnt(&history, TCNS_ERR_NO_MEMORY), 1);
    assert_int_equal(history_error_cnt(&history, TCNS_ERR_TRUNCATED), 0);
    assert_int_equal(history_error_cnt(&history, TCNS_OK), 0);
}

/* --- Names --------------------------------------------------------------------------------- */

static void test_reason_names(void **state)
{
    /* Made twice from one list: the session's names and ours agree. */
#define X(name)                                                                                    \
    assert_string_equal(tunnel_reason_name(TUNNEL_REASON_##name),                                  \
                        session_reason_name(SESSION_REASON_##name));
    SESSION_REASON_LIST(X)
#undef X
    assert_string_equal(tunnel_reason_name(TUNNEL_REASON_OLDER), "older");
    assert_string_equal(tunnel_reason_name(TUNNEL_REASON_REQUIRE_REFUSED), "require-refused");
    assert_string_equal(tunnel_reason_name((enum tunnel_reason)1000), "unknown");
}

static void test_end_and_state_names(void **state)
{
    assert_string_equal(tunnel_end_name(TUNNEL_END_LIVE), "live");
    assert_string_equal(tunnel_end_name(TUNNEL_END_RESET_BY_APPLICATION), "reset-by-application");
    assert_string_equal(tunnel_end_name(TUNNEL_END_DETACHED), "detached");
    assert_string_equal(tunnel_end_name((enum tunnel_end)1000), "unknown");
    assert_string_equal(tunnel_state_name(TUNNEL_STATE_OPENING), "opening");
    assert_string_equal(tunnel_state_name(TUNNEL_STATE_CLOSING), "closing");
    assert_string_equal(tunnel_state_name((enum tunnel_state)1000), "unknown");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fallback_ends), cmocka_unit_test(test_fallback_takes_two_losses),
        cmocka_unit_test(test_fallback_empty_slot),
        cmocka_unit_test(test_fallback_many), cmocka_unit_test(test_fallback_list),
        cmocka_unit_test(test_history_order), cmocka_unit_test(test_history_counts_errors),
        cmocka_unit_test(test_reason_names),  cmocka_unit_test(test_end_and_state_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
