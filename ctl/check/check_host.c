/* SPDX-License-Identifier: BSD-3-Clause
 * check: what the process and the machine give.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/nsfs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include <sodium.h>

#include "ctl/check/check.h"
#include "ctl/conf/suites.h"
#include "ctl/net/tundev.h"
#include "tcpcrypt/session.h"

#define TUN_PATH       "/dev/net/tun"
#define LOCKED_LEN     (512 * 1024) /* secrets of 1,024 peers and their guard pages */
#define CLOCK_EARLIEST 1735689600   /* 2025: before this program was */
#define CLOCK_LATEST   4102444800   /* 2100 */

#define CONTAINER_CAPS "run it as root; for a container: --cap-add NET_ADMIN --cap-add NET_RAW"

/* --- Capabilities ----------------------------------------------------------- */

static uint64_t effective_caps(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {{0}};

    if (syscall(SYS_capget, &header, data) < 0)
        return 0;
    return (uint64_t)data[1].effective << 32 | data[0].effective;
}

static bool has_cap(uint64_t caps, int cap)
{
    return caps >> cap & 1;
}

static void say_caps(struct check *c, uint64_t caps)
{
    bool admin = has_cap(caps, CAP_NET_ADMIN), raw = has_cap(caps, CAP_NET_RAW);

    if (admin && raw)
        check_say(c, CHECK_OK, "capabilities", NULL, "CAP_NET_ADMIN and CAP_NET_RAW are there");
    else
        check_say(c, CHECK_FAIL, "capabilities", CONTAINER_CAPS, "%s%s%s missing",
                  admin ? "" : "CAP_NET_ADMIN", admin || raw ? "" : " and ",
                  raw ? (admin ? "" : " is") : (admin ? "CAP_NET_RAW is" : "CAP_NET_RAW are"));
    if (!has_cap(caps, CAP_SYS_ADMIN))
        check_say(
            c, CHECK_WARN, "capabilities",
            "needed only to run commands in namespaces of their own (exec) and to enter other "
            "namespaces; then run it as root",
            "CAP_SYS_ADMIN is missing");
}

/* Return: the inode of a namespace file, which it closes; 0 when it cannot be told. */
static ino_t take_inode(int fd)
{
    struct stat st;
    ino_t inode = fd >= 0 && fstat(fd, &st) == 0 ? st.st_ino : 0;

    if (fd >= 0)
        close(fd);
    return inode;
}

/* Capabilities count in the user namespace that they are of, and in those below it. */
static void say_userns(struct check *c, uint64_t caps)
{
    ino_t own = take_inode(open("/proc/self/ns/user", O_RDONLY | O_CLOEXEC));
    int owner_fd = ioctl(c->netns_fd, NS_GET_USERNS);
    bool above = owner_fd < 0 && errno == EPERM;
    ino_t owner = take_inode(owner_fd);

    c->has_net_admin = !above && has_cap(caps, CAP_NET_ADMIN);
    if (above)
        check_say(
            c, CHECK_FAIL, "user-ns",
            "start it outside of that user namespace, or make the network namespace inside it",
            "the network namespace belongs to a user namespace above the one we are in: "
            "capabilities here do not count there");
    else if (own && owner && own != owner)
        check_say(c, CHECK_OK, "user-ns", NULL,
                  "the network namespace belongs to a user namespace below ours");
    else
        check_say(c, CHECK_OK, "user-ns", NULL,
                  "the network namespace belongs to the user namespace we are in");
}

void check_privileges(struct check *c)
{
    uint64_t caps = effective_caps();

    say_caps(c, caps);
    say_userns(c, caps);
}

/* --- /dev/net/tun ----------------------------------------------------------- */

static void tun_missing(struct check *c, int err)
{
    bool is_there = access(TUN_PATH, F_OK) == 0;

    if (is_there && err == -EPERM)
        check_say(c, CHECK_FAIL, "tun",
                  "for a container: --device " TUN_PATH " (a bind mount alone does not pass the "
                  "device controller)",
                  "%s may not be opened: %s", TUN_PATH, strerror(-err));
    else if (is_there && err == -EACCES)
        check_say(c, CHECK_FAIL, "tun", "run it as root, or chmod 0666 " TUN_PATH,
                  "%s may not be opened: %s", TUN_PATH, strerror(-err));
    else if (is_there)
        check_say(c, CHECK_FAIL, "tun", "modprobe tun", "%s is there, but: %s", TUN_PATH,
                  strerror(-err));
    else
        check_say(c, CHECK_FAIL, "tun",
                  "modprobe tun; for a container: --device " TUN_PATH
                  "; else: mkdir -p /dev/net && mknod " TUN_PATH " c 10 200",
                  "there is no %s", TUN_PATH);
}

/* Says what is wrong with the file. Return: whether nothing is. */
static bool is_tun_openable(struct check *c)
{
    struct stat st;
    int fd = open(TUN_PATH, O_RDWR | O_NONBLOCK | O_CLOEXEC);

    if (fd < 0) {
        tun_missing(c, -errno);
        return false;
    }
    bool is_tun = fstat(fd, &st) == 0 && S_ISCHR(st.st_mode) && major(st.st_rdev) == 10 &&
                  minor(st.st_rdev) == 200;
    close(fd);
    if (!is_tun)
        check_say(c, CHECK_FAIL, "tun", "rm " TUN_PATH " && mknod " TUN_PATH " c 10 200",
                  "%s is not the TUN device (character device 10, 200)", TUN_PATH);
    return is_tun;
}

