/* SPDX-License-Identifier: BSD-3-Clause
 * Capturing packets: which connection each belongs to, and who wants it.
 */
#include "tunnel/capture.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tunnel/flow.h"
#include "tunnel/tap.h"
#include "tunnel/vnet.h"

#define IP4_LEN     20
#define IP6_LEN     40
#define COMMENT_LEN 160

static uint16_t read16(const uint8_t *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}

/* The connection of a packet whose headers are in ip[0..len), any bytes. Return: false when
 * it is no TCP, or its first fragment is another packet. */
static bool find_tuple(enum side side, bool outbound, const uint8_t *ip, size_t len,
                       struct tuple *ret)
{
    struct addr src, dst;
    size_t tcp;

    if (len >= IP4_LEN && ip[0] >> 4 == 4 && ip[9] == IPPROTO_TCP && !(read16(ip + 6) & 0x1fff)) {
        src = addr_from_v4(ip + 12);
        dst = addr_from_v4(ip + 16);
        tcp = (size_t)(ip[0] & 15) * 4;
    } else if (len >= IP6_LEN && ip[0] >> 4 == 6 && ip[6] == IPPROTO_TCP) {
        src = addr_from_v6(ip + 8);
        dst = addr_from_v6(ip + 24);
        tcp = IP6_LEN;
    } else {
        return false;
    }
    if (len < tcp + 4)
        return false;
    /* Towards the peer: in by the inner side, out by the outer one. */
    bool up = (side == SIDE_INNER) != outbound;
    uint16_t src_port = read16(ip + tcp), dst_port = read16(ip + tcp + 2);
    *ret = up ? (struct tuple){src, dst, src_port, dst_port}
              : (struct tuple){dst, src, dst_port, src_port};
    return true;
}

/* Return: out; NULL when there is nothing to say yet. */
static const char *comment_of(const struct flow_table *flows, const struct tuple *tuple,
                              char out[COMMENT_LEN])
{
    const struct flow *f = flow_find(flows, tuple);
    char id[2 * SESSION_ID_LEN + 1];
    struct session_info info;

    if (!f || f->phase != FLOW_RELAYING)
        return NULL;
    if (!f->session) {
        snprintf(out, COMMENT_LEN, "clear: %s", tunnel_reason_name(f->reason));
        return out;
    }
    session_get_info(f->session, &info);
    if (!info.has_id)
        return NULL;
    sodium_bin2hex(id, sizeof(id), info.id, SESSION_ID_LEN);
    snprintf(out, COMMENT_LEN, "tcpcrypt session %s", id);
    return out;
}

static void give(struct captures *c, const struct flow_table *flows, enum side side, bool outbound,
                 const struct iovec *iov, size_t cnt, bool csum)
{
    struct tuple tuple;
    bool is_tcp = find_tuple(side, outbound, iov[0].iov_base, iov[0].iov_len, &tuple);
    char text[COMMENT_LEN];

    for (size_t i = 0; i < c->cnt; i++) {
        if (!tap_wants(c->taps[i], side, is_tcp ? &tuple : NULL))
            continue;
        tap_packet(c->taps[i], side, outbound, iov, cnt, csum,
                   is_tcp ? comment_of(flows, &tuple, text) : NULL);
    }
}

void captures_rx(struct captures *c, const struct flow_table *flows, enum side side,
                 const struct vnet_packet *vp)
{
    struct iovec iov = {vp->ip, vp->len};

    give(c, flows, side, false, &iov, 1, vp->hdr.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM);
}

void captures_tx(struct captures *c, const struct flow_table *flows, const struct stack_tx *tx)
{
    struct iovec iov[1 + STACK_TX_IOV_MAX_CNT] = {{tx->hdr, tx->hdr_len}};

    memcpy(iov + 1, tx->iov, tx->iov_cnt * sizeof(*iov));
    give(c, flows, tx->side, true, iov, 1 + tx->iov_cnt, true);
}

void captures_tx_bytes(struct captures *c, const struct flow_table *flows, enum side side,
                       const uint8_t *ip, size_t len, bool csum)
{
    struct iovec iov = {(void *)(uintptr_t)ip, len};

    give(c, flows, side, true, &iov, 1, csum);
}

int captures_add(struct captures *c, struct ev_loop *loop, const struct tunnel_capture *cfg, int fd,
                 tunnel_capture_fn on_end, void *arg, struct tap **ret)
{
    if (c->cnt == CAPTURE_MAX_CNT) {
        close(fd);
        return -EMFILE;
    }
    int err = tap_new(loop, cfg, fd, c, on_end, arg, ret);
    if (!err)
        c->taps[c->cnt++] = *ret;
    return err;
}

void captures_del(struct captures *c, struct tap *tap)
{
    for (size_t i = 0; i < c->cnt; i++) {
        if (c->taps[i] == tap) {
            c->taps[i] = c->taps[--c->cnt];
            tap_free(tap);
            return;
        }
    }
}

void captures_done(struct captures *c)
{
    while (c->cnt > 0)
        tap_end(c->taps[0]);
}
