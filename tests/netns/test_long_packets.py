#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Packets of more than 64 KiB towards programs (BIG TCP): they arrive, where, and when not.

A kernel older than Linux 6.3 has none; there it must get none.
"""
import contextlib
import os
import re
import select
import socket
import struct
import threading

import tap
from lab import Failure, expect, expect_eq, idle, wait_for
from rfc import accept_of, session
from test_capture import Capture, blocks
from wire import ETH_ALL, PACKET_OUTGOING, SO_RCVBUFFORCE, SOL_PACKET

PORT = 7000
IP_MAX_LEN = 65535
IP6_LEN = 40
MB = 1_000_000
PACKET_STATISTICS = 6
# Its length is no multiple of anything: what is at the wrong place differs.
BLOCK = os.urandom(1_000_003)
TWICE = BLOCK + BLOCK
HAS_BIG_TCP = tuple(map(int, re.match(r"(\d+)\.(\d+)", os.uname().release).groups())) >= (6, 3)
HERE = os.path.dirname(os.path.abspath(__file__))


class Lengths:
    """How long the IP packets are that come in at an interface, while it runs."""

    def __init__(self, ns, dev):
        with ns.inside():
            self.sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
            self.sock.bind((dev, ETH_ALL))
        self.sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 128 << 20)
        self.seen = []
        self._ending = False
        self._thread = threading.Thread(target=self._loop, daemon=True)
        self._thread.start()

    def _loop(self):
        while not self._ending:
            select.select([self.sock], [], [], 0.05)
            self._read_queued()

    def _read_queued(self):
        buf = bytearray(1)
        with contextlib.suppress(BlockingIOError):
            while True:
                length, addr = self.sock.recvfrom_into(buf, 1, socket.MSG_TRUNC | socket.MSG_DONTWAIT)
                if addr[2] != PACKET_OUTGOING:
                    self.seen.append(length)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self._ending = True
        self._thread.join(10)
        self._read_queued()
        _, drops = struct.unpack("=II", self.sock.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))
        self.sock.close()
        if not exc[0]:
            expect_eq(drops, 0, "all packets were looked at")
            expect(self.seen, "there were packets")

    @property
    def max(self):
        return max(self.seen, default=0)


class Stream:
    """A connection from a to b, of which a writes and b reads what it expects."""

    def __init__(self, a, b, addr, rcvbuf=None):
        with b.listen(PORT, "::" if ":" in addr else None) as listener:
            if rcvbuf:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
            self.c = a.connect(addr, PORT)
            self.s = accept_of(listener, self.c)
        self.s.settimeout(10)
        self.a, self.sent, self.got = a, 0, 0

    def _send(self, size):
        view = memoryview(TWICE)
        end = self.sent + size
        with contextlib.suppress(OSError):  # who reads notices
            while self.sent < end:
                at = self.sent % len(BLOCK)
                self.sent += self.c.send(view[at:at + min(len(BLOCK), end - self.sent)])

    def transfer(self, size, pause_each=0):
        """pause_each: the reader pauses whenever it has had so many bytes."""
        sender = threading.Thread(target=self._send, args=(size,), daemon=True)
        sender.start()
        end = self.got + size
        pause_at = self.got + pause_each
        while self.got < end:
            chunk = self.s.recv(min(1 << 19, end - self.got))
            at = self.got % len(BLOCK)
            if not chunk or chunk != TWICE[at:at + len(chunk)]:
                raise Failure(f"the {len(chunk)} bytes at {self.got} of {end} differ")
            self.got += len(chunk)
            if pause_each and self.got >= pause_at:
                pause_at += pause_each
                idle(0.01)
        sender.join(10)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        try:
            if not exc[0]:
                expect_eq(session(self.a, PORT)["state"], "encrypted")
                self.c.close()
                expect_eq(self.s.recv(1), b"", "and then nothing")
        finally:
            self.c.close()
            self.s.close()


def addrs(ns):
    return ns.ip4, ns.ip6


def expect_none_long(lab):
    """What a kernel without them must not get."""
    _, a, b = lab.pair()
    for addr in addrs(b):
        with Lengths(b, "tcpcrypt0") as inner, Stream(a, b, addr) as x:
            x.transfer(20 * MB)
        expect(inner.max <= IP_MAX_LEN + IP6_LEN, "none is long", inner.max)


def test_intact_and_long_before_the_program_only(lab):
    if not HAS_BIG_TCP:
        return expect_none_long(lab)
    r, a, b = lab.pair()
    for addr in addrs(b):
        with Lengths(b, "tcpcrypt0") as inner, Lengths(b, "eth0") as wire, Stream(a, b, addr) as x:
            x.transfer(100 * MB)
        print(f"# {addr}: {inner.max} bytes, {sum(n > IP_MAX_LEN for n in inner.seen)} "
              f"of {len(inner.seen)} packets long; wire {wire.max}")
        expect(inner.max > IP_MAX_LEN, "long packets", inner.max)
        expect(wire.max <= IP_MAX_LEN, "not on the wire", wire.max)
    expect_eq(b.counters()["drop_tx"], 0, "none is dropped")


def test_receivers_with_little_room_and_slow_ones(lab):
    if not HAS_BIG_TCP:
        return expect_none_long(lab)
    _, a, b = lab.pair()
    for addr in addrs(b):
        with Stream(a, b, addr, rcvbuf=16 << 10) as x:
            x.transfer(8 * MB)
        with Lengths(b, "tcpcrypt0") as inner, Stream(a, b, addr) as x:
            x.transfer(40 * MB, pause_each=2 * MB)
        print(f"# {addr}: {inner.max} bytes")
        expect(inner.max > 3 * IP_MAX_LEN, "much at once to the slow one", inner.max)


FIREWALL = f"""
table inet fw {{
    counter invalid {{ }}
    counter long {{ }}
    chain in {{
        type filter hook input priority filter; policy drop;
        meta l4proto icmpv6 accept
        ct state invalid counter name invalid drop
        ct state established meta length > {IP_MAX_LEN} counter name long
        ct state established accept
        tcp dport {PORT} ct state new accept
    }}
}}
"""


def nft_packets(ns, counter):
    out = ns.run("nft", "list", "counter", "inet", "fw", counter).stdout
    return int(re.search(r"packets (\d+)", out)[1])


def test_firewall_that_knows_connections(lab):
    if not HAS_BIG_TCP:
        return expect_none_long(lab)
    _, a, b = lab.pair()
    b.nft(FIREWALL)
    before = 0
    for addr in addrs(b):
        with Stream(a, b, addr) as x:
            x.transfer(50 * MB)
        expect_eq(nft_packets(b, "invalid"), 0, "packets that fit no connection")
        seen = nft_packets(b, "long")
        print(f"# {addr}: {seen - before} long packets passed")
        expect(seen > before, "long packets pass")
        before = seen


def captured_lengths(path):
    """Return: what the records say of the packets' lengths."""
    return [struct.unpack_from("=I", body, 16)[0] for kind, body in blocks(path) if kind == 6]


