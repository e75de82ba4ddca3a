/* SPDX-License-Identifier: BSD-3-Clause
 * Options areas of whole segments, given to both kinds of opener. The input is a
 * list of segments: flags byte, length byte, options area.
 */
#include "fuzz.h"

#include "tcpcrypt/handshake.h"

static struct session_config cfg;
static const struct resume_peer peer = {.len = 6, .host_len = 4, .name = "peer80"};

static void fill_cache(void)
{
    struct resume_secret secret = {.tep = TEP_ECDHE_CURVE25519, .aead = AEAD_AES_128_GCM};

    resume_cache_clear(cfg.cache);
    resume_put(cfg.cache, &secret, &peer, false);
    resume_put(cfg.cache, &secret, &peer, true);
}

static void check_option(const struct handshake *h, unsigned flags)
{
    uint8_t out[ENO_OPTION_MAX_LEN];
    size_t len = 0;
    struct eno_option o;
    enum handshake_rule rule = handshake_option(h, flags, out, &len);

    FUZZ_CHECK(len <= sizeof(out));
    FUZZ_CHECK((rule == HANDSHAKE_REQUIRED) == (len > 0));
    if (len > 0)
        FUZZ_CHECK(eno_parse(out, len, &o) == TCNS_OK);
    if (h->reason != SESSION_REASON_PENDING && !handshake_is_enabled(h))
        FUZZ_CHECK(rule == HANDSHAKE_FORBIDDEN);
}

static void check_enabled(const struct handshake *h)
{
    uint8_t transcript[HANDSHAKE_TRANSCRIPT_MAX_LEN];
    size_t len = handshake_transcript(h, transcript);

    FUZZ_CHECK(h->has_agreed);
    FUZZ_CHECK(len == (size_t)h->local_len + h->remote_len);
    FUZZ_CHECK(len <= sizeof(transcript));
}

static void run(bool is_active, struct fuzz_input in)
{
    struct handshake h;
    bool was_settled = false;
    enum session_reason reason = SESSION_REASON_PENDING;

    fuzz_random_reset();
    fill_cache();
    handshake_init(&h, &cfg);
    if (is_active)
        FUZZ_CHECK(handshake_connect(&h, &peer) == TCNS_OK);
    while (in.left > 0) {
        unsigned flags = fuzz_byte(&in) & (HANDSHAKE_SYN | HANDSHAKE_ACK);
        size_t len, max = fuzz_byte(&in);
        uint8_t *area = fuzz_bytes(&in, max, &len);

        FUZZ_CHECK(handshake_receive(&h, flags, area, len) == TCNS_OK);
        free(area);
        if (h.local_len > 0 || h.reason != SESSION_REASON_PENDING)
            check_option(&h, flags);
        if (was_settled)
            FUZZ_CHECK(h.reason == reason); /* settled once, for good */
        reason = h.reason;
        was_settled = reason != SESSION_REASON_PENDING;
        if (handshake_is_enabled(&h))
            check_enabled(&h);
    }
    handshake_done(&h);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input in = {data, size};

    if (!cfg.cache) {
        cfg = session_config_default;
        cfg.random = fuzz_random;
        cfg.cache = resume_cache_new(4);
        FUZZ_CHECK(cfg.cache);
    }
    run(true, in);
    run(false, in);
    return 0;
}
