/* SPDX-License-Identifier: BSD-3-Clause
 * One TCP leg over one lwIP pcb. See leg.h for how it works.
 */
#include "tcp/leg.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tcp/isn.h"
#include "tcp/sanitize.h"
#include "tcp/stack.h"
#include "tcp/timewait.h"

/* Path MTUs below these are lies or can't be helped (RFC 1191 3, RFC 8200 5). */
#define PATH_MTU_MIN_V4 552u
#define PATH_MTU_MIN_V6 1280u

/* Receive window: starts with about what a SYN can announce, doubles as it is used, up to the
 * side's limit. No network lies between us and the application: more would only wait in
 * the TUN's queue. */
#define RX_WINDOW_FIRST_LEN     (64u * 1024)
#define RX_WINDOW_INNER_MAX_LEN (1u * 1024 * 1024)
#define RX_WINDOW_OUTER_MAX_LEN (4u * 1024 * 1024)
/* An ACK waits for further input, while there is some, until it covers this much. Only
 * among super-segments of so many packets: where packets come one by one, and may get
 * lost, the other end needs ACKs to keep sending and to see the loss. */
#define BULK_PACKETS     8u
#define ACK_WAIT_MAX_LEN (256u * 1024)
/* A window update of its own is worth a segment from here on. */
#define WINDOW_UPDATE_LEN (128u * 1024)
/* With this much held in all queues together no window grows any more. */
#define RX_GROW_TOTAL_MAX_LEN (96u * 1024 * 1024)

/* Written but unacknowledged: what may be in flight, within these limits. More would be
 * sealed long before it can leave, and read from memory then instead of from a cache. */
#define TX_MIN_LEN (256u * 1024)
#define TX_MAX_LEN (6u * 1024 * 1024)

/* A super-segment is a whole number of wire packets below this. Without window scaling
 * a quarter of it, for lwIP announces no window update smaller than a segment. */
#define SEGMENT_MAX_LEN 65000u

#define MSS_MIN_LEN 88

/* Largest slice for tcp_write(), whose length is 16 bits. */
#define WRITE_MAX_LEN 65535u

struct leg_tx {
    struct buf *buf;
    size_t len;
};

/* The pbuf of a received packet lies in the head-room of its buffer. */
struct rx_pbuf {
    struct pbuf_custom custom;
    struct buf *buf;
};

static struct buf *pbuf_buf(const struct pbuf *p)
{
    return ((const struct rx_pbuf *)(const void *)p)->buf;
}

static void rx_pbuf_free(struct pbuf *p)
{
    buf_unref(pbuf_buf(p));
}

_Static_assert(sizeof(struct rx_pbuf) <= BUF_PACKET_HEADROOM_LEN, "the pbuf lies in the head-room");

static struct pbuf *rx_pbuf_new(struct buf *buf, uint8_t *bytes, size_t len)
{
    struct rx_pbuf *rx = (struct rx_pbuf *)(void *)buf->bytes;

    memset(rx, 0, sizeof(*rx));
    rx->custom.custom_free_function = rx_pbuf_free;
    rx->buf = buf;
    return pbuf_alloced_custom(PBUF_RAW, (u16_t)len, PBUF_REF, &rx->custom, bytes, (u16_t)len);
}

/* --- Ring of written buffers ------------------------------------------------- */

static bool tx_push(struct leg *leg, struct buf *buf, size_t len)
{
    if (leg->tx_cnt == leg->tx_cap) {
        uint32_t cap = leg->tx_cap ? leg->tx_cap * 2 : 4;
        struct leg_tx *tx = malloc(cap * sizeof(*tx));
        if (!tx)
            return false;
        for (uint32_t i = 0; i < leg->tx_cnt; i++)
            tx[i] = leg->tx[(leg->tx_head + i) % leg->tx_cap];
        free(leg->tx);
        leg->tx = tx;
        leg->tx_cap = cap;
        leg->tx_head = 0;
    }
    leg->tx[(leg->tx_head + leg->tx_cnt) % leg->tx_cap] = (struct leg_tx){buf_ref(buf), len};
    leg->tx_cnt++;
    leg->tx_len += len;
    return true;
}

