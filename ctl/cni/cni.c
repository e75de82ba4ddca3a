/* SPDX-License-Identifier: BSD-3-Clause
 * The program as a chained CNI plugin.
 */
#include "ctl/cni/cni.h"

#include <errno.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ctl/cli/cli.h"
#include "ctl/cli/verbs.h"
#include "ctl/cni/cni_call.h"
#include "ctl/daemon/fds.h"

#define CONF_MAX   (1 << 20)
#define VERSION_OF "1.0.0" /* of what is said before a version is known */

static const char *const versions[] = {"0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"};
#define VERSION_CNT (sizeof(versions) / sizeof(versions[0]))

enum cni_code cni_fail(struct cni_error *e, enum cni_code code, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(e->msg, sizeof(e->msg), fmt, ap);
    va_end(ap);
    return e->code = code;
}

void cni_print(json_t *object)
{
    json_dumpf(object, stdout, JSON_INDENT(2));
    putchar('\n');
}

/* --- STATUS and VERSION ------------------------------------------------------------------- */

static enum cni_code status(struct cni_call *c)
{
    if (access("/dev/net/tun", R_OK | W_OK) < 0)
        return cni_fail(&c->error, CNI_UNAVAILABLE, "/dev/net/tun: %s", strerror(errno));
    return CNI_OK;
}

static enum cni_code version(struct cni_call *c)
{
    json_t *all = json_array();

    for (size_t i = 0; i < VERSION_CNT; i++)
        json_array_append_new(all, json_string(versions[i]));
    json_t *reply = json_pack("{s:s, s:o}", "cniVersion", c->version, "supportedVersions", all);
    cni_print(reply);
    json_decref(reply);
    return CNI_OK;
}

/* --- What an engine gives --------------------------------------------------------------------- */

enum need {
    NEED_NOTHING = 0,
    NEED_CONF = 1,       /* of a version that we know, with a name */
    NEED_ATTACHMENT = 2, /* CNI_CONTAINERID and CNI_IFNAME */
    NEED_NETNS = 4,
    NEED_RESULT = 8, /* prevResult */
};

static const struct command {
    const char *name;
    enum cni_code (*run)(struct cni_call *c);
    unsigned needs;
} commands[] = {
    {"ADD", cni_add, NEED_CONF | NEED_ATTACHMENT | NEED_NETNS | NEED_RESULT},
    {"DEL", cni_del, NEED_CONF | NEED_ATTACHMENT},
    {"CHECK", cni_check, NEED_CONF | NEED_ATTACHMENT | NEED_NETNS | NEED_RESULT},
    {"GC", cni_gc, NEED_CONF},
    {"STATUS", status, NEED_CONF},
    {"VERSION", version, NEED_NOTHING},
};

static const struct command *find_command(const char *name)
{
    for (size_t i = 0; name && i < sizeof(commands) / sizeof(commands[0]); i++)
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
    return NULL;
}

static void name_variable(char *list, const char *name)
{
    if (list[0])
        strcat(list, ", ");
    strcat(list, name);
}

static enum cni_code read_env(struct cni_call *c, const struct command *command)
{
    char bad[128] = "";

    c->netns = getenv("CNI_NETNS");
    if (c->netns && !*c->netns)
        c->netns = NULL;
    c->at.container = getenv("CNI_CONTAINERID");
    c->at.ifname = getenv("CNI_IFNAME");
    if (!command)
        name_variable(bad, "CNI_COMMAND");
    unsigned needs = command ? command->needs : 0;
    if ((needs & NEED_ATTACHMENT) && !cni_is_word(c->at.container))
        name_variable(bad, "CNI_CONTAINERID");
    if ((needs & NEED_NETNS) && (!c->netns || c->netns[0] != '/'))
        name_variable(bad, "CNI_NETNS");
    if ((needs & NEED_ATTACHMENT) && !cni_is_ifname(c->at.ifname))
        name_variable(bad, "CNI_IFNAME");
    if (bad[0])
        return cni_fail(&c->error, CNI_BAD_ENV, "missing or invalid in the environment: %s", bad);
    return CNI_OK;
}

