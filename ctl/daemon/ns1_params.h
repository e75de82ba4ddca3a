/* SPDX-License-Identifier: BSD-3-Clause
 * Parameters that several methods have.
 */
#ifndef TCNS_CTL_NS1_PARAMS_H
#define TCNS_CTL_NS1_PARAMS_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/tuple.h"

/* The members local, local_port, peer and peer_port of params, which may be NULL.
 * Return: NULL and *ret; the name of the one that is missing or wrong. */
const char *ns1_params_tuple(const json_t *params, struct tuple *ret);

/* An address as text. Return: whether it is one. */
bool ns1_params_addr(const char *text, struct addr *ret);

/* An optional whole number from 0 to max. Return: true and *ret, 0 when it is not there or
 * null; false when it is something else. */
bool ns1_params_number(const json_t *params, const char *name, uint32_t max, uint32_t *ret);

#endif