static void tx_pop(struct leg *leg, size_t len)
{
    leg->tx_len -= len;
    while (len > 0) {
        struct leg_tx *tx = &leg->tx[leg->tx_head];
        if (len < tx->len) {
            tx->len -= len;
            return;
        }
        len -= tx->len;
        buf_unref(tx->buf);
        leg->tx_head = (leg->tx_head + 1) % leg->tx_cap;
        leg->tx_cnt--;
    }
    if (leg->tx_cnt == 0) { /* idle legs hold no memory for it */
        free(leg->tx);
        leg->tx = NULL;
        leg->tx_cap = leg->tx_head = 0;
    }
}

static void rx_clear(struct leg *leg)
{
    while (leg->rx_head) {
        struct pbuf *p = leg->rx_head;
        leg->rx_head = p->next;
        p->next = NULL;
        pbuf_free(p);
    }
    leg->rx_tail = NULL;
    leg->rx_len = 0;
    leg->rx_cnt = 0;
}

/* --- Timers ------------------------------------------------------------------ */

static bool is_quiet_state(enum tcp_state state)
{
    return state == ESTABLISHED || state == CLOSE_WAIT || state == FIN_WAIT_2;
}

static bool needs_timer(const struct tcp_pcb *pcb)
{
    if (pcb->state == SYN_SENT) /* its retransmissions are not lwIP's: leg_retransmit_syn() */
        return false;
    return pcb->unacked || pcb->unsent || pcb->ooseq ||
           (pcb->flags & (TF_ACK_DELAY | TF_ACK_NOW | TF_CLOSEPEND)) || !is_quiet_state(pcb->state);
}

static void set_hot(struct leg *leg, bool hot)
{
    bool is_hot = leg->hot_link != NULL;

    if (hot == is_hot)
        return;
    if (hot) {
        leg->hot_next = stack.hot;
        leg->hot_link = &stack.hot;
        if (stack.hot)
            stack.hot->hot_link = &leg->hot_next;
        stack.hot = leg;
    } else {
        *leg->hot_link = leg->hot_next;
        if (leg->hot_next)
            leg->hot_next->hot_link = leg->hot_link;
        leg->hot_next = NULL;
        leg->hot_link = NULL;
    }
}

static void set_ack_wait(struct leg *leg, bool wait)
{
    struct leg **head = &stack.ack_wait[leg->side];

    if (wait == (leg->ack_link != NULL))
        return;
    if (wait) {
        leg->ack_next = *head;
        leg->ack_link = head;
        if (*head)
            (*head)->ack_link = &leg->ack_next;
        *head = leg;
    } else {
        *leg->ack_link = leg->ack_next;
        if (leg->ack_next)
            leg->ack_next->ack_link = leg->ack_link;
        leg->ack_next = NULL;
        leg->ack_link = NULL;
    }
}

void leg_update_hot(struct leg *leg)
{
    set_hot(leg, leg->pcb && needs_timer(leg->pcb));
}

/* --- lwIP's callbacks: take note, do nothing ----------------------------------- */

static void note(struct leg *leg, unsigned event)
{
    leg->events |= event;
    stack.cfg.ops->on_event(leg);
}

/* lwIP has freed the pcb, and no longer refers to what was written. */
static void forget_pcb(struct leg *leg)
{
    set_hot(leg, false);
    set_ack_wait(leg, false);
    leg->holds_first_ack = false;
    leg->pcb = NULL;
    if (leg->tx_len > 0)
        tx_pop(leg, leg->tx_len);
}

static void on_err(void *arg, err_t err)
{
    struct leg *leg = arg;

    if (err == ERR_CLSD) /* the only one before the pcb is freed for which it matters */
        isn_note_end(leg->pcb);
    forget_pcb(leg);
    switch (err) {
    case ERR_CLSD:
        note(leg, LEG_EV_CLOSED);
        break;
    case ERR_RST:
        note(leg, LEG_EV_RESET);
        break;
    default:
        note(leg, LEG_EV_TIMEOUT);
        break;
    }
}

