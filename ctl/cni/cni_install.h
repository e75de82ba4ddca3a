/* SPDX-License-Identifier: BSD-3-Clause
 * Puts the CNI plugin on a machine, from a container: program, its shared objects, and
 * its line in the network's conflist.
 *
 * How it works: the machine may lack our libraries, or have others. So the objects that
 * this very process has loaded go along, into a folder of their own, and what the engine
 * runs is a script of two lines that names them. A new folder for each installation:
 * a call under way goes on with the old one, and the script changes at once.
 */
#ifndef TCNS_CTL_CNI_INSTALL_H
#define TCNS_CTL_CNI_INSTALL_H

#include <jansson.h>
#include <stdbool.h>

#define CNI_INSTALL_ERROR_LEN 400

struct cni_install {
    const char *root;    /* where we see the machine's file system: "/host", or "" */
    const char *bin_dir; /* paths of the machine: where its engine looks for plugins */
    const char *conf_dir;
    const char *lib_dir; /* for our folders */
    json_t *line;        /* the plugin's configuration; borrowed */
};

/* Program, objects and script. Return: 0; -errno and a sentence. */
int cni_install_files(const struct cni_install *in, char err[CNI_INSTALL_ERROR_LEN]);

/* The line, at the end of the chain of the first conflist, which is the one that engines
 * use; *ret_changed: it was not there, or another.
 * Return: 0; -ENOENT without a conflist; -errno; each with a sentence. */
int cni_install_line(const struct cni_install *in, bool *ret_changed,
                     char err[CNI_INSTALL_ERROR_LEN]);

/* Takes the line away, in all conflists, then the rest. Return: 0; -errno and a sentence. */
int cni_install_remove(const struct cni_install *in, char err[CNI_INSTALL_ERROR_LEN]);

#endif
