/* SPDX-License-Identifier: BSD-3-Clause
 * One question to the kernel's routing tables.
 */
#include "tunnel/route.h"

#include <linux/rtnetlink.h>
#include <netlink/attr.h>
#include <netlink/msg.h>
#include <netlink/netlink.h>

struct query {
    bool found;
    bool by_gateway;
    struct route_answer answer;
};

static size_t bytes_of(const struct addr *a, const uint8_t **ret)
{
    bool v4 = addr_is_v4(a);

    *ret = &a->in6.s6_addr[v4 ? 12 : 0];
    return v4 ? 4 : 16;
}

static bool read_addr(const void *bytes, size_t len, struct addr *ret)
{
    if (len == 4)
        *ret = addr_from_v4(bytes);
    else if (len == 16)
        *ret = addr_from_v6(bytes);
    else
        return false;
    return true;
}

/* A gateway of the same family, or of the other one (RFC 5549). */
static bool read_gateway(struct nlattr **tb, struct addr *ret)
{
    if (tb[RTA_GATEWAY])
        return read_addr(nla_data(tb[RTA_GATEWAY]), (size_t)nla_len(tb[RTA_GATEWAY]), ret);
    if (tb[RTA_VIA] && nla_len(tb[RTA_VIA]) > (int)sizeof(struct rtvia)) {
        const struct rtvia *via = nla_data(tb[RTA_VIA]);
        return read_addr(via->rtvia_addr, (size_t)nla_len(tb[RTA_VIA]) - sizeof(*via), ret);
    }
    return false;
}

static int on_answer(struct nl_msg *msg, void *arg)
{
    struct nlmsghdr *nlh = nlmsg_hdr(msg);
    const struct rtmsg *rtm = nlmsg_data(nlh);
    struct nlattr *tb[RTA_MAX + 1];
    struct query *q = arg;

    if (nlh->nlmsg_type != RTM_NEWROUTE || nlmsg_parse(nlh, sizeof(*rtm), tb, RTA_MAX, NULL) < 0)
        return NL_SKIP;
    if (rtm->rtm_type != RTN_UNICAST || (!tb[RTA_OIF] && !tb[RTA_MULTIPATH]))
        return NL_SKIP;
    q->found = true;
    if (tb[RTA_OIF])
        q->answer.ifindex = (int)nla_get_u32(tb[RTA_OIF]);
    q->by_gateway = read_gateway(tb, &q->answer.next_hop);
    return NL_OK;
}

static int put_query(struct nl_msg *msg, const struct addr *src, const struct addr *dst, int by,
                     unsigned flags)
{
    const uint8_t *src_bytes, *dst_bytes;
    int src_len = (int)bytes_of(src, &src_bytes), dst_len = (int)bytes_of(dst, &dst_bytes);
    struct rtmsg rtm = {
        .rtm_family = dst_len == 4 ? AF_INET : AF_INET6,
        .rtm_src_len = (unsigned char)(8 * src_len),
        .rtm_dst_len = (unsigned char)(8 * dst_len),
        .rtm_flags = flags,
    };
    int err = nlmsg_append(msg, &rtm, sizeof(rtm), NLMSG_ALIGNTO);

    err |= nla_put(msg, RTA_SRC, src_len, src_bytes);
    err |= nla_put(msg, RTA_DST, dst_len, dst_bytes);
    err |= by ? nla_put_u32(msg, RTA_OIF, (uint32_t)by) : 0;
    return err;
}

static bool ask_once(struct nl_sock *ask, const struct addr *src, const struct addr *dst, int by,
                     unsigned flags, struct query *q)
{
    struct nl_msg *msg = nlmsg_alloc_simple(RTM_GETROUTE, 0);
    struct nl_cb *cb = nl_cb_alloc(NL_CB_DEFAULT);
    bool asked = msg && cb && put_query(msg, src, dst, by, flags) == 0;

    if (asked) {
        nl_cb_set(cb, NL_CB_VALID, NL_CB_CUSTOM, on_answer, q);
        /* An error comes alone, an answer with an acknowledgement behind it. */
        asked = nl_send_auto(ask, msg) >= 0 && nl_recvmsgs(ask, cb) >= 0 &&
                nl_wait_for_ack(ask) >= 0;
    }
    if (cb)
        nl_cb_put(cb);
    nlmsg_free(msg);
    return asked && q->found;
}

/* Asked for one interface, IPv4 without a route there says that everybody is on link. */
static bool is_in_a_table(struct nl_sock *ask, const struct addr *src, const struct addr *dst,
                          int by)
{
    struct query q = {.found = false};

    return ask_once(ask, src, dst, by, RTM_F_FIB_MATCH, &q);
}

bool route_ask(struct nl_sock *ask, const struct addr *src, const struct addr *dst, int by,
               struct route_answer *ret)
{
    struct query q = {.answer = {.next_hop = *dst}};

    if (!ask_once(ask, src, dst, by, 0, &q) || (by && q.answer.ifindex != by))
        return false;
    if (by && !q.by_gateway && addr_is_v4(dst) && !is_in_a_table(ask, src, dst, by))
        return false;
    *ret = q.answer;
    return true;
}
