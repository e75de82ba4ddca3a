/* SPDX-License-Identifier: BSD-3-Clause
 * Log lines on standard error.
 */
#include "base/log.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log_text.h"

#define LINE_LEN    1024
#define MESSAGE_LEN 1000
#define TAIL_LEN    4 /* what may follow the last text: quote, brace, newline */

static enum log_level max_level = LOG_LEVEL_WARN;
static enum log_format format = LOG_FORMAT_AUTO;

/* Lines have times: what gmtime_r(3) reads of the time zone on first use is read now, since a
 * sandboxed process cannot open files, and would be stopped in the middle of it. */
void log_set_level(enum log_level level)
{
    tzset();
    max_level = level;
}

bool log_enabled(enum log_level level)
{
    return level <= max_level;
}

/* systemd.exec(5): JOURNAL_STREAM has device and inode of what standard error was at the
 * start; programs inherit the variable, but may have been redirected. */
static bool is_journal(void)
{
    const char *stream = getenv("JOURNAL_STREAM");
    uintmax_t dev, ino;
    struct stat st;

    return stream && sscanf(stream, "%ju:%ju", &dev, &ino) == 2 && fstat(STDERR_FILENO, &st) == 0 &&
           st.st_dev == dev && st.st_ino == ino;
}

static enum log_format format_now(void)
{
    if (format != LOG_FORMAT_AUTO)
        return format;
    return is_journal() ? LOG_FORMAT_JOURNAL : LOG_FORMAT_TEXT;
}

/* Looked up once: whoever calls this has put standard error where it stays. */
void log_set_format(enum log_format f)
{
    format = f;
    format = format_now();
}

static const char *level_name(enum log_level level)
{
    static const char *const names[] = {"error", "warn", "info", "debug", "trace"};

    return names[level];
}

static void add_time(struct log_text *t)
{
    struct timespec now = clock_read(CLOCK_REALTIME);
    char text[40];
    struct tm tm;

    gmtime_r(&now.tv_sec, &tm);
    size_t n = strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(text + n, sizeof(text) - n, ".%03ldZ ", now.tv_nsec / 1000000);
    log_text_add(t, text);
}

static void add_head(struct log_text *t, enum log_format f, enum log_level level)
{
    static const int priority[] = {3, 4, 6, 7, 7}; /* syslog(3) numbers */
    char text[64] = "tcpcrypt-ns: ";

    if (f == LOG_FORMAT_FILE)
        add_time(t);
    if (f == LOG_FORMAT_FILE)
        snprintf(text, sizeof(text), "%s ", level_name(level));
    else if (f == LOG_FORMAT_JOURNAL)
        snprintf(text, sizeof(text), "<%d>", priority[level]);
    else if (f == LOG_FORMAT_JSON)
        snprintf(text, sizeof(text), "{\"time\":%.3f,\"level\":\"%s\",\"message\":\"",
                 clock_epoch_s(), level_name(level));
    log_text_add(t, text);
}

static void add_field(struct log_text *t, bool json, const struct log_field *field)
{
    char number[32];

    log_text_add(t, json ? ",\"" : " ");
    log_text_add(t, field->name);
    log_text_add(t, json ? "\":" : "=");
    if (!field->text) {
        bool whole = field->number == (double)(int64_t)field->number;
        snprintf(number, sizeof(number), whole ? "%.0f" : "%.6f", field->number);
        log_text_add(t, number);
    } else if (json) {
        log_text_add(t, "\"");
        log_text_add_json(t, field->text);
        log_text_add(t, "\"");
    } else {
        log_text_add_plain(t, field->text);
    }
}

static void write_line(enum log_level level, const char *message, const struct log_field *fields,
                       size_t cnt)
{
    enum log_format f = format_now();
    bool json = f == LOG_FORMAT_JSON;
    char line[LINE_LEN];
    struct log_text t = {line, 0, sizeof(line) - TAIL_LEN, false};

    add_head(&t, f, level);
    if (json)
        log_text_add_json(&t, message);
    else
        log_text_add_plain(&t, message);
    t.cap++; /* the message may be cut, its quote comes */
    t.cut = false;
    log_text_add(&t, json ? "\"" : cnt > 0 ? ":" : "");
    for (size_t i = 0; i < cnt && !t.cut; i++) {
        size_t before = t.len;
        add_field(&t, json, &fields[i]);
        if (t.cut) /* whole or not at all */
            t.len = before;
    }
    t.cap = sizeof(line);
    log_text_add(&t, json ? "}\n" : "\n");
    /* One write per line, so that lines of several processes do not mix. */
    ssize_t ignored = write(STDERR_FILENO, line, t.len);
    (void)ignored;
}

void log_write(enum log_level level, const char *fmt, ...)
{
    char message[MESSAGE_LEN];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(message, sizeof(message), fmt, ap);
    va_end(ap);
    write_line(level, message, NULL, 0);
}

void log_event(enum log_level level, const char *message, const struct log_field *fields,
               size_t cnt)
{
    if (log_enabled(level))
        write_line(level, message, fields, cnt);
}
