/* SPDX-License-Identifier: BSD-3-Clause
 * The link between the calling namespace and that of an exec: a veth pair with
 * its addresses and routes. Runs in the calling namespace, single-threaded.
 */
#ifndef TCNS_CTL_EXEC_LINK_H
#define TCNS_CTL_EXEC_LINK_H

#include <stdbool.h>

#include "ctl/exec/exec_addr.h"

/* Names of the host sides begin so; what follows is the exec's id. */
#define EXEC_LINK_PREFIX "tcx"
/* The name inside. */
#define EXEC_LINK_INSIDE "eth0"

/* Fills used with the addresses and routes, of all tables, of the calling
 * namespace. *ret_ipv6: it has an IPv6 address that others can reach.
 * *ret_mtu: the smallest of the default routes' interfaces; 1500 without one.
 * Return: 0; -errno, used is then to be freed all the same. */
int exec_link_survey(struct exec_used *used, bool *ret_ipv6, unsigned *ret_mtu);

struct exec_link {
    const char *host_name;
    int netns_fd; /* of the new namespace */
    unsigned mtu;
    struct exec_prefix ipv4;
    bool has_ipv6;
    struct exec_prefix ipv6;
};

/* Makes the pair, up at both ends, with the first address of each range at the
 * host's side, the second inside, and default routes inside.
 * Return: 0; -errno with *ret_step saying what failed. The pair may then exist. */
int exec_link_create(const struct exec_link *l, const char **ret_step);

/* How many bytes have passed in both directions. Return: 0; -errno. */
int exec_link_bytes(const char *host_name, uint64_t *ret);

/* Return: 0, also when there is no such link; -errno. */
int exec_link_delete(const char *host_name);

#endif
