/* SPDX-License-Identifier: BSD-3-Clause
 * virtio-net headers on TUN devices and packet sockets.
 */
#include "tunnel/vnet.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#define READ_BUF_LEN (68u * 1024)
#define TCP_CSUM_OFF 16
#define IOV_MAX_CNT  260
/* A packet that fills half its buffer keeps it; others are copied out, so that
 * small payloads do not pin large buffers. */
#define KEEP_MIN_LEN (32u * 1024)

static struct buf *spare; /* for the next packet */

int vnet_read(int fd, size_t link_len, struct vnet_packet *ret)
{
    if (spare && spare->refs > 1) { /* the stack kept it */
        buf_unref(spare);
        spare = NULL;
    }
    if (!spare)
        spare = buf_new(READ_BUF_LEN);
    if (!spare)
        return -ENOMEM;

    uint8_t *start = spare->bytes + BUF_PACKET_HEADROOM_LEN;
    struct iovec iov[2] = {
        {&ret->hdr, VNET_HDR_LEN},
        {start, spare->cap - BUF_PACKET_HEADROOM_LEN},
    };
    ssize_t n = readv(fd, iov, 2);
    if (n < 0)
        return errno == EAGAIN ? 0 : -errno;
    if ((size_t)n < VNET_HDR_LEN + link_len)
        return -EBADMSG;
    ret->buf = spare;
    ret->ip = start + link_len;
    ret->len = (size_t)n - VNET_HDR_LEN - link_len;
    if (ret->hdr.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM)
        ret->hdr.csum_start = (uint16_t)(ret->hdr.csum_start - link_len);
    return 1;
}

struct buf *vnet_own(const struct vnet_packet *p, uint8_t **ret_ip)
{
    if (p->len >= KEEP_MIN_LEN) {
        *ret_ip = p->ip;
        if (p->buf != spare)
            return buf_ref(p->buf);
        spare = NULL;
        return p->buf; /* nobody else refers to it: its bytes may be worked on in place */
    }
    struct buf *b = buf_new(BUF_PACKET_HEADROOM_LEN + p->len);
    if (!b)
        return NULL;
    *ret_ip = memcpy(b->bytes + BUF_PACKET_HEADROOM_LEN, p->ip, p->len);
    return b;
}

static int write_all(int fd, const struct iovec *iov, int cnt)
{
    ssize_t n;

    do
        n = writev(fd, iov, cnt);
    while (n < 0 && errno == EINTR);
    if (n >= 0)
        return 0;
    return errno == ENOBUFS ? -EAGAIN : -errno;
}

static void put_pseudo_sum(const struct stack_tx *tx)
{
    const uint8_t *ip = tx->hdr;
    struct addr src = tx->v6 ? addr_from_v6(ip + 8) : addr_from_v4(ip + 12);
    size_t tcp_len = tx->hdr_len - tx->ip_len + tx->data_len;
    uint16_t sum = packet_sum_fold(packet_pseudo_sum(&src, &tx->dst, IPPROTO_TCP, tcp_len));

    memcpy(tx->hdr + tx->ip_len + TCP_CSUM_OFF, &sum, 2);
}

int vnet_send(int fd, const struct stack_tx *tx, const void *link, size_t link_len)
{
    struct virtio_net_hdr h = {
        .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
        .csum_start = (uint16_t)(link_len + tx->ip_len),
        .csum_offset = TCP_CSUM_OFF,
        .hdr_len = (uint16_t)(link_len + tx->hdr_len),
    };
    struct iovec iov[IOV_MAX_CNT];

    if (tx->gso_size) {
        h.gso_type = tx->v6 ? VIRTIO_NET_HDR_GSO_TCPV6 : VIRTIO_NET_HDR_GSO_TCPV4;
        h.gso_size = tx->gso_size;
    }
    put_pseudo_sum(tx);

    /* All headers lie side by side in the room before tx->hdr. */
    uint8_t *start = tx->hdr - link_len - VNET_HDR_LEN;
    memcpy(start, &h, VNET_HDR_LEN);
    if (link_len > 0)
        memcpy(start + VNET_HDR_LEN, link, link_len);
    iov[0] = (struct iovec){start, VNET_HDR_LEN + link_len + tx->hdr_len};
    memcpy(&iov[1], tx->iov, tx->iov_cnt * sizeof(*iov));
    return write_all(fd, iov, (int)(1 + tx->iov_cnt));
}

int vnet_forward(int fd, const struct virtio_net_hdr *hdr, const uint8_t *ip, size_t len,
                 const void *link, size_t link_len)
{
    struct virtio_net_hdr h = *hdr;
    struct iovec iov[3] = {
        {&h, VNET_HDR_LEN},
        {(void *)(uintptr_t)link, link_len},
        {(void *)(uintptr_t)ip, len},
    };

    if (h.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM)
        h.csum_start = (uint16_t)(h.csum_start + link_len);
    h.flags &= VIRTIO_NET_HDR_F_NEEDS_CSUM; /* DATA_VALID is for receivers */
    return write_all(fd, iov, 3);
}
