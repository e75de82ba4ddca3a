/* SPDX-License-Identifier: BSD-3-Clause
 * Network namespaces by name, path, process or descriptor.
 */
#ifndef TCNS_CTL_NETNS_H
#define TCNS_CTL_NETNS_H

#include <stdbool.h>
#include <sys/types.h>

/* Where "ip netns" keeps its names. */
#define NETNS_NAMES_DIR    "/run/netns"
#define NETNS_NAME_MAX_LEN 200

/* Return: whether text can be such a name, and means nothing else. */
bool netns_is_name(const char *text);

/* Opens the namespace that text names: "self"; a path (has a slash); a process
 * id; else a name under /run/netns, as "ip netns" makes them. A file of that
 * name wins over a process id.
 * Return: a close-on-exec descriptor; -errno (-ENOENT: no such namespace,
 * -EINVAL: not a network namespace). */
int netns_open(const char *text);

/* Return: words for what netns_open() returned; static storage. */
const char *netns_strerror(int err);

/* Return: 0 and the inode number that identifies the namespace; -errno. */
int netns_inode(int fd, ino_t *ret);

/* Moves the calling thread into the namespace, unless it is there: that needs no
 * privilege. Return: 0; -errno. */
int netns_enter(int fd);

#endif
