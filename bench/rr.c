/* SPDX-License-Identifier: BSD-3-Clause
 * Request/response load and its echo server, for bench/run.
 *
 * How it works: "serve" echoes whatever arrives, TCP and UDP, at one port. The
 * other modes are clients of it and print one JSON object per line. Each client
 * ends by itself: every mode has a number of requests and a time, whichever
 * comes first, and no wait inside is longer than STALL_MS.
 *
 *   rr serve PORT
 *   rr pingpong HOST PORT    one connection, one request at a time
 *   rr udp HOST PORT         the same with datagrams
 *   rr icmp HOST             the same with echo requests (net.ipv4.ping_group_range)
 *   rr connect HOST PORT     connect, one request, close; -c at a time
 *   rr idle HOST PORT        opens -n connections with one request each, says so, and
 *                            holds them until standard input ends
 *   rr narrow HOST PORT      sends -s bytes at once: when does the first byte come back,
 *                            and how long is the longest pause after it
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/ip_icmp.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define STALL_MS           5000 /* no answer for so long is a failure */
#define WARM_UP_CNT        200  /* requests before the ones that count */
#define NARROW_WARM_UP_LEN 4096
#define SAMPLES_MAX_CNT    2000000
#define EVENTS_MAX_CNT     256
#define ERRORS_MAX_CNT     100 /* then a client gives up */
#define BUFFER_LEN         65536

struct options {
    size_t size, cnt, concurrency;
    double seconds;
};

static char buffer[BUFFER_LEN];

static void fail(const char *fmt, ...) __attribute__((format(printf, 1, 2), noreturn));
static void fail(const char *fmt, ...)
{
    va_list ap;

    fprintf(stderr, "rr: ");
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
    exit(1);
}

static uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t deadline_ns(double seconds)
{
    return now_ns() + (uint64_t)(seconds * 1e9);
}

static int new_socket(int kind, int proto)
{
    int one = 1;
    int fd = socket(AF_INET, kind | SOCK_CLOEXEC, proto);

    if (fd < 0)
        fail("socket: %s", strerror(errno));
    if ((kind & ~SOCK_NONBLOCK) == SOCK_STREAM)
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    return fd;
}

static void watch(int ep, int op, int fd, uint32_t events, void *ptr)
{
    struct epoll_event ev = {.events = events, .data.ptr = ptr};

    if (epoll_ctl(ep, op, fd, &ev) < 0)
        fail("epoll_ctl: %s", strerror(errno));
}

static struct sockaddr_in parse_address(const char *host, const char *port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};

    if (inet_pton(AF_INET, host, &a.sin_addr) != 1)
        fail("\"%s\" is no IPv4 address", host);
    return a;
}

/* --- Samples ------------------------------------------------------------------ */

static uint32_t *samples; /* ns */
static size_t sample_cnt;

static void samples_init(void)
{
    samples = malloc(SAMPLES_MAX_CNT * sizeof(*samples));
    if (!samples)
        fail("out of memory");
}

static void sample_add(uint64_t ns)
{
    if (sample_cnt < SAMPLES_MAX_CNT)
        samples[sample_cnt++] = ns > UINT32_MAX ? UINT32_MAX : (uint32_t)ns;
}

static int compare(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return (x > y) - (x < y);
}

static double percentile_us(double share)
{
    return sample_cnt ? samples[(size_t)(share * (double)(sample_cnt - 1))] / 1e3 : 0;
}

static void print_samples(uint64_t took_ns, size_t error_cnt)
{
    double seconds = (double)took_ns / 1e9;

    qsort(samples, sample_cnt, sizeof(*samples), compare);
    printf("{\"cnt\":%zu,\"seconds\":%.4f,\"per_s\":%.1f,\"errors\":%zu,\"min_us\":%.2f,"
           "\"p50_us\":%.2f,\"p99_us\":%.2f,\"max_us\":%.2f}\n",
           sample_cnt, seconds, (double)sample_cnt / seconds, error_cnt, percentile_us(0),
           percentile_us(0.5), percentile_us(0.99), percentile_us(1));
    fflush(stdout);
}

/* --- Server ------------------------------------------------------------------- */

struct peer {
    int fd;
    char *rest; /* echo that the socket did not take; NULL: none */
    size_t rest_off, rest_len;
};

