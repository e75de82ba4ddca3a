/* SPDX-License-Identifier: BSD-3-Clause
 * Compiler and platform glue that lwIP asks for.
 */
#ifndef TCNS_LWIP_ARCH_CC_H
#define TCNS_LWIP_ARCH_CC_H

#include <endian.h>
#include <stdio.h>
#include <stdlib.h>

#define BYTE_ORDER __BYTE_ORDER
#define LWIP_NO_CTYPE_H 0
#define LWIP_DONT_PROVIDE_BYTEORDER_FUNCTIONS /* it would redefine htons() and friends */
#define lwip_htons(x) htobe16(x)
#define lwip_htonl(x) htobe32(x)

#define LWIP_RAND() ((u32_t)random()) /* unused: ports and ISNs are ours */

#define LWIP_PLATFORM_DIAG(x)                                                                      \
    do {                                                                                           \
        printf x;                                                                                  \
    } while (0)
#define LWIP_PLATFORM_ASSERT(x)                                                                    \
    do {                                                                                           \
        fprintf(stderr, "lwip: %s (%s:%d)\n", x, __FILE__, __LINE__);                              \
        abort();                                                                                   \
    } while (0)

#endif
