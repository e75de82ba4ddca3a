/* SPDX-License-Identifier: BSD-3-Clause
 * Every message in every state: the legal ones advance the session; the rest give the
 * right error and leave the session as it was, or dead.
 */
#include "tcpcrypt_pair.h"

#include <string.h>

/* The session under test, in the order of a connection's life. */
#define STATE_LIST(X)                                                                              \
    X(SYN_SENT)     /* active: SYN out */                                                          \
    X(LISTENING)    /* passive: nothing seen yet */                                                \
    X(SYN_RECEIVED) /* passive: SYN-ACK out */                                                     \
    X(PLAIN)        /* encryption is disabled */                                                   \
    X(WAIT_INIT1)   /* host B */                                                                   \
    X(WAIT_INIT2)   /* host A */                                                                   \
    X(OPEN_A)       /* frames both ways */                                                         \
    X(OPEN_B)                                                                                      \
    X(RX_FIN) /* final frame received */                                                           \
    X(TX_FIN) /* final frame sent */                                                               \
    X(DEAD)   /* after a bad Init message */

/* What the network brings, and what the caller wants. */
#define MESSAGE_LIST(X)                                                                            \
    X(SYN_ENO)                                                                                     \
    X(SYN_CLEAR)                                                                                   \
    X(SYNACK_ENO)                                                                                  \
    X(SYNACK_CLEAR)                                                                                \
    X(ACK_ENO)                                                                                     \
    X(ACK_CLEAR)                                                                                   \
    X(INIT1)                                                                                       \
    X(INIT2)                                                                                       \
    X(FRAME)                                                                                       \
    X(FRAME_REKEY)                                                                                 \
    X(FRAME_FIN)                                                                                   \
    X(FORGED)  /* a frame under other keys */                                                      \
    X(GARBAGE) /* plaintext */                                                                     \
    X(TCP_FIN)                                                                                     \
    X(SEAL)                                                                                        \
    X(SEAL_FIN)                                                                                    \
    X(REKEY)                                                                                       \
    X(OUTPUT)

#define ENUM(name) name,
#define NAME(name) #name,
enum state { STATE_LIST(ENUM) STATE_CNT };
enum message { MESSAGE_LIST(ENUM) MESSAGE_CNT };
static const char *const state_names[] = {STATE_LIST(NAME)};
static const char *const message_names[] = {MESSAGE_LIST(NAME)};

/* What becomes of the session. NONE: TCP does not let that happen. */
enum after { NONE, SAME, TO_PLAIN, TO_WAIT, TO_OPEN, TO_RX_FIN, TO_TX_FIN, REKEYED, TO_DEAD };

struct expected {
    enum after after;
    enum tcns_err err;
};

/* clang-format off */
#define SEGMENTS(e, a) \
    [SYN_ENO] = {a, e}, [SYN_CLEAR] = {a, e}, [SYNACK_ENO] = {a, e}, [SYNACK_CLEAR] = {a, e}, \
    [ACK_ENO] = {a, e}, [ACK_CLEAR] = {a, e}
#define FRAMES(e, a) \
    [FRAME] = {a, e}, [FRAME_REKEY] = {a, e}, [FRAME_FIN] = {a, e}, [FORGED] = {a, e}, \
    [GARBAGE] = {a, e}
#define STREAM(e, a) [INIT1] = {a, e}, [INIT2] = {a, e}, FRAMES(e, a)
#define NO_FRAMES_OUT(output_err) \
    [SEAL] = {SAME, TCNS_ERR_STATE}, [SEAL_FIN] = {SAME, TCNS_ERR_STATE}, \
    [REKEY] = {SAME, TCNS_ERR_STATE}, [OUTPUT] = {SAME, output_err}
#define FRAMES_OUT \
    [SEAL] = {SAME, TCNS_OK}, [SEAL_FIN] = {TO_TX_FIN, TCNS_OK}, [REKEY] = {SAME, TCNS_OK}, \
    [OUTPUT] = {SAME, TCNS_OK}
#define FRAMES_IN \
    [INIT1] = {TO_DEAD, TCNS_ERR_FRAME_AUTH}, [INIT2] = {TO_DEAD, TCNS_ERR_FRAME_AUTH}, \
    [FRAME] = {SAME, TCNS_OK}, [FRAME_REKEY] = {REKEYED, TCNS_OK}, \
    [FRAME_FIN] = {TO_RX_FIN, TCNS_OK}, [FORGED] = {TO_DEAD, TCNS_ERR_FRAME_AUTH}, \
    [GARBAGE] = {TO_DEAD, TCNS_ERR_FRAME_AUTH}, [TCP_FIN] = {TO_DEAD, TCNS_ERR_TRUNCATED}

