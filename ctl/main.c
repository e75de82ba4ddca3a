/* SPDX-License-Identifier: BSD-3-Clause
 * tcpcrypt-ns: one program; the daemon is a mode of it.
 */
#include "ctl/cli.h"

int main(int argc, char **argv)
{
    return cli_main(argc, argv);
}