static void peer_end(struct peer *p)
{
    close(p->fd);
    free(p->rest);
    free(p);
}

/* Return: false when the connection is of no more use. */
static bool peer_keep(struct peer *p, const char *bytes, size_t len)
{
    p->rest = malloc(len);
    if (!p->rest)
        return false;
    memcpy(p->rest, bytes, len);
    p->rest_off = 0;
    p->rest_len = len;
    return true;
}

static bool peer_read(struct peer *p, int ep)
{
    ssize_t n = recv(p->fd, buffer, sizeof(buffer), MSG_DONTWAIT);

    if (n <= 0)
        return n < 0 && errno == EAGAIN;
    ssize_t sent = send(p->fd, buffer, (size_t)n, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN)
        return false;
    sent = sent < 0 ? 0 : sent;
    if (sent == n)
        return true;
    watch(ep, EPOLL_CTL_MOD, p->fd, EPOLLOUT, p);
    return peer_keep(p, buffer + sent, (size_t)(n - sent));
}

static bool peer_write(struct peer *p, int ep)
{
    ssize_t sent =
        send(p->fd, p->rest + p->rest_off, p->rest_len - p->rest_off, MSG_DONTWAIT | MSG_NOSIGNAL);

    if (sent < 0)
        return errno == EAGAIN;
    p->rest_off += (size_t)sent;
    if (p->rest_off < p->rest_len)
        return true;
    free(p->rest);
    p->rest = NULL;
    watch(ep, EPOLL_CTL_MOD, p->fd, EPOLLIN, p);
    return true;
}

static void accept_all(int listener, int ep)
{
    int fd;

    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        int one = 1;
        struct peer *p = calloc(1, sizeof(*p));

        if (!p)
            fail("out of memory");
        p->fd = fd;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        watch(ep, EPOLL_CTL_ADD, fd, EPOLLIN, p);
    }
    if (errno != EAGAIN && errno != ECONNABORTED && errno != EINTR)
        fail("accept: %s", strerror(errno));
}

static void echo_datagrams(int fd)
{
    struct sockaddr_in from;
    socklen_t len = sizeof(from);
    ssize_t n;

    while ((n = recvfrom(fd, buffer, sizeof(buffer), MSG_DONTWAIT, (struct sockaddr *)&from,
                         &len)) >= 0) {
        /* A datagram that is lost here is a lost datagram there. */
        if (sendto(fd, buffer, (size_t)n, MSG_DONTWAIT, (struct sockaddr *)&from, len) < 0)
            continue;
    }
}

static int serve(const char *port)
{
    struct sockaddr_in any = parse_address("0.0.0.0", port);
    struct epoll_event ready[EVENTS_MAX_CNT];
    static char is_tcp, is_udp;
    int tcp = new_socket(SOCK_STREAM | SOCK_NONBLOCK, 0);
    int udp = new_socket(SOCK_DGRAM | SOCK_NONBLOCK, 0);
    int ep = epoll_create1(EPOLL_CLOEXEC);
    int one = 1;

    setsockopt(tcp, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (bind(tcp, (struct sockaddr *)&any, sizeof(any)) < 0 || listen(tcp, 4096) < 0 ||
        bind(udp, (struct sockaddr *)&any, sizeof(any)) < 0)
        fail("port %s: %s", port, strerror(errno));
    watch(ep, EPOLL_CTL_ADD, tcp, EPOLLIN, &is_tcp);
    watch(ep, EPOLL_CTL_ADD, udp, EPOLLIN, &is_udp);
    for (;;) {
        int cnt = epoll_wait(ep, ready, EVENTS_MAX_CNT, -1);

        for (int i = 0; i < cnt; i++) {
            struct peer *p = ready[i].data.ptr;

            if (ready[i].data.ptr == &is_tcp)
                accept_all(tcp, ep);
            else if (ready[i].data.ptr == &is_udp)
                echo_datagrams(udp);
            else if (!(p->rest ? peer_write(p, ep) : peer_read(p, ep)))
                peer_end(p);
        }
    }
}

/* --- One request at a time ------------------------------------------------------ */

static void set_stall(int fd)
{
    struct timeval stall = {.tv_sec = STALL_MS / 1000};

    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &stall, sizeof(stall));
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &stall, sizeof(stall));
}

