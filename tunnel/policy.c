/* SPDX-License-Identifier: BSD-3-Clause
 * Which connections are encrypted how: rules and a default.
 */
#include "tunnel/policy.h"

#include <assert.h>
#include <errno.h>
#include <sys/socket.h>
#include <stdlib.h>
#include <string.h>

#define MATCHER_MAX_CNT 8192
#define ROLE_CNT        2

/* An address, or the bits of it that count. */
struct bits {
    uint64_t words[2];
};

/* One combination of a rule's lists. Small: a new connection goes through all of them
 * that stand ahead of the one that matches. */
struct matcher {
    struct bits peer, peer_mask, local, local_mask;
    struct port_range peer_port, local_port, port;
    uint16_t rule; /* from 1 */
    uint8_t dir;
    bool is_v6;
};

struct entry {
    char name[POLICY_NAME_LEN];
    enum tunnel_policy policy;
    struct session_config session[ROLE_CNT];
    unsigned keepalive_s;
    uint64_t matched_cnt;
};

struct policy {
    unsigned refs;
    size_t matcher_cnt, rule_cnt;
    struct matcher *matchers;
    struct entry entries[]; /* rule_cnt and, first, the default */
};

/* --- Matching -------------------------------------------------------------------- */

static struct bits bits_of(const struct addr *a)
{
    struct bits b;

    _Static_assert(sizeof(b) == sizeof(*a), "an address is two words");
    memcpy(&b, a, sizeof(b));
    return b;
}

static struct bits mask_of(unsigned len)
{
    uint8_t bytes[16] = {0};
    struct bits b;

    memset(bytes, 0xff, len / 8);
    if (len % 8)
        bytes[len / 8] = (uint8_t)(0xff00 >> len % 8);
    memcpy(&b, bytes, sizeof(b));
    return b;
}

static bool bits_eq(const struct bits *a, const struct bits *mask, const struct bits *b)
{
    return !(((a->words[0] & mask->words[0]) ^ b->words[0]) |
             ((a->words[1] & mask->words[1]) ^ b->words[1]));
}

static bool has_port(const struct port_range *r, uint16_t port)
{
    return port >= r->first && port <= r->last;
}

bool policy_prefix_has(const struct policy_prefix *prefix, const struct addr *addr)
{
    struct bits a = bits_of(addr), b = bits_of(&prefix->addr), mask = mask_of(prefix->len);

    return bits_eq(&a, &mask, &b) && !(prefix->is_v6 && addr_is_v4(addr));
}

unsigned policy_find(struct policy *p, const struct tuple *tuple, bool inbound)
{
    struct bits peer = bits_of(&tuple->peer), local = bits_of(&tuple->local);
    uint16_t port = inbound ? tuple->local_port : tuple->peer_port;
    uint8_t other = inbound ? POLICY_DIR_OUT : POLICY_DIR_IN;
    bool is_v4 = addr_is_v4(&tuple->peer);
    unsigned rule = 0;

    for (size_t i = 0; i < p->matcher_cnt && !rule; i++) {
        const struct matcher *m = &p->matchers[i];

        if (m->dir != other && !(is_v4 && m->is_v6) && bits_eq(&peer, &m->peer_mask, &m->peer) &&
            bits_eq(&local, &m->local_mask, &m->local) &&
            has_port(&m->peer_port, tuple->peer_port) &&
            has_port(&m->local_port, tuple->local_port) && has_port(&m->port, port))
            rule = m->rule;
    }
    p->entries[rule].matched_cnt++;
    return rule;
}

static bool prefixes_have(const struct policy_prefix *list, size_t cnt, const struct addr *addr)
{
    bool found = cnt == 0;

    for (size_t i = 0; i < cnt && !found; i++)
        found = policy_prefix_has(&list[i], addr);
    return found;
}

static bool ports_have(const struct port_range *list, size_t cnt, uint16_t port)
{
    bool found = cnt == 0;

    for (size_t i = 0; i < cnt && !found; i++)
        found = has_port(&list[i], port);
    return found;
}

