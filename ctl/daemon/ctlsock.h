/* SPDX-License-Identifier: BSD-3-Clause
 * Where the ctl socket is: its doors, and how to reach them.
 *
 * The path below /run is for administrators; its mode decides who may come in,
 * and who is in may do everything. The abstract name belongs to the container's
 * network namespace, so that every process there finds its own daemon whatever
 * file system it sees; it is for reading. A third door, for reading too, is opened
 * on request: a path, or a TCP port at 127.0.0.1 of the namespace.
 */
#ifndef TCNS_CTL_CTLSOCK_H
#define TCNS_CTL_CTLSOCK_H

#include <sys/types.h>

#include "tcpcrypt/ctl.h"

#define CTLSOCK_PATH_LEN 64

struct ctlsock {
    int path_fd;     /* listening, non-blocking, close-on-exec; -1: this door is shut */
    int abstract_fd; /* likewise */
    int extra_fd;    /* likewise */
    char path[CTLSOCK_PATH_LEN];
    const char *extra_path; /* borrowed; NULL: none, or not a path */
};

#define CTLSOCK_NONE                                                                               \
    {                                                                                              \
        .path_fd = -1, .abstract_fd = -1, .extra_fd = -1                                           \
    }

/* Opens both doors for the current namespace, whose inode is given. One that
 * cannot be opened is logged and stays shut; the data path does not need them.
 * Only the holder of the namespace's TUN device may call this. */
void ctlsock_listen(struct ctlsock *c, ino_t inode);

/* Opens a door more at a place that ctldial_is_place() knows; text is borrowed until
 * ctlsock_done(). A socket that a dead daemon has left there is replaced. Return: 0; -EADDRINUSE;
 * -errno. */
int ctlsock_listen_extra(struct ctlsock *c, const char *text);

/* Closes and removes the doors. */
void ctlsock_done(struct ctlsock *c);

/* Removes the path that a dead daemon of the namespace has left, if nobody answers there. */
void ctlsock_remove_dead(ino_t inode);

/* Connects to the daemon of a namespace, given by a descriptor: by its path,
 * else by its abstract name, for which the calling thread may have to move into
 * the namespace (and stays there).
 * Return: a connected, close-on-exec stream socket; -ECONNREFUSED when no daemon
 * answers; -EPERM, -EACCES; -errno. */
int ctlsock_connect(int netns_fd);

#endif
