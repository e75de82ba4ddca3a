/* SPDX-License-Identifier: BSD-3-Clause
 * check: the way out, and whether option 69 can leave by it.
 *
 * How it works: an uplink whose far side is a program in user space is either a VPN or a
 * virtual machine's monitor, which passes packets on, or a network in user space (pasta,
 * slirp4netns), which ends TCP and opens connections of its own: then no TCP option
 * gets out. What was seen of them: the uplink is a TAP device in both. slirp4netns, and
 * others that use libslirp (QEMU's user network), has a gateway whose link-layer address is
 * 52:55 and its IPv4 address. pasta copies the host's addresses, but answers no packet whose
 * hop limit ends there, as whoever forwards packets does; so one UDP datagram with a
 * hop limit of 1 is sent towards an address of documentation (RFC 5737).
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/ethtool.h>
#include <linux/errqueue.h>
#include <linux/sockios.h>
#include <net/if_arp.h>
#include <netinet/in.h>
#include <netinet/ip_icmp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <netlink/route/link.h>

#include "ctl/check/check.h"
#include "ctl/net/mirror.h"
#include "ctl/net/mirror_msg.h"

#define MTU_MIN           576  /* RFC 791: what every host takes */
#define MTU_MIN_IPV6      1280 /* RFC 8200 5 */
#define HOP_WAIT_MS       1000
#define NEIGHBOUR_WAIT_MS 500
#define GVISOR_VERSION    "Sun Jan 10 15:06:54 PST 2016" /* the same in every release */

struct device {
    char kind[32];   /* of rtnetlink: "veth", "tun"; "" for real ones */
    char driver[32]; /* of ethtool; "" when it has none to tell */
    unsigned flags, arptype;
};

static int read_device(const struct check *c, const char *name, struct device *ret)
{
    struct rtnl_link *link = NULL;

    if (!c->rtnl || rtnl_link_get_kernel(c->rtnl, 0, name, &link) < 0)
        return -ENODEV;
    const char *kind = rtnl_link_get_type(link);
    *ret =
        (struct device){.flags = rtnl_link_get_flags(link), .arptype = rtnl_link_get_arptype(link)};
    snprintf(ret->kind, sizeof(ret->kind), "%s", kind ? kind : "");
    rtnl_link_put(link);
    return 0;
}

/* One question of ethtool. Return: 0; -errno. */
static int ask_ethtool(const char *name, void *command)
{
    struct ifreq ifr = {.ifr_data = command};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return -errno;
    snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", name);
    int err = ioctl(fd, SIOCETHTOOL, &ifr) < 0 ? -errno : 0;
    close(fd);
    return err;
}

static void read_driver(const char *name, char out[32])
{
    struct ethtool_drvinfo info = {.cmd = ETHTOOL_GDRVINFO};

    if (ask_ethtool(name, &info) == 0)
        snprintf(out, 32, "%.31s", info.driver);
}

/* --- Which ones ------------------------------------------------------------- */

static bool is_usable(struct check *c, const char *name, const struct device *d)
{
    bool is_known =
        d->arptype == ARPHRD_ETHER || d->arptype == ARPHRD_NONE || d->arptype == ARPHRD_PPP;

    if (d->flags & IFF_LOOPBACK)
        check_say(c, CHECK_FAIL, "uplink", "name another interface with --uplink",
                  "%s is the loopback interface", name);
    else if (!is_known)
        check_say(c, CHECK_FAIL, "uplink",
                  "name Ethernet-like or point-to-point interfaces with --uplink",
                  "%s is of a link type that is not supported (%u)", name, d->arptype);
    else
        return true;
    return false;
}

