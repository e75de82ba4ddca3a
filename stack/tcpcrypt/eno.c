/* SPDX-License-Identifier: BSD-3-Clause
 * The TCP-ENO option on the wire.
 */
#include "tcpcrypt/eno.h"

#include <assert.h>
#include <string.h>

#define TCPOPT_END 0
#define TCPOPT_NOP 1

#define LENGTH_BYTE_MASK 0x1f /* nnnnn, RFC 8547 4.4 */
#define COUNTED_TEP_MIN  (ENO_V | ENO_GLT_TEP_MIN)

static_assert(COUNTED_TEP_MIN == 0xa0, "RFC 8547 4.4");
static_assert(LENGTH_BYTE_MASK + 1 == ENO_COUNTED_DATA_MAX_LEN, "RFC 8547 4.4");

const uint8_t eno_ack_option[ENO_ACK_OPTION_LEN] = {ENO_KIND, ENO_ACK_OPTION_LEN};

/* RFC 9293 3.1: a length below 2 or past the header ends the list; what came before it counts. */
size_t eno_scan(const uint8_t *area, size_t area_len, const uint8_t **ret_option, size_t *ret_len)
{
    size_t cnt = 0;
    size_t pos = 0;

    while (pos < area_len && area[pos] != TCPOPT_END) {
        if (area[pos] == TCPOPT_NOP) {
            pos++;
            continue;
        }
        if (area_len - pos < 2)
            break;
        size_t len = area[pos + 1];
        if (len < 2 || len > area_len - pos)
            break;
        if (area[pos] == ENO_KIND && cnt++ == 0) {
            *ret_option = area + pos;
            *ret_len = len;
        }
        pos += len;
    }
    return cnt;
}

/* RFC 8547 4.4: a length byte, a TEP with v = 1, and that much data. */
static bool parse_counted(const uint8_t *option, size_t len, size_t *pos, struct eno_suboption *sub)
{
    size_t data_len = (option[*pos] & LENGTH_BYTE_MASK) + 1u;

    (*pos)++;
    if (*pos >= len || option[*pos] < COUNTED_TEP_MIN)
        return false;
    sub->first = option[(*pos)++];
    if (data_len > len - *pos)
        return false;
    sub->data = option + *pos;
    sub->data_len = (uint8_t)data_len;
    *pos += data_len;
    return true;
}

static void parse_plain(const uint8_t *option, size_t len, size_t *pos, struct eno_suboption *sub)
{
    sub->first = option[(*pos)++];
    sub->data = option + *pos;
    sub->data_len = 0;
    if (sub->first & ENO_V) {
        sub->data_len = (uint8_t)(len - *pos);
        *pos = len;
    }
}

static bool is_length_byte(uint8_t byte)
{
    return (byte & ENO_V) && (byte & ENO_GLT_MASK) < ENO_GLT_TEP_MIN;
}

static void note_suboption(struct eno_option *o, bool *has_global)
{
    const struct eno_suboption *sub = &o->sub[o->sub_cnt++];

    if (eno_is_tep(sub)) {
        o->vacuous = false;
    } else if (!*has_global) {
        /* RFC 8547 4.2: only the first global suboption counts */
        o->global = sub->first;
        *has_global = true;
    }
}

enum tcns_err eno_parse(const uint8_t *option, size_t len, struct eno_option *ret)
{
    struct eno_option o = {.vacuous = true};
    bool has_global = false;
    size_t pos = ENO_HEADER_LEN;

    if (len < ENO_HEADER_LEN || len > ENO_OPTION_MAX_LEN || option[0] != ENO_KIND ||
        option[1] != len)
        return TCNS_ERR_ENO_ILL_FORMED;
    while (pos < len) {
        if (!is_length_byte(option[pos]))
            parse_plain(option, len, &pos, &o.sub[o.sub_cnt]);
        else if (!parse_counted(option, len, &pos, &o.sub[o.sub_cnt]))
            return TCNS_ERR_ENO_ILL_FORMED;
        note_suboption(&o, &has_global);
    }
    *ret = o;
    return TCNS_OK;
}

/* Bytes before the data: initial byte, and a length byte unless the data ends the option. */
static size_t suboption_head_len(const struct eno_suboption *sub, bool is_last)
{
    return (sub->first & ENO_V) && !is_last ? 2 : 1;
}

static bool is_encodable(const struct eno_suboption *sub, bool is_last)
{
    if (!(sub->first & ENO_V))
        return sub->data_len == 0;
    return eno_is_tep(sub) &&
           (is_last || (sub->data_len >= 1 && sub->data_len <= ENO_COUNTED_DATA_MAX_LEN));
}

enum tcns_err eno_emit(const struct eno_suboption *subs, size_t sub_cnt,
                       uint8_t ret_option[ENO_OPTION_MAX_LEN], size_t *ret_len)
{
    uint8_t out[ENO_OPTION_MAX_LEN];
    size_t len = ENO_HEADER_LEN;

    for (size_t i = 0; i < sub_cnt; i++) {
        const struct eno_suboption *sub = &subs[i];
        bool is_last = i + 1 == sub_cnt;
        size_t head_len = suboption_head_len(sub, is_last);

        if (!is_encodable(sub, is_last) || len + head_len + sub->data_len > sizeof(out))
            return TCNS_ERR_TOO_LARGE;
        if (head_len == 2)
            out[len++] = (uint8_t)(ENO_V | (sub->data_len - 1));
        out[len++] = sub->first;
        if (sub->data_len > 0)
            memcpy(out + len, sub->data, sub->data_len);
        len += sub->data_len;
    }
    out[0] = ENO_KIND;
    out[1] = (uint8_t)len;
    memcpy(ret_option, out, len);
    *ret_len = len;
    return TCNS_OK;
}
