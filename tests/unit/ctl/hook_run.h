/* SPDX-License-Identifier: BSD-3-Clause
 * The programs for the tcx hooks, run by the kernel on frames (BPF_PROG_TEST_RUN).
 *
 * The kernel runs them as if the frames came in on loopback, of whose address (all zero) they are
 * unless they say otherwise, and gives the packets a socket. Nothing is sent: the device that
 * TCP is to go to does not exist.
 *
 * Exactly one file of a program includes this, behind cmocka.h.
 */
#ifndef TCNS_TESTS_HOOK_RUN_H
#define TCNS_TESTS_HOOK_RUN_H

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "ctl/net/hookprog.h"
#include "hook_frames.h"

#define NO_DEVICE 0x7ffffff0
#define EXIT_SKIP 77

/* Newer than some headers. */
enum {
    LEFT = -1,   /* TCX_NEXT */
    DROPPED = 2, /* TCX_DROP */
    TAKEN = 7,   /* TC_ACT_REDIRECT */
};

enum which { IN, IN_STRICT, OUT, WHICH_CNT };

static const char *const names[] = {"ingress", "strict ingress", "egress"};

/* Where a packet's headers lie: the kernel's test run has all of a frame in the linear part. */
enum where { NEAR, FAR, WHERE_CNT };
static const char *lacking; /* why nothing can be run here; NULL: it can */

static inline int bpf(int cmd, union bpf_attr *attr)
{
    return (int)syscall(SYS_bpf, cmd, attr, sizeof(*attr));
}

static inline int load(const struct bpf_insn *code, size_t len, char *words, uint32_t words_len)
{
    union bpf_attr attr;

    memset(&attr, 0, sizeof(attr));
    attr.prog_type = BPF_PROG_TYPE_SCHED_CLS;
    attr.insn_cnt = (uint32_t)len;
    attr.insns = (uintptr_t)code;
    attr.license = (uintptr_t) "Dual BSD/GPL";
    attr.log_buf = (uintptr_t)words;
    attr.log_size = words_len;
    attr.log_level = words ? 1 : 0;
    return bpf(BPF_PROG_LOAD, &attr);
}

/* Return: its descriptor; when the verifier refuses it the test has failed. */
static inline int must_load(const struct bpf_insn *code, size_t len)
{
    static char words[1 << 20];
    int fd = load(code, len, NULL, 0);

    if (fd < 0) {
        load(code, len, words, sizeof(words));
        fail_msg("%zu instructions refused: %s\n%s", len, strerror(errno), words);
    }
    return fd;
}

static inline int run(int fd, const uint8_t *frame, size_t len, int *ret_verdict)
{
    union bpf_attr attr;

    memset(&attr, 0, sizeof(attr));
    attr.test.prog_fd = (uint32_t)fd;
    attr.test.data_in = (uintptr_t)frame;
    attr.test.data_size_in = (uint32_t)len;
    int err = bpf(BPF_PROG_TEST_RUN, &attr);
    *ret_verdict = (int)attr.test.retval;
    return err;
}

/* Beginnings of the host's addresses, of IPv4 and IPv6. */
static const uint16_t own_dst[] = {0x0a01, OWN4_DST, OWN6_DST, 0xfe7f, 0xfec0};
#define OWN_CNT (sizeof(own_dst) / sizeof(own_dst[0]))
static struct addr own[OWN_CNT];

static inline size_t make(enum which which, const struct bypass *b, struct bpf_insn *code)
{
    struct hookprog_config cfg = {
        .bypass = b,
        .strict = which == IN_STRICT,
        .own = own,
        .own_cnt = OWN_CNT,
        .to_ifindex = NO_DEVICE,
    };
    struct frame f;

    for (size_t i = 0; i < OWN_CNT; i++) {
        frame_build(&f, &(struct spec){.headers = "t", .v6 = i > 1, .dst = own_dst[i]});
        own[i] =
            i > 1 ? addr_from_v6(f.data + ETH_HLEN + 24) : addr_from_v4(f.data + ETH_HLEN + 16);
    }

    return which == OUT ? hookprog_egress(&cfg, code) : hookprog_ingress(&cfg, code);
}

/* Has it find no header in the linear part: more bytes are asked for than any has there. */
static inline void make_far(struct bpf_insn *code, size_t len)
{
    int cnt = 0;

    for (size_t i = 1; i < len; i++) {
        if (code[i].code != (BPF_JMP | BPF_JGT | BPF_X))
            continue;
        code[i - 1].imm = 0x7fff;
        cnt++;
    }
    assert_int_equal(cnt, 2);
}

/* Whether the kernel lets us is asked with a program that does nothing: whatever happens to
 * others is a failure. */
static inline void find_lacking(void)
{
    const struct bpf_insn nothing[] = {{.code = BPF_ALU64 | BPF_MOV | BPF_K},
                                       {.code = BPF_JMP | BPF_EXIT}};
    uint8_t frame[64] = {0};
    int verdict, fd = load(nothing, 2, NULL, 0);

    if (fd < 0 || run(fd, frame, sizeof(frame), &verdict) < 0)
        lacking = strerror(errno);
    if (fd >= 0)
        close(fd);
}

static inline void need_kernel(void)
{
    if (!lacking)
        return;
    print_message("this kernel runs no programs for us: %s\n", lacking);
    skip();
}

static inline int verdict_on(int fd, const struct frame *f)
{
    int verdict;

    if (run(fd, f->data, f->len, &verdict) < 0)
        fail_msg("cannot run: %s", strerror(errno));
    return verdict;
}

/* Loads it, runs it once. */
static inline void check_code(const char *what, const struct bpf_insn *code, size_t len,
                              const struct spec *s, int expected)
{
    struct frame f;
    int fd = must_load(code, len);

    frame_build(&f, s);
    int verdict = verdict_on(fd, &f);
    close(fd);
    if (verdict != expected)
        fail_msg("%s, %s: %d, not %d", what, s->headers, verdict, expected);
}

/* Skips are seen from outside, too. */
static inline int exit_status(int failed)
{
    return failed || !lacking ? failed : EXIT_SKIP;
}

#endif
