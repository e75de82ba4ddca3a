/* SPDX-License-Identifier: BSD-3-Clause
 * Which rule decides, what then holds, and how long it takes to find out.
 */
#include <errno.h>
#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "tunnel/policy.h"

static struct addr addr(const char *text)
{
    uint8_t bytes[16];

    if (inet_pton(AF_INET, text, bytes) == 1)
        return addr_from_v4(bytes);
    assert_int_equal(inet_pton(AF_INET6, text, bytes), 1);
    return addr_from_v6(bytes);
}

static struct policy_prefix prefix(const char *text, unsigned len)
{
    struct policy_prefix p = {.addr = addr(text)};

    p.is_v6 = !addr_is_v4(&p.addr);
    p.len = (uint8_t)(p.is_v6 ? len : len + 96);
    return p;
}

static struct tuple tuple(const char *local, uint16_t local_port, const char *peer,
                          uint16_t peer_port)
{
    return (struct tuple){addr(local), addr(peer), local_port, peer_port};
}

static struct policy *make(const struct policy_rule *rules, size_t cnt)
{
    struct policy_config cfg = {.rules = rules, .rule_cnt = cnt};
    struct policy *p = NULL;

    assert_int_equal(policy_new(&cfg, &p), 0);
    return p;
}

/* Which of one rule and the default decides. */
static unsigned find_one(const struct policy_rule *rule, const struct tuple *t, bool inbound)
{
    struct policy *p = make(rule, 1);
    unsigned found = policy_find(p, t, inbound);

    policy_unref(p);
    return found;
}

static void test_default(void **state)
{
    struct policy_config cfg = {.policy = TUNNEL_POLICY_REQUIRE, .keepalive_s = 7};
    struct tuple t = tuple("10.0.0.1", 40000, "10.0.0.2", 80);
    struct policy *p;

    assert_int_equal(policy_new(&cfg, &p), 0);
    assert_int_equal(policy_find(p, &t, false), 0);
    struct policy_verdict v = policy_verdict(p, 0, SESSION_ROLE_A);
    assert_int_equal(v.policy, TUNNEL_POLICY_REQUIRE);
    assert_int_equal(v.keepalive_s, 7);
    assert_int_equal(v.session->tep_cnt, session_config_default.tep_cnt);
    assert_string_equal(v.name, "");
    assert_int_equal(policy_matched_cnt(p, 0), 1);
    policy_unref(p);
}

static void test_direction(void **state)
{
    struct tuple t = tuple("10.0.0.1", 40000, "10.0.0.2", 80);
    struct policy_rule any = {.dir = POLICY_DIR_ANY}, in = {.dir = POLICY_DIR_IN},
                       out = {.dir = POLICY_DIR_OUT};

    assert_int_equal(find_one(&any, &t, true), 1);
    assert_int_equal(find_one(&any, &t, false), 1);
    assert_int_equal(find_one(&in, &t, true), 1);
    assert_int_equal(find_one(&in, &t, false), 0);
    assert_int_equal(find_one(&out, &t, true), 0);
    assert_int_equal(find_one(&out, &t, false), 1);
}

static void check_prefix(const char *p, unsigned len, const char *a, bool expected)
{
    struct policy_prefix pre = prefix(p, len);
    struct addr ad = addr(a);
    struct policy_rule peer = {.peers = {pre}, .peer_cnt = 1};
    struct policy_rule local = {.locals = {pre}, .local_cnt = 1};
    const char *other = addr_is_v4(&ad) ? "192.0.2.77" : "3fff::77";
    struct tuple t = tuple(other, 1, a, 2), back = tuple(a, 1, other, 2);

    assert_int_equal(policy_prefix_has(&pre, &ad), expected);
    assert_int_equal(find_one(&peer, &t, false), expected);
    assert_int_equal(find_one(&local, &back, false), expected);
}

