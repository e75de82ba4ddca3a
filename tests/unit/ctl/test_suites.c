/* SPDX-License-Identifier: BSD-3-Clause
 * Lists of key exchanges and ciphers.
 */
#include "ctl/conf/suites.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static void test_teps(void **state)
{
    struct session_config cfg = session_config_default;
    const char *bad;
    size_t len;

    assert_int_equal(suites_parse_teps("P-521,curve25519", &cfg, &bad, &len), 0);
    assert_int_equal(cfg.tep_cnt, 2);
    assert_int_equal(cfg.teps[0], TEP_ECDHE_P521);
    assert_int_equal(cfg.teps[1], TEP_ECDHE_CURVE25519);
    assert_int_equal(suites_parse_teps("P-256", &cfg, &bad, &len), 0);
    assert_int_equal(cfg.tep_cnt, 1);
    assert_int_equal(cfg.teps[0], TEP_ECDHE_P256);
    assert_int_equal(suites_parse_teps("P-256,P-521,Curve448,Curve25519", &cfg, &bad, &len), 0);
    assert_int_equal(cfg.tep_cnt, 4);
}

static void test_aeads(void **state)
{
    struct session_config cfg = session_config_default;
    const char *bad;
    size_t len;

    assert_int_equal(
        suites_parse_aeads("ChaCha20-Poly1305,AES-256-GCM,AES-128-GCM", &cfg, &bad, &len), 0);
    assert_int_equal(cfg.aead_cnt, 3);
    assert_int_equal(cfg.aeads[0], AEAD_CHACHA20_POLY1305);
    assert_int_equal(cfg.aeads[2], AEAD_AES_128_GCM);
    assert_int_equal(suites_parse_aeads("aes-256-gcm", &cfg, &bad, &len), 0);
    assert_int_equal(cfg.aead_cnt, 1);
    assert_int_equal(cfg.aeads[0], AEAD_AES_256_GCM);
}

/* The word that is wrong is named, and nothing is written. */
static void test_wrong_lists(void **state)
{
    static const struct {
        const char *text, *bad;
        int err;
    } cases[] = {
        {"", "", -EINVAL},
        {",", "", -EINVAL},
        {"P-256,", "", -EINVAL},
        {"P-256,,P-521", "", -EINVAL},
        {"P256", "P256", -EINVAL},
        {"P-25", "P-25", -EINVAL},
        {"P-2566", "P-2566", -EINVAL},
        {"AES-128-GCM", "AES-128-GCM", -EINVAL},
        {"P-521,x448,P-256", "x448", -EINVAL},
        {"P-521,p-521", "p-521", -EEXIST},
        {"P-256,P-521,Curve448,Curve25519,P-256", "P-256", -EEXIST},
    };
    struct session_config cfg;
    const char *bad;
    size_t len;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        cfg = session_config_default;
        assert_int_equal(suites_parse_teps(cases[i].text, &cfg, &bad, &len), cases[i].err);
        assert_int_equal(len, strlen(cases[i].bad));
        assert_memory_equal(bad, cases[i].bad, len);
        assert_memory_equal(&cfg, &session_config_default, sizeof(cfg));
    }
    assert_int_equal(suites_parse_aeads("P-256", &cfg, &bad, &len), -EINVAL);
    assert_memory_equal(&cfg, &session_config_default, sizeof(cfg));
}

/* What the default offers has names, all of them different, and they read back. */
static void test_names(void **state)
{
    struct session_config cfg = session_config_default;
    const char *bad;
    size_t len;

    for (size_t i = 0; i < session_config_default.tep_cnt; i++) {
        uint8_t tep = session_config_default.teps[i];
        assert_non_null(strstr(SUITES_TEP_NAMES, suites_tep_name(tep)));
        assert_int_equal(suites_parse_teps(suites_tep_name(tep), &cfg, &bad, &len), 0);
        assert_int_equal(cfg.teps[0], tep);
    }
    for (size_t i = 0; i < session_config_default.aead_cnt; i++) {
        uint16_t aead = session_config_default.aeads[i];
        assert_non_null(strstr(SUITES_AEAD_NAMES, suites_aead_name(aead)));
        assert_int_equal(suites_parse_aeads(suites_aead_name(aead), &cfg, &bad, &len), 0);
        assert_int_equal(cfg.aeads[0], aead);
    }
    assert_string_equal(suites_tep_name(0), "unknown");
    assert_string_equal(suites_aead_name(0), "unknown");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_teps),
        cmocka_unit_test(test_aeads),
        cmocka_unit_test(test_wrong_lists),
        cmocka_unit_test(test_names),
    };

    return cmocka_run_group_tests_name("ctl/suites", tests, NULL, NULL);
}
