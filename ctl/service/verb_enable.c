/* SPDX-License-Identifier: BSD-3-Clause
 * The verbs enable and disable: a service of systemd in an encrypted namespace of its own.
 * How it works is in dropin.h.
 */
#include "ctl/cli/verbs.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ctl/cli/cli.h"
#include "ctl/net/netns.h"
#include "ctl/service/dropin.h"
#include "ctl/service/systemctl.h"

#define SOCKETS_MAX_CNT 16
#define VALUE_LEN       4096

struct request {
    const struct cli_verb *verb;
    const char *operand;
    const char *name; /* of the namespace */
    struct publish publish;
    char publish_text[PUBLISH_MAX_CNT * 70]; /* as options of "netns" */
    bool now, all;
    char unit[DROPIN_UNIT_MAX_LEN + 1];
};

/* --- What both begin with ------------------------------------------------------------ */

static void need_systemd(const char *verb)
{
    if (geteuid() != 0)
        die(EXIT_PERMISSION, "%s needs root", verb);
    if (!systemctl_booted())
        die(EXIT_NEGATIVE, "systemd is not the service manager here");
}

static bool ends_with(const char *text, const char *end)
{
    size_t len = strlen(text), end_len = strlen(end);

    return len > end_len && strcmp(text + len - end_len, end) == 0;
}

/* "nginx" is nginx.service, as systemctl has it. */
static void read_unit(struct request *r)
{
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:-_.\\@";
    const char *at = strchr(r->operand, '@');
    static const char *const others[] = {".socket",    ".target", ".timer", ".mount", ".path",
                                         ".automount", ".swap",   ".scope", ".slice", ".device"};

    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
        if (ends_with(r->operand, others[i]))
            cli_usage(r->verb, "\"%s\" is not a service", r->operand);
    size_t len = strlen(r->operand);
    if (len == 0 || len > DROPIN_UNIT_MAX_LEN - strlen("tcpcrypt-ns-netns@.service") ||
        strspn(r->operand, allowed) != len)
        cli_usage(r->verb, "\"%s\" is not the name of a unit", r->operand);
    snprintf(r->unit, sizeof(r->unit), "%s%s", r->operand,
             ends_with(r->operand, ".service") ? "" : ".service");
    if (at && (at[1] == '\0' || strcmp(at + 1, ".service") == 0))
        cli_usage(r->verb, "\"%s\" is a template; name one of its instances", r->operand);
    if (strncmp(r->unit, "tcpcrypt-ns", strlen("tcpcrypt-ns")) == 0)
        cli_usage(r->verb, "\"%s\" is a unit of tcpcrypt-ns itself", r->operand);
}

static void get(const char *unit, const char *property, char ret[VALUE_LEN])
{
    int err = systemctl_property(unit, property, ret, VALUE_LEN);

    if (err)
        die(EXIT_NEGATIVE, "systemctl does not tell about %s: %s", unit, strerror(-err));
}

static bool is_active(const char *unit)
{
    char state[VALUE_LEN];

    get(unit, "ActiveState", state);
    return strcmp(state, "active") == 0 || strcmp(state, "activating") == 0 ||
           strcmp(state, "reloading") == 0;
}

/* Runs systemctl with a verb and a unit; NULL: without one. */
static void run(const char *verb, const char *unit)
{
    const char *words[] = {verb, unit, NULL};

    int status = systemctl(words);
    if (status < 0)
        die(EXIT_NEGATIVE, "systemctl: %s", strerror(-status));
    if (status > 0)
        die(EXIT_NEGATIVE, "\"systemctl %s%s%s\" failed", verb, unit ? " " : "", unit ? unit : "");
}

/* The unit's own name, when it was called by an alias. */
static void read_id(struct request *r)
{
    char id[VALUE_LEN];

    get(r->unit, "Id", id);
    if (ends_with(id, ".service"))
        snprintf(r->unit, sizeof(r->unit), "%.*s", DROPIN_UNIT_MAX_LEN, id);
}

/* --- Sockets ------------------------------------------------------------------------- */

struct sockets {
    char text[VALUE_LEN]; /* cut into words */
    const char *units[SOCKETS_MAX_CNT];
    size_t cnt;
};

/* Those by which systemd starts the service: it listens in their place, so they must be in
 * the namespace as well. */
