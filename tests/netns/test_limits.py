#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""What peers and programs cannot make us hold for ever."""
import json
import socket
import time

import tap
from lab import expect, expect_eq, idle
from rfc import both_ways, connected, end_of, ping, wait_ended


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


def fill(sock):
    """As much as everybody on the way takes. Return: whether there was room for some."""
    sent = 0
    try:
        while True:
            sent += sock.send(CHUNK)
    except BlockingIOError:
        return sent > 0


CHUNK = bytes(256 * 1024)


@tap.timeout(120)
def test_stalled_connections_leave_room_for_others(lab):
    """Programs that do not read fill our buffers up to the cap; who reads is served all the same."""
    r, a, b = lab.star("a", "b")
    b.up("--policy", "off")
    stalled = []
    with b.listen(7000, backlog=500) as listener:
        for _ in range(450):
            stalled.append(a.connect(b.ip4, 7000))
            stalled.append(listener.accept()[0])
    outs = stalled[::2]
    for s in outs:
        s.setblocking(False)
    deadline = time.monotonic() + 30
    while any([fill(s) for s in outs]) and time.monotonic() < deadline:
        time.sleep(0.2)
    before = b.counters()["drop_memory"]
    began = time.monotonic()
    with connected(a, b, 7001) as (c, s):
        both_ways(c, s, 3_000_000)
    took = time.monotonic() - began
    print(f"# {took:.1f} s for 3 MB each way; {before} segments dropped before")
    expect(took < 5, "nobody starves", took)
    for s in stalled:
        s.close()


def probing(sock):
    """With keep-alive as fast as it goes."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL):
        sock.setsockopt(socket.IPPROTO_TCP, option, 1)


@tap.timeout(60)
def test_keep_alive_of_the_application(lab):
    """A program's keep-alive finds out that the peer is gone, clear or encrypted; while the peer is
    there it only costs packets."""
    r, a, b = lab.pair()
    with connected(a, b, 7000) as (c, s), connected(a, b, 7001) as (c2, s2):
        ping(c, s)
        ping(c2, s2)
        probing(c)
        probing(c2)
        idle(3)
        ping(c, s)
        r.forward_rules(f"ip saddr {b.ip4} tcp sport 7000 drop")
        began = time.monotonic()
        expect_eq(end_of(c, 30)[0], "reset")
        took = time.monotonic() - began
        expect(7 < took < 25, "about ten probes", took)
        ping(c2, s2)


if __name__ == "__main__":
    tap.main()
