/* SPDX-License-Identifier: BSD-3-Clause
 * One connection's TCP-ENO negotiation (RFC 8547) and tcpcrypt session
 * (RFC 8548), at one host.
 *
 * How it works: pure. Bytes in, bytes out, an error; no descriptor, no clock,
 * no TCP. The caller moves TCP options and stream bytes and decides what an
 * error does to the connection. Three phases, in this order:
 *
 *   options   session_connect* or session_accept* see the options areas of
 *             SYN, SYN-ACK and first ACK, and say what to send. After them
 *             session_is_enabled() is settled: tcpcrypt or plain TCP.
 *   keys      Init1 and Init2 travel in the byte stream. session_output()
 *             gives what to send, session_open() eats what arrives.
 *             A resumed session has no such phase.
 *   frames    session_seal() and session_open().
 *
 * Errors: class PEER means the peer broke the RFC; abort the connection with a
 * RST. After a PEER error the session accepts no further bytes.
 */
#ifndef TCNS_TCPCRYPT_SESSION_H
#define TCNS_TCPCRYPT_SESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/buf.h"
#include "base/err.h"

/* TEP identifiers, RFC 8548 7 table 4 */
#define TEP_ECDHE_P256       0x21
#define TEP_ECDHE_P521       0x22
#define TEP_ECDHE_CURVE25519 0x23
#define TEP_ECDHE_CURVE448   0x24

/* AEAD identifiers, RFC 8548 7 table 5 */
#define AEAD_AES_128_GCM       0x0001
#define AEAD_AES_256_GCM       0x0002
#define AEAD_CHACHA20_POLY1305 0x0010

#define ENO_OPTION_MAX_LEN 40 /* a whole TCP options area, RFC 9293 3.1 */
#define SESSION_ID_LEN     33 /* TEP byte and 32 bytes, RFC 8548 3.4 */

/* Largest number of application bytes in one frame: clen is 16 bits and covers
 * the flags byte and the 16-byte tag (RFC 8548 4.2). */
#define SESSION_FRAME_DATA_MAX_LEN (65535 - 16 - 1)
/* What sealing adds to application bytes: control, clen, flags, tag. */
#define SESSION_FRAME_OVERHEAD_LEN (SESSION_FRAME_BEFORE_LEN + SESSION_FRAME_BEHIND_LEN)
#define SESSION_FRAME_BEFORE_LEN   (1 + 2 + 1)
#define SESSION_FRAME_BEHIND_LEN   16
/* What an urgent mark adds to that. */
#define SESSION_FRAME_URGENT_LEN 2

/* What one AEAD key seals at most. Of the three AES-GCM bears least: RFC 8446 5.5 allows
 * 2^24.5 records of 2^14 bytes; this is a quarter of their number and of their bytes. */
#define SESSION_REKEY_BYTES_MAX  (1ull << 36)
#define SESSION_REKEY_FRAMES_MAX (1u << 22)

enum session_role { SESSION_ROLE_A, SESSION_ROLE_B };

/* Why a connection is encrypted or is not. One list: names for people and
 * programs are made from it (lower case, dashes). */
#define SESSION_REASON_LIST(X)                                                                     \
    X(PENDING)         /* the SYN exchange is not over */                                          \
    X(FULL)            /* encrypted, fresh key exchange */                                         \
    X(RESUMED)         /* encrypted, keys from an earlier session */                               \
    X(OFF)             /* ENO is switched off here */                                              \
    X(PEER_NO_ENO)     /* the peer's SYN had no ENO option */                                      \
    X(PEER_ILL_FORMED) /* the peer's ENO option was ill-formed */                                  \
    X(PEER_VACUOUS)    /* the peer knows ENO but offered no TEP */                                 \
    X(NO_COMMON_TEP)   /* no TEP that both hosts speak */                                          \
    X(ROLE_CONFLICT)   /* both hosts sent the same b bit */                                        \
    X(NOT_APP_AWARE)   /* mandatory application-aware mode, peer's a bit is 0 */                   \
    X(ENO_STRIPPED)    /* the ACK that completes the handshake had no ENO option */

enum session_reason {
#define X(name) SESSION_REASON_##name,
    SESSION_REASON_LIST(X)
#undef X
};

/* Return: "peer-no-eno" and the like; static storage. */
const char *session_reason_name(enum session_reason reason);
/* Return: "AEAD_AES_128_GCM", "TCPCRYPT_ECDHE_Curve25519"; "unknown" otherwise. */
const char *session_aead_name(uint16_t aead);
const char *session_tep_name(uint8_t tep);

/* Fills out with len random bytes; must not fail. */
typedef void (*session_random_fn)(void *out, size_t len);

struct resume_cache; /* session secrets kept for resumption, RFC 8548 3.5 */

