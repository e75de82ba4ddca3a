/* SPDX-License-Identifier: BSD-3-Clause
 * The options that shape what becomes of connections, by key and value.
 */
#include "ctl/conf/settings.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ctl/conf/suites.h"

#define SECONDS_MAX (24 * 60 * 60)

static int fail(char err[SETTINGS_ERROR_LEN], int code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

static int fail(char err[SETTINGS_ERROR_LEN], int code, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(err, SETTINGS_ERROR_LEN, fmt, ap);
    va_end(ap);
    return code;
}

static int set_policy(struct daemon_options *o, const char *value, char err[SETTINGS_ERROR_LEN])
{
    if (policy_parse(value, &o->policy) == 0)
        return 0;
    return fail(err, -EINVAL, "policy: \"%.60s\" is none of prefer, require, off", value);
}

static int set_bypass(struct daemon_options *o, const char *value, char err[SETTINGS_ERROR_LEN])
{
    int e = bypass_parse(value, &o->bypass);

    if (e == -E2BIG)
        return fail(err, -EINVAL, "bypass: more than %d port ranges", BYPASS_MAX_CNT);
    if (e == -ERANGE)
        return fail(err, -EINVAL,
                    "bypass: \"%.60s\" has port 65535, and the kernel's routing rules go up to %d",
                    value, BYPASS_PORT_MAX);
    if (e)
        return fail(err, -EINVAL,
                    "bypass: \"%.60s\" is no list of ports; allowed are numbers and ranges like "
                    "6000-6010, \"default\", and \"none\" alone",
                    value);
    return 0;
}

static int set_seconds(const char *key, const char *value, unsigned *ret,
                       char err[SETTINGS_ERROR_LEN])
{
    char *end;
    unsigned long n = strtoul(value, &end, 10);

    if (*value < '0' || *value > '9' || *end || n < 1 || n > SECONDS_MAX)
        return fail(err, -EINVAL, "%s: \"%.60s\" is no number from 1 to %d", key, value,
                    SECONDS_MAX);
    *ret = (unsigned)n;
    return 0;
}

static int set_fallback_time(struct daemon_options *o, const char *value,
                             char err[SETTINGS_ERROR_LEN])
{
    return set_seconds("fallback-time", value, &o->fallback_s, err);
}

static int set_key_timeout(struct daemon_options *o, const char *value,
                           char err[SETTINGS_ERROR_LEN])
{
    return set_seconds("key-timeout", value, &o->key_timeout_s, err);
}

int settings_add_rule(struct daemon_options *o, const struct policy_rule *rule,
                      char err[SETTINGS_ERROR_LEN])
{
    if (o->rule_cnt >= POLICY_RULE_MAX_CNT)
        return fail(err, -EINVAL, "more than %d rules", POLICY_RULE_MAX_CNT);
    struct policy_rule *rules = reallocarray(o->rules, o->rule_cnt + 1, sizeof(*rules));
    if (!rules)
        return fail(err, -ENOMEM, "out of memory");
    o->rules = rules;
    rules[o->rule_cnt++] = *rule;
    return 0;
}

static int set_udp(struct daemon_options *o, const char *value, char err[SETTINGS_ERROR_LEN])
{
    if (udp_parse_action(value, &o->udp.action) == 0)
        return 0;
    return fail(err, -EINVAL, "require-udp: \"%.60s\" is none of allow, drop, reject", value);
}

static int set_udp_dns(struct daemon_options *o, const char *value, char err[SETTINGS_ERROR_LEN])
{
    int e = udp_parse_dns(value, &o->udp);

    if (e == -EINVAL)
        return fail(err, e,
                    "require-udp-dns: \"%.60s\" is neither addresses, nor resolv.conf, nor none",
                    value);
    if (e == -E2BIG)
        return fail(err, -EINVAL, "require-udp-dns: more than %d addresses", UDP_DNS_MAX_CNT);
    return e ? fail(err, e, "require-udp-dns: cannot read /etc/resolv.conf: %s", strerror(-e)) : 0;
}

static int set_rule(struct daemon_options *o, const char *value, char err[SETTINGS_ERROR_LEN])
{
    struct policy_rule rule;
    char why[SETTINGS_ERROR_LEN - 40];
    int e = ruletext_parse(value, &rule, err);

    if (!e)
        return settings_add_rule(o, &rule, err);
    snprintf(why, sizeof(why), "%s", err);
    return fail(err, e, "rule: %s", why);
}

/* What holds for both roles goes where it always was, so that a role's own list, which is
 * kept apart, wins whatever the order. */
static int set_shared(struct daemon_options *o, const char *key, const char *value,
                      char err[SETTINGS_ERROR_LEN])
{
    size_t len = strlen(key);
    bool is_of_role =
        len > 2 && (strcmp(key + len - 2, "-a") == 0 || strcmp(key + len - 2, "-b") == 0);
    struct policy_settings s = {.session = {o->session, o->session}};
    int e = ruletext_set_setting(is_of_role ? &o->settings : &s, key, value, err);

    if (e || is_of_role)
        return e;
    if (s.set & POLICY_SET_KEEPALIVE && s.keepalive_s == 0)
        return fail(err, -EINVAL, "keepalive: \"%.60s\" is no number from 1 to %d", value,
                    SECONDS_MAX);
    o->session = s.session[SESSION_ROLE_A];
    o->session.no_cache = o->session.no_resume;
    if (s.set & POLICY_SET_KEEPALIVE)
        o->keepalive_s = s.keepalive_s;
    return 0;
}

static const struct {
    const char *key;
    int (*set)(struct daemon_options *o, const char *value, char err[SETTINGS_ERROR_LEN]);
} own[] = {
    {"policy", set_policy},           {"bypass", set_bypass}, {"fallback-time", set_fallback_time},
    {"key-timeout", set_key_timeout}, {"rule", set_rule},     {"require-udp", set_udp},
    {"require-udp-dns", set_udp_dns},
};

int settings_set(struct daemon_options *o, const char *key, const char *value,
                 char err[SETTINGS_ERROR_LEN])
{
    for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++)
        if (strcmp(own[i].key, key) == 0)
            return own[i].set(o, value, err);
    return set_shared(o, key, value, err);
}

