/* SPDX-License-Identifier: BSD-3-Clause
 * The programs for the tcx hooks with a change: what the kernel's test run cannot set, or show, is
 * put into them.
 */
#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "hook_run.h"

enum { COPIED = 0x51 }; /* see show_copies() */

static const struct bypass bypass = {.ranges = {{22, 22}}, .cnt = 1};

/* Has the program end with COPIED in place of clone_redirect(). Return: whether it has one. */
static bool show_copies(struct bpf_insn *code, size_t len)
{
    for (size_t i = 1; i < len; i++) {
        if (code[i].code != (BPF_JMP | BPF_CALL) || code[i].imm != BPF_FUNC_clone_redirect)
            continue;
        code[i - 1] = (struct bpf_insn){.code = BPF_ALU64 | BPF_MOV | BPF_K, .imm = COPIED};
        code[i] = (struct bpf_insn){.code = BPF_JMP | BPF_EXIT};
        return true;
    }
    return false;
}

#define PREFIX_LEN 6
#define CODE_LEN   (PREFIX_LEN + HOOKPROG_MAX_LEN)

/* Ahead of the program: calls a helper with the packet and what three instructions
 * put into the other arguments. */
static size_t make_behind_call(enum which which, const struct bpf_insn arguments[3], int32_t helper,
                               struct bpf_insn *code)
{
    const struct bpf_insn prefix[PREFIX_LEN] = {
        {.code = BPF_ALU64 | BPF_MOV | BPF_X, .dst_reg = 6, .src_reg = 1},
        arguments[0],
        arguments[1],
        arguments[2],
        {.code = BPF_JMP | BPF_CALL, .imm = helper},
        {.code = BPF_ALU64 | BPF_MOV | BPF_X, .dst_reg = 1, .src_reg = 6},
    };

    memcpy(code, prefix, sizeof(prefix));
    return PREFIX_LEN + make(which, &bypass, code + PREFIX_LEN);
}

static const struct spec tcp4 = {.headers = "t"}, tcp6 = {.headers = "t", .v6 = true};
static const struct spec tiny = {.headers = "t", .fragment = 1};
static const struct spec long_chain = {.headers = "hrdarddddt", .v6 = true};
static const struct spec error = {.headers = "i", .type = 3};

/* Tags that the device took off, as nearly all do: the frame looks like any other. */
static size_t make_tagged(enum which which, int32_t tci, struct bpf_insn *code)
{
    const struct bpf_insn arguments[] = {
        {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 2, .imm = htons(ETHERTYPE_VLAN)},
        {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 3, .imm = tci},
        {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 4, .imm = 0},
    };
    size_t len = make_behind_call(which, arguments, BPF_FUNC_skb_vlan_push, code);

    show_copies(code, len);
    return len;
}

static void tagged_packets_are_left(void **state)
{
    struct bpf_insn code[CODE_LEN];

    need_kernel();
    for (enum which w = IN; w < WHICH_CNT; w++) {
        size_t len = make_tagged(w, 0x6001, code);

        check_code(names[w], code, len, &tcp4, LEFT);
        check_code(names[w], code, len, &tcp6, LEFT);
        check_code(names[w], code, len, &error, LEFT);
        check_code(names[w], code, len, &tiny, LEFT);
        check_code(names[w], code, len, &long_chain, LEFT);
    }
}

/* Of no VLAN, but with a priority: the kernel takes them for its own. */
static void priority_tagged_tcp_is_dropped(void **state)
{
    struct bpf_insn code[CODE_LEN];

    need_kernel();
    for (enum which w = IN; w < OUT; w++) {
        size_t len = make_tagged(w, 0x6000, code);

        check_code(names[w], code, len, &tcp4, DROPPED);
        check_code(names[w], code, len, &tcp6, DROPPED);
        check_code(names[w], code, len, &error, LEFT);
        check_code(names[w], code, len, &long_chain, DROPPED);
    }
}

#define CUT_LEN 60

static void check_prefixes(int fd, const struct spec *s, const char *name)
{
    struct frame f;

    frame_build(&f, s);
    for (size_t len = f.len; len >= ETH_HLEN; len--) {
        f.len = len + CUT_LEN;
        int verdict = verdict_on(fd, &f);
        bool known = verdict == LEFT || verdict == TAKEN || verdict == DROPPED;

        /* Of less than 20 bytes of IP nobody can know what it is. */
        if (!known || (len < ETH_HLEN + 20 && verdict != LEFT))
            fail_msg("%s, %s, %zu bytes: %d", name, s->headers, len, verdict);
    }
}

/* The kernel's test run makes no packets without a whole IP header, so they are longer and then
 * cut. */
