/* SPDX-License-Identifier: BSD-3-Clause
 * A Varlink client for the daemon of a given namespace.
 */
#include <errno.h>
#include <time.h>

#include "base/clock.h"
#include "ctl/client/ctlclient.h"
#include "ctl/client/ctldial.h"
#include "ctl/daemon/ctlsock.h"

#define AWAIT_PAUSE_MS 50

int ctlclient_init(struct ctlclient *ret, int netns_fd)
{
    int fd = ctlsock_connect(netns_fd);

    if (fd < 0)
        return fd;
    ctlclient_init_with(ret, fd);
    return 0;
}

int ctlclient_init_at(struct ctlclient *ret, const char *place)
{
    int fd = ctldial_place(place, 0);

    if (fd < 0)
        return fd;
    ctlclient_init_with(ret, fd);
    return 0;
}

/* --- Waiting for a daemon ------------------------------------------------------- */

static bool answers(int netns_fd)
{
    struct ctlclient c = CTLCLIENT_NONE;
    char error[CTLCLIENT_ERROR_LEN];
    json_t *reply = NULL;

    if (ctlclient_init(&c, netns_fd) < 0)
        return false;
    ctlclient_set_patience(&c, 1);
    bool well = ctlclient_call(&c, "org.varlink.service.GetInfo", NULL, false) == 0 &&
                ctlclient_next(&c, &reply, NULL, error) == 0;
    json_decref(reply);
    ctlclient_done(&c);
    return well;
}

int ctlclient_await(int netns_fd, int seconds)
{
    const struct timespec pause = {.tv_nsec = AWAIT_PAUSE_MS * 1000000L};
    int64_t until = clock_ms() + (int64_t)seconds * 1000;

    while (!answers(netns_fd)) {
        if (clock_ms() >= until)
            return -ETIMEDOUT;
        nanosleep(&pause, NULL);
    }
    return 0;
}
