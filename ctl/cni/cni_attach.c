/* SPDX-License-Identifier: BSD-3-Clause
 * The CNI plugin's commands about attachments: ADD, DEL, CHECK and GC.
 */
#include "ctl/cni/cni_call.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/siphash.h"
#include "ctl/cli/cli.h"
#include "ctl/cli/verbs.h"
#include "ctl/client/ctlclient.h"
#include "ctl/cni/cni_conf.h"
#include "ctl/daemon/ns1.h"
#include "ctl/net/netns.h"

#define PATIENCE_MS  2000 /* with a daemon, see await_uplink() */
#define PAUSE_MS     50
#define OWN_ARGS_CNT 4 /* of make_args(); the others are the configuration's */
#define GC_KEY       "cni.dev/valid-attachments"

/* --- Running a verb ------------------------------------------------------------------ */

/* What the verb says to people: the first line, without the program's and its own name. */
static void read_words(int fd, char ret[CNI_TEXT_LEN])
{
    static const char *const name = "tcpcrypt-ns";
    size_t len = 0;
    char more[256];

    for (;;) {
        ssize_t n = len + 1 < CNI_TEXT_LEN ? read(fd, ret + len, CNI_TEXT_LEN - 1 - len)
                                           : read(fd, more, sizeof(more));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        if (len + 1 < CNI_TEXT_LEN)
            len += (size_t)n;
    }
    ret[len] = '\0';
    ret[strcspn(ret, "\n")] = '\0';
    const char *words = strstr(ret, ": ");
    if (words && strncmp(ret, name, strlen(name)) == 0)
        memmove(ret, words + 2, strlen(words + 2) + 1);
}

