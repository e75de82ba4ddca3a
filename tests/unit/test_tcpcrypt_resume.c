/* SPDX-License-Identifier: BSD-3-Clause
 * Session secrets between two hosts, RFC 8548 3.5. The cache alone: test_tcpcrypt_resume_cache.
 */
#include "tcpcrypt/resume.h"
#include "tcpcrypt_pair.h"

#include <sodium.h>
#include <string.h>

#define V_BIT 0x80

static const struct resume_peer peer_1 = {.len = 11, .host_len = 9, .name = "192.0.2.180"};
static const struct resume_peer peer_2 = {.len = 11, .host_len = 9, .name = "192.0.2.280"};

static struct pair pair;

static int set_up(void **state)
{
    pair_init(&pair);
    pair_add_caches(&pair, 8);
    return 0;
}

static int tear_down(void **state)
{
    pair_done(&pair);
    pair_free_caches(&pair);
    return buf_total() == 0 ? 0 : -1;
}

static void name_peer(struct session *s, const struct resume_peer *peer)
{
    session_set_peer(s, peer->name, peer->len, peer->host_len);
}

/* The client is peer_1 to the server, the server peer_2 to the client. */
static void new_sessions(void)
{
    pair_new_sessions(&pair);
    name_peer(pair.client, &peer_2);
    name_peer(pair.server, &peer_1);
}

static void carry(struct session *from, struct session *to)
{
    static struct wire w;
    static struct received r;

    w.len = 0;
    pair_output(from, &w);
    pair_deliver(to, &w, &r);
}

/* A connection from SYN to data. Return: why it is encrypted. */
static enum session_reason connect_once(struct session_info *client)
{
    struct session_info server;

    new_sessions();
    pair_options(&pair);
    if (!session_is_open(pair.client)) {
        carry(pair.client, pair.server);
        carry(pair.server, pair.client);
    }
    session_get_info(pair.client, client);
    session_get_info(pair.server, &server);
    assert_true(client->has_id && server.has_id);
    assert_memory_equal(client->id, server.id, sizeof(server.id));
    assert_int_equal(client->reason, server.reason);
    assert_int_equal(client->aead, server.aead);
    pair_check_data(pair.client, pair.server, "to server");
    pair_check_data(pair.server, pair.client, "to client");
    return client->reason;
}

static void test_chain_of_resumptions(void **state)
{
    struct session_info info[4];

    assert_int_equal(connect_once(&info[0]), SESSION_REASON_FULL);
    for (size_t i = 1; i < 4; i++) {
        assert_int_equal(connect_once(&info[i]), SESSION_REASON_RESUMED);
        assert_int_equal(info[i].tep, info[0].tep);
        assert_int_equal(info[i].id[0], info[0].tep | V_BIT);
        assert_memory_not_equal(info[i].id, info[i - 1].id, SESSION_ID_LEN);
    }
    assert_int_equal(resume_cache_cnt(pair.client_cfg.cache), 1);
    assert_int_equal(resume_cache_cnt(pair.server_cfg.cache), 1);
}

static void test_resumed_session_keeps_tep_and_aead(void **state)
{
    struct session_info info;

    pair.server_cfg.teps[0] = TEP_ECDHE_P256;
    pair.server_cfg.aeads[0] = AEAD_CHACHA20_POLY1305;
    pair.server_cfg.aeads[2] = AEAD_AES_128_GCM;
    assert_int_equal(connect_once(&info), SESSION_REASON_FULL);
    /* another order of preference does not matter (interpretations I06, I20) */
    pair.server_cfg.teps[0] = TEP_ECDHE_CURVE25519;
    pair.server_cfg.aeads[0] = AEAD_AES_128_GCM;
    pair.server_cfg.aeads[2] = AEAD_CHACHA20_POLY1305;
    assert_int_equal(connect_once(&info), SESSION_REASON_RESUMED);
    assert_int_equal(info.tep, TEP_ECDHE_P256);
    assert_int_equal(info.aead, AEAD_CHACHA20_POLY1305);
}

static void test_server_has_forgotten(void **state)
{
    struct session_info info;

    connect_once(&info);
    resume_cache_clear(pair.server_cfg.cache);
    assert_int_equal(connect_once(&info), SESSION_REASON_FULL);
    assert_int_equal(connect_once(&info), SESSION_REASON_RESUMED);
}

