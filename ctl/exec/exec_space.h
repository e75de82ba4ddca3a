/* SPDX-License-Identifier: BSD-3-Clause
 * A network namespace with an uplink of its own, for exec and netns: veth pair,
 * addresses that nobody uses, masquerade, name resolution. What of it is in the calling
 * namespace is exec_host.h's.
 */
#ifndef TCNS_CTL_EXEC_SPACE_H
#define TCNS_CTL_EXEC_SPACE_H

#include "ctl/exec/dns.h"
#include "ctl/exec/exec_host.h"
#include "ctl/exec/publish.h"

/* Makes a network namespace; the calling thread stays where it is.
 * Return: a close-on-exec descriptor; -errno. */
int exec_space_new(void);

/* Connects the namespace with the calling one, and that with the world. h is open. What
 * it has made when it fails, exec_host_teardown() takes away.
 * Return: 0; -errno and a sentence in err (no final stop). */
int exec_space_connect(struct exec_host *h, int netns_fd, const struct publish *publish,
                       char err[EXEC_ERROR_LEN]);

/* A relay for resolvers on the calling namespace's loopback. Without one all but names
 * works, so errors are only logged. Return: for dns_free(); NULL: not needed, or failed. */
struct dns *exec_space_dns(int netns_fd);

#endif
