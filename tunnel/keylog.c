/* SPDX-License-Identifier: BSD-3-Clause
 * The key log.
 */
#include "tunnel/keylog.h"

#include <errno.h>
#include <sodium.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"

size_t keylog_line(const struct tuple *tuple, const struct session_key *key,
                   char out[KEYLOG_LINE_LEN])
{
    const struct addr *from = key->seals ? &tuple->local : &tuple->peer;
    const struct addr *to = key->seals ? &tuple->peer : &tuple->local;
    uint16_t from_port = key->seals ? tuple->local_port : tuple->peer_port;
    uint16_t to_port = key->seals ? tuple->peer_port : tuple->local_port;
    char id[2 * SESSION_ID_LEN + 1];
    char traffic_key[2 * SESSION_KEY_MAX_LEN + 1];
    char nonce[2 * SESSION_KEY_NONCE_LEN + 1];
    char from_text[ADDR_STR_LEN], to_text[ADDR_STR_LEN];

    sodium_bin2hex(id, sizeof(id), key->id, SESSION_ID_LEN);
    sodium_bin2hex(traffic_key, sizeof(traffic_key), key->key, key->key_len);
    sodium_bin2hex(nonce, sizeof(nonce), key->nonce, SESSION_KEY_NONCE_LEN);
    int n = snprintf(out, KEYLOG_LINE_LEN, "TCPCRYPT_KEY %s %s %u %s %u %u %04x %s %s\n", id,
                     addr_str(from, from_text), from_port, addr_str(to, to_text), to_port,
                     key->generation, key->aead, traffic_key, nonce);
    sodium_memzero(traffic_key, sizeof(traffic_key));
    return (size_t)n;
}

void keylog_write(int fd, const struct tuple *tuple, const struct session_key *key)
{
    static bool failed;
    char line[KEYLOG_LINE_LEN];
    size_t len = keylog_line(tuple, key, line);

    if (write(fd, line, len) != (ssize_t)len && !failed) {
        log_error("key log: cannot write: %s", strerror(errno));
        failed = true;
    }
    sodium_memzero(line, sizeof(line));
}
