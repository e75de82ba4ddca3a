/* SPDX-License-Identifier: BSD-3-Clause
 * What the programs for the tcx hooks take, leave and drop.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "hook_run.h"

static int fds[WHERE_CNT][WHICH_CNT];
static struct bypass bypass;

static int set_up(void **state)
{
    struct bpf_insn code[HOOKPROG_MAX_LEN];

    assert_int_equal(bypass_parse("22,443,6000-6010", &bypass), 0);
    for (enum which w = IN; w < WHICH_CNT && !lacking; w++) {
        size_t len = make(w, &bypass, code);
        fds[NEAR][w] = must_load(code, len);
        make_far(code, len);
        fds[FAR][w] = must_load(code, len);
    }
    return 0;
}

static int tear_down(void **state)
{
    for (enum which w = IN; w < WHICH_CNT && !lacking; w++) {
        close(fds[NEAR][w]);
        close(fds[FAR][w]);
    }
    return 0;
}

static void check_frame(const char *what, const struct frame *f, const int expected[WHICH_CNT])
{
    for (int i = 0; i < WHERE_CNT * WHICH_CNT; i++) {
        enum which w = i / WHERE_CNT;
        int verdict = verdict_on(fds[i % WHERE_CNT][w], f);
        if (verdict != expected[w])
            fail_msg("%s, %s: %d, not %d", what, names[w], verdict, expected[w]);
    }
}

#define ALL(verdict)                                                                               \
    {                                                                                              \
        verdict, verdict, verdict                                                                  \
    }

static const int all_taken[] = ALL(TAKEN), all_left[] = ALL(LEFT);

static void check(const char *what, const struct spec *s, const int expected[WHICH_CNT])
{
    struct frame f;

    frame_build(&f, s);
    check_frame(what, &f, expected);
}

/* --- Tests -------------------------------------------------------------------- */

/* Also in a frame that is bypassed: else one could take it without having found the ports. */
static void tcp_is_found_behind_options_and_extensions(void **state)
{
    static const char *const chains[] = {"t",   "ht",  "rt",    "dt",        "at",       "ft",
                                         "hrt", "hat", "hdrft", "hdrafaddt", "aaaaaaaat"};
    static const unsigned lens[] = {0, 1, 2, 4, 41};
    char what[80];

    need_kernel();
    for (unsigned words = 0; words <= 10; words++) {
        snprintf(what, sizeof(what), "%u words of options", words);
        check(what, &(struct spec){.headers = "t", .words = words}, all_taken);
        check(what, &(struct spec){.headers = "t", .words = words, .dport = 443}, all_left);
    }
    for (size_t i = 0; i < 5 * sizeof(chains) / sizeof(chains[0]); i++) {
        struct spec s = {.headers = chains[i / 5], .v6 = true, .words = lens[i % 5]};

        snprintf(what, sizeof(what), "%s with length %u", s.headers, s.words);
        check(what, &s, all_taken);
        s.dport = 443;
        check(what, &s, all_left);
    }
    check("long AH", &(struct spec){.headers = "at", .v6 = true, .words = 255}, all_taken);
    check("long routing header", &(struct spec){.headers = "rt", .v6 = true, .words = 255},
          all_taken);
}

