/* SPDX-License-Identifier: BSD-3-Clause
 * libtcpcrypt against a daemon that is made up here: calls, wrong arguments, time limits,
 * threads, fork().
 *
 * How it works: a thread listens at a path and answers each call as the test has said. The
 * connection in question is one over the loopback.
 */
#include "tcpcrypt/tcpcrypt.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define SESSID                                                                                     \
    "23"                                                                                           \
    "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
#define SESSION                                                                                    \
    "{\"local\":\"127.0.0.1\",\"local_port\":1,\"peer\":\"192.0.2.7\",\"peer_port\":80,"           \
    "\"dir\":\"out\",\"state\":\"encrypted\",\"reason\":\"full\",\"role\":\"a\","                  \
    "\"tep\":\"TCPCRYPT_ECDHE_Curve25519\",\"aead\":\"AEAD_AES_128_GCM\","                         \
    "\"session_id\":\"" SESSID "\",\"app_aware\":true,\"peer_app_aware\":true,"                    \
    "\"authenticated\":false,\"tx_bytes\":5,\"rx_bytes\":6}"
#define ENCRYPTED "{\"parameters\":{\"session\":" SESSION "}}"
#define IN_STATE(state)                                                                            \
    "{\"parameters\":{\"session\":{\"state\":\"" state "\",\"reason\":\"peer-no-eno\"}}}"
#define ERROR(name) "{\"error\":\"" name "\",\"parameters\":{}}"
#define NS1         "org.tcpcrypt.Ns1."
#define NOTHING     "{\"parameters\":{}}"

/* --- The daemon ------------------------------------------------------------------- */

enum manner { ANSWERS, SILENT, DRIBBLES, HANGS_UP };

static struct {
    char dir[32], path[48];
    int listener, stop[2];
    pthread_t thread;
    enum manner manner;
    const char *reply;
    char call[4096];       /* the last one */
    atomic_int calls, fds; /* descriptors that came along */
    atomic_int hang_ups;   /* so many callers get no answer first */
} d;

/* Return: whether a whole call came. */
static bool hear(int fd)
{
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control;
    size_t len = 0;

    while (len == 0 || d.call[len - 1] != '\0') {
        struct iovec iov = {d.call + len, sizeof(d.call) - len};
        struct msghdr msg = {.msg_iov = &iov,
                             .msg_iovlen = 1,
                             .msg_control = &control,
                             .msg_controllen = sizeof(control)};
        ssize_t n = recvmsg(fd, &msg, MSG_CMSG_CLOEXEC);
        if (n <= 0)
            return false;
        if (CMSG_FIRSTHDR(&msg)) {
            close(*(int *)(void *)CMSG_DATA(CMSG_FIRSTHDR(&msg)));
            d.fds++;
        }
        len += (size_t)n;
    }
    return true;
}

static void dribble(int fd)
{
    const struct timespec pause = {.tv_nsec = 20000000};

    while (send(fd, " ", 1, MSG_NOSIGNAL) == 1)
        nanosleep(&pause, NULL);
}

static void serve(int fd)
{
    if (d.hang_ups > 0) {
        d.hang_ups--;
        return;
    }
    if (d.manner == HANGS_UP || !hear(fd))
        return;
    d.calls++;
    char byte;
    if (d.manner == SILENT)
        (void)!recv(fd, &byte, 1, 0); /* until it has had enough */
    else if (d.manner == DRIBBLES)
        dribble(fd);
    else
        (void)!send(fd, d.reply, strlen(d.reply) + 1, MSG_NOSIGNAL);
}

static void *run_daemon(void *arg)
{
    struct pollfd p[] = {{d.listener, POLLIN, 0}, {d.stop[0], POLLIN, 0}};

    while (poll(p, 2, -1) > 0 && !p[1].revents) {
        int fd = accept4(d.listener, NULL, NULL, SOCK_CLOEXEC);
        serve(fd);
        close(fd);
    }
    return NULL;
}

