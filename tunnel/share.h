/* SPDX-License-Identifier: BSD-3-Clause
 * Who may hold how much, when memory is short.
 *
 * How it works: below the limit of all buffers together everybody may hold what its windows
 * allow. Above it a connection may hold half of an equal share, and the less the
 * more there is in all: what stalled connections hold already is theirs, but more they don't get, and
 * those that take what comes in go on. A quarter above the limit nothing is accepted.
 */
#ifndef TCNS_TUNNEL_SHARE_H
#define TCNS_TUNNEL_SHARE_H

#include <stddef.h>

/* total: bytes in all buffers; max: their limit; cnt: connections.
 * Return: bytes at which a connection may get no more; SIZE_MAX: there is enough. */
size_t share_limit(size_t total, size_t max, size_t cnt);

/* Receive windows should not be larger than this, for a start. Return: bytes; 0: no matter. */
size_t share_window(size_t total, size_t max, size_t cnt);

#endif
