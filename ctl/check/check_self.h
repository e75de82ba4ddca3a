/* SPDX-License-Identifier: BSD-3-Clause
 * check --self: the whole thing between two private namespaces.
 */
#ifndef TCNS_CTL_CHECK_SELF_H
#define TCNS_CTL_CHECK_SELF_H

#include "ctl/check/check.h"

/* Runs it, a line for each step. Return: exit code; 128 and the number of the signal that
 * ended it. */
int check_self(struct check *c);

#endif
