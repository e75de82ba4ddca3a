/* SPDX-License-Identifier: BSD-3-Clause
 * The world around TCP legs.
 */
#include "tcp_wire.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#include "tcp/timewait.h"

#define LONGER(a, b) ((a) > (b) ? (a) : (b))

struct wire wire;

/* --- Out of the stack -------------------------------------------------------------- */

static void put16(uint8_t *p, size_t v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}

static void put32(uint8_t *p, uint32_t v)
{
    put16(p, v >> 16);
    put16(p + 2, v & 0xffff);
}

static uint32_t get32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* Lengths and checksums of a packet whose headers are otherwise complete. */
static void finish_packet(uint8_t *ip, size_t ip_len, size_t len)
{
    bool v6 = ip[0] >> 4 == 6;
    struct addr src = v6 ? addr_from_v6(ip + 8) : addr_from_v4(ip + 12);
    struct addr dst = v6 ? addr_from_v6(ip + 24) : addr_from_v4(ip + 16);
    uint8_t *tcp = ip + ip_len;
    size_t tcp_len = len - ip_len;
    uint16_t sum;

    if (v6) {
        put16(ip + 4, tcp_len);
    } else {
        put16(ip + 2, len);
        memset(ip + 10, 0, 2);
        sum = (uint16_t)~packet_sum_fold(packet_sum(ip, ip_len, 0));
        memcpy(ip + 10, &sum, 2);
    }
    memset(tcp + 16, 0, 2);
    uint32_t pseudo = packet_pseudo_sum(&src, &dst, IPPROTO_TCP, tcp_len);
    sum = (uint16_t)~packet_sum_fold(packet_sum(tcp, tcp_len, pseudo));
    memcpy(tcp + 16, &sum, 2);
}

static void keep(enum side side, struct sent *s, size_t len)
{
    struct sent **link = &wire.first[side];

    assert_int_equal(packet_parse(s->bytes, len, false, &s->p), PACKET_TCP);
    assert_int_equal(s->p.len, len);
    assert_true(len <= wire.mtu);
    while (*link)
        link = &(*link)->next;
    *link = s;
}

static void check_super_packet(const struct stack_tx *tx)
{
    const uint8_t *ip = tx->hdr;
    size_t total = tx->hdr_len + tx->data_len, iov_len = 0;

    for (size_t i = 0; i < tx->iov_cnt; i++)
        iov_len += tx->iov[i].iov_len;
    assert_int_equal(iov_len, tx->data_len);
    assert_true(total <= wire.gso_max_len[tx->side]);
    assert_true(tx->hdr_len - tx->ip_len <= 60);
    if (tx->v6) {
        assert_int_equal(ip[4] << 8 | ip[5], total - 40 <= UINT16_MAX ? total - 40 : 0);
    } else {
        assert_int_equal(ip[2] << 8 | ip[3], total <= UINT16_MAX ? total : 0);
        assert_int_equal(packet_sum_fold(packet_sum(ip, tx->ip_len, 0)), 0xffff);
    }
    assert_true(tx->gso_size == 0 || tx->gso_size < tx->data_len);
}

/* One wire packet of a super-packet, as the kernel cuts it: FIN and PSH go last. */
static void cut(const struct stack_tx *tx, const uint8_t *data, size_t off, size_t len)
{
    struct sent *s = calloc(1, sizeof(*s) + tx->hdr_len + len);
    uint8_t *tcp = s->bytes + tx->ip_len;

    memcpy(s->bytes, tx->hdr, tx->hdr_len);
    memcpy(s->bytes + tx->hdr_len, data + off, len);
    put32(tcp + 4, get32(tcp + 4) + (uint32_t)off);
    if (off + len < tx->data_len)
        tcp[13] &= (uint8_t) ~(PACKET_FIN | PACKET_PSH);
    finish_packet(s->bytes, tx->ip_len, tx->hdr_len + len);
    keep(tx->side, s, tx->hdr_len + len);
}

static bool output(const struct stack_tx *tx)
{
    static uint8_t flat[STACK_GSO_MAX_LEN];
    size_t step = tx->gso_size ? tx->gso_size : tx->data_len, off = 0;
    uint8_t *out = flat;

    if (wire.blocked[tx->side]) {
        wire.refused_cnt++;
        return false;
    }
    check_super_packet(tx);
    for (size_t i = 0; i < tx->iov_cnt; i++) {
        memcpy(out, tx->iov[i].iov_base, tx->iov[i].iov_len);
        out += tx->iov[i].iov_len;
    }
    wire.super_cnt += tx->gso_size > 0;
    wire.longest[tx->side] = LONGER(wire.longest[tx->side], tx->hdr_len + tx->data_len);
    do {
        size_t len = tx->data_len - off < step ? tx->data_len - off : step;
        cut(tx, flat, off, len);
        off += len;
    } while (off < tx->data_len);
    return true;
}

