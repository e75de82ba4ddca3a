/* SPDX-License-Identifier: BSD-3-Clause
 * The HTTP server: requests of every kind, and clients that misbehave.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <arpa/inet.h>
#include <ev.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ctl/http/http.h"

/* --- Requests ----------------------------------------------------------------- */

static int parse(const char *text, size_t len, struct http_request *ret)
{
    static char copy[HTTP_REQUEST_MAX_LEN];

    assert_true(len <= sizeof(copy));
    memcpy(copy, text, len);
    return http_parse_request(copy, len, ret);
}

static void test_good_requests(void **state)
{
    static const struct {
        const char *text, *path, *query;
        bool head;
    } good[] = {
        {"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "/", "", false},
        {"GET /metrics HTTP/1.0\r\n\r\n", "/metrics", "", false},
        {"HEAD /a/b?c=d&e?f HTTP/1.1\r\nA: b\r\n\r\n", "/a/b", "c=d&e?f", true},
        {"GET /a? HTTP/1.1\n\n", "/a", "", false},
        {"GET /%00 HTTP/1.1\r\nX: \xff\r\n\r\nbody", "/%00", "", false},
    };

    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        struct http_request r;

        assert_int_equal(parse(good[i].text, strlen(good[i].text), &r), 0);
        assert_string_equal(r.path, good[i].path);
        assert_string_equal(r.query, good[i].query);
        assert_int_equal(r.head, good[i].head);
    }
}

static void test_every_prefix_wants_more(void **state)
{
    const char *text = "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";
    struct http_request r;

    for (size_t len = 0; len < strlen(text); len++)
        assert_int_equal(parse(text, len, &r), -1);
    assert_int_equal(parse(text, strlen(text), &r), 0);
}

static void test_bad_requests(void **state)
{
    static const struct {
        const char *text;
        int status;
    } bad[] = {
        {"\r\n\r\n", 400},
        {"GET\r\n\r\n", 400},
        {"GET /\r\n\r\n", 400},
        {"GET / HTTP/1.1 \r\n\r\n", 400},
        {"GET  / HTTP/1.1\r\n\r\n", 400},
        {"GET x HTTP/1.1\r\n\r\n", 400},
        {"GET http://x/ HTTP/1.1\r\n\r\n", 400},
        {"GET /\x01 HTTP/1.1\r\n\r\n", 400},
        {"GET /\xc3\xa9 HTTP/1.1\r\n\r\n", 400},
        {"GET / HTTQ/1.1\r\n\r\n", 400},
        {"GET / HTTP/11\r\n\r\n", 400},
        {"GET / HTTP/2.0\r\n\r\n", 505},
        {"POST / HTTP/1.1\r\n\r\n", 405},
        {"get / HTTP/1.1\r\n\r\n", 405},
        {"GETX / HTTP/1.1\r\n\r\n", 405},
    };
    struct http_request r;

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(parse(bad[i].text, strlen(bad[i].text), &r), bad[i].status);
    assert_int_equal(parse("GET / HTTP/1.1\r\nA: \0\r\n\r\n", 24, &r), 400);
}

static void test_long_requests(void **state)
{
    char text[HTTP_REQUEST_MAX_LEN];
    struct http_request r;

    memset(text, 'a', sizeof(text));
    memcpy(text, "GET /", 5);
    assert_int_equal(parse(text, sizeof(text), &r), 431);
    assert_int_equal(parse(text, sizeof(text) - 1, &r), -1);
    memcpy(text + 3000, " HTTP/1.1\r\n\r\n", 13);
    assert_int_equal(parse(text, sizeof(text), &r), 414);
}

/* --- Addresses ------------------------------------------------------------------ */

static void test_addresses(void **state)
{
    static const char *const good[] = {"127.0.0.1:80", "[::1]:0", ":65535", "[fd00::1]:9100"};
    static const char *const bad[] = {"",
                                      "80",
                                      "127.0.0.1",
                                      "127.0.0.1:",
                                      "::1:80",
                                      "[::1]",
                                      "[]:80",
                                      "localhost:80",
                                      "1.2.3.4:-1",
                                      "1.2.3.4:65536",
                                      "1.2.3.4: 80",
                                      "1.2.3.4:8x",
                                      "[127.0.0.1]:80"};
    struct sockaddr_storage addr;
    socklen_t len;

    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        char text[HTTP_ADDRESS_LEN];

        assert_int_equal(http_parse_address(good[i], &addr, &len), 0);
        assert_string_equal(http_format_address(&addr, text),
                            good[i][0] == ':' ? "[::]:65535" : good[i]);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_true(http_parse_address(bad[i], &addr, &len) < 0);
    assert_int_equal(http_parse_address("127.0.0.1:80", &addr, &len), 0);
    assert_int_equal(ntohs(((struct sockaddr_in *)&addr)->sin_port), 80);
}

/* --- The server ----------------------------------------------------------------- */

static struct ev_loop *loop;
static struct sockaddr_storage where;
static socklen_t where_len;
static char big[300000];

static void handler(const struct http_request *request, struct http_response *response, void *arg)
{
    unsigned *calls = arg;
    struct sockaddr_storage peer;
    socklen_t len = sizeof(peer);

    (*calls)++;
    assert_int_equal(getpeername(request->fd, (struct sockaddr *)&peer, &len), 0);
    if (strcmp(request->path, "/big") == 0)
        http_reply(response, 200, "text/plain", NULL, big, sizeof(big));
    else
        http_reply(response, 404, "text/plain", "X-Own: 1\r\n", "no\n", 3);
}