bool policy_rule_bypasses(const struct policy_rule *r, const struct tuple *t)
{
    return r->action == TUNNEL_POLICY_BYPASS && prefixes_have(r->peers, r->peer_cnt, &t->peer) &&
           prefixes_have(r->locals, r->local_cnt, &t->local) &&
           ports_have(r->peer_ports, r->peer_port_cnt, t->peer_port) &&
           ports_have(r->local_ports, r->local_port_cnt, t->local_port) &&
           (ports_have(r->ports, r->port_cnt, t->peer_port) ||
            ports_have(r->ports, r->port_cnt, t->local_port));
}

/* --- Preparing ------------------------------------------------------------------- */

static size_t at_least_one(size_t cnt)
{
    return cnt ? cnt : 1;
}

/* Cannot overflow: five lists of at most POLICY_LIST_MAX_CNT. */
static size_t matcher_cnt_of(const struct policy_rule *r)
{
    if (r->action == TUNNEL_POLICY_BYPASS)
        return 0;
    return at_least_one(r->peer_cnt) * at_least_one(r->local_cnt) * at_least_one(r->port_cnt) *
           at_least_one(r->peer_port_cnt) * at_least_one(r->local_port_cnt);
}

static struct port_range pick_port(const struct port_range *list, size_t cnt, size_t *n)
{
    static const struct port_range any = {0, UINT16_MAX};
    size_t i = *n % at_least_one(cnt);

    *n /= at_least_one(cnt);
    return cnt ? list[i] : any;
}

static struct policy_prefix pick_prefix(const struct policy_prefix *list, size_t cnt, size_t *n)
{
    static const struct policy_prefix any;
    size_t i = *n % at_least_one(cnt);

    *n /= at_least_one(cnt);
    return cnt ? list[i] : any;
}

/* The n-th combination of the rule's lists. */
static struct matcher matcher_of(const struct policy_rule *r, size_t n)
{
    struct policy_prefix peer = pick_prefix(r->peers, r->peer_cnt, &n);
    struct policy_prefix local = pick_prefix(r->locals, r->local_cnt, &n);
    struct matcher m = {
        .peer = bits_of(&peer.addr),
        .peer_mask = mask_of(peer.len),
        .local = bits_of(&local.addr),
        .local_mask = mask_of(local.len),
        .dir = (uint8_t)r->dir,
        .is_v6 = peer.is_v6 || local.is_v6,
    };

    m.peer_port = pick_port(r->peer_ports, r->peer_port_cnt, &n);
    m.local_port = pick_port(r->local_ports, r->local_port_cnt, &n);
    m.port = pick_port(r->ports, r->port_cnt, &n);
    return m;
}

static void add_matchers(struct policy *p, const struct policy_rule *r, size_t number)
{
    size_t cnt = matcher_cnt_of(r);

    for (size_t i = 0; i < cnt; i++) {
        struct matcher m = matcher_of(r, i);
        m.rule = (uint16_t)number;
        p->matchers[p->matcher_cnt++] = m;
    }
}

static void set_teps(struct session_config *cfg, const struct session_config *from)
{
    memcpy(cfg->teps, from->teps, sizeof(cfg->teps));
    cfg->tep_cnt = from->tep_cnt;
}

static void set_aeads(struct session_config *cfg, const struct session_config *from)
{
    memcpy(cfg->aeads, from->aeads, sizeof(cfg->aeads));
    cfg->aead_cnt = from->aead_cnt;
}

static void apply(struct entry *e, const struct policy_settings *s)
{
    static const unsigned tep_bits[ROLE_CNT] = {POLICY_SET_TEPS_A, POLICY_SET_TEPS_B};
    static const unsigned aead_bits[ROLE_CNT] = {POLICY_SET_AEADS_A, POLICY_SET_AEADS_B};

    if (s->set & POLICY_SET_KEEPALIVE)
        e->keepalive_s = s->keepalive_s;
    for (int role = 0; role < ROLE_CNT; role++) {
        struct session_config *cfg = &e->session[role];
        const struct session_config *from = &s->session[role];

        if (s->set & tep_bits[role])
            set_teps(cfg, from);
        if (s->set & aead_bits[role])
            set_aeads(cfg, from);
        if (s->set & POLICY_SET_APP_AWARE) {
            cfg->app_aware = from->app_aware;
            cfg->mandatory_app_aware = from->mandatory_app_aware;
        }
        if (s->set & POLICY_SET_RESUME)
            cfg->no_resume = cfg->no_cache = from->no_resume;
        if (s->set & POLICY_SET_REKEY_BYTES)
            cfg->rekey_bytes = from->rekey_bytes;
    }
}

