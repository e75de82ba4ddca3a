/* SPDX-License-Identifier: BSD-3-Clause
 * Initial sequence numbers.
 *
 * How it works: the clock of RFC 6528 moves by 250,000 each second. A connection that sent
 * more is ahead of it for a while; those that ended so are remembered, in a table in which
 * the later of two that meet stays.
 */
#include "tcp/isn.h"

#include <string.h>

#include "base/clock.h"
#include "tcp/stack.h"

#define ENDED_CNT     4096u
#define ENDED_AGE_S   60 /* two maximum segment lifetimes: as long as the other end waits */
#define AHEAD_LEN     65536u
#define CLOCK_TICK_US 4

struct ended {
    uint64_t id; /* the keyed hash of the connection */
    int64_t at_us;
    uint32_t next;
};

static struct ended table[ENDED_CNT];

static uint64_t id_of(const void *local_ip, uint16_t local_port, const void *remote_ip,
                      uint16_t remote_port)
{
    struct {
        struct addr local, remote;
        uint16_t local_port, remote_port;
    } id = {addr_from_lwip(local_ip), addr_from_lwip(remote_ip), local_port, remote_port};

    return siphash(&stack.cfg.isn_key, &id, sizeof(id));
}

/* RFC 6528 3: a clock of 4 microseconds plus a keyed hash of the connection. */
static uint32_t by_clock(uint64_t id)
{
    return (uint32_t)id + (uint32_t)(clock_us() / CLOCK_TICK_US);
}

static struct ended *place_of(uint64_t id)
{
    return &table[(id >> 32) % ENDED_CNT];
}

unsigned int stack_initial_seq(const void *local_ip, unsigned short local_port,
                               const void *remote_ip, unsigned short remote_port)
{
    if (stack.isn_forced)
        return stack.isn;
    uint64_t id = id_of(local_ip, local_port, remote_ip, remote_port);
    const struct ended *e = place_of(id);
    uint32_t isn = by_clock(id);

    if (e->at_us > 0 && e->id == id && clock_us() - e->at_us < ENDED_AGE_S * 1000000 &&
        TCP_SEQ_GEQ(e->next, isn))
        return e->next + AHEAD_LEN;
    return isn;
}

void isn_note_end(const struct tcp_pcb *pcb)
{
    uint64_t id = id_of(&pcb->local_ip, pcb->local_port, &pcb->remote_ip, pcb->remote_port);

    if (TCP_SEQ_GEQ(pcb->snd_nxt, by_clock(id)))
        *place_of(id) = (struct ended){id, clock_us(), pcb->snd_nxt};
}

void isn_clear(void)
{
    memset(table, 0, sizeof(table));
}
