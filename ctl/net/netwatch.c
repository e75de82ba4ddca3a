/* SPDX-License-Identifier: BSD-3-Clause
 * News of what changes in a network namespace.
 */
#include "ctl/net/netwatch.h"

#include <errno.h>
#include <linux/fib_rules.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <netlink/attr.h>
#include <netlink/msg.h>

#include "ctl/net/ingress.h"
#include "ctl/net/mirror.h"

#define ALL_NEWS                                                                                   \
    (NETWATCH_LINK | NETWATCH_ROUTES | NETWATCH_RULES | NETWATCH_INGRESS | NETWATCH_CONF)
#define MESSAGE_LEN 32768

/* --- Set-up ----------------------------------------------------------------- */

static int listen_to(int protocol, const int *groups, size_t cnt)
{
    struct sockaddr_nl local = {.nl_family = AF_NETLINK};

    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, protocol);
    if (fd < 0)
        return -errno;
    int failed = bind(fd, (struct sockaddr *)&local, sizeof(local));
    for (size_t i = 0; !failed && i < cnt; i++)
        failed = setsockopt(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &groups[i], sizeof(int));
    if (failed) {
        int err = -errno;
        close(fd);
        return err;
    }
    return fd;
}

static int join(struct netwatch *w)
{
    static const int route_groups[] = {
        RTNLGRP_LINK,       RTNLGRP_IPV4_IFADDR,  RTNLGRP_IPV6_IFADDR,
        RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE,   RTNLGRP_IPV4_RULE,
        RTNLGRP_IPV6_RULE,  RTNLGRP_IPV4_NETCONF, RTNLGRP_IPV6_NETCONF};
    static const int nft_groups[] = {NFNLGRP_NFTABLES};

    w->route_fd = listen_to(NETLINK_ROUTE, route_groups, sizeof(route_groups) / sizeof(int));
    if (w->route_fd < 0)
        return w->route_fd;
    w->nft_fd = listen_to(NETLINK_NETFILTER, nft_groups, 1);
    if (w->nft_fd < 0)
        return w->nft_fd;
    w->fd = epoll_create1(EPOLL_CLOEXEC);
    return w->fd < 0 ? -errno : 0;
}

static int add_fd(int epoll_fd, int fd)
{
    struct epoll_event ev = {.events = EPOLLIN};

    return epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &ev) < 0 ? -errno : 0;
}

int netwatch_init(struct netwatch *w)
{
    *w = (struct netwatch)NETWATCH_NONE;
    int err = join(w);
    if (!err)
        err = add_fd(w->fd, w->route_fd);
    if (!err)
        err = add_fd(w->fd, w->nft_fd);
    if (err)
        netwatch_done(w);
    return err;
}

void netwatch_done(struct netwatch *w)
{
    if (w->fd >= 0)
        close(w->fd);
    if (w->route_fd >= 0)
        close(w->route_fd);
    if (w->nft_fd >= 0)
        close(w->nft_fd);
    *w = (struct netwatch)NETWATCH_NONE;
}

/* --- Reading ---------------------------------------------------------------- */

typedef unsigned (*message_fn)(struct netwatch *w, struct nlmsghdr *nlh);

static unsigned read_all(struct netwatch *w, int fd, message_fn fn)
{
    char data[MESSAGE_LEN];
    unsigned news = 0;

    for (;;) {
        ssize_t n = recv(fd, data, sizeof(data), 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == ENOBUFS) {
            news |= ALL_NEWS;
            continue;
        }
        if (n <= 0)
            return news;
        int left = (int)n;
        struct nlmsghdr *nlh = (struct nlmsghdr *)data;
        for (; nlmsg_ok(nlh, left); nlh = nlmsg_next(nlh, &left))
            news |= fn(w, nlh);
    }
}

