/* SPDX-License-Identifier: BSD-3-Clause
 * libtcpcrypt: errors of the daemon's interface, and what errno says.
 */
#include <string.h>

#include "ctl/lib/lib.h"

static const struct {
    const char *name;
    int errnum;
} names[] = {
    {TCNS_CTL_INTERFACE ".NoSession", ENOENT},
    {TCNS_CTL_INTERFACE ".NotEncrypted", ENODATA},
    {TCNS_CTL_INTERFACE ".NoSocket", ENOTSOCK},
    {TCNS_CTL_INTERFACE ".NotConnected", ENOTCONN},
    {TCNS_CTL_INTERFACE ".AlreadyConnected", EISCONN},
    {TCNS_CTL_INTERFACE ".TooMany", ENOSPC},
    {TCNS_CTL_INTERFACE ".NotPossible", EOPNOTSUPP},
    {TCNS_CTL_INTERFACE ".OutOfMemory", ENOMEM},
    {"org.varlink.service.PermissionDenied", EPERM},
    {"org.varlink.service.InvalidParameter", EINVAL},
    {"org.varlink.service.MethodNotFound", EOPNOTSUPP}, /* a daemon older than we */
};

int lib_errno_of(const char *error)
{
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (strcmp(names[i].name, error) == 0)
            return names[i].errnum;
    return EPROTO;
}

static const struct {
    int errnum;
    const char *text;
} texts[] = {
    {EBADF, "not an open descriptor"},
    {ENOTSOCK, "not a TCP socket of the daemon's network namespace"},
    {EOPNOTSUPP, "not a TCP socket, or the daemon cannot do that"},
    {ENOTCONN, "the socket is not connected"},
    {EISCONN, "the socket is connected already; settings come before that"},
    {ECONNREFUSED, "no tcpcrypt-ns answers in this network namespace"},
    {ENOENT, "the connection does not pass through tcpcrypt-ns, or has ended"},
    {EINPROGRESS, "the connection is not negotiated yet"},
    {ENODATA, "the connection is not encrypted"},
    {ETIMEDOUT, "the time is over"},
    {EPERM, "not allowed"},
    {EACCES, "not allowed"},
    {ENOSPC, "tcpcrypt-ns keeps settings of no more sockets"},
    {EINVAL, "a wrong argument"},
    {ENOPROTOOPT, "no such option"},
    {ENOMEM, "out of memory"},
    {EPROTO, "what answers does not speak tcpcrypt-ns' protocol"},
};

PUBLIC const char *tcpcrypt_strerror(int errnum)
{
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        if (texts[i].errnum == errnum)
            return texts[i].text;
    return "another error of the system, see errno(3)";
}