static void test_prefixes(void **state)
{
    check_prefix("10.0.0.0", 8, "10.255.255.255", true);
    check_prefix("10.0.0.0", 8, "11.0.0.0", false);
    check_prefix("10.1.2.0", 23, "10.1.3.9", true);
    check_prefix("10.1.2.0", 23, "10.1.4.0", false);
    check_prefix("10.1.2.3", 32, "10.1.2.3", true);
    check_prefix("10.1.2.3", 32, "10.1.2.2", false);
    check_prefix("0.0.0.0", 0, "198.51.100.1", true);
    check_prefix("0.0.0.0", 0, "2001:db8::1", false);
    check_prefix("2001:db8::", 32, "2001:db8:ffff::1", true);
    check_prefix("2001:db8::", 32, "2001:db9::", false);
    check_prefix("2001:db8::8000:0:0:0", 65, "2001:db8::8000:0:0:1", true);
    check_prefix("2001:db8::8000:0:0:0", 65, "2001:db8::7000:0:0:1", false);
    check_prefix("2001:db8::1", 128, "2001:db8::1", true);
    check_prefix("2001:db8::1", 128, "2001:db8::2", false);
    check_prefix("::", 0, "2001:db8::1", true);
    check_prefix("::", 0, "198.51.100.1", false);
    check_prefix("::", 80, "198.51.100.1", false);
}

static void test_ports(void **state)
{
    struct tuple t = tuple("10.0.0.1", 40000, "10.0.0.2", 80);
    struct policy_rule peer = {.peer_ports = {{443, 443}, {80, 90}}, .peer_port_cnt = 2};
    struct policy_rule local = {.local_ports = {{40000, 40000}}, .local_port_cnt = 1};
    struct policy_rule service = {.ports = {{80, 80}}, .port_cnt = 1};
    struct policy_rule last = {.peer_ports = {{70, 79}}, .peer_port_cnt = 1};

    assert_int_equal(find_one(&peer, &t, true), 1);
    assert_int_equal(find_one(&local, &t, false), 1);
    assert_int_equal(find_one(&service, &t, false), 1);
    assert_int_equal(find_one(&service, &t, true), 0);
    assert_int_equal(find_one(&last, &t, false), 0);
    struct tuple back = tuple("10.0.0.1", 80, "10.0.0.2", 40000);
    assert_int_equal(find_one(&service, &back, true), 1);
    assert_int_equal(find_one(&service, &back, false), 0);
}

/* Every member of each list, combined with every other; and nothing else. */
static void test_lists_combine(void **state)
{
    struct policy_rule r = {
        .peers = {prefix("10.0.0.0", 24), prefix("2001:db8::", 64)},
        .peer_cnt = 2,
        .local_ports = {{1, 1}, {5, 9}},
        .local_port_cnt = 2,
        .peer_ports = {{80, 80}, {90, 90}, {100, 100}},
        .peer_port_cnt = 3,
    };
    struct policy *p = make(&r, 1);
    static const char *const peers[] = {"10.0.0.9", "2001:db8::9", "10.0.1.9"};

    for (uint16_t local = 0; local < 12; local++) {
        for (uint16_t port = 75; port < 105; port++) {
            for (size_t i = 0; i < 3; i++) {
                struct tuple t = tuple(i == 1 ? "3fff::1" : "10.9.9.9", local, peers[i], port);
                bool expected = i < 2 && (local == 1 || (local >= 5 && local <= 9)) &&
                                (port == 80 || port == 90 || port == 100);
                assert_int_equal(policy_find(p, &t, false), expected);
            }
        }
    }
    policy_unref(p);
}

static void test_first_match_wins(void **state)
{
    struct policy_rule rules[] = {
        {.name = "web", .action = TUNNEL_POLICY_OFF, .ports = {{80, 80}}, .port_cnt = 1},
        {.action = TUNNEL_POLICY_REQUIRE, .peers = {prefix("10.0.0.0", 8)}, .peer_cnt = 1},
        {.name = "rest", .action = TUNNEL_POLICY_PREFER},
    };
    struct policy *p = make(rules, 3);
    struct tuple web = tuple("10.0.0.1", 4, "10.0.0.2", 80),
                 near = tuple("10.0.0.1", 4, "10.0.0.2", 81),
                 far = tuple("10.0.0.1", 4, "198.51.100.1", 81);

    assert_int_equal(policy_find(p, &web, false), 1);
    assert_int_equal(policy_find(p, &near, false), 2);
    assert_int_equal(policy_find(p, &near, false), 2);
    assert_int_equal(policy_find(p, &far, false), 3);
    assert_string_equal(policy_verdict(p, 1, SESSION_ROLE_A).name, "web");
    assert_int_equal(policy_verdict(p, 2, SESSION_ROLE_A).policy, TUNNEL_POLICY_REQUIRE);
    assert_int_equal(policy_matched_cnt(p, 0), 0);
    assert_int_equal(policy_matched_cnt(p, 2), 2);
    assert_int_equal(policy_rule_cnt(p), 3);
    policy_unref(p);
}

