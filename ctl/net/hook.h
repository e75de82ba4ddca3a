/* SPDX-License-Identifier: BSD-3-Clause
 * eBPF programs at an uplink's tcx hooks, in place of the chains of ingress.h.
 *
 * At the ingress hook one hands TCP over to the receiving TUN device, where the worker reads it,
 * and the kernel's own TCP never sees it. At the egress hook one catches TCP that passes the tunnel
 * by, and hands it over likewise: the worker then has its socket aborted. See hookprog.h for what
 * they leave alone.
 *
 * Why: UDP and bypassed ports pay two to four times as much for chains and for packet sockets that
 * receive (docs/PERFORMANCE.md).
 *
 * Only Ethernet devices that are made for a namespace and deleted with it get them (veth, macvlan,
 * ipvlan): a card goes back to the host, and would take them along.
 *
 * They are attached without a link (bpf_link), so they outlive the daemon as the chains do: what
 * they catch then leads to a device that is not there, and TCP stays closed. They are found again
 * by their names, which takes CAP_SYS_ADMIN: where that does not hold, or the kernel has no tcx
 * (before 6.6), there are no programs, but chains.
 */
#ifndef TCNS_CTL_HOOK_H
#define TCNS_CTL_HOOK_H

#include <stdbool.h>

#include "ctl/net/hookprog.h"

/* Whether the kernel takes the programs, lets us find them again, and has hooks for them: asked of
 * any device. Return: 0; -errno. */
int hook_try(int ifindex);

/* Whose program comes first, at both hooks of a device. What others' lets pass (TCX_PASS) goes past
 * those behind it. */
enum hook_first { HOOK_NOBODYS, HOOK_OURS, HOOK_OTHERS };
enum hook_first hook_first(int ifindex);

/* Whether there is a program of ours at any device of this namespace. */
bool hook_is_there(void);

/* Has both programs hand packets of an uplink over, in place of others of ours, there and
 * elsewhere. Cheap when they are the same; a change waits for all processors, some 20 ms each.
 * Return: 0; -errno, and what was there before may be gone. */
int hook_set(int uplink, const struct hookprog_config *cfg);

/* The guard (egress) must go before the rules do, so that connections older than us go on; the
 * ingress after them. *ret_found: there was one, of this namespace's devices. Return: 0; -EPERM:
 * there is one that we may not look at, ours or not; -errno. */
int hook_remove_guard(bool *ret_found);
int hook_remove_ingress(bool *ret_found);

#endif
