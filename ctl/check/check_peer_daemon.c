/* SPDX-License-Identifier: BSD-3-Clause
 * check --peer through the daemon of the namespace: a connection as programs open it, and the
 * daemon's word about it.
 */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ctl/check/check_peer.h"
#include "ctl/client/ctlclient.h"
#include "ctl/daemon/ns1.h"
#include "ctl/http/visit.h"

#define CONNECT_MS 12000 /* the option is given up after a second, and the SYN sent again */
#define SETTLE_MS  5000
#define HTTP_MS    3000
#define ANSWER_CAP 16384
#define REASON_LEN 48

static socklen_t make_sockaddr(const struct peer_check *p, struct sockaddr_storage *ret)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(p->port)};
    struct sockaddr_in6 v6 = {
        .sin6_family = AF_INET6, .sin6_port = htons(p->port), .sin6_addr = p->addr.in6};

    *ret = (struct sockaddr_storage){0};
    if (!addr_is_v4(&p->addr)) {
        memcpy(ret, &v6, sizeof(v6));
        return sizeof(v6);
    }
    memcpy(&v4.sin_addr, &p->addr.in6.s6_addr[12], 4);
    memcpy(ret, &v4, sizeof(v4));
    return sizeof(v4);
}

static int wait_fd(int fd, short events, int ms)
{
    struct pollfd poll_fd = {.fd = fd, .events = events};
    int n;

    do
        n = poll(&poll_fd, 1, ms);
    while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n == 0 ? -ETIMEDOUT : 0;
}

