/* SPDX-License-Identifier: BSD-3-Clause
 * check --self: two daemons in two private namespaces, real TCP between them, and a look at the
 * wire.
 *
 * How it works: each step makes a connection, passes a text both ways, asks both daemons for
 * their session and looks at what was on the wire. A first connection without daemons shows
 * that the look would find the text.
 */
#include "ctl/check/check_self.h"

#include <errno.h>
#include <string.h>

#include "ctl/check/self_lab.h"
#include "ctl/cli/cli.h"
#include "ctl/client/ctlclient.h"
#include "ctl/conf/suites.h"
#include "ctl/daemon/ns1.h"
#include "ctl/http/visit.h"

#define PATIENCE_S 3
#define SETTLE_MS  2000
#define REPORT     "report it: with this output, the kernel's version (uname -r) and the architecture"
#define SEE_ABOVE  "tcpcrypt-ns check shows what is missing"

struct self {
    struct check *c;
    struct self_lab lab;
    bool failed; /* a step could not be made: those behind it make no sense */
};

/* What a connection is to be. */
struct wanted {
    const char *name; /* of the step */
    enum self_host opener;
    bool v6;
    uint8_t tep;        /* 0: any */
    uint16_t aead;      /* 0: any */
    const char *reason; /* at host A */
};

/* --- Asking the daemons ----------------------------------------------------- */

static json_t *get_session(const struct self *s, enum self_host h, int fd)
{
    char local[ADDR_STR_LEN], peer[ADDR_STR_LEN], error[CTLCLIENT_ERROR_LEN];
    struct ctlclient client = CTLCLIENT_NONE;
    json_t *reply = NULL;
    struct tuple t;

    if (visit_tuple(fd, &t) < 0 || ctlclient_init(&client, s->lab.netns_fd[h]) < 0)
        return NULL;
    ctlclient_set_patience(&client, PATIENCE_S);
    json_t *params = json_pack("{s:s, s:i, s:s, s:i, s:i}", "local", addr_str(&t.local, local),
                               "local_port", t.local_port, "peer", addr_str(&t.peer, peer),
                               "peer_port", t.peer_port, "wait", SETTLE_MS);
    if (ctlclient_call(&client, NS1_INTERFACE ".GetSession", params, false) < 0 ||
        ctlclient_next(&client, &reply, NULL, error) < 0)
        reply = NULL;
    ctlclient_done(&client);
    json_t *session = json_incref(json_object_get(reply, "session"));
    json_decref(reply);
    return session;
}

static const char *text_of(const json_t *session, const char *key)
{
    const char *text = json_string_value(json_object_get(session, key));

    return text ? text : "nothing";
}

/* --- Judging ---------------------------------------------------------------- */

static void fail(struct self *s, const char *name, const char *what, const char *got)
{
    check_say(s->c, CHECK_FAIL, name, REPORT, "%s: %s", what, got);
}

static bool is_as_wanted(struct self *s, const struct wanted *w, const json_t *a, const json_t *b)
{
    const char *own_role = w->opener == SELF_A ? "a" : "b";

    if (strcmp(text_of(a, "state"), "encrypted") != 0)
        fail(s, w->name, "it is not encrypted", text_of(a, "reason"));
    else if (strcmp(text_of(a, "reason"), w->reason) != 0)
        fail(s, w->name, "the reason is", text_of(a, "reason"));
    else if (strcmp(text_of(a, "session_id"), text_of(b, "session_id")) != 0)
        fail(s, w->name, "the ids of both ends differ", text_of(b, "session_id"));
    else if (strcmp(text_of(a, "role"), own_role) != 0)
        fail(s, w->name, "the role is", text_of(a, "role"));
    else if (w->tep && strcmp(text_of(a, "tep"), session_tep_name(w->tep)) != 0)
        fail(s, w->name, "the key exchange is", text_of(a, "tep"));
    else if (w->aead && strcmp(text_of(a, "aead"), session_aead_name(w->aead)) != 0)
        fail(s, w->name, "the cipher is", text_of(a, "aead"));
    else
        return true;
    return false;
}

