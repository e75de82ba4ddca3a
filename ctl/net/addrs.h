/* SPDX-License-Identifier: BSD-3-Clause
 * The addresses of the current network namespace.
 */
#ifndef TCNS_CTL_ADDRS_H
#define TCNS_CTL_ADDRS_H

#include <netlink/netlink.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/tuple.h"

struct addrs_entry {
    struct addr addr;
    int ifindex;
    uint8_t scope; /* RT_SCOPE_* */
};

struct addrs {
    struct addrs_entry *entries;
    size_t cnt;
};

/* Return: 0 and the addresses, freed by addrs_done(); -errno. */
int addrs_load(struct nl_sock *rtnl, struct addrs *ret);
void addrs_done(struct addrs *a);

/* Loopback, or one of the addresses: packets to it never leave the namespace. */
bool addrs_is_own(const struct addrs *a, const struct addr *addr);

#endif
