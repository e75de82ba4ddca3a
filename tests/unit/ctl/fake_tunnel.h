/* SPDX-License-Identifier: BSD-3-Clause
 * A tunnel that is made up, for programs that are about what is above it. It takes the place
 * of the real one, so exactly one file of a program includes this.
 */
#ifndef TCNS_TESTS_FAKE_TUNNEL_H
#define TCNS_TESTS_FAKE_TUNNEL_H

#include <errno.h>
#include <stddef.h>
#include <unistd.h>

#include "ctl/daemon/ns1.h"
#include "tunnel/capture.h"
#include "tunnel/metrics.h"

#define MANY       100000
#define BUCKET_CNT (MANY / 4)

struct tunnel {
    size_t session_cnt, ended_cnt;
    unsigned flushed;
    enum tunnel_state found_state;
    bool gone;
    struct tunnel_counters counters;
    struct tunnel_capture capture;
    int capture_fd, capture_err;
    tunnel_capture_fn capture_end;
    void *capture_arg;
};

static struct tunnel_session session_of(size_t n)
{
    struct tunnel_session s = {
        .state = TUNNEL_STATE_ENCRYPTED,
        .reason = TUNNEL_REASON_FULL,
        .tx_bytes = n,
        .started_s = 1.5,
        .info = {.enabled = true,
                 .has_id = true,
                 .tep = TEP_ECDHE_CURVE25519,
                 .aead = AEAD_AES_128_GCM},
    };

    s.tuple.local = addr_from_v4((uint8_t[]){192, 0, 2, 1});
    s.tuple.peer = addr_from_v4((uint8_t[]){192, 0, 2, 2});
    return s;
}

/* Several to a bucket, as in the real one. */
bool tunnel_list_from(struct tunnel *t, struct tunnel_cursor *c, tunnel_session_fn fn, void *arg)
{
    bool stopped = false;

    for (; c->bucket < BUCKET_CNT && !stopped; c->bucket++) {
        for (size_t n = c->bucket; n < t->session_cnt; n += BUCKET_CNT) {
            struct tunnel_session s = session_of(n);
            stopped |= !fn(&s, arg);
        }
    }
    return c->bucket < BUCKET_CNT;
}

void tunnel_list_ended(struct tunnel *t, tunnel_session_fn fn, void *arg)
{
    for (size_t n = 0; n < t->ended_cnt; n++) {
        struct tunnel_session s = session_of(n);
        s.state = TUNNEL_STATE_CLOSING;
        s.end = n % 2 ? TUNNEL_END_ERROR : TUNNEL_END_CLOSED;
        s.error = n % 2 ? TCNS_ERR_FRAME_AUTH : TCNS_OK;
        s.ended_s = 2.5;
        if (!fn(&s, arg))
            return;
    }
}

uint64_t tunnel_error_cnt(const struct tunnel *t, enum tcns_err err)
{
    return err == TCNS_ERR_FRAME_AUTH ? 7 : 0;
}

const struct tunnel_counters *tunnel_counters(const struct tunnel *t)
{
    return &t->counters;
}

void tunnel_flush(struct tunnel *t)
{
    t->flushed++;
}

size_t tunnel_resume_cnt(const struct tunnel *t)
{
    return 3;
}

void tunnel_list_fallback(const struct tunnel *t, tunnel_fallback_fn fn, void *arg)
{
    struct addr peer = addr_from_v4((uint8_t[]){192, 0, 2, 9});

    fn(&peer, 42, arg);
}

void tunnel_get_metrics(const struct tunnel *t, struct tunnel_metrics *ret)
{
    *ret = (struct tunnel_metrics){.settled[TUNNEL_REASON_FULL] = 11};
}

void tunnel_get_levels(const struct tunnel *t, struct tunnel_levels *ret)
{
    *ret = (struct tunnel_levels){.flow_cnt = t->session_cnt};
}

int tunnel_capture_start(struct tunnel *t, const struct tunnel_capture *cfg, int fd,
                         tunnel_capture_fn on_end, void *arg, struct tap **ret)
{
    t->capture = *cfg;
    t->capture_fd = fd;
    t->capture_end = on_end;
    t->capture_arg = arg;
    *ret = (struct tap *)t;
    return t->capture_err;
}

void tunnel_capture_stop(struct tunnel *t, struct tap *tap)
{
    close(t->capture_fd);
    t->capture_fd = -1;
}

/* One connection, of the tuple that FOUND names. */
bool tunnel_find(struct tunnel *t, const struct tuple *tuple, struct tunnel_session *ret)
{
    *ret = session_of(0);
    ret->tuple.local_port = 1;
    ret->tuple.peer_port = 65535;
    ret->state = t->found_state;
    return !t->gone && tuple_eq(tuple, &ret->tuple);
}

int tunnel_mark_authenticated(struct tunnel *t, const struct tuple *tuple)
{
    struct tunnel_session s;

    return !tunnel_find(t, tuple, &s)                 ? -ENOENT
           : t->found_state != TUNNEL_STATE_ENCRYPTED ? -ENODATA
                                                      : 0;
}

int tunnel_forget(struct tunnel *t, const struct tuple *tuple)
{
    struct tunnel_session s;

    return tunnel_find(t, tuple, &s) ? 0 : -ENOENT;
}

/* Not called; here so that the linker does not fetch the real tunnel. */
int tunnel_new(const struct tunnel_config *cfg, struct tunnel **ret)
{
    return -1;
}

void tunnel_drain(struct tunnel *t, enum tunnel_drain drain)
{
}

size_t tunnel_flow_cnt(const struct tunnel *t)
{
    return 0;
}

int tunnel_add_uplink(struct tunnel *t, int ifindex, int fd, int rx_fd)
{
    return -1;
}

void tunnel_del_uplink(struct tunnel *t, int ifindex)
{
}

int tunnel_pass(struct tunnel *t, const struct tuple *tuple)
{
    return -1;
}

int tunnel_set_policy(struct tunnel *t, const struct policy_config *cfg)
{
    return -1;
}

void tunnel_set_key_timeout(struct tunnel *t, unsigned seconds)
{
}

void tunnel_set_bypass(struct tunnel *t, const struct port_range *ports, size_t port_cnt,
                       const struct policy_match *matches, size_t match_cnt)
{
}

void tunnel_set_fallback_time(struct tunnel *t, unsigned seconds)
{
}

void tunnel_free(struct tunnel *t)
{
}

static struct policy *the_policy;

const struct policy *tunnel_policy(const struct tunnel *t)
{
    return the_policy;
}

#endif