static void on_event(struct leg *leg)
{
    if (wire.on_event)
        wire.on_event(leg);
}

static void on_established(struct leg *leg, const struct packet *packet)
{
    wire.established_cnt++;
    wire.established_options_len = packet->options_len;
    memcpy(wire.established_options, packet_options(packet), packet->options_len);
    if (wire.on_established)
        wire.on_established(leg, packet);
}

static void on_crossing_syn(struct leg *leg, const struct packet *packet)
{
    if (wire.on_crossing_syn)
        wire.on_crossing_syn(leg, packet);
}

static const struct stack_ops ops = {
    .output = output,
    .on_event = on_event,
    .on_established = on_established,
    .on_crossing_syn = on_crossing_syn,
};

/* --- The wire ------------------------------------------------------------------------ */

static size_t buffers_before;

int wire_set_up(void **state)
{
    struct stack_config cfg = {
        .ops = &ops,
        .isn_key = {1, 2},
        .mtu = {1500, 1500},
    };

    buffers_before = buf_total();
    wire =
        (struct wire){.now_ms = 1000, .mtu = 1500, .gso_max_len = {PACKET_MAX_LEN, PACKET_MAX_LEN}};
    assert_int_equal(stack_init(&cfg), 0);
    stack_set_time(wire.now_ms);
    return 0;
}

int wire_tear_down(void **state)
{
    stack_flush();
    for (int side = 0; side < SIDE_CNT; side++) {
        wire.blocked[side] = false;
        stack_writable((enum side)side);
        wire_discard((enum side)side);
    }
    assert_false(stack_needs_tick());
    stack_done();
    assert_int_equal(buf_total(), buffers_before);
    return 0;
}

void wire_set_mtu(uint16_t mtu)
{
    wire.mtu = mtu;
    stack_set_mtu(SIDE_INNER, mtu);
    stack_set_mtu(SIDE_OUTER, mtu);
}

void wire_set_gso_max_len(enum side side, size_t len)
{
    wire.gso_max_len[side] = len;
    stack_set_gso_max_len(side, len);
}

struct sent *wire_next(enum side side)
{
    stack_flush();
    struct sent *s = wire.first[side];
    if (s)
        wire.first[side] = s->next;
    return s;
}

size_t wire_cnt(enum side side)
{
    size_t cnt = 0;

    stack_flush();
    for (const struct sent *s = wire.first[side]; s; s = s->next)
        cnt++;
    return cnt;
}

void wire_discard(enum side side)
{
    struct sent *s;

    while ((s = wire_next(side)))
        free(s);
}

void wire_advance(unsigned ms)
{
    for (unsigned passed = 0; passed < ms; passed += STACK_TICK_MS) {
        wire.now_ms += STACK_TICK_MS;
        if (stack_needs_tick())
            stack_tick(wire.now_ms);
        else
            stack_set_time(wire.now_ms);
    }
    stack_flush();
}

/* --- The peer ------------------------------------------------------------------------ */

static struct addr addr_of(const char *text)
{
    uint8_t bytes[16];

    if (inet_pton(AF_INET, text, bytes) == 1)
        return addr_from_v4(bytes);
    assert_int_equal(inet_pton(AF_INET6, text, bytes), 1);
    return addr_from_v6(bytes);
}

static void init(struct peer *p, enum side side, const char *local, const char *peer)
{
    /* Each connection of a process has a port of its own, so that the TIME-WAIT
     * record of one is not met by the next. */
    static uint16_t port = 10000;

    *p = (struct peer){
        .side = side,
        .tuple = {addr_of(local), addr_of(peer), port++, 80},
        .leg = {.side = side},
        .seq = 0xfffff000, /* wraps around early */
        .window = 65535,
    };
}

void peer_init(struct peer *p, enum side side)
{
    init(p, side, "192.0.2.1", "198.51.100.2");
}

void peer_init_v6(struct peer *p, enum side side)
{
    init(p, side, "2001:db8::1", "2001:db8:1::2");
}

void peer_done(struct peer *p)
{
    leg_drop(&p->leg);
    wire_discard(p->side);
    free(p->rx);
    p->rx = NULL;
}