static void say_link_state(struct check *c, const char *name, const struct device *d)
{
    char fix[CHECK_FIX_LEN];

    if (!(d->flags & IFF_UP))
        check_say(c, CHECK_FAIL, "uplink", check_fix(fix, "ip link set %s up", name), "%s is down",
                  name);
    else if (!(d->flags & IFF_RUNNING))
        check_say(c, CHECK_FAIL, "uplink", "look at the cable, or at the other end of the link",
                  "%s is up but has no carrier", name);
    else
        check_say(c, CHECK_OK, "uplink", NULL, "%s%s%s", name,
                  d->kind[0] || d->driver[0] ? ", " : "", d->kind[0] ? d->kind : d->driver);
}

static void look_at(struct check *c, const struct links_entry *u)
{
    struct device d = {.flags = 0};

    if (u->ifindex == 0 || read_device(c, u->name, &d) < 0) {
        check_say(c, CHECK_FAIL, "uplink", "name one that \"ip link\" shows with --uplink",
                  "the namespace has no interface \"%s\"", u->name);
        return;
    }
    read_driver(u->name, d.driver);
    if (!is_usable(c, u->name, &d))
        return;
    say_link_state(c, u->name, &d);
    c->uplinks.entries[c->uplinks.cnt++] = *u;
}

void check_uplink(struct check *c)
{
    struct links found = {.cnt = 0}, native = {.cnt = 0};

    int err = c->rtnl ? links_find(c->rtnl, c->named.cnt > 0 ? &c->named : NULL, &found, &native)
                      : -ENOTCONN;
    if (err)
        check_say(c, CHECK_FAIL, "uplink", "allow the process route netlink (seccomp, SELinux)",
                  "links and routes cannot be read: %s", strerror(-err));
    else if (found.cnt == 0)
        check_say(c, CHECK_FAIL, "uplink",
                  "ip route add default via GATEWAY; or name the interface with --uplink",
                  "no interface leads to the outside, that is, has a route");
    for (size_t i = 0; !err && i < found.cnt; i++)
        look_at(c, &found.entries[i]);
    for (size_t i = 0; !err && i < native.cnt; i++)
        check_say(c, CHECK_OK, "uplink", NULL, "%s is none: TCP by it is the kernel's, in clear",
                  native.entries[i].name);
}

/* --- What is at the far side ------------------------------------------------ */

#define USER_SPACE_FIX                                                                             \
    "give the container a network whose packets leave as they are: veth with a bridge, macvlan "   \
    "(rootful, not --network pasta or slirp4netns); or run tcpcrypt-ns outside, on the host"

static bool is_gvisor(void)
{
    char text[512] = "";
    int fd = open("/proc/version", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

    if (fd >= 0)
        close(fd);
    return n > 0 && strstr(text, GVISOR_VERSION);
}

struct default_gateway {
    struct in_addr addr;
    bool found;
    int ifindex;
};

static int on_route(const struct mirror_seen *s, void *arg)
{
    struct default_gateway *g = arg;

    if (s->route.dst_len == 0 && s->has_gateway && s->uplink_ifindex == g->ifindex && !g->found) {
        memcpy(&g->addr, &s->gateway, sizeof(g->addr));
        g->found = true;
    }
    return 0;
}

static struct default_gateway find_gateway(const struct check *c, const struct links_entry *u)
{
    struct default_gateway g = {.ifindex = u->ifindex};
    struct links one = {.entries = {*u}, .cnt = 1};
    struct mirror m = {.rtnl = c->rtnl, .uplinks = &one};

    (void)mirror_msg_list(&m, AF_INET, RT_TABLE_MAIN, on_route, &g);
    return g;
}

/* A datagram whose hop limit ends behind the first hop.
 * Return: whether somebody says so, as whoever forwards packets does (RFC 1812 5.3.1). */
static bool is_hop_answered(int fd)
{
    char control[256], data[64];
    struct iovec iov = {data, sizeof(data)};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control,
                         .msg_controllen = sizeof(control)};
    struct pollfd p = {.fd = fd};

    if (poll(&p, 1, HOP_WAIT_MS) <= 0 || recvmsg(fd, &msg, MSG_ERRQUEUE) < 0)
        return false;
    for (struct cmsghdr *m = CMSG_FIRSTHDR(&msg); m; m = CMSG_NXTHDR(&msg, m)) {
        struct sock_extended_err e;

        if (m->cmsg_level != IPPROTO_IP || m->cmsg_type != IP_RECVERR)
            continue;
        memcpy(&e, CMSG_DATA(m), sizeof(e));
        return e.ee_origin == SO_EE_ORIGIN_ICMP && e.ee_type == ICMP_TIME_EXCEEDED;
    }
    return false;
}

