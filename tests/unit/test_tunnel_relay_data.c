/* SPDX-License-Identifier: BSD-3-Clause
 * Relay: streams: much data, back-pressure, urgent data, and all of it with loss.
 */
#include "relay_world.h"

#include <string.h>

/* --- Much data -------------------------------------------------------------------------- */

static void send_much(size_t len)
{
    for (size_t off = 0; off < len; off += 50000) {
        peer_send(&app, PACKET_ACK, pattern(off), 50000);
        settle();
        net_sends(pattern(off), 50000);
        settle();
    }
    assert_int_equal(far.text_len, len);
    assert_memory_equal(far.text, pattern(0), len);
    assert_int_equal(app.rx_len, len);
    assert_memory_equal(app.rx, pattern(0), len);
}

static void test_much_data(void **state)
{
    open_outbound();
    settle();
    send_much(500000);
    close_in_order();
}

static void test_much_data_plain(void **state)
{
    no_tcpcrypt_far();
    open_inbound();
    send_much(500000);
    close_in_order();
}

/* --- Back-pressure ---------------------------------------------------------------------- */

/* Return: how many bytes the leg says that net may send. */
static size_t announced_room(void)
{
    static uint32_t edge;
    struct sent *s;

    while ((s = wire_next(SIDE_OUTER))) {
        edge = s->p.ack + ((uint32_t)s->p.window << 8);
        free(s);
    }
    return (int32_t)(edge - net.seq) > 0 ? edge - net.seq : 0;
}

/* The application reads nothing: the peer's window closes, and what is held is bounded. */
static void check_back_pressure(void)
{
    enum { STEP = 50000 };
    size_t sent = 0, before = buf_total();

    app.window = 0;
    peer_send(&app, PACKET_ACK, "x", 1); /* tells the window */
    pass(25);
    while (announced_room() > STEP + 100 && sent < 40u << 20) {
        net_sends(pattern(sent % 500000), STEP);
        sent += STEP;
        pass(25);
    }
    assert_in_range(sent, 1u << 20, 39u << 20); /* the window did close */
    assert_true(buf_total() - before < 20u << 20);
    app.window = 65535;
    for (int i = 0; i < 2000 && app.rx_len < sent; i++) {
        peer_ack(&app);
        app_reads();
        pass(STACK_TICK_MS);
    }
    assert_int_equal(app.rx_len, sent);
    for (size_t off = 0; off < sent; off += 500000) {
        size_t len = sent - off < 500000 ? sent - off : 500000;
        assert_memory_equal(app.rx + off, pattern(0), len);
    }
    assert_true(announced_room() > 1u << 20);
}

static void test_back_pressure(void **state)
{
    open_outbound();
    settle();
    check_back_pressure();
}

static void test_back_pressure_plain(void **state)
{
    no_tcpcrypt_far();
    open_outbound();
    check_back_pressure();
}

/* --- Urgent data ------------------------------------------------------------------------ */

static void app_sends_urgent(const void *text, size_t len, uint16_t pointer)
{
    struct packet packet;
    struct segment s = {
        .flags = PACKET_ACK | PACKET_URG, .seq = app.seq, .ack = app.ack, .data = text, .len = len};
    struct buf *b = peer_packet(&app, &s, &packet);

    packet.urgent = pointer;
    app.seq += (uint32_t)len;
    deliver(&app, b, &packet);
}

static void test_urgent_through_frames(void **state)
{
    open_outbound();
    settle();
    check_both_ways();
    app_sends_urgent("stop!", 5, 5);
    settle();
    assert_int_equal(far.text_len, 13);
    assert_int_equal(far.urgent_at, 12);
    assert_int_equal(far.urgent_cnt, 1);
}

/* Is the urgent byte farther ahead than the pointer reaches, Linux writes the farthest,
 * and means it until a later segment says more. A receiver that took it at its word
 * would take a byte that is not urgent out of the stream. */
static void test_urgent_far_ahead(void **state)
{
    enum { LEN = 1250, MARK = 140000, TOTAL = 160 * LEN };

    open_outbound();
    settle();
    send_much(TOTAL); /* the window grows with what it is used for */
    for (size_t off = 0; off < TOTAL; off += LEN) {
        in_one_turn = off > 0; /* the first is on its way before the rest is known */
        if (off > MARK)
            peer_send(&app, PACKET_ACK, pattern(off), LEN);
        else
            app_sends_urgent(pattern(off), LEN,
                             MARK + 1 - off < UINT16_MAX ? (uint16_t)(MARK + 1 - off) : UINT16_MAX);
    }
    in_one_turn = false;
    run();
    settle();
    assert_int_equal(far.text_len, 2 * TOTAL);
    assert_memory_equal(far.text + TOTAL, pattern(0), TOTAL);
    assert_int_equal(far.urgent_at, TOTAL + MARK);
    assert_int_equal(far.urgent_cnt, 1);
}

