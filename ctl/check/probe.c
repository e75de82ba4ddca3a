/* SPDX-License-Identifier: BSD-3-Clause
 * TCP connections that are opened by hand.
 */
#include "ctl/check/probe.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/filter.h>
#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <netinet/ip_icmp.h>
#include <poll.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/wire.h"
#include "tcp/packet.h"

#define TCP_LEN        20
#define MSS            1220 /* fits the smallest link of IPv6 */
#define WINDOW         65535
#define LAST_WAIT_MS   1000
#define AGAIN_MS       500
#define PACKET_CAP     (70 * 1000) /* what the kernel has put together */
#define IPV6_LEN       40
#define ICMP_LEN       8
#define OPTION_MSS_LEN 4

struct probe {
    struct addr src, dst;
    uint16_t dst_port;
    bool v6;
    int tcp_fd, icmp_fd;
    uint8_t packet[PACKET_CAP];
};

/* A received segment; the pointers lead into probe.packet. */
struct segment {
    uint16_t port; /* ours */
    uint32_t seq, ack;
    uint8_t flags;
    const uint8_t *options, *data;
    size_t options_len, data_len;
};

/* --- Sockets ---------------------------------------------------------------- */

static socklen_t make_sockaddr(const struct addr *a, uint16_t port, struct sockaddr_storage *ret)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct sockaddr_in6 v6 = {
        .sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_addr = a->in6};

    *ret = (struct sockaddr_storage){0};
    if (!addr_is_v4(a)) {
        memcpy(ret, &v6, sizeof(v6));
        return sizeof(v6);
    }
    memcpy(&v4.sin_addr, &a->in6.s6_addr[12], 4);
    memcpy(ret, &v4, sizeof(v4));
    return sizeof(v4);
}

static void read_sockaddr(const struct sockaddr_storage *ss, struct addr *ret)
{
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;

    memcpy(&v4, ss, sizeof(v4));
    memcpy(&v6, ss, sizeof(v6));
    *ret = ss->ss_family == AF_INET ? addr_from_v4(&v4.sin_addr) : addr_from_v6(&v6.sin6_addr);
}

/* The kernel's choice. Return: 0; -errno. */
static int find_source(struct probe *p)
{
    struct sockaddr_storage ss;
    socklen_t len = make_sockaddr(&p->dst, p->dst_port, &ss);
    int fd = socket(ss.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0), err = 0;

    if (fd < 0)
        return -errno;
    if (connect(fd, (struct sockaddr *)&ss, len) < 0 ||
        getsockname(fd, (struct sockaddr *)&ss, &len) < 0)
        err = -errno;
    else
        read_sockaddr(&ss, &p->src);
    close(fd);
    return err;
}

/* Connected: only what the peer sends is received. */
static int open_raw(struct probe *p)
{
    struct sockaddr_storage src, dst;
    socklen_t len = make_sockaddr(&p->src, 0, &src);
    int buf_len = 1 << 20;

    make_sockaddr(&p->dst, 0, &dst);
    p->tcp_fd = socket(src.ss_family, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_TCP);
    p->icmp_fd = socket(src.ss_family, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK,
                        p->v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP);
    if (p->tcp_fd < 0 || p->icmp_fd < 0)
        return -errno;
    setsockopt(p->tcp_fd, SOL_SOCKET, SO_RCVBUF, &buf_len, sizeof(buf_len));
    if (bind(p->tcp_fd, (struct sockaddr *)&src, len) < 0 ||
        connect(p->tcp_fd, (struct sockaddr *)&dst, len) < 0)
        return -errno;
    return 0;
}

int probe_new(const struct addr *dst, uint16_t dst_port, struct probe **ret)
{
    struct probe *p = calloc(1, sizeof(*p));

    if (!p)
        return -ENOMEM;
    *p = (struct probe){.dst = *dst, .dst_port = dst_port, .tcp_fd = -1, .icmp_fd = -1};
    p->v6 = !addr_is_v4(dst);
    int err = find_source(p);
    if (!err)
        err = open_raw(p);
    if (err) {
        probe_free(p);
        return err;
    }
    *ret = p;
    return 0;
}

