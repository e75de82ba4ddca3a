/* SPDX-License-Identifier: BSD-3-Clause
 * What the files of stack/tcp share; not for other layers.
 */
#ifndef TCNS_TCP_STACK_H
#define TCNS_TCP_STACK_H

#include "lwip/netif.h"
#include "lwip/pbuf.h"
#include "lwip/priv/tcp_priv.h"
#include "lwip/tcp.h"
#include "tcp/leg.h"

struct stack {
    struct stack_config cfg;
    struct netif netif[SIDE_CNT];
    struct tcp_pcb_listen *listener; /* off lwIP's list but while a SYN is replayed */
    struct leg *hot;
    struct leg *ack_wait[SIDE_CNT];
    bool busy[SIDE_CNT];
    size_t gso_max_len[SIDE_CNT];
    size_t window_cap; /* see stack_set_window_cap() */
    uint64_t now_ms;
    unsigned ticks;
    const struct packet *packet; /* the one being answered; NULL: none */
    struct stack_counters counters;
    bool isn_forced;             /* the next initial sequence number is isn */
    uint32_t isn;
};

extern struct stack stack;

static inline enum side stack_netif_side(const struct netif *netif)
{
    return netif == &stack.netif[SIDE_INNER] ? SIDE_INNER : SIDE_OUTER;
}

/* Re-examines whether the leg has timers running. */
void leg_update_hot(struct leg *leg);

/* output.c: a segment of lwIP's, p->payload at the TCP header. */
err_t output_segment(enum side side, struct leg *leg, const struct addr *src,
                     const struct addr *dst, uint8_t tos, struct pbuf *p);
void output_flush(enum side side);
bool output_is_blocked(enum side side);

/* Address forms. */
void addr_to_lwip(const struct addr *a, ip_addr_t *ret);
struct addr addr_from_lwip(const ip_addr_t *ip);

#endif
