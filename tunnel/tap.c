/* SPDX-License-Identifier: BSD-3-Clause
 * Captures: copies of packets at either side of the tunnel.
 */
#include "tunnel/tap.h"

#include <errno.h>
#include <ev.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "tunnel/pcapng.h"

#define SEND_MAX_LEN (256u << 10) /* in one turn of the loop */
#define IP4_MIN_LEN  20
#define IP6_LEN      40
#define TCP_CSUM_OFF 16
#define NO_INTERFACE UINT32_MAX

struct tap {
    struct ev_loop *loop;
    struct tunnel_capture cfg;
    int fd;
    ev_io reader, writer;
    struct captures *owner;
    tunnel_capture_fn on_end;
    void *arg;
    bool ending; /* nothing more is taken; what is in the buffer goes out */
    uint32_t interfaces[SIDE_CNT];
    uint64_t start_ns;
    struct tunnel_capture_stats stats;
    size_t off, len; /* of what waits in bytes: from off, up to len */
    uint8_t bytes[TAP_BUFFER_LEN];
};

static uint64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* Return: room for len bytes, NULL when there is none. The bytes that wait move only when
 * half of the buffer has been sent: so that a full buffer is not moved for every packet. */
static uint8_t *room(struct tap *t, size_t len)
{
    if (sizeof(t->bytes) - t->len < len && t->off >= sizeof(t->bytes) / 2) {
        memmove(t->bytes, t->bytes + t->off, t->len - t->off);
        t->len -= t->off;
        t->off = 0;
    }
    return sizeof(t->bytes) - t->len < len ? NULL : t->bytes + t->len;
}

/* --- Out ---------------------------------------------------------------------- */

static void finish(struct tap *t)
{
    tunnel_capture_fn on_end = t->on_end;
    void *arg = t->arg;
    struct tunnel_capture_stats stats = t->stats;

    captures_del(t->owner, t);
    on_end(arg, &stats);
}

/* There is always room for it: see the reserve in tap_packet(). */
static void put_statistics(struct tap *t)
{
    for (int side = 0; side < SIDE_CNT; side++) {
        struct pcapng_statistics s = {
            .interface = t->interfaces[side],
            .start_ns = t->start_ns,
            .end_ns = now_ns(),
            .received = t->stats.packets[side] + t->stats.dropped[side],
            .dropped = t->stats.dropped[side],
        };
        uint8_t *out = room(t, PCAPNG_BLOCK_MAX_LEN);

        if (out && s.interface != NO_INTERFACE)
            t->len += pcapng_statistics(out, &s);
    }
}

static void begin_end(struct tap *t)
{
    if (t->ending)
        return;
    t->ending = true;
    ev_io_stop(t->loop, &t->reader);
    put_statistics(t);
    ev_io_start(t->loop, &t->writer);
}

static void on_writable(struct ev_loop *loop, ev_io *w, int events)
{
    struct tap *t = w->data;
    size_t len = t->len - t->off;

    ssize_t n = len == 0 ? 0
                         : send(t->fd, t->bytes + t->off, len < SEND_MAX_LEN ? len : SEND_MAX_LEN,
                                MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0 && errno != EAGAIN && errno != EINTR) {
        finish(t); /* nobody reads any more */
        return;
    }
    t->off += n > 0 ? (size_t)n : 0;
    if (t->off < t->len)
        return;
    t->off = t->len = 0;
    ev_io_stop(loop, w);
    if (t->ending)
        finish(t);
}

/* The reader says nothing but that it wants no more. */
static void on_readable(struct ev_loop *loop, ev_io *w, int events)
{
    char bytes[64];
    ssize_t n = recv(w->fd, bytes, sizeof(bytes), MSG_DONTWAIT);

    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
        begin_end(w->data);
}

void tap_end(struct tap *t)
{
    ssize_t n = 1;

    begin_end(t);
    while (t->off < t->len && n > 0) {
        n = send(t->fd, t->bytes + t->off, t->len - t->off, MSG_NOSIGNAL | MSG_DONTWAIT);
        t->off += n > 0 ? (size_t)n : 0;
    }
    finish(t);
}

/* --- In ----------------------------------------------------------------------- */

bool tap_wants(const struct tap *t, enum side side, const struct tuple *tuple)
{
    const struct tunnel_capture *c = &t->cfg;

    if (!c->sides[side] || t->ending)
        return false;
    if (!tuple)
        return !c->has_peer && c->port == 0;
    if (c->has_peer && !addr_eq(&c->peer, &tuple->peer))
        return false;
    return c->port == 0 || c->port == tuple->local_port || c->port == tuple->peer_port;
}

/* Return: where the TCP header starts; 0 when it cannot be told. */
static size_t tcp_offset(const uint8_t *ip, size_t len)
{
    if (len >= IP4_MIN_LEN && ip[0] >> 4 == 4)
        return (size_t)(ip[0] & 15) * 4;
    return len >= IP6_LEN && ip[0] >> 4 == 6 ? IP6_LEN : 0;
}

