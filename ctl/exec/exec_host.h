/* SPDX-License-Identifier: BSD-3-Clause
 * What an exec changes in the calling namespace, and how that goes away again.
 *
 * How it works: each exec has an id. In the calling namespace it owns the link
 * tcx<id> and the nftables table tcpcrypt-ns-exec-<id> (masquerade; no new
 * connections in from outside), and it uses IP forwarding together with the
 * others. In the state directory it owns the file <namespace>-<id>, which it
 * keeps locked as long as it lives: a file that nobody locks is the leftover of
 * a killed exec, and the next one cleans up after it. One with a name (of the verb
 * netns) has an id made of it, and the name in the file; the leftover of a killed one
 * is only taken by the next of the same name, because services may live in there. The first exec
 * that has to switch forwarding on saves what it changes in <namespace>-sysctl; the last one out
 * puts it back. While forwarding is on only because of us, our tables drop what is forwarded for
 * others: a host that was no router does not become one. All changes are made under a lock on the
 * state directory.
 *
 * <namespace> is the kernel's cookie of the network namespace, which is not
 * used again.
 */
#ifndef TCNS_CTL_EXEC_HOST_H
#define TCNS_CTL_EXEC_HOST_H

#include <net/if.h>
#include <stdbool.h>

#include "ctl/exec/exec_addr.h"
#include "ctl/exec/publish.h"

#define EXEC_ID_LEN    8
#define EXEC_ERROR_LEN 400

struct exec_host {
    char netns[24]; /* name of the calling namespace in file names */
    char id[EXEC_ID_LEN + 1];
    char link_name[IFNAMSIZ];
    int dir_fd;     /* state directory; -1: closed */
    bool inherited; /* one of the same name was killed; its link and table are removed */
    int id_fd;      /* our file, locked; the lock lives until all copies are closed; -1: none */
};

#define EXEC_HOST_NONE                                                                             \
    {                                                                                              \
        .dir_fd = -1, .id_fd = -1                                                                  \
    }

/* Cleans up what killed execs left and takes an id, that of name unless it is NULL. The
 * calling namespace must be the current one, here and below.
 * Return: 0; -errno and a sentence in err (no final stop); -EBUSY: the name is taken. */
int exec_host_open(struct exec_host *h, const char *name, char err[EXEC_ERROR_LEN]);

/* Counts what killed execs of the current namespace have left; changes nothing.
 * Return: 0; -errno. */
int exec_host_count_dead(unsigned *ret_cnt);

/* The lock that exec_host_setup() must run under, so that two execs do not
 * choose the same addresses. Return: a descriptor, close() unlocks; -errno. */
int exec_host_lock(struct exec_host *h);

/* Forwarding, masquerade, published ports. *has_ipv6 may be cleared: then IPv6
 * forwarding could not be switched on. Return: 0; -errno and a sentence in err. */
int exec_host_setup(struct exec_host *h, const struct exec_prefix *ipv4,
                    const struct exec_prefix *ipv6, bool *has_ipv6, const struct publish *publish,
                    char err[EXEC_ERROR_LEN]);

/* Takes everything away: link, table, file and, when no other exec is left,
 * forwarding. May be called at any point after exec_host_open() and more than
 * once. Return: 0; -errno of the first thing that failed. */
int exec_host_teardown(struct exec_host *h);

/* Closes the descriptors; the id's lock with them, unless another process has it too. */
void exec_host_done(struct exec_host *h);

#endif
