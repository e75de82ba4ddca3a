/* SPDX-License-Identifier: BSD-3-Clause
 * SACK scoreboard on lwIP's queues, and CUBIC. See recovery.h for how it works.
 */
#include "tcp/recovery.h"

#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "base/wire.h"
#include "tcp/stack.h"

#define INITIAL_WINDOW_SEGMENTS 10u /* RFC 6928 */
#define DUP_THRESH              3u  /* RFC 6675 2 */
#define CWND_MAX_LEN            (6u * 1024 * 1024)

/* Segments are at most this part of the window, and a smaller one for so long after a loss. */
#define SEGMENTS_PER_WINDOW       16u
#define SEGMENTS_PER_LOSSY_WINDOW 64u
#define LOSSLESS_US               5000000u

#define BLACK_HOLE_TIMEOUTS 3
#define LEAST_MSS_V4        512  /* RFC 1191 3: 576 less headers, with room for a tunnel's */
#define LEAST_MSS_V6        1220 /* RFC 8200 5: 1280 less headers */

#define CUBIC_BETA 0.7 /* RFC 9438 4.6 */
#define CUBIC_C    0.4 /* RFC 9438 5.1, segments per second cubed */

#define TCPOPT_EOL  0
#define TCPOPT_NOP  1
#define TCPOPT_SACK 5

/* lwIP uses the lower bits of tcp_seg.flags for options. */
#define SEG_SACKED 0x40u
#define SEG_RESENT 0x80u
_Static_assert(((TF_SEG_OPTS_MSS | TF_SEG_OPTS_TS | TF_SEG_DATA_CHECKSUMMED |
                 TF_SEG_OPTS_WND_SCALE | TF_SEG_OPTS_SACK_PERM) &
                (SEG_SACKED | SEG_RESENT)) == 0,
               "our marks must not collide with lwIP's");

static bool seq_before(uint32_t a, uint32_t b)
{
    return (int32_t)(a - b) < 0;
}

static uint32_t seg_seq(const struct tcp_seg *seg)
{
    return lwip_ntohl(seg->tcphdr->seqno);
}

/* --- CUBIC ---------------------------------------------------------------------- */

static void start_epoch(struct recovery *r, uint32_t mss, uint64_t now)
{
    r->epoch_us = now;
    r->w_est = r->cwnd;
    if (r->cwnd < r->w_max) {
        r->k_s = cbrt((double)(r->w_max - r->cwnd) / mss / CUBIC_C);
        r->origin = r->w_max;
    } else {
        r->k_s = 0;
        r->origin = r->cwnd;
    }
}

/* RFC 9438 4.2 to 4.5 */
static void grow_cubic(struct recovery *r, uint32_t mss, uint32_t acked)
{
    uint64_t now = clock_us();

    if (!r->epoch_us)
        start_epoch(r, mss, now);
    double t = (double)(now - r->epoch_us + r->srtt_us) / 1e6 - r->k_s;
    double target = r->origin + CUBIC_C * t * t * t * mss;
    double cwnd = r->cwnd;

    target = fmin(fmax(target, cwnd), 1.5 * cwnd);
    r->w_est += 3 * (1 - CUBIC_BETA) / (1 + CUBIC_BETA) * mss * acked / cwnd;
    cwnd += (target - cwnd) * fmin(acked / cwnd, 1);
    r->cwnd = (uint32_t)fmax(cwnd, fmin(r->w_est, CWND_MAX_LEN));
}

static void grow(struct leg *leg, uint32_t acked, uint32_t flight_before)
{
    struct recovery *r = &leg->recovery;

    if (flight_before < r->cwnd / 2)
        return; /* the application, not the network, was the limit: RFC 9438 5.8 */
    if (r->cwnd < r->ssthresh)
        r->cwnd += acked;
    else
        grow_cubic(r, leg->wire_mss, acked);
    r->cwnd = LWIP_MIN(r->cwnd, CWND_MAX_LEN);
}

