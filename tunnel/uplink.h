/* SPDX-License-Identifier: BSD-3-Clause
 * One uplink of the container as a packet socket: taps what arrives before the
 * kernel's TCP would see it, and sends what the outer legs make. Where a TUN device is handed what
 * arrives, that is read, and the socket only sends.
 */
#ifndef TCNS_TUNNEL_UPLINK_H
#define TCNS_TUNNEL_UPLINK_H

#include "tcp/leg.h"
#include "tunnel/tunnel.h"
#include "tunnel/vnet.h"

struct uplink {
    int fd;
    int rx_fd;   /* what is read: fd, or a TUN device's, which is borrowed */
    int wake_fd; /* readable when rx_fd is; to be waited for in its place */
    int ifindex;
    size_t link_len; /* of the link-layer header */
};

struct uplink_config {
    int ifindex;
    int rx_fd; /* see tunnel_add_uplink() */
    size_t link_len;
    const struct port_range *bypass; /* TCP of these ports is not read */
    size_t bypass_cnt;
    const struct policy_match *matches; /* nor is this */
    size_t match_cnt;
};

/* A packet socket that receives nothing yet: all of an uplink that takes privilege
 * (CAP_NET_RAW). Return: descriptor; -errno. */
int uplink_socket(void);

/* Makes such a socket, which it takes, that of one interface; the ports are borrowed until it
 * returns. Return: 0; -errno. */
int uplink_open(struct uplink *u, int fd, const struct uplink_config *cfg);
/* Only what cfg says of bypassing matters. */
void uplink_set_bypass(struct uplink *u, const struct uplink_config *cfg);
void uplink_close(struct uplink *u);

/* Reads one packet: TCP, or an ICMP error. Return: as vnet_read(). */
int uplink_read(struct uplink *u, struct vnet_packet *ret);

/* Sends one packet to the neighbour that link, a header of link_len bytes, names.
 * Return: as vnet_send(). */
int uplink_send(struct uplink *u, const struct stack_tx *tx, const uint8_t *link);
int uplink_forward(struct uplink *u, const struct virtio_net_hdr *hdr, const uint8_t *link,
                   const uint8_t *ip, size_t len);

#endif
