/* SPDX-License-Identifier: BSD-3-Clause
 * Packets from both sides into a relay over lwIP. Random bytes get no further than a
 * checksum, and random sequence numbers no further than the window, so the input is a
 * program: it says which connection a packet belongs to and how far its numbers are
 * from those that the leg would like best. lwIP's assertions abort.
 */
#include "fuzz.h"

#include <arpa/inet.h>

#include "../unit/relay_input.h"
#include "tunnel/icmp.h"

enum {
    OP_SEGMENT, /* 8 bytes or more, see struct segment */
    OP_RAW,     /* length byte, bytes: a whole packet */
    OP_TICK,    /* count byte */
    OP_BLOCK,   /* side byte: its device takes nothing, or takes packets again */
    OP_MTU,     /* connection byte, two bytes */
    OP_URGENT,  /* as OP_SEGMENT, with an urgent pointer */
    OP_RUN,     /* the relay moves what it has */
    OP_ABORT,   /* all connections */
    OP_BUSY,    /* side byte: more input is waiting there, or not */
    OP_CNT,
};

#define CONN_CNT 4

/* What one end of a connection knows of the leg that it faces. */
struct view {
    uint32_t end; /* behind the last byte that the leg has sent */
    uint32_t una; /* what this end last acknowledged of it */
    uint32_t ack; /* what the leg expects next */
    uint32_t window;
};

static struct conn {
    struct tuple tuple;
    struct view view[SIDE_CNT];
} conns[CONN_CNT];

static struct relay relay;
static bool blocked[SIDE_CNT];
static uint64_t now_ms;

/* --- Out ------------------------------------------------------------------------------- */

static uint16_t get16(const uint8_t *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}

static uint32_t get32(const uint8_t *p)
{
    return (uint32_t)get16(p) << 16 | get16(p + 2);
}

static struct conn *conn_of_ports(uint16_t a, uint16_t b)
{
    for (size_t i = 0; i < CONN_CNT; i++) {
        if (conns[i].tuple.local_port == a || conns[i].tuple.local_port == b)
            return &conns[i];
    }
    return NULL;
}

static void check_lengths(const struct stack_tx *tx)
{
    size_t iov_len = 0, tcp_len = tx->hdr_len - tx->ip_len;

    for (size_t i = 0; i < tx->iov_cnt; i++)
        iov_len += tx->iov[i].iov_len;
    FUZZ_CHECK(iov_len == tx->data_len);
    FUZZ_CHECK(tx->hdr_len + tx->data_len <= PACKET_MAX_LEN);
    FUZZ_CHECK(tcp_len >= 20 && tcp_len <= 60);
    FUZZ_CHECK(tcp_len == (size_t)(tx->hdr[tx->ip_len + 12] >> 4) * 4);
    FUZZ_CHECK(tx->gso_size == 0 || tx->gso_size < tx->data_len);
    FUZZ_CHECK((tx->gso_size ? tx->gso_size : tx->data_len) + tx->hdr_len <= 1500);
}

/* All bytes must be there to be read. */
static uint8_t touch(const struct stack_tx *tx)
{
    uint8_t all = 0;

    for (size_t i = 0; i < tx->iov_cnt; i++) {
        for (size_t j = 0; j < tx->iov[i].iov_len; j++)
            all ^= ((const uint8_t *)tx->iov[i].iov_base)[j];
    }
    return all;
}

static bool output(const struct stack_tx *tx)
{
    static volatile uint8_t sink __attribute__((unused));
    const uint8_t *tcp = tx->hdr + tx->ip_len;
    struct conn *c = conn_of_ports(get16(tcp), get16(tcp + 2));

    check_lengths(tx);
    if (blocked[tx->side])
        return false;
    sink = touch(tx);
    if (!c || tcp[13] & PACKET_RST)
        return true;
    struct view *v = &c->view[tx->side];
    uint32_t end = get32(tcp + 4) + (uint32_t)tx->data_len;
    if (tcp[13] & (PACKET_SYN | PACKET_FIN))
        end++;
    if (tcp[13] & PACKET_SYN || (int32_t)(end - v->end) > 0)
        v->end = end;
    if (tcp[13] & PACKET_SYN)
        v->una = end;
    if (tcp[13] & PACKET_ACK)
        v->ack = get32(tcp + 8);
    v->window = (uint32_t)get16(tcp + 14) << (tcp[13] & PACKET_SYN ? 0 : 8);
    return true;
}