/* lwIP acknowledges a FIN at once. Mostly our own follows within a millisecond, and can say so. */
static void put_off_ack_of_fin(struct tcp_pcb *pcb)
{
    if (pcb->state != CLOSE_WAIT)
        return;
    tcp_clear_flags(pcb, TF_ACK_NOW);
    tcp_set_flags(pcb, TF_ACK_DELAY);
}

static err_t on_recv(void *arg, struct tcp_pcb *pcb, struct pbuf *p, err_t err)
{
    struct leg *leg = arg;

    if (!p) {
        put_off_ack_of_fin(pcb);
        note(leg, LEG_EV_FIN);
        return ERR_OK;
    }
    if (leg->rx_tail)
        leg->rx_tail->next = p; /* not pbuf_cat: tot_len is 16 bits */
    else
        leg->rx_head = p;
    for (; p; p = p->next) {
        leg->rx_len += p->len;
        leg->rx_cnt++;
        leg->rx_tail = p;
    }
    note(leg, LEG_EV_DATA);
    return ERR_OK;
}

static err_t on_sent(void *arg, struct tcp_pcb *pcb, u16_t len)
{
    struct leg *leg = arg;

    tx_pop(leg, len);
    note(leg, LEG_EV_SENT);
    return ERR_OK;
}

/* Replaces lwIP's full-size receive window; the SYN announced 16 bits of it. */
static void start_window(struct leg *leg)
{
    struct tcp_pcb *pcb = leg->pcb;

    leg->rx_window_len = pcb->flags & TF_WND_SCALE ? RX_WINDOW_FIRST_LEN : 65535;
    pcb->rcv_wnd = pcb->rcv_ann_wnd = (tcpwnd_size_t)leg->rx_window_len;
    pcb->rcv_ann_right_edge = pcb->rcv_nxt + 65535;
}

static err_t on_connected(void *arg, struct tcp_pcb *pcb, err_t err)
{
    struct leg *leg = arg;

    start_window(leg);
    pcb->rto = LWIP_TCP_RTO_TIME / TCP_SLOW_INTERVAL;
    pcb->rttest = 0; /* the SYN may have been sent several times */
    leg->established = true;
    leg->events |= LEG_EV_ESTABLISHED;
    stack.cfg.ops->on_established(leg, stack.packet);
    stack.cfg.ops->on_event(leg);
    return ERR_OK;
}

static void adopt(struct leg *leg, struct tcp_pcb *pcb)
{
    leg->pcb = pcb;
    tcp_arg(pcb, leg);
    tcp_recv(pcb, on_recv);
    tcp_sent(pcb, on_sent);
    tcp_err(pcb, on_err);
    tcp_nagle_disable(pcb); /* the application's own kernel does that */
}

/* --- Opening -------------------------------------------------------------------- */

int leg_connect(struct leg *leg, const struct tuple *tuple)
{
    struct tcp_pcb *pcb = tcp_new_ip_type(IPADDR_TYPE_ANY);
    bool inner = leg->side == SIDE_INNER;
    ip_addr_t remote;

    if (!pcb)
        return -ENOMEM;
    adopt(leg, pcb);
    addr_to_lwip(inner ? &tuple->peer : &tuple->local, &pcb->local_ip);
    addr_to_lwip(inner ? &tuple->local : &tuple->peer, &remote);
    pcb->local_port = inner ? tuple->peer_port : tuple->local_port;
    pcb->netif_idx = netif_get_index(&stack.netif[leg->side]);
    err_t err =
        tcp_connect(pcb, &remote, inner ? tuple->local_port : tuple->peer_port, on_connected);
    tcp_active_pcbs = NULL; /* where tcp_connect put it, alone */
    if (err != ERR_OK) {
        pcb->local_port = 0; /* it is on no list that tcp_abandon could take it from */
        tcp_err(pcb, NULL);
        tcp_abandon(pcb, 0);
        leg->pcb = NULL;
        return -ENOMEM;
    }
    pcb->next = NULL;
    leg_update_hot(leg);
    return 0;
}

