/* SPDX-License-Identifier: BSD-3-Clause
 * Lines of the key log.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <arpa/inet.h>
#include <string.h>

#include "tunnel/keylog.h"

#define HEX33 "2300000000000000000000000000000000000000000000000000000000000000ff"
#define HEX32 "ab00000000000000000000000000000000000000000000000000000000000000"
#define HEX12 "cd0000000000000000000000"

static uint8_t id[SESSION_ID_LEN] = {[0] = 0x23, [SESSION_ID_LEN - 1] = 0xff};
static uint8_t bytes[SESSION_KEY_MAX_LEN] = {0xab}, nonce[SESSION_KEY_NONCE_LEN] = {0xcd};

static void check(const struct tuple *t, const struct session_key *key, const char *want)
{
    char line[KEYLOG_LINE_LEN];

    assert_int_equal(keylog_line(t, key, line), strlen(want));
    assert_string_equal(line, want);
}

static void test_lines(void **state)
{
    struct tuple t = {.local_port = 40000, .peer_port = 7};
    struct session_key key = {.seals = true,
                              .aead = AEAD_AES_128_GCM,
                              .key_len = 16,
                              .id = id,
                              .key = bytes,
                              .nonce = nonce};

    t.local = addr_from_v4((uint8_t[]){192, 0, 2, 1});
    t.peer = addr_from_v4((uint8_t[]){192, 0, 2, 2});
    check(&t, &key,
          "TCPCRYPT_KEY " HEX33 " 192.0.2.1 40000 192.0.2.2 7 0 0001 "
          "ab000000000000000000000000000000 " HEX12 "\n");
    key.seals = false;
    key.generation = 4000000000u;
    key.aead = AEAD_CHACHA20_POLY1305;
    key.key_len = 32;
    check(&t, &key,
          "TCPCRYPT_KEY " HEX33 " 192.0.2.2 7 192.0.2.1 40000 4000000000 0010 " HEX32 " " HEX12
          "\n");
}

/* Nothing that can be is longer than the line's buffer. */
static void test_longest(void **state)
{
    struct tuple t = {.local_port = 65535, .peer_port = 65535};
    struct session_key key = {.generation = UINT32_MAX,
                              .aead = 0xffff,
                              .key_len = 32,
                              .id = id,
                              .key = bytes,
                              .nonce = nonce};
    char line[KEYLOG_LINE_LEN];

    memset(&t.local, 0xff, sizeof(t.local));
    memset(&t.peer, 0xff, sizeof(t.peer));
    size_t len = keylog_line(&t, &key, line);
    assert_true(len < KEYLOG_LINE_LEN);
    assert_int_equal(line[len - 1], '\n');
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines),
        cmocka_unit_test(test_longest),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
