/* SPDX-License-Identifier: BSD-3-Clause
 * What the supervisor says of itself: to who started it why it failed, to the service manager
 * how it is.
 */
#include "ctl/daemon/supervisor_impl.h"

#include <stdarg.h>
#include <stdio.h>

int supervisor_fail(struct supervisor *s, int err, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(s->err, DAEMON_ERROR_LEN, fmt, ap);
    va_end(ap);
    s->failed = err;
    return err;
}

static void state_line(const struct supervisor *s, char *ret, size_t size)
{
    const struct links *l = &s->told.uplinks;
    const char *first = l->cnt > 0 ? l->entries[0].name : "none";

    snprintf(ret, size, "Uplink %s%s, policy %s, %u worker restarts", first,
             l->cnt > 1 ? " and others" : "", policy_name(s->opts->policy), s->restarts);
}

void supervisor_tell_state(const struct supervisor *s)
{
    char text[100];

    state_line(s, text, sizeof(text));
    sdnotify_status(s->opts->notify, text);
}

void supervisor_tell_ready(const struct supervisor *s)
{
    char text[100];

    state_line(s, text, sizeof(text));
    sdnotify_ready(s->opts->notify, text);
}