void leg_hold_first_ack(struct leg *leg)
{
    leg->holds_first_ack = true;
}

void leg_let_first_ack(struct leg *leg)
{
    if (!leg->holds_first_ack || !leg->established)
        return;
    leg->holds_first_ack = false;
    tcp_ack_now(leg->pcb);
    leg_output(leg);
}

void leg_retransmit_syn(struct leg *leg)
{
    if (!leg_is_connecting(leg))
        return;
    if (leg->pcb->unacked)
        tcp_rexmit_rto(leg->pcb);
    else
        tcp_output(leg->pcb);
}

static void set_current_packet(enum side side, const struct packet *packet)
{
    struct netif *netif = &stack.netif[side];

    stack.packet = packet;
    ip_data.current_netif = netif;
    ip_data.current_input_netif = netif;
    ip_data.current_ip_header_tot_len = (u16_t)(packet->tcp - packet->ip);
    addr_to_lwip(&packet->src, &ip_data.current_iphdr_src);
    addr_to_lwip(&packet->dst, &ip_data.current_iphdr_dest);
    ip_data.current_ip4_header = NULL;
    ip_data.current_ip6_header = NULL;
    if (packet->v6)
        ip_data.current_ip6_header = (struct ip6_hdr *)(void *)packet->ip;
    else
        ip_data.current_ip4_header = (const struct ip_hdr *)(const void *)packet->ip;
}

static void feed(enum side side, struct buf *buf, const struct packet *packet)
{
    size_t len = packet->len - (size_t)(packet->tcp - packet->ip);

    output_flush(side); /* the segment may acknowledge what the batch refers to */
    set_current_packet(side, packet);
    tcp_input(rx_pbuf_new(buf, packet->tcp, len), &stack.netif[side]);
    stack.packet = NULL;
}

int leg_accept(struct leg *leg, struct buf *buf, const struct packet *packet)
{
    struct tcp_pcb_listen *listener = stack.listener;

    listener->local_port = packet->dst_port;
    listener->callback_arg = leg;
    listener->netif_idx = netif_get_index(&stack.netif[leg->side]);
    listener->next = NULL;
    tcp_listen_pcbs.listen_pcbs = listener;
    tcp_active_pcbs = NULL;
    sanitize_syn(packet);
    feed(leg->side, buf, packet);
    tcp_listen_pcbs.listen_pcbs = NULL;

    struct tcp_pcb *pcb = tcp_active_pcbs;
    tcp_active_pcbs = NULL;
    if (!pcb)
        return -ENOMEM;
    pcb->next = NULL;
    adopt(leg, pcb);
    start_window(leg);
    leg_update_hot(leg);
    return 0;
}

static void send_fin(struct leg *leg)
{
    struct tcp_seg *lost = recovery_hide_lost(leg);

    tcp_shutdown(leg->pcb, 0, 1);
    recovery_show_lost(leg, lost);
}

/* Fits the pcb to its side. After tcp_input(), because lwIP sets the congestion
 * window of an accepted pcb after the callback. */
static void on_handshake_done(struct leg *leg)
{
    struct tcp_pcb *pcb = leg->pcb;

    /* An absurdly small MSS would cost a segment's bookkeeping per byte. */
    pcb->mss = LWIP_MAX(pcb->mss, MSS_MIN_LEN);
    leg->wire_mss = pcb->mss;
    /* tcp_write() makes segments of at most half the largest window so far, and of any
     * length before it saw one; later it asserts that it never did. */
    if (pcb->snd_wnd_max < 2)
        pcb->snd_wnd_max = 2u * leg->wire_mss;
    if (leg->side == SIDE_INNER) {
        /* No network lies between: only the application's window limits us. */
        pcb->cwnd = TCP_SND_BUF;
        pcb->ssthresh = TCP_SND_BUF;
    } else {
        recovery_start(leg);
    }
    if (leg->fin_sent)
        send_fin(leg);
}

