/* SPDX-License-Identifier: BSD-3-Clause
 * Packets with a virtio-net header, as TUN devices and packet sockets give and
 * take them: checksums left to do and super-segments to cut.
 */
#ifndef TCNS_TUNNEL_VNET_H
#define TCNS_TUNNEL_VNET_H

#include <linux/virtio_net.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "tcp/leg.h"

#define VNET_HDR_LEN sizeof(struct virtio_net_hdr)
_Static_assert(sizeof(struct virtio_net_hdr) == 10, "TUNSETVNETHDRSZ is set to 10");

/* One received packet. */
struct vnet_packet {
    struct virtio_net_hdr hdr; /* csum_start counts from ip */
    struct buf *buf;           /* borrowed: reused for the next packet when not referenced */
    uint8_t *ip;
    size_t len;
};

/* Reads one packet, whose first link_len bytes are a link-layer header to skip.
 * Return: 1; 0 when there is none now; -errno. */
int vnet_read(int fd, size_t link_len, struct vnet_packet *ret);

/* Discards all packets that wait. */
void vnet_drain(int fd);

/* Is the TCP checksum known to be right, or not made yet? */
static inline bool vnet_csum_ok(const struct virtio_net_hdr *h)
{
    return h->flags & (VIRTIO_NET_HDR_F_NEEDS_CSUM | VIRTIO_NET_HDR_F_DATA_VALID);
}

/* A buffer that the caller owns and that holds the packet alone: the one it was
 * read into when that is well used, else a copy of the right size. *ret_ip is
 * the packet in it. Return: NULL when out of memory. */
struct buf *vnet_own(const struct vnet_packet *p, uint8_t **ret_ip);

/* Sends what the stack made: virtio-net header, link-layer header, packet. The
 * pseudo-header sum is put in. Return: 0; -EAGAIN; other -errno. */
int vnet_send(int fd, const struct stack_tx *tx, const void *link, size_t link_len);

/* Sends a packet as it was received, with its own header. Return: as vnet_send(). */
int vnet_forward(int fd, const struct virtio_net_hdr *hdr, const uint8_t *ip, size_t len,
                 const void *link, size_t link_len);

#endif