static void fill(struct policy *p, const struct policy_config *cfg)
{
    struct entry *def = &p->entries[0];

    def->policy = cfg->policy;
    def->keepalive_s = cfg->keepalive_s;
    for (int role = 0; role < ROLE_CNT; role++)
        def->session[role] = cfg->session ? *cfg->session : session_config_default;
    apply(def, &cfg->settings);
    for (size_t i = 0; i < cfg->rule_cnt; i++) {
        const struct policy_rule *r = &cfg->rules[i];
        struct entry *e = &p->entries[i + 1];

        *e = *def;
        e->policy = r->action;
        memcpy(e->name, r->name, sizeof(e->name));
        apply(e, &r->settings);
        add_matchers(p, r, i + 1);
    }
}

int policy_new(const struct policy_config *cfg, struct policy **ret)
{
    size_t cnt = 0;

    if (cfg->rule_cnt > POLICY_RULE_MAX_CNT)
        return -E2BIG;
    for (size_t i = 0; i < cfg->rule_cnt; i++) {
        cnt += matcher_cnt_of(&cfg->rules[i]);
        if (cnt > MATCHER_MAX_CNT)
            return -E2BIG;
    }
    struct policy *p = calloc(1, sizeof(*p) + (cfg->rule_cnt + 1) * sizeof(p->entries[0]));
    struct matcher *matchers = calloc(at_least_one(cnt), sizeof(*matchers));
    if (!p || !matchers) {
        free(p);
        free(matchers);
        return -ENOMEM;
    }
    p->refs = 1;
    p->rule_cnt = cfg->rule_cnt;
    p->matchers = matchers;
    fill(p, cfg);
    *ret = p;
    return 0;
}

struct policy *policy_ref(struct policy *p)
{
    p->refs++;
    return p;
}

void policy_unref(struct policy *p)
{
    if (!p || --p->refs > 0)
        return;
    free(p->matchers);
    free(p);
}

void policy_set_stores(struct policy *p, struct resume_cache *cache, struct kex_pool *keys)
{
    for (size_t i = 0; i <= p->rule_cnt; i++) {
        for (int role = 0; role < ROLE_CNT; role++) {
            p->entries[i].session[role].cache = cache;
            p->entries[i].session[role].keys = keys;
        }
    }
}

/* --- Bypassing ------------------------------------------------------------------- */

bool policy_is_any_port(const struct port_range *r)
{
    return r->first == 0 && r->last == UINT16_MAX;
}

int policy_match_family(const struct policy_match *m)
{
    if (m->peer.is_v6 || m->local.is_v6)
        return AF_INET6;
    return m->peer.len || m->local.len ? AF_INET : 0;
}

bool policy_match_takes(const struct policy_match *m, const struct tuple *t)
{
    return policy_prefix_has(&m->peer, &t->peer) && policy_prefix_has(&m->local, &t->local) &&
           has_port(&m->peer_port, t->peer_port) && has_port(&m->local_port, t->local_port);
}

/* Return: whether anything is left of *r. */
static bool narrow(struct port_range *r, const struct port_range *by)
{
    r->first = by->first > r->first ? by->first : r->first;
    r->last = by->last < r->last ? by->last : r->last;
    return r->first <= r->last;
}

/* "port" is of either end: each range of it makes two. */
static size_t end_cnt_of(const struct policy_rule *r)
{
    return r->port_cnt ? 2u * r->port_cnt : 1;
}

