/* SPDX-License-Identifier: BSD-3-Clause
 * The way out of lwIP: option slot, coalescing, new headers.
 *
 * How it works: lwIP hands over one segment at a time. Segments of one leg that
 * follow each other without a gap are collected into one batch per side; the
 * kernel cuts it into wire packets (GSO), so a segment may also be larger than
 * a packet. Payload is referred to, not copied: it stays valid until lwIP sees
 * the next acknowledgement, so a batch is flushed before the next tcp_input()
 * of its side and before a leg is aborted.
 *
 * When a device takes no more, its batch stays here ("blocked") with a copy of
 * the payload; lwIP is told ERR_WOULDBLOCK, and leaves further segments on its
 * unsent queue.
 */
#include <arpa/inet.h>
#include <assert.h>
#include <string.h>

#include "tcp/stack.h"

#include "base/wire.h"

#define IOV_MAX_CNT  STACK_TX_IOV_MAX_CNT
#define HEADROOM_LEN 32 /* link-layer and virtio-net headers of the device */
#define IP4_LEN      20
#define IP6_LEN      40
#define TCP_LEN      20
#define TCPOPT_NOP   1
/* Zero-window probes carry their byte beside the header, and are freed as soon as
 * output_segment() returns. So do the parts of a segment split for a small window,
 * which stay. */
#define INLINE_MAX_LEN 64

struct batch {
    bool pending; /* there is a packet */
    bool blocked; /* and the device did not take it */
    struct leg *leg;
    int via;
    struct addr dst;
    bool v6;
    uint32_t next_seq;
    size_t ip_len, hdr_len, data_len, iov_cnt;
    uint16_t mss;
    uint8_t hdr[HEADROOM_LEN + IP6_LEN + PACKET_TCP_HDR_MAX_LEN];
    uint8_t inlined[INLINE_MAX_LEN];
    struct iovec iov[IOV_MAX_CNT];
};

_Static_assert(HEADROOM_LEN >= 14 + 12, "Ethernet and virtio-net headers must fit");

static struct batch batches[SIDE_CNT];
static uint8_t parked[SIDE_CNT][STACK_GSO_MAX_LEN];

static uint8_t *batch_tcp(struct batch *b)
{
    return b->hdr + HEADROOM_LEN + b->ip_len;
}

/* See stack_set_gso_max_len(). */
static size_t ip_len_field(size_t len)
{
    return len <= UINT16_MAX ? len : 0;
}

static void finish_ip_header(struct batch *b)
{
    static uint16_t next_id;
    uint8_t *ip = b->hdr + HEADROOM_LEN;

    if (b->v6) {
        put_be16(ip + 4, ip_len_field(b->hdr_len - IP6_LEN + b->data_len));
        return;
    }
    put_be16(ip + 2, ip_len_field(b->hdr_len + b->data_len));
    put_be16(ip + 4, next_id);
    next_id = (uint16_t)(next_id + 1 + b->data_len / (b->mss ? b->mss : 1));
    memset(ip + 10, 0, 2);
    uint16_t sum = (uint16_t)~packet_sum_fold(packet_sum(ip, IP4_LEN, 0));
    memcpy(ip + 10, &sum, 2);
}

/* Copies the payload together: the batch then owns its bytes, in one piece. */
static void flatten(struct batch *b)
{
    uint8_t *out = parked[b - batches];
    size_t len = 0;

    for (size_t i = 0; i < b->iov_cnt; i++) {
        memmove(out + len, b->iov[i].iov_base, b->iov[i].iov_len); /* may have been here before */
        len += b->iov[i].iov_len;
    }
    b->iov[0] = (struct iovec){out, len};
    b->iov_cnt = len > 0;
}

static void note_long(struct batch *b)
{
    if (b->hdr_len + b->data_len <= PACKET_MAX_LEN)
        return;
    stack.counters.long_packets++;
    b->leg->tx_long_set = true;
    b->leg->tx_long_end = b->next_seq;
}

