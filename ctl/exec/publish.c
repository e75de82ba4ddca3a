/* SPDX-License-Identifier: BSD-3-Clause
 * Ports of a namespace that exec or netns made, reached at the host's addresses.
 */
#include "ctl/exec/publish.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* Return: the port that text[0..len) is; 0 when it is none. */
static uint16_t read_port(const char *text, size_t len)
{
    unsigned long n = 0;

    if (len == 0 || len > 5)
        return 0;
    for (size_t i = 0; i < len; i++) {
        if (text[i] < '0' || text[i] > '9')
            return 0;
        n = n * 10 + (unsigned long)(text[i] - '0');
    }
    return n <= 65535 ? (uint16_t)n : 0;
}

static bool read_address(const char *text, size_t len, int family, struct publish_port *ret)
{
    char copy[INET6_ADDRSTRLEN];

    if (len >= sizeof(copy))
        return false;
    memcpy(copy, text, len);
    copy[len] = '\0';
    ret->family = family;
    return inet_pton(family, copy, ret->addr) == 1;
}

/* Cuts an address off the front of *text. Return: whether what is there is well-formed. */
static bool cut_address(const char **text, struct publish_port *ret)
{
    const char *start = *text, *end;
    bool six = start[0] == '[';

    if (six) {
        end = strstr(start, "]:");
        if (!end || !read_address(start + 1, (size_t)(end - start - 1), AF_INET6, ret))
            return false;
        *text = end + 2;
        return true;
    }
    end = strchr(start, ':');
    if (!end || !memchr(start, '.', (size_t)(end - start)))
        return true; /* there is none */
    *text = end + 1;
    return read_address(start, (size_t)(end - start), AF_INET, ret);
}

static bool parse(const char *text, struct publish_port *ret)
{
    *ret = (struct publish_port){.protocol = IPPROTO_TCP};
    if (!cut_address(&text, ret))
        return false;
    size_t len = strcspn(text, "/");
    if (strcmp(text + len, "/udp") == 0)
        ret->protocol = IPPROTO_UDP;
    else if (text[len] && strcmp(text + len, "/tcp") != 0)
        return false;
    const char *colon = memchr(text, ':', len);
    size_t first = colon ? (size_t)(colon - text) : len;
    ret->host_port = read_port(text, first);
    ret->inside_port = colon ? read_port(colon + 1, len - first - 1) : ret->host_port;
    return ret->host_port && ret->inside_port;
}

static bool same_port(const struct publish_port *a, const struct publish_port *b)
{
    if (a->host_port != b->host_port || a->protocol != b->protocol)
        return false;
    if (!a->family || !b->family)
        return true;
    return a->family == b->family && memcmp(a->addr, b->addr, sizeof(a->addr)) == 0;
}

int publish_add(struct publish *p, const char *text)
{
    struct publish_port port;

    if (!parse(text, &port))
        return -EINVAL;
    for (size_t i = 0; i < p->cnt; i++)
        if (same_port(&p->ports[i], &port))
            return -EEXIST;
    if (p->cnt == PUBLISH_MAX_CNT)
        return -E2BIG;
    p->ports[p->cnt++] = port;
    return 0;
}

void publish_rules(FILE *out, const struct publish *p, int family, const char *inside)
{
    bool six = family == AF_INET6;
    const char *ip = six ? "ip6" : "ip";

    for (size_t i = 0; i < p->cnt; i++) {
        const struct publish_port *port = &p->ports[i];
        char addr[INET6_ADDRSTRLEN];

        if (port->family && port->family != family)
            continue;
        if (port->family)
            fprintf(out, "%s daddr %s ", ip, inet_ntop(family, port->addr, addr, sizeof(addr)));
        else
            fprintf(out, "meta nfproto %s fib daddr type local ", six ? "ipv6" : "ipv4");
        fprintf(out, "%s dport %u dnat %s to %s%s%s:%u\n",
                port->protocol == IPPROTO_UDP ? "udp" : "tcp", port->host_port, ip, six ? "[" : "",
                inside, six ? "]" : "", port->inside_port);
    }
}
