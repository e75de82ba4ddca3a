/* SPDX-License-Identifier: BSD-3-Clause
 * A small HTTP server on libev.
 */
#include "ctl/http/http.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ev.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BACKLOG     64
#define TARGET_MAX  2048
#define DRAIN_S     1.0 /* to read what the client still sends, so that no RST overtakes the answer */
#define HEADERS_LEN 1024

struct http_response {
    char *bytes; /* NULL: none yet, or out of memory */
    size_t len, sent;
    bool head;
};

struct client {
    struct http_server *server;
    struct client *next; /* younger */
    ev_io io;
    ev_timer timer;
    int fd;
    bool draining;
    struct http_response response;
    size_t in_len;
    char in[HTTP_REQUEST_MAX_LEN];
};

struct http_server {
    struct ev_loop *loop;
    ev_io listener;
    http_handler_fn handler;
    void *arg;
    struct client *oldest;
    unsigned client_cnt;
};

/* --- The request ------------------------------------------------------------ */

/* Return: the end of the header section, behind its empty line; NULL: not here yet.
 * RFC 9112 2.2: a lone LF ends a line, too. */
static const char *find_end(const char *text, size_t len)
{
    const char *end = text + len;

    for (const char *p = text; (p = memchr(p, '\n', (size_t)(end - p))); p++) {
        const char *next = p + 1;

        if (next < end && *next == '\r')
            next++;
        if (next < end && *next == '\n')
            return next + 1;
    }
    return NULL;
}

static bool is_printable(const char *s)
{
    for (; *s; s++)
        if (*s <= ' ' || *s > '~')
            return false;
    return true;
}

static bool is_version(const char *s)
{
    return strlen(s) == 8 && strncmp(s, "HTTP/", 5) == 0 && s[5] >= '0' && s[5] <= '9' &&
           s[6] == '.' && s[7] >= '0' && s[7] <= '9';
}

/* "GET /path?query HTTP/1.1", one blank between the words. */
static int parse_line(char *line, struct http_request *ret)
{
    char *target = strchr(line, ' ');
    char *version = target ? strchr(target + 1, ' ') : NULL;

    if (!version)
        return 400;
    *target++ = *version++ = '\0';
    if (!is_version(version))
        return 400;
    if (version[5] != '1')
        return 505;
    if (strlen(target) > TARGET_MAX)
        return 414;
    if (*target != '/' || !is_printable(target) || !is_printable(line))
        return 400;
    ret->head = strcmp(line, "HEAD") == 0;
    if (!ret->head && strcmp(line, "GET") != 0)
        return 405;
    char *query = strchr(target, '?');
    if (query)
        *query++ = '\0';
    ret->path = target;
    ret->query = query ? query : "";
    return 0;
}

int http_parse_request(char *text, size_t len, struct http_request *ret)
{
    struct http_request request = {.fd = -1};
    const char *end = find_end(text, len);

    if (!end)
        return len >= HTTP_REQUEST_MAX_LEN ? 431 : -1;
    if (memchr(text, '\0', (size_t)(end - text)))
        return 400;
    char *newline = memchr(text, '\n', len);
    *newline = '\0';
    if (newline > text && newline[-1] == '\r')
        newline[-1] = '\0';
    int status = parse_line(text, &request);
    if (status == 0)
        *ret = request;
    return status;
}

/* --- The response ----------------------------------------------------------- */

