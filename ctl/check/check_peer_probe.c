/* SPDX-License-Identifier: BSD-3-Clause
 * check --peer without a daemon: two SYNs, one with TCP-ENO and one without, a whole key
 * exchange when the peer agrees, and a look along the path when it does not.
 *
 * How it works: when the answer lacks the option, SYNs with growing hop limits go out. Each
 * router that ends one quotes it, so the first whose quotation lacks the option stands
 * behind who removed it. A middlebox on the way back shows by the no-ops with which it has
 * overwritten the peer's option. What neither tells stays open, and the verdict says so.
 */
#include <errno.h>
#include <linux/rtnetlink.h>
#include <netinet/in.h>
#include <sodium.h>
#include <string.h>

#include <netlink/attr.h>
#include <netlink/msg.h>

#include "ctl/check/check_peer.h"
#include "ctl/check/probe.h"
#include "ctl/net/netlink.h"
#include "tcpcrypt/session.h"

#define TRIES_CNT    3
#define HOP_CNT      24
#define KEYS_WAIT_MS 3000
#define HTTP_WAIT_MS 3000
#define ANSWER_CAP   16384
/* The shortest option of an answer that agrees: kind, length, global suboption, TEP. Nobody
 * fills up with so many no-ops. */
#define NOPS_OF_OPTION 4

/* --- Words ------------------------------------------------------------------ */

static void say_answer(const struct peer_check *p, const char *name, const struct probe_try *t,
                       const char *what)
{
    char from[ADDR_STR_LEN];

    switch (t->answer) {
    case PROBE_SYNACK:
        check_say(p->c, CHECK_OK, name, NULL, "%s is answered, after %d ms", what, t->rtt_ms);
        break;
    case PROBE_RST:
        check_say(p->c, CHECK_WARN, name, NULL, "%s is refused, after %d ms", what, t->rtt_ms);
        break;
    case PROBE_ICMP:
        check_say(p->c, CHECK_WARN, name, NULL, "%s has an error from %s: ICMP type %u, code %u",
                  what, addr_str(&t->from, from), t->icmp_type, t->icmp_code);
        break;
    case PROBE_NONE:
        check_say(p->c, CHECK_WARN, name, NULL, "%s, sent %d times, is not answered", what,
                  TRIES_CNT);
        break;
    }
}

/* --- Keys ------------------------------------------------------------------- */

static void no_keys(struct peer_check *p, const char *why)
{
    check_say(p->c, CHECK_FAIL, "session", NULL, "no keys: %s", why);
    p->verdict = PEER_NO_SESSION;
}

/* Feeds the session what came. Return: whether the keys are there; false and an error in
 * *ret_err, AGAIN among them. */
static bool feed(struct session *s, const uint8_t *in, size_t len, enum tcns_err *ret_err)
{
    *ret_err = TCNS_ERR_AGAIN;
    while (len > 0) {
        struct session_rx rx = {.data = NULL};
        size_t used;

        *ret_err = session_open(s, in, len, &used, &rx);
        if (*ret_err != TCNS_OK)
            return false;
        buf_unref(rx.data);
        if (rx.opened)
            return true;
        in += used;
        len -= used;
    }
    return false;
}

static void exchange_keys(struct peer_check *p, struct probe *probe, struct probe_try *t,
                          struct session *s)
{
    static uint8_t in[ANSWER_CAP];
    enum tcns_err err = TCNS_ERR_AGAIN;
    struct buf *init = NULL;

    if (session_output(s, &init) != TCNS_OK || !init) {
        no_keys(p, "our own message could not be made");
        return;
    }
    const void *data = buf_data(init);
    size_t len = init->len;
    bool is_open = false;
    int n;
    do {
        n = probe_talk(probe, t, data, len, eno_ack_option, ENO_ACK_OPTION_LEN, in, sizeof(in),
                       KEYS_WAIT_MS);
        is_open = n > 0 && feed(s, in, (size_t)n, &err);
        len = 0;
    } while (n > 0 && !is_open && err == TCNS_ERR_AGAIN);
    buf_unref(init);
    if (is_open) {
        session_get_info(s, &p->info);
        check_say(p->c, CHECK_OK, "session", NULL, "keys are agreed: %s, %s",
                  session_tep_name(p->info.tep), session_aead_name(p->info.aead));
        p->verdict = PEER_SUPPORTED;
    } else if (n == -ETIMEDOUT) {
        no_keys(p, "our message with the option, the third packet, is not answered");
    } else if (n == -ECONNRESET || n == 0) {
        no_keys(p, "the peer ended the connection");
    } else if (n < 0) {
        no_keys(p, strerror(-n));
    } else {
        no_keys(p, "what came back is no tcpcrypt; the peer may have got our third packet without "
                   "the option");
    }
}

/* --- The path --------------------------------------------------------------- */

