/* SPDX-License-Identifier: BSD-3-Clause
 * The verb metrics: the daemon's numbers, printed once or served to Prometheus.
 *
 * How it works: the server is this process, not the daemon, and asks the daemon for each
 * scrape: what strangers send over HTTP is not read where packets are moved, and a
 * worker that is replaced does not end the series.
 */
#include "ctl/verbs.h"

#include <errno.h>
#include <ev.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "ctl/cli.h"
#include "ctl/ctlclient.h"
#include "ctl/http.h"
#include "ctl/metrics.h"
#include "ctl/netns.h"
#include "ctl/ns1.h"

#define SCRAPE_PATIENCE_S 5

struct metrics_verb {
    const struct cli_verb *verb;
    const char *netns;
    const char *listen;
    int netns_fd;
};

/* Return: 0 and the reply, caller's; -errno; -EREMOTEIO: the daemon is of an older version. */
static int ask(const struct metrics_verb *v, json_t **ret)
{
    struct ctlclient client = CTLCLIENT_NONE;
    char error[CTLCLIENT_ERROR_LEN];

    int err = ctlclient_init(&client, v->netns_fd);
    if (err)
        return err;
    ctlclient_set_patience(&client, SCRAPE_PATIENCE_S);
    err = ctlclient_call(&client, NS1_INTERFACE ".GetMetrics", NULL, false);
    if (!err)
        err = ctlclient_next(&client, ret, NULL, error);
    ctlclient_done(&client);
    return err;
}

static const char *text_of(const json_t *reply)
{
    const char *text = json_string_value(json_object_get(reply, "text"));

    return text ? text : "";
}

/* --- Once --------------------------------------------------------------------- */

static int print_once(const struct metrics_verb *v)
{
    json_t *reply = NULL;
    int err = ask(v, &reply);

    if (err == -ECONNREFUSED)
        die(EXIT_UNREACHABLE, "no daemon answers for namespace \"%s\"", v->netns);
    if (err == -EREMOTEIO)
        die(EXIT_NEGATIVE, "the daemon of \"%s\" has no metrics", v->netns);
    if (err)
        die(cli_exit_code(err) == EXIT_PERMISSION ? EXIT_PERMISSION : EXIT_UNREACHABLE,
            "namespace \"%s\": %s", v->netns, strerror(-err));
    fputs(text_of(reply), stdout);
    json_decref(reply);
    if (fflush(stdout) != 0)
        die(EXIT_NEGATIVE, "cannot write: %s", strerror(errno));
    return EXIT_OK;
}

/* --- As a server ---------------------------------------------------------------- */

static void reply_text(struct http_response *r, int status, const char *text)
{
    http_reply(r, status, "text/plain; charset=utf-8", NULL, text, strlen(text));
}

static void on_request(const struct http_request *request, struct http_response *response,
                       void *arg)
{
    json_t *reply = NULL;

    if (strcmp(request->path, "/metrics") != 0) {
        reply_text(response, 404, "The metrics are at /metrics.\n");
        return;
    }
    int err = ask(arg, &reply);
    if (err) {
        reply_text(response, 503, "The daemon does not answer.\n");
        return;
    }
    http_reply(response, 200, METRICS_CONTENT_TYPE, NULL, text_of(reply), strlen(text_of(reply)));
    json_decref(reply);
}

static void on_signal(struct ev_loop *loop, ev_signal *w, int events)
{
    ev_break(loop, EVBREAK_ALL);
}

/* With port 0 only this tells where. */
static void print_address(int fd)
{
    struct sockaddr_storage addr = {0};
    socklen_t len = sizeof(addr);
    char text[HTTP_ADDRESS_LEN];

    getsockname(fd, (struct sockaddr *)&addr, &len);
    printf("http://%s/metrics\n", http_format_address(&addr, text));
    fflush(stdout);
}

static int serve(struct metrics_verb *v)
{
    struct sockaddr_storage addr;
    ev_signal term, interrupt;
    socklen_t len;

    if (http_parse_address(v->listen, &addr, &len) < 0)
        cli_usage(v->verb, "\"%s\" is no ADDRESS:PORT", v->listen);
    int fd = http_listen(&addr, len);
    if (fd < 0)
        die(cli_exit_code(fd), "cannot listen at %s: %s", v->listen, strerror(-fd));
    struct ev_loop *loop = ev_default_loop(EVFLAG_AUTO);
    struct http_server *server = loop ? http_server_new(loop, fd, on_request, v) : NULL;
    if (!server)
        die(EXIT_NEGATIVE, "out of memory");
    signal(SIGPIPE, SIG_IGN);
    ev_signal_init(&term, on_signal, SIGTERM);
    ev_signal_init(&interrupt, on_signal, SIGINT);
    ev_signal_start(loop, &term);
    ev_signal_start(loop, &interrupt);
    print_address(fd);
    ev_run(loop, 0);
    http_server_free(server);
    return EXIT_OK;
}

int metrics_main(int argc, char **argv)
{
    struct metrics_verb v = {.verb = cli_verb_find("metrics"), .netns = "self"};
    int id;

    while ((id = cli_next(v.verb, argc, argv)) != -1) {
        if (id == OPT_NETNS)
            v.netns = optarg;
        else if (id == OPT_LISTEN)
            v.listen = optarg;
    }
    v.netns_fd = netns_open(v.netns);
    if (v.netns_fd < 0)
        die(cli_exit_code(v.netns_fd), "namespace \"%s\": %s", v.netns, netns_strerror(v.netns_fd));
    int code = v.listen ? serve(&v) : print_once(&v);
    close(v.netns_fd);
    return code;
}
