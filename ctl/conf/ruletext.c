/* SPDX-License-Identifier: BSD-3-Clause
 * Rules of the policy as people write them.
 */
#include "ctl/conf/ruletext.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ctl/conf/suites.h"
#include "ctl/net/bypass.h"

#define BLANKS        " \t"
#define SECONDS_MAX   (24 * 60 * 60)
#define V4_OFFSET     96 /* bits of ::ffff:0:0 ahead of an IPv4 address */
#define LIST_TEXT_LEN 2048

enum key {
    KEY_ACTION,
    KEY_DIRECTION,
    KEY_NAME,
    KEY_PEER,
    KEY_LOCAL,
    KEY_PORT,
    KEY_PEER_PORT,
    KEY_LOCAL_PORT,
    KEY_SETTING_FIRST,
};

/* In the order in which a rule is written. */
static const char *const keys[] = {
    [KEY_ACTION] = "action",
    [KEY_DIRECTION] = "direction",
    [KEY_NAME] = "name",
    [KEY_PEER] = "peer",
    [KEY_LOCAL] = "local",
    [KEY_PORT] = "port",
    [KEY_PEER_PORT] = "peer-port",
    [KEY_LOCAL_PORT] = "local-port",
    [KEY_SETTING_FIRST] = "tep",
    "tep-a",
    "tep-b",
    "aead",
    "aead-a",
    "aead-b",
    "app-aware",
    "no-resume",
    "keepalive",
    "rekey-bytes",
};
#define KEY_CNT (sizeof(keys) / sizeof(keys[0]))

static const enum tunnel_policy actions[] = {TUNNEL_POLICY_PREFER, TUNNEL_POLICY_REQUIRE,
                                             TUNNEL_POLICY_OFF, TUNNEL_POLICY_BYPASS};
static const char *const dirs[] = {
    [POLICY_DIR_ANY] = "any", [POLICY_DIR_IN] = "in", [POLICY_DIR_OUT] = "out"};

static int fail(char err[RULETEXT_ERROR_LEN], const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

static int fail(char err[RULETEXT_ERROR_LEN], const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(err, RULETEXT_ERROR_LEN, fmt, ap);
    va_end(ap);
    return -EINVAL;
}

/* --- Words ----------------------------------------------------------------------- */

char *ruletext_squeeze(const char *list)
{
    char *copy = strdup(list), *out = copy;

    if (!copy)
        return NULL;
    for (const char *in = list + strspn(list, BLANKS); *in;) {
        size_t blanks = strspn(in, BLANKS);
        bool around = blanks && (out == copy || out[-1] == ',' || in[blanks] == ',' || !in[blanks]);

        if (around)
            in += blanks;
        else
            *out++ = *in++;
    }
    *out = '\0';
    return copy;
}

static int parse_flag(const char *key, const char *value, bool *ret, char err[RULETEXT_ERROR_LEN])
{
    *ret = strcmp(value, "yes") == 0;
    if (*ret || strcmp(value, "no") == 0)
        return 0;
    return fail(err, "%s: \"%.60s\" is none of yes, no", key, value);
}

static int parse_number(const char *key, const char *value, uint64_t min, uint64_t max,
                        uint64_t *ret, char err[RULETEXT_ERROR_LEN])
{
    char *end;

    errno = 0;
    unsigned long long n = strtoull(value, &end, 10);
    if (*value < '0' || *value > '9' || *end || errno || n < min || n > max)
        return fail(err, "%s: \"%.60s\" is no number from %llu to %llu", key, value,
                    (unsigned long long)min, (unsigned long long)max);
    *ret = n;
    return 0;
}

/* --- Criteria -------------------------------------------------------------------- */

static int parse_action(struct policy_rule *r, const char *value, char err[RULETEXT_ERROR_LEN])
{
    for (size_t i = 0; i < sizeof(actions) / sizeof(actions[0]); i++) {
        if (strcmp(policy_name(actions[i]), value) == 0) {
            r->action = actions[i];
            return 0;
        }
    }
    return fail(err, "action: \"%.60s\" is none of prefer, require, off, bypass", value);
}

static int parse_dir(struct policy_rule *r, const char *value, char err[RULETEXT_ERROR_LEN])
{
    for (size_t i = 0; i < sizeof(dirs) / sizeof(dirs[0]); i++) {
        if (strcmp(dirs[i], value) == 0) {
            r->dir = (enum policy_dir)i;
            return 0;
        }
    }
    return fail(err, "direction: \"%.60s\" is none of in, out, any", value);
}

static int parse_name(struct policy_rule *r, const char *value, char err[RULETEXT_ERROR_LEN])
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyz"
                                  "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    size_t len = strlen(value);

    if (len == 0 || len >= POLICY_NAME_LEN || strspn(value, allowed) != len)
        return fail(err,
                    "name: \"%.60s\" is no name: 1 to %d letters, digits, dots, dashes and "
                    "underscores",
                    value, POLICY_NAME_LEN - 1);
    strcpy(r->name, value);
    return 0;
}

