/* SPDX-License-Identifier: BSD-3-Clause
 * A verb that stays and serves HTTP.
 */
#ifndef TCNS_CTL_SERVE_H
#define TCNS_CTL_SERVE_H

#include "ctl/cli/cli.h"
#include "ctl/http/http.h"

/* Listens at an address as http_parse_address() takes it, prints the URL with path in it, and
 * serves until SIGTERM or SIGINT. Exits with a message when it cannot. */
void serve(const struct cli_verb *verb, const char *listen, const char *path,
           http_handler_fn handler, void *arg);

#endif
