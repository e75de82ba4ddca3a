/* SPDX-License-Identifier: BSD-3-Clause
 * A Varlink server on libev.
 */
#include "ctl/daemon/ctlserver.h"

#include <errno.h>
#include <stdio.h>
#include <ev.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "ctl/daemon/privilege.h"

#define CLIENTS_MAX 16
#define INPUT_MAX   (64 * 1024)
#define OUTPUT_HIGH (128 * 1024)
#define STEPS_MAX   8

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77 /* Linux 6.5 */
#endif

enum door { DOOR_PATH, DOOR_ABSTRACT, DOOR_EXTRA, DOOR_CNT };

struct bytes {
    char *data;
    size_t len, cap;
    size_t off; /* already taken from the front */
};

struct ctlserver_client {
    struct ctlserver *server;
    ev_io reader, writer;
    int fd;
    enum door door;
    struct ucred cred; /* over TCP: process 0, and no user */
    int pidfd;         /* of cred.pid; -1: over TCP, or the kernel is older than 6.5 */
    ev_tstamp last_active_s;
    struct bytes in, out;
    size_t searched; /* bytes of the input without the end of a call */
    int passed_fd;   /* a descriptor that came along with the input; -1: none */
    bool oneway;     /* the call being served wants no answer */
    bool parked;     /* the call being served is answered by somebody else */
    bool paused;     /* the stream has nothing to say now */
    bool dead;       /* to be freed when the stack has unwound */
    ctlserver_produce_fn produce;
    void *state;
    void (*done)(void *state);
};

struct ctlserver {
    int ask_channel; /* see ctlserver_ask(); -1: none */
    struct ev_loop *loop;
    ev_io listeners[DOOR_CNT];
    struct ctlserver_client *clients[DOOR_CNT][CLIENTS_MAX];
    ctlserver_call_fn call;
    void *arg;
};

/* --- Bytes ------------------------------------------------------------------ */

static bool bytes_reserve(struct bytes *b, size_t more)
{
    if (b->off > 0) {
        memmove(b->data, b->data + b->off, b->len - b->off);
        b->len -= b->off;
        b->off = 0;
    }
    if (b->cap - b->len >= more)
        return true;
    size_t cap = b->cap ? b->cap : 4096;
    while (cap - b->len < more)
        cap *= 2;
    char *grown = realloc(b->data, cap);
    if (!grown)
        return false;
    b->data = grown;
    b->cap = cap;
    return true;
}

static bool bytes_append(struct bytes *b, const void *data, size_t len)
{
    if (!bytes_reserve(b, len))
        return false;
    memcpy(b->data + b->len, data, len);
    b->len += len;
    return true;
}

static size_t bytes_waiting(const struct bytes *b)
{
    return b->len - b->off;
}

/* --- Clients ---------------------------------------------------------------- */

static void end_stream(struct ctlserver_client *c)
{
    if (c->done)
        c->done(c->state);
    c->produce = NULL;
    c->done = NULL;
    c->state = NULL;
    c->paused = false;
}

static void drop_passed_fd(struct ctlserver_client *c)
{
    if (c->passed_fd >= 0)
        close(c->passed_fd);
    c->passed_fd = -1;
}

static void client_free(struct ctlserver_client *c)
{
    struct ctlserver *s = c->server;

    for (size_t i = 0; i < CLIENTS_MAX; i++)
        if (s->clients[c->door][i] == c)
            s->clients[c->door][i] = NULL;
    ev_io_stop(s->loop, &c->reader);
    ev_io_stop(s->loop, &c->writer);
    end_stream(c);
    drop_passed_fd(c);
    close(c->fd);
    if (c->pidfd >= 0)
        close(c->pidfd);
    free(c->in.data);
    free(c->out.data);
    free(c);
}

