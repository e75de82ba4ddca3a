/* SPDX-License-Identifier: BSD-3-Clause
 * The TCP sockets of the current network namespace.
 */
#ifndef TCNS_CTL_SOCKDIAG_H
#define TCNS_CTL_SOCKDIAG_H

#include <linux/inet_diag.h>
#include <netlink/netlink.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/tuple.h"

struct sockdiag_socket {
    struct tuple tuple;
    uint8_t family;             /* of the socket: AF_INET6 may talk to an IPv4 address */
    uint8_t state;              /* TCP_ESTABLISHED and the like */
    struct inet_diag_sockid id; /* names this very socket to the kernel */
    uint32_t inode;             /* as in /proc/PID/fd; 0: no process has it */
    uint32_t tx_pending;        /* bytes that the peer has not acknowledged */
    uint64_t tx_bytes;          /* of the program; sockdiag_load_bytes() only */
    uint64_t rx_bytes;          /* likewise */
};

struct sockdiag_list {
    struct sockdiag_socket *sockets;
    size_t cnt, cap;
};

/* Return: whether the socket belongs in the list. */
typedef bool (*sockdiag_filter_fn)(const struct tuple *tuple, const void *arg);

/* Lists the sockets that have a peer (neither listening nor closed) and pass
 * the filter. diag: from netlink_open(NETLINK_SOCK_DIAG).
 * Return: 0 and a list, freed by sockdiag_done(); -errno. */
int sockdiag_load(struct nl_sock *diag, sockdiag_filter_fn filter, const void *arg,
                  struct sockdiag_list *ret);
/* The same, with what each has sent and received. */
int sockdiag_load_bytes(struct nl_sock *diag, sockdiag_filter_fn filter, const void *arg,
                        struct sockdiag_list *ret);
void sockdiag_done(struct sockdiag_list *l);

/* Adds what is in from, which is empty then. Return: 0; -ENOMEM, and both are as they were. */
int sockdiag_append(struct sockdiag_list *to, struct sockdiag_list *from);

/* Order by the kernel's names of the sockets, for sockdiag_has(). */
void sockdiag_sort(struct sockdiag_list *l);

/* Is that very socket in the list, which is sorted? */
bool sockdiag_has(const struct sockdiag_list *l, const struct sockdiag_socket *s);

/* Aborts every socket of the list: its program sees ECONNABORTED and the kernel
 * sends a RST. Sockets that have gone meanwhile are no error.
 * Return: 0; -errno of the first failure (-EOPNOTSUPP: the kernel cannot). */
int sockdiag_destroy(struct nl_sock *diag, const struct sockdiag_list *l);

#endif
