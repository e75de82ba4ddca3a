/* SPDX-License-Identifier: BSD-3-Clause
 * check: others in our place (policy rules, our table, our protocol number), and what we
 * left there ourselves.
 *
 * How it works: our rule stands at RULES_PRIORITY_TCP. What others have ahead of it takes
 * TCP first; what stands behind it, up to the rule of the main table, gets no TCP any
 * more. Both can be meant, so they are worth a warning.
 */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <linux/fib_rules.h>
#include <linux/if_link.h>
#include <linux/if_tun.h>
#include <linux/rtnetlink.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <netlink/attr.h>
#include <netlink/msg.h>

#include "ctl/check/check.h"
#include "ctl/client/ctlclient.h"
#include "ctl/daemon/ns1.h"
#include "ctl/exec/exec_host.h"
#include "ctl/net/ingress.h"
#include "ctl/net/mirror.h"
#include "ctl/net/mirror_msg.h"
#include "ctl/net/netlink.h"
#include "ctl/net/rules.h"
#include "ctl/net/tundev.h"

#define DUMP_TRIES     5
#define PRIORITY_MAIN  32766 /* of the kernel's own rule for the main table */
#define RULE_TEXT_LEN  200
#define RULES_MAX_SAID 8 /* of each family; more are counted */

/* --- Rules of others -------------------------------------------------------- */

struct seen_rule {
    uint8_t family, action, protocol;
    uint32_t priority, table;
    bool is_for_tcp;          /* TCP of this host may match */
    char text[RULE_TEXT_LEN]; /* as "ip rule add" takes it */
};

static void append(char *text, size_t cap, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

static void append(char *text, size_t cap, const char *fmt, ...)
{
    size_t len = strlen(text);
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text + len, cap - len, fmt, ap);
    va_end(ap);
}

static void describe_prefix(char *text, const char *word, uint8_t family, const struct nlattr *a,
                            unsigned len)
{
    char addr[INET6_ADDRSTRLEN];

    if (a && nla_len(a) >= (int)mirror_addr_len(family) &&
        inet_ntop(family, nla_data(a), addr, sizeof(addr)))
        append(text, RULE_TEXT_LEN, "%s %s/%u", word, addr, len);
}

static void describe_table(char *text, uint32_t table)
{
    if (table == RT_TABLE_MAIN)
        append(text, RULE_TEXT_LEN, " lookup main");
    else if (table == RT_TABLE_LOCAL)
        append(text, RULE_TEXT_LEN, " lookup local");
    else
        append(text, RULE_TEXT_LEN, " lookup %u", table);
}

static void describe_action(char *text, const struct seen_rule *r)
{
    switch (r->action) {
    case FR_ACT_TO_TBL:
        describe_table(text, r->table);
        break;
    case FR_ACT_BLACKHOLE:
        append(text, RULE_TEXT_LEN, " blackhole");
        break;
    case FR_ACT_UNREACHABLE:
        append(text, RULE_TEXT_LEN, " unreachable");
        break;
    case FR_ACT_PROHIBIT:
        append(text, RULE_TEXT_LEN, " prohibit");
        break;
    default:
        append(text, RULE_TEXT_LEN, " ...");
        break;
    }
}

static void describe(struct seen_rule *r, const struct fib_rule_hdr *hdr, struct nlattr **tb)
{
    char *text = r->text;

    append(text, RULE_TEXT_LEN, "%sfrom", hdr->flags & FIB_RULE_INVERT ? "not " : "");
    describe_prefix(text, "", r->family, tb[FRA_SRC], hdr->src_len);
    if (!tb[FRA_SRC])
        append(text, RULE_TEXT_LEN, " all");
    describe_prefix(text, " to", r->family, tb[FRA_DST], hdr->dst_len);
    if (tb[FRA_FWMARK])
        append(text, RULE_TEXT_LEN, " fwmark 0x%x", nla_get_u32(tb[FRA_FWMARK]));
    if (tb[FRA_OIFNAME])
        append(text, RULE_TEXT_LEN, " oif %s", nla_get_string(tb[FRA_OIFNAME]));
    if (tb[FRA_IIFNAME])
        append(text, RULE_TEXT_LEN, " iif %s", nla_get_string(tb[FRA_IIFNAME]));
    if (tb[FRA_IP_PROTO])
        append(text, RULE_TEXT_LEN, " ipproto %u", nla_get_u8(tb[FRA_IP_PROTO]));
    describe_action(text, r);
    if (tb[FRA_SUPPRESS_PREFIXLEN] && nla_get_u32(tb[FRA_SUPPRESS_PREFIXLEN]) != UINT32_MAX)
        append(text, RULE_TEXT_LEN, " suppress_prefixlength %u",
               nla_get_u32(tb[FRA_SUPPRESS_PREFIXLEN]));
}