void probe_free(struct probe *p)
{
    if (!p)
        return;
    if (p->tcp_fd >= 0)
        close(p->tcp_fd);
    if (p->icmp_fd >= 0)
        close(p->icmp_fd);
    free(p);
}

/* Return: a descriptor, *ret_port filled; -errno. */
static int hold_port(const struct probe *p, uint16_t *ret_port)
{
    struct sock_filter nothing = BPF_STMT(BPF_RET | BPF_K, 0);
    struct sock_fprog filter = {.len = 1, .filter = &nothing};
    struct sockaddr_storage ss;
    socklen_t len = make_sockaddr(&p->src, 0, &ss);
    struct sockaddr_in v4;
    int fd = socket(ss.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return -errno;
    if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof(filter)) < 0 ||
        bind(fd, (struct sockaddr *)&ss, len) < 0 || listen(fd, 1) < 0 ||
        getsockname(fd, (struct sockaddr *)&ss, &len) < 0) {
        int err = -errno;
        close(fd);
        return err;
    }
    memcpy(&v4, &ss, sizeof(v4)); /* the port is at the same place in both */
    *ret_port = ntohs(v4.sin_port);
    return fd;
}

/* --- Sending ---------------------------------------------------------------- */

static void set_hop_limit(const struct probe *p, uint8_t limit)
{
    int value = limit ? limit : -1; /* -1: the usual one */

    setsockopt(p->tcp_fd, p->v6 ? IPPROTO_IPV6 : IPPROTO_IP, p->v6 ? IPV6_UNICAST_HOPS : IP_TTL,
               &value, sizeof(value));
}

static size_t put_options(uint8_t *out, bool is_syn, const uint8_t *option, size_t option_len)
{
    size_t len = 0;

    if (is_syn) {
        out[0] = 2; /* MSS, RFC 9293 3.2 */
        out[1] = OPTION_MSS_LEN;
        put_be16(out + 2, MSS);
        len = OPTION_MSS_LEN;
    }
    if (option) {
        memcpy(out + len, option, option_len);
        len += option_len;
    }
    while (len % 4)
        out[len++] = 0; /* end of the list */
    return len;
}

static int send_segment(struct probe *p, const struct probe_try *t, uint8_t flags, uint32_t seq,
                        const uint8_t *option, size_t option_len, const void *data, size_t data_len)
{
    uint8_t s[TCP_LEN + PROBE_OPTIONS_MAX_LEN + OPTION_MSS_LEN + PROBE_DATA_MAX_LEN] = {0};
    bool is_syn = flags & PACKET_SYN;

    if (option_len > PROBE_OPTIONS_MAX_LEN - OPTION_MSS_LEN || data_len > PROBE_DATA_MAX_LEN)
        return -EMSGSIZE;
    size_t head_len = TCP_LEN + put_options(s + TCP_LEN, is_syn, option, option_len);
    put_be16(s, t->port);
    put_be16(s + 2, p->dst_port);
    put_be32(s + 4, seq);
    put_be32(s + 8, flags & PACKET_ACK ? t->rcv_nxt : 0);
    s[12] = (uint8_t)(head_len / 4 << 4);
    s[13] = flags;
    put_be16(s + 14, WINDOW);
    if (data_len > 0)
        memcpy(s + head_len, data, data_len);
    size_t len = head_len + data_len;
    uint32_t sum = packet_pseudo_sum(&p->src, &p->dst, IPPROTO_TCP, len);
    uint16_t folded = (uint16_t)~packet_sum_fold(packet_sum(s, len, sum));
    memcpy(s + 16, &folded, 2);
    /* The first may give the error of an earlier packet. */
    if (send(p->tcp_fd, s, len, MSG_NOSIGNAL) >= 0 || send(p->tcp_fd, s, len, MSG_NOSIGNAL) >= 0)
        return 0;
    return errno == EAGAIN || errno == ENOBUFS ? 0 : -errno; /* like a loss on the way */
}

