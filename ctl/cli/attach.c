/* SPDX-License-Identifier: BSD-3-Clause
 * The options that up and exec share.
 */
#include "ctl/cli/attach.h"

#include <errno.h>
#include <getopt.h>
#include <string.h>

#include "ctl/conf/settings.h"

static const char *name_of(const struct cli_verb *verb, int id)
{
    const struct cli_option *o = verb->options;

    while (o->id != OPT_END && o->id != id)
        o++;
    return o->name;
}

static enum log_format read_log_format(const struct cli_verb *verb, const char *text)
{
    if (strcmp(text, "text") == 0)
        return LOG_FORMAT_TEXT;
    if (strcmp(text, "json") == 0)
        return LOG_FORMAT_JSON;
    if (strcmp(text, "journal") != 0)
        cli_usage(verb, "log format \"%s\" is none of text, json, journal", text);
    return LOG_FORMAT_JOURNAL;
}

bool attach_read_option(const struct cli_verb *verb, int id, struct daemon_options *opts)
{
    const char *name = name_of(verb, id);
    char err[SETTINGS_ERROR_LEN];

    if (id == OPT_CTL) {
        opts->ctl = cli_place(verb, optarg);
        return true;
    }
    if (id == OPT_KEYLOG) {
        opts->keylog_path = optarg;
        return true;
    }
    if (id == OPT_LOG_FORMAT) {
        opts->log_format = read_log_format(verb, optarg);
        return true;
    }
    if (id == OPT_LOG) {
        opts->log_path = optarg;
        return true;
    }
    int e = settings_set(opts, name, optarg ? optarg : "yes", err);
    if (e && e != -ENOENT)
        cli_usage(verb, "%s", err);
    return e == 0;
}

void attach_add_uplink(const struct cli_verb *verb, const char *name, struct links *ret)
{
    if (strlen(name) >= IFNAMSIZ)
        cli_usage(verb, "\"%s\" is too long for an interface", name);
    if (ret->cnt == TUNNEL_UPLINK_MAX_CNT)
        cli_usage(verb, "more than %d uplinks", TUNNEL_UPLINK_MAX_CNT);
    for (size_t i = 0; i < ret->cnt; i++)
        if (strcmp(ret->entries[i].name, name) == 0)
            cli_usage(verb, "\"%s\" comes twice", name);
    strcpy(ret->entries[ret->cnt++].name, name);
}
