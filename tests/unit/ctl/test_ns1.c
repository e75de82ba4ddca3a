/* SPDX-License-Identifier: BSD-3-Clause
 * The methods of org.tcpcrypt.Ns1, over a tunnel that is made up here.
 */
#include "fake_tunnel.h"

#include "ctl/daemon/wishes.h"

#include <errno.h>
#include <ev.h>
#include <fcntl.h>
#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "ctl_door.h"

/* --- A daemon and a client ------------------------------------------------------- */

struct fixture {
    struct ev_loop *loop;
    struct door door;
    struct ctlserver *server;
    struct tunnel tunnel;
    struct daemon_options opts;
    struct ns1 ns1;
    struct wishes_store store;
    struct ns1_watch watch;
    struct worker_links links;
    int fd;
    char data[1 << 20];
    size_t len;
};

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    door_open(&f->door);
    f->loop = ev_loop_new(EVFLAG_AUTO);
    daemon_options_init(&f->opts);
    f->ns1 = (struct ns1){.tunnel = &f->tunnel,
                          .loop = f->loop,
                          .opts = &f->opts,
                          .links = &f->links,
                          .watch = &f->watch};
    assert_int_equal(wishes_store_init(&f->store), 0);
    assert_int_equal(wishes_new(f->loop, 0, &f->store, &f->ns1.wishes), 0);
    f->server = ctlserver_new(f->loop, &f->door.sock, ns1_call, &f->ns1);
    f->fd = door_enter(&f->door);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    close(f->fd);
    ctlserver_free(f->server);
    wishes_free(f->ns1.wishes);
    wishes_store_done(&f->store);
    ev_loop_destroy(f->loop);
    door_close(&f->door);
    free(f);
    return 0;
}

static void say(struct fixture *f, const char *text)
{
    size_t len = strlen(text) + 1;

    assert_int_equal(send(f->fd, text, len, MSG_NOSIGNAL), (ssize_t)len);
}

/* The same with a descriptor, which is closed here. */
static void say_with(struct fixture *f, const char *text, int fd)
{
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control = {.bytes = {0}};
    struct iovec iov = {(void *)(uintptr_t)text, strlen(text) + 1};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control.bytes,
                         .msg_controllen = sizeof(control.bytes)};
    struct cmsghdr *c = CMSG_FIRSTHDR(&msg);

    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(c), &fd, sizeof(int));
    assert_int_equal(sendmsg(f->fd, &msg, MSG_NOSIGNAL), (ssize_t)iov.iov_len);
    close(fd);
}

/* Return: the next reply, to be freed. */
static json_t *hear(struct fixture *f)
{
    char *end;

    for (int idle = 0; !(end = memchr(f->data, '\0', f->len)); idle++) {
        assert_true(idle < 10000);
        ev_run(f->loop, EVRUN_NOWAIT);
        ssize_t n = recv(f->fd, f->data + f->len, sizeof(f->data) - f->len, 0);
        f->len += n > 0 ? (size_t)n : 0;
        idle = n > 0 ? 0 : idle;
    }
    json_t *reply = json_loads(f->data, 0, NULL);
    assert_non_null(reply);
    f->len -= (size_t)(end + 1 - f->data);
    memmove(f->data, end + 1, f->len);
    return reply;
}

static json_t *ask(struct fixture *f, const char *call)
{
    say(f, call);
    return hear(f);
}

static const char *text_of(const json_t *reply, const char *key)
{
    return json_string_value(json_object_get(json_object_get(reply, "parameters"), key));
}

/* Reads a stream, in which each session comes once, to its end. Return: sessions. */
static size_t count_stream(struct fixture *f, unsigned char *seen)
{
    size_t cnt = 0;

    for (;; cnt++) {
        json_t *r = hear(f);
        bool more = json_is_true(json_object_get(r, "continues"));
        const json_t *s = json_object_get(json_object_get(r, "parameters"), "session");
        size_t n = (size_t)json_integer_value(json_object_get(s, "tx_bytes"));

        assert_int_equal(more, s != NULL);
        if (more)
            assert_int_equal(seen[n]++, 0);
        json_decref(r);
        if (!more)
            return cnt;
    }
}

