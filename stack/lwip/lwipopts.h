/* SPDX-License-Identifier: BSD-3-Clause
 * What we use of lwIP: the per-connection TCP state machine, nothing below it.
 * docs/LWIP.md lists the behaviours that we rely on.
 */
#ifndef TCNS_LWIPOPTS_H
#define TCNS_LWIPOPTS_H

#define NO_SYS               1
#define SYS_LIGHTWEIGHT_PROT 0
#define LWIP_NETCONN         0
#define LWIP_SOCKET          0
#define LWIP_STATS           0
#define LWIP_TIMERS          0 /* tick() is called by the tunnel's loop */
#define MEM_LIBC_MALLOC      1
#define MEMP_MEM_MALLOC      1
#define MEM_ALIGNMENT        8

#define LWIP_IPV4                       1
#define LWIP_IPV6                       1
#define LWIP_IPV6_SCOPES                0 /* zones belong to the kernel's side of the uplink */
#define LWIP_ND6_TCP_REACHABILITY_HINTS 0
#define LWIP_ARP                        0
#define LWIP_ICMP                       0
#define LWIP_ICMP6                      0
#define LWIP_IPV6_MLD                   0
#define LWIP_RAW                        0
#define LWIP_UDP                        0
#define IP_REASSEMBLY                   0
#define IP_FRAG                         0
#define LWIP_IPV6_FRAG                  0
#define LWIP_IPV6_REASS                 0

/* Headers are rebuilt, and sums made or offloaded, in stack/tcp. */
#define CHECKSUM_GEN_IP       0
#define CHECKSUM_GEN_TCP      0
#define CHECKSUM_CHECK_IP     0
#define CHECKSUM_CHECK_TCP    0
#define LWIP_CHECKSUM_ON_COPY 0

#define LWIP_SUPPORT_CUSTOM_PBUF 1 /* received packets stay in their buffers */

#define LWIP_TCP            1
#define TCP_LISTEN_BACKLOG  0
#define LWIP_TCP_TIMESTAMPS 0 /* the 40 bytes of SYN options are needed for ENO */
#define LWIP_TCP_SACK_OUT   1
#define TCP_QUEUE_OOSEQ     1
/* lwIP walks the list of segments that are out of order for each of them; a peer that
 * sends every other byte would make it a million long. This is a window of whole ones. */
#define TCP_OOSEQ_PBUFS_LIMIT(pcb) 4096
#define LWIP_WND_SCALE             1
#define TCP_RCV_SCALE              8

/* Windows are set per leg (leg.c); these are the limits. */
#define TCP_WND                        (8 * 1024 * 1024)
#define TCP_MSS                        65495 /* a super-segment of the inner leg */
#define PBUF_POOL_BUFSIZE              2048  /* unused, but computed from TCP_MSS in 16 bits */
#define TCP_SND_BUF                    (8 * 1024 * 1024)
#define TCP_SND_QUEUELEN               0xfff0
#define TCP_SNDLOWAT                   65535
#define TCP_SNDQUEUELOWAT              64
#define TCP_OVERSIZE                   0           /* tcp_write never copies */
#define TCP_WND_UPDATE_THRESHOLD       0xffffffffu /* leg_output() decides */
#define TCP_CALCULATE_EFF_SEND_MSS     1
#define LWIP_DISABLE_TCP_SANITY_CHECKS 1 /* they assume statically sized pools */

/* RFC 6298 2.1; and a clock fine enough for local round trips. With 25 ms the
 * slow timer, lwIP's unit for RTO, is 50 ms, so that the shortest RTO is 150 ms. */
#define LWIP_TCP_RTO_TIME 1000
#define TCP_TMR_INTERVAL  25
#define TCP_MAXRTX        12
#define TCP_SYNMAXRTX     6
#define TCP_TTL           64

#define LWIP_NETIF_HWADDRHINT 1 /* netif->hints leads from a segment to its pcb */
#define LWIP_NETIF_API        0
#define LWIP_NETIF_LOOPBACK   0
#define LWIP_HAVE_LOOPIF      0
#define LWIP_SINGLE_NETIF     0

unsigned int stack_initial_seq(const void *local_ip, unsigned short local_port,
                               const void *remote_ip, unsigned short remote_port);
#define LWIP_HOOK_TCP_ISN(lip, lport, rip, rport) stack_initial_seq(lip, lport, rip, rport)

#endif