static int connect_to(const struct sockaddr_in *to, int kind, int proto)
{
    int fd = new_socket(kind, proto);

    set_stall(fd);
    if (connect(fd, (const struct sockaddr *)to, sizeof(*to)) < 0)
        fail("connect: %s", strerror(errno));
    return fd;
}

/* Return: whether the answer is whole. */
static bool exchange(int fd, size_t len, bool is_stream)
{
    size_t got = 0;

    if (send(fd, buffer, len, MSG_NOSIGNAL) != (ssize_t)len)
        return false;
    while (got < len) {
        ssize_t n = recv(fd, buffer, len - got, 0);
        if (n <= 0)
            return false;
        if (!is_stream)
            return true;
        got += (size_t)n;
    }
    return true;
}

static int ask(int fd, const struct options *o, bool is_stream)
{
    uint64_t end = deadline_ns(o->seconds), begin, t;
    size_t errors = 0;

    for (size_t i = 0; i < WARM_UP_CNT && now_ns() < end; i++)
        errors += !exchange(fd, o->size, is_stream);
    begin = t = now_ns();
    while (sample_cnt < o->cnt && t < end && errors < ERRORS_MAX_CNT) {
        bool ok = exchange(fd, o->size, is_stream);
        uint64_t after = now_ns();

        if (ok)
            sample_add(after - t);
        else if (is_stream)
            fail("no answer after %zu requests: %s", sample_cnt, strerror(errno));
        else
            errors++;
        t = after;
    }
    print_samples(t - begin, errors);
    return sample_cnt ? 0 : 1;
}

static int ask_icmp(const struct sockaddr_in *to, struct options *o)
{
    struct icmphdr echo = {.type = ICMP_ECHO};
    int fd = connect_to(to, SOCK_DGRAM, IPPROTO_ICMP);

    /* The answer overwrites the buffer, with another type but the same length. */
    memset(buffer, 0, sizeof(buffer));
    o->size = o->size < sizeof(echo) ? sizeof(echo) : o->size;
    uint64_t end = deadline_ns(o->seconds), begin = now_ns(), t = begin;
    while (sample_cnt < o->cnt && t < end) {
        memcpy(buffer, &echo, sizeof(echo));
        if (!exchange(fd, o->size, false))
            fail("no answer to an echo request: %s", strerror(errno));
        uint64_t after = now_ns();
        sample_add(after - t);
        t = after;
    }
    print_samples(t - begin, 0);
    return 0;
}

static int narrow(const struct sockaddr_in *to, const struct options *o)
{
    int fd = connect_to(to, SOCK_STREAM, 0);
    char *bytes = calloc(1, o->size);
    size_t sent = 0, got = 0;
    uint64_t first = 0, longest = 0, last;

    /* Empties a token bucket before the bytes that count. */
    if (!bytes || !exchange(fd, NARROW_WARM_UP_LEN, true))
        fail("no answer: %s", strerror(errno));
    uint64_t begin = last = now_ns(), end = begin + (uint64_t)(o->seconds * 1e9);
    while (got < o->size && now_ns() < end) {
        struct pollfd p = {.fd = fd, .events = (short)(POLLIN | (sent < o->size ? POLLOUT : 0))};

        if (poll(&p, 1, STALL_MS) <= 0)
            fail("nothing moves after %zu of %zu bytes", got, o->size);
        if (p.revents & POLLOUT) {
            ssize_t n = send(fd, bytes + sent, o->size - sent, MSG_DONTWAIT | MSG_NOSIGNAL);
            sent += n > 0 ? (size_t)n : 0;
        }
        if (!(p.revents & (POLLIN | POLLHUP | POLLERR)))
            continue;
        ssize_t n = recv(fd, buffer, sizeof(buffer), MSG_DONTWAIT);
        if (n <= 0)
            fail("the connection ended after %zu of %zu bytes", got, o->size);
        uint64_t now = now_ns();
        if (!first)
            first = now - begin;
        else if (now - last > longest)
            longest = now - last;
        last = now;
        got += (size_t)n;
    }
    if (got < o->size)
        fail("%zu of %zu bytes in %.1f s", got, o->size, o->seconds);
    printf("{\"bytes\":%zu,\"seconds\":%.4f,\"first_ms\":%.2f,\"pause_ms\":%.2f}\n", got,
           (double)(last - begin) / 1e9, (double)first / 1e6, (double)longest / 1e6);
    free(bytes);
    return 0;
}

