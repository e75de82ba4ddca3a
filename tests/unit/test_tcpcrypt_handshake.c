/* SPDX-License-Identifier: BSD-3-Clause
 * The ENO handshake: what is answered, what is negotiated, which segments carry what.
 */
#include "tcpcrypt/handshake.h"
#include "vectors.h"

#include <string.h>

/* --- A host as a vector describes it ----------------------------------------- */

static struct bytes next_random;

static void fixed_random(void *out, size_t len)
{
    assert_int_equal(len, next_random.len);
    memcpy(out, next_random.p, len);
}

struct host {
    struct session_config cfg;
    struct handshake h;
};

static void host_init(struct host *host, const struct session_config *cfg)
{
    host->cfg = *cfg;
    host->cfg.random = fixed_random;
    handshake_init(&host->h, &host->cfg);
}

static void host_done(struct host *host)
{
    handshake_done(&host->h);
    resume_cache_free(host->cfg.cache);
}

static struct resume_secret secret_of(json_t *c)
{
    struct bytes ss = vec_hex(c, "ss");
    struct resume_secret secret = {
        .tep = (uint8_t)vec_hex_int(c, "tep"),
        .aead = vec_hex_int(c, "aead"),
        .original_role = vec_is(c, "original_role", "A") ? SESSION_ROLE_A : SESSION_ROLE_B,
    };

    assert_int_equal(ss.len, sizeof(secret.ss));
    memcpy(secret.ss, ss.p, ss.len);
    return secret;
}

/* --- eno_respond: RFC 8547 4.2 to 4.6, RFC 8548 3.5 --------------------------- */

static void fill_cache(struct resume_cache *cache, json_t *secrets)
{
    for (size_t i = 0; i < json_array_size(secrets); i++) {
        struct resume_secret secret = secret_of(json_array_get(secrets, i));

        resume_put(cache, &secret, &(struct resume_peer){0}, false);
    }
}

static void check_respond(json_t *c)
{
    struct host host;
    struct session_config cfg = session_config_default;
    struct bytes option_a = vec_hex(c, "option_a");
    uint16_t teps[4];
    uint8_t out[ENO_OPTION_MAX_LEN];
    size_t len;

    cfg.tep_cnt = vec_hex_ints(c, "teps_increasing_priority", teps, 4);
    for (size_t i = 0; i < cfg.tep_cnt; i++)
        cfg.teps[i] = (uint8_t)teps[cfg.tep_cnt - 1 - i];
    cfg.app_aware = vec_bool(c, "app_aware") || vec_bool(c, "mandatory_app_aware");
    cfg.mandatory_app_aware = vec_bool(c, "mandatory_app_aware");
    if (vec_bool(c, "resume_allowed")) {
        cfg.cache = resume_cache_new(4);
        fill_cache(cfg.cache, vec_list(c, "cached_secrets"));
    }
    next_random = vec_hex(c, "nonce");
    host_init(&host, &cfg);
    host.h.nonce_len = (uint8_t)next_random.len;

    assert_int_equal(handshake_receive(&host.h, HANDSHAKE_SYN, option_a.p, option_a.len), TCNS_OK);
    enum handshake_rule rule = handshake_option(&host.h, HANDSHAKE_SYN | HANDSHAKE_ACK, out, &len);
    if (vec_has(c, "option_b")) {
        assert_int_equal(rule, HANDSHAKE_REQUIRED);
        assert_bytes(vec_hex(c, "option_b"), out, len);
    } else {
        assert_int_equal(rule, HANDSHAKE_FORBIDDEN);
        assert_int_equal(len, 0);
    }
    host_done(&host);
}

/* --- eno_negotiate: RFC 8547 4.3 to 4.8, RFC 8548 3.2, 3.5 -------------------- */

static void check_negotiated(struct handshake *h, json_t *c)
{
    const struct negotiation *n = &h->result;
    uint8_t transcript[HANDSHAKE_TRANSCRIPT_MAX_LEN];
    size_t len = handshake_transcript(h, transcript);

    assert_int_equal(n->role, vec_is(c, "role", "A") ? SESSION_ROLE_A : SESSION_ROLE_B);
    assert_int_equal(n->tep, vec_hex_int(c, "tep"));
    assert_int_equal(n->tep_byte, vec_hex_int(c, "tep_byte"));
    assert_int_equal(n->is_resumed, vec_bool(c, "resumed"));
    assert_int_equal(n->peer_app_aware, vec_bool(c, "remote_app_aware"));
    assert_bytes(vec_hex(c, "sn"), n->sn, n->sn_len);
    assert_bytes(vec_hex(c, "eno_transcript"), transcript, len);
    assert_int_equal(h->reason, n->is_resumed ? SESSION_REASON_RESUMED : SESSION_REASON_FULL);
}