static const struct expected table[STATE_CNT][MESSAGE_CNT] = {
    [SYN_SENT] = {
        [SYN_ENO] = {SAME, TCNS_OK}, /* simultaneous open: its ACK is still to come */
        [SYN_CLEAR] = {TO_PLAIN, TCNS_OK},
        [SYNACK_ENO] = {TO_WAIT, TCNS_OK}, [SYNACK_CLEAR] = {TO_PLAIN, TCNS_OK},
        [ACK_ENO] = {SAME, TCNS_OK}, [ACK_CLEAR] = {TO_PLAIN, TCNS_OK},
        STREAM(TCNS_ERR_STATE, SAME), [TCP_FIN] = {SAME, TCNS_ERR_STATE}, NO_FRAMES_OUT(TCNS_OK),
    },
    [LISTENING] = {
        [SYN_ENO] = {SAME, TCNS_OK}, [SYN_CLEAR] = {TO_PLAIN, TCNS_OK},
        [ACK_ENO] = {SAME, TCNS_OK}, [ACK_CLEAR] = {TO_PLAIN, TCNS_OK},
        STREAM(TCNS_ERR_STATE, SAME), [TCP_FIN] = {SAME, TCNS_ERR_STATE}, NO_FRAMES_OUT(TCNS_OK),
    },
    [SYN_RECEIVED] = {
        [SYN_ENO] = {SAME, TCNS_OK}, [SYN_CLEAR] = {TO_PLAIN, TCNS_OK},
        [SYNACK_ENO] = {TO_WAIT, TCNS_OK}, [SYNACK_CLEAR] = {TO_PLAIN, TCNS_OK},
        [ACK_ENO] = {TO_WAIT, TCNS_OK}, [ACK_CLEAR] = {TO_PLAIN, TCNS_OK},
        STREAM(TCNS_ERR_STATE, SAME), [TCP_FIN] = {SAME, TCNS_ERR_STATE}, NO_FRAMES_OUT(TCNS_OK),
    },
    [PLAIN] = {
        SEGMENTS(TCNS_OK, SAME), STREAM(TCNS_ERR_STATE, SAME),
        [TCP_FIN] = {SAME, TCNS_ERR_STATE}, NO_FRAMES_OUT(TCNS_OK),
    },
    [WAIT_INIT1] = {
        SEGMENTS(TCNS_OK, SAME), [INIT1] = {TO_OPEN, TCNS_OK},
        [INIT2] = {TO_DEAD, TCNS_ERR_INIT_MAGIC}, FRAMES(TCNS_ERR_INIT_MAGIC, TO_DEAD),
        [TCP_FIN] = {TO_DEAD, TCNS_ERR_TRUNCATED}, NO_FRAMES_OUT(TCNS_OK),
    },
    [WAIT_INIT2] = {
        SEGMENTS(TCNS_OK, SAME), [INIT1] = {TO_DEAD, TCNS_ERR_INIT_MAGIC},
        [INIT2] = {TO_OPEN, TCNS_OK}, FRAMES(TCNS_ERR_INIT_MAGIC, TO_DEAD),
        [TCP_FIN] = {TO_DEAD, TCNS_ERR_TRUNCATED}, NO_FRAMES_OUT(TCNS_OK),
    },
    [OPEN_A] = {SEGMENTS(TCNS_OK, SAME), FRAMES_IN, FRAMES_OUT},
    [OPEN_B] = {SEGMENTS(TCNS_OK, SAME), FRAMES_IN, FRAMES_OUT},
    [RX_FIN] = {
        SEGMENTS(TCNS_OK, SAME), STREAM(TCNS_ERR_AGAIN, SAME), [TCP_FIN] = {SAME, TCNS_OK},
        FRAMES_OUT,
    },
    [TX_FIN] = {SEGMENTS(TCNS_OK, SAME), FRAMES_IN, NO_FRAMES_OUT(TCNS_OK)},
    [DEAD] = {
        SEGMENTS(TCNS_ERR_INIT_MAGIC, SAME), STREAM(TCNS_ERR_INIT_MAGIC, SAME),
        [TCP_FIN] = {SAME, TCNS_ERR_INIT_MAGIC}, NO_FRAMES_OUT(TCNS_ERR_INIT_MAGIC),
    },
};
/* clang-format on */

/* --- A session in a state ---------------------------------------------------------------- */

static struct pair pair, other; /* other: keys of another connection */
static struct session *subject, *peer;
static struct wire wire;
static struct received got;

static void send(struct session *from, struct session *to)
{
    wire.len = 0;
    pair_output(from, &wire);
    pair_deliver(to, &wire, &got);
}

static void send_frame(struct session *from, struct session *to, unsigned flags)
{
    wire.len = 0;
    pair_seal(from, "data", 4, flags, &wire);
    pair_deliver(to, &wire, &got);
}