static bool is_wire_as_wanted(struct self *s, const char *name, bool is_encrypted)
{
    struct self_seen seen;

    self_lab_look(&s->lab, &seen);
    if (seen.is_full || seen.data == 0 || seen.syn == 0 || seen.synack == 0)
        fail(s, name, "the wire could not be watched", "packets were missed");
    else if (is_encrypted && seen.mark)
        fail(s, name, "the wire", "the text was on it in clear");
    else if (is_encrypted && (seen.syn_eno == 0 || seen.synack_eno == 0))
        fail(s, name, "the wire", "TCP option 69 was not on it");
    else if (!is_encrypted && !seen.mark)
        fail(s, name, "the wire", "the text was not on it, so nothing would be noticed");
    else
        return true;
    return false;
}

static void say_encrypted(struct self *s, const struct wanted *w, const json_t *a)
{
    check_say(s->c, CHECK_OK, w->name, NULL, "%s, %s: %s, %s, %s", w->v6 ? "IPv6" : "IPv4",
              w->opener == SELF_A ? "outbound" : "inbound", text_of(a, "reason"), text_of(a, "tep"),
              text_of(a, "aead"));
}

/* --- Connections ------------------------------------------------------------ */

/* Return: whether there is one; says so when not. */
static bool connect_both(struct self *s, const char *name, enum self_host opener, bool v6,
                         struct self_pair *ret)
{
    struct self_seen before;

    self_lab_look(&s->lab, &before);
    int err = self_lab_connect(&s->lab, opener, v6, ret);
    s->failed |= err == -EINTR || err == -ECHILD;
    if (err && err != -EINTR)
        fail(s, name, "no connection",
             err == -EPROTO   ? "other bytes arrived than were sent"
             : err == -ECHILD ? "a daemon has died"
                              : strerror(-err));
    return err == 0;
}

static bool encrypted(struct self *s, const struct wanted *w)
{
    struct self_pair p;
    bool good = false;

    if (!connect_both(s, w->name, w->opener, w->v6, &p))
        return false;
    json_t *a = get_session(s, SELF_A, p.fd[SELF_A]);
    json_t *b = get_session(s, SELF_B, p.fd[SELF_B]);
    if (!a || !b)
        fail(s, w->name, "no answer", "a daemon does not know the connection");
    else
        good = is_as_wanted(s, w, a, b) && is_wire_as_wanted(s, w->name, true);
    if (good)
        say_encrypted(s, w, a);
    json_decref(a);
    json_decref(b);
    self_pair_done(&p);
    return good;
}

static void clear(struct self *s, enum self_host opener, bool v6)
{
    struct self_pair p;

    if (!connect_both(s, "fallback", opener, v6, &p))
        return;
    json_t *a = get_session(s, SELF_A, p.fd[SELF_A]);
    if (!a || strcmp(text_of(a, "state"), "clear") != 0 ||
        strcmp(text_of(a, "reason"), "peer-no-eno") != 0)
        fail(s, "fallback", "with a plain peer it should be clear, peer-no-eno",
             text_of(a, "reason"));
    else if (is_wire_as_wanted(s, "fallback", false))
        check_say(s->c, CHECK_OK, "fallback", NULL, "%s, %s: clear with a plain peer, peer-no-eno",
                  v6 ? "IPv6" : "IPv4", opener == SELF_A ? "outbound" : "inbound");
    json_decref(a);
    self_pair_done(&p);
}

/* --- Steps ------------------------------------------------------------------ */

static bool attach(struct self *s, enum self_host h, struct daemon_options *opts)
{
    char err[DAEMON_ERROR_LEN];

    if (self_lab_attach(&s->lab, h, opts, err) == 0)
        return true;
    check_say(s->c, CHECK_FAIL, "daemon", SEE_ABOVE, "%s", err);
    s->failed = true;
    return false;
}

static void default_options(struct daemon_options *opts)
{
    daemon_options_init(opts);
    opts->bypass.cnt = 0;
}

