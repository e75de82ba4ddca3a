/* SPDX-License-Identifier: BSD-3-Clause
 * Our routing table follows the main table.
 */
#include "ctl/net/mirror.h"

#include <errno.h>
#include <linux/rtnetlink.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "ctl/net/addrs.h"
#include "ctl/net/mirror_msg.h"

/* One below the kernel's own "no route" entry of IPv6. */
#define METRIC_LAST (UINT32_MAX - 1)
#define DUMP_TRIES  5
#define KEY_LEN     offsetof(struct mirror_route, kind)

static const uint8_t families[] = {AF_INET, AF_INET6};

void mirror_init(struct mirror *m, struct nl_sock *rtnl, int tun_ifindex,
                 const struct links *uplinks)
{
    *m = (struct mirror){
        .rtnl = rtnl,
        .tun_ifindex = tun_ifindex,
        .uplinks = uplinks,
    };
}

void mirror_done(struct mirror *m)
{
    free(m->routes);
    *m = (struct mirror){.cnt = 0};
}

/* --- Lists ------------------------------------------------------------------ */

struct list {
    struct mirror_route *routes;
    size_t cnt, cap;
};

static int list_add(struct list *l, const struct mirror_route *r)
{
    if (l->cnt == l->cap) {
        size_t cap = l->cap ? 2 * l->cap : 64;
        struct mirror_route *grown = reallocarray(l->routes, cap, sizeof(*grown));
        if (!grown)
            return -ENOMEM;
        l->routes = grown;
        l->cap = cap;
    }
    l->routes[l->cnt++] = *r;
    return 0;
}

static void list_done(struct list *l)
{
    free(l->routes);
    *l = (struct list){.cnt = 0};
}

static int compare(const void *a, const void *b)
{
    return memcmp(a, b, sizeof(struct mirror_route));
}

static int compare_key(const void *a, const void *b)
{
    return memcmp(a, b, KEY_LEN);
}

/* Sorts, and leaves one route for each key; kinds are numbered so that the TUN
 * device wins. */
static void list_normalize(struct list *l)
{
    size_t kept = 0;

    if (l->cnt == 0)
        return;
    qsort(l->routes, l->cnt, sizeof(l->routes[0]), compare);
    for (size_t i = 0; i < l->cnt; i++)
        if (kept == 0 || compare_key(&l->routes[kept - 1], &l->routes[i]) != 0)
            l->routes[kept++] = l->routes[i];
    l->cnt = kept;
}

static bool list_has(const struct list *l, const struct mirror_route *r,
                     int (*cmp)(const void *, const void *))
{
    return l->cnt > 0 && bsearch(r, l->routes, l->cnt, sizeof(*r), cmp);
}

/* --- What the table should hold --------------------------------------------- */

struct seen_list {
    struct mirror_seen *seen;
    size_t cnt, cap;
};

struct planning {
    const struct mirror *m;
    struct list plan;
    bool ipv6_needs_source;
};

/* A destination that the prefix covers, to ask the kernel about. For a default
 * route it is one that no narrower route is likely to cover. */
static struct in6_addr sample_address(const struct mirror_route *r)
{
    static const uint8_t test_net[4] = {192, 0, 2, 1}; /* RFC 5737 */
    struct in6_addr a = r->dst;

    if (r->family == AF_INET) {
        if (r->dst_len == 0)
            memcpy(&a, test_net, 4);
        else if (r->dst_len < 32)
            a.s6_addr[3] |= 1;
    } else if (r->dst_len == 0) {
        a.s6_addr[0] = 0x20; /* 2000::1, global unicast */
        a.s6_addr[15] = 1;
    } else if (r->dst_len < 128) {
        a.s6_addr[15] |= 1;
    }
    return a;
}

/* On the TUN device, which has no address, the kernel would look for a source on
 * any interface, so the route says which. IPv4 chooses it by the gateway. IPv6
 * chooses it for each destination among the addresses of all interfaces, and
 * only prefers those of the outgoing one (RFC 6724 5, rule 5): while no other
 * interface has any, the choice stays right if the route leaves it open. */
static void choose_source(const struct planning *p, const struct mirror_seen *s,
                          struct mirror_route *r)
{
    struct in6_addr to = sample_address(r);
    struct in6_addr source;