static bool does_first_hop_forward(const char *name)
{
    struct sockaddr_in far = {.sin_family = AF_INET, .sin_port = htons(33434)};
    int one = 1, fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    bool answered = false;

    if (fd < 0)
        return false;
    inet_pton(AF_INET, "198.51.100.1", &far.sin_addr); /* RFC 5737 */
    setsockopt(fd, IPPROTO_IP, IP_TTL, &one, sizeof(one));
    setsockopt(fd, IPPROTO_IP, IP_RECVERR, &one, sizeof(one));
    if (setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, name, (socklen_t)strlen(name)) == 0 &&
        sendto(fd, "", 1, 0, (struct sockaddr *)&far, sizeof(far)) == 1)
        answered = is_hop_answered(fd);
    close(fd);
    return answered;
}

/* The gateway's link-layer address, once the kernel knows it. Return: 0; -errno. */
static int read_neighbour(const char *name, struct in_addr addr, uint8_t ret[6])
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr = addr, .sin_port = htons(9)};
    struct arpreq req = {.arp_pa = {.sa_family = AF_INET}};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), err = -ENOENT;

    if (fd < 0)
        return -errno;
    memcpy(&req.arp_pa, &to, sizeof(to));
    snprintf(req.arp_dev, sizeof(req.arp_dev), "%s", name);
    /* An empty datagram to the discard port, so that the kernel asks for the address. */
    (void)sendto(fd, "", 0, 0, (struct sockaddr *)&to, sizeof(to));
    for (int left = NEIGHBOUR_WAIT_MS; err && left > 0; left -= 20) {
        if (ioctl(fd, SIOCGARP, &req) == 0 && (req.arp_flags & ATF_COM)) {
            memcpy(ret, req.arp_ha.sa_data, 6);
            err = 0;
        } else {
            poll(NULL, 0, 20);
        }
    }
    close(fd);
    return err;
}

static bool is_libslirp(const struct check *c, const struct links_entry *u)
{
    struct default_gateway g = find_gateway(c, u);
    uint8_t mac[6];

    return g.found && read_neighbour(u->name, g.addr, mac) == 0 && mac[0] == 0x52 &&
           mac[1] == 0x55 && memcmp(mac + 2, &g.addr, 4) == 0;
}

static void check_tap(struct check *c, const char *name)
{
    if (does_first_hop_forward(name))
        check_say(c, CHECK_OK, "far-side", NULL,
                  "%s is a TUN or TAP device, and its far side forwards packets (a VPN, a "
                  "virtual machine's host)",
                  name);
    else
        check_say(c, CHECK_WARN, "far-side", USER_SPACE_FIX,
                  "the far side of %s is a program in user space and does not answer as a router "
                  "does. If it ends TCP itself, as pasta does, TCP-ENO cannot leave and every "
                  "connection is clear; check --peer tells",
                  name);
}

static void check_one_far_side(struct check *c, const struct links_entry *u)
{
    struct device d;

    if (read_device(c, u->name, &d) < 0)
        return;
    if (d.arptype == ARPHRD_ETHER && is_libslirp(c, u))
        check_say(c, CHECK_FAIL, "far-side", USER_SPACE_FIX,
                  "TCP ends in libslirp (slirp4netns, QEMU's user network) behind %s: TCP-ENO "
                  "cannot leave, and every connection is clear",
                  u->name);
    else if (strcmp(d.kind, "tun") == 0)
        check_tap(c, u->name);
    else
        check_say(c, CHECK_OK, "far-side", NULL,
                  "nothing near %s is known to end TCP; check --peer looks at the whole path",
                  u->name);
}

