/* SPDX-License-Identifier: BSD-3-Clause
 * Dispatch, option parsing and help, all from the table in cli_table.c.
 */
#include "ctl/cli/cli.h"

#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ctl/cli/term.h"
#include "ctl/client/ctldial.h"

#define PROGRAM    "tcpcrypt-ns"
#define HELP_WIDTH 78

static int usage_code = EXIT_USAGE;
static const char *value_place;

void cli_set_usage_code(int code)
{
    usage_code = code;
}

void die(int code, const char *fmt, ...)
{
    va_list ap;

    fprintf(stderr, PROGRAM ": ");
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
    exit(code);
}

void cli_set_place(const char *place)
{
    value_place = place;
}

void cli_usage(const struct cli_verb *verb, const char *fmt, ...)
{
    va_list ap;

    fprintf(stderr, PROGRAM " %s: %s%s", verb->name, value_place ? value_place : "",
            value_place ? ": " : "");
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fprintf(stderr, "\nTry: " PROGRAM " %s --help\n", verb->name);
    exit(usage_code);
}

const struct cli_verb *cli_verb_find(const char *name)
{
    for (const struct cli_verb *v = cli_verbs; v->name; v++)
        if (strcmp(v->name, name) == 0)
            return v;
    return NULL;
}

/* --- Help ------------------------------------------------------------------- */

const struct cli_option cli_help_option = {OPT_HELP, "help", NULL, "print this"};

bool cli_is_letter(int id)
{
    return id < 0x100;
}

/* Help texts break at '\n'; continuation lines stand under the first. */
static void print_indented(const char *text, int indent)
{
    for (;;) {
        size_t len = strcspn(text, "\n");

        printf("%.*s\n", (int)len, text);
        if (!text[len])
            return;
        text += len + 1;
        printf("%*s", indent, "");
    }
}

static void print_option(const struct cli_option *o)
{
    if (cli_is_letter(o->id))
        printf("  -%c, --%s", o->id, o->name);
    else
        printf("      --%s", o->name);
    printf("%s%s\n          ", o->arg ? " " : "", o->arg ? o->arg : "");
    print_indented(o->help, 10);
}

static void verb_help(const struct cli_verb *verb)
{
    printf("usage: " PROGRAM " %s%s%s%s\n", verb->name, verb->options ? " [options]" : "",
           verb->operands ? " " : "", verb->operands ? verb->operands : "");
    printf("%s\n\n", verb->summary);
    if (verb->help) {
        term_print_words(verb->help, 0, HELP_WIDTH);
        putchar('\n');
    }
    for (const struct cli_option *o = verb->options; o && o->id != OPT_END; o++)
        print_option(o);
    print_option(&cli_help_option);
}

static void program_help(FILE *out)
{
    fprintf(out, "usage: " PROGRAM " VERB [options]\n\n");
    for (const struct cli_verb *v = cli_verbs; v->name; v++)
        fprintf(out, "  %-11s %s\n", v->name, v->summary);
    fprintf(out, "\n\"" PROGRAM " VERB --help\" tells more.\n");
}

/* --- Options ---------------------------------------------------------------- */

struct getopt_tables {
    struct option longs[CLI_OPTIONS_MAX_CNT + 2];
    char shorts[2 * CLI_OPTIONS_MAX_CNT + 4];
};

static void add_option(struct getopt_tables *t, size_t i, const struct cli_option *o)
{
    size_t n = strlen(t->shorts);

    t->longs[i] = (struct option){
        .name = o->name,
        .has_arg = !o->arg          ? no_argument
                   : *o->arg == '[' ? optional_argument
                                    : required_argument,
        .val = o->id,
    };
    if (!cli_is_letter(o->id))
        return;
    t->shorts[n++] = (char)o->id;
    if (o->arg)
        t->shorts[n] = ':';
}

/* "+": stop at the first operand, which may have options of its own, where "--" stands before
 * operands (exec). ":": we print the errors. */
static void make_tables(const struct cli_verb *verb, struct getopt_tables *ret)
{
    size_t cnt = 0;

    bool stops = verb->operands && strncmp(verb->operands, "--", 2) == 0;

    *ret = (struct getopt_tables){.longs = {{NULL}}};
    strcpy(ret->shorts, stops ? "+:" : ":");
    for (const struct cli_option *o = verb->options; o && o->id != OPT_END; o++)
        if (cnt < CLI_OPTIONS_MAX_CNT)
            add_option(ret, cnt++, o);
    add_option(ret, cnt, &cli_help_option);
}

