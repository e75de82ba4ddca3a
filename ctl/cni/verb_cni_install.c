/* SPDX-License-Identifier: BSD-3-Clause
 * The verb cni-install: puts the CNI plugin on a machine, and sees to it that it stays there.
 */
#include "ctl/cli/verbs.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "ctl/cli/cli.h"
#include "ctl/cni/cni.h"
#include "ctl/cni/cni_conf.h"
#include "ctl/cni/cni_install.h"

#define LOOK_S 5 /* between two looks at the network's conflist */

struct install {
    const struct cli_verb *verb;
    struct cni_install in;
    bool foreground;
    bool remove;
};

static json_t *read_line(const struct cli_verb *verb, const char *text)
{
    struct cni_args args = {.argc = 0};
    struct cni_error e;
    json_error_t at;

    json_t *line = json_loads(text, JSON_REJECT_DUPLICATES, &at);
    bool is_object = json_is_object(line);
    enum cni_code code = is_object ? cni_conf_options(line, &args, &e) : CNI_OK;
    cni_args_done(&args);
    if (is_object && !code)
        return line;
    json_decref(line);
    if (!is_object)
        cli_usage(verb, "\"%s\" is no JSON object", text);
    cli_usage(verb, "%s", e.msg);
}

static const char *read_path(const struct cli_verb *verb, const char *text)
{
    if (text[0] != '/' || strchr(text, '\''))
        cli_usage(verb, "\"%s\" is no absolute path without quotes", text);
    return text;
}

static void read_option(struct install *i, int id)
{
    switch (id) {
    case OPT_BIN_DIR:
        i->in.bin_dir = read_path(i->verb, optarg);
        break;
    case OPT_CONF_DIR:
        i->in.conf_dir = read_path(i->verb, optarg);
        break;
    case OPT_LIB_DIR:
        i->in.lib_dir = read_path(i->verb, optarg);
        break;
    case OPT_ROOT:
        i->in.root = read_path(i->verb, optarg);
        break;
    case OPT_OPTIONS:
        json_decref(i->in.line);
        i->in.line = read_line(i->verb, optarg);
        break;
    case OPT_FOREGROUND:
        i->foreground = true;
        break;
    case OPT_REMOVE:
        i->remove = true;
        break;
    }
}

/* A network's own installer writes its conflist when it comes, and again when it is
 * updated; then the line is put there again. */
static int stay(struct install *i)
{
    const struct timespec pause = {.tv_sec = LOOK_S};
    char text[CNI_INSTALL_ERROR_LEN], last[CNI_INSTALL_ERROR_LEN] = "";
    bool changed = false;
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigprocmask(SIG_BLOCK, &set, NULL);
    do {
        int err = cni_install_line(&i->in, &changed, text);
        if (err && strcmp(text, last) != 0)
            log_warn("%s", text);
        if (!err && changed)
            log_info("%s%s: the first network has the plugin now", i->in.root, i->in.conf_dir);
        snprintf(last, sizeof(last), "%s", err ? text : "");
    } while (sigtimedwait(&set, NULL, &pause) < 0);
    return EXIT_OK;
}

static int install(struct install *i)
{
    char text[CNI_INSTALL_ERROR_LEN];
    bool changed;

    int err = cni_install_files(&i->in, text);
    if (!err && i->foreground)
        return stay(i);
    if (!err)
        err = cni_install_line(&i->in, &changed, text);
    if (err)
        die(cli_exit_code(err), "%s", text);
    return EXIT_OK;
}

int cni_install_main(int argc, char **argv)
{
    struct install i = {
        .verb = cli_verb_find("cni-install"),
        .in = {.root = "",
               .bin_dir = "/opt/cni/bin",
               .conf_dir = "/etc/cni/net.d",
               .lib_dir = "/opt/tcpcrypt-ns",
               .line = json_object()},
    };
    char text[CNI_INSTALL_ERROR_LEN];
    int id;

    log_set_level(LOG_LEVEL_INFO);
    while ((id = cli_next(i.verb, argc, argv)) != -1)
        read_option(&i, id);
    if (i.remove && i.foreground)
        cli_usage(i.verb, "--remove and --foreground exclude each other");
    json_object_set_new(i.in.line, "type", json_string(CNI_PROGRAM));
    int err = i.remove ? cni_install_remove(&i.in, text) : 0;
    if (err)
        die(cli_exit_code(err), "%s", text);
    int code = i.remove ? EXIT_OK : install(&i);
    json_decref(i.in.line);
    return code;
}
