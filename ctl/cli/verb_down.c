/* SPDX-License-Identifier: BSD-3-Clause
 * The verb down: detach from a network namespace.
 */
#include "ctl/cli/verbs.h"

#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <stdbool.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <unistd.h>

#include "ctl/cli/cli.h"
#include "ctl/client/ctlclient.h"
#include "ctl/daemon/ctlsock.h"
#include "ctl/daemon/ns1.h"
#include "ctl/net/netcfg.h"
#include "ctl/net/netns.h"

#define STOP_MS         10000
#define WORKER_ANSWER_S 2
#define DRAIN_DEFAULT_S 30

struct down {
    const struct cli_verb *verb;
    const char *netns;
    bool drain;
    unsigned drain_s;
    const char *drain_new; /* NULL: the daemon's default */
};

static int say(const char *netns, const char *what)
{
    printf("%s: %s\n", netns, what);
    return EXIT_OK;
}

/* No daemon, or a dead one: what it left is ours to take away. */
static int remove_leftovers(const char *netns, int fd)
{
    char text[NETCFG_ERROR_LEN];
    bool found = false;
    ino_t inode;

    int err = netns_enter(fd);
    if (err)
        die(cli_exit_code(err), "cannot enter namespace \"%s\": %s", netns, strerror(-err));
    err = netcfg_remove_leftovers(&found, text);
    if (err == -EALREADY)
        die(EXIT_UNREACHABLE, "%s", text);
    if (err)
        die(cli_exit_code(err), "%s", text);
    if (netns_inode(fd, &inode) == 0)
        ctlsock_remove_dead(inode);
    return say(netns, found ? "leftovers of a dead daemon removed" : "was not attached");
}

/* The worker may be missing for good (no uplink any more), and with it everybody
 * who could answer; the supervisor also listens to signals. */
static int end_by_signal(const char *netns, const struct ctlclient *c)
{
    int pid = ctlclient_server_pid(c);
    int pidfd = pid > 0 ? pidfd_open(pid, 0) : -1;
    struct pollfd p = {.fd = pidfd, .events = POLLIN};

    if (pidfd < 0 || pidfd_send_signal(pidfd, SIGTERM, NULL, 0) < 0)
        die(EXIT_UNREACHABLE, "the daemon of \"%s\" does not answer", netns);
    if (poll(&p, 1, STOP_MS) <= 0)
        die(EXIT_UNREACHABLE, "the daemon of \"%s\", process %d, does not end", netns, pid);
    close(pidfd);
    return say(netns, "detached");
}

/* A worker that hangs does not answer; then its supervisor is told, if it can be seen
 * from here. Else the supervisor finds out by itself. */
static int await_reply(struct ctlclient *c, json_t **ret, bool *ret_more,
                       char error[CTLCLIENT_ERROR_LEN])
{
    ctlclient_set_patience(c, WORKER_ANSWER_S);
    int err = ctlclient_next(c, ret, ret_more, error);
    if (err != -ETIMEDOUT || ctlclient_server_pid(c) > 0)
        return err;
    ctlclient_set_patience(c, STOP_MS / 1000);
    return ctlclient_next(c, ret, ret_more, error);
}

static int call(const struct down *d, struct ctlclient *c)
{
    if (!d->drain)
        return ctlclient_call(c, NS1_INTERFACE ".Down", NULL, false);
    return ctlclient_call(c, NS1_INTERFACE ".Drain",
                          json_pack("{s:i, s:s*}", "timeout", (int)d->drain_s, "new", d->drain_new),
                          true);
}

/* What is left, when that has changed. */
static void tell_progress(const struct down *d, json_t *reply)
{
    static json_int_t told = -1;
    json_int_t left = json_integer_value(json_object_get(reply, "left"));

    if (left != told)
        fprintf(stderr, "%s: %lld connections left, %lld seconds\n", d->netns, (long long)left,
                (long long)json_integer_value(json_object_get(reply, "seconds")));
    told = left;
}

static int await_end(const struct down *d, struct ctlclient *c, char error[CTLCLIENT_ERROR_LEN])
{
    bool more = true;
    int err = 0;

    while (!err && more) {
        json_t *reply = NULL;

        /* Once it drains it tells every second how far it is. */
        err = await_reply(c, &reply, &more, error);
        if (!err && more)
            tell_progress(d, reply);
        json_decref(reply);
    }
    return err;
}

static int ask(const struct down *d, int fd, struct ctlclient *c)
{
    char error[CTLCLIENT_ERROR_LEN];

    int err = call(d, c);
    if (!err)
        err = await_end(d, c, error);
    if (err == -ETIMEDOUT)
        return end_by_signal(d->netns, c);
    if (err == -EREMOTEIO && strcmp(error, "org.varlink.service.PermissionDenied") == 0)
        die(EXIT_PERMISSION, "only root may detach \"%s\"", d->netns);
    if (err == -EREMOTEIO)
        die(EXIT_NEGATIVE, "the daemon of \"%s\" says %s", d->netns, error);
    if (err)
        return remove_leftovers(d->netns, fd); /* it died meanwhile */
    return say(d->netns, "detached");
}

static void read_option(struct down *d, int id)
{
    switch (id) {
    case OPT_NETNS:
        d->netns = optarg;
        break;
    case OPT_DRAIN:
        d->drain = true;
        if (optarg)
            d->drain_s =
                (unsigned)cli_number(d->verb, "number of seconds", optarg, 0, NS1_DRAIN_MAX_S);
        break;
    case OPT_DRAIN_NEW:
        (void)cli_drain(d->verb, optarg);
        d->drain_new = optarg;
        break;
    }
}

int down_main(int argc, char **argv)
{
    struct down d = {.verb = cli_verb_find("down"), .drain_s = DRAIN_DEFAULT_S};
    struct ctlclient c = CTLCLIENT_NONE;
    int id;

    while ((id = cli_next(d.verb, argc, argv)) != -1)
        read_option(&d, id);
    if (!d.netns)
        cli_usage(d.verb, "which namespace? give --netns");
    if (d.drain_new && !d.drain)
        cli_usage(d.verb, "--drain-new needs --drain");
    int fd = netns_open(d.netns);
    if (fd < 0)
        die(cli_exit_code(fd), "namespace \"%s\": %s", d.netns, netns_strerror(fd));
    int err = ctlclient_init(&c, fd);
    if (err && err != -ECONNREFUSED)
        die(cli_exit_code(err), "namespace \"%s\": %s", d.netns, strerror(-err));
    int code = err ? remove_leftovers(d.netns, fd) : ask(&d, fd, &c);
    ctlclient_done(&c);
    close(fd);
    return code;
}
