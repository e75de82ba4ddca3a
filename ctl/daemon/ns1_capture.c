/* SPDX-License-Identifier: BSD-3-Clause
 * The method Capture.
 *
 * How it works: packets go by a socket that comes along with the call, so they are never
 * JSON. The call itself is a stream that pauses until the capture has ended, and then tells
 * how many there were. A client that goes away ends its capture.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ctl/daemon/ns1.h"
#include "ctl/daemon/ns1_params.h"
#include "tunnel/capture.h"

struct ns1_capture {
    struct ctlserver_client *client;
    struct tunnel *tunnel;
    struct tap *tap; /* NULL: it has ended */
    struct tunnel_capture_stats stats;
    bool told;
};

static json_t *counts(const uint64_t by_side[SIDE_CNT])
{
    return json_integer((json_int_t)(by_side[SIDE_INNER] + by_side[SIDE_OUTER]));
}

static json_t *numbers(const struct ns1_capture *s)
{
    return json_pack("{s:o, s:o}", "packets", counts(s->stats.packets), "dropped",
                     counts(s->stats.dropped));
}

static bool produce(struct ctlserver_client *c, void *state)
{
    const struct ns1_capture *s = state;

    if (!s->told)
        ctlserver_reply(c, numbers(s));
    return false;
}

static void on_end(void *arg, const struct tunnel_capture_stats *stats)
{
    struct ns1_capture *s = arg;

    s->tap = NULL;
    s->stats = *stats;
    /* At once: when the daemon ends there is no other turn of the loop. */
    json_t *reply = json_pack("{s:o}", "parameters", numbers(s));
    char *text = reply ? json_dumps(reply, JSON_COMPACT) : NULL;
    s->told = text && ctlserver_push(s->client, text, strlen(text) + 1);
    free(text);
    json_decref(reply);
    ctlserver_resume(s->client);
}

static void done(void *state)
{
    struct ns1_capture *s = state;

    if (s->tap)
        tunnel_capture_stop(s->tunnel, s->tap);
    free(s);
}

static bool read_flag(const json_t *params, const char *name, bool *ret)
{
    const json_t *v = json_object_get(params, name);

    *ret = json_is_true(v);
    return !v || json_is_boolean(v) || json_is_null(v);
}

/* Return: the parameter that is wrong; NULL: none. */
static const char *read_params(const json_t *params, struct tunnel_capture *ret)
{
    const json_t *peer = json_object_get(params, "peer");
    uint32_t port, count;

    if (!read_flag(params, "inner", &ret->sides[SIDE_INNER]))
        return "inner";
    if (!read_flag(params, "outer", &ret->sides[SIDE_OUTER]) ||
        (!ret->sides[SIDE_INNER] && !ret->sides[SIDE_OUTER]))
        return "outer";
    ret->has_peer = peer && !json_is_null(peer);
    if (ret->has_peer &&
        (!json_is_string(peer) || !ns1_params_addr(json_string_value(peer), &ret->peer)))
        return "peer";
    if (!ns1_params_number(params, "port", UINT16_MAX, &port))
        return "port";
    if (!ns1_params_number(params, "count", UINT32_MAX, &count))
        return "count";
    if (!ns1_params_number(params, "snaplen", UINT32_MAX, &ret->snap_len))
        return "snaplen";
    ret->port = (uint16_t)port;
    ret->max_cnt = count;
    return NULL;
}

static const char *error_of(int err)
{
    switch (-err) {
    case EINVAL:
        return NS1_INTERFACE ".NoSocket";
    case EMFILE:
        return NS1_INTERFACE ".TooMany";
    default:
        return NS1_INTERFACE ".OutOfMemory";
    }
}

static void start(struct ctlserver_client *c, const struct ns1 *n, struct tunnel_capture *cfg,
                  int fd)
{
    const struct links *uplinks = &n->links->uplinks;
    struct ns1_capture *s = calloc(1, sizeof(*s));

    if (!s) {
        close(fd);
        ctlserver_error(c, error_of(-ENOMEM), NULL);
        return;
    }
    cfg->application = "tcpcrypt-ns " TCNS_VERSION;
    cfg->names[SIDE_INNER] = "tcpcrypt0";
    cfg->names[SIDE_OUTER] = uplinks->cnt == 1 ? uplinks->entries[0].name : "uplinks";
    s->client = c;
    s->tunnel = n->tunnel;
    int err = tunnel_capture_start(n->tunnel, cfg, fd, on_end, s, &s->tap);
    if (err) {
        free(s);
        ctlserver_error(c, error_of(err), NULL);
        return;
    }
    ctlserver_stream(c, produce, s, done);
    ctlserver_pause(c);
}

void ns1_capture(struct ctlserver_client *c, const struct ns1 *n, const json_t *params)
{
    struct tunnel_capture cfg = {.max_cnt = 0};
    int fd = ctlserver_take_fd(c);

    if (!ctlserver_is_privileged(c)) {
        ns1_permission_denied(c);
    } else {
        const char *wrong = read_params(params, &cfg);
        if (!wrong && fd >= 0) {
            start(c, n, &cfg, fd);
            return;
        }
        if (wrong)
            ns1_invalid_parameter(c, wrong);
        else
            ctlserver_error(c, NS1_INTERFACE ".NoSocket", NULL);
    }
    if (fd >= 0)
        close(fd);
}
