/* SPDX-License-Identifier: BSD-3-Clause
 * Where the daemon's options come from: the command line and the configuration file.
 */
#include "ctl/conf/sources.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "ctl/conf/settings.h"

/* --- Keys ------------------------------------------------------------------------ */

/* What only makes sense where the program is called. */
static bool is_key(const struct cli_option *o)
{
    return o->id != OPT_CONFIG && o->id != OPT_READY_FD;
}

/* Return: the option with that name; NULL when there is none, or it is no key. */
static const struct cli_option *find_option(const struct cli_verb *verb, const char *key)
{
    for (const struct cli_option *o = verb->options; o->id != OPT_END; o++)
        if (is_key(o) && strcmp(o->name, key) == 0)
            return o;
    return NULL;
}

static int check_key(const char *key, char err[CONFIG_ERROR_LEN])
{
    const struct cli_verb *up = cli_verb_find("up");
    size_t n;

    if (find_option(up, key))
        return 0;
    n = (size_t)snprintf(err, CONFIG_ERROR_LEN, "\"%.60s\" is no key; there are", key);
    for (const struct cli_option *o = up->options; o->id != OPT_END; o++)
        if (is_key(o) && n < CONFIG_ERROR_LEN)
            n += (size_t)snprintf(err + n, CONFIG_ERROR_LEN - n, " %s", o->name);
    return -EINVAL;
}

static bool is_rule(const struct config_item *i)
{
    return i->rule || strcmp(i->key, "rule") == 0;
}

/* --- Rules ----------------------------------------------------------------------- */

static int add_rules(const struct config *c, struct daemon_options *opts, unsigned *ret_line,
                     char err[CONFIG_ERROR_LEN])
{
    int e = 0;

    for (size_t i = 0; i < c->item_cnt && !e;) {
        struct policy_rule rule;

        *ret_line = c->items[i].line;
        if (c->items[i].rule) {
            e = config_rule(c, &i, &rule, ret_line, err);
            e = e ? e : settings_add_rule(opts, &rule, err);
            continue;
        }
        if (is_rule(&c->items[i]))
            e = settings_set(opts, "rule", c->items[i].value, err);
        i++;
    }
    return e;
}

/* The file's rules behind those of the command line, which are there; the order within each
 * must be right. *ret_line: 0 when no line is at fault. */
static int join_rules(const struct config *c, struct daemon_options *opts, unsigned *ret_line,
                      char err[CONFIG_ERROR_LEN])
{
    size_t given_cnt = opts->rule_cnt;
    int e = add_rules(c, opts, ret_line, err);

    if (e)
        return e;
    *ret_line = 0;
    e = ruletext_check(opts->rules, given_cnt, err);
    if (!e)
        e = ruletext_check(opts->rules + given_cnt, opts->rule_cnt - given_cnt, err);
    if (e)
        return e;
    settings_bypass_first(opts);
    return ruletext_check(opts->rules, opts->rule_cnt, err);
}

/* --- The start ------------------------------------------------------------------- */

static void add_flag(struct sources *s, int id)
{
    struct sources_flag *flags = reallocarray(s->flags, s->flag_cnt + 1, sizeof(*flags));
    const struct cli_option *o = s->verb->options;

    if (!flags)
        die(EXIT_NEGATIVE, "out of memory");
    while (o->id != id)
        o++;
    s->flags = flags;
    flags[s->flag_cnt++] = (struct sources_flag){id, o->name, optarg};
}

static void set_path(struct sources *s)
{
    const char *given = NULL;
    char path[PATH_MAX];

    for (size_t i = 0; i < s->flag_cnt; i++)
        if (s->flags[i].id == OPT_CONFIG)
            given = s->flags[i].value;
    if (!given && access(CONFIG_DEFAULT, F_OK) != 0)
        return;
    if (given && !realpath(given, path))
        cli_usage(s->verb, "cannot read %s: %s", given, strerror(errno));
    s->path = strdup(given ? path : CONFIG_DEFAULT);
    if (!s->path)
        die(EXIT_NEGATIVE, "out of memory");
}

/* How often a flag is given: "yes", "no" or, for more of it, a digit. */
static int count_of(const struct sources *s, const char *key, const char *value)
{
    if (strcmp(value, "yes") == 0 || strcmp(value, "no") == 0)
        return value[0] == 'y';
    if (value[0] < '0' || value[0] > '9' || value[1])
        cli_usage(s->verb, "%s: \"%.60s\" is none of yes, no, or a digit: how often", key, value);
    return value[0] - '0';
}

static bool is_given(const struct sources *s, const char *key)
{
    for (size_t i = 0; i < s->flag_cnt; i++)
        if (strcmp(s->flags[i].name, key) == 0)
            return true;
    return false;
}

static void read_item(const struct sources *s, const struct config_item *item,
                      void (*read)(void *arg, int id), void *arg)
{
    const struct cli_option *o = find_option(s->verb, item->key);
    char err[CONFIG_ERROR_LEN];

    if (check_key(item->key, err) < 0)
        cli_usage(s->verb, "%s", err);
    if (!o || is_given(s, item->key))
        return; /* of up, but not of exec; or the command line wins */
    bool has_value = o->arg || settings_has(item->key);
    int cnt = has_value ? 1 : count_of(s, item->key, item->value);
    for (int i = 0; i < cnt; i++) {
        optarg = has_value ? item->value : NULL;
        read(arg, o->id);
    }
}

