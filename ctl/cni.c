/* SPDX-License-Identifier: BSD-3-Clause
 * The program as a chained CNI plugin.
 */
#include "ctl/cni.h"

#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/siphash.h"
#include "ctl/cli.h"
#include "ctl/cni_conf.h"
#include "ctl/cni_error.h"
#include "ctl/cni_state.h"
#include "ctl/ctlclient.h"
#include "ctl/fds.h"
#include "ctl/netns.h"
#include "ctl/verbs.h"

#define CONF_MAX       (1 << 20)
#define CHECK_MS       5000 /* for a daemon that does not answer at once */
#define CHECK_PAUSE_MS 50
#define GC_KEY         "cni.dev/valid-attachments"
#define OWN_ARGS_CNT   4       /* of make_args(); the others are the configuration's */
#define VERSION_OF     "1.0.0" /* of what is said before a version is known */

static const char *const versions[] = {"0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"};
#define VERSION_CNT (sizeof(versions) / sizeof(versions[0]))

/* One call. */
struct call {
    const char *command;
    const char *netns; /* NULL: not given */
    struct cni_attachment at;
    json_t *conf;
    const char *version;
    struct cni_error error;
};

enum cni_code cni_fail(struct cni_error *e, enum cni_code code, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(e->msg, sizeof(e->msg), fmt, ap);
    va_end(ap);
    return e->code = code;
}

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

/* --- ADD ----------------------------------------------------------------------------- */

/* Return: a descriptor; -1 and the error. */
static int open_netns(struct call *c)
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

static enum cni_code detach(struct call *c, const char *netns)
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
static enum cni_code share(struct call *c, struct cni_state *s)
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

static enum cni_code start(struct call *c, int netns_fd, struct cni_args *a, struct cni_state *s)
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
    int err = note_daemon(netns_fd, s);
    if (err)
        return cni_fail(&c->error, CNI_CANNOT_ATTACH, "the daemon does not answer: %s",
                        strerror(-err));
    return CNI_OK;
}

static enum cni_code attach(struct call *c, int netns_fd, struct cni_args *a)
{
    struct cni_state s = {.options = hash_args(a)};

    int err = netns_inode(netns_fd, &s.netns);
    if (err)
        return cni_fail(&c->error, CNI_IO, "CNI_NETNS: %s", strerror(-err));
    enum cni_code code = start(c, netns_fd, a, &s);
    if (code)
        return code;
    err = cni_state_write(&c->at, &s);
    if (!err)
        return CNI_OK;
    if (!cni_state_find(&c->at, s.netns, NULL))
        detach(c, c->netns);
    return cni_fail(&c->error, CNI_IO, "cannot note the attachment: %s", strerror(-err));
}

/* The daemon ends with the path, should the engine forget to call DEL. */
static enum cni_code make_args(struct call *c, struct cni_args *a)
{
    const char *const first[OWN_ARGS_CNT] = {"up", "--netns", c->netns, "--follow-netns"};

    for (size_t i = 0; i < OWN_ARGS_CNT; i++)
        if (cni_args_add(a, first[i]))
            return cni_fail(&c->error, CNI_CANNOT_ATTACH, "out of memory");
    return cni_conf_options(c->conf, a, &c->error);
}

static void print(json_t *object)
{
    json_dumpf(object, stdout, JSON_INDENT(2));
    putchar('\n');
}

static enum cni_code add(struct call *c)
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
    print(result);
    return CNI_OK;
}

/* --- DEL and GC ------------------------------------------------------------------------ */

/* The daemon's own namespace is there as long as it is, whatever became of the path. */
static enum cni_code end_daemon(struct call *c, const struct cni_state *s)
{
    char path[64];

    snprintf(path, sizeof(path), "/proc/%jd/ns/net", (intmax_t)s->pid);
    return detach(c, path);
}

/* A daemon that was killed has left TCP closed; if there is a namespace still, and it
 * is the same, it is opened. */
static enum cni_code clear_leftovers(struct call *c, const struct cni_state *s)
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

static enum cni_code end_attachment(struct call *c, const struct cni_attachment *at)
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

static enum cni_code del(struct call *c)
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
    struct call *c = arg;

    if (is_valid(json_object_get(c->conf, GC_KEY), at))
        return 0;
    return (int)end_attachment(c, at);
}

static enum cni_code gc(struct call *c)
{
    if (!json_is_array(json_object_get(c->conf, GC_KEY)))
        return cni_fail(&c->error, CNI_BAD_CONF, "\"" GC_KEY "\" is no list");
    int err = cni_state_each(c->at.network, collect, c);
    if (err < 0)
        return cni_fail(&c->error, CNI_IO, "cannot list attachments: %s", strerror(-err));
    return c->error.code;
}

/* --- CHECK and STATUS --------------------------------------------------------------------- */

/* A worker that has just died is replaced; a supervisor is not. */
static bool answers(int netns_fd, const struct cni_state *s)
{
    const struct timespec pause = {.tv_nsec = CHECK_PAUSE_MS * 1000000L};
    int64_t until = clock_ms() + CHECK_MS;

    while (cni_state_lives(s)) {
        if (ctlclient_await(netns_fd, 0) == 0)
            return true;
        if (clock_ms() >= until)
            return false;
        nanosleep(&pause, NULL);
    }
    return false;
}

static enum cni_code check(struct call *c)
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
    else if (!answers(fd, &s))
        cni_fail(&c->error, CNI_NOT_ATTACHED, "the container's daemon does not answer");
    close(fd);
    return c->error.code;
}

static enum cni_code status(struct call *c)
{
    if (access("/dev/net/tun", R_OK | W_OK) < 0)
        return cni_fail(&c->error, CNI_UNAVAILABLE, "/dev/net/tun: %s", strerror(errno));
    return CNI_OK;
}

/* --- VERSION -------------------------------------------------------------------------------- */

static enum cni_code version(struct call *c)
{
    json_t *all = json_array();

    for (size_t i = 0; i < VERSION_CNT; i++)
        json_array_append_new(all, json_string(versions[i]));
    json_t *reply = json_pack("{s:s, s:o}", "cniVersion", c->version, "supportedVersions", all);
    print(reply);
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
    enum cni_code (*run)(struct call *c);
    unsigned needs;
} commands[] = {
    {"ADD", add, NEED_CONF | NEED_ATTACHMENT | NEED_NETNS | NEED_RESULT},
    {"DEL", del, NEED_CONF | NEED_ATTACHMENT},
    {"CHECK", check, NEED_CONF | NEED_ATTACHMENT | NEED_NETNS | NEED_RESULT},
    {"GC", gc, NEED_CONF},
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

static enum cni_code read_env(struct call *c, const struct command *command)
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
static enum cni_code read_conf(struct call *c)
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

static enum cni_code check_conf(struct call *c, unsigned needs)
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

static void print_error(const struct call *c)
{
    json_t *object = json_pack("{s:s, s:i, s:s}", "cniVersion", c->version, "code",
                               (int)c->error.code, "msg", c->error.msg);

    if (!object) /* what it says is no UTF-8 */
        object = json_pack("{s:s, s:i, s:s}", "cniVersion", c->version, "code", (int)c->error.code,
                           "msg", "see standard error");
    fprintf(stderr, "tcpcrypt-ns: %s\n", c->error.msg);
    print(object);
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
    struct call c = {.command = getenv("CNI_COMMAND"), .version = VERSION_OF};
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