static unsigned on_route(struct nlmsghdr *nlh)
{
    const struct rtmsg *rtm = nlmsg_data(nlh);
    bool ours = rtm->rtm_protocol == MIRROR_PROTOCOL;

    /* The kernel's cached IPv6 exceptions (path MTU) are no change of a table. */
    if (rtm->rtm_flags & RTM_F_CLONED)
        return 0;
    return ours && nlh->nlmsg_type == RTM_NEWROUTE ? 0 : NETWATCH_ROUTES;
}

static unsigned on_rule_deleted(struct nlmsghdr *nlh)
{
    struct nlattr *tb[FRA_MAX + 1];

    if (nlmsg_parse(nlh, sizeof(struct fib_rule_hdr), tb, FRA_MAX, NULL) < 0)
        return 0;
    return tb[FRA_PROTOCOL] && nla_get_u8(tb[FRA_PROTOCOL]) == MIRROR_PROTOCOL ? NETWATCH_RULES : 0;
}

/* A bridge's port that leaves it is told of likewise, but by another family. */
static void note_gone(struct netwatch *w, struct nlmsghdr *nlh)
{
    const struct ifinfomsg *ifi = nlmsg_data(nlh);

    if (ifi->ifi_family == AF_UNSPEC && w->gone_cnt < NETWATCH_GONE_MAX_CNT)
        w->gone[w->gone_cnt++] = ifi->ifi_index;
}

static unsigned on_route_message(struct netwatch *w, struct nlmsghdr *nlh)
{
    switch (nlh->nlmsg_type) {
    case RTM_DELLINK:
        note_gone(w, nlh);
        return NETWATCH_LINK;
    case RTM_NEWLINK:
        return NETWATCH_LINK;
    case RTM_NEWADDR:
    case RTM_DELADDR:
        return NETWATCH_ROUTES;
    case RTM_NEWROUTE:
    case RTM_DELROUTE:
        return on_route(nlh);
    case RTM_DELRULE:
        return on_rule_deleted(nlh);
    case RTM_NEWNETCONF:
        return NETWATCH_CONF;
    default:
        return 0;
    }
}

static bool is_word(const struct nlattr *a, const char *word)
{
    size_t len = strlen(word) + 1;

    return a && (size_t)nla_len(a) >= len && memcmp(nla_data(a), word, len) == 0;
}

/* By name, because the number the kernel gives is another in a PID namespace. */
static bool is_this_process(const struct nlattr *name)
{
    char comm[16] = "";

    prctl(PR_GET_NAME, comm);
    return is_word(name, comm);
}

/* A transaction ends with a message that says who made it. Of tables, chains,
 * rules and sets the table's name is attribute 1. */
static unsigned on_nft_message(struct netwatch *w, struct nlmsghdr *nlh)
{
    struct nlattr *tb[NFTA_GEN_MAX + 1];

    if (NFNL_SUBSYS_ID(nlh->nlmsg_type) != NFNL_SUBSYS_NFTABLES ||
        nlmsg_parse(nlh, sizeof(struct nfgenmsg), tb, NFTA_GEN_MAX, NULL) < 0)
        return 0;
    if (NFNL_MSG_TYPE(nlh->nlmsg_type) != NFT_MSG_NEWGEN) {
        w->nft_touched |= is_word(tb[1], INGRESS_TABLE);
        return 0;
    }
    bool touched = w->nft_touched;
    w->nft_touched = false;
    return touched && !is_this_process(tb[NFTA_GEN_PROC_NAME]) ? NETWATCH_INGRESS : 0;
}

unsigned netwatch_read(struct netwatch *w)
{
    w->gone_cnt = 0;
    return read_all(w, w->route_fd, on_route_message) | read_all(w, w->nft_fd, on_nft_message);
}

bool netwatch_has_gone(const struct netwatch *w, int ifindex)
{
    for (size_t i = 0; i < w->gone_cnt; i++)
        if (w->gone[i] == ifindex)
            return true;
    return false;
}
