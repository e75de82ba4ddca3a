/* SPDX-License-Identifier: BSD-3-Clause
 * Where the ctl socket is: its doors, and how to reach them.
 */
#include "ctl/daemon/ctlsock.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "ctl/client/ctldial.h"
#include "ctl/net/netns.h"

#define BACKLOG 256

static void format_path(char out[CTLSOCK_PATH_LEN], ino_t inode)
{
    snprintf(out, CTLSOCK_PATH_LEN, TCNS_CTL_DIR "/%ju.sock", (uintmax_t)inode);
}

static int listen_at(const struct ctldial_addr *addr)
{
    sa_family_t family = addr->sa.ss_family;
    int one = 1;

    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    if (family == AF_INET)
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (bind(fd, (const struct sockaddr *)&addr->sa, addr->len) < 0 || listen(fd, BACKLOG) < 0) {
        int err = -errno;
        close(fd);
        return err;
    }
    return fd;
}

static bool is_socket(const char *path)
{
    struct stat st;

    return lstat(path, &st) == 0 && S_ISSOCK(st.st_mode);
}

/* A socket file that is there belongs to a dead daemon: we hold the TUN device.
 * The mode must be right from the first moment, hence the umask. */
static int listen_at_path(const char *path)
{
    struct ctldial_addr addr = ctldial_path_addr(path);

    if (mkdir(TCNS_CTL_DIR, 0755) < 0 && errno != EEXIST)
        return -errno;
    if (unlink(path) < 0 && errno != ENOENT)
        return -errno;
    mode_t old = umask(0117);
    int fd = listen_at(&addr);
    umask(old);
    return fd;
}

void ctlsock_listen(struct ctlsock *c, ino_t inode)
{
    struct ctldial_addr abstract = ctldial_abstract_addr();

    format_path(c->path, inode);
    c->path_fd = listen_at_path(c->path);
    if (c->path_fd < 0)
        log_info("no ctl socket %s: %s", c->path, strerror(-c->path_fd));
    c->abstract_fd = listen_at(&abstract);
    if (c->abstract_fd < 0)
        log_warn("no ctl socket @" TCNS_CTL_ABSTRACT " in the namespace: %s",
                 strerror(-c->abstract_fd));
}

/* A socket at which nobody listens any more; anything else there stays, and is in our way. */
static int listen_at_extra_path(const struct ctldial_addr *addr, const char *path)
{
    mode_t old = umask(0117);
    int fd = listen_at(addr);
    if (fd == -EADDRINUSE) {
        int other = ctldial(addr, 0);
        if (other >= 0)
            close(other);
        else if (other == -ECONNREFUSED && is_socket(path) && unlink(path) == 0)
            fd = listen_at(addr);
    }
    umask(old);
    return fd;
}

int ctlsock_listen_extra(struct ctlsock *c, const char *text)
{
    struct ctldial_addr addr = ctldial_place_addr(text);
    bool is_path = text[0] == '/';

    int fd = is_path ? listen_at_extra_path(&addr, text) : listen_at(&addr);
    if (fd < 0)
        return fd;
    c->extra_fd = fd;
    c->extra_path = is_path ? text : NULL;
    return 0;
}

void ctlsock_done(struct ctlsock *c)
{
    if (c->extra_path)
        unlink(c->extra_path);
    if (c->extra_fd >= 0)
        close(c->extra_fd);
    if (c->path_fd >= 0) {
        unlink(c->path);
        close(c->path_fd);
    }
    if (c->abstract_fd >= 0)
        close(c->abstract_fd);
    *c = (struct ctlsock)CTLSOCK_NONE;
}

/* --- Connecting ------------------------------------------------------------- */

void ctlsock_remove_dead(ino_t inode)
{
    char path[CTLSOCK_PATH_LEN];

    format_path(path, inode);
    struct ctldial_addr addr = ctldial_path_addr(path);
    int fd = ctldial(&addr, 0);
    if (fd >= 0)
        close(fd);
    else if (fd == -ECONNREFUSED)
        unlink(path);
}

int ctlsock_connect(int netns_fd)
{
    char path[CTLSOCK_PATH_LEN];
    ino_t inode;

    int err = netns_inode(netns_fd, &inode);
    if (err)
        return err;
    format_path(path, inode);
    struct ctldial_addr addr = ctldial_path_addr(path);
    int fd = ctldial(&addr, 0);
    if (fd >= 0)
        return fd;
    err = netns_enter(netns_fd);
    return err ? err : ctldial_abstract(0);
}
