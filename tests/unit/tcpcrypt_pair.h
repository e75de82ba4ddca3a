/* SPDX-License-Identifier: BSD-3-Clause
 * Two sessions in memory, joined by byte strings: a client (active opener) and a
 * server (passive opener).
 */
#ifndef TCNS_TESTS_TCPCRYPT_PAIR_H
#define TCNS_TESTS_TCPCRYPT_PAIR_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "tcpcrypt/session.h"

/* Bytes on their way, in one direction. */
struct wire {
    uint8_t bytes[3 * 65536];
    size_t len;
};

struct pair {
    struct session_config client_cfg, server_cfg;
    struct session *client, *server;
    uint8_t syn[ENO_OPTION_MAX_LEN], synack[ENO_OPTION_MAX_LEN];
    size_t syn_len, synack_len;
};

/* Default configurations; the caller may change them before pair_open(). */
void pair_init(struct pair *p);
void pair_done(struct pair *p);
/* Resumption caches for both; freed when the sessions are gone. */
void pair_add_caches(struct pair *p, size_t slot_cnt);
void pair_free_caches(struct pair *p);

/* New sessions, old ones freed. */
void pair_new_sessions(struct pair *p);
/* SYN, SYN-ACK and ACK with their options. */
void pair_options(struct pair *p);
/* New sessions, options, Init messages: both are open, or both are plain. */
void pair_open(struct pair *p);

/* Appends what session_output() gives until it gives nothing. */
void pair_output(struct session *s, struct wire *w);
/* Appends a frame of len bytes of data. */
void pair_seal(struct session *s, const void *data, size_t len, unsigned flags, struct wire *w);

/* What a host got out of a stream. */
struct received {
    uint8_t data[3 * 65536];
    size_t len;
    size_t frame_cnt; /* messages and frames */
    bool fin;
    bool opened;
};

/* Gives the session w in pieces of at most step bytes, until its end or an error.
 * Return: OK or AGAIN at the end, else the error. */
enum tcns_err pair_feed(struct session *s, const struct wire *w, size_t step, struct received *r);

/* pair_feed() that must succeed, with nothing left over. */
void pair_deliver(struct session *s, const struct wire *w, struct received *r);

/* Sends text through a new frame and checks that it arrives. */
void pair_check_data(struct session *from, struct session *to, const char *text);

#endif
