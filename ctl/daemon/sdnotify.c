/* SPDX-License-Identifier: BSD-3-Clause
 * Telling the service manager how we are: the protocol of sd_notify(3).
 */
#include "ctl/daemon/sdnotify.h"

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"

#define TEXT_MAX_LEN 400

/* A path, or "@" and an abstract name. Return: 0; -EINVAL; -E2BIG. */
static int read_address(const char *text, struct sdnotify *n)
{
    size_t len = strlen(text);

    if (text[0] != '/' && text[0] != '@')
        return -EINVAL;
    if (len < 2)
        return -EINVAL;
    if (len >= sizeof(n->addr.sun_path))
        return -E2BIG;
    n->addr = (struct sockaddr_un){.sun_family = AF_UNIX};
    memcpy(n->addr.sun_path, text, len);
    n->addr_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
    if (text[0] == '@')
        n->addr.sun_path[0] = '\0';
    else
        n->addr_len++; /* a path with its final zero */
    return 0;
}

int sdnotify_init(struct sdnotify *n)
{
    const char *text = getenv("NOTIFY_SOCKET");
    int err = 0;

    n->fd = -1;
    if (text)
        err = read_address(text, n);
    if (text && !err) {
        n->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        err = n->fd < 0 ? -errno : 0;
    }
    unsetenv("NOTIFY_SOCKET");
    unsetenv("WATCHDOG_USEC");
    unsetenv("WATCHDOG_PID");
    return err;
}

void sdnotify_done(struct sdnotify *n)
{
    if (n->fd >= 0)
        close(n->fd);
    n->fd = -1;
}

/* Never waits: a manager that does not read must not stop us. */
static void __attribute__((format(printf, 2, 3))) tell(struct sdnotify *n, const char *fmt, ...)
{
    char text[TEXT_MAX_LEN];
    va_list ap;

    if (!n || n->fd < 0)
        return;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    if (sendto(n->fd, text, strlen(text), MSG_NOSIGNAL | MSG_DONTWAIT, (struct sockaddr *)&n->addr,
               n->addr_len) < 0)
        log_warn("cannot notify the service manager: %s", strerror(errno));
}

void sdnotify_ready(struct sdnotify *n, const char *text)
{
    tell(n, "READY=1\nSTATUS=%s\n", text);
}

/* The time is what Type=notify-reload waits for. */
void sdnotify_reloading(struct sdnotify *n)
{
    tell(n, "RELOADING=1\nMONOTONIC_USEC=%lld\n", (long long)clock_us());
}

void sdnotify_stopping(struct sdnotify *n)
{
    tell(n, "STOPPING=1\n");
}

void sdnotify_status(struct sdnotify *n, const char *text)
{
    tell(n, "STATUS=%s\n", text);
}

void sdnotify_alive(struct sdnotify *n)
{
    tell(n, "WATCHDOG=1\n");
}
