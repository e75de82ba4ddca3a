/* SPDX-License-Identifier: BSD-3-Clause
 * Ends that fell silent.
 */
#include "tunnel/silence.h"

static bool is_missed(struct leg *leg, struct silence *s)
{
    if (s->heard) {
        s->heard = false;
        s->missed = 0;
        return false;
    }
    leg_probe(leg);
    return ++s->missed > SILENCE_PROBES_MAX;
}

bool silence_note(struct flow *f, enum side side, const struct packet *packet)
{
    struct leg *outer = &f->legs[SIDE_OUTER];

    f->by_look[side].heard = true;
    f->by_probe.heard |= side == SIDE_OUTER;
    if (side == SIDE_OUTER || !outer->pcb || !leg_is_probed(&f->legs[SIDE_INNER], packet))
        return true;
    return !is_missed(outer, &f->by_probe);
}

bool silence_look(struct flow *f)
{
    for (int side = 0; side < SIDE_CNT; side++) {
        if (f->legs[side].pcb && is_missed(&f->legs[side], &f->by_look[side]))
            return false;
    }
    return true;
}
