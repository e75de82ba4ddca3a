/* SPDX-License-Identifier: BSD-3-Clause
 * The verb up: attach to a network namespace.
 */
#include "ctl/cli/verbs.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "ctl/cli/attach.h"
#include "ctl/cli/cli.h"
#include "ctl/conf/sources.h"
#include "ctl/daemon/daemon.h"
#include "ctl/daemon/fds.h"
#include "ctl/daemon/ns1_drain.h"
#include "ctl/net/netns.h"

struct up {
    const struct cli_verb *verb;
    struct daemon_options opts;
    struct sources sources;
    const char *netns;
    bool foreground;
    bool follow;
    int ready_fd;
};

static int read_ready_fd(const struct up *u, const char *text)
{
    int fd = (int)cli_number(u->verb, "descriptor", text, 0, INT_MAX);

    if (fcntl(fd, F_GETFD) < 0)
        cli_usage(u->verb, "descriptor %d is not open", fd);
    return fd;
}

static void read_option(void *arg, int id)
{
    struct up *u = arg;

    if (attach_read_option(u->verb, id, &u->opts))
        return;
    switch (id) {
    case OPT_NETNS:
        u->netns = optarg;
        break;
    case OPT_UPLINK:
        attach_add_uplink(u->verb, optarg, &u->opts.uplinks);
        break;
    case OPT_FOLLOW_NETNS:
        u->follow = true;
        break;
    case OPT_DRAIN:
        u->opts.drain_s =
            (unsigned)cli_number(u->verb, "number of seconds", optarg, 0, NS1_DRAIN_MAX_S);
        break;
    case OPT_DRAIN_NEW:
        u->opts.drain_new = cli_drain(u->verb, optarg);
        break;
    case OPT_FOREGROUND:
        u->foreground = true;
        break;
    case OPT_READY_FD:
        u->ready_fd = read_ready_fd(u, optarg);
        break;
    case OPT_VERBOSE:
        u->opts.log_level = cli_more_verbose(u->opts.log_level);
        break;
    }
}

static int log_to_file(const char *path)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);

    if (fd < 0)
        return -errno;
    dup2(fd, STDERR_FILENO);
    close(fd);
    return 0;
}

static int stay(struct up *u)
{
    char text[DAEMON_ERROR_LEN];
    int terminal = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
    struct sdnotify notify;

    int err = sdnotify_init(&notify);
    if (err)
        log_warn("cannot notify the service manager: %s", strerror(-err));
    u->opts.notify = &notify;
    err = u->opts.log_path ? log_to_file(u->opts.log_path) : 0;
    if (err)
        die(cli_exit_code(err), "cannot open %s: %s", u->opts.log_path, strerror(-err));
    err = daemon_run(&u->opts, u->ready_fd, text);
    if (!err)
        return EXIT_OK;
    if (terminal >= 0)
        dup2(terminal, STDERR_FILENO);
    die(cli_exit_code(err), "%s", text);
}

static int detach(struct up *u)
{
    char text[DAEMON_ERROR_LEN];
    struct daemon d = DAEMON_NONE;

    int err = daemon_start(&u->opts, &d, text);
    if (err)
        die(cli_exit_code(err), "%s", text);
    daemon_release(&d);
    if (u->ready_fd >= 0 && write(u->ready_fd, "\n", 1) < 0)
        die(EXIT_NEGATIVE, "cannot write to descriptor %d: %s", u->ready_fd, strerror(errno));
    return EXIT_OK;
}

int up_main(int argc, char **argv)
{
    static struct up u = {.ready_fd = -1}; /* read until the process ends */

    u.verb = cli_verb_find("up");
    fds_fill_stdio();
    daemon_options_init(&u.opts);
    sources_read(&u.sources, u.verb, argc, argv, read_option, &u, &u.opts);
    if (!u.netns)
        cli_usage(u.verb, "which namespace? give --netns");
    u.opts.netns_fd = netns_open(u.netns);
    if (u.opts.netns_fd < 0)
        die(cli_exit_code(u.opts.netns_fd), "namespace \"%s\": %s", u.netns,
            netns_strerror(u.opts.netns_fd));
    u.opts.follow = u.follow ? u.netns : NULL;
    return u.foreground ? stay(&u) : detach(&u);
}
