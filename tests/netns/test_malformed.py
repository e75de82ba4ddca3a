# SPDX-License-Identifier: BSD-3-Clause
"""Packets nobody should send, on both sides: dropped, counted, no crash, and the rest goes on."""
import contextlib
import json
import os
import random
import struct

import tap
from lab import expect, expect_eq, expect_none_accepted, wait_for
from wire import (ACK, FIN, PSH, RST, SYN, URG, Capture, Injector, build_ip, build_tcp, checksum,
                  mac, _pseudo)

ENO_SYN = bytes([69, 3, 0x23])  # one suboption: Curve25519


class Target:
    """A container of ours with a listener, a peer of ours, and an encrypted connection."""

    def __init__(self, lab):
        self.lab = lab
        self.r, self.a, self.b = lab.star("a", "b")
        self.a.up()
        self.b.up()
        self.stack = contextlib.ExitStack()
        self.listener = self.stack.enter_context(self.b.listen(80))
        self.listener_a = self.stack.enter_context(self.a.listen(81))
        self.cap = self.stack.enter_context(Capture(self.r, self.a.peer_if))
        self.c = self.stack.enter_context(self.a.connect(self.b.ip4, 80))
        self.s, _ = self.listener.accept()
        self.s.settimeout(10)
        self.stack.enter_context(self.s)
        self.works()
        self.before = self.status()

    def works(self):
        self.c.sendall(b"to server")
        expect_eq(self.s.recv(100), b"to server")
        self.s.sendall(b"to client")
        expect_eq(self.c.recv(100), b"to client")

    def status(self):
        return json.loads(self.a.tcns("status", "--json").stdout)

    def last(self, outbound):
        """Newest segment of the open connection in one direction."""
        port = "dport" if outbound else "sport"
        return [t for t in self.cap.tcp() if getattr(t, port) == 80][-1]

    def uplink(self):
        """Injects as the router: what arrives at a's eth0."""
        return Injector(self.r, self.a.peer_if).to_mac(mac(self.a, "eth0"),
                                                       mac(self.r, self.a.peer_if))

    def tun(self):
        """Injects as a's kernel: what the daemon reads from tcpcrypt0."""
        return Injector(self.a, "tcpcrypt0")

    def counted(self, name, at_least):
        """Until a drop counter has grown by that much."""
        def grown():
            now = self.status()["counters"]
            return now[name] - self.before["counters"][name] >= at_least
        wait_for(grown, 5, f"{name} to grow by {at_least}", 0.05)

    def drops(self):
        """Return: how much all the drop counters have grown."""
        now = self.status()["counters"]
        return sum(now[k] - v for k, v in self.before["counters"].items()
                   if k.startswith("drop_") or k == "rst_unknown")

    def unharmed(self):
        """The same worker, and the open connection still works."""
        self.works()
        now = self.status()
        expect_eq((now["worker_pid"], now["worker_restarts"]),
                  (self.before["worker_pid"], self.before["worker_restarts"]), "the same worker")
        with self.a.connect(self.b.ip4, 80) as c:
            c.sendall(b"new")
            while True:  # what was injected may have opened connections too
                s, peer = self.listener.accept()
                with s:
                    if peer[1] == c.getsockname()[1]:
                        s.settimeout(10)
                        expect_eq(s.recv(10), b"new")
                        break
        log = self.a.log_path()
        if os.path.exists(log):
            with open(log) as f:
                text = f.read()
            expect("Sanitizer" not in text and "runtime error" not in text, "sanitizer", text)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.stack.close()


def from_peer(t, **kwargs):
    """A whole packet from b to a's listener; kwargs go to build_tcp()."""
    kwargs.setdefault("sport", 4444)
    kwargs.setdefault("dport", 81)
    return build_tcp(t.b.ip4, t.a.ip4, **kwargs)


def test_truncated_headers_on_the_uplink(lab):
    with Target(lab) as t, t.uplink() as i:
        whole = build_ip(t.b.ip4, t.a.ip4, from_peer(t))
        for size in range(len(whole)):
            i.send_ip(whole[:size], kind=0x0800)
        whole = build_ip(t.b.ip6, t.a.ip6, build_tcp(t.b.ip6, t.a.ip6, 4444, 81))
        for size in range(len(whole)):
            i.send_ip(whole[:size], kind=0x86DD)
        wait_for(lambda: t.drops() >= 40, 5, "counted")
        t.unharmed()


