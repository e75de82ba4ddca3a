/* SPDX-License-Identifier: BSD-3-Clause
 * Where the ctl socket is: two doors, and how to reach them.
 */
#include "ctl/ctlsock.h"

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/log.h"
#include "ctl/netns.h"

#define BACKLOG      64
#define OVERFLOW_UID 65534 /* what the kernel shows of a user another user namespace has */

static socklen_t abstract_address(struct sockaddr_un *sa)
{
    *sa = (struct sockaddr_un){.sun_family = AF_UNIX};
    memcpy(sa->sun_path + 1, TCNS_CTL_ABSTRACT, sizeof(TCNS_CTL_ABSTRACT) - 1);
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + sizeof(TCNS_CTL_ABSTRACT));
}

static socklen_t path_address(struct sockaddr_un *sa, const char *path)
{
    *sa = (struct sockaddr_un){.sun_family = AF_UNIX};
    strncpy(sa->sun_path, path, sizeof(sa->sun_path) - 1);
    return sizeof(*sa);
}

static void format_path(char out[CTLSOCK_PATH_LEN], ino_t inode)
{
    snprintf(out, CTLSOCK_PATH_LEN, TCNS_CTL_DIR "/%ju.sock", (uintmax_t)inode);
}

static int listen_at(const struct sockaddr_un *sa, socklen_t len)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    if (bind(fd, (const struct sockaddr *)sa, len) < 0 || listen(fd, BACKLOG) < 0) {
        int err = -errno;
        close(fd);
        return err;
    }
    return fd;
}

/* A socket file that is there belongs to a dead daemon: we hold the TUN device.
 * The mode must be right from the first moment, hence the umask. */
static int listen_at_path(const char *path)
{
    struct sockaddr_un sa;
    socklen_t len = path_address(&sa, path);

    if (mkdir(TCNS_CTL_DIR, 0755) < 0 && errno != EEXIST)
        return -errno;
    if (unlink(path) < 0 && errno != ENOENT)
        return -errno;
    mode_t old = umask(0117);
    int fd = listen_at(&sa, len);
    umask(old);
    return fd;
}

void ctlsock_listen(struct ctlsock *c, ino_t inode)
{
    struct sockaddr_un sa;
    socklen_t len = abstract_address(&sa);

    format_path(c->path, inode);
    c->path_fd = listen_at_path(c->path);
    if (c->path_fd < 0)
        log_info("no ctl socket %s: %s", c->path, strerror(-c->path_fd));
    c->abstract_fd = listen_at(&sa, len);
    if (c->abstract_fd < 0)
        log_warn("no ctl socket @" TCNS_CTL_ABSTRACT " in the namespace: %s",
                 strerror(-c->abstract_fd));
}

void ctlsock_done(struct ctlsock *c)
{
    if (c->path_fd >= 0) {
        unlink(c->path);
        close(c->path_fd);
    }
    if (c->abstract_fd >= 0)
        close(c->abstract_fd);
    *c = (struct ctlsock)CTLSOCK_NONE;
}

/* --- Connecting ------------------------------------------------------------- */

static int connect_to(const struct sockaddr_un *sa, socklen_t len)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    if (connect(fd, (const struct sockaddr *)sa, len) < 0) {
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

static int connect_abstract(void)
{
    struct sockaddr_un sa;
    socklen_t len = abstract_address(&sa);

    int fd = connect_to(&sa, len);
    if (fd >= 0 && !is_daemon(fd)) {
        close(fd);
        return -ECONNREFUSED;
    }
    return fd;
}

void ctlsock_remove_dead(ino_t inode)
{
    struct sockaddr_un sa;
    char path[CTLSOCK_PATH_LEN];

    format_path(path, inode);
    socklen_t len = path_address(&sa, path);
    int fd = connect_to(&sa, len);
    if (fd >= 0)
        close(fd);
    else if (fd == -ECONNREFUSED)
        unlink(path);
}

int ctlsock_connect(int netns_fd)
{
    struct sockaddr_un sa;
    char path[CTLSOCK_PATH_LEN];
    ino_t inode;

    int err = netns_inode(netns_fd, &inode);
    if (err)
        return err;
    format_path(path, inode);
    socklen_t len = path_address(&sa, path);
    int fd = connect_to(&sa, len);
    if (fd >= 0)
        return fd;
    err = netns_enter(netns_fd);
    return err ? err : connect_abstract();
}
