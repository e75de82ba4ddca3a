/* SPDX-License-Identifier: BSD-3-Clause
 * What the test server tells its visitor of the very connection that asks: as a page and
 * as JSON.
 */
#ifndef TCNS_CTL_VISIT_H
#define TCNS_CTL_VISIT_H

#include <jansson.h>
#include <stddef.h>

#include "base/tuple.h"

/* Why nothing is known of a connection, or nothing need be: reasons beside those of
 * tunnel.h. */
#define VISIT_NO_DAEMON   "no-daemon"        /* none is attached here: plain TCP */
#define VISIT_NOT_CARRIED "not-carried"      /* loopback, bypassed: plain TCP */
#define VISIT_SILENT      "daemon-is-silent" /* it cannot be told */

/* The visitor's connection; local is the server's end. Return: 0; -errno. */
int visit_tuple(int fd, struct tuple *ret);

/* docs/visit.schema.json. session: the daemon's, borrowed; NULL: there is none, for reason.
 * Return: caller's; NULL when out of memory. */
json_t *visit_json(const struct tuple *tuple, const json_t *session, const char *reason);

/* The page for what visit_json() made. Return: caller frees; NULL when out of memory. */
char *visit_page(const json_t *visit, size_t *ret_len);

#endif
