/* SPDX-License-Identifier: BSD-3-Clause
 * A change of the settings while the daemon runs: how supervisor and worker agree on it.
 *
 * How it works: the worker asks the supervisor, for a client (SetPolicy, Reload) or because the
 * supervisor told it to (SIGHUP), and waits for the answer. While it waits it moves no packet:
 * so the supervisor can change what the kernel leads to us, and no connection falls
 * between the old state and the new. The supervisor checks everything first; it keeps the
 * settings for the next worker, and answers with them in a memory file. A worker that hangs is
 * the supervisor's to kill, as always.
 */
#ifndef TCNS_CTL_CHANGE_H
#define TCNS_CTL_CHANGE_H

#include <jansson.h>

#include "ctl/conf/settings.h"
#include "ctl/daemon/daemon.h"
#include "ctl/net/sockdiag.h"

#define CHANGE_TEXT_LEN    600
#define CHANGE_REQUEST_LEN (64 * 1024)

/* From the supervisor. */
struct change_answer {
    int err; /* 0, or -errno and text; the settings come along when it is 0 */
    char text[CHANGE_TEXT_LEN];
};

/* --- In the worker -------------------------------------------------------------- */

/* The parameters of SetPolicy as a request: policy, a string, and rules, an array of
 * strings; either may be missing, and stays as it is then. Return: 0, and *ret, caller
 * frees; -EINVAL and a sentence in err; -ENOMEM. */
int change_request(const json_t *policy, const json_t *rules, char **ret,
                   char err[SETTINGS_ERROR_LEN]);

/* Reads the settings from a memory file into ret, whose other members are kept; ret's rules
 * are freed before. *ret_older: connections to pass untouched, caller frees. Return: 0; -errno. */
int change_load(int fd, struct daemon_options *ret, struct tuple **ret_older, size_t *ret_cnt);

/* --- In the supervisor ------------------------------------------------------------ */

/* now with the changes of a request. Return: 0, and ret for settings_done(); -EINVAL or
 * -ENOMEM and a sentence. */
int change_make(const struct daemon_options *now, const char *request, struct daemon_options *ret,
                char err[SETTINGS_ERROR_LEN]);

/* Return: a memory file with the settings of opts, and those connections, the caller's; -errno. */
int change_store(const struct daemon_options *opts, const struct sockdiag_list *older);

#endif
