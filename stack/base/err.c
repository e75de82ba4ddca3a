/* SPDX-License-Identifier: BSD-3-Clause
 * Names and texts of the error codes.
 */
#include "base/err.h"

#include "base/dashed.h"

const char *err_name(enum tcns_err e)
{
    switch (e) {
#define X(name, class, num, text)                                                                  \
    case TCNS_ERR_##name: {                                                                        \
        static char out[DASHED_MAX_LEN];                                                           \
        return dashed(#name, out);                                                                 \
    }
        TCNS_ERR_LIST(X)
#undef X
    }
    return "unknown";
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
