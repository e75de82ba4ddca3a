/* SPDX-License-Identifier: BSD-3-Clause
 * Names made from the names of constants.
 */
#include "base/dashed.h"

/* Not tolower(): the names do not depend on the locale. */
static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

const char *dashed(const char *upper, char out[DASHED_MAX_LEN])
{
    int i = 0;

    for (; upper[i] && i < DASHED_MAX_LEN - 1; i++)
        out[i] = upper[i] == '_' ? '-' : lower(upper[i]);
    out[i] = '\0';
    return out;
}
