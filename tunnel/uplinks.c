/* SPDX-License-Identifier: BSD-3-Clause
 * All uplinks of the container.
 */
#include "tunnel/uplinks.h"

#include <errno.h>
#include <ev.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct entry {
    struct uplink uplink;
    ev_io in, out;
    struct uplinks *all;
};

struct uplinks {
    struct ev_loop *loop;
    const struct uplinks_ops *ops;
    void *arg;
    struct nexthop *nexthop;
    ev_io news;
    struct entry *entries[NEXTHOP_LINK_MAX_CNT];
    size_t cnt;
};

static void on_readable(struct ev_loop *loop, ev_io *w, int revents)
{
    struct entry *e = w->data;

    e->all->ops->on_readable(e->all->arg, &e->uplink);
}

static void on_writable(struct ev_loop *loop, ev_io *w, int revents)
{
    struct entry *e = w->data;

    ev_io_stop(loop, w);
    e->all->ops->on_writable(e->all->arg);
}

static void on_news(struct ev_loop *loop, ev_io *w, int revents)
{
    struct uplinks *us = w->data;

    us->ops->on_news(us->arg);
}

int uplinks_new(struct ev_loop *loop, const struct uplinks_ops *ops, void *arg,
                struct uplinks **ret)
{
    struct uplinks *us = calloc(1, sizeof(*us));

    if (!us)
        return -ENOMEM;
    us->loop = loop;
    us->ops = ops;
    us->arg = arg;
    int err = nexthop_new(&ops->nexthop, arg, &us->nexthop);
    if (err < 0) {
        free(us);
        return err;
    }
    ev_io_init(&us->news, on_news, nexthop_fd(us->nexthop), EV_READ);
    us->news.data = us;
    ev_io_start(loop, &us->news);
    *ret = us;
    return 0;
}

static void entry_free(struct entry *e)
{
    ev_io_stop(e->all->loop, &e->in);
    ev_io_stop(e->all->loop, &e->out);
    uplink_close(&e->uplink);
    free(e);
}

void uplinks_free(struct uplinks *us)
{
    if (!us)
        return;
    while (us->cnt > 0)
        entry_free(us->entries[--us->cnt]);
    ev_io_stop(us->loop, &us->news);
    nexthop_free(us->nexthop);
    free(us);
}

static struct entry *find(const struct uplinks *us, int ifindex)
{
    for (size_t i = 0; i < us->cnt; i++)
        if (us->entries[i]->uplink.ifindex == ifindex)
            return us->entries[i];
    return NULL;
}

int uplinks_add(struct uplinks *us, int fd, const struct uplink_config *cfg)
{
    struct entry *e = find(us, cfg->ifindex) ? NULL : calloc(1, sizeof(*e));
    struct uplink_config with_len = *cfg;

    if (!e) {
        close(fd);
        return find(us, cfg->ifindex) ? -EEXIST : -ENOMEM;
    }
    int err = nexthop_add_link(us->nexthop, cfg->ifindex);
    if (err < 0) {
        close(fd);
        free(e);
        return err;
    }
    with_len.link_len = nexthop_link_len(us->nexthop, cfg->ifindex);
    err = uplink_open(&e->uplink, fd, &with_len);
    if (err < 0) {
        nexthop_del_link(us->nexthop, cfg->ifindex);
        free(e);
        return err;
    }
    ev_io_init(&e->in, on_readable, e->uplink.wake_fd, EV_READ);
    ev_io_init(&e->out, on_writable, e->uplink.fd, EV_WRITE);
    e->in.data = e->out.data = e;
    e->all = us;
    us->entries[us->cnt++] = e; /* nexthop_add_link() has counted */
    ev_io_start(us->loop, &e->in);
    return 0;
}

void uplinks_del(struct uplinks *us, int ifindex)
{
    struct entry *e = find(us, ifindex);
    size_t i = 0;

    if (!e)
        return;
    bool awaited = ev_is_active(&e->out);
    while (us->entries[i] != e)
        i++;
    us->entries[i] = us->entries[--us->cnt];
    entry_free(e);
    nexthop_del_link(us->nexthop, ifindex);
    if (awaited)
        us->ops->on_writable(us->arg);
}

void uplinks_set_bypass(struct uplinks *us, const struct uplink_config *cfg)
{
    for (size_t i = 0; i < us->cnt; i++)
        uplink_set_bypass(&us->entries[i]->uplink, cfg);
}

struct nexthop *uplinks_nexthop(struct uplinks *us)
{
    return us->nexthop;
}

/* --- Sending ---------------------------------------------------------------------- */

static struct nexthop_path path_of(const struct stack_tx *tx)
{
    return (struct nexthop_path){
        .src = tx->v6 ? addr_from_v6(tx->hdr + 8) : addr_from_v4(tx->hdr + 12),
        .dst = tx->dst,
        .via = tx->via,
    };
}

/* Only headers wait: handshakes begin with them, and TCP sends the rest again. */
static void wait_for_neighbour(struct uplinks *us, const struct nexthop_path *path,
                               const struct stack_tx *tx)
{
    if (tx->data_len > 0)
        return;
    size_t tcp_len = tx->hdr_len - tx->ip_len;
    uint8_t *csum = tx->hdr + tx->ip_len + 16;
    memset(csum, 0, 2);
    uint32_t sum = packet_pseudo_sum(&path->src, &path->dst, IPPROTO_TCP, tcp_len);
    uint16_t folded = (uint16_t)~packet_sum_fold(packet_sum(tx->hdr + tx->ip_len, tcp_len, sum));
    memcpy(csum, &folded, 2);
    nexthop_wait(us->nexthop, path, tx->hdr, tx->hdr_len);
}

static int find_way(struct uplinks *us, const struct nexthop_path *path, struct entry **ret,
                    const uint8_t **ret_link)
{
    struct nexthop_way way;

    switch (nexthop_lookup(us->nexthop, path, &way)) {
    case NEXTHOP_NO_ROUTE:
        return -ENETUNREACH;
    case NEXTHOP_WAIT:
        return -EINPROGRESS;
    case NEXTHOP_OK:
        break;
    }
    *ret = find(us, way.ifindex);
    *ret_link = way.link;
    return *ret ? 0 : -ENETUNREACH;
}

int uplinks_send(struct uplinks *us, const struct stack_tx *tx)
{
    struct nexthop_path path = path_of(tx);
    struct entry *e;
    const uint8_t *link;

    int err = find_way(us, &path, &e, &link);
    if (err == -EINPROGRESS)
        wait_for_neighbour(us, &path, tx);
    if (err == 0)
        err = uplink_send(&e->uplink, tx, link);
    if (err == -EAGAIN)
        ev_io_start(us->loop, &e->out);
    return err;
}

int uplinks_forward(struct uplinks *us, const struct nexthop_path *path,
                    const struct virtio_net_hdr *hdr, const uint8_t *ip, size_t len)
{
    struct entry *e;
    const uint8_t *link;

    int err = find_way(us, path, &e, &link);
    return err < 0 ? err : uplink_forward(&e->uplink, hdr, link, ip, len);
}