/* Return: how many clients of the door are of the same user. */
static int count_user(const struct ctlserver *s, enum door door, uid_t uid)
{
    int cnt = 0;

    for (size_t i = 0; i < CLIENTS_MAX; i++)
        cnt += s->clients[door][i] && s->clients[door][i]->cred.uid == uid;
    return cnt;
}

static struct ctlserver_client **find_place(struct ctlserver *s, enum door door)
{
    struct ctlserver_client **victim = NULL;
    int most = 0;

    for (size_t i = 0; i < CLIENTS_MAX; i++) {
        struct ctlserver_client **place = &s->clients[door][i];

        if (!*place)
            return place;
        int cnt = count_user(s, door, (*place)->cred.uid);
        if (cnt > most || (cnt == most && (*place)->last_active_s < (*victim)->last_active_s)) {
            victim = place;
            most = cnt;
        }
    }
    client_free(*victim);
    return victim;
}

/* --- Answers ---------------------------------------------------------------- */

static void send_object(struct ctlserver_client *c, json_t *object)
{
    char *text = object ? json_dumps(object, JSON_COMPACT) : NULL;

    /* The zero byte that ends the string also ends the message. */
    if (!text || !bytes_append(&c->out, text, strlen(text) + 1))
        c->dead = true;
    free(text);
    json_decref(object);
}

static void answer(struct ctlserver_client *c, const char *error, json_t *params, bool continues)
{
    json_t *object = json_object();

    if (c->oneway) {
        json_decref(params);
        json_decref(object);
        return;
    }
    if (error)
        json_object_set_new(object, "error", json_string(error));
    json_object_set_new(object, "parameters", params ? params : json_object());
    if (continues)
        json_object_set_new(object, "continues", json_true());
    send_object(c, object);
}

void ctlserver_reply(struct ctlserver_client *c, json_t *params)
{
    answer(c, NULL, params, false);
}

void ctlserver_error(struct ctlserver_client *c, const char *name, json_t *params)
{
    answer(c, name, params, false);
}

void ctlserver_continue(struct ctlserver_client *c, json_t *params)
{
    answer(c, NULL, params, true);
}

void ctlserver_stream(struct ctlserver_client *c, ctlserver_produce_fn produce, void *state,
                      void (*done)(void *state))
{
    c->produce = produce;
    c->state = state;
    c->done = done;
}

void ctlserver_pause(struct ctlserver_client *c)
{
    c->paused = true;
}

void ctlserver_resume(struct ctlserver_client *c)
{
    c->paused = false;
    ev_io_start(c->server->loop, &c->writer);
}

bool ctlserver_push(struct ctlserver_client *c, const char *text, size_t len)
{
    if (bytes_waiting(&c->out) + len > OUTPUT_HIGH)
        return false;
    /* The caller is in the midst of something: the rest is for the loop's next turn. */
    ev_io_start(c->server->loop, &c->writer);
    if (!c->oneway && !bytes_append(&c->out, text, len))
        c->dead = true;
    return true;
}

int ctlserver_park(struct ctlserver_client *c)
{
    c->parked = true;
    return c->fd;
}

void ctlserver_ask(struct ctlserver *s, int channel)
{
    s->ask_channel = channel;
}

bool ctlserver_is_privileged(const struct ctlserver_client *c)
{
    int channel = c->server->ask_channel;

    if (c->door == DOOR_PATH)
        return true;
    return c->cred.pid > 0 && (channel >= 0 ? privilege_ask(channel, &c->cred, c->pidfd)
                                            : privilege_has(&c->cred, c->pidfd));
}

/* --- Calls ------------------------------------------------------------------ */

static void serve(struct ctlserver_client *c, const char *text)
{
    json_t *call = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    const json_t *params = json_object_get(call, "parameters");
    const char *method = json_string_value(json_object_get(call, "method"));

    if (!method || (params && !json_is_object(params) && !json_is_null(params))) {
        c->dead = true;
    } else {
        bool more = json_is_true(json_object_get(call, "more"));
        c->oneway = json_is_true(json_object_get(call, "oneway"));
        c->server->call(c, method, json_is_object(params) ? params : NULL, more, c->server->arg);
    }
    json_decref(call);
}

