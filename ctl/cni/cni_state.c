/* SPDX-License-Identifier: BSD-3-Clause
 * Which daemon belongs to which attachment of a CNI network: a file for each, below /run.
 */
#include "ctl/cni/cni_state.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ctl/client/ctlclient.h"
#include "ctl/daemon/ctlsock.h"

#define DIR_PATH  TCNS_CTL_DIR "/cni"
#define STATE_LEN 96
#define NAME_LEN  256 /* what file systems take, and the zero byte */

bool cni_is_word(const char *text)
{
    if (!text || !isalnum((unsigned char)text[0]))
        return false;
    for (const char *c = text; *c; c++)
        if (!isalnum((unsigned char)*c) && !strchr("_.-", *c))
            return false;
    return true;
}

bool cni_is_ifname(const char *text)
{
    if (!text || !*text || strlen(text) >= IFNAMSIZ)
        return false;
    if (strcmp(text, ".") == 0 || strcmp(text, "..") == 0)
        return false;
    for (const char *c = text; *c; c++)
        if (isspace((unsigned char)*c) || *c == '/' || *c == ':')
            return false;
    return true;
}

/* No part has a colon. */
static int format_name(char out[NAME_LEN], const struct cni_attachment *at)
{
    int n = snprintf(out, NAME_LEN, "%s:%s:%s", at->network, at->container, at->ifname);

    return n < 0 || n >= NAME_LEN ? -ENAMETOOLONG : 0;
}

static int open_dir(void)
{
    int fd = open(DIR_PATH, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    return fd < 0 ? -errno : fd;
}

static int make_dir(void)
{
    if (mkdir(TCNS_CTL_DIR, 0755) < 0 && errno != EEXIST)
        return -errno;
    if (mkdir(DIR_PATH, 0700) < 0 && errno != EEXIST)
        return -errno;
    return open_dir();
}

static int write_all(int fd, const struct cni_state *s)
{
    char text[STATE_LEN];
    int len = snprintf(text, sizeof(text), "%ju %jd %" PRIu64 "\n", (uintmax_t)s->netns,
                       (intmax_t)s->pid, s->options);

    ssize_t n = write(fd, text, (size_t)len);
    return n == len ? 0 : n < 0 ? -errno : -ENOSPC;
}

/* Whole or not at all: under another name first, which cni_state_each() passes over. */
int cni_state_write(const struct cni_attachment *at, const struct cni_state *s)
{
    static const char *const fresh = ".new";
    char name[NAME_LEN];

    int err = format_name(name, at);
    if (err)
        return err;
    int dir = make_dir();
    if (dir < 0)
        return dir;
    int fd = openat(dir, fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    err = fd < 0 ? -errno : write_all(fd, s);
    if (fd >= 0)
        close(fd);
    if (!err && renameat(dir, fresh, dir, name) < 0)
        err = -errno;
    if (err)
        unlinkat(dir, fresh, 0);
    close(dir);
    return err;
}

static int read_file(int dir, const char *name, struct cni_state *ret)
{
    struct cni_state s;
    char text[STATE_LEN];
    uintmax_t netns;
    intmax_t pid;

    int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    ssize_t n = read(fd, text, sizeof(text) - 1);
    close(fd);
    text[n > 0 ? n : 0] = '\0';
    if (sscanf(text, "%ju %jd %" SCNu64, &netns, &pid, &s.options) != 3 || pid <= 0)
        return -ENOENT;
    s.netns = (ino_t)netns;
    s.pid = (pid_t)pid;
    *ret = s;
    return 0;
}

int cni_state_read(const struct cni_attachment *at, struct cni_state *ret)
{
    char name[NAME_LEN];

    int err = format_name(name, at);
    if (err)
        return err;
    int dir = open_dir();
    if (dir < 0)
        return dir;
    err = read_file(dir, name, ret);
    close(dir);
    return err;
}

void cni_state_remove(const struct cni_attachment *at)
{
    char name[NAME_LEN];

    int dir = open_dir();
    if (dir < 0)
        return;
    if (format_name(name, at) == 0)
        unlinkat(dir, name, 0);
    close(dir);
}

/* --- All of them ------------------------------------------------------------------- */

/* Cuts name into its parts. Return: whether it is an attachment's. */
static bool parse_name(char *name, struct cni_attachment *ret)
{
    char *rest = name;

    ret->network = strsep(&rest, ":");
    ret->container = strsep(&rest, ":");
    ret->ifname = strsep(&rest, ":");
    return ret->ifname && !rest && cni_is_word(ret->network) && cni_is_word(ret->container) &&
           cni_is_ifname(ret->ifname);
}

typedef int (*each_fn)(int dir, const char *name, const struct cni_attachment *at, void *arg);

static int each_file(each_fn fn, void *arg)
{
    int result = 0;

    int fd = open_dir();
    if (fd < 0)
        return fd == -ENOENT ? 0 : fd;
    DIR *dir = fdopendir(fd);
    if (!dir) {
        int err = -errno;
        close(fd);
        return err;
    }
    for (struct dirent *d; (d = readdir(dir));) {
        struct cni_attachment at;
        char name[NAME_LEN];

        strcpy(name, d->d_name);
        if (!parse_name(name, &at))
            continue;
        int err = fn(fd, d->d_name, &at, arg);
        result = result ? result : err;
    }
    closedir(dir);
    return result;
}

struct of_network {
    const char *network;
    int (*fn)(const struct cni_attachment *at, void *arg);
    void *arg;
};

static int on_file(int dir, const char *name, const struct cni_attachment *at, void *arg)
{
    const struct of_network *o = arg;

    return strcmp(at->network, o->network) == 0 ? o->fn(at, o->arg) : 0;
}

int cni_state_each(const char *network, int (*fn)(const struct cni_attachment *at, void *arg),
                   void *arg)
{
    struct of_network o = {.network = network, .fn = fn, .arg = arg};

    return each_file(on_file, &o);
}

struct search {
    const struct cni_attachment *but;
    struct cni_state found; /* pid 0: nothing yet */
    ino_t netns;
};

static bool is_same(const struct cni_attachment *a, const struct cni_attachment *b)
{
    return strcmp(a->network, b->network) == 0 && strcmp(a->container, b->container) == 0 &&
           strcmp(a->ifname, b->ifname) == 0;
}

static int look_at(int dir, const char *name, const struct cni_attachment *at, void *arg)
{
    struct search *s = arg;
    struct cni_state state;

    if (!is_same(at, s->but) && read_file(dir, name, &state) == 0 && state.netns == s->netns)
        s->found = state;
    return 0;
}

bool cni_state_find(const struct cni_attachment *but, ino_t netns, struct cni_state *ret)
{
    struct search s = {.but = but, .netns = netns};

    each_file(look_at, &s);
    if (s.found.pid && ret)
        *ret = s.found;
    return s.found.pid != 0;
}

/* --- Daemons ----------------------------------------------------------------------- */

/* An inode number may belong to another namespace by now, a process id to another
 * process; both to the same daemon hardly. */
bool cni_state_lives(const struct cni_state *s)
{
    struct ctlclient c = CTLCLIENT_NONE;
    char path[CTLSOCK_PATH_LEN];

    snprintf(path, sizeof(path), TCNS_CTL_DIR "/%ju.sock", (uintmax_t)s->netns);
    if (ctlclient_init_at(&c, path) < 0)
        return false;
    bool same = ctlclient_server_pid(&c) == s->pid;
    ctlclient_done(&c);
    return same;
}
