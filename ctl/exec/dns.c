/* SPDX-License-Identifier: BSD-3-Clause
 * Name resolution for a namespace whose resolver listens on the caller's loopback.
 */
#include "ctl/exec/dns.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "ctl/net/netns.h"

#define UDP_MAX_CNT     128
#define TCP_MAX_CNT     32
#define UDP_TIMEOUT_S   10 /* glibc's own is 5 for each try */
#define TCP_TIMEOUT_S   60 /* without a byte */
#define MESSAGE_MAX_LEN 65535
#define TCP_BUFFER_LEN  8192
#define BATCH_CNT       32 /* messages per socket and turn */

/* RFC 1035 4.1.1 */
#define HEADER_LEN     12
#define FLAGS_QR       0x80
#define RCODE_SERVFAIL 2
/* Of a question this much is kept, to answer "server failure" with: the classic limit. */
#define QUESTION_MAX_LEN 512

enum source { SOURCE_TIMER, SOURCE_UDP_LISTENER, SOURCE_TCP_LISTENER, SOURCE_QUERY, SOURCE_CONN };

struct server {
    union dns_addr addr;
    int udp_fd, tcp_fd; /* listen inside the namespace */
};

struct query {
    int fd; /* towards the server; -1: free */
    size_t server;
    union dns_addr client;
    socklen_t client_len;
    int64_t expires_s;
    size_t question_len; /* 0: too long to keep */
    uint8_t question[QUESTION_MAX_LEN];
};

/* One direction of a TCP connection. */
struct pipe_half {
    size_t off, len;
    bool eof;  /* nothing more will be read */
    bool shut; /* and the other end has been told */
    uint8_t buf[TCP_BUFFER_LEN];
};

struct conn {
    int fd[2]; /* client, server */
    int64_t expires_s;
    struct pipe_half half[2]; /* half[i] is read from fd[i] and written to fd[!i] */
};

struct dns {
    int epoll_fd, timer_fd;
    bool timer_armed;
    size_t server_cnt;
    struct server servers[DNS_SERVER_MAX_CNT];
    struct query queries[UDP_MAX_CNT];
    struct conn *conns[TCP_MAX_CNT];
    uint8_t message[MESSAGE_MAX_LEN];
};

/* --- resolv.conf ------------------------------------------------------------------ */

static bool parse_addr(const char *text, union dns_addr *ret)
{
    union dns_addr a;

    memset(&a, 0, sizeof(a));
    if (inet_pton(AF_INET, text, &a.in.sin_addr) == 1) {
        a.in.sin_family = AF_INET;
        a.in.sin_port = htons(DNS_PORT);
    } else if (inet_pton(AF_INET6, text, &a.in6.sin6_addr) == 1) {
        a.in6.sin6_family = AF_INET6;
        a.in6.sin6_port = htons(DNS_PORT);
    } else {
        return false;
    }
    *ret = a;
    return true;
}

static bool is_loopback(const union dns_addr *a)
{
    if (a->sa.sa_family == AF_INET)
        return ntohl(a->in.sin_addr.s_addr) >> 24 == 127;
    return IN6_IS_ADDR_LOOPBACK(&a->in6.sin6_addr);
}

/* Return: how many of ret are filled; *ret_named_cnt: how many servers are named. */
static size_t read_servers(const char *text, bool only_loopback, union dns_addr *ret, size_t max,
                           size_t *ret_named_cnt)
{
    size_t cnt = 0, named_cnt = 0;

    for (const char *line = text; *line; line += strcspn(line, "\n"), line += *line == '\n') {
        char addr[INET6_ADDRSTRLEN + 20]; /* and a scope */
        union dns_addr a;

        if (strncmp(line, "nameserver", 10) != 0 || (line[10] != ' ' && line[10] != '\t'))
            continue;
        const char *p = line + 10 + strspn(line + 10, " \t");
        size_t len = strcspn(p, " \t\r\n;#");
        if (len == 0 || len >= sizeof(addr))
            continue;
        memcpy(addr, p, len);
        addr[len] = '\0';
        if (++named_cnt > DNS_SERVER_MAX_CNT) /* the resolver reads no further either */
            break;
        if (cnt < max && parse_addr(addr, &a) && (!only_loopback || is_loopback(&a)))
            ret[cnt++] = a;
    }
    *ret_named_cnt = named_cnt;
    return cnt;
}

size_t dns_loopback_servers(const char *text, union dns_addr *ret, size_t max)
{
    size_t named_cnt, cnt = read_servers(text, true, ret, max, &named_cnt);

    if (named_cnt == 0 && max > 0 && parse_addr("127.0.0.1", &ret[0]))
        cnt = 1;
    return cnt;
}