    if (r->has_pref_src || (r->family == AF_INET6 && !p->ipv6_needs_source))
        return;
    if (r->family == AF_INET && s->has_gateway)
        to = s->gateway;
    memset(&source, 0, sizeof(source));
    if (mirror_msg_source(p->m, r->family, s->uplink_ifindex, &to, &source) < 0)
        return;
    /* Would not be valid on another device. */
    if (r->family == AF_INET6 && IN6_IS_ADDR_LINKLOCAL(&source))
        return;
    r->pref_src = source;
    r->has_pref_src = 1;
}

static struct mirror_route as_kind(const struct mirror_route *r, enum mirror_kind kind)
{
    struct mirror_route out = *r;

    out.kind = (uint8_t)kind;
    out.has_pref_src = 0;
    memset(&out.pref_src, 0, sizeof(out.pref_src));
    return out;
}

static int plan_through_tun(struct planning *p, const struct mirror_seen *s)
{
    struct mirror_route above = s->route;
    struct mirror_route below = as_kind(&s->route, MIRROR_UNREACHABLE);

    choose_source(p, s, &above);
    below.metric = METRIC_LAST;
    int err = list_add(&p->plan, &above);
    return err ? err : list_add(&p->plan, &below);
}

static int plan_route(struct planning *p, const struct mirror_seen *s)
{
    struct mirror_route native = as_kind(&s->route, MIRROR_NATIVE);

    if (s->uplink_ifindex && s->route.kind == MIRROR_TUN)
        return plan_through_tun(p, s);
    return list_add(&p->plan, &native);
}

static bool is_left_out(const struct mirror_seen *s)
{
    const struct in6_addr *dst = &s->route.dst;

    if (s->protocol == MIRROR_PROTOCOL || s->by_tun)
        return true;
    if (s->route.family == AF_INET || s->route.dst_len == 0)
        return false;
    return IN6_IS_ADDR_LINKLOCAL(dst) || IN6_IS_ADDR_MULTICAST(dst);
}

static int on_main_route(const struct mirror_seen *s, void *arg)
{
    struct seen_list *l = arg;

    if (is_left_out(s))
        return 0;
    if (l->cnt == l->cap) {
        size_t cap = l->cap ? 2 * l->cap : 64;
        struct mirror_seen *grown = reallocarray(l->seen, cap, sizeof(*grown));
        if (!grown)
            return -ENOMEM;
        l->seen = grown;
        l->cap = cap;
    }
    l->seen[l->cnt++] = *s;
    return 0;
}

static int list_main(const struct mirror *m, uint8_t family, struct seen_list *l)
{
    int err = -EINTR;

    for (int i = 0; i < DUMP_TRIES && err == -EINTR; i++) {
        l->cnt = 0;
        err = mirror_msg_list(m, family, RT_TABLE_MAIN, on_main_route, l);
    }
    return err;
}

static int plan_family(struct planning *p, uint8_t family)
{
    struct mirror_route last = {
        .family = family, .kind = MIRROR_UNREACHABLE, .metric = METRIC_LAST};
    struct seen_list main_routes = {.cnt = 0};

    int err = list_main(p->m, family, &main_routes);
    for (size_t i = 0; !err && i < main_routes.cnt; i++)
        err = plan_route(p, &main_routes.seen[i]);
    free(main_routes.seen);
    return err ? err : list_add(&p->plan, &last);
}

/* Has any interface global addresses, but the only uplink that has? */
static bool others_have_ipv6(const struct mirror *m, const struct addrs *addrs)
{
    int first = 0;

    for (size_t i = 0; i < addrs->cnt; i++) {
        const struct addrs_entry *e = &addrs->entries[i];

        if (addr_is_v4(&e->addr) || e->scope != RT_SCOPE_UNIVERSE || e->ifindex == m->tun_ifindex)
            continue;
        first = first ? first : e->ifindex;
        if (e->ifindex != first || !links_has(m->uplinks, e->ifindex))
            return true;
    }
    return false;
}

