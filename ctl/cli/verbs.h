/* SPDX-License-Identifier: BSD-3-Clause
 * The verbs' entry points; each gets its own argv (argv[0] is the verb's name)
 * and returns an exit code.
 */
#ifndef TCNS_CTL_VERBS_H
#define TCNS_CTL_VERBS_H

int disable_main(int argc, char **argv);
int enable_main(int argc, char **argv);
int netns_main(int argc, char **argv);
int up_main(int argc, char **argv);
int down_main(int argc, char **argv);
int metrics_main(int argc, char **argv);
int sessions_main(int argc, char **argv);
int policy_main(int argc, char **argv);
int reload_main(int argc, char **argv);
int capture_main(int argc, char **argv);
int cache_main(int argc, char **argv);
int cni_main(int argc, char **argv);
int check_main(int argc, char **argv);
int cni_install_main(int argc, char **argv);
int pause_main(int argc, char **argv);
int sid_main(int argc, char **argv);
int tcnetstat_main(int argc, char **argv);
int watch_main(int argc, char **argv);
int status_main(int argc, char **argv);
int test_server_main(int argc, char **argv);
int version_main(int argc, char **argv);

#endif
