/* SPDX-License-Identifier: BSD-3-Clause
 * The options that up and exec share.
 */
#include "ctl/attach.h"

#include <errno.h>
#include <getopt.h>
#include <string.h>

#define SECONDS_MAX (24 * 60 * 60)

static void read_bypass(const struct cli_verb *verb, const char *text, struct bypass *ret)
{
    int err = bypass_parse(text, ret);

    if (err == -E2BIG)
        cli_usage(verb, "more than %d port ranges", BYPASS_MAX_CNT);
    if (err)
        cli_usage(verb, "\"%s\" is no list of ports", text);
}

static void check_suite(const struct cli_verb *verb, int err, const char *bad, size_t len,
                        const char *names)
{
    if (err == -EEXIST)
        cli_usage(verb, "\"%.*s\" comes twice", (int)len, bad);
    if (err)
        cli_usage(verb, "\"%.*s\" is none of %s", (int)len, bad, names);
}

static void read_teps(const struct cli_verb *verb, const char *text, struct session_config *cfg)
{
    const char *bad = NULL;
    size_t len = 0;
    int err = suites_parse_teps(text, cfg, &bad, &len);

    check_suite(verb, err, bad, len, SUITES_TEP_NAMES);
}

static void read_aeads(const struct cli_verb *verb, const char *text, struct session_config *cfg)
{
    const char *bad = NULL;
    size_t len = 0;
    int err = suites_parse_aeads(text, cfg, &bad, &len);

    check_suite(verb, err, bad, len, SUITES_AEAD_NAMES);
}

static void read_app_aware(const struct cli_verb *verb, const char *text,
                           struct session_config *cfg)
{
    bool mandatory = strcmp(text, "mandatory") == 0;
    bool on = mandatory || strcmp(text, "on") == 0;

    if (!on && strcmp(text, "off") != 0)
        cli_usage(verb, "\"%s\" is none of off, on, mandatory", text);
    cfg->app_aware = on;
    cfg->mandatory_app_aware = mandatory;
}

static unsigned read_seconds(const struct cli_verb *verb, const char *what)
{
    return (unsigned)cli_number(verb, what, optarg, 1, SECONDS_MAX);
}

bool attach_read_option(const struct cli_verb *verb, int id, struct daemon_options *opts)
{
    switch (id) {
    case OPT_POLICY:
        opts->policy = cli_policy(verb, optarg);
        return true;
    case OPT_BYPASS:
        read_bypass(verb, optarg, &opts->bypass);
        return true;
    case OPT_TEP:
        read_teps(verb, optarg, &opts->session);
        return true;
    case OPT_AEAD:
        read_aeads(verb, optarg, &opts->session);
        return true;
    case OPT_NO_RESUME:
        opts->session.no_resume = opts->session.no_cache = true;
        return true;
    case OPT_KEEPALIVE:
        opts->keepalive_s = read_seconds(verb, "keep-alive time");
        return true;
    case OPT_REKEY_BYTES:
        opts->session.rekey_bytes =
            (uint64_t)cli_number(verb, "number of bytes", optarg, 1, SESSION_REKEY_BYTES_MAX);
        return true;
    case OPT_APP_AWARE:
        read_app_aware(verb, optarg, &opts->session);
        return true;
    case OPT_FALLBACK_TIME:
        opts->fallback_s = read_seconds(verb, "fallback time");
        return true;
    case OPT_CTL:
        opts->ctl = cli_place(verb, optarg);
        return true;
    case OPT_LOG:
        opts->log_path = optarg;
        return true;
    default:
        return false;
    }
}

const char *attach_app_aware_name(const struct session_config *cfg)
{
    return cfg->mandatory_app_aware ? "mandatory" : cfg->app_aware ? "on" : "off";
}
