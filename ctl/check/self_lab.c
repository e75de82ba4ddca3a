/* SPDX-License-Identifier: BSD-3-Clause
 * Two private network namespaces with a link between.
 */
#include "ctl/check/self_lab.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sodium.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "ctl/daemon/ctlsock.h"
#include "ctl/exec/exec_link.h"
#include "ctl/net/netns.h"
#include "ctl/net/tundev.h"
#include "tcp/packet.h"
#include "tcpcrypt/eno.h"

#define LINK_NAME  "eth0"
#define PORT       7548 /* the same for all: a later connection may resume an earlier one */
#define STOP_MS    3000
#define STEP_MS    20
#define WAIT_MS    5000
#define MARKS_CNT  1024 /* in each direction */
#define WIRE_BUF   (16 << 20)
#define PACKET_CAP (70 * 1000)
#define MTU        1500

/* --- Namespaces ------------------------------------------------------------- */

static int new_netns(int *ret_fd)
{
    if (unshare(CLONE_NEWNET) < 0)
        return -errno;
    *ret_fd = netns_open("self");
    return *ret_fd < 0 ? *ret_fd : 0;
}

static void note_addresses(struct self_lab *l, const struct exec_link *link)
{
    uint8_t bytes[16];

    for (int h = 0; h < SELF_HOST_CNT; h++) {
        exec_prefix_nth(&link->ipv4, (uint8_t)(h + 1), bytes);
        l->addr4[h] = addr_from_v4(bytes);
        exec_prefix_nth(&link->ipv6, (uint8_t)(h + 1), bytes);
        l->addr6[h] = addr_from_v6(bytes);
    }
}

/* RFC 5737 and RFC 3849: addresses of nobody, in a network of nobody. */
static int make_link(struct self_lab *l, const char **ret_step)
{
    struct exec_link link = {
        .host_name = LINK_NAME,
        .netns_fd = l->netns_fd[SELF_B],
        .mtu = MTU,
        .ipv4 = {.family = AF_INET, .addr = {192, 0, 2, 0}, .len = EXEC_IPV4_LEN},
        .ipv6 = {.family = AF_INET6, .addr = {0x20, 0x01, 0x0d, 0xb8}, .len = EXEC_IPV6_LEN},
        .has_ipv6 = l->has_ipv6,
    };

    note_addresses(l, &link);
    int err = netns_enter(l->netns_fd[SELF_A]);
    return err ? err : exec_link_create(&link, ret_step);
}

static int open_wire(struct self_lab *l)
{
    struct sockaddr_ll addr = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL)};
    int len = WIRE_BUF;

    l->wire_fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (l->wire_fd < 0)
        return -errno;
    if (setsockopt(l->wire_fd, SOL_SOCKET, SO_RCVBUFFORCE, &len, sizeof(len)) < 0)
        setsockopt(l->wire_fd, SOL_SOCKET, SO_RCVBUF, &len, sizeof(len));
    addr.sll_ifindex = (int)if_nametoindex(LINK_NAME);
    return bind(l->wire_fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 ? -errno : 0;
}

static int catch_signals(struct self_lab *l)
{
    sigset_t ends;

    sigemptyset(&ends);
    sigaddset(&ends, SIGINT);
    sigaddset(&ends, SIGTERM);
    sigaddset(&ends, SIGHUP);
    sigprocmask(SIG_BLOCK, &ends, NULL);
    signal(SIGPIPE, SIG_IGN);
    l->signal_fd = signalfd(-1, &ends, SFD_CLOEXEC | SFD_NONBLOCK);
    return l->signal_fd < 0 ? -errno : 0;
}

static void make_mark(struct self_lab *l)
{
    uint8_t random[SELF_MARK_LEN / 2];

    randombytes_buf(random, sizeof(random));
    sodium_bin2hex(l->mark, sizeof(l->mark), random, sizeof(random));
}

int self_lab_init(struct self_lab *l, const char **ret_step)
{
    static const struct daemon none = DAEMON_NONE;

    *l = (struct self_lab){.home_fd = -1,
                           .netns_fd = {-1, -1},
                           .daemon = {none, none},
                           .wire_fd = -1,
                           .signal_fd = -1};
    l->has_ipv6 = access("/proc/net/if_inet6", F_OK) == 0;
    *ret_step = "start";
    int err = sodium_init() < 0 ? -ENOSYS : catch_signals(l);
    if (err)
        return err;
    make_mark(l);
    l->home_fd = netns_open("self");
    *ret_step = "making network namespaces";
    err = l->home_fd < 0 ? l->home_fd : new_netns(&l->netns_fd[SELF_A]);
    if (!err)
        err = new_netns(&l->netns_fd[SELF_B]);
    if (!err)
        err = make_link(l, ret_step);
    if (err)
        return err;
    *ret_step = "opening a packet socket";
    return open_wire(l);
}

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

