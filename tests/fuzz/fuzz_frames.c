/* SPDX-License-Identifier: BSD-3-Clause
 * Frame streams. An authentic frame cannot be guessed, so the input is a program:
 * a resumed pair of sessions (no key exchange, so it is quick) does what it says,
 * and what the attacker altered must not be delivered.
 */
#include "fuzz.h"

#include <sys/uio.h>

#include "tcpcrypt/resume.h"
#include "tcpcrypt/session.h"

enum {
    OP_SEAL,    /* length byte, data */
    OP_FIN,     /* length byte, data: the final frame */
    OP_REKEY,   /* the client asks for new keys */
    OP_ANSWER,  /* the server's output goes to the client */
    OP_DELIVER, /* step byte: the server gets what is on the wire */
    OP_FLIP,    /* position byte, mask byte: a byte on the wire changes */
    OP_RAW,     /* length byte, bytes: the attacker inserts them */
    OP_CUT,     /* count byte: bytes are lost at the end of the wire */
    OP_URGENT,  /* length byte, data, two bytes of offset */
    OP_CNT,
};

struct world {
    struct session *client, *server;
    uint8_t wire[4096]; /* client to server */
    size_t wire_len;
    bool is_tampered; /* the attacker has done something */
    bool is_over;     /* the server has refused something */
    uint8_t sent[8192], got[8192];
    size_t sent_len, got_len;
    size_t urgent_sent, urgent_got; /* sums over where the marks point in the data */
};

static struct session_config client_cfg, server_cfg;
static const struct resume_peer peer = {.len = 4, .host_len = 4, .name = "peer"};

static void put_secret(struct resume_cache *cache, enum session_role role)
{
    struct resume_secret secret = {
        .tep = TEP_ECDHE_CURVE25519, .aead = AEAD_CHACHA20_POLY1305, .original_role = role};

    resume_cache_clear(cache);
    resume_put(cache, &secret, &peer, role == SESSION_ROLE_A);
}

static void start(struct world *w)
{
    uint8_t syn[ENO_OPTION_MAX_LEN], synack[ENO_OPTION_MAX_LEN];
    size_t syn_len, synack_len;

    put_secret(client_cfg.cache, SESSION_ROLE_A);
    put_secret(server_cfg.cache, SESSION_ROLE_B);
    w->client = session_new(&client_cfg);
    w->server = session_new(&server_cfg);
    FUZZ_CHECK(w->client && w->server);
    session_set_peer(w->client, "peer", 4, 4);
    FUZZ_CHECK(session_connect(w->client, syn, &syn_len) == TCNS_OK);
    FUZZ_CHECK(session_accept(w->server, syn, syn_len, synack, &synack_len) == TCNS_OK);
    FUZZ_CHECK(session_connect_synack(w->client, synack, synack_len) == TCNS_OK);
    FUZZ_CHECK(session_accept_ack(w->server, eno_ack_option, ENO_ACK_OPTION_LEN) == TCNS_OK);
    FUZZ_CHECK(session_is_open(w->client) && session_is_open(w->server));
}

static void put_wire(struct world *w, const void *bytes, size_t len)
{
    FUZZ_CHECK(len <= sizeof(w->wire) - w->wire_len);
    memcpy(w->wire + w->wire_len, bytes, len);
    w->wire_len += len;
}

static bool has_room(const struct world *w)
{
    return sizeof(w->wire) - w->wire_len > 512 && sizeof(w->sent) - w->sent_len > 512;
}

static void put_frame(struct world *w, struct buf *b)
{
    if (b)
        put_wire(w, buf_data(b), b->len);
    buf_unref(b);
}

static void seal(struct world *w, struct fuzz_input *in, unsigned flags)
{
    size_t max = fuzz_byte(in), len;
    uint8_t *data = fuzz_bytes(in, max, &len);
    struct iovec iov[2] = {{data, len / 2}, {data + len / 2, len - len / 2}};
    struct buf *b = NULL;
    bool is_urgent = flags & SESSION_SEAL_URGENT;
    uint16_t off = is_urgent ? (uint16_t)(fuzz_byte(in) << 8 | fuzz_byte(in)) : 0;
    enum tcns_err e = session_seal(w->client, iov, 2, flags, off, &b);

    FUZZ_CHECK(e == TCNS_OK || e == TCNS_ERR_STATE);
    if (e == TCNS_OK) {
        w->urgent_sent += is_urgent ? w->sent_len + off + 1 : 0;
        memcpy(w->sent + w->sent_len, data, len);
        w->sent_len += len;
    }
    free(data);
    put_frame(w, b);
}