static void find_sockets(const char *unit, struct sockets *ret)
{
    char *save = NULL;

    *ret = (struct sockets){.cnt = 0};
    get(unit, "TriggeredBy", ret->text);
    for (char *w = strtok_r(ret->text, " ", &save); w; w = strtok_r(NULL, " ", &save)) {
        if (!ends_with(w, ".socket"))
            continue;
        if (ret->cnt == SOCKETS_MAX_CNT)
            die(EXIT_NEGATIVE, "%s has more than %d sockets", unit, SOCKETS_MAX_CNT);
        ret->units[ret->cnt++] = w;
    }
}

/* --- enable -------------------------------------------------------------------------- */

static void need_loaded(const char *unit)
{
    char state[VALUE_LEN];

    get(unit, "LoadState", state);
    if (strcmp(state, "not-found") == 0)
        die(EXIT_NEGATIVE, "there is no unit %s", unit);
    if (strcmp(state, "loaded") != 0)
        die(EXIT_NEGATIVE, "systemd cannot load %s: %s", unit, state);
}

static void check_unit(const char *unit)
{
    char value[VALUE_LEN], name[DROPIN_UNIT_MAX_LEN + 1];

    need_loaded(unit);
    get(unit, "PrivateNetwork", value);
    if (strcmp(value, "yes") == 0)
        die(EXIT_NEGATIVE, "%s has a network of its own already (PrivateNetwork=)", unit);
    get(unit, "NetworkNamespacePath", value);
    if (value[0] && !dropin_read(unit, name))
        die(EXIT_NEGATIVE, "%s is in the namespace %s already (NetworkNamespacePath=)", unit,
            value);
}

static void check_carriers(const char *name)
{
    char unit[DROPIN_UNIT_MAX_LEN + 1];

    dropin_netns_unit(name, unit);
    need_loaded(unit);
    dropin_daemon_unit(name, unit);
    need_loaded(unit);
}

static void written(int err, const char *unit)
{
    if (err == -EEXIST)
        die(EXIT_NEGATIVE, DROPIN_UNITS "/%s.d/" DROPIN_FILE " is not ours; it stays as it is",
            unit);
    if (err)
        die(cli_exit_code(err), "cannot write " DROPIN_UNITS "/%s.d/" DROPIN_FILE ": %s", unit,
            strerror(-err));
}

static void read_enable(struct request *r, int argc, char **argv)
{
    int id;

    while ((id = cli_next(r->verb, argc, argv)) != -1) {
        if (id == OPT_NAME)
            r->name = optarg;
        else if (id == OPT_NOW)
            r->now = true;
        if (id != OPT_PUBLISH)
            continue;
        size_t len = strlen(r->publish_text);
        cli_publish(r->verb, optarg, &r->publish);
        snprintf(r->publish_text + len, sizeof(r->publish_text) - len, "%s--publish %s",
                 len > 0 ? " " : "", optarg);
    }
    r->operand = cli_operand(r->verb, argc, argv);
    if (!r->operand)
        cli_usage(r->verb, "which unit?");
    read_unit(r);
}

static void restart_members(const struct request *r, const struct sockets *sockets, bool was_active)
{
    if (was_active)
        run("stop", r->unit);
    for (size_t i = 0; i < sockets->cnt; i++)
        if (is_active(sockets->units[i]))
            run("restart", sockets->units[i]);
    if (was_active)
        run("start", r->unit);
}

/* Published ports are the namespace's: without new ones those of before stay. */
static void write_carriers(const struct request *r)
{
    char unit[DROPIN_UNIT_MAX_LEN + 1];

    dropin_netns_unit(r->name, unit);
    if (r->publish.cnt > 0 || !dropin_exists(unit))
        written(dropin_write_netns(r->name, r->publish_text), unit);
    dropin_daemon_unit(r->name, unit);
    written(dropin_write_daemon(r->name), unit);
}

