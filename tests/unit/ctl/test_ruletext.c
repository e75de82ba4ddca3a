/* SPDX-License-Identifier: BSD-3-Clause
 * Rules as text: what is read, what is written back, what is refused and in which words.
 */
#include "ctl/conf/ruletext.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ctl/conf/settings.h"

static struct policy_rule parse(const char *text)
{
    char err[RULETEXT_ERROR_LEN] = "";
    struct policy_rule r = {.dir = POLICY_DIR_ANY};

    if (ruletext_parse(text, &r, err) != 0)
        fail_msg("%s: %s", text, err);
    return r;
}

/* What is written back is what was read, in the usual order. */
static void test_round_trip(void **state)
{
    static const char *const texts[][2] = {
        {"off", "off"},
        {"  require\tin ", "require in"},
        {"action=prefer direction=out", "prefer out"},
        {"out off", "off out"},
        {"off any", "off"},
        {"off peer=10.0.0.0/8", "off peer=10.0.0.0/8"},
        {"off peer=10.1.2.3", "off peer=10.1.2.3"},
        {"off peer=10.1.2.3/32", "off peer=10.1.2.3"},
        {"off peer=0.0.0.0/0", "off peer=0.0.0.0/0"},
        {"off peer=::/0", "off peer=::/0"},
        {"bypass peer=::/0 port=80", "bypass peer=::/0 port=80"},
        {"off peer=2001:db8::/32,10.0.0.0/8 local=fd00::1",
         "off peer=2001:db8::/32,10.0.0.0/8 local=fd00::1"},
        {"off port=80,443-445 peer-port=1 local-port=65535",
         "off port=80,443-445 peer-port=1 local-port=65535"},
        {"require name=db_1.x-y", "require name=db_1.x-y"},
        {"prefer tep=p-256 aead-b=ChaCha20-Poly1305,aes-256-gcm",
         "prefer tep-a=P-256 tep-b=P-256 aead-b=ChaCha20-Poly1305,AES-256-GCM"},
        {"prefer aead=AES-128-GCM aead-b=AES-256-GCM",
         "prefer aead-a=AES-128-GCM aead-b=AES-256-GCM"},
        {"prefer aead-b=AES-256-GCM aead=AES-128-GCM",
         "prefer aead-a=AES-128-GCM aead-b=AES-256-GCM"},
        {"prefer tep-a=P-521 tep=Curve448", "prefer tep-a=P-521 tep-b=Curve448"},
        {"prefer app-aware=mandatory no-resume keepalive=0 rekey-bytes=68719476736",
         "prefer app-aware=mandatory no-resume=yes keepalive=0 rekey-bytes=68719476736"},
        {"prefer no-resume=no", "prefer no-resume=no"},
    };

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct policy_rule r = parse(texts[i][0]);
        char *text = ruletext_str(&r);
        assert_string_equal(text, texts[i][1]);
        struct policy_rule again = parse(text);
        assert_memory_equal(&again.peers, &r.peers, sizeof(r.peers));
        assert_memory_equal(&again.ports, &r.ports, sizeof(r.ports));
        assert_int_equal(again.settings.set, r.settings.set);
        free(text);
    }
}

static void check_refused(const char *text, const char *because)
{
    char err[RULETEXT_ERROR_LEN] = "";
    struct policy_rule r;

    if (ruletext_parse(text, &r, err) != -EINVAL)
        fail_msg("\"%s\" was taken", text);
    if (!strstr(err, because))
        fail_msg("\"%s\": %s", text, err);
}