static void rest_is_as_listed(void **state)
{
    static const struct {
        const char *what;
        struct spec spec;
        int expected[WHICH_CNT];
    } cases[] = {
        {"UDP", {.headers = "u"}, ALL(LEFT)},
        {"UDP, IPv6", {.headers = "u", .v6 = true}, ALL(LEFT)},
        {"GRE", {.headers = "g"}, ALL(LEFT)},
        {"ESP, IPv6", {.headers = "e", .v6 = true}, ALL(LEFT)},
        {"ping", {.headers = "i", .type = 8}, ALL(LEFT)},
        {"ping, IPv6", {.headers = "c", .v6 = true, .type = 128}, ALL(LEFT)},
        {"ARP", {.headers = "t", .ethertype = ETHERTYPE_ARP}, ALL(LEFT)},
        {"tag in the frame", {.headers = "t", .ethertype = ETHERTYPE_VLAN}, ALL(LEFT)},
        {"don't fragment", {.headers = "t", .fragment = 0x4000}, ALL(TAKEN)},
        {"first", {.headers = "t", .fragment = MORE4}, ALL(TAKEN)},
        {"first, bypassed", {.headers = "t", .fragment = MORE4, .dport = 22}, ALL(LEFT)},
        {"at 8", {.headers = "t", .fragment = MORE4 | 1}, {LEFT, DROPPED, LEFT}},
        {"last, at 8", {.headers = "t", .fragment = 1}, {LEFT, DROPPED, LEFT}},
        {"at 16", {.headers = "t", .fragment = 2}, ALL(LEFT)},
        {"at 32768", {.headers = "t", .fragment = 0x1000}, ALL(LEFT)},
        {"at 65528", {.headers = "t", .fragment = 0x1fff}, ALL(LEFT)},
        {"UDP, at 8", {.headers = "u", .fragment = 1}, ALL(LEFT)},
        {"ICMP, at 8", {.headers = "i", .fragment = 1}, ALL(LEFT)},
        {"whole", {.headers = "ft", .v6 = true}, ALL(TAKEN)},
        {"first6", {.headers = "ft", .v6 = true, .fragment = MORE6}, ALL(TAKEN)},
        {"at 8, IPv6", {.headers = "ft", .v6 = true, .fragment = 8}, {LEFT, DROPPED, LEFT}},
        {"hop, at 8", {.headers = "hft", .v6 = true, .fragment = 9}, {LEFT, DROPPED, LEFT}},
        {"at 16, IPv6", {.headers = "ft", .v6 = true, .fragment = 16}, ALL(LEFT)},
        {"at 65528, IPv6", {.headers = "ft", .v6 = true, .fragment = 0xfff8}, ALL(LEFT)},
        {"UDP6, at 8", {.headers = "fu", .v6 = true, .fragment = 8}, ALL(LEFT)},
        {"UDP6, first", {.headers = "fu", .v6 = true, .fragment = MORE6}, ALL(LEFT)},
        {"ICMPv6, at 8", {.headers = "fc", .v6 = true, .fragment = 8}, ALL(LEFT)},
        {"8 and TCP", {.headers = "hrdardddt", .v6 = true}, ALL(TAKEN)},
        {"8 and UDP", {.headers = "hrdardddu", .v6 = true}, ALL(LEFT)},
        {"9 and TCP", {.headers = "hrdarddddt", .v6 = true}, ALL(DROPPED)},
        {"9 and UDP", {.headers = "hrdarddddu", .v6 = true}, ALL(DROPPED)},
        {"12 and TCP", {.headers = "ddddddddddddt", .v6 = true}, ALL(DROPPED)},
        {"from fe7f", {.headers = "t", .v6 = true, .src = 0xfe7f}, ALL(TAKEN)},
        {"from fe80", {.headers = "t", .v6 = true, .src = 0xfe80}, ALL(LEFT)},
        {"from febf", {.headers = "ht", .v6 = true, .src = 0xfebf}, ALL(LEFT)},
        {"from fec0", {.headers = "t", .v6 = true, .src = 0xfec0}, ALL(TAKEN)},
        {"to fe7f", {.headers = "t", .v6 = true, .dst = 0xfe7f}, ALL(TAKEN)},
        {"to fe80", {.headers = "t", .v6 = true, .dst = 0xfe80}, ALL(LEFT)},
        {"to febf", {.headers = "t", .v6 = true, .dst = 0xfebf}, ALL(LEFT)},
        {"to another", {.headers = "t", .dst = 0xcb01}, {LEFT, LEFT, TAKEN}},
        {"to a short one", {.headers = "t", .dst = 0x0a01}, ALL(TAKEN)},
        {"to another6", {.headers = "t", .v6 = true, .dst = 0x2002}, {LEFT, LEFT, TAKEN}},
        {"to another, at 8", {.headers = "t", .dst = 0xcb01, .fragment = 1}, ALL(LEFT)},
        {"to fec0", {.headers = "t", .v6 = true, .dst = 0xfec0}, ALL(TAKEN)},
        {"to others", {.headers = "t", .mac = 0x02}, {LEFT, LEFT, TAKEN}},
        {"to a group", {.headers = "t", .v6 = true, .mac = 0x33}, {LEFT, LEFT, TAKEN}},
        {"others', at 8", {.headers = "t", .fragment = 1, .mac = 0x02}, ALL(LEFT)},
    };

    need_kernel();
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        check(cases[i].what, &cases[i].spec, cases[i].expected);
}

