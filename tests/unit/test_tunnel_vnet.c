/* SPDX-License-Identifier: BSD-3-Clause
 * Packets with virtio-net headers, over a socket pair in place of a device.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tunnel/vnet.h"

static int fds[2]; /* [0] is the device */

static int set_up(void **state)
{
    int len = 1 << 20;

    if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, fds) < 0)
        return -1;
    for (int i = 0; i < 2; i++) {
        setsockopt(fds[i], SOL_SOCKET, SO_SNDBUF, &len, sizeof(len));
        setsockopt(fds[i], SOL_SOCKET, SO_RCVBUF, &len, sizeof(len));
    }
    return 0;
}

static int tear_down(void **state)
{
    close(fds[0]);
    close(fds[1]);
    return 0;
}

/* --- Reading ------------------------------------------------------------------------------ */

static uint8_t wire[80000];

/* A packet of len bytes behind link_len bytes of link-layer header. */
static void put(uint8_t flags, uint16_t csum_start, size_t link_len, size_t len)
{
    struct virtio_net_hdr h = {.flags = flags, .csum_start = csum_start, .csum_offset = 16};

    memcpy(wire, &h, VNET_HDR_LEN);
    memset(wire + VNET_HDR_LEN, 0xee, link_len);
    for (size_t i = 0; i < len; i++)
        wire[VNET_HDR_LEN + link_len + i] = (uint8_t)(i + len);
    assert_int_equal(write(fds[0], wire, VNET_HDR_LEN + link_len + len),
                     VNET_HDR_LEN + link_len + len);
}

static void check_packet(const struct vnet_packet *p, size_t len)
{
    assert_int_equal(p->len, len);
    for (size_t i = 0; i < len; i++)
        assert_int_equal(p->ip[i], (uint8_t)(i + len));
    assert_true(p->ip >= p->buf->bytes + BUF_PACKET_HEADROOM_LEN);
    assert_true(p->ip + p->len <= p->buf->bytes + p->buf->cap);
}

static void test_read(void **state)
{
    static const size_t lens[] = {0, 1, 20, 1500, 65535, 65575};
    struct vnet_packet p;

    for (size_t link_len = 0; link_len <= 14; link_len += 14) {
        for (size_t i = 0; i < sizeof(lens) / sizeof(*lens); i++) {
            put(0, 0, link_len, lens[i]);
            assert_int_equal(vnet_read(fds[1], link_len, &p), 1);
            check_packet(&p, lens[i]);
        }
    }
    assert_int_equal(vnet_read(fds[1], 0, &p), 0);
}

static void test_read_too_short(void **state)
{
    struct vnet_packet p;

    for (size_t len = 1; len < VNET_HDR_LEN + 14; len++) {
        assert_int_equal(write(fds[0], wire, len), len);
        assert_int_equal(vnet_read(fds[1], 14, &p), -EBADMSG);
    }
}

static void test_read_error(void **state)
{
    struct vnet_packet p;

    assert_true(vnet_read(-1, 0, &p) < 0);
}

/* The kernel counts from the link-layer header, the parser from the packet. */
static void test_read_checksum(void **state)
{
    struct vnet_packet p;

    put(VIRTIO_NET_HDR_F_NEEDS_CSUM, 14 + 20, 14, 100);
    assert_int_equal(vnet_read(fds[1], 14, &p), 1);
    assert_int_equal(p.hdr.csum_start, 20);
    assert_true(vnet_csum_ok(&p.hdr));
    put(VIRTIO_NET_HDR_F_DATA_VALID, 0, 14, 100);
    assert_int_equal(vnet_read(fds[1], 14, &p), 1);
    assert_true(vnet_csum_ok(&p.hdr));
    put(0, 0, 14, 100);
    assert_int_equal(vnet_read(fds[1], 14, &p), 1);
    assert_false(vnet_csum_ok(&p.hdr));
}

/* The next packet may not overwrite one that somebody keeps. */
static void test_kept_packets(void **state)
{
    struct vnet_packet a, b;
    uint8_t *ip_a, *ip_b;

    put(0, 0, 0, 40000);
    assert_int_equal(vnet_read(fds[1], 0, &a), 1);
    struct buf *own_a = vnet_own(&a, &ip_a); /* large: the buffer itself */
    assert_ptr_equal(own_a, a.buf);
    assert_ptr_equal(ip_a, a.ip);
    put(0, 0, 0, 41000);
    assert_int_equal(vnet_read(fds[1], 0, &b), 1);
    assert_ptr_not_equal(b.buf, own_a);
    check_packet(&a, 40000);
    buf_unref(own_a);

    put(0, 0, 0, 100);
    assert_int_equal(vnet_read(fds[1], 0, &b), 1);
    struct buf *own_b = vnet_own(&b, &ip_b); /* small: a copy of its size */
    assert_ptr_not_equal(own_b, b.buf);
    assert_int_equal(own_b->cap, BUF_PACKET_HEADROOM_LEN + 100);
    assert_ptr_equal(ip_b, own_b->bytes + BUF_PACKET_HEADROOM_LEN);
    assert_memory_equal(ip_b, b.ip, 100);
    buf_unref(own_b);
}