/* Packets of this host come from "lo". */
static bool is_for_tcp(const struct fib_rule_hdr *hdr, struct nlattr **tb)
{
    if (tb[FRA_IP_PROTO] && nla_get_u8(tb[FRA_IP_PROTO]) != IPPROTO_TCP)
        return false;
    if (tb[FRA_IIFNAME] && strcmp(nla_get_string(tb[FRA_IIFNAME]), "lo") != 0)
        return false;
    return hdr->action != FR_ACT_NOP;
}

struct seen_rules {
    struct seen_rule *rules;
    size_t cnt;
};

static int on_rule(struct nlmsghdr *nlh, void *arg)
{
    struct seen_rules *all = arg;
    struct nlattr *tb[FRA_MAX + 1];
    struct fib_rule_hdr *hdr = nlmsg_data(nlh);

    if (nlh->nlmsg_type != RTM_NEWRULE || nlmsg_parse(nlh, sizeof(*hdr), tb, FRA_MAX, NULL) < 0)
        return 0;
    if (hdr->family != AF_INET && hdr->family != AF_INET6)
        return 0;
    struct seen_rule *grown = reallocarray(all->rules, all->cnt + 1, sizeof(*grown));
    if (!grown)
        return -ENOMEM;
    all->rules = grown;
    struct seen_rule *r = &grown[all->cnt++];
    *r = (struct seen_rule){
        .family = hdr->family,
        .action = hdr->action,
        .protocol = tb[FRA_PROTOCOL] ? nla_get_u8(tb[FRA_PROTOCOL]) : 0,
        .priority = tb[FRA_PRIORITY] ? nla_get_u32(tb[FRA_PRIORITY]) : 0,
        .table = tb[FRA_TABLE] ? nla_get_u32(tb[FRA_TABLE]) : hdr->table,
        .is_for_tcp = is_for_tcp(hdr, tb),
    };
    describe(r, hdr, tb);
    return 0;
}

static int list_rules(struct nl_sock *rtnl, struct seen_rules *all)
{
    int err = -EINTR;

    for (int i = 0; i < DUMP_TRIES && err == -EINTR; i++) {
        struct fib_rule_hdr hdr = {.family = AF_UNSPEC};
        struct nl_msg *msg = nlmsg_alloc_simple(RTM_GETRULE, NLM_F_DUMP);

        all->cnt = 0;
        err = -ENOMEM;
        if (msg && nlmsg_append(msg, &hdr, sizeof(hdr), NLMSG_ALIGNTO) == 0)
            err = netlink_talk(rtnl, msg, on_rule, all);
        nlmsg_free(msg);
    }
    return err;
}

static int note_uplink(const struct mirror_seen *s, void *arg)
{
    *(bool *)arg |= s->uplink_ifindex > 0;
    return 0;
}

static bool leads_to_uplink(const struct check *c, const struct seen_rule *r)
{
    struct mirror m = {.rtnl = c->rtnl, .uplinks = &c->uplinks};
    bool found = false;

    if (r->action == FR_ACT_TO_TBL)
        (void)mirror_msg_list(&m, r->family, r->table, note_uplink, &found);
    return found;
}

static const char *family_option(const struct seen_rule *r)
{
    return r->family == AF_INET ? "-4" : "-6";
}

static void say_move(struct check *c, const struct seen_rule *r, const char *why)
{
    char fix[CHECK_FIX_LEN];

    check_say(c, CHECK_WARN, "rules",
              check_fix(fix, "ip %s rule add pref 32000 %s && ip %s rule del pref %u %s",
                        family_option(r), r->text, family_option(r), r->priority, r->text),
              "rule %u \"%s\" %s", r->priority, r->text, why);
}

