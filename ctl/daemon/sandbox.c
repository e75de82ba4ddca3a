/* SPDX-License-Identifier: BSD-3-Clause
 * Taking from a process what it does not need any more.
 *
 * How it works: the worker takes apart what strangers send, so it is given little to be
 * taken over for. Its descriptors are open when it enters: the TUN device, packet sockets
 * (later ones come from the supervisor, SCM_RIGHTS), netlink for questions, the doors of
 * the ctl socket, the log. What takes a privilege later is asked of the supervisor over the channel:
 * resolving a neighbour, looking who a client is (privilege.h).
 *
 * So a feature that writes files (key log, captures) gets them opened by the
 * client, which sends the descriptor, or opened before sandbox_enter(). What tries to open
 * one inside gets EPERM.
 *
 * A refused call fails with EPERM; nothing is killed for it, for a library may try what it
 * can do without. At log level debug the last is logged, see sandbox_tell().
 *
 * Sanitizers look at /proc and start processes when they report: no filter with them.
 */
#include "ctl/daemon/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include "base/log.h"

#if defined(__SANITIZE_ADDRESS__)
#define HAS_SANITIZER 1
#else
#define HAS_SANITIZER 0
#endif

void sandbox_begin(void)
{
    struct rlimit none = {.rlim_cur = 0, .rlim_max = 0};

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        log_warn("sandbox: no_new_privs: %s", strerror(errno));
    if (!HAS_SANITIZER && prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
        log_warn("sandbox: dumpable: %s", strerror(errno));
    if (setrlimit(RLIMIT_CORE, &none) < 0)
        log_warn("sandbox: core dumps: %s", strerror(errno));
}

/* --- Root directory --------------------------------------------------------------- */

/* In a folder that is empty for good: it is gone as soon as we are in. */
static int enter_empty(const char *parent)
{
    char path[64];
    int err = 0;

    snprintf(path, sizeof(path), "%s/tcpcrypt-XXXXXX", parent);
    if (!mkdtemp(path))
        return -errno;
    int fd = open(parent, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || chdir(path) < 0 || chroot(".") < 0)
        err = -errno;
    if (fd < 0 || unlinkat(fd, path + strlen(parent) + 1, AT_REMOVEDIR) < 0)
        rmdir(path); /* still outside, when there is no fd */
    if (fd >= 0)
        close(fd);
    return err;
}

/* Takes CAP_SYS_CHROOT, which a container often does not give; the filter does it, too. */
static void leave_files(void)
{
    static const char *const parents[] = {"/run", "/tmp"};
    int err = -EPERM;

    for (size_t i = 0; err && i < sizeof(parents) / sizeof(*parents); i++)
        err = enter_empty(parents[i]);
    if (err)
        log_debug("sandbox: no empty root directory: %s", strerror(-err));
}

/* --- Capabilities ------------------------------------------------------------------ */

static void drop_capabilities(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[2] = {{0}};

    /* The bounding set takes CAP_SETPCAP; without executing anything it does not matter. */
    for (int cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
        (void)prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
    (void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    if (syscall(SYS_capset, &header, none) < 0)
        log_warn("sandbox: capabilities: %s", strerror(errno));
}

/* --- System calls ------------------------------------------------------------------ */

/* Whatever the arguments. Unknown ones of other architectures are left out. */
static const int allowed[] = {
    /* packets and clients */
    SCMP_SYS(read), SCMP_SYS(readv), SCMP_SYS(write), SCMP_SYS(writev), SCMP_SYS(recvfrom),
    SCMP_SYS(recvmsg), SCMP_SYS(recvmmsg), SCMP_SYS(sendto), SCMP_SYS(sendmsg), SCMP_SYS(sendmmsg),
    SCMP_SYS(recv), SCMP_SYS(send), SCMP_SYS(accept4), SCMP_SYS(shutdown), SCMP_SYS(getsockopt),
    SCMP_SYS(setsockopt), SCMP_SYS(getsockname), SCMP_SYS(getpeername), SCMP_SYS(bind),
    SCMP_SYS(close), SCMP_SYS(dup), SCMP_SYS(dup2), SCMP_SYS(dup3), SCMP_SYS(fcntl),
    SCMP_SYS(fcntl64),
    /* files that are open */
    SCMP_SYS(lseek), SCMP_SYS(_llseek), SCMP_SYS(pread64), SCMP_SYS(pwrite64), SCMP_SYS(fsync),
    SCMP_SYS(fdatasync), SCMP_SYS(ftruncate), SCMP_SYS(ftruncate64), SCMP_SYS(fallocate),
    SCMP_SYS(fstat), SCMP_SYS(fstat64), SCMP_SYS(newfstatat), SCMP_SYS(statx),
    /* waiting, and the time */
    SCMP_SYS(epoll_wait), SCMP_SYS(epoll_pwait), SCMP_SYS(epoll_pwait2), SCMP_SYS(epoll_ctl),
    SCMP_SYS(epoll_create1), SCMP_SYS(poll), SCMP_SYS(ppoll), SCMP_SYS(ppoll_time64),
    SCMP_SYS(select), SCMP_SYS(pselect6), SCMP_SYS(timerfd_create), SCMP_SYS(timerfd_settime),
    SCMP_SYS(timerfd_settime64), SCMP_SYS(eventfd2), SCMP_SYS(pipe2), SCMP_SYS(clock_gettime),
    SCMP_SYS(clock_gettime64), SCMP_SYS(clock_getres), SCMP_SYS(gettimeofday), SCMP_SYS(time),
    SCMP_SYS(nanosleep), SCMP_SYS(clock_nanosleep), SCMP_SYS(clock_nanosleep_time64),
    SCMP_SYS(sched_yield), SCMP_SYS(restart_syscall),
    /* memory */
    SCMP_SYS(brk), SCMP_SYS(munmap), SCMP_SYS(mremap), SCMP_SYS(madvise), SCMP_SYS(mlock),
    SCMP_SYS(mlock2), SCMP_SYS(munlock), SCMP_SYS(futex), SCMP_SYS(futex_time64),
    SCMP_SYS(membarrier), SCMP_SYS(rseq), SCMP_SYS(set_robust_list), SCMP_SYS(getrandom),
    /* signals, and the end */
    SCMP_SYS(rt_sigreturn), SCMP_SYS(sigreturn), SCMP_SYS(rt_sigprocmask), SCMP_SYS(rt_sigaction),
    SCMP_SYS(sigaltstack), SCMP_SYS(exit), SCMP_SYS(exit_group),
    /* who we are */
    SCMP_SYS(getpid), SCMP_SYS(getppid), SCMP_SYS(gettid), SCMP_SYS(getuid), SCMP_SYS(geteuid),
    SCMP_SYS(getgid), SCMP_SYS(getegid), SCMP_SYS(sysinfo), SCMP_SYS(uname), SCMP_SYS(getrusage),
    SCMP_SYS(getcpu), SCMP_SYS(sched_getaffinity),
};

#if defined(__x86_64__)
#define RESULT_OF(context) ((context)->uc_mcontext.gregs[REG_RAX])
#elif defined(__aarch64__)
#define RESULT_OF(context) ((context)->uc_mcontext.regs[0])
#endif

static volatile sig_atomic_t refused_cnt, refused_last;

#ifdef RESULT_OF
/* Only at log level debug. Whoever made the call may hold a lock, that of the time zone
 * for instance, which logging takes, too: so it is logged later. */
static void on_refused(int signo, siginfo_t *info, void *arg)
{
    ucontext_t *context = arg;

    refused_last = info->si_syscall;
    refused_cnt++;
    RESULT_OF(context) = -EPERM;
}

static uint32_t refusal(void)
{
    struct sigaction act = {.sa_sigaction = on_refused, .sa_flags = SA_SIGINFO};

    if (!log_enabled(LOG_LEVEL_DEBUG) || sigaction(SIGSYS, &act, NULL) < 0)
        return SCMP_ACT_ERRNO(EPERM);
    return SCMP_ACT_TRAP;
}
#else
static uint32_t refusal(void)
{
    return SCMP_ACT_ERRNO(EPERM);
}
#endif

/* Memory for data, never for code; signals to ourselves (abort()), to nobody else. */
static int allow_with_arguments(scmp_filter_ctx ctx)
{
    int err = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1,
                               SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));

    if (!err)
        err = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(mprotect), 1,
                               SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
    if (!err)
        err = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1,
                               SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)getpid()));
    return err;
}

static int load_filter(scmp_filter_ctx ctx)
{
    int err = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_TSYNC, 1);

    /* A tree in place of a chain, for kernels that do not keep the answers. */
    (void)seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2);
    for (size_t i = 0; !err && i < sizeof(allowed) / sizeof(*allowed); i++)
        err = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, allowed[i], 0);
    if (!err)
        err = allow_with_arguments(ctx);
    return err ? err : seccomp_load(ctx);
}

static void filter_calls(void)
{
    scmp_filter_ctx ctx = seccomp_init(refusal());

    int err = ctx ? load_filter(ctx) : -ENOMEM;
    seccomp_release(ctx);
    if (err)
        log_warn("sandbox: no filter of system calls: %s", strerror(-err));
}

void sandbox_tell(void)
{
    static int told;
    int cnt = refused_cnt;

    if (cnt != told)
        log_debug("sandbox: refused system call %d, and %d before it", (int)refused_last, cnt - 1);
    told = cnt;
}

void sandbox_enter(void)
{
    tzset(); /* reads a file */
    leave_files();
    drop_capabilities();
    if (!HAS_SANITIZER)
        filter_calls();
}
