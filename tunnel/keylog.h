/* SPDX-License-Identifier: BSD-3-Clause
 * The key log: traffic keys, for a dissector. Whoever reads it reads the connections.
 *
 * How it works: one line of text for each connection, direction and generation of keys
 * (RFC 8548 3.8), written in one piece as soon as the keys exist:
 *
 *   TCPCRYPT_KEY ID FROM FROM_PORT TO TO_PORT GENERATION AEAD KEY NONCE
 *
 * ID is the session id, FROM the host that seals with the key, AEAD the identifier of
 * RFC 8548 7 in four digits, NONCE what frame offsets are XORed with; ID, AEAD, KEY and
 * NONCE are hexadecimal.
 */
#ifndef TCNS_TUNNEL_KEYLOG_H
#define TCNS_TUNNEL_KEYLOG_H

#include "base/tuple.h"
#include "tcpcrypt/session.h"

#define KEYLOG_LINE_LEN 384

/* Return: length of the line with its newline, without the zero byte. */
size_t keylog_line(const struct tuple *tuple, const struct session_key *key,
                   char out[KEYLOG_LINE_LEN]);

/* Writes the line to fd; a failure is logged, once. */
void keylog_write(int fd, const struct tuple *tuple, const struct session_key *key);

#endif
