/* SPDX-License-Identifier: BSD-3-Clause
 * What a TCP socket has sent and received. In a file of its own, as libc's struct tcp_info
 * is older than these numbers and the kernel's header does not go along with libc's.
 */
#ifndef TCNS_CTL_SOCKDIAG_BYTES_H
#define TCNS_CTL_SOCKDIAG_BYTES_H

#include <stddef.h>
#include <stdint.h>

/* Reads a struct tcp_info of len bytes: an older kernel's is shorter, and what it lacks is
 * zero. */
void sockdiag_bytes(const void *tcp_info, size_t len, uint64_t *ret_tx, uint64_t *ret_rx);

#endif