/* --- Tests ------------------------------------------------------------------------ */

#define LIST "{\"method\":\"org.tcpcrypt.Ns1.ListSessions\",\"more\":true"

/* What the server holds of the list does not grow with it. */
static void test_list_many(void **state)
{
    struct fixture *f = *state;
    unsigned char *seen = calloc(MANY, 1);

    f->tunnel.session_cnt = MANY;
    size_t before = mallinfo2().uordblks;
    say(f, LIST "}");
    for (int i = 0; i < 1000; i++)
        ev_run(f->loop, EVRUN_NOWAIT);
    assert_true(mallinfo2().uordblks < before + (512 << 10));
    assert_int_equal(count_stream(f, seen), MANY);
    free(seen);
}

static void test_list_none(void **state)
{
    struct fixture *f = *state;

    say(f, LIST ",\"parameters\":{\"ended\":false}}");
    assert_int_equal(count_stream(f, NULL), 0);
}

static void test_list_ended(void **state)
{
    struct fixture *f = *state;
    unsigned char seen[TUNNEL_ENDED_MAX_CNT] = {0};

    f->tunnel.ended_cnt = TUNNEL_ENDED_MAX_CNT;
    say(f, LIST ",\"parameters\":{\"ended\":true}}");
    assert_int_equal(count_stream(f, seen), TUNNEL_ENDED_MAX_CNT);
}

static void test_fields(void **state)
{
    struct fixture *f = *state;

    f->tunnel.ended_cnt = 2;
    json_t *r = ask(f, LIST ",\"parameters\":{\"ended\":true}}");
    json_t *s = json_object_get(json_object_get(r, "parameters"), "session");
    assert_string_equal(json_string_value(json_object_get(s, "end")), "closed");
    assert_null(json_object_get(s, "error"));
    assert_true(json_real_value(json_object_get(s, "ended")) > 2);
    assert_int_equal(json_string_length(json_object_get(s, "session_id")), 2 * SESSION_ID_LEN);
    json_decref(r);
    r = hear(f);
    s = json_object_get(json_object_get(r, "parameters"), "session");
    assert_string_equal(json_string_value(json_object_get(s, "end")), "error");
    assert_string_equal(json_string_value(json_object_get(s, "error")), "frame-auth");
    json_decref(r);
}

static void test_wrong_calls(void **state)
{
    struct fixture *f = *state;
    json_t *r = ask(f, "{\"method\":\"org.tcpcrypt.Ns1.ListSessions\"}");

    assert_string_equal(json_string_value(json_object_get(r, "error")),
                        "org.varlink.service.ExpectedMore");
    json_decref(r);
    r = ask(f, LIST ",\"parameters\":{\"ended\":1}}");
    assert_string_equal(json_string_value(json_object_get(r, "error")),
                        "org.varlink.service.InvalidParameter");
    assert_string_equal(text_of(r, "parameter"), "ended");
    json_decref(r);
    r = ask(f, "{\"method\":\"org.tcpcrypt.Ns1.Nothing\"}");
    assert_string_equal(json_string_value(json_object_get(r, "error")),
                        "org.varlink.service.MethodNotFound");
    json_decref(r);
}

static void test_status(void **state)
{
    struct fixture *f = *state;
    json_t *r = ask(f, "{\"method\":\"org.tcpcrypt.Ns1.GetStatus\"}");
    json_t *errors = json_object_get(json_object_get(r, "parameters"), "errors");

    assert_int_equal(json_object_size(errors), 1);
    assert_int_equal(json_integer_value(json_object_get(errors, "frame-auth")), 7);
    assert_string_equal(text_of(r, "app_aware"), "off");
    json_decref(r);
}

