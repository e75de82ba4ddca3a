/* SPDX-License-Identifier: BSD-3-Clause
 * The method Drain.
 */
#include "ctl/daemon/ns1_drain.h"

#include <stdlib.h>
#include <string.h>

#include "ctl/daemon/ns1.h"
#include "ctl/daemon/ns1_params.h"

struct drainer {
    struct ns1_drain *all;
    struct drainer *next;
    struct ctlserver_client *client;
};

static void free_drainer(void *state)
{
    struct drainer *one = state;
    struct drainer **link = &one->all->first;

    while (*link != one)
        link = &(*link)->next;
    *link = one->next;
    free(one);
}

/* Paused for ever: ns1_drain_tell() pushes. */
static bool say_nothing(struct ctlserver_client *c, void *state)
{
    return true;
}

static bool add_drainer(struct ctlserver_client *c, struct ns1_drain *d)
{
    struct drainer *one = calloc(1, sizeof(*one));

    if (!one)
        return false;
    *one = (struct drainer){.all = d, .next = d->first, .client = c};
    d->first = one;
    ctlserver_stream(c, say_nothing, one, free_drainer);
    ctlserver_pause(c);
    return true;
}

static bool read_new(const json_t *params, enum tunnel_drain *ret)
{
    const json_t *value = json_object_get(params, "new");
    const char *text = json_string_value(value);

    if (value && !text && !json_is_null(value))
        return false;
    return tunnel_drain_parse(text ? text : "clear", ret) == 0;
}

void ns1_drain(struct ctlserver_client *c, const struct ns1 *n, const json_t *params, bool more)
{
    enum tunnel_drain new;
    uint32_t timeout_s;

    if (!ctlserver_is_privileged(c)) {
        ctlserver_error(c, "org.varlink.service.PermissionDenied", NULL);
        return;
    }
    if (!ns1_params_number(params, "timeout", NS1_DRAIN_MAX_S, &timeout_s)) {
        ns1_invalid_parameter(c, "timeout");
        return;
    }
    if (!read_new(params, &new)) {
        ns1_invalid_parameter(c, "new");
        return;
    }
    if (more && !add_drainer(c, n->drain)) {
        ctlserver_error(c, NS1_INTERFACE ".OutOfMemory", NULL);
        return;
    }
    ns1_watch_daemon(n->watch, "told to drain");
    n->on_drain(n->arg, ctlserver_park(c), timeout_s, new);
}

void ns1_drain_tell(struct ns1_drain *d, size_t left, unsigned seconds)
{
    json_t *reply = json_pack("{s:{s:I, s:i}, s:b}", "parameters", "left", (json_int_t)left,
                              "seconds", (int)seconds, "continues", 1);
    char *text = reply ? json_dumps(reply, JSON_COMPACT) : NULL;

    for (struct drainer *one = d->first; text && one; one = one->next)
        (void)ctlserver_push(one->client, text, strlen(text) + 1); /* the next is as good */
    free(text);
    json_decref(reply);
}
