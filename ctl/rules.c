/* SPDX-License-Identifier: BSD-3-Clause
 * The policy-routing rules that lead the container's TCP to our table.
 */
#include "ctl/rules.h"

#include <errno.h>
#include <linux/fib_rules.h>
#include <linux/rtnetlink.h>
#include <netinet/in.h>
#include <string.h>

#include <netlink/attr.h>
#include <netlink/msg.h>

#include "ctl/mirror.h"
#include "ctl/netlink.h"
#include "ctl/tundev.h"

#define RULES_MAX_CNT (2 * (2 * BYPASS_MAX_CNT + 5))
#define DUMP_TRIES    5

/* One of our rules; compared as bytes. */
struct rule {
    uint32_t priority;
    uint32_t table;
    uint32_t jump;                  /* to this priority, for what does NOT match; 0: none */
    struct port_range sport, dport; /* all zero: any */
    uint8_t family;
    uint8_t is_nop; /* does nothing, for packets from the TUN device */
    uint8_t from_link_local, to_link_local;
};
_Static_assert(sizeof(struct rule) == 24, "rules are compared as bytes");

struct rules {
    struct rule rules[RULES_MAX_CNT];
    size_t cnt;
};

static void add(struct rules *all, struct rule r)
{
    if (all->cnt < RULES_MAX_CNT)
        all->rules[all->cnt++] = r;
}

static bool has(const struct rules *all, const struct rule *r)
{
    for (size_t i = 0; i < all->cnt; i++)
        if (memcmp(&all->rules[i], r, sizeof(*r)) == 0)
            return true;
    return false;
}

static void plan_link_local(struct rules *plan)
{
    struct rule r = {.priority = RULES_PRIORITY_BYPASS, .table = RT_TABLE_MAIN, .family = AF_INET6};
    struct rule s = r;

    r.to_link_local = 1;
    s.from_link_local = 1;
    add(plan, r);
    add(plan, s);
}

static void plan_family(const struct bypass *bypass, uint8_t family, struct rules *plan)
{
    struct rule end = {.priority = RULES_PRIORITY_END, .family = family, .is_nop = 1};
    struct rule jump = {
        .priority = RULES_PRIORITY_JUMP, .family = family, .jump = RULES_PRIORITY_END};

    add(plan, end);
    add(plan, jump);
    for (size_t i = 0; i < bypass->cnt; i++) {
        struct rule r = {
            .priority = RULES_PRIORITY_BYPASS, .table = RT_TABLE_MAIN, .family = family};
        struct rule s = r;

        r.dport = bypass->ranges[i];
        s.sport = bypass->ranges[i];
        add(plan, r);
        add(plan, s);
    }
    if (family == AF_INET6)
        plan_link_local(plan);
    add(plan,
        (struct rule){.priority = RULES_PRIORITY_TCP, .table = MIRROR_TABLE, .family = family});
}

/* --- Messages --------------------------------------------------------------- */

static int put_ports(struct nl_msg *msg, int type, const struct port_range *r)
{
    struct fib_rule_port_range range = {.start = r->first, .end = r->last};

    return r->first ? nla_put(msg, type, sizeof(range), &range) : 0;
}

#define LINK_LOCAL_LEN 10 /* of the prefix fe80::/10, RFC 4291 2.4 */

static int put_link_local(struct nl_msg *msg, int type)
{
    static const struct in6_addr prefix = {.s6_addr = {0xfe, 0x80}};

    return nla_put(msg, type, sizeof(prefix), &prefix);
}

static uint8_t action_of(const struct rule *r)
{
    if (r->jump)
        return FR_ACT_GOTO;
    return r->is_nop ? FR_ACT_NOP : FR_ACT_TO_TBL;
}

static int put_rule(struct nl_msg *msg, const struct rule *r)
{
    struct fib_rule_hdr hdr = {
        .family = r->family,
        .table = r->table < 256 ? (uint8_t)r->table : RT_TABLE_UNSPEC,
        .action = action_of(r),
        .src_len = r->from_link_local ? LINK_LOCAL_LEN : 0,
        .dst_len = r->to_link_local ? LINK_LOCAL_LEN : 0,
        .flags = r->jump ? FIB_RULE_INVERT : 0,
    };
    int err = nlmsg_append(msg, &hdr, sizeof(hdr), NLMSG_ALIGNTO);

    err |= nla_put_u32(msg, FRA_PRIORITY, r->priority);
    err |= r->table ? nla_put_u32(msg, FRA_TABLE, r->table) : 0;
    err |= r->jump ? nla_put_u32(msg, FRA_GOTO, r->jump) : 0;
    err |= nla_put_u8(msg, FRA_PROTOCOL, MIRROR_PROTOCOL);
    err |= nla_put_u8(msg, FRA_IP_PROTO, IPPROTO_TCP);
    err |= nla_put_string(msg, FRA_IIFNAME, r->is_nop ? TUNDEV_NAME : "lo");
    err |= r->from_link_local ? put_link_local(msg, FRA_SRC) : 0;
    err |= r->to_link_local ? put_link_local(msg, FRA_DST) : 0;
    err |= put_ports(msg, FRA_SPORT_RANGE, &r->sport);
    err |= put_ports(msg, FRA_DPORT_RANGE, &r->dport);
    return err ? -ENOMEM : 0;
}

