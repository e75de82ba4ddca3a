/* SPDX-License-Identifier: BSD-3-Clause
 * What the kernel does with packets of an interface.
 */
#include "tunnel/netconf.h"

#include <linux/rtnetlink.h>
#include <netlink/attr.h>
#include <netlink/msg.h>
#include <netlink/netlink.h>

struct answer {
    int attr, value;
};

static int on_answer(struct nl_msg *msg, void *arg)
{
    struct nlmsghdr *nlh = nlmsg_hdr(msg);
    struct nlattr *tb[NETCONFA_MAX + 1];
    struct answer *a = arg;

    if (nlh->nlmsg_type != RTM_NEWNETCONF ||
        nlmsg_parse(nlh, sizeof(struct netconfmsg), tb, NETCONFA_MAX, NULL) < 0)
        return NL_SKIP;
    if (tb[a->attr])
        a->value = (int)nla_get_u32(tb[a->attr]);
    return NL_OK;
}

int netconf_ask(struct nl_sock *ask, int family, int ifindex, int attr)
{
    struct netconfmsg ncm = {.ncm_family = (unsigned char)family};
    struct nl_msg *msg = nlmsg_alloc_simple(RTM_GETNETCONF, 0);
    struct nl_cb *cb = nl_cb_alloc(NL_CB_DEFAULT);
    struct answer a = {.attr = attr};

    if (msg && cb && nlmsg_append(msg, &ncm, sizeof(ncm), NLMSG_ALIGNTO) == 0 &&
        nla_put_u32(msg, NETCONFA_IFINDEX, (uint32_t)ifindex) == 0) {
        nl_cb_set(cb, NL_CB_VALID, NL_CB_CUSTOM, on_answer, &a);
        /* An error comes alone, an answer with an acknowledgement behind it. */
        if (nl_send_auto(ask, msg) >= 0 && nl_recvmsgs(ask, cb) >= 0)
            nl_wait_for_ack(ask);
    }
    if (cb)
        nl_cb_put(cb);
    nlmsg_free(msg);
    return a.value;
}