static void test_urgent_plain(void **state)
{
    no_tcpcrypt_far();
    open_outbound();
    app_sends_urgent("stop!", 5, 5);
    struct sent *s = wire_next(SIDE_OUTER);
    assert_true(s->p.flags & PACKET_URG);
    assert_int_equal(s->p.urgent, 5);
    free(s);
}

/* --- Everything at once ----------------------------------------------------------------- */

static uint32_t random_state;

static uint32_t random_below(uint32_t n)
{
    random_state = random_state * 1664525 + 1013904223;
    return (random_state >> 8) % n;
}

/* An honest TCP of a poor sort: it sends from the oldest unacknowledged byte on, now
 * and then all over again, and takes only what comes in order. */
struct honest {
    struct peer *p;
    uint8_t out[1u << 20];
    size_t len, acked, next;
    bool closed, fin_acked;
    uint32_t first_seq;
    size_t window;
};

static struct honest ends[SIDE_CNT];
static uint32_t loss_percent;

static void honest_init(struct peer *p)
{
    struct honest *h = &ends[p->side];

    h->p = p;
    h->len = h->acked = h->next = 0;
    h->closed = h->fin_acked = false;
    h->first_seq = p->seq;
    h->window = 65535;
}

static void honest_write(struct honest *h, const void *data, size_t len)
{
    assert_true(h->len + len <= sizeof(h->out));
    memcpy(h->out + h->len, data, len);
    h->len += len;
}

/* Return: something came. */
static bool honest_take(struct honest *h)
{
    struct sent *s;
    bool any = false;

    while ((s = wire_next(h->p->side))) {
        size_t acked = s->p.ack - h->first_seq;
        if (random_below(100) >= loss_percent) {
            if (acked <= h->len + 1 && acked > h->acked)
                h->acked = acked;
            h->fin_acked |= h->closed && acked == h->len + 1;
            h->window = (size_t)s->p.window << 8;
            assert_false(s->p.flags & PACKET_RST);
            peer_follow(h->p, &s->p);
            any = true;
        }
        free(s);
    }
    return any;
}

static void honest_send_one(struct honest *h)
{
    size_t room = h->acked + h->window > h->next ? h->acked + h->window - h->next : 0;
    size_t len = h->len > h->next ? h->len - h->next : 0, max = random_below(3) ? 1400 : 20000;
    uint8_t flags = PACKET_ACK;

    if (h->fin_acked)
        return;
    len = len < room ? len : room;
    len = len < max ? len : max;
    if (h->closed && h->next + len == h->len && room > len)
        flags |= PACKET_FIN;
    if (random_below(100) >= loss_percent)
        peer_send_at(h->p, (int32_t)(h->first_seq + h->next - h->p->seq), flags, h->out + h->next,
                     len);
    h->next += len;
}

static void honest_turn(struct honest *h)
{
    bool any = honest_take(h), over = h->fin_acked && h->p->fin;

    if (h->next < h->acked || random_below(6) == 0)
        h->next = h->acked < h->len ? h->acked : h->len; /* all over again */
    for (uint32_t i = random_below(4); i > 0; i--)
        honest_send_one(h);
    if (over ? any : random_below(3) == 0) /* in TIME-WAIT it only answers */
        peer_send_at(h->p, (int32_t)(h->first_seq + h->acked - h->p->seq), PACKET_ACK, NULL, 0);
}

static void far_writes(const void *data, size_t len, unsigned flags)
{
    struct iovec iov = {(void *)(uintptr_t)data, len};
    struct buf *b = NULL;

    if (!far.session) {
        honest_write(&ends[SIDE_OUTER], data, len);
        return;
    }
    assert_int_equal(session_seal(far.session, &iov, len > 0, flags, 0, &b), TCNS_OK);
    honest_write(&ends[SIDE_OUTER], buf_data(b), b->len);
    buf_unref(b);
}

