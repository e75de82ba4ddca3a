/* SPDX-License-Identifier: BSD-3-Clause
 * Moving bytes between the legs of a flow, through its tcpcrypt session.
 */
#ifndef TCNS_TUNNEL_PUMP_H
#define TCNS_TUNNEL_PUMP_H

#include "tunnel/flow.h"

/* Moves what can be moved, in both directions; call it whenever bytes arrived, room
 * came free or the handshake is complete. What one leg has no room for stays with
 * the other. Return: OK; any other error ends the connection. */
enum tcns_err pump(struct flow *f) MUST_CHECK;

#endif
