/* SPDX-License-Identifier: BSD-3-Clause
 * Ends that fell silent: probes for those who would notice without us.
 *
 * How it works: a program's keep-alive probe (RFC 9293 3.8.4) is answered by us, so it tells the
 * program nothing of the peer. So each makes us send one to the peer, unless the peer was
 * heard since the last; after SILENCE_PROBES_MAX in a row without a sound the connection ends, as
 * it would by the program's kernel.
 *
 * A connection of which one half has ended may wait for the other for ever: a program that
 * has closed its socket is forgotten by its kernel after a minute, without a word to us. So
 * both ends of such connections are probed, once a minute when they are silent. An end that is gone
 * answers with a RST, one that is dead not at all.
 */
#ifndef TCNS_TUNNEL_SILENCE_H
#define TCNS_TUNNEL_SILENCE_H

#include "tunnel/flow.h"

#define SILENCE_PROBES_MAX 9     /* like net.ipv4.tcp_keepalive_probes */
#define SILENCE_LOOK_MS    60000 /* between two looks at a half-closed connection */

/* A segment for a leg that is there. Return: false when the connection is to end: the peer has
 * been silent for too many of the program's probes. */
bool silence_note(struct flow *f, enum side side, const struct packet *packet);

/* Looks at a half-closed connection. Return: false when it is to end. */
bool silence_look(struct flow *f);

#endif
