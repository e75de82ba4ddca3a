/* SPDX-License-Identifier: BSD-3-Clause
 * A Varlink client of the ctl socket; blocking, with a time limit for each reply.
 */
#ifndef TCNS_CTL_CTLCLIENT_H
#define TCNS_CTL_CTLCLIENT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CTLCLIENT_REASON_LEN 600

struct ctlclient {
    int fd;
    int64_t patience_ms; /* for each reply; 0: no limit */
    int64_t until_ms;    /* of clock_ms(), for all together; 0: no limit */
    char *data;          /* received, from off to len not yet taken */
    size_t off, len, cap;
    char reason[CTLCLIENT_REASON_LEN]; /* of the last error; "" when it had none */
};

#define CTLCLIENT_NONE                                                                             \
    {                                                                                              \
        .fd = -1                                                                                   \
    }

/* Connects to the daemon of a namespace (see ctlsock_connect()).
 * Return: 0, and *ret for ctlclient_done(); -ECONNREFUSED when there is none; -errno. */
int ctlclient_init(struct ctlclient *ret, int netns_fd);
/* Connects to the door at a place (see ctldial_place()). Return: the same. */
int ctlclient_init_at(struct ctlclient *ret, const char *place);
/* Takes a connected socket. */
void ctlclient_init_with(struct ctlclient *ret, int fd);
void ctlclient_done(struct ctlclient *c);

/* Waits until the daemon of a namespace answers, so that its worker carries packets.
 * Return: 0; -ETIMEDOUT. */
int ctlclient_await(int netns_fd, int seconds);

/* How long to wait for each reply, in place of 10 s; 0: for as long as it takes. */
void ctlclient_set_patience(struct ctlclient *c, int seconds);

/* No call or reply is waited for beyond that time of clock_ms(). */
void ctlclient_set_deadline(struct ctlclient *c, int64_t until_ms);

/* Sends a call; takes params, NULL: none. Return: 0; -errno. */
int ctlclient_call(struct ctlclient *c, const char *method, json_t *params, bool more);

/* The same, with a descriptor that goes along (SCM_RIGHTS); borrowed; -1: none. */
int ctlclient_call_with(struct ctlclient *c, const char *method, json_t *params, bool more, int fd);

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