/* --- Input ---------------------------------------------------------------------- */

/* lwIP's list of TIME-WAIT pcbs becomes a record of ours at once. */
static void collect_timewait(struct leg *leg)
{
    struct tcp_pcb *pcb = tcp_tw_pcbs;
    bool inner = leg->side == SIDE_INNER;

    if (!pcb)
        return;
    tcp_tw_pcbs = NULL;
    struct addr here = addr_from_lwip(&pcb->local_ip), there = addr_from_lwip(&pcb->remote_ip);
    struct tuple tuple = {
        .local = inner ? there : here,
        .peer = inner ? here : there,
        .local_port = inner ? pcb->remote_port : pcb->local_port,
        .peer_port = inner ? pcb->local_port : pcb->remote_port,
    };
    timewait_add(leg->side, &tuple, pcb->snd_nxt, pcb->rcv_nxt,
                 (uint16_t)LWIP_MIN(pcb->rcv_ann_wnd >> pcb->rcv_scale, 0xffffu));
    isn_note_end(pcb);
    tcp_err(pcb, NULL);
    tcp_free(pcb);
    forget_pcb(leg);
    note(leg, LEG_EV_CLOSED);
}

/* RFC 9293 3.5, figure 8. lwIP has no way from SYN-SENT to SYN-RECEIVED: the pcb is
 * replaced by one that answers the crossing SYN, with the sequence number that ours bore. */
static void answer_crossing_syn(struct leg *leg, struct buf *buf, const struct packet *packet)
{
    stack.isn = leg->pcb->snd_nxt - 1;
    leg_drop(leg);
    stack.cfg.ops->on_crossing_syn(leg, packet);
    stack.isn_forced = true;
    if (leg_accept(leg, buf, packet) < 0)
        note(leg, LEG_EV_TIMEOUT);
    stack.isn_forced = false;
}

/* lwIP acknowledges every second segment at once, and we are fed super-segments by
 * the batch: the ACK is put off to leg_output(). Return: one was owed already. */
static bool put_off_ack(struct tcp_pcb *pcb)
{
    bool owed = pcb->flags & TF_ACK_DELAY;

    tcp_clear_flags(pcb, TF_ACK_DELAY);
    return owed;
}

/* The pointer names the byte behind the urgent one: as Linux, and RFC 6093, have it. */
static void note_urgent(struct leg *leg, const struct packet *packet)
{
    if (!(packet->flags & PACKET_URG) || packet->urgent == 0 || !leg->established)
        return;
    int32_t ahead = (int32_t)(packet->seq + packet->urgent - 1 - leg->pcb->rcv_nxt);
    if (ahead < 0)
        return; /* an old segment once more */
    uint64_t pos = leg->rx_consumed_len + leg->rx_len + (uint32_t)ahead;
    if (leg->rx_urgent_set && pos < leg->rx_urgent_pos)
        return; /* it only moves forward (RFC 9293 3.10.7.4) */
    leg->rx_urgent_set = true;
    leg->rx_urgent_pos = pos;
}

void leg_input(struct leg *leg, struct buf *buf, struct packet *packet)
{
    if (leg_is_connecting(leg) && packet_is_opening(packet)) {
        answer_crossing_syn(leg, buf, packet);
        return;
    }

    bool was_established = leg->established;
    bool ack_owed = put_off_ack(leg->pcb);
    uint32_t una_before = leg->pcb->lastack;
    uint32_t flight_before = leg->pcb->snd_nxt - una_before;

    sanitize_segment(leg->pcb, packet);
    recovery_before_input(leg, packet);
    note_urgent(leg, packet);
    tcp_active_pcbs = leg->pcb;
    feed(leg->side, buf, packet);
    tcp_active_pcbs = NULL;
    if (leg->pcb) /* an ACK that is due in TIME-WAIT still leaves here */
        collect_timewait(leg);
    if (!leg->pcb)
        return;
    /* All that a zero window held back was acknowledged, and lwIP asserts that it was not. */
    if (!leg->pcb->unsent)
        leg->pcb->persist_backoff = 0;
    if (leg->tx_urgent_set && (int32_t)(leg->pcb->lastack - leg->tx_urgent_end) >= 0)
        leg->tx_urgent_set = false; /* else it would be ahead again half a round later */
    if (leg->established && !was_established)
        on_handshake_done(leg);
    else if (was_established)
        recovery_after_input(leg, una_before, flight_before);
    if (ack_owed)
        tcp_set_flags(leg->pcb, TF_ACK_DELAY);
    if (ack_owed || packet->data_len >= 2u * leg->wire_mss)
        leg->ack_due = true;
    if (packet->data_len > 0)
        leg->rx_bulk = packet->data_len >= BULK_PACKETS * leg->wire_mss;
    leg_update_hot(leg);
}