static void step_wire(struct self *s)
{
    struct self_pair p;

    if (!connect_both(s, "wire", SELF_A, false, &p)) {
        s->failed = true;
        return;
    }
    if (is_wire_as_wanted(s, "wire", false))
        check_say(s->c, CHECK_OK, "wire", NULL,
                  "without daemons the text is seen on the wire, so it would be later, too");
    self_pair_done(&p);
}

static void step_attach(struct self *s)
{
    struct daemon_options opts;

    default_options(&opts);
    if (attach(s, SELF_A, &opts) && attach(s, SELF_B, &opts))
        check_say(s->c, CHECK_OK, "daemon", NULL, "two daemons are attached");
}

/* Every key exchange and every cipher, both families, both directions. */
static void step_suite(struct self *s, size_t i)
{
    const struct session_config *all = &session_config_default;
    struct daemon_options opts;
    struct wanted w = {
        .name = "encrypted",
        .opener = i < 2 ? SELF_A : SELF_B,
        .v6 = i % 2 == 1 && s->lab.has_ipv6,
        .tep = all->teps[i],
        .aead = all->aeads[i % all->aead_cnt],
        .reason = "full",
    };

    default_options(&opts);
    opts.session.teps[0] = w.tep;
    opts.session.tep_cnt = 1;
    opts.session.aeads[0] = w.aead;
    opts.session.aead_cnt = 1;
    if (attach(s, SELF_A, &opts))
        (void)encrypted(s, &w);
}

static void step_resume(struct self *s)
{
    struct wanted first = {.name = "resumption", .opener = SELF_A, .reason = "full"};
    struct wanted second = {.name = "resumption", .opener = SELF_A, .reason = "resumed"};
    struct daemon_options opts;

    default_options(&opts);
    if (attach(s, SELF_A, &opts) && encrypted(s, &first))
        (void)encrypted(s, &second);
}

static void step_fallback(struct self *s)
{
    int err = self_lab_detach(&s->lab, SELF_B);

    if (err)
        fail(s, "fallback", "a daemon did not end in order", strerror(-err));
    clear(s, SELF_A, false);
    if (s->lab.has_ipv6 && !s->failed)
        clear(s, SELF_B, true);
}

static void step_end(struct self *s)
{
    int err = self_lab_detach(&s->lab, SELF_A);

    if (err)
        fail(s, "end", "a daemon did not end in order", strerror(-err));
    else
        check_say(s->c, CHECK_OK, "end", NULL, "the daemons have ended in order");
}

static void run_steps(struct self *s)
{
    static void (*const first[])(struct self * s) = {step_wire, step_attach};
    static void (*const last[])(struct self * s) = {step_resume, step_fallback, step_end};

    for (size_t i = 0; i < sizeof(first) / sizeof(first[0]) && !s->failed; i++)
        first[i](s);
    for (size_t i = 0; i < session_config_default.tep_cnt && !s->failed; i++)
        step_suite(s, i);
    for (size_t i = 0; i < sizeof(last) / sizeof(last[0]) && !s->failed; i++)
        last[i](s);
}

static void say_verdict(struct self *s)
{
    if (s->c->cnt[CHECK_FAIL] == 0)
        check_say(s->c, CHECK_OK, "verdict", NULL,
                  "tcpcrypt-ns works on this machine; check and check --peer look at the network");
    else
        check_say(s->c, CHECK_FAIL, "verdict", SEE_ABOVE, "tcpcrypt-ns does not work here");
}

int check_self(struct check *c)
{
    struct self s = {.c = c};
    const char *step;

    int err = self_lab_init(&s.lab, &step);
    if (err) {
        self_lab_done(&s.lab);
        die(cli_exit_code(err), "%s: %s%s", step, strerror(-err),
            err == -EPERM ? " (it takes root, or CAP_SYS_ADMIN, CAP_NET_ADMIN and CAP_NET_RAW)"
                          : "");
    }
    check_say(c, CHECK_OK, "namespaces", NULL, "two private namespaces with a link between");
    run_steps(&s);
    self_lab_done(&s.lab);
    if (s.lab.signal_no)
        return 128 + s.lab.signal_no;
    say_verdict(&s);
    return check_finish(c, NULL);
}
