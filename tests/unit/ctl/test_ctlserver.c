/* SPDX-License-Identifier: BSD-3-Clause
 * The Varlink server: framing, back-pressure, limits.
 */
#include "ctl/daemon/ctlserver.h"

#include <errno.h>
#include <fcntl.h>
#include <ev.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "ctl_door.h"

#define PLACES       16 /* CLIENTS_MAX of ctlserver.c */
#define INPUT_MAX    (64 * 1024)
#define STREAM_CNT   20000
#define BIG_CALL_CNT 1000

struct fixture {
    struct ev_loop *loop;
    struct door door;
    struct ctlserver *server;
    unsigned calls, streams_done;
    struct ctlserver_client *watcher;
    unsigned resumed;
};

/* --- A service --------------------------------------------------------------- */

struct numbers {
    struct fixture *f;
    int next;
};

static bool produce(struct ctlserver_client *c, void *state)
{
    struct numbers *n = state;

    for (int i = 0; i < 64; i++) {
        if (n->next == STREAM_CNT) {
            ctlserver_reply(c, NULL);
            return false;
        }
        ctlserver_continue(c, json_pack("{s:i}", "n", n->next++));
    }
    return true;
}

static void on_stream_done(void *state)
{
    struct numbers *n = state;

    n->f->streams_done++;
    free(n);
}

/* Called after a resume only: says so, and pauses again. */
static bool produce_note(struct ctlserver_client *c, void *state)
{
    struct fixture *f = state;

    f->resumed++;
    ctlserver_continue(c, json_pack("{s:b}", "resumed", 1));
    ctlserver_pause(c);
    return true;
}

static void on_watcher_done(void *state)
{
    struct fixture *f = state;

    f->watcher = NULL;
}

static void on_call(struct ctlserver_client *c, const char *method, const json_t *params, bool more,
                    void *arg)
{
    struct fixture *f = arg;

    f->calls++;
    if (strcmp(method, "t.Echo") == 0) {
        ctlserver_reply(c, params ? json_deep_copy(params) : NULL);
    } else if (strcmp(method, "t.Count") == 0) {
        struct numbers *n = calloc(1, sizeof(*n));
        n->f = f;
        ctlserver_stream(c, produce, n, on_stream_done);
    } else if (strcmp(method, "t.Park") == 0) {
        ctlserver_park(c);
    } else if (strcmp(method, "t.Watch") == 0) {
        f->watcher = c;
        ctlserver_stream(c, produce_note, f, on_watcher_done);
        ctlserver_pause(c);
    } else if (strcmp(method, "t.Take") == 0) {
        int fd = ctlserver_take_fd(c);
        char byte = 0;

        ctlserver_reply(c, json_pack("{s:b, s:i}", "got", fd >= 0, "byte",
                                     fd >= 0 && read(fd, &byte, 1) == 1 ? byte : -1));
        assert_int_equal(ctlserver_take_fd(c), -1); /* there is one, once */
        if (fd >= 0)
            close(fd);
    } else if (strcmp(method, "t.Big") == 0) {
        char *text = malloc(4001);
        memset(text, 'x', 4000);
        text[4000] = '\0';
        ctlserver_reply(c, json_pack("{s:s}", "text", text));
        free(text);
    } else {
        ctlserver_error(c, "t.NoMethod", json_pack("{s:s}", "method", method));
    }
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    door_open(&f->door);
    f->loop = ev_loop_new(EVFLAG_AUTO);
    f->server = ctlserver_new(f->loop, &f->door.sock, on_call, f);
    assert_non_null(f->server);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    ctlserver_free(f->server);
    ev_loop_destroy(f->loop);
    door_close(&f->door);
    free(f);
    return 0;
}

/* --- Calls and replies ----------------------------------------------------------- */

static void turn(struct fixture *f, int cnt)
{
    for (int i = 0; i < cnt; i++)
        ev_run(f->loop, EVRUN_NOWAIT);
}

static void say(int fd, const char *text)
{
    size_t len = strlen(text) + 1;

    assert_int_equal(send(fd, text, len, MSG_NOSIGNAL), (ssize_t)len);
}

/* Reads n replies. Return: the last one; NULL when the server hung up. */
static json_t *hear(struct fixture *f, int fd, int cnt)
{
    static char data[1 << 20];
    size_t len = 0;

    for (int idle = 0; idle < 10000;) {
        ssize_t n = recv(fd, data + len, sizeof(data) - len, 0);
        if (n == 0 || (n < 0 && errno != EAGAIN))
            return NULL;
        turn(f, 1);
        idle = n < 0 ? idle + 1 : 0;
        len += n > 0 ? (size_t)n : 0;
        char *end;
        while ((end = memchr(data, '\0', len))) {
            if (--cnt == 0)
                return json_loads(data, 0, NULL);
            len -= (size_t)(end + 1 - data);
            memmove(data, end + 1, len);
        }
    }
    fail_msg("no answer");
    return NULL;
}

