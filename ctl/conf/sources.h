/* SPDX-License-Identifier: BSD-3-Clause
 * Where the daemon's options come from: the command line and the configuration file.
 *
 * A key of the section [daemon] is an option of "up" without its dashes; whatever the
 * table of options has, the file has. The command line wins: what it gives is not looked for
 * in the file, and its rules stand ahead of the file's.
 */
#ifndef TCNS_CTL_SOURCES_H
#define TCNS_CTL_SOURCES_H

#include <stdbool.h>
#include <stddef.h>

#include "ctl/cli/cli.h"
#include "ctl/conf/config.h"
#include "ctl/daemon/daemon.h"

struct sources_flag {
    int id;
    const char *name, *value; /* value is NULL where the option takes none */
};

/* Lives as long as the daemon: options point into it. */
struct sources {
    const struct cli_verb *verb;
    char *path; /* of the file, absolute; NULL when there is none, and none was asked for */
    struct config config;
    struct sources_flag *flags;
    size_t flag_cnt;
};

/* Reads all options of a verb: read is called with an option's id, its value in optarg, for
 * all but --config; rules and what goes together with them end in opts. Exits with a usage
 * error, which names the line of the file where that is at fault. */
void sources_read(struct sources *s, const struct cli_verb *verb, int argc, char **argv,
                  void (*read)(void *arg, int id), void *arg, struct daemon_options *opts);

/* Reads the file once more. ret is opts with what settings.h knows replaced; what else has
 * changed in the file is named in the log, since it needs a new start.
 * Return: 0, and ret for settings_done(); -errno and a sentence in err: nothing has changed. */
int sources_reload(struct sources *s, const struct daemon_options *opts, struct daemon_options *ret,
                   char err[CONFIG_ERROR_LEN]);

#endif