static bool has_bits_behind(const struct policy_prefix *p)
{
    for (unsigned i = p->len; i < 128; i++)
        if (p->addr.in6.s6_addr[i / 8] & (0x80 >> i % 8))
            return true;
    return false;
}

static int parse_prefix(const char *key, const char *word, struct policy_prefix *ret,
                        char err[RULETEXT_ERROR_LEN])
{
    char text[INET6_ADDRSTRLEN + 8];
    struct in6_addr v6;
    struct in_addr v4;
    uint64_t len;

    if (strlen(word) >= sizeof(text))
        return fail(err, "%s: \"%.60s\" is no prefix", key, word);
    strcpy(text, word);
    char *slash = strchr(text, '/');
    if (slash)
        *slash++ = '\0';
    bool is_v4 = inet_pton(AF_INET, text, &v4) == 1;
    if (!is_v4 && inet_pton(AF_INET6, text, &v6) != 1)
        return fail(err, "%s: \"%.60s\" is no prefix, like 10.0.0.0/8 or 2001:db8::/32", key, word);
    len = is_v4 ? 32 : 128;
    if (slash && parse_number(key, slash, 0, len, &len, err) < 0)
        return -EINVAL;
    ret->addr = is_v4 ? addr_from_v4(&v4) : addr_from_v6(&v6);
    if (!is_v4 && addr_is_v4(&ret->addr))
        return fail(err, "%s: \"%.60s\" is an IPv4 address; write it as one", key, word);
    ret->len = (uint8_t)(is_v4 ? len + V4_OFFSET : len);
    ret->is_v6 = !is_v4;
    if (has_bits_behind(ret))
        return fail(err, "%s: \"%.60s\" has bits set behind its length", key, word);
    return 0;
}

/* One of a list's parsers: reads a word into ret. */
typedef int (*word_fn)(const char *key, const char *word, void *ret, char err[RULETEXT_ERROR_LEN]);

static int prefix_word(const char *key, const char *word, void *ret, char err[RULETEXT_ERROR_LEN])
{
    return parse_prefix(key, word, ret, err);
}

static int ports_word(const char *key, const char *word, void *ret, char err[RULETEXT_ERROR_LEN])
{
    return bypass_parse_range(word, ret) == 0
               ? 0
               : fail(err, "%s: \"%.60s\" is no port, like 80 or 6000-6010", key, word);
}

static int parse_list(const char *key, const char *value, word_fn fn, void *list, size_t each_len,
                      uint8_t *ret_cnt, char err[RULETEXT_ERROR_LEN])
{
    char word[64];
    uint8_t cnt = 0;

    for (;;) {
        size_t len = strcspn(value, ",");
        if (len >= sizeof(word))
            return fail(err, "%s: \"%.60s\" is too long", key, value);
        memcpy(word, value, len);
        word[len] = '\0';
        if (cnt == POLICY_LIST_MAX_CNT)
            return fail(err, "%s: more than %d; make it several rules", key, POLICY_LIST_MAX_CNT);
        int e = fn(key, word, (char *)list + cnt++ * each_len, err);
        if (e)
            return e;
        if (!value[len])
            break;
        value += len + 1;
    }
    *ret_cnt = cnt;
    return 0;
}

static int parse_prefixes(enum key key, const char *value, struct policy_prefix *list,
                          uint8_t *ret_cnt, char err[RULETEXT_ERROR_LEN])
{
    return parse_list(keys[key], value, prefix_word, list, sizeof(*list), ret_cnt, err);
}

