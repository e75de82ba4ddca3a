/* SPDX-License-Identifier: BSD-3-Clause
 * What an exec changes in the calling namespace, and how that goes away again.
 */
#include "ctl/exec/exec_host.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <nftables/libnftables.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "ctl/exec/exec_link.h"
#include "ctl/exec/exec_sysctl.h"
#include "ctl/net/netns.h"

#define RUN_DIR   "/run/tcpcrypt-ns"
#define STATE_DIR RUN_DIR "/exec"
#define TABLE_FMT "tcpcrypt-ns-exec-%s"

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71 /* linux/socket.h; glibc 2.36 does not have it everywhere */
#endif

static int __attribute__((format(printf, 3, 4)))
fail(char err[EXEC_ERROR_LEN], int code, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(err, EXEC_ERROR_LEN, fmt, ap);
    va_end(ap);
    return code;
}

static void keep_first(int *err, int other)
{
    if (!*err)
        *err = other;
}

/* --- state directory -------------------------------------------------------------- */

static int name_netns(char ret[24])
{
    uint64_t cookie = 0;
    socklen_t len = sizeof(cookie);

    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    int err = getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &len) < 0 ? -errno : 0;
    close(fd);
    if (!err)
        snprintf(ret, 24, "%llx", (unsigned long long)cookie);
    return err;
}

