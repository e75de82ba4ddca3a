/* SPDX-License-Identifier: BSD-3-Clause
 * IP forwarding of the current network namespace: switched on, and put back.
 */
#include "ctl/exec/exec_sysctl.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"

/* /proc/sys/net shows the namespace of the thread that opens it. */
#define SYSCTL_DIR "/proc/sys/net"
#define KEY_LEN    320

#define ACCEPT_RA_UNLESS_FORWARDING "1"
#define ACCEPT_RA_ALWAYS            "2"

/* Return: 0 and the value without its newline; -errno. */
static int get(const char *key, char ret[32])
{
    char path[KEY_LEN + 32];

    snprintf(path, sizeof(path), SYSCTL_DIR "/%s", key);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    ssize_t n = read(fd, ret, 31);
    int err = errno;
    close(fd);
    if (n < 0)
        return -err;
    ret[n] = '\0';
    ret[strcspn(ret, "\n")] = '\0';
    return 0;
}

static int set(const char *key, const char *value)
{
    char path[KEY_LEN + 32];

    snprintf(path, sizeof(path), SYSCTL_DIR "/%s", key);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    size_t len = strlen(value);
    int err = write(fd, value, len) == (ssize_t)len ? 0 : -errno;
    close(fd);
    return err;
}

static bool has_value(const char *key, const char *value)
{
    char now[32];

    return get(key, now) == 0 && strcmp(now, value) == 0;
}

static void file_name(const char *netns, char ret[64])
{
    snprintf(ret, 64, "%s-sysctl", netns);
}

/* --- enable ----------------------------------------------------------------------- */

static int save(FILE *f, const char *key)
{
    char value[32];

    int err = get(key, value);
    if (err)
        return err;
    return fprintf(f, "%s %s\n", key, value) < 0 ? -EIO : 0;
}

/* The order of the lines is the order in which they are put back. */
static int save_all(FILE *f, const char *ip, bool ipv6)
{
    char dir_path[64], key[KEY_LEN], sibling[KEY_LEN];
    int err;

    snprintf(key, sizeof(key), "%s/conf/all/forwarding", ip);
    err = save(f, key);
    if (!err && !ipv6) /* the kernel turns it with "all" forwarding */
        err = save(f, "ipv4/conf/all/accept_redirects");
    snprintf(dir_path, sizeof(dir_path), SYSCTL_DIR "/%s/conf", ip);
    DIR *dir = err ? NULL : opendir(dir_path);
    if (!err && !dir)
        err = -errno;
    for (struct dirent *e; dir && !err && (e = readdir(dir));) {
        if (e->d_name[0] == '.' || strcmp(e->d_name, "all") == 0)
            continue;
        snprintf(key, sizeof(key), "%s/conf/%.255s/forwarding", ip, e->d_name);
        err = save(f, key);
        if (err == -ENOENT) { /* the interface went away meanwhile */
            err = 0;
            continue;
        }
        snprintf(sibling, sizeof(sibling), "%s/conf/%.255s/accept_ra", ip, e->d_name);
        if (!err && ipv6 && strcmp(e->d_name, "default") != 0 && has_value(key, "0") &&
            has_value(sibling, ACCEPT_RA_UNLESS_FORWARDING))
            err = save(f, sibling);
    }
    if (dir)
        closedir(dir);
    return err;
}

/* Calls fn for each saved line. Return: 0, also without a file; -errno. */
static int each_saved(int dir_fd, const char *netns,
                      void (*fn)(const char *key, const char *value, void *arg), void *arg)
{
    char name[64], line[KEY_LEN + 40];

    file_name(netns, name);
    int fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return errno == ENOENT ? 0 : -errno;
    FILE *f = fdopen(fd, "r");
    if (!f) {
        close(fd);
        return -ENOMEM;
    }
    while (fgets(line, sizeof(line), f)) {
        char *value = strrchr(line, ' '); /* an interface's name has no space in it */
        if (!value)
            continue;
        *value++ = '\0';
        value[strcspn(value, "\n")] = '\0';
        fn(line, value, arg);
    }
    fclose(f);
    return 0;
}

static bool is_accept_ra(const char *key)
{
    const char *last = strrchr(key, '/');

    return last && strcmp(last, "/accept_ra") == 0;
}

static void keep_accept_ra(const char *key, const char *value, void *arg)
{
    if (is_accept_ra(key) && set(key, ACCEPT_RA_ALWAYS) < 0)
        log_warn("exec: %s cannot be set; router advertisements will be ignored there", key);
}

int exec_sysctl_enable(int dir_fd, const char *netns, int family)
{
    bool ipv6 = family == AF_INET6;
    const char *ip = ipv6 ? "ipv6" : "ipv4";
    char key[KEY_LEN], value[32], name[64];

    snprintf(key, sizeof(key), "%s/conf/all/forwarding", ip);
    int err = get(key, value);
    if (err)
        return err;
    if (strcmp(value, "0") != 0)
        return 0;
    /* Asked first, so that the file only names what was changed: a read-only
     * /proc/sys is common in containers. */
    char path[KEY_LEN + 32];
    snprintf(path, sizeof(path), SYSCTL_DIR "/%s", key);
    if (access(path, W_OK) < 0)
        return -errno;

    file_name(netns, name);
    int fd = openat(dir_fd, name, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return -errno;
    FILE *f = fdopen(fd, "a");
    if (!f) {
        close(fd);
        return -ENOMEM;
    }
    err = save_all(f, ip, ipv6);
    if (fclose(f) != 0 && !err)
        err = -EIO;
    if (!err && ipv6)
        err = each_saved(dir_fd, netns, keep_accept_ra, NULL);
    return err ? err : set(key, "1");
}

/* --- restore ---------------------------------------------------------------------- */

static void put_back(const char *key, const char *value, void *arg)
{
    int *err = arg;

    if (has_value(key, value))
        return;
    if (is_accept_ra(key) && !has_value(key, ACCEPT_RA_ALWAYS))
        return; /* somebody else's choice by now */
    int e = set(key, value);
    if (e && e != -ENOENT && !*err) /* interfaces may be gone */
        *err = e;
}

int exec_sysctl_restore(int dir_fd, const char *netns)
{
    char name[64];
    int put_err = 0;

    int err = each_saved(dir_fd, netns, put_back, &put_err);
    if (!err)
        err = put_err;
    file_name(netns, name);
    if (!err && unlinkat(dir_fd, name, 0) < 0 && errno != ENOENT)
        err = -errno;
    return err;
}

static void note_family(const char *key, const char *value, void *arg)
{
    struct exec_sysctl_owned *owned = arg;

    owned->ipv4 |= strncmp(key, "ipv4/", 5) == 0;
    owned->ipv6 |= strncmp(key, "ipv6/", 5) == 0;
}

struct exec_sysctl_owned exec_sysctl_owned(int dir_fd, const char *netns)
{
    struct exec_sysctl_owned owned = {0};

    (void)each_saved(dir_fd, netns, note_family, &owned);
    return owned;
}
