/* SPDX-License-Identifier: BSD-3-Clause
 * Configuration files. What is taken makes rules that are written back and read again as
 * the same; the line of an error is one of the file's.
 */
#include "fuzz.h"

#include "ctl/conf/config.h"
#include "ctl/conf/ruletext.h"
#include "ctl/conf/settings.h"

static void check_rule(const struct policy_rule *r)
{
    char err[RULETEXT_ERROR_LEN];
    struct policy_rule again;
    char *text = ruletext_str(r);

    FUZZ_CHECK(text);
    FUZZ_CHECK(ruletext_parse(text, &again, err) == 0);
    char *twice = ruletext_str(&again);
    FUZZ_CHECK(twice && strcmp(text, twice) == 0);
    free(twice);
    free(text);
}

static void use(const struct config *c)
{
    char err[CONFIG_ERROR_LEN];
    struct daemon_options opts;

    daemon_options_init(&opts);
    for (size_t i = 0; i < c->item_cnt;) {
        struct policy_rule r;
        unsigned line = c->items[i].line;

        if (!c->items[i].rule) {
            settings_set(&opts, c->items[i].key, c->items[i].value, err);
            i++;
        } else if (config_rule(c, &i, &r, &line, err) == 0) {
            check_rule(&r);
        } else {
            FUZZ_CHECK(strlen(err) > 0);
            break;
        }
    }
    for (size_t i = 0; i < opts.rule_cnt; i++)
        check_rule(&opts.rules[i]);
    ruletext_check(opts.rules, opts.rule_cnt, err);
    settings_done(&opts);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char err[CONFIG_ERROR_LEN] = "";
    struct config c = {.items = NULL};
    unsigned line = 0, lines = 1;

    for (size_t i = 0; i < size; i++)
        lines += data[i] == '\n';
    struct fuzz_input in = {data, size};
    char *text = (char *)fuzz_bytes(&in, size, &size);
    if (config_parse(text, size, &c, &line, err) == 0) {
        use(&c);
    } else {
        FUZZ_CHECK(line >= 1 && line <= lines);
        FUZZ_CHECK(strlen(err) > 0 && !c.items);
    }
    config_done(&c);
    free(text);
    return 0;
}