void output_flush(enum side side)
{
    struct batch *b = &batches[side];

    if (!b->pending)
        return;
    if (!b->blocked) {
        finish_ip_header(b);
        note_long(b);
    }

    struct stack_tx tx = {
        .side = side,
        .via = b->via,
        .dst = b->dst,
        .v6 = b->v6,
        .hdr = b->hdr + HEADROOM_LEN,
        .hdr_len = b->hdr_len,
        .ip_len = b->ip_len,
        .iov = b->iov,
        .iov_cnt = b->iov_cnt,
        .data_len = b->data_len,
        .gso_size = b->data_len > b->mss ? b->mss : 0,
    };
    if (stack.cfg.ops->output(&tx)) {
        b->pending = b->blocked = false;
    } else if (!b->blocked) {
        flatten(b); /* input may free what it refers to */
        b->blocked = true;
    }
}

bool output_is_blocked(enum side side)
{
    return batches[side].blocked;
}

static void start_ip_header(struct batch *b, const struct addr *src, const struct addr *dst,
                            uint8_t tos)
{
    uint8_t *ip = b->hdr + HEADROOM_LEN;

    b->v6 = !addr_is_v4(src);
    b->ip_len = b->v6 ? IP6_LEN : IP4_LEN;
    memset(ip, 0, b->ip_len);
    if (b->v6) {
        ip[0] = (uint8_t)(0x60 | tos >> 4);
        ip[1] = (uint8_t)(tos << 4);
        ip[6] = IPPROTO_TCP;
        ip[7] = TCP_TTL;
        memcpy(ip + 8, &src->in6, 16);
        memcpy(ip + 24, &dst->in6, 16);
    } else {
        ip[0] = 0x45;
        ip[1] = tos;
        ip[6] = 0x40; /* don't fragment: the path MTU is ours to discover */
        ip[8] = TCP_TTL;
        ip[9] = IPPROTO_TCP;
        memcpy(ip + 12, &src->in6.s6_addr[12], 4);
        memcpy(ip + 16, &dst->in6.s6_addr[12], 4);
    }
}

/* The TCP header as lwIP made it, plus the leg's option slot. */
static size_t put_tcp_header(uint8_t *out, const uint8_t *tcp, size_t tcp_len,
                             const struct leg *leg)
{
    memcpy(out, tcp, tcp_len);
    if (!leg)
        return tcp_len;

    const struct leg_option *opt = tcp[13] & PACKET_SYN ? &leg->syn_option : &leg->ack_option;
    size_t padded = (opt->len + 3u) & ~3u;
    if (opt->len == 0 || tcp_len + padded > PACKET_TCP_HDR_MAX_LEN)
        return tcp_len;
    memset(out + tcp_len, TCPOPT_NOP, padded - opt->len);
    memcpy(out + tcp_len + padded - opt->len, opt->bytes, opt->len);
    tcp_len += padded;
    out[12] = (uint8_t)(tcp_len / 4 << 4);
    return tcp_len;
}

/* What a wire packet may carry behind a header of this length: the MSS does not
 * count options (RFC 6691 2), so they come off it. */
static uint16_t data_per_packet(const struct leg *leg, const struct batch *b)
{
    size_t options_len = b->hdr_len - b->ip_len - TCP_LEN;

    if (!leg || leg->wire_mss <= options_len + 1)
        return 0xffff;
    return (uint16_t)(leg->wire_mss - options_len);
}