static void test_client_has_forgotten(void **state)
{
    struct session_info info;

    connect_once(&info);
    resume_cache_clear(pair.client_cfg.cache);
    assert_int_equal(connect_once(&info), SESSION_REASON_FULL);
    assert_int_equal(connect_once(&info), SESSION_REASON_RESUMED);
}

static void test_policy_of_one_connection(void **state)
{
    struct session_info info;
    struct resume_cache *cache = pair.client_cfg.cache;

    connect_once(&info);
    pair.client_cfg.cache = NULL; /* neither resume nor remember */
    assert_int_equal(connect_once(&info), SESSION_REASON_FULL);
    pair.client_cfg.cache = cache;
    assert_int_equal(connect_once(&info), SESSION_REASON_RESUMED);
    /* flush what this connection used */
    session_forget(pair.client);
    session_forget(pair.server);
    assert_int_equal(resume_cache_cnt(cache), 0);
    assert_int_equal(connect_once(&info), SESSION_REASON_FULL);
    /* and what it made */
    session_forget(pair.client);
    assert_int_equal(resume_cache_cnt(cache), 0);
}

static void test_without_a_name_nothing_is_kept(void **state)
{
    pair_open(&pair);
    assert_int_equal(resume_cache_cnt(pair.client_cfg.cache), 0);
    assert_int_equal(resume_cache_cnt(pair.server_cfg.cache), 1);
}

static void test_nonce_len_limit(void **state)
{
    new_sessions();
    assert_int_equal(session_set_resume_nonce_len(pair.client, 9), TCNS_ERR_TOO_LARGE);
    assert_int_equal(session_set_resume_nonce_len(pair.client, 8), TCNS_OK);
}

/* SYN and SYN-ACK of a new connection, up to where the ACK is missing. */
static void half_open(void)
{
    new_sessions();
    assert_int_equal(session_connect(pair.client, pair.syn, &pair.syn_len), TCNS_OK);
    assert_int_equal(
        session_accept(pair.server, pair.syn, pair.syn_len, pair.synack, &pair.synack_len),
        TCNS_OK);
    assert_int_equal(session_connect_synack(pair.client, pair.synack, pair.synack_len), TCNS_OK);
}

static enum session_reason reason_of(const struct session *s)
{
    struct session_info info;

    session_get_info(s, &info);
    return info.reason;
}

/* A server's answer to a SYN that was seen before: a session of its own. */
static struct session *answer_again(uint8_t out[ENO_OPTION_MAX_LEN], size_t *len)
{
    struct session *s = session_new(&pair.server_cfg);

    assert_non_null(s);
    name_peer(s, &peer_1);
    assert_int_equal(session_accept(s, pair.syn, pair.syn_len, out, len), TCNS_OK);
    return s;
}

/* A SYN that is sent again to a server that has no connection for it, by the network or
 * by an attacker, gets the same SYN-ACK as often as it likes, and nothing is used up. */
static void test_replayed_syn_gets_the_same_answer(void **state)
{
    struct session_info info;
    uint8_t out[ENO_OPTION_MAX_LEN];
    size_t len;

    connect_once(&info);
    half_open();
    assert_int_equal(pair.synack_len, 4 + KEYS_RESUME_HALF + 8);
    for (size_t i = 0; i < 20; i++) {
        session_free(answer_again(out, &len));
        assert_int_equal(len, pair.synack_len);
        assert_memory_equal(out, pair.synack, len);
    }
    assert_int_equal(session_accept_ack(pair.server, eno_ack_option, ENO_ACK_OPTION_LEN), TCNS_OK);
    assert_int_equal(reason_of(pair.server), SESSION_REASON_RESUMED);
    pair_check_data(pair.client, pair.server, "not disturbed");
    pair_check_data(pair.server, pair.client, "nor here");
}

/* Two connections with the same secret half open: the second ACK must not enable it
 * again, nor fall back to plain TCP. */
