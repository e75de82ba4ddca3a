/* SPDX-License-Identifier: BSD-3-Clause
 * One request and its answers over netlink.
 */
#include "ctl/net/netlink.h"

#include <errno.h>
#include <stdbool.h>
#include <sys/socket.h>

#include <netlink/errno.h>
#include <netlink/handlers.h>
#include <netlink/msg.h>

int netlink_errno(int nle)
{
    switch (nle < 0 ? -nle : nle) {
    case NLE_SUCCESS:
        return 0;
    case NLE_INTR:
    case NLE_DUMP_INTR:
        return -EINTR;
    case NLE_AGAIN:
        return -EAGAIN;
    case NLE_NOMEM:
        return -ENOMEM;
    case NLE_EXIST:
        return -EEXIST;
    case NLE_OBJ_NOTFOUND:
        return -ENOENT;
    case NLE_NODEV:
        return -ENODEV;
    case NLE_PERM:
    case NLE_NOACCESS:
        return -EPERM;
    case NLE_BUSY:
        return -EBUSY;
    case NLE_INVAL:
        return -EINVAL;
    case NLE_OPNOTSUPP:
        return -EOPNOTSUPP;
    case NLE_AF_NOSUPPORT:
        return -EAFNOSUPPORT;
    default:
        return -EIO;
    }
}

int netlink_open(int protocol, struct nl_sock **ret)
{
    struct nl_sock *sk = nl_socket_alloc();
    int one = 1;

    if (!sk)
        return -ENOMEM;
    int nle = nl_connect(sk, protocol);
    if (nle < 0) {
        nl_socket_free(sk);
        return netlink_errno(nle);
    }
    /* Lets a dump request name the table it wants; old kernels send all tables,
     * and readers check the table anyway. */
    (void)setsockopt(nl_socket_get_fd(sk), SOL_NETLINK, NETLINK_GET_STRICT_CHK, &one, sizeof(one));
    *ret = sk;
    return 0;
}

struct talk {
    netlink_fn fn;
    void *arg;
    bool done;
    int result;
};

static int on_valid(struct nl_msg *msg, void *arg)
{
    struct talk *t = arg;

    if (t->fn && t->result == 0)
        t->result = t->fn(nlmsg_hdr(msg), t->arg);
    return NL_OK;
}

static int on_end(struct nl_msg *msg, void *arg)
{
    struct talk *t = arg;

    t->done = true;
    return NL_STOP;
}

static int on_error(struct sockaddr_nl *from, struct nlmsgerr *e, void *arg)
{
    struct talk *t = arg;

    t->result = e->error;
    t->done = true;
    return NL_STOP;
}

static int receive(struct nl_sock *sk, struct nl_cb *cb, struct talk *t)
{
    nl_cb_set(cb, NL_CB_VALID, NL_CB_CUSTOM, on_valid, t);
    nl_cb_set(cb, NL_CB_ACK, NL_CB_CUSTOM, on_end, t);
    nl_cb_set(cb, NL_CB_FINISH, NL_CB_CUSTOM, on_end, t);
    nl_cb_err(cb, NL_CB_CUSTOM, on_error, t);
    while (!t->done) {
        int nle = nl_recvmsgs(sk, cb);
        if (nle == -NLE_DUMP_INTR)
            return -EINTR;
        if (nle < 0 && !t->done)
            return netlink_errno(nle);
    }
    return t->result;
}

int netlink_talk(struct nl_sock *sk, struct nl_msg *msg, netlink_fn fn, void *arg)
{
    struct talk t = {.fn = fn, .arg = arg};

    int nle = nl_send_auto(sk, msg);
    if (nle < 0)
        return netlink_errno(nle);
    struct nl_cb *own = nl_socket_get_cb(sk); /* one more reference */
    struct nl_cb *cb = nl_cb_clone(own);

    nl_cb_put(own);
    if (!cb)
        return -ENOMEM;
    int err = receive(sk, cb, &t);
    nl_cb_put(cb);
    return err;
}
