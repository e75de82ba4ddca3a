/* SPDX-License-Identifier: BSD-3-Clause
 * Two programs that share a password make sure that they talk to each other, and that nobody
 * in the middle ended the encryption of one and began that of another.
 *
 * How it works: both ends of an encrypted connection have the same session ID, which nobody
 * can make come out equal for two connections (RFC 8547 5.1). Who is in the middle has two
 * connections, so two IDs. Each program sends
 *
 *     HMAC-SHA-256(key, label | its role | session ID)
 *
 * and compares what it gets with what the other role must say. The role, A or B, is in it so
 * that nobody can send a proof back to where it came from; the label so that it means nothing
 * to another protocol that uses the same key.
 *
 * The key comes from the password by a slow function. A man in the middle sees one proof, and
 * can try passwords on it at home: it must be a long random one. For passwords that people
 * remember use a PAKE, with the session ID in its transcript.
 */
#ifndef PROOF_H
#define PROOF_H

#define PROOF_LEN     32
#define PROOF_KEY_LEN 32

/* Also the exit status of the programs; 2 is wrong usage. */
enum proof_result {
    PROOF_GOOD = 0,          /* and the connection is marked as authenticated */
    PROOF_BAD = 1,           /* another password, or somebody in the middle */
    PROOF_FAILED = 3,        /* see the text on standard error */
    PROOF_NOT_ENCRYPTED = 4, /* likewise */
};

/* Reads the password, the first line of a file, and makes the key. Return: 0; -1 and a
 * text on standard error. */
int proof_read_key(const char *path, unsigned char key[PROOF_KEY_LEN]);

/* Proves and verifies, on a connection on which nothing was said yet. The one who opened it
 * begins: the other one says nothing to somebody without the key. */
enum proof_result proof_exchange(int fd, const unsigned char key[PROOF_KEY_LEN], int begins);

#endif
