/* SPDX-License-Identifier: BSD-3-Clause
 * The methods of org.tcpcrypt.Ns1 and org.varlink.service.
 */
#include "ctl/daemon/ns1.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ctl/cli/attach.h"
#include "ctl/conf/suites.h"
#include "tunnel/tunnel.h"

#define SERVICE_INTERFACE "org.varlink.service"

/* Connections that become text in one call of a stream (the server makes up to eight in a
 * turn): bounds the time the data path waits. */
#define TURN_CNT 4

static const char ns1_description[] =
#include "ns1_description.inc"
    ;

static const char service_description[] =
    "# The interface every Varlink service has, see varlink.org\n"
    "interface org.varlink.service\n"
    "\n"
    "method GetInfo() -> (\n"
    "  vendor: string,\n"
    "  product: string,\n"
    "  version: string,\n"
    "  url: string,\n"
    "  interfaces: []string\n"
    ")\n"
    "\n"
    "method GetInterfaceDescription(interface: string) -> (description: string)\n"
    "\n"
    "error InterfaceNotFound (interface: string)\n"
    "error MethodNotFound (method: string)\n"
    "error MethodNotImplemented (method: string)\n"
    "error InvalidParameter (parameter: string)\n"
    "error PermissionDenied ()\n"
    "error ExpectedMore ()\n";

static void set_text(json_t *object, const char *key, const char *value)
{
    json_object_set_new(object, key, json_string(value));
}

static void set_number(json_t *object, const char *key, uint64_t value)
{
    json_object_set_new(object, key, json_integer((json_int_t)value));
}

void ns1_invalid_parameter(struct ctlserver_client *c, const char *name)
{
    ctlserver_error(c, SERVICE_INTERFACE ".InvalidParameter",
                    json_pack("{s:s}", "parameter", name));
}

void ns1_permission_denied(struct ctlserver_client *c)
{
    ctlserver_error(c, SERVICE_INTERFACE ".PermissionDenied", NULL);
}

/* --- org.varlink.service ---------------------------------------------------- */

static void get_info(struct ctlserver_client *c)
{
    json_t *o = json_object();

    set_text(o, "vendor", "tcpcrypt-ns");
    set_text(o, "product", "tcpcrypt-ns");
    set_text(o, "version", TCNS_VERSION);
    set_text(o, "url", "https://www.rfc-editor.org/rfc/rfc8548");
    json_object_set_new(o, "interfaces", json_pack("[s, s]", SERVICE_INTERFACE, NS1_INTERFACE));
    ctlserver_reply(c, o);
}

static void get_description(struct ctlserver_client *c, const json_t *params)
{
    const char *name = json_string_value(json_object_get(params, "interface"));

    if (!name)
        ns1_invalid_parameter(c, "interface");
    else if (strcmp(name, NS1_INTERFACE) == 0)
        ctlserver_reply(c, json_pack("{s:s}", "description", ns1_description));
    else if (strcmp(name, SERVICE_INTERFACE) == 0)
        ctlserver_reply(c, json_pack("{s:s}", "description", service_description));
    else
        ctlserver_error(c, SERVICE_INTERFACE ".InterfaceNotFound",
                        json_pack("{s:s}", "interface", name));
}

/* --- ListSessions ----------------------------------------------------------- */

static json_t *hex(const uint8_t *bytes, size_t len)
{
    char text[2 * SESSION_ID_LEN + 1];

    for (size_t i = 0; i < len; i++) {
        text[2 * i] = "0123456789abcdef"[bytes[i] >> 4];
        text[2 * i + 1] = "0123456789abcdef"[bytes[i] & 15];
    }
    return json_stringn(text, 2 * len);
}

static void add_crypto(json_t *o, const struct session_info *info)
{
    set_text(o, "role", info->role == SESSION_ROLE_A ? "a" : "b");
    set_text(o, "tep", session_tep_name(info->tep));
    set_text(o, "aead", session_aead_name(info->aead));
    json_object_set_new(o, "session_id", hex(info->id, SESSION_ID_LEN));
    set_number(o, "tx_generation", info->tx_generation);
    set_number(o, "rx_generation", info->rx_generation);
    json_object_set_new(o, "peer_app_aware", json_boolean(info->peer_app_aware));
}

