/* SPDX-License-Identifier: BSD-3-Clause
 * What GetStatus answers, on one screen.
 *
 * How it works: each line has a title and words, which are wrapped under each other. A
 * member that a line has made use of is taken out; what is left, of a newer daemon or
 * not thought of here, is printed by its name.
 */
#include "ctl/cli/status_text.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "ctl/cli/query.h"

#define TITLE_WIDTH   13
#define WIDTH_DEFAULT 80 /* of lines that wrap, when there is no terminal */
#define TEXT_LEN      2048

struct status_text {
    FILE *out;
    int width;
    const json_t *status;
    json_t *left; /* members that no line has used yet */
};

/* --- Lines ------------------------------------------------------------------ */

/* Words are parted by blanks. */
static void print_line(const struct status_text *s, const char *title, const char *text)
{
    int column = fprintf(s->out, "%-*s", TITLE_WIDTH, title);

    for (const char *word = text; *word; word += strspn(word, " ")) {
        int len = (int)strcspn(word, " ");

        if (column > TITLE_WIDTH && column + 1 + len > s->width)
            column = fprintf(s->out, "\n%*s", TITLE_WIDTH, "") - 1;
        column += fprintf(s->out, "%s%.*s", column > TITLE_WIDTH ? " " : "", len, word);
        word += len;
    }
    fputc('\n', s->out);
}

static void add(char *text, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void add(char *text, const char *fmt, ...)
{
    size_t len = strlen(text);
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text + len, TEXT_LEN - len, fmt, ap);
    va_end(ap);
}

/* --- Members ---------------------------------------------------------------- */

/* Return: the member, borrowed; it counts as used. */
static const json_t *take(struct status_text *s, const char *key)
{
    const json_t *value = json_object_get(s->status, key);

    json_object_del(s->left, key);
    return value;
}

/* The same of the objects inside. */
static long long take_counter(json_t *counters, const char *key)
{
    long long n = json_integer_value(json_object_get(counters, key));

    json_object_del(counters, key);
    return n;
}

static long long take_number(struct status_text *s, const char *key)
{
    return json_integer_value(take(s, key));
}

static const char *take_text(struct status_text *s, const char *key, char out[TEXT_LEN])
{
    take(s, key);
    return query_text(s->status, key, out, TEXT_LEN);
}

/* The words of an array, with ", " between; or none. */
static void add_list(char *text, const json_t *array, const char *none)
{
    char word[64];
    json_t *one;
    size_t i;

    json_array_foreach(array, i, one)
    {
        json_t *holder = json_pack("{s:O}", "w", one);
        add(text, "%s%s", i ? ", " : "", query_text(holder, "w", word, sizeof(word)));
        json_decref(holder);
    }
    if (json_array_size(array) == 0)
        add(text, "%s", none);
}

static void take_list(struct status_text *s, const char *key, char *text, const char *none)
{
    add_list(text, take(s, key), none);
}

/* --- The lines -------------------------------------------------------------- */

static void add_age(char *text, double started)
{
    long long age = (long long)(clock_epoch_s() - started);

    age = age > 0 ? age : 0;
    if (age >= 86400)
        add(text, "%lld d %lld h", age / 86400, age / 3600 % 24);
    else if (age >= 3600)
        add(text, "%lld h %lld min", age / 3600, age / 60 % 60);
    else if (age >= 60)
        add(text, "%lld min %lld s", age / 60, age % 60);
    else
        add(text, "%lld s", age);
}

static void print_daemon(struct status_text *s)
{
    char text[TEXT_LEN] = "", word[TEXT_LEN];
    double started = json_real_value(take(s, "started"));
    long long restarts = take_number(s, "worker_restarts");

    add(text, "version %s, ", take_text(s, "version", word));
    add(text, "process %lld, ", take_number(s, "pid"));
    add(text, "worker %lld, up for ", take_number(s, "worker_pid"));
    add_age(text, started);
    if (restarts > 0)
        add(text, ", worker replaced %lld time%s", restarts, restarts == 1 ? "" : "s");
    print_line(s, "daemon", text);
}

static void print_namespace(struct status_text *s)
{
    char text[TEXT_LEN] = "";

    add(text, "%lld, uplinks: ", take_number(s, "netns"));
    take_list(s, "uplinks", text, "none");
    add(text, json_is_true(take(s, "programs")) ? " (programs)" : " (chains)");
    if (json_array_size(take(s, "native")) > 0) {
        add(text, "; native, in clear: ");
        take_list(s, "native", text, "");
    }
    print_line(s, "namespace", text);
}

static void print_policy(struct status_text *s)
{
    char text[TEXT_LEN] = "", word[TEXT_LEN];

    add(text, "%s", take_text(s, "policy", word));
    if (*take_text(s, "require_udp", word))
        add(text, "; where encryption is required, UDP: %s", word);
    print_line(s, "policy", text);
}

