/* SPDX-License-Identifier: BSD-3-Clause
 * The CNI plugin's names and configuration.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "ctl/cni/cni.h"
#include "ctl/cni/cni_conf.h"
#include "ctl/cni/cni_state.h"

/* Return: the arguments that a configuration becomes, with spaces between, or the error. */
static const char *options(const char *json)
{
    static char out[4096];
    struct cni_args a = {.argc = 0};
    struct cni_error e;

    json_t *conf = json_loads(json, 0, NULL);
    assert_non_null(conf);
    out[0] = '\0';
    if (cni_conf_options(conf, &a, &e))
        snprintf(out, sizeof(out), "%d %s", (int)e.code, e.msg);
    else
        for (int i = 0; i < a.argc; i++)
            snprintf(out + strlen(out), sizeof(out) - strlen(out), "%s%s", i ? " " : "", a.argv[i]);
    assert_true(a.argc <= CNI_ARGS_MAX_CNT && !a.argv[a.argc]);
    cni_args_done(&a);
    json_decref(conf);
    return out;
}

static void test_values(void **state)
{
    assert_string_equal(options("{}"), "");
    assert_string_equal(options("{\"policy\": \"require\"}"), "--policy=require");
    assert_string_equal(options("{\"keepalive\": 90}"), "--keepalive=90");
    assert_string_equal(options("{\"log\": \"--json\"}"), "--log=--json");
    assert_string_equal(options("{\"no-resume\": true, \"verbose\": false}"), "--no-resume");
}

/* One argument where the option takes a list, else the option again. */
static void test_lists(void **state)
{
    assert_string_equal(options("{\"bypass\": [22, \"80-90\"]}"), "--bypass=22,80-90");
    assert_string_equal(options("{\"aead\": [\"AES-256-GCM\"]}"), "--aead=AES-256-GCM");
    assert_string_equal(options("{\"uplink\": [\"eth0\", \"eth1\"]}"),
                        "--uplink=eth0 --uplink=eth1");
    assert_string_equal(options("{\"uplink\": []}"), "");
}

static void test_what_the_spec_knows(void **state)
{
    assert_string_equal(options("{\"cniVersion\": \"1.0.0\", \"name\": \"n\", \"type\": \"t\","
                                " \"args\": {}, \"ipam\": {}, \"dns\": {}, \"prevResult\": 1,"
                                " \"capabilities\": {}, \"runtimeConfig\": {}, \"ipMasq\": true,"
                                " \"cni.dev/valid-attachments\": []}"),
                        "");
}

static void test_unsupported(void **state)
{
    static const char *const bad[] = {
        "{\"netns\": \"x\"}",       "{\"foreground\": true}",   "{\"ready-fd\": 1}",
        "{\"follow-netns\": true}", "{\"help\": true}",         "{\"polcy\": \"require\"}",
        "{\"policy\": {}}",         "{\"policy\": null}",       "{\"policy\": true}",
        "{\"keepalive\": 1.5}",     "{\"no-resume\": \"yes\"}", "{\"no-resume\": 1}",
        "{\"bypass\": [[]]}",       "{\"uplink\": [true]}",     "{\"\": 1}",
    };

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_memory_equal(options(bad[i]), "2 unsupported field", 19);
}

static void test_too_much(void **state)
{
    char json[16384] = "{\"uplink\": [\"a\"";

    for (int i = 1; i <= CNI_ARGS_MAX_CNT; i++)
        strcat(json, ", \"a\"");
    strcat(json, "]}");
    assert_non_null(strstr(options(json), "too many options"));

    strcpy(json, "{\"bypass\": [1");
    for (int i = 0; i < 1000; i++)
        strcat(json, ", 65535");
    strcat(json, "]}");
    assert_non_null(strstr(options(json), "too long"));

    memset(json, 'x', sizeof(json));
    memcpy(json, "{\"log\": \"", 9);
    strcpy(json + CNI_TEXT_LEN + 9, "\"}");
    assert_non_null(strstr(options(json), "unsupported field \"log\""));
}

static void test_names(void **state)
{
    static const char *const words[] = {"a", "0", "net-1_2.3", "Z9"};
    static const char *const no_words[] = {"", "-a", ".", "_a", "a/b", "a:b", "a b", "a\n", "\xc3"};
    static const char *const names[] = {"eth0", "a", "a23456789012345", "e.1", "-", "..."};
    static const char *const no_names[] = {"",    ".",   "..",  "a234567890123456",
                                           "a/b", "a:b", "a b", "a\tb"};

    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
        assert_true(cni_is_word(words[i]));
    for (size_t i = 0; i < sizeof(no_words) / sizeof(no_words[0]); i++)
        assert_false(cni_is_word(no_words[i]));
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        assert_true(cni_is_ifname(names[i]));
    for (size_t i = 0; i < sizeof(no_names) / sizeof(no_names[0]); i++)
        assert_false(cni_is_ifname(no_names[i]));
    assert_false(cni_is_word(NULL));
    assert_false(cni_is_ifname(NULL));
}

static void test_own_name(void **state)
{
    assert_true(cni_is_name("tcpcrypt"));
    assert_true(cni_is_name("/opt/cni/bin/tcpcrypt"));
    assert_false(cni_is_name("tcpcrypt-ns"));
    assert_false(cni_is_name("/opt/tcpcrypt/"));
    assert_false(cni_is_name(""));
    assert_false(cni_is_name(NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_lists),
        cmocka_unit_test(test_what_the_spec_knows),
        cmocka_unit_test(test_unsupported),
        cmocka_unit_test(test_too_much),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_own_name),
    };

    return cmocka_run_group_tests_name("cni", tests, NULL, NULL);
}
