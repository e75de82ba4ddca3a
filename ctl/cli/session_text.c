/* SPDX-License-Identifier: BSD-3-Clause
 * Parts of a connection as text for people.
 */
#include "ctl/cli/session_text.h"

#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "ctl/cli/query.h"

#define PEOPLE_MIN 100000 /* below it all digits are short enough */

const char *session_text_end(const json_t *s, const char *which, char *out)
{
    char addr[INET6_ADDRSTRLEN], key[16];

    snprintf(key, sizeof(key), "%s_port", which);
    int port = (int)json_integer_value(json_object_get(s, key));
    query_text(s, which, addr, sizeof(addr));
    snprintf(out, SESSION_TEXT_LEN, strchr(addr, ':') ? "[%s]:%d" : "%s:%d", addr, port);
    return out;
}

/* "TCPCRYPT_ECDHE_Curve25519" and "AEAD_AES_128_GCM" say in a column of that
 * title no more than their ends do. */
static void strip(char *cell, const char *prefix)
{
    size_t len = strlen(prefix);

    if (strncmp(cell, prefix, len) == 0)
        memmove(cell, cell + len, strlen(cell + len) + 1);
}

const char *session_text_word(const json_t *s, const char *key, char *out)
{
    query_text(s, key, out, SESSION_TEXT_LEN);
    strip(out, "TCPCRYPT_ECDHE_");
    strip(out, "AEAD_");
    if (!*out)
        strcpy(out, "-");
    return out;
}

const char *session_text_flag(const json_t *s, const char *key, char *out)
{
    const json_t *flag = json_object_get(s, key);

    return strcpy(out, json_is_true(flag) ? "yes" : json_is_false(flag) ? "no" : "-");
}

const char *session_text_bytes(const json_t *s, const char *key, bool for_people, char *out)
{
    long long n = json_integer_value(json_object_get(s, key));
    double rest = (double)n;
    size_t unit = 0;

    while (for_people && n >= PEOPLE_MIN && rest >= 1000 && unit < 6) {
        rest /= 1000;
        unit++;
    }
    if (unit == 0)
        snprintf(out, SESSION_TEXT_LEN, "%lld", n);
    else
        snprintf(out, SESSION_TEXT_LEN, rest < 9.95 ? "%.1f%c" : "%.0f%c", rest, " kMGTPE"[unit]);
    return out;
}

const char *session_text_time(const json_t *s, const char *key, char *out)
{
    time_t t = (time_t)json_real_value(json_object_get(s, key));
    struct tm tm;

    if (!localtime_r(&t, &tm) || strftime(out, SESSION_TEXT_LEN, "%F %T", &tm) == 0)
        strcpy(out, "-");
    return out;
}

const char *session_text_process(const json_t *s, char *out)
{
    long long pid = json_integer_value(json_object_get(s, "pid"));
    char name[32];

    query_text(s, "process", name, sizeof(name));
    if (pid)
        snprintf(out, SESSION_TEXT_LEN, "%s/%lld", *name ? name : "?", pid);
    else
        strcpy(out, "-");
    return out;
}

enum term_colour session_text_colour(const char *word)
{
    static const struct {
        const char *word;
        enum term_colour colour;
    } colours[] = {
        {"encrypted", TERM_GOOD}, {"clear", TERM_WARN},  {"error", TERM_BAD},
        {"refused", TERM_BAD},    {"opening", TERM_DIM}, {"closing", TERM_DIM},
        {"bypassed", TERM_DIM},
    };

    for (size_t i = 0; i < sizeof(colours) / sizeof(colours[0]); i++)
        if (strcmp(word, colours[i].word) == 0)
            return colours[i].colour;
    return TERM_PLAIN;
}