/* The kernel follows those; a connection that comes here all the same is another rule's. */
static void test_bypass_decides_nothing_here(void **state)
{
    struct policy_rule rules[] = {
        {.action = TUNNEL_POLICY_BYPASS, .peers = {prefix("10.0.0.0", 8)}, .peer_cnt = 1},
        {.action = TUNNEL_POLICY_OFF},
    };
    struct policy *p = make(rules, 2);
    struct tuple t = tuple("10.0.0.1", 4, "10.0.0.2", 80);

    assert_int_equal(policy_find(p, &t, false), 2);
    policy_unref(p);
}

static void test_bypass_by_packet(void **state)
{
    struct policy_rule r = {
        .action = TUNNEL_POLICY_BYPASS,
        .peers = {prefix("10.0.0.0", 8), prefix("2001:db8::", 32)},
        .peer_cnt = 2,
        .ports = {{80, 81}},
        .port_cnt = 1,
    };
    struct tuple out = tuple("192.0.2.1", 4, "10.0.0.2", 80),
                 in = tuple("192.0.2.1", 81, "10.0.0.2", 5),
                 v6 = tuple("3fff::1", 81, "2001:db8::2", 5),
                 port = tuple("192.0.2.1", 82, "10.0.0.2", 5),
                 peer = tuple("10.0.0.2", 80, "192.0.2.1", 80);

    assert_true(policy_rule_bypasses(&r, &out));
    assert_true(policy_rule_bypasses(&r, &in));
    assert_true(policy_rule_bypasses(&r, &v6));
    assert_false(policy_rule_bypasses(&r, &port));
    assert_false(policy_rule_bypasses(&r, &peer));
    r.action = TUNNEL_POLICY_OFF;
    assert_false(policy_rule_bypasses(&r, &out));
}

/* The flat form says the same as the rule, for every connection. */
static void test_matches_of_bypass(void **state)
{
    static const char *const addrs[] = {"10.0.0.2", "10.1.0.2", "192.0.2.1", "2001:db8::2",
                                        "3fff::1"};
    static const uint16_t ports[] = {1, 79, 80, 81, 90, 100};
    struct policy_rule rules[] = {
        {.peers = {prefix("10.0.0.0", 16), prefix("2001:db8::", 32)}, .peer_cnt = 2},
        {.locals = {prefix("::", 0)}, .local_cnt = 1, .ports = {{80, 81}}, .port_cnt = 1},
        {.ports = {{80, 90}, {100, 100}},
         .port_cnt = 2,
         .peer_ports = {{81, 100}},
         .peer_port_cnt = 1},
        {.peers = {prefix("10.0.0.0", 8)},
         .peer_cnt = 1,
         .locals = {prefix("2001:db8::", 32)},
         .local_cnt = 1},
        {.local_ports = {{1, 1}, {90, 90}}, .local_port_cnt = 2},
    };
    struct policy_match m[16];

    for (size_t r = 0; r < sizeof(rules) / sizeof(rules[0]); r++) {
        rules[r].action = TUNNEL_POLICY_BYPASS;
        size_t cnt = policy_rule_matches(&rules[r], m, 16);
        assert_true(cnt <= 16);
        assert_int_equal(cnt == 0, r == 3);
        for (size_t i = 0; i < 5 * 5 * 6 * 6; i++) {
            struct tuple t =
                tuple(addrs[i % 5], ports[i / 25 % 6], addrs[i / 5 % 5], ports[i / 150]);
            bool found = false;
            if (addr_is_v4(&t.local) != addr_is_v4(&t.peer))
                continue;
            for (size_t k = 0; k < cnt; k++)
                found |= policy_match_takes(&m[k], &t);
            assert_int_equal(found, policy_rule_bypasses(&rules[r], &t));
        }
    }
    assert_int_equal(policy_rule_matches(&rules[0], m, 1), 2);
    assert_int_equal(policy_rule_matches(&rules[0], m, 2), 2);
    assert_int_equal(policy_match_family(&m[0]), AF_INET);
    assert_int_equal(policy_match_family(&m[1]), AF_INET6);
}