static void shrink(struct leg *leg)
{
    struct recovery *r = &leg->recovery;
    uint32_t floor = 2u * leg->wire_mss;

    /* Fast convergence, RFC 9438 4.7 */
    r->w_max = r->cwnd < r->w_max ? (uint32_t)(r->cwnd * (1 + CUBIC_BETA) / 2) : r->cwnd;
    r->ssthresh = LWIP_MAX((uint32_t)(r->cwnd * CUBIC_BETA), floor);
    r->epoch_us = 0;
    r->loss_us = clock_us();
}

uint32_t recovery_segment_len(const struct leg *leg)
{
    const struct recovery *r = &leg->recovery;

    bool lossy = r->loss_us && clock_us() - r->loss_us < LOSSLESS_US;

    return r->cwnd / (lossy ? SEGMENTS_PER_LOSSY_WINDOW : SEGMENTS_PER_WINDOW);
}

/* --- Scoreboard ------------------------------------------------------------------ */

static void mark_block(struct leg *leg, uint32_t left, uint32_t right)
{
    struct tcp_pcb *pcb = leg->pcb;

    if (!seq_before(left, right) || seq_before(left, pcb->lastack) ||
        seq_before(pcb->snd_nxt, right))
        return; /* a duplicate (RFC 2883), or nonsense */
    for (struct tcp_seg *seg = pcb->unacked; seg; seg = seg->next) {
        uint32_t seq = seg_seq(seg), end = seq + TCP_TCPLEN(seg);
        if (!seq_before(seq, right))
            break;
        if (!seq_before(seq, left) && !seq_before(right, end))
            seg->flags |= SEG_SACKED;
    }
    if (seq_before(leg->recovery.high_sacked, right))
        leg->recovery.high_sacked = right;
}

static void read_sack(struct leg *leg, const uint8_t *opt, size_t len)
{
    for (size_t i = 0; i < len;) {
        if (opt[i] == TCPOPT_EOL)
            return;
        if (opt[i] == TCPOPT_NOP) {
            i++;
            continue;
        }
        if (i + 1 >= len || opt[i + 1] < 2 || i + opt[i + 1] > len)
            return;
        if (opt[i] == TCPOPT_SACK) {
            for (size_t b = i + 2; b + 8 <= i + opt[i + 1]; b += 8)
                mark_block(leg, get_be32(opt + b), get_be32(opt + b + 4));
        }
        i += opt[i + 1];
    }
}

static uint32_t sacked_len(const struct tcp_pcb *pcb)
{
    uint32_t len = 0;

    for (const struct tcp_seg *seg = pcb->unacked; seg; seg = seg->next) {
        if (seg->flags & SEG_SACKED)
            len += seg->len;
    }
    return len;
}

/* What was sent again, and is still missing although later data has arrived, is lost again. */
static void forget_resent(struct leg *leg)
{
    struct recovery *r = &leg->recovery;

    if (seq_before(r->high_sacked, r->rtx_high + DUP_THRESH * leg->wire_mss))
        return;
    for (struct tcp_seg *seg = leg->pcb->unacked; seg; seg = seg->next)
        seg->flags &= (u8_t)~SEG_RESENT;
}

/* Return: the link behind the segment, where the next one is looked for. */
static struct tcp_seg **insert_sorted(struct tcp_seg **link, struct tcp_seg *seg)
{
    while (*link && seq_before(seg_seq(*link), seg_seq(seg)))
        link = &(*link)->next;
    seg->next = *link;
    *link = seg;
    return &seg->next;
}

