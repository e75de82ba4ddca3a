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

#include "base/tuple.h"
#include "tcpcrypt/session.h"
#include "tunnel/policy.h"
#include "tunnel/wish.h"

/* The names of our TUN devices begin so. */
#define TUNNEL_DEVICE_PREFIX "tcpcrypt"

struct ev_loop;
struct tunnel;

/* What happens to a connection, and its name. */
#define TUNNEL_EVENT_LIST(X)                                                                       \
    X(OPENED, "opened")       /* its SYN came */                                                   \
    X(ENCRYPTED, "encrypted") /* keys are agreed: there is a session id */                         \
    X(CLEAR, "clear")         /* it goes on in clear */                                            \
    X(ENDED, "ended")

enum tunnel_event {
#define X(name, text) TUNNEL_EVENT_##name,
    TUNNEL_EVENT_LIST(X)
#undef X
};

struct tunnel_session;

/* Called in the midst of packets: it must not call back into the tunnel. Not for
 * connections that are older than the tunnel. */
typedef void (*tunnel_event_fn)(enum tunnel_event event, const struct tunnel_session *session,
                                void *arg);

struct tunnel_config {
    struct ev_loop *loop; /* borrowed; watchers are removed by tunnel_free() */
    int tun_fd;           /* borrowed; IFF_TUN|IFF_NO_PI|IFF_VNET_HDR, non-blocking, vnet header
                             of 10 bytes, offloads CSUM|TSO4|TSO6 set */
    int tun_ifindex;
    size_t tun_gso_max_len; /* the longest packet it takes, see stack_set_gso_max_len() */
    /* Has the kernel resolve or confirm a neighbour of an uplink; must not call back. */
    void (*resolve)(void *arg, int ifindex, const struct addr *neighbour);
    /* TCP of this host has left by an uplink, past the TUN device, and was caught; or somebody on
     * that link says so. Must not call back. */
    void (*passed_by)(void *arg, const struct tuple *tuple);
    void *host_arg;              /* of both */
    struct policy_config policy; /* copied; the cache is the tunnel's own. keepalive_s: idle
                                    encrypted connections prove that the peer is alive by
                                    rekeying (RFC 8548 3.9) after so long, and end when it
                                    does not answer within as long again */
    wish_fn wish;                /* asked about each connection that begins, also when its
                                    reply takes a system call; NULL: nobody wishes */
    void *wish_arg;
    const struct port_range *bypass; /* borrowed; ports, local or peer, whose TCP is the
                                        kernel's own */
    size_t bypass_cnt;
    const struct policy_match *bypass_matches; /* borrowed; likewise */
    size_t bypass_match_cnt;
    tunnel_event_fn on_event; /* NULL: none */
    void *event_arg;
    size_t memory_max_len; /* bytes in all queues together; 0: 256 MiB */
    size_t flow_max_cnt;   /* connections; 0: 100,000 */
    size_t resume_max_cnt; /* peers whose next connection may resume; 0: none */
    unsigned fallback_s;   /* how long a peer gets no ENO option after one SYN with it was
                              lost; 0: 600 */
    int keylog_fd;         /* borrowed; every traffic key is written there, see keylog.h; 0: none */
};

/* Starts to move packets; without an uplink they go nowhere. Return: 0 and *ret; -errno. */
int tunnel_new(const struct tunnel_config *cfg, struct tunnel **ret);

/* At most so many uplinks. */
#define TUNNEL_UPLINK_MAX_CNT 16

/* An interface to the outside. fd is a packet socket that receives nothing yet (AF_PACKET,
 * SOCK_RAW, protocol 0, non-blocking), and taken, also on failure. rx_fd: of a TUN device like the
 * tunnel's own, which is handed what comes in by the interface and is for us, and TCP that has
 * passed us by; borrowed until the uplink is gone. -1: the packet socket is to receive. Return: 0;
 * -errno (-ENODEV, -EPFNOSUPPORT: of no kind that we know, -ENOSPC). */
int tunnel_add_uplink(struct tunnel *t, int ifindex, int fd, int rx_fd);
/* No more packets by it. Connections go on if another leads to the peer. */
void tunnel_del_uplink(struct tunnel *t, int ifindex);

/* What becomes of new connections while those that there are come to their ends. */
enum tunnel_drain {
    TUNNEL_DRAIN_NONE,   /* nothing new: it is not the end */
    TUNNEL_DRAIN_CLEAR,  /* they are the kernel's, in clear, and outlive the tunnel; but where the
                            policy requires encryption they are refused */
    TUNNEL_DRAIN_REFUSE, /* they are reset */
};

