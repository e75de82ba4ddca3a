/* SPDX-License-Identifier: BSD-3-Clause
 * Network namespaces by name, path, process or descriptor.
 */
#include "ctl/net/netns.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

bool netns_is_name(const char *text)
{
    return *text && !strchr(text, '/') && strcmp(text, ".") != 0 && strcmp(text, "..") != 0 &&
           strcmp(text, "self") != 0 && strlen(text) <= NETNS_NAME_MAX_LEN;
}

static bool is_number(const char *text)
{
    return *text && text[strspn(text, "0123456789")] == '\0';
}

/* A file that is no namespace would otherwise fail only at setns(), with EINVAL
 * and after other steps. */
static int check_is_netns(int fd)
{
    struct statfs fs;

    if (fstatfs(fd, &fs) < 0)
        return -errno;
    if (fs.f_type != NSFS_MAGIC || ioctl(fd, NS_GET_NSTYPE) != CLONE_NEWNET)
        return -EINVAL;
    return 0;
}

static int open_path(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    int err = check_is_netns(fd);
    if (err) {
        close(fd);
        return err;
    }
    return fd;
}

static int open_between(const char *dir, const char *text, const char *rest)
{
    char path[4096];

    int n = snprintf(path, sizeof(path), "%s%s%s", dir, text, rest);
    if (n < 0 || (size_t)n >= sizeof(path))
        return -ENAMETOOLONG;
    return open_path(path);
}

int netns_open(const char *text)
{
    if (!*text)
        return -ENOENT;
    if (strcmp(text, "self") == 0)
        return open_path("/proc/self/ns/net");
    if (strchr(text, '/'))
        return open_path(text);
    if (strcmp(text, ".") == 0 || strcmp(text, "..") == 0)
        return -ENOENT;
    int fd = open_between(NETNS_NAMES_DIR "/", text, "");
    if (fd == -ENOENT && is_number(text))
        return open_between("/proc/", text, "/ns/net");
    return fd;
}

const char *netns_strerror(int err)
{
    switch (-err) {
    case ENOENT:
        return "there is none";
    case EINVAL:
        return "not a network namespace";
    default:
        return strerror(-err);
    }
}

int netns_inode(int fd, ino_t *ret)
{
    struct stat st;

    if (fstat(fd, &st) < 0)
        return -errno;
    *ret = st.st_ino;
    return 0;
}

/* setns() wants CAP_SYS_ADMIN even for the namespace one is in. */
static bool is_current(int fd)
{
    ino_t wanted, current;

    int self = netns_open("self");
    if (self < 0)
        return false;
    bool same =
        netns_inode(fd, &wanted) == 0 && netns_inode(self, &current) == 0 && wanted == current;
    close(self);
    return same;
}

int netns_enter(int fd)
{
    if (is_current(fd))
        return 0;
    return setns(fd, CLONE_NEWNET) < 0 ? -errno : 0;
}
