/* SPDX-License-Identifier: BSD-3-Clause
 * What lwIP's TCP expects from the layers below it, which we do not use:
 * routing and IP output end here.
 */
#include <string.h>

#include "lwip/ip.h"
#include "lwip/nd6.h"
#include "tcp/stack.h"

struct ip_globals ip_data;
const ip_addr_t ip_addr_any = IPADDR4_INIT(IPADDR_ANY);

void addr_to_lwip(const struct addr *a, ip_addr_t *ret)
{
    memset(ret, 0, sizeof(*ret));
    if (addr_is_v4(a)) {
        ret->type = IPADDR_TYPE_V4;
        memcpy(&ret->u_addr.ip4.addr, &a->in6.s6_addr[12], 4);
    } else {
        ret->type = IPADDR_TYPE_V6;
        memcpy(ret->u_addr.ip6.addr, &a->in6, 16);
    }
}

struct addr addr_from_lwip(const ip_addr_t *ip)
{
    if (ip->type == IPADDR_TYPE_V4)
        return addr_from_v4(&ip->u_addr.ip4.addr);
    return addr_from_v6(ip->u_addr.ip6.addr);
}

/* Every pcb is bound to one of two netifs, and lwIP uses that index first. */
struct netif *netif_get_by_index(u8_t idx)
{
    return idx >= 1 && idx <= SIDE_CNT ? &stack.netif[idx - 1] : NULL;
}

/* Asked only for the MTU that limits the MSS, while a segment is processed: the
 * answer goes out where the segment came in. */
struct netif *ip4_route(const ip4_addr_t *dest)
{
    return ip_data.current_input_netif;
}

struct netif *ip6_route(const ip6_addr_t *src, const ip6_addr_t *dest)
{
    return ip_data.current_input_netif;
}

const ip_addr_t *ip6_select_source_address(struct netif *netif, const ip6_addr_t *dest)
{
    return NULL;
}

u8_t ip4_addr_isbroadcast_u32(u32_t addr, const struct netif *netif)
{
    return 0; /* packet.c lets no such address through */
}

u16_t nd6_get_destination_mtu(const ip6_addr_t *dest, struct netif *netif)
{
    return netif->mtu;
}

void tcp_timer_needed(void)
{
    /* stack_needs_tick() tells */
}

static struct leg *leg_from_hints(const struct netif *netif)
{
    if (!netif->hints)
        return NULL; /* a RST that belongs to no pcb */
    struct tcp_pcb *pcb =
        (struct tcp_pcb *)((char *)netif->hints - offsetof(struct tcp_pcb, netif_hints));
    return pcb->callback_arg;
}

err_t ip4_output_if(struct pbuf *p, const ip4_addr_t *src, const ip4_addr_t *dest, u8_t ttl,
                    u8_t tos, u8_t proto, struct netif *netif)
{
    struct addr from = addr_from_v4(&src->addr);
    struct addr to = addr_from_v4(&dest->addr);

    return output_segment(stack_netif_side(netif), leg_from_hints(netif), &from, &to, tos, p);
}

err_t ip6_output_if(struct pbuf *p, const ip6_addr_t *src, const ip6_addr_t *dest, u8_t hl, u8_t tc,
                    u8_t nexth, struct netif *netif)
{
    struct addr from = addr_from_v6(src->addr);
    struct addr to = addr_from_v6(dest->addr);

    return output_segment(stack_netif_side(netif), leg_from_hints(netif), &from, &to, tc, p);
}
