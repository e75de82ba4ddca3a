/* SPDX-License-Identifier: BSD-3-Clause
 * The verb test-server: tells every visitor whether this very connection arrived encrypted.
 *
 * How it works: for each request the daemon of the namespace that the server is in is asked
 * for the session of the request's connection.
 */
#include "ctl/cli/verbs.h"

#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "ctl/cli/cli.h"
#include "ctl/client/ctlclient.h"
#include "ctl/daemon/ns1.h"
#include "ctl/http/serve.h"
#include "ctl/http/visit.h"
#include "ctl/net/netns.h"

#define LISTEN_DEFAULT ":7548"
#define PATIENCE_S     2

/* Nothing is loaded from anywhere, and no script runs, whatever gets into the page. */
#define PAGE_HEADERS                                                                               \
    "Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'; img-src data:\r\n"    \
    "Referrer-Policy: no-referrer\r\n"

struct test_server {
    int netns_fd;
    bool is_json; /* at "/", too */
};

static json_t *tuple_params(const struct tuple *t)
{
    char local[ADDR_STR_LEN], peer[ADDR_STR_LEN];

    return json_pack("{s:s, s:i, s:s, s:i}", "local", addr_str(&t->local, local), "local_port",
                     t->local_port, "peer", addr_str(&t->peer, peer), "peer_port", t->peer_port);
}

/* Return: the session, caller's; NULL, and *ret_reason says why there is none. */
static json_t *ask(const struct test_server *s, const struct tuple *tuple, const char **ret_reason)
{
    struct ctlclient client = CTLCLIENT_NONE;
    char error[CTLCLIENT_ERROR_LEN];
    json_t *reply = NULL;

    int err = ctlclient_init(&client, s->netns_fd);
    *ret_reason = err == -ECONNREFUSED ? VISIT_NO_DAEMON : VISIT_SILENT;
    if (err)
        return NULL;
    ctlclient_set_patience(&client, PATIENCE_S);
    err = ctlclient_call(&client, NS1_INTERFACE ".GetSession", tuple_params(tuple), false);
    if (!err)
        err = ctlclient_next(&client, &reply, NULL, error);
    ctlclient_done(&client);
    if (err == -EREMOTEIO && strcmp(error, NS1_INTERFACE ".NoSession") == 0)
        *ret_reason = VISIT_NOT_CARRIED;
    json_t *session = err ? NULL : json_incref(json_object_get(reply, "session"));
    json_decref(reply);
    return session;
}

static json_t *look_at(const struct test_server *s, int fd)
{
    struct tuple tuple;
    const char *reason;

    if (visit_tuple(fd, &tuple) < 0)
        return NULL;
    json_t *session = ask(s, &tuple, &reason);
    json_t *visit = visit_json(&tuple, session, reason);
    json_decref(session);
    return visit;
}

static void reply_error(struct http_response *r, int status, const char *text)
{
    http_reply(r, status, "text/plain; charset=utf-8", NULL, text, strlen(text));
}

static void reply_json(struct http_response *r, const json_t *visit)
{
    char *text = json_dumps(visit, JSON_COMPACT);

    if (text)
        http_reply(r, 200, "application/json", "Access-Control-Allow-Origin: *\r\n", text,
                   strlen(text));
    else
        reply_error(r, 500, "Out of memory.\n");
    free(text);
}

static void reply_page(struct http_response *r, const json_t *visit)
{
    size_t len;
    char *text = visit_page(visit, &len);

    if (text)
        http_reply(r, 200, "text/html; charset=utf-8", PAGE_HEADERS, text, len);
    else
        reply_error(r, 500, "Out of memory.\n");
    free(text);
}

static void on_request(const struct http_request *request, struct http_response *response,
                       void *arg)
{
    const struct test_server *s = arg;
    bool is_page = strcmp(request->path, "/") == 0;

    if (!is_page && strcmp(request->path, "/session.json") != 0) {
        reply_error(response, 404, "There is / for people and /session.json for programs.\n");
        return;
    }
    json_t *visit = look_at(s, request->fd);
    if (!visit)
        reply_error(response, 500, "This connection cannot be looked at.\n");
    else if (is_page && !s->is_json)
        reply_page(response, visit);
    else
        reply_json(response, visit);
    json_decref(visit);
}

int test_server_main(int argc, char **argv)
{
    const struct cli_verb *verb = cli_verb_find("test-server");
    const char *listen = LISTEN_DEFAULT;
    struct test_server s = {.is_json = false};
    int id;

    while ((id = cli_next(verb, argc, argv)) != -1) {
        if (id == OPT_LISTEN)
            listen = optarg;
        else if (id == OPT_JSON)
            s.is_json = true;
    }
    s.netns_fd = netns_open("self");
    if (s.netns_fd < 0)
        die(cli_exit_code(s.netns_fd), "%s", netns_strerror(s.netns_fd));
    serve(verb, listen, "/", on_request, &s);
    return EXIT_OK;
}
