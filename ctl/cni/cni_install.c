/* SPDX-License-Identifier: BSD-3-Clause
 * Puts the CNI plugin on a machine.
 */
#include "ctl/cni/cni_install.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ctl/cni/cni.h"

#define FOLDER       "tcpcrypt-ns-" /* beginning of our folders' names */
#define PROGRAM_FILE "tcpcrypt-ns"

static int fail(char err[CNI_INSTALL_ERROR_LEN], int code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

static int fail(char err[CNI_INSTALL_ERROR_LEN], int code, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(err, CNI_INSTALL_ERROR_LEN, fmt, ap);
    va_end(ap);
    return code;
}

/* --- Files --------------------------------------------------------------------------- */

static int make_path(char out[PATH_MAX], const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

static int make_path(char out[PATH_MAX], const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    int n = vsnprintf(out, PATH_MAX, fmt, ap);
    va_end(ap);
    return n < 0 || n >= PATH_MAX ? -ENAMETOOLONG : 0;
}

static int make_dirs(const char *path)
{
    char part[PATH_MAX];

    for (size_t i = 1; i <= strlen(path); i++) {
        if (path[i] != '/' && path[i] != '\0')
            continue;
        memcpy(part, path, i);
        part[i] = '\0';
        if (mkdir(part, 0755) < 0 && errno != EEXIST)
            return -errno;
    }
    return 0;
}

static int copy_all(int from, int to)
{
    for (;;) {
        ssize_t n = sendfile(to, from, NULL, 1 << 30);
        if (n == 0)
            return 0;
        if (n < 0)
            return -errno;
    }
}

static int copy_file(const char *from_path, const char *to_path)
{
    int from = open(from_path, O_RDONLY | O_CLOEXEC);
    if (from < 0)
        return -errno;
    int to = open(to_path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0755);
    int err = to < 0 ? -errno : copy_all(from, to);
    if (to >= 0 && close(to) < 0)
        err = err ? err : -errno;
    close(from);
    return err;
}

/* Whole or not at all. */
static int write_file(const char *path, const char *text, mode_t mode)
{
    char fresh[PATH_MAX];

    int err = make_path(fresh, "%s.tcpcrypt-ns-new", path);
    if (err)
        return err;
    int fd = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
    if (fd < 0)
        return -errno;
    size_t len = strlen(text);
    ssize_t n = write(fd, text, len);
    err = n < 0 ? -errno : n < (ssize_t)len ? -ENOSPC : 0;
    if (fchmod(fd, mode) < 0) /* whatever the umask is */
        err = err ? err : -errno;
    if (close(fd) < 0)
        err = err ? err : -errno;
    if (!err && rename(fresh, path) < 0)
        err = -errno;
    if (err)
        unlink(fresh);
    return err;
}

/* --- Program and objects ----------------------------------------------------------------- */

struct copying {
    const char *folder; /* as we see it */
    char linker[NAME_MAX + 1];
    int err;
};

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash ? slash + 1 : path;
}

/* The linker is one of the objects, and the program names the path of it; the kernel's own
 * has no file. */
static int copy_object(struct dl_phdr_info *info, size_t size, void *arg)
{
    struct copying *c = arg;
    const char *name = base_name(info->dlpi_name);
    char to[PATH_MAX];

    if (info->dlpi_name[0] != '/')
        return 0;
    c->err = make_path(to, "%s/%s", c->folder, name);
    if (!c->err)
        c->err = copy_file(info->dlpi_name, to);
    if (strncmp(name, "ld-", 3) == 0 || strncmp(name, "ld.", 3) == 0)
        snprintf(c->linker, sizeof(c->linker), "%s", name);
    return c->err;
}

static int copy_program(const char *folder, char ret_linker[NAME_MAX + 1])
{
    struct copying c = {.folder = folder};
    char to[PATH_MAX];

    int err = make_path(to, "%s/" PROGRAM_FILE, folder);
    if (!err)
        err = copy_file("/proc/self/exe", to);
    if (err)
        return err;
    dl_iterate_phdr(copy_object, &c);
    if (!c.err && !c.linker[0])
        return -ENOEXEC;
    strcpy(ret_linker, c.linker);
    return c.err;
}

static int write_script(const struct cni_install *in, const char *folder, const char *linker)
{
    char path[PATH_MAX], *text;

    int err = make_path(path, "%s%s", in->root, in->bin_dir);
    if (!err)
        err = make_dirs(path);
    if (!err)
        err = make_path(path, "%s%s/" CNI_PROGRAM, in->root, in->bin_dir);
    if (err)
        return err;
    if (asprintf(&text,
                 "#!/bin/sh\nexec '%s/%s' --library-path '%s' --argv0 " CNI_PROGRAM
                 " '%s/" PROGRAM_FILE "' \"$@\"\n",
                 folder, linker, folder, folder) < 0)
        return -ENOMEM;
    err = write_file(path, text, 0755);
    free(text);
    return err;
}

static void remove_folder(const char *path)
{
    DIR *dir = opendir(path);

    for (struct dirent *d; dir && (d = readdir(dir));)
        unlinkat(dirfd(dir), d->d_name, 0); /* "." and ".." it refuses */
    if (dir)
        closedir(dir);
    rmdir(path);
}

/* Those of earlier installations, or (keep is "") all. */
static void remove_folders(const struct cni_install *in, const char *keep)
{
    char top[PATH_MAX], path[PATH_MAX];

    if (make_path(top, "%s%s", in->root, in->lib_dir) < 0)
        return;
    DIR *dir = opendir(top);
    for (struct dirent *d; dir && (d = readdir(dir));)
        if (strncmp(d->d_name, FOLDER, strlen(FOLDER)) == 0 && strcmp(d->d_name, keep) != 0 &&
            make_path(path, "%s/%s", top, d->d_name) == 0)
            remove_folder(path);
    if (dir)
        closedir(dir);
    rmdir(top); /* if nothing else is there */
}

int cni_install_files(const struct cni_install *in, char err[CNI_INSTALL_ERROR_LEN])
{
    char folder[PATH_MAX], linker[NAME_MAX + 1];

    int e = make_path(folder, "%s%s", in->root, in->lib_dir);
    if (!e)
        e = make_dirs(folder);
    if (!e)
        e = make_path(folder, "%s%s/" FOLDER "XXXXXX", in->root, in->lib_dir);
    if (e)
        return fail(err, e, "cannot make %s%s: %s", in->root, in->lib_dir, strerror(-e));
    if (!mkdtemp(folder))
        return fail(err, -errno, "cannot make %s: %s", folder, strerror(errno));
    e = chmod(folder, 0755) < 0 ? -errno : copy_program(folder, linker);
    if (!e)
        e = write_script(in, folder + strlen(in->root), linker);
    if (e) {
        remove_folder(folder);
        return fail(err, e, "cannot copy the program to %s%s: %s", in->root, in->lib_dir,
                    strerror(-e));
    }
    remove_folders(in, base_name(folder));
    return 0;
}

/* --- The line ---------------------------------------------------------------------------- */

static int is_conf(const struct dirent *d)
{
    const char *dot = strrchr(d->d_name, '.');

    return d->d_name[0] != '.' && dot &&
           (strcmp(dot, ".conflist") == 0 || strcmp(dot, ".conf") == 0 ||
            strcmp(dot, ".json") == 0);
}

static bool is_ours(const json_t *plugin)
{
    const char *type = json_string_value(json_object_get(plugin, "type"));

    return type && strcmp(type, CNI_PROGRAM) == 0;
}

/* Return: whether the chain is another then. line NULL: it is to have none. */
static bool edit_chain(json_t *plugins, json_t *line)
{
    size_t last = json_array_size(plugins);
    bool changed = false;

    if (line && last > 0 && json_equal(json_array_get(plugins, last - 1), line))
        return false;
    for (size_t i = last; i-- > 0;)
        if (is_ours(json_array_get(plugins, i))) {
            json_array_remove(plugins, i);
            changed = true;
        }
    if (line)
        json_array_append(plugins, line);
    return changed || line;
}

static int edit_file(const char *path, json_t *line, bool *ret_changed,
                     char err[CNI_INSTALL_ERROR_LEN])
{
    json_error_t at;
    struct stat st;

    json_t *conf = json_load_file(path, 0, &at);
    if (!conf)
        return fail(err, -EINVAL, "%s: line %d: %s", path, at.line, at.text);
    json_t *plugins = json_object_get(conf, "plugins");
    if (!json_is_array(plugins)) {
        json_decref(conf);
        return fail(err, -EINVAL, "%s is no list of plugins", path);
    }
    *ret_changed = edit_chain(plugins, line);
    int e = 0;
    if (*ret_changed) {
        char *text = json_dumps(conf, JSON_INDENT(2));

        e = !text                 ? -ENOMEM
            : stat(path, &st) < 0 ? -errno
                                  : write_file(path, text, st.st_mode & 0777);
        free(text);
    }
    json_decref(conf);
    return e ? fail(err, e, "cannot write %s: %s", path, strerror(-e)) : 0;
}

static void free_names(struct dirent **names, int cnt)
{
    for (int i = 0; i < cnt; i++)
        free(names[i]);
    free(names);
}

static int list_confs(const struct cni_install *in, char ret_dir[PATH_MAX],
                      struct dirent ***ret_names, char err[CNI_INSTALL_ERROR_LEN])
{
    int e = make_path(ret_dir, "%s%s", in->root, in->conf_dir);
    if (e)
        return fail(err, e, "%s%s: %s", in->root, in->conf_dir, strerror(-e));
    int cnt = scandir(ret_dir, ret_names, is_conf, alphasort);
    return cnt < 0 ? fail(err, -errno, "%s: %s", ret_dir, strerror(errno)) : cnt;
}

int cni_install_line(const struct cni_install *in, bool *ret_changed,
                     char err[CNI_INSTALL_ERROR_LEN])
{
    char dir[PATH_MAX], path[PATH_MAX];
    struct dirent **names;

    int cnt = list_confs(in, dir, &names, err);
    if (cnt < 0)
        return cnt;
    int e = cnt == 0 ? fail(err, -ENOENT, "%s has no network yet", dir)
                     : make_path(path, "%s/%s", dir, names[0]->d_name);
    if (!e)
        e = edit_file(path, in->line, ret_changed, err);
    free_names(names, cnt);
    return e;
}

int cni_install_remove(const struct cni_install *in, char err[CNI_INSTALL_ERROR_LEN])
{
    char dir[PATH_MAX], path[PATH_MAX];
    struct dirent **names;
    bool changed;
    int result = 0;

    int cnt = list_confs(in, dir, &names, err);
    if (cnt < 0)
        return cnt;
    for (int i = 0; i < cnt; i++) {
        const char *dot = strrchr(names[i]->d_name, '.');

        if (strcmp(dot, ".conflist") != 0 || make_path(path, "%s/%s", dir, names[i]->d_name) < 0)
            continue;
        int e = edit_file(path, NULL, &changed, err);
        result = result ? result : e;
    }
    free_names(names, cnt);
    if (result) /* somebody still asks for the plugin */
        return result;
    if (make_path(path, "%s%s/" CNI_PROGRAM, in->root, in->bin_dir) == 0)
        unlink(path);
    remove_folders(in, "");
    return 0;
}
