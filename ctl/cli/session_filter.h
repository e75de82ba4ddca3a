/* SPDX-License-Identifier: BSD-3-Clause
 * Which connections to show: the filter options of the verbs that list or watch them.
 */
#ifndef TCNS_CTL_SESSION_FILTER_H
#define TCNS_CTL_SESSION_FILTER_H

#include <jansson.h>
#include <stdbool.h>

#include "base/tuple.h"
#include "ctl/cli/cli.h"
#include "ctl/conf/ruletext.h"

/* Why the kernel keeps a connection for itself. */
#define KERNEL_REASON_LIST(X)                                                                      \
    X(BYPASS_RULE, "bypass-rule") /* its port is bypassed, at either end */                        \
    X(LOOPBACK, "loopback")       /* both ends are here */                                         \
    X(LINK_LOCAL, "link-local")   /* IPv6, fe80::/10 */                                            \
    X(OTHER_INTERFACE, "other-interface")

/* Entries of a table of options. */
#define SESSION_FILTER_OPTIONS                                                                     \
    {OPT_STATE,                                                                                    \
     "state",                                                                                      \
     "STATE[,STATE...]",                                                                           \
     "only those in such a state",                                                                 \
     "There are opening, encrypted, clear, closing, and with --all bypassed",                      \
     "opening, encrypted, clear, closing, bypassed"},                                              \
        {OPT_REASON, "reason", "REASON[,REASON...]", "only those with such a reason",              \
         "See REASONS"},                                                                           \
        {OPT_PEER, "peer", "PREFIX[,PREFIX...]", "only those with such a peer",                    \
         "An address, or a prefix like 10.0.0.0/8 or 2001:db8::/32"},                              \
        {OPT_PORT, "port", "PORT[,PORT...]", "only those with such a port at either end",          \
         "Ranges as 6000-6010"},                                                                   \
    {                                                                                              \
        OPT_DIR, "dir", "in|out", "only those that the peer opened (in), or the container"         \
    }

/* One more, for verbs that know of processes. */
#define SESSION_FILTER_PROCESS_OPTION                                                              \
    {                                                                                              \
        OPT_PROCESS, "process", "NAME|PID", "only those of such a local process",                  \
            "As far as the kernel tells: one that was started by the same user, or root asks"      \
    }

struct session_filter {
    const char *states, *reasons, *dir, *process; /* borrowed; NULL: any */
    struct ruletext tuple;                        /* peers and ports, as a rule has them */
};

/* All zero is the filter that lets all pass. Reads an option; exits with a usage error when
 * its value is none. Return: false when id is none of these. */
bool session_filter_read_option(struct session_filter *f, const struct cli_verb *verb, int id);

/* s: an object of type Session, with pid and process where they are known. */
bool session_filter_has(const struct session_filter *f, const json_t *s);

/* Return: the ends of a Session; false when they are none. */
bool session_tuple(const json_t *s, struct tuple *ret);

#endif
