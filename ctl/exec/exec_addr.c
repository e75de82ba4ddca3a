/* SPDX-License-Identifier: BSD-3-Clause
 * Address ranges for exec's namespaces that nothing else uses.
 */
#include "ctl/exec/exec_addr.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/* Tries per range before the next one: a range that is mostly free is hit at
 * once, one that is covered whole is given up after this many. */
#define TRIES_CNT 64

struct range {
    uint32_t base; /* host byte order */
    unsigned len;
};

/* In the order we like them. */
static const struct range ipv4_ranges[] = {
    {0x0a000000, 8},  /* 10.0.0.0/8, RFC 1918 */
    {0xac100000, 12}, /* 172.16.0.0/12 */
    {0xc0a80000, 16}, /* 192.168.0.0/16 */
    {0x64400000, 10}, /* 100.64.0.0/10, RFC 6598 */
    {0xc6120000, 15}, /* 198.18.0.0/15, RFC 2544 */
};

/* Clears the bits past len. */
static void prefix_mask(struct exec_prefix *p)
{
    size_t whole = p->len / 8;

    if (whole >= sizeof(p->addr))
        return;
    p->addr[whole] &= (uint8_t)(0xff00u >> (p->len % 8));
    memset(p->addr + whole + 1, 0, sizeof(p->addr) - whole - 1);
}

int exec_used_add(struct exec_used *used, int family, const void *addr, unsigned len)
{
    if (len == 0)
        return 0;
    if (used->cnt == used->cap) {
        size_t cap = used->cap ? used->cap * 2 : 64;
        struct exec_prefix *v = reallocarray(used->v, cap, sizeof(*v));
        if (!v)
            return -ENOMEM;
        used->v = v;
        used->cap = cap;
    }
    struct exec_prefix *p = &used->v[used->cnt++];
    *p = (struct exec_prefix){.family = family, .len = len};
    memcpy(p->addr, addr, family == AF_INET ? 4 : 16);
    prefix_mask(p);
    return 0;
}

void exec_used_done(struct exec_used *used)
{
    free(used->v);
    *used = (struct exec_used){0};
}

bool exec_prefix_overlaps(const struct exec_prefix *a, const struct exec_prefix *b)
{
    if (a->family != b->family)
        return false;
    struct exec_prefix x = *a, y = *b;
    x.len = y.len = a->len < b->len ? a->len : b->len;
    prefix_mask(&x);
    prefix_mask(&y);
    return memcmp(x.addr, y.addr, sizeof(x.addr)) == 0;
}

static bool is_free(const struct exec_used *used, const struct exec_prefix *p)
{
    for (size_t i = 0; i < used->cnt; i++) {
        if (exec_prefix_overlaps(&used->v[i], p))
            return false;
    }
    return true;
}

int exec_addr_choose_ipv4(const struct exec_used *used, exec_random_fn random,
                          struct exec_prefix *ret)
{
    for (size_t i = 0; i < sizeof(ipv4_ranges) / sizeof(ipv4_ranges[0]); i++) {
        for (int n = 0; n < TRIES_CNT; n++) {
            uint32_t r;
            random(&r, sizeof(r));
            uint32_t host = htonl(ipv4_ranges[i].base | r >> ipv4_ranges[i].len);
            struct exec_prefix p = {.family = AF_INET, .len = EXEC_IPV4_LEN};
            memcpy(p.addr, &host, sizeof(host));
            prefix_mask(&p);
            if (is_free(used, &p)) {
                *ret = p;
                return 0;
            }
        }
    }
    return -EADDRNOTAVAIL;
}

int exec_addr_choose_ipv6(const struct exec_used *used, exec_random_fn random,
                          struct exec_prefix *ret)
{
    for (int n = 0; n < TRIES_CNT; n++) {
        struct exec_prefix p = {.family = AF_INET6, .len = EXEC_IPV6_LEN, .addr = {0xfd}};
        random(p.addr + 1, 7); /* 40 bits of global id, 16 of subnet id */
        if (is_free(used, &p)) {
            *ret = p;
            return 0;
        }
    }
    return -EADDRNOTAVAIL;
}

void exec_prefix_nth(const struct exec_prefix *p, uint8_t n, uint8_t ret[16])
{
    memcpy(ret, p->addr, 16);
    ret[p->family == AF_INET ? 3 : 15] |= n;
}