/* --- Sending ------------------------------------------------------------------------------- */

static struct sent {
    struct virtio_net_hdr h;
    uint8_t bytes[140000];
    size_t len;
} sent;

static void take_sent(void)
{
    uint8_t bytes[140000];
    ssize_t n = read(fds[1], bytes, sizeof(bytes));

    assert_true(n >= (ssize_t)VNET_HDR_LEN);
    memcpy(&sent.h, bytes, VNET_HDR_LEN);
    sent.len = (size_t)n - VNET_HDR_LEN;
    memcpy(sent.bytes, bytes + VNET_HDR_LEN, sent.len);
}

/* Headers of a segment from the documentation's addresses, in the room that stack_tx wants. */
static size_t make_headers(uint8_t *hdr, bool v6, struct stack_tx *tx)
{
    static const uint8_t src6[16] = {0x20, 1, 0xd, 0xb8, [15] = 1};
    static const uint8_t dst6[16] = {0x20, 1, 0xd, 0xb8, [15] = 2};
    static const uint8_t src4[4] = {192, 0, 2, 1}, dst4[4] = {198, 51, 100, 2};
    size_t ip_len = v6 ? 40 : 20;

    memset(hdr, 0, ip_len + 20);
    hdr[0] = v6 ? 0x60 : 0x45;
    memcpy(hdr + (v6 ? 8 : 12), v6 ? src6 : src4, v6 ? 16 : 4);
    memcpy(hdr + (v6 ? 24 : 16), v6 ? dst6 : dst4, v6 ? 16 : 4);
    hdr[ip_len + 12] = 0x50;
    tx->v6 = v6;
    tx->dst = v6 ? addr_from_v6(dst6) : addr_from_v4(dst4);
    tx->ip_len = ip_len;
    tx->hdr = hdr;
    tx->hdr_len = ip_len + 20;
    return ip_len;
}

/* The sum that the kernel completes: addresses, protocol and length. */
static uint16_t pseudo_sum(const uint8_t *addrs, size_t addrs_len, size_t tcp_len)
{
    uint32_t sum = IPPROTO_TCP + (uint32_t)tcp_len;

    for (size_t i = 0; i < addrs_len; i += 2)
        sum += (uint32_t)addrs[i] << 8 | addrs[i + 1];
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)sum;
}

static void check_send(bool v6, size_t link_len, size_t data_len, uint16_t gso_size)
{
    uint8_t room[32 + 60], link[14], data[130000];
    struct iovec iov[2] = {{data, data_len / 3}, {data + data_len / 3, data_len - data_len / 3}};
    struct stack_tx tx = {.iov = iov, .iov_cnt = 2, .data_len = data_len, .gso_size = gso_size};
    size_t ip_len = make_headers(room + 32, v6, &tx);

    memset(link, 0xcc, sizeof(link));
    memset(data, 0xdd, sizeof(data));
    assert_int_equal(vnet_send(fds[0], &tx, link, link_len), 0);
    take_sent();
    assert_int_equal(sent.len, link_len + tx.hdr_len + data_len);
    assert_int_equal(sent.h.flags, VIRTIO_NET_HDR_F_NEEDS_CSUM);
    assert_int_equal(sent.h.csum_start, link_len + ip_len);
    assert_int_equal(sent.h.csum_offset, 16);
    assert_int_equal(sent.h.gso_size, gso_size);
    if (gso_size) {
        assert_int_equal(sent.h.gso_type, v6 ? VIRTIO_NET_HDR_GSO_TCPV6 : VIRTIO_NET_HDR_GSO_TCPV4);
        assert_int_equal(sent.h.hdr_len, link_len + tx.hdr_len);
    } else {
        assert_int_equal(sent.h.gso_type, VIRTIO_NET_HDR_GSO_NONE);
    }
    assert_memory_equal(sent.bytes, link, link_len);
    const uint8_t *ip = sent.bytes + link_len, *tcp = ip + ip_len;
    assert_int_equal(ip[0], v6 ? 0x60 : 0x45);
    assert_int_equal(tcp[16] << 8 | tcp[17],
                     pseudo_sum(ip + (v6 ? 8 : 12), v6 ? 32 : 8, 20 + data_len));
    assert_memory_equal(tcp + 20, data, data_len);
}

