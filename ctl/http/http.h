/* SPDX-License-Identifier: BSD-3-Clause
 * A small HTTP server on libev, for pages that people and scrapers read.
 *
 * How it works: one request for each connection, GET or HEAD, answered whole with
 * "Connection: close" (RFC 9112). Everything is bounded: HTTP_CLIENTS_MAX connections
 * (a newcomer takes the place of the one that is there longest), HTTP_REQUEST_MAX_LEN
 * bytes of request, HTTP_TIMEOUT_S from accept to the last byte. A bad request gets its
 * status; nothing here blocks but the handler.
 */
#ifndef TCNS_CTL_HTTP_H
#define TCNS_CTL_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

#define HTTP_CLIENTS_MAX     64
#define HTTP_REQUEST_MAX_LEN 8192
#define HTTP_TIMEOUT_S       10.0

struct ev_loop;
struct http_server;

/* One request. The strings are borrowed until the handler returns. */
struct http_request {
    bool head;         /* HEAD: the body is made, but not sent */
    const char *path;  /* begins with '/'; without the query; not decoded, printable ASCII */
    const char *query; /* behind '?'; "" when there is none; likewise */
    int fd;            /* the connection, for getsockname() and getpeername() */
};

struct http_response; /* what the handler fills by exactly one http_reply() */

/* status: 200, 404, 503 ...; type: the Content-Type; body[0..len) is copied. extra: header
 * lines of the caller's own, each ended by CR LF; NULL: none. */
void http_reply(struct http_response *r, int status, const char *type, const char *extra,
                const char *body, size_t len);

typedef void (*http_handler_fn)(const struct http_request *request, struct http_response *response,
                                void *arg);

/* Takes apart "ADDR:PORT", "[ADDR]:PORT" or ":PORT" (all addresses, both families);
 * addresses are numbers. Port 0: the kernel chooses.
 * Return: 0; -EINVAL. */
int http_parse_address(const char *text, struct sockaddr_storage *ret, socklen_t *ret_len);

/* Return: out, as http_parse_address() would take it. */
#define HTTP_ADDRESS_LEN 56
const char *http_format_address(const struct sockaddr_storage *addr, char out[HTTP_ADDRESS_LEN]);

/* Listens there, close-on-exec and non-blocking. Return: a descriptor; -errno. */
int http_listen(const struct sockaddr_storage *addr, socklen_t len);

/* Serves what comes in by listen_fd, which it takes. Return: NULL when out of memory, and
 * listen_fd is still the caller's. */
struct http_server *http_server_new(struct ev_loop *loop, int listen_fd, http_handler_fn handler,
                                    void *arg);
void http_server_free(struct http_server *s);

/* What http_server does with received bytes, apart for tests and the fuzzer: text[0..len)
 * is cut into strings in place.
 * Return: 0 when the request is whole and *ret (but for fd) is filled; -1: more is
 * needed; otherwise the status of the answer: 400, 405, 414, 431, 505. */
int http_parse_request(char *text, size_t len, struct http_request *ret);

#endif
