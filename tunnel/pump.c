/* SPDX-License-Identifier: BSD-3-Clause
 * Moving bytes between the legs of a flow, through its tcpcrypt session.
 */
#include "tunnel/pump.h"

#include <errno.h>

#define CHUNK_MAX_CNT 64

/* A frame is under way for about so long. */
#define FRAME_TIME_US 5000u

/* A frame is not worth sealing for fewer bytes than this while more are waiting. */
#define FRAME_ROOM_MIN_LEN 2048u

/* Smaller pieces share a frame with what follows. */
#define IN_PLACE_MIN_LEN 16384u

/* An end that is gone needs nothing more; the other may still have to be told something. */
static enum tcns_err write_buf(struct flow *f, enum side side, struct buf *b)
{
    int err = leg_write(&f->legs[side], b, buf_data(b), b->len);

    buf_unref(b);
    return err < 0 && err != -EPIPE ? TCNS_ERR_NO_MEMORY : TCNS_OK;
}

/* Init messages, and answers to a rekey. */
static enum tcns_err send_output(struct flow *f)
{
    struct buf *b = NULL;
    enum tcns_err err = session_output(f->session, &b);

    if (err != TCNS_OK || !b)
        return err;
    return write_buf(f, SIDE_OUTER, b);
}

/* How many application bytes the next frame takes. None of it can be used before all of
 * it is there: whole super-segments where the path is wide, packets where it is narrow. */
static size_t frame_data_max(const struct leg *outer)
{
    size_t packet = outer->wire_mss;
    size_t limit = (SESSION_FRAME_DATA_MAX_LEN + SESSION_FRAME_OVERHEAD_LEN) / packet * packet;
    size_t frame = leg_bytes_in(outer, FRAME_TIME_US) / packet * packet; /* fill packets */

    if (frame < packet)
        frame = packet;
    if (frame > limit)
        frame = limit;
    return frame - SESSION_FRAME_OVERHEAD_LEN;
}

/* Gathers at most max bytes of what was received, without taking them. */
static size_t gather(const struct leg *leg, struct iovec *iov, size_t *ret_cnt, size_t max)
{
    struct leg_chunk chunks[CHUNK_MAX_CNT];
    size_t cnt = leg_peek(leg, chunks, CHUNK_MAX_CNT, max);
    size_t len = 0, n = 0;

    for (; n < cnt && len < max; n++) {
        size_t take = chunks[n].len < max - len ? chunks[n].len : max - len;
        iov[n] = (struct iovec){chunks[n].data, take};
        len += take;
    }
    *ret_cnt = n;
    return len;
}

/* The application's urgent mark (RFC 8548 3.7), once it is near enough for the field and
 * its byte is here. Before, it may be as far as TCP's pointer reached, not as far as meant:
 * were the truth then too far for the field, a byte that is not urgent would stay marked. */
static bool urgent_mark(const struct leg *inner, uint16_t *ret_off)
{
    uint32_t off;

    if (!leg_has_urgent(inner, &off) || off >= inner->rx_len || off > UINT16_MAX)
        return false;
    *ret_off = (uint16_t)off;
    return true;
}

/* The application's next len bytes were sealed and written; fin: they were the last. */
static void take_sealed(struct flow *f, size_t len, bool fin)
{
    leg_consume(&f->legs[SIDE_INNER], len);
    f->bytes_in[SIDE_INNER] += len;
    if (fin)
        leg_shutdown(&f->legs[SIDE_OUTER]);
}

/* A large packet, alone in its buffer with the room that a frame needs around it. */
static bool fits_in_place(const struct leg_chunk *chunk, size_t max)
{
    const struct buf *b = chunk->buf;
    size_t off = (size_t)(chunk->data - b->bytes);

    return chunk->len >= IN_PLACE_MIN_LEN && chunk->len <= max && b->refs == 1 &&
           off >= BUF_PACKET_HEADROOM_LEN + SESSION_FRAME_BEFORE_LEN &&
           b->cap - off - chunk->len >= SESSION_FRAME_BEHIND_LEN;
}

/* Super-segment to frame to super-segment: each goes on its way while it is in the
 * processor's cache, and no byte is moved. */
static enum tcns_err seal_in_place(struct flow *f, const struct leg_chunk *chunk)
{
    bool fin = f->fin_in[SIDE_INNER] && chunk->len == f->legs[SIDE_INNER].rx_len;
    struct buf *b = chunk->buf;

    b->off = (uint32_t)(chunk->data - b->bytes);
    b->len = (uint32_t)chunk->len;
    enum tcns_err err = session_seal_in_place(f->session, b, fin);
    if (err == TCNS_OK)
        err = write_buf(f, SIDE_OUTER, buf_ref(b));
    if (err != TCNS_OK)
        return err;
    take_sealed(f, chunk->len, fin);
    leg_output(&f->legs[SIDE_OUTER]);
    return TCNS_OK;
}

/* One frame of at most max bytes, given to the outer leg. */
static enum tcns_err seal_one(struct flow *f, size_t max)
{
    struct leg *inner = &f->legs[SIDE_INNER];
    struct iovec iov[CHUNK_MAX_CNT];
    size_t iov_cnt;
    uint16_t urgent_off = 0;
    unsigned flags = urgent_mark(inner, &urgent_off) ? SESSION_SEAL_URGENT : 0;
    size_t len = gather(inner, iov, &iov_cnt, flags ? max - SESSION_FRAME_URGENT_LEN : max);
    struct buf *frame;