static void test_settings_by_role(void **state)
{
    struct session_config base = session_config_default;
    struct policy_rule rules[] = {
        {.settings =
             {.set = POLICY_SET_AEADS_A | POLICY_SET_KEEPALIVE | POLICY_SET_RESUME,
              .session = {{.aeads = {AEAD_CHACHA20_POLY1305}, .aead_cnt = 1, .no_resume = true},
                          {.no_resume = true}},
              .keepalive_s = 9}},
    };
    struct policy_config cfg = {
        .session = &base,
        .settings = {.set = POLICY_SET_TEPS_B | POLICY_SET_APP_AWARE | POLICY_SET_REKEY_BYTES |
                            POLICY_SET_AEADS_B,
                     .session = {{.app_aware = true, .rekey_bytes = 5},
                                 {.teps = {TEP_ECDHE_P256},
                                  .tep_cnt = 1,
                                  .aeads = {AEAD_AES_256_GCM},
                                  .aead_cnt = 1,
                                  .app_aware = true,
                                  .rekey_bytes = 6}}},
        .rules = rules,
        .rule_cnt = 1,
    };
    struct policy *p;

    base.rekey_bytes = 4;
    assert_int_equal(policy_new(&cfg, &p), 0);
    const struct session_config *a = policy_verdict(p, 0, SESSION_ROLE_A).session;
    const struct session_config *b = policy_verdict(p, 0, SESSION_ROLE_B).session;
    assert_int_equal(a->tep_cnt, session_config_default.tep_cnt);
    assert_int_equal(b->tep_cnt, 1);
    assert_int_equal(b->teps[0], TEP_ECDHE_P256);
    assert_int_equal(a->aead_cnt, session_config_default.aead_cnt);
    assert_int_equal(b->aeads[0], AEAD_AES_256_GCM);
    assert_int_equal(a->rekey_bytes, 5);
    assert_int_equal(b->rekey_bytes, 6);
    assert_true(a->app_aware && b->app_aware);
    assert_false(a->no_resume || b->no_cache);
    /* the rule: on top of the default */
    a = policy_verdict(p, 1, SESSION_ROLE_A).session;
    b = policy_verdict(p, 1, SESSION_ROLE_B).session;
    assert_int_equal(a->aead_cnt, 1);
    assert_int_equal(a->aeads[0], AEAD_CHACHA20_POLY1305);
    assert_int_equal(b->aeads[0], AEAD_AES_256_GCM);
    assert_int_equal(b->tep_cnt, 1);
    assert_true(a->no_resume && a->no_cache && b->no_resume && b->no_cache);
    assert_int_equal(policy_verdict(p, 1, SESSION_ROLE_A).keepalive_s, 9);
    assert_int_equal(policy_verdict(p, 0, SESSION_ROLE_A).keepalive_s, 0);
    assert_ptr_equal(a->random, base.random);
    struct resume_cache *cache = (struct resume_cache *)(void *)&base;
    policy_set_stores(p, cache, NULL);
    assert_ptr_equal(a->cache, cache);
    assert_ptr_equal(policy_verdict(p, 0, SESSION_ROLE_B).session->cache, cache);
    policy_unref(p);
}

static void test_references(void **state)
{
    struct policy *p = make(NULL, 0);

    assert_ptr_equal(policy_ref(p), p);
    policy_unref(p);
    assert_int_equal(policy_verdict(p, 0, SESSION_ROLE_A).policy, TUNNEL_POLICY_PREFER);
    policy_unref(p);
    policy_unref(NULL);
}

