/* SPDX-License-Identifier: BSD-3-Clause
 * Connections that a command leaves behind when it ends.
 */
#include "ctl/exec/exec_drain.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ctl/client/ctlclient.h"
#include "ctl/net/netns.h"

/* Local and remote port say enough about which connection it is: a mistake only
 * makes us wait shorter or longer. */
struct owned {
    uint32_t *ports; /* local << 16 | remote */
    size_t cnt, cap;
};

static int owned_add(struct owned *o, uint32_t ports)
{
    if (o->cnt == o->cap) {
        size_t cap = o->cap ? o->cap * 2 : 64;
        uint32_t *p = reallocarray(o->ports, cap, sizeof(*p));
        if (!p)
            return -ENOMEM;
        o->ports = p;
        o->cap = cap;
    }
    o->ports[o->cnt++] = ports;
    return 0;
}

static bool owned_has(const struct owned *o, uint32_t ports)
{
    for (size_t i = 0; i < o->cnt; i++) {
        if (o->ports[i] == ports)
            return true;
    }
    return false;
}

/* Adds the sockets of a table that a process still has open: those with an inode. */
static int owned_load(struct owned *o, pid_t inside, const char *table)
{
    char path[64], line[512];
    int err = 0;

    snprintf(path, sizeof(path), "/proc/%d/net/%s", (int)inside, table);
    FILE *f = fopen(path, "re");
    if (!f)
        return errno == ENOENT ? 0 : -errno;
    while (!err && fgets(line, sizeof(line), f)) {
        unsigned local, remote;
        unsigned long inode;
        if (sscanf(line, "%*u: %*32[0-9A-F]:%x %*32[0-9A-F]:%x %*x %*s %*s %*s %*u %*u %lu", &local,
                   &remote, &inode) == 3 &&
            inode != 0)
            err = owned_add(o, local << 16 | (remote & 0xffff));
    }
    fclose(f);
    return err;
}

static uint32_t int_of(const json_t *object, const char *key)
{
    return (uint32_t)json_integer_value(json_object_get(object, key));
}

static bool is_pending(const json_t *session, const struct owned *owned)
{
    const char *state = json_string_value(json_object_get(session, "state"));
    uint32_t ports = int_of(session, "local_port") << 16 | int_of(session, "peer_port");

    return state && strcmp(state, "closing") != 0 && !owned_has(owned, ports);
}

static int count_pending(struct ctlclient *c, const struct owned *owned, size_t *cnt)
{
    char error[CTLCLIENT_ERROR_LEN];
    bool more = true;

    int err = ctlclient_call(c, "org.tcpcrypt.Ns1.ListSessions", NULL, true);
    while (!err && more) {
        json_t *params = NULL;
        err = ctlclient_next(c, &params, &more, error);
        if (err)
            break;
        const json_t *session = json_object_get(params, "session");
        if (session && is_pending(session, owned))
            (*cnt)++;
        json_decref(params);
    }
    return err;
}

/* ctlclient_init() may move us into the namespace. */
static int connect_and_return(struct ctlclient *ret, int netns_fd)
{
    int home_fd = netns_open("self");
    if (home_fd < 0)
        return home_fd;
    int err = ctlclient_init(ret, netns_fd);
    int back = netns_enter(home_fd);
    close(home_fd);
    return err ? err : back;
}

int exec_drain_pending(int netns_fd, pid_t inside, size_t *ret_cnt)
{
    struct ctlclient client = CTLCLIENT_NONE;
    struct owned owned = {0};
    size_t cnt = 0;

    int err = owned_load(&owned, inside, "tcp");
    if (!err)
        err = owned_load(&owned, inside, "tcp6");
    if (!err)
        err = connect_and_return(&client, netns_fd);
    if (!err)
        err = count_pending(&client, &owned, &cnt);
    ctlclient_done(&client);
    free(owned.ports);
    if (!err)
        *ret_cnt = cnt;
    return err;
}