    if (f->fin_in[SIDE_INNER] && len == inner->rx_len)
        flags |= SESSION_SEAL_FIN;
    enum tcns_err err = session_seal(f->session, iov, iov_cnt, flags, urgent_off, &frame);
    if (err == TCNS_OK)
        err = write_buf(f, SIDE_OUTER, frame);
    if (err != TCNS_OK)
        return err;
    take_sealed(f, len, flags & SESSION_SEAL_FIN);
    return TCNS_OK;
}

static enum tcns_err seal_next(struct flow *f, size_t max)
{
    struct leg *inner = &f->legs[SIDE_INNER];
    struct leg_chunk chunk;
    uint16_t off;

    if (leg_peek(inner, &chunk, 1, SIZE_MAX) == 1 && fits_in_place(&chunk, max) &&
        !urgent_mark(inner, &off))
        return seal_in_place(f, &chunk);
    return seal_one(f, max);
}

static enum tcns_err seal_up(struct flow *f)
{
    struct leg *inner = &f->legs[SIDE_INNER], *outer = &f->legs[SIDE_OUTER];

    while (!outer->fin_sent && (inner->rx_len > 0 || f->fin_in[SIDE_INNER])) {
        size_t room = leg_room(outer);
        if (room < FRAME_ROOM_MIN_LEN)
            return TCNS_OK;
        size_t max = frame_data_max(outer);
        if (max > room - SESSION_FRAME_OVERHEAD_LEN)
            max = room - SESSION_FRAME_OVERHEAD_LEN;
        enum tcns_err err = seal_next(f, max);
        if (err != TCNS_OK)
            return err;
    }
    return TCNS_OK;
}

/* Plain TCP, either direction. */
static enum tcns_err copy_plain(struct flow *f, enum side from)
{
    struct leg *in = &f->legs[from], *out = &f->legs[side_other(from)];
    struct leg_chunk chunk;
    uint32_t urgent_off;

    if (leg_has_urgent(in, &urgent_off))
        leg_set_urgent(out, urgent_off);

    while (leg_peek(in, &chunk, 1, SIZE_MAX) > 0) {
        size_t room = leg_room(out);
        size_t len = chunk.len < room ? chunk.len : room;
        if (len == 0)
            return TCNS_OK;
        if (leg_write(out, chunk.buf, chunk.data, len) < 0)
            return TCNS_ERR_NO_MEMORY;
        leg_consume(in, len);
        f->bytes_in[from] += len;
    }
    if (f->fin_in[from])
        leg_shutdown(out);
    return TCNS_OK;
}

static enum tcns_err take_opened(struct flow *f, struct session_rx *rx)
{
    struct leg *inner = &f->legs[SIDE_INNER];
    enum tcns_err err = TCNS_OK;

    if (rx->output)
        err = send_output(f);
    if (rx->opened) {
        /* RFC 8548 3.3: the packet with the last byte of Init2 has PSH set. Frames that
         * shared a super-segment with it would keep PSH for its last packet. */
        leg_output(&f->legs[SIDE_OUTER]);
        stack_flush();
    }
    if (rx->urgent)
        leg_set_urgent(inner, rx->urgent_off); /* counts from data, so before it is written */
    if (rx->data && err == TCNS_OK) {
        f->bytes_in[SIDE_OUTER] += rx->data->len;
        err = write_buf(f, SIDE_INNER, rx->data);
    } else {
        buf_unref(rx->data);
    }
    if (err == TCNS_OK && rx->fin)
        leg_shutdown(inner);
    return err;
}

static enum tcns_err open_down(struct flow *f)
{
    struct leg *inner = &f->legs[SIDE_INNER], *outer = &f->legs[SIDE_OUTER];
    struct leg_chunk chunk;

    while (leg_peek(outer, &chunk, 1, SIZE_MAX) > 0) {
        struct session_rx rx = {0};
        size_t used = 0;
        /* One frame more than the room is bounded; half a frame can't be given on. */
        if (session_is_open(f->session) && leg_room(inner) == 0 && !inner->fin_sent)
            return TCNS_OK;
        enum tcns_err err = session_open(f->session, chunk.data, chunk.len, &used, &rx);
        if (err_class(err) == ERR_CLASS_WAIT)
            used = chunk.len;
        else if (err != TCNS_OK)
            return err;
        leg_consume(outer, used);
        if (err == TCNS_OK)
            err = take_opened(f, &rx);
        if (err_class(err) > ERR_CLASS_WAIT)
            return err;
    }
    /* A FIN without a final frame is not the end of the peer's data: RFC 8548 3.7. */
    if (f->fin_in[SIDE_OUTER]) {
        enum tcns_err err = session_on_fin(f->session);
        if (err != TCNS_OK)
            return err;
    }
    return TCNS_OK;
}

enum tcns_err pump(struct flow *f)
{
    enum tcns_err err = TCNS_OK;

    if (!f->legs[SIDE_OUTER].established)
        return TCNS_OK; /* not settled yet */
    if (!f->session) {
        err = copy_plain(f, SIDE_INNER);
        return err == TCNS_OK ? copy_plain(f, SIDE_OUTER) : err;
    }
    err = send_output(f);
    if (err == TCNS_OK)
        err = open_down(f);
    if (err == TCNS_OK && session_is_open(f->session))
        err = seal_up(f);
    return err;
}
