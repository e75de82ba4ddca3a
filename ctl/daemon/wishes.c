/* SPDX-License-Identifier: BSD-3-Clause
 * What applications have said of their sockets.
 */
#include "ctl/daemon/wishes.h"

#include <errno.h>
#include <ev.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "ctl/net/netlink.h"
#include "ctl/net/sockfind.h"

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif

#define SWEEP_S 2

struct entry {
    uint64_t cookie;
    uid_t uid;
    bool seen; /* by the sweep that goes on */
    struct wish wish;
};

struct wishes_table {
    size_t cnt;
    struct entry entries[WISHES_MAX_CNT];
};

struct wishes {
    struct ev_loop *loop;
    struct nl_sock *diag;
    int tun_ifindex;
    uint64_t netns_cookie; /* 0: the kernel has none */
    int set_fd;            /* the store's; nobody waits for it */
    int info_fd;           /* its fdinfo */
    int slot_fd;           /* the number under which each socket is put into the set */
    ev_timer sweep;
    struct wishes_table *table; /* the store's */
};

/* --- Sockets --------------------------------------------------------------------- */

static int get_option(int fd, int level, int name, void *value, size_t len)
{
    socklen_t got = (socklen_t)len;

    return getsockopt(fd, level, name, value, &got) < 0 ? -errno : got == len ? 0 : -EINVAL;
}

/* Whatever somebody has sent us. */
static bool is_our_kind(const struct wishes *w, int fd)
{
    uint64_t netns = 0;
    int protocol = 0;

    return get_option(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, sizeof(protocol)) == 0 &&
           protocol == IPPROTO_TCP &&
           (get_option(fd, SOL_SOCKET, SO_NETNS_COOKIE, &netns, sizeof(netns)) < 0 ||
            netns == w->netns_cookie);
}

static int cookie_of(const struct wishes *w, int fd, uint64_t *ret)
{
    return is_our_kind(w, fd) ? get_option(fd, SOL_SOCKET, SO_COOKIE, ret, sizeof(*ret))
                              : -ENOTSOCK;
}

/* Return: whether a connection of the socket could still begin. */
static bool is_unused(int fd)
{
    struct tcp_info info;
    socklen_t len = sizeof(info);

    return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) == 0 &&
           (info.tcpi_state == TCP_CLOSE || info.tcpi_state == TCP_LISTEN);
}

union any_addr {
    struct sockaddr sa;
    struct sockaddr_in in;
    struct sockaddr_in6 in6;
};

static bool read_addr(const union any_addr *from, struct addr *ret, uint16_t *ret_port)
{
    if (from->sa.sa_family == AF_INET) {
        *ret = addr_from_v4(&from->in.sin_addr);
        *ret_port = ntohs(from->in.sin_port);
    } else if (from->sa.sa_family == AF_INET6) {
        *ret = addr_from_v6(&from->in6.sin6_addr);
        *ret_port = ntohs(from->in6.sin6_port);
    } else {
        return false;
    }
    return true;
}

int wishes_tuple_of(const struct wishes *w, int fd, struct tuple *ret)
{
    union any_addr local = {.in6 = {0}}, peer = {.in6 = {0}};
    socklen_t local_len = sizeof(local), peer_len = sizeof(peer);
    struct tuple t;

    if (!is_our_kind(w, fd) || getsockname(fd, &local.sa, &local_len) < 0 ||
        !read_addr(&local, &t.local, &t.local_port))
        return -ENOTSOCK;
    if (getpeername(fd, &peer.sa, &peer_len) < 0 || !read_addr(&peer, &t.peer, &t.peer_port))
        return -ENOTCONN;
    *ret = t;
    return 0;
}

int wishes_owner_of(struct wishes *w, const struct tuple *tuple, uid_t *ret)
{
    struct sockfind found;

    int err = sockfind(w->diag, tuple, w->tun_ifindex, &found);
    if (!err)
        *ret = found.uid;
    return err;
}

/* --- Which of them are still open ------------------------------------------------- */

static struct entry *find_entry(struct wishes *w, uint64_t cookie)
{
    for (size_t i = 0; i < w->table->cnt; i++)
        if (w->table->entries[i].cookie == cookie)
            return &w->table->entries[i];
    return NULL;
}

