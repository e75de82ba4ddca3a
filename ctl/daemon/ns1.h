/* SPDX-License-Identifier: BSD-3-Clause
 * The methods of org.tcpcrypt.Ns1 (docs/org.tcpcrypt.Ns1.varlink).
 */
#ifndef TCNS_CTL_NS1_H
#define TCNS_CTL_NS1_H

#include "ctl/daemon/change.h"
#include "ctl/daemon/ctlserver.h"
#include "ctl/daemon/daemon.h"
#include "ctl/daemon/ns1_drain.h"
#include "ctl/daemon/ns1_watch.h"
#include "ctl/daemon/worker.h"
#include "tcpcrypt/ctl.h"

#define NS1_INTERFACE TCNS_CTL_INTERFACE

/* What the methods answer from; all borrowed. */
struct ns1 {
    struct ev_loop *loop;
    struct tunnel *tunnel;
    struct wishes *wishes;
    pid_t supervisor;
    const struct worker_links *links;
    const struct daemon_options *opts;
    unsigned restarts;
    double started_s;
    ino_t netns_inode;
    struct ns1_watch *watch;
    struct ns1_drain *drain;
    /* NULL: read the configuration again; else a request of change.h. Return: 0; -errno and a
     * sentence. */
    int (*change)(void *arg, const char *request, char text[CHANGE_TEXT_LEN]);
    void (*on_down)(void *arg, int client_fd); /* fd is borrowed */
    void (*on_drain)(void *arg, int client_fd, unsigned timeout_s, enum tunnel_drain new);
    void *arg;
};

/* A ctlserver_call_fn; arg is a struct ns1. */
void ns1_call(struct ctlserver_client *c, const char *method, const json_t *params, bool more,
              void *arg);

/* A connection as the type Session has it. Return: the caller's. */
json_t *ns1_session_json(const struct tunnel_session *s);

/* An InvalidParameter error that names the parameter. */
void ns1_invalid_parameter(struct ctlserver_client *c, const char *name);

void ns1_permission_denied(struct ctlserver_client *c);

/* Serves the methods for the owner of a socket. Return: false when name is none of them. */
bool ns1_call_socket(struct ctlserver_client *c, const char *name, const json_t *params,
                     const struct ns1 *n);

/* Serves GetPolicy, SetPolicy, Reload. Return: false when name is none of them. */
bool ns1_call_policy(struct ctlserver_client *c, const char *name, const json_t *params,
                     const struct ns1 *n);

/* The method GetSession. */
void ns1_get_session(struct ctlserver_client *c, const struct ns1 *n, const json_t *params);

/* The method Capture. */
void ns1_capture(struct ctlserver_client *c, const struct ns1 *n, const json_t *params);

/* The method GetMetrics. */
void ns1_get_metrics(struct ctlserver_client *c, const struct ns1 *n);

/* The answer to Down, as it goes over the wire, zero byte included. */
#define NS1_DOWN_REPLY "{\"parameters\":{}}"

#endif
