/* SPDX-License-Identifier: BSD-3-Clause
 * A CNI network configuration: its keys are long options of the verb up.
 */
#include "ctl/cni/cni_conf.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ctl/cli/cli.h"

#define NO_WORD "neither text of less than 512 bytes nor a whole number"

int cni_args_add(struct cni_args *a, const char *text)
{
    if (a->argc >= CNI_ARGS_MAX_CNT)
        return -E2BIG;
    a->argv[a->argc] = strdup(text);
    if (!a->argv[a->argc])
        return -ENOMEM;
    a->argc++;
    return 0;
}

void cni_args_done(struct cni_args *a)
{
    for (int i = 0; i < a->argc; i++)
        free(a->argv[i]);
    *a = (struct cni_args){.argc = 0};
}

/* Of engines and libraries, or of other plugins' conventions. */
static bool is_common(const char *key)
{
    static const char *const common[] = {
        "cniVersion",    "cniVersions", "name",   "type", "args", "capabilities",
        "runtimeConfig", "prevResult",  "ipMasq", "ipam", "dns"};

    for (size_t i = 0; i < sizeof(common) / sizeof(common[0]); i++)
        if (strcmp(key, common[i]) == 0)
            return true;
    return strncmp(key, "cni.dev/", 8) == 0;
}

/* Those that the engine answers for, or that make no sense without a terminal. */
static bool is_open_to_conf(int id)
{
    return id != OPT_NETNS && id != OPT_FOREGROUND && id != OPT_READY_FD && id != OPT_HELP &&
           id != OPT_FOLLOW_NETNS;
}

static const struct cli_option *find_option(const char *key)
{
    const struct cli_verb *up = cli_verb_find("up");

    for (const struct cli_option *o = up->options; o->id != OPT_END; o++)
        if (strcmp(o->name, key) == 0 && is_open_to_conf(o->id))
            return o;
    return NULL;
}

static enum cni_code bad_field(struct cni_error *e, const char *key, const json_t *value,
                               const char *why)
{
    char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);

    cni_fail(e, CNI_BAD_FIELD, "unsupported field \"%s\": %.200s (%s)", key, text ? text : "?",
             why);
    free(text);
    return CNI_BAD_FIELD;
}

/* Return: whether value is a string or an integer, which out gets as text. */
static bool read_word(const json_t *value, char out[CNI_TEXT_LEN])
{
    int n;

    if (json_is_string(value))
        n = snprintf(out, CNI_TEXT_LEN, "%s", json_string_value(value));
    else if (json_is_integer(value))
        n = snprintf(out, CNI_TEXT_LEN, "%lld", (long long)json_integer_value(value));
    else
        return false;
    return n >= 0 && n < CNI_TEXT_LEN;
}

static int add_option(struct cni_args *a, const char *key, const char *value)
{
    char text[CNI_TEXT_LEN + 64];

    /* With "=", so that no value is taken for an option. */
    snprintf(text, sizeof(text), value ? "--%s=%s" : "--%s", key, value);
    return cni_args_add(a, text);
}

static bool takes_list(const struct cli_option *o)
{
    return o->arg && strstr(o->arg, ",") != NULL;
}

static enum cni_code add_joined(struct cni_args *a, const char *key, const json_t *values,
                                struct cni_error *e)
{
    char all[CNI_TEXT_LEN] = "", word[CNI_TEXT_LEN];
    const json_t *value;
    size_t i;

    json_array_foreach(values, i, value)
    {
        if (!read_word(value, word))
            return bad_field(e, key, value, NO_WORD);
        if (strlen(all) + strlen(word) + 2 > sizeof(all))
            return bad_field(e, key, values, "too long");
        if (i > 0)
            strcat(all, ",");
        strcat(all, word);
    }
    return add_option(a, key, all) ? bad_field(e, key, values, "too many options") : CNI_OK;
}

static enum cni_code add_each(struct cni_args *a, const char *key, const json_t *values,
                              struct cni_error *e)
{
    char word[CNI_TEXT_LEN];
    const json_t *value;
    size_t i;

    json_array_foreach(values, i, value)
    {
        if (!read_word(value, word))
            return bad_field(e, key, value, NO_WORD);
        if (add_option(a, key, word))
            return bad_field(e, key, values, "too many options");
    }
    return CNI_OK;
}

static enum cni_code add_field(struct cni_args *a, const char *key, const json_t *value,
                               struct cni_error *e)
{
    const struct cli_option *o = find_option(key);
    char word[CNI_TEXT_LEN];

    if (!o)
        return bad_field(e, key, value, "not an option of up");
    if (!o->arg && !json_is_boolean(value))
        return bad_field(e, key, value, "neither true nor false");
    if (!o->arg && json_is_false(value))
        return CNI_OK;
    if (!o->arg)
        return add_option(a, key, NULL) ? bad_field(e, key, value, "too many options") : CNI_OK;
    if (json_is_array(value))
        return takes_list(o) ? add_joined(a, key, value, e) : add_each(a, key, value, e);
    if (!read_word(value, word))
        return bad_field(e, key, value, NO_WORD);
    return add_option(a, key, word) ? bad_field(e, key, value, "too many options") : CNI_OK;
}

enum cni_code cni_conf_options(const json_t *conf, struct cni_args *a, struct cni_error *e)
{
    const char *key;
    json_t *value;

    json_object_foreach((json_t *)conf, key, value)
    {
        enum cni_code code = is_common(key) ? CNI_OK : add_field(a, key, value, e);

        if (code)
            return code;
    }
    return CNI_OK;
}
