/* SPDX-License-Identifier: BSD-3-Clause
 * rtnetlink messages of mirror.c: reading tables, changing ours.
 */
#ifndef TCNS_CTL_MIRROR_MSG_H
#define TCNS_CTL_MIRROR_MSG_H

#include "ctl/net/mirror.h"

#define MIRROR_HOP_MAX_CNT 8

/* A route as the kernel lists it, with what decides its place in our table. */
struct mirror_seen {
    struct mirror_route route; /* kind: TUN for unicast by ifindex, NATIVE or UNREACHABLE else */
    uint32_t table;
    uint8_t protocol;
    int uplink_ifindex; /* of the first next hop that leaves by an uplink; 0: none */
    bool by_tun;
    bool has_gateway; /* of the same family, on that uplink */
    struct in6_addr gateway;
    int ifindexes[MIRROR_HOP_MAX_CNT]; /* of the first next hops */
    size_t ifindex_cnt;
};

typedef int (*mirror_seen_fn)(const struct mirror_seen *seen, void *arg);

/* Calls fn for each route of a table (RT_TABLE_UNSPEC: all) of a family.
 * Return: 0; fn's first negative result; -EINTR: the table changed meanwhile. */
int mirror_msg_list(const struct mirror *m, uint8_t family, uint32_t table, mirror_seen_fn fn,
                    void *arg);

/* Return: 0; -errno. */
int mirror_msg_set(const struct mirror *m, uint32_t table, const struct mirror_route *r);
int mirror_msg_del(const struct mirror *m, uint32_t table, const struct mirror_route *r);

/* Asks the kernel which source address it would give a packet to dst that leaves
 * by an interface. Return: 0; -errno (-ENOENT: none). */
int mirror_msg_source(const struct mirror *m, uint8_t family, int ifindex,
                      const struct in6_addr *dst, struct in6_addr *ret);

static inline size_t mirror_addr_len(uint8_t family)
{
    return family == AF_INET ? 4 : 16;
}

#endif
