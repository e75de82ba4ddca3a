/* SPDX-License-Identifier: BSD-3-Clause
 * The verb metrics: the daemon's numbers, printed once or served to Prometheus.
 *
 * How it works: the server is this process, not the daemon, and asks the daemon for each
 * scrape: what strangers send over HTTP is not read where packets are moved, and a
 * worker that is replaced does not end the series.
 */
#include "ctl/cli/verbs.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "ctl/cli/cli.h"
#include "ctl/cli/query.h"
#include "ctl/client/ctlclient.h"
#include "ctl/daemon/metrics.h"
#include "ctl/daemon/ns1.h"
#include "ctl/http/serve.h"
#include "ctl/net/netns.h"

#define SCRAPE_PATIENCE_S 5

struct metrics_verb {
    const struct cli_verb *verb;
    const char *netns;
    const char *ctl; /* NULL: where it always listens */
    const char *listen;
    int netns_fd;
};

/* Return: 0 and the reply, caller's; -errno; -EREMOTEIO: the daemon is of an older version. */
static int ask(const struct metrics_verb *v, json_t **ret)
{
    struct ctlclient client = CTLCLIENT_NONE;
    char error[CTLCLIENT_ERROR_LEN];

    int err = query_dial(v->ctl, v->netns_fd, &client);
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

int metrics_main(int argc, char **argv)
{
    struct metrics_verb v = {.verb = cli_verb_find("metrics"), .netns = "self"};
    int id;

    while ((id = cli_next(v.verb, argc, argv)) != -1) {
        if (id == OPT_NETNS)
            v.netns = optarg;
        else if (id == OPT_CTL)
            v.ctl = cli_place(v.verb, optarg);
        else if (id == OPT_LISTEN)
            v.listen = optarg;
    }
    v.netns_fd = netns_open(v.netns);
    if (v.netns_fd < 0)
        die(cli_exit_code(v.netns_fd), "namespace \"%s\": %s", v.netns, netns_strerror(v.netns_fd));
    int code = EXIT_OK;
    if (v.listen)
        serve(v.verb, v.listen, "/metrics", on_request, &v);
    else
        code = print_once(&v);
    close(v.netns_fd);
    return code;
}