/* --- Many connections ------------------------------------------------------------ */

struct slot {
    int fd; /* -1: free */
    bool sent;
    size_t got;
    uint64_t begin;
};

struct crowd {
    const struct sockaddr_in *to;
    const struct options *opts;
    int ep;
    size_t started, open, done, errors;
};

static void slot_end(struct crowd *c, struct slot *s, bool ok)
{
    close(s->fd);
    s->fd = -1;
    c->open--;
    if (ok) {
        sample_add(now_ns() - s->begin);
        c->done++;
    } else {
        c->errors++;
    }
}

static void slot_start(struct crowd *c, struct slot *s)
{
    *s = (struct slot){.begin = now_ns()};
    s->fd = new_socket(SOCK_STREAM | SOCK_NONBLOCK, 0);
    c->started++;
    c->open++;
    watch(c->ep, EPOLL_CTL_ADD, s->fd, EPOLLOUT, s);
    if (connect(s->fd, (const struct sockaddr *)c->to, sizeof(*c->to)) < 0 && errno != EINPROGRESS)
        slot_end(c, s, false);
}

/* Return: the answer is whole; *ret_ok: nothing went wrong. */
static bool slot_run(struct crowd *c, struct slot *s, bool *ret_ok)
{
    *ret_ok = true;
    if (!s->sent) {
        s->sent = true;
        *ret_ok = send(s->fd, buffer, c->opts->size, MSG_NOSIGNAL) == (ssize_t)c->opts->size;
        watch(c->ep, EPOLL_CTL_MOD, s->fd, EPOLLIN, s);
        return false;
    }
    ssize_t n = recv(s->fd, buffer, c->opts->size - s->got, 0);
    *ret_ok = n > 0 || (n < 0 && errno == EAGAIN);
    s->got += n > 0 ? (size_t)n : 0;
    return s->got == c->opts->size;
}

static int connect_many(const struct sockaddr_in *to, const struct options *o)
{
    struct crowd c = {.to = to, .opts = o, .ep = epoll_create1(EPOLL_CLOEXEC)};
    struct slot *slots = calloc(o->concurrency, sizeof(*slots));
    struct epoll_event ready[EVENTS_MAX_CNT];
    uint64_t begin = now_ns(), end = begin + (uint64_t)(o->seconds * 1e9), last = begin;

    if (!slots)
        fail("out of memory");
    for (size_t i = 0; i < o->concurrency; i++)
        slots[i].fd = -1;
    for (;;) {
        bool more = c.started < o->cnt && now_ns() < end && c.errors < ERRORS_MAX_CNT;

        for (size_t i = 0; more && i < o->concurrency; i++)
            if (slots[i].fd < 0 && c.started < o->cnt)
                slot_start(&c, &slots[i]);
        if (!c.open && !more)
            break;
        int cnt = epoll_wait(c.ep, ready, EVENTS_MAX_CNT, STALL_MS);
        if (cnt == 0)
            break;
        for (int i = 0; i < cnt; i++) {
            struct slot *s = ready[i].data.ptr;
            bool ok, whole = slot_run(&c, s, &ok);
            if (whole || !ok)
                slot_end(&c, s, ok);
        }
        last = now_ns();
    }
    print_samples(last - begin, c.errors + c.open);
    free(slots);
    return sample_cnt ? 0 : 1;
}

/* Waits for the end of standard input. Return: connections that were lost meanwhile. */
static size_t hold(struct crowd *c, double seconds)
{
    struct epoll_event ready[EVENTS_MAX_CNT];
    struct epoll_event input = {.events = EPOLLIN, .data.ptr = NULL};
    uint64_t end = deadline_ns(seconds);
    size_t lost = 0;

    if (epoll_ctl(c->ep, EPOLL_CTL_ADD, STDIN_FILENO, &input) < 0)
        return 0; /* a file or /dev/null: nothing to wait for */
    while (now_ns() < end) {
        int cnt = epoll_wait(c->ep, ready, EVENTS_MAX_CNT, 1000);

        for (int i = 0; i < cnt; i++) {
            struct slot *s = ready[i].data.ptr;
            if (!s)
                return lost;
            slot_end(c, s, false);
            lost++;
        }
    }
    return lost;
}

