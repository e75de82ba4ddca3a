/* SPDX-License-Identifier: BSD-3-Clause
 * Which connections to show.
 */
#include "ctl/cli/session_filter.h"

#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "ctl/daemon/ns1_params.h"
#include "tunnel/tunnel.h"

static const char *const states[] = {"opening", "encrypted", "clear", "closing", "bypassed"};

/* --- Reading ---------------------------------------------------------------- */

typedef bool (*word_fn)(const char *word);

static bool is_state(const char *word)
{
    for (size_t i = 0; i < sizeof(states) / sizeof(states[0]); i++)
        if (strcmp(word, states[i]) == 0)
            return true;
    return false;
}

static bool is_reason(const char *word)
{
#define X(name)                                                                                    \
    if (strcmp(word, tunnel_reason_name(TUNNEL_REASON_##name)) == 0)                               \
        return true;
    SESSION_REASON_LIST(X)
    TUNNEL_REASON_LIST(X)
#undef X
#define X(name, text)                                                                              \
    if (strcmp(word, text) == 0)                                                                   \
        return true;
    KERNEL_REASON_LIST(X)
#undef X
    return false;
}

/* A list with commas, of known words. Return: text. */
static const char *read_words(const struct cli_verb *verb, const char *what, const char *text,
                              word_fn is_known)
{
    char *copy = strdup(text), *rest = copy, *word;

    if (!copy)
        die(EXIT_NEGATIVE, "out of memory");
    while ((word = strsep(&rest, ",")))
        if (!is_known(word))
            cli_usage(verb, "\"%s\" is no %s", word, what);
    free(copy);
    return text;
}

static void read_tuple(struct session_filter *f, const struct cli_verb *verb, const char *key)
{
    char err[RULETEXT_ERROR_LEN];

    if (ruletext_set(&f->tuple, key, optarg, err) != 0)
        cli_usage(verb, "%s", err);
    f->tuple.rule.action = TUNNEL_POLICY_BYPASS; /* its ports are those of either end */
}

bool session_filter_read_option(struct session_filter *f, const struct cli_verb *verb, int id)
{
    switch (id) {
    case OPT_STATE:
        f->states = read_words(verb, "state", optarg, is_state);
        return true;
    case OPT_REASON:
        f->reasons = read_words(verb, "reason", optarg, is_reason);
        return true;
    case OPT_PEER:
        read_tuple(f, verb, "peer");
        return true;
    case OPT_PORT:
        read_tuple(f, verb, "port");
        return true;
    case OPT_DIR:
        if (strcmp(optarg, "in") != 0 && strcmp(optarg, "out") != 0)
            cli_usage(verb, "direction \"%s\" is neither in nor out", optarg);
        f->dir = optarg;
        return true;
    case OPT_PROCESS:
        if (!*optarg)
            cli_usage(verb, "a process has a name or a number");
        f->process = optarg;
        return true;
    default:
        return false;
    }
}

/* --- Matching --------------------------------------------------------------- */

/* Return: whether the member is one of the words; true when there are no words. */
static bool has_word(const char *words, const json_t *s, const char *key)
{
    const char *text = json_string_value(json_object_get(s, key));
    size_t len = text ? strlen(text) : 0;

    if (!words)
        return true;
    for (const char *w = words; text && *w; w += strcspn(w, ",") + (strchr(w, ',') != NULL))
        if (strcspn(w, ",") == len && memcmp(w, text, len) == 0)
            return true;
    return false;
}

static bool has_process(const char *process, const json_t *s)
{
    json_int_t pid = json_integer_value(json_object_get(s, "pid"));
    char number[24];

    if (!process)
        return true;
    snprintf(number, sizeof(number), "%lld", (long long)pid);
    return (pid && strcmp(process, number) == 0) || has_word(process, s, "process");
}

bool session_tuple(const json_t *s, struct tuple *ret)
{
    return ns1_params_tuple(s, ret) == NULL;
}

bool session_filter_has(const struct session_filter *f, const json_t *s)
{
    struct tuple tuple;

    if (f->tuple.rule.action == TUNNEL_POLICY_BYPASS &&
        !(session_tuple(s, &tuple) && policy_rule_bypasses(&f->tuple.rule, &tuple)))
        return false;
    return has_word(f->states, s, "state") && has_word(f->reasons, s, "reason") &&
           has_word(f->dir, s, "dir") && has_process(f->process, s);
}