/* Return: the end of the first whole call in the input; NULL when there is none. */
static char *find_call(struct ctlserver_client *c)
{
    struct bytes *in = &c->in;

    if (bytes_waiting(in) <= c->searched)
        return NULL;
    char *end = memchr(in->data + in->off + c->searched, '\0', bytes_waiting(in) - c->searched);
    if (!end)
        c->searched = bytes_waiting(in);
    return end;
}

/* Calls that are received at once cannot be told from each other by the descriptor that came
 * along: it is for the first that takes one. */
static void serve_first(struct ctlserver_client *c, const char *end)
{
    const char *start = c->in.data + c->in.off;

    c->in.off += (size_t)(end + 1 - start);
    c->searched = 0;
    serve(c, start);
    if (bytes_waiting(&c->in) == 0)
        drop_passed_fd(c);
}

int ctlserver_take_fd(struct ctlserver_client *c)
{
    int fd = c->passed_fd;

    c->passed_fd = -1;
    return fd;
}

uid_t ctlserver_uid(const struct ctlserver_client *c)
{
    return c->cred.uid;
}

static void flush(struct ctlserver_client *c)
{
    while (bytes_waiting(&c->out) > 0) {
        ssize_t n = send(c->fd, c->out.data + c->out.off, bytes_waiting(&c->out), MSG_NOSIGNAL);
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            return;
        if (n < 0 && errno != EINTR) {
            c->dead = true;
            return;
        }
        c->out.off += n > 0 ? (size_t)n : 0;
    }
}

static bool has_work(struct ctlserver_client *c)
{
    return !c->parked && !c->paused && bytes_waiting(&c->out) < OUTPUT_HIGH &&
           (c->produce || find_call(c));
}

static void work(struct ctlserver_client *c)
{
    if (!c->produce) {
        serve_first(c, find_call(c));
    } else if (!c->produce(c, c->state)) {
        end_stream(c);
    }
}

static void set_events(struct ctlserver_client *c)
{
    struct ev_loop *loop = c->server->loop;

    if (has_work(c) || bytes_waiting(&c->out) > 0)
        ev_io_start(loop, &c->writer);
    else
        ev_io_stop(loop, &c->writer);
    if (bytes_waiting(&c->in) < INPUT_MAX)
        ev_io_start(loop, &c->reader);
    else
        ev_io_stop(loop, &c->reader);
}

/* A little work for each client and turn of the loop: the data path shares it.
 * Work that is left waits for the next turn in which the client can be written to. */
static void step(struct ctlserver_client *c)
{
    for (int i = 0; i < STEPS_MAX && !c->dead && has_work(c); i++)
        work(c);
    if (!c->dead)
        flush(c);
    c->dead |= bytes_waiting(&c->in) >= INPUT_MAX && !find_call(c);
    if (c->dead)
        client_free(c);
    else
        set_events(c);
}

/* Keeps the last one. The kernel closes those that have no room here. */
static void keep_passed_fds(struct ctlserver_client *c, struct msghdr *msg)
{
    for (struct cmsghdr *m = CMSG_FIRSTHDR(msg); m; m = CMSG_NXTHDR(msg, m)) {
        if (m->cmsg_level != SOL_SOCKET || m->cmsg_type != SCM_RIGHTS)
            continue;
        for (size_t at = 0; CMSG_LEN(at + sizeof(int)) <= m->cmsg_len; at += sizeof(int)) {
            drop_passed_fd(c);
            memcpy(&c->passed_fd, CMSG_DATA(m) + at, sizeof(int));
        }
    }
}

