/* SPDX-License-Identifier: BSD-3-Clause
 * The cache of session secrets, alone and between two sessions.
 */
#include "tcpcrypt/resume.h"
#include "tcpcrypt_pair.h"

#include <sodium.h>
#include <string.h>

#define V_BIT 0x80

/* --- The cache alone --------------------------------------------------------------- */

static const struct resume_peer peer_1 = {.len = 11, .host_len = 9, .name = "192.0.2.180"};
static const struct resume_peer peer_1_other = {.len = 11, .host_len = 9, .name = "192.0.2.181"};
static const struct resume_peer peer_2 = {.len = 11, .host_len = 9, .name = "192.0.2.280"};
static const struct resume_peer nobody;
static const struct session_config *const any = &session_config_default;

static struct resume_secret make_secret(uint8_t tep, uint8_t fill)
{
    struct resume_secret secret = {.tep = tep, .aead = AEAD_AES_128_GCM};

    memset(secret.ss, fill, sizeof(secret.ss));
    return secret;
}

/* ss[index] of the chain that begins with secret. */
static struct resume_secret later(struct resume_secret secret, uint64_t index)
{
    for (; secret.index < index; secret.index++)
        keys_next_secret(secret.ss, secret.ss);
    return secret;
}

/* The passive side's look-up of ss[index]. */
static bool find(struct resume_cache *c, struct resume_secret secret, uint64_t index,
                 struct resume_secret *ret)
{
    uint8_t ours[KEYS_RESUME_HALF], theirs[KEYS_RESUME_HALF];

    secret = later(secret, index);
    resume_halves(&secret, ours, theirs);
    if (!resume_find_passive(c, any, secret.tep, theirs, ret))
        return false;
    assert_memory_equal(ret->ss, secret.ss, KEYS_K_LEN);
    assert_int_equal(ret->index, index);
    return true;
}

static void test_no_secret_twice(void **state)
{
    struct resume_cache *c = resume_cache_new(4);
    struct resume_secret secret = make_secret(TEP_ECDHE_CURVE25519, 1), first, second, next;

    resume_put(c, &secret, &peer_1, true);
    assert_true(resume_take_active(c, any, &peer_1, &first));
    assert_true(resume_take_active(c, any, &peer_1, &second));
    assert_memory_equal(first.ss, secret.ss, KEYS_K_LEN);
    next = later(secret, 1);
    assert_memory_equal(second.ss, next.ss, KEYS_K_LEN);
    assert_int_equal(first.chain, second.chain);
    assert_int_equal(resume_cache_cnt(c), 1);
    /* nor in the other role */
    assert_false(find(c, secret, 0, &next));
    assert_false(find(c, secret, 1, &next));
    assert_true(find(c, secret, 2, &next));
    assert_true(resume_take_passive(c, &next));
    assert_false(resume_take_passive(c, &next));
    assert_false(find(c, secret, 2, &next));
    assert_true(resume_take_active(c, any, &peer_1, &first));
    assert_int_equal(first.index, 3);
    resume_cache_free(c);
}

