/* SPDX-License-Identifier: BSD-3-Clause
 * The world around a relay, for tests: two scripted peers, "app", the application's
 * kernel, and "net", the far host, whose tcpcrypt is a session of its own.
 *
 * lwIP is one per process, so all of this is too.
 */
#ifndef TCNS_TESTS_RELAY_WORLD_H
#define TCNS_TESTS_RELAY_WORLD_H

#include "tcp_wire.h"

#include "relay_input.h"
#include "tcpcrypt/session.h"

extern struct relay relay;
extern struct peer app, net;

/* The far host above TCP. */
struct far_host {
    struct session_config cfg;
    struct session *session; /* NULL: it has no tcpcrypt */
    size_t taken;            /* of net.rx */
    uint8_t text[PATTERN_MAX_LEN];
    size_t text_len;
    bool fin;
    enum tcns_err err; /* why it stopped */
    /* Positions in text; 0: none. A mark that a later one overtakes before its byte has
     * come marks nothing. */
    size_t urgent_announced, urgent_at;
    unsigned urgent_cnt; /* bytes that came marked */
};

extern struct far_host far;

/* What the relay told of the connection: a letter for each event. */
extern char events[8];

extern bool in_one_turn; /* several packets before the relay runs */

/* --- The world ------------------------------------------------------------------------------ */

/* cmocka set-up and tear-down: a relay that prefers tcpcrypt, new_connection(). The second
 * ends what is open, and checks as wire_tear_down() does. */
int relay_world_set_up(void **state);
int relay_world_tear_down(void **state);
/* New ends of a connection; app and net are two sides of one tuple. */
void new_connection(void);
void use_policy(const struct policy_config *cfg);
void set_policy(enum tunnel_policy policy);

void run(void);
/* Takes buf, in which packet lies; for struct peer. */
void deliver(struct peer *p, struct buf *buf, struct packet *packet);
void pass(unsigned ms);

/* NULL: it is over. */
struct flow *the_flow(void);
struct tunnel_session last_ended(void);
void expect_end(enum tunnel_end end, enum tcns_err err);
void expect_rst(struct peer *p);

/* --- Options --------------------------------------------------------------------------------- */

bool has_eno(const struct packet *p);

/* --- Opening --------------------------------------------------------------------------------- */

void app_sends_syn(void);
void app_sends_syn_again(void);
/* The far host answers the SYN, with ENO when it has a session. */
void net_answers(void);
void app_completes(void);
/* The first ACK of ours decides for the far host. */
void net_sees_ack(void);
/* From the SYN's answer on; open_outbound(): all of it. */
void finish_outbound(void);
void open_outbound(void);

void net_sends_syn(void);
void app_answers(void);
/* stripped: its last ACK loses the option on the way. */
void net_completes(bool stripped);
void open_inbound(void);

/* For this connection; new_connection() gives it one again. */
void no_tcpcrypt_far(void);

/* --- Streams ---------------------------------------------------------------------------------- */

/* Takes b. */
void net_sends_buf(struct buf *b);
/* What the far session has to say for itself. */
void net_sends_output(void);
void app_reads(void);
/* Both read what comes, and a little time passes. */
void settle(void);
/* flags: SESSION_SEAL_... */
void net_seals(const void *data, size_t len, unsigned flags);
/* Sealed when its session encrypts, else plain. */
void net_sends(const void *data, size_t len);
/* A byte string each way. */
void check_both_ways(void);
/* Both directions end, the application's first. */
void close_in_order(void);
void check_reason(enum tunnel_reason reason);

#endif
