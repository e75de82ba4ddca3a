/* SPDX-License-Identifier: BSD-3-Clause
 * May that process change what the daemon does?
 */
#include "ctl/daemon/privilege.h"

#include <errno.h>
#include <linux/capability.h>
#include <poll.h>
#include <stdio.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "ctl/daemon/channel.h"

/* The supervisor may be following a change of many routes; packets wait meanwhile. */
#define PATIENCE_MS 500

/* Return: whether the lines of /proc/PID/status name the capability, and no other user than
 * uid: a set-user-id program that the client has become since speaks for another. */
static bool status_allows(FILE *f, uid_t uid)
{
    unsigned long long caps = 0;
    unsigned r, e, s;
    bool same = false;
    char line[128];

    while (fgets(line, sizeof(line), f)) {
        sscanf(line, "CapEff: %llx", &caps);
        if (sscanf(line, "Uid: %u %u %u", &r, &e, &s) == 3)
            same = r == uid && e == uid && s == uid;
    }
    return same && caps >> CAP_NET_ADMIN & 1;
}

static bool has_capability(const struct ucred *who)
{
    char path[64];

    snprintf(path, sizeof(path), "/proc/%d/status", (int)who->pid);
    FILE *f = fopen(path, "re");
    if (!f)
        return false;
    bool allowed = status_allows(f, who->uid);
    fclose(f);
    return allowed;
}

static bool is_of_our_user_namespace(pid_t pid)
{
    struct stat ours, theirs;
    char path[64];

    snprintf(path, sizeof(path), "/proc/%d/ns/user", (int)pid);
    if (stat("/proc/self/ns/user", &ours) < 0)
        return errno == ENOENT; /* a kernel without any */
    return stat(path, &theirs) == 0 && ours.st_dev == theirs.st_dev && ours.st_ino == theirs.st_ino;
}

bool privilege_has(const struct ucred *who, int pidfd)
{
    if (who->pid <= 0) /* not of our pid namespace, or over TCP */
        return false;
    bool allowed = has_capability(who) && is_of_our_user_namespace(who->pid);
    /* Still there, so that number was not another process's. */
    return allowed && (pidfd < 0 || pidfd_send_signal(pidfd, 0, NULL, 0) == 0);
}

bool privilege_ask(int channel, const struct ucred *who, int pidfd)
{
    struct pollfd p = {.fd = channel, .events = POLLIN};
    int fds[CHANNEL_FD_MAX_CNT];
    size_t fd_cnt;
    char answer;

    /* An answer that came too late for an earlier question is not one to this. */
    while (channel_receive(channel, &answer, 1, fds, &fd_cnt) > 0)
        ;
    int err = channel_send(channel, who, sizeof(*who), &pidfd, pidfd >= 0);
    if (!err && poll(&p, 1, PATIENCE_MS) == 1 &&
        channel_receive(channel, &answer, 1, fds, &fd_cnt) == 1)
        return answer == 'y';
    log_warn("nobody answers whether process %d may change anything", (int)who->pid);
    return false;
}

bool privilege_answer(int channel)
{
    int fds[CHANNEL_FD_MAX_CNT];
    struct ucred who;
    size_t fd_cnt;
    ssize_t n;

    while ((n = channel_receive(channel, &who, sizeof(who), fds, &fd_cnt)) == sizeof(who)) {
        char answer = privilege_has(&who, fd_cnt > 0 ? fds[0] : -1) ? 'y' : 'n';

        while (fd_cnt > 0)
            close(fds[--fd_cnt]);
        (void)channel_send(channel, &answer, 1, NULL, 0);
    }
    return n != 0;
}