static void test_who_gets_a_secret(void **state)
{
    struct resume_cache *c = resume_cache_new(4);
    struct resume_secret secret = make_secret(TEP_ECDHE_CURVE25519, 2), got;
    struct session_config cfg = session_config_default;
    uint8_t ours[KEYS_RESUME_HALF], theirs[KEYS_RESUME_HALF];

    resume_halves(&secret, ours, theirs);
    resume_put(c, &secret, &peer_1, true);
    /* active: only for that service, only for what cfg allows */
    assert_false(resume_take_active(c, any, &peer_2, &got));
    assert_false(resume_take_active(c, any, &peer_1_other, &got));
    assert_false(resume_take_active(c, any, &nobody, &got));
    cfg.aeads[0] = AEAD_AES_256_GCM;
    cfg.aead_cnt = 1;
    assert_false(resume_take_active(c, &cfg, &peer_1, &got));
    assert_false(resume_find_passive(c, &cfg, secret.tep, theirs, &got));
    cfg = session_config_default;
    cfg.teps[0] = TEP_ECDHE_P256;
    cfg.tep_cnt = 1;
    assert_false(resume_take_active(c, &cfg, &peer_1, &got));
    assert_false(resume_find_passive(c, &cfg, secret.tep, theirs, &got));
    /* passive: for the other half of the identifier, from anywhere, and that TEP */
    assert_false(resume_find_passive(c, any, secret.tep, ours, &got));
    assert_false(resume_find_passive(c, any, TEP_ECDHE_P256, theirs, &got));
    assert_true(resume_find_passive(c, any, secret.tep, theirs, &got));
    resume_cache_clear(c);
    assert_int_equal(resume_cache_cnt(c), 0);
    assert_false(resume_take_active(c, any, &peer_1, &got));
    assert_false(resume_find_passive(c, any, secret.tep, theirs, &got));

    /* of a passive open: for any service of that host */
    resume_put(c, &secret, &peer_1, false);
    assert_false(resume_take_active(c, any, &peer_2, &got));
    assert_true(resume_take_active(c, any, &peer_1_other, &got));
    /* a nameless one serves passive opens only */
    resume_cache_clear(c);
    resume_put(c, &secret, &nobody, false);
    assert_false(resume_take_active(c, any, &nobody, &got));
    assert_true(find(c, secret, 0, &got));
    resume_cache_free(c);
}

static void test_eviction(void **state)
{
    struct resume_cache *c = resume_cache_new(2);
    struct resume_secret a = make_secret(TEP_ECDHE_CURVE25519, 3), got;
    struct resume_secret b = make_secret(TEP_ECDHE_P256, 4);
    uint64_t chain;

    resume_put(c, &a, &peer_1, true);
    resume_put(c, &a, &peer_1, true); /* one entry per service and TEP */
    assert_int_equal(resume_cache_cnt(c), 1);
    resume_put(c, &b, &peer_1, true);
    assert_int_equal(resume_cache_cnt(c), 2);
    assert_true(resume_take_active(c, any, &peer_1, &got));
    assert_int_equal(got.tep, TEP_ECDHE_P256); /* the newest */
    chain = resume_put(c, &a, &peer_2, true);  /* drops peer_1's older entry */
    assert_int_equal(resume_cache_cnt(c), 2);
    assert_true(resume_take_active(c, any, &peer_1, &got));
    assert_int_equal(got.tep, TEP_ECDHE_P256);
    resume_forget(c, chain);
    resume_forget(c, chain);
    resume_forget(c, 0);
    assert_int_equal(resume_cache_cnt(c), 1);
    assert_false(resume_take_active(c, any, &peer_2, &got));
    resume_cache_free(c);
    resume_cache_free(NULL);
}

/* A SYN may name one of the next secrets of a chain. Those before it may still be under
 * way, each for itself, until the chain is half a window further. */
static void test_window_of_later_secrets(void **state)
{
    struct resume_cache *c = resume_cache_new(1);
    struct resume_secret secret = make_secret(TEP_ECDHE_CURVE448, 5), got, late;
    const uint64_t last = RESUME_WINDOW_CNT - 1, first = last - RESUME_WINDOW_CNT / 2 + 1;

    resume_put(c, &secret, &nobody, false);
    for (uint64_t i = 0; i < RESUME_WINDOW_CNT; i++)
        assert_true(find(c, secret, i, &got));
    assert_false(find(c, secret, RESUME_WINDOW_CNT, &got));
    assert_true(find(c, secret, 1, &late));
    assert_true(find(c, secret, 2, &got));
    assert_true(resume_take_passive(c, &got));
    assert_false(resume_take_passive(c, &got));
    assert_false(find(c, secret, 2, &got));
    assert_true(resume_take_passive(c, &late)); /* another was faster, that is all */
    assert_false(find(c, secret, 1, &late));
    assert_true(find(c, secret, 0, &late));
    assert_true(find(c, secret, last, &got));
    assert_true(resume_take_passive(c, &got));
    assert_false(resume_take_passive(c, &late)); /* too late: its SYN was answered long ago */
    for (uint64_t i = 0; i < first; i++)
        assert_false(find(c, secret, i, &got));
    for (uint64_t i = first; i < first + RESUME_WINDOW_CNT; i++)
        assert_int_equal(find(c, secret, i, &got), i != last);
    assert_false(find(c, secret, first + RESUME_WINDOW_CNT, &got));
    resume_cache_free(c);
}