bool settings_has(const char *key)
{
    struct policy_settings s = {.set = 0};
    char err[SETTINGS_ERROR_LEN];

    for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++)
        if (strcmp(own[i].key, key) == 0)
            return true;
    return ruletext_set_setting(&s, key, "", err) != -ENOENT;
}

bool settings_require(const struct daemon_options *opts)
{
    bool found = opts->policy == TUNNEL_POLICY_REQUIRE;

    for (size_t i = 0; i < opts->rule_cnt && !found; i++)
        found = opts->rules[i].action == TUNNEL_POLICY_REQUIRE;
    return found;
}

void settings_bypass(const struct daemon_options *opts, struct bypass *ret)
{
    *ret = opts->bypass;
    for (size_t i = 0; i < opts->rule_cnt; i++)
        (void)bypass_add_rule(ret, &opts->rules[i]); /* they fit: ruletext_check() */
}

void settings_ingress(const struct daemon_options *opts, struct ingress_policy *ret)
{
    *ret = (struct ingress_policy){.strict = settings_require(opts)};
    settings_bypass(opts, &ret->bypass);
    if (opts->policy == TUNNEL_POLICY_REQUIRE)
        ret->udp = opts->udp;
}

static int test_one(const struct session_config *one, const char *name, const char *key,
                    char err[SETTINGS_ERROR_LEN])
{
    if (session_selftest(one) == TCNS_OK)
        return 0;
    return fail(err, -ENOTSUP, "the crypto libraries cannot do %s; leave it out with --%s", name,
                key);
}

int settings_test(const struct daemon_options *opts, char err[SETTINGS_ERROR_LEN])
{
    struct policy_config cfg = daemon_policy(opts);
    struct session_config all;
    struct policy *policy;
    int e = policy_new(&cfg, &policy);

    if (e)
        return fail(err, e, "cannot read the policy: %s", strerror(-e));
    policy_suites(policy, &all);
    policy_unref(policy);
    for (size_t i = 0; i < all.tep_cnt && !e; i++) {
        struct session_config one = {.teps = {all.teps[i]}, .tep_cnt = 1};
        e = test_one(&one, suites_tep_name(all.teps[i]), "tep", err);
    }
    for (size_t i = 0; i < all.aead_cnt && !e; i++) {
        struct session_config one = {.aeads = {all.aeads[i]}, .aead_cnt = 1};
        e = test_one(&one, suites_aead_name(all.aeads[i]), "aead", err);
    }
    return e;
}

int settings_copy(const struct daemon_options *opts, struct daemon_options *ret)
{
    size_t len = opts->rule_cnt * sizeof(*opts->rules);
    struct policy_rule *rules = malloc(len ? len : 1);

    if (!rules)
        return -ENOMEM;
    if (len)
        memcpy(rules, opts->rules, len);
    *ret = *opts;
    ret->rules = rules;
    return 0;
}

void settings_move(struct daemon_options *to, struct daemon_options *from)
{
    to->policy = from->policy;
    to->bypass = from->bypass;
    to->udp = from->udp;
    to->session = from->session;
    to->keepalive_s = from->keepalive_s;
    to->fallback_s = from->fallback_s;
    to->key_timeout_s = from->key_timeout_s;
    to->settings = from->settings;
    to->rules = from->rules;
    to->rule_cnt = from->rule_cnt;
    from->rules = NULL;
    from->rule_cnt = 0;
}

void settings_bypass_first(struct daemon_options *opts)
{
    size_t first = 0;

    for (size_t i = 0; i < opts->rule_cnt; i++) {
        if (opts->rules[i].action != TUNNEL_POLICY_BYPASS)
            continue;
        struct policy_rule rule = opts->rules[i];
        memmove(&opts->rules[first + 1], &opts->rules[first], (i - first) * sizeof(rule));
        opts->rules[first++] = rule;
    }
}

void settings_done(struct daemon_options *o)
{
    free(o->rules);
    o->rules = NULL;
    o->rule_cnt = 0;
}