static int hold_many(const struct sockaddr_in *to, const struct options *o)
{
    struct crowd c = {.to = to, .opts = o, .ep = epoll_create1(EPOLL_CLOEXEC)};
    struct slot *slots = calloc(o->cnt, sizeof(*slots));
    struct epoll_event ready[EVENTS_MAX_CNT];
    uint64_t begin = now_ns(), last = begin;

    if (!slots)
        fail("out of memory");
    while (c.done < o->cnt && c.errors < ERRORS_MAX_CNT) {
        while (c.started < o->cnt && c.started - c.done - c.errors < o->concurrency)
            slot_start(&c, &slots[c.started]);
        int cnt = epoll_wait(c.ep, ready, EVENTS_MAX_CNT, STALL_MS);
        if (cnt == 0)
            break;
        for (int i = 0; i < cnt; i++) {
            struct slot *s = ready[i].data.ptr;
            bool ok, whole = slot_run(&c, s, &ok);
            if (!ok)
                slot_end(&c, s, false);
            c.done += ok && whole;
        }
        last = now_ns();
    }
    printf("{\"cnt\":%zu,\"seconds\":%.4f,\"errors\":%zu}\n", c.done, (double)(last - begin) / 1e9,
           o->cnt - c.done);
    fflush(stdout);
    size_t lost = hold(&c, o->seconds);
    printf("{\"lost\":%zu}\n", lost);
    return lost || c.done < o->cnt;
}

/* --- Command line ------------------------------------------------------------------ */

static void usage(void)
{
    fprintf(stderr, "usage: rr serve PORT\n"
                    "       rr [-s BYTES] [-n COUNT] [-t SECONDS] [-c AT-A-TIME] MODE HOST [PORT]\n"
                    "modes: pingpong udp icmp connect idle narrow\n");
    exit(2);
}

static void raise_file_limit(void)
{
    struct rlimit limit = {.rlim_cur = 100000, .rlim_max = 100000};

    if (setrlimit(RLIMIT_NOFILE, &limit) == 0)
        return;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static int run(const char *mode, const char *host, const char *port, struct options *o)
{
    struct sockaddr_in to = parse_address(host, port ? port : "0");

    samples_init();
    if (strcmp(mode, "icmp") == 0)
        return ask_icmp(&to, o);
    if (!port)
        usage();
    if (strcmp(mode, "pingpong") == 0)
        return ask(connect_to(&to, SOCK_STREAM, 0), o, true);
    if (strcmp(mode, "udp") == 0)
        return ask(connect_to(&to, SOCK_DGRAM, 0), o, false);
    if (strcmp(mode, "connect") == 0)
        return connect_many(&to, o);
    if (strcmp(mode, "idle") == 0)
        return hold_many(&to, o);
    if (strcmp(mode, "narrow") == 0)
        return narrow(&to, o);
    usage();
    return 2;
}

int main(int argc, char **argv)
{
    struct options o = {.size = 64, .cnt = 1000000, .concurrency = 1, .seconds = 2};
    int c;

    while ((c = getopt(argc, argv, "+s:n:t:c:")) != -1) {
        switch (c) {
        case 's':
            o.size = (size_t)atol(optarg);
            break;
        case 'n':
            o.cnt = (size_t)atol(optarg);
            break;
        case 't':
            o.seconds = atof(optarg);
            break;
        case 'c':
            o.concurrency = (size_t)atol(optarg);
            break;
        default:
            usage();
        }
    }
    argc -= optind;
    argv += optind;
    if (argc < 2 || o.size == 0 || o.concurrency == 0)
        usage();
    signal(SIGPIPE, SIG_IGN);
    raise_file_limit();
    if (strcmp(argv[0], "serve") == 0)
        return serve(argv[1]);
    if (o.size > sizeof(buffer) && strcmp(argv[0], "narrow") != 0)
        usage();
    return run(argv[0], argv[1], argc > 2 ? argv[2] : NULL, &o);
}