/* Forward secrecy: what was overtaken leads to what was used, so it goes after a while. */
static void test_overtaken_secrets_go(void **state)
{
    struct resume_cache *c = resume_cache_new(2);
    struct resume_secret secret = make_secret(TEP_ECDHE_CURVE25519, 12), got;

    resume_put(c, &secret, &peer_1, false);
    assert_true(find(c, secret, 2, &got));
    assert_true(resume_take_passive(c, &got)); /* overtakes 0 and 1 */
    resume_cache_tick(c, RESUME_GAP_MAX_MS / 2);
    assert_true(find(c, secret, 5, &got));
    assert_true(resume_take_passive(c, &got)); /* and 3 and 4 later */
    resume_cache_tick(c, RESUME_GAP_MAX_MS - 1);
    for (uint64_t i = 0; i < 7; i++)
        assert_int_equal(find(c, secret, i, &got), i != 2 && i != 5);
    resume_cache_tick(c, RESUME_GAP_MAX_MS);
    for (uint64_t i = 0; i < 7; i++)
        assert_int_equal(find(c, secret, i, &got), i > 2 && i != 5);
    resume_cache_tick(c, 2 * RESUME_GAP_MAX_MS);
    for (uint64_t i = 0; i < 6 + RESUME_WINDOW_CNT; i++)
        assert_int_equal(find(c, secret, i, &got), i > 5);
    /* a gap that is filled leaves nothing to close */
    assert_true(find(c, secret, 7, &got));
    assert_true(resume_take_passive(c, &got));
    assert_true(resume_take_active(c, any, &peer_1_other, &got));
    assert_int_equal(got.index, 6);
    resume_cache_tick(c, 4 * RESUME_GAP_MAX_MS);
    assert_true(find(c, secret, 8, &got));
    resume_cache_free(c);
}

static void test_age_is_bounded(void **state)
{
    struct resume_cache *c = resume_cache_new(4);
    struct resume_secret a = make_secret(TEP_ECDHE_CURVE25519, 6), got;
    struct resume_secret b = make_secret(TEP_ECDHE_CURVE25519, 7);

    resume_cache_tick(c, 5000);
    resume_put(c, &a, &peer_1, true);
    resume_cache_tick(c, 6000);
    resume_put(c, &b, &peer_2, true);
    resume_cache_tick(c, 5000 + RESUME_AGE_DEFAULT_MS - 1);
    assert_int_equal(resume_cache_cnt(c), 2);
    assert_true(resume_take_active(c, any, &peer_1, &got)); /* use does not lengthen its life */
    resume_cache_tick(c, 5000 + RESUME_AGE_DEFAULT_MS);
    assert_int_equal(resume_cache_cnt(c), 1);
    assert_false(resume_take_active(c, any, &peer_1, &got));
    assert_false(find(c, a, 1, &got));
    assert_true(find(c, b, 0, &got));
    resume_cache_set_age(c, 100);
    assert_int_equal(resume_cache_cnt(c), 0);
    assert_false(resume_take_passive(c, &got));
    resume_cache_free(c);
}

static uint8_t drawn;

static void count_draws(void *out, size_t len)
{
    memset(out, ++drawn, len);
}

