/* SPDX-License-Identifier: BSD-3-Clause
 * Encryption frames, one direction at a time.
 */
#include "tcpcrypt/frame.h"
#include "tcpcrypt/session.h"
#include "vectors.h"

#include <sodium.h>
#include <string.h>

/* Both directions of the same key, so that what one seals the other opens. */
struct pipe {
    struct frame_tx tx;
    struct frame_rx rx;
};

static void pipe_init(struct pipe *p, uint16_t aead, const uint8_t *mk, enum session_role sender,
                      uint64_t offset)
{
    assert_int_equal(frame_tx_init(&p->tx, aead, mk, sender, offset), TCNS_OK);
    assert_int_equal(frame_rx_init(&p->rx, aead, mk, sender, offset), TCNS_OK);
}

static void pipe_done(struct pipe *p)
{
    frame_tx_done(&p->tx);
    frame_rx_done(&p->rx);
}

/* Some vectors give a traffic key and no master key. */
static void set_traffic_key(struct pipe *p, json_t *key)
{
    struct bytes k = vec_hex(key, "k"), nr = vec_hex(key, "nr");
    uint8_t both[KEYS_TRAFFIC_MAX_LEN];

    memcpy(both, k.p, k.len);
    memcpy(both + k.len, nr.p, nr.len);
    assert_int_equal(aead_set_key(&p->tx.keys.aead, both), TCNS_OK);
    assert_int_equal(aead_set_key(&p->rx.keys.aead, both), TCNS_OK);
}

static bool in_place; /* how data is sealed */

#define URGENT_FRAME_BEFORE_LEN (SESSION_FRAME_BEFORE_LEN + SESSION_FRAME_URGENT_LEN)

/* From two pieces, for sealing gathers; or where it lies, in a buffer of exact size. */
static struct buf *seal(struct frame_tx *tx, const struct frame_head *head, struct bytes data)
{
    struct iovec iov[2] = {{data.p, data.len / 3},
                           {data.p + data.len / 3, data.len - data.len / 3}};
    size_t before =
        head->flags & FRAME_FLAG_URG ? URGENT_FRAME_BEFORE_LEN : SESSION_FRAME_BEFORE_LEN;
    struct buf *b = NULL;

    if (!in_place) {
        assert_int_equal(frame_seal(tx, head, iov, 2, &b), TCNS_OK);
        return b;
    }
    b = buf_new(before + data.len + SESSION_FRAME_BEHIND_LEN);
    b->off = (uint32_t)before;
    b->len = (uint32_t)data.len;
    memcpy(buf_data(b), data.p, data.len);
    assert_int_equal(frame_seal_in_place(tx, head, b), TCNS_OK);
    assert_int_equal(b->off, 0);
    return b;
}

/* Seals data, expects these bytes; opens them in steps of step bytes, expects the data. */
static void check_frame(struct pipe *p, const struct frame_head *head, struct bytes data,
                        struct bytes frame, size_t step)
{
    struct frame_head got_head;
    struct buf *sealed = seal(&p->tx, head, data);
    struct buf *opened = NULL;
    enum tcns_err e = TCNS_ERR_AGAIN;

    assert_bytes(frame, buf_data(sealed), sealed->len);
    for (size_t pos = 0, used; pos < frame.len; pos += used) {
        size_t n = frame.len - pos < step ? frame.len - pos : step;

        assert_int_equal(e, TCNS_ERR_AGAIN);
        e = frame_open(&p->rx, frame.p + pos, n, &used, &got_head, &opened);
        assert_int_equal(used, n);
    }
    assert_int_equal(e, TCNS_OK);
    assert_int_equal(got_head.control, head->control);
    assert_int_equal(got_head.flags, head->flags);
    assert_int_equal(got_head.urgent, head->urgent);
    assert_bytes(data, opened ? buf_data(opened) : NULL, opened ? opened->len : 0);
    assert_int_equal(p->rx.keys.offset, p->tx.keys.offset);
    buf_unref(sealed);
    buf_unref(opened);
}

