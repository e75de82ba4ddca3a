/* SPDX-License-Identifier: BSD-3-Clause
 * The TCP-ENO handshake of one connection at one host (RFC 8547 4.6): which
 * segments carry which option, and when encryption is settled.
 *
 * How it works: the TCP side reports each segment it receives until the
 * handshake is settled, and asks before sending what option belongs on a
 * segment. reason is PENDING until a segment settles it. Encryption is disabled
 * by the first segment that lacks a proper option, for good; it is enabled by
 * the first segment with ACK that has one, if the SYN segments agreed.
 */
#ifndef TCNS_TCPCRYPT_HANDSHAKE_H
#define TCNS_TCPCRYPT_HANDSHAKE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "tcpcrypt/negotiate.h"

#define HANDSHAKE_SYN 0x1u
#define HANDSHAKE_ACK 0x2u

#define HANDSHAKE_TRANSCRIPT_MAX_LEN (2 * ENO_OPTION_MAX_LEN)

enum handshake_rule {
    HANDSHAKE_FORBIDDEN, /* encryption is disabled: no ENO option */
    HANDSHAKE_REQUIRED,  /* the segment must carry the option */
    HANDSHAKE_OPTIONAL,  /* a non-SYN segment has come in: it need not */
};

struct handshake {
    const struct session_config *cfg; /* borrowed */
    enum session_reason reason;       /* PENDING until settled */
    bool has_agreed;                  /* the SYN segments agreed; result is valid */
    bool has_secret;
    bool is_secret_found; /* passive opener: it is still in the cache, which awaits the ACK */
    bool no_resume;       /* neither propose nor agree to resumption */
    bool non_syn_received;
    uint8_t nonce_len; /* of our resumption nonce, RFC 8548 3.5 */
    uint8_t local_len; /* 0: not made yet, or none */
    uint8_t remote_len;
    uint8_t local[ENO_OPTION_MAX_LEN]; /* as on the wire */
    uint8_t remote[ENO_OPTION_MAX_LEN];
    struct resume_secret secret; /* the one that our option names */
    struct negotiation result;
};

void handshake_init(struct handshake *h, const struct session_config *cfg);
/* Wipes; the cache must still be there. A zeroed object is fine. */
void handshake_done(struct handshake *h);

/* Wipes the secret, which is used by now or never will be; the cache then awaits no ACK of
 * this connection. */
void handshake_forget_secret(struct handshake *h);

/* Active opener: makes the option of the SYN. peer names the host for
 * resumption; without a name there is none. */
enum tcns_err handshake_connect(struct handshake *h, const struct resume_peer *peer) MUST_CHECK;

/* A segment with these flags came in. Return: OK whatever the peer sent; a
 * LOCAL error, SECRET_GONE among them: the peer believes that encryption is on. */
enum tcns_err handshake_receive(struct handshake *h, unsigned flags, const uint8_t *area,
                                size_t area_len) MUST_CHECK;

/* A segment with these flags is going out. *ret_len is 0 unless the rule is REQUIRED. */
enum handshake_rule handshake_option(const struct handshake *h, unsigned flags,
                                     uint8_t ret_option[ENO_OPTION_MAX_LEN], size_t *ret_len);

static inline bool handshake_is_enabled(const struct handshake *h)
{
    return h->reason == SESSION_REASON_FULL || h->reason == SESSION_REASON_RESUMED;
}

/* RFC 8547 4.8: host A's option, then host B's. Return: length. */
size_t handshake_transcript(const struct handshake *h, uint8_t ret[HANDSHAKE_TRANSCRIPT_MAX_LEN]);

#endif
