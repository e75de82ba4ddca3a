/* SPDX-License-Identifier: BSD-3-Clause
 * The data path of one container: everything between its TUN device and its uplink.
 *
 * One tunnel per process (lwIP keeps its state in globals). The caller has put
 * routes, rules and the ingress drop in place; the tunnel moves packets. It must
 * be created inside the container's network namespace.
 */
#ifndef TCNS_TUNNEL_TUNNEL_H
#define TCNS_TUNNEL_TUNNEL_H

#include <stdbool.h>
#include <stdint.h>

#include "tcpcrypt/session.h"
#include "base/tuple.h"

struct ev_loop;
struct tunnel;

enum tunnel_policy { TUNNEL_POLICY_PREFER, TUNNEL_POLICY_REQUIRE, TUNNEL_POLICY_OFF };

struct tunnel_config {
    struct ev_loop *loop; /* borrowed; watchers are removed by tunnel_free() */
    int tun_fd;           /* borrowed; IFF_TUN|IFF_NO_PI|IFF_VNET_HDR, non-blocking, vnet header
                             of 10 bytes, offloads CSUM|TSO4|TSO6 set */
    int tun_ifindex;
    int uplink_ifindex;
    enum tunnel_policy policy;
    /* Ports, local or peer, whose TCP is the kernel's own; the packet socket taps it
     * all the same. NULL: none. */
    bool (*is_bypassed)(const void *bypass, uint16_t port);
    const void *bypass; /* borrowed */
    size_t memory_max_len; /* bytes in all queues together; 0: 256 MiB */
    size_t flow_max_cnt;   /* connections; 0: 100,000 */
};

/* Opens the uplink's packet socket and starts to move packets.
 * Return: 0 and *ret; -errno (-EPERM without CAP_NET_RAW, -ENODEV without uplink). */
int tunnel_new(const struct tunnel_config *cfg, struct tunnel **ret);

/* Resets every connection at both ends, sends what that takes, frees everything. */
void tunnel_free(struct tunnel *t);

/* A connection that is older than the tunnel: its packets pass untouched, in
 * both directions, until it ends. Return: 0; -ENOSPC at flow_max_cnt. */
int tunnel_pass(struct tunnel *t, const struct tuple *tuple);

/* Why a connection is clear, beyond what the negotiation says. */
#define TUNNEL_REASON_LIST(X)                                                                      \
    X(OLDER)          /* existed before tcpcrypt-ns was attached */                                \
    X(REQUIRE_REFUSED) /* encryption is required and was not negotiated; refused */

enum tunnel_state {
    TUNNEL_STATE_OPENING,   /* TCP handshake or key exchange under way */
    TUNNEL_STATE_ENCRYPTED,
    TUNNEL_STATE_CLEAR,
    TUNNEL_STATE_CLOSING,   /* both directions have ended, or were reset */
};

/* What is known of one connection; strings are static. */
struct tunnel_session {
    struct tuple tuple;
    bool inbound;               /* the peer opened it */
    enum tunnel_state state;
    const char *reason;         /* "full", "peer-no-eno", "older", ... */
    struct session_info info;   /* role, tep, aead and id are valid when state is ENCRYPTED */
    uint64_t tx_bytes;          /* application bytes from the container to the peer */
    uint64_t rx_bytes;          /* application bytes from the peer to the container */
    double started_s;           /* seconds since the epoch */
};

/* Return: "opening", "encrypted", "clear", "closing". */
const char *tunnel_state_name(enum tunnel_state state);

/* Calls fn for every connection, in no order, until it returns false. fn must
 * not call back into the tunnel. */
typedef bool (*tunnel_session_fn)(const struct tunnel_session *session, void *arg);
void tunnel_list(struct tunnel *t, tunnel_session_fn fn, void *arg);

/* Counters, all since tunnel_new(). One list names them for the ctl socket. */
#define TUNNEL_COUNTER_LIST(X)                                                                     \
    X(tun_rx_packets)                                                                              \
    X(tun_tx_packets)                                                                              \
    X(uplink_rx_packets)                                                                           \
    X(uplink_tx_packets)                                                                           \
    X(drop_truncated)   /* shorter than its headers say */                                         \
    X(drop_malformed)   /* impossible field values */                                              \
    X(drop_checksum)                                                                               \
    X(drop_fragment)                                                                               \
    X(drop_not_ours)    /* neither from nor to an address of the container */                      \
    X(drop_no_route)                                                                               \
    X(drop_tx)          /* the kernel took no more; TCP retransmits */                             \
    X(drop_memory)                                                                                 \
    X(rst_unknown)      /* segments without a connection, answered with RST */                     \
    X(flows_opened)                                                                                \
    X(flows_encrypted)                                                                             \
    X(flows_clear)                                                                                 \
    X(flows_refused)                                                                               \
    X(flows_aborted)    /* the peer broke the RFC or the keys did not fit */

struct tunnel_counters {
#define X(name) uint64_t name;
    TUNNEL_COUNTER_LIST(X)
#undef X
};

const struct tunnel_counters *tunnel_counters(const struct tunnel *t);

#endif