static void test_replayed_syn_and_ack(void **state)
{
    struct session_info info;
    uint8_t out[ENO_OPTION_MAX_LEN];
    size_t len;
    struct session *other;
    struct buf *b = NULL;

    connect_once(&info);
    half_open();
    other = answer_again(out, &len);
    assert_int_equal(session_accept_ack(pair.server, eno_ack_option, ENO_ACK_OPTION_LEN), TCNS_OK);
    assert_int_equal(session_accept_ack(other, eno_ack_option, ENO_ACK_OPTION_LEN),
                     TCNS_ERR_SECRET_GONE);
    assert_true(session_is_enabled(other)); /* it must be reset */
    assert_false(session_is_open(other));
    assert_int_equal(session_output(other, &b), TCNS_ERR_SECRET_GONE);
    assert_int_equal(session_seal(other, NULL, 0, 0, 0, &b), TCNS_ERR_STATE);
    session_get_info(other, &info);
    assert_false(info.has_id);
    session_free(other);
    pair_check_data(pair.client, pair.server, "the first one works");
}

/* After it was used a replayed SYN gets a fresh key exchange. */
static void test_replayed_syn_of_a_used_secret(void **state)
{
    struct session_info info;
    uint8_t out[ENO_OPTION_MAX_LEN];
    size_t len;

    connect_once(&info);
    assert_int_equal(connect_once(&info), SESSION_REASON_RESUMED);
    session_free(answer_again(out, &len));
    assert_int_equal(len, 4);
    assert_int_equal(out[3], TEP_ECDHE_CURVE25519); /* v = 0 */
}

/* RFC 8547 4.6 also holds for a resumption: plain TCP, and the secret is still there. */
static void test_ack_without_eno_after_resumption(void **state)
{
    struct session_info info;
    uint8_t out[ENO_OPTION_MAX_LEN];
    size_t len;

    connect_once(&info);
    half_open();
    assert_int_equal(session_accept_ack(pair.server, NULL, 0), TCNS_OK);
    assert_int_equal(reason_of(pair.server), SESSION_REASON_ENO_STRIPPED);
    assert_false(session_is_enabled(pair.server));
    session_free(answer_again(out, &len));
    assert_int_equal(len, pair.synack_len);
    assert_memory_equal(out, pair.synack, len);
    /* The client has used its secret up; the next of the chain is recognised. */
    assert_int_equal(connect_once(&info), SESSION_REASON_RESUMED);
}

/* While the server's answer is awaited it proposes no secret of that chain itself. */
static bool is_awaited(void)
{
    struct resume_secret got;
    bool is_free =
        resume_take_active(pair.server_cfg.cache, &session_config_default, &peer_1, &got);

    return !is_free;
}

static void server_is_freed(void)
{
    session_free(pair.server);
    pair.server = NULL;
}

static void ack_without_eno(void)
{
    assert_int_equal(session_accept_ack(pair.server, NULL, 0), TCNS_OK);
}

static void syn_again_without_eno(void)
{
    uint8_t out[ENO_OPTION_MAX_LEN];
    size_t len;

    assert_int_equal(session_accept(pair.server, NULL, 0, out, &len), TCNS_OK);
    assert_int_equal(len, 0);
}

static void syn_again_ill_formed(void)
{
    static const uint8_t bad[] = {69, 5, 1, 0x9f, 0xa3};
    uint8_t out[ENO_OPTION_MAX_LEN];
    size_t len;

    assert_int_equal(session_accept(pair.server, bad, sizeof(bad), out, &len), TCNS_OK);
    assert_int_equal(len, 0);
}

/* An opening that ends without having resumed is awaited no longer, however it ends. */
static void test_wait_ends_with_the_opening(void **state)
{
    void (*const ends[])(void) = {server_is_freed, ack_without_eno, syn_again_without_eno,
                                  syn_again_ill_formed};
    struct session_info info;

    for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
        connect_once(&info);
        half_open();
        assert_true(is_awaited());
        ends[i]();
        assert_false(is_awaited());
        resume_cache_clear(pair.client_cfg.cache);
        resume_cache_clear(pair.server_cfg.cache);
    }
}

/* The end of a replayed SYN's connection is not the end of the peer's. */
static void test_wait_outlasts_a_replay(void **state)
{
    struct session_info info;
    uint8_t out[ENO_OPTION_MAX_LEN];
    size_t len;
    struct session *replay;

    connect_once(&info);
    half_open();
    session_free(answer_again(out, &len));
    assert_true(is_awaited());
    replay = answer_again(out, &len);
    assert_int_equal(session_accept_ack(replay, NULL, 0), TCNS_OK);
    session_free(replay);
    assert_true(is_awaited());
}

/* The first ACK is lost. The client believes that it has resumed, so many others that come
 * meanwhile must not take the secret away: a reset would follow. */