static void test_refused(void **state)
{
    static const char *const texts[][2] = {
        {"", "needs an action"},
        {"peer=10.0.0.0/8", "needs an action"},
        {"encrypt", "\"encrypt\" is none of prefer, require, off, bypass"},
        {"bypass", "needs a prefix or a port"},
        {"bypass out peer=10.0.0.0/8", "holds for both directions"},
        {"bypass port=80 tep=P-256", "takes no settings"},
        {"bypass port=80,1024-65535", "cannot have port 65535"},
        {"bypass peer-port=65535 peer=10.0.0.0/8", "cannot have port 65535"},
        {"local-port=1-65535 bypass", "cannot have port 65535"},
        {"off require", "action comes twice"},
        {"off in out", "direction comes twice"},
        {"off peer=10.0.0.0/8 peer=11.0.0.0/8", "peer comes twice"},
        {"off direction=up", "\"up\" is none of in, out, any"},
        {"off peer", "peer needs a value: peer=..."},
        {"off peer=", "\"\" is no prefix"},
        {"off peer=10.0.0.0/8,", "\"\" is no prefix"},
        {"off peer=10.0.0.0/33", "\"33\" is no number from 0 to 32"},
        {"off peer=10.0.0.0/-1", "\"-1\" is no number"},
        {"off peer=10.0.0.0/8/8", "\"8/8\" is no number"},
        {"off peer=10.0.0.1/8", "has bits set behind its length"},
        {"off peer=2001:db8::1/64", "has bits set behind its length"},
        {"off peer=2001:db8::/129", "\"129\" is no number from 0 to 128"},
        {"off peer=::ffff:10.0.0.1", "is an IPv4 address; write it as one"},
        {"off peer=example.org", "\"example.org\" is no prefix"},
        {"off peer=[::1]", "is no prefix"},
        {"off port=0", "\"0\" is no port"},
        {"off port=http", "\"http\" is no port"},
        {"off port=10-5", "\"10-5\" is no port"},
        {"off port=65536", "\"65536\" is no port"},
        {"off port=1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17", "more than 16"},
        {"off name=", "is no name"},
        {"off name=a/b", "is no name"},
        {"off name=abcdefghijklmnopqrstuvwxyz123456", "is no name"},
        {"off host=a", "\"host\" is no key of a rule; there are action, direction, name, peer,"},
        {"off tep=X25519", "\"X25519\" is none of Curve25519,"},
        {"off aead-a=AES-128-GCM,AES-128-GCM", "\"AES-128-GCM\" comes twice"},
        {"off app-aware=yes", "\"yes\" is none of off, on, mandatory"},
        {"off no-resume=1", "\"1\" is none of yes, no"},
        {"off keepalive=86401", "is no number from 0 to 86400"},
        {"off rekey-bytes=0", "is no number from 1 to 68719476736"},
        {"off rekey-bytes=18446744073709551616", "is no number"},
    };
    char longest[600] = "off peer=";

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        check_refused(texts[i][0], texts[i][1]);
    memset(longest + strlen(longest), '1', 500);
    check_refused(longest, "is too long");
    memcpy(longest, "off x=111", 9);
    check_refused(longest, "is no key");
}

static void test_rules_together(void **state)
{
    struct policy_rule rules[3] = {parse("off name=x"), parse("off"), parse("prefer name=x")};
    char err[RULETEXT_ERROR_LEN] = "";

    assert_int_equal(ruletext_check(rules, 2, err), 0);
    assert_int_equal(ruletext_check(NULL, 0, err), 0);
    assert_int_equal(ruletext_check(rules, 3, err), -EINVAL);
    assert_string_equal(err, "rules 1 and 3 have the same name, x");
    struct policy_rule late[2] = {parse("off"), parse("bypass port=80")};
    assert_int_equal(ruletext_check(late, 2, err), -EINVAL);
    assert_non_null(strstr(err, "rule 2 bypasses, but stands behind others"));
    struct policy_rule many = parse("bypass peer=1.0.0.0,2.0.0.0,3.0.0.0,4.0.0.0,5.0.0.0,6.0.0.0 "
                                    "port=1,3,5,7,9,11"); /* 6 * 6 * 2 */
    assert_int_equal(ruletext_check(&many, 1, err), -EINVAL);
    assert_non_null(strstr(err, "more than 64 combinations"));
    struct policy_rule wide =
        parse("off peer=1.0.0.0,2.0.0.0,3.0.0.0,4.0.0.0,5.0.0.0,6.0.0.0,7.0.0.0,8.0.0.0 "
              "local=1.0.0.0,2.0.0.0,3.0.0.0,4.0.0.0,5.0.0.0,6.0.0.0,7.0.0.0,8.0.0.0 "
              "port=1,3,5,7,9,11,13,15 peer-port=1,3,5,7,9,11,13,15 local-port=1,3,5");
    assert_int_equal(ruletext_check(&wide, 1, err), -EINVAL);
    assert_string_equal(err, "the rules' lists make too many combinations");
}