def test_lengths_that_lie_on_the_uplink(lab):
    with Target(lab) as t, t.uplink() as i:
        segment = from_peer(t)
        for total in (0, 1, 19, 20, 39, 41, 1500, 65535):
            i.send_ip(build_ip(t.b.ip4, t.a.ip4, segment, total=total))
        for ihl in (0, 1, 4, 6, 15):
            i.send_ip(build_ip(t.b.ip4, t.a.ip4, segment, ihl=ihl))
        for words in (0, 1, 4, 6, 15):
            i.send_ip(build_ip(t.b.ip4, t.a.ip4, from_peer(t, data_offset=words)))
        for version in (0, 1, 5, 6, 7, 15):
            i.send_ip(build_ip(t.b.ip4, t.a.ip4, segment, version=version), kind=0x0800)
        for total in (0, 1, 19, 21, 1500, 65535):
            i.send_ip(build_ip(t.b.ip6, t.a.ip6, build_tcp(t.b.ip6, t.a.ip6, 4444, 81),
                               total=total))
        wait_for(lambda: t.drops() >= 10, 5, "counted")
        t.unharmed()


def test_bad_checksums_on_the_uplink(lab):
    with Target(lab) as t, t.uplink() as i:
        for _ in range(5):
            i.send_ip(build_ip(t.b.ip4, t.a.ip4, from_peer(t, bad_checksum=True)))
            i.send_ip(build_ip(t.b.ip4, t.a.ip4, from_peer(t), bad_checksum=True))
            i.send_ip(build_ip(t.b.ip6, t.a.ip6,
                               build_tcp(t.b.ip6, t.a.ip6, 4444, 81, bad_checksum=True)))
        # A segment that would fit the open connection, but for its checksum.
        last = t.last(outbound=False)
        i.send_ip(build_ip(t.b.ip4, t.a.ip4, build_tcp(
            t.b.ip4, t.a.ip4, 80, last.dport, last.seq + len(last.payload), last.ack,
            flags=ACK | PSH, payload=b"evil" * 10, bad_checksum=True)))
        t.counted("drop_checksum", 16)
        expect(not [x for x in t.cap.tcp() if x.dport == 4444], "no answer to any of them")
        t.unharmed()


def test_odd_options_on_the_uplink(lab):
    """No crash, and where the SYN itself is well-formed an answer, in clear or encrypted."""
    with Target(lab) as t, t.uplink() as i:
        odd = [b"\x45", b"\x45\x00", b"\x45\x01", b"\x45\x02", b"\x45\xff", b"\x45\x03\x23" * 13,
               b"\x45\x28" + b"\x23" * 38, b"\x45\x28" + b"\xff" * 38, b"\x45\x03\x00",
               b"\x45\x04\x80\x23", b"\x45\x04\x9f\x23", b"\x45\x05\xa3\x00\x00", b"\x45\x03\x01",
               b"\x02\x04\x00\x00", b"\x02\x04\x00\x01", b"\x02\x04\xff\xff", b"\x02\x03\x05",
               b"\x02\x00", b"\x03\x03\xff", b"\x03\x03\x0f", b"\x03\x02", b"\x08\x0a" + b"\0" * 8,
               b"\x08\x02", b"\x05\x0a" + b"\xff" * 8, b"\x05\x03\0", b"\xff\xff\xff", b"\xfd\x04abcd",
               b"\0" * 40, b"\x01" * 40, b"\x01" * 39 + b"\x45", b"\x04\x02" * 20,
               b"\x45\x03\x23\x45\x03\x23", b"\x13\x12" + b"\0" * 16, b"\x1d\x04\0\0"]
        for n, options in enumerate(odd):
            for flags in (SYN, ACK, SYN | ACK):
                options = options[:40]
                i.send_ip(build_ip(t.b.ip4, t.a.ip4, from_peer(t, sport=5000 + n, flags=flags,
                                                               seq=1000, ack=77, options=options)))
        wait_for(lambda: len({x.dport for x in t.cap.tcp() if x.flag(SYN | ACK)
                              and 5000 <= x.dport < 5000 + len(odd)}) > 10, 5,
                 "well-formed SYNs are answered")
        t.unharmed()