int enable_main(int argc, char **argv)
{
    struct request r = {.verb = cli_verb_find("enable")};
    char own[DROPIN_UNIT_MAX_LEN + 1], before[DROPIN_UNIT_MAX_LEN + 1];
    struct sockets sockets;

    read_enable(&r, argc, argv);
    need_systemd("enable");
    read_id(&r);
    snprintf(own, sizeof(own), "%.*s", (int)(strlen(r.unit) - strlen(".service")), r.unit);
    if (!r.name)
        r.name = own;
    if (!netns_is_name(r.name) || strlen(r.name) > DROPIN_UNIT_MAX_LEN - 40 ||
        r.name[strcspn(r.name, " \t\n%\"'")])
        cli_usage(r.verb, "\"%s\" cannot be the name of a namespace", r.name);
    check_unit(r.unit);
    check_carriers(r.name);
    if (dropin_read(r.unit, before) && strcmp(before, r.name) != 0)
        die(EXIT_NEGATIVE, "%s is enabled in the namespace \"%s\" already; disable it first",
            r.unit, before);
    find_sockets(r.unit, &sockets);
    for (size_t i = 0; i < sockets.cnt; i++)
        check_unit(sockets.units[i]);

    write_carriers(&r);
    for (size_t i = 0; i < sockets.cnt; i++)
        written(dropin_write_member(sockets.units[i], r.name), sockets.units[i]);
    written(dropin_write_member(r.unit, r.name), r.unit);
    run("daemon-reload", NULL);
    bool active = is_active(r.unit);
    if (r.now)
        restart_members(&r, &sockets, active);
    printf("%s: %s the namespace \"%s\"\n", r.unit,
           active && !r.now ? "with its next start it is in"
           : active         ? "is in"
                            : "will be in",
           r.name);
    return EXIT_OK;
}

/* --- disable ------------------------------------------------------------------------- */

struct count {
    const char *name;
    size_t cnt;
};

static int count_member(const char *unit, const char *name, void *arg)
{
    struct count *c = arg;

    c->cnt += strcmp(name, c->name) == 0;
    return 0;
}

static void stop_quietly(const char *unit)
{
    if (is_active(unit))
        run("stop", unit);
}

/* Nobody is in there any more. */
static void remove_carriers(const char *name)
{
    char daemon[DROPIN_UNIT_MAX_LEN + 1], netns[DROPIN_UNIT_MAX_LEN + 1];

    dropin_daemon_unit(name, daemon);
    dropin_netns_unit(name, netns);
    stop_quietly(daemon);
    stop_quietly(netns);
    written(dropin_remove(daemon), daemon);
    written(dropin_remove(netns), netns);
}

static bool is_used(const char *name)
{
    struct count c = {.name = name};

    return dropin_each_member(count_member, &c) != 0 || c.cnt > 0;
}

static int disable_one(const struct request *r)
{
    char name[DROPIN_UNIT_MAX_LEN + 1], other[DROPIN_UNIT_MAX_LEN + 1];
    struct sockets sockets;

    if (!dropin_read(r->unit, name)) {
        printf("%s: was not enabled\n", r->unit);
        return EXIT_OK;
    }
    bool active = is_active(r->unit);
    if (active && !r->now)
        die(EXIT_NEGATIVE,
            "%s runs in the namespace \"%s\"; stop it first, or say --now to "
            "restart it outside",
            r->unit, name);
    find_sockets(r->unit, &sockets);
    written(dropin_remove(r->unit), r->unit);
    for (size_t i = 0; i < sockets.cnt; i++)
        if (dropin_read(sockets.units[i], other))
            written(dropin_remove(sockets.units[i]), sockets.units[i]);
    run("daemon-reload", NULL);
    restart_members(r, &sockets, active);
    if (!is_used(name)) {
        remove_carriers(name);
        run("daemon-reload", NULL);
    }
    printf("%s: %s\n", r->unit, active ? "runs outside again" : "is as it was");
    return EXIT_OK;
}

static int disable_next(const char *unit, const char *name, void *arg)
{
    struct request *r = arg;

    if (!ends_with(unit, ".service"))
        return 0; /* goes with its service */
    snprintf(r->unit, sizeof(r->unit), "%s", unit);
    return disable_one(r);
}

int disable_main(int argc, char **argv)
{
    struct request r = {.verb = cli_verb_find("disable")};
    int id;

    while ((id = cli_next(r.verb, argc, argv)) != -1) {
        r.all |= id == OPT_ALL;
        r.now |= id == OPT_NOW;
    }
    r.operand = cli_operand(r.verb, argc, argv);
    if (r.all == (r.operand != NULL))
        cli_usage(r.verb, r.all ? "--all or a unit, not both" : "which unit?");
    if (!r.all)
        read_unit(&r);
    need_systemd("disable");
    if (!r.all) {
        read_id(&r);
        return disable_one(&r);
    }
    int err = dropin_each_member(disable_next, &r);
    if (err)
        die(EXIT_NEGATIVE, "cannot read " DROPIN_UNITS ": %s", strerror(-err));
    return EXIT_OK;
}
