/* SPDX-License-Identifier: BSD-3-Clause
 * Captures: whole files, what is taken and what not, slow and lost readers.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <ev.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "tunnel/flow.h"
#include "tunnel/pcapng.h"
#include "tunnel/tap.h"
#include "tunnel/vnet.h"

#define FILE_MAX_LEN (16u << 20)

static struct ev_loop *loop;
static struct captures captures;
static struct flow_table flows;
static struct tunnel_capture cfg;
static struct tunnel_capture_stats ended;
static unsigned ended_cnt;
static struct tap *tap;
static int reader;
static uint8_t *file;
static size_t file_len;

static int set_up(void **state)
{
    loop = ev_loop_new(0);
    captures = (struct captures){.cnt = 0};
    cfg = (struct tunnel_capture){
        .sides = {true, true}, .application = "test", .names = {"tun", "eth"}};
    ended_cnt = 0;
    file_len = 0;
    file = malloc(FILE_MAX_LEN);
    return flow_table_init(&flows, &(struct siphash_key){1, 2}, 8);
}

static int tear_down(void **state)
{
    captures_done(&captures);
    flow_table_done(&flows);
    ev_loop_destroy(loop);
    free(file);
    return 0;
}

static void on_end(void *arg, const struct tunnel_capture_stats *stats)
{
    assert_ptr_equal(arg, &cfg);
    ended = *stats;
    ended_cnt++;
}

static void start(void)
{
    int pair[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    assert_int_equal(captures_add(&captures, loop, &cfg, pair[1], on_end, &cfg, &tap), 0);
    reader = pair[0];
}

static void turn(void)
{
    ev_run(loop, EVRUN_NOWAIT);
}

/* Reads what is there. Return: false at the end of the file. */
static bool read_some(void)
{
    ssize_t n = recv(reader, file + file_len, FILE_MAX_LEN - file_len, MSG_DONTWAIT);

    file_len += n > 0 ? (size_t)n : 0;
    return n != 0;
}

static void read_all(void)
{
    do
        turn();
    while (read_some());
    close(reader);
}

static void end_and_read(void)
{
    shutdown(reader, SHUT_WR);
    read_all();
    assert_int_equal(ended_cnt, 1);
    assert_int_equal(captures.cnt, 0);
}

/* --- Files ---------------------------------------------------------------------------------- */

struct block {
    uint32_t type, len;
    const uint8_t *body;
};

static uint32_t u32(const uint8_t *p)
{
    uint32_t v;

    memcpy(&v, p, 4);
    return v;
}

static uint64_t u64(const uint8_t *p)
{
    uint64_t v;

    memcpy(&v, p, 8);
    return v;
}

/* Return: number of blocks; all of them are whole, and padded. */
static size_t parse(struct block *out, size_t max)
{
    size_t cnt = 0;

    for (size_t off = 0; off < file_len; cnt++) {
        assert_true(cnt < max && file_len - off >= 12);
        out[cnt] = (struct block){u32(file + off), u32(file + off + 4), file + off + 8};
        assert_int_equal(out[cnt].len % 4, 0);
        assert_true(out[cnt].len >= 12 && out[cnt].len <= file_len - off);
        off += out[cnt].len;
        assert_int_equal(u32(file + off - 4), out[cnt].len);
    }
    return cnt;
}

/* Return: value of an option of the block, whose fixed part is fixed bytes; NULL: none. */
static const uint8_t *find_option(const struct block *b, size_t fixed, uint16_t code, uint16_t *len)
{
    const uint8_t *p = b->body + fixed, *end = b->body + b->len - 12;

    while (p + 4 <= end) {
        uint16_t have, have_len;

        memcpy(&have, p, 2);
        memcpy(&have_len, p + 2, 2);
        if (have == code && have != 0) {
            *len = have_len;
            return p + 4;
        }
        if (have == 0)
            assert_ptr_equal(p + 4, end); /* it ends the list, and the block */
        p += 4 + ((have_len + 3) & ~3);
    }
    return NULL;
}

static void expect_text(const struct block *b, size_t fixed, uint16_t code, const char *want)
{
    uint16_t len;
    const uint8_t *text = find_option(b, fixed, code, &len);

    assert_non_null(text);
    assert_int_equal(len, strlen(want));
    assert_memory_equal(text, want, len);
}

/* --- Packets -------------------------------------------------------------------------------- */

static uint8_t packet[40 + 60000];

/* A TCP packet of len bytes between two hosts; its checksum is a pseudo sum. */
static struct vnet_packet make(size_t len, uint8_t peer, uint16_t peer_port)
{
    struct vnet_packet vp = {.ip = packet, .len = len};

    memset(packet, 0x5a, sizeof(packet));
    memset(packet, 0, 40);
    packet[0] = 0x45;
    packet[2] = (uint8_t)(len >> 8);
    packet[3] = (uint8_t)len;
    packet[8] = 64;
    packet[9] = IPPROTO_TCP;
    memcpy(packet + 12, (uint8_t[]){192, 0, 2, 1, 192, 0, 2, peer}, 8);
    packet[20] = 100;
    packet[22] = (uint8_t)(peer_port >> 8);
    packet[23] = (uint8_t)peer_port;
    packet[32] = 0x50;
    packet[33] = PACKET_ACK;
    packet[36] = 0xab;
    vp.hdr.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
    return vp;
}

