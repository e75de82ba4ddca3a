/* SPDX-License-Identifier: BSD-3-Clause
 * Blocks of a pcapng file.
 */
#include "tunnel/pcapng.h"

#include <string.h>

enum {
    BLOCK_SECTION = 0x0a0d0d0a,
    BLOCK_INTERFACE = 1,
    BLOCK_STATISTICS = 5,
    BLOCK_PACKET = 6,
};

enum {
    OPT_END = 0,
    OPT_COMMENT = 1,
    OPT_SHB_USERAPPL = 4,
    OPT_IF_NAME = 2,
    OPT_IF_DESCRIPTION = 3,
    OPT_IF_TSRESOL = 9,
    OPT_EPB_FLAGS = 2,
    OPT_ISB_STARTTIME = 2,
    OPT_ISB_ENDTIME = 3,
    OPT_ISB_IFRECV = 4,
    OPT_ISB_IFDROP = 5,
};

#define BYTE_ORDER_MAGIC 0x1a2b3c4du
#define TSRESOL_NS       9
#define FLAG_INBOUND     1u
#define FLAG_OUTBOUND    2u

struct writer {
    uint8_t *start, *next;
};

static void put(struct writer *w, const void *bytes, size_t len)
{
    memcpy(w->next, bytes, len);
    w->next += len;
}

static void put16(struct writer *w, uint16_t v)
{
    put(w, &v, sizeof(v));
}

static void put32(struct writer *w, uint32_t v)
{
    put(w, &v, sizeof(v));
}

static void pad(struct writer *w)
{
    while ((w->next - w->start) % 4 != 0)
        *w->next++ = 0;
}

static struct writer begin(uint8_t *out, uint32_t type)
{
    struct writer w = {out, out};

    put32(&w, type);
    put32(&w, 0); /* the length, see end() */
    return w;
}

static size_t end(struct writer *w)
{
    uint32_t len = (uint32_t)(w->next - w->start) + 4;

    memcpy(w->start + 4, &len, sizeof(len));
    put32(w, len);
    return len;
}

static void option(struct writer *w, uint16_t code, const void *value, size_t len)
{
    put16(w, code);
    put16(w, (uint16_t)len);
    put(w, value, len);
    pad(w);
}

static void option_text(struct writer *w, uint16_t code, const char *text)
{
    if (text)
        option(w, code, text, strnlen(text, PCAPNG_TEXT_MAX_LEN));
}

static void option_end(struct writer *w)
{
    option(w, OPT_END, "", 0);
}

/* Times are two halves, the high one first, whatever the byte order. */
static void put_time(struct writer *w, uint64_t ns)
{
    put32(w, (uint32_t)(ns >> 32));
    put32(w, (uint32_t)ns);
}

static void option_time(struct writer *w, uint16_t code, uint64_t ns)
{
    put16(w, code);
    put16(w, 8);
    put_time(w, ns);
}

size_t pcapng_section(uint8_t *out, const char *application, const char *comment)
{
    const int64_t unknown_len = -1;
    struct writer w = begin(out, BLOCK_SECTION);

    put32(&w, BYTE_ORDER_MAGIC);
    put16(&w, 1); /* version 1.0 */
    put16(&w, 0);
    put(&w, &unknown_len, sizeof(unknown_len));
    option_text(&w, OPT_SHB_USERAPPL, application);
    option_text(&w, OPT_COMMENT, comment);
    option_end(&w);
    return end(&w);
}

size_t pcapng_interface(uint8_t *out, const char *name, const char *description,
                        const char *comment, uint32_t snap_len)
{
    const uint8_t resolution = TSRESOL_NS;
    struct writer w = begin(out, BLOCK_INTERFACE);

    put16(&w, PCAPNG_LINKTYPE_RAW);
    put16(&w, 0);
    put32(&w, snap_len);
    option_text(&w, OPT_IF_NAME, name);
    option_text(&w, OPT_IF_DESCRIPTION, description);
    option_text(&w, OPT_COMMENT, comment);
    option(&w, OPT_IF_TSRESOL, &resolution, 1);
    option_end(&w);
    return end(&w);
}

size_t pcapng_packet(uint8_t *out, const struct pcapng_packet *p, uint8_t **ret_data)
{
    const uint32_t flags = p->outbound ? FLAG_OUTBOUND : FLAG_INBOUND;
    struct writer w = begin(out, BLOCK_PACKET);

    put32(&w, p->interface);
    put_time(&w, p->time_ns);
    put32(&w, p->cap_len);
    put32(&w, p->len);
    *ret_data = w.next;
    w.next += p->cap_len;
    pad(&w);
    option(&w, OPT_EPB_FLAGS, &flags, sizeof(flags));
    option_text(&w, OPT_COMMENT, p->comment);
    option_end(&w);
    return end(&w);
}

size_t pcapng_statistics(uint8_t *out, const struct pcapng_statistics *s)
{
    struct writer w = begin(out, BLOCK_STATISTICS);

    put32(&w, s->interface);
    put_time(&w, s->end_ns);
    option_time(&w, OPT_ISB_STARTTIME, s->start_ns);
    option_time(&w, OPT_ISB_ENDTIME, s->end_ns);
    option(&w, OPT_ISB_IFRECV, &s->received, sizeof(s->received));
    option(&w, OPT_ISB_IFDROP, &s->dropped, sizeof(s->dropped));
    option_end(&w);
    return end(&w);
}
