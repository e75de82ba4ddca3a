/* SPDX-License-Identifier: BSD-3-Clause
 * Loss recovery and congestion control of outer legs, in place of lwIP's.
 *
 * How it works: lwIP sends selective acknowledgements but does not read them, and
 * recovers several losses in one window by time-outs. Here the peer's SACK blocks
 * mark lwIP's unacknowledged segments; one with three segments' worth of marked
 * bytes above it is lost (RFC 6675) and goes back to the head of lwIP's unsent
 * queue. The congestion window is CUBIC's (RFC 9438) and written into the pcb,
 * enlarged by what is known to have left the network, because lwIP counts from the
 * oldest unacknowledged byte. Time-outs stay lwIP's. A peer without SACK has
 * lwIP's own NewReno.
 */
#ifndef TCNS_TCP_RECOVERY_H
#define TCNS_TCP_RECOVERY_H

#include <stdbool.h>
#include <stdint.h>

struct leg;
struct packet;
struct tcp_seg;

struct recovery {
    uint32_t cwnd;     /* bytes; 0: not started */
    uint32_t ssthresh; /* bytes */
    bool active;       /* between the first loss and the acknowledgement of point */
    uint32_t point;    /* what had been sent when the loss was seen */
    uint32_t rtx_high; /* what had been sent when lost segments were last sent again */
    uint32_t high_sacked;
    uint8_t timeouts; /* lwIP's count at the last look */

    /* CUBIC, RFC 9438 4: w_max and origin in bytes, times in microseconds */
    uint32_t w_max, origin;
    double k_s, w_est;
    uint64_t epoch_us;
    uint64_t loss_us; /* when the window was last reduced; 0: never */

    /* round-trip time and speed, from one segment at a time */
    bool sampling;
    uint32_t sample_seq, sample_una;
    uint64_t sample_us;
    uint32_t srtt_us; /* 0: unknown */
    uint64_t speed;   /* bytes a second that arrive; 0: unknown */
};

/* Connection established. */
void recovery_start(struct leg *leg);
/* Around tcp_input(). */
void recovery_before_input(struct leg *leg, const struct packet *packet);
void recovery_after_input(struct leg *leg, uint32_t una_before, uint32_t flight_before);
/* Before data is handed to tcp_output(). */
void recovery_on_output(struct leg *leg);
/* tcp_write() and tcp_shutdown() add to the last unsent segment. When that is a lost one
 * from the middle of the stream, it must be out of their sight. Return: what was hidden. */
struct tcp_seg *recovery_hide_lost(struct leg *leg);
void recovery_show_lost(struct leg *leg, struct tcp_seg *lost);
/* Return: how long new segments may be, in bytes; less than a packet: one packet. */
uint32_t recovery_segment_len(const struct leg *leg);
/* tcp_rexmit_rto() puts what is unacknowledged in front of lost segments that wait. */
void recovery_sort(struct leg *leg);
/* lwIP's timers ran: was there a time-out? */
void recovery_on_tick(struct leg *leg);

#endif
