/* SPDX-License-Identifier: BSD-3-Clause
 * What becomes of the container's UDP while its TCP must be encrypted.
 */
#include "ctl/net/udp.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

#include "ctl/exec/dns.h"

#define RESOLV_CONF "/etc/resolv.conf"

static const char *const names_of_actions[] = {
    [UDP_ALLOW] = "allow", [UDP_DROP] = "drop", [UDP_REJECT] = "reject"};

int udp_parse_action(const char *text, enum udp_action *ret)
{
    for (size_t i = 0; i < sizeof(names_of_actions) / sizeof(names_of_actions[0]); i++) {
        if (strcmp(names_of_actions[i], text) == 0) {
            *ret = (enum udp_action)i;
            return 0;
        }
    }
    return -EINVAL;
}

const char *udp_action_name(enum udp_action action)
{
    return names_of_actions[action];
}

static int read_resolv_conf(struct udp *u)
{
    union dns_addr servers[DNS_SERVER_MAX_CNT];
    int cnt = dns_servers_of(RESOLV_CONF, servers, DNS_SERVER_MAX_CNT);

    for (int i = 0; i < cnt; i++)
        u->dns[u->dns_cnt++] = servers[i].sa.sa_family == AF_INET
                                   ? addr_from_v4(&servers[i].in.sin_addr)
                                   : addr_from_v6(&servers[i].in6.sin6_addr);
    return cnt < 0 ? cnt : 0;
}

static int read_addr(const char *word, struct udp *u)
{
    struct in6_addr v6;
    struct in_addr v4;

    if (u->dns_cnt == UDP_DNS_MAX_CNT)
        return -E2BIG;
    if (inet_pton(AF_INET, word, &v4) == 1)
        u->dns[u->dns_cnt++] = addr_from_v4(&v4);
    else if (inet_pton(AF_INET6, word, &v6) == 1)
        u->dns[u->dns_cnt++] = addr_from_v6(&v6);
    else
        return -EINVAL;
    return 0;
}

int udp_parse_dns(const char *text, struct udp *ret)
{
    struct udp u = {.action = ret->action};
    char word[INET6_ADDRSTRLEN];
    int err = 0;

    if (strcmp(text, "resolv.conf") == 0) {
        err = read_resolv_conf(&u);
    } else if (strcmp(text, "none") != 0) {
        for (const char *rest = text; !err; rest++) {
            size_t len = strcspn(rest, ",");
            if (len >= sizeof(word))
                return -EINVAL;
            memcpy(word, rest, len);
            word[len] = '\0';
            err = read_addr(word, &u);
            rest += len;
            if (!*rest)
                break;
        }
    }
    if (!err)
        *ret = u;
    return err;
}

/* field: "daddr" and "dport" of questions, "saddr" and "sport" of answers. */
static void print_dns(FILE *out, const struct udp *udp, char end)
{
    char addr[ADDR_STR_LEN];

    for (size_t i = 0; i < udp->dns_cnt; i++)
        fprintf(out, "%s %caddr %s udp %cport 53 accept\n", addr_is_v4(&udp->dns[i]) ? "ip" : "ip6",
                end, addr_str(&udp->dns[i], addr), end);
}

/* DHCP's ports: client 68 and server 67, with IPv6 546 and 547. */
void udp_print(FILE *out, const char *numbers, const struct udp *udp)
{
    const char *verdict = udp->action == UDP_DROP ? "drop" : "reject";

    if (udp->action == UDP_ALLOW)
        return;
    fprintf(out,
            "chain udp_out {\n"
            "type filter hook output priority 0; policy accept;\n"
            "meta l4proto != udp accept\n"
            "oif != { %s } accept\n"
            "udp sport . udp dport { 68 . 67, 546 . 547 } accept\n",
            numbers);
    print_dns(out, udp, 'd');
    fprintf(out,
            "%s\n}\n"
            "chain udp_in {\n"
            "type filter hook input priority 0; policy accept;\n"
            "meta l4proto != udp accept\n"
            "iif != { %s } accept\n"
            "udp sport . udp dport { 67 . 68, 547 . 546 } accept\n",
            verdict, numbers);
    print_dns(out, udp, 's');
    fprintf(out, "%s\n}\n", verdict);
}
