/* SPDX-License-Identifier: BSD-3-Clause
 * The addresses of the ctl socket's doors, and how to reach one from where we are.
 */
#include "ctl/client/ctldial.h"

#include <errno.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#define OVERFLOW_UID 65534 /* what the kernel shows of a user another user namespace has */

/* --- Addresses ---------------------------------------------------------------- */

static struct ctldial_addr addr_of(const void *sa, size_t len)
{
    struct ctldial_addr a = {.len = (socklen_t)len};

    memcpy(&a.sa, sa, len);
    return a;
}

struct ctldial_addr ctldial_abstract_addr(void)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};

    memcpy(un.sun_path + 1, TCNS_CTL_ABSTRACT, sizeof(TCNS_CTL_ABSTRACT) - 1);
    return addr_of(&un, offsetof(struct sockaddr_un, sun_path) + sizeof(TCNS_CTL_ABSTRACT));
}

struct ctldial_addr ctldial_path_addr(const char *path)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};

    strncpy(un.sun_path, path, sizeof(un.sun_path) - 1);
    return addr_of(&un, sizeof(un));
}

/* Return: the port of ":PORT"; 0 when text is nothing such. */
static uint16_t port_of(const char *text)
{
    char *end;

    if (text[0] != ':' || text[1] < '0' || text[1] > '9')
        return 0;
    unsigned long port = strtoul(text + 1, &end, 10);
    return *end || port > UINT16_MAX ? 0 : (uint16_t)port;
}

bool ctldial_is_place(const char *text)
{
    size_t max = sizeof(((struct sockaddr_un *)NULL)->sun_path);

    return port_of(text) > 0 || (text[0] == '/' && strlen(text) < max);
}

struct ctldial_addr ctldial_place_addr(const char *text)
{
    struct sockaddr_in in = {
        .sin_family = AF_INET,
        .sin_port = htons(port_of(text)),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };

    return text[0] == '/' ? ctldial_path_addr(text) : addr_of(&in, sizeof(in));
}

/* --- Connecting ---------------------------------------------------------------- */

int ctldial(const struct ctldial_addr *addr, unsigned timeout_ms)
{
    const struct timeval limit = {.tv_sec = timeout_ms / 1000,
                                  .tv_usec = timeout_ms % 1000 * 1000L};

    int fd = socket(addr->sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    if (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) < 0 ||
        connect(fd, (const struct sockaddr *)&addr->sa, addr->len) < 0) {
        int err = -errno;
        close(fd);
        return err;
    }
    return fd;
}

/* Any process of the container can take the abstract name while no daemon runs.
 * A daemon from outside the container's user namespace shows as nobody. */
static bool is_daemon(int fd)
{
    struct ucred cred;
    socklen_t len = sizeof(cred);

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0)
        return false;
    return cred.uid == 0 || cred.uid == geteuid() || cred.uid == OVERFLOW_UID;
}

int ctldial_abstract(unsigned timeout_ms)
{
    struct ctldial_addr addr = ctldial_abstract_addr();

    int fd = ctldial(&addr, timeout_ms);
    if (fd >= 0 && !is_daemon(fd)) {
        close(fd);
        return -ECONNREFUSED;
    }
    return fd;
}

int ctldial_place(const char *text, unsigned timeout_ms)
{
    struct ctldial_addr addr = ctldial_place_addr(text);

    int fd = ctldial(&addr, timeout_ms);
    return fd == -ENOENT ? -ECONNREFUSED : fd;
}
