/* SPDX-License-Identifier: BSD-3-Clause
 * All that the daemon configures in the container's namespace.
 *
 * How it works: a TUN device (tundev.h), a routing table that mirrors the main
 * one into it (mirror.h), policy rules that lead TCP there (rules.h) and an
 * nftables table that keeps incoming TCP from the kernel (ingress.h). Routes and
 * rules carry our protocol number, the others our name; so what a killed daemon
 * has left is recognised. While a daemon lives its TUN device exists, and nobody
 * else's attempt to attach succeeds.
 *
 * Nothing here is undone by the kernel but what hangs on the TUN device: a
 * daemon killed leaves TCP closed. Before any of it is opened again, the sockets
 * whose plaintext could then leave are destroyed.
 *
 * Non-goals: no sysctl is set (/proc/sys may be read-only).
 */
#ifndef TCNS_CTL_NETCFG_H
#define TCNS_CTL_NETCFG_H

#include <net/if.h>
#include <stdbool.h>

#include "ctl/net/ingress.h"
#include "ctl/net/links.h"
#include "ctl/net/sockdiag.h"

struct netcfg;

#define NETCFG_ERROR_LEN 256

/* Configures the current namespace for TCP through its uplinks: those of the names in
 * uplinks, which must be there; without any the ones that links.h says, followed as they come.
 * Replaces what a dead daemon has left. All is copied. strict: see ingress_set().
 * Return: 0, and *ret for netcfg_free(); -errno and a sentence in err, with
 * everything undone: -EALREADY when a daemon is attached. */
int netcfg_new(const struct links *uplinks, const struct ingress_policy *policy,
               struct netcfg **ret, char err[NETCFG_ERROR_LEN]);

/* What holds from now on, see netcfg_new(). The worker must stand still meanwhile. *ret_older, for
 * sockdiag_done(): connections that were the kernel's own, and come to the tunnel now: to be
 * passed untouched. Return: 0; -EBUSY when connections of the tunnel would be bypassed; -errno.
 * Then there is a sentence in err, and all is as it was. */
int netcfg_change(struct netcfg *n, const struct ingress_policy *policy,
                  struct sockdiag_list *ret_older, char err[NETCFG_ERROR_LEN]);

/* Takes everything away and frees n; NULL is a no-op. Connections must have
 * ended before, see netcfg_destroy_sockets(). */
void netcfg_free(struct netcfg *n);

/* For a forked child: frees memory and closes its descriptors but the TUN
 * devices', to be asked for before. The namespace is left as it is. */
void netcfg_forget(struct netcfg *n);

/* Frees n. The namespace is left as it is, and TCP in it closed. */
void netcfg_abandon(struct netcfg *n);

int netcfg_tun_fd(const struct netcfg *n);
int netcfg_tun_ifindex(const struct netcfg *n);
int netcfg_rx_fd(const struct netcfg *n); /* see hook.h; -1: no programs can be had here */
/* The uplink whose packets programs hand over; 0: there is none now, and packet sockets receive. */
int netcfg_hooked(const struct netcfg *n);
size_t netcfg_tun_gso_max_len(const struct netcfg *n); /* see tundev_gso_max_len() */
const struct links *netcfg_uplinks(const struct netcfg *n);
/* Interfaces with routes whose TCP is left to the kernel. */
const struct links *netcfg_native(const struct netcfg *n);

/* Readable when the namespace's links, addresses, routes or rules have changed. */
int netcfg_event_fd(const struct netcfg *n);

/* Reads what has changed and follows it. on_links is called when netcfg_uplinks(),
 * netcfg_native() or netcfg_hooked() are others. netcfg_tun_fd() may be another, too. */
void netcfg_on_event(struct netcfg *n, void (*on_links)(void *arg), void *arg);

/* The connections that go through the uplinks and are not bypassed.
 * Return: 0; -errno. */
int netcfg_list_sockets(struct netcfg *n, struct sockdiag_list *ret);

/* Of those, sorted, the ones that were under way before netcfg_new() led TCP into
 * the TUN device. To be called once, before the TUN device is read from.
 * Return: 0; -errno. */
int netcfg_list_older(struct netcfg *n, struct sockdiag_list *ret);

/* Aborts every socket whose packets go into the TUN device, or would if it
 * existed. Return: 0; -errno. */
int netcfg_destroy_sockets(struct netcfg *n);

/* Aborts the sockets of a list made by netcfg_list_sockets(). Return: 0; -errno. */
int netcfg_destroy_list(struct netcfg *n, const struct sockdiag_list *l);

/* Aborts the socket of a connection that has sent past the tunnel: it is bound to an uplink, or
 * somebody's routing led it there. No-op when there is none. */
void netcfg_abort(struct netcfg *n, const struct tuple *tuple);

/* Has the kernel resolve or confirm a neighbour. */
void netcfg_resolve(struct netcfg *n, int ifindex, const struct addr *neighbour);

/* Discards what the kernel has queued in the TUN device. */
void netcfg_drain(struct netcfg *n);

/* Takes away what a dead daemon has left in the current namespace, and destroys
 * the sockets that went through it. *ret_found: there was something.
 * Return: 0; -EALREADY when its daemon lives; -errno and a sentence. */
int netcfg_remove_leftovers(bool *ret_found, char err[NETCFG_ERROR_LEN]);

#endif
