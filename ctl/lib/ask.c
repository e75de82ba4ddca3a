/* SPDX-License-Identifier: BSD-3-Clause
 * libtcpcrypt: where the daemon is, and one call to it.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "ctl/client/ctlclient.h"
#include "ctl/client/ctldial.h"
#include "ctl/lib/lib.h"

#define PLACE_LEN 128
#define PAUSE_MS  10

/* --- Where ------------------------------------------------------------------------ */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static char place[PLACE_LEN]; /* "": the abstract socket */

static void take_lock(void)
{
    pthread_mutex_lock(&lock);
}

static void give_lock(void)
{
    pthread_mutex_unlock(&lock);
}

/* A child must not find the lock held by a thread that it does not have. */
static void watch_forks(void)
{
    pthread_atfork(take_lock, give_lock, give_lock);
}

static void read_place(char ret[PLACE_LEN])
{
    pthread_once(&once, watch_forks);
    take_lock();
    memcpy(ret, place, PLACE_LEN);
    give_lock();
}

static int set_place(const char *text)
{
    if (text && !ctldial_is_place(text))
        return -EINVAL;
    pthread_once(&once, watch_forks);
    take_lock();
    snprintf(place, sizeof(place), "%s", text ? text : "");
    give_lock();
    return 0;
}

PUBLIC int tcpcrypt_set_ctl(const char *text)
{
    int saved = errno;

    return finish(set_place(text), saved);
}

PUBLIC void tcpcrypt_setparam(int param, const void *val)
{
    char port[PLACE_LEN];
    const char *text = val;
    int saved = errno;

    if (text && text[0] >= '0' && text[0] <= '9') {
        snprintf(port, sizeof(port), ":%s", text);
        text = port;
    }
    finish(param == TCPCRYPT_PARAM_CTLPATH ? set_place(text) : -EINVAL, saved);
}

/* --- One call ----------------------------------------------------------------------- */

int64_t lib_until(void)
{
    return clock_ms() + TCPCRYPT_TIMEOUT_MS;
}

/* Return: a connected socket; -errno. */
static int dial(bool passes_fd, int64_t until_ms)
{
    int64_t left = until_ms - clock_ms();
    char where[PLACE_LEN];

    read_place(where);
    if (left <= 0)
        return -ETIMEDOUT;
    if (passes_fd && where[0] == ':')
        return -EOPNOTSUPP; /* no descriptor goes over TCP */
    int fd = where[0] ? ctldial_place(where, (unsigned)left) : ctldial_abstract((unsigned)left);
    return fd == -EAGAIN || fd == -EINPROGRESS ? -ETIMEDOUT : fd;
}

/* Return: 0 and *ret for ctlclient_done(); -errno. */
static int call(const char *method, json_t *params, bool more, int fd, int64_t until_ms,
                struct ctlclient *ret)
{
    int sock = dial(fd >= 0, until_ms);
    if (sock < 0)
        return sock;
    ctlclient_init_with(ret, sock);
    ctlclient_set_patience(ret, 0);
    ctlclient_set_deadline(ret, until_ms);
    int err = ctlclient_call_with(ret, method, json_incref(params), more, fd);
    if (err)
        ctlclient_done(ret);
    return err;
}

static int next(struct ctlclient *c, json_t **ret, bool *ret_continues)
{
    char error[CTLCLIENT_ERROR_LEN];
    int err = ctlclient_next(c, ret, ret_continues, error);

    return err == -EREMOTEIO ? -lib_errno_of(error) : err;
}

static int ask_once(const char *method, json_t *params, int fd, int64_t until_ms, json_t **ret)
{
    struct ctlclient c;

    int err = call(method, params, false, fd, until_ms, &c);
    if (err)
        return err;
    err = next(&c, ret, NULL);
    ctlclient_done(&c);
    return err;
}

/* A crowded daemon hangs up on whom it has no place for; one that ends, too. */
static bool is_hung_up(int err)
{
    return err == -ECONNRESET || err == -EPIPE;
}

int lib_ask(const char *method, json_t *params, int fd, int64_t until_ms, json_t **ret)
{
    const struct timespec pause = {.tv_nsec = PAUSE_MS * 1000000L};
    int err = -ENOMEM;

    if (!params)
        params = json_object();
    while (params && is_hung_up(err = ask_once(method, params, fd, until_ms, ret))) {
        if (clock_ms() + PAUSE_MS >= until_ms) {
            err = -ETIMEDOUT;
            break;
        }
        nanosleep(&pause, NULL);
    }
    json_decref(params);
    return err;
}

int lib_tell(const char *method, json_t *params, int fd)
{
    json_t *reply = NULL;

    int err = lib_ask(method, params, fd, lib_until(), &reply);
    json_decref(reply);
    return err;
}

int lib_get_session(json_t *params, int64_t until_ms, json_t **ret)
{
    json_t *reply = NULL;

    int err = lib_ask(TCNS_CTL_INTERFACE ".GetSession", params, -1, until_ms, &reply);
    if (err)
        return err;
    *ret = json_incref(json_object_get(reply, "session"));
    json_decref(reply);
    return json_is_object(*ret) ? 0 : -EPROTO;
}

int lib_list(lib_look_fn look, void *arg)
{
    bool continues = true;
    struct ctlclient c;
    int result = 0;

    int err = call(TCNS_CTL_INTERFACE ".ListSessions", NULL, true, -1, lib_until(), &c);
    if (err)
        return err;
    while (continues && result == 0) {
        json_t *reply = NULL;

        err = next(&c, &reply, &continues);
        result = err ? err : look(reply, arg);
        json_decref(reply);
    }
    ctlclient_done(&c);
    return result;
}