static void test_too_much(void **state)
{
    struct policy_rule *rules = calloc(POLICY_RULE_MAX_CNT + 1, sizeof(*rules));
    struct policy_config cfg = {.rules = rules, .rule_cnt = POLICY_RULE_MAX_CNT + 1};
    struct policy *p = NULL;

    assert_non_null(rules);
    assert_int_equal(policy_new(&cfg, &p), -E2BIG);
    assert_null(p);
    cfg.rule_cnt = 1; /* 16 * 16 * 16 * 16 */
    rules[0].peer_cnt = rules[0].local_cnt = rules[0].peer_port_cnt = rules[0].local_port_cnt =
        POLICY_LIST_MAX_CNT;
    assert_int_equal(policy_new(&cfg, &p), -E2BIG);
    rules[0].action = TUNNEL_POLICY_BYPASS; /* not ours to multiply */
    assert_int_equal(policy_new(&cfg, &p), 0);
    policy_unref(p);
    free(rules);
}

static void test_names(void **state)
{
    enum tunnel_policy p = TUNNEL_POLICY_OFF;

    assert_int_equal(policy_parse("require", &p), 0);
    assert_int_equal(p, TUNNEL_POLICY_REQUIRE);
    assert_int_equal(policy_parse("bypass", &p), -EINVAL);
    assert_int_equal(policy_parse("", &p), -EINVAL);
    assert_int_equal(p, TUNNEL_POLICY_REQUIRE);
    assert_string_equal(policy_name(TUNNEL_POLICY_BYPASS), "bypass");
}

/* The worst case of a new connection: 1,000 rules, and none matches. The limit is loose
 * enough for a sanitizer build on a busy machine; the figure is printed. */
static void test_thousand_rules(void **state)
{
    enum { RULES = 1000, LOOKUPS = 2000 };
    struct policy_rule *rules = calloc(RULES, sizeof(*rules));
    struct tuple t = tuple("10.0.0.1", 40000, "198.51.100.1", 80);
    struct timespec start, end;
    unsigned found = 0;

    assert_non_null(rules);
    for (int i = 0; i < RULES; i++) {
        rules[i].peers[0] = prefix("10.0.0.0", 24);
        rules[i].peers[0].addr.in6.s6_addr[13] = (uint8_t)(i >> 8);
        rules[i].peers[0].addr.in6.s6_addr[14] = (uint8_t)i;
        rules[i].peer_cnt = 1;
        rules[i].peer_ports[0] = (struct port_range){80, 80};
        rules[i].peer_port_cnt = 1;
    }
    struct policy *p = make(rules, RULES);
    clock_gettime(CLOCK_MONOTONIC, &start);
    for (int i = 0; i < LOOKUPS; i++)
        found += policy_find(p, &t, false);
    clock_gettime(CLOCK_MONOTONIC, &end);
    double ns =
        ((double)(end.tv_sec - start.tv_sec) * 1e9 + (double)(end.tv_nsec - start.tv_nsec)) /
        LOOKUPS;
    print_message("%d rules, none matches: %.0f ns\n", RULES, ns);
    assert_int_equal(found, 0);
    assert_true(ns < 500000);
    t.peer = addr("10.3.231.5"); /* number 999 of those */
    assert_int_equal(policy_find(p, &t, false), RULES);
    policy_unref(p);
    free(rules);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_default),
        cmocka_unit_test(test_direction),
        cmocka_unit_test(test_prefixes),
        cmocka_unit_test(test_ports),
        cmocka_unit_test(test_lists_combine),
        cmocka_unit_test(test_first_match_wins),
        cmocka_unit_test(test_bypass_decides_nothing_here),
        cmocka_unit_test(test_bypass_by_packet),
        cmocka_unit_test(test_matches_of_bypass),
        cmocka_unit_test(test_settings_by_role),
        cmocka_unit_test(test_references),
        cmocka_unit_test(test_too_much),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_thousand_rules),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
