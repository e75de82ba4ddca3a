/* SPDX-License-Identifier: BSD-3-Clause
 * The nftables tables that keep the container's TCP from its kernel's own TCP.
 */
#include "ctl/net/ingress.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <nftables/libnftables.h>

#include "base/log.h"
#include "ctl/net/tundev.h"

#define NAMES_LEN            (TUNNEL_UPLINK_MAX_CNT * (IFNAMSIZ + 4))
#define NUMBERS_LEN          (TUNNEL_UPLINK_MAX_CNT * 12)
#define SINGLE_PORTS_MAX_CNT 1024

/* What libnftables is to do with commands, and with its words about them. */
enum how { RUN_LOUD, RUN_QUIET, RUN_DRY };

static void first_line(const char *words, char ret_line[INGRESS_WORDS_LEN])
{
    snprintf(ret_line, INGRESS_WORDS_LEN, "%.*s", (int)strcspn(words, "\n"), words);
}

/* Runs commands in the current namespace. libnftables tells errors only in
 * words; errno is that of its last system call, so it is asked first for
 * permission and else called EIO. A dry run is a transaction that the kernel does
 * all of but the last step. words may be NULL. */
static int run(const char *commands, enum how how, char words[INGRESS_WORDS_LEN])
{
    struct nft_ctx *ctx = nft_ctx_new(NFT_CTX_DEFAULT);
    int err = 0;

    if (!ctx)
        return -ENOMEM;
    nft_ctx_set_dry_run(ctx, how == RUN_DRY);
    nft_ctx_buffer_output(ctx);
    nft_ctx_buffer_error(ctx);
    if (nft_run_cmd_from_buffer(ctx, commands) != 0) {
        const char *said = nft_ctx_get_error_buffer(ctx);
        bool denied = said && strstr(said, strerror(EPERM));

        err = denied ? -EPERM : -EIO;
        if (how == RUN_LOUD)
            log_error("nftables: %s", said);
        if (words && said)
            first_line(said, words);
    }
    nft_ctx_free(ctx);
    return err;
}

static size_t count_ports(const struct bypass *bypass)
{
    size_t cnt = 0;

    for (size_t i = 0; i < bypass->cnt; i++)
        cnt += (size_t)(bypass->ranges[i].last - bypass->ranges[i].first) + 1;
    return cnt;
}

/* The kernel looks single ports up in a bitmap, and ranges in a tree: each packet of TCP does
 * that twice. */
static void print_ports_singly(FILE *out, const struct bypass *bypass)
{
    for (size_t i = 0; i < bypass->cnt; i++)
        for (unsigned port = bypass->ranges[i].first; port <= bypass->ranges[i].last; port++)
            fprintf(out, "%u,", port);
}

/* An empty set must have no elements. */
static void print_bypass(FILE *out, const struct bypass *bypass)
{
    bool singly = count_ports(bypass) <= SINGLE_PORTS_MAX_CNT;
    char text[BYPASS_STR_LEN];

    fprintf(out, "set bypass { type inet_service; %s\n", singly ? "" : "flags interval;");
    if (bypass->cnt > 0) {
        fprintf(out, "elements = { ");
        if (singly)
            print_ports_singly(out, bypass);
        else
            fputs(bypass_str(bypass, text), out);
        fprintf(out, " }\n");
    }
    fprintf(out, "}\n");
}

/* Adding before deleting makes the deletion succeed when there is none yet. */
static void print_removal(FILE *out, const char *family)
{
    fprintf(out,
            "table %s " INGRESS_TABLE "\n"
            "delete table %s " INGRESS_TABLE "\n",
            family, family);
}

/* Ports are asked for as those of any transport header ("th"): "tcp" would have each rule look
 * at the protocol once more. */
#define IS_FROM_BYPASSED "th sport @bypass "
#define IS_TO_BYPASSED   "th dport @bypass "

/* What the kernel's own TCP has in both directions, of IPv6. */
static const char link_local[] = "ip6 saddr fe80::/10 accept\n"
                                 "ip6 daddr fe80::/10 accept\n";

static void print_prefix(FILE *out, const char *field, const struct policy_prefix *p)
{
    char addr[ADDR_STR_LEN];

    if (p->len || p->is_v6)
        fprintf(out, "%s %s %s/%d ", p->is_v6 ? "ip6" : "ip", field, addr_str(&p->addr, addr),
                p->is_v6 ? p->len : p->len - 96);
}

static void print_ports(FILE *out, const char *field, const struct port_range *r)
{
    if (!policy_is_any_port(r))
        fprintf(out, "tcp %s %u-%u ", field, r->first, r->last);
}

/* What matches of packets that come in, or go out. */
static void print_match(FILE *out, const struct policy_match *m, bool in)
{
    print_prefix(out, in ? "saddr" : "daddr", &m->peer);
    print_prefix(out, in ? "daddr" : "saddr", &m->local);
    print_ports(out, in ? "sport" : "dport", &m->peer_port);
    print_ports(out, in ? "dport" : "sport", &m->local_port);
}