void check_far_side(struct check *c)
{
    if (is_gvisor()) {
        check_say(c, CHECK_FAIL, "far-side",
                  "use another runtime (runc, crun), or kata with a bridge",
                  "this is gVisor, whose TCP is in user space: TCP-ENO cannot leave");
        return;
    }
    for (size_t i = 0; i < c->uplinks.cnt; i++)
        check_one_far_side(c, &c->uplinks.entries[i]);
}

/* --- MTU and offloads ------------------------------------------------------- */

static void check_one_mtu(struct check *c, const struct links_entry *u)
{
    char fix[CHECK_FIX_LEN];

    if (u->mtu < MTU_MIN)
        check_say(c, CHECK_FAIL, "mtu", check_fix(fix, "ip link set %s mtu 1500", u->name),
                  "%s has an MTU of %d, less than %d", u->name, u->mtu, MTU_MIN);
    else if (u->mtu < MTU_MIN_IPV6)
        check_say(c, CHECK_WARN, "mtu", check_fix(fix, "ip link set %s mtu 1500", u->name),
                  "%s has an MTU of %d: no IPv6, which needs %d", u->name, u->mtu, MTU_MIN_IPV6);
    else
        check_say(c, CHECK_OK, "mtu", NULL, "%s: %d bytes", u->name, u->mtu);
}

void check_mtu(struct check *c)
{
    for (size_t i = 0; i < c->uplinks.cnt; i++)
        check_one_mtu(c, &c->uplinks.entries[i]);
}

/* Return: whether the feature is on; true when the device does not tell. */
static bool is_on(const char *name, uint32_t question)
{
    struct ethtool_value v = {.cmd = question};

    return ask_ethtool(name, &v) < 0 || v.data != 0;
}

/* A veth passes super-packets on as they are, GRO or not; a TUN device has what its program
 * says. */
static void check_one_offloads(struct check *c, const char *name)
{
    static const struct {
        uint32_t question;
        const char *name, *not_for;
    } wanted[] = {{ETHTOOL_GTXCSUM, "tx", "tun"},
                  {ETHTOOL_GSG, "sg", "tun"},
                  {ETHTOOL_GGSO, "gso", ""},
                  {ETHTOOL_GGRO, "gro", "veth"}};
    char off[64] = "", fix[CHECK_FIX_LEN];
    struct device d;

    if (read_device(c, name, &d) < 0)
        return;
    for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++)
        if (strcmp(d.kind, wanted[i].not_for) != 0 && !is_on(name, wanted[i].question))
            snprintf(off + strlen(off), sizeof(off) - strlen(off), " %s on", wanted[i].name);
    if (!off[0])
        check_say(c, CHECK_OK, "offloads", NULL, "%s: what makes large transfers quick is on",
                  name);
    else
        check_say(c, CHECK_WARN, "offloads", check_fix(fix, "ethtool -K %s%s", name, off),
                  "%s has offloads switched off; large transfers are several times slower", name);
}

void check_offloads(struct check *c)
{
    for (size_t i = 0; i < c->uplinks.cnt; i++)
        check_one_offloads(c, c->uplinks.entries[i].name);
}

/* --- Routes ----------------------------------------------------------------- */

struct defaults {
    int by_uplink, elsewhere;
};

static int note_default(const struct mirror_seen *s, void *arg)
{
    struct defaults *d = arg;

    if (s->route.dst_len > 0 || s->route.kind == MIRROR_UNREACHABLE)
        return 0;
    if (s->uplink_ifindex > 0)
        d->by_uplink++;
    else
        d->elsewhere++;
    return 0;
}

