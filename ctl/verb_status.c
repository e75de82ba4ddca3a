/* SPDX-License-Identifier: BSD-3-Clause
 * The verb status: a namespace's daemon and its counters.
 */
#include "ctl/verbs.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ctl/ns1.h"
#include "ctl/query.h"

#define NAME_LEN 24

static void print_value(const char *prefix, const char *key, const json_t *value)
{
    char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_ENSURE_ASCII);

    printf("%s%-*s %s\n", prefix, NAME_LEN - (int)strlen(prefix), key, text ? text : "");
    free(text);
}

static void print_members(const char *prefix, json_t *object)
{
    const char *key;
    json_t *value;

    json_object_foreach(object, key, value)
    {
        if (json_is_object(value))
            print_members(strcmp(key, "errors") == 0 ? "error " : "", value);
        else
            print_value(prefix, key, value);
    }
}

/* Nobody should forget that it is on. */
static void warn_of_keylog(const json_t *reply)
{
    char path[256];

    if (*query_text(reply, "keylog", path, sizeof(path)))
        printf(DAEMON_KEYLOG_WARNING "\n", path);
}

int status_main(int argc, char **argv)
{
    struct query q;

    query_init(&q, "status", argc, argv);
    query_call(&q, NS1_INTERFACE ".GetStatus", NULL, false);
    json_t *reply = query_next(&q, NULL);
    if (q.json) {
        json_dumpf(reply, stdout, JSON_COMPACT);
        putchar('\n');
    } else {
        print_members("", reply);
        warn_of_keylog(reply);
    }
    json_decref(reply);
    query_done(&q);
    return EXIT_OK;
}