/* --- Reading --------------------------------------------------------------------- */

size_t leg_peek(const struct leg *leg, struct leg_chunk *ret_chunks, size_t max_cnt, size_t max_len)
{
    size_t cnt = 0, len = 0;

    for (const struct pbuf *p = leg->rx_head; p && cnt < max_cnt && len < max_len; p = p->next) {
        if (p->len > 0)
            ret_chunks[cnt++] = (struct leg_chunk){pbuf_buf(p), p->payload, p->len};
        len += p->len;
    }
    return cnt;
}

static void open_window(struct leg *leg, size_t len)
{
    struct tcp_pcb *pcb = leg->pcb;
    uint32_t max = leg->side == SIDE_INNER ? RX_WINDOW_INNER_MAX_LEN : RX_WINDOW_OUTER_MAX_LEN;
    uint32_t grow = 0;

    if (pcb->flags & TF_WND_SCALE && leg->rx_window_len < max &&
        buf_total() < RX_GROW_TOTAL_MAX_LEN)
        grow = (uint32_t)LWIP_MIN(len, max - leg->rx_window_len);
    leg->rx_window_len += grow;
    if (stack.window_cap && leg->rx_window_len > stack.window_cap)
        leg->rx_window_len = (uint32_t)stack.window_cap;
    /* What is announced is not taken back (RFC 9293 3.8.6). */
    pcb->rcv_wnd = (tcpwnd_size_t)LWIP_MAX(pcb->rcv_wnd,
                                           LWIP_MIN(pcb->rcv_wnd + len + grow, leg->rx_window_len));
    tcp_recved(pcb, 0); /* works out what to announce */
}

void leg_consume(struct leg *leg, size_t len)
{
    size_t left = len;

    assert(len <= leg->rx_len);
    leg->rx_len -= len;
    leg->rx_consumed_len += len;
    while (left > 0 || (leg->rx_head && leg->rx_head->len == 0)) {
        struct pbuf *p = leg->rx_head;
        if (left < p->len) {
            p->payload = (uint8_t *)p->payload + left;
            p->len = (u16_t)(p->len - left);
            break;
        }
        left -= p->len;
        leg->rx_head = p->next;
        if (!leg->rx_head)
            leg->rx_tail = NULL;
        p->next = NULL;
        pbuf_free(p);
        leg->rx_cnt--;
    }
    if (leg->pcb && leg->established)
        open_window(leg, len);
}

size_t leg_held(const struct leg *leg)
{
    return leg->rx_len + leg->tx_len + (leg->rx_cnt + leg->tx_cnt) * BUF_COST;
}

/* --- Writing --------------------------------------------------------------------- */

size_t leg_window(const struct leg *leg)
{
    if (!leg->pcb)
        return 0;
    return LWIP_MIN(leg->pcb->cwnd, leg->pcb->snd_wnd);
}

size_t leg_bytes_in(const struct leg *leg, uint32_t us)
{
    size_t window = leg_window(leg);

    if (leg->recovery.cwnd == 0)
        return window;
    return (size_t)LWIP_MIN(leg->recovery.speed * us / 1000000, window);
}