static void say_ahead(struct check *c, const struct seen_rule *r)
{
    char fix[CHECK_FIX_LEN];

    if (leads_to_uplink(c, r))
        check_say(
            c, CHECK_WARN, "rules",
            check_fix(fix, "take it away if it is not wanted: ip %s rule del pref %u",
                      family_option(r), r->priority),
            "rule %u \"%s\" stands ahead of ours and leads out by an uplink: TCP that it takes "
            "is reset",
            r->priority, r->text);
    else
        check_say(c, CHECK_OK, "rules", NULL,
                  "rule %u \"%s\" stands ahead of ours: TCP that it takes is not encrypted",
                  r->priority, r->text);
}

/* Return: whether there was something to say. */
static bool say_rule(struct check *c, const struct seen_rule *r)
{
    char fix[CHECK_FIX_LEN];
    bool is_ours = r->protocol == MIRROR_PROTOCOL;
    bool is_our_place = r->priority >= RULES_PRIORITY_JUMP && r->priority <= RULES_PRIORITY_END;

    if (is_ours && is_our_place)
        return false;
    if (is_ours)
        check_say(c, CHECK_WARN, "rules",
                  check_fix(fix,
                            "give it another protocol: ip %s rule del pref %u, and add it "
                            "again without \"protocol %d\"",
                            family_option(r), r->priority, MIRROR_PROTOCOL),
                  "rule %u \"%s\" has our protocol number %d: up and down take it away",
                  r->priority, r->text, MIRROR_PROTOCOL);
    else if (is_our_place)
        say_move(c, r, "is at our priority; which comes first is chance");
    else if (!r->is_for_tcp || r->table == RT_TABLE_LOCAL)
        return false;
    else if (r->priority < RULES_PRIORITY_JUMP)
        say_ahead(c, r);
    else if (r->priority < PRIORITY_MAIN)
        say_move(c, r, "stands behind ours: TCP does not obey it while we are attached");
    else
        return false;
    return true;
}

/* Own addresses must be found before our rule is asked. */
static bool is_local_first(const struct seen_rules *all, uint8_t family)
{
    bool any = false;

    for (size_t i = 0; i < all->cnt; i++) {
        const struct seen_rule *r = &all->rules[i];

        any |= r->family == family;
        if (r->family == family && r->table == RT_TABLE_LOCAL && r->action == FR_ACT_TO_TBL &&
            r->priority < RULES_PRIORITY_JUMP)
            return true;
    }
    return !any; /* a kernel without that family */
}

static void say_family(struct check *c, const struct seen_rules *all, uint8_t family)
{
    const char *name = family == AF_INET ? "IPv4" : "IPv6";
    char fix[CHECK_FIX_LEN];
    unsigned said = 0;

    if (!is_local_first(all, family)) {
        check_say(
            c, CHECK_FAIL, "rules",
            check_fix(fix, "ip %s rule add pref 0 lookup local", family == AF_INET ? "-4" : "-6"),
            "%s: no rule for the local table ahead of ours: TCP to own addresses would go "
            "astray",
            name);
        said++;
    }
    for (size_t i = 0; i < all->cnt && said < RULES_MAX_SAID; i++)
        if (all->rules[i].family == family)
            said += say_rule(c, &all->rules[i]);
    if (said == 0)
        check_say(c, CHECK_OK, "rules", NULL, "%s: no policy rule conflicts with ours", name);
    else if (said == RULES_MAX_SAID)
        check_say(c, CHECK_WARN, "rules", "look at all of them: ip rule", "%s: and maybe more",
                  name);
}

void check_rules(struct check *c)
{
    struct seen_rules all = {.cnt = 0};

    if (!c->rtnl)
        return;
    int err = list_rules(c->rtnl, &all);
    if (err) {
        check_say(c, CHECK_FAIL, "rules", "a kernel with CONFIG_IP_MULTIPLE_TABLES is needed",
                  "policy rules cannot be listed: %s", strerror(-err));
    } else {
        say_family(c, &all, AF_INET);
        say_family(c, &all, AF_INET6);
    }
    free(all.rules);
}

/* --- Routes of others ------------------------------------------------------- */

struct table_use {
    unsigned foreign; /* in our table, not ours */
    unsigned taken;   /* in the main table, with our protocol number */
    unsigned ours;
};

