/* SPDX-License-Identifier: BSD-3-Clause
 * Names of a TCP connection and its ends.
 */
#ifndef TCNS_BASE_TUPLE_H
#define TCNS_BASE_TUPLE_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* One address of either family; IPv4 as ::ffff:a.b.c.d (RFC 4291 2.5.5.2). */
struct addr {
    struct in6_addr in6;
};

/* The container's end is local, whoever opened the connection. */
struct tuple {
    struct addr local;
    struct addr peer;
    uint16_t local_port; /* host byte order, like peer_port */
    uint16_t peer_port;
};

static inline bool addr_is_v4(const struct addr *a)
{
    return IN6_IS_ADDR_V4MAPPED(&a->in6);
}

static inline struct addr addr_from_v4(const void *four_bytes)
{
    struct addr a = {.in6 = {.s6_addr = {[10] = 0xff, [11] = 0xff}}};

    memcpy(&a.in6.s6_addr[12], four_bytes, 4);
    return a;
}

static inline struct addr addr_from_v6(const void *sixteen_bytes)
{
    struct addr a;

    memcpy(&a.in6, sixteen_bytes, 16);
    return a;
}

static inline bool addr_eq(const struct addr *a, const struct addr *b)
{
    return memcmp(a, b, sizeof(*a)) == 0;
}

static inline bool tuple_eq(const struct tuple *a, const struct tuple *b)
{
    return memcmp(a, b, sizeof(*a)) == 0;
}

#define ADDR_STR_LEN INET6_ADDRSTRLEN

/* Writes "192.0.2.1" or "2001:db8::1". Return: out. */
const char *addr_str(const struct addr *a, char out[ADDR_STR_LEN]);

#endif