/* Moves lost segments to their places in the unsent queue. Return: their bytes. */
static uint32_t resend_lost(struct leg *leg, uint32_t sacked_above)
{
    struct tcp_pcb *pcb = leg->pcb;
    struct tcp_seg **place = &pcb->unsent;
    uint32_t lost_len = 0;
    bool found = false;

    for (struct tcp_seg **link = &pcb->unacked; *link;) {
        struct tcp_seg *seg = *link;
        if (seg->flags & SEG_SACKED) {
            sacked_above -= seg->len;
        } else if (sacked_above < DUP_THRESH * leg->wire_mss) {
            break;
        } else if (!(seg->flags & SEG_RESENT)) {
            seg->flags |= SEG_RESENT;
            *link = seg->next;
            place = insert_sorted(place, seg);
            lost_len += seg->len;
            found = true;
            continue;
        }
        link = &seg->next;
    }
    if (found) {
        pcb->rttest = 0; /* Karn: an acknowledgement would be ambiguous */
        leg->recovery.rtx_high = pcb->snd_nxt;
        leg->recovery.sampling = false;
    }
    return lost_len;
}

/* With nothing in flight one segment may always leave, however long it is. */
static void set_cwnd(struct leg *leg, uint32_t left_network)
{
    struct tcp_pcb *pcb = leg->pcb;

    pcb->cwnd = leg->recovery.cwnd + left_network;
    if (!pcb->unacked && pcb->unsent)
        pcb->cwnd = LWIP_MAX(pcb->cwnd, seg_seq(pcb->unsent) - pcb->lastack + pcb->unsent->len);
}

static void detect_loss(struct leg *leg)
{
    struct recovery *r = &leg->recovery;
    struct tcp_pcb *pcb = leg->pcb;
    uint32_t sacked = sacked_len(pcb);

    if (r->active && !seq_before(pcb->lastack, r->point))
        r->active = false;
    uint32_t lost = 0;
    if (sacked > 0) {
        forget_resent(leg);
        lost = resend_lost(leg, sacked);
    }
    if (lost > 0 && !r->active && !(pcb->flags & TF_RTO)) {
        shrink(leg);
        r->cwnd = r->ssthresh;
        r->active = true;
        r->point = pcb->snd_nxt;
    }
    /* lwIP counts all from the oldest byte as in flight: what was marked or lost is not. */
    set_cwnd(leg, sacked + lost);
}

/* --- Lost segments that could not leave yet ---------------------------------------- */

struct tcp_seg *recovery_hide_lost(struct leg *leg)
{
    struct tcp_pcb *pcb = leg->pcb;
    struct tcp_seg *first = pcb->unsent, *last = first;

    if (!first || !seq_before(seg_seq(first), pcb->snd_nxt))
        return NULL; /* never sent */
    while (last->next)
        last = last->next;
    if (seg_seq(last) + TCP_TCPLEN(last) == pcb->snd_lbb)
        return NULL;
    pcb->unsent = NULL;
    return first;
}

void recovery_show_lost(struct leg *leg, struct tcp_seg *lost)
{
    struct tcp_seg **place = &leg->pcb->unsent, *next;

    for (; lost; lost = next) {
        next = lost->next;
        place = insert_sorted(place, lost);
    }
}

/* --- Events ------------------------------------------------------------------------ */

static bool is_ours(const struct leg *leg)
{
    return leg->recovery.cwnd > 0;
}

void recovery_start(struct leg *leg)
{
    struct tcp_pcb *pcb = leg->pcb;

    pcb->cwnd = INITIAL_WINDOW_SEGMENTS * (tcpwnd_size_t)pcb->mss;
    pcb->ssthresh = CWND_MAX_LEN;
    if (!(pcb->flags & TF_SACK))
        return;
    leg->recovery = (struct recovery){
        .cwnd = pcb->cwnd,
        .ssthresh = CWND_MAX_LEN,
        .high_sacked = pcb->lastack,
    };
}

void recovery_before_input(struct leg *leg, const struct packet *packet)
{
    if (!is_ours(leg) || !(packet->flags & PACKET_ACK))
        return;
    leg->pcb->dupacks = 0; /* fast retransmit is not lwIP's any more */
    if (leg->pcb->unacked && packet->options_len > 0)
        read_sack(leg, packet_options(packet), packet->options_len);
}

/* What arrived meanwhile tells the path's speed; a window does not, where nothing filled it.
 * Up at once, down slowly: there was not always something to send. */
