/* SPDX-License-Identifier: BSD-3-Clause
 * Our routing table: what becomes of a TCP packet to each destination.
 *
 * How it works: the table has an entry for each prefix of the main table. Where
 * the main table sends a prefix out by an uplink, ours sends it into the TUN
 * device, with the source address the kernel would have chosen on the uplink,
 * and says "unreachable" at the highest metric: when the TUN device vanishes
 * with the daemon, the kernel drops its routes, and what lies below must not be
 * a wider prefix that leads out clear. Where the main table uses another
 * interface (or says unreachable, blackhole ...), ours says "throw": the lookup
 * goes on in the main table, so that traffic stays exactly as it was, multipath,
 * encapsulation and all. Last comes an unreachable default.
 *
 * Link-local IPv6 prefixes are left out: their routes depend on the interface
 * the program names, which is never the TUN device.
 */
#ifndef TCNS_CTL_MIRROR_H
#define TCNS_CTL_MIRROR_H

#include <netinet/in.h>
#include <netlink/netlink.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/tuple.h"
#include "ctl/net/links.h"

#define MIRROR_TABLE    8548 /* after RFC 8548; above 255, where people number theirs */
#define MIRROR_PROTOCOL 85   /* rtm_protocol and rule protocol of all we install */

enum mirror_kind {
    MIRROR_TUN,         /* into the TUN device */
    MIRROR_NATIVE,      /* as the main table says, past us */
    MIRROR_UNREACHABLE, /* nowhere */
};

/* All padding is zero: routes are compared as bytes. What stands before kind
 * tells two routes of a table apart. */
struct mirror_route {
    struct in6_addr dst; /* IPv4 in the first four bytes, like src and pref_src */
    struct in6_addr src; /* source-specific routes, IPv6 only */
    uint32_t metric;
    uint8_t family;
    uint8_t dst_len; /* prefix length in bits, like src_len */
    uint8_t src_len;
    uint8_t tos;
    uint8_t kind; /* enum mirror_kind */
    uint8_t has_pref_src;
    uint8_t pad[2];
    struct in6_addr pref_src;
};
_Static_assert(sizeof(struct mirror_route) == 60, "routes are compared as bytes");

struct mirror {
    struct nl_sock *rtnl; /* borrowed */
    int tun_ifindex;
    const struct links *uplinks; /* borrowed */
    struct mirror_route *routes; /* as last synced or loaded */
    size_t cnt;
};

/* Zeroed is valid for mirror_done(). */
void mirror_init(struct mirror *m, struct nl_sock *rtnl, int tun_ifindex,
                 const struct links *uplinks);
void mirror_done(struct mirror *m);

/* Called before and again after destinations move from the TUN device to another
 * interface: connections to those addresses must not go on, or the plaintext of
 * encrypted ones would leave there. is_moving says whether an address is one. */
typedef bool (*mirror_is_moving_fn)(const struct addr *dst, const void *arg);
typedef void (*mirror_moving_fn)(void *ctx, mirror_is_moving_fn is_moving, const void *arg);

/* Makes our table follow the main table; both families.
 * Return: 0; -errno of the first route that failed (the others are in place). */
int mirror_sync(struct mirror *m, mirror_moving_fn moving, void *ctx);

/* Reads what our table holds now, for mirror_lookup(), and changes nothing. Return: 0; -errno. */
int mirror_load(struct mirror *m);

/* What the table, as last synced or loaded, does with TCP to an address. */
enum mirror_kind mirror_lookup(const struct mirror *m, const struct addr *dst);

/* Removes all routes with our protocol from all tables. *ret_found: there were some.
 * Return: 0; -errno. */
int mirror_remove_all(struct nl_sock *rtnl, bool *ret_found);

/* The route to 192.0.0.8 in the main table, see netcfg.c. Return: 0; -errno. */
int mirror_add_dummy_route(struct nl_sock *rtnl, int tun_ifindex);

#endif
