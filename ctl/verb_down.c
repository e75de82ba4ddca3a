/* SPDX-License-Identifier: BSD-3-Clause
 * The verb down: detach from a network namespace.
 */
#include "ctl/verbs.h"

#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <unistd.h>

#include "ctl/cli.h"
#include "ctl/ctlclient.h"
#include "ctl/ctlsock.h"
#include "ctl/netcfg.h"
#include "ctl/netns.h"
#include "ctl/ns1.h"

#define STOP_MS         10000
#define WORKER_ANSWER_S 2

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
static int await_reply(struct ctlclient *c, json_t **ret, char error[CTLCLIENT_ERROR_LEN])
{
    ctlclient_set_patience(c, WORKER_ANSWER_S);
    int err = ctlclient_next(c, ret, NULL, error);
    if (err != -ETIMEDOUT || ctlclient_server_pid(c) > 0)
        return err;
    ctlclient_set_patience(c, STOP_MS / 1000);
    return ctlclient_next(c, ret, NULL, error);
}

static int ask(const char *netns, int fd, struct ctlclient *c)
{
    char error[CTLCLIENT_ERROR_LEN];
    json_t *reply = NULL;

    int err = ctlclient_call(c, NS1_INTERFACE ".Down", NULL, false);
    if (!err)
        err = await_reply(c, &reply, error);
    json_decref(reply);
    if (err == -ETIMEDOUT)
        return end_by_signal(netns, c);
    if (err == -EREMOTEIO && strcmp(error, "org.varlink.service.PermissionDenied") == 0)
        die(EXIT_PERMISSION, "only root may detach \"%s\"", netns);
    if (err == -EREMOTEIO)
        die(EXIT_NEGATIVE, "the daemon of \"%s\" says %s", netns, error);
    if (err)
        return remove_leftovers(netns, fd); /* it died meanwhile */
    return say(netns, "detached");
}

int down_main(int argc, char **argv)
{
    const struct cli_verb *verb = cli_verb_find("down");
    struct ctlclient c = CTLCLIENT_NONE;
    const char *netns = NULL;
    int id;

    while ((id = cli_next(verb, argc, argv)) != -1)
        if (id == OPT_NETNS)
            netns = optarg;
    if (!netns)
        cli_usage(verb, "which namespace? give --netns");
    int fd = netns_open(netns);
    if (fd < 0)
        die(cli_exit_code(fd), "namespace \"%s\": %s", netns, netns_strerror(fd));
    int err = ctlclient_init(&c, fd);
    if (err && err != -ECONNREFUSED)
        die(cli_exit_code(err), "namespace \"%s\": %s", netns, strerror(-err));
    int code = err ? remove_leftovers(netns, fd) : ask(netns, fd, &c);
    ctlclient_done(&c);
    close(fd);
    return code;
}
