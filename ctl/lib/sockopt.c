/* SPDX-License-Identifier: BSD-3-Clause
 * libtcpcrypt: the calls of the original implementation's library.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

#include "ctl/lib/lib.h"

/* --- Setting --------------------------------------------------------------------------- */

static int read_int(const void *optval, socklen_t optlen, int *ret)
{
    if (!optval || optlen != sizeof(*ret))
        return -EINVAL;
    memcpy(ret, optval, sizeof(*ret));
    return 0;
}

static int set_int(int fd, int optname, int value)
{
    switch (optname) {
    case TCP_CRYPT_ENABLE:
        return lib_set(fd, "policy", json_string(value ? "prefer" : "off"));
    case TCP_CRYPT_APP_SUPPORT:
        return lib_set(fd, "app_aware", json_string(value ? "on" : "off"));
    default: /* NOCACHE */
        return lib_set(fd, "cache", json_boolean(!value));
    }
}

static int set_option(int fd, int level, int optname, const void *optval, socklen_t optlen)
{
    int value, err;

    if (level != IPPROTO_TCP)
        return -EINVAL;
    switch (optname) {
    case TCP_CRYPT_ENABLE:
    case TCP_CRYPT_APP_SUPPORT:
    case TCP_CRYPT_NOCACHE:
        err = read_int(optval, optlen, &value);
        return err ? err : set_int(fd, optname, value);
    case TCP_CRYPT_RESET:
        return lib_set(fd, "reset", json_true());
    default:
        return -ENOPROTOOPT;
    }
}

PUBLIC int tcpcrypt_setsockopt(int fd, int level, int optname, const void *optval, socklen_t optlen)
{
    int saved = errno;

    return finish(set_option(fd, level, optname, optval, optlen), saved);
}

/* --- Getting ----------------------------------------------------------------------------- */

static int give(const void *bytes, size_t len, void *optval, socklen_t *optlen)
{
    if (*optlen < len)
        return -EINVAL;
    memcpy(optval, bytes, len);
    *optlen = (socklen_t)len;
    return 0;
}

static int give_int(int value, void *optval, socklen_t *optlen)
{
    return give(&value, sizeof(value), optval, optlen);
}

/* Return: 0 and the info of a connection that has a session ID; -errno. */
static int get_encrypted(int fd, struct tcpcrypt_info *ret)
{
    int err = lib_get_info(fd, ret);

    if (err)
        return err;
    if (ret->sessid_len == 0)
        return ret->state == TCPCRYPT_OPENING ? -EINPROGRESS : -ENODATA;
    return 0;
}

static int get_sessid(int fd, void *optval, socklen_t *optlen)
{
    struct tcpcrypt_info info;

    if (*optlen < TCPCRYPT_SESSID_LEN)
        return -EINVAL;
    int err = get_encrypted(fd, &info);
    return err ? err : give(info.sessid, sizeof(info.sessid), optval, optlen);
}

static int get_app_support(int fd, void *optval, socklen_t *optlen)
{
    unsigned char both[1 + TCPCRYPT_SESSID_LEN];
    struct tcpcrypt_info info;

    if (*optlen < sizeof(both))
        return -EINVAL;
    int err = get_encrypted(fd, &info);
    if (err)
        return err;
    both[0] = (unsigned char)(info.app_aware | info.peer_app_aware << 1);
    memcpy(both + 1, info.sessid, TCPCRYPT_SESSID_LEN);
    return give(both, sizeof(both), optval, optlen);
}

static int get_settings(int fd, json_t **ret)
{
    int err = lib_check_socket(fd);

    return err ? err : lib_ask(TCNS_CTL_INTERFACE ".GetSocket", NULL, fd, lib_until(), ret);
}

static int get_nocache(int fd, void *optval, socklen_t *optlen)
{
    json_t *settings = NULL;

    int err = get_settings(fd, &settings);
    if (!err)
        err = give_int(json_is_false(json_object_get(settings, "cache")), optval, optlen);
    json_decref(settings);
    return err;
}

/* Of a connection what is; before that what is set. */
static int get_enable(int fd, void *optval, socklen_t *optlen)
{
    json_t *settings = NULL;
    struct tcpcrypt_info info;

    int err = lib_get_info(fd, &info);
    if (!err)
        return give_int(info.state != TCPCRYPT_CLEAR, optval, optlen);
    if (err == -ENOTCONN)
        err = get_settings(fd, &settings);
    if (!err) {
        const char *policy = json_string_value(json_object_get(settings, "policy"));
        err = give_int(!policy || strcmp(policy, "off") != 0, optval, optlen);
    }
    json_decref(settings);
    return err;
}