static int parse_ports(enum key key, const char *value, struct port_range *list, uint8_t *ret_cnt,
                       char err[RULETEXT_ERROR_LEN])
{
    return parse_list(keys[key], value, ports_word, list, sizeof(*list), ret_cnt, err);
}

/* --- Settings -------------------------------------------------------------------- */

static int check_suite(const char *key, int e, const char *bad, size_t len, const char *names,
                       char err[RULETEXT_ERROR_LEN])
{
    if (e == -EEXIST)
        return fail(err, "%s: \"%.*s\" comes twice", key, (int)len, bad);
    if (e)
        return fail(err, "%s: \"%.*s\" is none of %s", key, len > 60 ? 60 : (int)len, bad, names);
    return 0;
}

/* Whether key is base, or base with a role behind it; then which roles. */
static bool is_of_roles(const char *key, const char *base, bool ret_roles[2])
{
    size_t len = strlen(base);

    if (strncmp(key, base, len) != 0)
        return false;
    ret_roles[SESSION_ROLE_A] = strcmp(key + len, "-b") != 0;
    ret_roles[SESSION_ROLE_B] = strcmp(key + len, "-a") != 0;
    return !key[len] || !ret_roles[SESSION_ROLE_A] || !ret_roles[SESSION_ROLE_B];
}

static int parse_teps(struct policy_settings *s, const char *key, const char *value,
                      const bool roles[2], char err[RULETEXT_ERROR_LEN])
{
    static const unsigned bits[] = {POLICY_SET_TEPS_A, POLICY_SET_TEPS_B};
    const char *bad = "";
    size_t len = 0;

    for (int role = 0; role < 2; role++) {
        if (!roles[role])
            continue;
        int e = suites_parse_teps(value, &s->session[role], &bad, &len);
        if (e)
            return check_suite(key, e, bad, len, SUITES_TEP_NAMES, err);
        s->set |= bits[role];
    }
    return 0;
}

static int parse_aeads(struct policy_settings *s, const char *key, const char *value,
                       const bool roles[2], char err[RULETEXT_ERROR_LEN])
{
    static const unsigned bits[] = {POLICY_SET_AEADS_A, POLICY_SET_AEADS_B};
    const char *bad = "";
    size_t len = 0;

    for (int role = 0; role < 2; role++) {
        if (!roles[role])
            continue;
        int e = suites_parse_aeads(value, &s->session[role], &bad, &len);
        if (e)
            return check_suite(key, e, bad, len, SUITES_AEAD_NAMES, err);
        s->set |= bits[role];
    }
    return 0;
}

static int parse_app_aware(struct policy_settings *s, const char *value,
                           char err[RULETEXT_ERROR_LEN])
{
    bool mandatory = strcmp(value, "mandatory") == 0;
    bool on = mandatory || strcmp(value, "on") == 0;

    if (!on && strcmp(value, "off") != 0)
        return fail(err, "app-aware: \"%.60s\" is none of off, on, mandatory", value);
    for (int role = 0; role < 2; role++) {
        s->session[role].app_aware = on;
        s->session[role].mandatory_app_aware = mandatory;
    }
    s->set |= POLICY_SET_APP_AWARE;
    return 0;
}

static int parse_no_resume(struct policy_settings *s, const char *value,
                           char err[RULETEXT_ERROR_LEN])
{
    bool no_resume;
    int e = parse_flag("no-resume", value, &no_resume, err);

    if (e)
        return e;
    s->session[SESSION_ROLE_A].no_resume = s->session[SESSION_ROLE_B].no_resume = no_resume;
    s->set |= POLICY_SET_RESUME;
    return 0;
}

static int parse_rekey_bytes(struct policy_settings *s, const char *value,
                             char err[RULETEXT_ERROR_LEN])
{
    uint64_t n;
    int e = parse_number("rekey-bytes", value, 1, SESSION_REKEY_BYTES_MAX, &n, err);

    if (e)
        return e;
    s->session[SESSION_ROLE_A].rekey_bytes = s->session[SESSION_ROLE_B].rekey_bytes = n;
    s->set |= POLICY_SET_REKEY_BYTES;
    return 0;
}

static int parse_keepalive(struct policy_settings *s, const char *value,
                           char err[RULETEXT_ERROR_LEN])
{
    uint64_t n;
    int e = parse_number("keepalive", value, 0, SECONDS_MAX, &n, err);

    if (e)
        return e;
    s->keepalive_s = (unsigned)n;
    s->set |= POLICY_SET_KEEPALIVE;
    return 0;
}

