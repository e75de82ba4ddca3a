/* SPDX-License-Identifier: BSD-3-Clause
 * Policies by name.
 */
#ifndef TCNS_CTL_POLICY_H
#define TCNS_CTL_POLICY_H

#include "tunnel/tunnel.h"

/* Return: "prefer", "require", "off". */
const char *policy_name(enum tunnel_policy policy);

/* Return: 0; -EINVAL, and *ret is untouched. */
int policy_parse(const char *text, enum tunnel_policy *ret);

#endif
