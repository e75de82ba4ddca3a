/* SPDX-License-Identifier: BSD-3-Clause
 * What the verb check prints: lines, each ok, warn or fail with what mends it.
 *
 * How it works: checkers are functions in a table (check_doctor.c). Each looks at one
 * thing, says at least one line and changes nothing that lasts. What one finds out and
 * others need is in struct check.
 */
#ifndef TCNS_CTL_CHECK_H
#define TCNS_CTL_CHECK_H

#include <jansson.h>
#include <net/if.h>
#include <netlink/netlink.h>
#include <stdbool.h>
#include <stdio.h>

#include "ctl/net/links.h"

enum check_level { CHECK_OK, CHECK_WARN, CHECK_FAIL, CHECK_LEVEL_CNT };

struct check {
    bool is_json;
    unsigned cnt[CHECK_LEVEL_CNT];
    json_t *lines;

    /* Of check_doctor() alone: */
    const char *netns;    /* as the user gave it; "self" when not; borrowed */
    int netns_fd;         /* borrowed */
    struct links named;   /* uplinks that the user gave; none: links.h finds them */
    struct links uplinks; /* those that are there and can be uplinks */
    struct nl_sock *rtnl; /* in the namespace; NULL when it could not be opened */
    bool has_net_admin;   /* it holds in the namespace */
};

/* Return: "ok", "warn", "fail". */
const char *check_level_name(enum check_level level);

/* One line. name: of the checker, for programs. fix: a command or a sentence that mends
 * it; NULL: none. Both without a final stop. */
void check_say(struct check *c, enum check_level level, const char *name, const char *fix,
               const char *fmt, ...) __attribute__((format(printf, 5, 6)));

/* A fix that has to be put together. Return: out. */
#define CHECK_FIX_LEN 256
const char *check_fix(char out[CHECK_FIX_LEN], const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* The summary line, or the whole JSON object, which takes more (members of its own; may
 * be NULL). Frees what c holds. Return: the exit code. */
int check_finish(struct check *c, json_t *more);

/* The whole preflight, in the namespace. The calling thread ends up in there.
 * Return: 0; -errno when the namespace cannot be entered. */
int check_doctor(struct check *c);

/* --- Checkers, in files by subject ------------------------------------------ */

/* check_host.c: what the process and the machine give */
void check_privileges(struct check *c);
void check_tun(struct check *c);
void check_memory(struct check *c);
void check_clock(struct check *c);
void check_random(struct check *c);
void check_crypto(struct check *c);

/* check_kernel.c: what the kernel can do in the namespace */
void check_packet(struct check *c);
void check_nftables(struct check *c);
void check_sockdiag(struct check *c);
void check_exec(struct check *c);

/* check_uplink.c: the way out */
void check_uplink(struct check *c);
void check_far_side(struct check *c);
void check_mtu(struct check *c);
void check_offloads(struct check *c);
void check_routes(struct check *c);
void check_filters(struct check *c);

/* check_rules.c: others in our place, and what we left ourselves */
void check_daemon(struct check *c);
void check_rules(struct check *c);
void check_table(struct check *c);
void check_leftovers(struct check *c);

#endif
