/* SPDX-License-Identifier: BSD-3-Clause
 * The file that the key log goes to: opened with care.
 */
#ifndef TCNS_CTL_KEYLOG_FILE_H
#define TCNS_CTL_KEYLOG_FILE_H

#include <stddef.h>

/* Opens it for appending; makes it with mode 0600 when it is not there. What is there
 * must be a regular file of the caller's own, without other names, which nobody else may
 * read or write; symbolic links are not followed.
 * Return: a close-on-exec descriptor; -errno, and a sentence for people in err. */
int keylog_file_open(const char *path, char *err, size_t err_len);

#endif
