/* SPDX-License-Identifier: BSD-3-Clause
 * The verb exec: a command in a network namespace of its own, attached.
 *
 * How it works: four processes. We stay in the calling namespace, relay signals
 * and names (dns.c), and wait. The command is our child, in the new namespace,
 * in our process group and on our terminal. The supervisor (daemon.c) is our
 * child too and ends with us. The janitor, a child in a session of its own, does
 * nothing until a pipe from us closes: then it takes away what we changed in the
 * calling namespace (exec_host.c). So that happens however we end, and in one
 * place. Should the janitor be killed as well, the next exec does it.
 *
 * Signals: all are blocked here and read from a descriptor. What a process sends
 * us goes on to the command. What the terminal sends has reached the command
 * already when it is in our process group, and is dropped. When the command
 * stops we stop too, so that the shell's job control sees one job; the SIGCONT
 * that wakes us goes on to the command.
 */
#include "ctl/exec/exec.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "ctl/cli/attach.h"
#include "ctl/conf/sources.h"
#include "ctl/daemon/daemon.h"
#include "ctl/exec/dns.h"
#include "ctl/exec/exec_drain.h"
#include "ctl/exec/exec_host.h"
#include "ctl/exec/exec_link.h"
#include "ctl/exec/exec_space.h"
#include "ctl/net/netns.h"
#include "ctl/net/tundev.h"

#define DAEMON_STOP_MS  3000
#define JANITOR_WAIT_MS 4000 /* for the supervisor to take leave of its peers */
#define DRAIN_STEP_MS   20
#define DRAIN_IDLE_MS   3000  /* without a packet: longer than the first retransmissions take */
#define DRAIN_MAX_MS    60000 /* as long as Linux keeps an orphaned connection, tcp_fin_timeout */

const char exec_help[] =
    "Runs the command as the calling user, in the caller's directory, with its environment and "
    "terminal, in a network namespace of its own: TCP connections of the command, and of what it "
    "starts, are encrypted where the peer can. Its addresses are private ones, translated to the "
    "caller's. Exits with the command's status, 128 and the number of the signal that ended it, "
    "125 when exec itself fails, 126 when the command cannot be executed, 127 when it is not "
    "found.";

struct exec {
    struct daemon_options opts;
    struct sources sources;
    bool verbose;
    char **argv; /* of the command */
    struct publish publish;
    struct exec_host host;
    struct daemon daemon;
    struct dns *dns;
    int netns_fd;
    int signal_fd;
    int janitor_fd; /* closing it lets the janitor work */
    pid_t janitor;
    pid_t child;
    sigset_t caller_mask;
    struct sigaction caller_sigchld;
};

static void __attribute__((format(printf, 1, 2))) complain(const char *fmt, ...)
{
    char text[600];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    fprintf(stderr, "tcpcrypt-ns: exec: %s\n", text);
}

static int complain_errno(int err, const char *what)
{
    complain("%s: %s%s", what, strerror(-err),
             err == -EPERM || err == -EACCES ? " (exec needs root, or CAP_NET_ADMIN, "
                                               "CAP_NET_RAW and CAP_SYS_ADMIN)"
                                             : "");
    return err;
}

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

/* --- options ---------------------------------------------------------------------- */

static void read_option(void *arg, int id)
{
    struct exec *x = arg;

    if (attach_read_option(x->sources.verb, id, &x->opts))
        return;
    if (id == OPT_PUBLISH) {
        cli_publish(x->sources.verb, optarg, &x->publish);
    } else if (id == OPT_VERBOSE) {
        x->verbose = true;
        x->opts.log_level = cli_more_verbose(x->opts.log_level);
    }
}

static void parse_options(struct exec *x, int argc, char **argv)
{
    const struct cli_verb *verb = cli_verb_find("exec");

    cli_set_usage_code(EXEC_EXIT_FAILURE);
    daemon_options_init(&x->opts);
    sources_read(&x->sources, verb, argc, argv, read_option, x, &x->opts);
    if (optind >= argc)
        cli_usage(verb, "no command");
    x->argv = argv + optind;
}

