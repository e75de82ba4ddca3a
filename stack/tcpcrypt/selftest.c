/* SPDX-License-Identifier: BSD-3-Clause
 * One run through every TEP and every AEAD.
 */
#include <sodium.h>
#include <string.h>

#include "tcpcrypt/frame.h"
#include "tcpcrypt/kex.h"
#include "tcpcrypt/session.h"

/* Two hosts come to the same secret. */
static bool is_tep_working(uint8_t tep)
{
    struct kex_key a, b;
    uint8_t es_a[KEX_SECRET_MAX_LEN], es_b[KEX_SECRET_MAX_LEN];
    bool is_ok = kex_ephemeral(tep, randombytes_buf, &a) == TCNS_OK &&
                 kex_ephemeral(tep, randombytes_buf, &b) == TCNS_OK &&
                 kex_agree(&a, b.public, b.public_len, es_a) == TCNS_OK &&
                 kex_agree(&b, a.public, a.public_len, es_b) == TCNS_OK &&
                 sodium_memcmp(es_a, es_b, kex_secret_len(tep)) == 0;

    sodium_memzero(&a, sizeof(a));
    sodium_memzero(&b, sizeof(b));
    sodium_memzero(es_a, sizeof(es_a));
    sodium_memzero(es_b, sizeof(es_b));
    return is_ok;
}

static bool is_text_back(struct frame_tx *tx, struct frame_rx *rx)
{
    char text[] = "self-test";
    const struct iovec iov = {text, sizeof(text)};
    struct frame_head head = {0};
    struct buf *sealed = NULL, *opened = NULL;
    size_t used;
    bool is_ok = frame_seal(tx, &head, &iov, 1, &sealed) == TCNS_OK &&
                 frame_open(rx, buf_data(sealed), sealed->len, &used, &head, &opened) == TCNS_OK &&
                 opened && opened->len == sizeof(text) &&
                 sodium_memcmp(buf_data(opened), text, sizeof(text)) == 0;

    buf_unref(sealed);
    buf_unref(opened);
    return is_ok;
}

static bool is_aead_working(uint16_t aead)
{
    const uint8_t mk[KEYS_K_LEN] = {0};
    struct frame_tx tx = {0};
    struct frame_rx rx = {0};
    bool is_ok = frame_tx_init(&tx, aead, mk, SESSION_ROLE_A, 0) == TCNS_OK &&
                 frame_rx_init(&rx, aead, mk, SESSION_ROLE_A, 0) == TCNS_OK &&
                 is_text_back(&tx, &rx);

    frame_tx_done(&tx);
    frame_rx_done(&rx);
    return is_ok;
}

enum tcns_err session_selftest(const struct session_config *cfg)
{
    if (sodium_init() < 0)
        return TCNS_ERR_CRYPTO;
    for (size_t i = 0; i < cfg->tep_cnt; i++)
        if (!is_tep_working(cfg->teps[i]))
            return TCNS_ERR_CRYPTO;
    for (size_t i = 0; i < cfg->aead_cnt; i++)
        if (!is_aead_working(cfg->aeads[i]))
            return TCNS_ERR_CRYPTO;
    return TCNS_OK;
}
