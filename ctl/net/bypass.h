/* SPDX-License-Identifier: BSD-3-Clause
 * The TCP whose connections keep the kernel's own path.
 */
#ifndef TCNS_CTL_BYPASS_H
#define TCNS_CTL_BYPASS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tunnel/tunnel.h"

/* The kernel takes no range for a routing rule that ends behind it (fib_rule_port_range_valid). */
#define BYPASS_PORT_MAX 65534

#define BYPASS_MAX_CNT       64
#define BYPASS_MATCH_MAX_CNT 64

/* Ports, of either end, and what rules add to them. All zero is the empty set; ranges are
 * sorted, disjoint, not adjacent. */
struct bypass {
    struct port_range ranges[BYPASS_MAX_CNT];
    size_t cnt;
    struct policy_match matches[BYPASS_MATCH_MAX_CNT]; /* of rules that say so */
    size_t match_cnt;
};

/* Ports whose protocol encrypts from its first byte on (ssh, https, ldaps, ...). */
void bypass_default(struct bypass *b);

/* Reads "none", "default" or a list like "22,443,6000-6010,default".
 * Return: 0; -EINVAL when it is no such list; -ERANGE: a port past BYPASS_PORT_MAX; -E2BIG past
 * BYPASS_MAX_CNT ranges. *ret is written only on success. */
int bypass_parse(const char *text, struct bypass *ret);

/* Reads "80" or "6000-6010", up to 65535. Return: 0; -EINVAL. */
int bypass_parse_range(const char *word, struct port_range *ret);

/* Return: 0; -E2BIG when the set is full. */
int bypass_add(struct bypass *b, struct port_range range);

bool bypass_eq(const struct bypass *a, const struct bypass *b);

/* Whether the rule names no port past BYPASS_PORT_MAX. */
bool bypass_can_follow(const struct policy_rule *rule);

/* Adds what a rule bypasses; nothing when it is no such rule. Return: 0; -E2BIG. */
int bypass_add_rule(struct bypass *b, const struct policy_rule *rule);

/* Adds one of those, unless it is there. Return: 0; -E2BIG. */
int bypass_add_match(struct bypass *b, const struct policy_match *match);

/* Whether packets of that connection are the kernel's own. */
bool bypass_takes(const struct bypass *b, const struct tuple *tuple);

bool bypass_has(const struct bypass *b, uint16_t port);

#define BYPASS_STR_LEN (BYPASS_MAX_CNT * 12 + 1)

/* Writes "22,443,992-995", or "none". Return: out. */
const char *bypass_str(const struct bypass *b, char out[BYPASS_STR_LEN]);

#endif
