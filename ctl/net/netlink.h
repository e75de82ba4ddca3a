/* SPDX-License-Identifier: BSD-3-Clause
 * One request and its answers over netlink, with the kernel's own error codes.
 *
 * libnl folds many errors into few; who removes leftovers must tell "was not
 * there" from "not allowed", so requests go through here.
 */
#ifndef TCNS_CTL_NETLINK_H
#define TCNS_CTL_NETLINK_H

#include <linux/netlink.h>
#include <netlink/netlink.h>

/* Called for each answering message, which is borrowed. Return: 0; a negative
 * number ends the dump's processing and becomes netlink_talk()'s result. */
typedef int (*netlink_fn)(struct nlmsghdr *nlh, void *arg);

/* protocol: NETLINK_ROUTE, NETLINK_SOCK_DIAG. The socket belongs to the network
 * namespace the caller is in now. Caller frees with nl_socket_free().
 * Return: 0; -errno. */
int netlink_open(int protocol, struct nl_sock **ret);

/* Sends msg (borrowed) and eats all answers; fn may be NULL.
 * Return: 0; the kernel's -errno; -EINTR when a dump was inconsistent: ask again. */
int netlink_talk(struct nl_sock *sk, struct nl_msg *msg, netlink_fn fn, void *arg);

/* Return: -errno nearest to a negative libnl code. */
int netlink_errno(int nle);

#endif
