/* SPDX-License-Identifier: BSD-3-Clause
 * A TCP leg: our end of one TCP connection, run by lwIP.
 *
 * How it works: a relayed connection has two legs. The inner one answers the
 * application's kernel through the TUN and bears the peer's address; the outer
 * one faces the peer on the uplink and bears the container's. lwIP is the
 * per-connection state machine only: packets are taken apart by packet.c, the
 * pcb is found by the caller, and segments leave through output.c, which adds
 * the option slot, coalesces neighbours into one super-segment and rebuilds
 * headers. Legs with nothing to time are not on lwIP's lists (stack_tick).
 *
 * lwIP is not re-entrant: from the callbacks in stack_ops no function declared
 * here may be called, unless it says so.
 */
#ifndef TCNS_TCP_LEG_H
#define TCNS_TCP_LEG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/buf.h"
#include "base/siphash.h"
#include "base/tuple.h"
#include "tcp/packet.h"
#include "tcp/recovery.h"

struct pbuf;
struct tcp_pcb;

enum side { SIDE_INNER, SIDE_OUTER };
#define SIDE_CNT 2

static inline enum side side_other(enum side s)
{
    return s == SIDE_INNER ? SIDE_OUTER : SIDE_INNER;
}

/* What happened to a leg; kept until leg_take_events(). */
#define LEG_EV_ESTABLISHED 0x01u
#define LEG_EV_DATA        0x02u /* bytes may be read */
#define LEG_EV_FIN         0x04u /* the other end sent all it has */
#define LEG_EV_SENT        0x08u /* there is more room to write */
#define LEG_EV_CLOSED      0x10u /* both directions ended in order; the leg is gone */
#define LEG_EV_RESET       0x20u /* the other end reset it; the leg is gone */
#define LEG_EV_TIMEOUT     0x40u /* the other end is silent; the leg is gone */
#define LEG_EV_GONE        (LEG_EV_CLOSED | LEG_EV_RESET | LEG_EV_TIMEOUT)

/* TCP options that are not lwIP's business, added to outgoing segments. With MSS,
 * window scale and SACK-permitted lwIP takes 12 of the 40 bytes of a SYN. */
#define LEG_OPTION_MAX_LEN 28
struct leg_option {
    uint8_t bytes[LEG_OPTION_MAX_LEN];
    uint8_t len;
};

struct leg_tx; /* a buffer that lwIP still refers to */

struct leg {
    struct tcp_pcb *pcb; /* NULL: not there yet, or gone */
    enum side side;
    int via; /* where its packets should leave, the tunnel's business; 0: no matter */
    unsigned events;

    struct leg_option syn_option; /* on SYN and SYN-ACK, the same on each retransmission */
    struct leg_option ack_option; /* on every other segment, while len > 0 */

    uint16_t wire_mss; /* largest payload of one packet; larger segments are cut by GSO */
    bool established;
    bool fin_sent;
    bool ack_due;         /* enough has arrived that the next leg_output() acknowledges it */
    bool holds_first_ack; /* see leg_hold_first_ack() */
    bool rx_bulk;         /* the last data came as a super-segment */
    uint32_t acked_seq;   /* what our last segment acknowledged */

    bool tx_long_set;
    uint32_t tx_long_end; /* sequence number behind the last long packet */

    bool rx_urgent_set, tx_urgent_set;
    uint64_t rx_urgent_pos; /* last urgent byte that the other end announced, in its stream */
    uint32_t tx_urgent_end; /* sequence number behind the last urgent byte of ours (RFC 6093 3.2) */

    struct pbuf *rx_head, *rx_tail; /* received, not yet consumed */
    size_t rx_len;
    size_t rx_cnt;            /* packets that they came in */
    uint64_t rx_consumed_len; /* position in the stream of the first byte not consumed */
    uint32_t rx_window_len;   /* what the other end may have in flight to us, grows with use */

    struct leg_tx *tx; /* ring: written, not yet acknowledged */
    uint32_t tx_head, tx_cnt, tx_cap;
    size_t tx_len;

    struct recovery recovery; /* SIDE_OUTER only */