static int send_rule(struct nl_sock *rtnl, int type, int flags, const struct rule *r)
{
    struct nl_msg *msg = nlmsg_alloc_simple(type, flags);
    int err = msg ? put_rule(msg, r) : -ENOMEM;

    if (!err)
        err = netlink_talk(rtnl, msg, NULL, NULL);
    nlmsg_free(msg);
    return err;
}

static int rule_add(struct nl_sock *rtnl, const struct rule *r)
{
    int err = send_rule(rtnl, RTM_NEWRULE, NLM_F_CREATE | NLM_F_EXCL, r);

    return err == -EEXIST ? 0 : err;
}

static int rule_del(struct nl_sock *rtnl, const struct rule *r)
{
    int err = send_rule(rtnl, RTM_DELRULE, 0, r);

    return err == -ENOENT ? 0 : err;
}

static struct port_range read_ports(const struct nlattr *a)
{
    struct fib_rule_port_range range = {.start = 0};

    if (a && (size_t)nla_len(a) >= sizeof(range))
        memcpy(&range, nla_data(a), sizeof(range));
    return (struct port_range){range.start, range.end};
}

static int on_rule(struct nlmsghdr *nlh, void *arg)
{
    struct nlattr *tb[FRA_MAX + 1];
    struct fib_rule_hdr *hdr = nlmsg_data(nlh);

    if (nlh->nlmsg_type != RTM_NEWRULE || nlmsg_parse(nlh, sizeof(*hdr), tb, FRA_MAX, NULL) < 0)
        return 0;
    if (!tb[FRA_PROTOCOL] || nla_get_u8(tb[FRA_PROTOCOL]) != MIRROR_PROTOCOL)
        return 0;
    struct rule r = {
        .family = hdr->family,
        .is_nop = hdr->action == FR_ACT_NOP,
        .from_link_local = hdr->src_len > 0,
        .to_link_local = hdr->dst_len > 0,
        .table = tb[FRA_TABLE] ? nla_get_u32(tb[FRA_TABLE]) : hdr->table,
        .jump = tb[FRA_GOTO] ? nla_get_u32(tb[FRA_GOTO]) : 0,
        .priority = tb[FRA_PRIORITY] ? nla_get_u32(tb[FRA_PRIORITY]) : 0,
        .sport = read_ports(tb[FRA_SPORT_RANGE]),
        .dport = read_ports(tb[FRA_DPORT_RANGE]),
    };
    add(arg, r);
    return 0;
}

static int list_once(struct nl_sock *rtnl, struct rules *ret)
{
    struct fib_rule_hdr hdr = {.family = AF_UNSPEC};
    struct nl_msg *msg = nlmsg_alloc_simple(RTM_GETRULE, NLM_F_DUMP);
    int err = -ENOMEM;

    if (msg && nlmsg_append(msg, &hdr, sizeof(hdr), NLMSG_ALIGNTO) == 0)
        err = netlink_talk(rtnl, msg, on_rule, ret);
    nlmsg_free(msg);
    return err;
}

static int list(struct nl_sock *rtnl, struct rules *ret)
{
    int err = -EINTR;

    for (int i = 0; i < DUMP_TRIES && err == -EINTR; i++) {
        ret->cnt = 0;
        err = list_once(rtnl, ret);
    }
    return err;
}

/* --- Interface -------------------------------------------------------------- */

static int sync_family(struct nl_sock *rtnl, const struct rules *plan, const struct rules *held,
                       uint8_t family)
{
    for (size_t i = 0; i < plan->cnt; i++) {
        if (plan->rules[i].family != family || has(held, &plan->rules[i]))
            continue;
        int err = rule_add(rtnl, &plan->rules[i]);
        if (err)
            return err;
    }
    for (size_t i = 0; i < held->cnt; i++) {
        if (held->rules[i].family != family || has(plan, &held->rules[i]))
            continue;
        int err = rule_del(rtnl, &held->rules[i]);
        if (err)
            return err;
    }
    return 0;
}

int rules_sync(struct nl_sock *rtnl, const struct bypass *bypass)
{
    struct rules plan = {.cnt = 0}, held;

    int err = list(rtnl, &held);
    if (err)
        return err;
    plan_family(bypass, AF_INET, &plan);
    plan_family(bypass, AF_INET6, &plan);
    err = sync_family(rtnl, &plan, &held, AF_INET);
    if (err)
        return err;
    err = sync_family(rtnl, &plan, &held, AF_INET6);
    return err == -EAFNOSUPPORT || err == -EOPNOTSUPP ? 0 : err;
}

int rules_remove_all(struct nl_sock *rtnl, bool *ret_found)
{
    struct rules held;
    int first = 0;

    int err = list(rtnl, &held);
    if (err)
        return err;
    *ret_found = held.cnt > 0;
    for (size_t i = 0; i < held.cnt; i++) {
        err = rule_del(rtnl, &held.rules[i]);
        first = first ? first : err;
    }
    return first;
}

int rules_read(struct nl_sock *rtnl, struct bypass *ret, bool *ret_found)
{
    struct bypass b = {.cnt = 0};
    struct rules held;
    bool found = false;

    int err = list(rtnl, &held);
    for (size_t i = 0; !err && i < held.cnt; i++) {
        const struct rule *r = &held.rules[i];

        found |= r->priority == RULES_PRIORITY_TCP;
        if (r->dport.first)
            err = bypass_add(&b, r->dport);
    }
    if (err)
        return err;
    *ret = b;
    *ret_found = found;
    return 0;
}
