/* SPDX-License-Identifier: BSD-3-Clause
 * The verb tcnetstat: the columns of the original tcpcrypt's program of that name.
 */
#include "ctl/cli/verbs.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "ctl/cli/query.h"
#include "ctl/cli/session_text.h"
#include "ctl/daemon/ns1.h"

static void print_session(const json_t *s)
{
    char local[SESSION_TEXT_LEN], peer[SESSION_TEXT_LEN], id[SESSION_TEXT_LEN];

    session_text_word(s, "session_id", id);
    for (char *c = id; *c; c++)
        *c = (char)toupper((unsigned char)*c);
    printf("%-21s\t%-21s\t%s\n", session_text_end(s, "local", local),
           session_text_end(s, "peer", peer), id);
}

int tcnetstat_main(int argc, char **argv)
{
    bool continues = true;
    struct query q;

    query_init(&q, "tcnetstat", argc, argv);
    query_call(&q, NS1_INTERFACE ".ListSessions", NULL, true);
    printf("Local address\t\tForeign address\t\tSID\n");
    while (continues) {
        json_t *reply = query_next(&q, &continues);
        const json_t *s = json_object_get(reply, "session");

        if (s && json_object_get(s, "session_id"))
            print_session(s);
        json_decref(reply);
    }
    query_done(&q);
    return EXIT_OK;
}
