/* SPDX-License-Identifier: BSD-3-Clause
 * A verb that stays and serves HTTP.
 */
#include "ctl/http/serve.h"

#include <ev.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

static void on_signal(struct ev_loop *loop, ev_signal *w, int events)
{
    ev_break(loop, EVBREAK_ALL);
}

/* With port 0 only this tells where. */
static void print_address(int fd, const char *path)
{
    struct sockaddr_storage addr = {0};
    socklen_t len = sizeof(addr);
    char text[HTTP_ADDRESS_LEN];

    getsockname(fd, (struct sockaddr *)&addr, &len);
    printf("http://%s%s\n", http_format_address(&addr, text), path);
    fflush(stdout);
}

void serve(const struct cli_verb *verb, const char *listen, const char *path,
           http_handler_fn handler, void *arg)
{
    struct sockaddr_storage addr;
    ev_signal term, interrupt;
    socklen_t len;

    if (http_parse_address(listen, &addr, &len) < 0)
        cli_usage(verb, "\"%s\" is no ADDRESS:PORT", listen);
    int fd = http_listen(&addr, len);
    if (fd < 0)
        die(cli_exit_code(fd), "cannot listen at %s: %s", listen, strerror(-fd));
    struct ev_loop *loop = ev_default_loop(EVFLAG_AUTO);
    struct http_server *server = loop ? http_server_new(loop, fd, handler, arg) : NULL;
    if (!server)
        die(EXIT_NEGATIVE, "out of memory");
    signal(SIGPIPE, SIG_IGN);
    ev_signal_init(&term, on_signal, SIGTERM);
    ev_signal_init(&interrupt, on_signal, SIGINT);
    ev_signal_start(loop, &term);
    ev_signal_start(loop, &interrupt);
    print_address(fd, path);
    ev_run(loop, 0);
    http_server_free(server);
}
