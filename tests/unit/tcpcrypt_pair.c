/* SPDX-License-Identifier: BSD-3-Clause
 * Two sessions in memory.
 */
#include "tcpcrypt_pair.h"

#include <stdlib.h>
#include <string.h>

#include "tcpcrypt/resume.h"

void pair_init(struct pair *p)
{
    *p = (struct pair){.client_cfg = session_config_default, .server_cfg = session_config_default};
}

void pair_done(struct pair *p)
{
    session_free(p->client);
    session_free(p->server);
    p->client = NULL;
    p->server = NULL;
}

void pair_add_caches(struct pair *p, size_t slot_cnt)
{
    p->client_cfg.cache = resume_cache_new(slot_cnt);
    p->server_cfg.cache = resume_cache_new(slot_cnt);
}

void pair_free_caches(struct pair *p)
{
    resume_cache_free(p->client_cfg.cache);
    resume_cache_free(p->server_cfg.cache);
    p->client_cfg.cache = p->server_cfg.cache = NULL;
}

void pair_new_sessions(struct pair *p)
{
    pair_done(p);
    p->client = session_new(&p->client_cfg);
    p->server = session_new(&p->server_cfg);
    assert_non_null(p->client);
    assert_non_null(p->server);
}

void pair_options(struct pair *p)
{
    bool is_on;

    assert_int_equal(session_connect(p->client, p->syn, &p->syn_len), TCNS_OK);
    assert_int_equal(session_accept(p->server, p->syn, p->syn_len, p->synack, &p->synack_len),
                     TCNS_OK);
    assert_int_equal(session_connect_synack(p->client, p->synack, p->synack_len), TCNS_OK);
    is_on = session_is_enabled(p->client);
    assert_int_equal(session_accept_ack(p->server, eno_ack_option, is_on ? ENO_ACK_OPTION_LEN : 0),
                     TCNS_OK);
    assert_int_equal(session_is_enabled(p->server), is_on);
}

void pair_output(struct session *s, struct wire *w)
{
    for (;;) {
        struct buf *b;

        assert_int_equal(session_output(s, &b), TCNS_OK);
        if (!b)
            return;
        assert_true(b->len <= sizeof(w->bytes) - w->len);
        memcpy(w->bytes + w->len, buf_data(b), b->len);
        w->len += b->len;
        buf_unref(b);
    }
}

static struct buf *seal_in_place(struct session *s, const void *data, size_t len, bool fin)
{
    struct buf *b = buf_new(len + SESSION_FRAME_OVERHEAD_LEN);

    b->off = SESSION_FRAME_BEFORE_LEN;
    b->len = (uint32_t)len;
    memcpy(buf_data(b), data, len);
    assert_int_equal(session_seal_in_place(s, b, fin), TCNS_OK);
    return b;
}

void pair_seal(struct session *s, const void *data, size_t len, unsigned flags, struct wire *w)
{
    struct iovec iov = {(void *)(uintptr_t)data, len};
    struct buf *b = NULL;

    if (len % 2 && !(flags & SESSION_SEAL_URGENT)) /* one way is as good as the other */
        b = seal_in_place(s, data, len, flags & SESSION_SEAL_FIN);
    else
        assert_int_equal(session_seal(s, &iov, len > 0, flags, 0, &b), TCNS_OK);
    assert_int_equal(b->len, len + SESSION_FRAME_OVERHEAD_LEN);
    assert_true(b->len <= sizeof(w->bytes) - w->len);
    memcpy(w->bytes + w->len, buf_data(b), b->len);
    w->len += b->len;
    buf_unref(b);
}

/* One call, from a heap copy of exact size, so that sanitizers see any overrun. */
static enum tcns_err open_copy(struct session *s, const uint8_t *in, size_t len, size_t *used,
                               struct session_rx *rx)
{
    uint8_t *copy = malloc(len ? len : 1);
    enum tcns_err e;

    assert_non_null(copy);
    memcpy(copy, in, len);
    e = session_open(s, copy, len, used, rx);
    free(copy);
    return e;
}

static void note(struct received *r, struct session_rx *rx)
{
    r->frame_cnt++;
    r->fin |= rx->fin;
    r->opened |= rx->opened;
    if (rx->data) {
        assert_true(rx->data->len > 0);
        assert_true(rx->data->len <= sizeof(r->data) - r->len);
        memcpy(r->data + r->len, buf_data(rx->data), rx->data->len);
        r->len += rx->data->len;
        buf_unref(rx->data);
    }
}

enum tcns_err pair_feed(struct session *s, const struct wire *w, size_t step, struct received *r)
{
    enum tcns_err e = TCNS_OK;
    size_t pos = 0;

    while (pos < w->len) {
        size_t n = w->len - pos < step ? w->len - pos : step;
        size_t used = 12345;
        struct session_rx rx = {0};

        e = open_copy(s, w->bytes + pos, n, &used, &rx);
        if (e == TCNS_ERR_AGAIN)
            assert_int_equal(used, n);
        else if (e == TCNS_OK)
            note(r, &rx);
        else
            return e;
        assert_in_range(used, 1, n);
        pos += used;
    }
    return e;
}

void pair_deliver(struct session *s, const struct wire *w, struct received *r)
{
    assert_int_equal(pair_feed(s, w, SIZE_MAX, r), TCNS_OK);
}

static void deliver_output(struct session *from, struct session *to)
{
    struct wire w = {.len = 0};
    struct received r = {.len = 0};

    pair_output(from, &w);
    pair_deliver(to, &w, &r);
    assert_true(r.opened);
}

void pair_open(struct pair *p)
{
    pair_new_sessions(p);
    pair_options(p);
    if (!session_is_enabled(p->client) || session_is_open(p->client))
        return;
    deliver_output(p->client, p->server);
    deliver_output(p->server, p->client);
    assert_true(session_is_open(p->client));
    assert_true(session_is_open(p->server));
}

void pair_check_data(struct session *from, struct session *to, const char *text)
{
    struct wire w = {.len = 0};
    struct received r = {.len = 0};

    pair_seal(from, text, strlen(text), 0, &w);
    pair_deliver(to, &w, &r);
    assert_int_equal(r.len, strlen(text));
    assert_memory_equal(r.data, text, r.len);
}
