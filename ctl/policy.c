/* SPDX-License-Identifier: BSD-3-Clause
 * Policies by name.
 */
#include "ctl/policy.h"

#include <errno.h>
#include <string.h>

const char *policy_name(enum tunnel_policy policy)
{
    switch (policy) {
    case TUNNEL_POLICY_PREFER:
        return "prefer";
    case TUNNEL_POLICY_REQUIRE:
        return "require";
    case TUNNEL_POLICY_OFF:
        return "off";
    }
    return "unknown";
}

int policy_parse(const char *text, enum tunnel_policy *ret)
{
    static const enum tunnel_policy all[] = {TUNNEL_POLICY_PREFER, TUNNEL_POLICY_REQUIRE,
                                             TUNNEL_POLICY_OFF};

    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        if (strcmp(policy_name(all[i]), text) == 0) {
            *ret = all[i];
            return 0;
        }
    }
    return -EINVAL;
}