/* Return: the whole standard input, the caller's to free, and its length; NULL and errno. */
static char *read_stdin(size_t *ret_len)
{
    char *text = malloc(CONF_MAX + 1);
    size_t len = 0;

    while (text) {
        ssize_t n = read(STDIN_FILENO, text + len, CONF_MAX + 1 - len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n == 0) {
            *ret_len = len;
            return text;
        }
        if (n > 0)
            len += (size_t)n;
        if (n < 0 || len > CONF_MAX) {
            errno = n < 0 ? errno : EFBIG;
            break;
        }
    }
    free(text);
    return NULL;
}

static const char *known_version(const char *text)
{
    for (size_t i = 0; text && i < VERSION_CNT; i++)
        if (strcmp(versions[i], text) == 0)
            return versions[i];
    return NULL;
}

/* Whatever else is wrong, the answer is in the version that was asked for. */
static enum cni_code read_conf(struct cni_call *c)
{
    json_error_t at;
    size_t len = 0;

    char *text = read_stdin(&len);
    if (!text)
        return cni_fail(&c->error, CNI_IO, "cannot read the configuration: %s", strerror(errno));
    c->conf = json_loadb(text, len, JSON_REJECT_DUPLICATES, &at);
    free(text);
    if (!c->conf)
        return cni_fail(&c->error, CNI_BAD_JSON, "the configuration is no JSON: line %d: %s",
                        at.line, at.text);
    if (!json_is_object(c->conf))
        return cni_fail(&c->error, CNI_BAD_JSON, "the configuration is no JSON object");
    const char *asked = json_string_value(json_object_get(c->conf, "cniVersion"));
    c->version = known_version(asked) ? known_version(asked) : VERSION_OF;
    return CNI_OK;
}

static enum cni_code check_conf(struct cni_call *c, unsigned needs)
{
    const char *asked = json_string_value(json_object_get(c->conf, "cniVersion"));

    if (!known_version(asked))
        return cni_fail(&c->error, CNI_BAD_VERSION,
                        "cniVersion %.32s is none of 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0",
                        asked ? asked : "(none)");
    c->at.network = json_string_value(json_object_get(c->conf, "name"));
    if (!cni_is_word(c->at.network))
        return cni_fail(&c->error, CNI_BAD_CONF, "\"name\" is missing, or no name");
    if ((needs & NEED_RESULT) && !json_is_object(json_object_get(c->conf, "prevResult")))
        return cni_fail(&c->error, CNI_BAD_CONF,
                        "no \"prevResult\": this plugin makes no interface, it goes behind one "
                        "that does");
    return CNI_OK;
}

static void print_error(const struct cni_call *c)
{
    json_t *object = json_pack("{s:s, s:i, s:s}", "cniVersion", c->version, "code",
                               (int)c->error.code, "msg", c->error.msg);

    if (!object) /* what it says is no UTF-8 */
        object = json_pack("{s:s, s:i, s:s}", "cniVersion", c->version, "code", (int)c->error.code,
                           "msg", "see standard error");
    fprintf(stderr, "tcpcrypt-ns: %s\n", c->error.msg);
    cni_print(object);
    json_decref(object);
}

int cni_main(int argc, char **argv)
{
    while (cli_next(cli_verb_find("cni"), argc, argv) != -1)
        ;
    return cni_run();
}

bool cni_is_name(const char *argv0)
{
    const char *slash = argv0 ? strrchr(argv0, '/') : NULL;

    return argv0 && strcmp(slash ? slash + 1 : argv0, CNI_PROGRAM) == 0;
}

int cni_run(void)
{
    struct cni_call c = {.command = getenv("CNI_COMMAND"), .version = VERSION_OF};
    const struct command *command = find_command(c.command);

    fds_fill_stdio();
    enum cni_code code = read_env(&c, command);
    if (!code && command->needs)
        code = read_conf(&c);
    if (!code && command->needs)
        code = check_conf(&c, command->needs);
    if (!code)
        code = command->run(&c);
    if (code)
        print_error(&c);
    json_decref(c.conf);
    return code ? 1 : 0;
}