/* RFC 8547 4.6: what is sent again is the same. */
static void test_answer_nonce_is_kept(void **state)
{
    struct resume_cache *c = resume_cache_new(1);
    struct resume_secret secret = make_secret(TEP_ECDHE_P521, 8), got;
    uint8_t nonce[3][RESUME_NONCE_MAX_LEN];

    resume_put(c, &secret, &peer_1, false);
    assert_true(find(c, secret, 0, &got));
    resume_answer_nonce(c, &got, count_draws, nonce[0], 8);
    resume_cache_tick(c, RESUME_ANSWER_MAX_MS - 1);
    resume_answer_nonce(c, &got, count_draws, nonce[1], 8);
    assert_memory_equal(nonce[0], nonce[1], 8);
    /* a nonce that waits for long could be in the memory of a cloned machine */
    resume_cache_tick(c, RESUME_ANSWER_MAX_MS);
    resume_answer_nonce(c, &got, count_draws, nonce[1], 8);
    assert_memory_not_equal(nonce[0], nonce[1], 8);
    assert_true(find(c, secret, 1, &got)); /* each secret has its own */
    resume_answer_nonce(c, &got, count_draws, nonce[2], 8);
    assert_memory_not_equal(nonce[1], nonce[2], 8);
    resume_answer_nonce(c, &got, count_draws, nonce[2], 0);
    resume_cache_free(c);
}

/* Of the same secret, two halves in two SYNs at once: not while one is being answered. */
static void test_active_leaves_an_answered_chain_alone(void **state)
{
    struct resume_cache *c = resume_cache_new(1);
    struct resume_secret secret = make_secret(TEP_ECDHE_P256, 9), got, other;
    uint8_t nonce[RESUME_NONCE_MAX_LEN];

    resume_put(c, &secret, &peer_1, true);
    assert_true(find(c, secret, 0, &got));
    resume_answer_nonce(c, &got, count_draws, nonce, 8);
    assert_false(resume_take_active(c, any, &peer_1, &other));
    resume_cache_tick(c, RESUME_ANSWER_MAX_MS); /* the ACK never came */
    assert_true(resume_take_active(c, any, &peer_1, &other));
    assert_int_equal(other.index, 0);
    assert_false(resume_take_passive(c, &got)); /* now it is too late for it */
    resume_cache_free(c);
}

/* Hosts that open to each other at once: the key exchange of one connection ends while
 * the other, resumed from the older chain, waits for its ACK. */
static void test_successor_leaves_an_answered_chain_alone(void **state)
{
    struct resume_cache *c = resume_cache_new(4);
    struct resume_secret older = make_secret(TEP_ECDHE_P256, 10), got, other;
    struct resume_secret newer = make_secret(TEP_ECDHE_P256, 11);
    uint8_t nonce[RESUME_NONCE_MAX_LEN];

    resume_put(c, &older, &peer_1, true);
    assert_true(find(c, older, 3, &got));
    resume_answer_nonce(c, &got, count_draws, nonce, 8);
    resume_put(c, &newer, &peer_1, true);
    assert_true(resume_take_active(c, any, &peer_1, &other));
    assert_memory_equal(other.ss, newer.ss, KEYS_K_LEN);
    assert_true(resume_take_passive(c, &got));
    /* the next one clears it away */
    resume_put(c, &newer, &peer_1, true);
    assert_int_equal(resume_cache_cnt(c), 1);
    resume_cache_free(c);
}

/* Many chains and random steps: each secret is found where it should be, none twice. */
#define CHAIN_CNT 40u

struct chain {
    struct resume_secret first;
    uint64_t lowest; /* the window begins there */
    uint64_t used;   /* bit i: lowest + i */
    uint64_t name;   /* 0: not in the cache */
};

static struct chain chains[CHAIN_CNT];

static struct resume_peer numbered_peer(uint8_t i)
{
    return (struct resume_peer){.len = 2, .host_len = 1, .name = {i, i}};
}

static void check_chain(struct resume_cache *c, const struct chain *ch)
{
    struct resume_secret got;

    for (uint64_t i = 0; i < RESUME_WINDOW_CNT + 1; i++) {
        bool is_found = find(c, ch->first, ch->lowest + i, &got);

        assert_int_equal(is_found, ch->name != 0 && i < RESUME_WINDOW_CNT && !(ch->used >> i & 1));
        if (is_found)
            assert_int_equal(got.chain, ch->name);
    }
    if (ch->lowest > 0)
        assert_false(find(c, ch->first, ch->lowest - 1, &got));
}

static void note_used(struct chain *ch, uint64_t index)
{
    ch->used |= 1ull << (index - ch->lowest);
    while (ch->lowest + RESUME_WINDOW_CNT / 2 <= index || ch->used & 1) {
        ch->lowest++;
        ch->used >>= 1;
    }
}

