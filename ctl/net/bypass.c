/* SPDX-License-Identifier: BSD-3-Clause
 * The TCP whose connections keep the kernel's own path.
 */
#include "ctl/net/bypass.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Services that encrypt from their first byte on, by the IANA registry (5223,
 * 6697 and 8883 by use): ssh, https, smtps, nntps, ldaps, dns over TLS, ftps,
 * telnets/imaps/ircs/pop3s, global catalogue, sips, xmpp, turns, amqps, syslog,
 * ircs, mqtts. A second encryption would cost them speed and give nothing.
 * Ports that are only often TLS (8443, 6443) are not here: a clear protocol on
 * them would go out clear. */
static const struct port_range encrypting[] = {
    {22, 22},     {443, 443},   {465, 465},   {563, 563},   {636, 636},   {853, 853},
    {989, 990},   {992, 995},   {3269, 3269}, {5061, 5061}, {5223, 5223}, {5349, 5349},
    {5671, 5671}, {6514, 6514}, {6697, 6697}, {8883, 8883},
};

/* Takes out what touches or overlaps *r and widens *r by it. */
static void merge_into(struct bypass *b, struct port_range *r)
{
    size_t kept = 0;

    for (size_t i = 0; i < b->cnt; i++) {
        struct port_range o = b->ranges[i];

        if (o.last + 1 < r->first || o.first > r->last + 1) {
            b->ranges[kept++] = o;
            continue;
        }
        r->first = o.first < r->first ? o.first : r->first;
        r->last = o.last > r->last ? o.last : r->last;
    }
    b->cnt = kept;
}

int bypass_add(struct bypass *b, struct port_range range)
{
    struct bypass next = *b;
    size_t at = 0;

    merge_into(&next, &range);
    if (next.cnt == BYPASS_MAX_CNT)
        return -E2BIG;
    while (at < next.cnt && next.ranges[at].first < range.first)
        at++;
    memmove(&next.ranges[at + 1], &next.ranges[at], (next.cnt - at) * sizeof(range));
    next.ranges[at] = range;
    next.cnt++;
    *b = next;
    return 0;
}

static int add_encrypting(struct bypass *b)
{
    for (size_t i = 0; i < sizeof(encrypting) / sizeof(encrypting[0]); i++) {
        int err = bypass_add(b, encrypting[i]);
        if (err)
            return err;
    }
    return 0;
}

void bypass_default(struct bypass *b)
{
    _Static_assert(sizeof(encrypting) / sizeof(encrypting[0]) <= BYPASS_MAX_CNT, "must fit");
    b->cnt = 0;
    (void)add_encrypting(b);
}

/* Return: what follows the number; NULL when there is none from 1 to 65535. */
static const char *parse_port(const char *s, uint16_t *ret)
{
    char *end;

    if (*s < '0' || *s > '9')
        return NULL;
    unsigned long n = strtoul(s, &end, 10);
    if (n < 1 || n > UINT16_MAX)
        return NULL;
    *ret = (uint16_t)n;
    return end;
}

int bypass_parse_range(const char *word, struct port_range *ret)
{
    struct port_range r;
    const char *rest = parse_port(word, &r.first);
    if (!rest)
        return -EINVAL;
    r.last = r.first;
    if (*rest == '-')
        rest = parse_port(rest + 1, &r.last);
    if (!rest || *rest || r.last < r.first)
        return -EINVAL;
    *ret = r;
    return 0;
}

static int add_word(struct bypass *b, const char *word)
{
    struct port_range r;

    if (strcmp(word, "default") == 0)
        return add_encrypting(b);
    int err = bypass_parse_range(word, &r);
    if (err)
        return err;
    return r.last > BYPASS_PORT_MAX ? -ERANGE : bypass_add(b, r);
}

int bypass_parse(const char *text, struct bypass *ret)
{
    struct bypass b = {.cnt = 0};
    char word[16];

    if (strcmp(text, "none") == 0) {
        *ret = b;
        return 0;
    }
    for (;;) {
        size_t len = strcspn(text, ",");
        if (len == 0 || len >= sizeof(word))
            return -EINVAL;
        memcpy(word, text, len);
        word[len] = '\0';
        int err = add_word(&b, word);
        if (err)
            return err;
        if (!text[len])
            break;
        text += len + 1;
    }
    *ret = b;
    return 0;
}

bool bypass_eq(const struct bypass *a, const struct bypass *b)
{
    return a->cnt == b->cnt && a->match_cnt == b->match_cnt &&
           memcmp(a->ranges, b->ranges, a->cnt * sizeof(a->ranges[0])) == 0 &&
           memcmp(a->matches, b->matches, a->match_cnt * sizeof(a->matches[0])) == 0;
}

int bypass_add_match(struct bypass *b, const struct policy_match *m)
{
    for (size_t i = 0; i < b->match_cnt; i++)
        if (memcmp(&b->matches[i], m, sizeof(*m)) == 0)
            return 0;
    if (b->match_cnt == BYPASS_MATCH_MAX_CNT)
        return -E2BIG;
    b->matches[b->match_cnt++] = *m;
    return 0;
}

static bool are_below_max(const struct port_range *list, size_t cnt)
{
    for (size_t i = 0; i < cnt; i++)
        if (list[i].last > BYPASS_PORT_MAX)
            return false;
    return true;
}

bool bypass_can_follow(const struct policy_rule *rule)
{
    return are_below_max(rule->ports, rule->port_cnt) &&
           are_below_max(rule->peer_ports, rule->peer_port_cnt) &&
           are_below_max(rule->local_ports, rule->local_port_cnt);
}

int bypass_add_rule(struct bypass *b, const struct policy_rule *rule)
{
    size_t max = BYPASS_MATCH_MAX_CNT - b->match_cnt;

    if (rule->action != TUNNEL_POLICY_BYPASS)
        return 0;
    size_t cnt = policy_rule_matches(rule, b->matches + b->match_cnt, max);
    if (cnt > max)
        return -E2BIG;
    b->match_cnt += cnt;
    return 0;
}

bool bypass_takes(const struct bypass *b, const struct tuple *t)
{
    for (size_t i = 0; i < b->match_cnt; i++)
        if (policy_match_takes(&b->matches[i], t))
            return true;
    return bypass_has(b, t->local_port) || bypass_has(b, t->peer_port);
}

bool bypass_has(const struct bypass *b, uint16_t port)
{
    for (size_t i = 0; i < b->cnt; i++)
        if (port >= b->ranges[i].first && port <= b->ranges[i].last)
            return true;
    return false;
}

const char *bypass_str(const struct bypass *b, char out[BYPASS_STR_LEN])
{
    size_t n = 0;

    strcpy(out, "none");
    for (size_t i = 0; i < b->cnt; i++) {
        const struct port_range *r = &b->ranges[i];

        n += (size_t)sprintf(out + n, i ? ",%u" : "%u", r->first);
        if (r->last != r->first)
            n += (size_t)sprintf(out + n, "-%u", r->last);
    }
    return out;
}