/* Return: the directory, locked; -errno. */
static int lock_dir(void)
{
    struct stat st;

    for (;;) {
        if ((mkdir(RUN_DIR, 0755) < 0 && errno != EEXIST) ||
            (mkdir(STATE_DIR, 0755) < 0 && errno != EEXIST && errno != ENOENT))
            return -errno;
        int fd = open(STATE_DIR, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
        if (fd < 0 && errno == ENOENT)
            continue; /* the last one out removed it just now */
        if (fd < 0)
            return -errno;
        int err = 0;
        while (flock(fd, LOCK_EX) < 0) {
            if (errno != EINTR) {
                err = -errno;
                break;
            }
        }
        if (!err && fstat(fd, &st) < 0)
            err = -errno;
        if (!err && st.st_nlink > 0)
            return fd;
        close(fd);
        if (err)
            return err;
    }
}

int exec_host_lock(struct exec_host *h)
{
    return lock_dir();
}

static void file_name(const struct exec_host *h, const char *id, char ret[64])
{
    snprintf(ret, 64, "%s-%s", h->netns, id);
}

/* The id in the name of a file of this namespace; NULL for other files. */
static const char *id_of_file(const struct exec_host *h, const char *name)
{
    size_t len = strlen(h->netns);

    if (strncmp(name, h->netns, len) != 0 || name[len] != '-')
        return NULL;
    const char *id = name + len + 1;
    return strlen(id) == EXEC_ID_LEN && strspn(id, "0123456789abcdef") == EXEC_ID_LEN ? id : NULL;
}

static void set_id(struct exec_host *h, const char *id)
{
    snprintf(h->id, sizeof(h->id), "%s", id);
    snprintf(h->link_name, sizeof(h->link_name), EXEC_LINK_PREFIX "%.8s", id);
}

/* --- nftables --------------------------------------------------------------------- */

/* Return: 0; -EPERM and what nft says in err (as much as fits). */
static int nft_run(const char *cmd, char err[EXEC_ERROR_LEN])
{
    struct nft_ctx *ctx = nft_ctx_new(NFT_CTX_DEFAULT);
    int result = 0;

    if (!ctx)
        return fail(err, -ENOMEM, "nftables: out of memory");
    nft_ctx_buffer_output(ctx);
    nft_ctx_buffer_error(ctx);
    if (nft_run_cmd_from_buffer(ctx, cmd) != 0) {
        const char *text = nft_ctx_get_error_buffer(ctx);
        result = fail(err, -EPERM, "nftables: %.*s", (int)strcspn(text, "\n"), text);
    }
    nft_ctx_free(ctx);
    return result;
}

static int table_delete(const char *id)
{
    char cmd[160], err[EXEC_ERROR_LEN];

    /* "add" first: deleting what is not there is an error. */
    snprintf(cmd, sizeof(cmd), "add table inet " TABLE_FMT "\ndelete table inet " TABLE_FMT "\n",
             id, id);
    int code = nft_run(cmd, err);
    if (code)
        log_warn("exec: removing the leftover of %s: %s", id, err);
    return code;
}

static const char *prefix_str(const struct exec_prefix *p, char out[INET6_ADDRSTRLEN + 4])
{
    inet_ntop(p->family, p->addr, out, INET6_ADDRSTRLEN);
    snprintf(out + strlen(out), 5, "/%u", p->len);
    return out;
}

/* Links of execs among each other are left alone: two commands on one machine
 * may talk, and each sees the other's true address. */
static void print_masquerade(FILE *out, const struct exec_prefix *p)
{
    char text[INET6_ADDRSTRLEN + 4];

    fprintf(out, "%s saddr %s oifname != \"" EXEC_LINK_PREFIX "*\" masquerade\n",
            p->family == AF_INET ? "ip" : "ip6", prefix_str(p, text));
}

static void print_publish(FILE *out, const struct publish *publish, const struct exec_prefix *p)
{
    char text[INET6_ADDRSTRLEN];
    uint8_t inside[16];

    exec_prefix_nth(p, 2, inside);
    publish_rules(out, publish, p->family, inet_ntop(p->family, inside, text, sizeof(text)));
}

/* From outside, and for the host's own processes; a loopback address cannot be the
 * source of what leaves by the link. Not from inside: the way back would not lead here. */
static void print_published(FILE *out, const struct exec_host *h, const struct publish *publish,
                            const struct exec_prefix *ipv4, const struct exec_prefix *ipv6)
{
    fprintf(out, "chain publish {\n");
    print_publish(out, publish, ipv4);
    if (ipv6)
        print_publish(out, publish, ipv6);
    fprintf(out,
            "}\n"
            "chain prerouting {\n"
            "type nat hook prerouting priority -100;\n"
            "iifname != \"%s\" jump publish\n"
            "}\n"
            "chain output {\n"
            "type nat hook output priority -100;\n"
            "ip daddr 127.0.0.0/8 return\n"
            "ip6 daddr ::1 return\n"
            "jump publish\n"
            "}\n",
            h->link_name);
}

/* While forwarding is on only because of us, nobody else's packets are forwarded. */
static void print_forward(FILE *out, const struct exec_host *h)
{
    struct exec_sysctl_owned owned = exec_sysctl_owned(h->dir_fd, h->netns);

    fprintf(out,
            "chain forward {\n"
            "type filter hook forward priority 0;\n"
            "oifname \"%s\" ct status dnat accept\n"
            "oifname \"%s\" iifname != \"" EXEC_LINK_PREFIX "*\" ct state new,invalid drop\n",
            h->link_name, h->link_name);
    if (owned.ipv4)
        fprintf(out, "meta nfproto ipv4 iifname != \"" EXEC_LINK_PREFIX
                     "*\" oifname != \"" EXEC_LINK_PREFIX "*\" drop\n");
    if (owned.ipv6)
        fprintf(out, "meta nfproto ipv6 iifname != \"" EXEC_LINK_PREFIX
                     "*\" oifname != \"" EXEC_LINK_PREFIX "*\" drop\n");
    fprintf(out, "}\n");
}

static int table_create(const struct exec_host *h, const struct exec_prefix *ipv4,
                        const struct exec_prefix *ipv6, const struct publish *publish,
                        char err[EXEC_ERROR_LEN])
{
    char *cmd = NULL;
    size_t len;

    FILE *out = open_memstream(&cmd, &len);
    if (!out)
        return fail(err, -ENOMEM, "nftables: out of memory");
    fprintf(out,
            "table inet " TABLE_FMT " {\n"
            "chain postrouting {\n"
            "type nat hook postrouting priority 100;\n",
            h->id);
    print_masquerade(out, ipv4);
    if (ipv6)
        print_masquerade(out, ipv6);
    fprintf(out, "}\n");
    if (publish->cnt > 0)
        print_published(out, h, publish, ipv4, ipv6);
    print_forward(out, h);
    fprintf(out, "}\n");
    int result = fclose(out) != 0 ? fail(err, -ENOMEM, "nftables: out of memory") : 0;
    if (!result)
        result = nft_run(cmd, err);
    free(cmd);
    return result;
}

/* --- leftovers, ids --------------------------------------------------------------- */

/* Opens the file of an exec of this namespace when it is dead. Return: a
 * locked descriptor; -EWOULDBLOCK when it lives; -errno. */
static int take_dead(int dir_fd, const char *name)
{
    int fd = openat(dir_fd, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW);

    if (fd < 0)
        return -errno;
    if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        int err = -errno;
        close(fd);
        return err;
    }
    return fd;
}