static void complete_checksum(uint8_t *ip, size_t len)
{
    size_t tcp = tcp_offset(ip, len);

    if (tcp == 0 || len < tcp + TCP_CSUM_OFF + 2)
        return;
    struct addr src = tcp == IP6_LEN ? addr_from_v6(ip + 8) : addr_from_v4(ip + 12);
    struct addr dst = tcp == IP6_LEN ? addr_from_v6(ip + 24) : addr_from_v4(ip + 16);
    memset(ip + tcp + TCP_CSUM_OFF, 0, 2);
    uint32_t sum = packet_pseudo_sum(&src, &dst, IPPROTO_TCP, len - tcp);
    uint16_t folded = (uint16_t)~packet_sum_fold(packet_sum(ip + tcp, len - tcp, sum));
    memcpy(ip + tcp + TCP_CSUM_OFF, &folded, 2);
}

static void copy(uint8_t *out, const struct iovec *iov, size_t cnt)
{
    for (size_t i = 0; i < cnt; i++) {
        if (iov[i].iov_len > 0)
            memcpy(out, iov[i].iov_base, iov[i].iov_len);
        out += iov[i].iov_len;
    }
}

/* The copy is made outside the buffer, because the checksum is over all of the packet, of
 * which the block may have a part only. */
void tap_packet(struct tap *t, enum side side, bool outbound, const struct iovec *iov, size_t cnt,
                bool csum, const char *comment)
{
    static uint8_t whole[PACKET_MAX_LEN + 64];
    size_t len = 0;
    uint8_t *data;

    for (size_t i = 0; i < cnt; i++)
        len += iov[i].iov_len;
    uint32_t cap_len = (uint32_t)(len < t->cfg.snap_len ? len : t->cfg.snap_len);
    size_t reserve = SIDE_CNT * PCAPNG_BLOCK_MAX_LEN;
    uint8_t *out = room(t, PCAPNG_PACKET_OVERHEAD + cap_len + reserve);
    if (!out || len > sizeof(whole)) {
        t->stats.dropped[side]++;
        return;
    }
    struct pcapng_packet p = {
        .interface = t->interfaces[side],
        .time_ns = now_ns(),
        .cap_len = cap_len,
        .len = (uint32_t)len,
        .outbound = outbound,
        .comment = comment,
    };
    copy(whole, iov, cnt);
    if (csum)
        complete_checksum(whole, len);
    t->len += pcapng_packet(out, &p, &data);
    memcpy(data, whole, cap_len);
    t->stats.packets[side]++;
    ev_io_start(t->loop, &t->writer);
    if (t->cfg.max_cnt > 0 &&
        t->stats.packets[SIDE_INNER] + t->stats.packets[SIDE_OUTER] >= t->cfg.max_cnt)
        begin_end(t);
}

/* --- Start and end -------------------------------------------------------------- */

static void put_head(struct tap *t)
{
    static const char *const comments[SIDE_CNT] = {
        [SIDE_INNER] = "tcpcrypt-ns, inner side: clear text of the applications",
        [SIDE_OUTER] = "tcpcrypt-ns, outer side: as on the wire",
    };
    static const char *const descriptions[SIDE_CNT] = {
        [SIDE_INNER] = "between applications and daemon",
        [SIDE_OUTER] = "between daemon and peers",
    };
    uint32_t next = 0;

    t->len += pcapng_section(t->bytes + t->len, t->cfg.application,
                             "Super-segments are one record each; each packet's comment has "
                             "the session id of its connection.");
    for (int side = 0; side < SIDE_CNT; side++) {
        t->interfaces[side] = t->cfg.sides[side] ? next++ : NO_INTERFACE;
        if (t->cfg.sides[side])
            t->len += pcapng_interface(t->bytes + t->len, t->cfg.names[side], descriptions[side],
                                       comments[side], t->cfg.snap_len);
    }
}

static bool is_stream_socket(int fd)
{
    int domain = 0, type = 0;
    socklen_t len = sizeof(int);

    return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) == 0 && domain == AF_UNIX &&
           getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) == 0 && type == SOCK_STREAM;
}

int tap_new(struct ev_loop *loop, const struct tunnel_capture *cfg, int fd, struct captures *owner,
            tunnel_capture_fn on_end, void *arg, struct tap **ret)
{
    bool good = is_stream_socket(fd);
    struct tap *t = good ? malloc(sizeof(*t)) : NULL;

    if (!t) {
        close(fd);
        return good ? -ENOMEM : -EINVAL;
    }
    memset(t, 0, offsetof(struct tap, bytes)); /* the rest is touched when it is needed */
    t->loop = loop;
    t->cfg = *cfg;
    t->fd = fd;
    t->owner = owner;
    t->on_end = on_end;
    t->arg = arg;
    t->start_ns = now_ns();
    if (t->cfg.snap_len == 0)
        t->cfg.snap_len = PACKET_MAX_LEN;
    put_head(t);
    ev_io_init(&t->reader, on_readable, fd, EV_READ);
    ev_io_init(&t->writer, on_writable, fd, EV_WRITE);
    t->reader.data = t->writer.data = t;
    ev_io_start(loop, &t->reader);
    ev_io_start(loop, &t->writer);
    *ret = t;
    return 0;
}

void tap_free(struct tap *t)
{
    if (!t)
        return;
    ev_io_stop(t->loop, &t->reader);
    ev_io_stop(t->loop, &t->writer);
    close(t->fd);
    free(t);
}