/* --- signals ---------------------------------------------------------------------- */

/* Faults of our own must still kill us. */
static int block_signals(struct exec *x)
{
    static const int own[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGABRT};
    sigset_t all;

    sigfillset(&all);
    for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++)
        sigdelset(&all, own[i]);
    if (sigprocmask(SIG_SETMASK, &all, &x->caller_mask) < 0)
        return -errno;
    /* Ignored in the caller it would make waitpid() blind. */
    struct sigaction dfl = {.sa_handler = SIG_DFL};
    sigaction(SIGCHLD, &dfl, &x->caller_sigchld);
    x->signal_fd = signalfd(-1, &all, SFD_CLOEXEC | SFD_NONBLOCK);
    return x->signal_fd < 0 ? -errno : 0;
}

/* The kernel sent it to the whole foreground process group, the command included. */
static bool child_has_it(const struct exec *x, const struct signalfd_siginfo *si)
{
    return si->ssi_code == SI_KERNEL && getpgid(x->child) == getpgrp();
}

static bool ends_process(uint32_t sig)
{
    return sig == SIGTERM || sig == SIGINT || sig == SIGHUP || sig == SIGQUIT;
}

/* Before there is a command. Return: the signal that should end us; 0. */
static int pending_end(const struct exec *x)
{
    struct signalfd_siginfo si;

    while (read(x->signal_fd, &si, sizeof(si)) == sizeof(si)) {
        if (ends_process(si.ssi_signo))
            return (int)si.ssi_signo;
    }
    return 0;
}

static void relay_signals(const struct exec *x)
{
    struct signalfd_siginfo si;

    while (read(x->signal_fd, &si, sizeof(si)) == sizeof(si)) {
        if (si.ssi_signo != SIGCHLD && !child_has_it(x, &si))
            kill(x->child, (int)si.ssi_signo);
    }
}

/* The shell that watches us must see the job stop. Without a terminal nobody
 * would wake us again. */
static void stop_too(void)
{
    int tty = open("/dev/tty", O_RDONLY | O_CLOEXEC | O_NOCTTY);

    if (tty < 0)
        return;
    close(tty);
    kill(getpid(), SIGSTOP);
}

/* Return: true with the command's exit status, as ours, when it has ended. */
static bool child_has_ended(struct exec *x, int *ret_code)
{
    int status;
    pid_t pid;

    while ((pid = waitpid(x->child, &status, WNOHANG | WUNTRACED)) == x->child) {
        if (WIFSTOPPED(status)) {
            stop_too();
            continue;
        }
        *ret_code =
            WIFEXITED(status) ? WEXITSTATUS(status) : EXEC_EXIT_SIGNAL_BASE + WTERMSIG(status);
        return true;
    }
    if (pid < 0 && errno != EINTR) {
        *ret_code = EXEC_EXIT_FAILURE;
        return true;
    }
    return false;
}

/* --- janitor ---------------------------------------------------------------------- */

/* The supervisor still sends resets through the link that we are about to remove. */
static void janitor_wait_for(pid_t pid)
{
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);

    if (fd < 0)
        return;
    struct pollfd p = {.fd = fd, .events = POLLIN};
    poll(&p, 1, JANITOR_WAIT_MS);
    close(fd);
}

static void __attribute__((noreturn)) janitor_main(struct exec_host *host, int pipe_fd)
{
    pid_t supervisor = -1, pid;

    /* Out of reach of signals to the caller's group, and of its open files. */
    setsid();
    prctl(PR_SET_NAME, "tcns-janitor");
    if (chdir("/") < 0)
        _exit(1);
    int null_fd = open("/dev/null", O_RDWR);
    for (int fd = 0; fd <= 2 && null_fd >= 0; fd++)
        dup2(null_fd, fd);

    while (read(pipe_fd, &pid, sizeof(pid)) == sizeof(pid))
        supervisor = pid;
    if (supervisor > 0)
        janitor_wait_for(supervisor);
    _exit(exec_host_teardown(host) ? 1 : 0);
}

