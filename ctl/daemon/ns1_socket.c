/* SPDX-License-Identifier: BSD-3-Clause
 * Methods for the owner of a socket: SetSocket, GetSocket, MarkAuthenticated, Forget.
 *
 * Who has a socket may hand it over with the call, and need not be anybody else. Who names a
 * connection by its tuple must be privileged, or the user who made its socket.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "ctl/conf/suites.h"
#include "ctl/daemon/ns1.h"
#include "ctl/daemon/ns1_params.h"
#include "ctl/daemon/wishes.h"
#include "tunnel/tunnel.h"

/* What the kernel shows of a user that our user namespace does not know: nobody in particular. */
#define OVERFLOW_UID 65534

static const struct {
    int err;
    const char *name;
} errors[] = {
    {-ENOENT, NS1_INTERFACE ".NoSession"},         {-ENODATA, NS1_INTERFACE ".NotEncrypted"},
    {-ENOTSOCK, NS1_INTERFACE ".NoSocket"},        {-ENOTCONN, NS1_INTERFACE ".NotConnected"},
    {-EISCONN, NS1_INTERFACE ".AlreadyConnected"}, {-ENOSPC, NS1_INTERFACE ".TooMany"},
    {-ENOMEM, NS1_INTERFACE ".OutOfMemory"},
};

static void answer(struct ctlserver_client *c, int err)
{
    const char *name = NS1_INTERFACE ".NotPossible";

    if (!err) {
        ctlserver_reply(c, NULL);
        return;
    }
    if (err == -EPERM) {
        ns1_permission_denied(c);
        return;
    }
    for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++)
        if (errors[i].err == err)
            name = errors[i].name;
    ctlserver_error(c, name, NULL);
}

/* --- SetSocket, GetSocket ----------------------------------------------------------- */

static bool is_given(const json_t *value)
{
    return value && !json_is_null(value);
}

static bool read_policy(const json_t *value, struct wish *w)
{
    const char *text = json_string_value(value);

    if (!text || policy_parse(text, &w->policy) < 0)
        return false;
    w->set |= WISH_POLICY;
    return true;
}

static bool read_app_aware(const json_t *value, struct wish *w)
{
    const char *text = json_string_value(value);
    bool mandatory = text && strcmp(text, "mandatory") == 0;
    bool on = text && strcmp(text, "on") == 0;

    if (!mandatory && !on && !(text && strcmp(text, "off") == 0))
        return false;
    w->app_aware = mandatory || on;
    w->mandatory_app_aware = mandatory;
    w->set |= WISH_APP_AWARE;
    return true;
}

static bool has_aead(const struct wish *w, uint16_t aead)
{
    for (size_t i = 0; i < w->aead_cnt; i++)
        if (w->aeads[i] == aead)
            return true;
    return false;
}

static bool read_aeads(const json_t *value, struct wish *w)
{
    struct session_config one;
    const json_t *name;
    const char *bad;
    size_t i, len;

    if (!json_is_array(value) || json_array_size(value) == 0)
        return false;
    w->aead_cnt = 0;
    json_array_foreach(value, i, name)
    {
        const char *text = json_string_value(name);

        if (!text || suites_parse_aeads(text, &one, &bad, &len) < 0 || one.aead_cnt != 1 ||
            has_aead(w, one.aeads[0]))
            return false;
        w->aeads[w->aead_cnt++] = one.aeads[0]; /* as many as there are, none twice */
    }
    w->set |= WISH_AEADS;
    return true;
}

static bool read_bool(const json_t *value, enum wish_bit bit, bool *field, bool is_reversed,
                      struct wish *w)
{
    if (!json_is_boolean(value))
        return false;
    *field = json_is_true(value) != is_reversed;
    w->set |= bit;
    return true;
}

/* What is given replaces what is in w. Return: NULL; the name of a wrong parameter. */
static const char *read_wish(const json_t *params, struct wish *w)
{
    const json_t *v;

    if (is_given(v = json_object_get(params, "policy")) && !read_policy(v, w))
        return "policy";
    if (is_given(v = json_object_get(params, "aeads")) && !read_aeads(v, w))
        return "aeads";
    if (is_given(v = json_object_get(params, "app_aware")) && !read_app_aware(v, w))
        return "app_aware";
    if (is_given(v = json_object_get(params, "resume")) &&
        !read_bool(v, WISH_RESUME, &w->no_resume, true, w))
        return "resume";
    if (is_given(v = json_object_get(params, "cache")) &&
        !read_bool(v, WISH_CACHE, &w->no_cache, true, w))
        return "cache";
    if (is_given(v = json_object_get(params, "passive_role")) &&
        !read_bool(v, WISH_PASSIVE_ROLE, &w->passive_role, false, w))
        return "passive_role";
    return NULL;
}

