/* SPDX-License-Identifier: BSD-3-Clause
 * A Varlink client of the ctl socket.
 */
#include "ctl/ctlclient.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/clock.h"
#include "ctl/ctlsock.h"

#define REPLY_S        10
#define MESSAGE_MAX    (1 << 20)
#define RECEIVE_LEN    (64 * 1024)
#define AWAIT_PAUSE_MS 50

void ctlclient_set_patience(struct ctlclient *c, int seconds)
{
    struct timeval limit = {.tv_sec = seconds};

    setsockopt(c->fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    setsockopt(c->fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
}

static int init_with(struct ctlclient *ret, int fd)
{
    if (fd < 0)
        return fd;
    *ret = (struct ctlclient){.fd = fd};
    ctlclient_set_patience(ret, REPLY_S);
    return 0;
}

int ctlclient_init(struct ctlclient *ret, int netns_fd)
{
    return init_with(ret, ctlsock_connect(netns_fd));
}

int ctlclient_init_at(struct ctlclient *ret, const char *place)
{
    return init_with(ret, ctlsock_connect_at(place));
}

void ctlclient_done(struct ctlclient *c)
{
    if (c->fd >= 0)
        close(c->fd);
    free(c->data);
    *c = (struct ctlclient)CTLCLIENT_NONE;
}

int ctlclient_call(struct ctlclient *c, const char *method, json_t *params, bool more)
{
    json_t *call =
        json_pack("{s:s, s:b, s:o*}", "method", method, "more", more, "parameters", params);
    char *text = call ? json_dumps(call, JSON_COMPACT) : NULL;
    int err = -ENOMEM;

    if (text) {
        size_t len = strlen(text) + 1;
        ssize_t n = send(c->fd, text, len, MSG_NOSIGNAL);
        err = n < 0 ? -errno : n < (ssize_t)len ? -ETIMEDOUT : 0;
    }
    free(text);
    json_decref(call);
    return err;
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

static int receive(struct ctlclient *c)
{
    int err = make_room(c);
    if (err)
        return err;
    ssize_t n = recv(c->fd, c->data + c->len, c->cap - c->len, 0);
    if (n == 0)
        return -ECONNRESET;
    if (n < 0)
        return errno == EAGAIN ? -ETIMEDOUT : -errno;
    c->len += (size_t)n;
    return 0;
}

/* *ret is valid until the next call. */
static int next_message(struct ctlclient *c, const char **ret)
{
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
        int err = receive(c);
        if (err && err != -EINTR)
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
        snprintf(error, CTLCLIENT_ERROR_LEN, "%s", name);
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

/* --- Waiting for a daemon ------------------------------------------------------- */

static bool answers(int netns_fd)
{
    struct ctlclient c = CTLCLIENT_NONE;
    char error[CTLCLIENT_ERROR_LEN];
    json_t *reply = NULL;

    if (ctlclient_init(&c, netns_fd) < 0)
        return false;
    ctlclient_set_patience(&c, 1);
    bool well = ctlclient_call(&c, "org.varlink.service.GetInfo", NULL, false) == 0 &&
                ctlclient_next(&c, &reply, NULL, error) == 0;
    json_decref(reply);
    ctlclient_done(&c);
    return well;
}

int ctlclient_await(int netns_fd, int seconds)
{
    const struct timespec pause = {.tv_nsec = AWAIT_PAUSE_MS * 1000000L};
    int64_t until = clock_ms() + (int64_t)seconds * 1000;

    while (!answers(netns_fd)) {
        if (clock_ms() >= until)
            return -ETIMEDOUT;
        nanosleep(&pause, NULL);
    }
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
