/* SPDX-License-Identifier: BSD-3-Clause
 * Waits for one connection of prove_client, authenticates it, and sends back what comes.
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

static int open_listener(const char *port)
{
    struct addrinfo hints = {
        .ai_family = AF_INET6, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    struct addrinfo *found = NULL;
    int one = 1, fd = -1;

    if (getaddrinfo(NULL, port, &hints, &found) == 0)
        fd = socket(found->ai_family, found->ai_socktype | SOCK_CLOEXEC, 0);
    if (fd >= 0 && (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0 ||
                    bind(fd, found->ai_addr, found->ai_addrlen) < 0 || listen(fd, 8) < 0)) {
        close(fd);
        fd = -1;
    }
    if (found)
        freeaddrinfo(found);
    return fd;
}

/* Nobody gets through in clear, and peers see that we know of encryption. */
static int set_up_encryption(int listener)
{
    if (tcpcrypt_set_policy(listener, TCPCRYPT_REQUIRE) == 0 &&
        tcpcrypt_set_app_aware(listener, TCPCRYPT_APP_AWARE_ON) == 0)
        return 0;
    fprintf(stderr, "encryption: %s\n", tcpcrypt_strerror(errno));
    return -1;
}

static void echo(int fd)
{
    char bytes[4096];
    ssize_t n;

    while ((n = recv(fd, bytes, sizeof(bytes), 0)) > 0)
        if (send(fd, bytes, (size_t)n, MSG_NOSIGNAL) != n)
            return;
}

int main(int argc, char **argv)
{
    unsigned char key[PROOF_KEY_LEN];

    if (argc != 3) {
        fprintf(stderr, "usage: prove_server PORT PASSWORD-FILE\n");
        return 2;
    }
    if (proof_read_key(argv[2], key) < 0)
        return 3;
    int listener = open_listener(argv[1]);
    if (listener < 0) {
        perror(argv[1]);
        return 3;
    }
    if (set_up_encryption(listener) < 0)
        return 3;
    printf("listening\n");
    fflush(stdout);
    int fd = accept(listener, NULL, NULL);
    close(listener);
    if (fd < 0) {
        perror("accept");
        return 3;
    }
    enum proof_result result = proof_exchange(fd, key, 0);
    printf("%s\n", result == PROOF_GOOD ? "authenticated" : "not authenticated");
    fflush(stdout);
    if (result == PROOF_GOOD)
        echo(fd);
    close(fd);
    return (int)result;
}
