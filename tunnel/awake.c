/* SPDX-License-Identifier: BSD-3-Clause
 * How long the loop stays awake for the next packet.
 */
#include "tunnel/awake.h"

#define FIRST_US       10
#define WORTH_US       5 /* of a packet that was met awake */
#define BALANCE_MAX_US 3000
#define PAUSE_PER_DEBT 100 /* to be asleep, of a debt */

static int64_t at_most(int64_t a, int64_t max)
{
    return a < max ? a : max;
}

static void learn(struct awake *a, int64_t now_us)
{
    if (now_us - a->rest_us > AWAKE_MAX_US || now_us < a->pause_until_us)
        a->time_us = 0;
    else
        a->time_us = a->time_us ? at_most(2 * a->time_us, AWAKE_MAX_US) : FIRST_US;
}

void awake_input(struct awake *a, int64_t now_us)
{
    if (a->state == AWAKE_ASLEEP)
        learn(a, now_us);
    else if (a->state == AWAKE_LOOKING)
        a->balance_us = at_most(a->balance_us + WORTH_US, BALANCE_MAX_US);
    a->state = AWAKE_WORKING;
}

bool awake_rest(struct awake *a, int64_t now_us)
{
    a->rest_us = now_us;
    if (a->time_us == 0)
        a->state = AWAKE_ASLEEP;
    return a->time_us > 0;
}

bool awake_goes_on(struct awake *a, int64_t now_us)
{
    a->state = now_us - a->rest_us <= a->time_us ? AWAKE_LOOKING : AWAKE_ASLEEP;
    return a->state == AWAKE_LOOKING;
}

void awake_yielded(struct awake *a, int64_t now_us, int64_t took_us)
{
    if (took_us < AWAKE_SLICE_US)
        return;
    a->balance_us -= took_us;
    if (a->balance_us >= 0)
        return;
    a->pause_until_us = now_us + at_most(PAUSE_PER_DEBT * -a->balance_us, AWAKE_PAUSE_MAX_US);
    a->balance_us = 0;
    a->time_us = 0;
}
