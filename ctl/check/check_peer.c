/* SPDX-License-Identifier: BSD-3-Clause
 * check --peer: what becomes of TCP-ENO on the way to a host.
 *
 * How it works: without a daemon in the namespace we open connections ourselves, packet by
 * packet (check_peer_probe.c), which shows most. Where a daemon is attached, TCP is its, so a
 * connection is opened as programs do and the daemon asked what came of it
 * (check_peer_daemon.c).
 */
#include "ctl/check/check_peer.h"

#include <errno.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/dashed.h"
#include "ctl/cli/cli.h"
#include "ctl/net/netns.h"
#include "ctl/net/tundev.h"

#define HOST_MAX_LEN 253
#define HTTP         "http://"

static const struct {
    const char *name;
    enum check_level level;
    const char *text;
} verdicts[] = {
#define X(name, level, text) {#name, level, text},
    PEER_VERDICT_LIST(X)
#undef X
};

/* --- The target ------------------------------------------------------------- */

static int parse_port(const char *text, uint16_t *ret)
{
    char *end;
    unsigned long port = strtoul(text, &end, 10);

    if (*text < '0' || *text > '9' || *end || port == 0 || port > UINT16_MAX)
        return -EINVAL;
    *ret = (uint16_t)port;
    return 0;
}

/* Return: 0; -EINVAL. */
static int parse_target(const char *text, char host[HOST_MAX_LEN + 1], struct peer_check *p)
{
    char copy[HOST_MAX_LEN + 32];

    p->is_test_server = strncmp(text, HTTP, strlen(HTTP)) == 0;
    if (p->is_test_server)
        text += strlen(HTTP);
    if (strlen(text) >= sizeof(copy))
        return -EINVAL;
    strcpy(copy, text);
    size_t len = strlen(copy);
    if (p->is_test_server && len > 0 && copy[len - 1] == '/')
        copy[len - 1] = '\0';
    char *colon = strrchr(copy, ':');
    if (!colon || parse_port(colon + 1, &p->port) < 0)
        return -EINVAL;
    *colon = '\0';
    len = (size_t)(colon - copy);
    bool is_bracketed = len > 2 && copy[0] == '[' && copy[len - 1] == ']';
    if (is_bracketed)
        copy[len - 1] = '\0';
    const char *name = copy + is_bracketed;
    if (!*name || strlen(name) > HOST_MAX_LEN || (!is_bracketed && strchr(name, ':')))
        return -EINVAL;
    strcpy(host, name);
    return 0;
}

static struct addr addr_of(const struct addrinfo *a)
{
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;

    if (a->ai_family == AF_INET) {
        memcpy(&v4, a->ai_addr, sizeof(v4));
        return addr_from_v4(&v4.sin_addr);
    }
    memcpy(&v6, a->ai_addr, sizeof(v6));
    return addr_from_v6(&v6.sin6_addr);
}

/* Return: whether the namespace has a route there. */
static bool has_route(const struct addrinfo *a)
{
    int fd = socket(a->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    bool found = fd >= 0 && connect(fd, a->ai_addr, a->ai_addrlen) == 0;

    if (fd >= 0)
        close(fd);
    return found;
}

/* In the namespace: the first address that it has a route to; the first one when none is. */
static void choose_address(struct peer_check *p, const struct addrinfo *all)
{
    const struct addrinfo *chosen = all;

    for (const struct addrinfo *a = all; a; a = a->ai_next)
        if (has_route(a)) {
            chosen = a;
            break;
        }
    p->addr = addr_of(chosen);
    addr_str(&p->addr, p->text);
}

static struct addrinfo *look_up(const char *host)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found = NULL;

    int err = getaddrinfo(host, NULL, &hints, &found);
    if (err)
        die(EXIT_NEGATIVE, "%s: %s", host, err == EAI_SYSTEM ? strerror(errno) : gai_strerror(err));
    return found;
}

/* --- The verdict ------------------------------------------------------------ */

bool check_peer_read_answer(struct peer_check *p, char *text, size_t len)
{
    json_error_t error;
    char *body = memmem(text, len, "\r\n\r\n", 4);
    json_t *visit = body ? json_loadb(body + 4, len - (size_t)(body + 4 - text), 0, &error) : NULL;
    const char *reason = json_string_value(json_object_get(visit, "reason"));
    bool is_known = true;

    if (reason && strcmp(reason, "peer-no-eno") == 0)
        p->verdict = PEER_STRIPPED_OUT;
    else if (reason && strcmp(reason, "eno-stripped") == 0)
        p->verdict = PEER_STRIPPED_BACK;
    else
        is_known = false;
    if (reason)
        check_say(p->c, CHECK_OK, "test-server", NULL, "the peer itself says: %s", reason);
    else
        check_say(p->c, CHECK_WARN, "test-server", "start one there: tcpcrypt-ns test-server",
                  "what answers is no test-server");
    json_decref(visit);
    return is_known;
}

