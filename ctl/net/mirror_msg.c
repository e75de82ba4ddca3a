/* SPDX-License-Identifier: BSD-3-Clause
 * rtnetlink messages of mirror.c.
 */
#include "ctl/net/mirror_msg.h"

#include <errno.h>
#include <linux/rtnetlink.h>
#include <string.h>

#include <netlink/attr.h>
#include <netlink/msg.h>

#include "ctl/net/netlink.h"

/* --- Reading ---------------------------------------------------------------- */

struct listing {
    const struct mirror *m;
    uint8_t family;
    uint32_t table;
    mirror_seen_fn fn;
    void *arg;
};

static void read_addr(const struct nlattr *a, uint8_t family, struct in6_addr *ret)
{
    if (a && (size_t)nla_len(a) == mirror_addr_len(family))
        memcpy(ret, nla_data(a), mirror_addr_len(family));
}

static void note_nexthop(const struct mirror *m, struct mirror_seen *s, int ifindex,
                         const struct nlattr *gateway)
{
    if (s->ifindex_cnt < MIRROR_HOP_MAX_CNT)
        s->ifindexes[s->ifindex_cnt++] = ifindex;
    s->by_tun |= ifindex == m->tun_ifindex;
    if (s->uplink_ifindex || !links_has(m->uplinks, ifindex))
        return;
    s->uplink_ifindex = ifindex;
    if (gateway) {
        s->has_gateway = true;
        read_addr(gateway, s->route.family, &s->gateway);
    }
}

static void note_multipath(const struct mirror *m, struct mirror_seen *s, struct nlattr *multipath)
{
    struct rtnexthop *nh = nla_data(multipath);
    int left = nla_len(multipath);

    while (RTNH_OK(nh, left)) {
        struct nlattr *tb[RTA_MAX + 1];
        struct nlattr *first = (struct nlattr *)RTNH_DATA(nh);
        int len = (int)(nh->rtnh_len - sizeof(*nh));

        if (nla_parse(tb, RTA_MAX, first, len, NULL) == 0)
            note_nexthop(m, s, nh->rtnh_ifindex, tb[RTA_GATEWAY]);
        left -= (int)RTNH_ALIGN(nh->rtnh_len);
        nh = RTNH_NEXT(nh);
    }
}

static uint8_t kind_of_type(unsigned char type)
{
    switch (type) {
    case RTN_UNICAST:
        return MIRROR_TUN;
    case RTN_UNREACHABLE:
        return MIRROR_UNREACHABLE;
    default:
        return MIRROR_NATIVE;
    }
}

static void read_route(const struct mirror *m, const struct rtmsg *rtm, struct nlattr **tb,
                       struct mirror_seen *s)
{
    struct mirror_route *r = &s->route;

    *s = (struct mirror_seen){.table = rtm->rtm_table, .protocol = rtm->rtm_protocol};
    r->family = rtm->rtm_family;
    r->dst_len = rtm->rtm_dst_len;
    r->src_len = rtm->rtm_src_len;
    r->tos = rtm->rtm_tos;
    r->kind = kind_of_type(rtm->rtm_type);
    read_addr(tb[RTA_DST], r->family, &r->dst);
    read_addr(tb[RTA_SRC], r->family, &r->src);
    read_addr(tb[RTA_PREFSRC], r->family, &r->pref_src);
    r->has_pref_src = tb[RTA_PREFSRC] != NULL;
    if (tb[RTA_PRIORITY])
        r->metric = nla_get_u32(tb[RTA_PRIORITY]);
    if (tb[RTA_TABLE])
        s->table = nla_get_u32(tb[RTA_TABLE]);
    if (tb[RTA_OIF])
        note_nexthop(m, s, (int)nla_get_u32(tb[RTA_OIF]), tb[RTA_GATEWAY]);
    if (tb[RTA_MULTIPATH])
        note_multipath(m, s, tb[RTA_MULTIPATH]);
}

static int on_route(struct nlmsghdr *nlh, void *arg)
{
    struct listing *l = arg;
    struct nlattr *tb[RTA_MAX + 1];
    struct rtmsg *rtm = nlmsg_data(nlh);
    struct mirror_seen seen;

    if (nlh->nlmsg_type != RTM_NEWROUTE || nlmsg_parse(nlh, sizeof(*rtm), tb, RTA_MAX, NULL) < 0)
        return 0;
    if (rtm->rtm_family != l->family || (rtm->rtm_flags & RTM_F_CLONED))
        return 0;
    read_route(l->m, rtm, tb, &seen);
    if (l->table != RT_TABLE_UNSPEC && seen.table != l->table)
        return 0;
    return l->fn(&seen, l->arg);
}

static int put_table(struct nl_msg *msg, uint32_t table)
{
    return table == RT_TABLE_UNSPEC ? 0 : nla_put_u32(msg, RTA_TABLE, table);
}

int mirror_msg_list(const struct mirror *m, uint8_t family, uint32_t table, mirror_seen_fn fn,
                    void *arg)
{
    struct listing l = {.m = m, .family = family, .table = table, .fn = fn, .arg = arg};
    struct rtmsg rtm = {.rtm_family = family};
    struct nl_msg *msg = nlmsg_alloc_simple(RTM_GETROUTE, NLM_F_DUMP);
    int err = -ENOMEM;

    if (msg && nlmsg_append(msg, &rtm, sizeof(rtm), NLMSG_ALIGNTO) == 0 &&
        put_table(msg, table) == 0)
        err = netlink_talk(m->rtnl, msg, on_route, &l);
    nlmsg_free(msg);
    /* A table nobody has used yet does not exist. */
    return err == -ENOENT ? 0 : err;
}

