/* SPDX-License-Identifier: BSD-3-Clause
 * Address ranges for exec's namespaces that nothing else uses. Pure: no system
 * calls; the caller says what is in use and brings the randomness.
 */
#ifndef TCNS_CTL_EXEC_ADDR_H
#define TCNS_CTL_EXEC_ADDR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct exec_prefix {
    int family;       /* AF_INET or AF_INET6 */
    uint8_t addr[16]; /* network byte order, the first 4 for AF_INET; bits past len are 0 */
    unsigned len;     /* bits */
};

/* What addresses and routes of the calling namespace cover. */
struct exec_used {
    struct exec_prefix *v;
    size_t cnt, cap;
};

/* Return: 0; -ENOMEM. A prefix of length 0 (a default route) uses nothing and is left out. */
int exec_used_add(struct exec_used *used, int family, const void *addr, unsigned len);
void exec_used_done(struct exec_used *used);

/* The two ranges share an address. */
bool exec_prefix_overlaps(const struct exec_prefix *a, const struct exec_prefix *b);

#define EXEC_IPV4_LEN 30 /* network, host side, inside, broadcast */
#define EXEC_IPV6_LEN 64

typedef void (*exec_random_fn)(void *out, size_t len);

/* A free /30 of a private range (RFC 1918; when routes cover all of it, of the
 * shared range of RFC 6598 or the benchmark range of RFC 2544).
 * Return: 0; -EADDRNOTAVAIL when all is in use. */
int exec_addr_choose_ipv4(const struct exec_used *used, exec_random_fn random,
                          struct exec_prefix *ret);

/* A free /64 with a random global id (RFC 4193 3.2). Return: as above. */
int exec_addr_choose_ipv6(const struct exec_used *used, exec_random_fn random,
                          struct exec_prefix *ret);

/* The address number n of the range: 1 is the host side, 2 is inside. */
void exec_prefix_nth(const struct exec_prefix *p, uint8_t n, uint8_t ret[16]);

#endif