static void start_daemon(enum manner manner, const char *reply)
{
    d.manner = manner;
    d.reply = reply;
    d.calls = d.fds = d.hang_ups = 0;
    assert_int_equal(pipe(d.stop), 0);
    assert_int_equal(pthread_create(&d.thread, NULL, run_daemon, NULL), 0);
}

static void stop_daemon(void)
{
    close(d.stop[1]);
    pthread_join(d.thread, NULL);
    close(d.stop[0]);
}

/* --- A connection --------------------------------------------------------------------- */

static int tcp, accepted, unconnected;

static void connect_loopback(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(a);
    int listener = socket(AF_INET, SOCK_STREAM, 0);

    assert_int_equal(bind(listener, (struct sockaddr *)&a, sizeof(a)), 0);
    assert_int_equal(listen(listener, 1), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&a, &len), 0);
    tcp = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(tcp, (struct sockaddr *)&a, sizeof(a)), 0);
    accepted = accept(listener, NULL, NULL);
    close(listener);
    unconnected = socket(AF_INET, SOCK_STREAM, 0);
}

static int set_up(void **state)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};

    memset(&d, 0, sizeof(d));
    strcpy(d.dir, "/tmp/tcns-lib-XXXXXX");
    assert_non_null(mkdtemp(d.dir));
    snprintf(d.path, sizeof(d.path), "%s/sock", d.dir);
    strcpy(un.sun_path, d.path);
    d.listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(d.listener, (struct sockaddr *)&un, sizeof(un)), 0);
    assert_int_equal(listen(d.listener, 64), 0);
    assert_int_equal(tcpcrypt_set_ctl(d.path), 0);
    connect_loopback();
    return 0;
}

static int tear_down(void **state)
{
    close(d.listener);
    unlink(d.path);
    rmdir(d.dir);
    close(tcp);
    close(accepted);
    close(unconnected);
    return tcpcrypt_set_ctl(NULL);
}

static void expect_errno(int result, int errnum)
{
    assert_int_equal(result, -1);
    assert_int_equal(errno, errnum);
}

static bool was_said(const char *text)
{
    return strstr(d.call, text) != NULL;
}

/* --- What a connection is ------------------------------------------------------------------ */

static void test_info(void **state)
{
    struct tcpcrypt_info info;
    char local[64];
    struct sockaddr_in a;
    socklen_t len = sizeof(a);

    start_daemon(ANSWERS, ENCRYPTED);
    errno = 77;
    assert_int_equal(tcpcrypt_get_info(tcp, &info, sizeof(info)), 0);
    assert_int_equal(errno, 77);
    stop_daemon();
    getsockname(tcp, (struct sockaddr *)&a, &len);
    snprintf(local, sizeof(local), "\"local\":\"127.0.0.1\",\"local_port\":%d", ntohs(a.sin_port));
    assert_true(was_said("org.tcpcrypt.Ns1.GetSession"));
    assert_true(was_said(local));
    assert_int_equal(info.state, TCPCRYPT_ENCRYPTED);
    assert_int_equal(info.role, TCPCRYPT_ROLE_A);
    assert_int_equal(info.inbound, 0);
    assert_int_equal(info.app_aware, 1);
    assert_int_equal(info.tx_bytes, 5);
    assert_int_equal(info.sessid_len, 33);
    assert_int_equal(info.sessid[0], 0x23);
    assert_int_equal(info.sessid[32], 0x1f);
    assert_string_equal(info.reason, "full");
    assert_string_equal(info.tep, "TCPCRYPT_ECDHE_Curve25519");
    assert_string_equal(info.aead, "AEAD_AES_128_GCM");
}