def test_options_inside_the_open_connection(lab):
    """Segments in the window with odd options and flags."""
    with Target(lab) as t, t.uplink() as i:
        last = t.last(outbound=False)
        seq = last.seq + len(last.payload)
        for options in (b"\x45\x02", b"\x45\x03\x23", b"\x45\x01", b"\x05\x02", b"\x05\x0a" + b"\0" * 8,
                        b"\x05\x12" + b"\xff" * 16, b"\x08\x0a" + b"\xff" * 8, b"\x02\x04\0\1",
                        b"\x03\x03\x0e", b"\x45"):
            for flags in (ACK, ACK | PSH, 0):
                i.send_ip(build_ip(t.b.ip4, t.a.ip4, build_tcp(
                    t.b.ip4, t.a.ip4, 80, last.dport, seq, last.ack, flags=flags,
                    options=options)))
        t.unharmed()


def test_wrong_sequence_numbers(lab):
    """Off-path guesses: RST, SYN, data and FIN out of the window change nothing."""
    with Target(lab) as t, t.uplink() as i:
        last = t.last(outbound=False)
        seq = last.seq + len(last.payload)
        for off in (-1 << 30, 1 << 30, 1 << 31, -100000):
            for flags in (RST, RST | ACK, SYN, SYN | ACK, FIN | ACK, ACK | PSH):
                i.send_ip(build_ip(t.b.ip4, t.a.ip4, build_tcp(
                    t.b.ip4, t.a.ip4, 80, last.dport, seq + off, last.ack, flags=flags,
                    payload=b"x" if flags & PSH else b"")))
        # RFC 5961 3.2: a RST in the window but not at its edge is only challenged.
        i.send_ip(build_ip(t.b.ip4, t.a.ip4, build_tcp(
            t.b.ip4, t.a.ip4, 80, last.dport, seq + 100, last.ack, flags=RST)))
        # RFC 5961 4.2: so is a SYN.
        i.send_ip(build_ip(t.b.ip4, t.a.ip4, build_tcp(
            t.b.ip4, t.a.ip4, 80, last.dport, seq + 1, last.ack, flags=SYN)))
        # RFC 5961 5.2: an ACK of what was never sent.
        i.send_ip(build_ip(t.b.ip4, t.a.ip4, build_tcp(
            t.b.ip4, t.a.ip4, 80, last.dport, seq, last.ack + (1 << 30), flags=ACK,
            payload=b"")))
        t.unharmed()


def test_impossible_flags(lab):
    with Target(lab) as t, t.uplink() as i:
        for flags in range(256):
            if flags & RST and not flags & SYN:
                continue  # those are answered by nothing and belong to nobody
            i.send_ip(build_ip(t.b.ip4, t.a.ip4, from_peer(t, sport=6000 + flags, flags=flags,
                                                           seq=5, ack=9, urgent=3)))
        t.unharmed()


def test_fragments(lab):
    """TCP in fragments is dropped; it is never put together from parts we did not check."""
    with Target(lab) as t, t.uplink() as i:
        segment = from_peer(t, payload=b"z" * 64)
        more = 0x2000
        for frag, part in ((more, segment[:40]), (5, segment[40:]), (more | 1, segment[:48]),
                           (0x1FFF, segment[:8]), (more, segment[:8])):
            i.send_ip(build_ip(t.b.ip4, t.a.ip4, part, frag=frag))
        # IPv6: fragment header (44) before TCP
        segment6 = build_tcp(t.b.ip6, t.a.ip6, 4444, 81, payload=b"z" * 64)
        for off_more in (1, 5 << 3, 0):
            part = struct.pack(">BBHI", 6, 0, off_more, 1) + segment6[:40]
            i.send_ip(build_ip(t.b.ip6, t.a.ip6, part, proto=44))
        t.counted("drop_fragment", 2)  # first ones; the kernel never completes the others
        t.unharmed()


def test_ipv6_extension_headers(lab):
    """Hop-by-hop, routing and destination options before TCP, right and wrong."""
    with Target(lab) as t, t.uplink() as i:
        segment = build_tcp(t.b.ip6, t.a.ip6, 4444, 81)
        pad = b"\x01\x04\0\0\0\0"
        for chain in ([0], [60], [43], [0, 60], [60, 60, 60], [0, 43, 60], [135], [51]):
            body = segment
            for kind, following in reversed(list(zip(chain, chain[1:] + [6]))):
                body = bytes([following, 0]) + pad + body
            i.send_ip(build_ip(t.b.ip6, t.a.ip6, body, proto=chain[0]))
        for length in (1, 5, 255):  # says it is longer than the packet
            i.send_ip(build_ip(t.b.ip6, t.a.ip6, bytes([6, length]) + pad, proto=60))
        endless = b"".join(bytes([60, 0]) + pad for _ in range(150))
        i.send_ip(build_ip(t.b.ip6, t.a.ip6, endless, proto=60))
        t.unharmed()


