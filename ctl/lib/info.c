/* SPDX-License-Identifier: BSD-3-Clause
 * libtcpcrypt: what a connection is, and waiting until it is negotiated.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "ctl/lib/lib.h"

/* The daemon holds a reply back no longer than that. */
#define WAIT_MAX_MS 60000

/* --- Which connection ------------------------------------------------------------------ */

union any_addr {
    struct sockaddr sa;
    struct sockaddr_in in;
    struct sockaddr_in6 in6;
};

int lib_check_socket(int fd)
{
    int protocol = 0;
    socklen_t len = sizeof(protocol);

    if (getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &len) < 0)
        return -errno;
    return protocol == IPPROTO_TCP ? 0 : -EOPNOTSUPP;
}

static int put_end(json_t *params, const union any_addr *a, const char *addr, const char *port)
{
    char text[INET6_ADDRSTRLEN];
    bool is_v4 = a->sa.sa_family == AF_INET;
    const void *bytes = is_v4 ? (const void *)&a->in.sin_addr : &a->in6.sin6_addr;

    if (!inet_ntop(a->sa.sa_family, bytes, text, sizeof(text)))
        return -errno;
    if (json_object_set_new(params, addr, json_string(text)) < 0 ||
        json_object_set_new(params, port,
                            json_integer(ntohs(is_v4 ? a->in.sin_port : a->in6.sin6_port))) < 0)
        return -ENOMEM;
    return 0;
}

int lib_tuple_of(int fd, json_t **ret)
{
    union any_addr local = {.in6 = {0}}, peer = {.in6 = {0}};
    socklen_t local_len = sizeof(local), peer_len = sizeof(peer);

    int err = lib_check_socket(fd);
    if (err)
        return err;
    if (getsockname(fd, &local.sa, &local_len) < 0 || getpeername(fd, &peer.sa, &peer_len) < 0)
        return -errno;
    json_t *params = json_object();
    err = put_end(params, &local, "local", "local_port");
    if (!err)
        err = put_end(params, &peer, "peer", "peer_port");
    if (err) {
        json_decref(params);
        return err;
    }
    *ret = params;
    return 0;
}

/* --- What it is --------------------------------------------------------------------------- */

static const char *text_of(const json_t *session, const char *name)
{
    const char *text = json_string_value(json_object_get(session, name));

    return text ? text : "";
}

static int flag_of(const json_t *session, const char *name)
{
    return json_is_true(json_object_get(session, name));
}

static uint64_t number_of(const json_t *session, const char *name)
{
    return (uint64_t)json_integer_value(json_object_get(session, name));
}

/* Return: enum tcpcrypt_state; -EPROTO. */
static int state_of(const json_t *session)
{
    static const char *const states[] = {
        [TCPCRYPT_OPENING] = "opening",
        [TCPCRYPT_ENCRYPTED] = "encrypted",
        [TCPCRYPT_CLEAR] = "clear",
        [TCPCRYPT_CLOSING] = "closing",
    };

    for (int i = 0; i < (int)(sizeof(states) / sizeof(states[0])); i++)
        if (strcmp(states[i], text_of(session, "state")) == 0)
            return i;
    return -EPROTO;
}

static int nibble(char c)
{
    const char *digits = "0123456789abcdef", *at = c ? strchr(digits, c) : NULL;

    return at ? (int)(at - digits) : -1;
}

bool lib_read_sessid(const char *text, unsigned char *ret)
{
    if (strlen(text) != 2 * TCPCRYPT_SESSID_LEN)
        return false;
    for (size_t i = 0; i < TCPCRYPT_SESSID_LEN; i++) {
        int high = nibble(text[2 * i]), low = nibble(text[2 * i + 1]);

        if (high < 0 || low < 0)
            return false;
        ret[i] = (unsigned char)(high << 4 | low);
    }
    return true;
}

static int role_of(const char *text)
{
    return text[0] == 'a' ? TCPCRYPT_ROLE_A : text[0] == 'b' ? TCPCRYPT_ROLE_B : TCPCRYPT_ROLE_NONE;
}

