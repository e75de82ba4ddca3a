/* SPDX-License-Identifier: BSD-3-Clause
 * check: what the kernel can do in the namespace. Each thing is really tried, and taken
 * back.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <sched.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ctl/check/check.h"
#include "ctl/exec/exec_link.h"
#include "ctl/net/ingress.h"
#include "ctl/net/netlink.h"
#include "ctl/net/netns.h"
#include "ctl/net/sockdiag.h"

/* --- Packet socket ---------------------------------------------------------- */

void check_packet(struct check *c)
{
    int one = 1;
    int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0); /* protocol 0: receives nothing */
    int err = fd < 0 ? -errno : 0;

    if (fd >= 0 && setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &one, sizeof(one)) < 0)
        err = -errno;
    if (fd >= 0)
        close(fd);
    bool denied = fd < 0 && (err == -EPERM || err == -EACCES);
    if (!err)
        check_say(c, CHECK_OK, "packet", NULL, "packet sockets with offloads can be opened");
    else if (denied)
        check_say(c, CHECK_FAIL, "packet", "run it as root; for a container: --cap-add NET_RAW",
                  "no packet socket may be opened here: CAP_NET_RAW does not hold");
    else
        check_say(c, CHECK_FAIL, "packet",
                  "a Linux kernel with packet sockets (CONFIG_PACKET) is needed; gVisor has none",
                  "no packet socket with offloads: %s", strerror(-err));
}

/* --- nftables --------------------------------------------------------------- */

void check_nftables(struct check *c)
{
    struct links lo = {.entries = {{.ifindex = 1, .name = "lo"}}, .cnt = 1};
    const struct links *uplinks = c->uplinks.cnt > 0 ? &c->uplinks : &lo;
    char words[INGRESS_WORDS_LEN];

    int err = c->has_net_admin ? ingress_try(uplinks, words) : -EPERM;
    if (!err)
        check_say(c, CHECK_OK, "nftables", NULL,
                  "the kernel takes our chains: ingress of %s%s, and output",
                  uplinks->entries[0].name, uplinks->cnt > 1 ? " and others" : "");
    else if (err == -EPERM)
        check_say(c, CHECK_FAIL, "nftables", "run it as root; for a container: --cap-add NET_ADMIN",
                  "could not be tried: CAP_NET_ADMIN does not hold here");
    else
        check_say(c, CHECK_FAIL, "nftables",
                  "modprobe -a nf_tables nft_fib_inet nft_reject_inet; the kernel needs "
                  "CONFIG_NF_TABLES_NETDEV, CONFIG_NETFILTER_INGRESS, CONFIG_NFT_FIB_NETDEV",
                  "the kernel does not take our chains: %s", words[0] ? words : strerror(-err));
}

/* --- Sockets ---------------------------------------------------------------- */

/* A socket of our own that others could not reach anyhow. */
static int listen_somewhere(struct sockdiag_socket *ret)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof(addr);
    int one = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd < 0)
        return -errno;
    setsockopt(fd, IPPROTO_IP, IP_FREEBIND, &one, sizeof(one)); /* lo may be down */
    if (bind(fd, (struct sockaddr *)&addr, len) < 0 || listen(fd, 1) < 0 ||
        getsockname(fd, (struct sockaddr *)&addr, &len) < 0) {
        int err = -errno;
        close(fd);
        return err;
    }
    *ret = (struct sockdiag_socket){.family = AF_INET};
    ret->id.idiag_sport = addr.sin_port;
    ret->id.idiag_src[0] = addr.sin_addr.s_addr;
    ret->id.idiag_cookie[0] = ret->id.idiag_cookie[1] = INET_DIAG_NOCOOKIE;
    return fd;
}

/* Return: 0 when the kernel destroyed it; -errno. */
static int try_destroy(struct nl_sock *diag)
{
    struct sockdiag_socket socket;
    int fd = listen_somewhere(&socket);

    if (fd < 0)
        return fd;
    struct sockdiag_list list = {.sockets = &socket, .cnt = 1};
    int err = sockdiag_destroy(diag, &list);
    /* Destroyed, it does not listen any more. */
    if (!err && (accept(fd, NULL, NULL) >= 0 || errno == EAGAIN))
        err = -EOPNOTSUPP;
    close(fd);
    return err;
}

static bool none(const struct tuple *tuple, const void *arg)
{
    return false;
}

static int try_sockdiag(bool *ret_can_list)
{
    struct sockdiag_list empty;
    struct nl_sock *diag;

    *ret_can_list = false;
    int err = netlink_open(NETLINK_SOCK_DIAG, &diag);
    if (err)
        return err;
    err = sockdiag_load(diag, none, NULL, &empty);
    if (!err) {
        *ret_can_list = true;
        sockdiag_done(&empty);
        err = try_destroy(diag);
    }
    nl_socket_free(diag);
    return err;
}

void check_sockdiag(struct check *c)
{
    bool can_list;

    int err = try_sockdiag(&can_list);
    if (!err)
        check_say(c, CHECK_OK, "sock-diag", NULL, "sockets can be listed and destroyed");
    else if (!can_list)
        check_say(c, CHECK_FAIL, "sock-diag",
                  "modprobe -a inet_diag tcp_diag; allow the process sockets of the family "
                  "NETLINK_SOCK_DIAG (seccomp)",
                  "sockets cannot be listed: %s", strerror(-err));
    else if (err == -EPERM)
        check_say(c, CHECK_FAIL, "sock-diag",
                  "run it as root; for a container: --cap-add NET_ADMIN",
                  "sockets cannot be destroyed: CAP_NET_ADMIN does not hold here");
    else
        check_say(c, CHECK_FAIL, "sock-diag",
                  "a kernel with CONFIG_INET_DIAG_DESTROY is needed (what \"ss -K\" uses)",
                  "sockets cannot be destroyed: %s", strerror(-err));
}

/* --- Namespaces, for exec --------------------------------------------------- */

/* In a child of its own: two new namespaces with a link between, as exec makes them. */
static int try_namespaces(void)
{
    struct exec_link link = {
        .host_name = EXEC_LINK_PREFIX "check",
        .mtu = 1500,
        .ipv4 = {.family = AF_INET, .addr = {192, 0, 2, 0}, .len = EXEC_IPV4_LEN},
    };
    const char *step;

    if (unshare(CLONE_NEWNET) < 0)
        return -errno;
    link.netns_fd = netns_open("self");
    if (link.netns_fd < 0 || unshare(CLONE_NEWNET) < 0)
        return -errno;
    return exec_link_create(&link, &step);
}

void check_exec(struct check *c)
{
    int status = 0;
    pid_t pid = fork();

    if (pid == 0)
        _exit(-try_namespaces() & 0xff);
    if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status)) {
        check_say(c, CHECK_WARN, "exec", "raise the limit of processes (ulimit -u, pids.max)",
                  "no child process: %s", strerror(errno));
        return;
    }
    int err = WEXITSTATUS(status);
    if (err == 0)
        check_say(c, CHECK_OK, "exec", NULL,
                  "network namespaces and veth links can be made (for exec)");
    else if (err == EPERM)
        check_say(c, CHECK_WARN, "exec", "run exec as root, outside of containers",
                  "no network namespace can be made, so no exec; up does not need it");
    else
        check_say(c, CHECK_WARN, "exec",
                  err == ENOSPC ? "raise user.max_net_namespaces" : "modprobe veth",
                  "no namespace with a veth link can be made, so no exec: %s", strerror(err));
}