int ruletext_set_setting(struct policy_settings *s, const char *key, const char *value,
                         char err[RULETEXT_ERROR_LEN])
{
    bool roles[2];

    if (is_of_roles(key, "tep", roles))
        return parse_teps(s, key, value, roles, err);
    if (is_of_roles(key, "aead", roles))
        return parse_aeads(s, key, value, roles, err);
    if (strcmp(key, "app-aware") == 0)
        return parse_app_aware(s, value, err);
    if (strcmp(key, "no-resume") == 0)
        return parse_no_resume(s, value, err);
    if (strcmp(key, "keepalive") == 0)
        return parse_keepalive(s, value, err);
    if (strcmp(key, "rekey-bytes") == 0)
        return parse_rekey_bytes(s, value, err);
    return -ENOENT;
}

/* --- A rule ---------------------------------------------------------------------- */

static size_t find_key(const char *key)
{
    size_t i = 0;

    while (i < KEY_CNT && strcmp(keys[i], key) != 0)
        i++;
    return i;
}

static int no_such_key(const char *key, char err[RULETEXT_ERROR_LEN])
{
    char all[256] = "";

    for (size_t i = 0; i < KEY_CNT; i++) {
        strcat(all, i ? ", " : "");
        strcat(all, keys[i]);
    }
    return fail(err, "\"%.60s\" is no key of a rule; there are %s", key, all);
}

static int read_value(struct policy_rule *r, enum key key, const char *value,
                      char err[RULETEXT_ERROR_LEN])
{
    switch (key) {
    case KEY_ACTION:
        return parse_action(r, value, err);
    case KEY_DIRECTION:
        return parse_dir(r, value, err);
    case KEY_NAME:
        return parse_name(r, value, err);
    case KEY_PEER:
        return parse_prefixes(key, value, r->peers, &r->peer_cnt, err);
    case KEY_LOCAL:
        return parse_prefixes(key, value, r->locals, &r->local_cnt, err);
    case KEY_PORT:
        return parse_ports(key, value, r->ports, &r->port_cnt, err);
    case KEY_PEER_PORT:
        return parse_ports(key, value, r->peer_ports, &r->peer_port_cnt, err);
    case KEY_LOCAL_PORT:
        return parse_ports(key, value, r->local_ports, &r->local_port_cnt, err);
    case KEY_SETTING_FIRST:
        break;
    }
    return ruletext_set_setting(&r->settings, keys[key], value, err);
}

/* "tep" says nothing of the role that "tep-a" is about, in whatever order they come. */
static int read_setting(struct ruletext *t, const char *key, const char *value,
                        char err[RULETEXT_ERROR_LEN])
{
    struct policy_settings before = t->rule.settings;
    struct policy_settings *s = &t->rule.settings;
    int e = ruletext_set_setting(s, key, value, err);

    if (e)
        return e;
    for (int role = 0; role < 2; role++) {
        if (strcmp(key, "tep") == 0 &&
            before.set & (role ? POLICY_SET_TEPS_B : POLICY_SET_TEPS_A)) {
            memcpy(s->session[role].teps, before.session[role].teps, sizeof(s->session[role].teps));
            s->session[role].tep_cnt = before.session[role].tep_cnt;
        }
        if (strcmp(key, "aead") == 0 &&
            before.set & (role ? POLICY_SET_AEADS_B : POLICY_SET_AEADS_A)) {
            memcpy(s->session[role].aeads, before.session[role].aeads,
                   sizeof(s->session[role].aeads));
            s->session[role].aead_cnt = before.session[role].aead_cnt;
        }
    }
    return 0;
}

int ruletext_set(struct ruletext *t, const char *key, const char *value,
                 char err[RULETEXT_ERROR_LEN])
{
    size_t i = find_key(key);

    if (i == KEY_CNT)
        return no_such_key(key, err);
    if (t->seen & 1u << i)
        return fail(err, "%s comes twice", key);
    t->seen |= 1u << i;
    if (i >= KEY_SETTING_FIRST)
        return read_setting(t, key, value, err);
    return read_value(&t->rule, (enum key)i, value, err);
}

/* The kernel sees packets, not who opened a connection; and what it carries itself has
 * nothing to be set. */
