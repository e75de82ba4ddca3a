/* SPDX-License-Identifier: BSD-3-Clause
 * Init messages, given to the host that waits for one. The input is: which host,
 * which TEP, size of pieces, the byte stream.
 */
#include "fuzz.h"

#include <sys/uio.h>

#include "tcpcrypt/session.h"

static struct session_config cfg;

/* A host whose SYN exchange is over. */
static struct session *start(bool is_client, uint8_t tep)
{
    const uint8_t syn[] = {69, 3, tep}, synack[] = {69, 4, 0x01, tep};
    struct session *s;
    uint8_t out[ENO_OPTION_MAX_LEN];
    size_t len;

    fuzz_random_reset();
    cfg = session_config_default;
    cfg.random = fuzz_random;
    cfg.teps[0] = tep;
    cfg.tep_cnt = 1;
    s = session_new(&cfg);
    FUZZ_CHECK(s);
    if (is_client) {
        FUZZ_CHECK(session_connect(s, out, &len) == TCNS_OK);
        FUZZ_CHECK(session_connect_synack(s, synack, sizeof(synack)) == TCNS_OK);
    } else {
        FUZZ_CHECK(session_accept(s, syn, sizeof(syn), out, &len) == TCNS_OK);
        FUZZ_CHECK(session_accept_ack(s, eno_ack_option, ENO_ACK_OPTION_LEN) == TCNS_OK);
    }
    FUZZ_CHECK(session_is_enabled(s) && !session_is_open(s));
    return s;
}

/* Everything after the Init message is a frame that cannot be authentic. */
static enum tcns_err feed(struct session *s, struct fuzz_input *in, size_t step)
{
    enum tcns_err e = TCNS_ERR_AGAIN;

    while (in->left > 0 && (e == TCNS_ERR_AGAIN || e == TCNS_OK)) {
        size_t len, used, pos = 0;
        uint8_t *piece = fuzz_bytes(in, step, &len);

        do {
            struct session_rx rx = {0};

            e = session_open(s, piece + pos, len - pos, &used, &rx);
            FUZZ_CHECK(used <= len - pos);
            FUZZ_CHECK(e != TCNS_ERR_AGAIN || used == len - pos);
            FUZZ_CHECK(!rx.data && !rx.fin);
            FUZZ_CHECK(e != TCNS_OK || rx.opened);
            pos += used;
        } while (e == TCNS_OK && pos < len);
        free(piece);
    }
    return e;
}

static void check_end(struct session *s, enum tcns_err e)
{
    struct session_info info;
    struct buf *b = NULL;

    session_get_info(s, &info);
    if (session_is_open(s)) {
        FUZZ_CHECK(info.has_id);
        FUZZ_CHECK(session_output(s, &b) == TCNS_OK);
        FUZZ_CHECK(b && b->len > 0);
        buf_unref(b);
        FUZZ_CHECK(session_seal(s, NULL, 0, SESSION_SEAL_FIN, 0, &b) == TCNS_OK);
        buf_unref(b);
    } else if (e != TCNS_ERR_AGAIN) {
        FUZZ_CHECK(err_class(e) == ERR_CLASS_PEER);
        FUZZ_CHECK(session_seal(s, NULL, 0, SESSION_SEAL_FIN, 0, &b) == TCNS_ERR_STATE);
        FUZZ_CHECK(session_output(s, &b) == e);
    }
    FUZZ_CHECK(session_on_fin(s) != TCNS_OK);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input in = {data, size};
    bool is_client = fuzz_byte(&in) & 1;
    uint8_t tep = TEP_ECDHE_P256 + fuzz_byte(&in) % 4;
    size_t step = 1u + fuzz_byte(&in);
    struct session *s = start(is_client, tep);

    check_end(s, feed(s, &in, step));
    session_free(s);
    FUZZ_CHECK(buf_total() == 0);
    return 0;
}
