/* SPDX-License-Identifier: BSD-3-Clause
 * A control socket at a path of its own, for tests of what listens at it.
 *
 * Exactly one file of a program includes this, behind cmocka.h.
 */
#ifndef TCNS_TESTS_CTL_DOOR_H
#define TCNS_TESTS_CTL_DOOR_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "ctl/daemon/ctlsock.h"

struct door {
    struct ctlsock sock;
    struct sockaddr_un addr;
    char dir[32];
};

static void door_open(struct door *d)
{
    strcpy(d->dir, "/tmp/tcns-ctl-XXXXXX");
    assert_non_null(mkdtemp(d->dir));
    d->addr.sun_family = AF_UNIX;
    snprintf(d->addr.sun_path, sizeof(d->addr.sun_path), "%s/sock", d->dir);
    d->sock = (struct ctlsock)CTLSOCK_NONE;
    d->sock.path_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    assert_int_equal(bind(d->sock.path_fd, (struct sockaddr *)&d->addr, sizeof(d->addr)), 0);
    assert_int_equal(listen(d->sock.path_fd, 128), 0);
}

static void door_close(struct door *d)
{
    close(d->sock.path_fd);
    unlink(d->addr.sun_path);
    rmdir(d->dir);
}

/* Return: a client's socket, connected. */
static int door_enter(const struct door *d)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);

    assert_int_equal(connect(fd, (const struct sockaddr *)&d->addr, sizeof(d->addr)), 0);
    return fd;
}

#endif
