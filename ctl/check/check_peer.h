/* SPDX-License-Identifier: BSD-3-Clause
 * check --peer: what becomes of TCP-ENO on the way to a host.
 */
#ifndef TCNS_CTL_CHECK_PEER_H
#define TCNS_CTL_CHECK_PEER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/tuple.h"
#include "ctl/check/check.h"
#include "tcpcrypt/session.h"

/* What a probe ends with: name, level, what it means. */
#define PEER_VERDICT_LIST(X)                                                                       \
    X(SUPPORTED, CHECK_OK, "tcpcrypt works all the way")                                           \
    X(NO_SESSION, CHECK_FAIL,                                                                      \
      "the peer agreed to tcpcrypt, but no keys came to be: something on the way interferes "      \
      "behind the first two packets")                                                              \
    X(STRIPPED_OUT, CHECK_FAIL, "something removes the option on the way to the peer")             \
    X(STRIPPED_BACK, CHECK_FAIL, "something removes the option on the way back from the peer")     \
    X(NO_ENO, CHECK_FAIL,                                                                          \
      "the peer does not speak tcpcrypt, or something removed the option where it cannot be seen") \
    X(NO_COMMON_TEP, CHECK_FAIL, "the peer speaks TCP-ENO, but no key exchange that we do")        \
    X(CHANGED, CHECK_FAIL, "something damages the option, or the peer's is ill-formed")            \
    X(REFLECTED, CHECK_FAIL, "what came back is our own option: something on the way echoes it")   \
    X(DROPPED, CHECK_FAIL,                                                                         \
      "packets with the option are lost on the way; connections start in clear, after a second")   \
    X(RESET, CHECK_FAIL, "something resets connections because of the option")                     \
    X(ENDED_NEARBY, CHECK_FAIL,                                                                    \
      "TCP ends on the first hop, in a proxy or a network in user space: the option goes no "      \
      "further")                                                                                   \
    X(CLOSED, CHECK_FAIL, "nothing listens at that port: choose one that is open")                 \
    X(UNREACHABLE, CHECK_FAIL, "the peer cannot be reached")                                       \
    X(SILENT, CHECK_FAIL, "nothing answers at all, with the option or without it")                 \
    X(NOT_CARRIED, CHECK_FAIL, "the daemon here leaves connections to that port to the kernel")    \
    X(REMEMBERED, CHECK_FAIL,                                                                      \
      "the daemon here opens connections to that peer without the option for a while, because "    \
      "it was lost on the way before")                                                             \
    X(OFF_HERE, CHECK_FAIL, "the daemon's policy here does not ask that peer for encryption")

enum peer_verdict {
#define X(name, level, text) PEER_##name,
    PEER_VERDICT_LIST(X)
#undef X
};

struct peer_check {
    struct check *c;
    struct addr addr;
    uint16_t port;
    bool is_test_server; /* it may be asked what it saw */
    char text[ADDR_STR_LEN];

    enum peer_verdict verdict;
    struct session_info info; /* of the connection, when has_id */
    int hop;                  /* where the option was gone; 0: not seen */
    struct addr hop_addr;
};

/* The whole of it. target: HOST:PORT, [ADDRESS]:PORT, or http://HOST:PORT/ for a test-server. Names
 * are looked up in the calling namespace; the rest happens in c->netns_fd's, where the calling
 * thread ends up. Return: -EINVAL when target is none; otherwise the exit code. */
int check_peer(struct check *c, const char *target);

/* --- In parts, see check_peer.c --------------------------------------------- */

/* Without a daemon. Return: 0 with a verdict; -errno. */
int check_peer_probe(struct peer_check *p);
/* Through the daemon of the namespace. Return: likewise; -ECONNREFUSED: there is none. */
int check_peer_daemon(struct peer_check *p);

/* What a test-server's answer to HTTP says of our connection, text[0..len) of it.
 * Return: false when it says nothing. */
#define CHECK_PEER_REQUEST                                                                         \
    "GET /session.json HTTP/1.1\r\nHost: test-server\r\nConnection: close\r\n\r\n"
bool check_peer_read_answer(struct peer_check *p, char *text, size_t len);

#endif
