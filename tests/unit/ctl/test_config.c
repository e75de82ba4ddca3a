/* SPDX-License-Identifier: BSD-3-Clause
 * The configuration file: what is read of it, and which line is named when it is wrong.
 */
#include "ctl/conf/config.h"

#include <errno.h>
#include <getopt.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "ctl/cli/cli.h"
#include "ctl/conf/settings.h"
#include "ctl/conf/sources.h"

static struct config parse(const char *text)
{
    char err[CONFIG_ERROR_LEN] = "";
    struct config c = {.items = NULL};
    unsigned line = 0;

    if (config_parse(text, strlen(text), &c, &line, err) != 0)
        fail_msg("line %u: %s", line, err);
    return c;
}

static void expect_item(const struct config *c, size_t i, unsigned line, unsigned rule,
                        const char *key, const char *value)
{
    assert_true(i < c->item_cnt);
    assert_int_equal(c->items[i].line, line);
    assert_int_equal(c->items[i].rule, rule);
    assert_string_equal(c->items[i].key, key);
    assert_string_equal(c->items[i].value, value);
}

static void test_items(void **state)
{
    struct config c = parse("\xef\xbb\xbf# hello\r\n"
                            "\n"
                            "[daemon] ; here\n"
                            "  policy = require ; strict\n"
                            "log: /var/log/a, b # c\n"
                            "bypass = 22 , 443,\n"
                            "    ; between\n"
                            "\t80 ; and so on\n"
                            "rule = off in\n"
                            "rule = off out\n"
                            "[rule  db ]\n"
                            "peer = 10.0.0.0/8,\n"
                            "       2001:db8::/32\n"
                            "[rule]\n"
                            "action=off");

    assert_int_equal(c.item_cnt, 8);
    assert_int_equal(c.rule_cnt, 2);
    expect_item(&c, 0, 4, 0, "policy", "require");
    expect_item(&c, 1, 5, 0, "log", "/var/log/a, b # c");
    expect_item(&c, 2, 6, 0, "bypass", "22,443,80");
    expect_item(&c, 3, 9, 0, "rule", "off in");
    expect_item(&c, 4, 10, 0, "rule", "off out");
    expect_item(&c, 5, 11, 1, "name", "db");
    expect_item(&c, 6, 12, 1, "peer", "10.0.0.0/8,2001:db8::/32");
    expect_item(&c, 7, 15, 2, "action", "off");
    config_done(&c);
    c = parse("");
    assert_int_equal(c.item_cnt, 0);
    config_done(&c);
}

static void check_bad(const char *text, size_t len, unsigned at, const char *because)
{
    char err[CONFIG_ERROR_LEN] = "";
    struct config c = {.items = NULL};
    unsigned line = 0;

    if (config_parse(text, len, &c, &line, err) != -EINVAL)
        fail_msg("taken: %s", text);
    if (line != at || !strstr(err, because))
        fail_msg("%s\nline %u: %s", text, line, err);
    assert_null(c.items);
}

static void test_bad_text(void **state)
{
    static const struct {
        const char *text;
        unsigned line;
        const char *because;
    } bad[] = {
        {"policy = off\n", 1, "policy stands ahead of any section; [daemon] is missing"},
        {"[daemon]\npolicy\n", 2, "neither KEY = VALUE, nor [SECTION], nor a comment"},
        {"[daemon]\npolicy = off\nbypass = none\npolicy = off\n", 4, "policy comes twice"},
        {"[rule a]\naction = off\naction = off\n", 3, "action comes twice"},
        {"[rule a]\nname = b\n", 2, "name comes twice"},
        {"[daemon]\n[rule]\naction=off\n[daemon]\n", 4, "[daemon] comes twice"},
        {"[Daemon]\n", 1, "no such section: [Daemon]; there are [daemon] and [rule NAME]"},
        {"[rules]\n", 1, "no such section: [rules]"},
        {"[daemon\npolicy = off\n", 1, "neither KEY = VALUE, nor [SECTION]"},
        {"[daemon]\npolicy = off\n  [rule a]\n", 3, "head of a section must not be indented"},
        {"[rule]\n\n[rule b]\naction = off\n", 1, "the rule has no keys"},
        {"[daemon]\n[rule]\n", 2, "the rule has no keys"},
        {"[daemon]\nnonsense\nmore nonsense\npolicy = off\npolicy = off\n", 2, "neither"},
    };
    char *text = calloc(1, 4096);

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        check_bad(bad[i].text, strlen(bad[i].text), bad[i].line, bad[i].because);
    check_bad("[daemon]\nlog = a\0b\n", 19, 2, "there is a zero byte");
    strcpy(text, "[daemon]\n# ");
    memset(text + strlen(text), 'x', 400); /* comments may be long */
    strcat(text, "\nbypass = ");
    memset(text + strlen(text), '1', CONFIG_LINE_LEN);
    check_bad(text, strlen(text), 3, "the line has more than 198 characters");
    text[strlen(text) - 9] = '\0'; /* exactly as many as fit */
    struct config c = parse(text);
    assert_int_equal(strlen(c.items[0].value), CONFIG_LINE_LEN - 9);
    config_done(&c);
    free(text);
}