/* The n-th combination. Return: whether anything matches it. */
static bool match_of(const struct policy_rule *r, size_t n, struct policy_match *ret)
{
    ret->peer = pick_prefix(r->peers, r->peer_cnt, &n);
    ret->local = pick_prefix(r->locals, r->local_cnt, &n);
    ret->peer_port = pick_port(r->peer_ports, r->peer_port_cnt, &n);
    ret->local_port = pick_port(r->local_ports, r->local_port_cnt, &n);
    if ((ret->peer.len || ret->peer.is_v6) && (ret->local.len || ret->local.is_v6) &&
        ret->peer.is_v6 != ret->local.is_v6)
        return false;
    if (!r->port_cnt)
        return true;
    return narrow(n % 2 ? &ret->local_port : &ret->peer_port, &r->ports[n / 2]);
}

size_t policy_rule_matches(const struct policy_rule *r, struct policy_match *ret, size_t max)
{
    size_t all = at_least_one(r->peer_cnt) * at_least_one(r->local_cnt) *
                 at_least_one(r->peer_port_cnt) * at_least_one(r->local_port_cnt) * end_cnt_of(r);
    size_t cnt = 0;

    for (size_t i = 0; i < all && cnt <= max; i++) {
        struct policy_match m = {.peer = {.len = 0}};

        if (!match_of(r, i, &m))
            continue;
        if (cnt < max)
            ret[cnt] = m;
        cnt++;
    }
    return cnt;
}

/* --- Answers --------------------------------------------------------------------- */

struct policy_verdict policy_verdict(const struct policy *p, unsigned rule, enum session_role role)
{
    assert(rule <= p->rule_cnt);
    const struct entry *e = &p->entries[rule];

    return (struct policy_verdict){
        .policy = e->policy,
        .session = &e->session[role],
        .keepalive_s = e->keepalive_s,
        .rule = rule,
        .name = e->name,
    };
}

uint64_t policy_matched_cnt(const struct policy *p, unsigned rule)
{
    assert(rule <= p->rule_cnt);
    return p->entries[rule].matched_cnt;
}

size_t policy_rule_cnt(const struct policy *p)
{
    return p->rule_cnt;
}

static void add_suites(struct session_config *all, const struct session_config *cfg)
{
    for (size_t i = 0; i < cfg->tep_cnt; i++)
        if (!memchr(all->teps, cfg->teps[i], all->tep_cnt))
            all->teps[all->tep_cnt++] = cfg->teps[i];
    for (size_t i = 0; i < cfg->aead_cnt; i++) {
        size_t k = 0;
        while (k < all->aead_cnt && all->aeads[k] != cfg->aeads[i])
            k++;
        if (k == all->aead_cnt)
            all->aeads[all->aead_cnt++] = cfg->aeads[i];
    }
}

void policy_suites(const struct policy *p, struct session_config *ret)
{
    struct session_config all = {.tep_cnt = 0};

    for (size_t i = 0; i <= p->rule_cnt; i++) {
        const struct entry *e = &p->entries[i];
        if (e->policy != TUNNEL_POLICY_PREFER && e->policy != TUNNEL_POLICY_REQUIRE)
            continue;
        for (int role = 0; role < ROLE_CNT; role++)
            add_suites(&all, &e->session[role]);
    }
    *ret = all;
}

/* --- Names ----------------------------------------------------------------------- */

const char *policy_name(enum tunnel_policy policy)
{
    switch (policy) {
    case TUNNEL_POLICY_PREFER:
        return "prefer";
    case TUNNEL_POLICY_REQUIRE:
        return "require";
    case TUNNEL_POLICY_OFF:
        return "off";
    case TUNNEL_POLICY_BYPASS:
        return "bypass";
    }
    return "unknown";
}

int policy_parse(const char *text, enum tunnel_policy *ret)
{
    static const enum tunnel_policy all[] = {TUNNEL_POLICY_PREFER, TUNNEL_POLICY_REQUIRE,
                                             TUNNEL_POLICY_OFF};

    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        if (strcmp(policy_name(all[i]), text) == 0) {
            *ret = all[i];
            return 0;
        }
    }
    return -EINVAL;
}