static void take_random_step(struct resume_cache *c, uint8_t i, uint32_t what)
{
    struct chain *ch = &chains[i];
    struct resume_peer peer = numbered_peer(i);
    struct resume_secret got;
    uint64_t skip = what / 8 % RESUME_WINDOW_CNT;

    if (ch->name == 0) {
        *ch = (struct chain){.first = make_secret(TEP_ECDHE_CURVE25519, i)};
        randombytes_buf(ch->first.ss, sizeof(ch->first.ss));
        ch->name = resume_put(c, &ch->first, &peer, what & 1);
    } else if (what % 8 < 3) {
        assert_true(resume_take_active(c, any, &peer, &got));
        assert_int_equal(got.chain, ch->name);
        assert_int_equal(got.index, ch->lowest);
        note_used(ch, got.index);
    } else if (what % 8 < 6) {
        while (ch->used >> skip & 1)
            skip = (skip + 1) % RESUME_WINDOW_CNT;
        assert_true(find(c, ch->first, ch->lowest + skip, &got));
        assert_true(resume_take_passive(c, &got));
        note_used(ch, got.index);
    } else {
        resume_forget(c, ch->name);
        ch->name = 0;
    }
}

static void test_random_steps(void **state)
{
    struct resume_cache *c = resume_cache_new(CHAIN_CNT);

    memset(chains, 0, sizeof(chains));
    for (size_t step = 0; step < 3000; step++) {
        uint8_t i = (uint8_t)randombytes_uniform(CHAIN_CNT);
        size_t cnt = 0;

        take_random_step(c, i, randombytes_random());
        check_chain(c, &chains[i]);
        for (size_t j = 0; j < CHAIN_CNT; j++)
            cnt += chains[j].name != 0;
        assert_int_equal(resume_cache_cnt(c), cnt);
    }
    for (size_t j = 0; j < CHAIN_CNT; j++)
        check_chain(c, &chains[j]);
    resume_cache_free(c);
}

/* As many as the daemon keeps: the oldest go, the others are found. */
static void test_large_cache(void **state)
{
    const uint32_t max = 4096, cnt = 5000;
    struct resume_cache *c = resume_cache_new(max);
    struct resume_secret secret = make_secret(TEP_ECDHE_CURVE25519, 0), got;

    for (uint32_t i = 0; i < cnt; i++) {
        memcpy(secret.ss, &i, sizeof(i));
        resume_put(c, &secret, &peer_1, false); /* all behind one address */
    }
    assert_int_equal(resume_cache_cnt(c), max);
    for (uint32_t i = 0; i < cnt; i += 97) {
        memcpy(secret.ss, &i, sizeof(i));
        assert_int_equal(find(c, secret, 0, &got), i >= cnt - max);
    }
    resume_cache_free(c);
}

/* --- Between two hosts: RFC 8548 3.5 --------------------------------------------------- */

static struct pair pair;

static int set_up(void **state)
{
    pair_init(&pair);
    pair.client_cfg.cache = resume_cache_new(8);
    pair.server_cfg.cache = resume_cache_new(8);
    return 0;
}

static int tear_down(void **state)
{
    struct resume_cache *client = pair.client_cfg.cache, *server = pair.server_cfg.cache;

    pair_done(&pair);
    resume_cache_free(client);
    resume_cache_free(server);
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
        cmocka_unit_test(test_no_secret_twice),
        cmocka_unit_test(test_who_gets_a_secret),
        cmocka_unit_test(test_eviction),
        cmocka_unit_test(test_window_of_later_secrets),
        cmocka_unit_test(test_overtaken_secrets_go),
        cmocka_unit_test(test_age_is_bounded),
        cmocka_unit_test(test_answer_nonce_is_kept),
        cmocka_unit_test(test_active_leaves_an_answered_chain_alone),
        cmocka_unit_test(test_successor_leaves_an_answered_chain_alone),
        cmocka_unit_test(test_random_steps),
        cmocka_unit_test(test_large_cache),
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
