/* SPDX-License-Identifier: BSD-3-Clause
 * What two SYN-form ENO options mean together.
 */
#include "tcpcrypt/negotiate.h"

#include <sodium.h>
#include <string.h>

#include "tcpcrypt/kex.h"

/* Suboption data of a resumption: half an identifier and a nonce, RFC 8548 3.5. */
#define RESUME_DATA_MIN_LEN KEYS_RESUME_HALF
#define RESUME_DATA_MAX_LEN (KEYS_RESUME_HALF + RESUME_NONCE_MAX_LEN)

/* RFC 8547 4.5 (3): tcpcrypt does not define repetition, so a repeated TEP is not
 * valid (interpretation I09). Return: the only suboption of that TEP. */
static const struct eno_suboption *find_only(const struct eno_option *o, uint8_t tep)
{
    const struct eno_suboption *found = NULL;

    for (size_t i = 0; i < o->sub_cnt; i++) {
        if ((o->sub[i].first & ENO_GLT_MASK) != tep)
            continue;
        if (found)
            return NULL;
        found = &o->sub[i];
    }
    return found;
}

static bool is_resumption(const struct eno_suboption *sub)
{
    return (sub->first & ENO_V) && sub->data_len >= RESUME_DATA_MIN_LEN &&
           sub->data_len <= RESUME_DATA_MAX_LEN;
}

/* RFC 8548 3.5: host A's data is valid when it is a resumption or too short for
 * one, which counts as v = 0; when longer it is not (interpretation I13). */
static const struct eno_suboption *find_offer(const struct eno_option *o, uint8_t tep)
{
    const struct eno_suboption *sub = find_only(o, tep);

    return sub && sub->data_len <= RESUME_DATA_MAX_LEN ? sub : NULL;
}

const struct eno_suboption *negotiate_resumption(const struct eno_option *o, uint8_t tep)
{
    const struct eno_suboption *sub = find_only(o, tep);

    return sub && is_resumption(sub) ? sub : NULL;
}

/* RFC 8547 4.2, 4.6 (3) */
static enum session_reason check_global(uint8_t local, uint8_t remote, bool mandatory_app_aware)
{
    if ((local & ENO_GLOBAL_B) == (remote & ENO_GLOBAL_B))
        return SESSION_REASON_ROLE_CONFLICT;
    if (mandatory_app_aware && !(remote & ENO_GLOBAL_A))
        return SESSION_REASON_NOT_APP_AWARE;
    return SESSION_REASON_PENDING;
}

enum session_reason negotiate_check_offer(const struct session_config *cfg,
                                          const struct eno_option *remote)
{
    if (remote->vacuous)
        return SESSION_REASON_PEER_VACUOUS;
    /* A passive opener always has b = 1. */
    return check_global(ENO_GLOBAL_B, remote->global, cfg->mandatory_app_aware);
}

uint8_t negotiate_choose(const struct session_config *cfg, const struct eno_option *remote)
{
    for (size_t i = 0; i < cfg->tep_cnt; i++)
        if (find_offer(remote, cfg->teps[i]))
            return cfg->teps[i];
    return 0;
}

/* Return: local and remote data are the two halves of the secret's identifier. */
static bool has_halves(const struct resume_secret *secret, const uint8_t *local,
                       const uint8_t *remote)
{
    uint8_t ours[KEYS_RESUME_HALF];
    uint8_t theirs[KEYS_RESUME_HALF];
    bool is_match;

    resume_halves(secret, ours, theirs);
    is_match = sodium_memcmp(ours, local, sizeof(ours)) == 0 &&
               sodium_memcmp(theirs, remote, sizeof(theirs)) == 0;
    sodium_memzero(ours, sizeof(ours));
    sodium_memzero(theirs, sizeof(theirs));
    return is_match;
}

static void append_nonce(struct negotiation *n, const struct eno_suboption *sub)
{
    size_t len = sub->data_len - KEYS_RESUME_HALF;

    memcpy(n->sn + n->sn_len, sub->data + KEYS_RESUME_HALF, len);
    n->sn_len += (uint8_t)len;
}

/* RFC 8548 3.5: both hosts sent their half. The order of the nonces is that of
 * the original roles (interpretation I02). */
static bool match_resumption(const struct eno_suboption *local, const struct eno_suboption *remote,
                             const struct resume_secret *secret, uint8_t tep, struct negotiation *n)
{
    bool was_a;

    if (!is_resumption(local) || !is_resumption(remote) || !secret || secret->tep != tep ||
        !has_halves(secret, local->data, remote->data))
        return false;
    was_a = secret->original_role == SESSION_ROLE_A;
    n->sn_len = 0;
    append_nonce(n, was_a ? local : remote);
    append_nonce(n, was_a ? remote : local);
    n->is_resumed = true;
    return true;
}

enum session_reason negotiate(const struct eno_option *local, const struct eno_option *remote,
                              bool mandatory_app_aware, const struct resume_secret *secret,
                              struct negotiation *ret)
{
    bool is_b = local->global & ENO_GLOBAL_B;
    const struct eno_option *a = is_b ? remote : local;
    const struct eno_option *b = is_b ? local : remote;
    enum session_reason reason;

    if (remote->vacuous)
        return SESSION_REASON_PEER_VACUOUS;
    reason = check_global(local->global, remote->global, mandatory_app_aware);
    if (reason != SESSION_REASON_PENDING)
        return reason;

    struct negotiation n = {
        .role = is_b ? SESSION_ROLE_B : SESSION_ROLE_A,
        .peer_app_aware = remote->global & ENO_GLOBAL_A,
    };
    /* RFC 8547 4.5: the last valid TEP of host B's option. */
    for (size_t i = b->sub_cnt; i-- > 0;) {
        uint8_t tep = b->sub[i].first & ENO_GLT_MASK;
        const struct eno_suboption *sub_b = find_only(b, tep);
        const struct eno_suboption *sub_a = find_offer(a, tep);

        if (!kex_is_known(tep) || !sub_a || !sub_b)
            continue;
        if ((sub_b->first & ENO_V) &&
            !match_resumption(is_b ? sub_b : sub_a, is_b ? sub_a : sub_b, secret, tep, &n))
            continue;
        n.tep = tep;
        n.tep_byte = sub_b->first;
        *ret = n;
        return n.is_resumed ? SESSION_REASON_RESUMED : SESSION_REASON_FULL;
    }
    return SESSION_REASON_NO_COMMON_TEP;
}
