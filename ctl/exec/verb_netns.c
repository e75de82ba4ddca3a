/* SPDX-License-Identifier: BSD-3-Clause
 * The verb netns: a named network namespace with an uplink of its own, for as long as
 * the verb runs.
 *
 * How it works: what exec makes for its command (exec_space.h), with a name under
 * /run/netns by which services, up and "ip netns" find it. There is no janitor:
 * services that live in there must survive our death. The next of the same name finds the
 * namespace and connects it anew; --remove takes it away.
 */
#include "ctl/cli/verbs.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "ctl/cli/cli.h"
#include "ctl/daemon/fds.h"
#include "ctl/daemon/sdnotify.h"
#include "ctl/exec/exec_space.h"
#include "ctl/net/netns.h"

struct space {
    const struct cli_verb *verb;
    const char *name;
    char path[sizeof(NETNS_NAMES_DIR) + NETNS_NAME_MAX_LEN + 1]; /* of the name */
    struct publish publish;
    struct exec_host host;
    struct dns *dns;
    int netns_fd;
    int signal_fd;
    bool remove;
    char text[EXEC_ERROR_LEN]; /* what has failed */
};

static int fail(struct space *s, int err, const char *what)
{
    snprintf(s->text, sizeof(s->text), "%s: %s", what, strerror(-err));
    return err;
}

/* --- The name --------------------------------------------------------------------- */

static int make_name(struct space *s)
{
    char source[40];

    if (mkdir(NETNS_NAMES_DIR, 0755) < 0 && errno != EEXIST)
        return -errno;
    int fd = open(s->path, O_RDONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0444);
    if (fd < 0)
        return -errno;
    close(fd);
    snprintf(source, sizeof(source), "/proc/self/fd/%d", s->netns_fd);
    if (mount(source, s->path, "none", MS_BIND, NULL) == 0)
        return 0;
    int err = -errno;
    unlink(s->path);
    return err;
}

static int remove_name(const struct space *s)
{
    if (umount2(s->path, MNT_DETACH) < 0 && errno != EINVAL && errno != ENOENT)
        return -errno;
    return unlink(s->path) < 0 && errno != ENOENT ? -errno : 0;
}

/* What a killed one left behind is ours; a namespace that somebody else made is not. */
static int open_or_make(struct space *s)
{
    if (s->host.inherited) {
        s->netns_fd = netns_open(s->path);
        if (s->netns_fd >= 0)
            return 0;
        remove_name(s); /* a file that is no namespace any more */
    }
    s->netns_fd = exec_space_new();
    if (s->netns_fd < 0)
        return fail(s, s->netns_fd, "making a network namespace");
    int err = make_name(s);
    if (err == -EEXIST) {
        snprintf(s->text, sizeof(s->text), "there is a namespace \"%s\" already", s->name);
        close(s->netns_fd);
        s->netns_fd = -1;
        return err;
    }
    return err ? fail(s, err, s->path) : 0;
}

/* --- Set-up, service, end ----------------------------------------------------------- */

static int watch_signals(struct space *s)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigprocmask(SIG_SETMASK, &set, NULL);
    signal(SIGHUP, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    s->signal_fd = signalfd(-1, &set, SFD_CLOEXEC);
    return s->signal_fd < 0 ? fail(s, -errno, "cannot watch signals") : 0;
}

static int set_up(struct space *s)
{
    int err = watch_signals(s);

    if (!err)
        err = exec_host_open(&s->host, s->name, s->text);
    if (!err)
        err = open_or_make(s);
    if (!err)
        err = exec_space_connect(&s->host, s->netns_fd, &s->publish, s->text);
    if (!err)
        s->dns = exec_space_dns(s->netns_fd);
    return err;
}

static void serve(struct space *s)
{
    struct pollfd p[] = {
        {.fd = s->signal_fd, .events = POLLIN},
        {.fd = s->dns ? dns_fd(s->dns) : -1, .events = POLLIN},
    };

    while (!p[0].revents) {
        if (poll(p, sizeof(p) / sizeof(p[0]), -1) < 0)
            p[0].revents = 0;
        else if (p[1].revents)
            dns_dispatch(s->dns);
    }
}

/* The name goes before the record of it. */
static int take_down(struct space *s)
{
    int err = 0;

    dns_free(s->dns);
    if (s->netns_fd >= 0) {
        close(s->netns_fd);
        err = remove_name(s);
    }
    int other = exec_host_teardown(&s->host);
    exec_host_done(&s->host);
    if (s->signal_fd >= 0)
        close(s->signal_fd);
    return err ? err : other;
}

static void __attribute__((noreturn)) give_up(struct space *s, int err)
{
    char text[EXEC_ERROR_LEN];

    memcpy(text, s->text, sizeof(text));
    /* Services may live in one that was there before us: the next try may succeed. */
    if (!s->host.inherited)
        take_down(s);
    die(cli_exit_code(err), "%s%s", text,
        cli_exit_code(err) == EXIT_PERMISSION ? " (netns needs root)" : "");
}

static int provide(struct space *s)
{
    struct sdnotify notify;

    sdnotify_init(&notify);
    int err = set_up(s);
    if (err)
        give_up(s, err);
    printf("%s: ready\n", s->name);
    fflush(stdout);
    sdnotify_ready(&notify, s->path);
    serve(s);
    sdnotify_stopping(&notify);
    err = take_down(s);
    sdnotify_done(&notify);
    if (err)
        die(cli_exit_code(err), "%s: taking it away: %s", s->name, strerror(-err));
    return EXIT_OK;
}

static int remove_it(struct space *s)
{
    int err = exec_host_open(&s->host, s->name, s->text);

    if (err)
        give_up(s, err);
    bool found = s->host.inherited;
    s->netns_fd = found ? netns_open(s->path) : -1;
    err = take_down(s);
    if (err)
        die(cli_exit_code(err), "%s: %s", s->name, strerror(-err));
    printf("%s: %s\n", s->name, found ? "what a killed one left is removed" : "was not there");
    return EXIT_OK;
}

int netns_main(int argc, char **argv)
{
    struct space s = {
        .verb = cli_verb_find("netns"),
        .host = EXEC_HOST_NONE,
        .netns_fd = -1,
        .signal_fd = -1,
    };
    enum log_level level = LOG_LEVEL_WARN;
    int id;

    while ((id = cli_next(s.verb, argc, argv)) != -1) {
        if (id == OPT_PUBLISH)
            cli_publish(s.verb, optarg, &s.publish);
        else if (id == OPT_REMOVE)
            s.remove = true;
        else if (id == OPT_VERBOSE)
            level = cli_more_verbose(level);
    }
    s.name = cli_operand(s.verb, argc, argv);
    if (!s.name)
        cli_usage(s.verb, "which name?");
    if (!netns_is_name(s.name))
        cli_usage(s.verb, "\"%s\" cannot be the name of a namespace", s.name);
    snprintf(s.path, sizeof(s.path), NETNS_NAMES_DIR "/%s", s.name);
    fds_fill_stdio();
    log_set_level(level);
    if (sodium_init() < 0)
        die(EXIT_NEGATIVE, "libsodium cannot start");
    return s.remove ? remove_it(&s) : provide(&s);
}