static json_t *result_json(const struct peer_check *p)
{
    char name[DASHED_MAX_LEN], hex[2 * SESSION_ID_LEN + 1], hop[ADDR_STR_LEN];

    json_t *peer = json_pack("{s:s, s:s, s:i}", "verdict", dashed(verdicts[p->verdict].name, name),
                             "address", p->text, "port", p->port);
    if (p->info.has_id) {
        for (size_t i = 0; i < SESSION_ID_LEN; i++)
            snprintf(hex + 2 * i, 3, "%02x", p->info.id[i]);
        json_object_set_new(peer, "tep", json_string(session_tep_name(p->info.tep)));
        json_object_set_new(peer, "aead", json_string(session_aead_name(p->info.aead)));
        json_object_set_new(peer, "session_id", json_string(hex));
    }
    if (p->hop > 0) {
        json_object_set_new(peer, "hop", json_integer(p->hop));
        json_object_set_new(peer, "hop_address", json_string(addr_str(&p->hop_addr, hop)));
    }
    return json_pack("{s:o}", "peer", peer);
}

static const char *fix_of(enum peer_verdict v)
{
    switch (v) {
    case PEER_SUPPORTED:
        return NULL;
    case PEER_NO_ENO:
        return "attach tcpcrypt-ns there, if it is not; or run tcpcrypt-ns test-server there, and "
               "check --peer http://HOST:7548/ here, which can tell";
    case PEER_REMEMBERED:
        return "tcpcrypt-ns cache --flush, and again";
    case PEER_NOT_CARRIED:
        return "another port, or up with another --bypass";
    case PEER_OFF_HERE:
        return "up --policy prefer, or another rule for that peer";
    case PEER_CLOSED:
        return "tcpcrypt-ns test-server, there, gives an open port";
    case PEER_NO_COMMON_TEP:
        return "offer more at that end: up without --tep";
    case PEER_ENDED_NEARBY:
        return "look at far-side in tcpcrypt-ns check, and at proxies that are not seen";
    case PEER_UNREACHABLE:
    case PEER_SILENT:
        return "look at routes and firewalls: ping and traceroute -T";
    case PEER_NO_SESSION:
    case PEER_STRIPPED_OUT:
    case PEER_STRIPPED_BACK:
    case PEER_CHANGED:
    case PEER_REFLECTED:
    case PEER_DROPPED:
    case PEER_RESET:
        return "have the firewall or load balancer on the way pass TCP option 69";
    }
    return NULL;
}

static int finish(struct peer_check *p)
{
    check_say(p->c, verdicts[p->verdict].level, "verdict", fix_of(p->verdict), "%s",
              verdicts[p->verdict].text);
    return check_finish(p->c, result_json(p));
}

/* --- All of it -------------------------------------------------------------- */

static int run(struct peer_check *p)
{
    int err = check_peer_daemon(p);
    if (err != -ECONNREFUSED)
        return err;
    if (if_nametoindex(TUNDEV_NAME) != 0)
        return -EBUSY;
    return check_peer_probe(p);
}

static void fail(const struct peer_check *p, int err)
{
    switch (-err) {
    case EPERM:
    case EACCES:
        die(EXIT_PERMISSION, "without a daemon in the namespace a probe takes CAP_NET_RAW there");
    case EBUSY:
        die(EXIT_UNREACHABLE, "there is a %s, but no daemon answers; ask tcpcrypt-ns check",
            TUNDEV_NAME);
    default:
        die(EXIT_NEGATIVE, "%s: %s", p->text, strerror(-err));
    }
}

int check_peer(struct check *c, const char *target)
{
    struct peer_check p = {.c = c};
    char host[HOST_MAX_LEN + 1];

    if (parse_target(target, host, &p) < 0)
        return -EINVAL;
    struct addrinfo *found = look_up(host);
    int err = netns_enter(c->netns_fd);
    if (err)
        die(cli_exit_code(err), "cannot enter namespace \"%s\": %s", c->netns, strerror(-err));
    choose_address(&p, found);
    freeaddrinfo(found);
    check_say(c, CHECK_OK, "peer", NULL, "%s port %u", p.text, p.port);
    err = run(&p);
    if (err == -ENETUNREACH || err == -EHOSTUNREACH) {
        check_say(c, CHECK_FAIL, "route", "ip route add", "no route there: %s", strerror(-err));
        p.verdict = PEER_UNREACHABLE;
        err = 0;
    }
    if (err)
        fail(&p, err);
    return finish(&p);
}
