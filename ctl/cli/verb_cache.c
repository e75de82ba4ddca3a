/* SPDX-License-Identifier: BSD-3-Clause
 * The verb cache: what is remembered of peers.
 */
#include "ctl/cli/verbs.h"

#include <netinet/in.h>
#include <stdio.h>

#include "ctl/cli/query.h"
#include "ctl/daemon/ns1.h"

static void print_cache(const json_t *reply)
{
    const json_t *fallback = json_object_get(reply, "fallback");
    char addr[INET6_ADDRSTRLEN];
    const json_t *peer;
    size_t i;

    printf("resumption: %lld\n", (long long)json_integer_value(json_object_get(reply, "resume")));
    printf("without encryption: %zu\n", json_array_size(fallback));
    json_array_foreach(fallback, i, peer)
    {
        query_text(peer, "peer", addr, sizeof(addr));
        printf("  %-39s %lld s\n", addr,
               (long long)json_integer_value(json_object_get(peer, "left")));
    }
}

static void show(struct query *q)
{
    query_call(q, NS1_INTERFACE ".GetCache", NULL, false);
    json_t *reply = query_next(q, NULL);
    if (q->json) {
        json_object_set_new(reply, "version", json_integer(1));
        json_dumpf(reply, stdout, JSON_COMPACT);
        putchar('\n');
    } else {
        print_cache(reply);
    }
    json_decref(reply);
}

int cache_main(int argc, char **argv)
{
    struct query q;

    query_init(&q, "cache", argc, argv);
    if (q.flush) {
        query_call(&q, NS1_INTERFACE ".FlushCache", NULL, false);
        json_decref(query_next(&q, NULL));
    }
    show(&q);
    query_done(&q);
    return EXIT_OK;
}
