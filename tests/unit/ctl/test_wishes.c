/* SPDX-License-Identifier: BSD-3-Clause
 * What applications say of their sockets: kept by the kernel's name of the socket, found by
 * its connection, gone with it.
 */
#include "ctl/daemon/wishes.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ev.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static struct ev_loop *loop;
static struct wishes_store store;
static struct wishes *wishes;
static const struct wish require = {.set = WISH_POLICY, .policy = TUNNEL_POLICY_REQUIRE};
static const struct wish off = {.set = WISH_POLICY, .policy = TUNNEL_POLICY_OFF};
static const struct wish nothing;

static int set_up(void **state)
{
    loop = ev_loop_new(EVFLAG_AUTO);
    assert_int_equal(wishes_store_init(&store), 0);
    return wishes_new(loop, 0, &store, &wishes);
}

static int tear_down(void **state)
{
    wishes_free(wishes);
    wishes_store_done(&store);
    ev_loop_destroy(loop);
    return 0;
}

static int tcp_socket(int family)
{
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    return fd;
}

union address {
    struct sockaddr sa;
    struct sockaddr_in in;
    struct sockaddr_in6 in6;
};

static union address loopback(int family, uint16_t port)
{
    union address a = {.in6 = {.sin6_family = (sa_family_t)family}};

    if (family == AF_INET) {
        a.in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        a.in.sin_port = htons(port);
    } else {
        a.in6.sin6_addr = in6addr_loopback;
        a.in6.sin6_port = htons(port);
    }
    return a;
}

static uint16_t listen_at(int fd, int family)
{
    union address a = loopback(family, 0);
    socklen_t len = sizeof(a);

    assert_int_equal(bind(fd, &a.sa, len), 0);
    assert_int_equal(listen(fd, 8), 0);
    assert_int_equal(getsockname(fd, &a.sa, &len), 0);
    return ntohs(a.in.sin_port);
}

static void connect_to(int fd, int family, uint16_t port)
{
    union address a = loopback(family, port);

    assert_int_equal(connect(fd, &a.sa, sizeof(a)), 0);
}

/* Return: what is wished for the connection of fd; -1: nothing. */
static int found(int fd, bool inbound)
{
    struct wish w;
    struct tuple t;

    assert_int_equal(wishes_tuple_of(wishes, fd, &t), 0);
    int n = wishes_find(wishes, &t, inbound, &w);
    assert_true(n == 0 || n == 1);
    return n ? (int)w.policy : -1;
}

static void test_set_and_get(void **state)
{
    struct wish got;
    int fd = tcp_socket(AF_INET);

    assert_int_equal(wishes_get(wishes, fd, &got), 0);
    assert_int_equal(got.set, 0);
    assert_int_equal(wishes_set(wishes, fd, 7, &require), 0);
    assert_int_equal(wishes_set(wishes, fd, 7, &off), 0);
    assert_int_equal(wishes_cnt(wishes), 1);
    assert_int_equal(wishes_get(wishes, fd, &got), 0);
    assert_int_equal(got.policy, TUNNEL_POLICY_OFF);
    assert_int_equal(wishes_set(wishes, fd, 7, &nothing), 0);
    assert_int_equal(wishes_cnt(wishes), 0);
    assert_int_equal(wishes_set(wishes, fd, 7, &require), 0); /* and once more */
    assert_int_equal(wishes_cnt(wishes), 1);
    close(fd);
}

/* Outbound by the socket that connects, inbound by the one that listens. */
static void check_family(int family)
{
    int server = tcp_socket(family), client = tcp_socket(family), other = tcp_socket(family);
    uint16_t port = listen_at(server, family);

    assert_int_equal(wishes_set(wishes, client, 7, &require), 0);
    connect_to(client, family, port);
    connect_to(other, family, port);
    assert_int_equal(found(client, false), TUNNEL_POLICY_REQUIRE);
    assert_int_equal(found(other, false), -1);
    assert_int_equal(wishes_set(wishes, client, 7, &off), -EISCONN);
    assert_int_equal(found(client, false), TUNNEL_POLICY_REQUIRE);

    /* A SYN that has no socket yet. */
    assert_int_equal(wishes_set(wishes, server, 7, &off), 0);
    struct tuple t;
    struct wish w;
    assert_int_equal(wishes_tuple_of(wishes, client, &t), 0);
    struct tuple in = {t.peer, t.local, t.peer_port, 9};
    assert_int_equal(wishes_find(wishes, &in, true, &w), 1);
    assert_int_equal(w.policy, TUNNEL_POLICY_OFF);
    in.local_port = 1;
    assert_int_equal(wishes_find(wishes, &in, true, &w), 0); /* nobody listens there */
    close(server);
    close(client);
    close(other);
    wishes_sweep(wishes);
    assert_int_equal(wishes_cnt(wishes), 0);
}