    struct leg *hot_next, **hot_link; /* list of the legs that have timers running */
    struct leg *ack_next,
        **ack_link; /* list of the legs that owe an ACK while their side is busy */
};

#define STACK_TX_IOV_MAX_CNT 256

/* One packet on its way out. */
struct stack_tx {
    enum side side;
    int via; /* of the leg, or of the packet that this answers */
    struct addr dst;
    bool v6;
    uint8_t *hdr; /* IP and TCP header; 32 bytes before it may be written to */
    size_t hdr_len;
    size_t ip_len;     /* of the IP header: where the TCP checksum starts to count */
    struct iovec *iov; /* payload; borrowed until the call returns */
    size_t iov_cnt;
    size_t data_len;
    uint16_t gso_size; /* payload of one wire packet; 0 when data_len is no larger */
};

struct stack_ops {
    /* Sends one packet. Return: false when the device takes no more for now; the
     * stack keeps the packet and waits for stack_writable(). */
    bool (*output)(const struct stack_tx *tx);
    /* leg->events grew. Called from within lwIP: take note, do nothing. */
    void (*on_event)(struct leg *leg);
    /* The handshake is complete; packet is the one that completed it. Called from
     * within lwIP, before anything else leaves: leg->ack_option may be set here. */
    void (*on_established)(struct leg *leg, const struct packet *packet);
    /* The far end opens the same connection at the same time (RFC 9293 3.5): its SYN has
     * crossed ours. leg->syn_option may be emptied for our SYN-ACK. */
    void (*on_crossing_syn)(struct leg *leg, const struct packet *packet);
};

struct stack_config {
    const struct stack_ops *ops;
    struct siphash_key isn_key; /* random, RFC 6528 3 */
    uint16_t mtu[SIDE_CNT];     /* announced MSS = mtu - headers */
};

/* Once per process. Return: 0 or -ENOMEM. */
int stack_init(const struct stack_config *cfg);
void stack_done(void);
void stack_set_mtu(enum side side, uint16_t mtu);

/* Bytes of the longest packet that the device takes, whose payload it then cuts; from
 * PACKET_MAX_LEN, which holds without a call, to this. One that is longer than its IP header can
 * tell has 0 there. */
#define STACK_GSO_MAX_LEN (256u * 1024)
void stack_set_gso_max_len(enum side side, size_t len);

/* More input is waiting on that side, or no more is: while there is, ACKs that are due
 * wait for it, so that one acknowledges several super-segments. */
void stack_set_busy(enum side side, bool busy);

/* What all legs have done since stack_init(). */
struct stack_counters {
    uint64_t retransmits[SIDE_CNT]; /* segments whose first byte was sent before */
    uint64_t long_packets;          /* of more than PACKET_MAX_LEN */
    uint64_t long_retransmits;      /* segments whose first byte such a packet had */
};
const struct stack_counters *stack_counters(void);

/* Sends what was collected. Before it, output may still be in the making. */
void stack_flush(void);
/* The device of that side takes packets again. */
void stack_writable(enum side side);

/* Milliseconds between ticks that hot legs need. */
#define STACK_TICK_MS 25
/* Runs timers. Call every STACK_TICK_MS while stack_needs_tick(). */
void stack_tick(uint64_t now_ms);
bool stack_needs_tick(void);
/* Tells the time while no tick is needed; call before using legs after a pause. */
void stack_set_time(uint64_t now_ms);

/* Answers a segment for which there is no connection: RST (RFC 9293 3.10.7.1). */
void stack_reset(enum side side, const struct packet *packet);

/* A single segment without a leg, in answer to packet. src is our end. */
void stack_send_control(enum side side, const struct tuple *tuple, const struct packet *packet,
                        uint32_t seq, uint32_t ack, uint8_t flags, uint16_t window);

/* --- One leg. Zeroed memory with side set is a leg that is not there. --------- */

/* Active open to the far end of tuple, with its ports. Return: 0, -ENOMEM. */
int leg_connect(struct leg *leg, const struct tuple *tuple);

/* To be called before that: the ACK that completes the handshake goes with the first data or FIN,
 * or alone with leg_let_first_ack(). */
void leg_hold_first_ack(struct leg *leg);
void leg_let_first_ack(struct leg *leg);

