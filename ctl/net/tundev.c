/* SPDX-License-Identifier: BSD-3-Clause
 * The TUN device through which the container's TCP passes.
 */
#include "ctl/net/tundev.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <linux/if_tun.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdbool.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <netlink/msg.h>
#include <netlink/route/link.h>
#include <netlink/route/link/inet6.h>

#include "ctl/net/netlink.h"
#include "tcp/leg.h"
#include "tcp/packet.h"
#include "tunnel/vnet.h"

/* Packets. What does not fit is lost between the application and us, where no network is:
 * the default of 500 is less than a thousand connections that open at once, and less than
 * the windows of eight that send. */
#define TX_QUEUE_LEN 4096

#define LOOK_MS 20 /* between two looks whether a device has gone */

static int attach(int fd, const char *name)
{
    struct ifreq ifr = {.ifr_flags = IFF_TUN | IFF_NO_PI | IFF_VNET_HDR | IFF_TUN_EXCL};
    int vnet_hdr_len = VNET_HDR_LEN;

    strcpy(ifr.ifr_name, name);
    if (ioctl(fd, TUNSETIFF, &ifr) < 0)
        return -errno;
    if (ioctl(fd, TUNSETVNETHDRSZ, &vnet_hdr_len) < 0)
        return -errno;
    if (ioctl(fd, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6) < 0)
        return -errno;
    return 0;
}

int tundev_open(const char *name)
{
    int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    int err = attach(fd, name);
    if (err) {
        close(fd);
        return err;
    }
    return fd;
}

int tundev_open_within(const char *name, int ms)
{
    int fd = tundev_open(name);

    for (int waited = 0; fd == -EBUSY && waited < ms; waited += LOOK_MS) {
        usleep(LOOK_MS * 1000);
        fd = tundev_open(name);
    }
    return fd;
}

bool tundev_is_ours(const char *name)
{
    return strcmp(name, TUNDEV_NAME) == 0 || strcmp(name, TUNDEV_RX_NAME) == 0;
}

int tundev_try(void)
{
    int fd = tundev_open("tcnscheck%d"); /* the kernel puts in a number that is free */

    if (fd < 0)
        return fd;
    close(fd);
    return 0;
}

/* Applies change to the device and frees it. */
static int apply(struct nl_sock *rtnl, const char *name, struct rtnl_link *change)
{
    struct rtnl_link *which = rtnl_link_alloc();
    struct nl_msg *msg = NULL;
    int err = -ENOMEM;

    if (which && change) {
        rtnl_link_set_ifindex(which, (int)if_nametoindex(name));
        err = netlink_errno(rtnl_link_build_change_request(which, change, 0, &msg));
    }
    if (!err)
        err = netlink_talk(rtnl, msg, NULL, NULL);
    nlmsg_free(msg);
    rtnl_link_put(which);
    rtnl_link_put(change);
    return err;
}

/* Without this the kernel adds a link-local address and solicits routers on the
 * device. Fails where IPv6 is off, and then there is nothing to avoid. */
static void forbid_ipv6_addresses(struct nl_sock *rtnl, const char *name)
{
    struct rtnl_link *change = rtnl_link_alloc();

    if (!change)
        return;
    rtnl_link_inet6_set_addr_gen_mode(change, IN6_ADDR_GEN_MODE_NONE);
    (void)apply(rtnl, name, change);
}

int tundev_set_mtu(struct nl_sock *rtnl, const char *name, int mtu)
{
    struct rtnl_link *change = rtnl_link_alloc();

    if (change)
        rtnl_link_set_mtu(change, (unsigned)mtu);
    return apply(rtnl, name, change);
}

int tundev_start(struct nl_sock *rtnl, const char *name, int mtu)
{
    int err = tundev_set_mtu(rtnl, name, mtu);
    if (err)
        return err;
    forbid_ipv6_addresses(rtnl, name);
    struct rtnl_link *change = rtnl_link_alloc();
    if (change) {
        rtnl_link_set_flags(change, IFF_UP);
        rtnl_link_set_txqlen(change, TX_QUEUE_LEN);
    }
    return apply(rtnl, name, change);
}

/* Linux 6.3; headers may be older. */
#define LINK_GSO_IPV4_MAX_SIZE 63

static int note_big_tcp(struct nlmsghdr *nlh, void *arg)
{
    bool *has_big_tcp = arg;

    if (nlh->nlmsg_type == RTM_NEWLINK)
        *has_big_tcp |=
            nlmsg_find_attr(nlh, sizeof(struct ifinfomsg), LINK_GSO_IPV4_MAX_SIZE) != NULL;
    return 0;
}

/* A kernel that can be told how long packets of IPv4 may become also takes them. */
size_t tundev_gso_max_len(struct nl_sock *rtnl)
{
    struct ifinfomsg which = {.ifi_index = (int)if_nametoindex(TUNDEV_NAME)};
    struct nl_msg *msg = nlmsg_alloc_simple(RTM_GETLINK, 0);
    bool has_big_tcp = false;

    if (msg && nlmsg_append(msg, &which, sizeof(which), NLMSG_ALIGNTO) == 0)
        (void)netlink_talk(rtnl, msg, note_big_tcp, &has_big_tcp);
    nlmsg_free(msg);
    return has_big_tcp ? STACK_GSO_MAX_LEN : PACKET_MAX_LEN;
}