static int send_syn(struct probe *p, struct probe_try *t)
{
    set_hop_limit(p, t->hop_limit);
    t->sent_ms = clock_ms();
    int err = send_segment(p, t, PACKET_SYN, t->snd_una, t->option, t->option_len, NULL, 0);
    set_hop_limit(p, 0);
    return err;
}

/* --- Receiving -------------------------------------------------------------- */

static bool parse_tcp(const struct probe *p, const uint8_t *tcp, size_t len, struct segment *ret)
{
    size_t head_len = len >= TCP_LEN ? (size_t)(tcp[12] >> 4) * 4 : 0;

    if (head_len < TCP_LEN || head_len > len || get_be16(tcp) != p->dst_port)
        return false;
    *ret = (struct segment){
        .port = get_be16(tcp + 2),
        .seq = get_be32(tcp + 4),
        .ack = get_be32(tcp + 8),
        .flags = tcp[13],
        .options = tcp + TCP_LEN,
        .options_len = head_len - TCP_LEN,
        .data = tcp + head_len,
        .data_len = len - head_len,
    };
    return true;
}

/* With IPv4 a raw socket gives the IP header, too; with IPv6 not.
 * Return: whether there was one. */
static bool receive(struct probe *p, struct segment *ret)
{
    for (;;) {
        ssize_t n = recv(p->tcp_fd, p->packet, sizeof(p->packet), 0);

        if (n < 0 && errno == EAGAIN)
            return false;
        if (n < 0)
            continue; /* an ICMP error, which comes by the other socket as well */
        size_t skip = p->v6 ? 0 : (size_t)(p->packet[0] & 15) * 4;
        if (skip < (size_t)n && parse_tcp(p, p->packet + skip, (size_t)n - skip, ret))
            return true;
    }
}

static struct probe_try *find_try(struct probe_try *t, size_t cnt, uint16_t port)
{
    for (size_t i = 0; i < cnt; i++)
        if (t[i].port == port)
            return &t[i];
    return NULL;
}

static void on_segment(struct probe_try *t, size_t cnt, const struct segment *s)
{
    struct probe_try *to = find_try(t, cnt, s->port);

    if (!to || to->answer != PROBE_NONE || !(s->flags & PACKET_ACK) || s->ack != to->snd_nxt)
        return;
    to->rtt_ms = (int)(clock_ms() - to->sent_ms);
    if (s->flags & PACKET_RST) {
        to->answer = PROBE_RST;
    } else if (s->flags & PACKET_SYN) {
        to->answer = PROBE_SYNACK;
        to->snd_una = to->snd_nxt;
        to->rcv_nxt = s->seq + 1;
        to->options_len = s->options_len;
        memcpy(to->options, s->options, s->options_len);
    }
}

/* --- ICMP ------------------------------------------------------------------- */

struct icmp_error {
    uint8_t type, code;
    struct addr from;
    const uint8_t *quoted; /* from the TCP header on */
    size_t quoted_len;
};

/* RFC 792 and RFC 4443: eight bytes, then the packet as far as it fits. */
static bool parse_icmp(const struct probe *p, const uint8_t *icmp, size_t len,
                       struct icmp_error *ret)
{
    const uint8_t *ip = icmp + ICMP_LEN;

    if (len < ICMP_LEN + (p->v6 ? IPV6_LEN : 20))
        return false;
    bool is_error = p->v6 ? icmp[0] == ICMP6_DST_UNREACH || icmp[0] == ICMP6_TIME_EXCEEDED
                          : icmp[0] == ICMP_DEST_UNREACH || icmp[0] == ICMP_TIME_EXCEEDED;
    size_t ip_len = p->v6 ? IPV6_LEN : (size_t)(ip[0] & 15) * 4;
    uint8_t proto = p->v6 ? ip[6] : ip[9];
    struct addr dst = p->v6 ? addr_from_v6(ip + 24) : addr_from_v4(ip + 16);
    if (!is_error || proto != IPPROTO_TCP || !addr_eq(&dst, &p->dst) || ip_len < 20 ||
        len < ICMP_LEN + ip_len + 8)
        return false;
    ret->type = icmp[0];
    ret->code = icmp[1];
    ret->quoted = ip + ip_len;
    ret->quoted_len = len - ICMP_LEN - ip_len;
    return true;
}

