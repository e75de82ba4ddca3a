/* SPDX-License-Identifier: BSD-3-Clause
 * Addresses as text.
 */
#include "base/tuple.h"

#include <arpa/inet.h>

_Static_assert(sizeof(struct tuple) == 36, "tuples are compared and hashed as bytes");

const char *addr_str(const struct addr *a, char out[ADDR_STR_LEN])
{
    if (addr_is_v4(a))
        return inet_ntop(AF_INET, &a->in6.s6_addr[12], out, ADDR_STR_LEN);
    return inet_ntop(AF_INET6, &a->in6, out, ADDR_STR_LEN);
}