static bool is_hung_up(struct fixture *f, int fd)
{
    char c;

    turn(f, 10);
    for (;;) {
        ssize_t n = recv(fd, &c, 1, 0);
        if (n <= 0)
            return n == 0 || errno == ECONNRESET;
    }
}

/* --- Tests ---------------------------------------------------------------------- */

static void test_call(void **state)
{
    struct fixture *f = *state;
    int fd = door_enter(&f->door);

    say(fd, "{\"method\":\"t.Echo\",\"parameters\":{\"a\":1}}");
    json_t *r = hear(f, fd, 1);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(r, "parameters"), "a")), 1);
    assert_null(json_object_get(r, "continues"));
    assert_null(json_object_get(r, "error"));
    json_decref(r);
    say(fd, "{\"method\":\"t.None\"}");
    r = hear(f, fd, 1);
    assert_string_equal(json_string_value(json_object_get(r, "error")), "t.NoMethod");
    json_decref(r);
    close(fd);
}

static void test_call_in_pieces(void **state)
{
    static const char call[] = "{\"method\":\"t.Echo\"}";
    struct fixture *f = *state;
    int fd = door_enter(&f->door);

    for (size_t i = 0; i < sizeof(call); i++) {
        assert_int_equal(f->calls, 0);
        assert_int_equal(send(fd, call + i, 1, 0), 1);
        turn(f, 3);
    }
    assert_int_equal(f->calls, 1);
    close(fd);
}

/* Replies larger than the output buffer together: each call must be served once
 * the client has read. */
static void test_pipelined_calls(void **state)
{
    struct fixture *f = *state;
    int fd = door_enter(&f->door);

    for (int i = 0; i < BIG_CALL_CNT; i++) {
        say(fd, "{\"method\":\"t.Big\"}");
        turn(f, 1);
    }
    json_t *r = hear(f, fd, BIG_CALL_CNT);
    assert_non_null(r);
    json_decref(r);
    assert_int_equal(f->calls, BIG_CALL_CNT);
    close(fd);
}

static void test_oneway(void **state)
{
    struct fixture *f = *state;
    int fd = door_enter(&f->door);

    say(fd, "{\"method\":\"t.Echo\",\"oneway\":true}");
    say(fd, "{\"method\":\"t.Echo\",\"parameters\":{\"second\":true}}");
    json_t *r = hear(f, fd, 1);
    assert_true(json_is_true(json_object_get(json_object_get(r, "parameters"), "second")));
    json_decref(r);
    assert_int_equal(f->calls, 2);
    close(fd);
}

static void test_stream(void **state)
{
    struct fixture *f = *state;
    int fd = door_enter(&f->door);

    say(fd, "{\"method\":\"t.Count\",\"more\":true}");
    json_t *r = hear(f, fd, STREAM_CNT + 1);
    assert_null(json_object_get(r, "continues"));
    json_decref(r);
    assert_int_equal(f->streams_done, 1);
    close(fd);
}

static void test_call_behind_a_stream_waits(void **state)
{
    struct fixture *f = *state;
    int fd = door_enter(&f->door);

    say(fd, "{\"method\":\"t.Count\",\"more\":true}");
    say(fd, "{\"method\":\"t.Echo\",\"parameters\":{\"last\":true}}");
    json_t *r = hear(f, fd, STREAM_CNT + 2);
    assert_true(json_is_true(json_object_get(json_object_get(r, "parameters"), "last")));
    json_decref(r);
    close(fd);
}

static void test_client_leaves_in_a_stream(void **state)
{
    struct fixture *f = *state;
    int fd = door_enter(&f->door);

    say(fd, "{\"method\":\"t.Count\",\"more\":true}");
    turn(f, 3);
    close(fd);
    turn(f, 50);
    assert_int_equal(f->streams_done, 1);
}

/* A client that does not read holds neither the server nor the others up. */
static void test_slow_client(void **state)
{
    struct fixture *f = *state;
    int slow = door_enter(&f->door), fast = door_enter(&f->door);

    say(slow, "{\"method\":\"t.Count\",\"more\":true}");
    turn(f, 2000);
    assert_int_equal(f->streams_done, 0);
    say(fast, "{\"method\":\"t.Echo\"}");
    json_t *r = hear(f, fast, 1);
    assert_non_null(r);
    json_decref(r);
    close(slow);
    close(fast);
}