static bool receive_icmp(struct probe *p, struct icmp_error *ret)
{
    for (;;) {
        struct sockaddr_storage from;
        socklen_t from_len = sizeof(from);
        ssize_t n = recvfrom(p->icmp_fd, p->packet, sizeof(p->packet), 0, (struct sockaddr *)&from,
                             &from_len);

        if (n < 0)
            return false;
        size_t skip = p->v6 ? 0 : (size_t)(p->packet[0] & 15) * 4;
        if (skip >= (size_t)n || !parse_icmp(p, p->packet + skip, (size_t)n - skip, ret))
            continue;
        read_sockaddr(&from, &ret->from);
        return true;
    }
}

/* Is the option that we sent still in the segment as it was quoted? */
static enum probe_quote compare_quote(const struct probe_try *t, const uint8_t *tcp, size_t len)
{
    size_t head_len = len > 12 ? (size_t)(tcp[12] >> 4) * 4 : 0;

    if (!t->option || head_len < TCP_LEN || head_len > len)
        return PROBE_QUOTE_SHORT;
    for (size_t i = TCP_LEN; i < head_len && tcp[i] != 0; i++) {
        if (tcp[i] == 1)
            continue;
        if (i + 1 >= head_len || tcp[i + 1] < 2)
            break;
        if (tcp[i] == t->option[0])
            return i + t->option_len <= head_len && memcmp(tcp + i, t->option, t->option_len) == 0
                       ? PROBE_QUOTE_INTACT
                       : PROBE_QUOTE_CHANGED;
        i += tcp[i + 1] - 1u;
    }
    return PROBE_QUOTE_GONE;
}

static void on_icmp(const struct probe *p, struct probe_try *t, size_t cnt,
                    const struct icmp_error *e)
{
    struct probe_try *to = find_try(t, cnt, get_be16(e->quoted));

    if (!to || to->answer != PROBE_NONE || get_be16(e->quoted + 2) != p->dst_port ||
        get_be32(e->quoted + 4) != to->snd_una)
        return;
    to->answer = PROBE_ICMP;
    to->icmp_type = e->type;
    to->icmp_code = e->code;
    to->from = e->from;
    to->hop_ended = e->type == (p->v6 ? ICMP6_TIME_EXCEEDED : ICMP_TIME_EXCEEDED);
    to->quote = compare_quote(to, e->quoted, e->quoted_len);
    to->rtt_ms = (int)(clock_ms() - to->sent_ms);
}

/* --- Opening ---------------------------------------------------------------- */

static int begin(struct probe *p, struct probe_try *t)
{
    t->answer = PROBE_NONE;
    t->hold_fd = hold_port(p, &t->port);
    if (t->hold_fd < 0)
        return t->hold_fd;
    t->snd_una = randombytes_random();
    t->snd_nxt = t->snd_una + 1;
    return 0;
}

static bool is_all_answered(const struct probe_try *t, size_t cnt)
{
    for (size_t i = 0; i < cnt; i++)
        if (t[i].answer == PROBE_NONE)
            return false;
    return true;
}

/* Waits for packets and reads them. Return: 0; -errno. */
static int wait_for_packets(struct probe *p, int wait_ms)
{
    struct pollfd fds[] = {{.fd = p->tcp_fd, .events = POLLIN},
                           {.fd = p->icmp_fd, .events = POLLIN}};

    return poll(fds, 2, wait_ms > 0 ? wait_ms : 0) < 0 && errno != EINTR ? -errno : 0;
}

static int collect(struct probe *p, struct probe_try *t, size_t cnt, int64_t until_ms)
{
    struct icmp_error error;
    struct segment segment;
    int err = 0;

    while (!err && !is_all_answered(t, cnt) && clock_ms() < until_ms) {
        err = wait_for_packets(p, (int)(until_ms - clock_ms()));
        while (receive(p, &segment))
            on_segment(t, cnt, &segment);
        while (receive_icmp(p, &error))
            on_icmp(p, t, cnt, &error);
    }
    return err;
}

