/* SPDX-License-Identifier: BSD-3-Clause
 * Connects to prove_server, authenticates the connection, and sends lines of standard input.
 */
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <tcpcrypt/tcpcrypt.h>

#include "proof.h"

/* Return: a connected socket; -1 and a text on standard error. Settings come before connect(). */
static int connect_to(const struct addrinfo *a)
{
    int fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC, 0);

    if (fd < 0) {
        perror("socket");
    } else if (tcpcrypt_set_policy(fd, TCPCRYPT_REQUIRE) < 0 ||
               tcpcrypt_set_app_aware(fd, TCPCRYPT_APP_AWARE_ON) < 0) {
        fprintf(stderr, "encryption: %s\n", tcpcrypt_strerror(errno));
    } else if (connect(fd, a->ai_addr, a->ai_addrlen) < 0) {
        perror("connect");
    } else {
        return fd;
    }
    if (fd >= 0)
        close(fd);
    return -1;
}

static int open_connection(const char *host, const char *port)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found = NULL;

    int err = getaddrinfo(host, port, &hints, &found);
    if (err) {
        fprintf(stderr, "%s: %s\n", host, gai_strerror(err));
        return -1;
    }
    int fd = connect_to(found);
    freeaddrinfo(found);
    return fd;
}

/* Return: whether each line came back. */
static int talk(int fd)
{
    char line[512], back[512];

    while (fgets(line, sizeof(line), stdin)) {
        size_t len = strlen(line);

        if (send(fd, line, len, MSG_NOSIGNAL) != (ssize_t)len ||
            recv(fd, back, len, MSG_WAITALL) != (ssize_t)len)
            return 0;
        fwrite(back, 1, len, stdout);
        fflush(stdout);
    }
    return 1;
}

int main(int argc, char **argv)
{
    unsigned char key[PROOF_KEY_LEN];

    if (argc != 4) {
        fprintf(stderr, "usage: prove_client HOST PORT PASSWORD-FILE\n");
        return 2;
    }
    if (proof_read_key(argv[3], key) < 0)
        return 3;
    int fd = open_connection(argv[1], argv[2]);
    if (fd < 0)
        return 3;
    enum proof_result result = proof_exchange(fd, key, 1);
    printf("%s\n", result == PROOF_GOOD ? "authenticated" : "not authenticated");
    fflush(stdout);
    if (result == PROOF_GOOD && !talk(fd))
        result = PROOF_FAILED;
    close(fd);
    return (int)result;
}
