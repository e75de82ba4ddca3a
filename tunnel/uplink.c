/* SPDX-License-Identifier: BSD-3-Clause
 * Packet socket on the uplink.
 */
#include "tunnel/uplink.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tunnel/filter.h"

/* Bursts of super-packets; charged to us until the other end has read them. */
#define SOCKET_BUF_LEN (16 << 20)

static int set_filter(int fd, const struct uplink_config *cfg, size_t link_len)
{
    struct sock_filter code[FILTER_MAX_LEN];
    size_t len = filter_make(link_len, cfg->bypass, cfg->bypass_cnt, code);
    struct sock_fprog prog = {(unsigned short)len, code};

    return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof(prog)) < 0 ? -errno : 0;
}

static int set_options(int fd)
{
    int one = 1, len = SOCKET_BUF_LEN;

    if (setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &one, sizeof(one)) < 0 ||
        setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &one, sizeof(one)) < 0)
        return -errno;
    /* Larger buffers are a matter of speed only. */
    if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &len, sizeof(len)) < 0)
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &len, sizeof(len));
    if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &len, sizeof(len)) < 0)
        setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &len, sizeof(len));
    return 0;
}

int uplink_open(struct uplink *u, const struct uplink_config *cfg)
{
    /* ETH_P_ALL sees packets before the ingress hook drops them; a socket bound
     * to one protocol would not. */
    struct sockaddr_ll addr = {
        .sll_family = AF_PACKET,
        .sll_protocol = htons(ETH_P_ALL),
        .sll_ifindex = cfg->ifindex,
    };
    int err;

    *u = (struct uplink){.fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)};
    if (u->fd < 0)
        return -errno;
    err = set_options(u->fd);
    if (err == 0)
        err = nexthop_new(cfg->ifindex, cfg->ops, cfg->arg, &u->nexthop);
    if (err == 0)
        err = set_filter(u->fd, cfg, nexthop_link_len(u->nexthop));
    if (err == 0 && bind(u->fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
        err = -errno;
    if (err < 0)
        uplink_close(u);
    return err;
}

void uplink_close(struct uplink *u)
{
    if (u->fd > 0)
        close(u->fd);
    nexthop_free(u->nexthop);
    *u = (struct uplink){.fd = -1};
}

int uplink_read(struct uplink *u, struct vnet_packet *ret)
{
    return vnet_read(u->fd, nexthop_link_len(u->nexthop), ret);
}

/* The link-layer header for a packet of either family through the same neighbour. */
static int link_header(struct uplink *u, const struct addr *dst, uint8_t *out)
{
    const uint8_t *link;

    switch (nexthop_lookup(u->nexthop, dst, &link)) {
    case NEXTHOP_NO_ROUTE:
        return -ENETUNREACH;
    case NEXTHOP_WAIT:
        return -EINPROGRESS;
    case NEXTHOP_OK:
        break;
    }
    struct ether_header *eth = (struct ether_header *)(void *)out;
    memcpy(out, link, NEXTHOP_LINK_MAX_LEN);
    eth->ether_type = htons(addr_is_v4(dst) ? ETHERTYPE_IP : ETHERTYPE_IPV6);
    return 0;
}

/* Only headers wait: handshakes begin with them, and TCP sends the rest again. */
static void wait_for_neighbour(struct uplink *u, const struct stack_tx *tx)
{
    if (tx->data_len > 0)
        return;
    struct addr src = tx->v6 ? addr_from_v6(tx->hdr + 8) : addr_from_v4(tx->hdr + 12);
    size_t tcp_len = tx->hdr_len - tx->ip_len;
    uint8_t *csum = tx->hdr + tx->ip_len + 16;
    memset(csum, 0, 2);
    uint32_t sum = packet_pseudo_sum(&src, &tx->dst, IPPROTO_TCP, tcp_len);
    uint16_t folded = (uint16_t)~packet_sum_fold(packet_sum(tx->hdr + tx->ip_len, tcp_len, sum));
    memcpy(csum, &folded, 2);
    nexthop_wait(u->nexthop, &tx->dst, tx->hdr, tx->hdr_len);
}

int uplink_send(struct uplink *u, const struct stack_tx *tx)
{
    uint8_t link[NEXTHOP_LINK_MAX_LEN];
    int err = link_header(u, &tx->dst, link);

    if (err == -EINPROGRESS)
        wait_for_neighbour(u, tx);
    if (err < 0)
        return err;
    return vnet_send(u->fd, tx, link, nexthop_link_len(u->nexthop));
}

int uplink_forward(struct uplink *u, const struct virtio_net_hdr *hdr, const struct addr *dst,
                   const uint8_t *ip, size_t len)
{
    uint8_t link[NEXTHOP_LINK_MAX_LEN];
    int err = link_header(u, dst, link);

    if (err < 0)
        return err;
    return vnet_forward(u->fd, hdr, ip, len, link, nexthop_link_len(u->nexthop));
}
