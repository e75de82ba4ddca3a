/* SPDX-License-Identifier: BSD-3-Clause
 * The verb check: the preflight and doctor of a namespace.
 */
#include "ctl/cli/verbs.h"

#include <errno.h>
#include <getopt.h>
#include <string.h>
#include <unistd.h>

#include "ctl/check/check.h"
#include "ctl/check/check_peer.h"
#include "ctl/check/check_self.h"
#include "ctl/cli/attach.h"
#include "ctl/cli/cli.h"
#include "ctl/net/netns.h"

static int preflight(struct check *c)
{
    int err = check_doctor(c);

    if (err)
        die(cli_exit_code(err), "cannot enter namespace \"%s\": %s", c->netns, strerror(-err));
    return check_finish(c, NULL);
}

static int peer(struct check *c, const struct cli_verb *verb, const char *target)
{
    int code = check_peer(c, target);

    if (code == -EINVAL)
        cli_usage(verb, "\"%s\" is none of HOST:PORT, [ADDRESS]:PORT, http://HOST:PORT/", target);
    return code;
}

int check_main(int argc, char **argv)
{
    const struct cli_verb *verb = cli_verb_find("check");
    struct check c = {.netns = "self"};
    const char *target = NULL;
    bool is_self = false;
    int id;

    while ((id = cli_next(verb, argc, argv)) != -1) {
        switch (id) {
        case OPT_NETNS:
            c.netns = optarg;
            break;
        case OPT_UPLINK:
            attach_add_uplink(verb, optarg, &c.named);
            break;
        case OPT_SELF:
            is_self = true;
            break;
        case OPT_PEER:
            target = optarg;
            break;
        case OPT_JSON:
            c.is_json = true;
            break;
        }
    }
    if (is_self && (target || c.named.cnt > 0 || strcmp(c.netns, "self") != 0))
        cli_usage(verb, "--self makes its own namespaces; it goes with --json alone");
    if (is_self)
        return check_self(&c);
    c.netns_fd = netns_open(c.netns);
    if (c.netns_fd < 0)
        die(cli_exit_code(c.netns_fd), "namespace \"%s\": %s", c.netns, netns_strerror(c.netns_fd));
    int code = target ? peer(&c, verb, target) : preflight(&c);
    close(c.netns_fd);
    return code;
}