/* Return: 0; -errno. A file that is not there is empty. */
static int read_file(const char *path, char *text, size_t size)
{
    size_t len = 0;

    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 && errno != ENOENT)
        return -errno;
    while (fd >= 0 && len < size - 1) {
        ssize_t n = read(fd, text + len, size - 1 - len);
        if (n <= 0)
            break;
        len += (size_t)n;
    }
    if (fd >= 0)
        close(fd);
    text[len] = '\0';
    return 0;
}

int dns_loopback_servers_of(const char *path, union dns_addr *ret, size_t max)
{
    char text[16384];
    int err = read_file(path, text, sizeof(text));

    return err ? err : (int)dns_loopback_servers(text, ret, max);
}

int dns_servers_of(const char *path, union dns_addr *ret, size_t max)
{
    char text[16384];
    size_t named_cnt;
    int err = read_file(path, text, sizeof(text));

    return err ? err : (int)read_servers(text, false, ret, max, &named_cnt);
}

/* --- descriptors and time ----------------------------------------------------------- */

static socklen_t addr_len(const union dns_addr *a)
{
    return a->sa.sa_family == AF_INET ? sizeof(a->in) : sizeof(a->in6);
}

static uint64_t tag(enum source source, size_t index, unsigned side)
{
    return (uint64_t)source << 32 | (uint64_t)index << 1 | side;
}

static int watch(struct dns *d, int op, int fd, uint32_t events, uint64_t t)
{
    struct epoll_event ev = {.events = events, .data.u64 = t};

    return epoll_ctl(d->epoll_fd, op, fd, &ev) < 0 ? -errno : 0;
}

/* Ticks each second, only while something can expire. */
static void timer_set(struct dns *d, bool on)
{
    struct itimerspec spec = {.it_interval.tv_sec = on, .it_value.tv_sec = on};

    if (d->timer_armed == on)
        return;
    timerfd_settime(d->timer_fd, 0, &spec, NULL);
    d->timer_armed = on;
}

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

/* --- UDP ---------------------------------------------------------------------------- */

static void query_free(struct query *q)
{
    close_fd(&q->fd);
}

/* The answer that makes a resolver try its next server at once. */
static void query_fail(struct dns *d, struct query *q)
{
    if (q->question_len >= HEADER_LEN) {
        q->question[2] |= FLAGS_QR;
        q->question[3] = (uint8_t)((q->question[3] & 0xf0) | RCODE_SERVFAIL);
        sendto(d->servers[q->server].udp_fd, q->question, q->question_len, MSG_NOSIGNAL,
               &q->client.sa, q->client_len);
    }
    query_free(q);
}

/* A free slot, or the one nearest to its end. */
static struct query *query_slot(struct dns *d)
{
    struct query *oldest = &d->queries[0];

    for (size_t i = 0; i < UDP_MAX_CNT; i++) {
        struct query *q = &d->queries[i];
        if (q->fd < 0)
            return q;
        if (q->expires_s < oldest->expires_s)
            oldest = q;
    }
    query_free(oldest);
    return oldest;
}