static void test_parked_call(void **state)
{
    struct fixture *f = *state;
    int fd = door_enter(&f->door);

    say(fd, "{\"method\":\"t.Park\"}");
    say(fd, "{\"method\":\"t.Echo\"}");
    turn(f, 20);
    assert_int_equal(f->calls, 1);
    close(fd);
}

#define NOTE "{\"parameters\":{\"note\":1},\"continues\":true}"

static void test_push(void **state)
{
    struct fixture *f = *state;
    int fd = door_enter(&f->door);

    say(fd, "{\"method\":\"t.Watch\",\"more\":true}");
    turn(f, 5);
    assert_non_null(f->watcher);
    for (int i = 0; i < 3; i++)
        assert_true(ctlserver_push(f->watcher, NOTE, sizeof(NOTE)));
    json_t *r = hear(f, fd, 3);
    assert_true(json_is_true(json_object_get(r, "continues")));
    json_decref(r);
    say(fd, "{\"method\":\"t.Echo\"}"); /* waits behind the stream */
    turn(f, 10);
    assert_int_equal(f->calls, 1);
    assert_int_equal(f->resumed, 0);
    close(fd);
    turn(f, 5);
    assert_null(f->watcher);
}

/* Who does not read gets no more than fits; once there is room the stream may go on. */
static void test_push_to_one_who_does_not_read(void **state)
{
    struct fixture *f = *state;
    int fd = door_enter(&f->door), cnt = 0;

    say(fd, "{\"method\":\"t.Watch\",\"more\":true}");
    turn(f, 5);
    while (ctlserver_push(f->watcher, NOTE, sizeof(NOTE))) {
        assert_true(++cnt < 100000);
        turn(f, 1);
    }
    ctlserver_resume(f->watcher);
    turn(f, 100);
    assert_int_equal(f->resumed, 0);
    json_t *r = hear(f, fd, cnt + 1);
    assert_true(json_is_true(json_object_get(json_object_get(r, "parameters"), "resumed")));
    assert_int_equal(f->resumed, 1);
    json_decref(r);
    assert_true(ctlserver_push(f->watcher, NOTE, sizeof(NOTE)));
    json_decref(hear(f, fd, 1));
    close(fd);
}

static void test_garbage_hangs_up(void **state)
{
    static const char *const bad[] = {
        "",
        "{}",
        "[]",
        "null",
        "{",
        "\"t.Echo\"",
        "{\"method\":1}",
        "\xff\xfe",
        "{\"method\":\"t.Echo\",\"parameters\":[]}",
        "{\"method\":\"t.Echo\",\"parameters\":\"x\"}",
        "{\"method\":\"t.Echo\",\"method\":\"t.Echo\"}",
    };
    struct fixture *f = *state;

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        int fd = door_enter(&f->door);
        say(fd, bad[i]);
        assert_true(is_hung_up(f, fd));
        close(fd);
    }
    assert_int_equal(f->calls, 0);
}

static void test_endless_call_hangs_up(void **state)
{
    struct fixture *f = *state;
    int fd = door_enter(&f->door);
    char chunk[4096];

    memset(chunk, ' ', sizeof(chunk));
    for (int i = 0; i < INPUT_MAX / (int)sizeof(chunk); i++) {
        assert_int_equal(send(fd, chunk, sizeof(chunk), MSG_NOSIGNAL), sizeof(chunk));
        turn(f, 4);
    }
    assert_true(is_hung_up(f, fd));
    close(fd);
}

static void test_newcomer_takes_the_place_of_the_idlest(void **state)
{
    struct fixture *f = *state;
    int fds[PLACES + 1];

    for (int i = 0; i < PLACES; i++) {
        fds[i] = door_enter(&f->door);
        turn(f, 2);
        usleep(1000); /* the loop's clock must advance between them */
    }
    say(fds[0], "{\"method\":\"t.Echo\"}"); /* so that the second is the idlest */
    json_decref(hear(f, fds[0], 1));
    fds[PLACES] = door_enter(&f->door);
    turn(f, 4);
    for (int i = 0; i <= PLACES; i++) {
        assert_int_equal(is_hung_up(f, fds[i]), i == 1);
        close(fds[i]);
    }
}

/* --- Descriptors ------------------------------------------------------------------ */

/* Return: the end of a pipe from which byte can be read. */
static int pipe_with(char byte)
{
    int fds[2];

    assert_int_equal(pipe(fds), 0);
    assert_int_equal(write(fds[1], &byte, 1), 1);
    close(fds[1]);
    return fds[0];
}

