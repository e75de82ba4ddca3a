/* SPDX-License-Identifier: BSD-3-Clause
 * All uplinks of the container: which of them a packet leaves by.
 *
 * How it works: each has a packet socket (uplink.h), and all share one view of the kernel's
 * routes and neighbours (nexthop.h). They come and go while packets flow.
 */
#ifndef TCNS_TUNNEL_UPLINKS_H
#define TCNS_TUNNEL_UPLINKS_H

#include "tunnel/nexthop.h"
#include "tunnel/uplink.h"

struct ev_loop;
struct uplinks;

struct uplinks_ops {
    /* There are packets for uplink_read(). */
    void (*on_readable)(void *arg, struct uplink *u);
    /* One that took no more packets takes them again, or is gone. */
    void (*on_writable)(void *arg);
    /* News for nexthop_read(). */
    void (*on_news)(void *arg);
    struct nexthop_ops nexthop;
};

/* ops and arg are borrowed. Return: 0 and *ret, without any uplink; -errno. */
int uplinks_new(struct ev_loop *loop, const struct uplinks_ops *ops, void *arg,
                struct uplinks **ret);
void uplinks_free(struct uplinks *us);

/* fd is of uplink_socket(), and taken, also on failure; cfg's link_len does not matter.
 * Return: 0; -errno, see nexthop_add_link(). */
int uplinks_add(struct uplinks *us, int fd, const struct uplink_config *cfg);
/* No-op when there is none of that number. */
void uplinks_del(struct uplinks *us, int ifindex);

/* Only what cfg says of bypassing matters. */
void uplinks_set_bypass(struct uplinks *us, const struct uplink_config *cfg);

struct nexthop *uplinks_nexthop(struct uplinks *us);

/* Sends one packet by the uplink that leads to its destination. Return: 0; -EAGAIN: later,
 * after on_writable(); -ENETUNREACH: no way; -EINPROGRESS: kept, if it is short, until the
 * neighbour is resolved; other -errno. */
int uplinks_send(struct uplinks *us, const struct stack_tx *tx);
/* One that is not the stack's; such never wait. */
int uplinks_forward(struct uplinks *us, const struct nexthop_path *path,
                    const struct virtio_net_hdr *hdr, const uint8_t *ip, size_t len);

#endif
