/* SPDX-License-Identifier: BSD-3-Clause
 * eBPF programs at an uplink's tcx hooks.
 */
#include "ctl/net/hook.h"

#include <errno.h>
#include <net/if.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Linux 6.6; headers may be older. */
#define TCX_INGRESS 46
#define TCX_EGRESS  47

#define PROGRAMS_MAX_CNT 64 /* of one hook: the kernel has no more (BPF_MPROG_MAX) */

struct kind {
    uint32_t attach_type;
    const char *name; /* at most BPF_OBJ_NAME_LEN - 1 */
    size_t (*make)(const struct hookprog_config *cfg, struct bpf_insn ret[HOOKPROG_MAX_LEN]);
};

static const struct kind ingress = {TCX_INGRESS, "tcpcrypt_in", hookprog_ingress};
static const struct kind egress = {TCX_EGRESS, "tcpcrypt_out", hookprog_egress};

/* attr: all zero but for what the command takes. */
static int bpf(int cmd, union bpf_attr *attr)
{
    int ret = (int)syscall(SYS_bpf, cmd, attr, sizeof(*attr));

    return ret < 0 ? -errno : ret;
}

static uint64_t pointer(const void *p)
{
    return (uintptr_t)p;
}

/* --- One program ------------------------------------------------------------ */

/* Return: its descriptor, close-on-exec; -errno. */
static int load(const struct kind *k, const struct hookprog_config *cfg)
{
    struct bpf_insn code[HOOKPROG_MAX_LEN];
    union bpf_attr attr;

    memset(&attr, 0, sizeof(attr));
    attr.prog_type = BPF_PROG_TYPE_SCHED_CLS;
    attr.insn_cnt = (uint32_t)k->make(cfg, code);
    attr.insns = pointer(code);
    attr.license = pointer("Dual BSD/GPL");
    strcpy(attr.prog_name, k->name);
    return bpf(BPF_PROG_LOAD, &attr);
}

/* old_fd: of the program whose place it takes; negative: none. Each change waits for all
 * processors. */
static int attach(const struct kind *k, int ifindex, int fd, int old_fd)
{
    union bpf_attr attr;

    memset(&attr, 0, sizeof(attr));
    attr.target_fd = (uint32_t)ifindex;
    attr.attach_bpf_fd = (uint32_t)fd;
    attr.attach_type = k->attach_type;
    if (old_fd >= 0) {
        attr.attach_flags = BPF_F_REPLACE;
        attr.replace_bpf_fd = (uint32_t)old_fd;
    }
    return bpf(BPF_PROG_ATTACH, &attr);
}

static int detach(const struct kind *k, int ifindex, int fd)
{
    union bpf_attr attr;

    memset(&attr, 0, sizeof(attr));
    attr.target_fd = (uint32_t)ifindex;
    attr.attach_bpf_fd = (uint32_t)fd;
    attr.attach_type = k->attach_type;
    int err = bpf(BPF_PROG_DETACH, &attr);
    return err == -ENOENT || err == -ENODEV ? 0 : err; /* gone, or with its device */
}

static int open_id(uint32_t id)
{
    union bpf_attr attr;

    memset(&attr, 0, sizeof(attr));
    attr.prog_id = id;
    return bpf(BPF_PROG_GET_FD_BY_ID, &attr);
}

static int ask(int fd, struct bpf_prog_info *ret)
{
    union bpf_attr attr;

    memset(&attr, 0, sizeof(attr));
    memset(ret, 0, sizeof(*ret));
    attr.info.bpf_fd = (uint32_t)fd;
    attr.info.info_len = sizeof(*ret);
    attr.info.info = pointer(ret);
    return bpf(BPF_OBJ_GET_INFO_BY_FD, &attr);
}

/* --- What is attached ------------------------------------------------------- */

static int list(const struct kind *k, int ifindex, uint32_t ids[PROGRAMS_MAX_CNT], size_t *ret_cnt)
{
    union bpf_attr attr;

    memset(&attr, 0, sizeof(attr));
    attr.query.target_fd = (uint32_t)ifindex;
    attr.query.attach_type = k->attach_type;
    attr.query.prog_ids = pointer(ids);
    attr.query.prog_cnt = PROGRAMS_MAX_CNT;
    int err = bpf(BPF_PROG_QUERY, &attr);
    *ret_cnt = err < 0 ? 0 : attr.query.prog_cnt;
    return err;
}

/* Return: the descriptor of a program if it is ours; -ENOENT: it is not, or has gone; -errno. */
static int open_ours(const struct kind *k, uint32_t id, struct bpf_prog_info *ret)
{
    int fd = open_id(id);

    if (fd < 0)
        return fd;
    int err = ask(fd, ret);
    if (!err && strcmp(ret->name, k->name) != 0)
        err = -ENOENT;
    if (!err)
        return fd;
    close(fd);
    return err;
}