/* Every connection is counted, in many turns of the loop. */
static void test_metrics(void **state)
{
    struct fixture *f = *state;

    f->tunnel.session_cnt = MANY;
    f->ns1.restarts = 3;
    f->tunnel.counters.drop_checksum = 5;
    say(f, "{\"method\":\"org.tcpcrypt.Ns1.GetMetrics\"}");
    for (int i = 0; i < 20; i++)
        ev_run(f->loop, EVRUN_NOWAIT);
    assert_int_equal(recv(f->fd, f->data, 1, MSG_PEEK), -1);
    json_t *r = hear(f);
    const char *text = text_of(r, "text");
    assert_non_null(text);
    static const char *const lines[] = {
        "connections{state=\"encrypted\",reason=\"full\"} 100000\n",
        "connections_settled_total{reason=\"full\"} 11\n",
        "connections_settled_total{reason=\"resumed\"} 0\n",
        "connection_errors_total{error=\"frame-auth\"} 7\n",
        "aead_failures_total 7\n",
        "drops_total{cause=\"checksum\"} 5\n",
        "worker_restarts_total 3\n",
        "flows 100000\n",
        "build_info{version=\"" TCNS_VERSION "\",policy=\"prefer\"} 1\n",
    };
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        char line[128];

        snprintf(line, sizeof(line), "\ntcpcrypt_%s", lines[i]);
        if (!strstr(text, line))
            fail_msg("%s is not in\n%s", line, text);
    }
    json_decref(r);
}

static void test_cache(void **state)
{
    struct fixture *f = *state;
    json_t *r = ask(f, "{\"method\":\"org.tcpcrypt.Ns1.GetCache\"}");
    json_t *p = json_object_get(r, "parameters");
    json_t *peer = json_array_get(json_object_get(p, "fallback"), 0);

    assert_int_equal(json_integer_value(json_object_get(p, "resume")), 3);
    assert_string_equal(json_string_value(json_object_get(peer, "peer")), "192.0.2.9");
    assert_int_equal(json_integer_value(json_object_get(peer, "left")), 42);
    json_decref(r);
    r = ask(f, "{\"method\":\"org.tcpcrypt.Ns1.FlushCache\"}");
    assert_null(json_object_get(r, "error"));
    assert_int_equal(f->tunnel.flushed, 1);
    json_decref(r);
}

/* --- GetSession --------------------------------------------------------------------- */

#define GET   "{\"method\":\"org.tcpcrypt.Ns1.GetSession\",\"parameters\":"
#define FOUND "\"local\":\"192.0.2.1\",\"local_port\":1,\"peer\":\"192.0.2.2\",\"peer_port\":65535"

static const char *error_of(const json_t *reply)
{
    return json_string_value(json_object_get(reply, "error"));
}

static const char *state_of(const json_t *reply)
{
    const json_t *s = json_object_get(json_object_get(reply, "parameters"), "session");

    return json_string_value(json_object_get(s, "state"));
}

static void test_get_session(void **state)
{
    struct fixture *f = *state;

    f->tunnel.found_state = TUNNEL_STATE_ENCRYPTED;
    json_t *r = ask(f, GET "{" FOUND "}}");
    assert_string_equal(state_of(r), "encrypted");
    json_decref(r);
    r = ask(f, GET "{" FOUND ",\"wait\":null}}");
    assert_string_equal(state_of(r), "encrypted");
    json_decref(r);
    r = ask(f, GET "{\"local\":\"::1\",\"local_port\":1,\"peer\":\"::ffff:192.0.2.2\","
                   "\"peer_port\":65535,\"wait\":60000}}");
    assert_string_equal(error_of(r), "org.tcpcrypt.Ns1.NoSession");
    json_decref(r);
}

static void test_get_session_wrong(void **state)
{
    static const struct {
        const char *call, *parameter;
    } cases[] = {
        {GET "null}", "local"},
        {GET "{\"local\":7}}", "local"},
        {GET "{\"local\":\"192.0.2\"}}", "local"},
        {GET "{\"local\":\"[::1]\"}}", "local"},
        {GET "{\"local\":\"::1\",\"local_port\":0}}", "local_port"},
        {GET "{\"local\":\"::1\",\"local_port\":65536}}", "local_port"},
        {GET "{\"local\":\"::1\",\"local_port\":-1}}", "local_port"},
        {GET "{\"local\":\"::1\",\"local_port\":\"1\"}}", "local_port"},
        {GET "{\"local\":\"::1\",\"local_port\":1}}", "peer"},
        {GET "{\"local\":\"::1\",\"local_port\":1,\"peer\":\"::2\"}}", "peer_port"},
        {GET "{" FOUND ",\"wait\":60001}}", "wait"},
        {GET "{" FOUND ",\"wait\":-1}}", "wait"},
        {GET "{" FOUND ",\"wait\":1.5}}", "wait"},
    };
    struct fixture *f = *state;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        json_t *r = ask(f, cases[i].call);
        assert_string_equal(error_of(r), "org.varlink.service.InvalidParameter");
        assert_string_equal(text_of(r, "parameter"), cases[i].parameter);
        json_decref(r);
    }
}