static void on_event(struct leg *leg)
{
    flow_queue(&relay.flows, flow_from_leg(leg));
}

static void on_established(struct leg *leg, const struct packet *packet)
{
    relay_on_established(&relay, leg, packet);
}

static void on_crossing_syn(struct leg *leg, const struct packet *packet)
{
    relay_on_crossing_syn(&relay, leg, packet);
}

static const struct stack_ops ops = {
    .output = output,
    .on_event = on_event,
    .on_established = on_established,
    .on_crossing_syn = on_crossing_syn,
};

/* --- In -------------------------------------------------------------------------------- */

/* From a byte to a distance: near ones fine, far ones coarse. */
static uint32_t distance(uint8_t code, uint32_t window)
{
    static const int32_t far[] = {100, -100, 1000, -1000, 1460, 65535, -65535, 1 << 20};

    if (code < 0x80)
        return code < 0x40 ? 0u : (uint32_t)(int8_t)(code - 0x60);
    if (code < 0xc0)
        return (uint32_t)far[code & 7];
    return window + (uint32_t)(int8_t)(code << 2); /* the edge of the window */
}

static size_t put_options(uint8_t *out, uint8_t code, struct fuzz_input *in, const struct view *v)
{
    static const uint8_t syn[] = {2, 4, 5, 0xb4, 1, 3, 3, 7, 1, 1, 4, 2};
    static const uint8_t eno[] = {69, 3, 0x23, 1};
    uint32_t sack[2] = {htonl(v->una + (code & 7) * 500u),
                        htonl(v->una + (code & 7) * 500u + 4000)};
    size_t len = 0, cnt;

    switch (code >> 5) {
    case 0:
        return 0;
    case 1:
        memcpy(out, syn, sizeof(syn));
        return sizeof(syn);
    case 2:
        memcpy(out, syn, sizeof(syn));
        memcpy(out + sizeof(syn), eno, sizeof(eno));
        return sizeof(syn) + sizeof(eno);
    case 3:
        memcpy(out, (uint8_t[]){1, 1, 5, 10}, 4);
        memcpy(out + 4, sack, 8);
        return 12;
    case 4:
        memcpy(out, (uint8_t[]){2, 4, 0, code}, 4); /* a small MSS */
        return 4;
    case 5:
        memcpy(out, (uint8_t[]){69, 2, 1, 1}, 4);
        return 4;
    default:
        for (cnt = (code & 31) % 10 * 4; len < cnt; len++)
            out[len] = fuzz_byte(in);
        return cnt;
    }
}

static size_t put_ip(uint8_t *ip, const struct addr *src, const struct addr *dst, size_t tcp_len)
{
    if (!addr_is_v4(src)) {
        memset(ip, 0, 40);
        ip[0] = 0x60;
        ip[4] = (uint8_t)(tcp_len >> 8);
        ip[5] = (uint8_t)tcp_len;
        ip[6] = IPPROTO_TCP;
        memcpy(ip + 8, &src->in6, 16);
        memcpy(ip + 24, &dst->in6, 16);
        return 40;
    }
    size_t len = 20 + tcp_len;
    memset(ip, 0, 20);
    ip[0] = 0x45;
    ip[2] = (uint8_t)(len >> 8);
    ip[3] = (uint8_t)len;
    ip[9] = IPPROTO_TCP;
    memcpy(ip + 12, &src->in6.s6_addr[12], 4);
    memcpy(ip + 16, &dst->in6.s6_addr[12], 4);
    uint16_t sum = (uint16_t)~packet_sum_fold(packet_sum(ip, 20, 0));
    memcpy(ip + 10, &sum, 2);
    return 20;
}

static void put_be32(uint8_t *p, uint32_t v)
{
    v = htonl(v);
    memcpy(p, &v, 4);
}

static void put_be16(uint8_t *p, uint16_t v)
{
    v = htons(v);
    memcpy(p, &v, 2);
}

/* What the program says of a segment. */
struct segment {
    uint8_t where; /* connection, side */
    uint8_t flags;
    uint8_t seq_code, ack_code;
    uint8_t window_hi, window_lo;
    uint8_t options;
    uint8_t data_code;
};

static size_t data_len_of(uint8_t code)
{
    static const uint16_t lens[] = {1, 10, 100, 536, 1460, 5000, 20000, 65000};

    return code < 0x80 ? 0 : code < 0xc0 ? code & 63u : lens[code & 7];
}

