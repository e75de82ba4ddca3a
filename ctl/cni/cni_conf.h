/* SPDX-License-Identifier: BSD-3-Clause
 * A CNI network configuration: its keys are long options of the verb up.
 */
#ifndef TCNS_CTL_CNI_CONF_H
#define TCNS_CTL_CNI_CONF_H

#include <jansson.h>

#include "ctl/cni/cni_error.h"

#define CNI_ARGS_MAX_CNT 64

struct cni_args {
    char *argv[CNI_ARGS_MAX_CNT + 1]; /* ends with NULL; each is ours */
    int argc;
};

/* Return: whether there was room. */
int cni_args_add(struct cni_args *a, const char *text);
void cni_args_done(struct cni_args *a);

/* Appends the configuration's options: {"policy": "require", "no-resume": true,
 * "bypass": ["22", 443]}. A list of values is one argument with commas between them
 * where the option takes a list, else the option comes again for each. Keys that the
 * spec knows are passed over.
 * Return: CNI_OK; CNI_BAD_FIELD for a key that is no option, or a value of the wrong
 * type. The values themselves are up's to judge. */
enum cni_code cni_conf_options(const json_t *conf, struct cni_args *a, struct cni_error *e);

#endif