/* Such a match is one by the peer's choice; see print_opening(). */
static bool is_by_peer(const struct policy_match *m)
{
    return !policy_is_any_port(&m->peer_port) && policy_is_any_port(&m->local_port);
}

static void print_matches(FILE *out, const struct bypass *bypass, bool in, bool by_peer,
                          const char *verdict)
{
    for (size_t i = 0; i < bypass->match_cnt; i++) {
        if (is_by_peer(&bypass->matches[i]) != by_peer)
            continue;
        print_match(out, &bypass->matches[i], in);
        fprintf(out, "%s\n", verdict);
    }
}

/* Answers to what was forwarded; it ends with a FIN or RST, or is forgotten after a day. */
static const char forwarded_sets[] =
    "set forwarded { type ipv4_addr . inet_service . ipv4_addr . inet_service; "
    "size 1048576; flags dynamic, timeout; timeout 1d; }\n"
    "set forwarded6 { type ipv6_addr . inet_service . ipv6_addr . inet_service; "
    "size 1048576; flags dynamic, timeout; timeout 1d; }\n";
static const char forwarded_in[] =
    "ip saddr . tcp sport . ip daddr . tcp dport @forwarded accept\n"
    "ip6 saddr . tcp sport . ip6 daddr . tcp dport @forwarded6 accept\n";
#define ANSWER4 "ip daddr . tcp dport . ip saddr . tcp sport"
#define ANSWER6 "ip6 daddr . tcp dport . ip6 saddr . tcp sport"
static const char forwarded_out[] =
    "meta l4proto != tcp accept\n"
    "meta skuid >= 0 accept\n"
    "tcp flags fin,rst update @forwarded { " ANSWER4 " timeout 2m } accept\n"
    "tcp flags fin,rst update @forwarded6 { " ANSWER6 " timeout 2m } accept\n"
    "update @forwarded { " ANSWER4 " } accept\n"
    "update @forwarded6 { " ANSWER6 " } accept\n";

/* Fragments behind the first have no ports to look at, and without the first
 * the kernel never completes them. */
static const char fragments4[] = "ip frag-off & 0x1fff != 0 accept\n";
static const char fragments6[] = "frag frag-off != 0 accept\n";

/* Those that carry flags, behind a first one that shows only ports (RFC 1858 2.1): nobody has to
 * send them. The first cannot be told by its length, as the frame may be longer than the packet.
 * Behind IPv6 options the flags may be at other offsets, but there the kernel itself insists on
 * the whole TCP header in the first fragment (RFC 8200 4.5). Ahead of all others: older kernels
 * take their data for a port. */
static const char tiny_fragments[] = "ip frag-off & 0x1fff == 1 drop\n"
                                     "frag frag-off 1 drop\n";

/* SYNs to ports that are not bypassed. The peer chooses the port that it connects from: no
 * reason to leave it in clear. Fragments: older kernels take their data for ports and flags. */
static void print_opening(FILE *out, const struct bypass *bypass)
{
    fprintf(out,
            "chain opening {\n"
            "%s%s%s" IS_FROM_BYPASSED "drop\n",
            fragments4, fragments6, link_local);
    print_matches(out, bypass, true, true, "drop");
    fprintf(out, "}\n");
}

/* What most packets are asked comes first, and what only few need is a chain of its own. */
static void print_ingress(FILE *out, const char *names, const struct bypass *bypass, bool strict,
                          bool forwards)
{
    fprintf(out, "table netdev " INGRESS_TABLE " {\n");
    print_bypass(out, bypass);
    fprintf(out, "%s", forwards ? forwarded_sets : "");
    fprintf(out,
            "chain ipv6 {\n"
            "%s%s"
            "}\n",
            fragments6, link_local);
    if (strict)
        print_opening(out, bypass);
    fprintf(out,
            "chain ingress {\n"
            "type filter hook ingress devices = { %s } priority 0; policy accept;\n"
            "meta l4proto != tcp accept\n"
            "%s" IS_TO_BYPASSED "accept\n",
            names, strict ? tiny_fragments : "");
    print_matches(out, bypass, true, false, "accept");
    if (strict)
        fprintf(out, "tcp flags & (fin | syn | rst | ack) == syn jump opening\n");
    fprintf(out,
            IS_FROM_BYPASSED "accept\n"
                             "%s"
                             "meta protocol ip6 jump ipv6\n",
            fragments4);
    print_matches(out, bypass, true, true, "accept");
    fprintf(out,
            "%s"
            "fib daddr type local drop\n"
            "}\n",
            forwards ? forwarded_in : "");
    if (forwards)
        fprintf(out,
                "chain egress {\n"
                "type filter hook egress devices = { %s } priority 0; policy accept;\n"
                "%s}\n",
                names, forwarded_out);
    fprintf(out, "}\n");
}

/* A reset, because an ICMP error does not reach an IPv6 socket that is bound to a
 * device: tried. */