static void test_ack_comes_late(void **state)
{
    struct session_info info;
    struct session *client, *server;

    connect_once(&info);
    half_open();
    client = pair.client;
    server = pair.server;
    pair.client = pair.server = NULL;
    for (size_t i = 1; i < RESUME_WINDOW_CNT; i++)
        assert_int_equal(connect_once(&info), SESSION_REASON_RESUMED);
    assert_int_equal(session_accept_ack(server, eno_ack_option, ENO_ACK_OPTION_LEN), TCNS_OK);
    assert_int_equal(reason_of(server), SESSION_REASON_RESUMED);
    pair_check_data(client, server, "late");
    pair_check_data(server, client, "but in time");
    assert_int_equal(connect_once(&info), SESSION_REASON_RESUMED);
    session_free(client);
    session_free(server);
}

/* Somebody keeps a SYN from the server and sends it himself, from where he likes, and never an
 * ACK. That costs one key exchange, whose secrets serve from then on. */
static void test_kept_syn_costs_a_key_exchange(void **state)
{
    struct session_info info;
    struct session *replay;
    uint8_t out[ENO_OPTION_MAX_LEN];
    size_t len;

    connect_once(&info);
    new_sessions();
    assert_int_equal(session_connect(pair.client, pair.syn, &pair.syn_len), TCNS_OK);
    replay = answer_again(out, &len);
    for (size_t i = 1; i < RESUME_WINDOW_CNT; i++)
        assert_int_equal(connect_once(&info), SESSION_REASON_RESUMED);
    assert_int_equal(connect_once(&info), SESSION_REASON_FULL);
    for (size_t i = 0; i < 2 * RESUME_WINDOW_CNT; i++)
        assert_int_equal(connect_once(&info), SESSION_REASON_RESUMED);
    session_free(replay);
}

/* RFC 8548 3.5: the active opener never proposes an index twice, also when the attempt
 * failed; the passive one recognises at least the next half window. */
static void check_lost_syns(size_t lost_cnt, enum session_reason expected)
{
    struct session_info info;
    uint8_t last[ENO_OPTION_MAX_LEN] = {0};

    connect_once(&info);
    for (size_t i = 0; i < lost_cnt; i++) {
        new_sessions();
        assert_int_equal(session_connect(pair.client, pair.syn, &pair.syn_len), TCNS_OK);
        assert_memory_not_equal(pair.syn + pair.syn_len - 17, last, KEYS_RESUME_HALF);
        memcpy(last, pair.syn + pair.syn_len - 17, KEYS_RESUME_HALF);
    }
    assert_int_equal(connect_once(&info), expected);
    assert_int_equal(connect_once(&info), SESSION_REASON_RESUMED);
}

static void test_lost_syns_do_not_end_a_chain(void **state)
{
    for (size_t lost = 0; lost < RESUME_WINDOW_CNT / 2; lost++)
        check_lost_syns(lost, SESSION_REASON_RESUMED);
    check_lost_syns(RESUME_WINDOW_CNT, SESSION_REASON_FULL);
}

/* Later SYNs of a chain that overtake earlier ones. */
static void test_overtaken_syn(void **state)
{
    struct session_info info;
    struct session *early;
    uint8_t first[ENO_OPTION_MAX_LEN], out[ENO_OPTION_MAX_LEN];
    size_t first_len, len;

    connect_once(&info);
    early = session_new(&pair.client_cfg);
    name_peer(early, &peer_2);
    assert_int_equal(session_connect(early, first, &first_len), TCNS_OK);
    assert_int_equal(connect_once(&info), SESSION_REASON_RESUMED);
    new_sessions();
    assert_int_equal(session_accept(pair.server, first, first_len, out, &len), TCNS_OK);
    assert_true(len > 4); /* with the other half of the identifier */
    assert_int_equal(session_connect_synack(early, out, len), TCNS_OK);
    assert_int_equal(reason_of(early), SESSION_REASON_RESUMED);
    session_free(early);
}

/* Swaps who opens: the hosts keep their caches. */
static void swap_hosts(void)
{
    struct session_config cfg = pair.client_cfg;

    pair.client_cfg = pair.server_cfg;
    pair.server_cfg = cfg;
}