/* --- Changing --------------------------------------------------------------- */

static unsigned char type_of_kind(uint8_t kind)
{
    switch ((enum mirror_kind)kind) {
    case MIRROR_TUN:
        return RTN_UNICAST;
    case MIRROR_NATIVE:
        return RTN_THROW;
    case MIRROR_UNREACHABLE:
        return RTN_UNREACHABLE;
    }
    return RTN_UNREACHABLE;
}

/* A next hop on the device itself; IPv6 ignores the scope. */
static unsigned char scope_of(const struct mirror_route *r)
{
    return r->kind == MIRROR_TUN ? RT_SCOPE_LINK : RT_SCOPE_UNIVERSE;
}

static int put_addr(struct nl_msg *msg, int type, bool wanted, uint8_t family,
                    const struct in6_addr *addr)
{
    return wanted ? nla_put(msg, type, (int)mirror_addr_len(family), addr) : 0;
}

static int put_route(struct nl_msg *msg, const struct mirror *m, uint32_t table,
                     const struct mirror_route *r)
{
    struct rtmsg rtm = {
        .rtm_family = r->family,
        .rtm_dst_len = r->dst_len,
        .rtm_src_len = r->src_len,
        .rtm_tos = r->tos,
        .rtm_table = table < 256 ? (unsigned char)table : RT_TABLE_UNSPEC,
        .rtm_protocol = MIRROR_PROTOCOL,
        .rtm_scope = scope_of(r),
        .rtm_type = type_of_kind(r->kind),
    };
    int err = nlmsg_append(msg, &rtm, sizeof(rtm), NLMSG_ALIGNTO);

    err |= put_addr(msg, RTA_DST, r->dst_len > 0, r->family, &r->dst);
    err |= put_addr(msg, RTA_SRC, r->src_len > 0, r->family, &r->src);
    err |= put_addr(msg, RTA_PREFSRC, r->has_pref_src, r->family, &r->pref_src);
    err |= put_table(msg, table);
    err |= r->metric ? nla_put_u32(msg, RTA_PRIORITY, r->metric) : 0;
    if (r->kind == MIRROR_TUN)
        err |= nla_put_u32(msg, RTA_OIF, (uint32_t)m->tun_ifindex);
    return err ? -ENOMEM : 0;
}

static int change(const struct mirror *m, int type, int flags, uint32_t table,
                  const struct mirror_route *r)
{
    struct nl_msg *msg = nlmsg_alloc_simple(type, flags);
    int err = msg ? put_route(msg, m, table, r) : -ENOMEM;

    if (!err)
        err = netlink_talk(m->rtnl, msg, NULL, NULL);
    nlmsg_free(msg);
    return err;
}

int mirror_msg_set(const struct mirror *m, uint32_t table, const struct mirror_route *r)
{
    return change(m, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, table, r);
}

int mirror_msg_del(const struct mirror *m, uint32_t table, const struct mirror_route *r)
{
    struct mirror_route which = *r;
    int err;

    /* The device may be gone with its daemon, and the source with its address:
     * neither is needed to tell our routes apart. */
    which.has_pref_src = 0;
    err = change(m, RTM_DELROUTE, 0, table, &which);
    return err == -ESRCH || err == -ENOENT ? 0 : err;
}

/* --- Asking ----------------------------------------------------------------- */

struct source_query {
    uint8_t family;
    bool found;
    struct in6_addr source;
};

static int on_answer(struct nlmsghdr *nlh, void *arg)
{
    struct source_query *q = arg;
    struct nlattr *tb[RTA_MAX + 1];

    if (nlmsg_parse(nlh, sizeof(struct rtmsg), tb, RTA_MAX, NULL) < 0 || !tb[RTA_PREFSRC])
        return 0;
    q->found = true;
    read_addr(tb[RTA_PREFSRC], q->family, &q->source);
    return 0;
}

/* As UDP, so that our own rule for TCP does not answer. */
static int put_query(struct nl_msg *msg, uint8_t family, int ifindex, const struct in6_addr *dst)
{
    int len = (int)mirror_addr_len(family);
    struct rtmsg rtm = {.rtm_family = family, .rtm_dst_len = (unsigned char)(len * 8)};
    int err = nlmsg_append(msg, &rtm, sizeof(rtm), NLMSG_ALIGNTO);

    err |= nla_put(msg, RTA_DST, len, dst);
    err |= nla_put_u32(msg, RTA_OIF, (uint32_t)ifindex);
    err |= nla_put_u8(msg, RTA_IP_PROTO, IPPROTO_UDP);
    return err ? -ENOMEM : 0;
}

int mirror_msg_source(const struct mirror *m, uint8_t family, int ifindex,
                      const struct in6_addr *dst, struct in6_addr *ret)
{
    struct source_query q = {.family = family};
    struct nl_msg *msg = nlmsg_alloc_simple(RTM_GETROUTE, 0);
    int err = msg ? put_query(msg, family, ifindex, dst) : -ENOMEM;

    if (!err)
        err = netlink_talk(m->rtnl, msg, on_answer, &q);
    nlmsg_free(msg);
    if (err)
        return err;
    if (!q.found)
        return -ENOENT;
    *ret = q.source;
    return 0;
}
