/* SPDX-License-Identifier: BSD-3-Clause
 * TCP connections that are opened by hand, packet by packet, to see what becomes of a TCP
 * option on the way.
 *
 * How it works: segments leave by a raw socket, and answers are read from it. The kernel's
 * own TCP would reset what comes back, so the port of each attempt is held by a
 * listening socket with a filter that lets nothing in: the kernel finds a socket, and
 * drops the packet without a word. All of it is gone with the process. Errors are
 * read from a raw ICMP socket; routers quote what they dropped, and so say whether
 * the option was still there (RFC 1812 4.3.2.3, RFC 4443 2.4).
 *
 * Limits: one segment in flight, no window scale, no SACK. Not for a namespace whose TCP goes
 * through a tunnel of ours.
 */
#ifndef TCNS_CTL_PROBE_H
#define TCNS_CTL_PROBE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/tuple.h"

#define PROBE_OPTIONS_MAX_LEN 40
#define PROBE_DATA_MAX_LEN    1024 /* of one segment that is sent */
#define PROBE_HOP_MAX         255

enum probe_answer {
    PROBE_NONE, /* silence */
    PROBE_SYNACK,
    PROBE_RST,
    PROBE_ICMP, /* an error; the rest of struct probe_try says which */
};

/* What a quotation in an ICMP error says of the option that was sent. */
enum probe_quote { PROBE_QUOTE_SHORT, PROBE_QUOTE_INTACT, PROBE_QUOTE_GONE, PROBE_QUOTE_CHANGED };

/* One attempt to open a connection. The caller fills what stands first. */
struct probe_try {
    const uint8_t *option; /* a whole TCP option; borrowed; NULL: none */
    size_t option_len;
    uint8_t hop_limit; /* 0: the usual one */

    enum probe_answer answer;
    uint8_t options[PROBE_OPTIONS_MAX_LEN]; /* of the SYN-ACK */
    size_t options_len;
    struct addr from; /* who sent the ICMP error */
    uint8_t icmp_type, icmp_code;
    bool hop_ended; /* the error is that the hop limit was reached */
    enum probe_quote quote;
    int rtt_ms;

    /* private */
    int hold_fd;
    uint16_t port;
    uint32_t snd_una, snd_nxt, rcv_nxt;
    int64_t sent_ms;
};

struct probe;

/* dst_port: host byte order. Return: 0; -EPERM without CAP_NET_RAW; -ENETUNREACH without a
 * route; -errno. */
int probe_new(const struct addr *dst, uint16_t dst_port, struct probe **ret);
void probe_free(struct probe *p); /* NULL is a no-op */

/* Sends SYNs of all tries at once, again after 0.5 and 1.5 s where tries_cnt allows (1 to 3), and
 * waits until each is answered, at most 1 s after the last. Each try must end with
 * probe_end(). Return: 0; -errno. */
int probe_open(struct probe *p, struct probe_try *t, size_t cnt, unsigned tries_cnt);

/* On a try that was answered by a SYN-ACK: sends data, with a TCP option on the segment (NULL:
 * none), and waits until something comes; sends it again meanwhile. Data that came is
 * written to in.
 * Return: its length; 0: the peer's FIN; -ETIMEDOUT; -ECONNRESET; -errno. */
int probe_talk(struct probe *p, struct probe_try *t, const void *data, size_t data_len,
               const uint8_t *option, size_t option_len, void *in, size_t in_cap, int wait_ms);

/* Resets the connection, if there is one, and lets go of the port. */
void probe_end(struct probe *p, struct probe_try *t);

#endif