static int check_bypass(const struct ruletext *t, char err[RULETEXT_ERROR_LEN])
{
    const struct policy_rule *r = &t->rule;

    if (r->dir != POLICY_DIR_ANY)
        return fail(err, "a rule that bypasses holds for both directions");
    if (t->seen >> KEY_SETTING_FIRST)
        return fail(err, "a rule that bypasses takes no settings");
    if (!r->peer_cnt && !r->local_cnt && !r->port_cnt && !r->peer_port_cnt && !r->local_port_cnt)
        return fail(err, "a rule that bypasses needs a prefix or a port");
    if (!bypass_can_follow(r))
        return fail(err,
                    "a rule that bypasses cannot have port 65535: the kernel's routing rules go "
                    "up to %d",
                    BYPASS_PORT_MAX);
    return 0;
}

int ruletext_finish(const struct ruletext *t, struct policy_rule *ret, char err[RULETEXT_ERROR_LEN])
{
    if (!(t->seen & 1u << KEY_ACTION))
        return fail(err, "a rule needs an action: prefer, require, off or bypass");
    if (t->rule.action == TUNNEL_POLICY_BYPASS) {
        int e = check_bypass(t, err);
        if (e)
            return e;
    }
    *ret = t->rule;
    return 0;
}

static bool is_dir(const char *word)
{
    for (size_t i = 0; i < sizeof(dirs) / sizeof(dirs[0]); i++)
        if (strcmp(dirs[i], word) == 0)
            return true;
    return false;
}

static int read_word(struct ruletext *t, char *word, char err[RULETEXT_ERROR_LEN])
{
    char *value = strchr(word, '=');

    if (value) {
        *value++ = '\0';
        return ruletext_set(t, word, value, err);
    }
    if (is_dir(word))
        return ruletext_set(t, "direction", word, err);
    if (strcmp(word, "no-resume") == 0)
        return ruletext_set(t, word, "yes", err);
    if (find_key(word) < KEY_CNT)
        return fail(err, "%s needs a value: %s=...", word, word);
    return ruletext_set(t, "action", word, err);
}

int ruletext_parse(const char *text, struct policy_rule *ret, char err[RULETEXT_ERROR_LEN])
{
    struct ruletext t = {.seen = 0};
    char *copy = strdup(text), *rest = copy, *word;
    int e = copy ? 0 : fail(err, "out of memory");

    while (!e && (word = strtok_r(rest, BLANKS, &rest)))
        e = read_word(&t, word, err);
    free(copy);
    return e ? e : ruletext_finish(&t, ret, err);
}

/* --- A list of rules ------------------------------------------------------------- */

static int check_names(const struct policy_rule *rules, size_t cnt, char err[RULETEXT_ERROR_LEN])
{
    for (size_t i = 1; i < cnt; i++)
        for (size_t k = 0; k < i && rules[i].name[0]; k++)
            if (strcmp(rules[i].name, rules[k].name) == 0)
                return fail(err, "rules %zu and %zu have the same name, %s", k + 1, i + 1,
                            rules[i].name);
    return 0;
}

static int check_order(const struct policy_rule *rules, size_t cnt, char err[RULETEXT_ERROR_LEN])
{
    for (size_t i = 1; i < cnt; i++)
        if (rules[i].action == TUNNEL_POLICY_BYPASS && rules[i - 1].action != TUNNEL_POLICY_BYPASS)
            return fail(err,
                        "rule %zu bypasses, but stands behind others: the kernel follows those "
                        "first",
                        i + 1);
    return 0;
}

static int check_bypassing(const struct policy_rule *rules, size_t cnt,
                           char err[RULETEXT_ERROR_LEN])
{
    struct bypass all = {.cnt = 0};

    for (size_t i = 0; i < cnt; i++)
        if (bypass_add_rule(&all, &rules[i]) < 0)
            return fail(
                err, "the rules that bypass make more than %d combinations of prefixes and ports",
                BYPASS_MATCH_MAX_CNT);
    return 0;
}