/* RFC 8548 3.5: either host may open next; keys go by the original role. */
static void test_either_host_opens_next(void **state)
{
    struct session_info info;

    assert_int_equal(connect_once(&info), SESSION_REASON_FULL);
    for (size_t i = 0; i < 4; i++) {
        swap_hosts();
        /* the hosts' names change places, too */
        pair_new_sessions(&pair);
        name_peer(pair.client, i % 2 ? &peer_2 : &peer_1);
        name_peer(pair.server, i % 2 ? &peer_1 : &peer_2);
        pair_options(&pair);
        assert_int_equal(reason_of(pair.client), SESSION_REASON_RESUMED);
        assert_int_equal(reason_of(pair.server), SESSION_REASON_RESUMED);
        pair_check_data(pair.client, pair.server, "to server");
        pair_check_data(pair.server, pair.client, "to client");
    }
}

/* Both hosts name the same secret at once in connections of their own: both are refused,
 * and both connections get fresh keys. */
static void test_crossing_proposals(void **state)
{
    struct session_info info;
    struct session *from_client, *from_server, *at_client, *at_server;
    uint8_t syn[2][ENO_OPTION_MAX_LEN], synack[2][ENO_OPTION_MAX_LEN];
    size_t len[4];

    connect_once(&info);
    from_client = session_new(&pair.client_cfg);
    at_client = session_new(&pair.client_cfg);
    from_server = session_new(&pair.server_cfg);
    at_server = session_new(&pair.server_cfg);
    name_peer(from_client, &peer_2);
    name_peer(from_server, &peer_1);
    assert_int_equal(session_connect(from_client, syn[0], &len[0]), TCNS_OK);
    assert_int_equal(session_connect(from_server, syn[1], &len[1]), TCNS_OK);
    assert_int_equal(len[0], len[1]); /* both propose */
    assert_int_equal(session_accept(at_server, syn[0], len[0], synack[0], &len[2]), TCNS_OK);
    assert_int_equal(session_accept(at_client, syn[1], len[1], synack[1], &len[3]), TCNS_OK);
    assert_int_equal(len[2], 4);
    assert_int_equal(len[3], 4);
    assert_int_equal(session_connect_synack(from_client, synack[0], len[2]), TCNS_OK);
    assert_int_equal(session_connect_synack(from_server, synack[1], len[3]), TCNS_OK);
    assert_int_equal(reason_of(from_client), SESSION_REASON_FULL);
    assert_int_equal(reason_of(from_server), SESSION_REASON_FULL);
    session_free(from_client);
    session_free(at_client);
    session_free(from_server);
    session_free(at_server);
    assert_int_equal(connect_once(&info), SESSION_REASON_RESUMED); /* the next secret */
}

/* RFC 8548 3.5: in a simultaneous open both may name the same secret, and it is resumed.
 * Where only one does, the keys are fresh. */
static void check_simultaneous_open(bool both_propose)
{
    struct session_info info;

    resume_cache_clear(pair.client_cfg.cache);
    resume_cache_clear(pair.server_cfg.cache);
    connect_once(&info);
    pair.server_cfg.passive_role = true;
    new_sessions();
    session_set_no_resume(pair.server, !both_propose);
    assert_int_equal(session_connect(pair.client, pair.syn, &pair.syn_len), TCNS_OK);
    assert_int_equal(session_connect(pair.server, pair.synack, &pair.synack_len), TCNS_OK);
    /* SYN, then SYN-ACK with the same option, each way */
    assert_int_equal(session_connect_synack(pair.client, pair.synack, pair.synack_len), TCNS_OK);
    assert_int_equal(session_connect_synack(pair.server, pair.syn, pair.syn_len), TCNS_OK);
    assert_int_equal(reason_of(pair.client),
                     both_propose ? SESSION_REASON_RESUMED : SESSION_REASON_FULL);
    assert_int_equal(reason_of(pair.client), reason_of(pair.server));
    if (!both_propose) {
        carry(pair.client, pair.server);
        carry(pair.server, pair.client);
    }
    pair_check_data(pair.client, pair.server, "simultaneous");
    pair_check_data(pair.server, pair.client, "open");
    pair.server_cfg.passive_role = false;
}

static void test_simultaneous_open_resumes(void **state)
{
    check_simultaneous_open(true);
    check_simultaneous_open(false);
}

