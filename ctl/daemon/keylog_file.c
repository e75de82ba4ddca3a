/* SPDX-License-Identifier: BSD-3-Clause
 * The file that the key log goes to.
 */
#include "ctl/daemon/keylog_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char head[] =
    "# tcpcrypt-ns: whoever has these keys can read the connections.\n"
    "# TCPCRYPT_KEY session_id from from_port to to_port generation aead key nonce\n";

/* Return: what is wrong with it; NULL: nothing. */
static const char *fault(const struct stat *st)
{
    if (!S_ISREG(st->st_mode))
        return "it is no regular file";
    if (st->st_uid != geteuid())
        return "it belongs to somebody else";
    if (st->st_nlink != 1)
        return "it has a second name";
    if (st->st_mode & 077)
        return "others may read or write it; its mode must be 0600";
    return NULL;
}

int keylog_file_open(const char *path, char *err, size_t err_len)
{
    struct stat st;
    /* O_NONBLOCK: somebody else's FIFO must not hold us. */
    int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK, 0600);

    if (fd < 0) {
        int error = -errno;
        snprintf(err, err_len, "cannot open the key log %s: %s", path,
                 error == -ELOOP ? "it is a symbolic link" : strerror(-error));
        return error;
    }
    const char *why = fstat(fd, &st) < 0 ? strerror(errno) : fault(&st);
    if (!why && st.st_size == 0 && write(fd, head, sizeof(head) - 1) != sizeof(head) - 1)
        why = "it cannot be written to";
    if (!why)
        return fd;
    snprintf(err, err_len, "the key log %s is refused: %s", path, why);
    close(fd);
    return -EACCES;
}
