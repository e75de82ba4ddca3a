/* SPDX-License-Identifier: BSD-3-Clause
 * The supervisor: owns the configuration, keeps a worker running.
 *
 * How it works: it enters the namespace, configures it (netcfg.h), opens the ctl
 * socket's doors and forks a worker. Then it waits for
 *
 *   a signal              SIGTERM, SIGINT: end the worker, take everything away
 *   news of the network   follow routes, addresses, links (netcfg_on_event)
 *   the worker's message  a client asks to detach: as SIGTERM, then answer it
 *   a look at the worker  every 2.5 s: one whose loop has not turned for 10 s is killed
 *   the worker's end      reset the connections it carried, discard what the
 *                         kernel has queued for it, fork the next at once; one
 *                         that dies again and again waits longer each time
 *
 * The TUN device, routes, rules and drop stay while there is no worker.
 */
#ifndef TCNS_CTL_SUPERVISOR_H
#define TCNS_CTL_SUPERVISOR_H

#include <stdbool.h>

#include "ctl/daemon/daemon.h"

/* Packets flow. Return: false when nobody waits for that any more: give up. */
typedef bool (*supervisor_ready_fn)(void *arg);

/* Returns when told to end and everything is taken away.
 * Return: 0; -errno and a sentence in err when it could not start. */
int supervisor_run(const struct daemon_options *opts, supervisor_ready_fn ready, void *arg,
                   char err[DAEMON_ERROR_LEN]);

#endif