def test_addresses_that_cannot_be(lab):
    with Target(lab) as t, t.uplink() as i:
        for src in ("0.0.0.0", "127.0.0.1", "255.255.255.255", "224.0.0.1", t.a.ip4, "240.0.0.1"):
            for dst in (t.a.ip4, "255.255.255.255", "224.0.0.1", "127.0.0.1", "10.77.1.255"):
                i.send_ip(build_ip(src, dst, build_tcp(src, dst, 81, 81)))
        for src in ("::", "::1", "ff02::1", t.a.ip6, "::ffff:10.77.2.2", "fe80::1"):
            for dst in (t.a.ip6, "ff02::1", "::1"):
                i.send_ip(build_ip(src, dst, build_tcp(src, dst, 81, 81)))
        # to ports and from ports of number 0
        i.send_ip(build_ip(t.b.ip4, t.a.ip4, from_peer(t, sport=0)))
        i.send_ip(build_ip(t.b.ip4, t.a.ip4, from_peer(t, dport=0)))
        t.unharmed()


def test_others_traffic_is_left_alone(lab):
    """Frames for another hardware address (promiscuous wire) are not ours."""
    with Target(lab) as t:
        with Injector(t.r, t.a.peer_if).to_mac("02:12:34:56:78:9a", mac(t.r, t.a.peer_if)) as i:
            for n in range(20):
                i.send_ip(build_ip(t.b.ip4, t.a.ip4, from_peer(t, sport=7000 + n)))
            t.unharmed()
        expect(not [x for x in t.cap.tcp() if 7000 <= x.dport < 7020], "no answer")


def test_short_ethernet_frames(lab):
    with Target(lab) as t:
        head = bytes.fromhex((mac(t.a, "eth0") + mac(t.r, t.a.peer_if)).replace(":", ""))
        with t.uplink() as i:
            for kind in (0x0800, 0x86DD, 0x8100, 0x88A8, 0, 0xFFFF):
                for size in (0, 1, 2, 19, 20, 39, 40, 46):
                    i.sock.send(head + struct.pack(">H", kind) + os.urandom(size))
        t.unharmed()


def test_vlan_tagged_frames(lab):
    with Target(lab) as t, t.uplink() as i:
        packet = build_ip(t.b.ip4, t.a.ip4, from_peer(t))
        for tag in (b"\0\0", b"\0\5", b"\xff\xff"):
            i.sock.send(i.mac + b"\x81\0" + tag + b"\x08\0" + packet)
        t.unharmed()


def test_syn_with_data_and_small_mss(lab):
    """A SYN with payload, an MSS of 1 and a window of 0: slow, and no crash."""
    with Target(lab) as t, t.uplink() as i:
        payload_of = [b"", b"", b"", b"early" * 50, b""]
        for n, (mss, window) in enumerate(((1, 65535), (0, 65535), (536, 0), (1460, 65535),
                                           (65535, 65535))):
            options = struct.pack(">BBH", 2, 4, mss) + ENO_SYN + b"\1"
            i.send_ip(build_ip(t.b.ip4, t.a.ip4, from_peer(t, sport=8000 + n, seq=99, window=window,
                                                           options=options,
                                                           payload=payload_of[n])))
        for n in range(5):
            synack = t.cap.wait_tcp(lambda x, n=n: x.dport == 8000 + n and x.flag(SYN | ACK), 5,
                                    f"SYN-ACK {n}")
            expect(synack.ack == 100 or payload_of[n], "the SYN is acknowledged", synack)
        t.unharmed()


def test_forged_syns_are_no_connections(lab):
    """The program is told of none of them."""
    forged = "203.0.113.9"
    with Target(lab) as t, t.uplink() as i:
        for sport in range(8100, 8140):
            i.send_ip(build_ip(forged, t.a.ip4, build_tcp(forged, t.a.ip4, sport, 81, seq=1,
                                                          options=ENO_SYN + b"\1")))
        for sport in range(8100, 8140):
            t.cap.wait_tcp(lambda x, p=sport: x.dport == p and x.flag(SYN | ACK), 5, "a SYN-ACK")
        expect_none_accepted(t.listener_a, 0.5)
        t.works()