/* A kernel without tcx has none, and a device may go meanwhile. */
static int remove_from(const struct kind *k, int ifindex, bool *found)
{
    uint32_t ids[PROGRAMS_MAX_CNT];
    size_t cnt;
    int first = 0;

    if (list(k, ifindex, ids, &cnt) < 0)
        return 0;
    for (size_t i = 0; i < cnt; i++) {
        struct bpf_prog_info info;
        int fd = open_ours(k, ids[i], &info);
        int err = fd;

        if (fd >= 0) {
            *found = true;
            err = detach(k, ifindex, fd);
            close(fd);
        }
        if (err != -ENOENT)
            first = first ? first : err;
    }
    return first;
}

/* But for the device spared. */
static int remove_all(const struct kind *k, int spared, bool *found)
{
    struct if_nameindex *all = if_nameindex();
    int first = 0;

    if (!all)
        return -errno;
    for (const struct if_nameindex *i = all; i->if_index; i++) {
        int err = (int)i->if_index == spared ? 0 : remove_from(k, (int)i->if_index, found);
        first = first ? first : err;
    }
    if_freenameindex(all);
    return first;
}

/* Return: the descriptor of ours at that device; -ENOENT: there is none; -errno. */
static int find_ours(const struct kind *k, int ifindex, struct bpf_prog_info *ret)
{
    uint32_t ids[PROGRAMS_MAX_CNT];
    size_t cnt;
    int fd = list(k, ifindex, ids, &cnt);

    if (fd < 0)
        return fd;
    fd = -ENOENT;
    for (size_t i = 0; i < cnt && fd == -ENOENT; i++)
        fd = open_ours(k, ids[i], ret);
    return fd;
}

static bool is_at(const struct kind *k, int ifindex)
{
    struct bpf_prog_info info;
    int fd = find_ours(k, ifindex, &info);

    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

static enum hook_first first_of(const struct kind *k, int ifindex)
{
    uint32_t ids[PROGRAMS_MAX_CNT];
    struct bpf_prog_info info;
    size_t cnt;

    if (list(k, ifindex, ids, &cnt) < 0 || cnt == 0)
        return HOOK_NOBODYS;
    int fd = open_ours(k, ids[0], &info);
    if (fd < 0)
        return HOOK_OTHERS;
    close(fd);
    return HOOK_OURS;
}

/* --- Interface -------------------------------------------------------------- */

bool hook_is_there(void)
{
    struct if_nameindex *all = if_nameindex();
    bool found = false;

    for (const struct if_nameindex *i = all; i && i->if_index && !found; i++)
        found = is_at(&ingress, (int)i->if_index) || is_at(&egress, (int)i->if_index);
    if_freenameindex(all);
    return found;
}

enum hook_first hook_first(int ifindex)
{
    enum hook_first in = first_of(&ingress, ifindex), out = first_of(&egress, ifindex);

    if (in == HOOK_OTHERS || out == HOOK_OTHERS)
        return HOOK_OTHERS;
    return in == out ? in : HOOK_NOBODYS;
}

/* One that is the same, as the kernel's digest says, stays. */
static int set_at(const struct kind *k, int uplink, int fd)
{
    struct bpf_prog_info old, new;
    int old_fd = find_ours(k, uplink, &old);

    if (old_fd < 0 && old_fd != -ENOENT)
        return old_fd;
    int err = ask(fd, &new);
    if (!err && (old_fd < 0 || memcmp(old.tag, new.tag, sizeof(new.tag)) != 0))
        err = attach(k, uplink, fd, old_fd);
    if (old_fd >= 0)
        close(old_fd);
    return err;
}

static int set(const struct kind *k, int uplink, const struct hookprog_config *cfg)
{
    bool found;
    int fd = load(k, cfg);

    if (fd < 0)
        return fd;
    int err = set_at(k, uplink, fd);
    if (!err)
        err = remove_all(k, uplink, &found);
    close(fd);
    return err;
}

int hook_set(int uplink, const struct hookprog_config *cfg)
{
    int err = set(&ingress, uplink, cfg);

    return err ? err : set(&egress, uplink, cfg);
}

static int try_one(const struct kind *k, int ifindex)
{
    static const struct bypass none = {.cnt = 0};
    static const struct addr any;
    struct hookprog_config cfg = {
        .bypass = &none, .strict = true, .own = &any, .own_cnt = 1, .to_ifindex = ifindex};
    struct bpf_prog_info info, seen;
    uint32_t ids[PROGRAMS_MAX_CNT];
    size_t cnt;

    int fd = load(k, &cfg);
    if (fd < 0)
        return fd;
    int err = ask(fd, &info);
    if (!err)
        err = list(k, ifindex, ids, &cnt);
    if (!err) {
        err = open_ours(k, info.id, &seen);
        if (err >= 0)
            close(err);
    }
    close(fd);
    return err < 0 ? err : 0;
}

int hook_try(int ifindex)
{
    int err = try_one(&ingress, ifindex);

    return err ? err : try_one(&egress, ifindex);
}

int hook_remove_guard(bool *ret_found)
{
    *ret_found = false;
    return remove_all(&egress, 0, ret_found);
}

int hook_remove_ingress(bool *ret_found)
{
    *ret_found = false;
    return remove_all(&ingress, 0, ret_found);
}