static size_t step; /* how finely received frames are cut */

static void check_direction(json_t *c, enum session_role sender, const char *direction)
{
    json_t *frames = vec_list(c, "frames");
    struct bytes mk = vec_hex(json_array_get(vec_list(c, "generations"), 0), "mk");
    struct pipe p;
    bool is_started = false;

    for (size_t i = 0; i < json_array_size(frames); i++) {
        json_t *f = json_array_get(frames, i);
        struct frame_head head = {.control = (uint8_t)vec_hex_int(f, "control"),
                                  .flags = (uint8_t)vec_hex_int(f, "flags")};

        if (!vec_is(f, "direction", direction))
            continue;
        if (!is_started)
            pipe_init(&p, vec_hex_int(c, "aead"), mk.p, sender, vec_int(f, "stream_offset"));
        is_started = true;
        if (vec_has(f, "urgent"))
            head.urgent = (uint16_t)vec_int(f, "urgent");
        assert_int_equal(p.tx.keys.offset, vec_int(f, "stream_offset"));
        check_frame(&p, &head, vec_hex(f, "data"), vec_hex(f, "frame"), step);
    }
    assert_true(is_started);
    pipe_done(&p);
}

/* RFC 8548 3.6, 3.7, 3.8, 4.2 */
static void check_frames(json_t *c)
{
    static const size_t steps[] = {SIZE_MAX, 1, 2, 7};

    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        step = steps[i];
        in_place = i % 2;
        check_direction(c, SESSION_ROLE_A, "ab");
        check_direction(c, SESSION_ROLE_B, "ba");
    }
}

/* RFC 8548 3.6, 4.2.3 */
static void check_offset(json_t *c)
{
    struct pipe p;
    const uint8_t mk[KEYS_K_LEN] = {0};
    struct bytes plaintext = vec_hex(c, "plaintext");
    struct frame_head head = {.flags = plaintext.p[0]};

    pipe_init(&p, vec_hex_int(c, "aead"), mk, SESSION_ROLE_A, vec_int(c, "stream_offset"));
    set_traffic_key(&p, json_object_get(c, "key"));
    check_frame(&p, &head, (struct bytes){plaintext.p + 1, plaintext.len - 1}, vec_hex(c, "frame"),
                SIZE_MAX);
    pipe_done(&p);
}

/* RFC 8548 3.6: clen 65535 */
static void check_largest(json_t *c)
{
    struct pipe p;
    const uint8_t mk[KEYS_K_LEN] = {0};
    struct frame_head head = {0};
    static uint8_t data[SESSION_FRAME_DATA_MAX_LEN];
    uint8_t hash[crypto_hash_sha256_BYTES];
    struct buf *sealed;
    struct iovec iov = {data, sizeof(data)};

    assert_int_equal(vec_int(c, "data_len"), sizeof(data));
    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (uint8_t)(i % 251);
    pipe_init(&p, vec_hex_int(c, "aead"), mk, SESSION_ROLE_A, vec_int(c, "stream_offset"));
    set_traffic_key(&p, json_object_get(c, "key"));
    assert_int_equal(frame_seal(&p.tx, &head, &iov, 1, &sealed), TCNS_OK);
    crypto_hash_sha256(hash, buf_data(sealed), sealed->len);
    assert_bytes(vec_hex(c, "frame_first_32"), buf_data(sealed), 32);
    assert_bytes(vec_hex(c, "frame_last_16"), buf_data(sealed) + sealed->len - 16, 16);
    assert_bytes(vec_hex(c, "frame_sha256"), hash, sizeof(hash));

    p.tx.keys.offset = vec_int(c, "stream_offset");
    check_frame(&p, &head, (struct bytes){data, sizeof(data)},
                (struct bytes){buf_data(sealed), sealed->len}, 1448);
    buf_unref(sealed);
    pipe_done(&p);
}

