/* SPDX-License-Identifier: BSD-3-Clause
 * What applications have said of their sockets: settings for the connections to come.
 *
 * How it works: an application hands its socket over for a moment, so it has it. The kernel
 * names the socket by a cookie that no other ever gets; under that name the wish is kept.
 * When a connection begins, and only if there are wishes at all, the kernel is asked which
 * socket has its tuple (for one that comes in: which one listens), and so what was wished.
 *
 * A wish goes when its socket goes. To know that without keeping the socket open, each is in
 * an epoll set: the set holds no reference, and the kernel takes a socket out of it when the
 * last descriptor is closed. /proc tells which are in.
 *
 * The supervisor makes the store of the wishes, in memory that all its workers share: what
 * was wished does not die with one of them.
 */
#ifndef TCNS_CTL_WISHES_H
#define TCNS_CTL_WISHES_H

#include <stdint.h>
#include <sys/types.h>

#include "tunnel/wish.h"

struct ev_loop;
struct wishes;

#define WISHES_MAX_CNT      1024
#define WISHES_USER_MAX_CNT 256 /* of sockets that one user has handed over */

struct wishes_table;

struct wishes_store {
    int set_fd; /* the epoll set; close-on-exec; -1: there is no store */
    struct wishes_table *table;
};

#define WISHES_STORE_NONE                                                                          \
    {                                                                                              \
        .set_fd = -1                                                                               \
    }

/* Return: 0; -errno, and *ret is WISHES_STORE_NONE. */
int wishes_store_init(struct wishes_store *ret);
void wishes_store_done(struct wishes_store *s);

/* store: borrowed; one process at a time uses it. tun_ifindex: by which interface the
 * connections' packets come and go. The calling process must be in the network namespace.
 * Return: 0 and *ret; -EOPNOTSUPP without a store; -errno. */
int wishes_new(struct ev_loop *loop, int tun_ifindex, const struct wishes_store *store,
               struct wishes **ret);
void wishes_free(struct wishes *w); /* NULL is a no-op */

/* Replaces what is wished for the connections of a socket, which begin after this; with
 * nothing in wish->set: forgets it. fd is borrowed. uid: of whoever handed it over.
 * Return: 0; -ENOTSOCK when fd is no TCP socket of this network namespace; -EISCONN when it
 * has a connection, or opens one; -ENOSPC when there are too many wishes; -errno. */
int wishes_set(struct wishes *w, int fd, uid_t uid, const struct wish *wish);

/* Return: 0 and *ret, with nothing in its set when nothing is wished; -ENOTSOCK, -errno. */
int wishes_get(struct wishes *w, int fd, struct wish *ret);

/* A wish_fn; arg is a struct wishes. */
int wishes_find(void *arg, const struct tuple *tuple, bool inbound, struct wish *ret);

/* Return: the tuple of a TCP connection's socket in *ret and 0; -ENOTSOCK, see wishes_set();
 * -ENOTCONN. */
int wishes_tuple_of(const struct wishes *w, int fd, struct tuple *ret);

/* Who made the socket of that connection. Return: 0; -ENOENT; -errno. */
int wishes_owner_of(struct wishes *w, const struct tuple *tuple, uid_t *ret);

size_t wishes_cnt(const struct wishes *w);

/* Forgets the wishes of sockets that are closed; happens now and then by itself. */
void wishes_sweep(struct wishes *w);

#endif
