/* SPDX-License-Identifier: BSD-3-Clause
 * Names of states, reasons and ends, made from the lists that declare them.
 */
#include <stddef.h>

#include "tunnel/tunnel.h"

#define STR(name) #name,

/* "RESET_BY_PEER" becomes "reset-by-peer", once. */
static const char *dashed(const char *upper, char *out, size_t len)
{
    size_t i = 0;

    for (; upper[i] && i + 1 < len; i++)
        out[i] = upper[i] == '_' ? '-' : (char)(upper[i] | 0x20);
    out[i] = '\0';
    return out;
}

#define NAME_MAX_LEN 24

const char *tunnel_reason_name(enum tunnel_reason reason)
{
    static const char *const upper[] = {SESSION_REASON_LIST(STR) TUNNEL_REASON_LIST(STR)};
    static char names[sizeof(upper) / sizeof(*upper)][NAME_MAX_LEN];

    if (reason >= sizeof(upper) / sizeof(*upper))
        return "unknown";
    return dashed(upper[reason], names[reason], NAME_MAX_LEN);
}

const char *tunnel_end_name(enum tunnel_end end)
{
    static const char *const upper[] = {TUNNEL_END_LIST(STR)};
    static char names[sizeof(upper) / sizeof(*upper)][NAME_MAX_LEN];

    if (end >= sizeof(upper) / sizeof(*upper))
        return "unknown";
    return dashed(upper[end], names[end], NAME_MAX_LEN);
}

const char *tunnel_state_name(enum tunnel_state state)
{
    switch (state) {
    case TUNNEL_STATE_OPENING:
        return "opening";
    case TUNNEL_STATE_ENCRYPTED:
        return "encrypted";
    case TUNNEL_STATE_CLEAR:
        return "clear";
    case TUNNEL_STATE_CLOSING:
        return "closing";
    }
    return "unknown";
}
