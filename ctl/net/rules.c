/* SPDX-License-Identifier: BSD-3-Clause
 * The policy-routing rules that lead the container's TCP to our table.
 */
#include "ctl/net/rules.h"

#include <errno.h>
#include <linux/fib_rules.h>
#include <linux/rtnetlink.h>
#include <netinet/in.h>
#include <string.h>

#include <netlink/attr.h>
#include <netlink/msg.h>

#include "ctl/net/mirror.h"
#include "ctl/net/netlink.h"
#include "ctl/net/tundev.h"

#define RULES_MAX_CNT (2 * (2 * BYPASS_MAX_CNT + BYPASS_MATCH_MAX_CNT + 5))
#define DUMP_TRIES    5

/* A rule that does nothing, for packets from the TUN device: of TCP, or of any protocol. */
enum nop { NOP_NONE, NOP_TCP, NOP_ANY };

/* One of our rules; compared as bytes. */
struct rule {
    uint32_t priority;
    uint32_t table;
    uint32_t jump;                  /* to this priority, for what does NOT match; 0: none */
    struct port_range sport, dport; /* all zero: any */
    uint8_t family;
    uint8_t nop;              /* enum nop */
    uint8_t src_len, dst_len; /* of the prefixes; 0: any */
    uint8_t src[16], dst[16]; /* IPv4: the first four bytes */
};
_Static_assert(sizeof(struct rule) == 56, "rules are compared as bytes");

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

#define LINK_LOCAL                                                                                 \
    {                                                                                              \
        0xfe, 0x80                                                                                 \
    } /* fe80::/10, RFC 4291 2.4 */
#define LINK_LOCAL_LEN 10

static void plan_link_local(struct rules *plan)
{
    struct rule r = {.priority = RULES_PRIORITY_BYPASS, .table = RT_TABLE_MAIN, .family = AF_INET6};
    struct rule s = r;

    r.dst_len = s.src_len = LINK_LOCAL_LEN;
    memcpy(r.dst, (const uint8_t[16])LINK_LOCAL, sizeof(r.dst));
    memcpy(s.src, (const uint8_t[16])LINK_LOCAL, sizeof(s.src));
    add(plan, r);
    add(plan, s);
}

#define V4_OFFSET 12 /* bytes ahead of an IPv4 address in one of ours */

static uint8_t prefix_of(const struct policy_prefix *p, uint8_t out[16])
{
    if (p->is_v6) {
        memcpy(out, p->addr.in6.s6_addr, 16);
        return p->len;
    }
    if (p->len == 0)
        return 0;
    memcpy(out, p->addr.in6.s6_addr + V4_OFFSET, 4);
    return (uint8_t)(p->len - 8 * V4_OFFSET);
}

static struct port_range ports_of(const struct port_range *r)
{
    return policy_is_any_port(r) ? (struct port_range){0, 0} : *r;
}

/* What goes out: the peer is the destination. */
static void plan_match(const struct policy_match *m, uint8_t family, struct rules *plan)
{
    struct rule r = {
        .priority = RULES_PRIORITY_BYPASS,
        .table = RT_TABLE_MAIN,
        .family = family,
        .sport = ports_of(&m->local_port),
        .dport = ports_of(&m->peer_port),
    };
    int only = policy_match_family(m);

    r.src_len = prefix_of(&m->local, r.src);
    r.dst_len = prefix_of(&m->peer, r.dst);
    if (only == 0 || only == family)
        add(plan, r);
}