static struct buf *make_segment(struct fuzz_input *in, const struct segment *s, uint16_t urgent,
                                struct packet *ret)
{
    enum side side = s->where & 1 ? SIDE_OUTER : SIDE_INNER;
    const struct conn *c = &conns[s->where >> 1 & (CONN_CNT - 1)];
    const struct view *v = &c->view[side];
    bool inner = side == SIDE_INNER;
    uint8_t options[40], tcp[20] = {0};
    size_t options_len = put_options(options, s->options, in, v);
    size_t data_len = data_len_of(s->data_code);
    size_t tcp_len = 20 + options_len + data_len;
    struct buf *b = buf_new(BUF_PACKET_HEADROOM_LEN + 40 + tcp_len);

    FUZZ_CHECK(b);
    put_be16(tcp, inner ? c->tuple.local_port : c->tuple.peer_port);
    put_be16(tcp + 2, inner ? c->tuple.peer_port : c->tuple.local_port);
    put_be32(tcp + 4, v->ack + distance(s->seq_code, v->window));
    put_be32(tcp + 8, s->ack_code & 1 ? v->end + distance(s->ack_code & 0xfe, 0)
                                      : v->una + distance(s->ack_code, v->end - v->una));
    tcp[12] = (uint8_t)((20 + options_len) / 4 << 4);
    tcp[13] = s->flags & 0x3f;
    tcp[14] = s->window_hi;
    tcp[15] = s->window_lo;
    put_be16(tcp + 18, urgent);

    uint8_t *ip = b->bytes + BUF_PACKET_HEADROOM_LEN;
    size_t ip_len = put_ip(ip, inner ? &c->tuple.local : &c->tuple.peer,
                           inner ? &c->tuple.peer : &c->tuple.local, tcp_len);
    memcpy(ip + ip_len, tcp, 20);
    memcpy(ip + ip_len + 20, options, options_len);
    memset(ip + ip_len + 20 + options_len, s->data_code, data_len);
    if (packet_parse(ip, ip_len + tcp_len, true, ret) == PACKET_TCP)
        return b;
    buf_unref(b);
    return NULL;
}

static void run_segment(struct fuzz_input *in, bool urgent)
{
    struct segment s = {0};
    struct packet packet;
    uint8_t *bytes = (uint8_t *)&s;

    for (size_t i = 0; i < sizeof(s); i++)
        bytes[i] = fuzz_byte(in);
    struct buf *b = make_segment(in, &s, urgent ? fuzz_byte(in) : 0, &packet);
    if (!b)
        return;
    enum side side = s.where & 1 ? SIDE_OUTER : SIDE_INNER;
    struct view *v = &conns[s.where >> 1 & (CONN_CNT - 1)].view[side];
    if (packet.flags & PACKET_ACK && (int32_t)(packet.ack - v->una) > 0 &&
        (int32_t)(packet.ack - v->end) <= 0)
        v->una = packet.ack;
    relay_input(&relay, side, b, &packet, now_ms);
}

static void on_icmp(const struct icmp_error *e)
{
    struct flow *f = flow_find(&relay.flows, &e->tuple);

    if (f && leg_owns_seq(&f->legs[SIDE_OUTER], e->seq) && e->too_big)
        leg_set_path_mtu(&f->legs[SIDE_OUTER], e->mtu);
}

static void run_raw(struct fuzz_input *in)
{
    size_t len, max = fuzz_byte(in);
    bool csum_ok = max & 1;
    uint8_t *bytes = fuzz_bytes(in, max, &len);
    struct packet packet;
    struct icmp_error e;
    enum packet_verdict verdict = packet_parse(bytes, len, csum_ok, &packet);

    if (verdict == PACKET_TCP) {
        struct buf *b = buf_new(BUF_PACKET_HEADROOM_LEN + len);
        FUZZ_CHECK(b);
        uint8_t *ip = memcpy(b->bytes + BUF_PACKET_HEADROOM_LEN, bytes, len);
        FUZZ_CHECK(packet_parse(ip, len, csum_ok, &packet) == PACKET_TCP);
        relay_input(&relay, max & 2 ? SIDE_OUTER : SIDE_INNER, b, &packet, now_ms);
    } else if (icmp_parse(bytes, len, &e)) {
        on_icmp(&e);
    }
    free(bytes);
}

/* --- Time and the rest -------------------------------------------------------------------- */

