/* SPDX-License-Identifier: BSD-3-Clause
 * What the verbs that ask the daemon share.
 */
#include "ctl/cli/query.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "ctl/net/netns.h"

#define WAIT_MAX_S (24 * 60 * 60)

static void no_answer(const struct query *q, int err)
{
    int code = cli_exit_code(err);

    if (err == -ECONNREFUSED && q->ctl)
        die(EXIT_UNREACHABLE, "no daemon answers at %s", q->ctl);
    if (err == -ECONNREFUSED)
        die(EXIT_UNREACHABLE, "no daemon answers for namespace \"%s\"", q->netns);
    die(code == EXIT_PERMISSION ? code : EXIT_UNREACHABLE, "namespace \"%s\": %s", q->netns,
        strerror(-err));
}

void query_begin(struct query *q, const char *verb)
{
    *q = (struct query){.verb = cli_verb_find(verb), .netns = "self", .client = CTLCLIENT_NONE};
}

bool query_read_option(struct query *q, int id)
{
    switch (id) {
    case OPT_NETNS:
        q->netns = optarg;
        return true;
    case OPT_CTL:
        q->ctl = cli_place(q->verb, optarg);
        return true;
    case OPT_JSON:
        q->json = true;
        return true;
    case OPT_ENDED:
        q->ended = true;
        return true;
    case OPT_FLUSH:
        q->flush = true;
        return true;
    case OPT_WAIT:
        q->wait_s = (int)cli_number(q->verb, "number of seconds", optarg, 0, WAIT_MAX_S);
        return true;
    default:
        return false;
    }
}

int query_dial(const char *ctl, int netns_fd, struct ctlclient *ret)
{
    if (!ctl)
        return ctlclient_init(ret, netns_fd);
    /* A path is the same everywhere; a port is one of the namespace's own. */
    int err = ctl[0] == ':' ? netns_enter(netns_fd) : 0;

    return err ? err : ctlclient_init_at(ret, ctl);
}

int query_try_connect(struct query *q)
{
    int fd = netns_open(q->netns);

    if (fd < 0)
        die(cli_exit_code(fd), "namespace \"%s\": %s", q->netns, netns_strerror(fd));
    if (q->wait_s > 0)
        ctlclient_await(fd, q->wait_s);
    int err = query_dial(q->ctl, fd, &q->client);
    close(fd);
    return err;
}

void query_connect(struct query *q)
{
    if (q->wait_s > 0 && q->ctl)
        cli_usage(q->verb, "--wait and --ctl do not go together");
    int err = query_try_connect(q);
    if (err)
        no_answer(q, err);
}

void query_init(struct query *q, const char *verb, int argc, char **argv)
{
    int id;

    query_begin(q, verb);
    while ((id = cli_next(q->verb, argc, argv)) != -1)
        query_read_option(q, id);
    query_connect(q);
}

void query_call(struct query *q, const char *method, json_t *params, bool more)
{
    int err = ctlclient_call(&q->client, method, params, more);

    if (err)
        no_answer(q, err);
}

void query_done(struct query *q)
{
    ctlclient_done(&q->client);
}

/* What is not is '?' then. Return: text. */
static const char *printable(char *text)
{
    for (char *c = text; *c; c++)
        if (*c < ' ' || *c > '~')
            *c = '?';
    return text;
}

json_t *query_next(struct query *q, bool *ret_continues)
{
    char error[CTLCLIENT_ERROR_LEN];
    json_t *reply = NULL;

    int err = ctlclient_next(&q->client, &reply, ret_continues, error);
    if (err == -EREMOTEIO && strcmp(error, "org.varlink.service.PermissionDenied") == 0)
        die(EXIT_PERMISSION, "only root may do that to \"%s\"", q->netns);
    if (err == -EREMOTEIO && q->client.reason[0])
        die(EXIT_NEGATIVE, "%s", printable(q->client.reason));
    if (err == -EREMOTEIO)
        die(EXIT_NEGATIVE, "the daemon of \"%s\" says %s", q->netns, error);
    if (err)
        no_answer(q, err);
    return reply;
}

const char *query_text(const json_t *object, const char *key, char *out, size_t out_len)
{
    const char *text = json_string_value(json_object_get(object, key));

    snprintf(out, out_len, "%s", text ? text : "");
    return printable(out);
}
