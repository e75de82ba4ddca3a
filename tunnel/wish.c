/* SPDX-License-Identifier: BSD-3-Clause
 * What an application wants for the connections of one of its sockets.
 */
#include "tunnel/wish.h"

#include <string.h>

static bool has_aead(const struct session_config *cfg, uint16_t aead)
{
    for (size_t i = 0; i < cfg->aead_cnt; i++)
        if (cfg->aeads[i] == aead)
            return true;
    return false;
}

static void apply_aeads(const struct wish *w, struct session_config *cfg)
{
    uint16_t common[sizeof(cfg->aeads) / sizeof(cfg->aeads[0])];
    size_t cnt = 0;

    for (size_t i = 0; i < w->aead_cnt; i++)
        if (has_aead(cfg, w->aeads[i]))
            common[cnt++] = w->aeads[i];
    if (cnt == 0)
        return;
    memcpy(cfg->aeads, common, cnt * sizeof(common[0]));
    cfg->aead_cnt = cnt;
}

void wish_apply(const struct wish *w, enum tunnel_policy *policy, struct session_config *cfg)
{
    if (w->set & WISH_POLICY && *policy != TUNNEL_POLICY_REQUIRE)
        *policy = w->policy;
    if (w->set & WISH_AEADS)
        apply_aeads(w, cfg);
    if (w->set & WISH_APP_AWARE && !cfg->mandatory_app_aware) {
        cfg->app_aware = w->app_aware;
        cfg->mandatory_app_aware = w->mandatory_app_aware;
    }
    if (w->set & WISH_RESUME)
        cfg->no_resume |= w->no_resume;
    if (w->set & WISH_CACHE)
        cfg->no_cache |= w->no_cache;
    if (w->set & WISH_PASSIVE_ROLE)
        cfg->passive_role = w->passive_role;
}
