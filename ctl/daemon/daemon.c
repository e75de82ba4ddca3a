/* SPDX-License-Identifier: BSD-3-Clause
 * Attaching to a network namespace: starting and stopping its daemon.
 */
#include "ctl/daemon/daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ctl/daemon/fds.h"
#include "ctl/daemon/keylog_file.h"
#include "ctl/daemon/supervisor.h"

/* How the supervisor says that it is ready (err is 0), or why it is not. */
struct report {
    int err;
    char text[DAEMON_ERROR_LEN];
};

void daemon_options_init(struct daemon_options *opts)
{
    *opts = (struct daemon_options){
        .netns_fd = -1,
        .policy = TUNNEL_POLICY_PREFER,
        .session = session_config_default,
        .fallback_s = DAEMON_FALLBACK_S,
        .key_timeout_s = DAEMON_KEY_TIMEOUT_S,
        .drain_new = TUNNEL_DRAIN_CLEAR,
        .log_level = LOG_LEVEL_WARN,
    };
    opts->session.rekey_bytes = SESSION_REKEY_BYTES_MAX;
    bypass_default(&opts->bypass);
}

struct policy_config daemon_policy(const struct daemon_options *opts)
{
    return (struct policy_config){
        .policy = opts->policy,
        .session = &opts->session,
        .keepalive_s = opts->keepalive_s,
        .settings = opts->settings,
        .rules = opts->rules,
        .rule_cnt = opts->rule_cnt,
    };
}

/* --- In the child ----------------------------------------------------------- */

/* The caller's handlers and mask are for the caller's work. */
static void reset_signals(void)
{
    sigset_t none;

    for (int i = 1; i < NSIG; i++)
        if (i != SIGKILL && i != SIGSTOP)
            signal(i, SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

static int set_stdio(const struct daemon_options *opts)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null < 0)
        return -errno;
    int log = null;
    if (opts->log_path)
        log = open(opts->log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
    if (log < 0)
        return -errno;
    dup2(null, STDIN_FILENO);
    dup2(null, STDOUT_FILENO);
    if (opts->log_path || !opts->keep_stderr)
        dup2(log, STDERR_FILENO);
    return 0; /* fds_close_others() closes the rest */
}

static bool send_report(int fd, const struct report *r)
{
    return write(fd, r, sizeof(*r)) == (ssize_t)sizeof(*r);
}

static bool on_ready(void *arg)
{
    int *report_fd = arg;
    struct report r = {.err = 0};

    bool told = send_report(*report_fd, &r);
    close(*report_fd);
    *report_fd = -1;
    return told;
}

/* PDEATHSIG is armed before the check, so that a caller that ended before it is noticed too. */
static void follow_caller(const struct daemon_options *opts, pid_t caller)
{
    if (!opts->end_with_caller)
        return;
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != caller)
        _exit(0);
}

/* In the folder of the caller, and with its rights. */
static int open_keylog(struct daemon_options *opts, char err[DAEMON_ERROR_LEN])
{
    if (!opts->keylog_path)
        return 0;
    opts->keylog_fd = keylog_file_open(opts->keylog_path, err, DAEMON_ERROR_LEN);
    return opts->keylog_fd < 0 ? opts->keylog_fd : 0;
}

static void run_child(const struct daemon_options *opts, pid_t caller, int report_fd)
{
    struct daemon_options own = *opts;
    struct report r = {.err = 0};

    reset_signals();
    signal(SIGPIPE, SIG_IGN);
    setsid();
    r.err = set_stdio(opts);
    if (r.err)
        snprintf(r.text, sizeof(r.text), "cannot open %s: %s",
                 opts->log_path ? opts->log_path : "/dev/null", strerror(-r.err));
    if (!r.err)
        r.err = open_keylog(&own, r.text);
    int keep[] = {report_fd, opts->netns_fd, own.keylog_fd};
    fds_close_others(keep, sizeof(keep) / sizeof(keep[0]));
    follow_caller(opts, caller);
    if (chdir("/") < 0)
        r.err = r.err ? r.err : -errno;
    if (!r.err)
        r.err = supervisor_run(&own, on_ready, &report_fd, r.text);
    if (r.err && report_fd >= 0)
        send_report(report_fd, &r);
    _exit(r.err ? 1 : 0);
}

/* --- In the caller ---------------------------------------------------------- */

static void read_report(int fd, struct report *r)
{
    ssize_t n;

    do
        n = read(fd, r, sizeof(*r));
    while (n < 0 && errno == EINTR);
    if (n == (ssize_t)sizeof(*r))
        return;
    r->err = -ECHILD;
    snprintf(r->text, sizeof(r->text), "the daemon died while starting");
}

static int await_report(pid_t pid, int fd, struct daemon *ret, char err[DAEMON_ERROR_LEN])
{
    struct report r;

    read_report(fd, &r);
    if (r.err) {
        memcpy(err, r.text, DAEMON_ERROR_LEN);
        waitpid(pid, NULL, 0);
        return r.err;
    }
    ret->pid = pid;
    ret->pidfd = pidfd_open(pid, 0);
    return 0;
}

int daemon_start(const struct daemon_options *opts, struct daemon *ret, char err[DAEMON_ERROR_LEN])
{
    pid_t caller = getpid();
    int pipe_fds[2];

    if (pipe2(pipe_fds, O_CLOEXEC) < 0) {
        snprintf(err, DAEMON_ERROR_LEN, "cannot make a pipe: %s", strerror(errno));
        return -errno;
    }
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0)
        run_child(opts, caller, pipe_fds[1]);
    close(pipe_fds[1]);
    int result = -errno;
    if (pid < 0)
        snprintf(err, DAEMON_ERROR_LEN, "cannot fork: %s", strerror(-result));
    else
        result = await_report(pid, pipe_fds[0], ret, err);
    if (result == 0 && opts->keylog_path)
        log_warn(DAEMON_KEYLOG_WARNING, opts->keylog_path);
    close(pipe_fds[0]);
    return result;
}

void daemon_release(struct daemon *d)
{
    if (d->pidfd >= 0)
        close(d->pidfd);
    *d = (struct daemon)DAEMON_NONE;
}

/* Return: whether the supervisor ended within the time. */
static bool wait_end(const struct daemon *d, int timeout_ms)
{
    struct pollfd p = {.fd = d->pidfd, .events = POLLIN};
    int n;

    do
        n = poll(&p, 1, timeout_ms);
    while (n < 0 && errno == EINTR);
    return n > 0;
}

int daemon_stop(struct daemon *d, int timeout_ms)
{
    int status = 0, err = 0;

    if (d->pid < 0)
        return 0;
    kill(d->pid, SIGTERM);
    if (!wait_end(d, timeout_ms)) {
        kill(d->pid, SIGKILL);
        err = -ETIMEDOUT;
    }
    if (waitpid(d->pid, &status, 0) < 0 || !WIFEXITED(status) || WEXITSTATUS(status) != 0)
        err = err ? err : -ECHILD;
    daemon_release(d);
    return err;
}

/* --- In this process -------------------------------------------------------- */

static bool on_ready_here(void *arg)
{
    int fd = *(int *)arg;

    if (fd < 0)
        return true;
    bool told = write(fd, "\n", 1) == 1;
    close(fd);
    return told;
}

int daemon_run(const struct daemon_options *opts, int ready_fd, char err[DAEMON_ERROR_LEN])
{
    struct daemon_options own = *opts;
    int failed = open_keylog(&own, err);

    return failed ? failed : supervisor_run(&own, on_ready_here, &ready_fd, err);
}