/* The client knows two chains of this server, the server those and others. */
static void test_two_cached_secrets(void **state)
{
    struct session_info info;

    pair.server_cfg.teps[0] = TEP_ECDHE_P256;
    connect_once(&info);
    assert_int_equal(info.tep, TEP_ECDHE_P256);
    resume_cache_clear(pair.client_cfg.cache);
    pair.server_cfg.teps[0] = TEP_ECDHE_CURVE448;
    connect_once(&info);
    pair.client_cfg.no_resume = true;
    pair.server_cfg.teps[0] = TEP_ECDHE_CURVE25519;
    connect_once(&info);
    assert_int_equal(info.reason, SESSION_REASON_FULL);
    pair.client_cfg.no_resume = false;
    assert_int_equal(resume_cache_cnt(pair.client_cfg.cache), 2);
    assert_int_equal(resume_cache_cnt(pair.server_cfg.cache), 3);
    /* the newest chain that is allowed */
    assert_int_equal(connect_once(&info), SESSION_REASON_RESUMED);
    assert_int_equal(info.tep, TEP_ECDHE_CURVE25519);
    pair.client_cfg.teps[0] = TEP_ECDHE_CURVE448;
    pair.client_cfg.tep_cnt = 1;
    assert_int_equal(connect_once(&info), SESSION_REASON_RESUMED);
    assert_int_equal(info.tep, TEP_ECDHE_CURVE448);
}

/* RFC 8548 3.5, the two policies of a connection. */
static void test_no_resume_of_either_side(void **state)
{
    struct session_info info;

    connect_once(&info);
    new_sessions();
    session_set_no_resume(pair.client, true);
    assert_int_equal(session_connect(pair.client, pair.syn, &pair.syn_len), TCNS_OK);
    assert_int_equal(pair.syn_len, 6); /* four TEPs */
    new_sessions();
    session_set_no_resume(pair.server, true);
    pair_options(&pair);
    assert_int_equal(reason_of(pair.client), SESSION_REASON_FULL);
    /* nothing was forgotten */
    assert_int_equal(connect_once(&info), SESSION_REASON_RESUMED);
}

static void test_no_cache(void **state)
{
    struct session_info info;

    pair.client_cfg.no_cache = true;
    pair.server_cfg.no_cache = true;
    assert_int_equal(connect_once(&info), SESSION_REASON_FULL);
    assert_int_equal(resume_cache_cnt(pair.client_cfg.cache), 0);
    assert_int_equal(resume_cache_cnt(pair.server_cfg.cache), 0);
    pair.client_cfg.no_cache = false;
    pair.server_cfg.no_cache = false;
    assert_int_equal(connect_once(&info), SESSION_REASON_FULL);
    /* what a resumed connection leaves is not kept either */
    new_sessions();
    session_set_no_cache(pair.client, true);
    session_set_no_cache(pair.server, true);
    pair_options(&pair);
    assert_int_equal(reason_of(pair.client), SESSION_REASON_RESUMED);
    assert_int_equal(resume_cache_cnt(pair.client_cfg.cache), 0);
    assert_int_equal(resume_cache_cnt(pair.server_cfg.cache), 0);
}

/* RFC 8548 3.2, 3.5: protected data in the first flight, with the ACK. */
static void test_data_in_the_first_flight(void **state)
{
    static struct wire w;
    static struct received r;
    struct session_info info;

    connect_once(&info);
    half_open();
    assert_true(session_is_open(pair.client));
    w.len = 0;
    pair_seal(pair.client, "early", 5, 0, &w);
    assert_int_equal(session_accept_ack(pair.server, eno_ack_option, ENO_ACK_OPTION_LEN), TCNS_OK);
    pair_deliver(pair.server, &w, &r);
    assert_memory_equal(r.data, "early", 5);
}

/* Connections at the same time propose different secrets. */
static void test_parallel_opens(void **state)
{
    struct session_info info;
    struct session *other = session_new(&pair.client_cfg);
    uint8_t out[ENO_OPTION_MAX_LEN];
    size_t len;

    connect_once(&info);
    new_sessions();
    name_peer(other, &peer_2);
    assert_int_equal(session_connect(pair.client, pair.syn, &pair.syn_len), TCNS_OK);
    assert_int_equal(session_connect(other, out, &len), TCNS_OK);
    assert_int_equal(len, pair.syn_len);
    /* the suboption comes last: half of the identifier, nonce */
    assert_memory_not_equal(out + len - 17, pair.syn + len - 17, KEYS_RESUME_HALF);
    session_free(other);
}

