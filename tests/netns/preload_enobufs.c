/* SPDX-License-Identifier: BSD-3-Clause
 * A kernel that has no memory for long packets: preloaded into a daemon, it has writev() fail with
 * ENOBUFS when it is given more bytes than the variable WRITEV_MAX says.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/uio.h>

ssize_t writev(int fd, const struct iovec *iov, int cnt)
{
    ssize_t (*real)(int, const struct iovec *, int) = dlsym(RTLD_NEXT, "writev");
    const char *max = getenv("WRITEV_MAX");
    size_t len = 0;

    for (int i = 0; i < cnt; i++)
        len += iov[i].iov_len;
    if (max && len > strtoul(max, NULL, 10)) {
        errno = ENOBUFS;
        return -1;
    }
    return real(fd, iov, cnt);
}
