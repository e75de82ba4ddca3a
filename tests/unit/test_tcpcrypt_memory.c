/* SPDX-License-Identifier: BSD-3-Clause
 * Out of memory: the nth buffer cannot be had, for every n. Linked with --wrap=buf_new.
 */
#include "tcpcrypt_pair.h"

#include <string.h>

static size_t until_failure; /* 0: never */

struct buf *__real_buf_new(size_t cap);
struct buf *__wrap_buf_new(size_t cap);

struct buf *__wrap_buf_new(size_t cap)
{
    if (until_failure > 0 && --until_failure == 0)
        return NULL;
    return __real_buf_new(cap);
}

static struct pair pair;

/* Takes one step of a connection. Return: its error. */
static enum tcns_err hand_over(struct session *from, struct session *to)
{
    struct buf *b = NULL;
    struct session_rx rx = {0};
    size_t used;
    enum tcns_err e = session_output(from, &b);

    if (e == TCNS_OK && b)
        e = session_open(to, buf_data(b), b->len, &used, &rx);
    buf_unref(b);
    buf_unref(rx.data);
    return e;
}

static enum tcns_err send_text(struct session *from, struct session *to)
{
    struct iovec iov = {(void *)(uintptr_t) "text", 4};
    struct buf *b = NULL;
    struct session_rx rx = {0};
    size_t used;
    enum tcns_err e = session_seal(from, &iov, 1, 0, 0, &b);

    if (e == TCNS_ERR_NO_MEMORY) /* nothing happened: once more */
        e = session_seal(from, &iov, 1, 0, 0, &b);
    if (e == TCNS_OK)
        e = session_open(to, buf_data(b), b->len, &used, &rx);
    buf_unref(b);
    buf_unref(rx.data);
    return e;
}

static enum tcns_err run(void)
{
    enum tcns_err e;

    pair_new_sessions(&pair);
    assert_int_equal(session_connect(pair.client, pair.syn, &pair.syn_len), TCNS_OK);
    assert_int_equal(
        session_accept(pair.server, pair.syn, pair.syn_len, pair.synack, &pair.synack_len),
        TCNS_OK);
    e = session_connect_synack(pair.client, pair.synack, pair.synack_len);
    if (e == TCNS_OK)
        e = session_accept_ack(pair.server, eno_ack_option, ENO_ACK_OPTION_LEN);
    if (e == TCNS_OK)
        e = hand_over(pair.client, pair.server);
    if (e == TCNS_OK)
        e = hand_over(pair.server, pair.client);
    if (e == TCNS_OK)
        e = send_text(pair.client, pair.server);
    if (e == TCNS_OK)
        e = session_rekey(pair.server);
    if (e == TCNS_OK)
        e = hand_over(pair.server, pair.client);
    if (e == TCNS_OK)
        e = hand_over(pair.client, pair.server);
    return e;
}

static void test_every_buffer_fails_once(void **state)
{
    size_t failed_cnt = 0;
    enum tcns_err e;

    pair_init(&pair);
    for (size_t n = 1;; n++) {
        until_failure = n;
        e = run();
        if (until_failure > 0)
            break; /* fewer than n buffers are needed */
        assert_true(e == TCNS_OK || e == TCNS_ERR_NO_MEMORY);
        failed_cnt += e != TCNS_OK;
        pair_done(&pair);
        assert_int_equal(buf_total(), 0);
    }
    until_failure = 0;
    assert_int_equal(e, TCNS_OK);
    assert_in_range(failed_cnt, 5, 50);
    pair_done(&pair);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_buffer_fails_once),
    };

    return cmocka_run_group_tests_name("tcpcrypt/memory", tests, NULL, NULL);
}