static const char *reason_phrase(int status)
{
    static const struct {
        int status;
        const char *text;
    } known[] = {
        {200, "OK"},
        {400, "Bad Request"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {414, "URI Too Long"},
        {431, "Request Header Fields Too Large"},
        {500, "Internal Server Error"},
        {503, "Service Unavailable"},
        {505, "HTTP Version Not Supported"},
    };

    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        if (known[i].status == status)
            return known[i].text;
    return "";
}

void http_reply(struct http_response *r, int status, const char *type, const char *extra,
                const char *body, size_t len)
{
    char *bytes = r->bytes ? NULL : malloc(HEADERS_LEN + len);

    if (!bytes)
        return;
    int n = snprintf(bytes, HEADERS_LEN,
                     "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n"
                     "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n"
                     "Connection: close\r\n%s%s\r\n",
                     status, reason_phrase(status), type, len,
                     status == 405 ? "Allow: GET, HEAD\r\n" : "", extra ? extra : "");
    if (n < 0 || n >= HEADERS_LEN) {
        free(bytes);
        return;
    }
    r->len = (size_t)n;
    if (!r->head && len > 0) {
        memcpy(bytes + r->len, body, len);
        r->len += len;
    }
    r->bytes = bytes;
}

static void reply_status(struct http_response *r, int status)
{
    char text[64];
    int n = snprintf(text, sizeof(text), "%d %s\n", status, reason_phrase(status));

    http_reply(r, status, "text/plain; charset=utf-8", NULL, text, (size_t)n);
}

/* --- Clients ---------------------------------------------------------------- */

static void client_free(struct client *c)
{
    struct http_server *s = c->server;
    struct client **link = &s->oldest;

    while (*link != c)
        link = &(*link)->next;
    *link = c->next;
    s->client_cnt--;
    ev_io_stop(s->loop, &c->io);
    ev_timer_stop(s->loop, &c->timer);
    close(c->fd);
    free(c->response.bytes);
    free(c);
}

static void on_time(struct ev_loop *loop, ev_timer *w, int events)
{
    client_free(w->data);
}

static void want(struct client *c, int events)
{
    ev_io_stop(c->server->loop, &c->io);
    ev_io_set(&c->io, c->fd, events);
    ev_io_start(c->server->loop, &c->io);
}

static void drain(struct client *c)
{
    c->draining = true;
    shutdown(c->fd, SHUT_WR);
    want(c, EV_READ);
    ev_timer_stop(c->server->loop, &c->timer);
    ev_timer_set(&c->timer, DRAIN_S, 0);
    ev_timer_start(c->server->loop, &c->timer);
}

/* Sends what goes; frees the client on failure. */
static void flush(struct client *c)
{
    struct http_response *r = &c->response;

    while (r->sent < r->len) {
        ssize_t n = send(c->fd, r->bytes + r->sent, r->len - r->sent, MSG_NOSIGNAL);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN) {
            want(c, EV_WRITE);
            return;
        }
        if (n < 0) {
            client_free(c);
            return;
        }
        r->sent += (size_t)n;
    }
    drain(c);
}

static void answer(struct client *c, int status, struct http_request *request)
{
    struct http_server *s = c->server;

    if (status == 0) {
        request->fd = c->fd;
        c->response.head = request->head;
        s->handler(request, &c->response, s->arg);
    } else {
        reply_status(&c->response, status);
    }
    if (c->response.bytes)
        flush(c);
    else
        client_free(c); /* out of memory */
}

static void on_bytes(struct client *c)
{
    struct http_request request;
    ssize_t n = recv(c->fd, c->in + c->in_len, sizeof(c->in) - c->in_len, 0);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        client_free(c);
        return;
    }
    c->in_len += (size_t)n;
    int status = http_parse_request(c->in, c->in_len, &request);
    if (status >= 0)
        answer(c, status, &request);
}

static void on_rest(struct client *c)
{
    char rest[4096];
    ssize_t n = recv(c->fd, rest, sizeof(rest), 0);

    if (n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR)))
        return;
    client_free(c);
}

static void on_io(struct ev_loop *loop, ev_io *w, int events)
{
    struct client *c = w->data;

    if (c->draining)
        on_rest(c);
    else if (c->response.bytes)
        flush(c);
    else
        on_bytes(c);
}

static struct client *client_new(struct http_server *s, int fd)
{
    struct client *c = calloc(1, sizeof(*c));
    struct client **link = &s->oldest;

    if (!c)
        return NULL;
    c->server = s;
    c->fd = fd;
    while (*link)
        link = &(*link)->next;
    *link = c;
    s->client_cnt++;
    ev_io_init(&c->io, on_io, fd, EV_READ);
    ev_timer_init(&c->timer, on_time, HTTP_TIMEOUT_S, 0);
    c->io.data = c->timer.data = c;
    ev_io_start(s->loop, &c->io);
    ev_timer_start(s->loop, &c->timer);
    return c;
}

