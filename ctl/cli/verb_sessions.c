/* SPDX-License-Identifier: BSD-3-Clause
 * The verb sessions: list the connections of a namespace, once or again and again.
 */
#include "ctl/cli/verbs.h"

#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "ctl/cli/connections.h"
#include "ctl/cli/query.h"
#include "ctl/cli/sessions_table.h"
#include "ctl/cli/term.h"

#define INTERVAL_DEFAULT_S 2
#define INTERVAL_MAX_S     86400
#define WATCH_FRAME_CNT    4 /* lines that are no rows: heading, empty, titles, "more" */

struct sessions {
    struct query query;
    struct session_filter filter;
    struct connections connections;
    bool watch;
    int interval_s; /* 0: not given */
};

/* --- Once ------------------------------------------------------------------- */

static void add_row(const json_t *s, void *arg)
{
    if (!sessions_table_add(arg, s))
        die(EXIT_NEGATIVE, "out of memory");
}

/* Return: the table, to be freed. */
static struct sessions_table *collect(struct sessions *v, const struct term *term)
{
    struct sessions_table *t = sessions_table_new(v->connections.ended, term);

    if (!t)
        die(EXIT_NEGATIVE, "out of memory");
    connections_each(&v->connections, add_row, t);
    return t;
}

static void print_table(struct sessions *v)
{
    struct term term = term_stdout();
    struct sessions_table *t = collect(v, &term);

    sessions_table_print(t, stdout, 0);
    sessions_table_print_summary(t, stdout);
    putchar('\n');
    sessions_table_free(t);
}

static void print_object(const json_t *s, void *arg)
{
    const char **between = arg;

    fputs(*between, stdout);
    json_dumpf(s, stdout, JSON_COMPACT);
    *between = ",\n";
}

/* docs/sessions.schema.json; one session a line, as they come: their number does not matter. */
static void print_json(struct sessions *v)
{
    const char *between = "\n";

    printf("{\"version\":1,\"sessions\":[");
    connections_each(&v->connections, print_object, &between);
    printf("]}\n");
}

/* --- Again and again -------------------------------------------------------- */

static volatile sig_atomic_t ended_by;
static struct termios old_mode;
static bool has_old_mode;

static void on_signal(int signo)
{
    if (signo != SIGWINCH)
        ended_by = signo;
}

/* Back to the screen that was there before us; also when we end with an error. */
static void leave_screen(void)
{
    fputs("\033[?25h\033[?1049l", stdout);
    fflush(stdout);
    if (has_old_mode)
        tcsetattr(STDIN_FILENO, TCSANOW, &old_mode);
}

static void enter_screen(void)
{
    const int signals[] = {SIGINT, SIGTERM, SIGHUP, SIGWINCH};
    const struct sigaction action = {.sa_handler = on_signal};

    for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
        sigaction(signals[i], &action, NULL);
    has_old_mode = tcgetattr(STDIN_FILENO, &old_mode) == 0;
    if (has_old_mode) {
        struct termios mode = old_mode;
        mode.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
        tcsetattr(STDIN_FILENO, TCSANOW, &mode);
    }
    atexit(leave_screen);
    fputs("\033[?1049h\033[?25l", stdout);
}

/* Each line is cleared behind its end, the rest of the screen at last: no flicker. */
static void show(char *text)
{
    const char *between = "\033[H";
    char *line;

    while ((line = strsep(&text, "\n")) && text) {
        printf("%s%s\033[K", between, line);
        between = "\n"; /* none behind the last: the screen would scroll */
    }
    fputs("\033[J", stdout);
    fflush(stdout);
}

static void draw(struct sessions *v)
{
    struct term term = term_stdout();
    struct sessions_table *t = collect(v, &term);
    size_t max = term.height > WATCH_FRAME_CNT + 1 ? (size_t)(term.height - WATCH_FRAME_CNT) : 1;
    time_t now = time(NULL);
    char clock[16], *text = NULL, *summary = NULL;
    size_t len;
    struct tm tm;

    FILE *out = open_memstream(&summary, &len);
    if (!out || !localtime_r(&now, &tm) || strftime(clock, sizeof(clock), "%T", &tm) == 0)
        die(EXIT_NEGATIVE, "out of memory");
    fprintf(out, "%s  %s  ", clock, v->query.netns);
    sessions_table_print_summary(t, out);
    fclose(out);
    out = open_memstream(&text, &len);
    if (!out)
        die(EXIT_NEGATIVE, "out of memory");
    fprintf(out, "%.*s\n\n", term.width, summary);
    sessions_table_print(t, out, max);
    fclose(out);
    show(text);
    free(text);
    free(summary);
    sessions_table_free(t);
}

/* Return: whether to go on; q ends it, any other key means "now". */
static bool await_next(int interval_s)
{
    struct pollfd p = {.fd = has_old_mode ? STDIN_FILENO : -1, .events = POLLIN};
    char key = 0;

    if (poll(&p, 1, interval_s * 1000) <= 0)
        return true;
    return read(STDIN_FILENO, &key, 1) == 1 && key != 'q';
}

static void watch_screen(struct sessions *v, int interval_s)
{
    enter_screen();
    do
        draw(v);
    while (await_next(interval_s) && !ended_by);
}

/* No terminal: one table behind the other. */
static void watch_lines(struct sessions *v, int interval_s)
{
    for (;;) {
        if (v->query.json)
            print_json(v);
        else
            print_table(v);
        if (!v->query.json)
            putchar('\n');
        if (fflush(stdout) != 0)
            die(EXIT_NEGATIVE, "cannot write: %s", strerror(errno));
        sleep((unsigned)interval_s);
    }
}

/* --- Options ---------------------------------------------------------------- */

static void read_options(struct sessions *v, int argc, char **argv)
{
    const struct cli_verb *verb = v->query.verb;
    int id;

    while ((id = cli_next(verb, argc, argv)) != -1) {
        if (query_read_option(&v->query, id) || session_filter_read_option(&v->filter, verb, id))
            continue;
        if (id == OPT_ALL)
            v->connections.all = true;
        else if (id == OPT_WATCH)
            v->watch = true;
        else if (id == OPT_INTERVAL)
            v->interval_s = (int)cli_number(verb, "interval", optarg, 1, INTERVAL_MAX_S);
    }
    if (v->query.ended && v->connections.all)
        cli_usage(verb, "--ended and --all do not go together");
    if (v->query.ended && v->filter.process)
        cli_usage(verb, "--ended and --process do not go together");
    if (v->interval_s && !v->watch)
        cli_usage(verb, "--interval goes with --watch");
}

int sessions_main(int argc, char **argv)
{
    struct sessions v = {.watch = false};

    query_begin(&v.query, "sessions");
    read_options(&v, argc, argv);
    query_connect(&v.query);
    v.connections.query = &v.query;
    v.connections.filter = &v.filter;
    v.connections.ended = v.query.ended;
    int interval_s = v.interval_s ? v.interval_s : INTERVAL_DEFAULT_S;
    if (v.watch && isatty(STDOUT_FILENO) && !v.query.json)
        watch_screen(&v, interval_s);
    else if (v.watch)
        watch_lines(&v, interval_s);
    else if (v.query.json)
        print_json(&v);
    else
        print_table(&v);
    query_done(&v.query);
    return EXIT_OK;
}
