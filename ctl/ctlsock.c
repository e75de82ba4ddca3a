/* SPDX-License-Identifier: BSD-3-Clause
 * Where the ctl socket is: its doors, and how to reach them.
 */
#include "ctl/ctlsock.h"

#include <errno.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/log.h"
#include "ctl/netns.h"

#define BACKLOG      256
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

static int listen_at(const void *sa, socklen_t len)
{
    sa_family_t family = ((const struct sockaddr *)sa)->sa_family;
    int one = 1;

    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    if (family == AF_INET)
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (bind(fd, sa, len) < 0 || listen(fd, BACKLOG) < 0) {
        int err = -errno;
        close(fd);
        return err;
    }
    return fd;
}

static int connect_to(const void *sa, socklen_t len)
{
    int fd = socket(((const struct sockaddr *)sa)->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    if (connect(fd, sa, len) < 0) {
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

/* Return: the port of ":PORT"; 0 when text is nothing such. */
static uint16_t port_of(const char *text)
{
    char *end;

    if (text[0] != ':' || text[1] < '0' || text[1] > '9')
        return 0;
    unsigned long port = strtoul(text + 1, &end, 10);
    return *end || port > UINT16_MAX ? 0 : (uint16_t)port;
}

static struct sockaddr_in port_address(const char *text)
{
    return (struct sockaddr_in){
        .sin_family = AF_INET,
        .sin_port = htons(port_of(text)),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
}

bool ctlsock_is_place(const char *text)
{
    size_t max = sizeof(((struct sockaddr_un *)NULL)->sun_path);

    return port_of(text) > 0 || (text[0] == '/' && strlen(text) < max);
}

/* A socket at which nobody listens any more; anything else there stays, and is in our way. */
static int listen_at_extra_path(const char *path)
{
    struct sockaddr_un sa;
    socklen_t len = path_address(&sa, path);

    mode_t old = umask(0117);
    int fd = listen_at(&sa, len);
    if (fd == -EADDRINUSE) {
        int other = connect_to(&sa, len);
        if (other >= 0)
            close(other);
        else if (other == -ECONNREFUSED && is_socket(path) && unlink(path) == 0)
            fd = listen_at(&sa, len);
    }
    umask(old);
    return fd;
}

int ctlsock_listen_extra(struct ctlsock *c, const char *text)
{
    struct sockaddr_in sa = port_address(text);
    bool is_path = text[0] == '/';

    int fd = is_path ? listen_at_extra_path(text) : listen_at(&sa, sizeof(sa));
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

int ctlsock_connect_at(const char *text)
{
    struct sockaddr_in in = port_address(text);
    struct sockaddr_un un;
    socklen_t len = path_address(&un, text);

    int fd = text[0] == '/' ? connect_to(&un, len) : connect_to(&in, sizeof(in));
    return fd == -ENOENT ? -ECONNREFUSED : fd;
}
