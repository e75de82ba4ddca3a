# SPDX-License-Identifier: BSD-3-Clause
"""Two set-ups side by side: how much of the other's figure the one reaches.

How it works: a machine's speed wanders by a fifth within minutes, much more than what
is looked for. So both are up at the same time, but never loaded at the same time: short
slices of load go to them in turn, A B B A A B ..., and each slice of the one is divided
by its neighbour of the other. The median of these ratios is the result.
"""
import statistics

PAIR_CNT = 5


def compare(load_a, load_b, pair_cnt=PAIR_CNT):
    """A load is a function that runs one slice and returns its figure; the first call of
    each only warms up. Return: (median of A, median of B, median of A / B)."""
    load_a()
    load_b()
    pairs = []
    for i in range(pair_cnt):
        if i % 2 == 0:
            a = load_a()
            b = load_b()
        else:
            b = load_b()
            a = load_a()
        pairs.append((a, b))
    return (statistics.median(a for a, _ in pairs), statistics.median(b for _, b in pairs),
            statistics.median(a / b for a, b in pairs))