static size_t put_ip_header(uint8_t *ip, const struct addr *src, const struct addr *dst)
{
    if (addr_is_v4(src)) {
        ip[0] = 0x45;
        ip[8] = 64;
        ip[9] = IPPROTO_TCP;
        memcpy(ip + 12, &src->in6.s6_addr[12], 4);
        memcpy(ip + 16, &dst->in6.s6_addr[12], 4);
        return 20;
    }
    ip[0] = 0x60;
    ip[6] = IPPROTO_TCP;
    ip[7] = 64;
    memcpy(ip + 8, &src->in6, 16);
    memcpy(ip + 24, &dst->in6, 16);
    return 40;
}

static void put_tcp_header(uint8_t *tcp, const struct peer *p, const struct segment *s)
{
    bool inner = p->side == SIDE_INNER;

    put16(tcp, inner ? p->tuple.local_port : p->tuple.peer_port);
    put16(tcp + 2, inner ? p->tuple.peer_port : p->tuple.local_port);
    put32(tcp + 4, s->seq);
    put32(tcp + 8, s->ack);
    tcp[12] = (uint8_t)((20 + s->options_len) / 4 << 4);
    tcp[13] = s->flags;
    put16(tcp + 14, p->window);
    if (s->options_len)
        memcpy(tcp + 20, s->options, s->options_len);
}

struct buf *peer_packet(const struct peer *p, const struct segment *s, struct packet *ret)
{
    bool inner = p->side == SIDE_INNER;
    const struct addr *src = inner ? &p->tuple.local : &p->tuple.peer;
    const struct addr *dst = inner ? &p->tuple.peer : &p->tuple.local;
    size_t ip_len = addr_is_v4(src) ? 20 : 40;
    size_t len = ip_len + 20 + s->options_len + s->len;
    struct buf *b = buf_new(BUF_PACKET_HEADROOM_LEN + len);
    uint8_t *ip = b->bytes + BUF_PACKET_HEADROOM_LEN;

    assert_int_equal(s->options_len % 4, 0);
    memset(ip, 0, len);
    put_ip_header(ip, src, dst);
    put_tcp_header(ip + ip_len, p, s);
    if (s->len)
        memcpy(ip + len - s->len, s->data, s->len);
    finish_packet(ip, ip_len, len);
    assert_int_equal(packet_parse(ip, len, false, ret), PACKET_TCP);
    return b;
}

/* As the tunnel does it. */
static void deliver(struct peer *p, struct buf *buf, struct packet *packet)
{
    if (p->leg.pcb) {
        leg_input(&p->leg, buf, packet);
        return;
    }
    bool opens = (packet->flags & (PACKET_SYN | PACKET_ACK | PACKET_RST)) == PACKET_SYN;
    if (timewait_input(p->side, &p->tuple, packet)) {
        buf_unref(buf);
    } else if (opens) {
        p->leg = (struct leg){.side = p->side, .syn_option = p->leg.syn_option};
        assert_int_equal(leg_accept(&p->leg, buf, packet), 0);
    } else {
        stack_reset(p->side, packet);
        buf_unref(buf);
    }
}

void peer_send_segment(struct peer *p, const struct segment *s)
{
    struct packet packet;
    struct buf *b = peer_packet(p, s, &packet);

    (p->deliver ? p->deliver : deliver)(p, b, &packet);
}

void peer_send_at(struct peer *p, int32_t off, uint8_t flags, const void *data, size_t len)
{
    struct segment s = {
        .flags = flags,
        .seq = p->seq + (uint32_t)off,
        .ack = flags & PACKET_ACK ? p->ack : 0,
        .data = data,
        .len = len,
        .options = p->options,
        .options_len = p->options_len,
    };

    peer_send_segment(p, &s);
}

void peer_send(struct peer *p, uint8_t flags, const void *data, size_t len)
{
    uint32_t next = p->seq + (uint32_t)len;

    if (flags & PACKET_SYN)
        next++;
    if (flags & PACKET_FIN)
        next++;
    peer_send_at(p, 0, flags, data, len);
    p->seq = next;
}

void peer_ack(struct peer *p)
{
    peer_send(p, PACKET_ACK, NULL, 0);
}

void peer_set_syn_options(struct peer *p, uint16_t mss, int wscale)
{
    uint8_t all[12] = {2, 4, (uint8_t)(mss >> 8), (uint8_t)mss, 1, 3, 3, (uint8_t)wscale, 1, 1,
                       4, 2};

    p->options_len = wscale < 0 ? 4 : 12;
    memcpy(p->options, all, p->options_len);
}

