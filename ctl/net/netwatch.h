/* SPDX-License-Identifier: BSD-3-Clause
 * News of what changes in a network namespace: links, addresses, routes, rules
 * and our nftables table.
 *
 * Our own changes are news too. What we add is left out, what is deleted is not
 * (somebody may have flushed our routes), so acting on news must be idempotent.
 */
#ifndef TCNS_CTL_NETWATCH_H
#define TCNS_CTL_NETWATCH_H

#include <stdbool.h>
#include <stddef.h>

#define NETWATCH_LINK    0x01u
#define NETWATCH_ROUTES  0x02u /* a route or an address */
#define NETWATCH_RULES   0x04u /* one of our rules was deleted */
#define NETWATCH_INGRESS 0x08u /* somebody else touched our nftables table */
#define NETWATCH_CONF    0x10u /* forwarding or the reverse-path filter is another */

#define NETWATCH_GONE_MAX_CNT 32

struct netwatch {
    int fd; /* readable when there is news */
    int route_fd;
    int nft_fd;
    bool nft_touched;                /* our table is in the transaction being read */
    int gone[NETWATCH_GONE_MAX_CNT]; /* devices, in the news that were read last */
    size_t gone_cnt;
};

#define NETWATCH_NONE                                                                              \
    {                                                                                              \
        .fd = -1, .route_fd = -1, .nft_fd = -1                                                     \
    }

/* Watches the current namespace. Return: 0; -errno. */
int netwatch_init(struct netwatch *w);
void netwatch_done(struct netwatch *w);

/* Reads all news there is. Return: NETWATCH_* bits; all of them when some were lost. */
unsigned netwatch_read(struct netwatch *w);

/* Whether a device has gone in the news that were read last. There may be another with its number
 * and name by now, even the same one, come back from another namespace. Not known when news were
 * lost. */
bool netwatch_has_gone(const struct netwatch *w, int ifindex);

#endif
