/* SPDX-License-Identifier: BSD-3-Clause
 * Text for log lines: bounded, and without anything that breaks a line or JSON.
 */
#ifndef TCNS_BASE_LOG_TEXT_H
#define TCNS_BASE_LOG_TEXT_H

#include <stdbool.h>
#include <stddef.h>

/* A string that grows in a buffer of fixed size; what does not fit is cut, at a whole
 * character. */
struct log_text {
    char *bytes;
    size_t len, cap; /* cap counts the zero byte that is always there */
    bool cut;        /* something did not fit */
};

/* As it is, or not at all. */
void log_text_add(struct log_text *t, const char *text);
/* Control characters as \xNN, and bytes that are no UTF-8 likewise. */
void log_text_add_plain(struct log_text *t, const char *text);
/* What stands between the quotes of a JSON string (RFC 8259 7); bytes that are no UTF-8 become
 * U+FFFD. */
void log_text_add_json(struct log_text *t, const char *text);

#endif