int ruletext_check(const struct policy_rule *rules, size_t cnt, char err[RULETEXT_ERROR_LEN])
{
    struct policy_config cfg = {.rules = rules, .rule_cnt = cnt};
    struct policy *made;

    if (cnt > POLICY_RULE_MAX_CNT)
        return fail(err, "more than %d rules", POLICY_RULE_MAX_CNT);
    int e = check_names(rules, cnt, err);
    if (!e)
        e = check_order(rules, cnt, err);
    if (e)
        return e;
    e = check_bypassing(rules, cnt, err);
    if (e)
        return e;
    e = policy_new(&cfg, &made);
    if (e == -E2BIG)
        return fail(err, "the rules' lists make too many combinations");
    if (e)
        return fail(err, "out of memory");
    policy_unref(made);
    return 0;
}

/* --- Writing --------------------------------------------------------------------- */

static void put_prefixes(FILE *out, enum key key, const struct policy_prefix *list, size_t cnt)
{
    char text[ADDR_STR_LEN];

    for (size_t i = 0; i < cnt; i++) {
        const struct policy_prefix *p = &list[i];
        fprintf(out, i ? "," : " %s=", keys[key]);
        fputs(addr_str(&p->addr, text), out);
        if (p->len < 128)
            fprintf(out, "/%d", p->is_v6 ? p->len : p->len - V4_OFFSET);
    }
}

static void put_ports(FILE *out, enum key key, const struct port_range *list, size_t cnt)
{
    for (size_t i = 0; i < cnt; i++) {
        fprintf(out, i ? "," : " %s=", keys[key]);
        fprintf(out, "%u", list[i].first);
        if (list[i].last != list[i].first)
            fprintf(out, "-%u", list[i].last);
    }
}

static void put_teps(FILE *out, const char *key, const struct session_config *cfg)
{
    for (size_t i = 0; i < cfg->tep_cnt; i++) {
        fprintf(out, i ? "," : " %s=", key);
        fputs(suites_tep_name(cfg->teps[i]), out);
    }
}

static void put_aeads(FILE *out, const char *key, const struct session_config *cfg)
{
    for (size_t i = 0; i < cfg->aead_cnt; i++) {
        fprintf(out, i ? "," : " %s=", key);
        fputs(suites_aead_name(cfg->aeads[i]), out);
    }
}

static void put_suites(FILE *out, const struct policy_settings *s)
{
    if (s->set & POLICY_SET_TEPS_A)
        put_teps(out, "tep-a", &s->session[SESSION_ROLE_A]);
    if (s->set & POLICY_SET_TEPS_B)
        put_teps(out, "tep-b", &s->session[SESSION_ROLE_B]);
    if (s->set & POLICY_SET_AEADS_A)
        put_aeads(out, "aead-a", &s->session[SESSION_ROLE_A]);
    if (s->set & POLICY_SET_AEADS_B)
        put_aeads(out, "aead-b", &s->session[SESSION_ROLE_B]);
}

static void put_settings(FILE *out, const struct policy_settings *s)
{
    const struct session_config *cfg = &s->session[SESSION_ROLE_A];

    put_suites(out, s);
    if (s->set & POLICY_SET_APP_AWARE)
        fprintf(out, " app-aware=%s", suites_app_aware_name(cfg));
    if (s->set & POLICY_SET_RESUME)
        fprintf(out, " no-resume=%s", cfg->no_resume ? "yes" : "no");
    if (s->set & POLICY_SET_KEEPALIVE)
        fprintf(out, " keepalive=%u", s->keepalive_s);
    if (s->set & POLICY_SET_REKEY_BYTES)
        fprintf(out, " rekey-bytes=%llu", (unsigned long long)cfg->rekey_bytes);
}

char *ruletext_str(const struct policy_rule *r)
{
    char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);

    if (!out)
        return NULL;
    fputs(policy_name(r->action), out);
    if (r->dir != POLICY_DIR_ANY)
        fprintf(out, " %s", dirs[r->dir]);
    if (r->name[0])
        fprintf(out, " name=%s", r->name);
    put_prefixes(out, KEY_PEER, r->peers, r->peer_cnt);
    put_prefixes(out, KEY_LOCAL, r->locals, r->local_cnt);
    put_ports(out, KEY_PORT, r->ports, r->port_cnt);
    put_ports(out, KEY_PEER_PORT, r->peer_ports, r->peer_port_cnt);
    put_ports(out, KEY_LOCAL_PORT, r->local_ports, r->local_port_cnt);
    put_settings(out, &r->settings);
    if (fclose(out) == 0)
        return text;
    free(text);
    return NULL;
}
