/* SPDX-License-Identifier: BSD-3-Clause
 * Which connections are encrypted how: an ordered list of rules and a default.
 *
 * How it works: pure. policy_new() copies a configuration and prepares it: lists of
 * prefixes and ports become a flat table of matchers, and each rule gets the two
 * complete session configurations that hold under it, one for each role. The first rule
 * that matches a connection decides; rule 0 is the default. Policies are counted
 * references: a connection keeps the one that it began with, whatever replaces it.
 *
 * Rules with the action BYPASS decide nothing here: the kernel follows them ahead of
 * us, by packets, without knowing who opened a connection. They stand first.
 */
#ifndef TCNS_TUNNEL_POLICY_H
#define TCNS_TUNNEL_POLICY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/tuple.h"
#include "tcpcrypt/session.h"

enum tunnel_policy {
    TUNNEL_POLICY_PREFER,  /* clear when the peer cannot encrypt */
    TUNNEL_POLICY_REQUIRE, /* refuse then */
    TUNNEL_POLICY_OFF,     /* never negotiate */
    TUNNEL_POLICY_BYPASS,  /* the kernel's own; only of a rule, never the default */
};

struct port_range {
    uint16_t first, last; /* host byte order, both included, first <= last */
};

struct policy_prefix {
    struct addr addr; /* its bits behind len are zero */
    uint8_t len;      /* of 128: an IPv4 prefix has 96 more than it is written with */
    bool is_v6;       /* no IPv4 address matches, however short it is */
};

enum policy_dir { POLICY_DIR_ANY, POLICY_DIR_IN, POLICY_DIR_OUT };

/* What a rule, or the default, sets beside the action. Lists have one value for each
 * role: session[SESSION_ROLE_A] holds when the container opens the connection,
 * session[SESSION_ROLE_B] when the peer does. */
enum policy_setting {
    POLICY_SET_TEPS_A = 0x01,
    POLICY_SET_TEPS_B = 0x02,
    POLICY_SET_AEADS_A = 0x04,
    POLICY_SET_AEADS_B = 0x08,
    POLICY_SET_APP_AWARE = 0x10, /* both app-aware flags */
    POLICY_SET_RESUME = 0x20,    /* no_resume and no_cache */
    POLICY_SET_REKEY_BYTES = 0x40,
    POLICY_SET_KEEPALIVE = 0x80,
};

struct policy_settings {
    unsigned set;                     /* of enum policy_setting; the rest is as before */
    struct session_config session[2]; /* by role; only what is set means something */
    unsigned keepalive_s;
};

#define POLICY_NAME_LEN     32 /* with the zero byte */
#define POLICY_LIST_MAX_CNT 16
#define POLICY_RULE_MAX_CNT 1024

/* An empty list matches everything. */
struct policy_rule {
    char name[POLICY_NAME_LEN]; /* "": none */
    enum tunnel_policy action;
    enum policy_dir dir;
    struct policy_prefix peers[POLICY_LIST_MAX_CNT], locals[POLICY_LIST_MAX_CNT];
    struct port_range peer_ports[POLICY_LIST_MAX_CNT], local_ports[POLICY_LIST_MAX_CNT];
    struct port_range ports[POLICY_LIST_MAX_CNT]; /* of the end that was connected to; with
                                                     BYPASS: of either end */
    uint8_t peer_cnt, local_cnt, peer_port_cnt, local_port_cnt, port_cnt;
    struct policy_settings settings;
};

struct policy_config {
    enum tunnel_policy policy;            /* the default; not BYPASS */
    const struct session_config *session; /* borrowed; what holds where nothing is set;
                                             NULL: session_config_default */
    unsigned keepalive_s;                 /* likewise; 0: none */
    struct policy_settings settings;      /* of the default, on top of session */
    const struct policy_rule *rules;      /* borrowed; the first that matches decides */
    size_t rule_cnt;
};

struct policy;

/* One reference. Return: 0; -E2BIG when lists multiply to more matchers than fit, or there
 * are more than POLICY_RULE_MAX_CNT rules; -ENOMEM. */
int policy_new(const struct policy_config *cfg, struct policy **ret);
struct policy *policy_ref(struct policy *p);
void policy_unref(struct policy *p); /* NULL is a no-op */

/* Session secrets for resumption are kept there, for all rules that allow it, and keys come
 * from there. Borrowed, may be NULL. To be set before the first connection. */
void policy_set_stores(struct policy *p, struct resume_cache *cache, struct kex_pool *keys);

/* What a rule says; all of it lives as long as the policy. */
struct policy_verdict {
    enum tunnel_policy policy;
    const struct session_config *session;
    unsigned keepalive_s;
    unsigned rule;    /* 1 for the first; 0: the default */
    const char *name; /* "" when it has none */
};

/* Return: the number of the first rule that matches, 0 for the default; it is counted. */
unsigned policy_find(struct policy *p, const struct tuple *tuple, bool inbound);

/* What that rule says of a connection that the container (role A) or the peer (role B)
 * opens. */
struct policy_verdict policy_verdict(const struct policy *p, unsigned rule, enum session_role role);

/* Connections that the rule has decided since policy_new(). */
uint64_t policy_matched_cnt(const struct policy *p, unsigned rule);
size_t policy_rule_cnt(const struct policy *p);

/* Every TEP and every AEAD that some rule or the default may negotiate, in no order. */
void policy_suites(const struct policy *p, struct session_config *ret);

bool policy_prefix_has(const struct policy_prefix *prefix, const struct addr *addr);

/* Whether a rule of action BYPASS takes packets of that connection. */
bool policy_rule_bypasses(const struct policy_rule *rule, const struct tuple *tuple);

/* One combination of such a rule's lists, as the kernel's rules and filters need them. */
struct policy_match {
    struct policy_prefix peer, local;        /* len 0, and not is_v6: any */
    struct port_range peer_port, local_port; /* 0 to 65535: any */
};

/* Return: how many there are; more than max: ret has the first max of them. */
size_t policy_rule_matches(const struct policy_rule *rule, struct policy_match *ret, size_t max);
bool policy_match_takes(const struct policy_match *m, const struct tuple *tuple);
/* Return: the only family of the addresses that can match; 0: both. */
int policy_match_family(const struct policy_match *m);
bool policy_is_any_port(const struct port_range *r);

/* Return: "prefer", "require", "off", "bypass". */
const char *policy_name(enum tunnel_policy policy);
/* Return: 0; -EINVAL, and *ret is untouched. Knows no BYPASS, which is no default. */
int policy_parse(const char *text, enum tunnel_policy *ret);

#endif