static void rekey(struct world *w)
{
    struct buf *b = NULL;

    if (session_rekey(w->client) != TCNS_OK)
        return;
    FUZZ_CHECK(session_output(w->client, &b) == TCNS_OK);
    put_frame(w, b);
}

/* The way back is never tampered with, so the client accepts all. */
static void answer(struct world *w)
{
    struct buf *b = NULL;
    struct session_rx rx;
    size_t used;

    if (w->is_over)
        return;
    FUZZ_CHECK(session_output(w->server, &b) == TCNS_OK);
    if (!b)
        return;
    FUZZ_CHECK(session_open(w->client, buf_data(b), b->len, &used, &rx) == TCNS_OK);
    FUZZ_CHECK(used == b->len && !rx.data && !rx.fin && !rx.output);
    buf_unref(b);
}

static void note(struct world *w, struct session_rx *rx)
{
    w->urgent_got += rx->urgent ? w->got_len + rx->urgent_off + 1 : 0;
    if (rx->data) {
        FUZZ_CHECK(rx->data->len <= sizeof(w->got) - w->got_len);
        memcpy(w->got + w->got_len, buf_data(rx->data), rx->data->len);
        w->got_len += rx->data->len;
    }
    buf_unref(rx->data);
    /* whatever happened on the wire: a prefix of what was sent */
    FUZZ_CHECK(w->got_len <= w->sent_len);
    FUZZ_CHECK(memcmp(w->got, w->sent, w->got_len) == 0);
}

static void deliver(struct world *w, size_t step)
{
    size_t pos = 0;

    while (pos < w->wire_len && !w->is_over) {
        struct fuzz_input rest = {w->wire + pos, w->wire_len - pos};
        size_t len, used;
        uint8_t *piece = fuzz_bytes(&rest, step, &len);
        struct session_rx rx = {0};
        enum tcns_err e = session_open(w->server, piece, len, &used, &rx);

        free(piece);
        FUZZ_CHECK(used <= len);
        FUZZ_CHECK(e != TCNS_ERR_AGAIN || used == len);
        if (e == TCNS_OK)
            note(w, &rx);
        w->is_over = e != TCNS_OK && e != TCNS_ERR_AGAIN;
        if (w->is_over)
            FUZZ_CHECK(w->is_tampered && err_class(e) == ERR_CLASS_PEER);
        pos += used;
    }
    w->wire_len = 0;
}

static void tamper(struct world *w, uint8_t op, struct fuzz_input *in)
{
    size_t arg = fuzz_byte(in), len;
    uint8_t *raw;

    w->is_tampered = true;
    if (op == OP_RAW) {
        raw = fuzz_bytes(in, arg, &len);
        put_wire(w, raw, len);
        free(raw);
    } else if (op == OP_CUT) {
        w->wire_len -= arg < w->wire_len ? arg : w->wire_len;
    } else if (w->wire_len > 0) {
        w->wire[arg % w->wire_len] ^= fuzz_byte(in);
    }
}

static void run(struct world *w, struct fuzz_input *in)
{
    while (in->left > 0 && has_room(w)) {
        uint8_t op = fuzz_byte(in) % OP_CNT;

        switch (op) {
        case OP_SEAL:
        case OP_FIN:
            seal(w, in, op == OP_FIN ? SESSION_SEAL_FIN : 0);
            break;
        case OP_URGENT:
            seal(w, in, SESSION_SEAL_URGENT);
            break;
        case OP_REKEY:
            rekey(w);
            break;
        case OP_ANSWER:
            answer(w);
            break;
        case OP_DELIVER:
            deliver(w, 1u + fuzz_byte(in));
            break;
        default:
            tamper(w, op, in);
            break;
        }
    }
    deliver(w, SIZE_MAX);
    FUZZ_CHECK(w->urgent_got <= w->urgent_sent);
    if (!w->is_tampered)
        FUZZ_CHECK(w->got_len == w->sent_len && w->urgent_got == w->urgent_sent);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input in = {data, size};
    static struct world w;

    if (!client_cfg.cache) {
        client_cfg = session_config_default;
        client_cfg.random = fuzz_random;
        client_cfg.rekey_frames = 7; /* keys change by themselves, too */
        server_cfg = client_cfg;
        client_cfg.cache = resume_cache_new(1);
        server_cfg.cache = resume_cache_new(1);
        FUZZ_CHECK(client_cfg.cache && server_cfg.cache);
    }
    fuzz_random_reset();
    memset(&w, 0, sizeof(w));
    start(&w);
    run(&w, &in);
    session_free(w.client);
    session_free(w.server);
    FUZZ_CHECK(buf_total() == 0);
    return 0;
}
