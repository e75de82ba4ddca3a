/* SPDX-License-Identifier: BSD-3-Clause
 * What the test server tells its visitor.
 */
#include "ctl/http/visit.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "ctl/http/template.h"

#define ID_GROUP_LEN 6 /* hexadecimal digits that are read out together */

static const char page[] =
#include "page.inc"
    ;

static const struct {
    const char *reason;
    const char *why;
    const char *advice; /* NULL: none */
} words[] = {
    {"full",
     "tcpcrypt encrypts it between your machine and this one, with keys that were made for it.",
     NULL},
    {"resumed",
     "tcpcrypt encrypts it between your machine and this one, with keys that follow from those of "
     "an earlier connection.",
     NULL},
    {"off", "Encryption is switched off at this end.",
     "On the server: tcpcrypt-ns up --policy prefer."},
    {"peer-no-eno",
     "The first packet from your end asked for no encryption, as it arrived here: either nothing "
     "at your end speaks tcpcrypt, or something on the way removed the TCP option.",
     "At your end: tcpcrypt-ns exec -- BROWSER, or tcpcrypt-ns up. If that runs already, "
     "tcpcrypt-ns check --peer looks for what removes the option on the way to here."},
    {"peer-ill-formed",
     "The TCP-ENO option from your end was ill-formed when it arrived: something on the way "
     "damages it, or the program at your end has a fault.",
     "tcpcrypt-ns check --peer, at your end, looks at the way to here."},
    {"peer-vacuous", "Your end speaks TCP-ENO but offered no key exchange.", NULL},
    {"no-common-tep", "Both ends speak TCP-ENO, but there is no key exchange that both have.",
     "Let one end offer more: tcpcrypt-ns up without --tep."},
    {"role-conflict", "Both ends claimed the same role.", NULL},
    {"not-app-aware",
     "This end encrypts only with applications that know of it, and the one at your end does not.",
     NULL},
    {"eno-stripped",
     "Your end asked for encryption and this end agreed, but your next packet did not confirm it: "
     "most likely something on the way back, from here to you, removed the TCP option.",
     "tcpcrypt-ns check --peer, at your end, looks for it."},
    {"rule-off", "A rule of the policy at this end says so.", "On the server: look at its rules."},
    {"socket-off", "The server's own program wants it so.", NULL},
    {"older", "It existed before tcpcrypt-ns was attached here.", "Reload the page."},
    {"draining", "tcpcrypt-ns is about to detach from the network namespace of this server.", NULL},
    {VISIT_NO_DAEMON, "tcpcrypt-ns is not attached to the network namespace of this server.",
     "On the server: tcpcrypt-ns up --netns self."},
    {VISIT_NOT_CARRIED,
     "It does not go through tcpcrypt-ns here: it comes from this machine itself, or its port is "
     "one of those that are left to the kernel.",
     "Visit from another machine, or choose another port."},
    {VISIT_SILENT, "tcpcrypt-ns is attached here, but does not answer.",
     "On the server: tcpcrypt-ns check."},
};

/* --- The connection --------------------------------------------------------- */

static int read_end(const struct sockaddr_storage *ss, struct addr *ret, uint16_t *ret_port)
{
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;

    memcpy(&v4, ss, sizeof(v4));
    memcpy(&v6, ss, sizeof(v6));
    if (ss->ss_family == AF_INET) {
        *ret = addr_from_v4(&v4.sin_addr);
        *ret_port = ntohs(v4.sin_port);
        return 0;
    }
    if (ss->ss_family != AF_INET6)
        return -EAFNOSUPPORT;
    *ret = addr_from_v6(&v6.sin6_addr);
    *ret_port = ntohs(v6.sin6_port);
    return 0;
}

int visit_tuple(int fd, struct tuple *ret)
{
    struct sockaddr_storage local, peer;
    socklen_t local_len = sizeof(local), peer_len = sizeof(peer);
    struct tuple t;

    if (getsockname(fd, (struct sockaddr *)&local, &local_len) < 0 ||
        getpeername(fd, (struct sockaddr *)&peer, &peer_len) < 0)
        return -errno;
    int err = read_end(&local, &t.local, &t.local_port);
    if (!err)
        err = read_end(&peer, &t.peer, &t.peer_port);
    if (!err)
        *ret = t;
    return err;
}

/* --- JSON ------------------------------------------------------------------- */

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));

    return text ? text : "";
}

static void copy_text(json_t *to, const json_t *from, const char *key)
{
    json_t *value = json_object_get(from, key);

    if (json_is_string(value))
        json_object_set(to, key, value);
}

