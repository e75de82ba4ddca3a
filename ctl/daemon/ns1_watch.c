/* SPDX-License-Identifier: BSD-3-Clause
 * The method Watch.
 */
#include "ctl/daemon/ns1_watch.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "ctl/daemon/ns1.h"

struct watcher {
    struct ns1_watch *watch;
    struct watcher *next;
    struct ctlserver_client *client;
    uint64_t lost; /* since the last event that it got */
};

static const char *const names[] = {
#define X(name, text) text,
    TUNNEL_EVENT_LIST(X)
#undef X
};

/* Return: an event without particulars; the caller's. */
static json_t *event_json(const char *name)
{
    return json_pack("{s:s, s:f}", "event", name, "time", clock_epoch_s());
}

static void push_text(struct ns1_watch *w, const char *text)
{
    size_t len = strlen(text) + 1;

    for (struct watcher *one = w->first; one; one = one->next) {
        /* After a loss nothing more until that is told, so that it is told in its place. */
        if (one->lost == 0 && ctlserver_push(one->client, text, len))
            continue;
        one->lost++;
        ctlserver_resume(one->client);
    }
}

/* Takes event. */
static void push(struct ns1_watch *w, json_t *event)
{
    json_t *reply = json_pack("{s:o, s:b}", "parameters", event, "continues", 1);
    char *text = reply ? json_dumps(reply, JSON_COMPACT) : NULL;

    if (text)
        push_text(w, text);
    free(text);
    json_decref(reply);
}

void ns1_watch_session(enum tunnel_event event, const struct tunnel_session *s, void *arg)
{
    struct ns1_watch *w = arg;

    if (!w->first)
        return;
    json_t *o = event_json(names[event]);
    json_object_set_new(o, "session", ns1_session_json(s));
    push(w, o);
}

void ns1_watch_daemon(struct ns1_watch *w, const char *text)
{
    if (!w->first)
        return;
    json_t *o = event_json("daemon");
    json_object_set_new(o, "text", json_string(text));
    push(w, o);
}

/* Called when events were lost and there is room now. */
static bool tell_lost(struct ctlserver_client *c, void *state)
{
    struct watcher *one = state;
    json_t *o = event_json("lost");

    json_object_set_new(o, "count", json_integer((json_int_t)one->lost));
    one->lost = 0;
    ctlserver_continue(c, o);
    ctlserver_pause(c);
    return true;
}

static void free_watcher(void *state)
{
    struct watcher *one = state;
    struct watcher **link = &one->watch->first;

    while (*link != one)
        link = &(*link)->next;
    *link = one->next;
    free(one);
}

void ns1_watch(struct ctlserver_client *c, struct ns1_watch *w, bool more)
{
    if (!more) {
        ctlserver_error(c, "org.varlink.service.ExpectedMore", NULL);
        return;
    }
    struct watcher *one = calloc(1, sizeof(*one));
    if (!one) {
        ctlserver_error(c, NS1_INTERFACE ".OutOfMemory", NULL);
        return;
    }
    *one = (struct watcher){.watch = w, .next = w->first, .client = c};
    w->first = one;
    ctlserver_stream(c, tell_lost, one, free_watcher);
    ctlserver_continue(c, event_json("watching"));
    ctlserver_pause(c);
}