static void plan_family(const struct bypass *bypass, bool filters_paths, uint8_t family,
                        struct rules *plan)
{
    struct rule end = {
        .priority = RULES_PRIORITY_END,
        .family = family,
        .nop = filters_paths && family == AF_INET ? NOP_TCP : NOP_ANY,
    };
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
    for (size_t i = 0; i < bypass->match_cnt; i++)
        plan_match(&bypass->matches[i], family, plan);
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

static int addr_len(uint8_t family)
{
    return family == AF_INET ? 4 : 16;
}

static uint8_t action_of(const struct rule *r)
{
    if (r->jump)
        return FR_ACT_GOTO;
    return r->nop ? FR_ACT_NOP : FR_ACT_TO_TBL;
}

static int put_rule(struct nl_msg *msg, const struct rule *r)
{
    struct fib_rule_hdr hdr = {
        .family = r->family,
        .table = r->table < 256 ? (uint8_t)r->table : RT_TABLE_UNSPEC,
        .action = action_of(r),
        .src_len = r->src_len,
        .dst_len = r->dst_len,
        .flags = r->jump ? FIB_RULE_INVERT : 0,
    };
    int err = nlmsg_append(msg, &hdr, sizeof(hdr), NLMSG_ALIGNTO);

    err |= nla_put_u32(msg, FRA_PRIORITY, r->priority);
    err |= r->table ? nla_put_u32(msg, FRA_TABLE, r->table) : 0;
    err |= r->jump ? nla_put_u32(msg, FRA_GOTO, r->jump) : 0;
    err |= nla_put_u8(msg, FRA_PROTOCOL, MIRROR_PROTOCOL);
    err |= r->nop == NOP_ANY ? 0 : nla_put_u8(msg, FRA_IP_PROTO, IPPROTO_TCP);
    err |= nla_put_string(msg, FRA_IIFNAME, r->nop ? TUNDEV_NAME : "lo");
    err |= r->src_len ? nla_put(msg, FRA_SRC, addr_len(r->family), r->src) : 0;
    err |= r->dst_len ? nla_put(msg, FRA_DST, addr_len(r->family), r->dst) : 0;
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

static void read_prefix(const struct nlattr *a, uint8_t family, uint8_t out[16])
{
    if (a && nla_len(a) >= addr_len(family))
        memcpy(out, nla_data(a), (size_t)addr_len(family));
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
        .nop = hdr->action != FR_ACT_NOP ? NOP_NONE
               : tb[FRA_IP_PROTO]        ? NOP_TCP
                                         : NOP_ANY,
        .src_len = hdr->src_len,
        .dst_len = hdr->dst_len,
        .table = tb[FRA_TABLE] ? nla_get_u32(tb[FRA_TABLE]) : hdr->table,
        .jump = tb[FRA_GOTO] ? nla_get_u32(tb[FRA_GOTO]) : 0,
        .priority = tb[FRA_PRIORITY] ? nla_get_u32(tb[FRA_PRIORITY]) : 0,
        .sport = read_ports(tb[FRA_SPORT_RANGE]),
        .dport = read_ports(tb[FRA_DPORT_RANGE]),
    };
    read_prefix(tb[FRA_SRC], r.family, r.src);
    read_prefix(tb[FRA_DST], r.family, r.dst);
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

int rules_sync(struct nl_sock *rtnl, const struct bypass *bypass, bool filters_paths)
{
    struct rules plan = {.cnt = 0}, held;

    int err = list(rtnl, &held);
    if (err)
        return err;
    plan_family(bypass, filters_paths, AF_INET, &plan);
    plan_family(bypass, filters_paths, AF_INET6, &plan);
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

static struct policy_prefix read_back(const uint8_t *bytes, uint8_t len, uint8_t family)
{
    if (len == 0)
        return (struct policy_prefix){.len = 0};
    if (family == AF_INET6)
        return (struct policy_prefix){.addr = addr_from_v6(bytes), .len = len, .is_v6 = true};
    return (struct policy_prefix){.addr = addr_from_v4(bytes),
                                  .len = (uint8_t)(len + 8 * V4_OFFSET)};
}

static struct port_range ports_back(const struct port_range *r)
{
    return r->first ? *r : (struct port_range){0, UINT16_MAX};
}

static bool is_link_local(const struct rule *r)
{
    static const uint8_t prefix[16] = LINK_LOCAL;

    return r->family == AF_INET6 &&
           ((r->src_len == LINK_LOCAL_LEN && memcmp(r->src, prefix, sizeof(prefix)) == 0) ||
            (r->dst_len == LINK_LOCAL_LEN && memcmp(r->dst, prefix, sizeof(prefix)) == 0));
}

/* Of the option bypass there are two, one for each end. */
static bool is_of_either_end(const struct rules *held, const struct rule *r)
{
    struct rule other = *r;

    other.sport = r->dport;
    other.dport = r->sport;
    return r->src_len == 0 && r->dst_len == 0 && has(held, &other);
}

static int read_bypass(const struct rules *held, const struct rule *r, struct bypass *ret)
{
    struct policy_match m = {.peer = read_back(r->dst, r->dst_len, r->family),
                             .local = read_back(r->src, r->src_len, r->family),
                             .peer_port = ports_back(&r->dport),
                             .local_port = ports_back(&r->sport)};

    if (is_link_local(r))
        return 0;
    if (!is_of_either_end(held, r))
        return bypass_add_match(ret, &m);
    return r->dport.first ? bypass_add(ret, r->dport) : 0;
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
        if (r->priority == RULES_PRIORITY_BYPASS)
            err = read_bypass(&held, r, &b);
    }
    if (err)
        return err;
    *ret = b;
    *ret_found = found;
    return 0;
}
