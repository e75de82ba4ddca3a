/* SPDX-License-Identifier: BSD-3-Clause
 * PSH where RFC 8548 3.3 wants it: on the packet with the last byte of an Init message.
 */
#include "tcp_wire.h"

#define INIT2_LEN 74u /* with Curve25519 */

static struct peer peer;

static int set_up(void **state)
{
    wire_set_up(state);
    peer_init(&peer, SIDE_OUTER);
    return 0;
}

static int tear_down(void **state)
{
    peer_done(&peer);
    return wire_tear_down(state);
}

/* As the pump does it: Init2 leaves by itself, what follows in as many packets as it takes. */
static void send_init2_and_frames(void)
{
    leg_send(&peer.leg, pattern(0), INIT2_LEN);
    leg_output(&peer.leg);
    stack_flush();
    leg_send(&peer.leg, pattern(INIT2_LEN), 8000);
    leg_output(&peer.leg);
    stack_flush();
}

/* Looks at all packets that left. Return: whether one with the last byte of Init2 had PSH,
 * and none was without. */
static bool is_init2_pushed(uint32_t first_seq)
{
    struct sent *s;
    bool is_pushed = false, is_bad = false;

    while ((s = wire_next(SIDE_OUTER))) {
        uint32_t off = s->p.seq - first_seq;

        if (s->p.data_len > 0 && off < INIT2_LEN && off + s->p.data_len >= INIT2_LEN) {
            bool has_psh = s->p.flags & PACKET_PSH;

            is_pushed |= has_psh;
            is_bad |= !has_psh;
        }
        free(s);
    }
    return is_pushed && !is_bad;
}

static void test_init_message_is_pushed(void **state)
{
    peer_connects(&peer, 1460, 7);
    send_init2_and_frames();
    assert_true(is_init2_pushed(peer.ack));
}

/* The peer got nothing: lwIP's timer sends again. */
static void test_resent_init_message_is_pushed(void **state)
{
    peer_connects(&peer, 1460, 7);
    send_init2_and_frames();
    wire_discard(SIDE_OUTER);
    wire_advance(4000);
    assert_true(is_init2_pushed(peer.ack));
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_init_message_is_pushed),
        T(test_resent_init_message_is_pushed),
    };

    return cmocka_run_group_tests_name("tcp/push", tests, NULL, NULL);
}