/* Return: whether there is no reply while the loop turns for a while. */
static bool is_silent(struct fixture *f)
{
    for (int i = 0; i < 100; i++)
        ev_run(f->loop, EVRUN_NOWAIT);
    return recv(f->fd, f->data, 1, MSG_PEEK) < 0;
}

static void test_wait_until_negotiated(void **state)
{
    struct fixture *f = *state;

    say(f, GET "{" FOUND ",\"wait\":50000}}");
    assert_true(is_silent(f));
    f->tunnel.found_state = TUNNEL_STATE_CLEAR;
    json_t *r = hear(f);
    assert_string_equal(state_of(r), "clear");
    json_decref(r);
    r = ask(f, GET "{" FOUND "}}"); /* the next call is served as ever */
    assert_string_equal(state_of(r), "clear");
    json_decref(r);
}

static void test_wait_ends(void **state)
{
    struct fixture *f = *state;

    say(f, GET "{" FOUND ",\"wait\":50000}}");
    assert_true(is_silent(f));
    f->tunnel.gone = true;
    json_t *r = hear(f);
    assert_string_equal(error_of(r), "org.tcpcrypt.Ns1.NoSession");
    json_decref(r);

    f->tunnel.gone = false;
    say(f, GET "{" FOUND ",\"wait\":30}}");
    ev_tstamp start = ev_time();
    ev_run(f->loop, EVRUN_ONCE); /* the call */
    ev_run(f->loop, EVRUN_ONCE); /* the time */
    assert_true(ev_time() - start >= 0.025 && ev_time() - start < 10);
    r = hear(f);
    assert_string_equal(state_of(r), "opening");
    json_decref(r);
}

static void test_client_leaves_while_it_waits(void **state)
{
    struct fixture *f = *state;

    say(f, GET "{" FOUND ",\"wait\":50000}}");
    assert_true(is_silent(f));
    shutdown(f->fd, SHUT_RDWR);
    assert_int_equal(recv(f->fd, f->data, 1, 0), 0);
    for (int i = 0; i < 10; i++)
        ev_run(f->loop, EVRUN_NOWAIT);
    assert_int_equal(ev_pending_count(f->loop), 0);
    assert_false(ev_run(f->loop, EVRUN_NOWAIT) == 0); /* the listener is still there */
}

/* --- Watch --------------------------------------------------------------------------- */

#define WATCH "{\"method\":\"org.tcpcrypt.Ns1.Watch\",\"more\":true}"

/* Return: the next event, which must be of that name, to be freed. */
static json_t *hear_event(struct fixture *f, const char *name)
{
    json_t *r = hear(f);

    assert_string_equal(text_of(r, "event"), name);
    assert_true(json_is_true(json_object_get(r, "continues")));
    assert_true(json_real_value(json_object_get(json_object_get(r, "parameters"), "time")) > 1e9);
    return r;
}

static void test_watch(void **state)
{
    struct fixture *f = *state;
    struct tunnel_session s = session_of(7);

    ns1_watch_session(TUNNEL_EVENT_OPENED, &s, &f->watch); /* nobody is there */
    say(f, WATCH);
    json_decref(hear_event(f, "watching"));
    ns1_watch_session(TUNNEL_EVENT_ENCRYPTED, &s, &f->watch);
    ns1_watch_daemon(&f->watch, "says");
    json_t *r = hear_event(f, "encrypted");
    assert_string_equal(state_of(r), "encrypted");
    json_decref(r);
    r = hear_event(f, "daemon");
    assert_string_equal(text_of(r, "text"), "says");
    json_decref(r);
    assert_true(is_silent(f));
}

