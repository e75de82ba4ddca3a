/* SPDX-License-Identifier: BSD-3-Clause
 * Names of states, reasons and ends, made from the lists that declare them.
 */
#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "base/dashed.h"
#include "tunnel/tunnel.h"

#define STR(name) #name,

const char *tunnel_reason_name(enum tunnel_reason reason)
{
    static const char *const upper[] = {SESSION_REASON_LIST(STR) TUNNEL_REASON_LIST(STR)};
    static char names[sizeof(upper) / sizeof(*upper)][DASHED_MAX_LEN];

    if (reason >= sizeof(upper) / sizeof(*upper))
        return "unknown";
    return dashed(upper[reason], names[reason]);
}

const char *tunnel_end_name(enum tunnel_end end)
{
    static const char *const upper[] = {TUNNEL_END_LIST(STR)};
    static char names[sizeof(upper) / sizeof(*upper)][DASHED_MAX_LEN];

    if (end >= sizeof(upper) / sizeof(*upper))
        return "unknown";
    return dashed(upper[end], names[end]);
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

int tunnel_drain_parse(const char *text, enum tunnel_drain *ret)
{
    bool clear = strcmp(text, "clear") == 0;

    if (!clear && strcmp(text, "refuse") != 0)
        return -EINVAL;
    *ret = clear ? TUNNEL_DRAIN_CLEAR : TUNNEL_DRAIN_REFUSE;
    return 0;
}