static void test_rules(void **state)
{
    struct config c = parse("[rule a]\naction = require\ndirection = in\nport = 80\n"
                            "[rule b]\nport = 81\n");
    struct policy_rule r;
    char err[CONFIG_ERROR_LEN] = "";
    unsigned line = 0;
    size_t at = 0;

    assert_int_equal(config_rule(&c, &at, &r, &line, err), 0);
    assert_int_equal(at, 4);
    char *text = ruletext_str(&r);
    assert_string_equal(text, "require in name=a port=80");
    free(text);
    assert_int_equal(config_rule(&c, &at, &r, &line, err), -EINVAL);
    assert_int_equal(line, 6);
    assert_non_null(strstr(err, "needs an action"));
    config_done(&c);
}

/* --- With the options --------------------------------------------------------------- */

static char file_path[] = "/tmp/tcns-test-config-XXXXXX";

static void write_file(const char *text)
{
    FILE *f = fopen(file_path, "w");

    assert_non_null(f);
    fputs(text, f);
    assert_int_equal(fclose(f), 0);
}

static int make_file(void **state)
{
    strcpy(file_path + strlen(file_path) - 6, "XXXXXX");
    int fd = mkstemp(file_path);

    return fd < 0 ? -1 : close(fd);
}

static int remove_file(void **state)
{
    return unlink(file_path);
}

struct seen {
    struct daemon_options opts;
    struct sources sources;
    char text[400]; /* what was given to read(), in order */
};

static void read_one(void *arg, int id)
{
    struct seen *s = arg;
    char err[SETTINGS_ERROR_LEN];
    const struct cli_option *o = s->sources.verb->options;

    while (o->id != id)
        o++;
    if (settings_has(o->name))
        assert_int_equal(settings_set(&s->opts, o->name, optarg ? optarg : "yes", err), 0);
    size_t len = strlen(s->text);
    snprintf(s->text + len, sizeof(s->text) - len, "%s=%s ", o->name, optarg ? optarg : "");
}

static void read_with(struct seen *s, const char *verb, const char *const *words)
{
    char *argv[12] = {(char *)(uintptr_t)verb};
    int argc = 1;

    while (words[argc - 1]) {
        argv[argc] = (char *)(uintptr_t)words[argc - 1];
        argc++;
    }
    *s = (struct seen){.text = ""};
    daemon_options_init(&s->opts);
    optind = 0; /* getopt(3) starts over */
    sources_read(&s->sources, cli_verb_find(verb), argc, argv, read_one, s, &s->opts);
}

static void seen_done(struct seen *s)
{
    settings_done(&s->opts);
    config_done(&s->sources.config);
    free(s->sources.flags);
    free(s->sources.path);
}

static void expect_rule(const struct daemon_options *o, size_t i, const char *expected)
{
    assert_true(i < o->rule_cnt);
    char *text = ruletext_str(&o->rules[i]);

    assert_string_equal(text, expected);
    free(text);
}