static void test_squeeze(void **state)
{
    static const char *const texts[][2] = {
        {"a, b ,c", "a,b,c"}, {"  a b  ", "a b"},      {"a ,\t b", "a,b"}, {"", ""},
        {"   ", ""},          {"x = 1, 2", "x = 1,2"},
    };

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        char *text = ruletext_squeeze(texts[i][0]);
        assert_string_equal(text, texts[i][1]);
        free(text);
    }
}

/* A role's own list wins over the one for both, in whatever order they come. */
static void test_daemon_settings(void **state)
{
    static const char *const orders[2][2] = {{"aead", "aead-b"}, {"aead-b", "aead"}};
    char err[SETTINGS_ERROR_LEN] = "";

    for (int i = 0; i < 2; i++) {
        struct daemon_options o;
        struct policy *p;
        daemon_options_init(&o);
        for (int k = 0; k < 2; k++) {
            const char *value =
                strcmp(orders[i][k], "aead") == 0 ? "AES-256-GCM" : "ChaCha20-Poly1305";
            assert_int_equal(settings_set(&o, orders[i][k], value, err), 0);
        }
        assert_int_equal(settings_set(&o, "rule", "off in", err), 0);
        assert_int_equal(settings_set(&o, "rule", "off out peer=10.0.0.0/8", err), 0);
        assert_int_equal(o.rule_cnt, 2);
        struct policy_config cfg = daemon_policy(&o);
        assert_int_equal(policy_new(&cfg, &p), 0);
        assert_int_equal(policy_verdict(p, 0, SESSION_ROLE_A).session->aeads[0], AEAD_AES_256_GCM);
        assert_int_equal(policy_verdict(p, 0, SESSION_ROLE_B).session->aeads[0],
                         AEAD_CHACHA20_POLY1305);
        policy_unref(p);
        settings_done(&o);
        assert_int_equal(o.rule_cnt, 0);
    }
}

static void test_daemon_settings_refused(void **state)
{
    static const char *const bad[][3] = {
        {"policy", "bypass", "policy: \"bypass\" is none of prefer, require, off"},
        {"bypass", "http", "bypass: \"http\" is no list of ports"},
        {"bypass", "22,1024-65535", "bypass: \"22,1024-65535\" has port 65535, "},
        {"rule", "bypass port=65535", "rule: a rule that bypasses cannot have port 65535"},
        {"fallback-time", "0", "fallback-time: \"0\" is no number from 1 to 86400"},
        {"keepalive", "0", "keepalive: \"0\" is no number from 1 to 86400"},
        {"rule", "off peer=x", "rule: peer: \"x\" is no prefix"},
        {"no-resume", "perhaps", "no-resume: \"perhaps\" is none of yes, no"},
    };
    struct daemon_options o;
    char err[SETTINGS_ERROR_LEN] = "";

    daemon_options_init(&o);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(settings_set(&o, bad[i][0], bad[i][1], err), -EINVAL);
        assert_non_null(strstr(err, bad[i][2]));
        assert_true(settings_has(bad[i][0]));
    }
    assert_int_equal(settings_set(&o, "uplink", "eth0", err), -ENOENT);
    assert_int_equal(settings_set(&o, "tep-c", "P-256", err), -ENOENT);
    assert_false(settings_has("uplink"));
    assert_true(settings_has("aead-a"));
    assert_int_equal(o.rule_cnt, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),      cmocka_unit_test(test_refused),
        cmocka_unit_test(test_rules_together),  cmocka_unit_test(test_squeeze),
        cmocka_unit_test(test_daemon_settings), cmocka_unit_test(test_daemon_settings_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
