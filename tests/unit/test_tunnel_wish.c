/* SPDX-License-Identifier: BSD-3-Clause
 * Wishes of applications: what they change, and what they cannot.
 */
#include "tunnel/wish.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static struct session_config cfg;
static enum tunnel_policy policy;

static int set_up(void **state)
{
    cfg = session_config_default;
    policy = TUNNEL_POLICY_PREFER;
    return 0;
}

static void wish_policy(enum tunnel_policy ours, enum tunnel_policy theirs)
{
    policy = ours;
    wish_apply(&(struct wish){.set = WISH_POLICY, .policy = theirs}, &policy, &cfg);
}

static void test_nothing(void **state)
{
    struct session_config before = cfg;
    struct wish all = {.policy = TUNNEL_POLICY_OFF,
                       .app_aware = true,
                       .mandatory_app_aware = true,
                       .no_resume = true,
                       .no_cache = true,
                       .passive_role = true};

    wish_apply(&all, &policy, &cfg);
    assert_int_equal(policy, TUNNEL_POLICY_PREFER);
    assert_memory_equal(&cfg, &before, sizeof(cfg));
}

static void test_policy(void **state)
{
    wish_policy(TUNNEL_POLICY_PREFER, TUNNEL_POLICY_OFF);
    assert_int_equal(policy, TUNNEL_POLICY_OFF);
    wish_policy(TUNNEL_POLICY_PREFER, TUNNEL_POLICY_REQUIRE);
    assert_int_equal(policy, TUNNEL_POLICY_REQUIRE);
    wish_policy(TUNNEL_POLICY_OFF, TUNNEL_POLICY_REQUIRE);
    assert_int_equal(policy, TUNNEL_POLICY_REQUIRE);
    wish_policy(TUNNEL_POLICY_OFF, TUNNEL_POLICY_PREFER);
    assert_int_equal(policy, TUNNEL_POLICY_PREFER);
}

static void test_require_stays(void **state)
{
    wish_policy(TUNNEL_POLICY_REQUIRE, TUNNEL_POLICY_OFF);
    assert_int_equal(policy, TUNNEL_POLICY_REQUIRE);
    wish_policy(TUNNEL_POLICY_REQUIRE, TUNNEL_POLICY_PREFER);
    assert_int_equal(policy, TUNNEL_POLICY_REQUIRE);
}

static void test_aeads(void **state)
{
    struct wish w = {
        .set = WISH_AEADS, .aeads = {AEAD_CHACHA20_POLY1305, AEAD_AES_128_GCM}, .aead_cnt = 2};

    wish_apply(&w, &policy, &cfg);
    assert_int_equal(cfg.aead_cnt, 2);
    assert_int_equal(cfg.aeads[0], AEAD_CHACHA20_POLY1305);
    assert_int_equal(cfg.aeads[1], AEAD_AES_128_GCM);
}

static void test_aeads_of_the_policy_only(void **state)
{
    struct wish w = {
        .set = WISH_AEADS, .aeads = {AEAD_AES_256_GCM, AEAD_CHACHA20_POLY1305}, .aead_cnt = 2};

    cfg.aeads[0] = AEAD_CHACHA20_POLY1305;
    cfg.aead_cnt = 1;
    wish_apply(&w, &policy, &cfg);
    assert_int_equal(cfg.aead_cnt, 1);
    assert_int_equal(cfg.aeads[0], AEAD_CHACHA20_POLY1305);
    w.aead_cnt = 1; /* none of the policy's */
    wish_apply(&w, &policy, &cfg);
    assert_int_equal(cfg.aead_cnt, 1);
    assert_int_equal(cfg.aeads[0], AEAD_CHACHA20_POLY1305);
}

static void test_app_aware(void **state)
{
    struct wish w = {.set = WISH_APP_AWARE, .app_aware = true};

    wish_apply(&w, &policy, &cfg);
    assert_true(cfg.app_aware);
    assert_false(cfg.mandatory_app_aware);
    w.mandatory_app_aware = true;
    wish_apply(&w, &policy, &cfg);
    assert_true(cfg.mandatory_app_aware);
    wish_apply(&(struct wish){.set = WISH_APP_AWARE}, &policy, &cfg); /* now it is the policy's */
    assert_true(cfg.app_aware);
    assert_true(cfg.mandatory_app_aware);
}

static void test_resume_and_cache(void **state)
{
    wish_apply(&(struct wish){.set = WISH_RESUME, .no_resume = true}, &policy, &cfg);
    assert_true(cfg.no_resume);
    assert_false(cfg.no_cache);
    wish_apply(&(struct wish){.set = WISH_CACHE, .no_cache = true}, &policy, &cfg);
    assert_true(cfg.no_cache);
    wish_apply(&(struct wish){.set = WISH_CACHE | WISH_RESUME}, &policy, &cfg);
    assert_true(cfg.no_resume && cfg.no_cache); /* as the policy says */
}

static void test_passive_role(void **state)
{
    wish_apply(&(struct wish){.set = WISH_PASSIVE_ROLE, .passive_role = true}, &policy, &cfg);
    assert_true(cfg.passive_role);
}

#define TEST(fn) cmocka_unit_test_setup(fn, set_up)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_nothing),          TEST(test_policy),
        TEST(test_require_stays),    TEST(test_aeads),
        TEST(test_app_aware),        TEST(test_aeads_of_the_policy_only),
        TEST(test_resume_and_cache), TEST(test_passive_role),
    };

    return cmocka_run_group_tests_name("tunnel/wish", tests, NULL, NULL);
}
