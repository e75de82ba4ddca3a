/* SPDX-License-Identifier: BSD-3-Clause
 * Asking systemd, through its own program.
 */
#include "ctl/service/systemctl.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define WORDS_MAX_CNT 16

extern char **environ;

bool systemctl_booted(void)
{
    return access("/run/systemd/system/", F_OK) == 0;
}

/* out_fd: its standard output; -1: ours. Return: 0 and *ret; -errno. */
static int start(const char *const words[], int out_fd, pid_t *ret)
{
    const char *argv[WORDS_MAX_CNT + 3] = {"systemctl", "--no-ask-password"};
    posix_spawn_file_actions_t actions;
    size_t cnt = 2;

    for (size_t i = 0; words[i]; i++) {
        if (i == WORDS_MAX_CNT)
            return -E2BIG;
        argv[cnt++] = words[i];
    }
    int err = posix_spawn_file_actions_init(&actions);
    if (err)
        return -err;
    if (out_fd >= 0)
        err = posix_spawn_file_actions_adddup2(&actions, out_fd, STDOUT_FILENO);
    if (!err)
        err = posix_spawnp(ret, argv[0], &actions, NULL, (char **)argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    return -err;
}

static int await(pid_t pid)
{
    int status;

    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return -errno;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -EIO;
}

int systemctl(const char *const words[])
{
    pid_t pid;

    int err = start(words, -1, &pid);
    return err ? err : await(pid);
}

/* Reads to the end, keeps what fits. */
static void read_all(int fd, char *ret, size_t size)
{
    char rest[512];
    size_t len = 0;
    ssize_t n;

    do {
        bool fits = len + 1 < size;
        n = read(fd, fits ? ret + len : rest, fits ? size - len - 1 : sizeof(rest));
        if (n > 0 && fits)
            len += (size_t)n;
    } while (n > 0 || (n < 0 && errno == EINTR));
    ret[len] = '\0';
}

int systemctl_property(const char *unit, const char *property, char *ret, size_t size)
{
    const char *words[] = {"show", "--value", "-p", property, "--", unit, NULL};
    int fds[2];
    pid_t pid;

    if (pipe2(fds, O_CLOEXEC) < 0)
        return -errno;
    int err = start(words, fds[1], &pid);
    close(fds[1]);
    if (!err)
        read_all(fds[0], ret, size);
    close(fds[0]);
    if (err)
        return err;
    err = await(pid);
    if (err)
        return err < 0 ? err : -EIO;
    ret[strcspn(ret, "\n")] = '\0';
    return 0;
}
