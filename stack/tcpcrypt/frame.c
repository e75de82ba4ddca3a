/* SPDX-License-Identifier: BSD-3-Clause
 * Encryption frames.
 */
#include "tcpcrypt/frame.h"

#include <assert.h>
#include <sodium.h>
#include <string.h>

#include "base/wire.h"
#include "tcpcrypt/session.h"

#define FLAGS_LEN  1
#define URGENT_LEN SESSION_FRAME_URGENT_LEN

static_assert(FLAGS_LEN + SESSION_FRAME_DATA_MAX_LEN + AEAD_TAG_LEN == FRAME_CLEN_MAX,
              "RFC 8548 4.2: clen is 16 bits");
static_assert(FRAME_HEADER_LEN + FLAGS_LEN + AEAD_TAG_LEN == SESSION_FRAME_OVERHEAD_LEN,
              "RFC 8548 4.2");

/* RFC 8548 3.3: k[j] from mk[j]. */
static enum tcns_err load_traffic_key(struct frame_keys *k)
{
    uint8_t key[KEYS_TRAFFIC_MAX_LEN];
    enum tcns_err e;

    keys_traffic(k->mk, k->sender, key, aead_key_len(k->aead.id) + AEAD_NONCE_LEN);
    e = aead_set_key(&k->aead, key);
    sodium_memzero(key, sizeof(key));
    return e;
}

/* RFC 8548 3.8: to the next generation; mk[j] and its keys are gone after that. */
static enum tcns_err advance(struct frame_keys *k)
{
    keys_next_master(k->mk, k->mk);
    return load_traffic_key(k);
}

static void keys_done(struct frame_keys *k)
{
    aead_done(&k->aead);
    sodium_memzero(k, sizeof(*k));
}

static enum tcns_err keys_init(struct frame_keys *k, uint16_t aead, bool seals,
                               const uint8_t mk0[KEYS_K_LEN], enum session_role sender,
                               uint64_t offset)
{
    enum tcns_err e;

    *k = (struct frame_keys){.sender = sender, .offset = offset};
    e = aead_init(&k->aead, aead, seals);
    if (e != TCNS_OK)
        return e;
    memcpy(k->mk, mk0, sizeof(k->mk));
    e = load_traffic_key(k);
    if (e != TCNS_OK)
        keys_done(k);
    return e;
}

enum tcns_err frame_tx_init(struct frame_tx *tx, uint16_t aead, const uint8_t mk0[KEYS_K_LEN],
                            enum session_role sender, uint64_t offset)
{
    return keys_init(&tx->keys, aead, true, mk0, sender, offset);
}

enum tcns_err frame_rx_init(struct frame_rx *rx, uint16_t aead, const uint8_t mk0[KEYS_K_LEN],
                            enum session_role sender, uint64_t offset)
{
    *rx = (struct frame_rx){0};
    return keys_init(&rx->keys, aead, false, mk0, sender, offset);
}

void frame_tx_done(struct frame_tx *tx)
{
    keys_done(&tx->keys);
}

/* Plaintext that was not verified must not stay in a buffer that is used again. */
static void drop_text(struct frame_rx *rx)
{
    if (rx->text)
        sodium_memzero(rx->text->bytes, rx->text->len);
    buf_unref(rx->text);
    rx->text = NULL;
}

void frame_rx_done(struct frame_rx *rx)
{
    drop_text(rx);
    keys_done(&rx->keys);
    sodium_memzero(rx, sizeof(*rx));
}

/* --- Seal ------------------------------------------------------------------- */

static size_t iov_len(const struct iovec *iov, size_t iov_cnt)
{
    size_t len = 0;

    for (size_t i = 0; i < iov_cnt; i++) {
        if (iov[i].iov_len > SIZE_MAX - len)
            return SIZE_MAX;
        len += iov[i].iov_len;
    }
    return len;
}

static size_t prefix_len(uint8_t flags)
{
    return FLAGS_LEN + (flags & FRAME_FLAG_URG ? URGENT_LEN : 0);
}

