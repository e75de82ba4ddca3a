/* SPDX-License-Identifier: BSD-3-Clause
 * Micro-benchmarks of the parts of the data path: nanoseconds per operation.
 *
 * How it works: each operation is run in rounds that grow until one takes
 * ROUND_NS; of ROUND_CNT such rounds the median counts. Prints one JSON object
 * per line. An operation that fails ends the program: a figure of something that
 * does not work is none.
 *
 *   micro [PART-OF-A-NAME]
 */
#include <arpa/inet.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/siphash.h"
#include "tcp/packet.h"
#include "tcpcrypt/frame.h"
#include "tcpcrypt/kex.h"
#include "tcpcrypt/keys.h"
#include "tcpcrypt/resume.h"
#include "tcpcrypt/session.h"
#include "tunnel/flow.h"

#define ROUND_NS  20000000u /* long against a clock tick and a lost time slice */
#define ROUND_CNT 7
#define FLOW_CNT  10000

static const char *wanted; /* part of a name, or NULL */

static void check(bool ok, const char *what)
{
    if (ok)
        return;
    fprintf(stderr, "micro: %s failed\n", what);
    exit(1);
}

static void must(enum tcns_err e, const char *what)
{
    if (e != TCNS_OK)
        fprintf(stderr, "micro: %s: %s\n", what, err_text(e));
    check(e == TCNS_OK, what);
}

/* --- Clock ------------------------------------------------------------------------ */

typedef void (*work_fn)(void *arg, size_t cnt);

static uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t time_of(work_fn fn, void *arg, size_t cnt)
{
    uint64_t begin = now_ns();

    fn(arg, cnt);
    return now_ns() - begin;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static bool is_wanted(const char *name)
{
    return !wanted || strstr(name, wanted);
}

/* bytes: what one operation works on; 0: no such thing. */
static void measure(const char *name, work_fn fn, void *arg, size_t bytes)
{
    double ns[ROUND_CNT];
    size_t cnt = 1;

    if (!is_wanted(name))
        return;
    while (time_of(fn, arg, cnt) < ROUND_NS / 2)
        cnt *= 2;
    for (int i = 0; i < ROUND_CNT; i++)
        ns[i] = (double)time_of(fn, arg, cnt) / (double)cnt;
    qsort(ns, ROUND_CNT, sizeof(*ns), compare);
    double median = ns[ROUND_CNT / 2];
    printf("{\"name\":\"%s\",\"ns\":%.1f,\"min_ns\":%.1f", name, median, ns[0]);
    if (bytes)
        printf(",\"gb_per_s\":%.3f", (double)bytes / median);
    printf("}\n");
    fflush(stdout);
}

/* --- Two sessions in memory -------------------------------------------------------- */

static const char peer_name[] = "192.0.2.1:80";
#define HOST_LEN 9 /* of it, the address */

struct pair {
    struct session_config client_cfg, server_cfg;
    struct session *client, *server;
};

/* What from has to send goes to to. */
static void deliver(struct session *from, struct session *to)
{
    struct session_rx rx;
    struct buf *b;
    size_t used;

    for (;;) {
        must(session_output(from, &b), "session_output");
        if (!b)
            return;
        must(session_open(to, buf_data(b), b->len, &used, &rx), "session_open");
        buf_unref(b);
    }
}

static void pair_open(struct pair *p)
{
    uint8_t syn[ENO_OPTION_MAX_LEN], synack[ENO_OPTION_MAX_LEN];
    size_t syn_len, synack_len;

    p->client = session_new(&p->client_cfg);
    p->server = session_new(&p->server_cfg);
    check(p->client && p->server, "session_new");
    session_set_peer(p->client, peer_name, sizeof(peer_name), HOST_LEN);
    must(session_connect(p->client, syn, &syn_len), "session_connect");
    must(session_accept(p->server, syn, syn_len, synack, &synack_len), "session_accept");
    must(session_connect_synack(p->client, synack, synack_len), "session_connect_synack");
    must(session_accept_ack(p->server, eno_ack_option, ENO_ACK_OPTION_LEN), "session_accept_ack");
    deliver(p->client, p->server);
    deliver(p->server, p->client);
    check(session_is_open(p->client) && session_is_open(p->server), "handshake");
}

static void pair_close(struct pair *p)
{
    session_free(p->client);
    session_free(p->server);
}

/* --- Handshake ---------------------------------------------------------------------- */

static void handshakes(void *arg, size_t cnt)
{
    struct pair *p = arg;

    for (size_t i = 0; i < cnt; i++) {
        pair_open(p);
        pair_close(p);
    }
}

static bool is_resumed(struct pair *p)
{
    struct session_info info;

    pair_open(p);
    session_get_info(p->client, &info);
    pair_close(p);
    return info.reason == SESSION_REASON_RESUMED;
}

static void measure_handshakes(void)
{
    struct pair p = {.client_cfg = session_config_default, .server_cfg = session_config_default};

    check(!is_resumed(&p), "fresh handshake");
    measure("handshake fresh, both ends", handshakes, &p, 0);
    p.client_cfg.cache = resume_cache_new(16);
    p.server_cfg.cache = resume_cache_new(16);
    check(p.client_cfg.cache && p.server_cfg.cache, "resume_cache_new");
    check(!is_resumed(&p) && is_resumed(&p), "resumed handshake");
    measure("handshake resumed, both ends", handshakes, &p, 0);
    check(is_resumed(&p), "resumed handshake");
    resume_cache_free(p.client_cfg.cache);
    resume_cache_free(p.server_cfg.cache);
}

/* --- Keys --------------------------------------------------------------------------- */

static void make_ephemeral(void *arg, size_t cnt)
{
    struct kex_key key;

    for (size_t i = 0; i < cnt; i++)
        must(kex_ephemeral(TEP_ECDHE_CURVE25519, session_config_default.random, &key),
             "kex_ephemeral");
}

static void agree(void *arg, size_t cnt)
{
    const struct kex_key *key = arg;
    uint8_t es[KEX_SECRET_MAX_LEN];

    for (size_t i = 0; i < cnt; i++)
        must(kex_agree(key, key->public, key->public_len, es), "kex_agree");
}

/* Everything between ES and the keys of both directions, with what resumption needs. */
static void schedule(void *arg, size_t cnt)
{
    const uint8_t *bytes = arg;

    for (size_t i = 0; i < cnt; i++) {
        uint8_t ss[KEYS_K_LEN], next[KEYS_K_LEN], mk[KEYS_K_LEN];
        uint8_t id[SESSION_ID_LEN], resume_id[KEYS_RESUME_ID_LEN], key[16 + 12];
        struct keys_prk prk;

        keys_prk_init(&prk, bytes);
        keys_prk_update(&prk, bytes, 150); /* options, Init1, Init2, ES */
        keys_prk_final(&prk, ss);
        keys_session_id(TEP_ECDHE_CURVE25519, ss, NULL, 0, id);
        keys_first_master(ss, NULL, 0, mk);
        keys_traffic(mk, SESSION_ROLE_A, key, sizeof(key));
        keys_traffic(mk, SESSION_ROLE_B, key, sizeof(key));
        keys_next_secret(ss, next);
        keys_resume_id(next, resume_id);
    }
}

static void measure_keys(void)
{
    uint8_t bytes[150] = {1, 2, 3};
    struct kex_key key;

    must(kex_ephemeral(TEP_ECDHE_CURVE25519, session_config_default.random, &key), "kex_ephemeral");
    measure("X25519 key pair", make_ephemeral, NULL, 0);
    measure("X25519 agreement", agree, &key, 0);
    measure("key schedule", schedule, bytes, 0);
}

/* --- Frames ------------------------------------------------------------------------- */

#define BATCH_MAX_CNT 512

struct frames {
    struct frame_tx tx;
    struct frame_rx rx;
    size_t data_len;
    uint8_t *data;
    size_t batch;
    struct buf *sealed[BATCH_MAX_CNT];
};

static struct buf *seal(struct frames *f)
{
    struct frame_head head = {.control = 0};
    struct iovec iov = {f->data, f->data_len};
    struct buf *b = NULL;

    must(frame_seal(&f->tx, &head, &iov, 1, &b), "frame_seal");
    return b;
}

static void seals(void *arg, size_t cnt)
{
    for (size_t i = 0; i < cnt; i++)
        buf_unref(seal(arg));
}

static void open_one(struct frames *f, const struct buf *b)
{
    struct frame_head head;
    struct buf *data;
    size_t used;

    must(frame_open(&f->rx, b->bytes + b->off, b->len, &used, &head, &data), "frame_open");
    check(data && data->len == f->data_len, "frame");
    buf_unref(data);
}

/* Frames must be opened in the order in which they were sealed, each once: seals
 * a batch, then opens it, and keeps the time of the opening only. */
static double open_ns(struct frames *f)
{
    size_t done = 0;
    uint64_t took = 0;

    while (took < ROUND_NS) {
        for (size_t i = 0; i < f->batch; i++)
            f->sealed[i] = seal(f);
        uint64_t begin = now_ns();
        for (size_t i = 0; i < f->batch; i++)
            open_one(f, f->sealed[i]);
        took += now_ns() - begin;
        done += f->batch;
        for (size_t i = 0; i < f->batch; i++)
            buf_unref(f->sealed[i]);
    }
    return (double)took / (double)done;
}

static void measure_opening(const char *name, struct frames *f)
{
    double ns[ROUND_CNT];

    if (!is_wanted(name))
        return;
    for (int i = 0; i < ROUND_CNT; i++)
        ns[i] = open_ns(f);
    qsort(ns, ROUND_CNT, sizeof(*ns), compare);
    double median = ns[ROUND_CNT / 2];
    printf("{\"name\":\"%s\",\"ns\":%.1f,\"min_ns\":%.1f,\"gb_per_s\":%.3f}\n", name, median, ns[0],
           (double)f->data_len / median);
    fflush(stdout);
}

static void measure_frames(uint16_t aead, size_t data_len)
{
    struct frames f = {.data_len = data_len, .batch = data_len > 16384 ? 8 : BATCH_MAX_CNT};
    const char *aead_name = session_aead_name(aead) + strlen("AEAD_");
    uint8_t mk[KEYS_K_LEN] = {1};
    char name[64];

    f.data = calloc(1, data_len);
    check(f.data, "calloc");
    must(frame_tx_init(&f.tx, aead, mk, SESSION_ROLE_A, 0), "frame_tx_init");
    must(frame_rx_init(&f.rx, aead, mk, SESSION_ROLE_A, 0), "frame_rx_init");
    snprintf(name, sizeof(name), "open %s %zu B", aead_name, data_len);
    measure_opening(name, &f);
    snprintf(name, sizeof(name), "seal %s %zu B", aead_name, data_len);
    measure(name, seals, &f, data_len);
    frame_tx_done(&f.tx);
    frame_rx_done(&f.rx);
    free(f.data);
}

/* --- Finding a flow, taking a packet apart -------------------------------------------- */

static struct tuple numbered_tuple(size_t i)
{
    uint8_t local[4] = {192, 0, 2, 1}, peer[4] = {198, 51, 100, 1};
    struct tuple t = {.local = addr_from_v4(local), .peer = addr_from_v4(peer)};

    t.local_port = (uint16_t)(20000 + i);
    t.peer_port = 80;
    return t;
}

static void find(void *arg, size_t cnt)
{
    const struct flow_table *table = arg;

    for (size_t i = 0; i < cnt; i++) {
        /* 7919 and FLOW_CNT have no common divisor: all flows, in no order */
        struct tuple t = numbered_tuple(i * 7919 % FLOW_CNT);
        check(flow_find(table, &t) != NULL, "flow_find");
    }
}

static void measure_demux(void)
{
    struct siphash_key key = {1, 2};
    struct flow_table table;

    check(flow_table_init(&table, &key, FLOW_CNT) == 0, "flow_table_init");
    for (size_t i = 0; i < FLOW_CNT; i++) {
        struct tuple t = numbered_tuple(i);
        struct flow *f = flow_new(&table, &t, false, buf_new(64), 0);
        check(f, "flow_new");
        flow_start_relaying(&table, f);
    }
    measure("flow_find among 10000", find, &table, 0);
}

struct parsed {
    uint8_t bytes[1500];
    bool csum_ok;
};

static void parse(void *arg, size_t cnt)
{
    struct parsed *p = arg;
    struct packet packet;

    for (size_t i = 0; i < cnt; i++)
        check(packet_parse(p->bytes, sizeof(p->bytes), p->csum_ok, &packet) == PACKET_TCP,
              "packet_parse");
}

static void set_sum(uint8_t *at, uint32_t sum)
{
    uint16_t folded = (uint16_t)~packet_sum_fold(sum);

    memcpy(at, &folded, sizeof(folded));
}

static void measure_parser(void)
{
    struct parsed p = {.bytes = {0x45, 0, 1500 >> 8, 1500 & 0xff, 0, 0, 0x40, 0, 64, 6}};
    struct tuple t = numbered_tuple(0);

    memcpy(p.bytes + 12, t.peer.in6.s6_addr + 12, 4);
    memcpy(p.bytes + 16, t.local.in6.s6_addr + 12, 4);
    p.bytes[20 + 1] = 80;
    p.bytes[20 + 3] = 90;
    p.bytes[20 + 12] = 5 << 4;
    p.bytes[20 + 13] = PACKET_ACK;
    set_sum(p.bytes + 10, packet_sum(p.bytes, 20, 0));
    set_sum(p.bytes + 20 + 16,
            packet_sum(p.bytes + 20, sizeof(p.bytes) - 20,
                       packet_pseudo_sum(&t.peer, &t.local, 6, sizeof(p.bytes) - 20)));
    p.csum_ok = true;
    measure("packet_parse 1500 B", parse, &p, 0);
    p.csum_ok = false;
    measure("packet_parse 1500 B, checksum", parse, &p, 0);
}

int main(int argc, char **argv)
{
    static const uint16_t aeads[] = {AEAD_AES_128_GCM, AEAD_AES_256_GCM, AEAD_CHACHA20_POLY1305};
    static const size_t lens[] = {64, 1428, SESSION_FRAME_DATA_MAX_LEN};
    struct session_config cfg = session_config_default;

    wanted = argc > 1 ? argv[1] : NULL;
    check(sodium_init() >= 0, "sodium_init");
    must(session_selftest(&cfg), "session_selftest");
    for (size_t a = 0; a < sizeof(aeads) / sizeof(*aeads); a++)
        for (size_t l = 0; l < sizeof(lens) / sizeof(*lens); l++)
            measure_frames(aeads[a], lens[l]);
    measure_keys();
    measure_handshakes();
    measure_demux();
    measure_parser();
    return 0;
}
