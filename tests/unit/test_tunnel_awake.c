/* SPDX-License-Identifier: BSD-3-Clause
 * How long the loop stays awake for the next packet.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tunnel/awake.h"

/* Input comes so long after the last was worked off; in between is looked every 5 us, each with a
 * yield that takes so long. Return: how long it was looked. */
static int64_t one_input(struct awake *a, int64_t *now_us, int64_t gap_us, int64_t yield_us)
{
    int64_t rest_us = *now_us, end_us = rest_us + gap_us, looked_us = 0;

    if (awake_rest(a, *now_us))
        while (*now_us < end_us && awake_goes_on(a, *now_us)) {
            *now_us += yield_us > 5 ? yield_us : 5;
            awake_yielded(a, *now_us, yield_us);
            looked_us = *now_us - rest_us;
        }
    if (*now_us < end_us)
        *now_us = end_us;
    awake_input(a, *now_us);
    return looked_us;
}

static int64_t inputs(struct awake *a, int64_t *now_us, int cnt, int64_t gap_us, int64_t yield_us)
{
    int64_t looked_us = 0;

    for (int i = 0; i < cnt; i++)
        looked_us += one_input(a, now_us, gap_us, yield_us);
    return looked_us;
}

static void frequent_input_is_met_awake(void **state)
{
    struct awake a = {.state = AWAKE_ASLEEP};
    int64_t now_us = 1000;

    inputs(&a, &now_us, 10, 40, 0);
    assert_int_equal(inputs(&a, &now_us, 100, 40, 0), 100 * 40);
    assert_true(a.time_us <= AWAKE_MAX_US);
}

static void rare_input_finds_us_asleep(void **state)
{
    struct awake a = {.state = AWAKE_ASLEEP};
    int64_t now_us = 1000;

    inputs(&a, &now_us, 10, 40, 0);
    inputs(&a, &now_us, 1, AWAKE_MAX_US + 1, 0);
    assert_int_equal(inputs(&a, &now_us, 100, AWAKE_MAX_US + 1, 0), 0);
}

/* Nothing comes at all: we sleep, and go on doing so. */
static void silence_ends_it(void **state)
{
    struct awake a = {.state = AWAKE_ASLEEP};
    int64_t now_us = 1000;

    inputs(&a, &now_us, 10, 40, 0);
    assert_true(awake_rest(&a, now_us));
    assert_true(awake_goes_on(&a, now_us + 1));
    assert_false(awake_goes_on(&a, now_us + AWAKE_MAX_US + 1));
}

static void the_time_grows_to_what_is_needed(void **state)
{
    struct awake a = {.state = AWAKE_ASLEEP};
    int64_t now_us = 1000, last_us = -1;

    for (int i = 0; i < 10; i++) {
        inputs(&a, &now_us, 1, AWAKE_MAX_US, 0);
        assert_true(a.time_us >= last_us);
        last_us = a.time_us;
    }
    assert_int_equal(last_us, AWAKE_MAX_US);
}

/* A program computes on our processor: it gets nearly all that we would yield to it asleep. */
static void a_time_slice_makes_a_pause(void **state)
{
    struct awake a = {.state = AWAKE_ASLEEP};
    int64_t now_us = 1000;

    inputs(&a, &now_us, 10, 40, 0);
    assert_true(inputs(&a, &now_us, 1, 40, 3000) >= 3000);
    int64_t before_us = now_us;
    assert_int_equal(inputs(&a, &now_us, 1000, 40, 3000), 0);
    int64_t looked_us = inputs(&a, &now_us, 100000, 40, 3000);
    assert_true(looked_us > 0); /* it is tried again */
    assert_true(looked_us < (now_us - before_us) / 20);
}

/* Others that take the processor shortly are no reason to sleep, nor is one slice after many
 * packets that were met awake. */
static void what_was_earned_pays_for_a_slice(void **state)
{
    struct awake a = {.state = AWAKE_ASLEEP};
    int64_t now_us = 1000;

    inputs(&a, &now_us, 10, 40, 0);
    assert_true(inputs(&a, &now_us, 1000, 40, 60) > 1000 * 40);
    inputs(&a, &now_us, 1, 40, 2000);
    assert_true(a.time_us > 0);
    inputs(&a, &now_us, 1, 40, 2000);
    assert_int_equal(a.time_us, 0);
}

/* Stopped for an hour, or throttled. */
static void a_pause_has_an_end(void **state)
{
    struct awake a = {.state = AWAKE_ASLEEP};
    int64_t now_us = 1000;

    inputs(&a, &now_us, 10, 40, 0);
    inputs(&a, &now_us, 1, 40, INT64_C(3600000000));
    now_us += AWAKE_PAUSE_MAX_US;
    inputs(&a, &now_us, 10, 40, 0);
    assert_true(inputs(&a, &now_us, 10, 40, 0) > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frequent_input_is_met_awake),
        cmocka_unit_test(rare_input_finds_us_asleep),
        cmocka_unit_test(silence_ends_it),
        cmocka_unit_test(the_time_grows_to_what_is_needed),
        cmocka_unit_test(a_time_slice_makes_a_pause),
        cmocka_unit_test(what_was_earned_pays_for_a_slice),
        cmocka_unit_test(a_pause_has_an_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