static void kill_by_garbage(struct session *s)
{
    struct session_rx rx;
    size_t used;

    assert_int_equal(session_open(s, (const uint8_t *)"x", 1, &used, &rx), TCNS_ERR_INIT_MAGIC);
}

static void build(enum state state)
{
    bool is_client = state == SYN_SENT || state == WAIT_INIT2 || state == OPEN_A;

    memset(&got, 0, sizeof(got));
    pair_new_sessions(&pair);
    subject = is_client ? pair.client : pair.server;
    peer = is_client ? pair.server : pair.client;
    if (state == LISTENING)
        return;
    assert_int_equal(session_connect(pair.client, pair.syn, &pair.syn_len), TCNS_OK);
    if (state == SYN_SENT)
        return;
    if (state == PLAIN) {
        assert_int_equal(session_accept(subject, NULL, 0, pair.synack, &pair.synack_len), TCNS_OK);
        return;
    }
    assert_int_equal(
        session_accept(pair.server, pair.syn, pair.syn_len, pair.synack, &pair.synack_len),
        TCNS_OK);
    if (state == SYN_RECEIVED)
        return;
    assert_int_equal(session_connect_synack(pair.client, pair.synack, pair.synack_len), TCNS_OK);
    assert_int_equal(session_accept_ack(pair.server, eno_ack_option, ENO_ACK_OPTION_LEN), TCNS_OK);
    if (state == DEAD)
        kill_by_garbage(subject);
    if (state == WAIT_INIT1 || state == DEAD)
        return;
    send(pair.client, pair.server);
    if (state == WAIT_INIT2)
        return;
    send(pair.server, pair.client);
    if (state == RX_FIN)
        send_frame(peer, subject, SESSION_SEAL_FIN);
    if (state == TX_FIN)
        send_frame(subject, peer, SESSION_SEAL_FIN);
}

/* --- Messages ------------------------------------------------------------------------------- */

/* Whatever the bytes seem to be, enough follow to make it whole. */
static void pad(struct wire *w)
{
    memset(w->bytes + w->len, 0x20, 70000);
    w->len += 70000;
}

static void make_init(enum state state, bool is_init1)
{
    if ((state == WAIT_INIT1 && is_init1) || (state == WAIT_INIT2 && !is_init1)) {
        pair_output(peer, &wire);
        return;
    }
    pair_new_sessions(&other);
    pair_options(&other);
    pair_output(other.client, &wire);
    if (!is_init1) {
        pair_deliver(other.server, &wire, &got);
        wire.len = 0;
        pair_output(other.server, &wire);
    }
    pad(&wire);
}

/* From the peer, where it has keys and has not ended; else from another connection. */
static void make_frame(enum state state, enum message m)
{
    bool is_real = m != FORGED && session_is_open(subject) && state != RX_FIN;
    struct session *from = peer;

    if (!is_real) {
        pair_open(&other);
        from = subject == pair.client ? other.server : other.client;
    }
    if (m == FRAME_REKEY)
        assert_int_equal(session_rekey(from), TCNS_OK);
    pair_seal(from, "hello", 5, m == FRAME_FIN ? SESSION_SEAL_FIN : 0, &wire);
    if (!is_real)
        pad(&wire);
}

static enum tcns_err give_stream(enum state state, enum message m)
{
    wire.len = 0;
    memset(&got, 0, sizeof(got));
    if (m == INIT1 || m == INIT2) {
        make_init(state, m == INIT1);
    } else if (m == GARBAGE) {
        memcpy(wire.bytes, "GET / HTTP/1.1", 14);
        wire.len = 14;
        pad(&wire);
    } else {
        make_frame(state, m);
    }
    memset(&got, 0, sizeof(got));
    return pair_feed(subject, &wire, SIZE_MAX, &got);
}

static enum tcns_err give_segment(enum message m)
{
    const uint8_t syn[] = {69, 4, 0, TEP_ECDHE_CURVE25519}; /* with b as the other role has it */
    const uint8_t synack[] = {69, 4, 1, TEP_ECDHE_CURVE25519};
    bool from_client = subject == pair.server;
    const uint8_t *option = from_client ? syn : synack;
    uint8_t out[ENO_OPTION_MAX_LEN];
    size_t out_len;

    switch ((int)m) {
    case SYN_ENO:
        return session_accept(subject, option, sizeof(syn), out, &out_len);
    case SYN_CLEAR:
        return session_accept(subject, NULL, 0, out, &out_len);
    case SYNACK_ENO:
        return session_connect_synack(subject, option, sizeof(syn));
    case SYNACK_CLEAR:
        return session_connect_synack(subject, NULL, 0);
    case ACK_ENO:
        return session_accept_ack(subject, eno_ack_option, ENO_ACK_OPTION_LEN);
    default:
        return session_accept_ack(subject, NULL, 0);
    }
}

