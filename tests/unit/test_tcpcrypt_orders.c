/* SPDX-License-Identifier: BSD-3-Clause
 * Two hosts, each with a script, in every order that the network and the callers can
 * bring about. There is no clock but the one that the cache is told.
 *
 * How it works: a run is a list of choices among the moves that are possible at each
 * step. All runs are made, from the start each: the last choice that has an alternative
 * is changed to it, until none is left. Long scripts have too many runs; there a run ends
 * where another has been: where both hosts know and owe the same, and the same messages
 * are under way. Then each move is made from each state that can be reached.
 */
#include <sodium.h>
#include <string.h>

#include "base/siphash.h"
#include "tcpcrypt/resume.h"
#include "tcpcrypt_pair.h"

#define STEP_MAX_CNT 64
#define SEEN_MAX_CNT (1u << 18)

struct search {
    size_t choice[STEP_MAX_CNT], option_cnt[STEP_MAX_CNT];
    size_t step_cnt; /* of the run that is made */
    size_t known_cnt;
    size_t run_cnt;
    bool remembers;
    uint64_t seen[SEEN_MAX_CNT]; /* hashes of states; 0: free */
    size_t seen_cnt;
};

static struct search search;

static void start_search(bool remembers)
{
    memset(&search, 0, sizeof(search));
    search.remembers = remembers;
}

/* Return: whether an earlier run has been in that state. */
static bool has_been_here(struct search *s, const void *state, size_t len)
{
    static const struct siphash_key key = {1, 2};
    uint64_t hash = siphash(&key, state, len) | 1;
    size_t i = hash / 2 % SEEN_MAX_CNT;

    if (!s->remembers || s->step_cnt < s->known_cnt)
        return false; /* on the way to what is new in this run */
    for (; s->seen[i] != 0; i = (i + 1) % SEEN_MAX_CNT)
        if (s->seen[i] == hash)
            return true;
    assert_true(++s->seen_cnt < SEEN_MAX_CNT / 2);
    s->seen[i] = hash;
    return false;
}

/* Return: one of cnt possible moves. */
static size_t choose(struct search *s, size_t cnt)
{
    size_t n = s->step_cnt++;

    assert_true(n < STEP_MAX_CNT);
    if (n >= s->known_cnt) {
        s->choice[n] = 0;
        s->option_cnt[n] = cnt;
        s->known_cnt = n + 1;
    }
    assert_int_equal(s->option_cnt[n], cnt); /* a run can be repeated */
    return s->choice[n];
}

/* Return: false after the last run. */
static bool next_run(struct search *s)
{
    s->run_cnt++;
    s->known_cnt = s->step_cnt;
    while (s->known_cnt > 0 && s->choice[s->known_cnt - 1] + 1 == s->option_cnt[s->known_cnt - 1])
        s->known_cnt--;
    if (s->known_cnt == 0)
        return false;
    s->choice[s->known_cnt - 1]++;
    s->step_cnt = 0;
    return true;
}

static struct pair pair;
static const struct resume_peer server_name = {.len = 6, .host_len = 6, .name = "server"};
static const struct resume_peer client_name = {.len = 6, .host_len = 6, .name = "client"};

static int set_up(void **state)
{
    pair_init(&pair);
    pair_add_caches(&pair, 4);
    return 0;
}

static int tear_down(void **state)
{
    pair_done(&pair);
    pair_free_caches(&pair);
    return buf_total() == 0 ? 0 : -1;
}

static void put_secrets(void)
{
    struct resume_secret secret = {.tep = TEP_ECDHE_CURVE25519, .aead = AEAD_AES_128_GCM};

    resume_cache_clear(pair.client_cfg.cache);
    resume_cache_clear(pair.server_cfg.cache);
    resume_put(pair.client_cfg.cache, &secret, &server_name, true);
    secret.original_role = SESSION_ROLE_B;
    resume_put(pair.server_cfg.cache, &secret, &client_name, false);
}

static void set_peer(struct session *s, const struct resume_peer *peer)
{
    session_set_peer(s, peer->name, peer->len, peer->host_len);
}

/* --- The stream: Init messages, data, rekeying, FIN --------------------------------------- */

enum op { OP_DATA, OP_REKEY, OP_FIN, OP_END };

#define MESSAGE_MAX_CNT 16

struct host {
    struct session *session;
    const enum op *script;
    bool may_output;
    struct buf *sent[MESSAGE_MAX_CNT]; /* in order; the other host gets one at a time */
    size_t sent_cnt, delivered_cnt;
    uint8_t data_sent, data_got; /* numbers of bytes: data is 1, 2, 3... */
    bool fin_sent, fin_got;
};

