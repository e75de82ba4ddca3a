/* SPDX-License-Identifier: BSD-3-Clause
 * What lwIP must not be shown.
 *
 * lwIP asserts some things of segments that a peer decides on. Everything that
 * could run into such an assertion is taken out of a segment here, before
 * tcp_input(); docs/LWIP.md lists the assertions.
 */
#ifndef TCNS_TCP_SANITIZE_H
#define TCNS_TCP_SANITIZE_H

#include "tcp/packet.h"

struct tcp_pcb;

/* A SYN for the listener. */
void sanitize_syn(const struct packet *packet);
/* A segment for pcb: what is changed in the bytes is changed in *packet as well. */
void sanitize_segment(const struct tcp_pcb *pcb, struct packet *packet);

#endif