static void note_speed(struct recovery *r, uint32_t acked, uint32_t rtt)
{
    uint64_t speed = acked * 1000000ull / LWIP_MAX(rtt, 1);

    r->speed = LWIP_MAX(speed, r->speed - r->speed / 4 + speed / 4);
}

static void end_sample(struct recovery *r, uint32_t una)
{
    if (!r->sampling || seq_before(una, r->sample_seq))
        return;
    uint32_t rtt = (uint32_t)(clock_us() - r->sample_us);
    r->srtt_us = r->srtt_us ? r->srtt_us - r->srtt_us / 8 + rtt / 8 : LWIP_MAX(rtt, 1);
    r->sampling = false;
    note_speed(r, una - r->sample_una, rtt);
}

void recovery_after_input(struct leg *leg, uint32_t una_before, uint32_t flight_before)
{
    struct recovery *r = &leg->recovery;
    struct tcp_pcb *pcb = leg->pcb;

    if (!is_ours(leg))
        return;
    uint32_t acked = pcb->lastack - una_before;
    if (acked > 0) {
        end_sample(r, pcb->lastack);
        if (seq_before(r->high_sacked, pcb->lastack))
            r->high_sacked = pcb->lastack;
        if (!r->active)
            grow(leg, acked, flight_before);
    }
    detect_loss(leg);
    if (pcb->unsent)
        tcp_output(pcb); /* lwIP did, with the window as it was */
}

void recovery_on_output(struct leg *leg)
{
    struct recovery *r = &leg->recovery;

    if (!is_ours(leg) || r->sampling || !leg->pcb->unsent || r->active)
        return;
    r->sampling = true;
    r->sample_seq = leg->pcb->snd_lbb;
    r->sample_una = leg->pcb->lastack;
    r->sample_us = clock_us();
}

void recovery_sort(struct leg *leg)
{
    struct tcp_seg **place = &leg->pcb->unsent, *seg = *place, *next;
    uint32_t seq = 0;

    for (*place = NULL; seg; seg = next) {
        if (seq_before(seg_seq(seg), seq))
            place = &leg->pcb->unsent;
        next = seg->next;
        seq = seg_seq(seg);
        place = insert_sorted(place, seg);
    }
}

/* A router that drops large packets may not say so (RFC 4821 1): after several time-outs
 * in a row packets get smaller, down to what every path should take. What is queued is
 * cut on its way out, and what has just been sent again was too large again. */
static void survive_black_hole(struct leg *leg)
{
    uint16_t least = leg->pcb->remote_ip.type == IPADDR_TYPE_V4 ? LEAST_MSS_V4 : LEAST_MSS_V6;

    if (leg->side != SIDE_OUTER || !leg->established || leg->wire_mss <= least)
        return;
    leg->wire_mss = LWIP_MAX((uint16_t)(leg->wire_mss / 2), least);
    if (leg->pcb->unacked)
        tcp_rexmit_rto(leg->pcb);
}

void recovery_on_tick(struct leg *leg)
{
    struct recovery *r = &leg->recovery;
    struct tcp_pcb *pcb = leg->pcb;

    if (pcb->nrtx > r->timeouts)
        recovery_sort(leg);
    if (pcb->nrtx > r->timeouts && pcb->nrtx >= BLACK_HOLE_TIMEOUTS)
        survive_black_hole(leg);
    if (is_ours(leg) &&
        pcb->nrtx > r->timeouts) { /* all that was unacknowledged is on the unsent queue again */
        for (struct tcp_seg *seg = pcb->unsent; seg; seg = seg->next)
            seg->flags &= (u8_t) ~(SEG_SACKED | SEG_RESENT);
        for (struct tcp_seg *seg = pcb->unacked; seg; seg = seg->next)
            seg->flags &= (u8_t) ~(SEG_SACKED | SEG_RESENT);
        if (pcb->nrtx == 1)
            shrink(leg);
        r->cwnd = leg->wire_mss;
        set_cwnd(leg, 0);
        r->active = false;
        r->sampling = false;
    }
    r->timeouts = pcb->nrtx;
}
