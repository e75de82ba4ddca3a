/* SPDX-License-Identifier: BSD-3-Clause
 * A Varlink client of the ctl socket; blocking, with a time limit for each reply.
 */
#ifndef TCNS_CTL_CTLCLIENT_H
#define TCNS_CTL_CTLCLIENT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

struct ctlclient {
    int fd;
    char *data; /* received, from off to len not yet taken */
    size_t off, len, cap;
};

#define CTLCLIENT_NONE                                                                             \
    {                                                                                              \
        .fd = -1                                                                                   \
    }

/* Connects to the daemon of a namespace (see ctlsock_connect()).
 * Return: 0, and *ret for ctlclient_done(); -ECONNREFUSED when there is none; -errno. */
int ctlclient_init(struct ctlclient *ret, int netns_fd);
/* Connects to the door at a place (see ctlsock_connect_at()). Return: the same. */
int ctlclient_init_at(struct ctlclient *ret, const char *place);
void ctlclient_done(struct ctlclient *c);

/* Waits until the daemon of a namespace answers, so that its worker carries packets.
 * Return: 0; -ETIMEDOUT. */
int ctlclient_await(int netns_fd, int seconds);

/* How long to wait for each reply, in place of 10 s. */
void ctlclient_set_patience(struct ctlclient *c, int seconds);

/* Sends a call; takes params, NULL: none. Return: 0; -errno. */
int ctlclient_call(struct ctlclient *c, const char *method, json_t *params, bool more);

#define CTLCLIENT_ERROR_LEN 128

/* Waits for a reply. *ret_params is the caller's. *ret_continues may be NULL.
 * Return: 0; -EREMOTEIO and the error's name in error; -ETIMEDOUT; -ECONNRESET
 * when the daemon hung up; -EPROTO; -errno. */
int ctlclient_next(struct ctlclient *c, json_t **ret_params, bool *ret_continues,
                   char error[CTLCLIENT_ERROR_LEN]);

/* Return: the process that opened the ctl socket, the supervisor; 0 when it is
 * not visible from here. */
int ctlclient_server_pid(const struct ctlclient *c);

#endif
