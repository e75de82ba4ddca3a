/* SPDX-License-Identifier: BSD-3-Clause
 * The verb sid: the session id of one connection.
 */
#include "ctl/cli/verbs.h"

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/tuple.h"
#include "ctl/cli/query.h"
#include "ctl/cli/session_text.h"
#include "ctl/daemon/ns1.h"

#define WAIT_MAX_S 60 /* as long as the daemon waits */

struct sid {
    struct query query;
    int fd; /* -1: not given */
    int wait_s;
    struct tuple tuple;
};

/* --- Which connection ------------------------------------------------------- */

/* "192.0.2.1:80" or "[2001:db8::1]:80". Return: whether it is an end. */
static bool parse_end(const char *text, struct addr *ret_addr, uint16_t *ret_port)
{
    bool v6 = text[0] == '[';
    const char *host = v6 ? text + 1 : text;
    const char *close = v6 ? strchr(host, ']') : strchr(host, ':');
    const char *colon = v6 && close ? close + 1 : close;
    char copy[INET6_ADDRSTRLEN], *end;
    uint8_t bytes[16];

    if (!close || *colon != ':' || colon[1] < '0' || colon[1] > '9' ||
        (size_t)(close - host) >= sizeof(copy))
        return false;
    memcpy(copy, host, (size_t)(close - host));
    copy[close - host] = '\0';
    unsigned long port = strtoul(colon + 1, &end, 10);
    if (*end || port == 0 || port > UINT16_MAX ||
        inet_pton(v6 ? AF_INET6 : AF_INET, copy, bytes) != 1)
        return false;
    *ret_addr = v6 ? addr_from_v6(bytes) : addr_from_v4(bytes);
    *ret_port = (uint16_t)port;
    return true;
}

static void read_ends(struct sid *v, char **argv)
{
    if (!parse_end(argv[0], &v->tuple.local, &v->tuple.local_port))
        cli_usage(v->query.verb, "\"%s\" is no end of a connection, like 192.0.2.1:80", argv[0]);
    if (!parse_end(argv[1], &v->tuple.peer, &v->tuple.peer_port))
        cli_usage(v->query.verb, "\"%s\" is no end of a connection, like 192.0.2.1:80", argv[1]);
}

static bool read_name(const struct sockaddr_storage *sa, struct addr *ret_addr, uint16_t *ret_port)
{
    const struct sockaddr_in *v4 = (const void *)sa;
    const struct sockaddr_in6 *v6 = (const void *)sa;

    if (sa->ss_family == AF_INET) {
        *ret_addr = addr_from_v4(&v4->sin_addr);
        *ret_port = ntohs(v4->sin_port);
    } else if (sa->ss_family == AF_INET6) {
        *ret_addr = addr_from_v6(&v6->sin6_addr);
        *ret_port = ntohs(v6->sin6_port);
    }
    return sa->ss_family == AF_INET || sa->ss_family == AF_INET6;
}

static void read_socket(struct sid *v)
{
    struct sockaddr_storage sa;
    socklen_t len = sizeof(sa), type_len = sizeof(int);
    int type = 0;

    if (getsockopt(v->fd, SOL_SOCKET, SO_TYPE, &type, &type_len) < 0)
        cli_usage(v->query.verb, "descriptor %d: %s", v->fd, strerror(errno));
    if (getsockname(v->fd, (struct sockaddr *)&sa, &len) < 0 || type != SOCK_STREAM ||
        !read_name(&sa, &v->tuple.local, &v->tuple.local_port))
        cli_usage(v->query.verb, "descriptor %d is no TCP socket", v->fd);
    len = sizeof(sa);
    if (getpeername(v->fd, (struct sockaddr *)&sa, &len) < 0)
        die(EXIT_NEGATIVE, "descriptor %d: %s", v->fd, strerror(errno));
    read_name(&sa, &v->tuple.peer, &v->tuple.peer_port);
}

static void read_options(struct sid *v, int argc, char **argv)
{
    const struct cli_verb *verb = v->query.verb;
    int id;

    while ((id = cli_next(verb, argc, argv)) != -1) {
        if (id == OPT_FD)
            v->fd = (int)cli_number(verb, "descriptor", optarg, 0, INT_MAX);
        else if (id == OPT_WAIT)
            v->wait_s = (int)cli_number(verb, "number of seconds", optarg, 0, WAIT_MAX_S);
        else
            query_read_option(&v->query, id);
    }
    if (v->fd >= 0 && optind < argc)
        cli_usage(verb, "either two ends or --fd");
    if (v->fd < 0 && argc - optind != 2)
        cli_usage(verb, "which connection? give its two ends, or --fd");
    if (v->fd >= 0)
        read_socket(v);
    else
        read_ends(v, argv + optind);
}

/* --- Asking ----------------------------------------------------------------- */

/* Return: the reply, to be freed; NULL when there is no such connection. */
static json_t *ask(struct sid *v)
{
    char local[ADDR_STR_LEN], peer[ADDR_STR_LEN], error[CTLCLIENT_ERROR_LEN] = "";
    const struct tuple *t = &v->tuple;
    json_t *reply = NULL;

    ctlclient_set_patience(&v->query.client, v->wait_s + 10);
    query_call(&v->query, NS1_INTERFACE ".GetSession",
               json_pack("{s:s, s:i, s:s, s:i, s:i}", "local", addr_str(&t->local, local),
                         "local_port", t->local_port, "peer", addr_str(&t->peer, peer), "peer_port",
                         t->peer_port, "wait", v->wait_s * 1000),
               false);
    int err = ctlclient_next(&v->query.client, &reply, NULL, error);
    if (err == -EREMOTEIO && strcmp(error, NS1_INTERFACE ".NoSession") == 0)
        return NULL;
    if (err == -EREMOTEIO)
        die(EXIT_NEGATIVE, "the daemon of \"%s\" says %s", v->query.netns, error);
    if (err)
        die(EXIT_UNREACHABLE, "namespace \"%s\": %s", v->query.netns, strerror(-err));
    return reply;
}

static void print_json(const json_t *s)
{
    printf("{\"version\":1,\"session\":");
    json_dumpf(s, stdout, JSON_COMPACT);
    printf("}\n");
}

static int print(const struct sid *v, const json_t *s)
{
    char id[SESSION_TEXT_LEN], state[SESSION_TEXT_LEN], reason[SESSION_TEXT_LEN];
    bool has_id = json_object_get(s, "session_id") != NULL;

    if (v->query.json)
        print_json(s);
    else if (has_id)
        printf("%s\n", session_text_word(s, "session_id", id));
    if (!has_id)
        fprintf(stderr, "tcpcrypt-ns: the connection has no session id: %s, %s\n",
                session_text_word(s, "state", state), session_text_word(s, "reason", reason));
    return has_id ? EXIT_OK : EXIT_NEGATIVE;
}

int sid_main(int argc, char **argv)
{
    struct sid v = {.fd = -1};

    query_begin(&v.query, "sid");
    read_options(&v, argc, argv);
    query_connect(&v.query);
    json_t *reply = ask(&v);
    if (!reply)
        die(EXIT_NEGATIVE, "the daemon of \"%s\" has no such connection", v.query.netns);
    int code = print(&v, json_object_get(reply, "session"));
    json_decref(reply);
    query_done(&v.query);
    return code;
}
