/* SPDX-License-Identifier: BSD-3-Clause
 * virtio-net headers on TUN devices and packet sockets.
 */
#include "tunnel/vnet.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/ip6.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/wire.h"

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

void vnet_drain(int fd)
{
    char beginning[VNET_HDR_LEN + 1]; /* the rest of a packet goes with it */

    while (read(fd, beginning, sizeof(beginning)) > 0)
        ;
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

static int send_as_it_is(int fd, const struct stack_tx *tx, const void *link, size_t link_len)
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

/* IPv6 has a place for the length of such packets, the jumbo payload option (RFC 2675 2); IPv4 has
 * none, and the kernel takes the buffer's (Linux 6.3, BIG TCP). */
static int send_jumbogram(int fd, const struct stack_tx *tx)
{
    struct {
        uint8_t room[VNET_HDR_LEN];
        struct ip6_hdr ip;
        struct ip6_hbh options;
        uint8_t type, len;
        uint8_t payload_len[4];
        uint8_t tcp[PACKET_TCP_HDR_MAX_LEN];
    } __attribute__((packed)) head = {
        .options = {.ip6h_nxt = IPPROTO_TCP},
        .type = IP6OPT_JUMBO,
        .len = sizeof(head.payload_len),
    };
    size_t tcp_hdr_len = tx->hdr_len - tx->ip_len,
           ip_len = offsetof(typeof(head), tcp) - VNET_HDR_LEN;
    struct stack_tx jumbo = *tx;

    memcpy(&head.ip, tx->hdr, sizeof(head.ip));
    head.ip.ip6_nxt = IPPROTO_HOPOPTS;
    put_be32(head.payload_len, (uint32_t)(ip_len - sizeof(head.ip) + tcp_hdr_len + tx->data_len));
    memcpy(head.tcp, tx->hdr + tx->ip_len, tcp_hdr_len);
    jumbo.hdr = (uint8_t *)&head.ip;
    jumbo.ip_len = ip_len;
    jumbo.hdr_len = ip_len + tcp_hdr_len;
    return send_as_it_is(fd, &jumbo, NULL, 0);
}

int vnet_send(int fd, const struct stack_tx *tx, const void *link, size_t link_len)
{
    if (tx->v6 && tx->hdr_len - tx->ip_len + tx->data_len > UINT16_MAX)
        return send_jumbogram(fd, tx);
    return send_as_it_is(fd, tx, link, link_len);
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
