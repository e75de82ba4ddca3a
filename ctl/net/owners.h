/* SPDX-License-Identifier: BSD-3-Clause
 * Which process has a socket open.
 *
 * How it works: each socket has an inode number, and /proc/PID/fd names it for every
 * process whose descriptors we may read. One walk over /proc answers for all sockets.
 */
#ifndef TCNS_CTL_OWNERS_H
#define TCNS_CTL_OWNERS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define OWNER_NAME_LEN 16 /* as the kernel's, with the zero byte */

struct owner {
    uint32_t inode;
    pid_t pid; /* 0: not found; else the lowest that has it open */
    char name[OWNER_NAME_LEN];
};

struct owners {
    struct owner *list; /* by inode */
    size_t cnt;
};

/* Looks for the owners of cnt sockets; zero inodes have none. Return: 0 and *ret for
 * owners_done(); -ENOMEM. */
int owners_load(const uint32_t *inodes, size_t cnt, struct owners *ret);
void owners_done(struct owners *o);

/* Return: NULL when the owner is not known. */
const struct owner *owners_find(const struct owners *o, uint32_t inode);

#endif