static ssize_t receive(struct ctlserver_client *c, size_t room)
{
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control;
    struct iovec iov = {.iov_base = c->in.data + c->in.len, .iov_len = room};
    struct msghdr msg = {
        .msg_iov = &iov,
        .msg_iovlen = 1,
        .msg_control = control.bytes,
        .msg_controllen = sizeof(control.bytes),
    };

    ssize_t n = recvmsg(c->fd, &msg, MSG_CMSG_CLOEXEC);
    if (n >= 0)
        keep_passed_fds(c, &msg);
    return n;
}

static void on_readable(struct ev_loop *loop, ev_io *w, int events)
{
    struct ctlserver_client *c = w->data;
    size_t room = INPUT_MAX - bytes_waiting(&c->in);

    c->last_active_s = ev_now(loop);
    if (room > 4096)
        room = 4096;
    if (!bytes_reserve(&c->in, room)) {
        client_free(c);
        return;
    }
    ssize_t n = receive(c, room);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        client_free(c);
        return;
    }
    c->in.len += (size_t)n;
    step(c);
}

static void on_writable(struct ev_loop *loop, ev_io *w, int events)
{
    struct ctlserver_client *c = w->data;

    c->last_active_s = ev_now(loop);
    step(c);
}

/* --- Doors ------------------------------------------------------------------ */

static struct ctlserver_client *client_new(struct ctlserver *s, int fd, enum door door)
{
    struct ctlserver_client *c = calloc(1, sizeof(*c));
    socklen_t len = sizeof(c->cred);

    if (!c)
        return NULL;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &c->cred, &len) < 0) {
        free(c);
        return NULL;
    }
    len = sizeof(c->pidfd);
    if (getsockopt(fd, SOL_SOCKET, SO_PEERPIDFD, &c->pidfd, &len) < 0)
        c->pidfd = -1;
    c->server = s;
    c->fd = fd;
    c->passed_fd = -1;
    c->door = door;
    c->last_active_s = ev_now(s->loop);
    ev_io_init(&c->reader, on_readable, fd, EV_READ);
    ev_io_init(&c->writer, on_writable, fd, EV_WRITE);
    c->reader.data = c->writer.data = c;
    return c;
}

/* Return: whether there was one. */
static bool accept_one(struct ctlserver *s, enum door door, int listener)
{
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0)
        return false;
    struct ctlserver_client *c = client_new(s, fd, door);
    if (!c) {
        close(fd);
        return true;
    }
    *find_place(s, door) = c;
    ev_io_start(s->loop, &c->reader);
    return true;
}

static void on_connection(struct ev_loop *loop, ev_io *w, int events)
{
    struct ctlserver *s = w->data;

    for (int i = 0; i < STEPS_MAX && accept_one(s, (enum door)(w - s->listeners), w->fd); i++)
        ;
}

struct ctlserver *ctlserver_new(struct ev_loop *loop, const struct ctlsock *doors,
                                ctlserver_call_fn call, void *arg)
{
    const int fds[DOOR_CNT] = {
        [DOOR_PATH] = doors->path_fd,
        [DOOR_ABSTRACT] = doors->abstract_fd,
        [DOOR_EXTRA] = doors->extra_fd,
    };
    struct ctlserver *s = calloc(1, sizeof(*s));

    if (!s)
        return NULL;
    s->loop = loop;
    s->ask_channel = -1;
    s->call = call;
    s->arg = arg;
    for (int i = 0; i < DOOR_CNT; i++) {
        ev_io_init(&s->listeners[i], on_connection, fds[i], EV_READ);
        s->listeners[i].data = s;
        if (fds[i] >= 0)
            ev_io_start(loop, &s->listeners[i]);
    }
    return s;
}

void ctlserver_free(struct ctlserver *s)
{
    if (!s)
        return;
    for (int d = 0; d < DOOR_CNT; d++) {
        ev_io_stop(s->loop, &s->listeners[d]);
        for (size_t i = 0; i < CLIENTS_MAX; i++) {
            if (!s->clients[d][i])
                continue;
            flush(s->clients[d][i]); /* last words */
            client_free(s->clients[d][i]);
        }
    }
    free(s);
}