static struct host hosts[2]; /* client, server */

static void put_message(struct host *h, struct buf *b)
{
    if (!b)
        return;
    assert_true(h->sent_cnt < MESSAGE_MAX_CNT);
    h->sent[h->sent_cnt++] = b;
}

static void do_op(struct host *h)
{
    enum op op = *h->script++;
    uint8_t byte = (uint8_t)(h->data_sent + 1);
    struct iovec iov = {&byte, 1};
    struct buf *b = NULL;

    if (op == OP_REKEY) {
        assert_int_equal(session_rekey(h->session), TCNS_OK);
        h->may_output = true;
        return;
    }
    h->fin_sent = op == OP_FIN;
    assert_int_equal(
        session_seal(h->session, &iov, op == OP_DATA, h->fin_sent ? SESSION_SEAL_FIN : 0, 0, &b),
        TCNS_OK);
    h->data_sent += op == OP_DATA;
    put_message(h, b);
}

static void do_output(struct host *h)
{
    struct buf *b = NULL;

    assert_int_equal(session_output(h->session, &b), TCNS_OK);
    h->may_output = b != NULL;
    put_message(h, b);
}

/* The next message of from reaches to. */
static void do_deliver(struct host *from, struct host *to)
{
    struct buf *b = from->sent[from->delivered_cnt++];
    struct session_rx rx;
    size_t used;

    assert_int_equal(session_open(to->session, buf_data(b), b->len, &used, &rx), TCNS_OK);
    assert_int_equal(used, b->len);
    assert_false(to->fin_got);
    if (rx.data) {
        assert_int_equal(rx.data->len, 1);
        assert_int_equal(*buf_data(rx.data), ++to->data_got);
        buf_unref(rx.data);
    }
    to->fin_got = rx.fin;
    to->may_output |= rx.output || rx.opened;
}

/* All that decides what can happen next, and what the hosts should say to it. */
static bool is_known_state(struct search *s)
{
    uint32_t sig[64] = {0};
    size_t n = 0;

    for (int i = 0; i < 2; i++) {
        const struct host *h = &hosts[i];
        struct session_info info;

        session_get_info(h->session, &info);
        sig[n++] = *h->script;
        sig[n++] = h->data_sent;
        sig[n++] = h->data_got;
        sig[n++] = (uint32_t)(h->may_output | h->fin_sent << 1 | h->fin_got << 2);
        sig[n++] = info.tx_generation;
        sig[n++] = info.rx_generation;
        sig[n++] = (uint32_t)(h->sent_cnt - h->delivered_cnt);
        for (size_t m = h->delivered_cnt; m < h->sent_cnt; m++) /* control byte, length */
            sig[n++] = (uint32_t)buf_data(h->sent[m])[0] << 16 | h->sent[m]->len;
    }
    return has_been_here(s, sig, sizeof(sig));
}

/* One of the moves that are possible, in a fixed order. Return: false when there is none. */
static bool move(struct search *s)
{
    struct {
        int kind;
        int host;
    } moves[6];
    size_t cnt = 0;

    for (int i = 0; i < 2; i++) {
        struct host *h = &hosts[i];

        if (h->may_output)
            moves[cnt].kind = 0, moves[cnt++].host = i;
        if (*h->script != OP_END && session_is_open(h->session) &&
            !(h->may_output && h->sent_cnt == 0)) /* Init2 goes first */
            moves[cnt].kind = 1, moves[cnt++].host = i;
        if (h->delivered_cnt < h->sent_cnt)
            moves[cnt].kind = 2, moves[cnt++].host = i;
    }
    if (cnt == 0)
        return false;
    size_t n = choose(s, cnt);
    struct host *h = &hosts[moves[n].host], *to = &hosts[1 - moves[n].host];

    if (moves[n].kind == 0)
        do_output(h);
    else if (moves[n].kind == 1)
        do_op(h);
    else
        do_deliver(h, to);
    return true;
}

static void free_messages(void)
{
    for (int i = 0; i < 2; i++)
        for (size_t m = 0; m < hosts[i].sent_cnt; m++)
            buf_unref(hosts[i].sent[m]);
}

