/* SPDX-License-Identifier: BSD-3-Clause
 * Names and texts of the error codes.
 */
#include "base/err.h"

#include <ctype.h>
#include <stddef.h>

#define NAME_MAX_LEN 24

const char *err_name(enum tcns_err e)
{
    static char names[16][NAME_MAX_LEN * 2];
    static unsigned next;
    const char *src = "unknown";

    switch (e) {
#define X(name, class, num, text)                                                                  \
    case TCNS_ERR_##name:                                                                          \
        src = #name;                                                                               \
        break;
        TCNS_ERR_LIST(X)
#undef X
    }
    char *dst = names[next++ % 16];
    size_t i = 0;
    for (; src[i] && i < NAME_MAX_LEN; i++)
        dst[i] = src[i] == '_' ? '-' : (char)tolower((unsigned char)src[i]);
    dst[i] = '\0';
    return dst;
}

const char *err_text(enum tcns_err e)
{
    switch (e) {
#define X(name, class, num, text)                                                                  \
    case TCNS_ERR_##name:                                                                          \
        return text;
        TCNS_ERR_LIST(X)
#undef X
    }
    return "unknown error";
}
