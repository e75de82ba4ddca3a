/* SPDX-License-Identifier: BSD-3-Clause
 * One SYN-form ENO option: parsed, emitted again, compared with options of ours.
 */
#include "fuzz.h"

#include "tcpcrypt/negotiate.h"

static bool is_same(const struct eno_option *a, const struct eno_option *b)
{
    if (a->sub_cnt != b->sub_cnt || a->global != b->global || a->vacuous != b->vacuous)
        return false;
    for (size_t i = 0; i < a->sub_cnt; i++) {
        const struct eno_suboption *x = &a->sub[i], *y = &b->sub[i];

        if (x->first != y->first || x->data_len != y->data_len ||
            (x->data_len > 0 && memcmp(x->data, y->data, x->data_len) != 0))
            return false;
    }
    return true;
}

/* Every well-formed option has an encoding that means the same and is not longer. */
static void check_emit(const struct eno_option *o, size_t len)
{
    uint8_t out[ENO_OPTION_MAX_LEN];
    size_t out_len;
    struct eno_option again;

    FUZZ_CHECK(eno_emit(o->sub, o->sub_cnt, out, &out_len) == TCNS_OK);
    FUZZ_CHECK(out_len <= len);
    FUZZ_CHECK(eno_parse(out, out_len, &again) == TCNS_OK);
    FUZZ_CHECK(is_same(o, &again));
}

static void check_negotiation(const struct eno_option *remote, const uint8_t *local, size_t len)
{
    struct eno_option ours;
    struct resume_secret secret = {.tep = TEP_ECDHE_CURVE25519, .aead = AEAD_AES_128_GCM};
    struct negotiation n = {0};

    FUZZ_CHECK(eno_parse(local, len, &ours) == TCNS_OK);
    for (int i = 0; i < 2; i++) {
        enum session_reason reason = negotiate(&ours, remote, i, i ? &secret : NULL, &n);

        if (reason == SESSION_REASON_FULL || reason == SESSION_REASON_RESUMED) {
            FUZZ_CHECK((n.tep_byte & ENO_GLT_MASK) == n.tep);
            FUZZ_CHECK(n.is_resumed == (reason == SESSION_REASON_RESUMED));
            FUZZ_CHECK(n.is_resumed == !!(n.tep_byte & ENO_V));
            FUZZ_CHECK(n.sn_len <= sizeof(n.sn));
            FUZZ_CHECK(((ours.global ^ remote->global) & ENO_GLOBAL_B) != 0);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t client[] = {69, 6, 0x22, 0x21, 0x24, 0x23};
    static const uint8_t server[] = {69, 4, 0x01, 0x23};
    struct fuzz_input in = {data, size};
    struct eno_option o;
    size_t len;
    uint8_t *option = fuzz_bytes(&in, size, &len);

    if (eno_parse(option, len, &o) == TCNS_OK) {
        check_emit(&o, len);
        check_negotiation(&o, client, sizeof(client));
        check_negotiation(&o, server, sizeof(server));
    }
    free(option);
    return 0;
}
