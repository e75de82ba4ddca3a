/* SPDX-License-Identifier: BSD-3-Clause
 * Encryption frames (RFC 8548 3.6 and 4.2), one object per direction.
 *
 * How it works: the sender's object and the receiver's hold the same master key
 * and the same stream offset. Each frame moves the offset by its own length; a
 * frame with rekey = 1 first moves the master key to the next generation and
 * forgets the old one. The receiver decrypts ciphertext as it arrives into a
 * buffer of the frame's size, but gives it out only when the tag is verified.
 */
#ifndef TCNS_TCPCRYPT_FRAME_H
#define TCNS_TCPCRYPT_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/buf.h"
#include "base/err.h"
#include "tcpcrypt/aead.h"
#include "tcpcrypt/keys.h"

#define FRAME_HEADER_LEN 3 /* control and clen, RFC 8548 4.2 */
#define FRAME_CLEN_MAX   65535

#define FRAME_CONTROL_REKEY 0x01 /* RFC 8548 4.2; the other bits are cres */
#define FRAME_FLAG_FIN      0x01 /* FINp, RFC 8548 4.2.1 */
#define FRAME_FLAG_URG      0x02 /* URGp; the other bits are fres */

/* What a frame says beside its data. */
struct frame_head {
    uint8_t control;
    uint8_t flags;
    uint16_t urgent; /* with FRAME_FLAG_URG; counts from the first byte of data */
};

/* The key set of one direction. */
struct frame_keys {
    struct aead aead;
    uint8_t mk[KEYS_K_LEN];
    enum session_role sender; /* original role of the host that seals: A uses k_ab */
    uint64_t offset;          /* of the current frame in the TCP data stream */
};

struct frame_tx {
    struct frame_keys keys;
};

struct frame_rx {
    struct frame_keys keys;
    uint8_t header[FRAME_HEADER_LEN];
    uint8_t header_len;
    uint8_t tag_len; /* bytes of tag[] that have arrived */
    uint8_t tag[AEAD_TAG_LEN];
    struct buf *text; /* plaintext so far, not verified; NULL between frames */
    size_t text_len;  /* of the whole plaintext */
};

/* mk0 is mk[0], offset that of the first frame. */
enum tcns_err frame_tx_init(struct frame_tx *tx, uint16_t aead, const uint8_t mk0[KEYS_K_LEN],
                            enum session_role sender, uint64_t offset) MUST_CHECK;
enum tcns_err frame_rx_init(struct frame_rx *rx, uint16_t aead, const uint8_t mk0[KEYS_K_LEN],
                            enum session_role sender, uint64_t offset) MUST_CHECK;
/* Wipe the keys. A zeroed object is fine. */
void frame_tx_done(struct frame_tx *tx);
void frame_rx_done(struct frame_rx *rx);

/* Makes one frame of the bytes in iov. Caller owns *ret.
 * Return: OK; TOO_LARGE; NO_MEMORY: then nothing happened and the same frame may be tried again;
 * CRYPTO: then the direction is of no more use. */
enum tcns_err frame_seal(struct frame_tx *tx, const struct frame_head *head,
                         const struct iovec *iov, size_t iov_cnt, struct buf **ret) MUST_CHECK;

/* Makes one frame of what b holds, where it lies: off and len are then the frame's. There is
 * room for header, flags and urgent offset before it, and for a tag behind it.
 * Return: as frame_seal(), but never NO_MEMORY. */
enum tcns_err frame_seal_in_place(struct frame_tx *tx, const struct frame_head *head,
                                  struct buf *b) MUST_CHECK;

/* Eats bytes up to the end of one frame. *ret_data is the frame's data, NULL
 * when it has none; caller owns it.
 * Return: OK; AGAIN when all bytes were eaten and more are needed; FRAME_AUTH, FRAME_LENGTH,
 * FRAME_MALFORMED, NO_MEMORY, CRYPTO: then the direction is of no more use. */
enum tcns_err frame_open(struct frame_rx *rx, const uint8_t *in, size_t in_len, size_t *ret_used,
                         struct frame_head *ret_head, struct buf **ret_data) MUST_CHECK;

#endif