static int note_use(const struct mirror_seen *s, void *arg)
{
    static const struct in6_addr dummy = {.s6_addr = {192, 0, 0, 8}}; /* see netcfg.c */
    struct table_use *u = arg;
    bool is_ours = s->protocol == MIRROR_PROTOCOL;

    if (s->table == MIRROR_TABLE && is_ours)
        u->ours++;
    else if (s->table == MIRROR_TABLE)
        u->foreign++;
    else if (s->table == RT_TABLE_MAIN && is_ours &&
             memcmp(&s->route.dst, &dummy, sizeof(dummy)) != 0)
        u->taken++;
    return 0;
}

static int read_use(const struct check *c, struct table_use *u)
{
    struct mirror m = {.rtnl = c->rtnl, .uplinks = &c->uplinks};
    static const uint8_t families[] = {AF_INET, AF_INET6};
    static const uint32_t tables[] = {MIRROR_TABLE, RT_TABLE_MAIN};

    for (size_t f = 0; f < 2; f++)
        for (size_t t = 0; t < 2; t++) {
            int err = mirror_msg_list(&m, families[f], tables[t], note_use, u);
            if (err && err != -ENOENT && err != -EOPNOTSUPP)
                return err;
        }
    return 0;
}

void check_table(struct check *c)
{
    struct table_use u = {.foreign = 0};
    char fix[CHECK_FIX_LEN];

    if (!c->rtnl || read_use(c, &u) < 0)
        return;
    if (u.foreign > 0)
        check_say(
            c, CHECK_WARN, "table",
            check_fix(fix, "ip route show table %d, and move them to another table", MIRROR_TABLE),
            "routing table %d has %u routes of others: TCP would obey them", MIRROR_TABLE,
            u.foreign);
    if (u.taken > 0)
        check_say(c, CHECK_WARN, "table",
                  check_fix(fix, "ip route show proto %d, and give them another protocol",
                            MIRROR_PROTOCOL),
                  "%u routes of others have our protocol number %d: up and down take them away",
                  u.taken, MIRROR_PROTOCOL);
    if (u.foreign == 0 && u.taken == 0)
        check_say(c, CHECK_OK, "table", NULL, "nobody else uses table %d or protocol %d",
                  MIRROR_TABLE, MIRROR_PROTOCOL);
}

/* --- The daemon, and what is left of one ------------------------------------ */

/* Return: the daemon's status, the caller's; NULL when none answers. */
static json_t *ask_daemon(const struct check *c)
{
    struct ctlclient client = CTLCLIENT_NONE;
    char error[CTLCLIENT_ERROR_LEN];
    json_t *reply = NULL;

    if (ctlclient_init(&client, c->netns_fd) < 0)
        return NULL;
    ctlclient_set_patience(&client, 3);
    if (ctlclient_call(&client, NS1_INTERFACE ".GetStatus", NULL, false) < 0 ||
        ctlclient_next(&client, &reply, NULL, error) < 0)
        reply = NULL;
    ctlclient_done(&client);
    return reply;
}

static long long number_of(const json_t *reply, const char *key)
{
    return (long long)json_integer_value(json_object_get(reply, key));
}

static void say_attached(struct check *c, const json_t *status)
{
    long long restarts = number_of(status, "worker_restarts");
    const json_t *uplinks = json_object_get(status, "uplinks");
    const char *first = json_string_value(json_array_get(uplinks, 0));

    check_say(c, CHECK_OK, "daemon", NULL, "attached: process %lld, worker %lld, uplink %s%s",
              number_of(status, "pid"), number_of(status, "worker_pid"), first ? first : "none",
              json_array_size(uplinks) > 1 ? " and others" : "");
    if (restarts > 0)
        check_say(c, CHECK_WARN, "daemon",
                  "start it with --log FILE -v and report what the worker dies of",
                  "its worker had to be started again %lld times", restarts);
}

static int on_link(struct nlmsghdr *nlh, void *arg)
{
    struct nlattr *tb[IFLA_MAX + 1], *info[IFLA_INFO_MAX + 1], *tun[IFLA_TUN_MAX + 1];

    if (nlmsg_parse(nlh, sizeof(struct ifinfomsg), tb, IFLA_MAX, NULL) < 0 || !tb[IFLA_LINKINFO] ||
        nla_parse_nested(info, IFLA_INFO_MAX, tb[IFLA_LINKINFO], NULL) < 0 ||
        !info[IFLA_INFO_DATA] ||
        nla_parse_nested(tun, IFLA_TUN_MAX, info[IFLA_INFO_DATA], NULL) < 0)
        return 0;
    *(bool *)arg = tun[IFLA_TUN_PERSIST] && nla_get_u8(tun[IFLA_TUN_PERSIST]);
    return 0;
}

