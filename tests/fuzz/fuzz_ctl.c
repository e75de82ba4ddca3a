/* SPDX-License-Identifier: BSD-3-Clause
 * The ctl socket: what a client can send, in pieces, to the server and the methods behind
 * it, over a made-up tunnel. The input is a row of pieces, each with a length byte: 0 to
 * 239 so many bytes are sent; then the loop turns. 240 to 255: an event for who watches.
 * Each reply must be a JSON object of a reply's form, and nothing may stay behind.
 */
#include "fuzz.h"

#include <ev.h>
#include <jansson.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "../unit/ctl/fake_tunnel.h"
#include "ctl/conf/ruletext.h"
#include "ctl/daemon/ctlserver.h"
#include "ctl/daemon/wishes.h"

#define REPLIES_MAX_LEN (4 << 20)

static struct {
    struct ev_loop *loop;
    struct ctlsock doors;
    struct ctlserver *server;
    struct tunnel tunnel;
    struct daemon_options opts;
    struct worker_links links;
    struct ns1_watch watch;
    struct ns1_drain drain;
    struct ns1 ns1;
    struct wishes_store store;
    struct sockaddr_un addr;
    socklen_t addr_len;
    uint8_t replies[REPLIES_MAX_LEN];
    size_t reply_len;
} f;

/* These would hand the connection to a supervisor. */
static void on_down(void *arg, int client_fd)
{
}

static void on_drain(void *arg, int client_fd, unsigned timeout_s, enum tunnel_drain new)
{
}

/* What the supervisor does with it, but that nothing changes. */
static int change(void *arg, const char *request, char text[CHANGE_TEXT_LEN])
{
    struct daemon_options changed;
    char err[SETTINGS_ERROR_LEN] = "no file";

    if (!request || change_make(&f.opts, request, &changed, err) < 0) {
        FUZZ_CHECK(*err);
        snprintf(text, CHANGE_TEXT_LEN, "%s", err);
        return -EINVAL;
    }
    settings_done(&changed);
    return 0;
}

/* A default and two rules. */
static void start_policy(void)
{
    static struct policy_rule rules[2];
    char err[RULETEXT_ERROR_LEN];

    FUZZ_CHECK(ruletext_parse("off out port=80 name=web", &rules[0], err) == 0);
    FUZZ_CHECK(ruletext_parse("require peer=10.0.0.0/8 tep=P-256", &rules[1], err) == 0);
    f.opts.rules = rules;
    f.opts.rule_cnt = 2;
    const struct policy_config cfg = daemon_policy(&f.opts);
    FUZZ_CHECK(policy_new(&cfg, &the_policy) == 0);
}

static void start(void)
{
    f.addr.sun_family = AF_UNIX;
    f.doors = (struct ctlsock)CTLSOCK_NONE;
    f.doors.path_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    /* An address of the kernel's choice. */
    FUZZ_CHECK(bind(f.doors.path_fd, (struct sockaddr *)&f.addr, sizeof(sa_family_t)) == 0);
    f.addr_len = sizeof(f.addr);
    FUZZ_CHECK(getsockname(f.doors.path_fd, (struct sockaddr *)&f.addr, &f.addr_len) == 0);
    FUZZ_CHECK(listen(f.doors.path_fd, 8) == 0);
    f.loop = ev_loop_new(EVFLAG_AUTO);
    daemon_options_init(&f.opts);
    start_policy();
    f.tunnel.session_cnt = 20;
    f.tunnel.ended_cnt = 5;
    f.tunnel.found_state = TUNNEL_STATE_ENCRYPTED;
    f.ns1 = (struct ns1){.tunnel = &f.tunnel,
                         .loop = f.loop,
                         .opts = &f.opts,
                         .links = &f.links,
                         .watch = &f.watch,
                         .drain = &f.drain,
                         .change = change,
                         .on_down = on_down,
                         .on_drain = on_drain};
    FUZZ_CHECK(wishes_store_init(&f.store) == 0);
    FUZZ_CHECK(wishes_new(f.loop, 0, &f.store, &f.ns1.wishes) == 0);
    f.server = ctlserver_new(f.loop, &f.doors, ns1_call, &f.ns1);
    FUZZ_CHECK(f.loop && f.server);
}

static void turn(int cnt)
{
    for (int i = 0; i < cnt; i++)
        ev_run(f.loop, EVRUN_NOWAIT);
}

/* Return: whether the server is still there. */
static bool hear(int fd)
{
    for (;;) {
        ssize_t n = recv(fd, f.replies + f.reply_len, sizeof(f.replies) - f.reply_len, 0);

        if (n <= 0)
            return n < 0 && errno == EAGAIN;
        f.reply_len += (size_t)n;
        FUZZ_CHECK(f.reply_len < sizeof(f.replies));
    }
}

static void check_reply(const char *text)
{
    json_t *reply = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    const json_t *error = json_object_get(reply, "error");
    const json_t *continues = json_object_get(reply, "continues");

    FUZZ_CHECK(json_is_object(json_object_get(reply, "parameters")));
    FUZZ_CHECK(!error || (json_is_string(error) && strchr(json_string_value(error), '.')));
    FUZZ_CHECK(!continues || (json_is_true(continues) && !error));
    json_decref(reply);
}

static void check_replies(void)
{
    const uint8_t *next = f.replies, *all = f.replies + f.reply_len, *end;

    while (next < all) {
        end = memchr(next, '\0', (size_t)(all - next));
        if (!end)
            return; /* we hung up in the midst of it */
        check_reply((const char *)next);
        next = end + 1;
    }
}

static void send_piece(int fd, struct fuzz_input *in, size_t max)
{
    size_t len;
    uint8_t *piece = fuzz_bytes(in, max, &len);

    (void)!send(fd, piece, len, MSG_NOSIGNAL);
    free(piece);
}

static void talk(int fd, struct fuzz_input *in)
{
    struct tunnel_session s = session_of(1);
    bool there = true;

    while (there && in->left > 0) {
        uint8_t what = fuzz_byte(in);

        if (what < 240)
            send_piece(fd, in, what);
        else
            ns1_watch_session(TUNNEL_EVENT_OPENED, &s, &f.watch);
        turn(2);
        there = hear(fd);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input in = {data, size};

    if (!f.loop)
        start();
    f.reply_len = 0;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    FUZZ_CHECK(connect(fd, (struct sockaddr *)&f.addr, f.addr_len) == 0);
    turn(1);
    talk(fd, &in);
    turn(20);
    hear(fd);
    check_replies();
    close(fd);
    turn(2);
    FUZZ_CHECK(!f.watch.first && !f.drain.first);
    return 0;
}