/* Always under one number: then the kernel knows a socket that is there already. */
static int in_slot(struct wishes *w, int fd, int op, uint64_t cookie)
{
    struct epoll_event event = {.data.u64 = cookie};
    int err = 0;

    if (dup3(fd, w->slot_fd, O_CLOEXEC) < 0)
        return -errno;
    if (epoll_ctl(w->set_fd, op, w->slot_fd, &event) < 0)
        err = -errno;
    /* Frees the socket, keeps the number. */
    if (dup3(w->set_fd, w->slot_fd, O_CLOEXEC) < 0)
        return -errno;
    return err;
}

/* A line of fdinfo: "tfd:        9 events:     18 data:               a1  pos:0 ino:7 sdev:8". */
static void see_line(struct wishes *w, const char *line)
{
    const char *data = strncmp(line, "tfd:", 4) == 0 ? strstr(line, "data:") : NULL;
    struct entry *e = data ? find_entry(w, strtoull(data + 5, NULL, 16)) : NULL;

    if (e)
        e->seen = true;
}

/* Return: whether all of it could be read. */
static bool see_open(struct wishes *w)
{
    char text[4096 + 1];
    size_t len = 0;
    off_t at = 0;
    ssize_t n;

    while ((n = pread(w->info_fd, text + len, sizeof(text) - 1 - len, at)) > 0) {
        char *line = text, *end;

        at += n;
        len += (size_t)n;
        text[len] = '\0';
        for (; (end = strchr(line, '\n')); line = end + 1) {
            *end = '\0';
            see_line(w, line);
        }
        len -= (size_t)(line - text);
        memmove(text, line, len);
    }
    return n == 0;
}

static void set_timer(struct wishes *w)
{
    if (w->table->cnt > 0 && !ev_is_active(&w->sweep))
        ev_timer_again(w->loop, &w->sweep);
    else if (w->table->cnt == 0)
        ev_timer_stop(w->loop, &w->sweep);
}

static void remove_entry(struct wishes *w, struct entry *e)
{
    *e = w->table->entries[--w->table->cnt];
}

void wishes_sweep(struct wishes *w)
{
    for (size_t i = 0; i < w->table->cnt; i++)
        w->table->entries[i].seen = false;
    if (!see_open(w))
        return;
    for (size_t i = w->table->cnt; i > 0; i--)
        if (!w->table->entries[i - 1].seen)
            remove_entry(w, &w->table->entries[i - 1]);
    set_timer(w);
}

static void on_sweep(struct ev_loop *loop, ev_timer *t, int events)
{
    wishes_sweep(t->data);
}

/* --- Wishes ----------------------------------------------------------------------- */

static size_t cnt_of_user(const struct wishes *w, uid_t uid)
{
    size_t cnt = 0;

    for (size_t i = 0; i < w->table->cnt; i++)
        cnt += w->table->entries[i].uid == uid;
    return cnt;
}

static bool has_room(const struct wishes *w, uid_t uid)
{
    return w->table->cnt < WISHES_MAX_CNT && cnt_of_user(w, uid) < WISHES_USER_MAX_CNT;
}

static int add(struct wishes *w, int fd, uint64_t cookie, uid_t uid, const struct wish *wish)
{
    if (!has_room(w, uid))
        wishes_sweep(w);
    if (!has_room(w, uid))
        return -ENOSPC;
    int err = in_slot(w, fd, EPOLL_CTL_ADD, cookie);
    if (err && err != -EEXIST) /* an earlier worker may have left it there */
        return err;
    w->table->entries[w->table->cnt++] =
        (struct entry){.cookie = cookie, .uid = uid, .wish = *wish};
    set_timer(w);
    return 0;
}

static void forget(struct wishes *w, int fd, struct entry *e)
{
    int err = in_slot(w, fd, EPOLL_CTL_DEL, e->cookie);

    if (err)
        log_debug("wishes: %s", strerror(-err));
    remove_entry(w, e);
    set_timer(w);
}

int wishes_set(struct wishes *w, int fd, uid_t uid, const struct wish *wish)
{
    uint64_t cookie;

    int err = cookie_of(w, fd, &cookie);
    if (err)
        return err;
    if (!is_unused(fd))
        return -EISCONN;
    struct entry *e = find_entry(w, cookie);
    if (e && !wish->set)
        forget(w, fd, e);
    else if (e)
        e->wish = *wish;
    else if (wish->set)
        err = add(w, fd, cookie, uid, wish);
    return err;
}