def test_not_while_a_capture_runs(lab):
    if not HAS_BIG_TCP:
        return expect_none_long(lab)
    _, a, b = lab.pair()
    for addr in addrs(b):
        with Stream(a, b, addr) as x:
            def becomes_long():
                with Lengths(b, "tcpcrypt0") as inner:
                    x.transfer(10 * MB)
                return inner.max > IP_MAX_LEN

            wait_for(becomes_long, 5, "long packets before")
            capture = Capture(b, "--inner", "--snaplen", 100)
            with Lengths(b, "tcpcrypt0") as inner:
                x.transfer(20 * MB)
            packets, dropped = capture.end()
            expect(IP_MAX_LEN // 2 < inner.max <= IP_MAX_LEN + IP6_LEN, "short meanwhile", inner.max)
            lengths = captured_lengths(capture.path)
            expect_eq((len(lengths), dropped), (packets, 0), "all are captured")
            expect(IP_MAX_LEN // 2 < max(lengths) <= IP_MAX_LEN + IP6_LEN, "so say the records",
                   max(lengths))
            wait_for(becomes_long, 5, "long packets afterwards")


def test_capture_that_begins_meanwhile(lab):
    """The first packet that is captured is as short as the next ones: a longer one fits no record."""
    if not HAS_BIG_TCP:
        return expect_none_long(lab)
    _, a, b = lab.pair()
    with Stream(a, b, b.ip4) as x:
        # Each time the program has read all, a long packet is next.
        reader = threading.Thread(target=x.transfer, args=(160 * MB, 2 * MB), daemon=True)
        reader.start()
        while x.got < 120 * MB and reader.is_alive():
            capture = Capture(b, "--inner", "--snaplen", 100, "--count", 10)
            expect_eq(capture.end(None), (10, 0), "captured, dropped")
            expect(max(captured_lengths(capture.path)) <= IP_MAX_LEN, "short")
        reader.join(20)
        expect_eq(x.got, 160 * MB)


SHORTENED = re.compile(r"the TUN device did not take a packet of (\d+) bytes: at most (\d+) from now on")


def shortened(lab, max_len):
    """The kernel has no memory for packets of more than max_len bytes. Return: the limits that the
    daemon has told, the longest packet afterwards; of each family."""
    _, a, b = lab.star("a", "b")
    a.up()
    env = {**lab.preload(f"{HERE}/preload_enobufs.c"), "WRITEV_MAX": str(max_len)}
    for addr in addrs(b):
        b.up("-v", env=env)
        with Stream(a, b, addr) as x:
            x.transfer(40 * MB, pause_each=2 * MB)
            with Lengths(b, "tcpcrypt0") as inner:
                x.transfer(20 * MB, pause_each=2 * MB)
        with open(b.log_path()) as f:
            told = [tuple(map(int, m)) for m in SHORTENED.findall(f.read())]
        print(f"# {addr}: refused, limit {told}; then {inner.max}")
        expect(all(refused > max_len for refused, _ in told), "nothing else was refused", told)
        expect_eq(b.counters()["drop_tx"], len(told), "a line for each")
        b.down()
        os.unlink(b.log_path())
        yield [limit for _, limit in told], inner.max


def test_kernel_without_memory_for_the_longest(lab):
    """One packet is lost, and half of it is still long."""
    if not HAS_BIG_TCP:
        return expect_none_long(lab)
    for limits, longest in shortened(lab, 200_000):
        expect_eq(len(limits), 1, "one step")
        expect(IP_MAX_LEN < longest <= limits[0], "long ones go on", longest)


def test_kernel_without_memory_for_any(lab):
    if not HAS_BIG_TCP:
        return expect_none_long(lab)
    max_len = 70_000
    for limits, longest in shortened(lab, max_len):
        expect(len(limits) in (1, 2) and limits == sorted(set(limits), reverse=True), "steps", limits)
        # The last limit is half of a length that was refused, and may lie between both.
        expect(longest <= min(limits[-1], max_len), "no more than the kernel takes", longest)


def test_kernel_that_refuses_hop_by_hop_options(lab):
    """They are lost on their way to the program, and nobody says so."""
    _, a, b = lab.pair()
    b.run("sysctl", "-qw", "net.ipv6.max_hbh_opts_number=0")
    with Stream(a, b, b.ip6) as x:
        x.transfer(60 * MB)
        with Lengths(b, "tcpcrypt0") as inner:
            x.transfer(20 * MB)
    expect(inner.max <= IP_MAX_LEN + IP6_LEN, "ordinary packets", inner.max)
    with open(b.log_path()) as f:
        expect_eq(f.read().count("do not reach the programs"), HAS_BIG_TCP, "it is told")


def test_links_that_change_while_it_starts(lab):
    """To ask the kernel for it must not take answers away from who follows the links."""
    _, a = lab.star("a")
    a.popen("sh", "-c", "while ip addr add 10.99.0.1/32 dev lo; do ip addr del 10.99.0.1/32 dev lo; done")
    for _ in range(20):
        a.up(timeout=5)
        a.down()
    with open(a.log_path()) as f:
        expect_eq(f.read(), "", "no error")


if __name__ == "__main__":
    tap.main()