/* A program that knows less of the struct, or more. */
static void test_info_of_another_size(void **state)
{
    struct {
        struct tcpcrypt_info info;
        char more[8];
    } big;
    unsigned char small[8];

    start_daemon(ANSWERS, ENCRYPTED);
    memset(&big, 0xff, sizeof(big));
    assert_int_equal(tcpcrypt_get_info(tcp, &big.info, sizeof(big)), 0);
    assert_int_equal(big.more[0], 0);
    memset(small, 0xff, sizeof(small));
    assert_int_equal(tcpcrypt_get_info(tcp, (struct tcpcrypt_info *)(void *)small, 4), 0);
    assert_int_equal(small[0], TCPCRYPT_ENCRYPTED);
    assert_int_equal(small[4], 0xff);
    stop_daemon();
    expect_errno(tcpcrypt_get_info(tcp, &big.info, 0), EINVAL);
    expect_errno(tcpcrypt_get_info(tcp, NULL, sizeof(big.info)), EINVAL);
}

static void test_wrong_sockets(void **state)
{
    struct tcpcrypt_info info;
    int udp = socket(AF_INET, SOCK_DGRAM, 0), file = open("/dev/null", O_RDONLY);

    start_daemon(ANSWERS, ENCRYPTED);
    expect_errno(tcpcrypt_get_info(-1, &info, sizeof(info)), EBADF);
    expect_errno(tcpcrypt_get_info(file, &info, sizeof(info)), ENOTSOCK);
    expect_errno(tcpcrypt_get_info(udp, &info, sizeof(info)), EOPNOTSUPP);
    expect_errno(tcpcrypt_get_info(unconnected, &info, sizeof(info)), ENOTCONN);
    expect_errno(tcpcrypt_wait(unconnected, 1000), ENOTCONN);
    expect_errno(tcpcrypt_wait(tcp, -1), EINVAL);
    expect_errno(tcpcrypt_set_policy(file, TCPCRYPT_OFF), ENOTSOCK);
    expect_errno(tcpcrypt_mark_authenticated(udp), EOPNOTSUPP);
    expect_errno(tcpcrypt_forget(-1), EBADF);
    stop_daemon();
    assert_int_equal(d.calls, 0);
    close(udp);
    close(file);
}

static void test_errors_of_the_daemon(void **state)
{
    static const struct {
        const char *reply;
        int errnum;
    } cases[] = {
        {ERROR(NS1 "NoSession"), ENOENT},
        {ERROR(NS1 "NotEncrypted"), ENODATA},
        {ERROR(NS1 "NoSocket"), ENOTSOCK},
        {ERROR(NS1 "NotConnected"), ENOTCONN},
        {ERROR(NS1 "AlreadyConnected"), EISCONN},
        {ERROR(NS1 "TooMany"), ENOSPC},
        {ERROR(NS1 "NotPossible"), EOPNOTSUPP},
        {ERROR(NS1 "OutOfMemory"), ENOMEM},
        {ERROR("org.varlink.service.PermissionDenied"), EPERM},
        {ERROR("org.varlink.service.InvalidParameter"), EINVAL},
        {ERROR("org.varlink.service.MethodNotFound"), EOPNOTSUPP},
        {ERROR("org.example.Else"), EPROTO},
        {"nonsense", EPROTO},
        {"[]", EPROTO},
        {NOTHING, EPROTO},
        {"{\"parameters\":{\"session\":7}}", EPROTO},
        {IN_STATE("else"), EPROTO},
        {"{\"parameters\":{\"session\":{\"state\":\"encrypted\",\"session_id\":\"23\"}}}", EPROTO},
        {"{\"parameters\":{\"session\":{\"state\":\"encrypted\",\"session_id\":\"zz" SESSID "\"}}}",
         EPROTO},
    };
    struct tcpcrypt_info info;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        start_daemon(ANSWERS, cases[i].reply);
        expect_errno(tcpcrypt_get_info(tcp, &info, sizeof(info)), cases[i].errnum);
        stop_daemon();
        assert_true(strlen(tcpcrypt_strerror(cases[i].errnum)) > 5);
    }
    assert_string_equal(tcpcrypt_strerror(99999), tcpcrypt_strerror(-1));
}