static const char *state_of(const json_t *session, const char *reason)
{
    if (session)
        return strcmp(text_of(session, "state"), "encrypted") == 0 ? "encrypted" : "clear";
    return strcmp(reason, VISIT_SILENT) == 0 ? "unknown" : "clear";
}

json_t *visit_json(const struct tuple *tuple, const json_t *session, const char *reason)
{
    char local[ADDR_STR_LEN], peer[ADDR_STR_LEN];
    const char *state = state_of(session, reason);
    static const char *const of_session[] = {"role", "tep", "aead", "session_id"};

    json_t *v = json_pack("{s:i, s:s, s:s, s:s, s:i, s:s, s:i}", "version", 1, "state", state,
                          "reason", session ? text_of(session, "reason") : reason, "local",
                          addr_str(&tuple->local, local), "local_port", tuple->local_port, "peer",
                          addr_str(&tuple->peer, peer), "peer_port", tuple->peer_port);
    if (!v || strcmp(state, "encrypted") != 0)
        return v;
    for (size_t i = 0; i < sizeof(of_session) / sizeof(of_session[0]); i++)
        copy_text(v, session, of_session[i]);
    return v;
}

/* --- Page ------------------------------------------------------------------- */

static void set_end(json_t *values, const char *key, const json_t *visit, const char *addr_key,
                    const char *port_key)
{
    const char *addr = text_of(visit, addr_key);
    int port = (int)json_integer_value(json_object_get(visit, port_key));

    json_object_set_new(values, key,
                        json_sprintf(strchr(addr, ':') ? "[%s]:%d" : "%s:%d", addr, port));
}

/* Without the prefix that all names of a kind have. */
static void set_name(json_t *values, const json_t *visit, const char *key, const char *prefix)
{
    const char *name = text_of(visit, key);
    size_t len = strlen(prefix);

    json_object_set_new(values, key,
                        json_string(strncmp(name, prefix, len) == 0 ? name + len : name));
}

static void set_words(json_t *values, const char *reason)
{
    const char *why = "The reason is given below.", *advice = NULL;

    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
        if (strcmp(words[i].reason, reason) == 0) {
            why = words[i].why;
            advice = words[i].advice;
        }
    json_object_set_new(values, "why", json_string(why));
    if (advice)
        json_object_set_new(values, "advice", json_string(advice));
}

/* In groups, as one reads it to somebody. Only digits get into the HTML. */
static void set_id(json_t *values, const char *id)
{
    char html[1024] = "";
    size_t len = 0;

    if (id[strspn(id, "0123456789abcdef")] != '\0')
        return;
    for (; *id && len < sizeof(html) - 32; id += strnlen(id, ID_GROUP_LEN))
        len += (size_t)snprintf(html + len, sizeof(html) - len, "<li>%.*s</li>", ID_GROUP_LEN, id);
    json_object_set_new(values, "id_list", json_pack("[s]", html));
}

static const char *headline_of(const char *state)
{
    if (strcmp(state, "encrypted") == 0)
        return "This connection arrived encrypted";
    if (strcmp(state, "clear") == 0)
        return "This connection arrived in clear";
    return "It cannot be told how this connection arrived";
}

static json_t *values_of(const json_t *visit)
{
    static const char *const same[] = {"state", "reason", "role", "session_id"};
    json_t *v = json_object();

    if (!v)
        return NULL;
    for (size_t i = 0; i < sizeof(same) / sizeof(same[0]); i++)
        copy_text(v, visit, same[i]);
    json_object_set_new(v, "headline", json_string(headline_of(text_of(visit, "state"))));
    json_object_set_new(v, "version", json_string(TCNS_VERSION));
    set_name(v, visit, "tep", "TCPCRYPT_ECDHE_");
    set_name(v, visit, "aead", "AEAD_");
    set_end(v, "local", visit, "local", "local_port");
    set_end(v, "peer", visit, "peer", "peer_port");
    set_words(v, text_of(visit, "reason"));
    set_id(v, text_of(visit, "session_id"));
    json_object_set_new(
        v, "command",
        json_sprintf("tcpcrypt-ns sessions --ended --peer %s --port %d", text_of(visit, "local"),
                     (int)json_integer_value(json_object_get(visit, "local_port"))));
    return v;
}

char *visit_page(const json_t *visit, size_t *ret_len)
{
    json_t *values = values_of(visit);
    char *text = values ? template_fill(page, values, ret_len) : NULL;

    json_decref(values);
    return text;
}
