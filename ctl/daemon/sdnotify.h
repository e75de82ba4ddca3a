/* SPDX-License-Identifier: BSD-3-Clause
 * Telling the service manager how we are: the protocol of sd_notify(3).
 *
 * Our own, because all of it is one datagram, and systemd's manual gives it to be
 * written by oneself: libsystemd would be one more library in a process that holds keys,
 * and in static builds.
 */
#ifndef TCNS_CTL_SDNOTIFY_H
#define TCNS_CTL_SDNOTIFY_H

#include <sys/socket.h>
#include <sys/un.h>

struct sdnotify {
    int fd; /* -1: nobody wants to know, and all calls are no-ops */
    struct sockaddr_un addr;
    socklen_t addr_len;
};

#define SDNOTIFY_NONE                                                                              \
    {                                                                                              \
        .fd = -1                                                                                   \
    }

/* Takes NOTIFY_SOCKET and the watchdog's variables out of the environment, so that no child
 * speaks for us. To be called before another network namespace is entered: an
 * abstract name belongs to the one that it was given in.
 * Return: 0, also when there is no such variable; -errno. */
int sdnotify_init(struct sdnotify *n);
void sdnotify_done(struct sdnotify *n);

/* All of these do nothing with NULL, and never wait. */

/* Packets flow. text: one line for people, behind STATUS=. */
void sdnotify_ready(struct sdnotify *n, const char *text);
/* The settings are being read again; sdnotify_ready() tells the end of it. */
void sdnotify_reloading(struct sdnotify *n);
/* The end has begun. */
void sdnotify_stopping(struct sdnotify *n);
/* The line for people alone. */
void sdnotify_status(struct sdnotify *n, const char *text);
/* We live: to be told more often than WatchdogSec=. */
void sdnotify_alive(struct sdnotify *n);

#endif
