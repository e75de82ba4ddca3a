/* SPDX-License-Identifier: BSD-3-Clause
 * What the verb check prints.
 */
#include "ctl/check/check.h"

#include <stdarg.h>
#include <string.h>

#include "ctl/cli/cli.h"
#include "ctl/cli/term.h"

#define TEXT_LEN   512
#define NAME_WIDTH 12
#define INDENT     (4 + 2 + NAME_WIDTH + 1)

const char *check_level_name(enum check_level level)
{
    static const char *const names[CHECK_LEVEL_CNT] = {"ok", "warn", "fail"};

    return names[level];
}

static void print_line(enum check_level level, const char *name, const char *text, const char *fix)
{
    static const enum term_colour colours[CHECK_LEVEL_CNT] = {TERM_GOOD, TERM_WARN, TERM_BAD};
    struct term t = term_stdout();

    printf("%s%-4s%s  %-*s ", term_colour(&t, colours[level]), check_level_name(level),
           term_colour(&t, TERM_PLAIN), NAME_WIDTH, name);
    term_print_words(text, INDENT, t.width);
    if (fix)
        printf("%*sfix: %s\n", INDENT, "", fix); /* whole, so that it can be copied */
    fflush(stdout);
}

/* Texts hold names that others chose (interfaces, addresses in replies). */
static void make_printable(char *text)
{
    for (; *text; text++)
        if (*text < ' ' || *text > '~')
            *text = '?';
}

void check_say(struct check *c, enum check_level level, const char *name, const char *fix,
               const char *fmt, ...)
{
    char text[TEXT_LEN];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    make_printable(text);
    c->cnt[level]++;
    if (!c->is_json) {
        print_line(level, name, text, fix);
        return;
    }
    if (!c->lines)
        c->lines = json_array();
    json_array_append_new(c->lines, json_pack("{s:s, s:s, s:s, s:s*}", "name", name, "level",
                                              check_level_name(level), "text", text, "fix", fix));
}

const char *check_fix(char out[CHECK_FIX_LEN], const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(out, CHECK_FIX_LEN, fmt, ap);
    va_end(ap);
    make_printable(out);
    return out;
}

static void print_json(struct check *c, json_t *more)
{
    json_t *all = json_pack("{s:i, s:o, s:i, s:i, s:i}", "version", 1, "checks",
                            c->lines ? c->lines : json_array(), "ok", c->cnt[CHECK_OK], "warn",
                            c->cnt[CHECK_WARN], "fail", c->cnt[CHECK_FAIL]);

    c->lines = NULL;
    if (all && more)
        json_object_update(all, more);
    if (!all || json_dumpf(all, stdout, JSON_COMPACT) < 0)
        die(EXIT_NEGATIVE, "out of memory");
    putchar('\n');
    json_decref(all);
}

int check_finish(struct check *c, json_t *more)
{
    if (c->is_json)
        print_json(c, more);
    else
        printf("%u ok, %u to look at, %u failed\n", c->cnt[CHECK_OK], c->cnt[CHECK_WARN],
               c->cnt[CHECK_FAIL]);
    json_decref(more);
    return c->cnt[CHECK_FAIL] > 0 ? EXIT_NEGATIVE : EXIT_OK;
}