struct session_config {
    uint8_t teps[4]; /* preference, best first; tep_cnt = 0 switches ENO off */
    size_t tep_cnt;
    uint16_t aeads[3]; /* preference, best first */
    size_t aead_cnt;
    bool app_aware;           /* a bit of our global suboption, RFC 8547 4.3 */
    bool mandatory_app_aware; /* disable encryption when the peer's a bit is 0 */
    bool passive_role; /* active opener sets b = 1: for simultaneous open only, RFC 8547 4.3 */
    /* A key seals at most that many frames, and no frame after that many bytes: then we
     * rekey (RFC 8548 3.8). 0, or more than SESSION_REKEY_*_MAX: that maximum. */
    uint64_t rekey_bytes;
    uint32_t rekey_frames;
    /* Borrowed; it lasts longer than the sessions. NULL: neither resume nor remember. */
    struct resume_cache *cache;
    struct kex_pool *keys; /* borrowed; made ahead of need; NULL: each when it is needed */
    bool no_resume;        /* see session_set_no_resume() */
    bool no_cache;         /* see session_set_no_cache() */
    session_random_fn random;
};

/* Curve25519 first, AES-128-GCM first, libsodium's randomness, no cache. */
extern const struct session_config session_config_default;

/* Runs every TEP and AEAD of cfg once, in a few ms. To be called before giving up file
 * access: the crypto libraries read configuration and load code on first use.
 * Return: OK; CRYPTO when one of them does not work here. */
enum tcns_err session_selftest(const struct session_config *cfg) MUST_CHECK;

struct session; /* about 1 KB, keys included; wiped when freed */

/* cfg is borrowed until session_free().
 * Return: NULL when out of memory. */
struct session *session_new(const struct session_config *cfg);

/* Wipes all keys. NULL is a no-op. */
void session_free(struct session *s);

#define SESSION_PEER_MAX_LEN 20 /* an address and a port */

/* Names the peer, as the cache should know it; any bytes, copied. The first host_len
 * of them name its host, all of them the service there. To be called before
 * session_connect() or session_accept(). Without it an active open neither resumes nor is
 * remembered; a passive one may resume, but its secrets serve no active open. */
void session_set_peer(struct session *s, const void *name, size_t len, size_t host_len);

/* RFC 8548 3.5, policy of one connection, independent of each other; before
 * session_connect() or session_accept(). The values of the configuration hold unless set. */
void session_set_no_resume(struct session *s, bool no_resume); /* fresh key exchange always */
void session_set_no_cache(struct session *s, bool no_cache);   /* no secret is kept after it */

#define SESSION_KEY_MAX_LEN   32 /* RFC 8548 6 table 3 */
#define SESSION_KEY_NONCE_LEN 12

/* A traffic key, for a key log. Borrowed until the call returns. */
struct session_key {
    bool seals;          /* ours, to the peer; else the peer's */
    uint32_t generation; /* RFC 8548 3.8 */
    uint16_t aead;
    uint8_t key_len;
    const uint8_t *id;    /* of the session */
    const uint8_t *key;   /* RFC 8548 3.3, k_ab or k_ba */
    const uint8_t *nonce; /* frame offsets are XORed with it, RFC 8548 3.6 */
};

/* fn is told every key of the session as soon as there is one; it must not call back. */
typedef void (*session_key_fn)(const struct session_key *key, void *arg);
void session_set_key_log(struct session *s, session_key_fn fn, void *arg);

/* What sessions have done, for observers. */
struct session_counters {
    uint64_t frames_sealed, frames_opened;
    uint64_t rekeys_sent, rekeys_received; /* RFC 8548 3.8 */
};

/* Counts there from now on; borrowed, any number of sessions may share it. */
void session_set_counters(struct session *s, struct session_counters *counters);

/* Length of our resumption nonce, 0 to 8; 8 unless set. A shorter one saves option space,
 * but is safe only where no session secret can ever be used twice: no cloned or
 * re-started virtual machines (RFC 8548 3.5). Before session_connect() or
 * session_accept(). Return: OK or TOO_LARGE. */
enum tcns_err session_set_resume_nonce_len(struct session *s, size_t len) MUST_CHECK;

/* Drops what the cache holds because of this connection, RFC 8548 3.5. */
void session_forget(struct session *s);

/* --- Options, RFC 8547 4.6 --------------------------------------------------
 * Options areas are the bytes after the fixed 20 of a TCP header, as received:
 * any content is allowed. Emitted options are whole TCP options (kind 69,
 * length, suboptions), not padded. */

/* Active opener: the option of the SYN. *ret_len is 0 when ENO is off.
 * The same bytes go out with every retransmission. */
enum tcns_err session_connect(struct session *s, uint8_t ret_option[ENO_OPTION_MAX_LEN],
                              size_t *ret_len) MUST_CHECK;

/* Active opener: the SYN-ACK's options area. Settles enabled or not. Return: OK either way. */
enum tcns_err session_connect_synack(struct session *s, const uint8_t *area,
                                     size_t area_len) MUST_CHECK;

/* Passive opener: the SYN's options area; gives the option of the SYN-ACK.
 * *ret_len is 0 when encryption is disabled. Return: OK either way. */
