/* SPDX-License-Identifier: BSD-3-Clause
 * The container's uplink as a packet socket: taps what arrives before the
 * kernel's TCP would see it, and sends what the outer legs make.
 */
#ifndef TCNS_TUNNEL_UPLINK_H
#define TCNS_TUNNEL_UPLINK_H

#include "tcp/leg.h"
#include "tunnel/nexthop.h"
#include "tunnel/tunnel.h"
#include "tunnel/vnet.h"

struct uplink {
    int fd;
    struct nexthop *nexthop;
};

struct uplink_config {
    int ifindex;
    const struct port_range *bypass; /* TCP of these ports is not read */
    size_t bypass_cnt;
    const struct nexthop_ops *ops;
    void *arg; /* of ops */
};

/* Opens the socket and asks for its routes and neighbours; ops and arg are borrowed
 * until uplink_close(), the ports are not. Return: 0; -errno. */
int uplink_open(struct uplink *u, const struct uplink_config *cfg);
/* Copes with a zeroed or half-opened uplink. */
void uplink_close(struct uplink *u);

/* Reads one packet: TCP, or an ICMP error. Return: as vnet_read(). */
int uplink_read(struct uplink *u, struct vnet_packet *ret);

/* Sends one packet. Return: 0; -EAGAIN: later; -ENETUNREACH: no route;
 * -EINPROGRESS: kept until the neighbour is resolved; other -errno. */
int uplink_send(struct uplink *u, const struct stack_tx *tx);
int uplink_forward(struct uplink *u, const struct virtio_net_hdr *hdr, const struct addr *dst,
                   const uint8_t *ip, size_t len);

#endif
