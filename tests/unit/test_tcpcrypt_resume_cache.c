/* SPDX-License-Identifier: BSD-3-Clause
 * The cache of session secrets, alone. Between two sessions: test_tcpcrypt_resume.
 */
#include "tcpcrypt/resume.h"
#include "tcpcrypt_pair.h"

#include <sodium.h>
#include <string.h>

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

/* Several openings may be answered with one secret, for SYNs are repeated and replayed. Each ends
 * for itself: none can end the wait of another. */
static void test_given_up_answer_is_not_awaited(void **state)
{
    struct resume_cache *c = resume_cache_new(1);
    struct resume_secret secret = make_secret(TEP_ECDHE_P256, 13), got, other;
    uint8_t nonce[2][RESUME_NONCE_MAX_LEN];

    resume_put(c, &secret, &peer_1, true);
    assert_true(find(c, secret, 0, &got));
    resume_answer_nonce(c, &got, count_draws, nonce[0], 8);
    resume_answer_nonce(c, &got, count_draws, nonce[1], 8);
    resume_give_up_passive(c, &got);
    assert_false(resume_take_active(c, any, &peer_1, &other)); /* the other one is awaited */
    resume_give_up_passive(c, &got);
    assert_true(find(c, secret, 0, &got)); /* that used nothing up */
    /* the SYN once more: the same answer, and awaited again */
    resume_answer_nonce(c, &got, count_draws, nonce[1], 8);
    assert_memory_equal(nonce[0], nonce[1], 8);
    assert_false(resume_take_active(c, any, &peer_1, &other));
    resume_give_up_passive(c, &got);
    assert_true(resume_take_active(c, any, &peer_1, &other));
    assert_int_equal(other.index, 0);
    resume_cache_free(c);
}

/* The wait of one ends when its secret is gone: another took it, or all was forgotten. */
static void test_giving_up_what_is_gone(void **state)
{
    struct resume_cache *c = resume_cache_new(1);
    struct resume_secret secret = make_secret(TEP_ECDHE_P256, 14), got, other;
    uint8_t nonce[1];

    resume_put(c, &secret, &peer_1, true);
    assert_true(find(c, secret, 0, &got));
    resume_answer_nonce(c, &got, count_draws, nonce, 1);
    resume_answer_nonce(c, &got, count_draws, nonce, 1);
    assert_true(resume_take_passive(c, &got));
    /* its slot serves a later one now, which is awaited */
    assert_true(find(c, secret, RESUME_WINDOW_CNT, &other));
    resume_answer_nonce(c, &other, count_draws, nonce, 1);
    resume_give_up_passive(c, &got);
    assert_false(resume_take_active(c, any, &peer_1, &got));

    resume_forget(c, other.chain);
    resume_give_up_passive(c, &other);
    resume_put(c, &secret, &peer_1, true); /* in the same place */
    assert_true(find(c, secret, 0, &got));
    resume_answer_nonce(c, &got, count_draws, nonce, 1);
    resume_give_up_passive(c, &other);
    assert_false(resume_take_active(c, any, &peer_1, &other));
    resume_cache_free(c);
}

/* The first ACK is lost, and many connections that were opened at the same time come before it
 * is sent again: its SYN was answered, so the peer believes in this secret. */
static void test_answered_secret_waits_for_its_ack(void **state)
{
    struct resume_cache *c = resume_cache_new(1);
    struct resume_secret secret = make_secret(TEP_ECDHE_P256, 15), got, late;
    uint8_t nonce[1];

    resume_put(c, &secret, &peer_1, false);
    assert_true(find(c, secret, 0, &late));
    resume_answer_nonce(c, &late, count_draws, nonce, 1);
    for (uint64_t i = 2; i < RESUME_WINDOW_CNT; i++) {
        assert_true(find(c, secret, i, &got));
        assert_true(resume_take_passive(c, &got));
    }
    assert_false(find(c, secret, RESUME_WINDOW_CNT, &got)); /* a key exchange instead */
    assert_true(find(c, secret, 1, &got)); /* lost, but nothing may pass the first */
    assert_true(resume_take_passive(c, &late));
    assert_false(resume_take_passive(c, &late));
    assert_false(find(c, secret, 1, &got)); /* and the window moves on */
    for (uint64_t i = 0; i < RESUME_WINDOW_CNT; i++)
        assert_true(find(c, secret, RESUME_WINDOW_CNT + i, &got));
    resume_cache_free(c);
}

/* What is not awaited any more holds nothing up. */
static void test_given_up_secret_lets_the_window_move(void **state)
{
    struct resume_cache *c = resume_cache_new(1);
    struct resume_secret secret = make_secret(TEP_ECDHE_P256, 16), got, late;
    const uint64_t last = RESUME_WINDOW_CNT - 1, first = last - RESUME_WINDOW_CNT / 2 + 1;
    uint8_t nonce[1];

    resume_put(c, &secret, &peer_1, false);
    assert_true(find(c, secret, 0, &late));
    resume_answer_nonce(c, &late, count_draws, nonce, 1);
    resume_answer_nonce(c, &late, count_draws, nonce, 1);
    assert_true(find(c, secret, last, &got));
    assert_true(resume_take_passive(c, &got));
    resume_give_up_passive(c, &late);
    assert_true(find(c, secret, 0, &got)); /* the other opening */
    resume_give_up_passive(c, &late);
    for (uint64_t i = 0; i <= last + first; i++)
        assert_int_equal(find(c, secret, i, &got), i >= first && i != last);
    resume_cache_free(c);
}

