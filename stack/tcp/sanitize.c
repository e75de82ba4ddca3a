/* SPDX-License-Identifier: BSD-3-Clause
 * What lwIP must not be shown. Each function says which of its habits it is for.
 */
#include "tcp/sanitize.h"

#include <string.h>

#include "tcp/stack.h"

/* MSS, window scale and SACK-permitted are agreed with the first SYN (RFC 9293 3.2, RFC
 * 7323 2.2). lwIP takes them from any segment, and asserts that what is queued is no
 * larger than the MSS. And it looks for the length of a lone last byte behind the area. */
static void tidy_options(const struct packet *packet, bool agrees)
{
    uint8_t *opt = packet->tcp + TCP_HLEN, *end = opt + packet->options_len;

    while (opt < end && *opt != LWIP_TCP_OPT_EOL) {
        if (*opt == LWIP_TCP_OPT_NOP) {
            opt++;
            continue;
        }
        if (end - opt == 1) {
            *opt = LWIP_TCP_OPT_EOL;
            return;
        }
        uint8_t kind = opt[0], len = opt[1];
        if (len < 2 || len > end - opt)
            return;
        if (!agrees &&
            (kind == LWIP_TCP_OPT_MSS || kind == LWIP_TCP_OPT_WS || kind == LWIP_TCP_OPT_SACK_PERM))
            memset(opt, LWIP_TCP_OPT_NOP, len);
        opt += len;
    }
}

/* Is it the answer to our SYN? */
static bool answers_syn(const struct tcp_pcb *pcb, const struct packet *packet)
{
    return pcb->state == SYN_SENT && packet->ack == pcb->lastack + 1 &&
           (packet->flags & (PACKET_SYN | PACKET_ACK)) == (PACKET_SYN | PACKET_ACK);
}

/* Data beyond this is cut off: the edge of the window, or a FIN that waits out of order. */
static uint32_t data_limit(const struct tcp_pcb *pcb)
{
    const struct tcp_seg *last = pcb->ooseq;

    while (last && last->next)
        last = last->next;
    if (last && TCPH_FLAGS(last->tcphdr) & TCP_FIN)
        return last->tcphdr->seqno + last->len;
    return pcb->rcv_nxt + pcb->rcv_wnd;
}

/* The SYN-ACK of a crossing open acknowledges our SYN; lwIP sees only the SYN in it,
 * which it has seen already. */
static void hide_known_syn(const struct tcp_pcb *pcb, struct packet *packet)
{
    const uint8_t syn_ack = PACKET_SYN | PACKET_ACK;

    if (pcb->state != SYN_RCVD || (packet->flags & syn_ack) != syn_ack ||
        packet->seq != pcb->rcv_nxt - 1)
        return;
    uint32_t seq = lwip_htonl(++packet->seq);
    memcpy(packet->tcp + 4, &seq, 4);
    packet->flags &= (uint8_t)~PACKET_SYN;
    packet->tcp[13] &= (uint8_t)~PACKET_SYN;
}

/* What lies beyond the window is cut off here: lwIP forgets to for the first segment
 * that it keeps out of order, forgets the FIN's own number, and asserts later that it
 * did not. */
static void trim_to_window(const struct tcp_pcb *pcb, struct packet *packet)
{
    uint32_t edge = pcb->rcv_nxt + pcb->rcv_wnd;
    int64_t beyond;

    if (pcb->state < SYN_RCVD)
        return;
    beyond = (int32_t)(packet->seq - data_limit(pcb)) + (int64_t)packet->data_len;
    if (beyond > 0) {
        size_t cut = (size_t)LWIP_MIN(beyond, (int64_t)packet->data_len);
        packet->data_len -= cut;
        packet->len -= cut;
    }
    if (beyond > 0 || (int32_t)(packet->seq + packet->data_len - edge) >= 0) {
        packet->flags &= (uint8_t)~PACKET_FIN;
        packet->tcp[13] &= (uint8_t)~PACKET_FIN;
    }
}

void sanitize_syn(const struct packet *packet)
{
    tidy_options(packet, true);
}

void sanitize_segment(const struct tcp_pcb *pcb, struct packet *packet)
{
    hide_known_syn(pcb, packet);
    trim_to_window(pcb, packet);
    tidy_options(packet, answers_syn(pcb, packet));
}
