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
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "tunnel/filter.h"

/* Bursts of super-packets; charged to us until the other end has read them. */
#define SOCKET_BUF_LEN (16 << 20)

static int set_filter(int fd, const struct uplink_config *cfg)
{
    struct sock_filter code[FILTER_MAX_LEN];
    size_t len = filter_make(cfg->link_len, cfg->bypass, cfg->bypass_cnt, cfg->matches,
                             cfg->match_cnt, code);
    struct sock_fprog prog = {(unsigned short)len, code};

    return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof(prog)) < 0 ? -errno : 0;
}

/* Larger buffers are a matter of speed only. */
static void set_buffers(int fd)
{
    int len = SOCKET_BUF_LEN;

    if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &len, sizeof(len)) < 0)
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &len, sizeof(len));
    if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &len, sizeof(len)) < 0)
        setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &len, sizeof(len));
}

static int set_options(int fd)
{
    int one = 1;

    if (setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &one, sizeof(one)) < 0 ||
        setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &one, sizeof(one)) < 0)
        return -errno;
    return 0;
}

int uplink_socket(void)
{
    int fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return -errno;
    set_buffers(fd);
    return fd;
}

/* Who sends a packet wakes its reader with the hint that he goes to sleep himself, and the kernel
 * then wakes on the same processor. A worker does not sleep: it has more to do, or stays awake
 * (awake.h), while the other one waits for it. An epoll inside an epoll passes no hint on. */
static int open_wake_fd(int fd)
{
    struct epoll_event event = {.events = EPOLLIN};
    int wake_fd = epoll_create1(EPOLL_CLOEXEC);

    if (wake_fd < 0)
        return -errno;
    if (epoll_ctl(wake_fd, EPOLL_CTL_ADD, fd, &event) < 0) {
        int err = -errno;
        close(wake_fd);
        return err;
    }
    return wake_fd;
}

int uplink_open(struct uplink *u, int fd, const struct uplink_config *cfg)
{
    bool receives = cfg->rx_fd < 0;
    /* ETH_P_ALL sees packets before the ingress hook drops them; a socket bound
     * to one protocol would not. */
    struct sockaddr_ll addr = {
        .sll_family = AF_PACKET,
        .sll_protocol = receives ? htons(ETH_P_ALL) : 0,
        .sll_ifindex = cfg->ifindex,
    };

    *u = (struct uplink){
        .fd = fd,
        .rx_fd = receives ? fd : cfg->rx_fd,
        .wake_fd = -1,
        .ifindex = cfg->ifindex,
        .link_len = cfg->link_len,
    };
    int err = set_options(fd);
    if (err == 0) {
        u->wake_fd = open_wake_fd(u->rx_fd);
        err = u->wake_fd < 0 ? u->wake_fd : 0;
    }
    if (err == 0 && receives)
        err = set_filter(fd, cfg);
    if (err == 0 && bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
        err = -errno;
    if (err < 0)
        uplink_close(u);
    return err;
}

/* Should the kernel not take it, more is copied, or less until the next try: logged, and lost
 * packets are TCP's to repeat. */
void uplink_set_bypass(struct uplink *u, const struct uplink_config *cfg)
{
    struct uplink_config mine = *cfg;

    if (u->rx_fd != u->fd)
        return;
    mine.link_len = u->link_len;
    int err = set_filter(u->fd, &mine);
    if (err)
        log_error("cannot set the filter of an uplink: %s", strerror(-err));
}

void uplink_close(struct uplink *u)
{
    if (u->wake_fd >= 0)
        close(u->wake_fd);
    if (u->rx_fd != u->fd)
        vnet_drain(u->rx_fd); /* it would come when the device is read again, however late */
    close(u->fd);
    *u = (struct uplink){.fd = -1, .rx_fd = -1, .wake_fd = -1};
}

int uplink_read(struct uplink *u, struct vnet_packet *ret)
{
    return vnet_read(u->rx_fd, u->rx_fd == u->fd ? u->link_len : 0, ret);
}

/* Packets of either family may go through the same neighbour. */
static void make_link(uint8_t out[ETH_HLEN], const uint8_t *link, bool v6)
{
    struct ether_header *eth = (struct ether_header *)(void *)out;

    memcpy(out, link, ETH_HLEN);
    eth->ether_type = htons(v6 ? ETHERTYPE_IPV6 : ETHERTYPE_IP);
}

int uplink_send(struct uplink *u, const struct stack_tx *tx, const uint8_t *link)
{
    uint8_t header[ETH_HLEN];

    make_link(header, link, tx->v6);
    return vnet_send(u->fd, tx, header, u->link_len);
}

int uplink_forward(struct uplink *u, const struct virtio_net_hdr *hdr, const uint8_t *link,
                   const uint8_t *ip, size_t len)
{
    uint8_t header[ETH_HLEN];

    make_link(header, link, ip[0] >> 4 == 6);
    return vnet_forward(u->fd, hdr, ip, len, header, u->link_len);
}