/* Adds max_len bytes of p, after the first skip ones. */
static void add_payload(struct batch *b, const struct pbuf *p, size_t skip, size_t max_len)
{
    for (const struct pbuf *q = p; q && max_len > 0; skip -= LWIP_MIN(skip, q->len), q = q->next) {
        if (q->len <= skip)
            continue;
        uint8_t *data = (uint8_t *)q->payload + skip;
        size_t len = LWIP_MIN(q->len - skip, max_len);
        max_len -= len;
        if (b->iov_cnt == IOV_MAX_CNT) /* many small writes in one segment */
            flatten(b);
        if (q == p && len <= INLINE_MAX_LEN) {
            memcpy(b->inlined, data, len);
            data = b->inlined;
        }
        struct iovec *last = b->iov_cnt ? &b->iov[b->iov_cnt - 1] : NULL;
        if (last && (uint8_t *)last->iov_base + last->iov_len == data)
            last->iov_len += len;
        else
            b->iov[b->iov_cnt++] = (struct iovec){data, len};
        b->data_len += len;
    }
}

static size_t pbuf_cnt(const struct pbuf *p)
{
    size_t n = 0;

    for (; p; p = p->next)
        n++;
    return n;
}

/* Does what begins at seq come before the end of our urgent data? */
static bool is_urgent(const struct leg *leg, uint32_t seq)
{
    return leg && leg->tx_urgent_set && (int32_t)(leg->tx_urgent_end - seq) > 0;
}

/* Can the segment ride on the batch? Then all but PSH and FIN is the same. */
static bool extends_batch(const struct batch *b, const struct leg *leg, const uint8_t *tcp,
                          size_t tcp_len, const struct pbuf *p)
{
    const uint8_t *have = b->hdr + HEADROOM_LEN + b->ip_len;
    size_t data_len = p->tot_len - tcp_len;
    uint32_t seq;

    memcpy(&seq, tcp + 4, 4);
    return b->pending && !b->blocked && leg && b->leg == leg && data_len > 0 && b->data_len > 0 &&
           ntohl(seq) == b->next_seq && tcp_len == TCP_LEN && b->hdr_len - b->ip_len == TCP_LEN &&
           (have[13] & ~PACKET_PSH) == PACKET_ACK &&
           (tcp[13] & ~(PACKET_PSH | PACKET_FIN)) == PACKET_ACK && leg->ack_option.len == 0 &&
           !is_urgent(leg, ntohl(seq)) && p->len == tcp_len /* one batch inlines once */ &&
           b->hdr_len + b->data_len + data_len <= stack.gso_max_len[leg->side] &&
           b->iov_cnt + pbuf_cnt(p) <= IOV_MAX_CNT;
}

static void start_batch(struct batch *b, struct leg *leg, const struct addr *src,
                        const struct addr *dst, uint8_t tos, const uint8_t *tcp, size_t tcp_len)
{
    start_ip_header(b, src, dst, tos);
    b->leg = leg;
    b->via = leg ? leg->via : stack.packet ? stack.packet->via : 0;
    b->dst = *dst;
    b->data_len = 0;
    b->iov_cnt = 0;
    b->hdr_len = b->ip_len + put_tcp_header(batch_tcp(b), tcp, tcp_len, leg);
    b->mss = data_per_packet(leg, b);
    b->pending = true;
}

/* GSO would repeat the urgent pointer in every packet, where it counts from another
 * sequence number: packets with URG go out one by one. */
static void split_urgent(enum side side, const struct pbuf *p, size_t tcp_len)
{
    struct batch *b = &batches[side];
    uint8_t *out = batch_tcp(b);
    size_t data_len = p->tot_len - tcp_len;
    uint8_t last_flags = out[13];
    uint32_t first_seq;

    memcpy(&first_seq, out + 4, 4);
    first_seq = ntohl(first_seq);
    for (size_t off = 0; off < data_len && !b->blocked; off += b->mss) {
        size_t len = LWIP_MIN(data_len - off, b->mss);
        uint32_t seq = first_seq + (uint32_t)off, seq_be = htonl(seq);
        bool last = off + len == data_len;

        b->data_len = 0;
        b->iov_cnt = 0;
        b->pending = true;
        memcpy(out + 4, &seq_be, 4);
        out[13] = last ? last_flags : PACKET_ACK;
        put_be16(out + 18, 0);
        if (is_urgent(b->leg, seq)) {
            out[13] |= PACKET_URG;
            put_be16(out + 18, LWIP_MIN(b->leg->tx_urgent_end - seq, 0xffffu));
        }
        add_payload(b, p, tcp_len + off, len);
        output_flush(side);
    }
}

