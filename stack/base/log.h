/* SPDX-License-Identifier: BSD-3-Clause
 * Log lines on standard error, one per event, at the original's -v levels.
 *
 * Texts may hold names that somebody else chose: control characters are escaped, so that a
 * line is one line and no terminal obeys it. Keys and content of connections are never logged.
 */
#ifndef TCNS_BASE_LOG_H
#define TCNS_BASE_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum log_level {
    LOG_LEVEL_ERROR,
    LOG_LEVEL_WARN,
    LOG_LEVEL_INFO,
    LOG_LEVEL_DEBUG,
    LOG_LEVEL_TRACE,
};

enum log_format {
    LOG_FORMAT_AUTO,    /* JOURNAL when standard error is the journal, else TEXT */
    LOG_FORMAT_TEXT,    /* "tcpcrypt-ns: message" */
    LOG_FORMAT_FILE,    /* "2026-11-22T07:01:52.123Z warn message" */
    LOG_FORMAT_JOURNAL, /* "<4>message": priorities of syslog(3), see sd-daemon(3) */
    LOG_FORMAT_JSON,    /* {"time":1795330912.123,"level":"warn","message":"message"} */
};

/* Lines above this level are dropped. Default: LOG_LEVEL_WARN. */
void log_set_level(enum log_level level);
bool log_enabled(enum log_level level);

/* To be called when standard error is what it will be. Default: LOG_FORMAT_AUTO. */
void log_set_format(enum log_format format);

void log_write(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* One fact about an event. */
struct log_field {
    const char *name; /* of an identifier's characters */
    const char *text; /* NULL: the number counts */
    double number;
};

/* An event with facts: "message: name=value ...", or members of the JSON object, in which
 * texts are strings. */
void log_event(enum log_level level, const char *message, const struct log_field *fields,
               size_t cnt);

#define log_at(level, ...)                                                                         \
    do {                                                                                           \
        if (log_enabled(level))                                                                    \
            log_write(level, __VA_ARGS__);                                                         \
    } while (0)

#define log_error(...) log_at(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warn(...)  log_at(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_info(...)  log_at(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...) log_at(LOG_LEVEL_DEBUG, __VA_ARGS__)
#define log_trace(...) log_at(LOG_LEVEL_TRACE, __VA_ARGS__)

#endif