static void run_ticks(unsigned cnt)
{
    while (cnt-- > 0) {
        now_ms += STACK_TICK_MS;
        if (stack_needs_tick())
            stack_tick(now_ms);
        else
            stack_set_time(now_ms);
        relay_run(&relay);
    }
    relay_tick(&relay, now_ms);
}

static void set_mtu(struct fuzz_input *in)
{
    const struct tuple *tuple = &conns[fuzz_byte(in) & (CONN_CNT - 1)].tuple;
    uint32_t mtu = (uint32_t)fuzz_byte(in) << 8;
    struct flow *f = flow_find(&relay.flows, tuple);

    mtu |= fuzz_byte(in);
    if (f)
        leg_set_path_mtu(&f->legs[SIDE_OUTER], mtu);
}

static void toggle_block(uint8_t code)
{
    enum side side = code & 1 ? SIDE_OUTER : SIDE_INNER;

    blocked[side] = !blocked[side];
    if (!blocked[side])
        stack_writable(side);
}

static void run_op(struct fuzz_input *in, uint8_t op)
{
    uint8_t code;

    switch ((op & 0x7f) % OP_CNT) {
    case OP_SEGMENT:
        run_segment(in, false);
        break;
    case OP_URGENT:
        run_segment(in, true);
        break;
    case OP_RAW:
        run_raw(in);
        break;
    case OP_TICK:
        run_ticks(fuzz_byte(in));
        break;
    case OP_BLOCK:
        toggle_block(fuzz_byte(in));
        break;
    case OP_MTU:
        set_mtu(in);
        break;
    case OP_RUN:
        relay_run(&relay);
        break;
    case OP_ABORT:
        relay_abort_all(&relay);
        break;
    case OP_BUSY:
        code = fuzz_byte(in);
        stack_set_busy(code & 1 ? SIDE_OUTER : SIDE_INNER, code & 2);
        break;
    }
    if (op & 0x80) /* most turns end so */
        relay_run(&relay);
    stack_flush();
}

static struct addr addr_of(int family, const char *text)
{
    uint8_t bytes[16];

    FUZZ_CHECK(inet_pton(family, text, bytes) == 1);
    return family == AF_INET ? addr_from_v4(bytes) : addr_from_v6(bytes);
}

static void start(uint8_t policy)
{
    struct stack_config cfg = {.ops = &ops, .isn_key = {1, 2}, .mtu = {1500, 1500}};

    memset(conns, 0, sizeof(conns));
    for (uint16_t i = 0; i < CONN_CNT; i++) {
        int family = i % 2 ? AF_INET6 : AF_INET;
        conns[i].tuple =
            (struct tuple){addr_of(family, family == AF_INET ? "192.0.2.1" : "2001:db8::1"),
                           addr_of(family, family == AF_INET ? "198.51.100.2" : "2001:db8::2"),
                           (uint16_t)(1000 + i), 80};
    }
    now_ms = 1000;
    blocked[SIDE_INNER] = blocked[SIDE_OUTER] = false;
    memset(&relay, 0, sizeof(relay));
    struct session_config session = session_config_default;
    struct policy_config rules = {
        .policy = policy % 3 == 0 ? TUNNEL_POLICY_OFF : (enum tunnel_policy)(policy % 3 - 1),
        .session = &session,
    };
    struct policy *made;

    session.random = fuzz_random;
    FUZZ_CHECK(policy_new(&rules, &made) == 0);
    relay_set_policy(&relay, made);
    FUZZ_CHECK(flow_table_init(&relay.flows, &(struct siphash_key){3, 4}, 64) == 0);
    FUZZ_CHECK(stack_init(&cfg) == 0);
    stack_set_time(now_ms);
}

static void stop(void)
{
    relay_abort_all(&relay);
    for (int side = 0; side < SIDE_CNT; side++) {
        blocked[side] = false;
        stack_set_busy((enum side)side, false);
        stack_writable((enum side)side);
    }
    stack_flush();
    FUZZ_CHECK(!stack_needs_tick());
    stack_done();
    flow_table_done(&relay.flows);
    policy_unref(relay.policy);
    FUZZ_CHECK(buf_total() == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input in = {data, size};

    fuzz_random_reset();
    start(fuzz_byte(&in));
    for (int i = 0; in.left > 0 && i < 200; i++)
        run_op(&in, fuzz_byte(&in));
    stop();
    return 0;
}