size_t leg_room(const struct leg *leg)
{
    struct tcp_pcb *pcb = leg->pcb;

    if (!pcb || !leg->established || leg->fin_sent)
        return 0;
    size_t limit = LWIP_MAX(leg_window(leg), TX_MIN_LEN);
    limit = LWIP_MIN(limit, TX_MAX_LEN);
    if (leg->tx_len >= limit)
        return 0;
    /* Each segment takes two pbufs, and one more where buffers meet. */
    size_t pbufs =
        pcb->snd_queuelen < TCP_SND_QUEUELEN - 64 ? TCP_SND_QUEUELEN - 64u - pcb->snd_queuelen : 0;
    size_t segment = LWIP_MIN(pcb->mss, LWIP_MAX(pcb->snd_wnd_max / 2, 1)); /* as tcp_write() */
    return LWIP_MIN(limit - leg->tx_len, pbufs / 3 * LWIP_MIN(segment, 1000u));
}

/* A segment of several wire packets costs lwIP as much as one of one packet. It is lost
 * as a whole too, so it stays a small part of what is in flight, and of one packet where
 * packets were lost lately. */
static uint16_t segment_len(const struct leg *leg)
{
    const struct tcp_pcb *pcb = leg->pcb;
    uint32_t limit = pcb->flags & TF_WND_SCALE ? SEGMENT_MAX_LEN : SEGMENT_MAX_LEN / 4;
    uint32_t len = leg->side == SIDE_INNER ? limit : LWIP_MIN(recovery_segment_len(leg), limit);

    return (uint16_t)(LWIP_MAX(len / leg->wire_mss, 1) * leg->wire_mss);
}

static err_t write_all(struct tcp_pcb *pcb, const uint8_t *data, size_t len)
{
    err_t err = ERR_OK;

    while (len > 0 && err == ERR_OK) {
        size_t n = LWIP_MIN(len, WRITE_MAX_LEN);
        err = tcp_write(pcb, data, (u16_t)n, 0);
        data += n;
        len -= n;
    }
    return err;
}

/* tcp_write() fills up the last unsent segment. It must not see one that was lost in the
 * middle of the stream, and asserts that it is no longer than segments are now. */
static err_t write_behind(struct leg *leg, const uint8_t *data, size_t len)
{
    struct tcp_pcb *pcb = leg->pcb;
    struct tcp_seg *hidden = recovery_hide_lost(leg), *tail = pcb->unsent;

    while (tail && tail->next)
        tail = tail->next;
    if (tail && tail->len > pcb->mss) {
        if (pcb->unacked) {
            hidden = pcb->unsent;
            pcb->unsent = NULL;
        } else { /* it would miss the queue that its count speaks of */
            pcb->mss = tail->len;
        }
    }
    err_t err = write_all(pcb, data, len);
    recovery_show_lost(leg, hidden);
    return err;
}

int leg_write(struct leg *leg, struct buf *buf, const uint8_t *data, size_t len)
{
    if (!leg->pcb)
        return -EPIPE;
    if (!tx_push(leg, buf, len))
        return -ENOMEM;
    leg->pcb->mss = segment_len(leg);
    if (write_behind(leg, data, len) != ERR_OK)
        return -ENOMEM;
    leg_update_hot(leg);
    return 0;
}

bool leg_has_urgent(const struct leg *leg, uint32_t *ret_off)
{
    if (!leg->rx_urgent_set || leg->rx_urgent_pos < leg->rx_consumed_len)
        return false;
    *ret_off = (uint32_t)(leg->rx_urgent_pos - leg->rx_consumed_len);
    return true;
}

void leg_set_urgent(struct leg *leg, uint32_t off)
{
    if (!leg->pcb)
        return;
    leg->tx_urgent_set = true;
    leg->tx_urgent_end = leg->pcb->snd_lbb + off + 1;
}