def open_by_hand(t, i, sport, options=ENO_SYN + b"\1", first=b"\x45\x02\1\1"):
    """A connection to a's listener made of single packets. Return: our seq, its seq."""
    i.send_ip(build_ip(t.b.ip4, t.a.ip4, from_peer(t, sport=sport, seq=1000, options=options)))
    synack = t.cap.wait_tcp(lambda x: x.dport == sport and x.flag(SYN | ACK), 5, "a SYN-ACK")
    i.send_ip(build_ip(t.b.ip4, t.a.ip4, from_peer(
        t, sport=sport, seq=1001, ack=synack.seq + 1, flags=ACK, options=first)))
    return 1001, synack.seq + 1


def test_garbage_instead_of_init1(lab):
    """A peer that negotiates and then breaks RFC 8548: reset, counted, and nobody else suffers."""
    with Target(lab) as t, t.uplink() as i:
        # b's own daemon must not answer for our hand-made connection.
        t.r.forward_rules("tcp dport 9000-9100 drop")
        bad = [b"GET / HTTP/1.0\r\n\r\n", b"\0" * 100, b"\x15\x10\x1a\x0e" + b"\0\0\0\0",
               b"\x15\x10\x1a\x0e" + b"\xff\xff\xff\xff", b"\x15\x10\x1a\x0e" + b"\0\0\0\x09" + b"\xff",
               b"\x15\x10\x1a\x0e" + b"\0\0\0\x40" + b"\0" * 0x38, b"\x09\x71\x05\xe0" + b"\0" * 60,
               b"\x15\x10\x1a\x0e" + struct.pack(">I", 75) + b"\x01\0\x01" + b"\0" * 64]
        for n, data in enumerate(bad):
            sport = 9000 + n
            seq, ack = open_by_hand(t, i, sport)
            i.send_ip(build_ip(t.b.ip4, t.a.ip4, from_peer(t, sport=sport, seq=seq, ack=ack,
                                                           flags=ACK | PSH, payload=data)))
            t.cap.wait_tcp(lambda x, p=sport: x.dport == p and x.flags & RST, 5, f"RST for {data[:9]!r}")
        t.counted("flows_aborted", len(bad))
        t.unharmed()


def test_init1_in_single_bytes_and_out_of_order(lab):
    """Legal but odd: an Init1 that comes in pieces, twice, backwards."""
    with Target(lab) as t, t.uplink() as i:
        t.r.forward_rules("tcp dport 9000-9100 drop")
        # RFC 8548 4.1: magic, length, ciphers, nonce, key
        init1 = b"\x15\x10\x1a\x0e" + struct.pack(">I", 4 + 4 + 1 + 2 + 32 + 32) + b"\x01\0\x01" \
            + bytes(range(32)) + b"\x09" + bytes(31)
        for sport, order in ((9050, range(len(init1))), (9051, reversed(range(len(init1)))),
                             (9052, [x for x in range(len(init1)) for _ in (0, 1)])):
            seq, ack = open_by_hand(t, i, sport)
            for at in order:
                i.send_ip(build_ip(t.b.ip4, t.a.ip4, from_peer(
                    t, sport=sport, seq=seq + at, ack=ack, flags=ACK | PSH,
                    payload=init1[at:at + 1])))
            init2 = t.cap.wait_tcp(lambda x, p=sport: x.dport == p and x.payload, 5, "Init2")
            expect_eq(init2.payload[:4].hex(), "097105e0", "INIT2_MAGIC")
        t.unharmed()


def test_truncated_and_lying_packets_on_the_tun(lab):
    """What the container's own raw sockets can push into the TUN device."""
    with Target(lab) as t, t.tun() as i:
        segment = build_tcp(t.a.ip4, t.b.ip4, 4444, 80)
        whole = build_ip(t.a.ip4, t.b.ip4, segment)
        for size in range(1, len(whole)):
            with contextlib.suppress(OSError):
                i.send_ip(whole[:size], kind=0x0800)
        for kwargs in ({"total": 0}, {"total": 19}, {"total": 65535}, {"ihl": 0}, {"ihl": 4},
                       {"ihl": 15}, {"version": 0}, {"version": 15}, {"bad_checksum": True},
                       {"frag": 0x2000}, {"frag": 0x1FFF}, {"proto": 17}, {"proto": 1},
                       {"proto": 255}, {"ttl": 0}):
            with contextlib.suppress(OSError):
                i.send_ip(build_ip(t.a.ip4, t.b.ip4, segment, **kwargs), kind=0x0800)
        for kwargs in ({"data_offset": 0}, {"data_offset": 4}, {"data_offset": 15},
                       {"bad_checksum": True}, {"flags": 0}, {"flags": 255},
                       {"options": b"\x45"}, {"options": b"\x45\x00"}, {"options": b"\x02\x04\0\0"},
                       {"options": b"\xff" * 40}):
            i.send_ip(build_ip(t.a.ip4, t.b.ip4, build_tcp(t.a.ip4, t.b.ip4, 4445, 80, **kwargs)))
        for size in (1, 39, 40, 59):
            with contextlib.suppress(OSError):
                i.send_ip(build_ip(t.a.ip6, t.b.ip6,
                                   build_tcp(t.a.ip6, t.b.ip6, 4444, 80))[:size], kind=0x86DD)
        wait_for(lambda: t.drops() >= 20, 5, "counted")
        t.unharmed()


