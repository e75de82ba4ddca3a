/* SPDX-License-Identifier: BSD-3-Clause
 * Rules of the policy as people write them: "require out peer=10.0.0.0/8 port=5432".
 *
 * One line is words with blanks between them. A word is KEY=VALUE, or an action, or a
 * direction; a section of the configuration file has the same keys, one a line.
 */
#ifndef TCNS_CTL_RULETEXT_H
#define TCNS_CTL_RULETEXT_H

#include "tunnel/policy.h"

#define RULETEXT_ERROR_LEN 400

/* A rule that is being read. All zero: nothing of it yet. */
struct ruletext {
    struct policy_rule rule;
    unsigned seen; /* which keys */
};

/* Reads the value of one key. Return: 0; -EINVAL and a sentence in err (no final stop). */
int ruletext_set(struct ruletext *t, const char *key, const char *value,
                 char err[RULETEXT_ERROR_LEN]);
/* All keys are read: does it make a rule? Return: as above, and *ret. */
int ruletext_finish(const struct ruletext *t, struct policy_rule *ret,
                    char err[RULETEXT_ERROR_LEN]);
/* All of that with one line. */
int ruletext_parse(const char *text, struct policy_rule *ret, char err[RULETEXT_ERROR_LEN]);

/* Whether the rules can stand in this order: names differ, bypassing comes first, not too
 * many. Return: 0; -EINVAL or -ENOMEM and a sentence. */
int ruletext_check(const struct policy_rule *rules, size_t cnt, char err[RULETEXT_ERROR_LEN]);

/* The settings that a rule and the daemon's options share, one for each role where that
 * differs: tep, tep-a, tep-b, aead, aead-a, aead-b, app-aware, no-resume, keepalive, rekey-bytes.
 * Return: 0; -ENOENT when key is none of them; -EINVAL and a sentence. */
int ruletext_set_setting(struct policy_settings *s, const char *key, const char *value,
                         char err[RULETEXT_ERROR_LEN]);

/* Return: a line that ruletext_parse() reads as the same rule; caller frees; NULL when out
 * of memory. */
char *ruletext_str(const struct policy_rule *rule);

/* Return: the copy of a list without the blanks around its commas, as files have
 * them; caller frees; NULL when out of memory. */
char *ruletext_squeeze(const char *list);

#endif