/* The same SYN again to the same server session: the same answer, no second secret. */
static void test_repeated_syn(void **state)
{
    struct session_info info;
    uint8_t again[ENO_OPTION_MAX_LEN];
    size_t len;

    connect_once(&info);
    new_sessions();
    assert_int_equal(session_connect(pair.client, pair.syn, &pair.syn_len), TCNS_OK);
    assert_int_equal(
        session_accept(pair.server, pair.syn, pair.syn_len, pair.synack, &pair.synack_len),
        TCNS_OK);
    assert_int_equal(session_accept(pair.server, pair.syn, pair.syn_len, again, &len), TCNS_OK);
    assert_int_equal(len, pair.synack_len);
    assert_memory_equal(again, pair.synack, len);
}

/* RFC 8548 3.5: an identifier half that does not match is ignored; it was the only TEP. */
static void test_wrong_half_from_server(void **state)
{
    struct session_info info;

    for (size_t byte = 4; byte < 4 + KEYS_RESUME_HALF; byte++) {
        connect_once(&info);
        new_sessions();
        assert_int_equal(session_connect(pair.client, pair.syn, &pair.syn_len), TCNS_OK);
        assert_int_equal(
            session_accept(pair.server, pair.syn, pair.syn_len, pair.synack, &pair.synack_len),
            TCNS_OK);
        assert_int_equal(pair.synack_len, 4 + KEYS_RESUME_HALF + 8);
        pair.synack[byte] ^= 0x10;
        assert_int_equal(session_connect_synack(pair.client, pair.synack, pair.synack_len),
                         TCNS_OK);
        assert_false(session_is_enabled(pair.client));
        assert_int_equal(session_accept_ack(pair.server, NULL, 0), TCNS_OK);
        assert_false(session_is_enabled(pair.server));
    }
    assert_int_equal(connect_once(&info), SESSION_REASON_RESUMED);
}

/* A nonce altered on its way changes the keys: nothing is delivered. */
static void test_altered_nonce(void **state)
{
    struct session_info info;
    static struct wire w;
    static struct received r;

    connect_once(&info);
    new_sessions();
    assert_int_equal(session_connect(pair.client, pair.syn, &pair.syn_len), TCNS_OK);
    pair.syn[pair.syn_len - 1] ^= 1;
    assert_int_equal(
        session_accept(pair.server, pair.syn, pair.syn_len, pair.synack, &pair.synack_len),
        TCNS_OK);
    assert_int_equal(session_connect_synack(pair.client, pair.synack, pair.synack_len), TCNS_OK);
    assert_int_equal(session_accept_ack(pair.server, eno_ack_option, ENO_ACK_OPTION_LEN), TCNS_OK);
    assert_true(session_is_open(pair.client) && session_is_open(pair.server));
    w.len = 0;
    pair_seal(pair.client, "secret", 6, 0, &w);
    assert_int_equal(pair_feed(pair.server, &w, SIZE_MAX, &r), TCNS_ERR_FRAME_AUTH);
    assert_int_equal(r.len, 0);
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_chain_of_resumptions),
        T(test_resumed_session_keeps_tep_and_aead),
        T(test_server_has_forgotten),
        T(test_client_has_forgotten),
        T(test_policy_of_one_connection),
        T(test_without_a_name_nothing_is_kept),
        T(test_nonce_len_limit),
        T(test_replayed_syn_gets_the_same_answer),
        T(test_replayed_syn_and_ack),
        T(test_replayed_syn_of_a_used_secret),
        T(test_ack_without_eno_after_resumption),
        T(test_wait_ends_with_the_opening),
        T(test_wait_outlasts_a_replay),
        T(test_ack_comes_late),
        T(test_kept_syn_costs_a_key_exchange),
        T(test_lost_syns_do_not_end_a_chain),
        T(test_overtaken_syn),
        T(test_either_host_opens_next),
        T(test_crossing_proposals),
        T(test_simultaneous_open_resumes),
        T(test_two_cached_secrets),
        T(test_no_resume_of_either_side),
        T(test_no_cache),
        T(test_data_in_the_first_flight),
        T(test_parallel_opens),
        T(test_repeated_syn),
        T(test_wrong_half_from_server),
        T(test_altered_nonce),
    };

    return cmocka_run_group_tests_name("tcpcrypt/resume", tests, NULL, NULL);
}
