/* SPDX-License-Identifier: BSD-3-Clause
 * Initial sequence numbers (RFC 6528), above those of the connection before.
 */
#ifndef TCNS_TCP_ISN_H
#define TCNS_TCP_ISN_H

struct tcp_pcb;

/* The connection ends in order: the next one of the same ends begins behind it. Its other end
 * may be in TIME-WAIT, and would take a lower number for an old one's (RFC 9293 3.6.1). */
void isn_note_end(const struct tcp_pcb *pcb);

/* Forgets all. */
void isn_clear(void);

#endif