static int get_option(int fd, int level, int optname, void *optval, socklen_t *optlen)
{
    if (level != IPPROTO_TCP || !optval || !optlen)
        return -EINVAL;
    switch (optname) {
    case TCP_CRYPT_ENABLE:
        return get_enable(fd, optval, optlen);
    case TCP_CRYPT_SESSID:
        return get_sessid(fd, optval, optlen);
    case TCP_CRYPT_APP_SUPPORT:
        return get_app_support(fd, optval, optlen);
    case TCP_CRYPT_NOCACHE:
        return get_nocache(fd, optval, optlen);
    default:
        return -ENOPROTOOPT;
    }
}

PUBLIC int tcpcrypt_getsockopt(int fd, int level, int optname, void *optval, socklen_t *optlen)
{
    int saved = errno;

    return finish(get_option(fd, level, optname, optval, optlen), saved);
}

/* --- By addresses ---------------------------------------------------------------------------- */

struct wanted {
    struct in6_addr remote, local;
    uint16_t remote_port, local_port; /* local_port 0: any end here */
    bool any_local;
};

static bool parse_addr(const char *text, struct in6_addr *ret)
{
    struct in_addr v4;

    if (inet_pton(AF_INET6, text, ret) == 1)
        return true;
    if (inet_pton(AF_INET, text, &v4) != 1)
        return false;
    *ret = (struct in6_addr){.s6_addr = {[10] = 0xff, [11] = 0xff}};
    memcpy(&ret->s6_addr[12], &v4, sizeof(v4));
    return true;
}

static bool is_end(const json_t *s, const char *addr, const char *port, const struct in6_addr *want,
                   uint16_t want_port)
{
    const char *text = json_string_value(json_object_get(s, addr));
    struct in6_addr a;

    return (!want || (text && parse_addr(text, &a) && memcmp(&a, want, sizeof(a)) == 0)) &&
           (!want_port || json_integer_value(json_object_get(s, port)) == want_port);
}

static bool is_wanted(const json_t *s, const struct wanted *w)
{
    return json_object_get(s, "session_id") &&
           is_end(s, "peer", "peer_port", &w->remote, w->remote_port) &&
           is_end(s, "local", "local_port", w->any_local ? NULL : &w->local, w->local_port);
}

static int take_sessid(const json_t *session, unsigned char *ret)
{
    const char *text = json_string_value(json_object_get(session, "session_id"));

    return text && lib_read_sessid(text, ret) ? 0 : -EPROTO;
}

struct search {
    struct wanted wanted;
    unsigned char *sessid;
};

/* Return: 1: found; 0: go on; -errno. */
static int look(const json_t *reply, void *arg)
{
    const struct search *search = arg;
    const json_t *s = json_object_get(reply, "session");

    if (!is_wanted(s, &search->wanted))
        return 0;
    int err = take_sessid(s, search->sessid);
    return err ? err : 1;
}

/* One connection, by all of its ends. */
static int ask_sessid(const char *remote_ip, uint16_t remote_port, const char *local_ip,
                      uint16_t local_port, unsigned char *ret)
{
    json_t *session = NULL;
    json_t *params = json_pack("{s:s, s:i, s:s, s:i}", "peer", remote_ip, "peer_port", remote_port,
                               "local", local_ip, "local_port", local_port);

    int err = params ? lib_get_session(params, lib_until(), &session) : -ENOMEM;
    if (!err)
        err = json_object_get(session, "session_id") ? take_sessid(session, ret) : -ENODATA;
    json_decref(session);
    return err;
}

static int find_sessid(const char *remote_ip, uint16_t remote_port, const char *local_ip,
                       uint16_t local_port, unsigned char *ret)
{
    struct search search = {
        .wanted = {.remote_port = remote_port, .local_port = local_port, .any_local = !local_ip},
        .sessid = ret,
    };

    if (!remote_ip || remote_port == 0 || !parse_addr(remote_ip, &search.wanted.remote) ||
        (local_ip && !parse_addr(local_ip, &search.wanted.local)))
        return -EINVAL;
    if (local_ip && local_port)
        return ask_sessid(remote_ip, remote_port, local_ip, local_port, ret);
    int found = lib_list(look, &search);
    return found < 0 ? found : found ? 0 : -ENOENT;
}

PUBLIC char *tcpcrypt_getsessid(const char *remote_ip, uint16_t remote_port, const char *local_ip,
                                uint16_t local_port)
{
    static _Thread_local char text[2 * TCPCRYPT_SESSID_LEN + 1];
    unsigned char sessid[TCPCRYPT_SESSID_LEN];
    int saved = errno;

    if (finish(find_sessid(remote_ip, remote_port, local_ip, local_port, sessid), saved) < 0)
        return NULL;
    for (size_t i = 0; i < sizeof(sessid); i++) {
        text[2 * i] = "0123456789ABCDEF"[sessid[i] >> 4];
        text[2 * i + 1] = "0123456789ABCDEF"[sessid[i] & 15];
    }
    return text;
}