static int make_plan(const struct mirror *m, struct list *ret)
{
    struct planning p = {.m = m};
    struct addrs addrs;

    int err = addrs_load(m->rtnl, &addrs);
    if (err)
        return err;
    p.ipv6_needs_source = others_have_ipv6(m, &addrs);
    addrs_done(&addrs);
    for (size_t i = 0; !err && i < sizeof(families); i++)
        err = plan_family(&p, families[i]);
    if (err) {
        list_done(&p.plan);
        return err;
    }
    list_normalize(&p.plan);
    *ret = p.plan;
    return 0;
}

/* --- What it holds ---------------------------------------------------------- */

static int on_own_route(const struct mirror_seen *s, void *arg)
{
    return s->protocol == MIRROR_PROTOCOL ? list_add(arg, &s->route) : 0;
}

static int list_table(const struct mirror *m, uint32_t table, struct list *ret)
{
    struct list l = {.cnt = 0};
    int err = -EINTR;

    for (int i = 0; i < DUMP_TRIES && err == -EINTR; i++) {
        l.cnt = 0;
        err = 0;
        for (size_t f = 0; !err && f < sizeof(families); f++)
            err = mirror_msg_list(m, families[f], table, on_own_route, &l);
    }
    if (err) {
        list_done(&l);
        return err;
    }
    list_normalize(&l);
    *ret = l;
    return 0;
}

/* --- Lookup ----------------------------------------------------------------- */

static bool covers(const struct mirror_route *r, uint8_t family, const uint8_t *dst)
{
    size_t bytes = r->dst_len / 8;
    unsigned bits = r->dst_len % 8;

    if (r->family != family || memcmp(r->dst.s6_addr, dst, bytes) != 0)
        return false;
    return bits == 0 || ((r->dst.s6_addr[bytes] ^ dst[bytes]) >> (8 - bits)) == 0;
}

static bool is_better(const struct mirror_route *a, const struct mirror_route *b)
{
    if (!b || a->dst_len != b->dst_len)
        return !b || a->dst_len > b->dst_len;
    return a->metric < b->metric;
}

static enum mirror_kind lookup(const struct mirror_route *routes, size_t cnt,
                               const struct addr *dst)
{
    uint8_t family = addr_is_v4(dst) ? AF_INET : AF_INET6;
    const uint8_t *bytes = &dst->in6.s6_addr[family == AF_INET ? 12 : 0];
    const struct mirror_route *best = NULL;

    for (size_t i = 0; i < cnt; i++)
        if (covers(&routes[i], family, bytes) && is_better(&routes[i], best))
            best = &routes[i];
    return best ? (enum mirror_kind)best->kind : MIRROR_UNREACHABLE;
}

enum mirror_kind mirror_lookup(const struct mirror *m, const struct addr *dst)
{
    return lookup(m->routes, m->cnt, dst);
}

/* --- Changing --------------------------------------------------------------- */

struct change {
    const struct list *plan, *held;
};

static bool is_moving(const struct addr *dst, const void *arg)
{
    const struct change *c = arg;

    return lookup(c->plan->routes, c->plan->cnt, dst) == MIRROR_NATIVE &&
           lookup(c->held->routes, c->held->cnt, dst) != MIRROR_NATIVE;
}

/* Cheap answer to "can any destination move past us?". */
static bool may_move(const struct change *c)
{
    bool native = false, shrinks = false, grows = false;

    for (size_t i = 0; i < c->plan->cnt; i++) {
        if (c->plan->routes[i].kind != MIRROR_NATIVE)
            continue;
        native = true;
        grows |= !list_has(c->held, &c->plan->routes[i], compare);
    }
    for (size_t i = 0; native && i < c->held->cnt; i++)
        shrinks |= c->held->routes[i].kind == MIRROR_TUN &&
                   !list_has(c->plan, &c->held->routes[i], compare_key);
    return grows || (native && shrinks);
}

static void warn_route(const char *what, const struct mirror_route *r, int err)
{
    char text[ADDR_STR_LEN];
    struct addr a = r->family == AF_INET ? addr_from_v4(&r->dst) : addr_from_v6(&r->dst);

    log_warn("cannot %s route %s/%u of table %d: %s", what, addr_str(&a, text), r->dst_len,
             MIRROR_TABLE, strerror(-err));
}

