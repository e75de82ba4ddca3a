/* SPDX-License-Identifier: BSD-3-Clause
 * The TCP connections of a namespace as people want to see them.
 *
 * How it works: first the kernel's sockets are listed, then the daemon's connections, each
 * of which finds its socket by the tuple. A socket that none of them claimed is one that
 * the kernel keeps for itself, if a second look still finds it: else it may be one of the
 * daemon's that ended between.
 */
#include "ctl/cli/connections.h"

#include <errno.h>
#include <ifaddrs.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ctl/conf/ruletext.h"
#include "ctl/daemon/ns1.h"
#include "ctl/net/bypass.h"
#include "ctl/net/netlink.h"
#include "ctl/net/netns.h"
#include "ctl/net/owners.h"
#include "ctl/net/sockdiag.h"

struct sockets {
    struct sockdiag_list list; /* by tuple */
    bool *claimed;             /* one for each */
    struct owners owners;
};

/* --- The kernel's sockets --------------------------------------------------- */

static bool take_all(const struct tuple *tuple, const void *arg)
{
    return true;
}

static int compare_tuple(const void *a, const void *b)
{
    const struct sockdiag_socket *x = a, *y = b;

    return memcmp(&x->tuple, &y->tuple, sizeof(x->tuple));
}

/* Return: 0 and a list by tuple; -errno. */
static int load_sockets(struct sockdiag_list *ret)
{
    struct nl_sock *diag = NULL;
    int err = netlink_open(NETLINK_SOCK_DIAG, &diag);

    if (err)
        return err;
    err = sockdiag_load_bytes(diag, take_all, NULL, ret);
    nl_socket_free(diag);
    if (!err && ret->cnt > 0)
        qsort(ret->sockets, ret->cnt, sizeof(ret->sockets[0]), compare_tuple);
    return err;
}

static const struct sockdiag_socket *find_socket(const struct sockdiag_list *l,
                                                 const struct tuple *tuple)
{
    struct sockdiag_socket key = {.tuple = *tuple};

    return l->cnt > 0 ? bsearch(&key, l->sockets, l->cnt, sizeof(key), compare_tuple) : NULL;
}

static int load_owners(struct sockets *s)
{
    uint32_t *inodes = calloc(s->list.cnt + 1, sizeof(*inodes));

    if (!inodes)
        return -ENOMEM;
    for (size_t i = 0; i < s->list.cnt; i++)
        inodes[i] = s->list.sockets[i].inode;
    int err = owners_load(inodes, s->list.cnt, &s->owners);
    free(inodes);
    return err;
}

/* Without the right to look there are no sockets, and no processes to tell. */
static void sockets_load(struct sockets *s, const struct connections *c)
{
    *s = (struct sockets){.claimed = NULL};
    int fd = netns_open(c->query->netns);
    int err = fd < 0 ? fd : netns_enter(fd);
    if (fd >= 0)
        close(fd);
    if (!err)
        err = load_sockets(&s->list);
    if (!err)
        err = load_owners(s);
    if (err && c->all)
        die(cli_exit_code(err), "cannot list the sockets of namespace \"%s\": %s", c->query->netns,
            strerror(-err));
    s->claimed = calloc(s->list.cnt + 1, sizeof(*s->claimed));
    if (!s->claimed)
        die(EXIT_NEGATIVE, "out of memory");
}

static void sockets_done(struct sockets *s)
{
    sockdiag_done(&s->list);
    owners_done(&s->owners);
    free(s->claimed);
}

/* --- The daemon's connections ----------------------------------------------- */

static void add_owner(const struct sockets *k, const struct sockdiag_socket *socket, json_t *s)
{
    const struct owner *w = owners_find(&k->owners, socket->inode);

    if (!w)
        return;
    json_object_set_new(s, "pid", json_integer(w->pid));
    /* A name is any bytes; one that is no UTF-8 is left out. */
    json_object_set_new(s, "process", json_string(w->name));
}

/* The socket is the program's; the daemon's connection has the same tuple. */
static void claim(struct sockets *k, json_t *s)
{
    struct tuple tuple;
    const struct sockdiag_socket *socket =
        session_tuple(s, &tuple) ? find_socket(&k->list, &tuple) : NULL;

    if (!socket)
        return;
    k->claimed[socket - k->list.sockets] = true;
    add_owner(k, socket, s);
}

static void list_daemons(const struct connections *c, struct sockets *k, connections_fn fn,
                         void *arg)
{
    bool continues = true;

    query_call(c->query, NS1_INTERFACE ".ListSessions", json_pack("{s:b}", "ended", c->ended),
               true);
    for (;;) {
        json_t *reply = query_next(c->query, &continues);
        json_t *s = json_object_get(reply, "session");
        if (s && !c->ended)
            claim(k, s);
        if (s && session_filter_has(c->filter, s))
            fn(s, arg);
        json_decref(reply);
        if (!continues)
            return;
    }
}

/* --- Those that the kernel keeps -------------------------------------------- */

struct bypassing {
    struct bypass ports;
    struct policy_rule *rules; /* of the daemon, all of them */
    size_t rule_cnt;
    struct ifaddrs *own;
};

static bool is_loopback(const struct addr *a)
{
    return addr_is_v4(a) ? a->in6.s6_addr[12] == 127 : IN6_IS_ADDR_LOOPBACK(&a->in6);
}

static bool is_own(const struct ifaddrs *own, const struct addr *a)
{
    for (; own; own = own->ifa_next) {
        struct addr b;

        if (own->ifa_addr && own->ifa_addr->sa_family == AF_INET)
            b = addr_from_v4(&((const struct sockaddr_in *)(void *)own->ifa_addr)->sin_addr);
        else if (own->ifa_addr && own->ifa_addr->sa_family == AF_INET6)
            b = addr_from_v6(&((const struct sockaddr_in6 *)(void *)own->ifa_addr)->sin6_addr);
        else
            continue;
        if (addr_eq(a, &b))
            return true;
    }
    return false;
}

