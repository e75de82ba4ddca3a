/* SPDX-License-Identifier: BSD-3-Clause
 * Name resolution for a namespace whose resolver listens on the caller's loopback.
 *
 * How it works: a resolver such as 127.0.0.53 is one of the calling namespace
 * and not there in the new one. The relay listens at the same address inside
 * and passes questions and answers, so /etc/resolv.conf stays as it is and no
 * mount is needed. UDP: one upstream socket for each question. TCP: bytes both
 * ways. All in one thread, never blocking; at a cap the oldest question or the
 * newest connection is given up.
 *
 * Limits: UDP_MAX_CNT questions and TCP_MAX_CNT connections at a time. Resolvers
 * with a link-local address (fe80::1%eth0) are not relayed.
 */
#ifndef TCNS_CTL_DNS_H
#define TCNS_CTL_DNS_H

#include <netinet/in.h>
#include <stddef.h>

struct dns;

union dns_addr {
    struct sockaddr sa;
    struct sockaddr_in in;
    struct sockaddr_in6 in6;
};

#define DNS_SERVER_MAX_CNT 3 /* resolv.conf(5) MAXNS */
#define DNS_PORT           53

/* The loopback resolvers that the text of a resolv.conf(5) names; 127.0.0.1
 * when it names no resolver at all. Return: how many, at most max. */
size_t dns_loopback_servers(const char *text, union dns_addr *ret, size_t max);

/* All that a file names. One that is not there names none. Return: how many; -errno. */
int dns_servers_of(const char *path, union dns_addr *ret, size_t max);

/* dns_loopback_servers() of a file. One that is not there names none. Return: how many; -errno. */
int dns_loopback_servers_of(const char *path, union dns_addr *ret, size_t max);

/* Listens at the servers' addresses in the namespace netns_fd; asks the servers
 * themselves in the calling one. Both descriptors are borrowed.
 * Return: 0 and *ret; -errno (-EADDRINUSE: something listens there already). */
int dns_new(int netns_fd, const union dns_addr *servers, size_t server_cnt, struct dns **ret);
void dns_free(struct dns *d);

/* A descriptor that is readable when dns_dispatch() has something to do. */
int dns_fd(const struct dns *d);
void dns_dispatch(struct dns *d);

#endif