static void test_no_daemon(void **state)
{
    struct tcpcrypt_info info;

    unlink(d.path);
    expect_errno(tcpcrypt_get_info(tcp, &info, sizeof(info)), ECONNREFUSED);
    expect_errno(tcpcrypt_wait(tcp, 0), ECONNREFUSED);
    expect_errno(tcpcrypt_set_policy(unconnected, TCPCRYPT_REQUIRE), ECONNREFUSED);
    expect_errno(tcpcrypt_flush(), ECONNREFUSED);
    assert_null(tcpcrypt_getsessid("192.0.2.7", 80, NULL, 0));
    assert_int_equal(errno, ECONNREFUSED);
}

/* --- Time ------------------------------------------------------------------------------------ */

static double now_s(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* The daemon does anything but answer. */
static void check_patience(void)
{
    struct tcpcrypt_info info;
    double start = now_s();

    expect_errno(tcpcrypt_get_info(tcp, &info, sizeof(info)), ETIMEDOUT);
    double took_ms = (now_s() - start) * 1e3;
    assert_true(took_ms > TCPCRYPT_TIMEOUT_MS - 100);
    assert_true(took_ms < TCPCRYPT_TIMEOUT_MS + 5000);
}

static void test_silent_daemon(void **state)
{
    start_daemon(SILENT, NULL);
    check_patience();
    stop_daemon();
}

static void test_dribbling_daemon(void **state)
{
    start_daemon(DRIBBLES, NULL);
    check_patience();
    stop_daemon();
}

/* Nobody takes our connection, and the queue of those who wait is full. */
static void test_crowded_daemon(void **state)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    int fds[128];

    strcpy(un.sun_path, d.path);
    for (size_t i = 0; i < 128; i++) {
        fds[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
        (void)!connect(fds[i], (struct sockaddr *)&un, sizeof(un));
    }
    check_patience();
    for (size_t i = 0; i < 128; i++)
        close(fds[i]);
}

static void test_hung_up(void **state)
{
    struct tcpcrypt_info info;

    start_daemon(ANSWERS, ENCRYPTED);
    d.hang_ups = 3; /* as a crowded one does; then there is a place */
    assert_int_equal(tcpcrypt_get_info(tcp, &info, sizeof(info)), 0);
    stop_daemon();
    start_daemon(HANGS_UP, NULL);
    check_patience();
    stop_daemon();
}

static void test_wait(void **state)
{
    start_daemon(ANSWERS, IN_STATE("clear"));
    assert_int_equal(tcpcrypt_wait(tcp, 12999), TCPCRYPT_CLEAR);
    stop_daemon();
    assert_true(was_said("\"wait\":12"));
    start_daemon(ANSWERS, IN_STATE("clear"));
    assert_int_equal(tcpcrypt_wait(tcp, 1 << 30), TCPCRYPT_CLEAR);
    stop_daemon();
    assert_true(was_said("\"wait\":60000")); /* the daemon's limit */
    start_daemon(ANSWERS, IN_STATE("opening"));
    expect_errno(tcpcrypt_wait(tcp, 50), ETIMEDOUT);
    expect_errno(tcpcrypt_wait(tcp, 0), ETIMEDOUT);
    stop_daemon();
}

/* A connect() under way: nothing answers at the other end. */
static void test_wait_for_the_connection(void **state)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(a);
    int listener = socket(AF_INET, SOCK_STREAM, 0), fds[3];

    assert_int_equal(bind(listener, (struct sockaddr *)&a, sizeof(a)), 0);
    assert_int_equal(listen(listener, 0), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&a, &len), 0);
    for (int i = 0; i < 3; i++) { /* its queue has room for one */
        fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        (void)!connect(fds[i], (struct sockaddr *)&a, sizeof(a));
    }
    start_daemon(ANSWERS, ENCRYPTED);
    double start = now_s();
    expect_errno(tcpcrypt_wait(fds[2], 200), ETIMEDOUT);
    assert_true(now_s() - start > 0.15 && now_s() - start < 8);
    assert_int_equal(d.calls, 0);
    stop_daemon();
    close(listener);
    for (int i = 0; i < 3; i++)
        close(fds[i]);
}

/* --- Settings ------------------------------------------------------------------------------------
 */

