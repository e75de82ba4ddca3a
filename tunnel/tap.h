/* SPDX-License-Identifier: BSD-3-Clause
 * Captures: copies of packets at either side of the tunnel, as a pcapng stream.
 *
 * How it works: each capture has a buffer of bounded size and a socket that a reader holds the
 * other end of. A packet that does not fit the buffer is dropped and counted; nothing here
 * waits. When the reader has shut its direction down, or enough packets were taken, the
 * statistics follow and the socket is closed. Packets are written as they pass: a
 * super-segment is one record. Checksums that the kernel would have completed are
 * completed in the copy.
 */
#ifndef TCNS_TUNNEL_TAP_H
#define TCNS_TUNNEL_TAP_H

#include <stdbool.h>
#include <sys/uio.h>

#include "tcp/leg.h"
#include "tunnel/capture.h"

#define TAP_BUFFER_LEN (8u << 20)

struct ev_loop;
struct tap;

/* When it has ended by itself it takes itself off owner, and calls on_end.
 * Return: 0 and *ret; -EINVAL when fd is no UNIX stream socket; -ENOMEM. fd is taken, also on
 * failure. */
int tap_new(struct ev_loop *loop, const struct tunnel_capture *cfg, int fd, struct captures *owner,
            tunnel_capture_fn on_end, void *arg, struct tap **ret);

/* Ends it now: statistics, as far as the reader takes them without waiting, and on_end. */
void tap_end(struct tap *t);

/* Without the statistics; on_end is not called. NULL is a no-op. */
void tap_free(struct tap *t);

/* Does the capture take packets of that side, and of that connection? tuple is NULL for
 * what is no TCP: wanted only where nothing is filtered. */
bool tap_wants(const struct tap *t, enum side side, const struct tuple *tuple);

/* One packet, in pieces. csum: its TCP checksum is to be completed. comment may be NULL. */
void tap_packet(struct tap *t, enum side side, bool outbound, const struct iovec *iov, size_t cnt,
                bool csum, const char *comment);

#endif