static void any_prefix_of_a_frame_has_a_verdict(void **state)
{
    static const struct bpf_insn arguments[] = {
        {.code = BPF_LDX | BPF_MEM | BPF_W,
         .dst_reg = 2,
         .src_reg = 1,
         .off = offsetof(struct __sk_buff, len)},
        {.code = BPF_ALU64 | BPF_SUB | BPF_K, .dst_reg = 2, .imm = CUT_LEN},
        {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 3, .imm = 0},
    };
    static const struct spec specs[] = {
        {.headers = "t", .words = 10},         {.headers = "t", .fragment = 1},
        {.headers = "i", .type = 3},           {.headers = "hrdaft", .v6 = true, .words = 2},
        {.headers = "hdrarddddt", .v6 = true}, {.headers = "c", .v6 = true, .type = 2},
    };
    struct bpf_insn code[CODE_LEN];

    need_kernel();
    for (enum which w = IN; w < WHICH_CNT; w++) {
        size_t len = make_behind_call(w, arguments, BPF_FUNC_skb_change_tail, code);
        int fd = must_load(code, len);

        for (size_t i = 0; i < sizeof(specs) / sizeof(specs[0]); i++)
            check_prefixes(fd, &specs[i], names[w]);
        close(fd);
    }
}

/* Puts a value in place of what is read from there. */
static void replace_loads(struct bpf_insn *code, size_t len, uint8_t size, size_t off,
                          int32_t value)
{
    size_t cnt = 0;

    for (size_t i = 0; i < len; i++) {
        if (code[i].code != (BPF_LDX | BPF_MEM | size) || code[i].off != (int16_t)off)
            continue;
        code[i] = (struct bpf_insn){
            .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = code[i].dst_reg & 0xf, .imm = value};
        cnt++;
    }
    assert_in_range(cnt, 1, 5);
}

static void check_socket(const char *what, struct bpf_insn *code, size_t len, int expected)
{
    check_code(what, code, len, &tcp4, expected);
    check_code(what, code, len, &tcp6, expected);
    make_far(code, len);
    check_code(what, code, len, &tcp4, expected);
    check_code(what, code, len, &tcp6, expected);
}

/* The socket that the kernel's test run gives to packets is of their own family. */
static void egress_without_our_hosts_sockets_is_left(void **state)
{
    struct bpf_insn code[HOOKPROG_MAX_LEN];

    need_kernel();
    size_t len = make(OUT, &bypass, code);
    check_socket("any socket", code, len, TAKEN);
    len = make(OUT, &bypass, code);
    replace_loads(code, len, BPF_W, offsetof(struct bpf_sock, family), AF_PACKET);
    check_socket("packet socket", code, len, LEFT);
    len = make(OUT, &bypass, code);
    replace_loads(code, len, BPF_DW, offsetof(struct __sk_buff, sk), 0);
    check_socket("no socket", code, len, LEFT);
    check_code("no socket", code, len, &long_chain, LEFT);
}

/* The packet goes on in any case, so the verdict does not tell. */
static void errors_go_to_both(void **state)
{
    static const struct {
        const char *what;
        struct spec spec;
        int expected;
    } cases[] = {
        {"unreachable", {.headers = "i", .type = 3}, COPIED},
        {"with options", {.headers = "i", .type = 3, .words = 3}, COPIED},
        {"first fragment", {.headers = "i", .type = 3, .fragment = MORE4}, COPIED},
        {"later fragment", {.headers = "i", .type = 3, .fragment = 2}, LEFT},
        {"others'", {.headers = "i", .type = 3, .mac = 2}, LEFT},
        {"reply", {.headers = "i", .type = 0}, LEFT},
        {"ping", {.headers = "i", .type = 8}, LEFT},
        {"time exceeded", {.headers = "i", .type = 11}, LEFT},
        {"unreachable6", {.headers = "c", .v6 = true, .type = 1}, COPIED},
        {"too big", {.headers = "c", .v6 = true, .type = 2}, COPIED},
        {"time exceeded6", {.headers = "c", .v6 = true, .type = 3}, LEFT},
        {"ping6", {.headers = "c", .v6 = true, .type = 128}, LEFT},
        {"neighbour", {.headers = "c", .v6 = true, .type = 135}, LEFT},
    };
    struct bpf_insn code[HOOKPROG_MAX_LEN];

    need_kernel();
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        size_t len = make(IN, &bypass, code);
        check_code(cases[i].what, code, len, &cases[i].spec, LEFT);
        assert_true(show_copies(code, len));
        check_code(cases[i].what, code, len, &cases[i].spec, cases[i].expected);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_prefix_of_a_frame_has_a_verdict),
        cmocka_unit_test(tagged_packets_are_left),
        cmocka_unit_test(priority_tagged_tcp_is_dropped),
        cmocka_unit_test(egress_without_our_hosts_sockets_is_left),
        cmocka_unit_test(errors_go_to_both),
    };

    find_lacking();
    return exit_status(cmocka_run_group_tests(tests, NULL, NULL));
}