static void on_connection(struct ev_loop *loop, ev_io *w, int events)
{
    struct http_server *s = w->data;
    int fd = accept4(w->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

    if (fd < 0)
        return;
    if (s->client_cnt >= HTTP_CLIENTS_MAX)
        client_free(s->oldest);
    if (!client_new(s, fd))
        close(fd);
}

/* --- The server ------------------------------------------------------------- */

static int parse_port(const char *text, in_port_t *ret)
{
    char *end;
    unsigned long port;

    if (*text < '0' || *text > '9')
        return -EINVAL;
    port = strtoul(text, &end, 10);
    if (*end || port > UINT16_MAX)
        return -EINVAL;
    *ret = htons((uint16_t)port);
    return 0;
}

int http_parse_address(const char *text, struct sockaddr_storage *ret, socklen_t *ret_len)
{
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_ANY_INIT};
    struct sockaddr_in v4 = {.sin_family = AF_INET};
    const char *colon = strrchr(text, ':');
    char host[INET6_ADDRSTRLEN + 2];
    in_port_t port;

    if (!colon || (size_t)(colon - text) >= sizeof(host) || parse_port(colon + 1, &port) < 0)
        return -EINVAL;
    size_t len = (size_t)(colon - text);
    memcpy(host, text, len);
    host[len] = '\0';
    *ret = (struct sockaddr_storage){0};
    v4.sin_port = v6.sin6_port = port;
    if (inet_pton(AF_INET, host, &v4.sin_addr) == 1) {
        memcpy(ret, &v4, sizeof(v4));
        *ret_len = sizeof(v4);
        return 0;
    }
    if (len > 1 && host[0] == '[' && host[len - 1] == ']') {
        host[len - 1] = '\0';
        if (inet_pton(AF_INET6, host + 1, &v6.sin6_addr) != 1)
            return -EINVAL;
    } else if (len > 0) {
        return -EINVAL;
    }
    memcpy(ret, &v6, sizeof(v6));
    *ret_len = sizeof(v6);
    return 0;
}

const char *http_format_address(const struct sockaddr_storage *addr, char out[HTTP_ADDRESS_LEN])
{
    const struct sockaddr_in6 *v6 = (const void *)addr;
    const struct sockaddr_in *v4 = (const void *)addr;
    char host[INET6_ADDRSTRLEN] = "";

    if (addr->ss_family == AF_INET) {
        inet_ntop(AF_INET, &v4->sin_addr, host, sizeof(host));
        snprintf(out, HTTP_ADDRESS_LEN, "%s:%u", host, ntohs(v4->sin_port));
    } else {
        inet_ntop(AF_INET6, &v6->sin6_addr, host, sizeof(host));
        snprintf(out, HTTP_ADDRESS_LEN, "[%s]:%u", host, ntohs(v6->sin6_port));
    }
    return out;
}

int http_listen(const struct sockaddr_storage *addr, socklen_t len)
{
    int one = 1, zero = 0;
    int fd = socket(addr->ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd < 0)
        return -errno;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (addr->ss_family == AF_INET6) /* "::" is for both families */
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof(zero));
    if (bind(fd, (const struct sockaddr *)addr, len) < 0 || listen(fd, BACKLOG) < 0) {
        int err = -errno;
        close(fd);
        return err;
    }
    return fd;
}

struct http_server *http_server_new(struct ev_loop *loop, int listen_fd, http_handler_fn handler,
                                    void *arg)
{
    struct http_server *s = calloc(1, sizeof(*s));

    if (!s)
        return NULL;
    *s = (struct http_server){.loop = loop, .handler = handler, .arg = arg};
    ev_io_init(&s->listener, on_connection, listen_fd, EV_READ);
    s->listener.data = s;
    ev_io_start(loop, &s->listener);
    return s;
}

void http_server_free(struct http_server *s)
{
    if (!s)
        return;
    while (s->oldest)
        client_free(s->oldest);
    ev_io_stop(s->loop, &s->listener);
    close(s->listener.fd);
    free(s);
}