static void test_command_line_wins(void **state)
{
    struct seen s;

    write_file("[daemon]\npolicy = require\nnetns = x\nverbose = 2\nforeground = no\n"
               "rule = off in\nkeepalive = 5\n[rule late]\naction = off\ndirection = out\n");
    read_with(&s, "up",
              (const char *const[]){"--policy", "off", "--config", file_path, "--rule",
                                    "prefer name=first", NULL});
    assert_string_equal(s.text, "netns=x verbose= verbose= keepalive=5 policy=off "
                                "rule=prefer name=first ");
    assert_int_equal(s.opts.policy, TUNNEL_POLICY_OFF);
    assert_int_equal(s.opts.keepalive_s, 5);
    assert_int_equal(s.opts.rule_cnt, 3);
    expect_rule(&s.opts, 0, "prefer name=first");
    expect_rule(&s.opts, 1, "off in");
    expect_rule(&s.opts, 2, "off out name=late");
    assert_ptr_equal(s.opts.sources, &s.sources);
    seen_done(&s);
}

/* What bypasses comes first, whoever gives it; within each of the two the order must be so. */
static void test_bypass_of_both(void **state)
{
    struct seen s;

    write_file("[rule a]\naction = bypass\nport = 1\n[rule b]\naction = off\n");
    read_with(&s, "up",
              (const char *const[]){"--rule", "bypass port=2", "--rule", "prefer in", "--config",
                                    file_path, NULL});
    assert_int_equal(s.opts.rule_cnt, 4);
    expect_rule(&s.opts, 0, "bypass port=2");
    expect_rule(&s.opts, 1, "bypass name=a port=1");
    expect_rule(&s.opts, 2, "prefer in");
    expect_rule(&s.opts, 3, "off name=b");
    seen_done(&s);
}

static void test_exec_skips_what_is_of_up(void **state)
{
    struct seen s;

    write_file("[daemon]\nnetns = x\npolicy = off\n");
    read_with(&s, "exec", (const char *const[]){"--config", file_path, "--", "true", NULL});
    assert_string_equal(s.text, "policy=off ");
    seen_done(&s);
}

