/* SPDX-License-Identifier: BSD-3-Clause
 * The daemon's numbers in Prometheus' text form.
 */
#include "ctl/daemon/metrics.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Not "tcpcrypt_ns_": that would read as nanoseconds, and promtool complains. */
#define PREFIX "tcpcrypt_"

const enum tcns_err metrics_errors[] = {
#define X(name, class, num, text) TCNS_ERR_##name,
    TCNS_ERR_LIST(X)
#undef X
};
const size_t metrics_error_cnt = sizeof(metrics_errors) / sizeof(metrics_errors[0]);
_Static_assert(sizeof(metrics_errors) / sizeof(metrics_errors[0]) <= METRICS_ERROR_MAX_CNT,
               "struct metrics has room for every error");

void metrics_add_connection(struct metrics *m, const struct tunnel_session *s)
{
    m->connections[s->state][s->reason]++;
}

/* --- Lines -------------------------------------------------------------------- */

static void family(FILE *out, const char *name, const char *type, const char *help)
{
    fprintf(out, "# HELP " PREFIX "%s %s\n# TYPE " PREFIX "%s %s\n", name, help, name, type);
}

static void plain(FILE *out, const char *name, uint64_t value)
{
    fprintf(out, PREFIX "%s %" PRIu64 "\n", name, value);
}

static void labelled(FILE *out, const char *name, const char *label, const char *text,
                     uint64_t value)
{
    fprintf(out, PREFIX "%s{%s=\"%s\"} %" PRIu64 "\n", name, label, text, value);
}

static void counter(FILE *out, const char *name, const char *help, uint64_t value)
{
    family(out, name, "counter", help);
    plain(out, name, value);
}

static void gauge(FILE *out, const char *name, const char *help, uint64_t value)
{
    family(out, name, "gauge", help);
    plain(out, name, value);
}

/* label: "" or "kind=\"full\"," */
static void histogram(FILE *out, const char *name, const char *label, const struct histogram *h)
{
    int label_len = (int)strcspn(label, ",");
    uint64_t cnt = 0;

    for (int i = 0; i < HISTOGRAM_BOUND_CNT; i++) {
        cnt += h->counts[i];
        fprintf(out, PREFIX "%s_bucket{%sle=\"%g\"} %" PRIu64 "\n", name, label,
                histogram_bounds_us[i] / 1e6, cnt);
    }
    cnt += h->counts[HISTOGRAM_BOUND_CNT];
    fprintf(out, PREFIX "%s_bucket{%sle=\"+Inf\"} %" PRIu64 "\n", name, label, cnt);
    const char *open = label_len ? "{" : "", *close = label_len ? "}" : "";
    fprintf(out, PREFIX "%s_sum%s%.*s%s %.6f\n", name, open, label_len, label, close,
            (double)h->sum_us / 1e6);
    fprintf(out, PREFIX "%s_count%s%.*s%s %" PRIu64 "\n", name, open, label_len, label, close, cnt);
}

/* --- Subjects ----------------------------------------------------------------- */

static void put_daemon(FILE *out, const struct metrics *m)
{
    family(out, "build_info", "gauge", "The program's version and the policy, in labels.");
    fprintf(out, PREFIX "build_info{version=\"%s\",policy=\"%s\"} 1\n", m->version, m->policy);
    family(out, "start_time_seconds", "gauge", "When the daemon was started, since the epoch.");
    fprintf(out, PREFIX "start_time_seconds %.3f\n", m->started_s);
    counter(out, "worker_restarts_total",
            "Workers that ended and were replaced; all other counters start over with each.",
            m->worker_restarts);
}

static void put_connections(FILE *out, const struct metrics *m)
{
    const struct tunnel_metrics *t = &m->tunnel;

    family(out, "connections", "gauge", "Connections that live, by state and the reason for it.");
    for (int s = 0; s < TUNNEL_STATE_CNT; s++)
        for (int r = 0; r < TUNNEL_REASON_CNT; r++)
            if (m->connections[s][r] > 0)
                fprintf(out, PREFIX "connections{state=\"%s\",reason=\"%s\"} %" PRIu64 "\n",
                        tunnel_state_name((enum tunnel_state)s),
                        tunnel_reason_name((enum tunnel_reason)r), m->connections[s][r]);
    counter(out, "connections_opened_total", "SYNs that began a connection.",
            m->counters->flows_opened);
    family(out, "connections_settled_total", "counter",
           "Connections that became encrypted or clear, by reason.");
    for (int r = 0; r < TUNNEL_REASON_CNT; r++)
        labelled(out, "connections_settled_total", "reason",
                 tunnel_reason_name((enum tunnel_reason)r), t->settled[r]);
    counter(out, "connections_refused_total",
            "Connections that policy require refused because they would have been clear.",
            m->counters->flows_refused);
    family(out, "connections_ended_total", "counter", "Connections that ended, by how.");
    for (int e = TUNNEL_END_LIVE + 1; e < TUNNEL_END_CNT; e++)
        labelled(out, "connections_ended_total", "end", tunnel_end_name((enum tunnel_end)e),
                 t->ended[e]);
    family(out, "connection_errors_total", "counter",
           "Connections that were reset because of an error, by its name.");
    for (size_t i = 0; i < metrics_error_cnt; i++)
        if (err_class(metrics_errors[i]) > ERR_CLASS_WAIT)
            labelled(out, "connection_errors_total", "error", err_name(metrics_errors[i]),
                     m->errors[i]);
}