static size_t longest_nops(const struct probe_try *t)
{
    size_t longest = 0, run = 0;

    for (size_t i = 0; i < t->options_len; i++) {
        run = t->options[i] == 1 ? run + 1 : 0;
        if (run > longest)
            longest = run;
        if (t->options[i] == 0)
            break;
        if (t->options[i] > 1 && i + 1 < t->options_len && t->options[i + 1] >= 2)
            i += t->options[i + 1] - 1u;
    }
    return longest;
}

static int on_route(struct nlmsghdr *nlh, void *arg)
{
    struct nlattr *tb[RTA_MAX + 1];

    if (nlh->nlmsg_type == RTM_NEWROUTE &&
        nlmsg_parse(nlh, sizeof(struct rtmsg), tb, RTA_MAX, NULL) == 0)
        *(bool *)arg = tb[RTA_GATEWAY] || tb[RTA_VIA];
    return 0;
}

/* A router stands between, so the peer is not on the first hop. */
static bool is_behind_router(const struct peer_check *p)
{
    bool v4 = addr_is_v4(&p->addr), found = false;
    struct rtmsg rt = {.rtm_family = v4 ? AF_INET : AF_INET6, .rtm_dst_len = v4 ? 32 : 128};
    struct nl_sock *rtnl;

    if (netlink_open(NETLINK_ROUTE, &rtnl) < 0)
        return false;
    struct nl_msg *msg = nlmsg_alloc_simple(RTM_GETROUTE, 0);
    if (msg && nlmsg_append(msg, &rt, sizeof(rt), NLMSG_ALIGNTO) == 0 &&
        nla_put(msg, RTA_DST, v4 ? 4 : 16, &p->addr.in6.s6_addr[v4 ? 12 : 0]) == 0)
        (void)netlink_talk(rtnl, msg, on_route, &found);
    nlmsg_free(msg);
    nl_socket_free(rtnl);
    return found;
}

/* What the walk showed: hops from 1; 0: none. */
struct walk {
    int intact;   /* the last that quoted the option unharmed */
    int harmed;   /* the first that did not */
    int answered; /* the first with a SYN-ACK */
    enum probe_quote harm;
};

static struct walk read_walk(const struct probe_try hops[HOP_CNT])
{
    struct walk w = {.intact = 0};

    for (int i = 0; i < HOP_CNT; i++) {
        const struct probe_try *t = &hops[i];
        bool is_quote = t->answer == PROBE_ICMP && t->hop_ended;

        if (t->answer == PROBE_SYNACK && !w.answered)
            w.answered = i + 1;
        if (is_quote && t->quote == PROBE_QUOTE_INTACT)
            w.intact = i + 1;
        if (is_quote && !w.harmed &&
            (t->quote == PROBE_QUOTE_GONE || t->quote == PROBE_QUOTE_CHANGED)) {
            w.harmed = i + 1;
            w.harm = t->quote;
        }
    }
    return w;
}

static void say_walk(struct peer_check *p, const struct probe_try hops[HOP_CNT],
                     const struct walk *w)
{
    char text[ADDR_STR_LEN];

    if (w->harmed) {
        const struct probe_try *t = &hops[w->harmed - 1];

        p->hop = w->harmed;
        p->hop_addr = t->from;
        check_say(p->c, CHECK_WARN, "path", "look at what stands in front of that router",
                  "at the router on hop %d, %s, the option was %s", w->harmed,
                  addr_str(&t->from, text), w->harm == PROBE_QUOTE_GONE ? "gone" : "changed");
    }
    if (w->intact)
        check_say(p->c, CHECK_OK, "path", NULL, "at the router on hop %d, %s, it was still there",
                  w->intact, addr_str(&hops[w->intact - 1].from, text));
    if (!w->harmed && !w->intact)
        check_say(p->c, CHECK_OK, "path", NULL, "no router on the way says what it saw");
}

/* Return: 0; -errno. */
static int walk_path(struct peer_check *p, struct probe *probe, const uint8_t *option,
                     size_t option_len, struct walk *ret)
{
    static struct probe_try hops[HOP_CNT];

    for (int i = 0; i < HOP_CNT; i++)
        hops[i] = (struct probe_try){
            .option = option, .option_len = option_len, .hop_limit = (uint8_t)(i + 1)};
    int err = probe_open(probe, hops, HOP_CNT, 1);
    if (!err) {
        *ret = read_walk(hops);
        say_walk(p, hops, ret);
    }
    for (int i = 0; i < HOP_CNT; i++)
        probe_end(probe, &hops[i]);
    return err;
}

/* --- Without the option ----------------------------------------------------- */

/* A test-server knows what it saw of a connection like the one before. */
static bool ask_server(struct peer_check *p, struct probe *probe, const uint8_t *option,
                       size_t option_len)
{
    static char answer[ANSWER_CAP];
    struct probe_try t = {.option = option, .option_len = option_len};
    const char *request = CHECK_PEER_REQUEST;
    size_t len = 0;
    int n = 0;

    if (probe_open(probe, &t, 1, TRIES_CNT) == 0 && t.answer == PROBE_SYNACK) {
        do {
            n = probe_talk(probe, &t, request, len ? 0 : strlen(request), NULL, 0, answer + len,
                           sizeof(answer) - len, HTTP_WAIT_MS);
            len += n > 0 ? (size_t)n : 0;
        } while (n > 0 && len < sizeof(answer));
    }
    probe_end(probe, &t);
    return check_peer_read_answer(p, answer, len);
}

