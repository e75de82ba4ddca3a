/* SPDX-License-Identifier: BSD-3-Clause
 * Parts of a connection (the type Session of the ctl socket) as text for people.
 */
#ifndef TCNS_CTL_SESSION_TEXT_H
#define TCNS_CTL_SESSION_TEXT_H

#include <jansson.h>
#include <stdbool.h>

#include "ctl/cli/term.h"

#define SESSION_TEXT_LEN 72 /* the longest is a session id */

/* Each writes at most SESSION_TEXT_LEN bytes of printable ASCII. Return: out. */

/* "192.0.2.1:80", "[2001:db8::1]:80"; which: "local" or "peer". */
const char *session_text_end(const json_t *s, const char *which, char *out);
/* A member that is a string, without what its title says already ("AEAD_"); "-" when
 * there is none. */
const char *session_text_word(const json_t *s, const char *key, char *out);
/* A member that is true or false: "yes", "no"; "-" when there is none. */
const char *session_text_flag(const json_t *s, const char *key, char *out);
/* A number of bytes: all digits, or for_people "1.2M". */
const char *session_text_bytes(const json_t *s, const char *key, bool for_people, char *out);
/* Local date and time. */
const char *session_text_time(const json_t *s, const char *key, char *out);
/* "curl/4711", or "-". */
const char *session_text_process(const json_t *s, char *out);

/* Of a state, or how it ended. */
enum term_colour session_text_colour(const char *word);

#endif