static void set_socket(struct ctlserver_client *c, const struct ns1 *n, const json_t *params,
                       int fd)
{
    const json_t *reset = json_object_get(params, "reset");
    struct wish w;

    int err = wishes_get(n->wishes, fd, &w);
    if (err) {
        answer(c, err);
        return;
    }
    if (json_is_true(reset))
        w = (struct wish){.set = 0};
    const char *wrong =
        is_given(reset) && !json_is_boolean(reset) ? "reset" : read_wish(params, &w);
    if (wrong)
        ns1_invalid_parameter(c, wrong);
    else
        answer(c, wishes_set(n->wishes, fd, ctlserver_uid(c), &w));
}

static json_t *wish_json(const struct wish *w)
{
    const struct session_config aware = {.app_aware = w->app_aware,
                                         .mandatory_app_aware = w->mandatory_app_aware};
    json_t *o = json_object(), *aeads;

    if (w->set & WISH_POLICY)
        json_object_set_new(o, "policy", json_string(policy_name(w->policy)));
    if (w->set & WISH_AEADS) {
        json_object_set_new(o, "aeads", aeads = json_array());
        for (size_t i = 0; i < w->aead_cnt; i++)
            json_array_append_new(aeads, json_string(suites_aead_name(w->aeads[i])));
    }
    if (w->set & WISH_APP_AWARE)
        json_object_set_new(o, "app_aware", json_string(suites_app_aware_name(&aware)));
    if (w->set & WISH_RESUME)
        json_object_set_new(o, "resume", json_boolean(!w->no_resume));
    if (w->set & WISH_CACHE)
        json_object_set_new(o, "cache", json_boolean(!w->no_cache));
    if (w->set & WISH_PASSIVE_ROLE)
        json_object_set_new(o, "passive_role", json_boolean(w->passive_role));
    return o;
}

static void get_socket(struct ctlserver_client *c, const struct ns1 *n, int fd)
{
    struct wish w;

    int err = wishes_get(n->wishes, fd, &w);
    if (err)
        answer(c, err);
    else
        ctlserver_reply(c, wish_json(&w));
}

/* --- MarkAuthenticated, Forget -------------------------------------------------------- */

static int check_owner(const struct ctlserver_client *c, const struct ns1 *n,
                       const struct tuple *tuple)
{
    uid_t owner;

    if (ctlserver_is_privileged(c))
        return 0;
    int err = wishes_owner_of(n->wishes, tuple, &owner);
    if (err)
        return err;
    return owner == ctlserver_uid(c) && owner != OVERFLOW_UID ? 0 : -EPERM;
}

typedef int (*change_fn)(struct tunnel *t, const struct tuple *tuple);

static void change(struct ctlserver_client *c, const struct ns1 *n, const json_t *params, int fd,
                   change_fn fn)
{
    struct tuple tuple;
    int err;

    if (fd >= 0) {
        err = wishes_tuple_of(n->wishes, fd, &tuple);
    } else {
        const char *wrong = ns1_params_tuple(params, &tuple);
        if (wrong) {
            ns1_invalid_parameter(c, wrong);
            return;
        }
        err = check_owner(c, n, &tuple);
    }
    answer(c, err ? err : fn(n->tunnel, &tuple));
}

/* --- Dispatch --------------------------------------------------------------------------- */

static void call_with(struct ctlserver_client *c, const char *name, const json_t *params,
                      const struct ns1 *n, int fd)
{
    if (strcmp(name, "MarkAuthenticated") == 0)
        change(c, n, params, fd, tunnel_mark_authenticated);
    else if (strcmp(name, "Forget") == 0)
        change(c, n, params, fd, tunnel_forget);
    else if (fd < 0)
        answer(c, -ENOTSOCK);
    else if (strcmp(name, "SetSocket") == 0)
        set_socket(c, n, params, fd);
    else
        get_socket(c, n, fd);
}

bool ns1_call_socket(struct ctlserver_client *c, const char *name, const json_t *params,
                     const struct ns1 *n)
{
    if (strcmp(name, "MarkAuthenticated") != 0 && strcmp(name, "Forget") != 0 &&
        strcmp(name, "SetSocket") != 0 && strcmp(name, "GetSocket") != 0)
        return false;
    if (!n->wishes) {
        ctlserver_error(c, NS1_INTERFACE ".NotPossible", NULL);
        return true;
    }
    int fd = ctlserver_take_fd(c);
    call_with(c, name, params, n, fd);
    if (fd >= 0)
        close(fd);
    return true;
}