static void test_send(void **state)
{
    for (int v6 = 0; v6 < 2; v6++) {
        check_send(v6, 0, 0, 0);
        check_send(v6, 14, 0, 0);
        check_send(v6, 14, 1460, 0);
        check_send(v6, 0, 64000, 1448);
        check_send(v6, 14, 3001, 1000);
    }
    check_send(false, 0, 65535, 1448); /* as the stack made it */
    check_send(false, 0, 130000, 1448);
    check_send(true, 0, 65535 - 20, 1448); /* the last one whose length the header tells */
}

/* RFC 2675 2: hop-by-hop options, of which one, at offset 2, tells the payload's length. */
static void check_jumbogram(size_t data_len)
{
    static uint8_t data[130000];
    uint8_t room[32 + 60], before[60];
    struct iovec iov = {data, data_len};
    struct stack_tx tx = {.iov = &iov, .iov_cnt = 1, .data_len = data_len, .gso_size = 1428};

    make_headers(room + 32, true, &tx);
    tx.hdr[6] = IPPROTO_TCP;
    memcpy(before, tx.hdr, sizeof(before));
    memset(data, 0xdd, sizeof(data));
    assert_int_equal(vnet_send(fds[0], &tx, NULL, 0), 0);
    take_sent();
    assert_int_equal(sent.len, 40 + 8 + 20 + data_len);
    assert_int_equal(sent.h.flags, VIRTIO_NET_HDR_F_NEEDS_CSUM);
    assert_int_equal(sent.h.csum_start, 48);
    assert_int_equal(sent.h.hdr_len, 68);
    assert_int_equal(sent.h.gso_type, VIRTIO_NET_HDR_GSO_TCPV6);
    assert_int_equal(sent.h.gso_size, 1428);
    const uint8_t *ip = sent.bytes, *options = ip + 40, *tcp = options + 8;
    size_t payload_len = 8 + 20 + data_len;
    assert_int_equal(ip[4] << 8 | ip[5], 0);
    assert_int_equal(ip[6], IPPROTO_HOPOPTS);
    assert_int_equal(options[0], IPPROTO_TCP);
    assert_int_equal(options[1], 0);
    assert_int_equal(options[2], 0xc2);
    assert_int_equal(options[3], 4);
    for (int i = 0; i < 4; i++)
        assert_int_equal(options[4 + i], payload_len >> (24 - 8 * i) & 0xff);
    assert_int_equal(tcp[16] << 8 | tcp[17], pseudo_sum(ip + 8, 32, 20 + data_len));
    assert_memory_equal(tcp + 20, data, data_len);
    assert_memory_equal(tx.hdr, before, 40); /* the stack's own is left alone */
}

static void test_jumbogram(void **state)
{
    check_jumbogram(65536 - 20);
    check_jumbogram(130000);
}

/* A full device is no error: the stack keeps the packet. */
static void test_send_to_a_full_device(void **state)
{
    uint8_t room[32 + 60], data[60000] = {0};
    struct iovec iov = {data, sizeof(data)};
    struct stack_tx tx = {.iov = &iov, .iov_cnt = 1, .data_len = sizeof(data)};
    int err = 0;

    make_headers(room + 32, false, &tx);
    for (int i = 0; i < 1000 && err == 0; i++)
        err = vnet_send(fds[0], &tx, NULL, 0);
    assert_int_equal(err, -EAGAIN);
    close(fds[1]);
    fds[1] = -1;
    assert_true(vnet_send(fds[0], &tx, NULL, 0) < 0);
}

static void test_forward(void **state)
{
    struct virtio_net_hdr h = {.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
                               .gso_type = VIRTIO_NET_HDR_GSO_TCPV4,
                               .gso_size = 1448,
                               .hdr_len = 40,
                               .csum_start = 20,
                               .csum_offset = 16};
    uint8_t link[14] = {1, 2, 3};

    assert_int_equal(vnet_forward(fds[0], &h, wire, 3000, link, 14), 0);
    take_sent();
    assert_int_equal(sent.len, 3014);
    assert_int_equal(sent.h.csum_start, 34);
    assert_int_equal(sent.h.gso_size, 1448);
    assert_int_equal(h.csum_start, 20); /* the caller's is left alone */
    assert_memory_equal(sent.bytes, link, 14);
    assert_memory_equal(sent.bytes + 14, wire, 3000);
    h = (struct virtio_net_hdr){.flags = VIRTIO_NET_HDR_F_DATA_VALID};
    assert_int_equal(vnet_forward(fds[0], &h, wire, 100, NULL, 0), 0);
    take_sent();
    assert_int_equal(sent.h.flags, 0); /* a mark for receivers only */
    assert_int_equal(sent.len, 100);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_read),          TEST(test_read_too_short),        TEST(test_read_error),
        TEST(test_read_checksum), TEST(test_kept_packets),          TEST(test_send),
        TEST(test_jumbogram),     TEST(test_send_to_a_full_device), TEST(test_forward),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
