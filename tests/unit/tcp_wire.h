/* SPDX-License-Identifier: BSD-3-Clause
 * The world around TCP legs, for tests: what leaves the stack is cut, summed and
 * checked as kernel and wire would do it, and a peer that does as it is told
 * answers.
 *
 * lwIP is one per process, so all of this is too.
 */
#ifndef TCNS_TESTS_TCP_WIRE_H
#define TCNS_TESTS_TCP_WIRE_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <setjmp.h>
#include <cmocka.h>

#include "tcp/leg.h"
#include "tcp/packet.h"

/* One packet as it went over the wire. */
struct sent {
    struct sent *next;
    struct packet p; /* its pointers lead into bytes */
    uint8_t bytes[];
};

struct wire {
    uint64_t now_ms;
    uint16_t mtu;
    size_t gso_max_len[SIDE_CNT];
    bool blocked[SIDE_CNT]; /* the device takes nothing */
    size_t refused_cnt;     /* packets offered while blocked */
    size_t super_cnt;       /* packets that had to be cut */
    size_t longest[SIDE_CNT];
    struct sent *first[SIDE_CNT];
    unsigned established_cnt;
    uint8_t established_options[40]; /* of the segment that completed a handshake */
    size_t established_options_len;
    /* For tests of higher layers; NULL: nothing. */
    void (*on_event)(struct leg *leg);
    void (*on_established)(struct leg *leg, const struct packet *packet);
    void (*on_crossing_syn)(struct leg *leg, const struct packet *packet);
};

extern struct wire wire;

/* cmocka set-up and tear-down: a stack with an MTU of 1500. The second checks that
 * no packet is left and that all buffers were given back. */
int wire_set_up(void **state);
int wire_tear_down(void **state);
/* Another MTU, before the first connection. */
void wire_set_mtu(uint16_t mtu);
/* The device takes such packets. */
void wire_set_gso_max_len(enum side side, size_t len);

/* The oldest packet that left on that side, removed; caller frees. NULL: none. */
struct sent *wire_next(enum side side);
size_t wire_cnt(enum side side);
void wire_discard(enum side side);

/* Time passes, in ticks. */
void wire_advance(unsigned ms);

/* The far end of one leg. It only sends what the test tells it to. */
struct peer {
    enum side side;
    struct tuple tuple;
    struct leg leg; /* of the stack; unused when deliver is set */
    /* Where its packets go; NULL: to leg. Takes buf. */
    void (*deliver)(struct peer *p, struct buf *buf, struct packet *packet);

    uint32_t seq;        /* next to be sent */
    uint32_t ack;        /* next expected */
    uint16_t window;     /* as it stands in headers */
    uint8_t options[40]; /* on every segment it sends */
    size_t options_len;

    uint8_t *rx; /* what it received in order */
    size_t rx_len, rx_cap;
    bool fin, rst; /* received */
};

void peer_init(struct peer *p, enum side side);
void peer_init_v6(struct peer *p, enum side side);
/* Drops the leg as well. */
void peer_done(struct peer *p);

struct segment {
    uint8_t flags;
    uint32_t seq, ack;
    const void *data;
    size_t len;
    const uint8_t *options;
    size_t options_len;
};

/* The segment as a packet, in a buffer of exactly its size. */
struct buf *peer_packet(const struct peer *p, const struct segment *s, struct packet *ret);
/* Delivers it; the peer's numbers do not change. */
void peer_send_segment(struct peer *p, const struct segment *s);
/* The next len bytes with flags; its seq goes on. */
void peer_send(struct peer *p, uint8_t flags, const void *data, size_t len);
/* An empty ACK. */
void peer_ack(struct peer *p);
/* off bytes away from what is next; its seq does not change. */
void peer_send_at(struct peer *p, int32_t off, uint8_t flags, const void *data, size_t len);

/* SYN options: MSS, window scale and SACK-permitted; wscale < 0: without the latter two. */
void peer_set_syn_options(struct peer *p, uint16_t mss, int wscale);

/* Handshakes. */
void peer_connects(struct peer *p, uint16_t mss, int wscale);
void peer_accepts(struct peer *p, uint16_t mss, int wscale);
/* Sends the SYN, gets the SYN-ACK, keeps the ACK back. */
void peer_half_connects(struct peer *p, uint16_t mss, int wscale);

/* Appends to rx; ack goes on. */
void peer_receive(struct peer *p, const uint8_t *data, size_t len);
/* Follows one packet: bytes in order go to rx. */
void peer_follow(struct peer *p, const struct packet *packet);
/* Takes all packets of its side: bytes in order go to rx; ack, fin and rst follow.
 * Return: number of packets. */
size_t peer_pull(struct peer *p);
/* Pulls and acknowledges until nothing more comes. */
void peer_pull_all(struct peer *p);
/* Takes one packet and checks its flags (PSH aside). Caller frees. */
struct sent *peer_expect(struct peer *p, uint8_t flags);
/* The same, seen and forgotten. */
void peer_expect_ack(struct peer *p);
void peer_expect_nothing(struct peer *p);

/* The leg's side of the connection. */
int leg_send(struct leg *leg, const void *data, size_t len);
size_t leg_read(struct leg *leg, void *out, size_t max);

/* Bytes that differ along any distance; static storage. */
const uint8_t *pattern(size_t off);
#define PATTERN_MAX_LEN (1u << 20)

/* Runs tests[]; TCNS_TEST_FILTER in the environment names those to run. */
#define wire_run_tests(tests)                                                                      \
    (cmocka_set_test_filter(getenv("TCNS_TEST_FILTER")), cmocka_run_group_tests(tests, NULL, NULL))

#endif
