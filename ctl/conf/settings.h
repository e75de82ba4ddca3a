/* SPDX-License-Identifier: BSD-3-Clause
 * The options that shape what becomes of connections, by key and value: on the command line,
 * in the configuration file, and while the daemon runs.
 */
#ifndef TCNS_CTL_SETTINGS_H
#define TCNS_CTL_SETTINGS_H

#include <stdbool.h>

#include "ctl/conf/ruletext.h"
#include "ctl/daemon/daemon.h"
#include "ctl/net/ingress.h"

#define SETTINGS_ERROR_LEN RULETEXT_ERROR_LEN

/* Return: whether key is one of policy, bypass, rule, tep, tep-a, tep-b, aead, aead-a, aead-b,
 * app-aware, no-resume, keepalive, rekey-bytes, fallback-time, key-timeout. */
bool settings_has(const char *key);

/* Reads one of these into opts; "rule" adds one. Return: 0; -ENOENT when key is none of
 * these; -EINVAL, -ENOMEM and a sentence in err (no final stop). */
int settings_set(struct daemon_options *opts, const char *key, const char *value,
                 char err[SETTINGS_ERROR_LEN]);

/* Adds a rule behind those that are there. Return: as above. */
int settings_add_rule(struct daemon_options *opts, const struct policy_rule *rule,
                      char err[SETTINGS_ERROR_LEN]);

/* Return: whether the policy or a rule says require. */
bool settings_require(const struct daemon_options *opts);

/* All that the kernel keeps: the option bypass, and rules that say so. */
void settings_bypass(const struct daemon_options *opts, struct bypass *ret);

/* What that is for the kernel: bypassed TCP, and UDP while the policy is require. */
void settings_ingress(const struct daemon_options *opts, struct ingress_policy *ret);

/* Can the crypto libraries do what connections may negotiate? It takes a few ms. Return: 0;
 * -ENOTSUP and a sentence. */
int settings_test(const struct daemon_options *opts, char err[SETTINGS_ERROR_LEN]);

/* A copy of everything in opts, with rules of its own. Return: 0; -ENOMEM. */
int settings_copy(const struct daemon_options *opts, struct daemon_options *ret);

/* Moves all of them to to, whose rules are freed only by who has a copy of them. */
void settings_move(struct daemon_options *to, struct daemon_options *from);

/* Moves the rules that bypass ahead of the others; else the order stays. */
void settings_bypass_first(struct daemon_options *opts);

/* Frees the rules. */
void settings_done(struct daemon_options *opts);

#endif
