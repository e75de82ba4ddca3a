/* SPDX-License-Identifier: BSD-3-Clause
 * The TUN device through which the container's TCP passes.
 *
 * It is not persistent: it exists exactly as long as a process of the daemon
 * does. So it is also the lock that lets only one daemon attach, one that needs
 * no file system and that no unprivileged process can take.
 */
#ifndef TCNS_CTL_TUNDEV_H
#define TCNS_CTL_TUNDEV_H

#include <netlink/netlink.h>
#include <stdbool.h>

#include "tunnel/tunnel.h"

#define TUNDEV_NAME TUNNEL_DEVICE_PREFIX "0"

/* A second one, for what an uplink's hook hands over (hook.h): nothing is routed there, and nothing
 * written to it. */
#define TUNDEV_RX_NAME TUNNEL_DEVICE_PREFIX "1"

/* Is it the name of either? */
bool tundev_is_ours(const char *name);

/* Creates one of them in the current namespace, down, in the form tunnel.h asks for.
 * Return: its close-on-exec descriptor; -errno (-EBUSY: it exists; -ENOENT: no
 * /dev/net/tun; -EPERM: no CAP_NET_ADMIN here). */
int tundev_open(const char *name);

/* Likewise, but gives one that exists some time to go: the devices of a process that was killed do
 * so a moment after it. */
int tundev_open_within(const char *name, int ms);

/* Makes a device of another name, with the same offloads, and lets it go.
 * Return: 0; -errno as above. */
int tundev_try(void);

/* Sets the MTU and the device up; it makes no IPv6 address of its own.
 * Return: 0; -errno. */
int tundev_start(struct nl_sock *rtnl, const char *name, int mtu);

int tundev_set_mtu(struct nl_sock *rtnl, const char *name, int mtu);

/* How long a packet of super-segments it may be given: beyond 64 KiB where the kernel knows of such
 * packets of both families (BIG TCP, Linux 6.3). Return: bytes, for stack_set_gso_max_len(). */
size_t tundev_gso_max_len(struct nl_sock *rtnl);

#endif
