/* SPDX-License-Identifier: BSD-3-Clause
 * The verb watch: what happens to connections, as it happens.
 */
#include "ctl/cli/verbs.h"

#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "ctl/cli/query.h"
#include "ctl/cli/session_filter.h"
#include "ctl/cli/session_text.h"
#include "ctl/cli/term.h"
#include "ctl/daemon/ns1.h"

#define RETRY_PAUSE_US 50000
#define RETRY_CNT      100 /* a worker that dies often is replaced after seconds */
#define LINE_LEN       400
#define NAME_WIDTH     9 /* "encrypted" */

struct watch {
    struct query query;
    struct session_filter filter;
    struct term term;
    bool was_there; /* this is not the first connection to the daemon */
};

/* --- Text ------------------------------------------------------------------- */

static void append(char *line, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void append(char *line, const char *fmt, ...)
{
    size_t len = strlen(line);
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(line + len, LINE_LEN - len, fmt, ap);
    va_end(ap);
}

static void append_end(const json_t *s, char *line)
{
    char word[SESSION_TEXT_LEN], tx[SESSION_TEXT_LEN], rx[SESSION_TEXT_LEN];
    double lasted = json_real_value(json_object_get(s, "ended")) -
                    json_real_value(json_object_get(s, "started"));

    append(line, "  %s", session_text_word(s, "end", word));
    if (json_object_get(s, "error"))
        append(line, " %s", session_text_word(s, "error", word));
    append(line, "  %s", session_text_word(s, "reason", word));
    append(line, "  %s bytes sent, %s received, %.1f s",
           session_text_bytes(s, "tx_bytes", false, tx),
           session_text_bytes(s, "rx_bytes", false, rx), lasted);
}

static void append_crypto(const json_t *s, char *line)
{
    static const char *const keys[] = {"tep", "aead", "session_id"};
    char word[SESSION_TEXT_LEN];

    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
        append(line, "  %s", session_text_word(s, keys[i], word));
}

/* What comes behind the event's name. */
static void describe(const char *name, const json_t *s, char *line)
{
    char local[SESSION_TEXT_LEN], peer[SESSION_TEXT_LEN], word[SESSION_TEXT_LEN];
    const char *dir = json_string_value(json_object_get(s, "dir"));

    append(line, "  %s %s %s", session_text_end(s, "local", local),
           dir && strcmp(dir, "in") == 0 ? "<-" : "->", session_text_end(s, "peer", peer));
    if (strcmp(name, "ended") == 0) {
        append_end(s, line);
        return;
    }
    if (strcmp(name, "opened") != 0)
        append(line, "  %s", session_text_word(s, "reason", word));
    if (strcmp(name, "encrypted") == 0)
        append_crypto(s, line);
}

static enum term_colour colour_of(const char *name, const json_t *s)
{
    const char *end = json_string_value(json_object_get(s, "end"));
    bool ended = strcmp(name, "ended") == 0;

    if (strcmp(name, "lost") == 0)
        return TERM_BAD;
    return session_text_colour(ended && end ? end : name);
}

/* HH:MM:SS.mmm, local time. */
static void format_clock(const json_t *event, char out[16])
{
    double at = json_real_value(json_object_get(event, "time"));
    time_t t = (time_t)at;
    struct tm tm;

    if (!localtime_r(&t, &tm) || strftime(out, 16, "%T", &tm) == 0)
        strcpy(out, "-");
    snprintf(out + strlen(out), 16 - strlen(out), ".%03d", (int)((at - (double)t) * 1000) % 1000);
}

/* A line is not longer than the terminal is wide. */
static void print_line(const struct watch *w, const char *clock, const char *name,
                       enum term_colour colour, const char *rest)
{
    int left = w->term.width - (int)strlen(clock) - 2 - NAME_WIDTH;

    if (w->term.width == 0 || left > (int)strlen(rest))
        left = (int)strlen(rest);
    if (left < 0)
        left = 0;
    printf("%s  %s%-*s%s%.*s\n", clock, term_colour(&w->term, colour), NAME_WIDTH, name,
           colour == TERM_PLAIN ? "" : term_colour(&w->term, TERM_PLAIN), left, rest);
}

static void print_text(const struct watch *w, const json_t *event)
{
    const json_t *s = json_object_get(event, "session");
    char line[LINE_LEN] = "", clock[16], name[16], text[200];

    query_text(event, "event", name, sizeof(name));
    query_text(event, "text", text, sizeof(text));
    format_clock(event, clock);
    if (s)
        describe(name, s, line);
    else if (strcmp(name, "lost") == 0)
        append(line, "  %lld events: this reader is too slow",
               (long long)json_integer_value(json_object_get(event, "count")));
    else
        append(line, "  %s", text);
    print_line(w, clock, name, colour_of(name, s), line);
}

static void print_json(json_t *event)
{
    json_object_set_new(event, "version", json_integer(1));
    json_dumpf(event, stdout, JSON_COMPACT);
    putchar('\n');
}

/* --- Events ----------------------------------------------------------------- */

/* The daemon's first word. Not worth a line; the second time something was missed. */
static void on_watching(struct watch *w, json_t *event)
{
    if (w->was_there) {
        json_object_set_new(event, "event", json_string("daemon"));
        json_object_set_new(event, "text",
                            json_string("the daemon is there again; events may be missing"));
    }
    if (w->was_there || w->query.json) {
        if (w->query.json)
            print_json(event);
        else
            print_text(w, event);
    }
    w->was_there = true;
}

static void on_event(struct watch *w, json_t *event)
{
    const json_t *s = json_object_get(event, "session");
    const char *name = json_string_value(json_object_get(event, "event"));

    if (name && strcmp(name, "watching") == 0)
        on_watching(w, event);
    else if (s && !session_filter_has(&w->filter, s))
        return;
    else if (w->query.json)
        print_json(event);
    else
        print_text(w, event);
    if (fflush(stdout) != 0)
        die(EXIT_NEGATIVE, "cannot write: %s", strerror(errno));
}

/* Return: when the daemon hung up. */
static void follow(struct watch *w)
{
    struct ctlclient *c = &w->query.client;
    char error[CTLCLIENT_ERROR_LEN];
    json_t *event;

    int err = ctlclient_call(c, NS1_INTERFACE ".Watch", NULL, true);
    ctlclient_set_patience(c, 0);
    while (!err) {
        event = NULL;
        err = ctlclient_next(c, &event, NULL, error);
        if (!err)
            on_event(w, event);
        json_decref(event);
    }
    if (err == -EREMOTEIO)
        die(EXIT_NEGATIVE, "the daemon of \"%s\" says %s", w->query.netns, error);
}

/* Return: whether the daemon, or its next worker, is there again. */
static bool reconnect(struct watch *w)
{
    int err = -ECONNREFUSED;

    ctlclient_done(&w->query.client);
    for (int i = 0; i < RETRY_CNT; i++) {
        usleep(RETRY_PAUSE_US);
        err = query_try_connect(&w->query);
        if (err == 0 || err == -ECONNREFUSED)
            break; /* while a worker is replaced the doors stay open */
    }
    return err == 0;
}

int watch_main(int argc, char **argv)
{
    struct watch w = {.term = term_stdout()};
    int id;

    query_begin(&w.query, "watch");
    while ((id = cli_next(w.query.verb, argc, argv)) != -1)
        if (!query_read_option(&w.query, id))
            session_filter_read_option(&w.filter, w.query.verb, id);
    query_connect(&w.query);
    do
        follow(&w);
    while (reconnect(&w));
    die(EXIT_UNREACHABLE, "the daemon of \"%s\" has gone", w.query.netns);
}
