/* SPDX-License-Identifier: BSD-3-Clause
 * What a TCP socket has sent and received.
 */
#include "ctl/net/sockdiag_bytes.h"

#include <linux/tcp.h>
#include <string.h>

void sockdiag_bytes(const void *tcp_info, size_t len, uint64_t *ret_tx, uint64_t *ret_rx)
{
    struct tcp_info info = {.tcpi_state = 0};

    memcpy(&info, tcp_info, len < sizeof(info) ? len : sizeof(info));
    *ret_tx = info.tcpi_bytes_sent - info.tcpi_bytes_retrans;
    *ret_rx = info.tcpi_bytes_received;
}