void self_lab_done(struct self_lab *l)
{
    for (int h = 0; h < SELF_HOST_CNT; h++)
        (void)self_lab_detach(l, (enum self_host)h);
    if (l->home_fd >= 0)
        (void)netns_enter(l->home_fd);
    for (int h = 0; h < SELF_HOST_CNT; h++)
        close_fd(&l->netns_fd[h]);
    close_fd(&l->wire_fd);
    close_fd(&l->signal_fd);
    close_fd(&l->home_fd);
}

/* --- Daemons ---------------------------------------------------------------- */

/* A daemon that was killed: its worker follows, and the device with the last of them. Then its
 * ctl socket is nobody's. */
static void remove_traces(struct self_lab *l, enum self_host h)
{
    ino_t inode;

    if (netns_enter(l->netns_fd[h]) < 0 || netns_inode(l->netns_fd[h], &inode) < 0)
        return;
    for (int left = STOP_MS; left > 0 && if_nametoindex(TUNDEV_NAME) != 0; left -= STEP_MS)
        poll(NULL, 0, STEP_MS);
    ctlsock_remove_dead(inode);
}

int self_lab_attach(struct self_lab *l, enum self_host h, struct daemon_options *opts,
                    char err[DAEMON_ERROR_LEN])
{
    (void)self_lab_detach(l, h);
    opts->netns_fd = l->netns_fd[h];
    opts->end_with_caller = true;
    int result = daemon_start(opts, &l->daemon[h], err);
    if (result)
        remove_traces(l, h);
    return result;
}

int self_lab_detach(struct self_lab *l, enum self_host h)
{
    int err = daemon_stop(&l->daemon[h], STOP_MS);

    if (err)
        remove_traces(l, h);
    return err;
}

/* --- Connections ------------------------------------------------------------ */

/* Return: 0 when fd is ready; -EINTR when a signal came, which is noted; -ECHILD when a daemon
 * died; -ETIMEDOUT. */
static int wait_for(struct self_lab *l, int fd, short events)
{
    struct pollfd p[] = {{.fd = fd, .events = events},
                         {.fd = l->signal_fd, .events = POLLIN},
                         {.fd = l->daemon[SELF_A].pidfd, .events = POLLIN},
                         {.fd = l->daemon[SELF_B].pidfd, .events = POLLIN}};
    struct signalfd_siginfo si;

    int n = poll(p, sizeof(p) / sizeof(p[0]), WAIT_MS);
    if (n < 0 && errno != EINTR)
        return -errno;
    if (read(l->signal_fd, &si, sizeof(si)) == sizeof(si))
        l->signal_no = (int)si.ssi_signo;
    if (l->signal_no)
        return -EINTR;
    if (p[2].revents || p[3].revents)
        return -ECHILD;
    return n == 0 ? -ETIMEDOUT : 0;
}

static socklen_t make_sockaddr(const struct self_lab *l, enum self_host h, bool v6,
                               struct sockaddr_storage *ret)
{
    struct sockaddr_in a4 = {.sin_family = AF_INET, .sin_port = htons(PORT)};
    struct sockaddr_in6 a6 = {
        .sin6_family = AF_INET6, .sin6_port = htons(PORT), .sin6_addr = l->addr6[h].in6};

    *ret = (struct sockaddr_storage){0};
    memcpy(&a4.sin_addr, &l->addr4[h].in6.s6_addr[12], 4);
    if (v6)
        memcpy(ret, &a6, sizeof(a6));
    else
        memcpy(ret, &a4, sizeof(a4));
    return v6 ? sizeof(a6) : sizeof(a4);
}

static int open_socket(const struct self_lab *l, enum self_host h, bool v6)
{
    int err = netns_enter(l->netns_fd[h]);
    int fd =
        err ? err : socket(v6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    return err ? err : fd < 0 ? -errno : fd;
}

static int listen_at(struct self_lab *l, enum self_host h, bool v6,
                     const struct sockaddr_storage *at, socklen_t len)
{
    int fd = open_socket(l, h, v6), one = 1;

    if (fd < 0)
        return fd;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (bind(fd, (const struct sockaddr *)at, len) < 0 || listen(fd, 4) < 0) {
        int err = -errno;
        close(fd);
        return err;
    }
    return fd;
}

static int connect_to(struct self_lab *l, enum self_host from, bool v6,
                      const struct sockaddr_storage *to, socklen_t len)
{
    int fd = open_socket(l, from, v6), err = 0;
    socklen_t err_len = sizeof(err);

    if (fd < 0)
        return fd;
    if (connect(fd, (const struct sockaddr *)to, len) < 0 && errno != EINPROGRESS) {
        err = -errno;
    } else {
        err = wait_for(l, fd, POLLOUT);
        if (!err && getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &err_len) == 0)
            err = -err;
    }
    if (!err)
        return fd;
    close(fd);
    return err;
}

