/* SPDX-License-Identifier: BSD-3-Clause
 * The verb pause: does nothing, so that a container has a process.
 */
#include "ctl/cli/verbs.h"

#include <signal.h>
#include <stddef.h>
#include <sys/wait.h>

#include "ctl/cli/cli.h"

int pause_main(int argc, char **argv)
{
    const struct cli_verb *verb = cli_verb_find("pause");
    sigset_t set;
    int sig = 0;

    while (cli_next(verb, argc, argv) != -1)
        ;
    /* The first process of a container gets only signals that it asks for, and inherits
     * other people's children. */
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, NULL);
    do {
        while (waitpid(-1, NULL, WNOHANG) > 0)
            ;
        sigwait(&set, &sig);
    } while (sig == SIGCHLD);
    return EXIT_OK;
}
