/* SPDX-License-Identifier: BSD-3-Clause
 * A Varlink server on libev: clients, framing, back-pressure.
 *
 * How it works: each message is a JSON object and a zero byte (varlink.org).
 * A client's calls are served one after the other. Nothing here blocks: what a
 * client does not read waits in its output buffer, and while that is more than
 * OUTPUT_HIGH no further call of it is served and its stream pauses. A call
 * longer than INPUT_MAX, or something that is no call, ends the connection.
 * Each door has CLIENTS_MAX places. A newcomer to a full door takes the place of
 * the client that has been silent longest among those of the user who has most of
 * them: nobody can shut a door by holding connections open, and other users cannot
 * even disturb.
 */
#ifndef TCNS_CTL_CTLSERVER_H
#define TCNS_CTL_CTLSERVER_H

#include <jansson.h>
#include <stdbool.h>

#include "ctl/daemon/ctlsock.h"

struct ev_loop;
struct ctlserver;
struct ctlserver_client;

/* A call of a client; params is borrowed, NULL when there are none. It must be
 * answered by exactly one of ctlserver_reply(), _error(), _stream(), _park().
 * more: the client accepts several replies. */
typedef void (*ctlserver_call_fn)(struct ctlserver_client *c, const char *method,
                                  const json_t *params, bool more, void *arg);

/* Return: NULL when out of memory. doors are borrowed. */
struct ctlserver *ctlserver_new(struct ev_loop *loop, const struct ctlsock *doors,
                                ctlserver_call_fn call, void *arg);
/* Who is privileged is asked over that channel, see privilege.h; without one we look
 * ourselves. */
void ctlserver_ask(struct ctlserver *s, int channel);
/* Also sends what clients can take at once of what waits for them. */
void ctlserver_free(struct ctlserver *s);

/* Both take params, which may be NULL for none. */
void ctlserver_reply(struct ctlserver_client *c, json_t *params);
void ctlserver_error(struct ctlserver_client *c, const char *name, json_t *params);

/* Answers with several replies. produce is called as long as there is room:
 * it calls ctlserver_continue() any number of times, and returns false after
 * ctlserver_reply(), which ends the stream. done frees state, also when the
 * client goes away first. */
typedef bool (*ctlserver_produce_fn)(struct ctlserver_client *c, void *state);
void ctlserver_stream(struct ctlserver_client *c, ctlserver_produce_fn produce, void *state,
                      void (*done)(void *state));
void ctlserver_continue(struct ctlserver_client *c, json_t *params);

/* A stream that has nothing to say yet: produce is not called from now on, until
 * ctlserver_resume(), which does not call it itself. */
void ctlserver_pause(struct ctlserver_client *c);
void ctlserver_resume(struct ctlserver_client *c);

/* Sends text, len bytes with the zero byte that ends it, to a client whose stream is paused,
 * at any time. Never blocks or frees the client. Return: false when it does not fit because
 * the client is slow to read; then nothing of it is sent. */
bool ctlserver_push(struct ctlserver_client *c, const char *text, size_t len);

/* Leaves the call open: somebody else answers it on the client's descriptor.
 * Return: that descriptor, borrowed. */
int ctlserver_park(struct ctlserver_client *c);

/* The descriptor that came along (SCM_RIGHTS) with this call, or one before it that did not
 * take it; the last one when there are several. What nobody takes is closed when all that was
 * received is served. Return: the caller's; -1: none. */
int ctlserver_take_fd(struct ctlserver_client *c);

/* Who it was when it connected. */
uid_t ctlserver_uid(const struct ctlserver_client *c);

/* May it change anything: it came by the administrators' path, or has CAP_NET_ADMIN. Who
 * came over TCP may not: there is no telling who that is. */
bool ctlserver_is_privileged(const struct ctlserver_client *c);

#endif