static void check_negotiate(json_t *c)
{
    struct host host;
    struct session_config cfg = session_config_default;
    struct bytes local = vec_hex(c, "local_option");
    struct bytes remote = {0};
    json_t *secrets = vec_list(c, "cached_secrets");

    cfg.mandatory_app_aware = vec_bool(c, "mandatory_app_aware");
    host_init(&host, &cfg);
    memcpy(host.h.local, local.p, local.len);
    host.h.local_len = (uint8_t)local.len;
    if (json_array_size(secrets) > 0) {
        host.h.secret = secret_of(json_array_get(secrets, 0));
        host.h.has_secret = true;
    }
    if (vec_has(c, "remote_option"))
        remote = vec_hex(c, "remote_option");
    assert_int_equal(
        handshake_receive(&host.h, HANDSHAKE_SYN | HANDSHAKE_ACK, remote.p, remote.len), TCNS_OK);
    assert_int_equal(handshake_is_enabled(&host.h), vec_bool(c, "enabled"));
    if (vec_bool(c, "enabled"))
        check_negotiated(&host.h, c);
    else
        assert_int_not_equal(host.h.reason, SESSION_REASON_PENDING);
    host_done(&host);
}

/* --- eno_handshake: RFC 8547 4.6 ---------------------------------------------- */

static unsigned flags_of(json_t *event)
{
    const char *text = vec_str(event, "flags");

    return (strchr(text, 'S') ? HANDSHAKE_SYN : 0) | (strchr(text, 'A') ? HANDSHAKE_ACK : 0);
}

static void check_send(struct handshake *h, json_t *event)
{
    static const char *const names[] = {
        [HANDSHAKE_FORBIDDEN] = "forbidden",
        [HANDSHAKE_REQUIRED] = "required",
        [HANDSHAKE_OPTIONAL] = "optional",
    };
    uint8_t out[ENO_OPTION_MAX_LEN];
    size_t len;
    enum handshake_rule rule = handshake_option(h, flags_of(event), out, &len);

    assert_string_equal(names[rule], vec_str(event, "eno"));
    assert_bytes(vec_hex(event, "eno_option"), out, len);
}

static void check_handshake(json_t *c)
{
    struct host host;
    struct session_config cfg = session_config_default;
    json_t *events = vec_list(c, "events");

    cfg.tep_cnt = 1;
    host_init(&host, &cfg);
    if (vec_is(c, "opener", "active"))
        assert_int_equal(handshake_connect(&host.h, &(struct resume_peer){0}), TCNS_OK);
    for (size_t i = 0; i < json_array_size(events); i++) {
        json_t *event = json_array_get(events, i);

        if (vec_is(event, "event", "send")) {
            check_send(&host.h, event);
        } else {
            struct bytes area = vec_hex(event, "options_area");

            assert_int_equal(handshake_receive(&host.h, flags_of(event), area.p, area.len),
                             TCNS_OK);
        }
    }
    assert_int_equal(handshake_is_enabled(&host.h), vec_bool(c, "enabled"));
    host_done(&host);
}

/* --- Our own options ----------------------------------------------------------- */

static void test_syn_option(void **state)
{
    struct host host;
    struct session_config cfg = session_config_default;
    const uint8_t plain[] = {69, 6, 0x22, 0x21, 0x24, 0x23};
    const uint8_t both_bits[] = {69, 7, 0x03, 0x22, 0x21, 0x24, 0x23};
    uint8_t out[ENO_OPTION_MAX_LEN];
    size_t len;

    host_init(&host, &cfg);
    assert_int_equal(handshake_connect(&host.h, &(struct resume_peer){0}), TCNS_OK);
    assert_int_equal(handshake_option(&host.h, HANDSHAKE_SYN, out, &len), HANDSHAKE_REQUIRED);
    assert_bytes((struct bytes){(uint8_t *)plain, sizeof(plain)}, out, len);
    host_done(&host);

    cfg.app_aware = true;
    cfg.passive_role = true; /* RFC 8547 4.3: simultaneous open */
    host_init(&host, &cfg);
    assert_int_equal(handshake_connect(&host.h, &(struct resume_peer){0}), TCNS_OK);
    handshake_option(&host.h, HANDSHAKE_SYN, out, &len);
    assert_bytes((struct bytes){(uint8_t *)both_bits, sizeof(both_bits)}, out, len);
    host_done(&host);
}

static void test_off(void **state)
{
    struct host host;
    struct session_config cfg = session_config_default;
    const uint8_t syn[] = {69, 3, 0x23};
    uint8_t out[ENO_OPTION_MAX_LEN];
    size_t len;

    cfg.tep_cnt = 0;
    host_init(&host, &cfg);
    assert_int_equal(handshake_receive(&host.h, HANDSHAKE_SYN, syn, sizeof(syn)), TCNS_OK);
    assert_int_equal(handshake_option(&host.h, HANDSHAKE_SYN | HANDSHAKE_ACK, out, &len),
                     HANDSHAKE_FORBIDDEN);
    assert_int_equal(host.h.reason, SESSION_REASON_OFF);
    host_done(&host);
}

static void test_respond(void **state)
{
    vectors_run("eno_respond", check_respond);
}

static void test_negotiate(void **state)
{
    vectors_run("eno_negotiate", check_negotiate);
}

static void test_handshake(void **state)
{
    vectors_run("eno_handshake", check_handshake);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_respond, vectors_blame),
        cmocka_unit_test_teardown(test_negotiate, vectors_blame),
        cmocka_unit_test_teardown(test_handshake, vectors_blame),
        cmocka_unit_test(test_syn_option),
        cmocka_unit_test(test_off),
    };

    return cmocka_run_group_tests_name("tcpcrypt/handshake", tests, vectors_setup,
                                       vectors_teardown);
}