static enum tcns_err call_seal(unsigned flags)
{
    struct iovec iov = {(void *)(uintptr_t) "x", 1};
    struct buf *b = NULL;
    enum tcns_err e = session_seal(subject, &iov, 1, flags, 0, &b);

    assert_int_equal(b != NULL, e == TCNS_OK);
    buf_unref(b);
    return e;
}

static enum tcns_err call_output(void)
{
    struct buf *b = NULL;
    enum tcns_err e = session_output(subject, &b);

    buf_unref(b);
    return e;
}

static enum tcns_err give(enum state state, enum message m)
{
    if (m <= ACK_CLEAR)
        return give_segment(m);
    if (m == TCP_FIN)
        return session_on_fin(subject);
    if (m == SEAL || m == SEAL_FIN)
        return call_seal(m == SEAL_FIN ? SESSION_SEAL_FIN : 0);
    if (m == REKEY)
        return session_rekey(subject);
    if (m == OUTPUT)
        return call_output();
    return give_stream(state, m);
}

/* --- What became of it ------------------------------------------------------------------------ */

struct outside {
    struct session_info info;
    bool is_open;
    enum tcns_err next; /* what the next byte would give */
};

static struct outside look(void)
{
    struct outside o = {.is_open = session_is_open(subject)};
    struct session_rx rx;
    size_t used;

    session_get_info(subject, &o.info);
    o.next = session_open(subject, NULL, 0, &used, &rx);
    return o;
}

static bool is_same(const struct outside *a, const struct outside *b)
{
    return a->is_open == b->is_open && a->next == b->next && a->info.reason == b->info.reason &&
           a->info.has_id == b->info.has_id &&
           memcmp(a->info.id, b->info.id, sizeof(a->info.id)) == 0 &&
           a->info.tx_generation == b->info.tx_generation &&
           a->info.rx_generation == b->info.rx_generation;
}

static bool is_as_expected(const struct outside *old, const struct outside *new,
                           const struct expected *x)
{
    bool is_on = new->info.enabled;

    switch (x->after) {
    case NONE:
        return true;
    case SAME:
        return is_same(old, new);
    case TO_PLAIN:
        return !is_on && new->info.reason != SESSION_REASON_PENDING;
    case TO_WAIT:
        return is_on && !new->is_open &&new->next == TCNS_ERR_AGAIN;
    case TO_OPEN:
        return new->is_open &&new->info.has_id &&got.opened;
    case TO_RX_FIN:
        return got.fin && new->is_open &&session_on_fin(subject) == TCNS_OK;
    case TO_TX_FIN:
        return new->is_open &&call_seal(0) == TCNS_ERR_STATE;
    case REKEYED:
        return new->info.rx_generation == old->info.rx_generation + 1 &&
               new->info.tx_generation == old->info.tx_generation;
    case TO_DEAD:
        return !new->is_open &&new->next == x->err;
    }
    return false;
}

static bool may_deliver(enum state state, enum message m)
{
    return (m == FRAME || m == FRAME_REKEY || m == FRAME_FIN) &&
           (state == OPEN_A || state == OPEN_B || state == TX_FIN);
}

static void check(enum state state, enum message m)
{
    const struct expected *x = &table[state][m];
    struct outside old, new;
    enum tcns_err e;

    if (x->after == NONE)
        return;
    build(state);
    old = look();
    e = give(state, m);
    new = look();
    if (e != x->err || !is_as_expected(&old, &new, x))
        fail_msg("%s in state %s: %s", message_names[m], state_names[state], err_name(e));
    if (m >= INIT1 && m < TCP_FIN)
        assert_int_equal(got.len, may_deliver(state, m) ? 5 : 0);
}

static void check_state(enum state state)
{
    size_t none_cnt = 0;

    for (enum message m = 0; m < MESSAGE_CNT; m++) {
        check(state, m);
        none_cnt += table[state][m].after == NONE;
    }
    /* no SYN-ACK before a SYN went out */
    assert_int_equal(none_cnt, state == LISTENING ? 2 : 0);
}

#define TEST(name)                                                                                 \
    static void test_state_##name(void **arg)                                                      \
    {                                                                                              \
        check_state(name);                                                                         \
    }
STATE_LIST(TEST)

static int set_up(void **state)
{
    pair_init(&pair);
    pair_init(&other);
    return 0;
}

static int tear_down(void **state)
{
    pair_done(&pair);
    pair_done(&other);
    return buf_total() == 0 ? 0 : -1;
}

int main(void)
{
#define ENTRY(name) cmocka_unit_test_setup_teardown(test_state_##name, set_up, tear_down),
    const struct CMUnitTest tests[] = {STATE_LIST(ENTRY)};

    return cmocka_run_group_tests_name("tcpcrypt/states", tests, NULL, NULL);
}
