/* SPDX-License-Identifier: BSD-3-Clause
 * Parameters that several methods have.
 */
#include "ctl/daemon/ns1_params.h"

#include <arpa/inet.h>

bool ns1_params_addr(const char *text, struct addr *ret)
{
    struct in_addr v4;

    if (inet_pton(AF_INET, text, &v4) == 1) {
        *ret = addr_from_v4(&v4);
        return true;
    }
    return inet_pton(AF_INET6, text, &ret->in6) == 1;
}

static bool read_addr(const json_t *params, const char *name, struct addr *ret)
{
    const char *text = json_string_value(json_object_get(params, name));

    return text && ns1_params_addr(text, ret);
}

static bool read_port(const json_t *params, const char *name, uint16_t *ret)
{
    uint32_t port;

    if (!ns1_params_number(params, name, UINT16_MAX, &port) || port == 0)
        return false;
    *ret = (uint16_t)port;
    return true;
}

const char *ns1_params_tuple(const json_t *params, struct tuple *ret)
{
    struct tuple t;

    if (!read_addr(params, "local", &t.local))
        return "local";
    if (!read_port(params, "local_port", &t.local_port))
        return "local_port";
    if (!read_addr(params, "peer", &t.peer))
        return "peer";
    if (!read_port(params, "peer_port", &t.peer_port))
        return "peer_port";
    *ret = t;
    return NULL;
}

bool ns1_params_number(const json_t *params, const char *name, uint32_t max, uint32_t *ret)
{
    const json_t *value = json_object_get(params, name);
    json_int_t number = json_integer_value(value);

    if (value && !json_is_null(value) && !json_is_integer(value))
        return false;
    if (number < 0 || number > (json_int_t)max)
        return false;
    *ret = (uint32_t)number;
    return true;
}
