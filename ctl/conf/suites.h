/* SPDX-License-Identifier: BSD-3-Clause
 * Lists of key exchanges (TEPs) and AEADs, as people write them.
 */
#ifndef TCNS_CTL_SUITES_H
#define TCNS_CTL_SUITES_H

#include <stddef.h>

#include "tcpcrypt/session.h"

/* Reads a list like "P-256,Curve25519" in order of preference, best first; case
 * does not matter. Return: 0; -EINVAL when a word is no name, -EEXIST when one comes
 * twice; then *ret_bad is that word, *ret_len characters of text, and cfg is untouched. */
int suites_parse_teps(const char *text, struct session_config *cfg, const char **ret_bad,
                      size_t *ret_len);
int suites_parse_aeads(const char *text, struct session_config *cfg, const char **ret_bad,
                       size_t *ret_len);

/* Return: "P-256", "AES-128-GCM" and the like; "unknown" otherwise; static storage. */
const char *suites_tep_name(uint8_t tep);
const char *suites_aead_name(uint16_t aead);

/* Return: "off", "on", "mandatory". */
const char *suites_app_aware_name(const struct session_config *cfg);

/* All names, as they stand in help texts. */
#define SUITES_TEP_NAMES  "Curve25519, Curve448, P-256, P-521"
#define SUITES_AEAD_NAMES "AES-128-GCM, AES-256-GCM, ChaCha20-Poly1305"

#endif
