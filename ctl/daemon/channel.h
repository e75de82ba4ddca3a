/* SPDX-License-Identifier: BSD-3-Clause
 * Messages between supervisor and worker: a SOCK_SEQPACKET pair, descriptors come along.
 */
#ifndef TCNS_CTL_CHANNEL_H
#define TCNS_CTL_CHANNEL_H

#include <stddef.h>
#include <sys/types.h>

#define CHANNEL_FD_MAX_CNT 16

/* Does not wait. The descriptors are the caller's still. Return: 0; -errno. */
int channel_send(int channel, const void *data, size_t len, const int *fds, size_t fd_cnt);

/* Does not wait. The descriptors, close-on-exec, are the caller's. Return: bytes of the message; 0
 * when the other end is closed; -errno (-EAGAIN: nothing there). */
ssize_t channel_receive(int channel, void *data, size_t len, int fds[CHANNEL_FD_MAX_CNT],
                        size_t *ret_fd_cnt);

#endif
