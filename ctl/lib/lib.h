/* SPDX-License-Identifier: BSD-3-Clause
 * What the parts of libtcpcrypt share. Inside, functions return -errno; finish() makes what
 * callers see of it.
 *
 * How it works: each call opens a connection to the daemon, makes one call of its interface
 * (docs/org.tcpcrypt.Ns1.varlink), and closes it. So nothing is shared between threads, or
 * with a child after fork(), but where the daemon is. A socket is named by its connection;
 * where it must be the caller's own, it is sent along.
 */
#ifndef TCNS_LIB_LIB_H
#define TCNS_LIB_LIB_H

#include <errno.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "tcpcrypt/ctl.h"
#include "tcpcrypt/tcpcrypt.h"

#define PUBLIC __attribute__((visibility("default")))

/* Return: what a public function returns for err, which is 0, -errno, or a result above 0.
 * saved is errno as it was at the beginning. */
static inline int finish(int err, int saved)
{
    errno = err < 0 ? -err : saved;
    return err < 0 ? -1 : err;
}

/* The time at which a call that begins now must have an answer, of clock_ms(). */
int64_t lib_until(void);

/* Makes one call; takes params, which may be NULL. fd goes along, borrowed; -1: none.
 * Return: 0 and the reply's parameters, the caller's; -errno. */
int lib_ask(const char *method, json_t *params, int fd, int64_t until_ms, json_t **ret);
/* The same, without an interest in the reply. */
int lib_tell(const char *method, json_t *params, int fd);

/* Is it a TCP socket? Return: 0; -EBADF, -ENOTSOCK, -EOPNOTSUPP. */
int lib_check_socket(int fd);

/* The parameters that name fd's connection, the caller's. Return: 0; -ENOTCONN; see above. */
int lib_tuple_of(int fd, json_t **ret);

/* Asks for the session that params (taken) name. Return: 0 and the object, the caller's. */
int lib_get_session(json_t *params, int64_t until_ms, json_t **ret);

/* Gives each live connection's reply of ListSessions to look, until that returns something
 * else than 0. Return: that; 0 at the end; -errno. */
typedef int (*lib_look_fn)(const json_t *reply, void *arg);
int lib_list(lib_look_fn look, void *arg);

/* Sets one member of SetSocket; takes value. */
int lib_set(int fd, const char *name, json_t *value);

/* Return: an errno of the error's full name. */
int lib_errno_of(const char *error);

/* Reads hexadecimal digits. Return: whether they are TCPCRYPT_SESSID_LEN bytes. */
bool lib_read_sessid(const char *text, unsigned char *ret);

/* tcpcrypt_get_info(), but for the interest in the size. */
int lib_get_info(int fd, struct tcpcrypt_info *ret);

#endif
