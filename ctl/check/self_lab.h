/* SPDX-License-Identifier: BSD-3-Clause
 * Two private network namespaces with a link between, for check --self.
 *
 * How it works: the namespaces have no names; descriptors hold them, so they vanish with the
 * process, and the link with them. The daemons end when the process does (end_with_caller), however
 * it ends. Nothing is changed in the calling namespace. Signals that should end the process are
 * blocked and read from a descriptor, which every wait looks at.
 */
#ifndef TCNS_CTL_SELF_LAB_H
#define TCNS_CTL_SELF_LAB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/tuple.h"
#include "ctl/daemon/daemon.h"

enum self_host { SELF_A, SELF_B, SELF_HOST_CNT };

#define SELF_MARK_LEN 32

/* What a wire between the two showed of TCP. */
struct self_seen {
    unsigned syn, syn_eno;       /* SYN segments, and those with option 69 */
    unsigned synack, synack_eno; /* likewise SYN-ACKs */
    unsigned data;               /* segments with data */
    bool mark;                   /* the text that applications sent */
    bool is_full;                /* packets were missed */
};

struct self_lab {
    int home_fd;
    int netns_fd[SELF_HOST_CNT];
    struct addr addr4[SELF_HOST_CNT], addr6[SELF_HOST_CNT];
    bool has_ipv6;
    struct daemon daemon[SELF_HOST_CNT];
    int wire_fd;
    int signal_fd;
    int signal_no; /* the one that came; 0: none */
    char mark[SELF_MARK_LEN + 1];
};

/* Return: 0; -EPERM; -errno, with *ret_step saying what failed; self_lab_done() is needed anyway.
 */
int self_lab_init(struct self_lab *l, const char **ret_step);
void self_lab_done(struct self_lab *l);

/* Starts a daemon; one that runs there is stopped first. Of opts the namespace and what
 * ties it to us are set here. Return: 0; -errno and a sentence. */
int self_lab_attach(struct self_lab *l, enum self_host h, struct daemon_options *opts,
                    char err[DAEMON_ERROR_LEN]);
/* Return: 0, also without a daemon; see daemon_stop(). */
int self_lab_detach(struct self_lab *l, enum self_host h);

struct self_pair {
    int fd[SELF_HOST_CNT];
};

#define SELF_PAIR_NONE                                                                             \
    {                                                                                              \
        {                                                                                          \
            -1, -1                                                                                 \
        }                                                                                          \
    }

/* A connection that opener opens to the other one, and the mark, many times, both ways.
 * Return: 0 and *ret for self_pair_done(); -EINTR: a signal came; -ECHILD: a daemon died;
 * -ETIMEDOUT; -EPROTO: other bytes arrived; -errno. */
int self_lab_connect(struct self_lab *l, enum self_host opener, bool v6, struct self_pair *ret);
void self_pair_done(struct self_pair *p);

/* What has passed since the last call. */
void self_lab_look(struct self_lab *l, struct self_seen *ret);

#endif
