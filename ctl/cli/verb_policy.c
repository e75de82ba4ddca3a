/* SPDX-License-Identifier: BSD-3-Clause
 * The verbs policy and reload: the rules of a running daemon.
 */
#include "ctl/cli/verbs.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "ctl/cli/query.h"
#include "ctl/conf/ruletext.h"
#include "ctl/daemon/ns1.h"

struct policy_verb {
    struct query q;
    const char *policy; /* NULL: as it is */
    json_t *rules;      /* NULL: as they are */
};

static void add_rule(struct policy_verb *v, const char *text)
{
    char err[RULETEXT_ERROR_LEN];
    struct policy_rule rule;

    if (ruletext_parse(text, &rule, err) < 0)
        cli_usage(v->q.verb, "rule: %s", err);
    json_array_append_new(v->rules, json_string(text));
}

static void read_option(struct policy_verb *v, int id)
{
    enum tunnel_policy policy;

    if (query_read_option(&v->q, id))
        return;
    if (id == OPT_POLICY) {
        if (policy_parse(optarg, &policy) < 0)
            cli_usage(v->q.verb, "policy: \"%s\" is none of prefer, require, off", optarg);
        v->policy = optarg;
        return;
    }
    v->rules = v->rules ? v->rules : json_array();
    if (id == OPT_RULE)
        add_rule(v, optarg);
}

static void print_rule(const char *number, const json_t *rule)
{
    char text[4096];

    printf("%5s  %8lld  %s\n", number,
           (long long)json_integer_value(json_object_get(rule, "matched")),
           query_text(rule, "text", text, sizeof(text)));
}

static void print_policy(const json_t *reply)
{
    const json_t *rule;
    char number[24];
    size_t i;

    printf("%5s  %8s  %s\n", "#", "MATCHED", "RULE");
    json_array_foreach(json_object_get(reply, "rules"), i, rule)
    {
        snprintf(number, sizeof(number), "%zu", i + 1);
        print_rule(number, rule);
    }
    print_rule("else", json_object_get(reply, "otherwise"));
}

static void show(struct query *q)
{
    query_call(q, NS1_INTERFACE ".GetPolicy", NULL, false);
    json_t *reply = query_next(q, NULL);
    if (q->json) {
        json_dumpf(reply, stdout, JSON_COMPACT);
        putchar('\n');
    } else {
        print_policy(reply);
    }
    json_decref(reply);
}

int policy_main(int argc, char **argv)
{
    struct policy_verb v = {.policy = NULL};
    int id;

    query_begin(&v.q, "policy");
    while ((id = cli_next(v.q.verb, argc, argv)) != -1)
        read_option(&v, id);
    query_connect(&v.q);
    if (v.policy || v.rules) {
        query_call(&v.q, NS1_INTERFACE ".SetPolicy",
                   json_pack("{s:s*, s:o*}", "policy", v.policy, "rules", v.rules), false);
        json_decref(query_next(&v.q, NULL));
    } else {
        show(&v.q);
    }
    query_done(&v.q);
    return EXIT_OK;
}

int reload_main(int argc, char **argv)
{
    struct query q;

    query_init(&q, "reload", argc, argv);
    query_call(&q, NS1_INTERFACE ".Reload", NULL, false);
    json_decref(query_next(&q, NULL));
    query_done(&q);
    return EXIT_OK;
}
