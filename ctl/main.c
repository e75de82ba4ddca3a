/* SPDX-License-Identifier: BSD-3-Clause
 * tcpcrypt-ns: one program; the daemon is a mode of it.
 */
#include "ctl/cli/cli.h"
#include "ctl/cni/cni.h"

int main(int argc, char **argv)
{
    if (cni_is_name(argv[0]))
        return cni_run();
    return cli_main(argc, argv);
}