static void check_end(void)
{
    struct session_info info[2];

    for (int i = 0; i < 2; i++) {
        struct host *h = &hosts[i];

        session_get_info(h->session, &info[i]);
        assert_int_equal(*h->script, OP_END);
        assert_int_equal(h->data_got, hosts[1 - i].data_sent);
        assert_true(h->fin_got);
        assert_int_equal(session_on_fin(h->session), TCNS_OK);
    }
    assert_int_equal(info[0].tx_generation, info[1].rx_generation);
    assert_int_equal(info[1].tx_generation, info[0].rx_generation);
}

static void run_stream(struct search *s, bool is_resumed, const enum op *client,
                       const enum op *server)
{
    if (is_resumed)
        put_secrets();
    else
        resume_cache_clear(pair.client_cfg.cache);
    pair_new_sessions(&pair);
    set_peer(pair.client, &server_name);
    pair_options(&pair);
    assert_int_equal(session_is_open(pair.client), is_resumed);
    hosts[0] = (struct host){.session = pair.client, .script = client, .may_output = true};
    hosts[1] = (struct host){.session = pair.server, .script = server};
    hosts[0].may_output = !is_resumed;
    bool is_known = false;

    while (!is_known && move(s))
        is_known = is_known_state(s);
    if (!is_known)
        check_end();
    free_messages();
}

static void search_stream(bool remembers, bool is_resumed, const enum op *client,
                          const enum op *server)
{
    start_search(remembers);
    do {
        run_stream(&search, is_resumed, client, server);
    } while (next_run(&search));
    print_message("%zu orders, %zu states\n", search.run_cnt, search.seen_cnt);
    assert_true(search.run_cnt > 50);
}

static const enum op data_fin[] = {OP_DATA, OP_FIN, OP_END};
static const enum op fin[] = {OP_FIN, OP_END};
static const enum op rekey_fin[] = {OP_REKEY, OP_FIN, OP_END};
static const enum op data_rekey_data_fin[] = {OP_DATA, OP_REKEY, OP_DATA, OP_FIN, OP_END};
static const enum op many[] = {OP_DATA, OP_REKEY, OP_DATA, OP_REKEY, OP_DATA, OP_FIN, OP_END};

static void test_all_orders_of_a_fresh_session(void **state)
{
    search_stream(false, false, data_fin, fin);
    search_stream(false, false, fin, data_fin);
}

static void test_all_orders_of_a_resumed_session(void **state)
{
    search_stream(false, true, data_fin, data_fin);
    search_stream(false, true, rekey_fin, fin);
}

static void test_all_states_of_a_fresh_session(void **state)
{
    search_stream(true, false, data_rekey_data_fin, data_fin);
    search_stream(true, false, data_fin, data_rekey_data_fin);
}

static void test_all_states_of_crossing_rekeys(void **state)
{
    search_stream(true, true, rekey_fin, rekey_fin);
    search_stream(true, true, data_rekey_data_fin, data_rekey_data_fin);
    search_stream(true, true, many, rekey_fin);
}

/* --- SYN segments: two connections that resume, replays, time ------------------------------- */

#define CONNECTION_CNT 2

/* What has happened to a connection, in order. */
struct connection {
    struct session *client, *server, *replay; /* replay: a server's answer to the SYN again */
    uint8_t syn[ENO_OPTION_MAX_LEN], synack[ENO_OPTION_MAX_LEN];
    size_t syn_len, synack_len;
    int phase; /* 0: nothing, 1: SYN out, 2: SYN-ACK out, 3: ACK out, 4: ACK in */
};

static struct connection connections[CONNECTION_CNT];
static uint64_t now_ms;
static bool has_waited;

static struct session *new_session(const struct session_config *cfg, const struct resume_peer *peer)
{
    struct session *s = session_new(cfg);

    assert_non_null(s);
    set_peer(s, peer);
    return s;
}

static bool is_resumed(const struct session *s)
{
    struct session_info info;

    session_get_info(s, &info);
    return info.reason == SESSION_REASON_RESUMED;
}

/* The next segment of the connection arrives. */
static void step_connection(struct connection *c)
{
    enum tcns_err e;

    switch (c->phase++) {
    case 0:
        c->client = new_session(&pair.client_cfg, &server_name);
        assert_int_equal(session_connect(c->client, c->syn, &c->syn_len), TCNS_OK);
        break;
    case 1:
        c->server = new_session(&pair.server_cfg, &client_name);
        assert_int_equal(session_accept(c->server, c->syn, c->syn_len, c->synack, &c->synack_len),
                         TCNS_OK);
        break;
    case 2:
        assert_int_equal(session_connect_synack(c->client, c->synack, c->synack_len), TCNS_OK);
        assert_true(session_is_enabled(c->client));
        break;
    default:
        e = session_accept_ack(c->server, eno_ack_option, ENO_ACK_OPTION_LEN);
        assert_true(e == TCNS_OK || e == TCNS_ERR_SECRET_GONE);
        break;
    }
}