int probe_open(struct probe *p, struct probe_try *t, size_t cnt, unsigned tries_cnt)
{
    int err = 0;

    for (size_t i = 0; i < cnt; i++)
        t[i].hold_fd = -1;
    for (size_t i = 0; i < cnt && !err; i++)
        err = begin(p, &t[i]);
    for (unsigned n = 0; n < tries_cnt && !err; n++) {
        int wait_ms = n + 1 < tries_cnt ? AGAIN_MS << n : LAST_WAIT_MS;

        for (size_t i = 0; i < cnt && !err; i++)
            if (t[i].answer == PROBE_NONE)
                err = send_syn(p, &t[i]);
        if (!err)
            err = collect(p, t, cnt, clock_ms() + wait_ms);
    }
    return err;
}

void probe_end(struct probe *p, struct probe_try *t)
{
    if (t->answer == PROBE_SYNACK)
        (void)send_segment(p, t, PACKET_RST | PACKET_ACK, t->snd_nxt, NULL, 0, NULL, 0);
    if (t->hold_fd >= 0)
        close(t->hold_fd);
    t->hold_fd = -1;
    t->answer = PROBE_NONE;
}

/* --- Talking ---------------------------------------------------------------- */

/* New bytes in order. Return: their number, 0 with *ret_fin; -EAGAIN when there are none. */
static int take(struct probe_try *t, const struct segment *s, void *in, size_t in_cap,
                bool *ret_fin)
{
    uint32_t seen = t->rcv_nxt - s->seq; /* bytes that we have already */

    *ret_fin = false;
    if (seen > s->data_len)
        return -EAGAIN;
    size_t len = s->data_len - seen;
    if (len > in_cap)
        len = in_cap; /* it comes again */
    if (len > 0)
        memcpy(in, s->data + seen, len);
    t->rcv_nxt += (uint32_t)len;
    *ret_fin = len == 0 && (s->flags & PACKET_FIN) && t->rcv_nxt == s->seq + s->data_len;
    return len > 0 || *ret_fin ? (int)len : -EAGAIN;
}

static int on_talk(struct probe *p, struct probe_try *t, const struct segment *s, void *in,
                   size_t in_cap)
{
    bool is_fin;

    if (s->port != t->port || (s->flags & PACKET_SYN))
        return -EAGAIN;
    if (s->flags & PACKET_RST)
        return -ECONNRESET;
    if ((s->flags & PACKET_ACK) && s->ack == t->snd_nxt)
        t->snd_una = t->snd_nxt;
    int len = take(t, s, in, in_cap, &is_fin);
    if (len > 0)
        (void)send_segment(p, t, PACKET_ACK, t->snd_nxt, NULL, 0, NULL, 0);
    return len;
}

int probe_talk(struct probe *p, struct probe_try *t, const void *data, size_t data_len,
               const uint8_t *option, size_t option_len, void *in, size_t in_cap, int wait_ms)
{
    int64_t end = clock_ms() + wait_ms, again = 0;
    struct segment s;
    int result = -EAGAIN;

    t->snd_nxt = t->snd_una + (uint32_t)data_len;
    while (result == -EAGAIN && clock_ms() < end) {
        if (clock_ms() >= again && (data_len == 0 || t->snd_una != t->snd_nxt)) {
            int err = send_segment(p, t, PACKET_ACK | (data_len > 0 ? PACKET_PSH : 0), t->snd_una,
                                   option, option_len, data, data_len);
            if (err)
                return err;
            again = clock_ms() + AGAIN_MS;
        }
        int err = wait_for_packets(p, AGAIN_MS / 5);
        if (err)
            return err;
        while (result == -EAGAIN && receive(p, &s))
            result = on_talk(p, t, &s, in, in_cap);
    }
    return result == -EAGAIN ? -ETIMEDOUT : result;
}