/* How it ended, when it has. */
static void add_end(json_t *o, const struct tunnel_session *s)
{
    set_text(o, "end", tunnel_end_name(s->end));
    if (s->error != TCNS_OK)
        set_text(o, "error", err_name(s->error));
    if (s->ended_s > 0)
        json_object_set_new(o, "ended", json_real(s->ended_s));
}

json_t *ns1_session_json(const struct tunnel_session *s)
{
    char addr[ADDR_STR_LEN];
    json_t *o = json_object();

    set_text(o, "local", addr_str(&s->tuple.local, addr));
    set_number(o, "local_port", s->tuple.local_port);
    set_text(o, "peer", addr_str(&s->tuple.peer, addr));
    set_number(o, "peer_port", s->tuple.peer_port);
    set_text(o, "dir", s->inbound ? "in" : "out");
    set_text(o, "state", tunnel_state_name(s->state));
    set_text(o, "reason", tunnel_reason_name(s->reason));
    set_number(o, "rule", s->rule);
    if (s->rule_name[0])
        set_text(o, "rule_name", s->rule_name);
    if (s->info.has_id) {
        add_crypto(o, &s->info);
        json_object_set_new(o, "app_aware", json_boolean(s->app_aware));
        json_object_set_new(o, "authenticated", json_boolean(s->authenticated));
    }
    set_number(o, "tx_bytes", s->tx_bytes);
    set_number(o, "rx_bytes", s->rx_bytes);
    set_number(o, "tx_pending", s->tx_pending);
    json_object_set_new(o, "started", json_real(s->started_s));
    add_end(o, s);
    return o;
}

/* Each session becomes text where it lies: no memory grows with their number. */
struct listing {
    struct tunnel *tunnel;
    struct tunnel_cursor cursor;
    struct ctlserver_client *client;
    unsigned cnt; /* in this call */
};

static bool send_session(const struct tunnel_session *s, void *arg)
{
    struct listing *l = arg;

    ctlserver_continue(l->client, json_pack("{s:o}", "session", ns1_session_json(s)));
    return ++l->cnt < TURN_CNT;
}

static bool produce_sessions(struct ctlserver_client *c, void *state)
{
    struct listing *l = state;

    l->client = c;
    l->cnt = 0;
    if (tunnel_list_from(l->tunnel, &l->cursor, send_session, l))
        return true;
    ctlserver_reply(c, NULL);
    return false;
}

/* The history moves on between two calls of a stream; so it is copied. */
struct history_copy {
    size_t cnt, next;
    struct tunnel_session sessions[TUNNEL_ENDED_MAX_CNT];
};

static bool copy_session(const struct tunnel_session *s, void *arg)
{
    struct history_copy *h = arg;

    h->sessions[h->cnt++] = *s;
    return h->cnt < TUNNEL_ENDED_MAX_CNT;
}

static bool produce_ended(struct ctlserver_client *c, void *state)
{
    struct history_copy *h = state;

    for (int i = 0; i < TURN_CNT && h->next < h->cnt; i++, h->next++)
        ctlserver_continue(c,
                           json_pack("{s:o}", "session", ns1_session_json(&h->sessions[h->next])));
    if (h->next < h->cnt)
        return true;
    ctlserver_reply(c, NULL);
    return false;
}

static bool list_live(struct ctlserver_client *c, struct tunnel *tunnel)
{
    struct listing *l = calloc(1, sizeof(*l));

    if (!l)
        return false;
    l->tunnel = tunnel;
    ctlserver_stream(c, produce_sessions, l, free);
    return true;
}

static bool list_ended(struct ctlserver_client *c, struct tunnel *tunnel)
{
    struct history_copy *h = calloc(1, sizeof(*h));

    if (!h)
        return false;
    tunnel_list_ended(tunnel, copy_session, h);
    ctlserver_stream(c, produce_ended, h, free);
    return true;
}