/* Ours are never persistent. */
static bool is_foreign_tun(const struct check *c)
{
    struct ifinfomsg which = {.ifi_index = (int)if_nametoindex(TUNDEV_NAME)};
    struct nl_msg *msg = nlmsg_alloc_simple(RTM_GETLINK, 0);
    bool is_persistent = false;

    if (c->rtnl && msg && nlmsg_append(msg, &which, sizeof(which), NLMSG_ALIGNTO) == 0)
        (void)netlink_talk(c->rtnl, msg, on_link, &is_persistent);
    nlmsg_free(msg);
    return is_persistent;
}

static void say_silent(struct check *c)
{
    char fix[CHECK_FIX_LEN];

    if (is_foreign_tun(c))
        check_say(c, CHECK_FAIL, "daemon", "ip link del " TUNDEV_NAME,
                  "there is a persistent %s that is not ours", TUNDEV_NAME);
    else
        check_say(c, CHECK_FAIL, "daemon",
                  check_fix(fix,
                            "tcpcrypt-ns down --netns %s; if it says that the daemon does not "
                            "answer, end its process",
                            c->netns),
                  "there is a %s, but no daemon answers", TUNDEV_NAME);
}

/* What a killed daemon leaves keeps TCP closed; see netcfg.h. */
static bool is_something_left(const struct check *c)
{
    struct table_use u = {.foreign = 0};
    struct bypass bypass;
    bool rules = false;

    if (!c->rtnl)
        return false;
    (void)read_use(c, &u);
    (void)rules_read(c->rtnl, &bypass, &rules);
    return u.ours > 0 || rules || (c->has_net_admin && ingress_is_there());
}

void check_daemon(struct check *c)
{
    char fix[CHECK_FIX_LEN];
    json_t *status = ask_daemon(c);

    if (status)
        say_attached(c, status);
    else if (if_nametoindex(TUNDEV_NAME) != 0)
        say_silent(c);
    else if (is_something_left(c))
        check_say(c, CHECK_FAIL, "daemon",
                  check_fix(fix, "tcpcrypt-ns down --netns %s (or up again)", c->netns),
                  "leftovers of a killed daemon: TCP of this namespace is closed");
    else
        check_say(c, CHECK_OK, "daemon", NULL, "not attached, nothing is left of an earlier one");
    json_decref(status);
}

/* --- Leftovers elsewhere ---------------------------------------------------- */

static bool is_dead_door(const char *name)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    snprintf(addr.sun_path, sizeof(addr.sun_path), TCNS_CTL_DIR "/%.40s", name);
    bool is_dead =
        fd >= 0 && connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 && errno == ECONNREFUSED;
    if (fd >= 0)
        close(fd);
    return is_dead;
}

static unsigned count_dead_doors(char ret_name[64])
{
    DIR *dir = opendir(TCNS_CTL_DIR);
    unsigned cnt = 0;

    for (struct dirent *e; dir && (e = readdir(dir));) {
        size_t len = strlen(e->d_name);

        if (len < 6 || len > 40 || strcmp(e->d_name + len - 5, ".sock") != 0 ||
            !is_dead_door(e->d_name))
            continue;
        snprintf(ret_name, 64, "%s", e->d_name);
        cnt++;
    }
    if (dir)
        closedir(dir);
    return cnt;
}

void check_leftovers(struct check *c)
{
    char name[64], fix[CHECK_FIX_LEN];
    unsigned execs = 0, doors = count_dead_doors(name);

    int err = exec_host_count_dead(&execs);
    if (!err && execs > 0)
        check_say(c, CHECK_WARN, "leftovers",
                  "tcpcrypt-ns exec -- true (every exec cleans up first)",
                  "%u killed exec%s left links, nftables tables or settings here", execs,
                  execs == 1 ? "" : "s");
    if (doors > 0)
        check_say(c, CHECK_WARN, "leftovers", check_fix(fix, "rm " TCNS_CTL_DIR "/%s", name),
                  "%u ctl socket%s of daemons that are gone", doors, doors == 1 ? "" : "s");
    if (execs == 0 && doors == 0)
        check_say(c, CHECK_OK, "leftovers", NULL, "nothing is left of killed execs");
}
