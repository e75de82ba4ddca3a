/* SPDX-License-Identifier: BSD-3-Clause
 * How long the loop stays awake for the next packet.
 *
 * To sleep and be woken takes longer than to handle a small packet, above all in a virtual machine,
 * and the kernel wakes a sleeper on the processor of whoever wakes it: two workers that answer each
 * other come to share one. So the loop looks for more input for a while, and yields the processor
 * between two looks.
 *
 * For how long is learned from the sleeps, as KVM learns halt_poll_ns: one shorter than the longest
 * time makes the time longer, any other makes it none. Where another program computes on the same
 * processor, to yield costs a time slice, which a wake-up would not. So there is an account: what a
 * packet met awake is worth, against such slices; a debt is waited off asleep.
 *
 * No clock and no system call is in here. Measured: docs/PERFORMANCE.md.
 */
#ifndef TCNS_TUNNEL_AWAKE_H
#define TCNS_TUNNEL_AWAKE_H

#include <stdbool.h>
#include <stdint.h>

#define AWAKE_MAX_US       100  /* after a longer sleep a wake-up is the lesser cost */
#define AWAKE_SLICE_US     1000 /* so long only a program that computes takes the processor */
#define AWAKE_PAUSE_MAX_US 1000000

/* Times are microseconds of one clock. All zero: nothing was learned yet. */
struct awake {
    enum { AWAKE_ASLEEP, AWAKE_WORKING, AWAKE_LOOKING } state;
    int64_t rest_us;    /* when the last input was worked off */
    int64_t time_us;    /* to stay awake since then; 0: not at all */
    int64_t balance_us; /* of the account, not negative: a debt makes a pause */
    int64_t pause_until_us;
};

/* Input has come. */
void awake_input(struct awake *a, int64_t now_us);

/* It is worked off. Return: whether to stay awake; then, while there is no input, as long as
 * awake_goes_on() says so. */
bool awake_rest(struct awake *a, int64_t now_us);
bool awake_goes_on(struct awake *a, int64_t now_us);

/* The processor was yielded for so long. */
void awake_yielded(struct awake *a, int64_t now_us, int64_t took_us);

#endif