/* tcp_split_unsent_seg() leaves the FIN on the first part, too: there it would end the
 * stream too early. */
static void drop_early_fin(const struct leg *leg, struct pbuf *p)
{
    const struct tcp_seg *seg = leg && leg->pcb ? leg->pcb->unsent : NULL;
    uint8_t *tcp = p->payload;

    if (seg && seg->p == p && seg->next &&
        TCP_SEQ_GT(ntohl(seg->next->tcphdr->seqno), ntohl(seg->tcphdr->seqno)))
        tcp[13] &= (uint8_t)~PACKET_FIN;
}

/* Was its first byte sent before? */
static bool is_retransmit(const struct leg *leg, const uint8_t *tcp, size_t data_len, uint32_t seq)
{
    bool takes_numbers = data_len > 0 || tcp[13] & (PACKET_SYN | PACKET_FIN);

    return takes_numbers && leg && leg->pcb && TCP_SEQ_LT(seq, leg->pcb->snd_nxt);
}

/* Or long ago in one so far behind that the comparison no longer holds: no matter. */
static bool was_in_long_packet(const struct leg *leg, uint32_t seq)
{
    return leg->tx_long_set && TCP_SEQ_LT(seq, leg->tx_long_end);
}

static void count_if_again(bool again, enum side side, const struct leg *leg, uint32_t seq)
{
    if (!again)
        return;
    stack.counters.retransmits[side]++;
    stack.counters.long_retransmits += was_in_long_packet(leg, seq);
}

/* lwIP believes that it has acknowledged; what comes later bears the number as well. */
static bool is_held_back(struct leg *leg, const uint8_t *tcp, size_t data_len)
{
    if (!leg || !leg->holds_first_ack || !leg->established)
        return false;
    leg->holds_first_ack = tcp[13] == PACKET_ACK && data_len == 0;
    return leg->holds_first_ack;
}

err_t output_segment(enum side side, struct leg *leg, const struct addr *src,
                     const struct addr *dst, uint8_t tos, struct pbuf *p)
{
    struct batch *b = &batches[side];
    const uint8_t *tcp = p->payload;
    size_t tcp_len = (size_t)(tcp[12] >> 4) * 4;
    uint32_t seq;

    if (is_held_back(leg, tcp, p->tot_len - tcp_len))
        return ERR_OK;
    drop_early_fin(leg, p);
    memcpy(&seq, tcp + 4, 4);
    seq = ntohl(seq);
    if (leg) {
        memcpy(&leg->acked_seq, tcp + 8, 4);
        leg->acked_seq = ntohl(leg->acked_seq);
    }
    bool again = is_retransmit(leg, tcp, p->tot_len - tcp_len, seq);
    if (extends_batch(b, leg, tcp, tcp_len, p)) {
        uint8_t *have = batch_tcp(b);
        memcpy(have + 8, tcp + 8, 4); /* newest acknowledgement and window */
        memcpy(have + 14, tcp + 14, 2);
        have[13] |= tcp[13];
        count_if_again(again, side, leg, seq);
    } else {
        output_flush(side);
        if (b->blocked)
            return ERR_WOULDBLOCK;
        start_batch(b, leg, src, dst, tos, tcp, tcp_len);
        count_if_again(again, side, leg, seq);
        if (is_urgent(leg, seq) && p->tot_len > tcp_len) {
            split_urgent(side, p, tcp_len);
            return ERR_OK;
        }
    }
    add_payload(b, p, tcp_len, p->tot_len - tcp_len);
    b->next_seq = seq + (uint32_t)(p->tot_len - tcp_len);
    if (tcp[13] & (PACKET_FIN | PACKET_SYN | PACKET_RST))
        output_flush(side);
    return ERR_OK;
}
