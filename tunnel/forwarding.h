/* SPDX-License-Identifier: BSD-3-Clause
 * Does this namespace forward packets?
 */
#ifndef TCNS_TUNNEL_FORWARDING_H
#define TCNS_TUNNEL_FORWARDING_H

#include <stdbool.h>

struct nl_sock;

/* family: AF_INET or AF_INET6. Blocks for a moment. Return: also false when the kernel does not
 * say. */
bool forwarding_ask(struct nl_sock *ask, int family);

/* Is there a device to forward from or to: more than our TUN devices, loopback and one uplink?
 * Containers have forwarding switched on, since new namespaces take it over from the host's, and
 * yet nothing to forward. Blocks for a moment. Return: also true when the kernel does not say. */
bool forwarding_is_possible(struct nl_sock *ask);

#endif
