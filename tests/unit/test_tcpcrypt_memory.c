/* SPDX-License-Identifier: BSD-3-Clause
 * Out of memory: the nth buffer cannot be had, for every n. And what is given back holds
 * no secret. Linked with --wrap=buf_new and --wrap=free.
 */
#include "tcpcrypt_pair.h"

#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#include "tcpcrypt/resume.h"

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

/* --- What is given back -------------------------------------------------------------- */

static const char secret_text[] = "text that nobody may find";
static const void *watched; /* must be all zero when it is freed */
static size_t watched_cnt;
static bool seeks_text; /* no freed block may hold secret_text */
static size_t bad_cnt;

void __real_free(void *p);
void __wrap_free(void *p);

/* malloc_usable_size() counts up to this many bytes that were never asked for. */
#define SLACK_MAX_LEN 24

static bool is_zero(const uint8_t *p, size_t len)
{
    for (size_t i = 0; i + SLACK_MAX_LEN < len; i++)
        if (p[i] != 0)
            return false;
    return true;
}

void __wrap_free(void *p)
{
    if (p && p == watched) {
        watched_cnt++;
        bad_cnt += !is_zero(p, malloc_usable_size(p));
        watched = NULL;
    }
    if (p && seeks_text && malloc_usable_size(p) >= sizeof(secret_text) - 1)
        bad_cnt += memmem(p, malloc_usable_size(p), secret_text, 12) != NULL;
    __real_free(p);
}

static void free_watched(struct session **s)
{
    watched = *s;
    watched_cnt = bad_cnt = 0;
    session_free(*s);
    *s = NULL;
    assert_int_equal(watched_cnt, 1);
    assert_int_equal(bad_cnt, 0);
}

/* Keys, secrets, ids: nothing of a session is left, whatever it has come to. */
static void test_freed_sessions_are_wiped(void **state)
{
    struct wire w = {.len = 0};

    pair_init(&pair);
    pair_new_sessions(&pair);
    pair_options(&pair); /* host A holds a private key */
    free_watched(&pair.client);
    free_watched(&pair.server);
    pair_open(&pair);
    pair_check_data(pair.client, pair.server, "data");
    assert_int_equal(session_rekey(pair.client), TCNS_OK);
    pair_output(pair.client, &w);
    free_watched(&pair.client);
    free_watched(&pair.server);
    assert_int_equal(buf_total(), 0);
}

/* One that holds a secret of the cache, and ends before it is used. */
static void test_freed_proposals_are_wiped(void **state)
{
    static const struct resume_peer peer = {.len = 1, .host_len = 1, .name = "p"};
    struct resume_secret secret = {.tep = TEP_ECDHE_CURVE25519, .aead = AEAD_AES_128_GCM};

    memset(secret.ss, 0x5e, sizeof(secret.ss));
    pair_init(&pair);
    pair_add_caches(&pair, 1);
    resume_put(pair.client_cfg.cache, &secret, &peer, true);
    secret.original_role = SESSION_ROLE_B;
    resume_put(pair.server_cfg.cache, &secret, &peer, false);
    pair_new_sessions(&pair);
    session_set_peer(pair.client, peer.name, peer.len, peer.host_len);
    assert_int_equal(session_connect(pair.client, pair.syn, &pair.syn_len), TCNS_OK);
    assert_int_equal(
        session_accept(pair.server, pair.syn, pair.syn_len, pair.synack, &pair.synack_len),
        TCNS_OK);
    assert_true(pair.synack_len > 4); /* it was found */
    free_watched(&pair.client);
    free_watched(&pair.server);
    pair_free_caches(&pair);
}

/* What was decrypted and is not authentic, or not whole yet, does not stay in a buffer
 * that is given back. */
static void test_refused_plaintext_is_wiped(void **state)
{
    struct wire w = {.len = 0};
    struct received r = {.len = 0};

    pair_init(&pair);
    pair_open(&pair);
    pair_seal(pair.client, secret_text, sizeof(secret_text), 0, &w);
    w.bytes[w.len - 1] ^= 1;
    bad_cnt = 0;
    seeks_text = true;
    assert_int_equal(pair_feed(pair.server, &w, SIZE_MAX, &r), TCNS_ERR_FRAME_AUTH);
    seeks_text = false;
    pair_open(&pair);
    w.len = 0;
    pair_seal(pair.client, secret_text, sizeof(secret_text), 0, &w);
    w.len -= 20; /* the tag is missing, and four bytes */
    assert_int_equal(pair_feed(pair.server, &w, SIZE_MAX, &r), TCNS_ERR_AGAIN);
    seeks_text = true;
    pair_done(&pair);
    seeks_text = false;
    assert_int_equal(bad_cnt, 0);
    assert_int_equal(r.len, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_buffer_fails_once),
        cmocka_unit_test(test_freed_sessions_are_wiped),
        cmocka_unit_test(test_freed_proposals_are_wiped),
        cmocka_unit_test(test_refused_plaintext_is_wiped),
    };

    return cmocka_run_group_tests_name("tcpcrypt/memory", tests, NULL, NULL);
}
