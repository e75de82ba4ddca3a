/* SPDX-License-Identifier: BSD-3-Clause
 * The files by which systemd gives a service a namespace of its own.
 */
#include "ctl/service/dropin.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ctl/net/netns.h"

#define HEAD   "# Written by \"tcpcrypt-ns enable\"; \"tcpcrypt-ns disable\" removes it.\n"
#define MEMBER "NetworkNamespacePath=" NETNS_NAMES_DIR "/"

#define FOLDER_LEN (sizeof(DROPIN_UNITS) + DROPIN_UNIT_MAX_LEN + 4)
#define PATH_LEN   (FOLDER_LEN + sizeof(DROPIN_FILE) + 8)

void dropin_daemon_unit(const char *name, char *ret)
{
    snprintf(ret, DROPIN_UNIT_MAX_LEN + 1, "tcpcrypt-ns@%s.service", name);
}

void dropin_netns_unit(const char *name, char *ret)
{
    snprintf(ret, DROPIN_UNIT_MAX_LEN + 1, "tcpcrypt-ns-netns@%s.service", name);
}

static void folder_of(const char *unit, char ret[FOLDER_LEN])
{
    snprintf(ret, FOLDER_LEN, DROPIN_UNITS "/%.*s.d", DROPIN_UNIT_MAX_LEN, unit);
}

static void path_of(const char *unit, const char *suffix, char ret[PATH_LEN])
{
    char folder[FOLDER_LEN];

    folder_of(unit, folder);
    snprintf(ret, PATH_LEN, "%s/" DROPIN_FILE "%s", folder, suffix);
}

/* --- Reading ------------------------------------------------------------------------ */

/* Return: the text of a drop-in of ours, to be freed; NULL with *ret_err: -ENOENT,
 * -EEXIST when it is not ours, -errno. */
static char *read_ours(const char *unit, int *ret_err)
{
    char path[PATH_LEN], *text = NULL;
    size_t size = 0;

    path_of(unit, "", path);
    FILE *f = fopen(path, "re");
    if (!f) {
        *ret_err = -errno;
        return NULL;
    }
    ssize_t n = getdelim(&text, &size, '\0', f);
    fclose(f);
    if (n > 0 && strncmp(text, HEAD, sizeof(HEAD) - 1) == 0)
        return text;
    free(text);
    *ret_err = -EEXIST;
    return NULL;
}

static bool is_ours(const char *unit, int *ret_err)
{
    char *text = read_ours(unit, ret_err);

    free(text);
    return text;
}

bool dropin_exists(const char *unit)
{
    int err;

    return is_ours(unit, &err);
}

bool dropin_read(const char *unit, char ret_name[DROPIN_UNIT_MAX_LEN + 1])
{
    int err;
    char *text = read_ours(unit, &err);
    char *at = text ? strstr(text, "\n" MEMBER) : NULL;

    if (at) {
        at += sizeof("\n" MEMBER) - 1;
        snprintf(ret_name, DROPIN_UNIT_MAX_LEN + 1, "%.*s", (int)strcspn(at, "\n"), at);
    }
    free(text);
    return at;
}

/* --- Writing ------------------------------------------------------------------------ */

static int write_file(const char *path, const char *text)
{
    FILE *f = fopen(path, "we");

    if (!f)
        return -errno;
    bool written = fputs(text, f) >= 0 && fflush(f) == 0 && fchmod(fileno(f), 0644) == 0;
    int err = written ? 0 : -errno;
    if (fclose(f) != 0 && !err)
        err = -errno;
    return err;
}

/* Whole or not at all. */
static int write_dropin(const char *unit, const char *text)
{
    char folder[FOLDER_LEN], path[PATH_LEN], fresh[PATH_LEN];
    int err = 0;

    if (!is_ours(unit, &err) && err != -ENOENT)
        return err;
    folder_of(unit, folder);
    path_of(unit, "", path);
    path_of(unit, ".new", fresh);
    if (mkdir(folder, 0755) < 0 && errno != EEXIST)
        return -errno;
    err = write_file(fresh, text);
    if (!err && rename(fresh, path) < 0)
        err = -errno;
    if (err) {
        unlink(fresh);
        rmdir(folder);
    }
    return err;
}

static bool is_socket(const char *unit)
{
    const char *dot = strrchr(unit, '.');

    return dot && strcmp(dot, ".socket") == 0;
}

/* Requires= also ends and restarts the service with the daemon: an orderly stop of the daemon
 * alone would leave the service's TCP in clear. */
int dropin_write_member(const char *unit, const char *name)
{
    char daemon[DROPIN_UNIT_MAX_LEN + 1], text[2048];

    dropin_daemon_unit(name, daemon);
    snprintf(text, sizeof(text),
             HEAD "[Unit]\n"
                  "Requires=%s\n"
                  "After=%s\n"
                  "\n"
                  "[%s]\n" MEMBER "%s\n",
             daemon, daemon, is_socket(unit) ? "Socket" : "Service", name);
    return write_dropin(unit, text);
}

int dropin_write_daemon(const char *name)
{
    char daemon[DROPIN_UNIT_MAX_LEN + 1], netns[DROPIN_UNIT_MAX_LEN + 1], text[1024];

    dropin_daemon_unit(name, daemon);
    dropin_netns_unit(name, netns);
    snprintf(text, sizeof(text),
             HEAD "[Unit]\n"
                  "Requires=%s\n"
                  "After=%s\n"
                  "StopWhenUnneeded=yes\n",
             netns, netns);
    return write_dropin(daemon, text);
}

int dropin_write_netns(const char *name, const char *publish)
{
    char netns[DROPIN_UNIT_MAX_LEN + 1], text[8192];

    dropin_netns_unit(name, netns);
    snprintf(text, sizeof(text),
             HEAD "[Unit]\n"
                  "StopWhenUnneeded=yes\n"
                  "\n"
                  "[Service]\n"
                  "Environment=\"TCPCRYPT_NS_PUBLISH=%s\"\n",
             publish);
    return write_dropin(netns, text);
}

/* --- Removing ----------------------------------------------------------------------- */

int dropin_remove(const char *unit)
{
    char folder[FOLDER_LEN], path[PATH_LEN];
    int err = 0;

    if (!is_ours(unit, &err))
        return err == -ENOENT ? 0 : err;
    path_of(unit, "", path);
    if (unlink(path) < 0)
        return -errno;
    folder_of(unit, folder);
    rmdir(folder); /* others may have drop-ins there */
    return 0;
}

/* The unit of a folder UNIT.d; an empty string for other names. */
static void unit_of(const char *folder, char ret[DROPIN_UNIT_MAX_LEN + 1])
{
    size_t len = strlen(folder);
    bool is = len > 2 && strcmp(folder + len - 2, ".d") == 0 && len - 2 <= DROPIN_UNIT_MAX_LEN;

    snprintf(ret, DROPIN_UNIT_MAX_LEN + 1, "%.*s", is ? (int)(len - 2) : 0, folder);
}

int dropin_each_member(int (*fn)(const char *unit, const char *name, void *arg), void *arg)
{
    char unit[DROPIN_UNIT_MAX_LEN + 1], name[DROPIN_UNIT_MAX_LEN + 1];
    DIR *dir = opendir(DROPIN_UNITS);
    int result = 0;

    if (!dir)
        return errno == ENOENT ? 0 : -errno;
    for (struct dirent *e; !result && (e = readdir(dir));) {
        unit_of(e->d_name, unit);
        if (unit[0] && dropin_read(unit, name))
            result = fn(unit, name, arg);
    }
    closedir(dir);
    return result;
}
