/* SPDX-License-Identifier: BSD-3-Clause
 * The verb capture: packets of a namespace's daemon, written to a pcapng file.
 *
 * How it works: the daemon writes the file's bytes to a socket of ours, which only copies
 * them. To end, we shut our direction of it down; the daemon then sends the statistics and
 * hangs up, and answers the call with the numbers.
 */
#include "ctl/cli/verbs.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "ctl/cli/query.h"
#include "ctl/daemon/ns1.h"
#include "ctl/daemon/ns1_params.h"

#define SECONDS_MAX    (24 * 60 * 60)
#define COPY_LEN       (256 * 1024)
#define END_PATIENCE_S 10

struct capture {
    struct query query;
    bool inner, outer;
    const char *peer;
    long port, count, seconds, snaplen;
    const char *path;
    int out; /* the file */
    int data;
    int signals;
};

static void read_option(struct capture *c, int id)
{
    const struct cli_verb *verb = c->query.verb;
    struct addr addr;

    if (query_read_option(&c->query, id))
        return;
    switch (id) {
    case OPT_INNER:
        c->inner = true;
        break;
    case OPT_OUTER:
        c->outer = true;
        break;
    case OPT_BOTH:
        c->inner = c->outer = true;
        break;
    case OPT_PEER:
        if (!ns1_params_addr(optarg, &addr))
            cli_usage(verb, "\"%s\" is no address", optarg);
        c->peer = optarg;
        break;
    case OPT_PORT:
        c->port = cli_number(verb, "port", optarg, 1, UINT16_MAX);
        break;
    case OPT_COUNT:
        c->count = cli_number(verb, "count", optarg, 1, UINT32_MAX);
        break;
    case OPT_SECONDS:
        c->seconds = cli_number(verb, "number of seconds", optarg, 1, SECONDS_MAX);
        break;
    case OPT_SNAPLEN:
        c->snaplen = cli_number(verb, "length", optarg, 1, UINT16_MAX);
        break;
    case OPT_WRITE:
        c->path = optarg;
        break;
    }
}

/* Clear text may be in it: nobody else needs to read it. */
static int open_output(const char *path)
{
    if (strcmp(path, "-") == 0)
        return STDOUT_FILENO;
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOCTTY, 0600);
    if (fd < 0)
        die(cli_exit_code(-errno), "cannot open %s: %s", path, strerror(errno));
    return fd;
}

static int watch_signals(void)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (fd < 0)
        die(EXIT_NEGATIVE, "cannot watch signals: %s", strerror(errno));
    return fd;
}

static void call(struct capture *c)
{
    int pair[2];
    json_t *params = json_pack("{s:b, s:b, s:s*, s:I, s:I, s:I}", "inner", c->inner, "outer",
                               c->outer, "peer", c->peer, "port", (json_int_t)c->port, "count",
                               (json_int_t)c->count, "snaplen", (json_int_t)c->snaplen);

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        die(EXIT_NEGATIVE, "cannot make a socket: %s", strerror(errno));
    int err =
        ctlclient_call_with(&c->query.client, NS1_INTERFACE ".Capture", params, false, pair[1]);
    if (err)
        die(EXIT_UNREACHABLE, "namespace \"%s\": %s", c->query.netns, strerror(-err));
    close(pair[1]);
    c->data = pair[0];
}

static void write_all(const struct capture *c, const char *bytes, size_t len)
{
    while (len > 0) {
        ssize_t n = write(c->out, bytes, len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            die(EXIT_NEGATIVE, "cannot write %s: %s", c->path, strerror(errno));
        bytes += n;
        len -= (size_t)n;
    }
}

/* Return: whether there may be more. */
static bool copy(const struct capture *c)
{
    static char bytes[COPY_LEN];
    ssize_t n = recv(c->data, bytes, sizeof(bytes), 0);

    if (n > 0)
        write_all(c, bytes, (size_t)n);
    return n > 0 || (n < 0 && errno == EINTR);
}

static void copy_until_the_end(const struct capture *c)
{
    int64_t until = c->seconds ? clock_ms() + c->seconds * 1000 : 0;
    struct pollfd p[] = {{.fd = c->data, .events = POLLIN}, {.fd = c->signals, .events = POLLIN}};

    for (;;) {
        int64_t left = until ? until - clock_ms() : -1;
        int n = poll(p, 2, left > INT_MAX ? INT_MAX : (int)left);

        if ((n == 0 && until) || p[1].revents) {
            shutdown(c->data, SHUT_WR); /* no more, please */
            until = 0;
            p[1].fd = -1; /* another signal ends us as ever */
            struct signalfd_siginfo info;
            sigset_t none;
            while (read(c->signals, &info, sizeof(info)) > 0)
                ;
            sigemptyset(&none);
            sigprocmask(SIG_SETMASK, &none, NULL);
        }
        if (n > 0 && p[0].revents && !copy(c))
            return;
    }
}

static int tell_numbers(struct capture *c)
{
    ctlclient_set_patience(&c->query.client, END_PATIENCE_S);
    json_t *reply = query_next(&c->query, NULL);

    fprintf(stderr, "%lld packets captured, %lld dropped\n",
            (long long)json_integer_value(json_object_get(reply, "packets")),
            (long long)json_integer_value(json_object_get(reply, "dropped")));
    json_decref(reply);
    return EXIT_OK;
}

int capture_main(int argc, char **argv)
{
    struct capture c = {.out = -1};
    int id;

    query_begin(&c.query, "capture");
    while ((id = cli_next(c.query.verb, argc, argv)) != -1)
        read_option(&c, id);
    if (!c.inner && !c.outer)
        c.outer = true;
    if (!c.path)
        cli_usage(c.query.verb, "where to? give --write FILE, or - for standard output");
    if (strcmp(c.path, "-") == 0 && isatty(STDOUT_FILENO))
        cli_usage(c.query.verb, "a capture is nothing for a terminal");
    query_connect(&c.query);
    c.out = open_output(c.path);
    c.signals = watch_signals();
    call(&c);
    copy_until_the_end(&c);
    int code = tell_numbers(&c);
    query_done(&c.query);
    return code;
}