static void far_reads(void)
{
    while (far.taken < net.rx_len) {
        size_t used = net.rx_len - far.taken;
        struct session_rx rx = {0};
        struct buf *b = NULL;
        enum tcns_err err = TCNS_OK;
        if (!far.session) {
            memcpy(far.text + far.text_len, net.rx + far.taken, used);
            far.text_len += used;
        } else {
            err = session_open(far.session, net.rx + far.taken, used, &used, &rx);
            assert_true(err == TCNS_OK || err == TCNS_ERR_AGAIN);
        }
        if (rx.data)
            memcpy(far.text + far.text_len, buf_data(rx.data), rx.data->len);
        far.text_len += rx.data ? rx.data->len : 0;
        buf_unref(rx.data);
        far.fin |= rx.fin;
        far.taken += used;
        if (err == TCNS_OK && far.session && session_output(far.session, &b) == TCNS_OK && b)
            honest_write(&ends[SIDE_OUTER], buf_data(b), b->len);
        buf_unref(b);
    }
}

enum { SOAK_LEN = 60000 };

/* Both ends write a little more, and close when all is written. */
static void write_more(size_t *app_written, size_t *far_written)
{
    size_t n = random_below(4000);

    if (*app_written < SOAK_LEN && random_below(3) == 0) {
        n = n < SOAK_LEN - *app_written ? n : SOAK_LEN - *app_written;
        honest_write(&ends[SIDE_INNER], pattern(*app_written), n);
        *app_written += n;
        ends[SIDE_INNER].closed = *app_written == SOAK_LEN;
    }
    n = random_below(4000) + 1;
    bool may = !far.session || session_is_open(far.session);
    if (may && *far_written < SOAK_LEN && random_below(3) == 0) {
        n = n < SOAK_LEN - *far_written ? n : SOAK_LEN - *far_written;
        far_writes(pattern(*far_written), n, *far_written + n == SOAK_LEN ? SESSION_SEAL_FIN : 0);
        *far_written += n;
        ends[SIDE_OUTER].closed = *far_written == SOAK_LEN;
    }
}

static void block_at_random(void)
{
    for (int side = 0; side < SIDE_CNT; side++) {
        wire.blocked[side] = random_below(10) == 0;
        if (!wire.blocked[side])
            stack_writable((enum side)side);
    }
}

static void soak(uint32_t seed, bool inbound, bool encrypted)
{
    size_t app_written = 0, far_written = 0;
    int turn;

    new_connection();
    random_state = seed;
    loss_percent = seed % 4 * 5;
    if (!encrypted)
        no_tcpcrypt_far();
    inbound ? open_inbound() : open_outbound();
    honest_init(&app);
    honest_init(&net);
    if (inbound && encrypted) {
        struct buf *b = NULL;
        assert_int_equal(session_output(far.session, &b), TCNS_OK);
        honest_write(&ends[SIDE_OUTER], buf_data(b), b->len);
        buf_unref(b);
    }
    for (turn = 0; turn < 40000 && the_flow(); turn++) {
        write_more(&app_written, &far_written);
        block_at_random();
        in_one_turn = random_below(2);
        honest_turn(&ends[SIDE_INNER]);
        honest_turn(&ends[SIDE_OUTER]);
        in_one_turn = false;
        run();
        far_reads();
        if (random_below(3) == 0)
            pass(STACK_TICK_MS);
    }
    wire.blocked[SIDE_INNER] = wire.blocked[SIDE_OUTER] = false;
    expect_end(TUNNEL_END_CLOSED, TCNS_OK);
    assert_int_equal(app.rx_len, SOAK_LEN);
    assert_memory_equal(app.rx, pattern(0), SOAK_LEN);
    assert_int_equal(far.text_len, SOAK_LEN);
    assert_memory_equal(far.text, pattern(0), SOAK_LEN);
    assert_true(!encrypted || far.fin);
    assert_string_equal(events, encrypted ? "oEx" : "ocx");
}

static void test_soak(void **state)
{
    for (uint32_t seed = 0; seed < 100; seed++)
        soak(seed, seed & 1, seed & 2);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, relay_world_set_up, relay_world_tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_much_data),
        TEST(test_much_data_plain),
        TEST(test_back_pressure),
        TEST(test_back_pressure_plain),
        TEST(test_urgent_through_frames),
        TEST(test_urgent_far_ahead),
        TEST(test_urgent_plain),
        TEST(test_soak),
    };

    return wire_run_tests(tests);
}
