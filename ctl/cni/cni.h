/* SPDX-License-Identifier: BSD-3-Clause
 * The program as a chained CNI plugin (Container Network Interface, spec 1.0.0 and
 * the verbs of 1.1.0): a network's containers get a daemon each.
 *
 * How it works: a container engine runs it with CNI_COMMAND and its fellows in the
 * environment and the network's configuration on standard input. ADD is what the
 * verb up does, DEL what down does; the configuration's keys are up's options. A
 * file for each attachment says which daemon belongs to it (cni_state.h), so that DEL
 * finds it when the namespace's path has gone.
 */
#ifndef TCNS_CTL_CNI_H
#define TCNS_CTL_CNI_H

#include <stdbool.h>

/* The name under which an engine runs us, the "type" of a configuration. */
#define CNI_PROGRAM "tcpcrypt"

/* Is this the plugin's argv[0]? */
bool cni_is_name(const char *argv0);

/* One call of an engine. Return: the process's exit status, 0 or 1; a result or an
 * error is on standard output. */
int cni_run(void);

#endif