static int without_option(struct peer_check *p, struct probe *probe, const struct probe_try *plain,
                          const struct probe_try *eno)
{
    size_t nops = longest_nops(eno);
    struct walk w = {.intact = 0};

    check_say(p->c, CHECK_WARN, "answer", NULL, "the answer has no TCP-ENO option");
    p->verdict = PEER_NO_ENO;
    int err = walk_path(p, probe, eno->option, eno->option_len, &w);
    if (err)
        return err;
    if (w.answered == 1 && is_behind_router(p)) {
        check_say(p->c, CHECK_WARN, "path", NULL,
                  "a packet that may not go further than the first hop is answered");
        p->verdict = PEER_ENDED_NEARBY;
    } else if (w.harmed) {
        p->verdict = w.harm == PROBE_QUOTE_GONE ? PEER_STRIPPED_OUT : PEER_CHANGED;
    } else if (nops >= NOPS_OF_OPTION && nops > longest_nops(plain)) {
        check_say(p->c, CHECK_WARN, "answer", NULL,
                  "it has %zu no-ops where the answer to a SYN without TCP-ENO has none: an option "
                  "was overwritten",
                  nops);
        p->verdict = PEER_STRIPPED_BACK;
    }
    if (p->is_test_server)
        (void)ask_server(p, probe, eno->option, eno->option_len);
    return 0;
}

/* --- Both answers ----------------------------------------------------------- */

static int not_agreed(struct peer_check *p, struct probe *probe, const struct session *s,
                      const struct probe_try *plain, const struct probe_try *eno)
{
    struct session_info info;

    session_get_info(s, &info);
    if (info.reason == SESSION_REASON_PEER_NO_ENO)
        return without_option(p, probe, plain, eno);
    check_say(p->c, CHECK_WARN, "answer", NULL, "the answer's option does not do: %s",
              session_reason_name(info.reason));
    p->verdict = info.reason == SESSION_REASON_ROLE_CONFLICT     ? PEER_REFLECTED
                 : info.reason == SESSION_REASON_PEER_ILL_FORMED ? PEER_CHANGED
                                                                 : PEER_NO_COMMON_TEP;
    return 0;
}

static int lost(struct peer_check *p, struct probe *probe, const struct probe_try *eno)
{
    struct walk w;

    p->verdict = eno->answer == PROBE_RST ? PEER_RESET : PEER_DROPPED;
    return walk_path(p, probe, eno->option, eno->option_len, &w);
}

/* Neither SYN opened anything, or only the one with the option did. */
static void no_plain(struct peer_check *p, const struct probe_try *plain)
{
    p->verdict = plain->answer == PROBE_RST    ? PEER_CLOSED
                 : plain->answer == PROBE_ICMP ? PEER_UNREACHABLE
                                               : PEER_SILENT;
}

static int judge(struct peer_check *p, struct probe *probe, struct session *s,
                 struct probe_try *plain, struct probe_try *eno)
{
    say_answer(p, "plain", plain, "a SYN without TCP-ENO");
    say_answer(p, "eno", eno, "a SYN with TCP-ENO");
    if (eno->answer != PROBE_SYNACK && plain->answer != PROBE_SYNACK) {
        no_plain(p, plain);
        return 0;
    }
    if (eno->answer != PROBE_SYNACK)
        return lost(p, probe, eno);
    if (session_connect_synack(s, eno->options, eno->options_len) != TCNS_OK)
        return -ENOMEM;
    if (!session_is_enabled(s))
        return not_agreed(p, probe, s, plain, eno);
    check_say(p->c, CHECK_OK, "answer", NULL, "the answer has TCP-ENO, and agrees");
    exchange_keys(p, probe, eno, s);
    return 0;
}

static int probe_with(struct peer_check *p, struct probe *probe, struct session *s)
{
    uint8_t option[ENO_OPTION_MAX_LEN];
    struct probe_try tries[2] = {{.hold_fd = -1}, {.option = option, .hold_fd = -1}};

    if (session_connect(s, option, &tries[1].option_len) != TCNS_OK)
        return -ENOMEM;
    int err = probe_open(probe, tries, 2, TRIES_CNT);
    if (!err)
        err = judge(p, probe, s, &tries[0], &tries[1]);
    probe_end(probe, &tries[0]);
    probe_end(probe, &tries[1]);
    return err;
}

int check_peer_probe(struct peer_check *p)
{
    struct probe *probe;

    if (sodium_init() < 0)
        return -ENOSYS;
    int err = probe_new(&p->addr, p->port, &probe);
    if (err)
        return err;
    struct session *s = session_new(&session_config_default);
    err = s ? probe_with(p, probe, s) : -ENOMEM;
    session_free(s);
    probe_free(probe);
    return err;
}