static enum tcns_err open_all(struct frame_rx *rx, struct bytes frame, size_t cut)
{
    struct frame_head head;
    struct buf *data = NULL;
    enum tcns_err e = TCNS_ERR_AGAIN;

    for (size_t pos = 0, used; pos < frame.len && e == TCNS_ERR_AGAIN; pos += used) {
        size_t n = frame.len - pos < cut ? frame.len - pos : cut;

        e = frame_open(rx, frame.p + pos, n, &used, &head, &data);
        assert_true(used <= n);
    }
    if (e != TCNS_OK)
        assert_null(data);
    buf_unref(data);
    return e;
}

/* RFC 8548 3.6, 4.2; interpretation I18 */
static void check_failure(json_t *c)
{
    for (size_t cut = 1; cut < 40; cut++) {
        struct pipe p;
        enum tcns_err e;

        pipe_init(&p, vec_hex_int(c, "aead"), vec_hex(c, "mk").p, SESSION_ROLE_A,
                  vec_int(c, "stream_offset"));
        e = open_all(&p.rx, vec_hex(c, "frame"), cut);
        if (vec_is(c, "outcome", "ok"))
            assert_int_equal(e, TCNS_OK);
        else if (vec_is(c, "outcome", "malformed"))
            assert_int_equal(e, TCNS_ERR_FRAME_MALFORMED);
        else
            assert_true(e == TCNS_ERR_FRAME_AUTH || e == TCNS_ERR_FRAME_LENGTH);
        pipe_done(&p);
    }
}

static void test_schedule_frames(void **state)
{
    vectors_run("key_schedule", check_frames);
}

static void test_resumption_frames(void **state)
{
    vectors_run("resumption", check_frames);
}

static void test_offsets(void **state)
{
    vectors_run("frame_offsets", check_offset);
}

static void test_largest(void **state)
{
    vectors_run("largest_frames", check_largest);
}

static void test_failures(void **state)
{
    vectors_run("frame_failures", check_failure);
}

static void test_too_large(void **state)
{
    static uint8_t data[SESSION_FRAME_DATA_MAX_LEN + 1];
    const uint8_t mk[KEYS_K_LEN] = {0};
    struct pipe p;
    struct frame_head plain = {0}, urgent = {.flags = FRAME_FLAG_URG};
    struct iovec iov[3] = {{data, sizeof(data)}};
    struct buf *b = NULL;

    pipe_init(&p, AEAD_AES_128_GCM, mk, SESSION_ROLE_A, 0);
    assert_int_equal(frame_seal(&p.tx, &plain, iov, 1, &b), TCNS_ERR_TOO_LARGE);
    iov[0].iov_len--; /* fits without the urgent field only */
    assert_int_equal(frame_seal(&p.tx, &urgent, iov, 1, &b), TCNS_ERR_TOO_LARGE);
    iov[1].iov_len = SIZE_MAX;
    iov[2].iov_len = 2;
    assert_int_equal(frame_seal(&p.tx, &plain, iov, 3, &b), TCNS_ERR_TOO_LARGE);
    assert_null(b);
    assert_int_equal(p.tx.keys.offset, 0);
    assert_int_equal(frame_seal(&p.tx, &plain, iov, 1, &b), TCNS_OK);
    assert_int_equal(b->len, SESSION_FRAME_DATA_MAX_LEN + SESSION_FRAME_OVERHEAD_LEN);
    buf_unref(b);
    pipe_done(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_schedule_frames, vectors_blame),
        cmocka_unit_test_teardown(test_resumption_frames, vectors_blame),
        cmocka_unit_test_teardown(test_offsets, vectors_blame),
        cmocka_unit_test_teardown(test_largest, vectors_blame),
        cmocka_unit_test_teardown(test_failures, vectors_blame),
        cmocka_unit_test(test_too_large),
    };

    return cmocka_run_group_tests_name("tcpcrypt/frame", tests, vectors_setup, vectors_teardown);
}