def test_foreign_sources_on_the_tun(lab):
    """The container cannot make us open connections for addresses that are not its own."""
    with Target(lab) as t, t.tun() as i:
        seen = len(t.cap.tcp())
        for src in ("10.9.9.9", t.b.ip4, "127.0.0.1", "0.0.0.0"):
            i.send_ip(build_ip(src, t.b.ip4, build_tcp(src, t.b.ip4, 4446, 80)))
        i.send_ip(build_ip("2001:db8::1", t.b.ip6, build_tcp("2001:db8::1", t.b.ip6, 4446, 80)))
        t.counted("drop_not_ours", 3)
        expect(not [x for x in t.cap.tcp()[seen:] if x.sport == 4446], "nothing leaves")
        t.unharmed()


def test_icmp_that_lies(lab):
    """Errors that quote no connection of ours, or a wrong sequence number, change nothing."""
    with Target(lab) as t, t.uplink() as i:
        last = t.last(outbound=True)
        for kind, code, extra in ((3, 0, 0), (3, 1, 0), (3, 3, 0), (3, 4, 0), (3, 4, 68), (3, 4, 0xFFFF),
                                  (11, 0, 0), (4, 0, 0), (5, 0, 0), (12, 0, 0)):
            for seq in (last.seq + (1 << 30), 0):
                quote = build_ip(t.a.ip4, t.b.ip4, build_tcp(t.a.ip4, t.b.ip4, last.sport, 80, seq))
                for part in (quote[:28], quote[:20], quote[:10], b"", quote):
                    body = struct.pack(">BBHHH", kind, code, 0, 0, extra) + part
                    body = body[:2] + struct.pack(">H", checksum(body)) + body[4:]
                    i.send_ip(build_ip("10.77.1.1", t.a.ip4, body, proto=1))
        t.unharmed()


@tap.timeout(90)
def test_random_bytes_on_both_sides(lab):
    """Valid packets with random damage, the same ones in each run."""
    rng = random.Random(8548)
    with Target(lab) as t, t.uplink() as up, t.tun() as tun:
        last = t.last(outbound=False)
        seq = last.seq + len(last.payload)
        for n in range(6000):
            six = n % 3 == 0
            b, a = (t.b.ip6, t.a.ip6) if six else (t.b.ip4, t.a.ip4)
            out = n % 2
            src, dst = (a, b) if out else (b, a)
            ports = (4000 + n % 50, 80) if out else (4000 + n % 50, 81)
            packet = bytearray(build_ip(src, dst, build_tcp(
                src, dst, *ports, seq + n, last.ack, rng.choice((SYN, ACK, SYN | ACK, ACK | FIN, URG)),
                options=rng.choice((b"", ENO_SYN, os.urandom(8))), payload=rng.randbytes(n % 64))))
            for _ in range(rng.randrange(1, 5)):
                at = rng.randrange(len(packet))
                packet[at] = rng.randrange(256)
            if rng.randrange(2):  # so that it gets past the checksum
                head = 40 if six else 20
                if not six:
                    packet[10:12] = b"\0\0"
                    packet[10:12] = struct.pack(">H", checksum(bytes(packet[:20])))
                packet[head + 16:head + 18] = b"\0\0"
                body = bytes(packet[head:])
                packet[head + 16:head + 18] = struct.pack(
                    ">H", checksum(_pseudo(src, dst, len(body)) + body))
            with contextlib.suppress(OSError):
                (tun if out else up).send_ip(bytes(packet), kind=0x86DD if six else 0x0800)
            if n % 1000 == 999:
                t.works()
        t.unharmed()


if __name__ == "__main__":
    tap.main()
