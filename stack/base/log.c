/* SPDX-License-Identifier: BSD-3-Clause
 * Log lines on standard error.
 */
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static enum log_level max_level = LOG_LEVEL_WARN;

void log_set_level(enum log_level level)
{
    max_level = level;
}

bool log_enabled(enum log_level level)
{
    return level <= max_level;
}

void log_write(enum log_level level, const char *fmt, ...)
{
    static const int priority[] = {3, 4, 6, 7, 7}; /* syslog(3) numbers */
    char line[1024];
    int n;

    if (getenv("JOURNAL_STREAM"))
        n = snprintf(line, sizeof(line), "<%d>", priority[level]);
    else
        n = snprintf(line, sizeof(line), "tcpcrypt-ns: ");

    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line + n, sizeof(line) - (size_t)n - 1, fmt, ap);
    va_end(ap);

    /* One write per line, so that lines of several processes do not mix. */
    size_t len = strlen(line);
    line[len++] = '\n';
    ssize_t ignored = write(STDERR_FILENO, line, len);
    (void)ignored;
}