/* flags, urgent and data, encrypted in one pass straight from where the data lies. */
static enum tcns_err seal_text(struct aead *a, uint8_t *out, const struct frame_head *head,
                               const struct iovec *iov, size_t iov_cnt)
{
    uint8_t prefix[FLAGS_LEN + URGENT_LEN] = {head->flags};
    size_t pos = prefix_len(head->flags);
    enum tcns_err e;

    put_be16(prefix + FLAGS_LEN, head->urgent);
    e = aead_update(a, out, prefix, pos);
    for (size_t i = 0; i < iov_cnt && e == TCNS_OK; i++) {
        e = aead_update(a, out + pos, iov[i].iov_base, iov[i].iov_len);
        pos += iov[i].iov_len;
    }
    return e == TCNS_OK ? aead_seal_tag(a, out + pos) : e;
}

static bool is_too_large(const struct frame_head *head, size_t data_len)
{
    return data_len > SESSION_FRAME_DATA_MAX_LEN ||
           prefix_len(head->flags) + data_len > FRAME_CLEN_MAX - AEAD_TAG_LEN;
}

/* The whole frame, at out. */
static enum tcns_err seal_at(struct frame_tx *tx, const struct frame_head *head, uint8_t *out,
                             size_t clen, const struct iovec *iov, size_t iov_cnt)
{
    enum tcns_err e = TCNS_OK;

    out[0] = head->control;
    put_be16(out + 1, (uint16_t)clen);
    if (head->control & FRAME_CONTROL_REKEY)
        e = advance(&tx->keys);
    if (e == TCNS_OK)
        e = aead_begin(&tx->keys.aead, tx->keys.offset, out, FRAME_HEADER_LEN);
    if (e == TCNS_OK)
        e = seal_text(&tx->keys.aead, out + FRAME_HEADER_LEN, head, iov, iov_cnt);
    if (e == TCNS_OK)
        tx->keys.offset += FRAME_HEADER_LEN + clen;
    return e;
}

enum tcns_err frame_seal(struct frame_tx *tx, const struct frame_head *head,
                         const struct iovec *iov, size_t iov_cnt, struct buf **ret)
{
    size_t data_len = iov_len(iov, iov_cnt);

    if (is_too_large(head, data_len))
        return TCNS_ERR_TOO_LARGE;
    size_t clen = prefix_len(head->flags) + data_len + AEAD_TAG_LEN;
    struct buf *b = buf_new(FRAME_HEADER_LEN + clen);
    if (!b)
        return TCNS_ERR_NO_MEMORY;
    enum tcns_err e = seal_at(tx, head, b->bytes, clen, iov, iov_cnt);
    if (e != TCNS_OK) {
        buf_unref(b);
        return e;
    }
    b->len = (uint32_t)(FRAME_HEADER_LEN + clen);
    *ret = b;
    return TCNS_OK;
}

enum tcns_err frame_seal_in_place(struct frame_tx *tx, const struct frame_head *head, struct buf *b)
{
    size_t before = FRAME_HEADER_LEN + prefix_len(head->flags);
    size_t clen = prefix_len(head->flags) + b->len + AEAD_TAG_LEN;
    struct iovec data = {buf_data(b), b->len};

    assert(b->off >= before && b->cap - b->off - b->len >= AEAD_TAG_LEN);
    if (is_too_large(head, b->len))
        return TCNS_ERR_TOO_LARGE;
    enum tcns_err e = seal_at(tx, head, buf_data(b) - before, clen, &data, 1);
    if (e != TCNS_OK)
        return e;
    b->off -= (uint32_t)before;
    b->len = (uint32_t)(FRAME_HEADER_LEN + clen);
    return TCNS_OK;
}

/* --- Open ------------------------------------------------------------------- */

static size_t min_len(size_t a, size_t b)
{
    return a < b ? a : b;
}

static enum tcns_err start_text(struct frame_rx *rx)
{
    size_t clen = get_be16(rx->header + 1);
    enum tcns_err e = TCNS_OK;

    if (clen < AEAD_TAG_LEN)
        return TCNS_ERR_FRAME_LENGTH;
    rx->text_len = clen - AEAD_TAG_LEN;
    rx->tag_len = 0;
    rx->text = buf_new(rx->text_len);
    if (!rx->text)
        return TCNS_ERR_NO_MEMORY;
    if (rx->header[0] & FRAME_CONTROL_REKEY)
        e = advance(&rx->keys);
    if (e == TCNS_OK)
        e = aead_begin(&rx->keys.aead, rx->keys.offset, rx->header, FRAME_HEADER_LEN);
    return e;
}