enum kernel_reason {
#define X(name, text) KERNEL_REASON_##name,
    KERNEL_REASON_LIST(X)
#undef X
};

static const char *const kernel_reason_names[] = {
#define X(name, text) text,
    KERNEL_REASON_LIST(X)
#undef X
};

/* Return: the number of the rule that bypasses the connection; 0: none does. */
static size_t bypassing_rule(const struct bypassing *b, const struct tuple *t)
{
    for (size_t i = 0; i < b->rule_cnt; i++)
        if (policy_rule_bypasses(&b->rules[i], t))
            return i + 1;
    return 0;
}

static enum kernel_reason kernel_reason(const struct bypassing *b, const struct tuple *t)
{
    if (is_loopback(&t->peer) || is_own(b->own, &t->peer))
        return KERNEL_REASON_LOOPBACK;
    if (IN6_IS_ADDR_LINKLOCAL(&t->peer.in6))
        return KERNEL_REASON_LINK_LOCAL;
    if (bypass_takes(&b->ports, t) || bypassing_rule(b, t))
        return KERNEL_REASON_BYPASS_RULE;
    return KERNEL_REASON_OTHER_INTERFACE;
}

static json_t *kernel_json(const struct bypassing *b, const struct sockdiag_socket *k)
{
    char local[ADDR_STR_LEN], peer[ADDR_STR_LEN];
    const struct tuple *t = &k->tuple;
    enum kernel_reason reason = kernel_reason(b, t);
    size_t rule = reason == KERNEL_REASON_BYPASS_RULE ? bypassing_rule(b, t) : 0;
    const char *name = rule && b->rules[rule - 1].name[0] ? b->rules[rule - 1].name : NULL;

    json_t *o = json_pack("{s:s, s:i, s:s, s:i, s:s, s:s, s:I, s:I, s:I, s:f, s:s}", "local",
                          addr_str(&t->local, local), "local_port", t->local_port, "peer",
                          addr_str(&t->peer, peer), "peer_port", t->peer_port, "state", "bypassed",
                          "reason", kernel_reason_names[reason], "tx_bytes",
                          (json_int_t)k->tx_bytes, "rx_bytes", (json_int_t)k->rx_bytes,
                          "tx_pending", (json_int_t)k->tx_pending, "started", 0.0, "end", "live");
    if (rule)
        json_object_set_new(o, "rule", json_integer((json_int_t)rule));
    if (name)
        json_object_set_new(o, "rule_name", json_string(name));
    return o;
}

/* Those that are over are left out: of the daemon's, too, sockets linger. */
static bool is_live(const struct sockdiag_socket *k)
{
    return k->state == TCP_ESTABLISHED || k->state == TCP_SYN_SENT || k->state == TCP_SYN_RECV ||
           k->state == TCP_CLOSE_WAIT;
}

static void load_rules(const struct connections *c, struct bypassing *ret)
{
    query_call(c->query, NS1_INTERFACE ".GetPolicy", NULL, false);
    json_t *policy = query_next(c->query, NULL);
    const json_t *rules = json_object_get(policy, "rules"), *rule;
    char err[RULETEXT_ERROR_LEN];
    size_t i;

    ret->rules = calloc(json_array_size(rules) + 1, sizeof(*ret->rules));
    if (!ret->rules)
        die(EXIT_NEGATIVE, "out of memory");
    json_array_foreach(rules, i, rule)
    {
        const char *text = json_string_value(json_object_get(rule, "text"));
        /* What a newer daemon writes may be no rule. */
        (void)ruletext_parse(text ? text : "", &ret->rules[ret->rule_cnt++], err);
    }
    json_decref(policy);
}

static void load_bypassing(const struct connections *c, struct bypassing *ret)
{
    *ret = (struct bypassing){.own = NULL};
    query_call(c->query, NS1_INTERFACE ".GetStatus", NULL, false);
    json_t *status = query_next(c->query, NULL);
    const char *ports = json_string_value(json_object_get(status, "bypass"));
    if (ports)
        (void)bypass_parse(ports, &ret->ports); /* what a newer daemon writes may be no list */
    json_decref(status);
    load_rules(c, ret);
    (void)getifaddrs(&ret->own);
}

static void list_kernels(const struct connections *c, struct sockets *k, connections_fn fn,
                         void *arg)
{
    struct sockdiag_list again;
    struct bypassing b;

    load_bypassing(c, &b);
    int err = load_sockets(&again);
    if (err)
        die(cli_exit_code(err), "cannot list sockets: %s", strerror(-err));
    for (size_t i = 0; i < k->list.cnt; i++) {
        const struct sockdiag_socket *one = &k->list.sockets[i];
        const struct sockdiag_socket *later = find_socket(&again, &one->tuple);

        if (k->claimed[i] || !is_live(one) || !later || !is_live(later))
            continue;
        json_t *s = kernel_json(&b, one);
        add_owner(k, one, s);
        if (session_filter_has(c->filter, s))
            fn(s, arg);
        json_decref(s);
    }
    freeifaddrs(b.own);
    free(b.rules);
    sockdiag_done(&again);
}

void connections_each(const struct connections *c, connections_fn fn, void *arg)
{
    struct sockets k;

    if (c->ended)
        k = (struct sockets){.claimed = NULL};
    else
        sockets_load(&k, c);
    list_daemons(c, &k, fn, arg);
    if (c->all)
        list_kernels(c, &k, fn, arg);
    sockets_done(&k);
}
