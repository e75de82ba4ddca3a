/* SPDX-License-Identifier: BSD-3-Clause
 * The one lwIP of this process: start, time, and segments without a leg.
 */
#include "tcp/stack.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

#include "tcp/isn.h"
#include "tcp/timewait.h"

struct stack stack;

static err_t on_accept(void *arg, struct tcp_pcb *pcb, err_t err)
{
    struct leg *leg = arg;

    if (!pcb || err != ERR_OK)
        return ERR_OK;
    leg->established = true;
    leg->events |= LEG_EV_ESTABLISHED;
    stack.cfg.ops->on_established(leg, stack.packet);
    stack.cfg.ops->on_event(leg);
    return ERR_OK;
}

int stack_init(const struct stack_config *cfg)
{
    stack = (struct stack){.cfg = *cfg};
    for (int side = 0; side < SIDE_CNT; side++) {
        stack.netif[side].num = (u8_t)side;
        stack.netif[side].flags = NETIF_FLAG_UP | NETIF_FLAG_LINK_UP;
        stack_set_mtu((enum side)side, cfg->mtu[side]);
        stack_set_gso_max_len((enum side)side, PACKET_MAX_LEN);
    }

    struct tcp_pcb *pcb = tcp_new_ip_type(IPADDR_TYPE_ANY);
    if (!pcb)
        return -ENOMEM;
    pcb->local_port = 1;  /* replaced for each SYN */
    tcp_bound_pcbs = pcb; /* where tcp_listen looks for it */
    pcb = tcp_listen(pcb);
    if (!pcb)
        return -ENOMEM;
    tcp_accept(pcb, on_accept);
    stack.listener = (struct tcp_pcb_listen *)pcb;
    tcp_listen_pcbs.listen_pcbs = NULL;
    return 0;
}

void stack_done(void)
{
    timewait_clear();
    isn_clear();
    memp_free(MEMP_TCP_PCB_LISTEN, stack.listener);
    stack.listener = NULL;
}

void stack_set_mtu(enum side side, uint16_t mtu)
{
    /* The MSS does not count options: with them a packet must still fit the length field. */
    mtu = LWIP_MIN(mtu, PACKET_MAX_LEN - LEG_OPTION_MAX_LEN);
    stack.netif[side].mtu = mtu;
    stack.netif[side].mtu6 = mtu;
}

void stack_set_gso_max_len(enum side side, size_t len)
{
    stack.gso_max_len[side] = len;
}

void stack_set_window_cap(size_t len)
{
    stack.window_cap = len;
}

void stack_set_busy(enum side side, bool busy)
{
    stack.busy[side] = busy;
    while (!busy && stack.ack_wait[side])
        leg_output(stack.ack_wait[side]); /* takes it off the list */
}

void stack_flush(void)
{
    output_flush(SIDE_INNER);
    output_flush(SIDE_OUTER);
}

void stack_writable(enum side side)
{
    struct leg *next;

    output_flush(side);
    for (struct leg *leg = stack.hot; leg && !output_is_blocked(side); leg = next) {
        next = leg->hot_next;
        if (leg->side == side)
            leg_output(leg);
    }
}

/* lwIP sees only the legs that have something to time. */
static void link_hot(void)
{
    struct tcp_pcb **link = &tcp_active_pcbs;

    for (struct leg *leg = stack.hot; leg; leg = leg->hot_next) {
        struct tcp_pcb *pcb = leg->pcb;
        /* tcp_split_unsent_seg() asserts that segments are no longer than they would be now. */
        if (pcb->persist_backoff > 0 && pcb->unsent)
            pcb->mss = LWIP_MAX(pcb->mss, pcb->unsent->len);
        *link = pcb;
        link = &pcb->next;
    }
    *link = NULL;
}

static void unlink_hot(void)
{
    while (tcp_active_pcbs) {
        struct tcp_pcb *pcb = tcp_active_pcbs;
        tcp_active_pcbs = pcb->next;
        pcb->next = NULL;
    }
}

void stack_tick(uint64_t now_ms)
{
    struct leg *next;

    stack.now_ms = now_ms;
    link_hot();
    /* What tcp_tmr() does, but for the flush: the slow timer frees pcbs that are given up,
     * and with them the payload of packets in the making. */
    tcp_fasttmr();
    stack_flush();
    if (++stack.ticks % 2)
        tcp_slowtmr();
    unlink_hot();
    for (struct leg *leg = stack.hot; leg; leg = next) {
        next = leg->hot_next;
        recovery_on_tick(leg);
        leg_update_hot(leg);
    }
    timewait_tick(now_ms);
}

bool stack_needs_tick(void)
{
    return stack.hot != NULL;
}

void stack_set_time(uint64_t now_ms)
{
    /* lwIP's clock stands still between ticks; with no leg hot nobody sees it jump. */
    if (!stack.hot && now_ms > stack.now_ms) {
        tcp_ticks += (u32_t)((now_ms - stack.now_ms) / TCP_SLOW_INTERVAL);
        stack.now_ms = now_ms;
        timewait_tick(now_ms);
    }
}

void stack_send_control(enum side side, const struct tuple *tuple, const struct packet *packet,
                        uint32_t seq, uint32_t ack, uint8_t flags, uint16_t window)
{
    bool inner = side == SIDE_INNER;
    const struct addr *src = inner ? &tuple->peer : &tuple->local;
    const struct addr *dst = inner ? &tuple->local : &tuple->peer;
    struct pbuf *p = pbuf_alloc(PBUF_RAW, TCP_HLEN, PBUF_RAM);

    if (!p)
        return;
    struct tcp_hdr *tcp = p->payload;
    memset(tcp, 0, sizeof(*tcp));
    tcp->src = htons(inner ? tuple->peer_port : tuple->local_port);
    tcp->dest = htons(inner ? tuple->local_port : tuple->peer_port);
    tcp->seqno = htonl(seq);
    tcp->ackno = htonl(ack);
    TCPH_HDRLEN_FLAGS_SET(tcp, TCP_HLEN / 4, flags);
    tcp->wnd = htons(window);
    stack.packet = packet;
    output_segment(side, NULL, src, dst, 0, p);
    stack.packet = NULL;
    output_flush(side);
    pbuf_free(p);
}

void stack_reset(enum side side, const struct packet *packet)
{
    bool inner = side == SIDE_INNER;
    struct tuple tuple = {
        .local = inner ? packet->src : packet->dst,
        .peer = inner ? packet->dst : packet->src,
        .local_port = inner ? packet->src_port : packet->dst_port,
        .peer_port = inner ? packet->dst_port : packet->src_port,
    };

    if (packet->flags & PACKET_RST)
        return;
    if (packet->flags & PACKET_ACK) {
        stack_send_control(side, &tuple, packet, packet->ack, 0, PACKET_RST, 0);
        return;
    }
    uint32_t seg_len = (uint32_t)packet->data_len;
    if (packet->flags & PACKET_SYN)
        seg_len++;
    if (packet->flags & PACKET_FIN)
        seg_len++;
    stack_send_control(side, &tuple, packet, 0, packet->seq + seg_len, PACKET_RST | PACKET_ACK, 0);
}

const struct stack_counters *stack_counters(void)
{
    return &stack.counters;
}
