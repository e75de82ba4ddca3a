/* SPDX-License-Identifier: BSD-3-Clause
 * Templates: values, escaping, sections, and marks that are none.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ctl/http/template.h"

static void expect(const char *template, json_t *values, const char *want)
{
    size_t len;
    char *text = template_fill(template, values, &len);

    assert_non_null(text);
    assert_string_equal(text, want);
    assert_int_equal(len, strlen(want));
    free(text);
    json_decref(values);
}

static void test_values(void **state)
{
    expect("a {{x}} b {{y_z}}.", json_pack("{s:s, s:s}", "x", "1", "y_z", "2"), "a 1 b 2.");
    expect("{{nobody}}", json_object(), "");
    expect("", json_object(), "");
}

static void test_escaped(void **state)
{
    expect("{{x}}", json_pack("{s:s}", "x", "<a href=\"b\">&c</a>"),
           "&lt;a href=&quot;b&quot;&gt;&amp;c&lt;/a&gt;");
    expect("{{x}}", json_pack("{s:s}", "x", "{{y}}"), "{{y}}");
    expect("{{x}}", json_pack("{s:[s]}", "x", "<li>"), "<li>");
    expect("{{x}}", json_pack("{s:i}", "x", 5), "");
    expect("{{x}}", json_pack("{s:[]}", "x"), "");
}

static void test_sections(void **state)
{
    const char *t = "a{{?x}} {{x}}{{y}}{{/x}} b";

    expect(t, json_pack("{s:s, s:s}", "x", "1", "y", "2"), "a 12 b");
    expect(t, json_pack("{s:s}", "y", "2"), "a b");
    expect(t, json_pack("{s:s}", "x", ""), "a b");
}

static void test_no_marks(void **state)
{
    expect("{", json_object(), "{");
    expect("a { b } {}", json_object(), "a { b } {}");
    expect("{{", json_object(), "");
    expect("{{X}}", json_object(), "X}}");
    expect("{{x}", json_pack("{s:s}", "x", "1"), "x}");
    expect("{{?x", json_object(), "?x");
    expect("{{aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa}}", json_object(),
           "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa}}");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_escaped),
        cmocka_unit_test(test_sections),
        cmocka_unit_test(test_no_marks),
    };

    return cmocka_run_group_tests_name("template", tests, NULL, NULL);
}
