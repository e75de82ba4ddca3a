/* SPDX-License-Identifier: BSD-3-Clause
 * A network namespace with an uplink of its own, for exec and netns.
 */
#include "ctl/exec/exec_space.h"

#include <errno.h>
#include <sched.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "ctl/exec/exec_link.h"
#include "ctl/net/netns.h"

#define RESOLV_CONF "/etc/resolv.conf"

int exec_space_new(void)
{
    int home_fd = netns_open("self");
    int fd = -1;

    if (home_fd < 0)
        return home_fd;
    int err = unshare(CLONE_NEWNET) < 0 ? -errno : 0;
    if (!err) {
        fd = netns_open("self");
        int back = netns_enter(home_fd);
        err = fd < 0 ? fd : back;
    }
    if (err && fd >= 0)
        close(fd);
    close(home_fd);
    return err ? err : fd;
}

static int choose_addresses(struct exec_link *link)
{
    struct exec_used used = {0};

    int err = exec_link_survey(&used, &link->has_ipv6, &link->mtu);
    if (!err)
        err = exec_addr_choose_ipv4(&used, randombytes_buf, &link->ipv4);
    if (!err && link->has_ipv6)
        err = exec_addr_choose_ipv6(&used, randombytes_buf, &link->ipv6);
    exec_used_done(&used);
    return err;
}

static int connect_locked(struct exec_host *h, int netns_fd, const struct publish *publish,
                          char text[EXEC_ERROR_LEN])
{
    struct exec_link link = {.host_name = h->link_name, .netns_fd = netns_fd};
    const char *step = "choosing addresses";

    int err = choose_addresses(&link);
    if (!err) {
        err = exec_host_setup(h, &link.ipv4, &link.ipv6, &link.has_ipv6, publish, text);
        if (err)
            return err;
        err = exec_link_create(&link, &step);
    }
    if (err)
        snprintf(text, EXEC_ERROR_LEN, "%s: %s", step, strerror(-err));
    return err;
}

int exec_space_connect(struct exec_host *h, int netns_fd, const struct publish *publish,
                       char text[EXEC_ERROR_LEN])
{
    int lock_fd = exec_host_lock(h);

    if (lock_fd < 0) {
        snprintf(text, EXEC_ERROR_LEN, "lock: %s", strerror(-lock_fd));
        return lock_fd;
    }
    int err = connect_locked(h, netns_fd, publish, text);
    close(lock_fd);
    return err;
}

struct dns *exec_space_dns(int netns_fd)
{
    union dns_addr servers[DNS_SERVER_MAX_CNT];
    struct dns *dns = NULL;

    int cnt = dns_loopback_servers_of(RESOLV_CONF, servers, DNS_SERVER_MAX_CNT);
    if (cnt <= 0)
        return NULL;
    int err = dns_new(netns_fd, servers, (size_t)cnt, &dns);
    if (err)
        log_warn("no relay to the resolver on loopback: %s", strerror(-err));
    return err ? NULL : dns;
}