/* Expects that the call went well, along with the socket, and said text. */
#define EXPECT_SET(result, text)                                                                   \
    do {                                                                                           \
        start_daemon(ANSWERS, NOTHING);                                                            \
        assert_int_equal(result, 0);                                                               \
        stop_daemon();                                                                             \
        assert_int_equal(d.fds, 1);                                                                \
        assert_true(was_said(text));                                                               \
    } while (0)

static void test_settings(void **state)
{
    int aeads[] = {TCPCRYPT_CHACHA20_POLY1305, TCPCRYPT_AES_256_GCM};

    EXPECT_SET(tcpcrypt_set_policy(tcp, TCPCRYPT_PREFER), "\"policy\":\"prefer\"");
    EXPECT_SET(tcpcrypt_set_policy(tcp, TCPCRYPT_REQUIRE), "\"policy\":\"require\"");
    EXPECT_SET(tcpcrypt_set_policy(tcp, TCPCRYPT_OFF), "\"policy\":\"off\"");
    EXPECT_SET(tcpcrypt_set_aeads(tcp, aeads, 2),
               "\"aeads\":[\"ChaCha20-Poly1305\",\"AES-256-GCM\"]");
    EXPECT_SET(tcpcrypt_set_app_aware(tcp, TCPCRYPT_APP_AWARE_ON), "\"app_aware\":\"on\"");
    EXPECT_SET(tcpcrypt_set_app_aware(tcp, TCPCRYPT_APP_AWARE_MANDATORY), "\"mandatory\"");
    EXPECT_SET(tcpcrypt_set_resume(tcp, 0), "\"resume\":false");
    EXPECT_SET(tcpcrypt_set_cache(tcp, 7), "\"cache\":true");
    EXPECT_SET(tcpcrypt_set_passive_role(tcp, 1), "\"passive_role\":true");
    EXPECT_SET(tcpcrypt_reset(tcp), "\"reset\":true");
    EXPECT_SET(tcpcrypt_mark_authenticated(tcp), "Ns1.MarkAuthenticated");
    EXPECT_SET(tcpcrypt_forget(tcp), "Ns1.Forget");
}

static void test_wrong_settings(void **state)
{
    int aead = 0x0003;

    start_daemon(ANSWERS, NOTHING);
    expect_errno(tcpcrypt_set_policy(tcp, -1), EINVAL);
    expect_errno(tcpcrypt_set_policy(tcp, 3), EINVAL);
    expect_errno(tcpcrypt_set_app_aware(tcp, 3), EINVAL);
    expect_errno(tcpcrypt_set_aeads(tcp, &aead, 1), EINVAL);
    expect_errno(tcpcrypt_set_aeads(tcp, &aead, 0), EINVAL);
    expect_errno(tcpcrypt_set_aeads(tcp, NULL, 1), EINVAL);
    stop_daemon();
    assert_int_equal(d.calls, 0);
}

static void test_places(void **state)
{
    static const char *const wrong[] = {"", "relative", ":", ":0", ":65536", ":1x", "@name"};

    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        expect_errno(tcpcrypt_set_ctl(wrong[i]), EINVAL);
    start_daemon(ANSWERS, NOTHING);
    assert_int_equal(tcpcrypt_flush(), 0); /* where it was */
    stop_daemon();
    errno = 0;
    tcpcrypt_setparam(7, d.path);
    assert_int_equal(errno, EINVAL);
    errno = 0;
    tcpcrypt_setparam(TCPCRYPT_PARAM_CTLPATH, "1");
    assert_int_equal(errno, 0);
    expect_errno(tcpcrypt_flush(), ECONNREFUSED);
    expect_errno(tcpcrypt_set_policy(tcp, TCPCRYPT_OFF), EOPNOTSUPP); /* no socket goes over TCP */
}

/* --- The original's calls
 * -------------------------------------------------------------------------- */