/* Each eat function takes what belongs to its part of the frame and adds to *used. */

static enum tcns_err eat_header(struct frame_rx *rx, const uint8_t *in, size_t in_len, size_t *used)
{
    size_t n = min_len(in_len - *used, (size_t)FRAME_HEADER_LEN - rx->header_len);

    if (n == 0)
        return TCNS_OK;
    memcpy(rx->header + rx->header_len, in + *used, n);
    rx->header_len += (uint8_t)n;
    *used += n;
    return rx->header_len == FRAME_HEADER_LEN ? start_text(rx) : TCNS_OK;
}

static enum tcns_err eat_text(struct frame_rx *rx, const uint8_t *in, size_t in_len, size_t *used)
{
    size_t n;
    enum tcns_err e;

    if (!rx->text)
        return TCNS_OK;
    n = min_len(in_len - *used, rx->text_len - rx->text->len);
    e = aead_update(&rx->keys.aead, rx->text->bytes + rx->text->len, in + *used, n);
    rx->text->len += (uint32_t)n;
    *used += n;
    return e;
}

static void eat_tag(struct frame_rx *rx, const uint8_t *in, size_t in_len, size_t *used)
{
    size_t n;

    if (!rx->text || rx->text->len < rx->text_len)
        return;
    n = min_len(in_len - *used, (size_t)AEAD_TAG_LEN - rx->tag_len);
    if (n > 0)
        memcpy(rx->tag + rx->tag_len, in + *used, n);
    rx->tag_len += (uint8_t)n;
    *used += n;
}

static bool is_complete(const struct frame_rx *rx)
{
    return rx->text && rx->text->len == rx->text_len && rx->tag_len == AEAD_TAG_LEN;
}

/* RFC 8548 4.2.1; an authentic plaintext may still be malformed (interpretation I18). */
static enum tcns_err parse_text(struct buf *text, struct frame_head *head)
{
    if (text->len < FLAGS_LEN)
        return TCNS_ERR_FRAME_MALFORMED;
    head->flags = text->bytes[0];
    if (text->len < prefix_len(head->flags))
        return TCNS_ERR_FRAME_MALFORMED;
    if (head->flags & FRAME_FLAG_URG)
        head->urgent = get_be16(text->bytes + FLAGS_LEN);
    text->off = (uint32_t)prefix_len(head->flags);
    text->len -= text->off;
    return TCNS_OK;
}

static enum tcns_err finish(struct frame_rx *rx, struct frame_head *ret_head, struct buf **ret_data)
{
    struct frame_head head = {.control = rx->header[0]};
    enum tcns_err e = aead_open_tag(&rx->keys.aead, rx->tag);

    if (e == TCNS_OK)
        e = parse_text(rx->text, &head);
    if (e != TCNS_OK)
        return e;
    rx->keys.offset += FRAME_HEADER_LEN + rx->text_len + AEAD_TAG_LEN;
    rx->header_len = 0;
    *ret_head = head;
    if (rx->text->len > 0) {
        *ret_data = rx->text;
    } else {
        buf_unref(rx->text);
        *ret_data = NULL;
    }
    rx->text = NULL;
    return TCNS_OK;
}

enum tcns_err frame_open(struct frame_rx *rx, const uint8_t *in, size_t in_len, size_t *ret_used,
                         struct frame_head *ret_head, struct buf **ret_data)
{
    size_t used = 0;
    enum tcns_err e = eat_header(rx, in, in_len, &used);

    if (e == TCNS_OK)
        e = eat_text(rx, in, in_len, &used);
    if (e == TCNS_OK) {
        eat_tag(rx, in, in_len, &used);
        e = is_complete(rx) ? finish(rx, ret_head, ret_data) : TCNS_ERR_AGAIN;
    }
    *ret_used = used;
    if (e != TCNS_OK && e != TCNS_ERR_AGAIN)
        drop_text(rx);
    return e;
}
