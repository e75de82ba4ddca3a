/* SPDX-License-Identifier: BSD-3-Clause
 * The TCP-ENO option on the wire (RFC 8547 4.1 to 4.4): find it in an options
 * area, parse it into suboptions, emit it. What the suboptions mean for a
 * connection is negotiate.h.
 */
#ifndef TCNS_TCPCRYPT_ENO_H
#define TCNS_TCPCRYPT_ENO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "tcpcrypt/session.h"

#define ENO_KIND        69 /* RFC 8547 11 */
#define ENO_HEADER_LEN  2  /* kind and length */
#define ENO_GLT_TEP_MIN 0x20
#define ENO_V           0x80 /* variable-length data follows, RFC 8547 4.1 */
#define ENO_GLT_MASK    0x7f
#define ENO_GLOBAL_B    0x01 /* passive role bit, RFC 8547 4.2 */
#define ENO_GLOBAL_A    0x02 /* application-aware bit, RFC 8547 4.2 */

/* The longest data that a length byte can announce, RFC 8547 4.4. */
#define ENO_COUNTED_DATA_MAX_LEN 32

#define ENO_SUBOPTION_MAX_CNT (ENO_OPTION_MAX_LEN - ENO_HEADER_LEN)

/* A global suboption or a TEP. Length bytes are encoding, not suboptions. */
struct eno_suboption {
    uint8_t first;       /* initial byte: v bit and glt */
    uint8_t data_len;    /* 0 when v is clear; may be 0 when it is set */
    const uint8_t *data; /* borrowed */
};

struct eno_option {
    struct eno_suboption sub[ENO_SUBOPTION_MAX_CNT];
    size_t sub_cnt;
    uint8_t global; /* first global suboption; 0 when there is none */
    bool vacuous;   /* no TEP at all */
};

static inline bool eno_is_tep(const struct eno_suboption *sub)
{
    return (sub->first & ENO_GLT_MASK) >= ENO_GLT_TEP_MIN;
}

/* Looks for ENO options in the bytes after the fixed TCP header, any bytes.
 * Return: how many there are; *ret_option and *ret_len describe the first, when
 * there is one (borrowed from area). */
size_t eno_scan(const uint8_t *area, size_t area_len, const uint8_t **ret_option, size_t *ret_len);

/* Parses a SYN-form option, kind and length bytes included. *ret borrows the
 * option's bytes. Return: OK or ENO_ILL_FORMED. */
enum tcns_err eno_parse(const uint8_t *option, size_t len, struct eno_option *ret) MUST_CHECK;

/* Writes the suboptions in the given order as a SYN-form option.
 * Return: OK; TOO_LARGE when they do not fit or cannot be encoded there. */
enum tcns_err eno_emit(const struct eno_suboption *subs, size_t sub_cnt,
                       uint8_t ret_option[ENO_OPTION_MAX_LEN], size_t *ret_len) MUST_CHECK;

#endif