static int get(int fd, int optname, void *optval, socklen_t len)
{
    socklen_t got = len;
    int result = tcpcrypt_getsockopt(fd, IPPROTO_TCP, optname, optval, &got);

    if (result == 0)
        assert_int_equal(got, optname == TCP_CRYPT_SESSID        ? 33
                              : optname == TCP_CRYPT_APP_SUPPORT ? 34
                                                                 : (int)sizeof(int));
    return result;
}

static int set(int fd, int optname, int value)
{
    return tcpcrypt_setsockopt(fd, IPPROTO_TCP, optname, &value, sizeof(value));
}

static void test_numbers_of_the_original(void **state)
{
    assert_int_equal(TCP_CRYPT_ENABLE, 0);
    assert_int_equal(TCP_CRYPT_CMODE, 1);
    assert_int_equal(TCP_CRYPT_SESSID, 2);
    assert_int_equal(TCP_CRYPT_RSA_KEY, 3);
    assert_int_equal(TCP_CRYPT_APP_SUPPORT, 15);
    assert_int_equal(TCP_CRYPT_RESET, 100);
    assert_int_equal(TCP_CRYPT_NOCACHE, 101);
    assert_int_equal(TCP_CRYPT_NETSTAT, 102);
    assert_int_equal(TCPCRYPT_PARAM_CTLPATH, 0);
}

static void test_getsockopt(void **state)
{
    unsigned char bytes[200];
    int value = -1;

    start_daemon(ANSWERS, ENCRYPTED);
    assert_int_equal(get(tcp, TCP_CRYPT_SESSID, bytes, sizeof(bytes)), 0);
    assert_int_equal(bytes[1], 0x00);
    assert_int_equal(bytes[32], 0x1f);
    assert_int_equal(get(tcp, TCP_CRYPT_APP_SUPPORT, bytes, 34), 0);
    assert_int_equal(bytes[0], 3);
    assert_int_equal(bytes[1], 0x23);
    assert_int_equal(get(tcp, TCP_CRYPT_ENABLE, &value, sizeof(value)), 0);
    assert_int_equal(value, 1);
    stop_daemon();
    start_daemon(ANSWERS, "{\"parameters\":{\"policy\":\"off\",\"cache\":false}}");
    assert_int_equal(get(unconnected, TCP_CRYPT_ENABLE, &value, sizeof(value)), 0);
    assert_int_equal(value, 0);
    assert_int_equal(get(unconnected, TCP_CRYPT_NOCACHE, &value, sizeof(value)), 0);
    assert_int_equal(value, 1);
    stop_daemon();
    start_daemon(ANSWERS, NOTHING);
    assert_int_equal(get(unconnected, TCP_CRYPT_ENABLE, &value, sizeof(value)), 0);
    assert_int_equal(value, 1);
    assert_int_equal(get(tcp, TCP_CRYPT_NOCACHE, &value, sizeof(value)), 0);
    assert_int_equal(value, 0);
    stop_daemon();
}

static void test_getsockopt_without_a_sessid(void **state)
{
    unsigned char bytes[200];
    int value = -1;

    start_daemon(ANSWERS, IN_STATE("clear"));
    expect_errno(get(tcp, TCP_CRYPT_SESSID, bytes, sizeof(bytes)), ENODATA);
    expect_errno(get(tcp, TCP_CRYPT_APP_SUPPORT, bytes, sizeof(bytes)), ENODATA);
    assert_int_equal(get(tcp, TCP_CRYPT_ENABLE, &value, sizeof(value)), 0);
    assert_int_equal(value, 0);
    stop_daemon();
    start_daemon(ANSWERS, IN_STATE("opening"));
    expect_errno(get(tcp, TCP_CRYPT_SESSID, bytes, sizeof(bytes)), EINPROGRESS);
    expect_errno(get(unconnected, TCP_CRYPT_SESSID, bytes, sizeof(bytes)), ENOTCONN);
    stop_daemon();
}

