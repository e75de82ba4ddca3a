/* SPDX-License-Identifier: BSD-3-Clause
 * Names for people and programs, made from the names of constants: RESET_BY_PEER is
 * "reset-by-peer". Lists of constants are declared once, as X-lists; their names come
 * from there.
 */
#ifndef TCNS_BASE_DASHED_H
#define TCNS_BASE_DASHED_H

#define DASHED_MAX_LEN 24 /* final zero included; longer names are cut */

/* Writes the name of upper to out, which is static: the same bytes each time, so no caller
 * sees another's. Return: out. */
const char *dashed(const char *upper, char out[DASHED_MAX_LEN]);

#endif