static void list_sessions(struct ctlserver_client *c, const struct ns1 *n, const json_t *params,
                          bool more)
{
    const json_t *ended = json_object_get(params, "ended");

    if (!more)
        ctlserver_error(c, SERVICE_INTERFACE ".ExpectedMore", NULL);
    else if (ended && !json_is_boolean(ended) && !json_is_null(ended))
        ns1_invalid_parameter(c, "ended");
    else if (!(json_is_true(ended) ? list_ended(c, n->tunnel) : list_live(c, n->tunnel)))
        ctlserver_error(c, NS1_INTERFACE ".OutOfMemory", NULL);
}

/* --- GetStatus -------------------------------------------------------------- */

static const enum tcns_err all_errors[] = {
#define X(name, class, num, text) TCNS_ERR_##name,
    TCNS_ERR_LIST(X)
#undef X
};

static json_t *counters_json(const struct tunnel_counters *counters)
{
    json_t *o = json_object();

#define X(name) set_number(o, #name, counters->name);
    TUNNEL_COUNTER_LIST(X)
#undef X
    return o;
}

/* Only those that have happened: there are many, and seldom one. */
static json_t *errors_json(const struct tunnel *tunnel)
{
    json_t *o = json_object();

    for (size_t i = 0; i < sizeof(all_errors) / sizeof(all_errors[0]); i++)
        if (tunnel_error_cnt(tunnel, all_errors[i]) > 0)
            set_number(o, err_name(all_errors[i]), tunnel_error_cnt(tunnel, all_errors[i]));
    return o;
}

static json_t *teps_json(const struct session_config *cfg)
{
    json_t *a = json_array();

    for (size_t i = 0; i < cfg->tep_cnt; i++)
        json_array_append_new(a, json_string(suites_tep_name(cfg->teps[i])));
    return a;
}

static json_t *aeads_json(const struct session_config *cfg)
{
    json_t *a = json_array();

    for (size_t i = 0; i < cfg->aead_cnt; i++)
        json_array_append_new(a, json_string(suites_aead_name(cfg->aeads[i])));
    return a;
}

static void add_options(json_t *o, const struct daemon_options *opts)
{
    const struct session_config *cfg = &opts->session;
    char bypass[BYPASS_STR_LEN];

    set_text(o, "policy", policy_name(opts->policy));
    set_text(o, "bypass", bypass_str(&opts->bypass, bypass));
    set_text(o, "require_udp", udp_action_name(opts->udp.action));
    json_object_set_new(o, "teps", teps_json(cfg));
    json_object_set_new(o, "aeads", aeads_json(cfg));
    json_object_set_new(o, "resume", json_boolean(!cfg->no_resume));
    set_number(o, "keepalive", opts->keepalive_s);
    set_number(o, "rekey_bytes", cfg->rekey_bytes);
    set_text(o, "app_aware", suites_app_aware_name(cfg));
    set_number(o, "fallback_time", opts->fallback_s);
    set_number(o, "key_timeout", opts->key_timeout_s);
    if (opts->keylog_fd > 0)
        set_text(o, "keylog", opts->keylog_path);
}

static json_t *links_json(const struct links *l)
{
    json_t *a = json_array();

    for (size_t i = 0; i < l->cnt; i++)
        if (l->entries[i].ifindex > 0)
            json_array_append_new(a, json_string(l->entries[i].name));
    return a;
}

static void get_status(struct ctlserver_client *c, const struct ns1 *n)
{
    json_t *o = json_object();

    set_number(o, "pid", (uint64_t)n->supervisor);
    set_number(o, "worker_pid", (uint64_t)getpid());
    set_number(o, "netns", n->netns_inode);
    json_object_set_new(o, "uplinks", links_json(&n->links->uplinks));
    json_object_set_new(o, "native", links_json(&n->links->native));
    json_object_set_new(o, "programs", json_boolean(n->links->hooked));
    add_options(o, n->opts);
    set_number(o, "worker_restarts", n->restarts);
    json_object_set_new(o, "started", json_real(n->started_s));
    set_text(o, "version", TCNS_VERSION);
    json_object_set_new(o, "counters", counters_json(tunnel_counters(n->tunnel)));
    json_object_set_new(o, "errors", errors_json(n->tunnel));
    ctlserver_reply(c, o);
}