static int janitor_start(struct exec *x)
{
    int fds[2];

    if (pipe2(fds, O_CLOEXEC) < 0)
        return -errno;
    x->janitor = fork();
    if (x->janitor == 0) {
        close(fds[1]);
        close(x->signal_fd);
        janitor_main(&x->host, fds[0]);
    }
    int err = x->janitor < 0 ? -errno : 0;
    close(fds[0]);
    if (err)
        close(fds[1]);
    else
        x->janitor_fd = fds[1];
    return err;
}

static void janitor_tell_supervisor(const struct exec *x)
{
    if (write(x->janitor_fd, &x->daemon.pid, sizeof(x->daemon.pid)) < 0)
        log_warn("exec: the janitor is gone");
}

static void janitor_finish(struct exec *x)
{
    int status = 0;

    close_fd(&x->janitor_fd);
    if (x->janitor <= 0)
        return;
    pid_t pid = waitpid(x->janitor, &status, 0);
    x->janitor = -1;
    /* It was killed, or could not do all: once more, with a voice. */
    if (pid < 0 || !WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        int err = exec_host_teardown(&x->host);
        if (err)
            complain_errno(err, "cleaning up");
    }
}

/* --- set-up ----------------------------------------------------------------------- */

static int attach(struct exec *x)
{
    char text[DAEMON_ERROR_LEN];

    x->opts.netns_fd = x->netns_fd;
    x->opts.uplinks = (struct links){.entries = {{.name = EXEC_LINK_INSIDE}}, .cnt = 1};
    x->opts.keep_stderr = x->verbose;
    x->opts.end_with_caller = true;
    int err = daemon_start(&x->opts, &x->daemon, text);
    if (err) {
        complain("%s", text);
        return err;
    }
    janitor_tell_supervisor(x);
    return 0;
}

static int set_up(struct exec *x)
{
    char text[EXEC_ERROR_LEN];

    int err = exec_host_open(&x->host, NULL, text);
    if (err) {
        complain("%s%s", text, err == -EPERM || err == -EACCES ? " (exec needs root)" : "");
        return err;
    }
    err = janitor_start(x);
    if (err)
        return complain_errno(err, "fork");
    x->netns_fd = exec_space_new();
    if (x->netns_fd < 0)
        return complain_errno(x->netns_fd, "making a network namespace");
    err = exec_space_connect(&x->host, x->netns_fd, &x->publish, text);
    if (err) {
        complain("%s", text);
        return err;
    }
    x->dns = exec_space_dns(x->netns_fd);
    return attach(x);
}

/* --- the command ------------------------------------------------------------------ */

static int become_command(const struct exec *x, pid_t parent)
{
    int err = netns_enter(x->netns_fd);
    if (err)
        return err;
    /* A killed exec takes the command with it. */
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
        return -errno;
    if (getppid() != parent)
        raise(SIGKILL);
    sigaction(SIGCHLD, &x->caller_sigchld, NULL);
    sigprocmask(SIG_SETMASK, &x->caller_mask, NULL);
    execvp(x->argv[0], x->argv);
    return -errno;
}

/* Return: 0; -errno of becoming the command. */
static int start_command(struct exec *x)
{
    int fds[2], err = 0;
    pid_t parent = getpid();

    if (pipe2(fds, O_CLOEXEC) < 0)
        return -errno;
    x->child = fork();
    if (x->child == 0) {
        err = become_command(x, parent);
        ssize_t ignored = write(fds[1], &err, sizeof(err));
        (void)ignored;
        _exit(EXEC_EXIT_FAILURE);
    }
    if (x->child < 0)
        err = -errno;
    close(fds[1]);
    /* End of file: the descriptor went with a successful exec. */
    if (!err && read(fds[0], &err, sizeof(err)) == sizeof(err))
        waitpid(x->child, NULL, 0);
    close(fds[0]);
    return err;
}

static int exit_code_of_exec_error(const struct exec *x, int err)
{
    complain("%s: %s", x->argv[0], strerror(-err));
    return err == -ENOENT || err == -ENOTDIR ? EXEC_EXIT_NOT_FOUND : EXEC_EXIT_NO_EXECUTE;
}

