/* SPDX-License-Identifier: BSD-3-Clause
 * What the files of netcfg.h share: netcfg.c comes and goes, netcfg_follow.c follows what others
 * change, netcfg_ingress.c keeps TCP from the kernel, netcfg_sockets.c knows whose connections are
 * whose, netcfg_change.c changes what is bypassed.
 */
#ifndef TCNS_CTL_NETCFG_IMPL_H
#define TCNS_CTL_NETCFG_IMPL_H

#include "ctl/net/addrs.h"
#include "ctl/net/hook.h"
#include "ctl/net/mirror.h"
#include "ctl/net/netcfg.h"
#include "ctl/net/netwatch.h"

/* How long up waits for the devices of a daemon that was killed. */
#define NETCFG_GOING_MS 300

/* Addresses of the namespace, each once. */
struct netcfg_own {
    struct addr addrs[HOOKPROG_OWN_MAX_CNT];
    size_t cnt;
};

struct netcfg {
    struct nl_sock *rtnl;
    struct nl_sock *diag;
    struct netwatch watch;
    struct mirror mirror;
    struct ingress_policy policy;
    bool forwards;                /* packets of others, possibly under own addresses */
    struct sockdiag_list opening; /* SYN sent before we came; until netcfg_list_older() */
    int tun_fd;
    int tun_ifindex;
    size_t tun_gso_max_len;
    int rx_fd; /* of the receiving TUN device; -1: programs cannot be had here, see hook.h */
    int rx_ifindex;
    int hooked;             /* the uplink whose packets programs hand over; 0: none */
    struct netcfg_own own;  /* whose TCP the programs take */
    bool may_have_programs; /* at any device; at first those of a dead daemon */
    struct links named;     /* by the user; none: links.h finds them */
    struct links uplinks, native;
    bool filters_paths; /* by reverse path, what comes from the TUN device */
    int mtu;            /* the smallest of all uplinks: that of tcpcrypt0 */
};

/* Writes the sentence. Return: code. */
int netcfg_fail(char err[NETCFG_ERROR_LEN], int code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* --- netcfg_ingress.c --------------------------------------------------------- */

/* Makes the receiving TUN device, if programs can be had. They are a matter of speed only. */
void netcfg_open_rx(struct netcfg *n);
/* Sets it up. Return: 0; -errno. */
int netcfg_start_rx(struct netcfg *n);
/* Somebody has deleted it. */
void netcfg_close_rx(struct netcfg *n);
/* Keeps TCP of the uplinks from the kernel, by programs where that is possible, else by chains:
 * what is new works before the old goes. Return: 0; -errno, with a reason logged. */
int netcfg_set_ingress(struct netcfg *n, const struct ingress_policy *policy);
/* Likewise, but only what other links, addresses or forwarding make necessary. */
int netcfg_follow_ingress(struct netcfg *n);
/* Return: whether forwarding is another than before. */
bool netcfg_find_forwarding(struct netcfg *n);

/* --- netcfg_sockets.c --------------------------------------------------------- */

/* Which connections are meant. All zero but for n: those of the tunnel, and those whose way is
 * closed. */
struct netcfg_choice {
    const struct netcfg *n;
    struct addrs addrs;
    bool only_tun;                 /* else also those whose way is closed */
    const struct bypass *bypass;   /* in place of the one in force; NULL: that one */
    const struct bypass *taken_by; /* only those that it takes; NULL: does not matter */
    mirror_is_moving_fn is_moving; /* NULL: does not matter */
    const void *moving_arg;
};

/* Sets n and addrs of c. Return: 0; -errno. */
int netcfg_choose(struct netcfg *n, struct netcfg_choice *c, struct sockdiag_list *ret);
/* Of those after a change, keeps the ones that the kernel carried before it: a SYN that was sent
 * after it waits in the TUN device, and may be encrypted. before: sorted. */
void netcfg_keep_older(struct sockdiag_list *after, const struct sockdiag_list *before);
/* Keeps a list of those that are being opened. Return: 0; -errno. */
int netcfg_note_opening(struct netcfg *n);
/* For mirror_sync(); ctx: n. */
void netcfg_on_moving(void *ctx, mirror_is_moving_fn is_moving, const void *arg);
/* What a dead daemon carried must not go on past us, in clear: its sockets die
 * while its rules still close their way. Return: 0; -errno. */
int netcfg_destroy_leftovers(struct netcfg *n);

/* --- netcfg.c ------------------------------------------------------------------- */

/* Sets uplinks and native. Return: 0; -errno. */
int netcfg_load_links(struct netcfg *n);
/* Return: in bytes; 0: none of them is there. */
int netcfg_smallest_mtu(const struct links *l);
/* Makes the TUN device, once there is none: waits so long for one that a killed daemon had.
 * Return: 0; -errno, with the sentence. */
int netcfg_open_tun(struct netcfg *n, int wait_ms, char err[NETCFG_ERROR_LEN]);
/* Sets it up. Return: 0; -errno. */
int netcfg_start_tun(struct netcfg *n);
/* Whether the reverse-path filter looks at what comes from it. */
bool netcfg_filters_paths(struct netcfg *n);
/* Return: 0; -errno. */
int netcfg_set_rules(struct netcfg *n, const struct bypass *bypass);

#endif