void check_tun(struct check *c)
{
    if (!is_tun_openable(c))
        return;
    int err = tundev_try();
    if (!err)
        check_say(c, CHECK_OK, "tun", NULL, "a TUN device with offloads could be made");
    else if (err == -EPERM)
        check_say(c, CHECK_FAIL, "tun", CONTAINER_CAPS,
                  "%s opens, but no device may be made in this namespace: CAP_NET_ADMIN does not "
                  "hold here",
                  TUN_PATH);
    else
        check_say(c, CHECK_FAIL, "tun", "a Linux kernel with TUN offloads (CONFIG_TUN) is needed",
                  "no TUN device with offloads can be made: %s", strerror(-err));
}

/* --- Memory, clock, randomness ---------------------------------------------- */

void check_memory(struct check *c)
{
    struct rlimit limit = {0};
    void *p = mmap(NULL, LOCKED_LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    getrlimit(RLIMIT_MEMLOCK, &limit);
    if (p != MAP_FAILED && mlock(p, LOCKED_LEN) == 0)
        check_say(c, CHECK_OK, "memory", NULL, "secrets can be locked in memory");
    else
        check_say(
            c, CHECK_WARN, "memory",
            "ulimit -l 1024, LimitMEMLOCK=1M, or for a container --ulimit memlock=1048576",
            "not even %d KiB can be locked (limit: %llu KiB): secrets may get into swap space",
            LOCKED_LEN / 1024, (unsigned long long)limit.rlim_cur / 1024);
    if (p != MAP_FAILED)
        munmap(p, LOCKED_LEN);
}

void check_clock(struct check *c)
{
    time_t now = time(NULL);
    struct tm tm;
    char text[32] = "?";

    if (gmtime_r(&now, &tm))
        strftime(text, sizeof(text), "%F %T UTC", &tm);
    if (now >= CLOCK_EARLIEST && now < CLOCK_LATEST)
        check_say(c, CHECK_OK, "clock", NULL, "%s", text);
    else
        check_say(c, CHECK_WARN, "clock", "set it: timedatectl set-ntp true, or date -s",
                  "the clock says %s; times in lists and logs will be wrong (encryption does not "
                  "depend on it)",
                  text);
}

void check_random(struct check *c)
{
    unsigned char byte;

    if (getrandom(&byte, sizeof(byte), GRND_NONBLOCK) == (ssize_t)sizeof(byte))
        check_say(c, CHECK_OK, "random", NULL, "the kernel's random generator is ready");
    else if (errno == EAGAIN)
        check_say(
            c, CHECK_FAIL, "random",
            "wait until the machine has gathered entropy; a virtual machine: give it virtio-rng",
            "the kernel's random generator is not ready; everything waits for it");
    else
        check_say(c, CHECK_FAIL, "random", "allow the system call getrandom (seccomp)",
                  "no randomness from the kernel: %s", strerror(errno));
}

/* --- Cryptography ----------------------------------------------------------- */

#define CRYPTO_FIX                                                                                 \
    "look at the configuration of OpenSSL (OPENSSL_CONF, providers, FIPS), or leave it out with "

static unsigned test_teps(struct check *c, const struct session_config *all)
{
    unsigned bad = 0;

    for (size_t i = 0; i < all->tep_cnt; i++) {
        struct session_config one = {.teps = {all->teps[i]}, .tep_cnt = 1};

        if (session_selftest(&one) == TCNS_OK)
            continue;
        bad++;
        check_say(c, CHECK_FAIL, "crypto", CRYPTO_FIX "--tep",
                  "the crypto libraries here cannot do the key exchange %s",
                  suites_tep_name(one.teps[0]));
    }
    return bad;
}

static unsigned test_aeads(struct check *c, const struct session_config *all)
{
    unsigned bad = 0;

    for (size_t i = 0; i < all->aead_cnt; i++) {
        struct session_config one = {.aeads = {all->aeads[i]}, .aead_cnt = 1};

        if (session_selftest(&one) == TCNS_OK)
            continue;
        bad++;
        check_say(c, CHECK_FAIL, "crypto", CRYPTO_FIX "--aead",
                  "the crypto libraries here cannot do the cipher %s",
                  suites_aead_name(one.aeads[0]));
    }
    return bad;
}

void check_crypto(struct check *c)
{
    const struct session_config *cfg = &session_config_default;

    if (sodium_init() < 0) {
        check_say(c, CHECK_FAIL, "crypto", "reinstall libsodium", "libsodium does not start");
        return;
    }
    unsigned bad = test_teps(c, cfg) + test_aeads(c, cfg);
    if (bad == 0)
        check_say(c, CHECK_OK, "crypto", NULL,
                  "%zu key exchanges and %zu ciphers passed their test", cfg->tep_cnt,
                  cfg->aead_cnt);
}
