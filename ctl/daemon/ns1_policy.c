/* SPDX-License-Identifier: BSD-3-Clause
 * Methods about the policy: GetPolicy, SetPolicy, Reload.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "ctl/conf/sources.h"
#include "ctl/daemon/change.h"
#include "ctl/daemon/ns1.h"

static json_t *rule_json(const struct policy_rule *rule, uint64_t matched_cnt)
{
    json_t *o = json_object();
    char *text = ruletext_str(rule);

    json_object_set_new(o, "text", json_string(text ? text : ""));
    if (rule->name[0])
        json_object_set_new(o, "name", json_string(rule->name));
    json_object_set_new(o, "matched", json_integer((json_int_t)matched_cnt));
    free(text);
    return o;
}

static void get_policy(struct ctlserver_client *c, const struct ns1 *n)
{
    const struct daemon_options *opts = n->opts;
    const struct policy *p = tunnel_policy(n->tunnel);
    struct policy_rule otherwise = {.action = opts->policy, .settings = opts->settings};
    json_t *o = json_object(), *rules = json_array();

    for (size_t i = 0; i < opts->rule_cnt; i++)
        json_array_append_new(rules,
                              rule_json(&opts->rules[i], policy_matched_cnt(p, (unsigned)i + 1)));
    json_object_set_new(o, "policy", json_string(policy_name(opts->policy)));
    json_object_set_new(o, "rules", rules);
    json_object_set_new(o, "otherwise", rule_json(&otherwise, policy_matched_cnt(p, 0)));
    if (opts->sources && opts->sources->path)
        json_object_set_new(o, "config", json_string(opts->sources->path));
    ctlserver_reply(c, o);
}

static void refuse(struct ctlserver_client *c, const char *reason)
{
    ctlserver_error(c, NS1_INTERFACE ".PolicyRefused", json_pack("{s:s}", "reason", reason));
}

static void change(struct ctlserver_client *c, const struct ns1 *n, const char *request)
{
    char text[CHANGE_TEXT_LEN];

    if (n->change(n->arg, request, text) < 0) {
        refuse(c, text);
        return;
    }
    ns1_watch_daemon(n->watch,
                     request ? "the policy was changed" : "the configuration was read again");
    ctlserver_reply(c, NULL);
}

/* Return: the member; NULL when it is not there, or null. */
static const json_t *member(const json_t *params, const char *name)
{
    const json_t *value = json_object_get(params, name);

    return json_is_null(value) ? NULL : value;
}

static void set_policy(struct ctlserver_client *c, const struct ns1 *n, const json_t *params)
{
    const json_t *policy = member(params, "policy"), *rules = member(params, "rules");
    char err[SETTINGS_ERROR_LEN];
    char *request = NULL;

    if (policy && !json_is_string(policy)) {
        ns1_invalid_parameter(c, "policy");
        return;
    }
    if (rules && !json_is_array(rules)) {
        ns1_invalid_parameter(c, "rules");
        return;
    }
    if (change_request(policy, rules, &request, err) < 0)
        refuse(c, err);
    else
        change(c, n, request);
    free(request);
}

bool ns1_call_policy(struct ctlserver_client *c, const char *name, const json_t *params,
                     const struct ns1 *n)
{
    bool is_set = strcmp(name, "SetPolicy") == 0, is_reload = strcmp(name, "Reload") == 0;

    if (strcmp(name, "GetPolicy") == 0) {
        get_policy(c, n);
        return true;
    }
    if (!is_set && !is_reload)
        return false;
    if (!ctlserver_is_privileged(c))
        ns1_permission_denied(c);
    else if (is_set)
        set_policy(c, n, params);
    else
        change(c, n, NULL);
    return true;
}
