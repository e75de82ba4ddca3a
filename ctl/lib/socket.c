/* SPDX-License-Identifier: BSD-3-Clause
 * libtcpcrypt: settings of a socket, and what the application decides of a connection.
 */
#include "ctl/lib/lib.h"

int lib_set(int fd, const char *name, json_t *value)
{
    int err = lib_check_socket(fd);
    json_t *params = json_object();

    if (!err && json_object_set_new(params, name, json_incref(value)) < 0)
        err = -ENOMEM;
    json_decref(value);
    if (err) {
        json_decref(params);
        return err;
    }
    return lib_tell(TCNS_CTL_INTERFACE ".SetSocket", params, fd);
}

static int set_name(int fd, const char *name, const char *const *names, int cnt, int value)
{
    return value < 0 || value >= cnt ? -EINVAL : lib_set(fd, name, json_string(names[value]));
}

PUBLIC int tcpcrypt_set_policy(int fd, int policy)
{
    static const char *const names[] = {
        [TCPCRYPT_PREFER] = "prefer",
        [TCPCRYPT_REQUIRE] = "require",
        [TCPCRYPT_OFF] = "off",
    };
    int saved = errno;

    return finish(set_name(fd, "policy", names, 3, policy), saved);
}

PUBLIC int tcpcrypt_set_app_aware(int fd, int app_aware)
{
    static const char *const names[] = {
        [TCPCRYPT_APP_AWARE_OFF] = "off",
        [TCPCRYPT_APP_AWARE_ON] = "on",
        [TCPCRYPT_APP_AWARE_MANDATORY] = "mandatory",
    };
    int saved = errno;

    return finish(set_name(fd, "app_aware", names, 3, app_aware), saved);
}

static const char *aead_name(int aead)
{
    switch (aead) {
    case TCPCRYPT_AES_128_GCM:
        return "AES-128-GCM";
    case TCPCRYPT_AES_256_GCM:
        return "AES-256-GCM";
    case TCPCRYPT_CHACHA20_POLY1305:
        return "ChaCha20-Poly1305";
    default:
        return NULL;
    }
}

static int set_aeads(int fd, const int *aeads, size_t cnt)
{
    json_t *list;

    if (!aeads || cnt == 0)
        return -EINVAL;
    for (size_t i = 0; i < cnt; i++)
        if (!aead_name(aeads[i]))
            return -EINVAL;
    list = json_array();
    for (size_t i = 0; i < cnt; i++)
        json_array_append_new(list, json_string(aead_name(aeads[i])));
    return lib_set(fd, "aeads", list);
}

PUBLIC int tcpcrypt_set_aeads(int fd, const int *aeads, size_t cnt)
{
    int saved = errno;

    return finish(set_aeads(fd, aeads, cnt), saved);
}

PUBLIC int tcpcrypt_set_resume(int fd, int on)
{
    int saved = errno;

    return finish(lib_set(fd, "resume", json_boolean(on)), saved);
}

PUBLIC int tcpcrypt_set_cache(int fd, int on)
{
    int saved = errno;

    return finish(lib_set(fd, "cache", json_boolean(on)), saved);
}

PUBLIC int tcpcrypt_set_passive_role(int fd, int on)
{
    int saved = errno;

    return finish(lib_set(fd, "passive_role", json_boolean(on)), saved);
}

PUBLIC int tcpcrypt_reset(int fd)
{
    int saved = errno;

    return finish(lib_set(fd, "reset", json_true()), saved);
}

/* --- Of a connection ---------------------------------------------------------------------- */

static int decide(int fd, const char *method)
{
    int err = lib_check_socket(fd);

    return err ? err : lib_tell(method, NULL, fd);
}

PUBLIC int tcpcrypt_mark_authenticated(int fd)
{
    int saved = errno;

    return finish(decide(fd, TCNS_CTL_INTERFACE ".MarkAuthenticated"), saved);
}

PUBLIC int tcpcrypt_forget(int fd)
{
    int saved = errno;

    return finish(decide(fd, TCNS_CTL_INTERFACE ".Forget"), saved);
}

PUBLIC int tcpcrypt_flush(void)
{
    int saved = errno;

    return finish(lib_tell(TCNS_CTL_INTERFACE ".FlushCache", NULL, -1), saved);
}