/* Nothing is lost without being counted, and what is kept for the client is bounded. */
static void test_watch_slowly(void **state)
{
    struct fixture *f = *state;
    struct tunnel_session s = session_of(7);
    json_int_t told = 0, lost = 0, events = 100000;

    say(f, WATCH);
    json_decref(hear_event(f, "watching"));
    size_t before = mallinfo2().uordblks;
    for (int i = 0; i < events; i++) {
        ns1_watch_session(TUNNEL_EVENT_OPENED, &s, &f->watch);
        ev_run(f->loop, EVRUN_NOWAIT);
    }
    assert_true(mallinfo2().uordblks < before + (512 << 10));
    while (told + lost < events) {
        json_t *r = hear(f);
        told += strcmp(text_of(r, "event"), "opened") == 0;
        lost += json_integer_value(json_object_get(json_object_get(r, "parameters"), "count"));
        json_decref(r);
    }
    assert_int_equal(told + lost, events);
    assert_true(told > 100);
    assert_true(lost > 100);
    ns1_watch_session(TUNNEL_EVENT_ENDED, &s, &f->watch);
    json_decref(hear_event(f, "ended"));
}

static void test_watcher_leaves(void **state)
{
    struct fixture *f = *state;
    struct tunnel_session s = session_of(7);

    say(f, WATCH);
    json_decref(hear_event(f, "watching"));
    close(f->fd);
    ns1_watch_session(TUNNEL_EVENT_OPENED, &s, &f->watch);
    for (int i = 0; i < 10; i++)
        ev_run(f->loop, EVRUN_NOWAIT);
    assert_null(f->watch.first);
    f->fd = door_enter(&f->door);
    json_t *r = ask(f, "{\"method\":\"org.tcpcrypt.Ns1.Watch\"}");
    assert_string_equal(error_of(r), "org.varlink.service.ExpectedMore");
    json_decref(r);
}

/* --- Methods for the owner of a socket ------------------------------------------------- */

#define CALL(name) "{\"method\":\"org.tcpcrypt.Ns1." name "\""

/* Return: whether the reply to that call has this error; NULL: none. */
static void expect_error(struct fixture *f, const char *call, const char *error)
{
    json_t *r = ask(f, call);

    if (error)
        assert_string_equal(error_of(r), error);
    else
        assert_null(error_of(r));
    json_decref(r);
}

/* By the administrators' door. */
static void test_mark_and_forget_by_tuple(void **state)
{
    struct fixture *f = *state;
    const char *mark = CALL("MarkAuthenticated") ",\"parameters\":{" FOUND "}}";
    const char *forget = CALL("Forget") ",\"parameters\":{" FOUND "}}";

    f->tunnel.found_state = TUNNEL_STATE_ENCRYPTED;
    expect_error(f, mark, NULL);
    expect_error(f, forget, NULL);
    f->tunnel.found_state = TUNNEL_STATE_CLEAR;
    expect_error(f, mark, "org.tcpcrypt.Ns1.NotEncrypted");
    expect_error(f, forget, NULL);
    f->tunnel.gone = true;
    expect_error(f, mark, "org.tcpcrypt.Ns1.NoSession");
    expect_error(f, forget, "org.tcpcrypt.Ns1.NoSession");
    expect_error(f, CALL("Forget") "}", "org.varlink.service.InvalidParameter");
}

static void test_socket_methods_without_a_socket(void **state)
{
    struct fixture *f = *state;

    expect_error(f, CALL("SetSocket") "}", "org.tcpcrypt.Ns1.NoSocket");
    expect_error(f, CALL("GetSocket") "}", "org.tcpcrypt.Ns1.NoSocket");
    wishes_free(f->ns1.wishes);
    f->ns1.wishes = NULL;
    expect_error(f, CALL("GetSocket") "}", "org.tcpcrypt.Ns1.NotPossible");
}

/* --- Capture ---------------------------------------------------------------------------- */

#define CAPTURE "{\"method\":\"org.tcpcrypt.Ns1.Capture\",\"parameters\":"

