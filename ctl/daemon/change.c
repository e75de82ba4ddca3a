/* SPDX-License-Identifier: BSD-3-Clause
 * A change of the settings while the daemon runs.
 *
 * A request is lines: "policy WORD", "rules" (those that follow replace all that are
 * there), "rule TEXT". The memory file is read by a fork of who wrote it: a struct
 * daemon_options as it is, of which only the settings count, and the rules.
 */
#include "ctl/daemon/change.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

/* --- Requests --------------------------------------------------------------------- */

static int write_rules(FILE *out, const json_t *rules, char err[SETTINGS_ERROR_LEN])
{
    char why[RULETEXT_ERROR_LEN];
    const json_t *rule;
    size_t i;

    fputs("rules\n", out);
    json_array_foreach(rules, i, rule)
    {
        struct policy_rule r;

        if (!json_is_string(rule))
            return snprintf(err, SETTINGS_ERROR_LEN, "rule %zu is no string", i + 1), -EINVAL;
        if (ruletext_parse(json_string_value(rule), &r, why) < 0)
            return snprintf(err, SETTINGS_ERROR_LEN, "rule %zu: %.300s", i + 1, why), -EINVAL;
        char *text = ruletext_str(&r);
        if (!text)
            return snprintf(err, SETTINGS_ERROR_LEN, "out of memory"), -ENOMEM;
        fprintf(out, "rule %s\n", text);
        free(text);
    }
    return 0;
}

int change_request(const json_t *policy, const json_t *rules, char **ret,
                   char err[SETTINGS_ERROR_LEN])
{
    enum tunnel_policy p;
    char *text = NULL;
    size_t len = 0;
    int e = 0;

    if (policy && (!json_is_string(policy) || policy_parse(json_string_value(policy), &p) < 0))
        return snprintf(err, SETTINGS_ERROR_LEN, "the policy is none of prefer, require, off"),
               -EINVAL;
    FILE *out = open_memstream(&text, &len);
    if (!out)
        return snprintf(err, SETTINGS_ERROR_LEN, "out of memory"), -ENOMEM;
    if (policy)
        fprintf(out, "policy %s\n", policy_name(p));
    if (rules)
        e = write_rules(out, rules, err);
    if (fclose(out) != 0 && !e)
        e = -ENOMEM;
    if (!e && len >= CHANGE_REQUEST_LEN) {
        snprintf(err, SETTINGS_ERROR_LEN, "the rules are more than %d bytes", CHANGE_REQUEST_LEN);
        e = -EINVAL;
    }
    if (e)
        free(text);
    else
        *ret = text;
    return e;
}

static int read_line(const char *line, struct daemon_options *ret, char err[SETTINGS_ERROR_LEN])
{
    if (strcmp(line, "rules") == 0) {
        settings_done(ret);
        return 0;
    }
    if (strncmp(line, "policy ", 7) == 0)
        return settings_set(ret, "policy", line + 7, err);
    if (strncmp(line, "rule ", 5) == 0)
        return settings_set(ret, "rule", line + 5, err);
    return snprintf(err, SETTINGS_ERROR_LEN, "not understood"), -EINVAL;
}

int change_make(const struct daemon_options *now, const char *request, struct daemon_options *ret,
                char err[SETTINGS_ERROR_LEN])
{
    struct daemon_options next;
    char *copy = strdup(request), *rest = copy, *line;
    int e = copy ? settings_copy(now, &next) : -ENOMEM;

    if (e) {
        free(copy);
        return snprintf(err, SETTINGS_ERROR_LEN, "out of memory"), e;
    }
    while (!e && (line = strtok_r(rest, "\n", &rest)))
        e = read_line(line, &next, err);
    free(copy);
    e = e ? e : ruletext_check(next.rules, next.rule_cnt, err);
    if (e)
        settings_done(&next);
    else
        *ret = next;
    return e;
}

/* --- Settings --------------------------------------------------------------------- */

static int write_all(int fd, const struct daemon_options *opts, const struct sockdiag_list *older)
{
    struct iovec iov[] = {
        {(void *)(uintptr_t)opts, sizeof(*opts)},
        {opts->rules, opts->rule_cnt * sizeof(*opts->rules)},
    };

    if (writev(fd, iov, 2) != (ssize_t)(iov[0].iov_len + iov[1].iov_len))
        return -EIO;
    for (size_t i = 0; i < older->cnt; i++)
        if (write(fd, &older->sockets[i].tuple, sizeof(struct tuple)) != sizeof(struct tuple))
            return -EIO;
    return 0;
}

int change_store(const struct daemon_options *opts, const struct sockdiag_list *older)
{
    int fd = memfd_create("tcpcrypt-settings", MFD_CLOEXEC);
    int err = fd < 0 ? -errno : write_all(fd, opts, older);

    if (!err)
        return fd;
    if (fd >= 0)
        close(fd);
    return err;
}

/* Return: len bytes, caller frees; NULL when they are not there, or no memory. */
static void *read_part(int fd, size_t len, off_t at)
{
    void *part = malloc(len ? len : 1);

    if (part && pread(fd, part, len, at) == (ssize_t)len)
        return part;
    free(part);
    return NULL;
}

int change_load(int fd, struct daemon_options *ret, struct tuple **ret_older, size_t *ret_cnt)
{
    struct daemon_options from;
    off_t all = lseek(fd, 0, SEEK_END), at = sizeof(from);

    if (pread(fd, &from, sizeof(from), 0) != (ssize_t)sizeof(from))
        return -EIO;
    size_t len = from.rule_cnt * sizeof(*from.rules);
    size_t rest = (size_t)(all - at) - len;
    from.rules = read_part(fd, len, at);
    struct tuple *older = read_part(fd, rest, at + (off_t)len);
    if (!from.rules || !older) {
        free(from.rules);
        free(older);
        return -EIO;
    }
    settings_done(ret);
    settings_move(ret, &from);
    *ret_older = older;
    *ret_cnt = rest / sizeof(*older);
    return 0;
}
