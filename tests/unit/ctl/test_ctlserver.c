/* SPDX-License-Identifier: BSD-3-Clause
 * The Varlink server: framing, back-pressure, limits.
 */
#include "ctl/ctlserver.h"

#include <errno.h>
#include <ev.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#define PLACES       16 /* CLIENTS_MAX of ctlserver.c */
#define INPUT_MAX    (64 * 1024)
#define STREAM_CNT   20000
#define BIG_CALL_CNT 1000

struct fixture {
    struct ev_loop *loop;
    struct ctlsock doors;
    struct ctlserver *server;
    char dir[32];
    struct sockaddr_un addr;
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

    strcpy(f->dir, "/tmp/tcns-ctl-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    f->addr.sun_family = AF_UNIX;
    snprintf(f->addr.sun_path, sizeof(f->addr.sun_path), "%s/sock", f->dir);
    f->doors = (struct ctlsock)CTLSOCK_NONE;
    f->doors.path_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    assert_int_equal(bind(f->doors.path_fd, (struct sockaddr *)&f->addr, sizeof(f->addr)), 0);
    assert_int_equal(listen(f->doors.path_fd, 128), 0);
    f->loop = ev_loop_new(EVFLAG_AUTO);
    f->server = ctlserver_new(f->loop, &f->doors, on_call, f);
    assert_non_null(f->server);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    ctlserver_free(f->server);
    ev_loop_destroy(f->loop);
    close(f->doors.path_fd);
    unlink(f->addr.sun_path);
    rmdir(f->dir);
    free(f);
    return 0;
}

/* --- A client ------------------------------------------------------------------ */

static int client(struct fixture *f)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);

    assert_int_equal(connect(fd, (struct sockaddr *)&f->addr, sizeof(f->addr)), 0);
    return fd;
}

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
    int fd = client(f);

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
    int fd = client(f);

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
    int fd = client(f);

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
    int fd = client(f);

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
    int fd = client(f);

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
    int fd = client(f);

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
    int fd = client(f);

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
    int slow = client(f), fast = client(f);

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
    int fd = client(f);

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
    int fd = client(f);

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
    int fd = client(f), cnt = 0;

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
        int fd = client(f);
        say(fd, bad[i]);
        assert_true(is_hung_up(f, fd));
        close(fd);
    }
    assert_int_equal(f->calls, 0);
}

static void test_endless_call_hangs_up(void **state)
{
    struct fixture *f = *state;
    int fd = client(f);
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
        fds[i] = client(f);
        turn(f, 2);
        usleep(1000); /* the loop's clock must advance between them */
    }
    say(fds[0], "{\"method\":\"t.Echo\"}"); /* so that the second is the idlest */
    json_decref(hear(f, fds[0], 1));
    fds[PLACES] = client(f);
    turn(f, 4);
    for (int i = 0; i <= PLACES; i++) {
        assert_int_equal(is_hung_up(f, fds[i]), i == 1);
        close(fds[i]);
    }
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
        TEST(test_push),
        TEST(test_push_to_one_who_does_not_read),
        TEST(test_garbage_hangs_up),
        TEST(test_endless_call_hangs_up),
        TEST(test_newcomer_takes_the_place_of_the_idlest),
    };

    return cmocka_run_group_tests_name("ctl/ctlserver", tests, NULL, NULL);
}
