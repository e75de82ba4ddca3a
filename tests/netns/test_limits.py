#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""What peers and programs cannot make us hold for ever."""
import json
import time

import tap
from lab import expect, expect_eq
from rfc import end_of, wait_ended


def test_key_exchange_without_end(lab):
    """A peer that agrees to encrypt and then sends nothing; here a box swallows it."""
    r, a, b = lab.star("a", "b")
    a.up("--key-timeout", "2")
    b.up()
    r.forward_rules(f"ip saddr {b.ip4} tcp sport 80 tcp flags psh drop")
    with b.listen(80), a.connect(b.ip4, 80) as c:
        began = time.monotonic()
        expect_eq(end_of(c)[0], "reset")
        took = time.monotonic() - began
        expect(1.5 < took < 6, "two seconds and a look", took)
        last = wait_ended(a, 80)
        expect_eq((last["end"], last["error"]), ("error", "key-timeout"))
    st = json.loads(a.tcns("status", "--json").stdout)
    expect_eq((st["key_timeout"], st["errors"]), (2, {"key-timeout": 1}))


if __name__ == "__main__":
    tap.main()