static int fill(struct tcpcrypt_info *info, const json_t *s)
{
    *info = (struct tcpcrypt_info){
        .state = state_of(s),
        .role = role_of(text_of(s, "role")),
        .inbound = strcmp(text_of(s, "dir"), "in") == 0,
        .authenticated = flag_of(s, "authenticated"),
        .app_aware = flag_of(s, "app_aware"),
        .peer_app_aware = flag_of(s, "peer_app_aware"),
        .tx_bytes = number_of(s, "tx_bytes"),
        .rx_bytes = number_of(s, "rx_bytes"),
    };
    snprintf(info->reason, sizeof(info->reason), "%s", text_of(s, "reason"));
    snprintf(info->tep, sizeof(info->tep), "%s", text_of(s, "tep"));
    snprintf(info->aead, sizeof(info->aead), "%s", text_of(s, "aead"));
    if (json_object_get(s, "session_id")) {
        if (!lib_read_sessid(text_of(s, "session_id"), info->sessid))
            return -EPROTO;
        info->sessid_len = TCPCRYPT_SESSID_LEN;
    }
    return info->state < 0 ? info->state : 0;
}

int lib_get_info(int fd, struct tcpcrypt_info *ret)
{
    json_t *params = NULL, *session = NULL;

    int err = lib_tuple_of(fd, &params);
    if (!err)
        err = lib_get_session(params, lib_until(), &session);
    if (!err)
        err = fill(ret, session);
    json_decref(session);
    return err;
}

/* Programs may be older than the library, and their struct shorter; or the other way round. */
static int get_info(int fd, struct tcpcrypt_info *info, size_t info_len)
{
    struct tcpcrypt_info own;

    if (!info || info_len == 0)
        return -EINVAL;
    int err = lib_get_info(fd, &own);
    if (err)
        return err;
    memset(info, 0, info_len);
    memcpy(info, &own, info_len < sizeof(own) ? info_len : sizeof(own));
    return 0;
}

PUBLIC int tcpcrypt_get_info(int fd, struct tcpcrypt_info *info, size_t info_len)
{
    int saved = errno;

    return finish(get_info(fd, info, info_len), saved);
}

/* --- Waiting ---------------------------------------------------------------------------------- */

static bool is_connecting(int fd)
{
    struct tcp_info info;
    socklen_t len = sizeof(info);

    return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) == 0 &&
           (info.tcpi_state == TCP_SYN_SENT || info.tcpi_state == TCP_SYN_RECV);
}

static int left_ms(int64_t until_ms)
{
    int64_t left = until_ms - clock_ms();

    return left < 0 ? 0 : (int)left; /* no more than an int was given */
}

/* Return: 0 and the tuple, the caller's; -errno. */
static int wait_connected(int fd, int64_t until_ms, json_t **ret)
{
    struct pollfd p = {.fd = fd, .events = POLLOUT};
    int err;

    while ((err = lib_tuple_of(fd, ret)) == -ENOTCONN && is_connecting(fd)) {
        if (left_ms(until_ms) == 0)
            return -ETIMEDOUT;
        if (poll(&p, 1, left_ms(until_ms)) < 0 && errno != EINTR)
            return -errno;
    }
    return err;
}

/* Return: the state; -errno. */
static int ask_state(json_t *params, int64_t until_ms)
{
    int left = left_ms(until_ms);
    json_t *wait = json_integer(left < WAIT_MAX_MS ? left : WAIT_MAX_MS), *session = NULL;

    if (json_object_set_new(params, "wait", wait) < 0)
        return -ENOMEM;
    int err =
        lib_get_session(json_incref(params), clock_ms() + left + TCPCRYPT_TIMEOUT_MS, &session);
    int state = err ? err : state_of(session);
    json_decref(session);
    return state;
}

static int wait_negotiated(int fd, int timeout_ms)
{
    int64_t until_ms = clock_ms() + timeout_ms;
    json_t *params = NULL;
    int state;

    if (timeout_ms < 0)
        return -EINVAL;
    int err = wait_connected(fd, until_ms, &params);
    if (err)
        return err;
    do
        state = ask_state(params, until_ms);
    while (state == TCPCRYPT_OPENING && left_ms(until_ms) > 0);
    json_decref(params);
    return state == TCPCRYPT_OPENING ? -ETIMEDOUT : state;
}

PUBLIC int tcpcrypt_wait(int fd, int timeout_ms)
{
    int saved = errno;

    return finish(wait_negotiated(fd, timeout_ms), saved);
}