static void test_wrong_sizes(void **state)
{
    unsigned char bytes[200];
    long value = 0;
    socklen_t len = sizeof(bytes);

    start_daemon(ANSWERS, ENCRYPTED);
    expect_errno(get(tcp, TCP_CRYPT_SESSID, bytes, 32), EINVAL);
    expect_errno(get(tcp, TCP_CRYPT_APP_SUPPORT, bytes, 33), EINVAL);
    expect_errno(get(tcp, TCP_CRYPT_ENABLE, bytes, 3), EINVAL);
    expect_errno(tcpcrypt_getsockopt(tcp, IPPROTO_TCP, TCP_CRYPT_SESSID, NULL, &len), EINVAL);
    expect_errno(tcpcrypt_getsockopt(tcp, IPPROTO_TCP, TCP_CRYPT_SESSID, bytes, NULL), EINVAL);
    expect_errno(tcpcrypt_getsockopt(tcp, SOL_SOCKET, TCP_CRYPT_SESSID, bytes, &len), EINVAL);
    expect_errno(tcpcrypt_setsockopt(tcp, SOL_SOCKET, TCP_CRYPT_ENABLE, &value, sizeof(int)),
                 EINVAL);
    expect_errno(tcpcrypt_setsockopt(tcp, IPPROTO_TCP, TCP_CRYPT_ENABLE, &value, 8), EINVAL);
    expect_errno(tcpcrypt_setsockopt(tcp, IPPROTO_TCP, TCP_CRYPT_ENABLE, NULL, 4), EINVAL);
    for (int other = 0; other < 200; other++) {
        bool can_get = other == TCP_CRYPT_ENABLE || other == TCP_CRYPT_SESSID ||
                       other == TCP_CRYPT_APP_SUPPORT || other == TCP_CRYPT_NOCACHE;
        bool can_set = other == TCP_CRYPT_ENABLE || other == TCP_CRYPT_APP_SUPPORT ||
                       other == TCP_CRYPT_NOCACHE || other == TCP_CRYPT_RESET;
        if (!can_get)
            expect_errno(get(tcp, other, bytes, sizeof(bytes)), ENOPROTOOPT);
        if (!can_set)
            expect_errno(set(tcp, other, 1), ENOPROTOOPT);
    }
    stop_daemon();
}

static void test_setsockopt(void **state)
{
    EXPECT_SET(set(unconnected, TCP_CRYPT_ENABLE, 0), "\"policy\":\"off\"");
    EXPECT_SET(set(unconnected, TCP_CRYPT_ENABLE, 1), "\"policy\":\"prefer\"");
    EXPECT_SET(set(unconnected, TCP_CRYPT_APP_SUPPORT, 1), "\"app_aware\":\"on\"");
    EXPECT_SET(set(unconnected, TCP_CRYPT_NOCACHE, 1), "\"cache\":false");
    EXPECT_SET(tcpcrypt_setsockopt(unconnected, IPPROTO_TCP, TCP_CRYPT_RESET, NULL, 0),
               "\"reset\":true");
}

static void test_getsessid(void **state)
{
    const char *hex = "23000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F";

    start_daemon(ANSWERS, ENCRYPTED);
    assert_string_equal(tcpcrypt_getsessid("192.0.2.7", 80, "127.0.0.1", 1), hex);
    assert_true(was_said("GetSession"));
    assert_null(tcpcrypt_getsessid("nonsense", 80, NULL, 0));
    assert_int_equal(errno, EINVAL);
    assert_null(tcpcrypt_getsessid(NULL, 80, NULL, 0));
    assert_null(tcpcrypt_getsessid("192.0.2.7", 0, NULL, 0));
    assert_null(tcpcrypt_getsessid("192.0.2.7", 80, "x", 0));
    stop_daemon();
    start_daemon(ANSWERS, "{\"parameters\":{\"session\":" SESSION "},\"continues\":false}");
    assert_string_equal(tcpcrypt_getsessid("192.0.2.7", 80, NULL, 0), hex);
    assert_true(was_said("ListSessions"));
    assert_string_equal(tcpcrypt_getsessid("::ffff:192.0.2.7", 80, "127.0.0.1", 0), hex);
    assert_null(tcpcrypt_getsessid("192.0.2.7", 81, NULL, 0));
    assert_int_equal(errno, ENOENT);
    assert_null(tcpcrypt_getsessid("192.0.2.8", 80, NULL, 0));
    assert_null(tcpcrypt_getsessid("192.0.2.7", 80, "127.0.0.2", 0));
    stop_daemon();
}

