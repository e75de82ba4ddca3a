/* SPDX-License-Identifier: BSD-3-Clause
 * The command line: verbs, their options, help and exit codes.
 *
 * One table (cli_verbs) describes every verb and option; dispatch, option
 * parsing and help read it, and so do the man page and the shell completions.
 */
#ifndef TCNS_CTL_CLI_H
#define TCNS_CTL_CLI_H

#include <stdbool.h>

#include "base/log.h"
#include "ctl/exec/publish.h"
#include "tunnel/tunnel.h"

/* Exit codes of all verbs but exec, which has its own. */
enum exit_code {
    EXIT_OK = 0,
    EXIT_NEGATIVE = 1,
    EXIT_USAGE = 2,
    EXIT_UNREACHABLE = 3, /* no daemon answers */
    EXIT_PERMISSION = 4,
};

/* Of the option --ctl. */
#define CTL_PLACE      "PATH|:PORT"
#define CTL_PLACE_MORE "PATH is absolute. PORT is a TCP port of the namespace, at 127.0.0.1"

/* What cli_next() returns for an option. Letters are short options too. */
enum cli_option_id {
    OPT_END = 0, /* ends a table */
    OPT_FOREGROUND = 'f',
    OPT_HELP = 'h', /* every verb has it; handled by cli_next() */
    OPT_JSON = 'j',
    OPT_NETNS = 'n',
    OPT_CTL = 'u', /* the letter that the original has for it */
    OPT_VERBOSE = 'v',
    OPT_WATCH = 'w',
    OPT_WRITE = 'w', /* of another verb */
    OPT_AEAD = 0x100,
    OPT_ALL,
    OPT_AEAD_A,
    OPT_AEAD_B,
    OPT_APP_AWARE,
    OPT_BIN_DIR,
    OPT_BOTH,
    OPT_BYPASS,
    OPT_CONFIG,
    OPT_CONF_DIR,
    OPT_COUNT,
    OPT_DIR,
    OPT_DRAIN,
    OPT_DRAIN_NEW,
    OPT_ENDED,
    OPT_FD,
    OPT_FALLBACK_TIME,
    OPT_FLUSH,
    OPT_FOLLOW_NETNS,
    OPT_INNER,
    OPT_INTERVAL,
    OPT_KEEPALIVE,
    OPT_KEYLOG,
    OPT_KEY_TIMEOUT,
    OPT_LIB_DIR,
    OPT_LISTEN,
    OPT_LOG,
    OPT_LOG_FORMAT,
    OPT_NAME,
    OPT_NO_RESUME,
    OPT_NO_RULES,
    OPT_NOW,
    OPT_OPTIONS,
    OPT_OUTER,
    OPT_PEER,
    OPT_POLICY,
    OPT_PORT,
    OPT_PROCESS,
    OPT_PUBLISH,
    OPT_REASON,
    OPT_REQUIRE_UDP,
    OPT_REQUIRE_UDP_DNS,
    OPT_STATE,
    OPT_READY_FD,
    OPT_REKEY_BYTES,
    OPT_REMOVE,
    OPT_ROOT,
    OPT_RULE,
    OPT_SECONDS,
    OPT_SNAPLEN,
    OPT_SELF,
    OPT_TEP,
    OPT_TEP_A,
    OPT_TEP_B,
    OPT_UPLINK,
    OPT_WAIT,
    OPT_EXEC_FIRST = 0x200, /* from here on: exec's own */
};

struct cli_option {
    int id;           /* enum cli_option_id */
    const char *name; /* long option, without dashes */
    const char *arg;  /* name of the argument in help; NULL: takes none */
    const char *help; /* one sentence, no final stop; '\n' starts a new line */
    /* Only for what is made of the table by docs/cli-pages.py; both may be NULL. */
    const char *more;   /* further sentences for the man page */
    const char *values; /* for completion, ", " between; else they follow from arg */
};

#define CLI_OPTIONS_MAX_CNT 64 /* of a verb */

struct cli_verb {
    const char *name;
    const char *operands;               /* "-- CMD [ARG...]"; NULL: none are allowed */
    const char *summary;                /* one line, no final stop */
    const char *help;                   /* paragraphs for the man page; may be NULL */
    const struct cli_option *options;   /* ends with id OPT_END; NULL: only --help */
    int (*main)(int argc, char **argv); /* argv[0] is the verb; Return: exit code */
};

extern const struct cli_verb cli_verbs[];       /* ends with name NULL */
extern const struct cli_option cli_help_option; /* every verb's, in no table */

/* Return: whether the id is a letter, and the option a short one too. */
bool cli_is_letter(int id);

/* Return: the verb, NULL when there is none. */
const struct cli_verb *cli_verb_find(const char *name);

/* getopt_long(3) driven by the verb's table: call until -1. Operands come last in argv, from
 * optind on; where they follow "--" (exec) it stops at the first. optarg and optind are getopt's.
 * --help prints help and exits 0; an unknown option, a missing argument or an operand where the
 * verb takes none exits with EXIT_USAGE (exec, whose codes differ: see usage_code). Return: an
 * option's id; -1 at the end. */
int cli_next(const struct cli_verb *verb, int argc, char **argv);

/* After that, where one operand is expected: a second one is a usage error.
 * Return: it; NULL when there is none. */
const char *cli_operand(const struct cli_verb *verb, int argc, char **argv);

/* Exit code that cli_next() and cli_usage() use: EXIT_USAGE unless set.
 * exec sets 125 first. */
void cli_set_usage_code(int code);

/* Where the value comes from that is being read, "FILE:LINE"; borrowed. cli_usage() says so.
 * NULL: the command line. */
void cli_set_place(const char *place);

/* Prints "tcpcrypt-ns VERB: text" and a hint at --help, and exits. */
void cli_usage(const struct cli_verb *verb, const char *fmt, ...)
    __attribute__((noreturn, format(printf, 2, 3)));

/* Values several verbs read; each is a usage error when it does not parse. */
/* A place of the ctl socket, see ctldial_is_place(). */
const char *cli_place(const struct cli_verb *verb, const char *text);
long cli_number(const struct cli_verb *verb, const char *what, const char *text, long min,
                long max);
/* Adds to p, see publish_add(). */
void cli_publish(const struct cli_verb *verb, const char *text, struct publish *p);
enum tunnel_drain cli_drain(const struct cli_verb *verb, const char *text);
/* One step up from level, at most LOG_LEVEL_TRACE. */
enum log_level cli_more_verbose(enum log_level level);

/* Return: the exit code for an -errno: EXIT_PERMISSION, EXIT_UNREACHABLE or EXIT_NEGATIVE. */
int cli_exit_code(int err);

/* Prints "tcpcrypt-ns: text" on standard error and exits. */
void die(int code, const char *fmt, ...) __attribute__((noreturn, format(printf, 2, 3)));

int cli_main(int argc, char **argv);

#endif
