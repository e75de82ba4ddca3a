/* SPDX-License-Identifier: BSD-3-Clause
 * Prints the table of verbs and options as JSON: a program of the build, from whose
 * output docs/cli-pages.py makes the man page and the completions. Not installed.
 */
#include <jansson.h>
#include <stdio.h>

#include "ctl/cli/cli.h"

static void set_text(json_t *object, const char *key, const char *text)
{
    json_object_set_new(object, key, text ? json_string(text) : json_null());
}

static json_t *option_json(const struct cli_option *o)
{
    const char letter[] = {(char)o->id, '\0'};
    json_t *object = json_object();

    set_text(object, "letter", cli_is_letter(o->id) ? letter : NULL);
    set_text(object, "name", o->name);
    set_text(object, "arg", o->arg);
    set_text(object, "help", o->help);
    set_text(object, "more", o->more);
    set_text(object, "values", o->values);
    return object;
}

static json_t *verb_json(const struct cli_verb *v)
{
    json_t *object = json_object(), *options = json_array();

    set_text(object, "name", v->name);
    set_text(object, "operands", v->operands);
    set_text(object, "summary", v->summary);
    set_text(object, "help", v->help);
    for (const struct cli_option *o = v->options; o && o->id != OPT_END; o++)
        json_array_append_new(options, option_json(o));
    json_array_append_new(options, option_json(&cli_help_option));
    json_object_set_new(object, "options", options);
    return object;
}

int main(void)
{
    json_t *verbs = json_array();

    for (const struct cli_verb *v = cli_verbs; v->name; v++)
        json_array_append_new(verbs, verb_json(v));
    int err = json_dumpf(verbs, stdout, JSON_INDENT(1));
    json_decref(verbs);
    return err || fflush(stdout) != 0;
}