static struct http_server *serve(unsigned *calls)
{
    assert_int_equal(http_parse_address("127.0.0.1:0", &where, &where_len), 0);
    int fd = http_listen(&where, where_len);
    assert_true(fd >= 0);
    where_len = sizeof(where);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&where, &where_len), 0);
    loop = ev_loop_new(0);
    struct http_server *s = http_server_new(loop, fd, handler, calls);
    assert_non_null(s);
    return s;
}

static int client(void)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_int_equal(connect(fd, (struct sockaddr *)&where, where_len), 0);
    return fd;
}

static void say(int fd, const char *text)
{
    assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
}

/* Runs the loop until the server has closed its side. Return: bytes; caller frees. */
static char *hear(int fd, size_t *ret_len)
{
    char *text = malloc(2 * sizeof(big));
    size_t len = 0;

    for (int turns = 0; turns < 20000; turns++) {
        ev_run(loop, EVRUN_NOWAIT);
        ssize_t n = recv(fd, text + len, 2 * sizeof(big) - 1 - len, MSG_DONTWAIT);
        if (n == 0) {
            text[len] = '\0';
            *ret_len = len;
            return text;
        }
        if (n > 0)
            len += (size_t)n;
        else
            usleep(100);
    }
    fail_msg("the server does not end its answer");
    return NULL;
}

static void expect_answer(const char *request, const char *start, const char *end)
{
    size_t len;
    int fd = client();

    say(fd, request);
    char *text = hear(fd, &len);
    assert_memory_equal(text, start, strlen(start));
    assert_string_equal(text + len - strlen(end), end);
    free(text);
    close(fd);
}

static void test_answers(void **state)
{
    unsigned calls = 0;
    struct http_server *s = serve(&calls);
    size_t len;

    expect_answer("GET /x HTTP/1.1\r\n\r\n", "HTTP/1.1 404 Not Found\r\n", "X-Own: 1\r\n\r\nno\n");
    expect_answer("HEAD /x HTTP/1.1\r\n\r\n", "HTTP/1.1 404 Not Found\r\n", "X-Own: 1\r\n\r\n");
    assert_int_equal(calls, 2);
    expect_answer("PUT / HTTP/1.1\r\n\r\nbody", "HTTP/1.1 405 Method Not Allowed\r\n",
                  "405 Method Not Allowed\n");
    expect_answer("\x16\x03\x01\r\n\r\n", "HTTP/1.1 400 Bad Request\r\n", "400 Bad Request\n");
    assert_int_equal(calls, 2);

    memset(big, 'b', sizeof(big));
    int fd = client();
    say(fd, "GET /big HTTP/1.1\r\n\r\n");
    char *text = hear(fd, &len);
    assert_non_null(strstr(text, "Content-Length: 300000\r\n"));
    assert_int_equal(strlen(strstr(text, "\r\n\r\n") + 4), sizeof(big));
    free(text);
    close(fd);
    http_server_free(s);
    ev_loop_destroy(loop);
}

/* Many who say nothing do not keep one out who does. */
static void test_silent_clients_give_way(void **state)
{
    unsigned calls = 0;
    struct http_server *s = serve(&calls);
    int silent[HTTP_CLIENTS_MAX];
    char c;

    for (int i = 0; i < HTTP_CLIENTS_MAX; i++) {
        silent[i] = client();
        ev_run(loop, EVRUN_NOWAIT);
    }
    for (int i = 0; i < 100; i++)
        ev_run(loop, EVRUN_NOWAIT);
    expect_answer("GET /x HTTP/1.1\r\n\r\n", "HTTP/1.1 404", "no\n");
    assert_int_equal(recv(silent[0], &c, 1, MSG_DONTWAIT), 0);
    assert_int_equal(recv(silent[HTTP_CLIENTS_MAX - 1], &c, 1, MSG_DONTWAIT), -1);
    for (int i = 0; i < HTTP_CLIENTS_MAX; i++)
        close(silent[i]);
    http_server_free(s);
    ev_loop_destroy(loop);
}

/* A request in single bytes, and one that is cut off. */
static void test_pieces(void **state)
{
    unsigned calls = 0;
    struct http_server *s = serve(&calls);
    const char *text = "GET /x HTTP/1.1\r\nHost: x\r\n\r\n";
    size_t len;
    int fd = client();

    for (; *text; text++) {
        assert_int_equal(calls, 0);
        assert_int_equal(send(fd, text, 1, MSG_NOSIGNAL), 1);
        ev_run(loop, EVRUN_NOWAIT);
        ev_run(loop, EVRUN_NOWAIT);
    }
    char *got = hear(fd, &len);
    assert_int_equal(calls, 1);
    free(got);
    close(fd);

    fd = client();
    say(fd, "GET /x HTT");
    shutdown(fd, SHUT_WR);
    got = hear(fd, &len);
    assert_int_equal(len, 0);
    assert_int_equal(calls, 1);
    free(got);
    close(fd);
    http_server_free(s);
    ev_loop_destroy(loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good_requests),
        cmocka_unit_test(test_every_prefix_wants_more),
        cmocka_unit_test(test_bad_requests),
        cmocka_unit_test(test_long_requests),
        cmocka_unit_test(test_addresses),
        cmocka_unit_test(test_answers),
        cmocka_unit_test(test_silent_clients_give_way),
        cmocka_unit_test(test_pieces),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
