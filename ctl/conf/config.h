/* SPDX-License-Identifier: BSD-3-Clause
 * The configuration file: sections of keys and values, as text.
 *
 * How it works: libinih finds sections, keys and values, and we hand it the lines, so
 * that each error can name its own. What a key means, the caller knows.
 *
 *   [daemon]           options of "up", without the dashes
 *   [rule NAME]        one rule of the policy; NAME may be missing. In order
 *
 * An indented line goes on with the value of the one before. Comments begin with '#' or
 * ';' at the start of a line, or with " ;" behind a value.
 */
#ifndef TCNS_CTL_CONFIG_H
#define TCNS_CTL_CONFIG_H

#include <stddef.h>

#include "tunnel/policy.h"

#define CONFIG_DEFAULT   "/etc/tcpcrypt-ns/tcpcrypt-ns.conf"
#define CONFIG_ERROR_LEN 600
#define CONFIG_MAX_LEN   (1u << 20) /* bytes */
#define CONFIG_LINE_LEN  198        /* characters; longer values go on in the next line */

struct config_item {
    unsigned line;
    unsigned rule; /* 0: of [daemon]; n: of the n-th section of a rule */
    char *key, *value;
};

struct config {
    struct config_item *items; /* in the order of the file */
    size_t item_cnt, rule_cnt;
};

/* Reads a file's text. Only "rule" and "uplink" may come more than once in [daemon]. Return: 0, and
 * *ret for config_done(); -EINVAL, and *ret_line and a sentence in err; -ENOMEM likewise. */
int config_parse(const char *text, size_t len, struct config *ret, unsigned *ret_line,
                 char err[CONFIG_ERROR_LEN]);

/* Return: as above, with "PATH:LINE: " ahead of the sentence; -errno when it cannot be
 * read (-ENOENT when there is none). */
int config_read(const char *path, struct config *ret, char err[CONFIG_ERROR_LEN]);

/* All zero is a no-op. */
void config_done(struct config *c);

/* The rule whose first item is *at, which moves behind its last. Return: 0; -EINVAL, and
 * *ret_line and a sentence. */
int config_rule(const struct config *c, size_t *at, struct policy_rule *ret, unsigned *ret_line,
                char err[CONFIG_ERROR_LEN]);

#endif
