/* SPDX-License-Identifier: BSD-3-Clause
 * The TCP sockets of the current network namespace.
 */
#include "ctl/net/sockdiag.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/sock_diag.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>

#include <netlink/attr.h>
#include <netlink/msg.h>

#include "ctl/net/netlink.h"
#include "ctl/net/sockdiag_bytes.h"

#define DUMP_TRIES       5
#define NEW_SYN_RECEIVED 12 /* TCP_NEW_SYN_RECV, which only the kernel's header has */

/* All states but these have a peer. */
#define STATES (((1u << (NEW_SYN_RECEIVED + 1)) - 2) & ~(1u << TCP_LISTEN | 1u << TCP_CLOSE))

struct loading {
    sockdiag_filter_fn filter;
    const void *arg;
    bool wants_bytes;
    struct sockdiag_list *list;
};

static int append(struct sockdiag_list *l, const struct sockdiag_socket *s)
{
    if (l->cnt == l->cap) {
        size_t cap = l->cap ? 2 * l->cap : 256;
        struct sockdiag_socket *grown = reallocarray(l->sockets, cap, sizeof(*grown));
        if (!grown)
            return -ENOMEM;
        l->sockets = grown;
        l->cap = cap;
    }
    l->sockets[l->cnt++] = *s;
    return 0;
}

static struct addr read_addr(uint8_t family, const __be32 *words)
{
    return family == AF_INET ? addr_from_v4(words) : addr_from_v6(words);
}

static int on_socket(struct nlmsghdr *nlh, void *arg)
{
    struct loading *l = arg;
    const struct inet_diag_msg *d = nlmsg_data(nlh);

    if (nlh->nlmsg_type != SOCK_DIAG_BY_FAMILY || nlmsg_datalen(nlh) < (int)sizeof(*d))
        return 0;
    if (d->idiag_family != AF_INET && d->idiag_family != AF_INET6)
        return 0;
    struct sockdiag_socket s = {
        .family = d->idiag_family,
        .state = d->idiag_state,
        .id = d->id,
        .inode = d->idiag_inode,
        .tx_pending = d->idiag_wqueue,
        .tuple =
            {
                .local = read_addr(d->idiag_family, d->id.idiag_src),
                .peer = read_addr(d->idiag_family, d->id.idiag_dst),
                .local_port = ntohs(d->id.idiag_sport),
                .peer_port = ntohs(d->id.idiag_dport),
            },
    };
    const struct nlattr *info = nlmsg_find_attr(nlh, sizeof(*d), INET_DIAG_INFO);
    if (l->wants_bytes && info)
        sockdiag_bytes(nla_data(info), (size_t)nla_len(info), &s.tx_bytes, &s.rx_bytes);
    return l->filter(&s.tuple, l->arg) ? append(l->list, &s) : 0;
}

static int talk(struct nl_sock *diag, int type, int flags, const struct inet_diag_req_v2 *req,
                netlink_fn fn, void *arg)
{
    struct nl_msg *msg = nlmsg_alloc_simple(type, flags);
    int err = -ENOMEM;

    if (msg && nlmsg_append(msg, (void *)req, sizeof(*req), NLMSG_ALIGNTO) == 0)
        err = netlink_talk(diag, msg, fn, arg);
    nlmsg_free(msg);
    return err;
}

static int load_family(struct nl_sock *diag, uint8_t family, struct loading *l)
{
    struct inet_diag_req_v2 req = {
        .sdiag_family = family,
        .sdiag_protocol = IPPROTO_TCP,
        .idiag_states = STATES,
        .idiag_ext = l->wants_bytes ? 1 << (INET_DIAG_INFO - 1) : 0,
    };
    size_t start = l->list->cnt;
    int err = -EINTR;

    for (int i = 0; i < DUMP_TRIES && err == -EINTR; i++) {
        l->list->cnt = start;
        err = talk(diag, SOCK_DIAG_BY_FAMILY, NLM_F_DUMP, &req, on_socket, l);
    }
    return err;
}

static int load(struct nl_sock *diag, struct loading *l, struct sockdiag_list *ret)
{
    struct sockdiag_list list = {.cnt = 0};

    l->list = &list;
    int err = load_family(diag, AF_INET, l);
    if (!err) {
        int err6 = load_family(diag, AF_INET6, l);
        err = err6 == -ENOENT ? 0 : err6; /* a kernel without IPv6 */
    }
    if (err) {
        sockdiag_done(&list);
        return err;
    }
    *ret = list;
    return 0;
}

int sockdiag_load(struct nl_sock *diag, sockdiag_filter_fn filter, const void *arg,
                  struct sockdiag_list *ret)
{
    struct loading l = {.filter = filter, .arg = arg};

    return load(diag, &l, ret);
}

int sockdiag_load_bytes(struct nl_sock *diag, sockdiag_filter_fn filter, const void *arg,
                        struct sockdiag_list *ret)
{
    struct loading l = {.filter = filter, .arg = arg, .wants_bytes = true};

    return load(diag, &l, ret);
}

void sockdiag_done(struct sockdiag_list *l)
{
    free(l->sockets);
    *l = (struct sockdiag_list){.cnt = 0};
}

static int compare_id(const void *a, const void *b)
{
    const struct sockdiag_socket *x = a, *y = b;

    return memcmp(&x->id, &y->id, sizeof(x->id));
}

int sockdiag_append(struct sockdiag_list *to, struct sockdiag_list *from)
{
    struct sockdiag_socket *all =
        reallocarray(to->sockets, to->cnt + from->cnt + 1, sizeof(*to->sockets));

    if (!all)
        return -ENOMEM;
    if (from->cnt > 0)
        memcpy(all + to->cnt, from->sockets, from->cnt * sizeof(*all));
    to->sockets = all;
    to->cnt += from->cnt;
    to->cap = to->cnt + 1;
    sockdiag_done(from);
    return 0;
}

void sockdiag_sort(struct sockdiag_list *l)
{
    if (l->cnt > 0)
        qsort(l->sockets, l->cnt, sizeof(l->sockets[0]), compare_id);
}

bool sockdiag_has(const struct sockdiag_list *l, const struct sockdiag_socket *s)
{
    return l->cnt > 0 && bsearch(s, l->sockets, l->cnt, sizeof(*s), compare_id);
}

int sockdiag_destroy(struct nl_sock *diag, const struct sockdiag_list *l)
{
    int first = 0;

    for (size_t i = 0; i < l->cnt; i++) {
        struct inet_diag_req_v2 req = {
            .sdiag_family = l->sockets[i].family,
            .sdiag_protocol = IPPROTO_TCP,
            .idiag_states = STATES,
            .id = l->sockets[i].id,
        };
        int err = talk(diag, SOCK_DESTROY, 0, &req, NULL, NULL);
        if (err && err != -ENOENT)
            first = first ? first : err;
    }
    return first;
}