static void start_capture(struct fixture *f, const char *params)
{
    char call[300];

    f->tunnel.capture_fd = -1;
    snprintf(call, sizeof(call), CAPTURE "%s}", params);
    say_with(f, call, socket(AF_UNIX, SOCK_STREAM, 0));
    for (int i = 0; i < 10; i++)
        ev_run(f->loop, EVRUN_NOWAIT);
}

static void test_capture(void **state)
{
    struct fixture *f = *state;
    struct tunnel_capture *c = &f->tunnel.capture;
    struct addr peer = addr_from_v4((uint8_t[]){192, 0, 2, 7});

    f->links.uplinks.cnt = 1;
    strcpy(f->links.uplinks.entries[0].name, "eth7");
    start_capture(f, "{\"inner\":true,\"peer\":\"192.0.2.7\",\"port\":80,\"count\":3,"
                     "\"snaplen\":96}");
    assert_true(f->tunnel.capture_fd >= 0);
    assert_true(c->sides[SIDE_INNER] && !c->sides[SIDE_OUTER]);
    assert_true(c->has_peer && addr_eq(&c->peer, &peer));
    assert_int_equal(c->port, 80);
    assert_int_equal(c->max_cnt, 3);
    assert_int_equal(c->snap_len, 96);
    assert_string_equal(c->names[SIDE_OUTER], "eth7");
    assert_int_equal(recv(f->fd, f->data, 1, MSG_PEEK | MSG_DONTWAIT), -1); /* not yet */

    close(f->tunnel.capture_fd);
    struct tunnel_capture_stats stats = {.packets = {2, 3}, .dropped = {0, 4}};
    f->tunnel.capture_end(f->tunnel.capture_arg, &stats);
    json_t *r = hear(f);
    json_t *p = json_object_get(r, "parameters");
    assert_int_equal(json_integer_value(json_object_get(p, "packets")), 5);
    assert_int_equal(json_integer_value(json_object_get(p, "dropped")), 4);
    json_decref(r);
}

static void test_capture_wrong(void **state)
{
    static const struct {
        const char *params, *error;
        int err;
    } wrong[] = {
        {"{}", "InvalidParameter\",\"parameters\":{\"parameter\":\"outer\"", 0},
        {"{\"inner\":1}", "\"inner\"", 0},
        {"{\"outer\":\"x\"}", "\"outer\"", 0},
        {"{\"inner\":false,\"outer\":false}", "\"outer\"", 0},
        {"{\"outer\":true,\"peer\":\"example\"}", "\"peer\"", 0},
        {"{\"outer\":true,\"peer\":7}", "\"peer\"", 0},
        {"{\"outer\":true,\"port\":65536}", "\"port\"", 0},
        {"{\"outer\":true,\"count\":-1}", "\"count\"", 0},
        {"{\"outer\":true,\"snaplen\":1.5}", "\"snaplen\"", 0},
        {"{\"outer\":true}", "Ns1.NoSocket", -EINVAL},
        {"{\"outer\":true}", "Ns1.TooMany", -EMFILE},
        {"{\"outer\":true}", "Ns1.OutOfMemory", -ENOMEM},
    };
    struct fixture *f = *state;

    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        f->tunnel.capture_err = wrong[i].err;
        start_capture(f, wrong[i].params);
        json_t *r = hear(f);
        char *text = json_dumps(r, JSON_COMPACT);
        if (!json_object_get(r, "error") || !strstr(text, wrong[i].error))
            fail_msg("%s: %s", wrong[i].params, text);
        free(text);
        json_decref(r);
        if (f->tunnel.capture_fd >= 0)
            close(f->tunnel.capture_fd);
    }
    expect_error(f, CAPTURE "{\"outer\":true}}", "org.tcpcrypt.Ns1.NoSocket");
}