static void put_protocol(FILE *out, const struct metrics *m)
{
    const struct tunnel_metrics *t = &m->tunnel;
    uint64_t failures = 0;

    family(out, "handshake_duration_seconds", "histogram",
           "From the first SYN to agreed keys: by a key exchange, or resumed.");
    histogram(out, "handshake_duration_seconds", "kind=\"full\",", &t->full);
    histogram(out, "handshake_duration_seconds", "kind=\"resumed\",", &t->resumed);
    counter(out, "resumptions_total", "Connections that began with keys from an earlier one.",
            m->counters->flows_resumed);
    family(out, "rekeys_total", "counter", "New keys within a connection (RFC 8548 3.8).");
    labelled(out, "rekeys_total", "direction", "sent", t->session.rekeys_sent);
    labelled(out, "rekeys_total", "direction", "received", t->session.rekeys_received);
    family(out, "frames_total", "counter", "Encryption frames.");
    labelled(out, "frames_total", "direction", "sent", t->session.frames_sealed);
    labelled(out, "frames_total", "direction", "received", t->session.frames_opened);
    for (size_t i = 0; i < metrics_error_cnt; i++)
        if (metrics_errors[i] == TCNS_ERR_FRAME_AUTH)
            failures = m->errors[i];
    counter(out, "aead_failures_total",
            "Frames that failed authentication; each ended its connection.", failures);
}

static void put_traffic(FILE *out, const struct metrics *m)
{
    static const struct {
        const char *text;
        size_t offset;
    } drops[] = {
#define DROP(name, text) {text, offsetof(struct tunnel_counters, name)}
        DROP(drop_truncated, "truncated"),
        DROP(drop_malformed, "malformed"),
        DROP(drop_checksum, "checksum"),
        DROP(drop_fragment, "fragment"),
        DROP(drop_not_ours, "not-ours"),
        DROP(drop_no_route, "no-route"),
        DROP(drop_tx, "tx"),
        DROP(drop_memory, "memory"),
#undef DROP
    };
    const struct tunnel_counters *c = m->counters;
    const struct tunnel_metrics *t = &m->tunnel;
    const char *name = "application_bytes_total";

    family(out, name, "counter", "Bytes of applications, to peers and from them.");
#define BYTES(array, direction, side)                                                              \
    fprintf(out, PREFIX "%s{direction=\"" direction "\",protection=\"%s\"} %" PRIu64 "\n", name,   \
            #array, t->array##_bytes[side])
    BYTES(encrypted, "sent", SIDE_INNER);
    BYTES(encrypted, "received", SIDE_OUTER);
    BYTES(clear, "sent", SIDE_INNER);
    BYTES(clear, "received", SIDE_OUTER);
#undef BYTES
    name = "packets_total";
    family(out, name, "counter",
           "Packets at the TUN device and the uplink; large ones count once.");
#define PACKETS(device, direction, field)                                                          \
    fprintf(out, PREFIX "%s{device=\"" device "\",direction=\"" direction "\"} %" PRIu64 "\n",     \
            name, c->field)
    PACKETS("tun", "received", tun_rx_packets);
    PACKETS("tun", "sent", tun_tx_packets);
    PACKETS("uplink", "received", uplink_rx_packets);
    PACKETS("uplink", "sent", uplink_tx_packets);
#undef PACKETS
    family(out, "drops_total", "counter", "Packets that were dropped, by cause.");
    for (size_t i = 0; i < sizeof(drops) / sizeof(drops[0]); i++)
        labelled(out, "drops_total", "cause", drops[i].text,
                 *(const uint64_t *)(const void *)((const char *)c + drops[i].offset));
    counter(out, "unknown_segments_total", "Segments without a connection, answered with a RST.",
            c->rst_unknown);
    family(out, "retransmitted_segments_total", "counter",
           "Segments sent again, to the application (inner) and the peer (outer).");
    labelled(out, "retransmitted_segments_total", "side", "inner", t->retransmits[SIDE_INNER]);
    labelled(out, "retransmitted_segments_total", "side", "outer", t->retransmits[SIDE_OUTER]);
}

static void put_levels(FILE *out, const struct metrics *m)
{
    const struct tunnel_levels *l = &m->levels;

    gauge(out, "flows", "Connections in the table, without those older than the daemon.",
          l->flow_cnt);
    gauge(out, "flows_limit", "The most there may be.", l->flow_max_cnt);
    gauge(out, "flows_opening", "Of these, those whose far end has not answered yet.",
          l->opening_cnt);
    gauge(out, "older_connections", "Connections older than the daemon, passed on untouched.",
          l->older_cnt);
    gauge(out, "buffer_bytes", "Bytes in buffers.", l->buffer_len);
    gauge(out, "buffer_limit_bytes",
          "What they may hold; near it data of those connections that hold most is dropped.",
          l->buffer_max_len);
    gauge(out, "resumption_peers", "Peers whose next connection may resume.", l->resume_cnt);
    gauge(out, "fallback_peers", "Peers that get no ENO option for a while.", l->fallback_cnt);
    family(out, "loop_lag_seconds", "histogram",
           "Turns of the event loop: so long a packet may have waited.");
    histogram(out, "loop_lag_seconds", "", &m->tunnel.lag);
    family(out, "loop_lag_max_seconds", "gauge", "The longest of them.");
    fprintf(out, PREFIX "loop_lag_max_seconds %.6f\n", (double)m->tunnel.lag.max_us / 1e6);
}

char *metrics_text(const struct metrics *m)
{
    char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);

    if (!out)
        return NULL;
    put_daemon(out, m);
    put_connections(out, m);
    put_protocol(out, m);
    put_traffic(out, m);
    put_levels(out, m);
    bool failed = ferror(out);
    if (fclose(out) != 0 || failed) {
        free(text);
        return NULL;
    }
    return text;
}
