/* SPDX-License-Identifier: BSD-3-Clause
 * One TCP socket of the current network namespace, found by its connection.
 */
#include "ctl/net/sockfind.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/sock_diag.h>
#include <netinet/tcp.h>
#include <string.h>

#include <netlink/msg.h>

#include "ctl/net/netlink.h"

static void write_addr(const struct addr *a, __be32 words[4])
{
    if (addr_is_v4(a))
        memcpy(words, &a->in6.s6_addr[12], 4);
    else
        memcpy(words, &a->in6, 16);
}

static struct inet_diag_req_v2 request_of(const struct tuple *t, int ifindex)
{
    struct inet_diag_req_v2 req = {
        .sdiag_family = addr_is_v4(&t->local) ? AF_INET : AF_INET6,
        .sdiag_protocol = IPPROTO_TCP,
        .idiag_states = UINT32_MAX,
        .id = {.idiag_sport = htons(t->local_port),
               .idiag_dport = htons(t->peer_port),
               .idiag_if = (uint32_t)ifindex,
               .idiag_cookie = {INET_DIAG_NOCOOKIE, INET_DIAG_NOCOOKIE}},
    };

    write_addr(&t->local, req.id.idiag_src);
    write_addr(&t->peer, req.id.idiag_dst);
    return req;
}

struct finding {
    struct sockfind socket;
    bool found;
};

static int on_socket(struct nlmsghdr *nlh, void *arg)
{
    const struct inet_diag_msg *d = nlmsg_data(nlh);
    struct finding *f = arg;

    if (nlh->nlmsg_type != SOCK_DIAG_BY_FAMILY || nlmsg_datalen(nlh) < (int)sizeof(*d))
        return 0;
    f->socket = (struct sockfind){
        .cookie = d->id.idiag_cookie[0] | (uint64_t)d->id.idiag_cookie[1] << 32,
        .uid = d->idiag_uid,
        .state = d->idiag_state,
        .ifindex = (int)d->id.idiag_if,
    };
    f->found = true;
    return 0;
}

static int ask(struct nl_sock *diag, const struct tuple *tuple, int ifindex, struct sockfind *ret)
{
    struct inet_diag_req_v2 req = request_of(tuple, ifindex);
    struct nl_msg *msg = nlmsg_alloc_simple(SOCK_DIAG_BY_FAMILY, 0);
    struct finding f = {.found = false};
    int err = -ENOMEM;

    if (msg && nlmsg_append(msg, &req, sizeof(req), NLMSG_ALIGNTO) == 0)
        err = netlink_talk(diag, msg, on_socket, &f);
    nlmsg_free(msg);
    if (!err && !f.found)
        err = -ENOENT;
    if (!err)
        *ret = f.socket;
    return err;
}

int sockfind(struct nl_sock *diag, const struct tuple *tuple, int ifindex, struct sockfind *ret)
{
    struct tuple any_peer = *tuple;
    struct sockfind found;

    int err = ask(diag, tuple, ifindex, &found);
    /* What is left of an earlier connection hides the listening socket; that one has no
     * connection from port 0. */
    any_peer.peer_port = 0;
    if (!err && found.state == TCP_TIME_WAIT)
        err = ask(diag, &any_peer, ifindex, &found);
    if (!err)
        *ret = found;
    return err;
}

int sockfind_abort(struct nl_sock *diag, const struct tuple *tuple, int ifindex,
                   const struct sockfind *socket)
{
    struct inet_diag_req_v2 req = request_of(tuple, ifindex);
    struct nl_msg *msg = nlmsg_alloc_simple(SOCK_DESTROY, 0);
    int err = -ENOMEM;

    req.id.idiag_cookie[0] = (uint32_t)socket->cookie;
    req.id.idiag_cookie[1] = (uint32_t)(socket->cookie >> 32);
    if (msg && nlmsg_append(msg, &req, sizeof(req), NLMSG_ALIGNTO) == 0)
        err = netlink_talk(diag, msg, NULL, NULL);
    nlmsg_free(msg);
    return err;
}