static void give(size_t len, uint8_t peer, uint16_t peer_port)
{
    struct vnet_packet vp = make(len, peer, peer_port);

    captures_rx(&captures, &flows, SIDE_INNER, &vp);
}

static void test_whole_file(void **state)
{
    struct block b[8];
    struct packet p;
    uint16_t len;

    start();
    double before = clock_epoch_s();
    give(1041, 2, 80); /* odd, so that it is padded */
    end_and_read();
    assert_int_equal(parse(b, 8), 6);
    assert_int_equal(b[0].type, 0x0a0d0d0a);
    assert_int_equal(u32(b[0].body), 0x1a2b3c4d);
    expect_text(&b[0], 16, 4, "test");
    for (int i = 1; i <= 2; i++) {
        assert_int_equal(b[i].type, 1);
        assert_int_equal(u32(b[i].body), PCAPNG_LINKTYPE_RAW);
        expect_text(&b[i], 8, 2, i == 1 ? "tun" : "eth");
        assert_int_equal(*find_option(&b[i], 8, 9, &len), 9); /* nanoseconds */
    }
    assert_int_equal(b[3].type, 6);
    assert_int_equal(u32(b[3].body), 0); /* interface */
    double time_s = (double)((uint64_t)u32(b[3].body + 4) << 32 | u32(b[3].body + 8)) / 1e9;
    assert_true(time_s > before - 1 && time_s < before + 60);
    assert_int_equal(u32(b[3].body + 12), 1041);
    assert_int_equal(u32(b[3].body + 16), 1041);
    assert_int_equal(u32(find_option(&b[3], 20 + 1044, 2, &len)), 1); /* inbound */
    assert_null(find_option(&b[3], 20 + 1044, 1, &len));              /* nobody knows it */
    /* The checksum was completed in the copy, and only there. */
    packet[36] = 0xab;
    memcpy(packet, b[3].body + 20, 20);
    static uint8_t copy[2000];
    memcpy(copy, b[3].body + 20, 1041);
    copy[10] = copy[11] = 0; /* IPv4's own was not made here */
    uint16_t sum = (uint16_t)~packet_sum_fold(packet_sum(copy, 20, 0));
    memcpy(copy + 10, &sum, 2);
    assert_int_equal(packet_parse(copy, 1041, false, &p), PACKET_TCP);
    for (int i = 4; i <= 5; i++) {
        assert_int_equal(b[i].type, 5);
        assert_int_equal(u32(b[i].body), i - 4);
        assert_int_equal(u64(find_option(&b[i], 12, 4, &len)), i == 4);
        assert_int_equal(u64(find_option(&b[i], 12, 5, &len)), 0);
    }
    assert_int_equal(ended.packets[SIDE_INNER], 1);
    assert_int_equal(ended.packets[SIDE_OUTER], 0);
}

static void test_filters(void **state)
{
    static const struct {
        uint8_t peer;
        uint16_t port, peer_port;
        bool wanted;
    } cases[] = {
        {0, 0, 80, true},     {2, 0, 80, true},   {3, 0, 80, false}, {0, 80, 80, true},
        {0, 25600, 80, true}, {0, 81, 80, false}, {2, 80, 80, true}, {3, 80, 80, false},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        cfg.has_peer = cases[i].peer != 0;
        cfg.peer = addr_from_v4((uint8_t[]){192, 0, 2, cases[i].peer});
        cfg.port = cases[i].port;
        ended_cnt = 0;
        file_len = 0;
        start();
        give(40, 2, cases[i].peer_port);
        struct vnet_packet icmp = make(40, 2, 80);
        packet[9] = IPPROTO_ICMP;
        captures_rx(&captures, &flows, SIDE_OUTER, &icmp);
        end_and_read();
        assert_int_equal(ended.packets[SIDE_INNER], cases[i].wanted);
        assert_int_equal(ended.packets[SIDE_OUTER], !cfg.has_peer && !cfg.port);
    }
}

static void test_one_side(void **state)
{
    struct block b[8];

    cfg.sides[SIDE_INNER] = false;
    start();
    give(40, 2, 80);
    struct vnet_packet vp = make(60, 2, 80);
    captures_rx(&captures, &flows, SIDE_OUTER, &vp);
    captures_tx_bytes(&captures, &flows, SIDE_OUTER, packet, 60, false);
    end_and_read();
    assert_int_equal(parse(b, 8), 5);
    expect_text(&b[1], 8, 2, "eth");
    assert_int_equal(u32(b[2].body), 0);
    uint16_t len;
    assert_int_equal(u32(find_option(&b[3], 20 + 60, 2, &len)), 2); /* outbound */
    assert_int_equal(b[3].body[20 + 36], 0xab);                     /* as it was */
}