static void test_capturer_leaves(void **state)
{
    struct fixture *f = *state;

    start_capture(f, "{\"outer\":true}");
    assert_true(f->tunnel.capture_fd >= 0);
    shutdown(f->fd, SHUT_RDWR);
    for (int i = 0; i < 10; i++)
        ev_run(f->loop, EVRUN_NOWAIT);
    assert_int_equal(f->tunnel.capture_fd, -1); /* stopped */
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

/* --- Policy ------------------------------------------------------------------------ */

static char *last_request; /* NULL: a reload */

static int fake_change(void *arg, const char *request, char text[CHANGE_TEXT_LEN])
{
    const char *refusal = arg;

    free(last_request);
    last_request = request ? strdup(request) : NULL;
    snprintf(text, CHANGE_TEXT_LEN, "%s", refusal ? refusal : "");
    return refusal ? -EINVAL : 0;
}

static void test_get_policy(void **state)
{
    struct fixture *f = *state;
    struct tuple t = {.peer_port = 80};
    char err[SETTINGS_ERROR_LEN];

    assert_int_equal(settings_set(&f->opts, "policy", "require", err), 0);
    assert_int_equal(settings_set(&f->opts, "aead-b", "AES-256-GCM", err), 0);
    assert_int_equal(settings_set(&f->opts, "rule", "off name=web port=80", err), 0);
    assert_int_equal(settings_set(&f->opts, "rule", "off in", err), 0);
    struct policy_config cfg = daemon_policy(&f->opts);
    assert_int_equal(policy_new(&cfg, &the_policy), 0);
    policy_find(the_policy, &t, false);
    json_t *reply = ask(f, "{\"method\":\"org.tcpcrypt.Ns1.GetPolicy\"}");
    json_t *want = json_loads("{\"parameters\":{\"policy\":\"require\",\"rules\":["
                              "{\"text\":\"off name=web port=80\",\"name\":\"web\",\"matched\":1},"
                              "{\"text\":\"off in\",\"matched\":0}],"
                              "\"otherwise\":{\"text\":\"require aead-b=AES-256-GCM\","
                              "\"matched\":0}}}",
                              0, NULL);
    assert_true(json_equal(reply, want));
    json_decref(want);
    json_decref(reply);
    policy_unref(the_policy);
    settings_done(&f->opts);
}

static void test_set_policy(void **state)
{
    static const char *const calls[][2] = {
        {"{\"method\":\"org.tcpcrypt.Ns1.SetPolicy\"}", ""},
        {"{\"method\":\"org.tcpcrypt.Ns1.SetPolicy\",\"parameters\":{\"policy\":\"off\"}}",
         "policy off\n"},
        {"{\"method\":\"org.tcpcrypt.Ns1.SetPolicy\",\"parameters\":{\"rules\":[],\"policy\":null}"
         "}",
         "rules\n"},
        {"{\"method\":\"org.tcpcrypt.Ns1.SetPolicy\",\"parameters\":{\"rules\":"
         "[\"out off\",\"require\\tpeer=10.0.0.0/8\"]}}",
         "rules\nrule off out\nrule require peer=10.0.0.0/8\n"},
    };
    struct fixture *f = *state;

    f->ns1.change = fake_change;
    for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
        json_t *reply = ask(f, calls[i][0]);
        assert_null(json_object_get(reply, "error"));
        assert_string_equal(last_request, calls[i][1]);
        json_decref(reply);
    }
    json_t *reply = ask(f, "{\"method\":\"org.tcpcrypt.Ns1.Reload\"}");
    assert_null(json_object_get(reply, "error"));
    assert_null(last_request);
    json_decref(reply);
}

static void expect_refusal(struct fixture *f, const char *call, const char *because)
{
    json_t *reply = ask(f, call);

    assert_string_equal(json_string_value(json_object_get(reply, "error")),
                        "org.tcpcrypt.Ns1.PolicyRefused");
    const char *reason =
        json_string_value(json_object_get(json_object_get(reply, "parameters"), "reason"));
    if (!reason || !strstr(reason, because))
        fail_msg("%s", reason);
    json_decref(reply);
}

