/* SPDX-License-Identifier: BSD-3-Clause
 * A change of the settings (change.h), the supervisor's half: new settings are checked, the kernel
 * follows them, the worker gets them.
 */
#include "ctl/daemon/supervisor_impl.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "ctl/conf/settings.h"
#include "ctl/conf/sources.h"
#include "ctl/daemon/change.h"
#include "ctl/daemon/channel.h"

static int use(struct supervisor *s, struct daemon_options *next, struct sockdiag_list *ret_older,
               char text[CHANGE_TEXT_LEN])
{
    struct ingress_policy ingress;
    int err = settings_test(next, text);

    settings_ingress(next, &ingress);
    int hooked = netcfg_hooked(s->cfg);
    if (!err)
        err = netcfg_change(s->cfg, &ingress, ret_older, text);
    if (netcfg_hooked(s->cfg) != hooked)
        supervisor_tell_links(s);
    if (err) {
        settings_done(next);
        return err;
    }
    settings_done(&s->now);
    s->now = *next;
    log_info("policy %s, %zu rules", policy_name(s->now.policy), s->now.rule_cnt);
    return 0;
}

/* Return: 0; -errno and a sentence: nothing has changed. */
static int change(struct supervisor *s, const char *request, struct sockdiag_list *ret_older,
                  char text[CHANGE_TEXT_LEN])
{
    struct daemon_options next;
    int err;

    if (request)
        err = change_make(s->opts, request, &next, text);
    else
        err = sources_reload(s->opts->sources, s->opts, &next, text);
    if (!err)
        err = use(s, &next, ret_older, text);
    if (err)
        log_error("cannot change the settings: %s", text);
    return err;
}

/* The worker waits for it. */
void supervisor_on_change(struct supervisor *s, const char *request)
{
    struct supervisor_message m = {.event = SUPERVISOR_ANSWER};
    struct sockdiag_list older = {.cnt = 0};
    struct change_answer *a = &m.answer;

    sdnotify_reloading(s->opts->notify);
    a->err = change(s, request, &older, a->text);
    supervisor_tell_ready(s);
    int fd = a->err ? -1 : change_store(s->opts, &older);
    if (!a->err && fd < 0) {
        a->err = fd;
        snprintf(a->text, sizeof(a->text), "cannot hand the settings over: %s", strerror(-fd));
    }
    int err = channel_send(s->channel, &m, sizeof(m), &fd, fd >= 0);
    if (err)
        log_error("cannot answer the worker: %s", strerror(-err));
    if (fd >= 0)
        close(fd);
    supervisor_add_older(s, &older);
}

/* The worker asks then, so that it stands still meanwhile. */
void supervisor_on_hangup(struct supervisor *s)
{
    struct supervisor_message m = {.event = SUPERVISOR_RELOAD};
    struct sockdiag_list older = {.cnt = 0};
    char text[CHANGE_TEXT_LEN];

    if (s->channel >= 0)
        (void)channel_send(s->channel, &m, sizeof(m), NULL, 0);
    else
        (void)change(s, NULL, &older, text);
    supervisor_add_older(s, &older);
}
