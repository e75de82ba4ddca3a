/* SPDX-License-Identifier: BSD-3-Clause
 * One call of the CNI plugin, and what the commands about attachments do.
 */
#ifndef TCNS_CTL_CNI_CALL_H
#define TCNS_CTL_CNI_CALL_H

#include <jansson.h>

#include "ctl/cni/cni_error.h"
#include "ctl/cni/cni_state.h"

struct cni_call {
    const char *command;
    const char *netns;        /* CNI_NETNS; NULL: not given */
    struct cni_attachment at; /* network; container and ifname where the command needs them */
    json_t *conf;
    const char *version; /* of the answer */
    struct cni_error error;
};

/* The commands; the error is in c, too. */
enum cni_code cni_add(struct cni_call *c); /* prints the result */
enum cni_code cni_del(struct cni_call *c);
enum cni_code cni_check(struct cni_call *c);
enum cni_code cni_gc(struct cni_call *c);

/* To standard output. */
void cni_print(json_t *object);

#endif