static void test_limits(void **state)
{
    struct block b[8];

    cfg.max_cnt = 2;
    cfg.snap_len = 50;
    start();
    for (int i = 0; i < 5; i++)
        give(1000, 2, 80);
    read_all();
    assert_int_equal(ended_cnt, 1);
    assert_int_equal(ended.packets[SIDE_INNER], 2);
    assert_int_equal(parse(b, 8), 7);
    assert_int_equal(u32(b[4].body + 12), 50);
    assert_int_equal(u32(b[4].body + 16), 1000);
}

/* A reader that does nothing costs packets, not time or memory; what it then reads is whole. */
static void test_slow_reader(void **state)
{
    static struct block b[4096];
    size_t taken = 0, given = 2000;

    start();
    for (size_t i = 0; i < given; i++) {
        give(20000, 2, 80);
        if (i % 10 == 0)
            turn();
    }
    end_and_read();
    size_t cnt = parse(b, 4096);
    for (size_t i = 0; i < cnt; i++)
        taken += b[i].type == 6;
    assert_int_equal(taken, ended.packets[SIDE_INNER]);
    assert_int_equal(taken + ended.dropped[SIDE_INNER], given);
    assert_in_range(taken, 300, 600);
    uint16_t len;
    assert_int_equal(u64(find_option(&b[cnt - 2], 12, 5, &len)), ended.dropped[SIDE_INNER]);
    assert_int_equal(u64(find_option(&b[cnt - 2], 12, 4, &len)), given);
}

/* Reading in between makes room again. */
static void test_steady_reader(void **state)
{
    start();
    for (int i = 0; i < 3000; i++) {
        give(5000, 2, 80);
        turn();
        read_some();
    }
    end_and_read();
    assert_int_equal(ended.packets[SIDE_INNER], 3000);
    assert_int_equal(ended.dropped[SIDE_INNER], 0);
}

static void test_lost_reader(void **state)
{
    start();
    close(reader);
    for (int i = 0; i < 100 && !ended_cnt; i++) {
        give(1000, 2, 80);
        turn();
    }
    assert_int_equal(ended_cnt, 1);
    assert_int_equal(captures.cnt, 0);
}

static void test_end_with_the_tunnel(void **state)
{
    struct block b[8];

    start();
    give(40, 2, 80);
    captures_done(&captures);
    assert_int_equal(ended_cnt, 1);
    read_all();
    assert_int_equal(parse(b, 8), 6); /* with its statistics */
}

static void test_wrong_descriptors(void **state)
{
    struct tap *t;
    int fds[2];

    assert_int_equal(captures_add(&captures, loop, &cfg, -1, on_end, &cfg, &t), -EINVAL);
    assert_int_equal(pipe(fds), 0);
    assert_int_equal(captures_add(&captures, loop, &cfg, fds[1], on_end, &cfg, &t), -EINVAL);
    close(fds[0]);
    assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM, 0, fds), 0);
    assert_int_equal(captures_add(&captures, loop, &cfg, fds[1], on_end, &cfg, &t), -EINVAL);
    close(fds[0]);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(captures_add(&captures, loop, &cfg, fd, on_end, &cfg, &t), -EINVAL);
    assert_int_equal(captures.cnt, 0);
    int readers[CAPTURE_MAX_CNT];
    for (int i = 0; i < CAPTURE_MAX_CNT; i++) {
        start();
        readers[i] = reader;
    }
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    assert_int_equal(captures_add(&captures, loop, &cfg, fds[1], on_end, &cfg, &t), -EMFILE);
    close(fds[0]);
    captures_del(&captures, tap);
    assert_int_equal(captures.cnt, CAPTURE_MAX_CNT - 1);
    assert_int_equal(ended_cnt, 0);
    captures_done(&captures);
    for (int i = 0; i < CAPTURE_MAX_CNT; i++)
        close(readers[i]);
}

/* Any bytes may come in by the uplink. */
static void test_short_packets(void **state)
{
    start();
    for (size_t len = 0; len < 64; len++) {
        for (int version = 4; version <= 6; version += 2) {
            uint8_t *ip = malloc(len ? len : 1); /* so that sanitizers see an overrun */
            struct vnet_packet vp = make(len, 2, 80);

            memcpy(ip, packet, len);
            if (len > 0)
                ip[0] = (uint8_t)(version << 4 | 15);
            if (len > 6 && version == 6)
                ip[6] = IPPROTO_TCP;
            vp.ip = ip;
            captures_rx(&captures, &flows, SIDE_OUTER, &vp);
            free(ip);
        }
    }
    end_and_read();
    assert_int_equal(ended.packets[SIDE_OUTER], 128);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_whole_file),        TEST(test_filters),
        TEST(test_one_side),          TEST(test_limits),
        TEST(test_slow_reader),       TEST(test_steady_reader),
        TEST(test_lost_reader),       TEST(test_end_with_the_tunnel),
        TEST(test_wrong_descriptors), TEST(test_short_packets),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