/* Return: what "tcpcrypt-ns up --config FILE" says on standard error; its exit code. */
static int refuse(const char *text, char *ret_said, size_t len)
{
    struct seen s;
    int pair[2], status;

    write_file(text);
    assert_int_equal(pipe(pair), 0);
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        dup2(pair[1], STDERR_FILENO);
        read_with(&s, "up", (const char *const[]){"--config", file_path, "--netns=none", NULL});
        _exit(0);
    }
    close(pair[1]);
    size_t n = 0;
    ssize_t got;
    while (n < len - 1 && (got = read(pair[0], ret_said + n, len - 1 - n)) > 0)
        n += (size_t)got;
    ret_said[n] = '\0';
    close(pair[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void test_errors_name_file_and_line(void **state)
{
    static const struct {
        const char *text, *line, *because;
    } bad[] = {
        {"[daemon]\n\ncolour = red\n", ":3: ", "\"colour\" is no key; there are netns"},
        {"[daemon]\nready-fd = 3\n", ":2: ", "is no key"},
        {"[daemon]\nforeground = maybe\n", ":2: ", "none of yes, no, or a digit"},
        {"[daemon]\npolicy = off\npolicy = off\n", ":3: ", "policy comes twice"},
        {"[daemon]\n[rule x]\naction = off\npeer = 10.0.0.1/8\n", ":4: ", "bits set behind"},
        {"[daemon]\nrule = off peer=x\n", ":2: ", "is no prefix"},
        {"[rule x]\naction = off\n[rule y]\naction = bypass\nport = 1\n", ": ",
         "rule 2 bypasses, but stands behind others"},
        {"[rule x]\naction = off\n[rule x]\naction = off\n", ": ", "have the same name, x"},
    };
    char said[2000], place[100];

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(refuse(bad[i].text, said, sizeof(said)), EXIT_USAGE);
        snprintf(place, sizeof(place), "tcpcrypt-ns up: %s%s", file_path, bad[i].line);
        if (!strstr(said, place) || !strstr(said, bad[i].because))
            fail_msg("%s\nsays: %s", bad[i].text, said);
    }
}

static void test_reload(void **state)
{
    struct daemon_options now;
    char err[CONFIG_ERROR_LEN] = "";
    struct seen s;

    write_file("[daemon]\nlog = /tmp/a\nkeepalive = 5\naead = AES-256-GCM\n");
    read_with(&s, "up", (const char *const[]){"--config", file_path, "--tep", "P-256", NULL});
    write_file("[daemon]\nlog = /tmp/b\npolicy = require\ntep = P-521\n[rule a]\naction = off\n");
    s.opts.ctl = ":7";
    assert_int_equal(sources_reload(&s.sources, &s.opts, &now, err), 0);
    assert_int_equal(now.policy, TUNNEL_POLICY_REQUIRE);
    assert_int_equal(now.keepalive_s, 0);
    assert_int_equal(now.session.aead_cnt, 3);
    assert_int_equal(now.session.tep_cnt, 1);
    assert_int_equal(now.session.teps[0], TEP_ECDHE_P256);
    assert_string_equal(now.ctl, ":7");
    assert_int_equal(now.rule_cnt, 1);
    settings_done(&now);

    write_file("[daemon]\npolicy = off\n[rule a]\naction = bad\n");
    memset(&now, 0, sizeof(now));
    assert_int_equal(sources_reload(&s.sources, &s.opts, &now, err), -EINVAL);
    assert_non_null(strstr(err, ":4: action: \"bad\" is none of"));
    assert_null(now.ctl);
    write_file("[daemon]\ncolour = red\n");
    assert_int_equal(sources_reload(&s.sources, &s.opts, &now, err), -EINVAL);
    assert_non_null(strstr(err, ":2: \"colour\" is no key"));
    seen_done(&s);
}

static void test_no_file_to_reload(void **state)
{
    struct sources none = {.path = NULL};
    struct daemon_options opts, now;
    char err[CONFIG_ERROR_LEN] = "";

    daemon_options_init(&opts);
    assert_int_equal(sources_reload(&none, &opts, &now, err), -ENOENT);
    assert_non_null(strstr(err, "without a configuration file"));
    assert_int_equal(sources_reload(NULL, &opts, &now, err), -ENOENT);
    none.path = file_path;
    write_file("");
    unlink(file_path);
    assert_int_equal(sources_reload(&none, &opts, &now, err), -ENOENT);
    assert_non_null(strstr(err, "cannot read"));
    write_file("");
}

/* --- The example --------------------------------------------------------------------- */

static char *read_example(void)
{
    FILE *f = fopen(TCNS_EXAMPLE, "r");
    char *text = calloc(1, CONFIG_MAX_LEN);

    assert_non_null(f);
    assert_non_null(text);
    assert_true(fread(text, 1, CONFIG_MAX_LEN - 1, f) > 0);
    fclose(f);
    return text;
}

/* "#policy = prefer" is a value, "# The policy" is a comment. */
static void uncomment(char *text)
{
    for (char *at = text; (at = strstr(at, "\n#")); at++)
        if (at[2] > ' ')
            memmove(at + 1, at + 2, strlen(at + 2) + 1);
}

/* As it is, and with all that it shows. */
static void test_example(void **state)
{
    const struct cli_verb *up = cli_verb_find("up");
    char *text = read_example(), key[64];
    struct seen s;

    for (const struct cli_option *o = up->options; o->id != OPT_END; o++) {
        snprintf(key, sizeof(key), "\n#%s = ", o->name);
        bool shown = strstr(text, key) != NULL;
        if (shown == (o->id == OPT_CONFIG || o->id == OPT_READY_FD))
            fail_msg("docs/tcpcrypt-ns.conf must show \"#%s = ...\"", o->name);
    }
    write_file(text);
    read_with(&s, "up", (const char *const[]){"--config", file_path, NULL});
    assert_int_equal(s.opts.rule_cnt, 4);
    seen_done(&s);

    uncomment(text);
    write_file(text);
    read_with(&s, "up", (const char *const[]){"--config", file_path, NULL});
    assert_int_equal(s.opts.rule_cnt, 5);
    assert_int_equal(s.opts.keepalive_s, 300);
    assert_non_null(strstr(s.text, "netns=self"));
    seen_done(&s);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_items),
        cmocka_unit_test(test_bad_text),
        cmocka_unit_test(test_rules),
        cmocka_unit_test(test_command_line_wins),
        cmocka_unit_test(test_bypass_of_both),
        cmocka_unit_test(test_exec_skips_what_is_of_up),
        cmocka_unit_test(test_errors_name_file_and_line),
        cmocka_unit_test(test_reload),
        cmocka_unit_test(test_no_file_to_reload),
        cmocka_unit_test(test_example),
    };

    return cmocka_run_group_tests(tests, make_file, remove_file);
}
