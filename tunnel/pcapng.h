/* SPDX-License-Identifier: BSD-3-Clause
 * Blocks of a pcapng file (draft-ietf-opsawg-pcapng), in the byte order of this machine.
 *
 * Every function writes one whole block to out and returns its length; the caller has made
 * room for it.
 */
#ifndef TCNS_TUNNEL_PCAPNG_H
#define TCNS_TUNNEL_PCAPNG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PCAPNG_LINKTYPE_RAW    101 /* IPv4 or IPv6, without link-layer header */
#define PCAPNG_TEXT_MAX_LEN    400 /* longer texts are cut */
#define PCAPNG_BLOCK_MAX_LEN   (64 + 4 * (PCAPNG_TEXT_MAX_LEN + 8)) /* of all but packets */
#define PCAPNG_PACKET_OVERHEAD (64 + PCAPNG_TEXT_MAX_LEN)           /* of a packet's block */

/* Texts may be NULL: then the option is left out. */
size_t pcapng_section(uint8_t *out, const char *application, const char *comment);

/* Times are in nanoseconds. */
size_t pcapng_interface(uint8_t *out, const char *name, const char *description,
                        const char *comment, uint32_t snap_len);

struct pcapng_packet {
    uint32_t interface; /* in order of pcapng_interface(), from 0 */
    uint64_t time_ns;   /* since the epoch */
    uint32_t cap_len;   /* bytes that are kept */
    uint32_t len;       /* bytes that there were */
    bool outbound;
    const char *comment;
};

/* A packet's block, around cap_len bytes that the caller copies to *ret_data. */
size_t pcapng_packet(uint8_t *out, const struct pcapng_packet *p, uint8_t **ret_data);

struct pcapng_statistics {
    uint32_t interface;
    uint64_t start_ns, end_ns;
    uint64_t received; /* that the filter took, those dropped among them */
    uint64_t dropped;
};

size_t pcapng_statistics(uint8_t *out, const struct pcapng_statistics *s);

#endif
