/* SPDX-License-Identifier: BSD-3-Clause
 * Which daemon belongs to which attachment of a CNI network: a file for each, below /run.
 */
#ifndef TCNS_CTL_CNI_STATE_H
#define TCNS_CTL_CNI_STATE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* The spec's primary key. All three are checked by cni_is_word() or cni_is_ifname(). */
struct cni_attachment {
    const char *network;
    const char *container;
    const char *ifname;
};

struct cni_state {
    ino_t netns;      /* inode of the namespace */
    pid_t pid;        /* the supervisor's */
    uint64_t options; /* a hash of what it was told, to tell other options from the same */
};

/* A letter or digit, then those and "_.-". NULL is none. */
bool cni_is_word(const char *text);
/* What Linux takes for an interface's name. NULL is none. */
bool cni_is_ifname(const char *text);

/* Return: 0; -ENAMETOOLONG; -errno. */
int cni_state_write(const struct cni_attachment *at, const struct cni_state *s);

/* Return: 0 and *ret; -ENOENT without a file, or with one that makes no sense; -errno. */
int cni_state_read(const struct cni_attachment *at, struct cni_state *ret);

void cni_state_remove(const struct cni_attachment *at);

/* Calls fn for each attachment of a network; fn may remove it. Return: the first that is
 * not 0 of what fn returned, after which it goes on; 0. */
int cni_state_each(const char *network, int (*fn)(const struct cni_attachment *at, void *arg),
                   void *arg);

/* Return: whether the daemon of that state lives, judged by who listens at its door. */
bool cni_state_lives(const struct cni_state *s);

/* Looks for another attachment that belongs to the namespace's daemon, or to one that is
 * dead. Return: whether there is one; then *ret, unless NULL. */
bool cni_state_find(const struct cni_attachment *but, ino_t netns, struct cni_state *ret);

#endif
