/* SPDX-License-Identifier: BSD-3-Clause
 * Error codes: classes, names, texts.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <string.h>

#include "base/err.h"

static const struct {
    enum tcns_err err;
    enum err_class class;
} all[] = {
#define X(name, class, num, text) {TCNS_ERR_##name, ERR_CLASS_##class},
    TCNS_ERR_LIST(X)
#undef X
};
#define ALL_CNT (sizeof(all) / sizeof(*all))

static void test_class(void **state)
{
    assert_int_equal(TCNS_OK, 0);
    for (size_t i = 0; i < ALL_CNT; i++)
        assert_int_equal(err_class(all[i].err), all[i].class);
}

static void test_numbers_are_unique(void **state)
{
    for (size_t i = 0; i < ALL_CNT; i++) {
        for (size_t j = 0; j < i; j++)
            assert_int_not_equal(all[i].err, all[j].err);
    }
}

static void test_names_are_unique(void **state)
{
    char names[ALL_CNT][64];

    for (size_t i = 0; i < ALL_CNT; i++) {
        const char *name = err_name(all[i].err);
        assert_in_range(strlen(name), 2, sizeof(names[i]) - 1);
        assert_int_equal(strspn(name, "abcdefghijklmnopqrstuvwxyz-"), strlen(name));
        strcpy(names[i], name);
        for (size_t j = 0; j < i; j++)
            assert_string_not_equal(names[i], names[j]);
    }
}

static void test_texts(void **state)
{
    for (size_t i = 0; i < ALL_CNT; i++) {
        const char *text = err_text(all[i].err);
        assert_true(strlen(text) > 5);
        assert_true(text[strlen(text) - 1] != '.');
        for (size_t j = 0; j < i; j++)
            assert_string_not_equal(text, err_text(all[j].err));
    }
}

/* Two names in one log line are both right. */
static void test_two_names_at_once(void **state)
{
    const char *a = err_name(TCNS_ERR_FRAME_AUTH), *b = err_name(TCNS_ERR_NO_MEMORY);

    assert_string_equal(a, "frame-auth");
    assert_string_equal(b, "no-memory");
}

static void test_unknown(void **state)
{
    assert_string_equal(err_name((enum tcns_err)0x7fff), "unknown");
    assert_string_equal(err_text((enum tcns_err)0x7fff), "unknown error");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_class),
        cmocka_unit_test(test_numbers_are_unique),
        cmocka_unit_test(test_names_are_unique),
        cmocka_unit_test(test_texts),
        cmocka_unit_test(test_two_names_at_once),
        cmocka_unit_test(test_unknown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
