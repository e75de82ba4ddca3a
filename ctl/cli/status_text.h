/* SPDX-License-Identifier: BSD-3-Clause
 * What GetStatus answers, on one screen.
 */
#ifndef TCNS_CTL_STATUS_TEXT_H
#define TCNS_CTL_STATUS_TEXT_H

#include <jansson.h>
#include <stdio.h>

#include "ctl/cli/term.h"

/* Members that are not known here come last, as they are. */
void status_text_print(const json_t *status, FILE *out, const struct term *term);

#endif
