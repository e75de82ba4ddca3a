/* SPDX-License-Identifier: BSD-3-Clause
 * The nftables tables that keep the container's TCP from its kernel's own TCP.
 *
 * The ingress: a chain of family netdev on the uplinks' ingress drops what is TCP to an own
 * address, so that the kernel answers none of it; our packet socket sees packets
 * before the chain does.
 *
 * The guard: a chain of family inet on output resets TCP that leaves by an uplink
 * and neither is bypassed nor has come through the tunnel (whose packets pass no
 * output hook): a socket that is bound to the device (SO_BINDTODEVICE), or one that
 * somebody's routing leads past us. Its answers would be dropped, so it would wait for
 * minutes; and after somebody flushed our rules it could be what follows on an
 * encrypted connection, in clear.
 *
 * Beside the guard are the chains of udp.h.
 *
 * What is not ours pays for them with each packet: so they ask first whether it is TCP, then for
 * bypassed ports, and only then for fragments and link-local addresses.
 *
 * They have no owner: when the daemon dies, TCP stays closed.
 *
 * A host that forwards for others under its own address (masquerade) gets their answers to that
 * address. So what it forwards is noted on its way out (by what has no socket: ours and the
 * kernel's own TCP have one), and what answers it passes the drop. The other way, nothing that has
 * come out of the tunnel is forwarded: it would leave in clear.
 */
#ifndef TCNS_CTL_INGRESS_H
#define TCNS_CTL_INGRESS_H

#include <stdbool.h>

#include "ctl/net/bypass.h"
#include "ctl/net/links.h"
#include "ctl/net/udp.h"

#define INGRESS_TABLE "tcpcrypt-ns"

struct ingress_policy {
    struct bypass bypass;
    bool strict; /* who connects to us can't bypass us by the port it comes from */
    struct udp udp;
};

/* Puts both in place, or replaces them, in one transaction. forwards: see above; a
 * kernel that can't is taken for one that does not. hooked: programs (hook.h) do the work of the
 * ingress and of the guard; the rest stays.
 * Return: 0; -errno, with nft's own words logged. */
int ingress_set(const struct links *uplinks, const struct ingress_policy *policy, bool forwards,
                bool hooked);

/* Has the kernel look at what ingress_set() makes and throw it away: nothing is changed,
 * whether or not a daemon is attached. words: what nft says, one line; "" when nothing.
 * Return: 0; -EPERM; -EIO: the kernel cannot. */
#define INGRESS_WORDS_LEN 200
int ingress_try(const struct links *uplinks, char words[INGRESS_WORDS_LEN]);

/* Return: whether one of them is there. */
bool ingress_is_there(void);

/* The guard must go before the rules do, so that connections older than us go on; the
 * ingress after them. *ret_found: it was there. Return: 0; -errno. */
int ingress_remove_guard(bool *ret_found);
int ingress_remove(bool *ret_found);

#endif