/* But it does not wait for ever: a secret leads to all behind it. */
static void test_answered_secret_goes_at_last(void **state)
{
    struct resume_cache *c = resume_cache_new(1);
    struct resume_secret secret = make_secret(TEP_ECDHE_P256, 17), got, late;
    const uint64_t last = RESUME_WINDOW_CNT - 1;
    uint8_t nonce[1];

    resume_put(c, &secret, &peer_1, false);
    assert_true(find(c, secret, 0, &late));
    resume_answer_nonce(c, &late, count_draws, nonce, 1);
    assert_true(find(c, secret, 1, &got));
    assert_true(resume_take_passive(c, &got));
    resume_cache_tick(c, RESUME_GAP_MAX_MS / 2);
    assert_true(find(c, secret, last, &got));
    assert_true(resume_take_passive(c, &got));
    resume_cache_tick(c, RESUME_GAP_MAX_MS - 1);
    assert_true(find(c, secret, 0, &got));
    resume_cache_tick(c, RESUME_GAP_MAX_MS);
    assert_false(find(c, secret, 0, &got));
    assert_false(find(c, secret, 2, &got)); /* it had held those, too */
    assert_true(find(c, secret, last - 1, &got));
    assert_false(resume_take_passive(c, &late));
    resume_give_up_passive(c, &late);
    resume_cache_free(c);
}

/* Many chains and random steps: each secret is found where it should be, none twice. */
#define CHAIN_CNT 40u

struct chain {
    struct resume_secret first;
    uint64_t lowest; /* the window begins there */
    uint64_t used_end;
    uint64_t used, awaited; /* bit i: lowest + i */
    uint64_t name;          /* 0: not in the cache */
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

static void move_window(struct chain *ch)
{
    while (ch->used & 1 ||
           (ch->lowest + RESUME_WINDOW_CNT / 2 < ch->used_end && !(ch->awaited & 1))) {
        ch->lowest++;
        ch->used >>= 1;
        ch->awaited >>= 1;
    }
}

static void note_used(struct chain *ch, uint64_t index)
{
    ch->used |= 1ull << (index - ch->lowest);
    ch->awaited &= ~ch->used;
    if (ch->used_end <= index)
        ch->used_end = index + 1;
    move_window(ch);
}

static void take_random_step(struct resume_cache *c, uint8_t i, uint32_t what)
{
    struct chain *ch = &chains[i];
    struct resume_peer peer = numbered_peer(i);
    struct resume_secret got;
    uint64_t skip = what / 16 % RESUME_WINDOW_CNT;
    uint8_t nonce[1];

    if (ch->name == 0) {
        *ch = (struct chain){.first = make_secret(TEP_ECDHE_CURVE25519, i)};
        randombytes_buf(ch->first.ss, sizeof(ch->first.ss));
        ch->name = resume_put(c, &ch->first, &peer, what & 1);
        return;
    }
    while (ch->used >> skip & 1)
        skip = (skip + 1) % RESUME_WINDOW_CNT;
    assert_true(find(c, ch->first, ch->lowest + skip, &got));
    if (what % 16 < 4) {
        assert_int_equal(resume_take_active(c, any, &peer, &got), ch->awaited == 0);
        if (ch->awaited == 0) {
            assert_int_equal(got.chain, ch->name);
            assert_int_equal(got.index, ch->lowest);
            note_used(ch, got.index);
        }
    } else if (what % 16 < 9) {
        assert_true(resume_take_passive(c, &got));
        note_used(ch, got.index);
    } else if (what % 16 < 15 && ch->awaited >> skip & 1) {
        resume_give_up_passive(c, &got);
        ch->awaited &= ~(1ull << skip);
        move_window(ch);
    } else if (what % 16 < 11) {
        resume_answer_nonce(c, &got, count_draws, nonce, 1);
        ch->awaited |= 1ull << skip;
    } else if (what % 16 == 15) {
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
        cmocka_unit_test(test_given_up_answer_is_not_awaited),
        cmocka_unit_test(test_giving_up_what_is_gone),
        cmocka_unit_test(test_answered_secret_waits_for_its_ack),
        cmocka_unit_test(test_given_up_secret_lets_the_window_move),
        cmocka_unit_test(test_answered_secret_goes_at_last),
        cmocka_unit_test(test_random_steps),
        cmocka_unit_test(test_large_cache),
    };

    return cmocka_run_group_tests_name("tcpcrypt/resume-cache", tests, NULL, NULL);
}