enum tcns_err session_accept(struct session *s, const uint8_t *area, size_t area_len,
                             uint8_t ret_option[ENO_OPTION_MAX_LEN], size_t *ret_len) MUST_CHECK;

/* Passive opener: the options area of the first ACK segment. Settles enabled or
 * not: without an ENO option in it encryption is disabled. Return: OK either way;
 * SECRET_GONE when another connection has used the secret up that was agreed on: then
 * abort, because the peer will not speak plain TCP. */
enum tcns_err session_accept_ack(struct session *s, const uint8_t *area,
                                 size_t area_len) MUST_CHECK;

/* The non-SYN form of the option, RFC 8547 4.1: what the active opener adds to
 * its segments until it has received a non-SYN segment. */
#define ENO_ACK_OPTION_LEN 2
extern const uint8_t eno_ack_option[ENO_ACK_OPTION_LEN];

/* --- What was negotiated ---------------------------------------------------- */

struct session_info {
    enum session_reason reason;
    bool enabled; /* tcpcrypt, not plain TCP; valid once reason is not PENDING */
    bool has_id;  /* keys are agreed, id and aead are valid */
    bool peer_app_aware;
    enum session_role role;
    uint8_t tep; /* identifier without the v bit */
    uint16_t aead;
    uint8_t id[SESSION_ID_LEN]; /* RFC 8548 3.4 */
    uint32_t tx_generation;     /* key set that seals, RFC 8548 3.8 */
    uint32_t rx_generation;
};

void session_get_info(const struct session *s, struct session_info *ret_info);
bool session_is_enabled(const struct session *s);
/* Keys are there and application data may be sealed. */
bool session_is_open(const struct session *s);

/* --- Stream ----------------------------------------------------------------- */

/* Bytes that must go out before anything else: an Init message, or a frame
 * that answers a rekey. Caller owns *ret (buf_unref), NULL when there is none. */
enum tcns_err session_output(struct session *s, struct buf **ret) MUST_CHECK;

/* Initiates rekeying (RFC 8548 3.8), also to prove that the peer is alive (3.9): the peer
 * must answer with a new frame. session_output() then has a frame, unless session_seal()
 * is called first. No-op while an earlier rekeying is unanswered. Return: OK or STATE. */
enum tcns_err session_rekey(struct session *s) MUST_CHECK;

#define SESSION_SEAL_FIN    0x01u /* last frame of this direction, RFC 8548 3.7 */
#define SESSION_SEAL_URGENT 0x02u /* urgent_off means something, RFC 8548 3.7 */

/* Makes one frame of the bytes in iov[0..iov_cnt), which may be none, and at most
 * SESSION_FRAME_DATA_MAX_LEN, or SESSION_FRAME_URGENT_LEN fewer with an urgent mark.
 * urgent_off names the last urgent byte, counted from the frame's first byte of data; it
 * may lie beyond the frame (interpretation I07). Ignored without SESSION_SEAL_URGENT.
 * Caller owns *ret. Errors: STATE before the keys or after the final frame,
 * TOO_LARGE, NO_MEMORY, CRYPTO; *ret is then untouched. STATE also while an Init message
 * waits in session_output(). */
enum tcns_err session_seal(struct session *s, const struct iovec *iov, size_t iov_cnt,
                           unsigned flags, uint16_t urgent_off, struct buf **ret) MUST_CHECK;

/* Makes one frame of what b holds, in the same place: b's off and len are then those of the
 * frame. There is room for SESSION_FRAME_BEFORE_LEN bytes before it and
 * SESSION_FRAME_BEHIND_LEN behind it. fin: as SESSION_SEAL_FIN.
 * Errors: as session_seal(), but NO_MEMORY; after CRYPTO b's bytes are worthless. */
enum tcns_err session_seal_in_place(struct session *s, struct buf *b, bool fin) MUST_CHECK;

struct session_rx {
    struct buf *data; /* application bytes (off, len); NULL when none; caller owns */
    bool fin;         /* the final frame: nothing of the application follows */
    bool opened;      /* keys were agreed by these bytes: session_is_open() is now true */
    bool output;      /* session_output() has something to send */
    bool urgent;      /* URGp was set: urgent_off counts from the first byte of data */
    uint16_t urgent_off;
};

/* Eats bytes of the peer's TCP data stream, in order, split anywhere. Stops after
 * one whole message or frame; *ret_used says how many bytes were taken (always all
 * of them with AGAIN). Plaintext is given out only after its tag was verified. All that
 * follows a final frame is eaten and ignored.
 * Return: OK with *ret_rx filled; AGAIN; a PEER or LOCAL error, which is final: later
 * calls give it again. */
enum tcns_err session_open(struct session *s, const uint8_t *in, size_t in_len, size_t *ret_used,
                           struct session_rx *ret_rx) MUST_CHECK;

/* The peer's FIN arrived. Return: OK after a final frame; TRUNCATED otherwise. */
enum tcns_err session_on_fin(struct session *s) MUST_CHECK;

#endif