/* Return: 0 and *ret for "clear" and "refuse"; -EINVAL. */
int tunnel_drain_parse(const char *text, enum tunnel_drain *ret);
void tunnel_drain(struct tunnel *t, enum tunnel_drain drain);

/* Return: connections that tunnel_free() would reset. */
size_t tunnel_flow_cnt(const struct tunnel *t);

/* Resets every connection at both ends, sends what that takes, frees everything. */
void tunnel_free(struct tunnel *t);

/* Connections that are opened from now on follow that policy, see tunnel_config; those that
 * exist go on as they are. Return: 0; -E2BIG, -ENOMEM, and nothing has changed. */
int tunnel_set_policy(struct tunnel *t, const struct policy_config *cfg);

/* How long a key exchange may take, or the connection is reset (KEY_TIMEOUT); 0, as at the start:
 * no limit. */
void tunnel_set_key_timeout(struct tunnel *t, unsigned seconds);

/* See bypass of tunnel_config; borrowed. For packets that come from now on. */
void tunnel_set_bypass(struct tunnel *t, const struct port_range *ports, size_t port_cnt,
                       const struct policy_match *matches, size_t match_cnt);

/* See fallback_s of tunnel_config; for peers that are remembered from now on. */
void tunnel_set_fallback_time(struct tunnel *t, unsigned seconds);

/* The policy of new connections; borrowed until the next tunnel_set_policy(). */
const struct policy *tunnel_policy(const struct tunnel *t);

/* A connection that is older than the tunnel: its packets pass untouched, in
 * both directions, until it ends. Return: 0; -ENOSPC at flow_max_cnt. */
int tunnel_pass(struct tunnel *t, const struct tuple *tuple);

/* Forgets the secrets for resumption, and the peers that get no ENO option. */
void tunnel_flush(struct tunnel *t);

/* Return: chains of secrets for resumption that are kept. */
size_t tunnel_resume_cnt(const struct tunnel *t);

/* Calls fn for each peer that gets no ENO option, and for how many seconds still. fn
 * must not call back into the tunnel. */
typedef void (*tunnel_fallback_fn)(const struct addr *peer, unsigned left_s, void *arg);
void tunnel_list_fallback(const struct tunnel *t, tunnel_fallback_fn fn, void *arg);

/* Why a connection is clear, beyond what SESSION_REASON_LIST says. */
#define TUNNEL_REASON_LIST(X)                                                                      \
    X(RULE_OFF)        /* a rule of the policy says off */                                         \
    X(SOCKET_OFF)      /* the application says off, for this socket */                             \
    X(OLDER)           /* existed before tcpcrypt-ns was attached */                               \
    X(DRAINING)        /* opened while tcpcrypt-ns is about to detach */                           \
    X(REQUIRE_REFUSED) /* encryption is required and was not negotiated; refused */                \
    X(ENO_DROPPED)     /* SYNs with ENO got no answer, the one without it did */                   \
    X(FALLBACK_CACHE)  /* that happened with this peer a short while ago */

/* One number space for both lists. */
enum tunnel_reason {
#define X(name) TUNNEL_REASON_##name,
    SESSION_REASON_LIST(X) TUNNEL_REASON_LIST(X)
#undef X
};

/* Return: "full", "peer-no-eno", "older" and the like; static storage. */
const char *tunnel_reason_name(enum tunnel_reason reason);

/* How a connection ended. */
#define TUNNEL_END_LIST(X)                                                                         \
    X(LIVE)   /* it has not */                                                                     \
    X(CLOSED) /* both ends sent all they had */                                                    \
    X(RESET_BY_APPLICATION)                                                                        \
    X(RESET_BY_PEER)                                                                               \
    X(TIMEOUT)     /* one end fell silent */                                                       \
    X(UNREACHABLE) /* ICMP said so while it was opened */                                          \
    X(REFUSED)     /* by the other end, or by the policy here (see the reason) */                  \
    X(ERROR)       /* the tcpcrypt session failed: see the error */                                \
    X(DETACHED)    /* tcpcrypt-ns was taken down */

enum tunnel_end {
#define X(name) TUNNEL_END_##name,
    TUNNEL_END_LIST(X)
#undef X
};

/* Return: "closed", "reset-by-peer" and the like; static storage. */
const char *tunnel_end_name(enum tunnel_end end);

enum tunnel_state {
    TUNNEL_STATE_OPENING, /* TCP handshake or key exchange under way */
    TUNNEL_STATE_ENCRYPTED,
    TUNNEL_STATE_CLEAR,
    TUNNEL_STATE_CLOSING, /* both directions have ended, or were reset */
};

