/* SPDX-License-Identifier: BSD-3-Clause
 * What two SYN-form ENO options mean together: roles, the negotiated TEP
 * (RFC 8547 4.2, 4.3, 4.5), and whether it resumes (RFC 8548 3.2, 3.5).
 */
#ifndef TCNS_TCPCRYPT_NEGOTIATE_H
#define TCNS_TCPCRYPT_NEGOTIATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "tcpcrypt/eno.h"
#include "tcpcrypt/resume.h"

struct negotiation {
    enum session_role role; /* of the local host */
    uint8_t tep;
    uint8_t tep_byte; /* with the v bit as host B sent it */
    bool is_resumed;
    bool peer_app_aware;
    uint8_t sn[KEYS_SN_MAX_LEN]; /* session nonce, RFC 8548 3.5; empty unless resumed */
    uint8_t sn_len;
};

/* Looks at an option that a passive opener got, before there is an answer.
 * Return: PENDING when encryption is possible so far, else why it is not. */
enum session_reason negotiate_check_offer(const struct session_config *cfg,
                                          const struct eno_option *remote);

/* Return: the TEP to answer with, the most preferred one that is valid; 0 when there is none. */
uint8_t negotiate_choose(const struct session_config *cfg, const struct eno_option *remote);

/* Return: the suboption of the option's only, valid resumption proposal for that TEP;
 * NULL when there is none. */
const struct eno_suboption *negotiate_resumption(const struct eno_option *o, uint8_t tep);

/* Settles a connection from both options. secret is the one that our resumption
 * suboption names, NULL without one.
 * Return: FULL or RESUMED with *ret filled, else why encryption is disabled. */
enum session_reason negotiate(const struct eno_option *local, const struct eno_option *remote,
                              bool mandatory_app_aware, const struct resume_secret *secret,
                              struct negotiation *ret);

#endif
