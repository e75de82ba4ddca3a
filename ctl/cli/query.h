/* SPDX-License-Identifier: BSD-3-Clause
 * What the verbs that ask the daemon share.
 */
#ifndef TCNS_CTL_QUERY_H
#define TCNS_CTL_QUERY_H

#include <stdbool.h>

#include "ctl/cli/cli.h"
#include "ctl/client/ctlclient.h"

struct query {
    const struct cli_verb *verb;
    const char *netns; /* as given; "self" when not */
    const char *ctl;   /* as given; NULL when not */
    bool json;
    bool ended;
    bool flush;
    int wait_s; /* for a daemon that is not there yet */
    struct ctlclient client;
};

/* Reads the options and connects; exits on failure. */
void query_init(struct query *q, const char *verb, int argc, char **argv);

/* The same in steps, for verbs with options of their own: begin, then read what
 * cli_next() gives (Return: false when it is none of the common options), then connect. */
void query_begin(struct query *q, const char *verb);
bool query_read_option(struct query *q, int id);
void query_connect(struct query *q);
/* Return: 0; -ECONNREFUSED when no daemon answers; -errno. */
int query_try_connect(struct query *q);
/* Connects to the daemon of a namespace, at its place ctl, or where it always listens (NULL);
 * the calling thread may end up inside. Return: as ctlclient_init(). */
int query_dial(const char *ctl, int netns_fd, struct ctlclient *ret);

void query_done(struct query *q);

/* Sends a call; takes params, NULL: none. Exits on failure. */
void query_call(struct query *q, const char *method, json_t *params, bool more);

/* Next reply, the caller's; exits when there is none. *ret_continues may be NULL. */
json_t *query_next(struct query *q, bool *ret_continues);

/* A string member of a reply, safe for a terminal: what is not printable is '?'.
 * Return: out; "" when there is none. */
const char *query_text(const json_t *object, const char *key, char *out, size_t out_len);

#endif