static void query_start(struct dns *d, size_t server, const union dns_addr *client,
                        socklen_t client_len, size_t len)
{
    const union dns_addr *to = &d->servers[server].addr;
    struct query *q = query_slot(d);

    q->server = server;
    q->client = *client;
    q->client_len = client_len;
    q->expires_s = clock_ms() / 1000 + UDP_TIMEOUT_S;
    q->question_len = len <= sizeof(q->question) ? len : 0;
    memcpy(q->question, d->message, q->question_len);
    q->fd = socket(to->sa.sa_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (q->fd < 0 || connect(q->fd, &to->sa, addr_len(to)) < 0 ||
        watch(d, EPOLL_CTL_ADD, q->fd, EPOLLIN, tag(SOURCE_QUERY, (size_t)(q - d->queries), 0)) <
            0 ||
        send(q->fd, d->message, len, MSG_NOSIGNAL) < 0) {
        query_fail(d, q);
        return;
    }
    timer_set(d, true);
}

static void on_udp_listener(struct dns *d, size_t server)
{
    for (int i = 0; i < BATCH_CNT; i++) {
        union dns_addr client;
        socklen_t client_len = sizeof(client);
        ssize_t n = recvfrom(d->servers[server].udp_fd, d->message, sizeof(d->message), 0,
                             &client.sa, &client_len);
        if (n < 0)
            return;
        if (n >= HEADER_LEN)
            query_start(d, server, &client, client_len, (size_t)n);
    }
}

static void on_query(struct dns *d, struct query *q)
{
    if (q->fd < 0) /* ended earlier in this turn */
        return;
    ssize_t n = recv(q->fd, d->message, sizeof(d->message), 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n < HEADER_LEN) {
        query_fail(d, q);
        return;
    }
    sendto(d->servers[q->server].udp_fd, d->message, (size_t)n, MSG_NOSIGNAL, &q->client.sa,
           q->client_len);
    query_free(q);
}

/* --- TCP ---------------------------------------------------------------------------- */

static void conn_free(struct dns *d, size_t i)
{
    struct conn *c = d->conns[i];

    close_fd(&c->fd[0]);
    close_fd(&c->fd[1]);
    free(c);
    d->conns[i] = NULL;
}

/* Room to read, or something to write, on either side. */
static void conn_watch(struct dns *d, size_t i)
{
    struct conn *c = d->conns[i];

    for (unsigned side = 0; side < 2; side++) {
        uint32_t events = 0;
        if (!c->half[side].eof && c->half[side].len == 0)
            events |= EPOLLIN;
        if (c->half[!side].len > 0)
            events |= EPOLLOUT;
        /* Hang-up is reported whatever we ask for; a side that is done would spin. */
        bool done = c->half[side].eof && c->half[!side].shut;
        watch(d, done ? EPOLL_CTL_DEL : EPOLL_CTL_MOD, c->fd[side], events,
              tag(SOURCE_CONN, i, side));
    }
}

static void conn_accept(struct dns *d, size_t server)
{
    const union dns_addr *to = &d->servers[server].addr;
    size_t i = 0;

    int fd = accept4(d->servers[server].tcp_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0)
        return;
    while (i < TCP_MAX_CNT && d->conns[i])
        i++;
    struct conn *c = i < TCP_MAX_CNT ? calloc(1, sizeof(*c)) : NULL;
    if (!c) {
        close(fd);
        return;
    }
    d->conns[i] = c;
    c->fd[0] = fd;
    c->fd[1] = socket(to->sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    c->expires_s = clock_ms() / 1000 + TCP_TIMEOUT_S;
    if (c->fd[1] < 0 || (connect(c->fd[1], &to->sa, addr_len(to)) < 0 && errno != EINPROGRESS) ||
        watch(d, EPOLL_CTL_ADD, c->fd[0], EPOLLIN, tag(SOURCE_CONN, i, 0)) < 0 ||
        watch(d, EPOLL_CTL_ADD, c->fd[1], EPOLLIN, tag(SOURCE_CONN, i, 1)) < 0) {
        conn_free(d, i);
        return;
    }
    timer_set(d, true);
}

/* Return: false when the connection is broken. */
static bool half_read(struct pipe_half *h, int fd)
{
    if (h->eof || h->len > 0)
        return true;
    ssize_t n = recv(fd, h->buf, sizeof(h->buf), 0);
    if (n < 0)
        return errno == EAGAIN || errno == EINTR;
    h->off = 0;
    h->len = (size_t)n;
    h->eof = n == 0;
    return true;
}

static bool half_write(struct pipe_half *h, int fd)
{
    if (h->len > 0) {
        ssize_t n = send(fd, h->buf + h->off, h->len, MSG_NOSIGNAL);
        if (n < 0)
            return errno == EAGAIN || errno == EINTR;
        h->off += (size_t)n;
        h->len -= (size_t)n;
    }
    if (h->eof && h->len == 0 && !h->shut) {
        shutdown(fd, SHUT_WR);
        h->shut = true;
    }
    return true;
}

static void on_conn(struct dns *d, size_t i, uint32_t events)
{
    struct conn *c = d->conns[i];

    if (!c)
        return;
    bool ok = !(events & EPOLLERR);
    for (unsigned side = 0; side < 2 && ok; side++)
        ok = half_read(&c->half[side], c->fd[side]) && half_write(&c->half[side], c->fd[!side]);
    if (!ok || (c->half[0].shut && c->half[1].shut)) {
        conn_free(d, i);
        return;
    }
    c->expires_s = clock_ms() / 1000 + TCP_TIMEOUT_S;
    conn_watch(d, i);
}

/* --- all together ------------------------------------------------------------------- */

static void on_timer(struct dns *d)
{
    uint64_t ticks;
    bool busy = false;
    int64_t now = clock_ms() / 1000;

    if (read(d->timer_fd, &ticks, sizeof(ticks)) < 0)
        return;
    for (size_t i = 0; i < UDP_MAX_CNT; i++) {
        if (d->queries[i].fd >= 0 && d->queries[i].expires_s <= now)
            query_free(&d->queries[i]);
        busy |= d->queries[i].fd >= 0;
    }
    for (size_t i = 0; i < TCP_MAX_CNT; i++) {
        if (d->conns[i] && d->conns[i]->expires_s <= now)
            conn_free(d, i);
        busy |= d->conns[i] != NULL;
    }
    timer_set(d, busy);
}

static void dispatch_one(struct dns *d, uint64_t t, uint32_t events)
{
    size_t index = (t & UINT32_MAX) >> 1;

    switch ((enum source)(t >> 32)) {
    case SOURCE_TIMER:
        on_timer(d);
        break;
    case SOURCE_UDP_LISTENER:
        on_udp_listener(d, index);
        break;
    case SOURCE_TCP_LISTENER:
        conn_accept(d, index);
        break;
    case SOURCE_QUERY:
        on_query(d, &d->queries[index]);
        break;
    case SOURCE_CONN:
        on_conn(d, index, events);
        break;
    }
}

int dns_fd(const struct dns *d)
{
    return d->epoll_fd;
}

void dns_dispatch(struct dns *d)
{
    struct epoll_event ev[BATCH_CNT];

    int n = epoll_wait(d->epoll_fd, ev, BATCH_CNT, 0);
    for (int i = 0; i < n; i++)
        dispatch_one(d, ev[i].data.u64, ev[i].events);
}

/* Return: a bound descriptor; -errno. */
static int listen_at(const union dns_addr *addr, int type)
{
    int one = 1;

    int fd = socket(addr->sa.sa_family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    if ((type == SOCK_STREAM && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0) ||
        bind(fd, &addr->sa, addr_len(addr)) < 0 || (type == SOCK_STREAM && listen(fd, 16) < 0)) {
        int err = -errno;
        close(fd);
        return err;
    }
    return fd;
}

static int server_listen(struct dns *d, size_t i)
{
    struct server *s = &d->servers[i];
    int err;

    s->udp_fd = listen_at(&s->addr, SOCK_DGRAM);
    if (s->udp_fd < 0)
        return s->udp_fd;
    s->tcp_fd = listen_at(&s->addr, SOCK_STREAM);
    if (s->tcp_fd < 0)
        return s->tcp_fd;
    err = watch(d, EPOLL_CTL_ADD, s->udp_fd, EPOLLIN, tag(SOURCE_UDP_LISTENER, i, 0));
    if (!err)
        err = watch(d, EPOLL_CTL_ADD, s->tcp_fd, EPOLLIN, tag(SOURCE_TCP_LISTENER, i, 0));
    return err;
}

/* The same server may be named twice. */
static bool is_known(const struct dns *d, const union dns_addr *addr)
{
    for (size_t i = 0; i < d->server_cnt; i++) {
        if (memcmp(&d->servers[i].addr, addr, sizeof(*addr)) == 0)
            return true;
    }
    return false;
}

static int listen_all(struct dns *d, const union dns_addr *servers, size_t cnt)
{
    for (size_t i = 0; i < cnt; i++) {
        if (is_known(d, &servers[i]))
            continue;
        d->servers[d->server_cnt] = (struct server){servers[i], -1, -1};
        int err = server_listen(d, d->server_cnt++);
        if (err)
            return err;
    }
    return 0;
}

int dns_new(int netns_fd, const union dns_addr *servers, size_t server_cnt, struct dns **ret)
{
    if (server_cnt > DNS_SERVER_MAX_CNT)
        return -E2BIG;
    int home_fd = netns_open("self");
    if (home_fd < 0)
        return home_fd;
    struct dns *d = calloc(1, sizeof(*d));
    if (!d) {
        close(home_fd);
        return -ENOMEM;
    }
    for (size_t i = 0; i < UDP_MAX_CNT; i++)
        d->queries[i].fd = -1;
    d->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    d->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    int err = d->epoll_fd < 0 || d->timer_fd < 0 ? -errno : 0;
    if (!err)
        err = watch(d, EPOLL_CTL_ADD, d->timer_fd, EPOLLIN, tag(SOURCE_TIMER, 0, 0));
    if (!err)
        err = netns_enter(netns_fd);
    if (!err) {
        err = listen_all(d, servers, server_cnt);
        int back = netns_enter(home_fd);
        if (!err)
            err = back;
    }
    close(home_fd);
    if (err) {
        dns_free(d);
        return err;
    }
    *ret = d;
    return 0;
}

void dns_free(struct dns *d)
{
    if (!d)
        return;
    for (size_t i = 0; i < UDP_MAX_CNT; i++)
        query_free(&d->queries[i]);
    for (size_t i = 0; i < TCP_MAX_CNT; i++) {
        if (d->conns[i])
            conn_free(d, i);
    }
    for (size_t i = 0; i < d->server_cnt; i++) {
        close_fd(&d->servers[i].udp_fd);
        close_fd(&d->servers[i].tcp_fd);
    }
    close_fd(&d->timer_fd);
    close_fd(&d->epoll_fd);
    free(d);
}