/* Sends text, which may be no whole call, with descriptors; closes them. */
static void say_with(int fd, const char *text, size_t len, const int *fds, size_t cnt)
{
    union {
        char bytes[CMSG_SPACE(4 * sizeof(int))];
        struct cmsghdr align;
    } control = {.bytes = {0}};
    struct iovec iov = {(void *)text, len};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.bytes};

    msg.msg_controllen = CMSG_SPACE(cnt * sizeof(int));
    struct cmsghdr *m = CMSG_FIRSTHDR(&msg);
    m->cmsg_level = SOL_SOCKET;
    m->cmsg_type = SCM_RIGHTS;
    m->cmsg_len = CMSG_LEN(cnt * sizeof(int));
    memcpy(CMSG_DATA(m), fds, cnt * sizeof(int));
    assert_int_equal(sendmsg(fd, &msg, MSG_NOSIGNAL), (ssize_t)len);
    for (size_t i = 0; i < cnt; i++)
        close(fds[i]);
}

static int open_fd_cnt(void)
{
    int cnt = 0;

    for (int fd = 0; fd < 256; fd++)
        cnt += fcntl(fd, F_GETFD) >= 0;
    return cnt;
}

/* Return: the byte behind the descriptor that the cnt-th call got; -1: none. */
static int taken(struct fixture *f, int fd, int cnt)
{
    json_t *r = hear(f, fd, cnt);
    int byte = (int)json_integer_value(json_object_get(json_object_get(r, "parameters"), "byte"));

    json_decref(r);
    return byte;
}

#define TAKE "{\"method\":\"t.Take\"}"
#define ECHO "{\"method\":\"t.Echo\"}"

static void test_descriptor(void **state)
{
    struct fixture *f = *state;
    int fd = door_enter(&f->door);
    int passed = pipe_with('x');

    say_with(fd, TAKE, sizeof(TAKE), &passed, 1);
    assert_int_equal(taken(f, fd, 1), 'x');
    say(fd, TAKE);
    assert_int_equal(taken(f, fd, 1), -1);
    close(fd);
}

/* It comes in the middle of several calls: for the first that takes one. */
static void test_descriptor_among_calls(void **state)
{
    static const char calls[] = ECHO "\0" TAKE "\0" TAKE;
    struct fixture *f = *state;
    int fd = door_enter(&f->door);
    int passed = pipe_with('y');

    assert_int_equal(send(fd, calls, 5, 0), 5);
    turn(f, 2);
    say_with(fd, calls + 5, sizeof(calls) - 5, &passed, 1);
    assert_int_equal(taken(f, fd, 2), 'y');
    passed = pipe_with('z');
    say_with(fd, calls, sizeof(calls), &passed, 1);
    assert_int_equal(taken(f, fd, 3), -1);
    close(fd);
}

/* Whatever is sent, nothing stays open. */
static void test_descriptors_are_closed(void **state)
{
    struct fixture *f = *state;
    int fds[4];
    int start = open_fd_cnt();
    int fd = door_enter(&f->door);

    say(fd, ECHO);
    json_decref(hear(f, fd, 1));
    int before = open_fd_cnt();
    for (int i = 0; i < 4; i++)
        fds[i] = pipe_with((char)('a' + i));
    say_with(fd, ECHO, sizeof(ECHO), fds, 4); /* not taken */
    json_decref(hear(f, fd, 1));
    assert_int_equal(open_fd_cnt(), before);
    for (int i = 0; i < 50; i++) { /* and no call ever */
        int passed = pipe_with('z');
        say_with(fd, " ", 1, &passed, 1);
        turn(f, 2);
        assert_true(open_fd_cnt() <= before + 1);
    }
    close(fd);
    turn(f, 4);
    assert_int_equal(open_fd_cnt(), start);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_call),
        TEST(test_call_in_pieces),
        TEST(test_pipelined_calls),
        TEST(test_oneway),
        TEST(test_stream),
        TEST(test_call_behind_a_stream_waits),
        TEST(test_client_leaves_in_a_stream),
        TEST(test_slow_client),
        TEST(test_parked_call),
        TEST(test_descriptor),
        TEST(test_descriptor_among_calls),
        TEST(test_descriptors_are_closed),
        TEST(test_push),
        TEST(test_push_to_one_who_does_not_read),
        TEST(test_garbage_hangs_up),
        TEST(test_endless_call_hangs_up),
        TEST(test_newcomer_takes_the_place_of_the_idlest),
    };

    return cmocka_run_group_tests_name("ctl/ctlserver", tests, NULL, NULL);
}