/* Sends the SYN again. lwIP does not do so by itself: the application's kernel (or
 * the peer) retransmits its own SYN, and with it ours. */
void leg_retransmit_syn(struct leg *leg);

/* Passive open: answers the SYN in buf, parsed as packet; takes buf.
 * Return: 0, or -ENOMEM (nothing was sent). */
int leg_accept(struct leg *leg, struct buf *buf, const struct packet *packet);

/* A segment for this leg, in buf, parsed as packet; takes buf. Cuts off what lies
 * beyond the receive window. The leg must not be gone. */
void leg_input(struct leg *leg, struct buf *buf, struct packet *packet);

/* Return: the events since the last call. */
static inline unsigned leg_take_events(struct leg *leg)
{
    unsigned ev = leg->events;
    leg->events = 0;
    return ev;
}

struct leg_chunk {
    struct buf *buf; /* borrowed; take a reference to keep data */
    uint8_t *data;
    size_t len;
};

/* Received bytes, oldest first, without taking them: chunks until there are max_cnt, or
 * max_len bytes or more. Return: number of chunks. */
size_t leg_peek(const struct leg *leg, struct leg_chunk *ret_chunks, size_t max_cnt,
                size_t max_len);
/* The first len bytes were taken by the other leg: frees them and opens the window. */
void leg_consume(struct leg *leg, size_t len);

/* Return: bytes that wait in it, in either direction, and what they cost beside. */
size_t leg_held(const struct leg *leg);

/* Receive windows of legs that have a larger one shrink to this as their bytes are taken,
 * because memory is short; 0: they need not. */
void stack_set_window_cap(size_t len);

/* Return: bytes that leg_write() takes now. */
size_t leg_room(const struct leg *leg);
/* Queues data[0..len), which lies in buf, without a copy; keeps a reference to
 * buf until it is acknowledged. leg_room() is what it should take; a frame more
 * is possible. Return: 0; -ENOMEM, -EPIPE: the leg can't go on and must be aborted. */
int leg_write(struct leg *leg, struct buf *buf, const uint8_t *data, size_t len);
/* Hands queued segments, and an ACK or window update that is due, to the output. Call
 * it when a batch of input is worked off. */
void leg_output(struct leg *leg);
/* Urgent data (RFC 9293 3.8.5), as a mark on one byte of the stream.
 * Is one announced? *ret_off counts from the first byte that leg_peek() gives; the
 * byte itself may still be under way. The mark is gone when the byte is consumed. */
bool leg_has_urgent(const struct leg *leg, uint32_t *ret_off);
/* The byte at off, counted from the first that leg_write() will take next, is urgent. */
void leg_set_urgent(struct leg *leg, uint32_t off);
/* Our FIN, after all that was written. */
void leg_shutdown(struct leg *leg);
/* RST to the other end; frees everything. No event follows. No-op when gone. */
void leg_abort(struct leg *leg);
/* Frees everything, silently. */
void leg_drop(struct leg *leg);

/* Return: bytes that congestion window and receiver allow in flight now. */
size_t leg_window(const struct leg *leg);
/* Return: bytes that the path takes in that time; at most a window. 0 before the first
 * round trip was measured; a window where none ever is (a peer without SACK). */
size_t leg_bytes_in(const struct leg *leg, uint32_t us);
/* No packet of this leg may be larger than mtu from now on; what was lost for its
 * size is sent again. */
void leg_set_path_mtu(struct leg *leg, uint32_t mtu);
/* Is seq something that this leg has sent and that was not acknowledged? For ICMP (RFC 5927 4.1).
 */
bool leg_owns_seq(const struct leg *leg, uint32_t seq);
/* Sends a segment that the other end must answer (RFC 9293 3.8.4). */
void leg_probe(struct leg *leg);
/* Is this such a segment of the other end's? */
bool leg_is_probed(const struct leg *leg, const struct packet *packet);
bool leg_is_connecting(const struct leg *leg);
/* Is this the SYN once more that the leg has answered, while the ACK is awaited? */
bool leg_is_syn_again(const struct leg *leg, const struct packet *packet);

#endif
