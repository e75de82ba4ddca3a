/* SPDX-License-Identifier: BSD-3-Clause
 * The verb version.
 */
#include "ctl/cli/verbs.h"

#include <stdio.h>

#include "ctl/cli/cli.h"

int version_main(int argc, char **argv)
{
    const struct cli_verb *verb = cli_verb_find("version");

    while (cli_next(verb, argc, argv) != -1)
        ;
    printf("tcpcrypt-ns %s\n", TCNS_VERSION);
    return EXIT_OK;
}