void peer_half_connects(struct peer *p, uint16_t mss, int wscale)
{
    peer_set_syn_options(p, mss, wscale);
    peer_send(p, PACKET_SYN, NULL, 0);
    p->options_len = 0;
    free(peer_expect(p, PACKET_SYN | PACKET_ACK));
}

void peer_connects(struct peer *p, uint16_t mss, int wscale)
{
    peer_half_connects(p, mss, wscale);
    peer_ack(p);
    assert_true(p->leg.established);
    leg_take_events(&p->leg);
}

void peer_accepts(struct peer *p, uint16_t mss, int wscale)
{
    assert_int_equal(leg_connect(&p->leg, &p->tuple), 0);
    free(peer_expect(p, PACKET_SYN));
    peer_set_syn_options(p, mss, wscale);
    peer_send(p, PACKET_SYN | PACKET_ACK, NULL, 0);
    p->options_len = 0;
    assert_true(p->leg.established);
    leg_take_events(&p->leg);
    peer_expect_ack(p);
}

void peer_receive(struct peer *p, const uint8_t *data, size_t len)
{
    while (p->rx_cap < p->rx_len + len + 1) {
        p->rx_cap = p->rx_cap ? 2 * p->rx_cap : 4096;
        p->rx = realloc(p->rx, p->rx_cap);
    }
    memcpy(p->rx + p->rx_len, data, len);
    p->rx_len += len;
    p->ack += (uint32_t)len;
}

void peer_follow(struct peer *p, const struct packet *packet)
{
    uint32_t behind = p->ack - packet->seq;

    if (packet->flags & PACKET_RST) {
        p->rst = true;
        return;
    }
    if (packet->flags & PACKET_SYN) {
        p->ack = packet->seq + 1;
        return;
    }
    if ((int32_t)behind < 0 || behind > packet->data_len)
        return; /* a gap, or all of it is known */
    size_t fresh = packet->data_len - behind;
    peer_receive(p, packet->data + behind, fresh);
    if (packet->flags & PACKET_FIN && !p->fin) {
        p->fin = true;
        p->ack++;
    }
}

size_t peer_pull(struct peer *p)
{
    struct sent *s;
    size_t cnt = 0;

    while ((s = wire_next(p->side))) {
        peer_follow(p, &s->p);
        free(s);
        cnt++;
    }
    return cnt;
}

void peer_pull_all(struct peer *p)
{
    while (peer_pull(p) > 0 && !p->rst) {
        uint32_t before = p->ack;
        peer_ack(p);
        if (p->ack == before && wire_cnt(p->side) == 0)
            return;
    }
}

struct sent *peer_expect(struct peer *p, uint8_t flags)
{
    struct sent *s = wire_next(p->side);

    assert_non_null(s);
    assert_int_equal(s->p.flags & ~PACKET_PSH, flags);
    peer_follow(p, &s->p);
    return s;
}

void peer_expect_ack(struct peer *p)
{
    struct sent *s = peer_expect(p, PACKET_ACK);

    assert_int_equal(s->p.ack, p->seq);
    assert_int_equal(s->p.data_len, 0);
    free(s);
    peer_expect_nothing(p);
}

void peer_expect_nothing(struct peer *p)
{
    assert_int_equal(wire_cnt(p->side), 0);
}

/* --- The leg ------------------------------------------------------------------------- */

int leg_send(struct leg *leg, const void *data, size_t len)
{
    struct buf *b = buf_new(len);

    memcpy(b->bytes, data, len);
    b->len = (uint32_t)len;
    int err = leg_write(leg, b, b->bytes, len);
    buf_unref(b);
    leg_output(leg);
    return err;
}

size_t leg_read(struct leg *leg, void *out, size_t max)
{
    struct leg_chunk chunk;
    size_t len = 0;

    while (len < max && leg_peek(leg, &chunk, 1, SIZE_MAX) > 0) {
        size_t n = chunk.len < max - len ? chunk.len : max - len;
        memcpy((uint8_t *)out + len, chunk.data, n);
        leg_consume(leg, n);
        len += n;
    }
    leg_output(leg);
    return len;
}

const uint8_t *pattern(size_t off)
{
    static uint8_t bytes[PATTERN_MAX_LEN];
    static bool filled;

    for (size_t i = 0; !filled && i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)(i * 31 + (i >> 8) * 7 + (i >> 16));
    filled = true;
    return bytes + off;
}
