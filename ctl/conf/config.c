/* SPDX-License-Identifier: BSD-3-Clause
 * The configuration file: sections of keys and values, as text.
 */
#include "ctl/conf/config.h"

#include <errno.h>
#include <fcntl.h>
#include <ini.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ctl/conf/ruletext.h"
#include "ctl/conf/settings.h"

#define BLANKS       " \t"
#define ITEM_MAX_CNT 16384

_Static_assert(CONFIG_ERROR_LEN > RULETEXT_ERROR_LEN, "a rule's error fits");

/* A file that is being read. */
struct reading {
    const char *text; /* what is left */
    size_t left;
    unsigned line;      /* the one that libinih has got last */
    bool is_continued;  /* it is indented */
    unsigned head_line; /* of the section */
    unsigned section;   /* as config_item's rule */
    bool has_daemon, in_daemon;
    struct config config;
    unsigned bad_line; /* of err; 0: none */
    char *err;
};

static int complain(char err[CONFIG_ERROR_LEN], const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

static int complain(char err[CONFIG_ERROR_LEN], const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(err, CONFIG_ERROR_LEN, fmt, ap);
    va_end(ap);
    return -EINVAL;
}

/* Only the first error is kept. */
static void fail_at(struct reading *r, unsigned line, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

static void fail_at(struct reading *r, unsigned line, const char *fmt, ...)
{
    va_list ap;

    if (r->bad_line)
        return;
    r->bad_line = line;
    va_start(ap, fmt);
    vsnprintf(r->err, CONFIG_ERROR_LEN, fmt, ap);
    va_end(ap);
}

/* --- Sections -------------------------------------------------------------------- */

/* Blanks around commas mean nothing in our lists; elsewhere, in a path say, they do. */
static char *copy_value(const struct reading *r, const char *key, const char *value)
{
    return r->section || settings_has(key) ? ruletext_squeeze(value) : strdup(value);
}

static void add_item(struct reading *r, const char *key, const char *value)
{
    struct config *c = &r->config;

    if (c->item_cnt == ITEM_MAX_CNT) {
        fail_at(r, r->line, "more than %d keys", ITEM_MAX_CNT);
        return;
    }
    struct config_item *items = reallocarray(c->items, c->item_cnt + 1, sizeof(*items));
    if (!items) {
        fail_at(r, r->line, "out of memory");
        return;
    }
    c->items = items;
    struct config_item *i = &items[c->item_cnt++];
    *i = (struct config_item){r->line, r->section, strdup(key), copy_value(r, key, value)};
    if (!i->key || !i->value)
        fail_at(r, r->line, "out of memory");
}

/* A rule without any key would vanish. */
static void check_last(struct reading *r)
{
    const struct config *c = &r->config;

    if (r->section && (c->item_cnt == 0 || c->items[c->item_cnt - 1].rule != r->section))
        fail_at(r, r->head_line, "the rule has no keys; it needs an action at least");
}

static void start_rule(struct reading *r, const char *name)
{
    if (r->config.rule_cnt == POLICY_RULE_MAX_CNT) {
        fail_at(r, r->line, "more than %d rules", POLICY_RULE_MAX_CNT);
        return;
    }
    r->section = (unsigned)++r->config.rule_cnt;
    r->in_daemon = false;
    if (*name)
        add_item(r, "name", name);
}

/* head: "[rule db]" and what may follow it. */
static void start_section(struct reading *r, const char *head)
{
    const char *name = head + 1 + strspn(head + 1, BLANKS);
    size_t len = strcspn(name, "]");
    char copy[CONFIG_LINE_LEN + 2];

    if (!name[len])
        return; /* libinih says what is wrong */
    while (len > 0 && strchr(BLANKS, name[len - 1]))
        len--;
    snprintf(copy, sizeof(copy), "%.*s", (int)len, name);
    check_last(r);
    r->head_line = r->line;
    if (strcmp(copy, "daemon") == 0) {
        if (r->has_daemon)
            fail_at(r, r->line, "[daemon] comes twice");
        r->has_daemon = r->in_daemon = true;
        r->section = 0;
    } else if (strncmp(copy, "rule", 4) == 0 && (!copy[4] || strchr(BLANKS, copy[4]))) {
        start_rule(r, copy + 4 + strspn(copy + 4, BLANKS));
    } else {
        fail_at(r, r->line, "no such section: [%.60s]; there are [daemon] and [rule NAME]", copy);
    }
}

/* --- Lines ----------------------------------------------------------------------- */

static void look_at(struct reading *r, const char *line, size_t len, size_t max_len)
{
    size_t blanks = strspn(line, BLANKS);
    char first = line[blanks];
    bool is_empty = !first || strchr("#;", first);

    r->is_continued = blanks > 0 && !is_empty;
    if (len > max_len && !is_empty)
        fail_at(r, r->line,
                "the line has more than %zu characters; go on in the next, which is to be indented",
                max_len);
    else if (first == '[' && blanks > 0)
        fail_at(r, r->line, "the head of a section must not be indented");
    else if (first == '[')
        start_section(r, line);
}

static size_t skip_mark(const struct reading *r)
{
    static const char mark[] = "\xef\xbb\xbf";

    return r->line == 0 && r->left >= 3 && memcmp(r->text, mark, 3) == 0 ? 3 : 0;
}

/* An ini_reader: as fgets(), but a long line is not split. */
static char *next_line(char *str, int num, void *stream)
{
    struct reading *r = stream;
    size_t mark_len = skip_mark(r), max_len = (size_t)num - 1;

    r->text += mark_len;
    r->left -= mark_len;
    if (r->left == 0 || r->bad_line)
        return NULL;
    const char *line = r->text, *end = memchr(line, '\n', r->left);
    size_t len = end ? (size_t)(end - line) : r->left;
    r->text += end ? len + 1 : len;
    r->left -= end ? len + 1 : len;
    r->line++;
    if (len > 0 && line[len - 1] == '\r')
        len--;
    if (memchr(line, '\0', len))
        fail_at(r, r->line, "there is a zero byte");
    size_t taken = len < max_len ? len : max_len;
    memcpy(str, line, taken);
    str[taken] = '\0';
    look_at(r, str, len, max_len < CONFIG_LINE_LEN ? max_len : CONFIG_LINE_LEN);
    return str;
}

/* --- Values ---------------------------------------------------------------------- */

/* libinih leaves comments behind a continued value. */
static void go_on(struct reading *r, const char *value)
{
    struct config *c = &r->config;
    struct config_item *i = &c->items[c->item_cnt - 1];
    size_t len = 0;
    char *joined = NULL, *squeezed = NULL;

    while (value[len] && !(value[len] == ';' && (len == 0 || strchr(BLANKS, value[len - 1]))))
        len++;
    if (asprintf(&joined, "%s %.*s", i->value, (int)len, value) >= 0) {
        squeezed = copy_value(r, i->key, joined);
        free(joined);
    }
    if (!squeezed) {
        fail_at(r, r->line, "out of memory");
        return;
    }
    free(i->value);
    i->value = squeezed;
}

static bool is_twice(const struct reading *r, const char *key)
{
    const struct config *c = &r->config;

    if (r->in_daemon && (strcmp(key, "rule") == 0 || strcmp(key, "uplink") == 0))
        return false;
    for (size_t i = c->item_cnt; i > 0 && c->items[i - 1].rule == r->section; i--)
        if (strcmp(c->items[i - 1].key, key) == 0)
            return true;
    return false;
}

/* Of the section that we are in. */
static bool has_value(const struct reading *r)
{
    const struct config *c = &r->config;

    return c->item_cnt > 0 && c->items[c->item_cnt - 1].line > r->head_line;
}

/* An ini_handler. */
static int on_value(void *user, const char *section, const char *key, const char *value)
{
    struct reading *r = user;

    if (r->bad_line)
        return 1;
    if (!r->in_daemon && !r->section)
        fail_at(r, r->line, "%.60s stands ahead of any section; [daemon] is missing", key);
    else if (r->is_continued && has_value(r))
        go_on(r, value);
    else if (is_twice(r, key))
        fail_at(r, r->line, "%.60s comes twice", key);
    else
        add_item(r, key, value);
    return 1;
}

int config_parse(const char *text, size_t len, struct config *ret, unsigned *ret_line,
                 char err[CONFIG_ERROR_LEN])
{
    struct reading r = {.text = text, .left = len, .err = err};
    int bad = ini_parse_stream(next_line, &r, on_value, &r);

    if (bad > 0 && (!r.bad_line || (unsigned)bad < r.bad_line)) {
        r.bad_line = (unsigned)bad;
        complain(err, "neither KEY = VALUE, nor [SECTION], nor a comment");
    }
    check_last(&r);
    if (r.bad_line) {
        *ret_line = r.bad_line;
        config_done(&r.config);
        return -EINVAL;
    }
    *ret = r.config;
    return 0;
}

void config_done(struct config *c)
{
    for (size_t i = 0; i < c->item_cnt; i++) {
        free(c->items[i].key);
        free(c->items[i].value);
    }
    free(c->items);
    *c = (struct config){.items = NULL};
}

/* --- Files ----------------------------------------------------------------------- */

/* Return: bytes; -errno; -EFBIG beyond CONFIG_MAX_LEN. */
static ssize_t read_all(int fd, char *text)
{
    size_t len = 0;

    for (;;) {
        ssize_t n = read(fd, text + len, CONFIG_MAX_LEN + 1 - len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            return (ssize_t)len;
        len += (size_t)n;
        if (len > CONFIG_MAX_LEN)
            return -EFBIG;
    }
}

int config_read(const char *path, struct config *ret, char err[CONFIG_ERROR_LEN])
{
    char why[CONFIG_ERROR_LEN] = "";
    unsigned line = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    int e = fd < 0 ? -errno : 0;
    char *text = e ? NULL : malloc(CONFIG_MAX_LEN + 1);
    ssize_t len = e ? e : text ? read_all(fd, text) : -ENOMEM;

    if (fd >= 0)
        close(fd);
    if (len < 0) {
        complain(err, "cannot read %s: %s", path, strerror((int)-len));
        e = (int)len;
    } else {
        e = config_parse(text, (size_t)len, ret, &line, why);
        if (e)
            complain(err, "%s:%u: %s", path, line, why);
    }
    free(text);
    return e;
}

int config_rule(const struct config *c, size_t *at, struct policy_rule *ret, unsigned *ret_line,
                char err[CONFIG_ERROR_LEN])
{
    struct ruletext t = {.seen = 0};
    unsigned rule = c->items[*at].rule;

    for (; *at < c->item_cnt && c->items[*at].rule == rule; ++*at) {
        const struct config_item *i = &c->items[*at];
        *ret_line = i->line;
        int e = ruletext_set(&t, i->key, i->value, err);
        if (e)
            return e;
    }
    return ruletext_finish(&t, ret, err);
}