static void say_default(struct check *c, uint8_t family, const char *name)
{
    struct mirror m = {.rtnl = c->rtnl, .uplinks = &c->uplinks};
    struct defaults d = {.by_uplink = 0};

    if (mirror_msg_list(&m, family, RT_TABLE_MAIN, note_default, &d) < 0)
        return;
    if (d.elsewhere > 0)
        check_say(c, CHECK_WARN, "routes", "name its interface with --uplink, too",
                  "%s: a default route leads out by an interface that is no uplink; TCP by it is "
                  "not encrypted",
                  name);
    else if (d.by_uplink > 0)
        check_say(c, CHECK_OK, "routes", NULL, "%s: a default route", name);
    else if (family == AF_INET)
        check_say(c, CHECK_WARN, "routes", "ip route add default via GATEWAY, if there is one",
                  "%s: no default route; only what has a route of its own is reached", name);
    else
        check_say(c, CHECK_OK, "routes", NULL, "%s: no default route", name);
}

void check_routes(struct check *c)
{
    if (!c->rtnl || c->uplinks.cnt == 0)
        return;
    say_default(c, AF_INET, "IPv4");
    say_default(c, AF_INET6, "IPv6");
}

/* --- Filters that interfere ------------------------------------------------- */

static int note_ipv6(const struct mirror_seen *s, void *arg)
{
    bool is_global = !IN6_IS_ADDR_LINKLOCAL(&s->route.dst) && !IN6_IS_ADDR_MULTICAST(&s->route.dst);

    *(bool *)arg |= s->uplink_ifindex > 0 && is_global;
    return 0;
}

static bool has_ipv6(const struct check *c)
{
    struct mirror m = {.rtnl = c->rtnl, .uplinks = &c->uplinks};
    bool found = false;

    if (c->rtnl)
        (void)mirror_msg_list(&m, AF_INET6, RT_TABLE_MAIN, note_ipv6, &found);
    return found;
}

static int read_sysctl(const char *path)
{
    char text[16] = "";
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

    if (fd >= 0)
        close(fd);
    return n > 0 ? atoi(text) : -1;
}

static int read_conf(const char *family, const char *device, const char *key)
{
    char path[128];

    snprintf(path, sizeof(path), "/proc/sys/net/%s/conf/%s/%s", family, device, key);
    return read_sysctl(path);
}

/* The kernel takes the larger of both, ip-sysctl: rp_filter. */
static bool is_strict(const char *device)
{
    int all = read_conf("ipv4", "all", "rp_filter"), own = read_conf("ipv4", device, "rp_filter");

    return (all > own ? all : own) == 1;
}

static const char *strict_uplink(const struct check *c)
{
    for (size_t i = 0; i < c->uplinks.cnt; i++)
        if (is_strict(c->uplinks.entries[i].name))
            return c->uplinks.entries[i].name;
    return NULL;
}

void check_filters(struct check *c)
{
    const char *strict = strict_uplink(c);
    char fix[CHECK_FIX_LEN];

    if (has_ipv6(c) && read_conf("ipv6", "default", "disable_ipv6") == 1)
        check_say(c, CHECK_FAIL, "ipv6", "sysctl -w net.ipv6.conf.default.disable_ipv6=0",
                  "the uplink has IPv6, but new devices get none, and so ours");
    if (strict && read_sysctl("/proc/sys/net/ipv4/ip_forward") == 1)
        check_say(c, CHECK_WARN, "rp-filter",
                  check_fix(fix,
                            "sysctl -w net.ipv4.conf.all.rp_filter=2 "
                            "net.ipv4.conf.%s.rp_filter=2",
                            strict),
                  "%s filters by reverse path strictly, and the namespace forwards: TCP that it "
                  "forwards from there would be dropped",
                  strict);
    else
        check_say(c, CHECK_OK, "rp-filter", NULL,
                  "the reverse-path filter does not stand in the way");
}
