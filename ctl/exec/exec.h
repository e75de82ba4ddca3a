/* SPDX-License-Identifier: BSD-3-Clause
 * The verb exec: a command in a network namespace of its own, attached.
 */
#ifndef TCNS_CTL_EXEC_H
#define TCNS_CTL_EXEC_H

#include "ctl/cli/cli.h"

extern const char exec_help[];

/* Exit codes that are ours and not the command's. */
#define EXEC_EXIT_FAILURE     125
#define EXEC_EXIT_NO_EXECUTE  126
#define EXEC_EXIT_NOT_FOUND   127
#define EXEC_EXIT_SIGNAL_BASE 128 /* plus the number of the signal that ended the command */

/* Return: the command's exit status, or one of the above. */
int exec_main(int argc, char **argv);

#endif
