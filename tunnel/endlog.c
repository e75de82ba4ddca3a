/* SPDX-License-Identifier: BSD-3-Clause
 * The log's line for a connection that has ended.
 */
#include "tunnel/endlog.h"

#include <sodium.h>
#include <stdio.h>

#include "base/log.h"

#define END_LEN (ADDR_STR_LEN + 8)

/* "192.0.2.1:80", "[2001:db8::1]:80" */
static const char *end_text(const struct addr *addr, uint16_t port, char out[END_LEN])
{
    char text[ADDR_STR_LEN];

    snprintf(out, END_LEN, addr_is_v4(addr) ? "%s:%u" : "[%s]:%u", addr_str(addr, text), port);
    return out;
}

void endlog_write(const struct tunnel_session *s, enum tunnel_state state)
{
    char local[END_LEN], peer[END_LEN], id[2 * SESSION_ID_LEN + 1];
    struct log_field fields[12];
    size_t cnt = 0;

    if (!log_enabled(LOG_LEVEL_INFO))
        return;
#define TEXT(name, value) fields[cnt++] = (struct log_field){name, value, 0}
#define NUMBER(name, value)                                                                        \
    fields[cnt++] = (struct log_field)                                                             \
    {                                                                                              \
        name, NULL, value                                                                          \
    }
    TEXT("local", end_text(&s->tuple.local, s->tuple.local_port, local));
    TEXT("peer", end_text(&s->tuple.peer, s->tuple.peer_port, peer));
    TEXT("dir", s->inbound ? "in" : "out");
    TEXT("state", tunnel_state_name(state));
    TEXT("reason", tunnel_reason_name(s->reason));
    TEXT("end", tunnel_end_name(s->end));
    if (s->error != TCNS_OK)
        TEXT("error", err_name(s->error));
    NUMBER("tx_bytes", (double)s->tx_bytes);
    NUMBER("rx_bytes", (double)s->rx_bytes);
    double lived_s = s->ended_s - s->started_s; /* the clock may have been set back */
    NUMBER("seconds", lived_s > 0 ? (double)(int64_t)(lived_s * 1e6) / 1e6 : 0);
    if (s->info.has_id) {
        sodium_bin2hex(id, sizeof(id), s->info.id, SESSION_ID_LEN);
        TEXT("session_id", id);
    }
#undef TEXT
#undef NUMBER
    log_event(LOG_LEVEL_INFO, "connection ended", fields, cnt);
}