/* getopt has moved optind past a bad long option; a bad short one may stand
 * inside its word, so optopt names it. */
static void bad_option(const struct cli_verb *verb, char **argv, int c)
{
    const char *what = c == ':' ? "needs an argument" : "is not an option of this verb";

    if (optopt && cli_is_letter(optopt))
        cli_usage(verb, "-%c %s", optopt, what);
    cli_usage(verb, "%s %s", argv[optind - 1], what);
}

int cli_next(const struct cli_verb *verb, int argc, char **argv)
{
    struct getopt_tables tables;

    make_tables(verb, &tables);
    opterr = 0;
    int c = getopt_long(argc, argv, tables.shorts, tables.longs, NULL);
    if (c == ':' || c == '?')
        bad_option(verb, argv, c);
    if (c == OPT_HELP) {
        verb_help(verb);
        exit(EXIT_OK);
    }
    if (c == -1 && !verb->operands && optind < argc)
        cli_usage(verb, "\"%s\": no operand is expected", argv[optind]);
    return c;
}

const char *cli_operand(const struct cli_verb *verb, int argc, char **argv)
{
    if (argc - optind > 1)
        cli_usage(verb, "\"%s\": one operand is enough", argv[optind + 1]);
    return optind < argc ? argv[optind] : NULL;
}

/* --- Values ----------------------------------------------------------------- */

const char *cli_place(const struct cli_verb *verb, const char *text)
{
    if (!ctldial_is_place(text))
        cli_usage(verb, "\"%s\" is neither an absolute path nor a colon and a port", text);
    return text;
}

long cli_number(const struct cli_verb *verb, const char *what, const char *text, long min, long max)
{
    char *end;

    errno = 0;
    long n = strtol(text, &end, 10);
    if (errno || end == text || *end || n < min || n > max)
        cli_usage(verb, "%s \"%s\" is not a number from %ld to %ld", what, text, min, max);
    return n;
}

void cli_publish(const struct cli_verb *verb, const char *text, struct publish *p)
{
    int err = publish_add(p, text);

    if (err == -EEXIST)
        cli_usage(verb, "\"%s\": this port is published already", text);
    if (err == -E2BIG)
        cli_usage(verb, "more than %d published ports", PUBLISH_MAX_CNT);
    if (err)
        cli_usage(verb, "\"%s\" is not [ADDRESS:]PORT[:PORT][/tcp|/udp]", text);
}

enum tunnel_drain cli_drain(const struct cli_verb *verb, const char *text)
{
    enum tunnel_drain drain;

    if (tunnel_drain_parse(text, &drain) < 0)
        cli_usage(verb, "\"%s\" is none of clear, refuse", text);
    return drain;
}

enum log_level cli_more_verbose(enum log_level level)
{
    return level < LOG_LEVEL_TRACE ? level + 1 : level;
}

int cli_exit_code(int err)
{
    switch (-err) {
    case 0:
        return EXIT_OK;
    case EPERM:
    case EACCES:
        return EXIT_PERMISSION;
    case ECONNREFUSED:
        return EXIT_UNREACHABLE;
    default:
        return EXIT_NEGATIVE;
    }
}

/* --- Dispatch --------------------------------------------------------------- */

static bool is_word(const char *s, const char *a, const char *b)
{
    return strcmp(s, a) == 0 || strcmp(s, b) == 0;
}

/* Return: the verb whose name the program was called by; NULL: by its own. */
static const struct cli_verb *verb_of_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    const char *name = slash ? slash + 1 : path;

    return strcmp(name, "tcnetstat") == 0 ? cli_verb_find(name) : NULL;
}

int cli_main(int argc, char **argv)
{
    const struct cli_verb *own = argc > 0 ? verb_of_name(argv[0]) : NULL;

    if (own)
        return own->main(argc, argv);
    if (argc < 2) {
        program_help(stderr);
        return EXIT_USAGE;
    }
    if (is_word(argv[1], "--help", "-h") || strcmp(argv[1], "help") == 0) {
        const struct cli_verb *verb = argc > 2 ? cli_verb_find(argv[2]) : NULL;

        if (verb)
            verb_help(verb);
        else
            program_help(stdout);
        return EXIT_OK;
    }
    const char *name = is_word(argv[1], "--version", "-V") ? "version" : argv[1];
    const struct cli_verb *verb = cli_verb_find(name);
    if (!verb)
        die(EXIT_USAGE, "\"%s\" is no verb; try " PROGRAM " --help", argv[1]);
    return verb->main(argc - 1, argv + 1);
}