/* "22,443" with blanks, so that it can wrap. */
static void print_ports(struct status_text *s, const char *title, const char *key)
{
    char text[TEXT_LEN] = "", list[TEXT_LEN];

    for (const char *c = take_text(s, key, list); *c; c++)
        add(text, *c == ',' ? "%c " : "%c", *c);
    print_line(s, title, text);
}

static void print_options(struct status_text *s)
{
    char text[TEXT_LEN] = "", word[TEXT_LEN];
    bool resume = json_is_true(take(s, "resume"));
    long long keepalive = take_number(s, "keepalive");

    add(text, "resumption %s, ", resume ? "on" : "off");
    if (keepalive > 0)
        add(text, "keep-alive %lld s, ", keepalive);
    else
        add(text, "keep-alive off, ");
    add(text, "new keys after %lld bytes, ", take_number(s, "rekey_bytes"));
    add(text, "application-aware %s, ", take_text(s, "app_aware", word));
    add(text, "fallback for %lld s, ", take_number(s, "fallback_time"));
    add(text, "key exchange within %lld s", take_number(s, "key_timeout"));
    print_line(s, "options", text);
}

static void print_connections(const struct status_text *s, json_t *counters)
{
    char text[TEXT_LEN] = "";

    add(text, "%lld opened: ", take_counter(counters, "flows_opened"));
    add(text, "%lld encrypted ", take_counter(counters, "flows_encrypted"));
    add(text, "(%lld resumed), ", take_counter(counters, "flows_resumed"));
    add(text, "%lld clear; ", take_counter(counters, "flows_clear"));
    add(text, "%lld refused, ", take_counter(counters, "flows_refused"));
    add(text, "%lld ended by errors", take_counter(counters, "flows_aborted"));
    print_line(s, "connections", text);
}

static void print_packets(const struct status_text *s, json_t *counters)
{
    char text[TEXT_LEN] = "";

    add(text, "from programs %lld, ", take_counter(counters, "tun_rx_packets"));
    add(text, "to them %lld; ", take_counter(counters, "tun_tx_packets"));
    add(text, "from the uplinks %lld, ", take_counter(counters, "uplink_rx_packets"));
    add(text, "to them %lld", take_counter(counters, "uplink_tx_packets"));
    print_line(s, "packets", text);
}

/* Those that are not zero, by their names without prefix; "none" when all are. */
static void print_counts(const struct status_text *s, const char *title, json_t *counts,
                         const char *prefix, const char *none)
{
    char text[TEXT_LEN] = "", name[64];
    size_t len = strlen(prefix);
    const char *key;
    json_t *value;

    json_object_foreach(counts, key, value)
    {
        if (strncmp(key, prefix, len) != 0 || json_integer_value(value) == 0)
            continue;
        snprintf(name, sizeof(name), "%s", key + len);
        for (char *c = name; *c; c++)
            *c = *c == '_' || *c == ' ' ? '-' : *c > ' ' && *c <= '~' ? *c : '?';
        add(text, "%s%s %lld", *text ? ", " : "", name, (long long)json_integer_value(value));
    }
    if (*text || *none)
        print_line(s, title, *text ? text : none);
}

static void delete_prefix(json_t *counts, const char *prefix)
{
    const char *key;
    json_t *value;
    void *next;

    json_object_foreach_safe(counts, next, key, value)
    {
        if (strncmp(key, prefix, strlen(prefix)) == 0)
            json_object_del(counts, key);
    }
}

static void print_counters(struct status_text *s)
{
    json_t *counters = json_deep_copy(take(s, "counters"));
    json_t *errors = json_deep_copy(take(s, "errors"));

    print_connections(s, counters);
    print_packets(s, counters);
    print_counts(s, "dropped", counters, "drop_", "none");
    delete_prefix(counters, "drop_");
    print_counts(s, "others", counters, "", "");
    print_counts(s, "errors", errors, "", "none");
    json_decref(counters);
    json_decref(errors);
}

static void print_rest(const struct status_text *s)
{
    const char *key;
    json_t *value;

    json_object_foreach(s->left, key, value)
    {
        char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_ENSURE_ASCII);

        if (text)
            print_line(s, key, text);
        free(text);
    }
}

void status_text_print(const json_t *status, FILE *out, const struct term *term)
{
    struct status_text s = {
        .out = out,
        .width = term->width ? term->width : WIDTH_DEFAULT,
        .status = status,
        .left = json_copy((json_t *)(uintptr_t)status), /* members are borrowed */
    };
    char text[TEXT_LEN] = "";

    print_daemon(&s);
    print_namespace(&s);
    print_policy(&s);
    print_ports(&s, "bypassed", "bypass");
    take_list(&s, "teps", text, "");
    print_line(&s, "exchanges", text);
    *text = '\0';
    take_list(&s, "aeads", text, "");
    print_line(&s, "ciphers", text);
    print_options(&s);
    print_counters(&s);
    print_rest(&s);
    json_decref(s.left);
}