/* Return: 0, and the local end is filled even when it fails; -errno of connect(). */
static int open_connection(const struct peer_check *p, int *ret_fd, struct tuple *tuple)
{
    struct sockaddr_storage to, local;
    socklen_t len = make_sockaddr(p, &to), local_len = sizeof(local);
    int err = 0;
    socklen_t err_len = sizeof(err);

    *ret_fd = socket(to.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (*ret_fd < 0)
        return -errno;
    if (connect(*ret_fd, (struct sockaddr *)&to, len) < 0 && errno != EINPROGRESS)
        return -errno;
    if (getsockname(*ret_fd, (struct sockaddr *)&local, &local_len) == 0) {
        struct sockaddr_in v4;

        memcpy(&v4, &local, sizeof(v4)); /* the port is at the same place in both */
        tuple->local_port = ntohs(v4.sin_port);
    }
    int waited = wait_fd(*ret_fd, POLLOUT, CONNECT_MS);
    if (waited)
        return waited;
    getsockopt(*ret_fd, SOL_SOCKET, SO_ERROR, &err, &err_len);
    return err ? -err : visit_tuple(*ret_fd, tuple);
}

/* --- The daemon's word ------------------------------------------------------ */

static json_t *get_session(struct ctlclient *client, const struct tuple *t)
{
    char local[ADDR_STR_LEN], peer[ADDR_STR_LEN], error[CTLCLIENT_ERROR_LEN];
    json_t *reply = NULL;
    json_t *params = json_pack("{s:s, s:i, s:s, s:i, s:i}", "local", addr_str(&t->local, local),
                               "local_port", t->local_port, "peer", addr_str(&t->peer, peer),
                               "peer_port", t->peer_port, "wait", SETTLE_MS);

    if (ctlclient_call(client, NS1_INTERFACE ".GetSession", params, false) < 0 ||
        ctlclient_next(client, &reply, NULL, error) < 0)
        return NULL;
    json_t *session = json_incref(json_object_get(reply, "session"));
    json_decref(reply);
    return session;
}

/* Why a connection that could not be opened ended; "" when the daemon does not know it. */
static void reason_of_ended(struct ctlclient *client, const struct peer_check *p, uint16_t port,
                            char ret_reason[REASON_LEN])
{
    char error[CTLCLIENT_ERROR_LEN];
    bool continues = true;

    *ret_reason = '\0';
    if (ctlclient_call(client, NS1_INTERFACE ".ListSessions", json_pack("{s:b}", "ended", true),
                       true) < 0)
        return;
    while (continues) {
        json_t *reply = NULL;

        if (ctlclient_next(client, &reply, &continues, error) < 0)
            return;
        const json_t *s = json_object_get(reply, "session");
        const char *reason = json_string_value(json_object_get(s, "reason"));
        if (reason && json_integer_value(json_object_get(s, "local_port")) == port &&
            json_integer_value(json_object_get(s, "peer_port")) == p->port)
            snprintf(ret_reason, REASON_LEN, "%s", reason);
        json_decref(reply);
    }
}

static enum peer_verdict verdict_of(const char *reason)
{
    static const struct {
        const char *reason;
        enum peer_verdict verdict;
    } known[] = {
        {"full", PEER_SUPPORTED},
        {"resumed", PEER_SUPPORTED},
        {"peer-no-eno", PEER_NO_ENO},
        {"peer-ill-formed", PEER_CHANGED},
        {"peer-vacuous", PEER_NO_COMMON_TEP},
        {"no-common-tep", PEER_NO_COMMON_TEP},
        {"role-conflict", PEER_REFLECTED},
        {"eno-dropped", PEER_DROPPED},
        {"fallback-cache", PEER_REMEMBERED},
        {"require-refused", PEER_NO_ENO},
        {"pending", PEER_NO_SESSION},
    };

    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        if (strcmp(known[i].reason, reason) == 0)
            return known[i].verdict;
    return PEER_OFF_HERE; /* all others are the policy's, here */
}

static uint8_t from_hex(char c)
{
    return (uint8_t)(c <= '9' ? c - '0' : c - 'a' + 10);
}

static void read_info(struct peer_check *p, const json_t *session)
{
    const char *id = json_string_value(json_object_get(session, "session_id"));
    const char *tep = json_string_value(json_object_get(session, "tep"));
    const char *aead = json_string_value(json_object_get(session, "aead"));

    if (!id || !tep || !aead || strlen(id) != 2 * SESSION_ID_LEN ||
        id[strspn(id, "0123456789abcdef")])
        return;
    p->info.has_id = true;
    for (size_t i = 0; i < SESSION_ID_LEN; i++)
        p->info.id[i] = (uint8_t)(from_hex(id[2 * i]) << 4 | from_hex(id[2 * i + 1]));
    for (unsigned n = 0; n <= UINT8_MAX; n++)
        if (strcmp(session_tep_name((uint8_t)n), tep) == 0)
            p->info.tep = (uint8_t)n;
    for (unsigned n = 0; n <= UINT8_MAX; n++)
        if (strcmp(session_aead_name((uint16_t)n), aead) == 0)
            p->info.aead = (uint16_t)n;
}

static void on_session(struct peer_check *p, const json_t *session)
{
    const char *reason = json_string_value(json_object_get(session, "reason"));

    p->verdict = verdict_of(reason ? reason : "");
    if (p->verdict == PEER_SUPPORTED)
        read_info(p, session);
    if (p->verdict == PEER_SUPPORTED && !p->info.has_id)
        p->verdict = PEER_NO_SESSION;
    check_say(p->c, p->verdict == PEER_SUPPORTED ? CHECK_OK : CHECK_WARN, "session", NULL,
              "the daemon says of the connection: %s, %s",
              json_string_value(json_object_get(session, "state")), reason ? reason : "?");
}

static void on_failure(struct peer_check *p, struct ctlclient *client, int err, uint16_t port)
{
    char reason[REASON_LEN];

    check_say(p->c, CHECK_WARN, "connect", NULL, "a connection cannot be opened: %s",
              strerror(-err));
    reason_of_ended(client, p, port, reason);
    if (strcmp(reason, "require-refused") == 0) {
        check_say(p->c, CHECK_WARN, "session", NULL,
                  "the policy here requires encryption, and the peer did not agree");
        p->verdict = PEER_NO_ENO;
    } else if (err == -ECONNREFUSED) {
        p->verdict = PEER_CLOSED;
    } else {
        p->verdict = err == -ETIMEDOUT ? PEER_SILENT : PEER_UNREACHABLE;
    }
}

/* --- A test-server ---------------------------------------------------------- */

static void ask_server(struct peer_check *p, int fd)
{
    static char answer[ANSWER_CAP];
    const char *request = CHECK_PEER_REQUEST;
    size_t len = 0;
    ssize_t n = send(fd, request, strlen(request), MSG_NOSIGNAL);

    while (n > 0 && len < sizeof(answer) && wait_fd(fd, POLLIN, HTTP_MS) == 0) {
        n = recv(fd, answer + len, sizeof(answer) - len, 0);
        len += n > 0 ? (size_t)n : 0;
    }
    (void)check_peer_read_answer(p, answer, len);
}

int check_peer_daemon(struct peer_check *p)
{
    struct ctlclient client = CTLCLIENT_NONE;
    struct tuple tuple = {.local_port = 0};
    int fd;

    int err = ctlclient_init(&client, p->c->netns_fd);
    if (err)
        return err;
    err = open_connection(p, &fd, &tuple);
    json_t *session = err ? NULL : get_session(&client, &tuple);
    if (!err)
        check_say(p->c, CHECK_OK, "connect", NULL, "a connection through the daemon is open");
    if (err)
        on_failure(p, &client, err, tuple.local_port);
    else if (session)
        on_session(p, session);
    else
        p->verdict = PEER_NOT_CARRIED;
    if (session && p->verdict == PEER_NO_ENO && p->is_test_server)
        ask_server(p, fd);
    json_decref(session);
    if (fd >= 0)
        close(fd);
    ctlclient_done(&client);
    return 0;
}