static void test_policy_refused(void **state)
{
    struct fixture *f = *state;
    char text[] = "not today";

    f->ns1.change = fake_change;
    f->ns1.arg = text;
    expect_refusal(f, "{\"method\":\"org.tcpcrypt.Ns1.Reload\"}", "not today");
    expect_refusal(f,
                   "{\"method\":\"org.tcpcrypt.Ns1.SetPolicy\",\"parameters\":{\"policy\":\"no\"}}",
                   "none of prefer, require, off");
    expect_refusal(f, "{\"method\":\"org.tcpcrypt.Ns1.SetPolicy\",\"parameters\":{\"rules\":[1]}}",
                   "rule 1 is no string");
    expect_refusal(f,
                   "{\"method\":\"org.tcpcrypt.Ns1.SetPolicy\",\"parameters\":{\"rules\":"
                   "[\"off\",\"off\\nrules\"]}}",
                   "rule 2: action:");
    json_t *reply =
        ask(f, "{\"method\":\"org.tcpcrypt.Ns1.SetPolicy\",\"parameters\":{\"rules\":\"off\"}}");
    assert_string_equal(json_string_value(json_object_get(reply, "error")),
                        "org.varlink.service.InvalidParameter");
    json_decref(reply);
}

/* What goes to the supervisor and back: a request on top of what is, and a memory file. */
static void test_change(void **state)
{
    struct daemon_options now, next, loaded;
    char err[SETTINGS_ERROR_LEN] = "";

    daemon_options_init(&now);
    assert_int_equal(settings_set(&now, "rule", "off in", err), 0);
    assert_int_equal(settings_set(&now, "keepalive", "9", err), 0);
    assert_int_equal(change_make(&now, "policy require\n", &next, err), 0);
    assert_int_equal(next.rule_cnt, 1);
    assert_ptr_not_equal(next.rules, now.rules);
    settings_done(&next);
    assert_int_equal(change_make(&now, "rules\nrule off name=a\nrule off name=b\n", &next, err), 0);
    assert_int_equal(next.rule_cnt, 2);
    assert_int_equal(next.policy, TUNNEL_POLICY_PREFER);
    struct sockdiag_socket sockets[2] = {{.tuple.peer_port = 7}, {.tuple.peer_port = 8}};
    struct sockdiag_list older = {.sockets = sockets, .cnt = 2};
    struct tuple *passed;
    size_t passed_cnt;
    int fd = change_store(&next, &older);
    assert_true(fd >= 0);
    daemon_options_init(&loaded);
    loaded.ctl = ":9";
    assert_int_equal(change_load(fd, &loaded, &passed, &passed_cnt), 0);
    assert_int_equal(passed_cnt, 2);
    assert_int_equal(passed[1].peer_port, 8);
    free(passed);
    assert_int_equal(loaded.rule_cnt, 2);
    assert_int_equal(loaded.keepalive_s, 9);
    assert_string_equal(loaded.rules[1].name, "b");
    assert_string_equal(loaded.ctl, ":9");
    close(fd);
    fd = open("/dev/null", O_RDONLY);
    assert_int_equal(change_load(fd, &loaded, &passed, &passed_cnt), -EIO);
    assert_int_equal(loaded.rule_cnt, 2);
    close(fd);
    settings_done(&loaded);
    settings_done(&next);
    assert_int_equal(change_make(&now, "rules\nrule off name=a\nrule off name=a\n", &next, err),
                     -EINVAL);
    assert_non_null(strstr(err, "same name"));
    assert_int_equal(change_make(&now, "nonsense\n", &next, err), -EINVAL);
    settings_done(&now);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_get_policy),
        TEST(test_set_policy),
        TEST(test_policy_refused),
        cmocka_unit_test(test_change),
        TEST(test_list_many),
        TEST(test_list_none),
        TEST(test_list_ended),
        TEST(test_fields),
        TEST(test_wrong_calls),
        TEST(test_status),
        TEST(test_metrics),
        TEST(test_cache),
        TEST(test_get_session),
        TEST(test_get_session_wrong),
        TEST(test_wait_until_negotiated),
        TEST(test_wait_ends),
        TEST(test_mark_and_forget_by_tuple),
        TEST(test_socket_methods_without_a_socket),
        TEST(test_client_leaves_while_it_waits),
        TEST(test_capture),
        TEST(test_capture_wrong),
        TEST(test_capturer_leaves),
        TEST(test_watch),
        TEST(test_watch_slowly),
        TEST(test_watcher_leaves),
    };

    return cmocka_run_group_tests_name("ctl/ns1", tests, NULL, NULL);
}