/* --- The caches ------------------------------------------------------------- */

static void add_fallback(const struct addr *peer, unsigned left_s, void *arg)
{
    char addr[ADDR_STR_LEN];

    json_array_append_new(
        arg, json_pack("{s:s, s:i}", "peer", addr_str(peer, addr), "left", (int)left_s));
}

static void get_cache(struct ctlserver_client *c, const struct ns1 *n)
{
    json_t *o = json_object(), *fallback = json_array();

    set_number(o, "resume", tunnel_resume_cnt(n->tunnel));
    tunnel_list_fallback(n->tunnel, add_fallback, fallback);
    json_object_set_new(o, "fallback", fallback);
    ctlserver_reply(c, o);
}

static void flush_cache(struct ctlserver_client *c, const struct ns1 *n)
{
    if (!ctlserver_is_privileged(c)) {
        ns1_permission_denied(c);
        return;
    }
    tunnel_flush(n->tunnel);
    ns1_watch_daemon(n->watch, "what was remembered of peers is forgotten");
    ctlserver_reply(c, NULL);
}

/* --- Down ------------------------------------------------------------------- */

static void down(struct ctlserver_client *c, const struct ns1 *n)
{
    if (!ctlserver_is_privileged(c)) {
        ns1_permission_denied(c);
        return;
    }
    ns1_watch_daemon(n->watch, "told to detach");
    /* The supervisor answers when everything is taken away, and we are gone. */
    n->on_down(n->arg, ctlserver_park(c));
}

/* --- Dispatch --------------------------------------------------------------- */

/* Return: what follows "interface."; NULL when method is of another interface. */
static const char *method_of(const char *method, const char *interface)
{
    size_t len = strlen(interface);

    return strncmp(method, interface, len) == 0 && method[len] == '.' ? method + len + 1 : NULL;
}

static bool call_service(struct ctlserver_client *c, const char *name, const json_t *params)
{
    if (strcmp(name, "GetInfo") == 0)
        get_info(c);
    else if (strcmp(name, "GetInterfaceDescription") == 0)
        get_description(c, params);
    else
        return false;
    return true;
}

static bool call_ns1(struct ctlserver_client *c, const char *name, const json_t *params, bool more,
                     const struct ns1 *n)
{
    if (strcmp(name, "ListSessions") == 0)
        list_sessions(c, n, params, more);
    else if (strcmp(name, "GetSession") == 0)
        ns1_get_session(c, n, params);
    else if (strcmp(name, "Watch") == 0)
        ns1_watch(c, n->watch, more);
    else if (strcmp(name, "GetStatus") == 0)
        get_status(c, n);
    else if (strcmp(name, "Capture") == 0)
        ns1_capture(c, n, params);
    else if (strcmp(name, "GetMetrics") == 0)
        ns1_get_metrics(c, n);
    else if (strcmp(name, "GetCache") == 0)
        get_cache(c, n);
    else if (strcmp(name, "FlushCache") == 0)
        flush_cache(c, n);
    else if (strcmp(name, "Down") == 0)
        down(c, n);
    else if (strcmp(name, "Drain") == 0)
        ns1_drain(c, n, params, more);
    else
        return ns1_call_socket(c, name, params, n) || ns1_call_policy(c, name, params, n);
    return true;
}

void ns1_call(struct ctlserver_client *c, const char *method, const json_t *params, bool more,
              void *arg)
{
    const char *service = method_of(method, SERVICE_INTERFACE);
    const char *own = method_of(method, NS1_INTERFACE);

    if ((service && call_service(c, service, params)) ||
        (own && call_ns1(c, own, params, more, arg)))
        return;
    if (service || own) {
        ctlserver_error(c, SERVICE_INTERFACE ".MethodNotFound",
                        json_pack("{s:s}", "method", method));
        return;
    }
    const char *dot = strrchr(method, '.');
    size_t len = dot ? (size_t)(dot - method) : strlen(method);
    ctlserver_error(c, SERVICE_INTERFACE ".InterfaceNotFound",
                    json_pack("{s:s%}", "interface", method, len));
}
