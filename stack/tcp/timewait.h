/* SPDX-License-Identifier: BSD-3-Clause
 * Connections in TIME-WAIT, in a few dozen bytes each (RFC 9293 3.6.1).
 */
#ifndef TCNS_TCP_TIMEWAIT_H
#define TCNS_TCP_TIMEWAIT_H

#include <stdbool.h>
#include <stdint.h>

#include "tcp/leg.h"
#include "tcp/packet.h"

/* Starts the wait of one leg: ours is what we send next, theirs what we expect next. */
void timewait_add(enum side side, const struct tuple *tuple, uint32_t ours, uint32_t theirs,
                  uint16_t window);

/* A segment without a leg. Return: true when it was dealt with here; false when
 * no wait is under way for it, or when it is a SYN that may open anew. */
bool timewait_input(enum side side, const struct tuple *tuple, const struct packet *packet);

/* Time passes; waits of more than two maximum segment lifetimes end. */
void timewait_tick(uint64_t now_ms);

/* Forgets all. */
void timewait_clear(void);

#endif
