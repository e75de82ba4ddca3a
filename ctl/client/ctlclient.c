/* SPDX-License-Identifier: BSD-3-Clause
 * A Varlink client of the ctl socket.
 */
#include "ctl/client/ctlclient.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"

#define REPLY_S     10
#define MESSAGE_MAX (1 << 20)
#define RECEIVE_LEN (64 * 1024)

void ctlclient_set_patience(struct ctlclient *c, int seconds)
{
    c->patience_ms = (int64_t)seconds * 1000;
}

void ctlclient_set_deadline(struct ctlclient *c, int64_t until_ms)
{
    c->until_ms = until_ms;
}

void ctlclient_init_with(struct ctlclient *ret, int fd)
{
    *ret = (struct ctlclient){.fd = fd};
    ctlclient_set_patience(ret, REPLY_S);
}

void ctlclient_done(struct ctlclient *c)
{
    if (c->fd >= 0)
        close(c->fd);
    free(c->data);
    *c = (struct ctlclient)CTLCLIENT_NONE;
}

/* Return: until when what begins now may take; 0: no limit. */
static int64_t limit_of(const struct ctlclient *c)
{
    int64_t limit = c->patience_ms ? clock_ms() + c->patience_ms : 0;

    return c->until_ms && (!limit || c->until_ms < limit) ? c->until_ms : limit;
}

/* Return: 0; -ETIMEDOUT; -errno. */
static int await(const struct ctlclient *c, short events, int64_t limit)
{
    struct pollfd p = {.fd = c->fd, .events = events};

    for (;;) {
        int64_t left = limit ? limit - clock_ms() : -1;
        int n = poll(&p, 1, limit && left < 0 ? 0 : left > INT_MAX ? INT_MAX : (int)left);
        if (n > 0)
            return 0;
        if (n < 0 && errno != EINTR)
            return -errno;
        if (limit && clock_ms() >= limit)
            return -ETIMEDOUT;
    }
}

static ssize_t send_part(const struct ctlclient *c, const char *text, size_t len, int fd)
{
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control = {.bytes = {0}};
    struct iovec iov = {.iov_base = (void *)text, .iov_len = len};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

    if (fd >= 0) {
        msg.msg_control = control.bytes;
        msg.msg_controllen = sizeof(control.bytes);
        struct cmsghdr *m = CMSG_FIRSTHDR(&msg);
        m->cmsg_level = SOL_SOCKET;
        m->cmsg_type = SCM_RIGHTS;
        m->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(m), &fd, sizeof(int));
    }
    return sendmsg(c->fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static int send_all(const struct ctlclient *c, const char *text, size_t len, int fd)
{
    int64_t limit = limit_of(c);
    size_t sent = 0;

    while (sent < len) {
        ssize_t n = send_part(c, text + sent, len - sent, sent == 0 ? fd : -1);
        int err = n >= 0 || errno == EINTR ? 0
                  : errno == EAGAIN        ? await(c, POLLOUT, limit)
                                           : -errno;
        if (err)
            return err;
        sent += n > 0 ? (size_t)n : 0;
    }
    return 0;
}

int ctlclient_call_with(struct ctlclient *c, const char *method, json_t *params, bool more, int fd)
{
    json_t *call =
        json_pack("{s:s, s:b, s:o*}", "method", method, "more", more, "parameters", params);
    char *text = call ? json_dumps(call, JSON_COMPACT) : NULL;

    int err = text ? send_all(c, text, strlen(text) + 1, fd) : -ENOMEM;
    free(text);
    json_decref(call);
    return err;
}

int ctlclient_call(struct ctlclient *c, const char *method, json_t *params, bool more)
{
    return ctlclient_call_with(c, method, params, more, -1);
}

static int make_room(struct ctlclient *c)
{
    if (c->off > 0) {
        memmove(c->data, c->data + c->off, c->len - c->off);
        c->len -= c->off;
        c->off = 0;
    }
    if (c->cap - c->len >= RECEIVE_LEN)
        return 0;
    if (c->len > MESSAGE_MAX)
        return -EPROTO;
    char *grown = realloc(c->data, c->len + RECEIVE_LEN);
    if (!grown)
        return -ENOMEM;
    c->data = grown;
    c->cap = c->len + RECEIVE_LEN;
    return 0;
}

static int receive(struct ctlclient *c, int64_t limit)
{
    int err = make_room(c);
    if (err)
        return err;
    ssize_t n = recv(c->fd, c->data + c->len, c->cap - c->len, MSG_DONTWAIT);
    if (n == 0)
        return -ECONNRESET;
    if (n < 0)
        return errno == EINTR ? 0 : errno == EAGAIN ? await(c, POLLIN, limit) : -errno;
    c->len += (size_t)n;
    return 0;
}

/* *ret is valid until the next call. */
static int next_message(struct ctlclient *c, const char **ret)
{
    int64_t limit = limit_of(c);
    size_t searched = 0;

    for (;;) {
        char *start = c->data + c->off;
        size_t waiting = c->len - c->off;
        char *end = waiting > searched ? memchr(start + searched, '\0', waiting - searched) : NULL;
        if (end) {
            c->off += (size_t)(end + 1 - start);
            *ret = start;
            return 0;
        }
        searched = waiting;
        int err = receive(c, limit);
        if (err)
            return err;
    }
}

int ctlclient_next(struct ctlclient *c, json_t **ret_params, bool *ret_continues,
                   char error[CTLCLIENT_ERROR_LEN])
{
    const char *text = NULL;

    int err = next_message(c, &text);
    if (err)
        return err;
    json_t *reply = json_loads(text, 0, NULL);
    if (!json_is_object(reply)) {
        json_decref(reply);
        return -EPROTO;
    }
    const char *name = json_string_value(json_object_get(reply, "error"));
    if (name) {
        const char *reason =
            json_string_value(json_object_get(json_object_get(reply, "parameters"), "reason"));
        snprintf(error, CTLCLIENT_ERROR_LEN, "%s", name);
        snprintf(c->reason, sizeof(c->reason), "%s", reason ? reason : "");
        json_decref(reply);
        return -EREMOTEIO;
    }
    json_t *params = json_object_get(reply, "parameters");
    *ret_params = params ? json_incref(params) : json_object();
    if (ret_continues)
        *ret_continues = json_is_true(json_object_get(reply, "continues"));
    json_decref(reply);
    return 0;
}

int ctlclient_server_pid(const struct ctlclient *c)
{
    struct ucred cred;
    socklen_t len = sizeof(cred);

    if (getsockopt(c->fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0)
        return 0;
    return cred.pid;
}