static void read_file(struct sources *s, void (*read)(void *arg, int id), void *arg)
{
    char place[PATH_MAX + 16], err[CONFIG_ERROR_LEN];

    if (config_read(s->path, &s->config, err) < 0)
        cli_usage(s->verb, "%s", err);
    cli_set_place(place);
    for (size_t i = 0; i < s->config.item_cnt; i++) {
        const struct config_item *item = &s->config.items[i];
        snprintf(place, sizeof(place), "%s:%u", s->path, item->line);
        if (!is_rule(item))
            read_item(s, item, read, arg);
    }
    cli_set_place(NULL);
}

static void read_file_rules(struct sources *s, struct daemon_options *opts)
{
    char err[CONFIG_ERROR_LEN], place[16] = "";
    unsigned line = 0;

    if (join_rules(&s->config, opts, &line, err) == 0)
        return;
    if (line)
        snprintf(place, sizeof(place), ":%u", line);
    cli_usage(s->verb, "%s%s%s%s", s->path ? s->path : "", place, s->path ? ": " : "", err);
}

void sources_read(struct sources *s, const struct cli_verb *verb, int argc, char **argv,
                  void (*read)(void *arg, int id), void *arg, struct daemon_options *opts)
{
    int id;

    *s = (struct sources){.verb = verb};
    while ((id = cli_next(verb, argc, argv)) != -1)
        add_flag(s, id);
    set_path(s);
    if (s->path)
        read_file(s, read, arg);
    for (size_t i = 0; i < s->flag_cnt; i++) {
        optarg = (char *)(uintptr_t)s->flags[i].value;
        if (s->flags[i].id != OPT_CONFIG)
            read(arg, s->flags[i].id);
    }
    read_file_rules(s, opts);
    opts->sources = s;
}

/* --- Once more ------------------------------------------------------------------- */

static int set_item(const struct sources *s, const struct config_item *item,
                    struct daemon_options *opts, char err[CONFIG_ERROR_LEN])
{
    int e = is_rule(item) ? 0 : check_key(item->key, err);

    if (e || is_rule(item) || is_given(s, item->key))
        return e;
    e = settings_set(opts, item->key, item->value, err);
    return e == -ENOENT ? 0 : e;
}

static int set_all(const struct sources *s, const struct config *c, struct daemon_options *opts,
                   char err[CONFIG_ERROR_LEN])
{
    char why[CONFIG_ERROR_LEN];
    unsigned line = 0;
    int e = 0;

    for (size_t i = 0; i < c->item_cnt && !e; i++) {
        line = c->items[i].line;
        e = set_item(s, &c->items[i], opts, why);
    }
    for (size_t i = 0; i < s->flag_cnt && !e; i++) {
        const struct sources_flag *f = &s->flags[i];
        if (settings_has(f->name))
            e = settings_set(opts, f->name, f->value ? f->value : "yes", why);
    }
    e = e ? e : join_rules(c, opts, &line, why);
    if (e && line)
        snprintf(err, CONFIG_ERROR_LEN, "%s:%u: %.400s", s->path, line, why);
    else if (e)
        snprintf(err, CONFIG_ERROR_LEN, "%s: %.400s", s->path, why);
    return e;
}

static const char *value_of(const struct config *c, const char *key)
{
    for (size_t i = 0; i < c->item_cnt; i++)
        if (!c->items[i].rule && strcmp(c->items[i].key, key) == 0)
            return c->items[i].value;
    return NULL;
}

/* Of those keys that are in a, those that are not so in b. */
static void warn_of_changes(const struct config *a, const struct config *b, bool both)
{
    for (size_t i = 0; i < a->item_cnt; i++) {
        const struct config_item *item = &a->items[i];
        if (is_rule(item) || settings_has(item->key))
            continue;
        const char *other = value_of(b, item->key);
        if (!other || (both && strcmp(other, item->value) != 0))
            log_warn("configuration: %s is read at the start only", item->key);
    }
}

int sources_reload(struct sources *s, const struct daemon_options *opts, struct daemon_options *ret,
                   char err[CONFIG_ERROR_LEN])
{
    struct config c = {.items = NULL};
    struct daemon_options fresh;

    if (!s || !s->path) {
        snprintf(err, CONFIG_ERROR_LEN, "the daemon was started without a configuration file");
        return -ENOENT;
    }
    int e = config_read(s->path, &c, err);
    if (e)
        return e;
    daemon_options_init(&fresh);
    e = set_all(s, &c, &fresh, err);
    if (e) {
        settings_done(&fresh);
    } else {
        warn_of_changes(&c, &s->config, true);
        warn_of_changes(&s->config, &c, false);
        *ret = *opts;
        settings_move(ret, &fresh);
    }
    config_done(&c);
    return e;
}