/* What is known of one connection; strings are static. */
struct tunnel_session {
    struct tuple tuple;
    bool inbound;       /* the peer opened it */
    bool authenticated; /* see tunnel_mark_authenticated() */
    bool app_aware;     /* RFC 8547 4.2: the a bit we sent, or would */
    enum tunnel_state state;
    enum tunnel_reason reason;
    enum tunnel_end end;      /* LIVE, or with tunnel_list_ended() how it ended */
    enum tcns_err error;      /* with end ERROR: what was wrong */
    struct session_info info; /* role, tep, aead and id are valid when state is ENCRYPTED */
    uint64_t tx_bytes;        /* application bytes from the container to the peer */
    uint64_t rx_bytes;        /* application bytes from the peer to the container */
    uint64_t tx_pending;      /* bytes of the container that the peer has not acknowledged, with the
                                 overhead of frames */
    double started_s;         /* seconds since the epoch */
    double ended_s;           /* likewise; 0 while it lives */
    unsigned rule;            /* of the policy that it was opened under; 0: its default */
    char rule_name[POLICY_NAME_LEN]; /* "" when it has none */
};

/* Return: "opening", "encrypted", "clear", "closing". */
const char *tunnel_state_name(enum tunnel_state state);

/* fn must not call back into the tunnel. */
typedef bool (*tunnel_session_fn)(const struct tunnel_session *session, void *arg);

/* Where a listing stands; all zero: at its beginning. */
struct tunnel_cursor {
    size_t bucket;
    bool is_older; /* through with ours, at those that are older than the tunnel */
};

/* Goes on with a listing, in no order: calls fn until it returns false, and then for the
 * few connections that share a bucket with that one. However many connections open
 * and end between two calls, those that live all the time are listed exactly once.
 * Return: false at the end. */
bool tunnel_list_from(struct tunnel *t, struct tunnel_cursor *c, tunnel_session_fn fn, void *arg);

/* Return: whether there is a connection of that tuple, then *ret describes it. */
bool tunnel_find(struct tunnel *t, const struct tuple *tuple, struct tunnel_session *ret);

/* The application has verified the peer, with this connection's session ID. Shown from now
 * on, no more. Return: 0; -ENOENT without such a connection; -ENODATA when it is not
 * encrypted, or not yet. */
int tunnel_mark_authenticated(struct tunnel *t, const struct tuple *tuple);

/* Drops what the cache holds because of this connection (RFC 8548 3.5). Return: 0, also when
 * it holds nothing; -ENOENT without such a connection. */
int tunnel_forget(struct tunnel *t, const struct tuple *tuple);

/* Calls fn, until it returns false, for connections that have ended, oldest first: the last
 * TUNNEL_ENDED_MAX_CNT. */
#define TUNNEL_ENDED_MAX_CNT 256
void tunnel_list_ended(struct tunnel *t, tunnel_session_fn fn, void *arg);

/* Return: connections that ended because of err. */
uint64_t tunnel_error_cnt(const struct tunnel *t, enum tcns_err err);

/* Counters, all since tunnel_new(). One list names them for the ctl socket. */
#define TUNNEL_COUNTER_LIST(X)                                                                     \
    X(tun_rx_packets)                                                                              \
    X(tun_tx_packets)                                                                              \
    X(uplink_rx_packets)                                                                           \
    X(uplink_tx_packets)                                                                           \
    X(drop_truncated) /* shorter than its headers say */                                           \
    X(drop_malformed) /* impossible field values */                                                \
    X(drop_checksum)                                                                               \
    X(drop_fragment)                                                                               \
    X(drop_not_ours) /* neither from nor to an address of the container; or forwarded */           \
    X(drop_no_route)                                                                               \
    X(drop_tx) /* the kernel took no more; TCP retransmits */                                      \
    X(drop_memory)                                                                                 \
    X(rst_unknown) /* segments without a connection, answered with RST */                          \
    X(flows_opened)                                                                                \
    X(flows_encrypted)                                                                             \
    X(flows_resumed) /* of those encrypted, the ones without a key exchange */                     \
    X(flows_clear)                                                                                 \
    X(flows_refused)                                                                               \
    X(flows_aborted) /* the peer broke the RFC or the keys did not fit */

struct tunnel_counters {
#define X(name) uint64_t name;
    TUNNEL_COUNTER_LIST(X)
#undef X
};

const struct tunnel_counters *tunnel_counters(const struct tunnel *t);

#endif
