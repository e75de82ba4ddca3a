/* SPDX-License-Identifier: BSD-3-Clause
 * Which process has a socket open.
 */
#include "ctl/net/owners.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int compare(const void *a, const void *b)
{
    const struct owner *x = a, *y = b;

    return x->inode < y->inode ? -1 : x->inode > y->inode;
}

static struct owner *find(const struct owners *o, uint32_t inode)
{
    const struct owner key = {.inode = inode};

    return inode && o->cnt > 0 ? bsearch(&key, o->list, o->cnt, sizeof(key), compare) : NULL;
}

static void read_name(int proc_fd, char name[OWNER_NAME_LEN])
{
    int fd = openat(proc_fd, "comm", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, name, OWNER_NAME_LEN - 1) : -1;

    name[n > 0 ? n : 0] = '\0';
    name[strcspn(name, "\n")] = '\0';
    if (fd >= 0)
        close(fd);
}

static void note(struct owners *o, uint32_t inode, pid_t pid, int proc_fd)
{
    struct owner *w = find(o, inode);

    if (!w || (w->pid && w->pid < pid))
        return;
    w->pid = pid;
    read_name(proc_fd, w->name);
}

/* A descriptor's link, when it is a socket, is "socket:[INODE]". */
static void look_at_fd(struct owners *o, int dir_fd, const char *entry, pid_t pid, int proc_fd)
{
    char link[64];
    unsigned inode;
    ssize_t n = readlinkat(dir_fd, entry, link, sizeof(link) - 1);

    if (n <= 0)
        return;
    link[n] = '\0';
    if (sscanf(link, "socket:[%u]", &inode) == 1)
        note(o, inode, pid, proc_fd);
}

static void look_at_process(struct owners *o, int all_fd, const char *entry)
{
    const struct dirent *d;

    int proc_fd = openat(all_fd, entry, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int fds_fd = proc_fd >= 0 ? openat(proc_fd, "fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    DIR *fds = fds_fd >= 0 ? fdopendir(fds_fd) : NULL;
    while (fds && (d = readdir(fds)))
        if (d->d_name[0] != '.')
            look_at_fd(o, fds_fd, d->d_name, (pid_t)atoi(entry), proc_fd);
    if (fds)
        closedir(fds);
    else if (fds_fd >= 0)
        close(fds_fd);
    if (proc_fd >= 0)
        close(proc_fd);
}

static void look_at_all(struct owners *o)
{
    const struct dirent *d;
    DIR *all = opendir("/proc");

    while (all && (d = readdir(all)))
        if (d->d_name[0] >= '1' && d->d_name[0] <= '9')
            look_at_process(o, dirfd(all), d->d_name);
    if (all)
        closedir(all);
}

int owners_load(const uint32_t *inodes, size_t cnt, struct owners *ret)
{
    struct owners o = {.list = calloc(cnt ? cnt : 1, sizeof(struct owner)), .cnt = cnt};

    if (!o.list)
        return -ENOMEM;
    for (size_t i = 0; i < cnt; i++)
        o.list[i].inode = inodes[i];
    if (cnt > 0)
        qsort(o.list, cnt, sizeof(*o.list), compare);
    if (cnt > 0)
        look_at_all(&o);
    *ret = o;
    return 0;
}

void owners_done(struct owners *o)
{
    free(o->list);
    *o = (struct owners){.cnt = 0};
}

const struct owner *owners_find(const struct owners *o, uint32_t inode)
{
    const struct owner *w = find(o, inode);

    return w && w->pid ? w : NULL;
}
