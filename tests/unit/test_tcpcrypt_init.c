/* SPDX-License-Identifier: BSD-3-Clause
 * Init1 and Init2 on the wire, and the choice of the AEAD.
 */
#include "tcpcrypt/init.h"
#include "base/wire.h"
#include "vectors.h"

#include <string.h>

static void check_ciphers(json_t *c, const struct init_msg *m)
{
    uint16_t list[INIT_CIPHERS_MAX_CNT];
    size_t cnt = vec_hex_ints(c, "sym_cipher_list", list, INIT_CIPHERS_MAX_CNT);

    assert_int_equal(m->cipher_cnt, cnt);
    for (size_t i = 0; i < cnt; i++)
        assert_int_equal(get_be16(m->ciphers + 2 * i), list[i]);
}

/* RFC 8548 4.1; interpretation I11 */
static void check_message(json_t *c)
{
    bool is_init1 = vec_is(c, "kind", "Init1");
    struct bytes msg = vec_hex(c, "message");
    uint8_t tep = (uint8_t)vec_hex_int(c, "tep");
    struct init_msg m;
    enum tcns_err e =
        init_parse(is_init1 ? SESSION_ROLE_A : SESSION_ROLE_B, tep, msg.p, msg.len, &m);

    if (!vec_bool(c, "accepted")) {
        assert_int_equal(err_class(e), ERR_CLASS_PEER);
        return;
    }
    assert_int_equal(e, TCNS_OK);
    assert_bytes(vec_hex(c, "nonce"), m.nonce, KEYS_NONCE_LEN);
    assert_bytes(vec_hex(c, "public"), m.public, m.public_len);
    assert_bytes(vec_hex(c, "ignored"), m.public + m.public_len,
                 (size_t)(msg.p + msg.len - (m.public + m.public_len)));
    if (is_init1)
        check_ciphers(c, &m);
    else
        assert_int_equal(m.cipher, vec_hex_int(c, "sym_cipher"));
}

/* RFC 8548 3.3, host B */
static void check_selection(json_t *c)
{
    uint16_t list[INIT_CIPHERS_MAX_CNT], preference[3], got;
    uint8_t wire[2 * INIT_CIPHERS_MAX_CNT];
    size_t list_cnt = vec_hex_ints(c, "sym_cipher_list", list, INIT_CIPHERS_MAX_CNT);
    size_t preference_cnt = vec_hex_ints(c, "preference", preference, 3);
    enum tcns_err e;

    for (size_t i = 0; i < list_cnt; i++)
        put_be16(wire + 2 * i, list[i]);
    e = init_select(wire, list_cnt, preference, preference_cnt, &got);
    if (vec_is(c, "outcome", "ok")) {
        assert_int_equal(e, TCNS_OK);
        assert_int_equal(got, vec_hex_int(c, "sym_cipher"));
    } else {
        assert_int_equal(e, TCNS_ERR_INIT_CIPHER);
    }
}

/* RFC 8548 3.3, host A */
static void check_selected(json_t *c)
{
    uint16_t list[3];
    size_t cnt = vec_hex_ints(c, "sym_cipher_list", list, 3);
    enum tcns_err e = init_check_selected(list, cnt, vec_hex_int(c, "sym_cipher"));

    assert_int_equal(e, vec_is(c, "outcome", "ok") ? TCNS_OK : TCNS_ERR_INIT_CIPHER);
}

static void test_messages(void **state)
{
    vectors_run("init_messages", check_message);
}

static void test_selection(void **state)
{
    vectors_run("cipher_selection", check_selection);
}

static void test_selected(void **state)
{
    vectors_run("init2_selection", check_selected);
}

static void test_header(void **state)
{
    uint8_t header[INIT_HEADER_LEN];
    size_t len = 0;

    put_be32(header, INIT1_MAGIC);
    put_be32(header + 4, 4096); /* interpretation I11: at least that much */
    for (size_t n = 0; n < sizeof(header); n++)
        assert_int_equal(init_check_header(SESSION_ROLE_A, header, n, &len), TCNS_ERR_AGAIN);
    assert_int_equal(init_check_header(SESSION_ROLE_A, header, sizeof(header), &len), TCNS_OK);
    assert_int_equal(len, 4096);

    put_be32(header + 4, INIT_RECV_MAX_LEN + 1);
    assert_int_equal(init_check_header(SESSION_ROLE_A, header, sizeof(header), &len),
                     TCNS_ERR_INIT_LENGTH);
    put_be32(header + 4, UINT32_MAX);
    assert_int_equal(init_check_header(SESSION_ROLE_A, header, sizeof(header), &len),
                     TCNS_ERR_INIT_LENGTH);
    /* a peer that speaks something else is found out at its first byte */
    assert_int_equal(init_check_header(SESSION_ROLE_A, (const uint8_t *)"G", 1, &len),
                     TCNS_ERR_INIT_MAGIC);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_messages, vectors_blame),
        cmocka_unit_test_teardown(test_selection, vectors_blame),
        cmocka_unit_test_teardown(test_selected, vectors_blame),
        cmocka_unit_test(test_header),
    };

    return cmocka_run_group_tests_name("tcpcrypt/init", tests, vectors_setup, vectors_teardown);
}