/* In a child: verbs exit, enter namespaces and fork daemons. Return: the exit code; -1. */
static int run_verb(int (*verb)(int argc, char **argv), struct cni_args *a,
                    char ret_words[CNI_TEXT_LEN])
{
    int pipe_fds[2], status = 0;

    ret_words[0] = '\0';
    if (pipe(pipe_fds) < 0)
        return -1;
    pid_t pid = fork();
    if (pid == 0) {
        dup2(pipe_fds[1], STDOUT_FILENO);
        dup2(pipe_fds[1], STDERR_FILENO);
        close(pipe_fds[0]);
        close(pipe_fds[1]);
        optind = 0; /* of this call's own options, if it came as a verb */
        exit(verb(a->argc, a->argv));
    }
    close(pipe_fds[1]);
    if (pid > 0) {
        read_words(pipe_fds[0], ret_words);
        while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
            ;
    }
    close(pipe_fds[0]);
    return pid > 0 && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* --- Asking the daemon ------------------------------------------------------------------- */

/* Return: 0 when the interface is an uplink; -ENODEV; -errno without an answer. */
static int ask_for_uplink(int netns_fd, const char *ifname)
{
    struct ctlclient client = CTLCLIENT_NONE;
    char error[CTLCLIENT_ERROR_LEN];
    json_t *reply = NULL, *uplink;
    size_t i;

    int err = ctlclient_init(&client, netns_fd);
    if (err)
        return err;
    ctlclient_set_patience(&client, 1);
    err = ctlclient_call(&client, NS1_INTERFACE ".GetStatus", NULL, false);
    if (!err)
        err = ctlclient_next(&client, &reply, NULL, error);
    ctlclient_done(&client);
    if (err)
        return err;
    err = -ENODEV;
    json_array_foreach(json_object_get(reply, "uplinks"), i,
                       uplink) if (strcmp(json_string_value(uplink), ifname) == 0) err = 0;
    json_decref(reply);
    return err;
}

/* A worker that has just died is replaced, and an interface that has just come is taken;
 * a supervisor that died is gone. Return: as above; -ESRCH when it is. */
static int await_uplink(int netns_fd, const struct cni_state *s, const char *ifname)
{
    const struct timespec pause = {.tv_nsec = PAUSE_MS * 1000000L};
    int64_t until = clock_ms() + PATIENCE_MS;

    while (cni_state_lives(s)) {
        int err = ask_for_uplink(netns_fd, ifname);
        if (!err || clock_ms() >= until)
            return err;
        nanosleep(&pause, NULL);
    }
    return -ESRCH;
}

/* Does the daemon carry what the attachment is about? Return: CNI_OK; otherwise. */
static enum cni_code verify(struct cni_call *c, int netns_fd, const struct cni_state *s,
                            enum cni_code otherwise)
{
    int err = await_uplink(netns_fd, s, c->at.ifname);

    if (err == -ENODEV)
        return cni_fail(&c->error, otherwise, "%s is no uplink of the container's daemon",
                        c->at.ifname);
    if (err)
        return cni_fail(&c->error, otherwise, "the container's daemon does not answer: %s",
                        strerror(-err));
    return CNI_OK;
}

/* --- ADD ----------------------------------------------------------------------------- */

/* Return: a descriptor; -1 and the error. */
static int open_netns(struct cni_call *c)
{
    int fd = netns_open(c->netns);

    if (fd == -ENOENT)
        cni_fail(&c->error, CNI_NO_CONTAINER, "there is no namespace %s", c->netns);
    else if (fd < 0)
        cni_fail(&c->error, CNI_BAD_ENV, "CNI_NETNS: %s: %s", c->netns, netns_strerror(fd));
    return fd < 0 ? -1 : fd;
}

static uint64_t hash_args(const struct cni_args *a)
{
    static const struct siphash_key key = {0, 0}; /* nobody gains by a collision */
    uint64_t hash = 0;

    for (int i = OWN_ARGS_CNT; i < a->argc; i++)
        hash = hash * 31 + siphash(&key, a->argv[i], strlen(a->argv[i]));
    return hash;
}

/* Which process is the namespace's daemon? It was there a moment ago. */
static int note_daemon(int netns_fd, struct cni_state *s)
{
    struct ctlclient client = CTLCLIENT_NONE;

    int err = ctlclient_init(&client, netns_fd);
    if (err)
        return err;
    s->pid = ctlclient_server_pid(&client);
    ctlclient_done(&client);
    return s->pid > 0 ? 0 : -ESRCH;
}

static enum cni_code detach(struct cni_call *c, const char *netns)
{
    char words[CNI_TEXT_LEN];
    struct cni_args a = {.argc = 0};
    enum cni_code code = CNI_OK;

    if (cni_args_add(&a, "down") || cni_args_add(&a, "--netns") || cni_args_add(&a, netns))
        code = cni_fail(&c->error, CNI_CANNOT_DETACH, "out of memory");
    else if (run_verb(down_main, &a, words) != 0)
        code = cni_fail(&c->error, CNI_CANNOT_DETACH, "%s",
                        words[0] ? words : "detaching ended badly");
    cni_args_done(&a);
    return code;
}

/* A container in several networks has one daemon; they must want the same of it. */
static enum cni_code share(struct cni_call *c, struct cni_state *s)
{
    struct cni_state other;

    if (!cni_state_find(&c->at, s->netns, &other) || !cni_state_lives(&other))
        return cni_fail(&c->error, CNI_CANNOT_ATTACH,
                        "the container has a tcpcrypt-ns that is not of this plugin");
    if (other.options != s->options)
        return cni_fail(&c->error, CNI_CANNOT_ATTACH,
                        "another network of the container has other options for its tcpcrypt-ns");
    s->pid = other.pid;
    return CNI_OK;
}

static enum cni_code start(struct cni_call *c, int netns_fd, struct cni_args *a,
                           struct cni_state *s)
{
    char words[CNI_TEXT_LEN];
    struct ctlclient client = CTLCLIENT_NONE;

    if (ctlclient_init(&client, netns_fd) == 0) {
        ctlclient_done(&client);
        return share(c, s);
    }
    int status = run_verb(up_main, a, words);
    if (status == EXIT_USAGE)
        return cni_fail(&c->error, CNI_BAD_CONF, "%s", words);
    if (status != 0)
        return cni_fail(&c->error, CNI_CANNOT_ATTACH, "%s",
                        words[0] ? words : "attaching ended badly");
    return CNI_OK;
}

/* Return: CNI_OK when the daemon does its work and is noted. */
static enum cni_code note(struct cni_call *c, int netns_fd, struct cni_state *s)
{
    int err = s->pid ? 0 : note_daemon(netns_fd, s);
    if (err)
        return cni_fail(&c->error, CNI_CANNOT_ATTACH, "the container's daemon does not answer: %s",
                        strerror(-err));
    enum cni_code code = verify(c, netns_fd, s, CNI_CANNOT_ATTACH);
    if (code)
        return code;
    err = cni_state_write(&c->at, s);
    if (err)
        return cni_fail(&c->error, CNI_IO, "cannot note the attachment: %s", strerror(-err));
    return CNI_OK;
}

static enum cni_code attach(struct cni_call *c, int netns_fd, struct cni_args *a)
{
    struct cni_state s = {.options = hash_args(a)};

    int err = netns_inode(netns_fd, &s.netns);
    if (err)
        return cni_fail(&c->error, CNI_IO, "CNI_NETNS: %s", strerror(-err));
    enum cni_code code = start(c, netns_fd, a, &s);
    if (code)
        return code;
    code = note(c, netns_fd, &s);
    if (code && !cni_state_find(&c->at, s.netns, NULL)) {
        struct cni_error first = c->error;

        detach(c, c->netns);
        c->error = first;
    }
    return code;
}

/* The daemon ends with the path, should the engine forget to call DEL. */
static enum cni_code make_args(struct cni_call *c, struct cni_args *a)
{
    const char *const first[OWN_ARGS_CNT] = {"up", "--netns", c->netns, "--follow-netns"};

    for (size_t i = 0; i < OWN_ARGS_CNT; i++)
        if (cni_args_add(a, first[i]))
            return cni_fail(&c->error, CNI_CANNOT_ATTACH, "out of memory");
    return cni_conf_options(c->conf, a, &c->error);
}

enum cni_code cni_add(struct cni_call *c)
{
    json_t *result = json_object_get(c->conf, "prevResult");
    struct cni_args a = {.argc = 0};

    enum cni_code code = make_args(c, &a);
    int fd = code ? -1 : open_netns(c);
    if (fd >= 0) {
        attach(c, fd, &a);
        close(fd);
    }
    cni_args_done(&a);
    if (c->error.code)
        return c->error.code;
    json_object_set_new(result, "cniVersion", json_string(c->version));
    cni_print(result);
    return CNI_OK;
}

/* --- DEL and GC ------------------------------------------------------------------------ */

/* The daemon's own namespace is there as long as it is, whatever became of the path. */
static enum cni_code end_daemon(struct cni_call *c, const struct cni_state *s)
{
    char path[64];

    snprintf(path, sizeof(path), "/proc/%jd/ns/net", (intmax_t)s->pid);
    return detach(c, path);
}

/* A daemon that was killed has left TCP closed; if there is a namespace still, and it
 * is the same, it is opened. */
static enum cni_code clear_leftovers(struct cni_call *c, const struct cni_state *s)
{
    enum cni_code code = CNI_OK;
    ino_t inode;

    int fd = c->netns ? netns_open(c->netns) : -ENOENT;
    if (fd < 0)
        return CNI_OK;
    if (netns_inode(fd, &inode) == 0 && inode == s->netns)
        code = detach(c, c->netns);
    close(fd);
    return code;
}

static enum cni_code end_attachment(struct cni_call *c, const struct cni_attachment *at)
{
    enum cni_code code = CNI_OK;
    struct cni_state s;

    if (cni_state_read(at, &s) < 0)
        return CNI_OK; /* never attached, or detached before */
    if (!cni_state_find(at, s.netns, NULL))
        code = cni_state_lives(&s) ? end_daemon(c, &s) : clear_leftovers(c, &s);
    if (!code)
        cni_state_remove(at);
    return code;
}

enum cni_code cni_del(struct cni_call *c)
{
    return end_attachment(c, &c->at);
}

static bool is_valid(const json_t *list, const struct cni_attachment *at)
{
    const json_t *one;
    size_t i;

    json_array_foreach(list, i, one)
    {
        const char *id = json_string_value(json_object_get(one, "containerID"));
        const char *ifname = json_string_value(json_object_get(one, "ifname"));

        if (id && ifname && strcmp(id, at->container) == 0 && strcmp(ifname, at->ifname) == 0)
            return true;
    }
    return false;
}

static int collect(const struct cni_attachment *at, void *arg)
{
    struct cni_call *c = arg;

    if (is_valid(json_object_get(c->conf, GC_KEY), at))
        return 0;
    return (int)end_attachment(c, at);
}

enum cni_code cni_gc(struct cni_call *c)
{
    if (!json_is_array(json_object_get(c->conf, GC_KEY)))
        return cni_fail(&c->error, CNI_BAD_CONF, "\"" GC_KEY "\" is no list");
    int err = cni_state_each(c->at.network, collect, c);
    if (err < 0)
        return cni_fail(&c->error, CNI_IO, "cannot list attachments: %s", strerror(-err));
    return c->error.code;
}

/* --- CHECK ------------------------------------------------------------------------------- */

enum cni_code cni_check(struct cni_call *c)
{
    struct cni_state s;
    ino_t inode = 0;

    int fd = open_netns(c);
    if (fd < 0)
        return c->error.code;
    if (cni_state_read(&c->at, &s) < 0)
        cni_fail(&c->error, CNI_NOT_ATTACHED, "the container was not attached");
    else if (netns_inode(fd, &inode) < 0 || inode != s.netns)
        cni_fail(&c->error, CNI_NOT_ATTACHED, "%s is another namespace now", c->netns);
    else
        verify(c, fd, &s, CNI_NOT_ATTACHED);
    close(fd);
    return c->error.code;
}