/* The SYN once more, as a new connection, and its ACK if the attacker makes one. */
static void replay_syn(struct connection *c, bool with_ack)
{
    uint8_t out[ENO_OPTION_MAX_LEN];
    size_t len;
    enum tcns_err e = TCNS_OK;

    c->replay = new_session(&pair.server_cfg, &client_name);
    assert_int_equal(session_accept(c->replay, c->syn, c->syn_len, out, &len), TCNS_OK);
    if (c->phase == 2 && !has_waited && len == c->synack_len)
        assert_memory_equal(out, c->synack, len);
    if (with_ack)
        e = session_accept_ack(c->replay, eno_ack_option, ENO_ACK_OPTION_LEN);
    assert_true(e == TCNS_OK || e == TCNS_ERR_SECRET_GONE);
}

static bool move_connections(struct search *s)
{
    int moves[3 * CONNECTION_CNT + 1];
    size_t cnt = 0;

    for (int i = 0; i < CONNECTION_CNT; i++) {
        const struct connection *c = &connections[i];

        if (c->phase < 4)
            moves[cnt++] = i;
        if (i == 0 && c->phase >= 1 && c->phase < 4 && !c->replay) {
            moves[cnt++] = 10 + i;
            moves[cnt++] = 20 + i;
        }
    }
    if (!has_waited && cnt > 0)
        moves[cnt++] = 30;
    if (cnt == 0)
        return false;
    int m = moves[choose(s, cnt)];

    if (m == 30) {
        has_waited = true;
        now_ms += RESUME_ANSWER_MAX_MS;
        resume_cache_tick(pair.server_cfg.cache, now_ms);
    } else if (m >= 10) {
        replay_syn(&connections[m % 10], m >= 20);
    } else {
        step_connection(&connections[m]);
    }
    return true;
}

/* No id twice at one host: no secret was enabled twice. */
static void check_ids(struct session *const *sessions, size_t cnt)
{
    struct session_info a, b;

    for (size_t i = 0; i < cnt; i++) {
        for (size_t j = 0; j < i; j++) {
            session_get_info(sessions[i], &a);
            session_get_info(sessions[j], &b);
            if (a.has_id && b.has_id)
                assert_memory_not_equal(a.id, b.id, SESSION_ID_LEN);
        }
    }
}

static void check_connections(void)
{
    struct session *servers[2 * CONNECTION_CNT], *clients[CONNECTION_CNT];
    size_t server_cnt = 0;

    for (size_t i = 0; i < CONNECTION_CNT; i++) {
        struct connection *c = &connections[i];

        clients[i] = c->client;
        servers[server_cnt++] = c->server;
        if (c->replay)
            servers[server_cnt++] = c->replay;
        if (session_is_open(c->client) && session_is_open(c->server)) {
            assert_true(is_resumed(c->client) && is_resumed(c->server));
            pair_check_data(c->client, c->server, "data");
            pair_check_data(c->server, c->client, "data");
        }
    }
    check_ids(servers, server_cnt);
    check_ids(clients, CONNECTION_CNT);
    for (size_t i = 0; i < server_cnt; i++)
        session_free(servers[i]);
    for (size_t i = 0; i < CONNECTION_CNT; i++)
        session_free(clients[i]);
}

static void test_orders_of_syn_segments(void **state)
{
    size_t resumed_cnt = 0;

    start_search(false);
    do {
        put_secrets();
        memset(connections, 0, sizeof(connections));
        has_waited = false;
        while (move_connections(&search))
            ;
        for (size_t i = 0; i < CONNECTION_CNT; i++)
            resumed_cnt += session_is_open(connections[i].server);
        check_connections();
    } while (next_run(&search));
    print_message("%zu orders, %zu connections resumed\n", search.run_cnt, resumed_cnt);
    assert_true(search.run_cnt > 1000);
    assert_true(resumed_cnt > search.run_cnt / 2);
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_all_orders_of_a_fresh_session), T(test_all_orders_of_a_resumed_session),
        T(test_all_states_of_a_fresh_session), T(test_all_states_of_crossing_rekeys),
        T(test_orders_of_syn_segments),
    };

    return cmocka_run_group_tests_name("tcpcrypt/orders", tests, NULL, NULL);
}
