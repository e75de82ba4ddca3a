/* SPDX-License-Identifier: BSD-3-Clause
 * The nftables table that keeps the container's TCP from its kernel's own TCP.
 *
 * A chain of family netdev on the uplink's ingress drops what is TCP to an own
 * address, so that the kernel answers none of it; our packet socket sees packets
 * before the chain does. It has no owner: when the daemon dies, TCP stays closed.
 */
#ifndef TCNS_CTL_INGRESS_H
#define TCNS_CTL_INGRESS_H

#include <stdbool.h>

#include "ctl/bypass.h"

#define INGRESS_TABLE "tcpcrypt-ns"

/* Puts the table in place, or replaces it, in one transaction.
 * Return: 0; -errno, with nft's own words logged. */
int ingress_set(const char *uplink, const struct bypass *bypass);

/* *ret_found: it was there. Return: 0; -errno. */
int ingress_remove(bool *ret_found);

#endif