static int set_kind(const struct mirror *m, const struct change *c, enum mirror_kind kind)
{
    int first = 0;

    for (size_t i = 0; i < c->plan->cnt; i++) {
        const struct mirror_route *r = &c->plan->routes[i];

        if (r->kind != (uint8_t)kind || list_has(c->held, r, compare))
            continue;
        int err = mirror_msg_set(m, MIRROR_TABLE, r);
        if (err)
            warn_route("set", r, err);
        first = first ? first : err;
    }
    return first;
}

/* A route whose key is planned was replaced, not added beside. */
static int del_kind(const struct mirror *m, const struct change *c, enum mirror_kind kind)
{
    int first = 0;

    for (size_t i = 0; i < c->held->cnt; i++) {
        const struct mirror_route *r = &c->held->routes[i];

        if (r->kind != (uint8_t)kind || list_has(c->plan, r, compare_key))
            continue;
        int err = mirror_msg_del(m, MIRROR_TABLE, r);
        if (err)
            warn_route("remove", r, err);
        first = first ? first : err;
    }
    return first;
}

/* In an order in which nothing leaves past us for a moment: closed routes first
 * in and last out, ways past us last in and first out. */
static int apply(const struct mirror *m, const struct change *c)
{
    static const enum mirror_kind order[] = {MIRROR_UNREACHABLE, MIRROR_TUN, MIRROR_NATIVE};
    int first = 0;

    for (size_t i = 0; i < 3; i++) {
        int err = set_kind(m, c, order[i]);
        first = first ? first : err;
    }
    for (size_t i = 3; i-- > 0;) {
        int err = del_kind(m, c, order[i]);
        first = first ? first : err;
    }
    return first;
}

int mirror_sync(struct mirror *m, mirror_moving_fn moving, void *ctx)
{
    struct list plan, held;

    int err = make_plan(m, &plan);
    if (err)
        return err;
    err = list_table(m, MIRROR_TABLE, &held);
    if (err) {
        list_done(&plan);
        return err;
    }
    struct change c = {.plan = &plan, .held = &held};
    bool move = held.cnt > 0 && may_move(&c);
    if (move)
        moving(ctx, is_moving, &c);
    err = apply(m, &c);
    if (move)
        moving(ctx, is_moving, &c);
    list_done(&held);
    free(m->routes);
    m->routes = plan.routes;
    m->cnt = plan.cnt;
    return err;
}

int mirror_load(struct mirror *m)
{
    struct list held;

    int err = list_table(m, MIRROR_TABLE, &held);
    if (err)
        return err;
    free(m->routes);
    m->routes = held.routes;
    m->cnt = held.cnt;
    return 0;
}

/* --- Beside the table ------------------------------------------------------- */

int mirror_add_dummy_route(struct nl_sock *rtnl, int tun_ifindex)
{
    static const uint8_t dummy[4] = {192, 0, 0, 8}; /* RFC 7600 4.8 */
    struct links none = {.cnt = 0};
    struct mirror m = {.rtnl = rtnl, .tun_ifindex = tun_ifindex, .uplinks = &none};
    struct mirror_route r = {.family = AF_INET, .dst_len = 32, .kind = MIRROR_TUN};

    memcpy(&r.dst, dummy, 4);
    return mirror_msg_set(&m, RT_TABLE_MAIN, &r);
}

static int remove_table(const struct mirror *m, uint32_t table, bool *found)
{
    struct list own;

    int err = list_table(m, table, &own);
    if (err)
        return err;
    *found |= own.cnt > 0;
    for (size_t i = 0; i < own.cnt; i++) {
        int e = mirror_msg_del(m, table, &own.routes[i]);
        err = err ? err : e;
    }
    list_done(&own);
    return err;
}

int mirror_remove_all(struct nl_sock *rtnl, bool *ret_found)
{
    struct links none = {.cnt = 0};
    struct mirror m = {.rtnl = rtnl, .uplinks = &none};
    bool found = false;

    int err = remove_table(&m, MIRROR_TABLE, &found);
    int err_main = remove_table(&m, RT_TABLE_MAIN, &found);
    *ret_found = found;
    return err ? err : err_main;
}