static void test_ipv4(void **state)
{
    check_family(AF_INET);
}

static void test_ipv6(void **state)
{
    check_family(AF_INET6);
}

/* An IPv6 socket that talks IPv4. */
static void test_mapped(void **state)
{
    int server = tcp_socket(AF_INET), client = tcp_socket(AF_INET6);
    uint16_t port = listen_at(server, AF_INET);
    struct sockaddr_in6 a = {.sin6_family = AF_INET6, .sin6_port = htons(port)};

    inet_pton(AF_INET6, "::ffff:127.0.0.1", &a.sin6_addr);
    assert_int_equal(wishes_set(wishes, client, 7, &require), 0);
    assert_int_equal(connect(client, (struct sockaddr *)&a, sizeof(a)), 0);
    assert_int_equal(found(client, false), TUNNEL_POLICY_REQUIRE);
    close(server);
    close(client);
}

/* The listening socket is found behind what is left of an earlier connection. */
static void test_time_wait(void **state)
{
    int server = tcp_socket(AF_INET), client = tcp_socket(AF_INET);
    uint16_t port = listen_at(server, AF_INET);
    struct wish w;
    struct tuple t;

    connect_to(client, AF_INET, port);
    int accepted = accept(server, NULL, NULL);
    assert_int_equal(wishes_tuple_of(wishes, accepted, &t), 0);
    assert_int_equal(wishes_set(wishes, server, 7, &require), 0);
    close(accepted); /* first, so it waits at this end */
    close(client);
    assert_int_equal(wishes_find(wishes, &t, true, &w), 1);
    close(server);
}

/* As long as anybody has it, in any process; no longer. */
static void test_goes_with_its_socket(void **state)
{
    int fd = tcp_socket(AF_INET), go[2];
    char byte;

    assert_int_equal(wishes_set(wishes, fd, 7, &require), 0);
    assert_int_equal(pipe(go), 0);
    pid_t child = fork();
    if (child == 0) {
        close(go[1]);
        _exit(read(go[0], &byte, 1) < 0);
    }
    close(fd);
    wishes_sweep(wishes);
    assert_int_equal(wishes_cnt(wishes), 1);
    close(go[1]);
    close(go[0]);
    waitpid(child, NULL, 0);
    wishes_sweep(wishes);
    assert_int_equal(wishes_cnt(wishes), 0);
}

static void test_sweeps_by_itself(void **state)
{
    int fd = tcp_socket(AF_INET);

    assert_int_equal(wishes_set(wishes, fd, 7, &require), 0);
    close(fd);
    ev_run(loop, EVRUN_ONCE);
    assert_int_equal(wishes_cnt(wishes), 0);
    assert_false(ev_run(loop, EVRUN_NOWAIT)); /* nothing to do any more */
}

static int fds[WISHES_MAX_CNT + 1];

static void open_many(size_t cnt)
{
    for (size_t i = 0; i < cnt; i++)
        fds[i] = tcp_socket(AF_INET);
}

static void close_many(size_t from, size_t cnt)
{
    for (size_t i = from; i < cnt; i++)
        close(fds[i]);
}

/* What is there stays; a new one finds room when another has gone. */
static void test_one_user_has_a_share(void **state)
{
    struct wish got;

    open_many(WISHES_USER_MAX_CNT + 1);
    for (size_t i = 0; i < WISHES_USER_MAX_CNT; i++)
        assert_int_equal(wishes_set(wishes, fds[i], 7, &require), 0);
    assert_int_equal(wishes_set(wishes, fds[WISHES_USER_MAX_CNT], 7, &require), -ENOSPC);
    assert_int_equal(wishes_get(wishes, fds[0], &got), 0);
    assert_int_equal(got.policy, TUNNEL_POLICY_REQUIRE);
    assert_int_equal(wishes_set(wishes, fds[WISHES_USER_MAX_CNT], 8, &require), 0);
    assert_int_equal(wishes_set(wishes, fds[WISHES_USER_MAX_CNT], 8, &nothing), 0);
    close(fds[0]);
    assert_int_equal(wishes_set(wishes, fds[WISHES_USER_MAX_CNT], 7, &require), 0);
    close_many(1, WISHES_USER_MAX_CNT + 1);
}