/* Calls fn with the id of each exec of this namespace that has a file.
 * Return: 0; -errno, or fn's first error. */
static int each_id(const struct exec_host *h,
                   int (*fn)(const struct exec_host *h, const char *id, const char *name,
                             void *arg),
                   void *arg)
{
    int fd = openat(h->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    int err = 0;

    if (!dir) {
        err = -errno;
        if (fd >= 0)
            close(fd);
        return err;
    }
    for (struct dirent *e; (e = readdir(dir));) {
        const char *id = id_of_file(h, e->d_name);
        if (id)
            keep_first(&err, fn(h, id, e->d_name, arg));
    }
    closedir(dir);
    return err;
}

static int remove_link_and_table(const char *id)
{
    char link_name[IFNAMSIZ];

    snprintf(link_name, sizeof(link_name), EXEC_LINK_PREFIX "%.8s", id);
    int err = exec_link_delete(link_name);
    keep_first(&err, table_delete(id));
    return err;
}

static int remove_traces(const struct exec_host *h, const char *id, const char *name)
{
    int err = remove_link_and_table(id);

    /* The file goes last: while it is there, the rest can still be found. */
    if (!err && unlinkat(h->dir_fd, name, 0) < 0 && errno != ENOENT)
        err = -errno;
    return err;
}

/* A dead one with a name: the next of that name takes it over. */
static bool has_name(int fd)
{
    struct stat st;

    return fstat(fd, &st) == 0 && st.st_size > 0;
}

static int sweep_one(const struct exec_host *h, const char *id, const char *name, void *arg)
{
    int *live_cnt = arg;

    int fd = take_dead(h->dir_fd, name);
    if (fd == -EWOULDBLOCK)
        (*live_cnt)++;
    if (fd < 0)
        return fd == -EWOULDBLOCK || fd == -ENOENT ? 0 : fd;
    if (has_name(fd)) {
        (*live_cnt)++;
        close(fd);
        return 0;
    }
    log_info("exec: cleaning up after %s, which was killed", id);
    int err = remove_traces(h, id, name);
    close(fd);
    return err;
}

/* Cleans up after dead execs; when none is left, forwarding is put back. */
static int sweep(const struct exec_host *h)
{
    int live_cnt = 0;

    int err = each_id(h, sweep_one, &live_cnt);
    if (!err && live_cnt == 0)
        err = exec_sysctl_restore(h->dir_fd, h->netns);
    return err;
}

static int count_one(const struct exec_host *h, const char *id, const char *name, void *arg)
{
    int fd = take_dead(h->dir_fd, name);

    if (fd < 0)
        return fd == -EWOULDBLOCK || fd == -ENOENT ? 0 : fd;
    close(fd);
    ++*(unsigned *)arg;
    return 0;
}

/* The lock: an exec that begins would find its own file locked by us. */
int exec_host_count_dead(unsigned *ret_cnt)
{
    struct exec_host h = EXEC_HOST_NONE;
    unsigned cnt = 0;

    if (access(STATE_DIR, F_OK) < 0) {
        *ret_cnt = 0;
        return errno == ENOENT ? 0 : -errno;
    }
    int err = name_netns(h.netns);
    if (!err)
        h.dir_fd = lock_dir();
    if (err || h.dir_fd < 0)
        return err ? err : h.dir_fd;
    err = each_id(&h, count_one, &cnt);
    close(h.dir_fd);
    if (!err)
        *ret_cnt = cnt;
    return err;
}

static int take_id(struct exec_host *h)
{
    for (int tries = 0; tries < 16; tries++) {
        char id[EXEC_ID_LEN + 1], name[64];
        uint32_t r;

        randombytes_buf(&r, sizeof(r));
        snprintf(id, sizeof(id), "%08x", (unsigned)r);
        set_id(h, id);
        file_name(h, id, name);
        if (if_nametoindex(h->link_name) != 0)
            continue;
        h->id_fd = openat(h->dir_fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (h->id_fd < 0 && errno == EEXIST)
            continue;
        if (h->id_fd < 0 || flock(h->id_fd, LOCK_EX | LOCK_NB) < 0)
            return -errno;
        return 0;
    }
    return -EEXIST;
}

/* Return: whether the file of the name is of another name with the same id. */
static bool is_other_name(int fd, const char *name)
{
    char text[NETNS_NAME_MAX_LEN + 1];
    ssize_t n = pread(fd, text, sizeof(text), 0);

    return n > 0 && ((size_t)n != strlen(name) || memcmp(text, name, (size_t)n) != 0);
}

static int take_name(struct exec_host *h, const char *name)
{
    char id[EXEC_ID_LEN + 1], file[64];
    uint8_t hash[crypto_generichash_BYTES_MIN];

    crypto_generichash(hash, sizeof(hash), (const uint8_t *)name, strlen(name), NULL, 0);
    snprintf(id, sizeof(id), "%02x%02x%02x%02x", hash[0], hash[1], hash[2], hash[3]);
    set_id(h, id);
    file_name(h, id, file);
    h->id_fd = openat(h->dir_fd, file, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (h->id_fd < 0)
        return -errno;
    if (flock(h->id_fd, LOCK_EX | LOCK_NB) < 0)
        return errno == EWOULDBLOCK ? -EBUSY : -errno;
    if (is_other_name(h->id_fd, name))
        return -EEXIST;
    h->inherited = has_name(h->id_fd);
    int err = h->inherited ? remove_link_and_table(id) : 0;
    if (!err && !h->inherited && pwrite(h->id_fd, name, strlen(name), 0) != (ssize_t)strlen(name))
        err = -errno;
    return err;
}

int exec_host_open(struct exec_host *h, const char *name, char err[EXEC_ERROR_LEN])
{
    int code = name_netns(h->netns);
    if (code)
        return fail(err, code, "the namespace's cookie: %s", strerror(-code));
    int lock_fd = lock_dir();
    if (lock_fd < 0)
        return fail(err, lock_fd, STATE_DIR ": %s", strerror(-lock_fd));
    /* A descriptor of its own, that the lock does not end with. */
    h->dir_fd = openat(lock_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    code = h->dir_fd < 0 ? -errno : 0;
    if (!code) {
        int left = sweep(h);
        if (left)
            log_warn("exec: a killed exec left something that cannot be removed: %s",
                     strerror(-left));
        code = name ? take_name(h, name) : take_id(h);
        if (code == -EBUSY || code == -EEXIST)
            h->id[0] = '\0'; /* not ours: exec_host_teardown() must not touch it */
    }
    close(lock_fd);
    if (code == -EBUSY)
        return fail(err, code, "another process provides \"%s\" already", name);
    return code ? fail(err, code, STATE_DIR ": %s", strerror(-code)) : 0;
}

/* --- set-up and teardown ---------------------------------------------------------- */

int exec_host_setup(struct exec_host *h, const struct exec_prefix *ipv4,
                    const struct exec_prefix *ipv6, bool *has_ipv6, const struct publish *publish,
                    char err[EXEC_ERROR_LEN])
{
    int code = exec_sysctl_enable(h->dir_fd, h->netns, AF_INET);
    if (code)
        return fail(err, code, "cannot switch IPv4 forwarding on: %s", strerror(-code));
    if (*has_ipv6) {
        code = exec_sysctl_enable(h->dir_fd, h->netns, AF_INET6);
        if (code) {
            log_info("exec: no IPv6 inside, forwarding cannot be switched on: %s", strerror(-code));
            *has_ipv6 = false;
        }
    }
    return table_create(h, ipv4, *has_ipv6 ? ipv6 : NULL, publish, err);
}

int exec_host_teardown(struct exec_host *h)
{
    char name[64];

    if (h->dir_fd < 0 || !h->id[0])
        return 0;
    int lock_fd = lock_dir();
    if (lock_fd < 0)
        return lock_fd;
    file_name(h, h->id, name);
    int err = 0;
    if (faccessat(h->dir_fd, name, F_OK, 0) == 0)
        err = remove_traces(h, h->id, name);
    keep_first(&err, sweep(h));
    close(lock_fd);
    /* Only when empty; lock_dir() copes with its disappearance. The directory
     * above is the daemons' too, and they may be about to put a socket there. */
    rmdir(STATE_DIR);
    return err;
}

void exec_host_done(struct exec_host *h)
{
    if (h->id_fd >= 0)
        close(h->id_fd);
    if (h->dir_fd >= 0)
        close(h->dir_fd);
    *h = (struct exec_host)EXEC_HOST_NONE;
}