static int accept_from(struct self_lab *l, int listener)
{
    int err = wait_for(l, listener, POLLIN);
    int fd = err ? err : accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

    return err ? err : fd < 0 ? -errno : fd;
}

/* The mark, one after the other, at a place in the stream. */
static size_t fill(const struct self_lab *l, size_t at, char *out, size_t cap)
{
    size_t total = (size_t)MARKS_CNT * SELF_MARK_LEN, len = 0;

    while (len < cap && at + len < total) {
        out[len] = l->mark[(at + len) % SELF_MARK_LEN];
        len++;
    }
    return len;
}

static int send_some(struct self_lab *l, int fd, size_t *sent)
{
    char bytes[4096];
    size_t len = fill(l, *sent, bytes, sizeof(bytes));
    ssize_t n = send(fd, bytes, len, MSG_NOSIGNAL);

    if (n < 0)
        return errno == EAGAIN ? wait_for(l, fd, POLLOUT) : -errno;
    *sent += (size_t)n;
    return 0;
}

static int receive_some(struct self_lab *l, int fd, size_t *received)
{
    char bytes[4096], want[4096];
    ssize_t n = recv(fd, bytes, sizeof(bytes), 0);

    if (n < 0)
        return errno == EAGAIN ? wait_for(l, fd, POLLIN) : -errno;
    size_t len = fill(l, *received, want, sizeof(want));
    if (n == 0 || (size_t)n > len || memcmp(bytes, want, (size_t)n) != 0)
        return -EPROTO;
    *received += (size_t)n;
    return 0;
}

/* Little enough to fit the buffers of all on the way: one end after the other. */
static int pass_marks(struct self_lab *l, int from, int to)
{
    size_t total = (size_t)MARKS_CNT * SELF_MARK_LEN, sent = 0, received = 0;
    int err = 0;

    while (!err && sent < total)
        err = send_some(l, from, &sent);
    while (!err && received < total)
        err = receive_some(l, to, &received);
    return err;
}

int self_lab_connect(struct self_lab *l, enum self_host opener, bool v6, struct self_pair *ret)
{
    enum self_host other = opener == SELF_A ? SELF_B : SELF_A;
    struct self_pair p = SELF_PAIR_NONE;
    struct sockaddr_storage at;
    socklen_t len = make_sockaddr(l, other, v6, &at);

    int listener = listen_at(l, other, v6, &at, len);
    if (listener < 0)
        return listener;
    int err = 0;
    p.fd[opener] = connect_to(l, opener, v6, &at, len);
    if (p.fd[opener] < 0)
        err = p.fd[opener];
    if (!err) {
        p.fd[other] = accept_from(l, listener);
        err = p.fd[other] < 0 ? p.fd[other] : 0;
    }
    close(listener);
    if (!err)
        err = pass_marks(l, p.fd[opener], p.fd[other]);
    if (!err)
        err = pass_marks(l, p.fd[other], p.fd[opener]);
    if (err)
        self_pair_done(&p);
    else
        *ret = p;
    return err;
}

void self_pair_done(struct self_pair *p)
{
    for (int h = 0; h < SELF_HOST_CNT; h++)
        close_fd(&p->fd[h]);
}

/* --- The wire --------------------------------------------------------------- */

static void note_segment(const struct self_lab *l, const struct packet *p, struct self_seen *s)
{
    const uint8_t *option;
    size_t option_len;
    bool has_eno = eno_scan(packet_options(p), p->options_len, &option, &option_len) > 0;

    if ((p->flags & (PACKET_SYN | PACKET_ACK)) == PACKET_SYN) {
        s->syn++;
        s->syn_eno += has_eno;
    } else if (p->flags & PACKET_SYN) {
        s->synack++;
        s->synack_eno += has_eno;
    }
    s->data += p->data_len > 0;
    s->mark |= memmem(p->data, p->data_len, l->mark, SELF_MARK_LEN) != NULL;
}

void self_lab_look(struct self_lab *l, struct self_seen *ret)
{
    static uint8_t frame[PACKET_CAP];
    struct tpacket_stats stats = {0};
    socklen_t stats_len = sizeof(stats);
    struct packet p;
    ssize_t n;

    *ret = (struct self_seen){.syn = 0};
    while ((n = recv(l->wire_fd, frame, sizeof(frame), 0)) > 0)
        if (n > ETH_HLEN &&
            packet_parse(frame + ETH_HLEN, (size_t)n - ETH_HLEN, true, &p) == PACKET_TCP)
            note_segment(l, &p, ret);
    if (getsockopt(l->wire_fd, SOL_PACKET, PACKET_STATISTICS, &stats, &stats_len) == 0)
        ret->is_full = stats.tp_drops > 0;
}