static void on_daemon_end(struct exec *x, struct pollfd *p)
{
    complain("the daemon has ended; the command has no TCP any more");
    p->fd = -1;
}

static int wait_for_command(struct exec *x)
{
    struct pollfd p[] = {
        {.fd = x->signal_fd, .events = POLLIN},
        {.fd = x->daemon.pidfd, .events = POLLIN},
        {.fd = x->dns ? dns_fd(x->dns) : -1, .events = POLLIN},
    };
    int code;

    while (!child_has_ended(x, &code)) {
        if (poll(p, sizeof(p) / sizeof(p[0]), -1) < 0)
            continue;
        if (p[0].revents)
            relay_signals(x);
        if (p[1].revents)
            on_daemon_end(x, &p[1]);
        if (p[2].revents)
            dns_dispatch(x->dns);
    }
    return code;
}

/* --- the end ---------------------------------------------------------------------- */

/* Lets the daemon send what the command wrote before it ended: as long as there
 * are connections of nobody and something moves on the link. A signal that would
 * have ended the command ends this. */
static void drain(struct exec *x)
{
    struct pollfd p = {.fd = x->signal_fd, .events = POLLIN};
    uint64_t moved = 0, moved_before = 0;
    int64_t start = clock_ms(), last = start, now = start;
    size_t cnt;

    while (exec_drain_pending(x->netns_fd, x->daemon.pid, &cnt) == 0 && cnt > 0) {
        now = clock_ms();
        if (exec_link_bytes(x->host.link_name, &moved) < 0 || moved != moved_before)
            last = now;
        moved_before = moved;
        if (now - last >= DRAIN_IDLE_MS || now - start >= DRAIN_MAX_MS) {
            log_info("exec: %zu connections are cut off", cnt);
            return;
        }
        if (poll(&p, 1, DRAIN_STEP_MS) > 0 && pending_end(x))
            return;
    }
}

static int run(struct exec *x)
{
    if (geteuid() != getuid() || getegid() != getgid()) {
        complain("must not be installed set-user-id");
        return EXEC_EXIT_FAILURE;
    }
    if (if_nametoindex(TUNDEV_NAME) != 0) {
        complain("this namespace is attached already; commands in it need no exec");
        return EXEC_EXIT_FAILURE;
    }
    if (set_up(x) < 0)
        return EXEC_EXIT_FAILURE;
    int sig = pending_end(x);
    if (sig)
        return EXEC_EXIT_SIGNAL_BASE + sig;
    int err = start_command(x);
    if (err)
        return exit_code_of_exec_error(x, err);
    int code = wait_for_command(x);
    drain(x);
    return code;
}

static void take_down(struct exec *x)
{
    daemon_stop(&x->daemon, DAEMON_STOP_MS);
    dns_free(x->dns);
    close_fd(&x->netns_fd);
    janitor_finish(x);
    exec_host_done(&x->host);
    close_fd(&x->signal_fd);
}

/* A missing standard descriptor must not become one of ours: what is written to
 * "standard error" would go there. The command still sees it closed. */
static int fill_standard_fds(void)
{
    int fd;

    do {
        fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    } while (fd >= 0 && fd <= 2);
    if (fd < 0)
        return -errno;
    close(fd);
    return 0;
}

int exec_main(int argc, char **argv)
{
    /* Static: its options are read until the process ends. */
    static struct exec x = {
        .host = EXEC_HOST_NONE,
        .daemon = DAEMON_NONE,
        .netns_fd = -1,
        .signal_fd = -1,
        .janitor_fd = -1,
        .janitor = -1,
        .child = -1,
    };

    parse_options(&x, argc, argv);
    log_set_level(x.opts.log_level);
    int err = fill_standard_fds();
    if (!err)
        err = sodium_init() < 0 ? -ENOSYS : block_signals(&x);
    if (err) {
        complain_errno(err, "start");
        return EXEC_EXIT_FAILURE;
    }
    int code = run(&x);
    take_down(&x);
    return code;
}
