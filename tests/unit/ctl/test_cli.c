/* SPDX-License-Identifier: BSD-3-Clause
 * The table of verbs, and exit codes of the command line.
 */
#include "ctl/cli/cli.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define ARGS_MAX 8

/* Return: exit code of "tcpcrypt-ns words...", its output thrown away. */
static int run(const char *const *words)
{
    const char *argv[ARGS_MAX + 2] = {"tcpcrypt-ns"};
    int argc = 1, status;

    while (words[argc - 1]) {
        argv[argc] = words[argc - 1];
        argc++;
    }
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        if (!freopen("/dev/null", "w", stdout) || !freopen("/dev/null", "w", stderr))
            _exit(99);
        int code = cli_main(argc, (char **)argv);
        fflush(NULL);
        _exit(code);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

#define RUN(...) run((const char *const[]){__VA_ARGS__, NULL})

static void test_help_and_version(void **state)
{
    assert_int_equal(RUN("--help"), EXIT_OK);
    assert_int_equal(RUN("-h"), EXIT_OK);
    assert_int_equal(RUN("help"), EXIT_OK);
    assert_int_equal(RUN("version"), EXIT_OK);
    assert_int_equal(RUN("--version"), EXIT_OK);
    for (const struct cli_verb *v = cli_verbs; v->name; v++) {
        assert_int_equal(RUN(v->name, "--help"), EXIT_OK);
        assert_int_equal(RUN("help", v->name), EXIT_OK);
    }
}

static void test_usage_errors(void **state)
{
    assert_int_equal(run((const char *const[]){NULL}), EXIT_USAGE);
    assert_int_equal(RUN("nonsense"), EXIT_USAGE);
    assert_int_equal(RUN("up"), EXIT_USAGE);
    assert_int_equal(RUN("up", "--netns"), EXIT_USAGE);
    assert_int_equal(RUN("up", "--nonsense"), EXIT_USAGE);
    assert_int_equal(RUN("up", "-x"), EXIT_USAGE);
    assert_int_equal(RUN("up", "operand"), EXIT_USAGE);
    assert_int_equal(RUN("up", "--netns=self", "--policy=never"), EXIT_USAGE);
    assert_int_equal(RUN("up", "--netns=self", "--bypass=http"), EXIT_USAGE);
    assert_int_equal(RUN("up", "--netns=self", "--ready-fd=1x"), EXIT_USAGE);
    assert_int_equal(RUN("up", "--netns=self", "--ready-fd=999"), EXIT_USAGE);
    assert_int_equal(RUN("down"), EXIT_USAGE);
    assert_int_equal(RUN("down", "--json"), EXIT_USAGE);
    assert_int_equal(RUN("version", "now"), EXIT_USAGE);
}

/* What up and exec share; neither gets as far as to do anything. */
static void test_attach_options(void **state)
{
    static const char *const bad[] = {
        "--policy=never",
        "--bypass=http",
        "--bypass=",
        "--tep=",
        "--tep=X25519",
        "--tep=P-256,P-256",
        "--aead=AES",
        "--aead=AES-128-GCM,",
        "--aead=P-256",
        "--no-resume=1",
        "--keepalive=0",
        "--keepalive=-1",
        "--keepalive=1h",
        "--keepalive=86401",
        "--rekey-bytes=0",
        "--rekey-bytes=1e9",
        "--app-aware=yes",
        "--app-aware=",
        "--rekey-bytes=99999999999999999999",
        "--fallback-time=0",
        "--fallback-time=86401",
    };

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(RUN("up", "--netns=self", bad[i]), EXIT_USAGE);
        assert_int_equal(RUN("exec", bad[i], "--", "true"), 125);
    }
    assert_int_equal(RUN("up", "--tep=P-521,curve448", "--aead=chacha20-poly1305", "--no-resume",
                         "--keepalive=86400", "--app-aware=mandatory", "--fallback-time=1",
                         "--netns=tcns-test-none"),
                     EXIT_NEGATIVE);
}

static void test_no_such_namespace(void **state)
{
    assert_int_equal(RUN("up", "--netns", "tcns-test-none"), EXIT_NEGATIVE);
    assert_int_equal(RUN("down", "--netns", "tcns-test-none"), EXIT_NEGATIVE);
    assert_int_equal(RUN("up", "--netns", "/dev/null"), EXIT_NEGATIVE);
    assert_int_equal(RUN("up", "--netns", ""), EXIT_NEGATIVE);
}

/* exec has exit codes of its own: 125 is our failure. */
static void test_exec_usage(void **state)
{
    assert_int_equal(RUN("exec"), 125);
    assert_int_equal(RUN("exec", "--nonsense"), 125);
    assert_int_equal(RUN("exec", "--policy"), 125);
}

static void check_option(const struct cli_verb *v, const struct cli_option *o)
{
    assert_non_null(o->name);
    assert_non_null(o->help);
    assert_int_not_equal(o->id, OPT_HELP);
    assert_null(strchr(o->name, '_'));
    for (const struct cli_option *p = v->options; p != o; p++) {
        assert_int_not_equal(p->id, o->id);
        assert_string_not_equal(p->name, o->name);
    }
}

static void test_table(void **state)
{
    for (const struct cli_verb *v = cli_verbs; v->name; v++) {
        assert_non_null(v->summary);
        assert_non_null(v->main);
        assert_ptr_equal(cli_verb_find(v->name), v);
        for (const struct cli_option *o = v->options; o && o->id != OPT_END; o++) {
            check_option(v, o);
            assert_true(o - v->options < CLI_OPTIONS_MAX_CNT);
        }
    }
    assert_null(cli_verb_find(""));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_help_and_version), cmocka_unit_test(test_usage_errors),
        cmocka_unit_test(test_attach_options),   cmocka_unit_test(test_no_such_namespace),
        cmocka_unit_test(test_exec_usage),       cmocka_unit_test(test_table),
    };

    return cmocka_run_group_tests_name("ctl/cli", tests, NULL, NULL);
}
