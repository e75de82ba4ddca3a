/* SPDX-License-Identifier: BSD-3-Clause
 * The verb status: a namespace's daemon and its counters.
 */
#include "ctl/cli/verbs.h"

#include <stdio.h>

#include "ctl/cli/query.h"
#include "ctl/cli/status_text.h"
#include "ctl/daemon/ns1.h"

/* Nobody should forget that it is on. */
static void warn_of_keylog(const json_t *reply)
{
    char path[256];

    if (*query_text(reply, "keylog", path, sizeof(path)))
        printf(DAEMON_KEYLOG_WARNING "\n", path);
}

int status_main(int argc, char **argv)
{
    struct term term = term_stdout();
    struct query q;

    query_init(&q, "status", argc, argv);
    query_call(&q, NS1_INTERFACE ".GetStatus", NULL, false);
    json_t *reply = query_next(&q, NULL);
    if (q.json) {
        json_dumpf(reply, stdout, JSON_COMPACT);
        putchar('\n');
    } else {
        status_text_print(reply, stdout, &term);
        warn_of_keylog(reply);
    }
    json_decref(reply);
    query_done(&q);
    return EXIT_OK;
}