static void test_full(void **state)
{
    struct rlimit limit;

    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = limit.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    open_many(WISHES_MAX_CNT + 1);
    for (size_t i = 0; i < WISHES_MAX_CNT; i++)
        assert_int_equal(wishes_set(wishes, fds[i], (uid_t)(i / WISHES_USER_MAX_CNT), &require), 0);
    assert_int_equal(wishes_set(wishes, fds[WISHES_MAX_CNT], 99, &require), -ENOSPC);
    wishes_sweep(wishes);
    assert_int_equal(wishes_cnt(wishes), WISHES_MAX_CNT);
    close_many(0, WISHES_MAX_CNT / 2);
    wishes_sweep(wishes);
    assert_int_equal(wishes_cnt(wishes), WISHES_MAX_CNT / 2);
    close_many(WISHES_MAX_CNT / 2, WISHES_MAX_CNT + 1);
}

static void test_no_tcp_socket(void **state)
{
    int udp = socket(AF_INET, SOCK_DGRAM, 0), file = open("/dev/null", O_RDONLY);
    int local = socket(AF_UNIX, SOCK_STREAM, 0), tcp = tcp_socket(AF_INET);
    struct wish w;
    struct tuple t;

    assert_int_equal(wishes_set(wishes, udp, 7, &require), -ENOTSOCK);
    assert_int_equal(wishes_set(wishes, file, 7, &require), -ENOTSOCK);
    assert_int_equal(wishes_get(wishes, local, &w), -ENOTSOCK);
    assert_int_equal(wishes_tuple_of(wishes, local, &t), -ENOTSOCK);
    assert_int_equal(wishes_tuple_of(wishes, tcp, &t), -ENOTCONN);
    close(udp);
    close(file);
    close(local);
    close(tcp);
}

/* A worker dies and another one follows: in other processes, with other descriptors. */
static void test_next_worker(void **state)
{
    struct wish got;
    int kept = tcp_socket(AF_INET), closed = tcp_socket(AF_INET), status;

    pid_t child = fork();
    if (child == 0) {
        int other = dup(0);
        struct wishes *w;
        bool well = wishes_new(ev_loop_new(EVFLAG_AUTO), 0, &store, &w) == 0 &&
                    wishes_set(w, kept, 7, &require) == 0 && wishes_set(w, closed, 7, &off) == 0;
        (void)other;
        _exit(!well); /* nothing is put in order */
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    close(closed);
    assert_int_equal(wishes_cnt(wishes), 2);
    wishes_sweep(wishes);
    assert_int_equal(wishes_cnt(wishes), 1);
    assert_int_equal(wishes_get(wishes, kept, &got), 0);
    assert_int_equal(got.policy, TUNNEL_POLICY_REQUIRE);
    assert_int_equal(wishes_set(wishes, kept, 7, &nothing), 0);
    assert_int_equal(wishes_cnt(wishes), 0);
    assert_int_equal(wishes_set(wishes, kept, 7, &off), 0);
    close(kept);
    wishes_sweep(wishes);
    assert_int_equal(wishes_cnt(wishes), 0);
}

static void test_no_store(void **state)
{
    struct wishes_store none = WISHES_STORE_NONE;
    struct wishes *w = NULL;

    assert_int_equal(wishes_new(loop, 0, &none, &w), -EOPNOTSUPP);
    assert_null(w);
    wishes_store_done(&none);
}

static void test_owner(void **state)
{
    int server = tcp_socket(AF_INET), client = tcp_socket(AF_INET);
    uint16_t port = listen_at(server, AF_INET);
    struct tuple t;
    uid_t owner;

    connect_to(client, AF_INET, port);
    assert_int_equal(wishes_tuple_of(wishes, client, &t), 0);
    assert_int_equal(wishes_owner_of(wishes, &t, &owner), 0);
    assert_int_equal(owner, geteuid());
    t.local_port = 1;
    assert_int_equal(wishes_owner_of(wishes, &t, &owner), -ENOENT);
    close(server);
    close(client);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_set_and_get),
        TEST(test_ipv4),
        TEST(test_ipv6),
        TEST(test_mapped),
        TEST(test_time_wait),
        TEST(test_goes_with_its_socket),
        TEST(test_sweeps_by_itself),
        TEST(test_one_user_has_a_share),
        TEST(test_full),
        TEST(test_no_tcp_socket),
        TEST(test_owner),
        TEST(test_next_worker),
        TEST(test_no_store),
    };

    return cmocka_run_group_tests_name("ctl/wishes", tests, NULL, NULL);
}
