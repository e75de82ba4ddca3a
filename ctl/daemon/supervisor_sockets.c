/* SPDX-License-Identifier: BSD-3-Clause
 * Which connections end when the worker does, and which go on: those that were there first, and
 * after draining those that it does not carry.
 */
#include "ctl/daemon/supervisor_impl.h"

#include <string.h>

#include "base/log.h"

/* What the worker could not end (a RST does not always fit the receiver's
 * window) must not go on past us; connections older than us do. */
void supervisor_reset_all_but_older(struct supervisor *s)
{
    struct sockdiag_list all;
    size_t kept = 0;

    int err = netcfg_list_sockets(s->cfg, &all);
    if (err) {
        log_error("cannot list sockets: %s", strerror(-err));
        return;
    }
    for (size_t i = 0; i < all.cnt; i++)
        if (!sockdiag_has(&s->older, &all.sockets[i]) &&
            (!s->drains || sockdiag_has(&s->carried, &all.sockets[i])))
            all.sockets[kept++] = all.sockets[i];
    all.cnt = kept;
    err = netcfg_destroy_list(s->cfg, &all);
    if (err)
        log_error("cannot reset connections: %s", strerror(-err));
    sockdiag_done(&all);
}

void supervisor_reset_all(struct supervisor *s)
{
    int err = netcfg_destroy_sockets(s->cfg);

    if (err)
        log_error("cannot reset connections: %s", strerror(-err));
    sockdiag_done(&s->older);
}

/* They stay when others are reset. */
void supervisor_add_older(struct supervisor *s, struct sockdiag_list *older)
{
    if (older->cnt > 0)
        log_info("%zu connections go on through the tunnel untouched", older->cnt);
    if (sockdiag_append(&s->older, older) < 0)
        log_error("out of memory for connections that are older");
    sockdiag_done(older);
    sockdiag_sort(&s->older);
}

/* What the tunnel carries are sockets of now, at most; later ones are the kernel's own. */
void supervisor_on_draining(struct supervisor *s)
{
    if (s->drains)
        return;
    int err = netcfg_list_sockets(s->cfg, &s->carried);
    if (err) {
        log_error("cannot list sockets: %s", strerror(-err));
        return;
    }
    sockdiag_sort(&s->carried);
    s->drains = true;
}
