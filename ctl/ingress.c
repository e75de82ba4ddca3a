/* SPDX-License-Identifier: BSD-3-Clause
 * The nftables table that keeps the container's TCP from its kernel's own TCP.
 */
#include "ctl/ingress.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <nftables/libnftables.h>

#include "base/log.h"

/* Runs commands in the current namespace. libnftables tells errors only in
 * words; errno is that of its last system call, so it is asked first for
 * permission and else called EIO. */
static int run(const char *commands, bool quiet)
{
    struct nft_ctx *ctx = nft_ctx_new(NFT_CTX_DEFAULT);
    int err = 0;

    if (!ctx)
        return -ENOMEM;
    nft_ctx_buffer_output(ctx);
    nft_ctx_buffer_error(ctx);
    if (nft_run_cmd_from_buffer(ctx, commands) != 0) {
        const char *words = nft_ctx_get_error_buffer(ctx);
        bool denied = words && strstr(words, strerror(EPERM));

        err = denied ? -EPERM : -EIO;
        if (!quiet)
            log_error("nftables: %s", words);
    }
    nft_ctx_free(ctx);
    return err;
}

/* "elements = { 22,992-995 }"; an empty set must have none. */
static void print_elements(FILE *out, const struct bypass *bypass)
{
    if (bypass->cnt == 0)
        return;
    char text[BYPASS_STR_LEN];
    fprintf(out, "elements = { %s }\n", bypass_str(bypass, text));
}

/* Adding before deleting makes the deletion succeed when there is none yet.
 * Fragments behind the first have no ports to look at, and without the first
 * the kernel never completes them. */
static void print_table(FILE *out, const char *uplink, const struct bypass *bypass)
{
    fprintf(out, "table netdev " INGRESS_TABLE "\n"
                 "delete table netdev " INGRESS_TABLE "\n"
                 "table netdev " INGRESS_TABLE " {\n"
                 "set bypass { type inet_service; flags interval;\n");
    print_elements(out, bypass);
    fprintf(out,
            "}\n"
            "chain ingress {\n"
            "type filter hook ingress device \"%s\" priority 0; policy accept;\n"
            "meta l4proto != tcp accept\n"
            "ip frag-off & 0x1fff != 0 accept\n"
            "frag frag-off != 0 accept\n"
            "ip6 saddr fe80::/10 accept\n"
            "ip6 daddr fe80::/10 accept\n"
            "tcp sport @bypass accept\n"
            "tcp dport @bypass accept\n"
            "fib daddr type local drop\n"
            "}\n"
            "}\n",
            uplink);
}

int ingress_set(const char *uplink, const struct bypass *bypass)
{
    char *text = NULL;
    size_t len;

    FILE *out = open_memstream(&text, &len);
    if (!out)
        return -ENOMEM;
    print_table(out, uplink, bypass);
    if (fclose(out) != 0) {
        free(text);
        return -ENOMEM;
    }
    int err = run(text, false);
    free(text);
    return err;
}

int ingress_remove(bool *ret_found)
{
    int err = run("list table netdev " INGRESS_TABLE "\n", true);

    *ret_found = !err;
    if (err == -EPERM)
        return err;
    return err ? 0 : run("delete table netdev " INGRESS_TABLE "\n", false);
}