/* The other end may believe that the window is much smaller than it is. */
static bool window_update_is_due(const struct leg *leg)
{
    const struct tcp_pcb *pcb = leg->pcb;
    uint32_t unannounced = pcb->rcv_nxt + pcb->rcv_wnd - pcb->rcv_ann_right_edge;

    return leg->established && (int32_t)unannounced > 0 &&
           unannounced >= LWIP_MIN(leg->rx_window_len / 4, WINDOW_UPDATE_LEN);
}

void leg_output(struct leg *leg)
{
    if (!leg->pcb)
        return;
    bool due = (leg->ack_due && leg->pcb->flags & TF_ACK_DELAY) || window_update_is_due(leg);
    bool wait = due && leg->rx_bulk && stack.busy[leg->side] &&
                leg->pcb->rcv_nxt - leg->acked_seq < ACK_WAIT_MAX_LEN;
    set_ack_wait(leg, wait);
    if (due && !wait) {
        tcp_ack_now(leg->pcb);
        leg->ack_due = false;
    }
    recovery_on_output(leg);
    tcp_output(leg->pcb);
    leg_update_hot(leg);
}

void leg_shutdown(struct leg *leg)
{
    if (!leg->pcb || leg->fin_sent)
        return;
    leg->fin_sent = true;
    if (leg->established) /* lwIP would never call a pcb accepted that was closed before */
        send_fin(leg);
    leg_update_hot(leg);
}

/* --- Ending ---------------------------------------------------------------------- */

static void end_pcb(struct leg *leg, bool reset)
{
    struct tcp_pcb *pcb = leg->pcb;

    rx_clear(leg);
    if (!pcb)
        return;
    output_flush(leg->side);
    tcp_err(pcb, NULL);
    tcp_abandon(pcb, reset && pcb->state != SYN_SENT); /* nothing to reset before a SYN-ACK */
    stack_flush();
    forget_pcb(leg);
}

void leg_abort(struct leg *leg)
{
    end_pcb(leg, true);
}

void leg_drop(struct leg *leg)
{
    end_pcb(leg, false);
}

/* --- Questions ------------------------------------------------------------------- */

void leg_set_path_mtu(struct leg *leg, uint32_t mtu)
{
    struct tcp_pcb *pcb = leg->pcb;

    if (!pcb || !leg->established)
        return;
    bool v4 = pcb->remote_ip.type == IPADDR_TYPE_V4;
    mtu = LWIP_MAX(mtu, v4 ? PATH_MTU_MIN_V4 : PATH_MTU_MIN_V6);
    uint32_t mss = mtu - (v4 ? 40 : 60);
    if (mss >= leg->wire_mss)
        return;
    /* Segments that are queued already are cut on their way out. */
    leg->wire_mss = (uint16_t)mss;
    if (pcb->unacked)
        tcp_rexmit_rto(pcb);
    recovery_sort(leg);
    leg_update_hot(leg);
}

bool leg_owns_seq(const struct leg *leg, uint32_t seq)
{
    const struct tcp_pcb *pcb = leg->pcb;

    if (!pcb)
        return false;
    uint32_t una = pcb->state == SYN_SENT ? pcb->snd_nxt - 1 : pcb->lastack;
    return (int32_t)(seq - una) >= 0 && (int32_t)(seq - pcb->snd_nxt) < 0;
}

void leg_probe(struct leg *leg)
{
    if (leg->established)
        (void)tcp_keepalive(leg->pcb); /* without memory: the next one */
}

bool leg_is_probed(const struct leg *leg, const struct packet *packet)
{
    return leg->established && packet->data_len <= 1 && packet->seq == leg->pcb->rcv_nxt - 1 &&
           (packet->flags & (PACKET_SYN | PACKET_FIN | PACKET_RST | PACKET_ACK)) == PACKET_ACK;
}

bool leg_is_connecting(const struct leg *leg)
{
    return leg->pcb && leg->pcb->state == SYN_SENT;
}

bool leg_is_syn_again(const struct leg *leg, const struct packet *packet)
{
    return leg->pcb && leg->pcb->state == SYN_RCVD && packet_is_opening(packet) &&
           packet->seq == leg->pcb->rcv_nxt - 1;
}
