/* SPDX-License-Identifier: BSD-3-Clause
 * The key schedule of RFC 8548 3.3 to 3.5.
 */
#include "tcpcrypt/keys.h"

#include <assert.h>
#include <sodium.h>
#include <string.h>

/* RFC 8548 4.3 table 1 */
enum {
    CONST_NEXTK = 0x01,
    CONST_SESSID = 0x02,
    CONST_REKEY = 0x03,
    CONST_KEY_A = 0x04,
    CONST_KEY_B = 0x05,
    CONST_RESUME = 0x06,
};

static_assert(2 * KEYS_RESUME_HALF == KEYS_RESUME_ID_LEN, "RFC 8548 3.5");
static_assert(1 + KEYS_K_LEN == SESSION_ID_LEN, "RFC 8548 3.4");
static_assert(HMAC_KEY_LEN == KEYS_NONCE_LEN, "RFC 8548 3.3");
static_assert(HMAC_LEN == KEYS_K_LEN && HMAC_KEY_LEN == KEYS_K_LEN, "RFC 8548 5");

void keys_prk_init(struct keys_prk *p, const uint8_t n_a[KEYS_NONCE_LEN])
{
    hmac_init(&p->hmac, n_a);
}

void keys_prk_update(struct keys_prk *p, const uint8_t *bytes, size_t len)
{
    hmac_update(&p->hmac, bytes, len);
}

void keys_prk_final(struct keys_prk *p, uint8_t ret_ss[KEYS_K_LEN])
{
    hmac_final(&p->hmac, ret_ss);
}

void keys_cprf(const uint8_t key[KEYS_K_LEN], const uint8_t *info, size_t info_len, uint8_t *ret,
               size_t len)
{
    struct hmac hmac;
    uint8_t block[KEYS_K_LEN];
    size_t block_len = 0; /* T(0) is empty */
    size_t done = 0;

    assert(len <= 255 * sizeof(block));
    for (uint8_t counter = 1; done < len; counter++) {
        size_t n = len - done < sizeof(block) ? len - done : sizeof(block);

        hmac_init(&hmac, key);
        hmac_update(&hmac, block, block_len);
        hmac_update(&hmac, info, info_len);
        hmac_update(&hmac, &counter, 1);
        hmac_final(&hmac, block);
        block_len = sizeof(block);
        memcpy(ret + done, block, n);
        done += n;
    }
    sodium_memzero(block, sizeof(block));
}

/* CPRF over a constant and a session nonce. */
static void cprf_with_sn(const uint8_t key[KEYS_K_LEN], uint8_t constant, const uint8_t *sn,
                         size_t sn_len, uint8_t *ret, size_t len)
{
    uint8_t info[1 + KEYS_SN_MAX_LEN] = {constant};

    assert(sn_len <= KEYS_SN_MAX_LEN);
    if (sn_len > 0)
        memcpy(info + 1, sn, sn_len);
    keys_cprf(key, info, 1 + sn_len, ret, len);
}

void keys_next_secret(const uint8_t ss[KEYS_K_LEN], uint8_t ret[KEYS_K_LEN])
{
    cprf_with_sn(ss, CONST_NEXTK, NULL, 0, ret, KEYS_K_LEN);
}

void keys_resume_id(const uint8_t ss[KEYS_K_LEN], uint8_t ret[KEYS_RESUME_ID_LEN])
{
    cprf_with_sn(ss, CONST_RESUME, NULL, 0, ret, KEYS_RESUME_ID_LEN);
}

void keys_session_id(uint8_t tep_byte, const uint8_t ss[KEYS_K_LEN], const uint8_t *sn,
                     size_t sn_len, uint8_t ret[SESSION_ID_LEN])
{
    ret[0] = tep_byte;
    cprf_with_sn(ss, CONST_SESSID, sn, sn_len, ret + 1, KEYS_K_LEN);
}

void keys_first_master(const uint8_t ss[KEYS_K_LEN], const uint8_t *sn, size_t sn_len,
                       uint8_t ret[KEYS_K_LEN])
{
    cprf_with_sn(ss, CONST_REKEY, sn, sn_len, ret, KEYS_K_LEN);
}

void keys_next_master(const uint8_t mk[KEYS_K_LEN], uint8_t ret[KEYS_K_LEN])
{
    cprf_with_sn(mk, CONST_REKEY, NULL, 0, ret, KEYS_K_LEN);
}

void keys_traffic(const uint8_t mk[KEYS_K_LEN], enum session_role sender, uint8_t *ret, size_t len)
{
    cprf_with_sn(mk, sender == SESSION_ROLE_A ? CONST_KEY_A : CONST_KEY_B, NULL, 0, ret, len);
}