int wishes_get(struct wishes *w, int fd, struct wish *ret)
{
    uint64_t cookie;

    int err = cookie_of(w, fd, &cookie);
    if (err)
        return err;
    const struct entry *e = find_entry(w, cookie);
    *ret = e ? e->wish : (struct wish){.set = 0};
    return 0;
}

int wishes_find(void *arg, const struct tuple *tuple, bool inbound, struct wish *ret)
{
    struct wishes *w = arg;
    struct sockfind found;

    if (w->table->cnt == 0)
        return 0;
    int err = sockfind(w->diag, tuple, w->tun_ifindex, &found);
    if (err == -ENOENT)
        return 0; /* nobody listens; or it was closed at once */
    if (err) {
        log_warn("cannot tell whose socket opens a connection: %s", strerror(-err));
        return err;
    }
    const struct entry *e = find_entry(w, found.cookie);
    if (!e)
        return 0;
    *ret = e->wish;
    return 1;
}

size_t wishes_cnt(const struct wishes *w)
{
    return w->table->cnt;
}

/* --- Life -------------------------------------------------------------------------- */

static uint64_t own_netns_cookie(void)
{
    uint64_t cookie = 0;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return 0;
    (void)get_option(fd, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, sizeof(cookie));
    close(fd);
    return cookie;
}

static int open_set(struct wishes *w)
{
    char path[64];

    w->slot_fd = fcntl(w->set_fd, F_DUPFD_CLOEXEC, 0);
    if (w->slot_fd < 0)
        return -errno;
    snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", w->set_fd);
    w->info_fd = open(path, O_RDONLY | O_CLOEXEC);
    return w->info_fd < 0 ? -errno : 0;
}

/* What a worker that died of a fault has left may be anything. */
static void drop_nonsense(struct wishes_table *t)
{
    if (t->cnt > WISHES_MAX_CNT)
        t->cnt = 0;
    for (size_t i = t->cnt; i > 0; i--)
        if (t->entries[i - 1].wish.aead_cnt > WISH_AEADS_MAX_CNT)
            t->entries[i - 1] = t->entries[--t->cnt];
}

int wishes_new(struct ev_loop *loop, int tun_ifindex, const struct wishes_store *store,
               struct wishes **ret)
{
    struct wishes *w = store->table ? calloc(1, sizeof(*w)) : NULL;

    if (!w)
        return store->table ? -ENOMEM : -EOPNOTSUPP;
    w->loop = loop;
    w->tun_ifindex = tun_ifindex;
    w->table = store->table;
    w->set_fd = store->set_fd;
    w->slot_fd = w->info_fd = -1;
    w->netns_cookie = own_netns_cookie();
    ev_timer_init(&w->sweep, on_sweep, 0, SWEEP_S);
    w->sweep.data = w;
    int err = open_set(w);
    if (!err)
        err = netlink_open(NETLINK_SOCK_DIAG, &w->diag);
    if (err) {
        wishes_free(w);
        return err;
    }
    drop_nonsense(w->table);
    set_timer(w);
    *ret = w;
    return 0;
}

static void close_if_open(int fd)
{
    if (fd >= 0)
        close(fd);
}

void wishes_free(struct wishes *w)
{
    if (!w)
        return;
    ev_timer_stop(w->loop, &w->sweep);
    close_if_open(w->slot_fd);
    close_if_open(w->info_fd);
    nl_socket_free(w->diag);
    free(w);
}

/* --- The store -------------------------------------------------------------------------- */

int wishes_store_init(struct wishes_store *ret)
{
    *ret = (struct wishes_store)WISHES_STORE_NONE;
    int fd = epoll_create1(EPOLL_CLOEXEC);
    if (fd < 0)
        return -errno;
    void *memory = mmap(NULL, sizeof(struct wishes_table), PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        int err = -errno;
        close(fd);
        return err;
    }
    *ret = (struct wishes_store){.set_fd = fd, .table = memory};
    return 0;
}

void wishes_store_done(struct wishes_store *s)
{
    if (s->table)
        munmap(s->table, sizeof(*s->table));
    close_if_open(s->set_fd);
    *s = (struct wishes_store)WISHES_STORE_NONE;
}
