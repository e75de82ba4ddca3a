/* SPDX-License-Identifier: BSD-3-Clause
 * Authenticates an encrypted connection with a shared password, see proof.h.
 */
#include "proof.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include <tcpcrypt/tcpcrypt.h>

#define NEGOTIATION_MS 5000

static const char label[] = "tcpcrypt-ns example, proof 1";

int proof_read_key(const char *path, unsigned char key[PROOF_KEY_LEN])
{
    static const unsigned char salt[crypto_pwhash_SALTBYTES] = "tcpcrypt-ns ex.";
    char password[256] = "";
    FILE *f = fopen(path, "r");

    if (!f || !fgets(password, sizeof(password), f) || sodium_init() < 0) {
        perror(path);
        if (f)
            fclose(f);
        return -1;
    }
    fclose(f);
    password[strcspn(password, "\n")] = '\0';
    int err = crypto_pwhash(key, PROOF_KEY_LEN, password, strlen(password), salt,
                            crypto_pwhash_OPSLIMIT_MIN, crypto_pwhash_MEMLIMIT_MIN,
                            crypto_pwhash_ALG_ARGON2ID13);
    sodium_memzero(password, sizeof(password));
    return err;
}

static void make_proof(const unsigned char key[PROOF_KEY_LEN], int role,
                       const struct tcpcrypt_info *info, unsigned char ret[PROOF_LEN])
{
    unsigned char role_byte = role == TCPCRYPT_ROLE_A ? 'A' : 'B';
    crypto_auth_hmacsha256_state hmac;

    crypto_auth_hmacsha256_init(&hmac, key, PROOF_KEY_LEN);
    crypto_auth_hmacsha256_update(&hmac, (const unsigned char *)label, sizeof(label));
    crypto_auth_hmacsha256_update(&hmac, &role_byte, 1);
    crypto_auth_hmacsha256_update(&hmac, info->sessid, info->sessid_len);
    crypto_auth_hmacsha256_final(&hmac, ret);
}

/* Return: whether the connection is encrypted; *ret tells its ID and our role. */
static enum proof_result get_session(int fd, struct tcpcrypt_info *ret)
{
    if (tcpcrypt_wait(fd, NEGOTIATION_MS) < 0 || tcpcrypt_get_info(fd, ret, sizeof(*ret)) < 0) {
        fprintf(stderr, "encryption: %s\n", tcpcrypt_strerror(errno));
        return PROOF_FAILED;
    }
    if (ret->sessid_len == 0) {
        fprintf(stderr, "not encrypted: %s\n", ret->reason);
        return PROOF_NOT_ENCRYPTED;
    }
    return PROOF_GOOD;
}

static enum proof_result send_proof(int fd, const unsigned char proof[PROOF_LEN])
{
    return send(fd, proof, PROOF_LEN, MSG_NOSIGNAL) == PROOF_LEN ? PROOF_GOOD : PROOF_BAD;
}

static enum proof_result check_proof(int fd, const unsigned char wanted[PROOF_LEN])
{
    unsigned char proof[PROOF_LEN];

    if (recv(fd, proof, PROOF_LEN, MSG_WAITALL) != PROOF_LEN)
        return PROOF_BAD; /* who hangs up does not like ours */
    return sodium_memcmp(proof, wanted, PROOF_LEN) == 0 ? PROOF_GOOD : PROOF_BAD;
}

enum proof_result proof_exchange(int fd, const unsigned char key[PROOF_KEY_LEN], int begins)
{
    unsigned char ours[PROOF_LEN], theirs[PROOF_LEN];
    struct tcpcrypt_info info;

    enum proof_result result = get_session(fd, &info);
    if (result != PROOF_GOOD)
        return result;
    int is_a = info.role == TCPCRYPT_ROLE_A;
    make_proof(key, is_a ? TCPCRYPT_ROLE_A : TCPCRYPT_ROLE_B, &info, ours);
    make_proof(key, is_a ? TCPCRYPT_ROLE_B : TCPCRYPT_ROLE_A, &info, theirs);

    if (begins)
        result = send_proof(fd, ours);
    if (result == PROOF_GOOD)
        result = check_proof(fd, theirs);
    if (result == PROOF_GOOD && !begins)
        result = send_proof(fd, ours);
    if (result == PROOF_GOOD && tcpcrypt_mark_authenticated(fd) < 0)
        fprintf(stderr, "not shown as authenticated: %s\n", tcpcrypt_strerror(errno));
    return result;
}