static void bypassed_ports_are_left(void **state)
{
    static const struct {
        uint16_t port;
        bool bypassed;
    } ports[] = {{1, false},   {21, false},  {22, true},    {23, false},   {442, false},
                 {443, true},  {444, false}, {5632, false}, {5999, false}, {6000, true},
                 {6001, true}, {6009, true}, {6010, true},  {6011, false}, {65535, false}};
    char what[80];

    need_kernel();
    for (size_t i = 0; i < 2 * sizeof(ports) / sizeof(ports[0]); i++) {
        const int *expected = ports[i / 2].bypassed ? all_left : all_taken;
        const int opening[] = {expected[IN], TAKEN, expected[OUT]};
        struct spec to = {.headers = "t", .v6 = i % 2, .dport = ports[i / 2].port};
        struct spec from = {.headers = "t", .v6 = i % 2, .sport = ports[i / 2].port};

        snprintf(what, sizeof(what), "port %u, IPv%d", ports[i / 2].port, to.v6 ? 6 : 4);
        for (unsigned flags = 0; flags <= 0xff; flags++) {
            bool opens = (flags & 0x17) == SYN; /* of FIN, SYN, RST, ACK */

            to.flags = from.flags = (uint8_t)flags;
            check(what, &to, expected);
            check(what, &from, opens ? opening : expected);
        }
    }
}

static void check_cut(const char *what, const struct spec *s, size_t rest,
                      const int expected[WHICH_CNT])
{
    struct frame f;

    frame_build(&f, s);
    f.len = f.l4 + rest;
    check_frame(what, &f, expected);
}

/* Without ports or flags it is the tunnel's to count. */
static void cut_off_headers_are_taken(void **state)
{
    need_kernel();
    for (size_t i = 0; i < 2 * 20; i++) {
        const size_t rest = i / 2;
        const int *bypassed = rest < 4 ? all_taken : all_left;
        const int from_bypassed[] = {bypassed[IN], rest <= 13 ? TAKEN : LEFT, bypassed[OUT]};
        struct spec s = {.headers = "t", .v6 = i % 2, .flags = ACK};

        check_cut("cut off", &s, rest, all_taken);
        s.sport = 22;
        check_cut("cut off, from a bypassed port", &s, rest, from_bypassed);
        s.dport = 22;
        check_cut("cut off, to a bypassed port", &s, rest, bypassed);
    }
}

static void longest_bypass_fits(void **state)
{
    static struct bypass longest;
    struct bpf_insn code[HOOKPROG_MAX_LEN];

    need_kernel();
    for (uint16_t i = 0; i < BYPASS_MAX_CNT; i++) {
        const struct port_range r = {.first = 1000 + 10 * i, .last = 1005 + 10 * i};
        assert_int_equal(bypass_add(&longest, r), 0);
    }
    const struct port_range *last = &longest.ranges[BYPASS_MAX_CNT - 1];
    for (enum which w = IN; w < WHICH_CNT; w++) {
        size_t len = make(w, &longest, code);
        struct spec s = {.headers = "hrdardddt", .v6 = true, .sport = last->last};

        assert_in_range(len, 1, HOOKPROG_MAX_LEN);
        check_code(names[w], code, len, &s, LEFT);
        s.sport++;
        check_code(names[w], code, len, &s, TAKEN);
        s.dport = last->first;
        check_code(names[w], code, len, &s, LEFT);
        s.dport--;
        check_code(names[w], code, len, &s, TAKEN);
    }
}

static void most_addresses_fit(void **state)
{
    struct addr own32[HOOKPROG_OWN_MAX_CNT];
    struct bypass longest = {.cnt = 0};
    struct hookprog_config cfg = {
        .bypass = &longest, .strict = true, .own = own32, .own_cnt = HOOKPROG_OWN_MAX_CNT};
    struct bpf_insn code[HOOKPROG_MAX_LEN];
    struct frame f;

    need_kernel();
    for (uint16_t i = 0; i < BYPASS_MAX_CNT; i++)
        assert_int_equal(bypass_add(&longest, (struct port_range){1000 + 10 * i, 1005 + 10 * i}),
                         0);
    for (uint16_t i = 0; i < HOOKPROG_OWN_MAX_CNT; i++) {
        frame_build(&f, &(struct spec){.headers = "t", .v6 = true, .dst = 0x2100 + i});
        own32[i] = addr_from_v6(f.data + ETH_HLEN + 24);
    }
    size_t len = hookprog_ingress(&cfg, code);
    assert_in_range(len, 1, HOOKPROG_MAX_LEN);
    for (uint16_t i = 0; i <= HOOKPROG_OWN_MAX_CNT; i++)
        check_code("address", code, len,
                   &(struct spec){.headers = "t", .v6 = true, .dst = 0x2100 + i},
                   i < HOOKPROG_OWN_MAX_CNT ? TAKEN : LEFT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tcp_is_found_behind_options_and_extensions),
        cmocka_unit_test(rest_is_as_listed),
        cmocka_unit_test(bypassed_ports_are_left),
        cmocka_unit_test(cut_off_headers_are_taken),
        cmocka_unit_test(longest_bypass_fits),
        cmocka_unit_test(most_addresses_fit),
    };

    find_lacking();
    return exit_status(cmocka_run_group_tests(tests, set_up, tear_down));
}
