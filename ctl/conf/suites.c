/* SPDX-License-Identifier: BSD-3-Clause
 * Lists of key exchanges (TEPs) and AEADs, as people write them.
 */
#include "ctl/conf/suites.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

#define LIST_MAX_CNT 4

struct suite {
    const char *name;
    uint16_t id;
};

/* Each in session_config_default's order, and ended by a NULL name. */
static const struct suite teps[] = {
    {"Curve25519", TEP_ECDHE_CURVE25519},
    {"Curve448", TEP_ECDHE_CURVE448},
    {"P-256", TEP_ECDHE_P256},
    {"P-521", TEP_ECDHE_P521},
    {NULL},
};

static const struct suite aeads[] = {
    {"AES-128-GCM", AEAD_AES_128_GCM},
    {"AES-256-GCM", AEAD_AES_256_GCM},
    {"ChaCha20-Poly1305", AEAD_CHACHA20_POLY1305},
    {NULL},
};

struct list {
    uint16_t ids[LIST_MAX_CNT];
    size_t cnt;
};

static int add(struct list *l, const struct suite *known, const char *word, size_t len)
{
    while (known->name && (strlen(known->name) != len || strncasecmp(known->name, word, len) != 0))
        known++;
    if (!known->name)
        return -EINVAL;
    for (size_t i = 0; i < l->cnt; i++)
        if (l->ids[i] == known->id)
            return -EEXIST;
    l->ids[l->cnt++] = known->id; /* cannot overflow: as many as there are names */
    return 0;
}

static int parse(const char *text, const struct suite *known, struct list *ret,
                 const char **ret_bad, size_t *ret_len)
{
    *ret = (struct list){.cnt = 0};
    for (;;) {
        size_t len = strcspn(text, ",");
        int err = add(ret, known, text, len);
        if (err) {
            *ret_bad = text;
            *ret_len = len;
            return err;
        }
        if (!text[len])
            return 0;
        text += len + 1;
    }
}

int suites_parse_teps(const char *text, struct session_config *cfg, const char **ret_bad,
                      size_t *ret_len)
{
    struct list l;

    _Static_assert(sizeof(teps) / sizeof(teps[0]) - 1 <= LIST_MAX_CNT &&
                       sizeof(cfg->teps) / sizeof(cfg->teps[0]) == LIST_MAX_CNT,
                   "all fit");
    int err = parse(text, teps, &l, ret_bad, ret_len);
    if (err)
        return err;
    for (size_t i = 0; i < l.cnt; i++)
        cfg->teps[i] = (uint8_t)l.ids[i];
    cfg->tep_cnt = l.cnt;
    return 0;
}

int suites_parse_aeads(const char *text, struct session_config *cfg, const char **ret_bad,
                       size_t *ret_len)
{
    struct list l;

    _Static_assert(sizeof(aeads) / sizeof(aeads[0]) - 1 ==
                       sizeof(cfg->aeads) / sizeof(cfg->aeads[0]),
                   "all fit");
    int err = parse(text, aeads, &l, ret_bad, ret_len);
    if (err)
        return err;
    memcpy(cfg->aeads, l.ids, l.cnt * sizeof(l.ids[0]));
    cfg->aead_cnt = l.cnt;
    return 0;
}

static const char *name_of(const struct suite *known, uint16_t id)
{
    while (known->name && known->id != id)
        known++;
    return known->name ? known->name : "unknown";
}

const char *suites_tep_name(uint8_t tep)
{
    return name_of(teps, tep);
}

const char *suites_aead_name(uint16_t aead)
{
    return name_of(aeads, aead);
}

const char *suites_app_aware_name(const struct session_config *cfg)
{
    return cfg->mandatory_app_aware ? "mandatory" : cfg->app_aware ? "on" : "off";
}
