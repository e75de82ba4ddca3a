/* SPDX-License-Identifier: BSD-3-Clause
 * Error codes of the protocol core and the data path.
 *
 * The class in the high byte tells the caller what to do; branch on the class,
 * log the name. The table below is the only place an error is declared.
 */
#ifndef TCNS_BASE_ERR_H
#define TCNS_BASE_ERR_H

#define MUST_CHECK __attribute__((warn_unused_result))

enum err_class {
    ERR_CLASS_OK = 0,
    ERR_CLASS_WAIT = 1,   /* all input was consumed; come back with more */
    ERR_CLASS_PEER = 2,   /* the peer broke the RFC: reset the connection */
    ERR_CLASS_POLICY = 3, /* refused by our own policy */
    ERR_CLASS_LOCAL = 4,  /* our fault or our limit */
};

/* name, class, number, text for people */
#define TCNS_ERR_LIST(X)                                                                           \
    X(OK, OK, 0, "no error")                                                                       \
    X(AGAIN, WAIT, 1, "more input is needed")                                                      \
    X(ENO_ILL_FORMED, PEER, 1, "ill-formed ENO option")                                            \
    X(INIT_MAGIC, PEER, 2, "Init message has the wrong magic")                                     \
    X(INIT_LENGTH, PEER, 3, "Init message has an impossible length")                               \
    X(INIT_PUBKEY, PEER, 4, "public key is not acceptable")                                        \
    X(INIT_CIPHER, PEER, 5, "no cipher in common")                                                 \
    X(FRAME_AUTH, PEER, 6, "frame failed authentication")                                          \
    X(FRAME_MALFORMED, PEER, 7, "frame is authentic but malformed")                                \
    X(FRAME_LENGTH, PEER, 8, "frame is too short for its AEAD tag")                                \
    X(TRUNCATED, PEER, 10, "stream ended without a final frame")                                   \
    X(ENO_SYN_DATA_ACKED, PEER, 11, "data of a SYN segment was acknowledged")                      \
    X(KEY_TIMEOUT, PEER, 12, "the key exchange was not finished in time")                          \
    X(REFUSED_CLEAR, POLICY, 1, "encryption is required and was not negotiated")                   \
    X(NO_MEMORY, LOCAL, 1, "out of memory")                                                        \
    X(CRYPTO, LOCAL, 2, "cryptographic library failed")                                            \
    X(STATE, LOCAL, 3, "call does not fit the state")                                              \
    X(TOO_LARGE, LOCAL, 4, "does not fit a frame")                                                 \
    X(LIMIT, LOCAL, 5, "a configured limit was reached")                                           \
    X(SECRET_GONE, LOCAL, 6, "session secret is used up or forgotten")

enum tcns_err {
#define X(name, class, num, text) TCNS_ERR_##name = (ERR_CLASS_##class << 8) | (num),
    TCNS_ERR_LIST(X)
#undef X
};

#define TCNS_OK TCNS_ERR_OK

static inline enum err_class err_class(enum tcns_err e)
{
    return (enum err_class)(e >> 8);
}

/* Return: the name in lower case with dashes ("frame-auth"); static storage. */
const char *err_name(enum tcns_err e);

/* Return: one sentence for people, no final stop; static storage. */
const char *err_text(enum tcns_err e);

#endif