static void print_output(FILE *out, const char *numbers, const struct bypass *bypass)
{
    print_bypass(out, bypass);
    fprintf(out,
            "chain ipv6 {\n"
            "%s"
            "}\n"
            "chain output {\n"
            "type filter hook output priority 0; policy accept;\n"
            "meta l4proto != tcp accept\n"
            "oif != { %s } accept\n" IS_FROM_BYPASSED "accept\n" IS_TO_BYPASSED "accept\n"
            "meta nfproto ipv6 jump ipv6\n",
            link_local, numbers);
    print_matches(out, bypass, false, false, "accept");
    print_matches(out, bypass, false, true, "accept");
    fprintf(out, "reject with tcp reset\n"
                 "}\n");
}

/* Devices by their numbers: one that gets another name is guarded while nobody has followed it. */
static void print_guard(FILE *out, const char *numbers, const struct ingress_policy *policy,
                        bool hooked)
{
    fprintf(out, "table inet " INGRESS_TABLE " {\n");
    if (!hooked)
        print_output(out, numbers, &policy->bypass);
    fprintf(out, "chain forward {\n"
                 "type filter hook forward priority 0; policy accept;\n"
                 "iifname \"" TUNDEV_NAME "\" drop\n"
                 "}\n");
    udp_print(out, numbers, &policy->udp);
    fprintf(out, "}\n");
}

/* Those that are there: a chain of one that is not cannot be made. Return: how many. */
static size_t list_devices(const struct links *uplinks, char names[NAMES_LEN],
                           char numbers[NUMBERS_LEN])
{
    size_t cnt = 0, len = 0, numbers_len = 0;

    for (size_t i = 0; i < uplinks->cnt; i++) {
        const struct links_entry *e = &uplinks->entries[i];
        const char *comma = cnt ? ", " : "";

        if (e->ifindex == 0)
            continue;
        len += (size_t)snprintf(names + len, NAMES_LEN - len, "%s\"%s\"", comma, e->name);
        numbers_len += (size_t)snprintf(numbers + numbers_len, NUMBERS_LEN - numbers_len, "%s%d",
                                        comma, e->ifindex);
        cnt++;
    }
    return cnt;
}

static int apply(const struct links *uplinks, const struct ingress_policy *policy, bool forwards,
                 bool hooked, enum how how, char words[INGRESS_WORDS_LEN])
{
    char names[NAMES_LEN], numbers[NUMBERS_LEN];
    char *text = NULL;
    size_t len;

    FILE *out = open_memstream(&text, &len);
    if (!out)
        return -ENOMEM;
    print_removal(out, "netdev");
    print_removal(out, "inet");
    if (list_devices(uplinks, names, numbers) > 0) {
        if (!hooked)
            print_ingress(out, names, &policy->bypass, policy->strict, forwards);
        print_guard(out, numbers, policy, hooked);
    }
    if (fclose(out) != 0) {
        free(text);
        return -ENOMEM;
    }
    int err = run(text, how, words);
    free(text);
    return err;
}

/* The hook on egress is there since Linux 5.16. */
int ingress_set(const struct links *uplinks, const struct ingress_policy *policy, bool forwards,
                bool hooked)
{
    if (forwards) {
        int err = apply(uplinks, policy, true, hooked, RUN_QUIET, NULL);
        if (err == 0 || err == -EPERM)
            return err;
    }
    int err = apply(uplinks, policy, false, hooked, RUN_LOUD, NULL);
    if (!err && forwards)
        log_warn("this kernel cannot tell what is forwarded for others under own addresses: "
                 "TCP of containers behind this host does not work");
    return err;
}

int ingress_try(const struct links *uplinks, char words[INGRESS_WORDS_LEN])
{
    struct ingress_policy some = {.strict = true, .udp = {.action = UDP_REJECT}};

    words[0] = '\0';
    bypass_default(&some.bypass);
    return apply(uplinks, &some, false, false, RUN_DRY, words);
}

static bool has_table(const char *family, int *ret_err)
{
    char list[64];

    snprintf(list, sizeof(list), "list table %s " INGRESS_TABLE "\n", family);
    *ret_err = run(list, RUN_QUIET, NULL);
    return *ret_err == 0;
}

bool ingress_is_there(void)
{
    int err;

    return has_table("netdev", &err) || has_table("inet", &err);
}

static int remove_table(const char *family, bool *found)
{
    char delete[64];
    int err;

    snprintf(delete, sizeof(delete), "delete table %s " INGRESS_TABLE "\n", family);
    if (!has_table(family, &err))
        return err == -EPERM ? err : 0; /* there is none */
    *found = true;
    return run(delete, RUN_LOUD, NULL);
}

int ingress_remove_guard(bool *ret_found)
{
    *ret_found = false;
    return remove_table("inet", ret_found);
}

int ingress_remove(bool *ret_found)
{
    *ret_found = false;
    return remove_table("netdev", ret_found);
}
