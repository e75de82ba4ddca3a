/* SPDX-License-Identifier: BSD-3-Clause
 * A program of somebody else: needs nothing but what is installed. Says what became of a call.
 */
#include <tcpcrypt/tcpcrypt.h>

#include <errno.h>
#include <stdio.h>

/* Names of the library's inside that a program may have, too. */
int lib_ask(void);
int ctldial(void);
int lib_ask(void)
{
    return 1;
}
int ctldial(void)
{
    return 1;
}

int main(void)
{
    struct tcpcrypt_info info;

    if (tcpcrypt_set_ctl("/nonexistent/tcpcrypt-ns.sock") != 0)
        return 1;
    if (tcpcrypt_get_info(0, &info, sizeof(info)) != -1)
        return 1;
    printf("%s: %s\n", errno == ENOTSOCK ? "ENOTSOCK" : "another", tcpcrypt_strerror(errno));
    if (tcpcrypt_flush() != -1 || errno != ECONNREFUSED)
        return 1;
    return lib_ask() + ctldial() - 2;
}
