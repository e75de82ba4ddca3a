/* SPDX-License-Identifier: BSD-3-Clause
 * Capturing packets at the two sides of a tunnel.
 */
#ifndef TCNS_TUNNEL_CAPTURE_H
#define TCNS_TUNNEL_CAPTURE_H

#include <stdbool.h>
#include <stdint.h>

#include "tcp/leg.h"
#include "tunnel/tunnel.h"

#define CAPTURE_MAX_CNT 4 /* at a time */

struct tap;

struct tunnel_capture {
    bool sides[SIDE_CNT];
    bool has_peer;               /* only connections with peer */
    struct addr peer;            /* valid with has_peer */
    uint16_t port;               /* only connections with that port at either end; 0: any */
    uint64_t max_cnt;            /* it ends after so many packets; 0: it does not */
    uint32_t snap_len;           /* bytes of each packet that are kept; 0: all */
    const char *application;     /* borrowed until tunnel_capture_start() returns, as are names */
    const char *names[SIDE_CNT]; /* of the interfaces */
};

struct tunnel_capture_stats {
    uint64_t packets[SIDE_CNT];
    uint64_t dropped[SIDE_CNT]; /* wanted, but the reader was too slow */
};

/* The capture has ended by itself, or with the tunnel, and its tap is gone. */
typedef void (*tunnel_capture_fn)(void *arg, const struct tunnel_capture_stats *stats);

/* Writes a pcapng stream to fd, a UNIX stream socket, which it takes, also on failure, until
 * max_cnt packets were taken or the other end has shut its direction down: then the
 * statistics follow, fd is closed and on_end is called.
 * Return: 0 and *ret; -EINVAL when fd is something else; -EMFILE at CAPTURE_MAX_CNT; -ENOMEM. */
int tunnel_capture_start(struct tunnel *t, const struct tunnel_capture *cfg, int fd,
                         tunnel_capture_fn on_end, void *arg, struct tap **ret);

/* Closes fd at once; on_end is not called. */
void tunnel_capture_stop(struct tunnel *t, struct tap *tap);

/* --- For the tunnel ------------------------------------------------------------- */

struct flow_table;
struct stack_tx;
struct vnet_packet;

/* Zeroed: none. While cnt is 0 none of the rest needs to be called. */
struct captures {
    struct tap *taps[CAPTURE_MAX_CNT];
    size_t cnt;
};

int captures_add(struct captures *c, struct ev_loop *loop, const struct tunnel_capture *cfg, int fd,
                 tunnel_capture_fn on_end, void *arg, struct tap **ret);
void captures_del(struct captures *c, struct tap *tap);
/* Ends all of them, as far as their readers take it at once. */
void captures_done(struct captures *c);

/* A packet has come in by that side. */
void captures_rx(struct captures *c, const struct flow_table *flows, enum side side,
                 const struct vnet_packet *vp);
/* A packet of the stack's has gone out. */
void captures_tx(struct captures *c, const struct flow_table *flows, const struct stack_tx *tx);
/* Another one has gone out by that side. csum: the kernel completes its checksum. */
void captures_tx_bytes(struct captures *c, const struct flow_table *flows, enum side side,
                       const uint8_t *ip, size_t len, bool csum);

#endif