/* --- Processes and threads
 * ----------------------------------------------------------------------------- */

static atomic_int failures;

static void *use(void *arg)
{
    for (int i = 0; i < 50; i++) {
        struct tcpcrypt_info info;
        const char *text;

        failures += tcpcrypt_get_info(tcp, &info, sizeof(info)) != 0 || info.sessid[32] != 0x1f;
        failures += tcpcrypt_set_cache(unconnected, i & 1) != 0;
        failures += tcpcrypt_set_ctl(d.path) != 0;
        text = tcpcrypt_getsessid("192.0.2.7", 80, "127.0.0.1", 1);
        failures += !text || text[1] != '3';
    }
    return NULL;
}

static void test_threads(void **state)
{
    pthread_t threads[8];

    start_daemon(ANSWERS, ENCRYPTED);
    failures = 0;
    for (int i = 0; i < 8; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, use, NULL), 0);
    for (int i = 0; i < 8; i++)
        pthread_join(threads[i], NULL);
    stop_daemon();
    assert_int_equal(failures, 0);
    assert_int_equal(d.calls, 8 * 50 * 3);
}

static atomic_bool ended;

static void *set_place_all_the_time(void *arg)
{
    while (!ended)
        tcpcrypt_set_ctl(d.path);
    return NULL;
}

/* A child that is forked while another thread is at work in the library. */
static void test_fork(void **state)
{
    struct tcpcrypt_info info;
    pthread_t thread;
    int status;

    start_daemon(ANSWERS, ENCRYPTED);
    ended = false;
    assert_int_equal(pthread_create(&thread, NULL, set_place_all_the_time, NULL), 0);
    for (int i = 0; i < 50; i++) {
        pid_t child = fork();
        if (child == 0) {
            alarm(20);
            _exit(tcpcrypt_get_info(tcp, &info, sizeof(info)) != 0);
        }
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
    ended = true;
    pthread_join(thread, NULL);
    stop_daemon();
}

static int open_fd_cnt(void)
{
    int cnt = 0;

    for (int fd = 0; fd < 256; fd++)
        cnt += fcntl(fd, F_GETFD) >= 0;
    return cnt;
}

static void test_keeps_no_descriptor(void **state)
{
    struct tcpcrypt_info info;

    start_daemon(ANSWERS, ERROR(NS1 "NoSession"));
    int before = open_fd_cnt();
    for (int i = 0; i < 5; i++) {
        expect_errno(tcpcrypt_get_info(tcp, &info, sizeof(info)), ENOENT);
        expect_errno(tcpcrypt_reset(unconnected), ENOENT);
    }
    stop_daemon();
    assert_int_equal(open_fd_cnt(), before - 2);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

/* With an argument: the test of that name only. */
int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(test_info),
        TEST(test_info_of_another_size),
        TEST(test_wrong_sockets),
        TEST(test_errors_of_the_daemon),
        TEST(test_no_daemon),
        TEST(test_silent_daemon),
        TEST(test_dribbling_daemon),
        TEST(test_crowded_daemon),
        TEST(test_hung_up),
        TEST(test_wait),
        TEST(test_wait_for_the_connection),
        TEST(test_settings),
        TEST(test_wrong_settings),
        TEST(test_places),
        TEST(test_numbers_of_the_original),
        TEST(test_getsockopt),
        TEST(test_getsockopt_without_a_sessid),
        TEST(test_wrong_sizes),
        TEST(test_setsockopt),
        TEST(test_getsessid),
        TEST(test_threads),
        TEST(test_fork),
        TEST(test_keeps_no_descriptor),
    };

    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests_name("lib", tests, NULL, NULL);
}
