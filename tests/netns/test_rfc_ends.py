#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Policy require, simultaneous opening, and how connections end, as applications see it."""
import errno
import json
import os
import socket
import struct
import threading

import tap
from lab import expect, expect_eq, expect_none_accepted, wait_for
from middlebox import Middlebox
from rfc import (INIT1_MAGIC, INIT2_MAGIC, both_ways, connected, end_of, ended, errors, ping,
                 read_exactly, session, wait_ended, wait_none)
from wire import ACK, OPT_ENO, RST, SYN, Capture


def hosts(lab, at_a=(), at_b=()):
    """None: not one of ours."""
    box = Middlebox(lab)
    a, b = box.hosts
    if at_a is not None:
        a.up(*at_a)
    if at_b is not None:
        b.up(*at_b)
    return box, a, b


REQUIRE = ("--policy", "require")


# --- Policy require ---------------------------------------------------------------------

def test_require_outbound(lab):
    """A plain server: refused at the application, RST to the peer, the reason in the history."""
    box, a, p = hosts(lab, REQUIRE, None)
    with box, Capture(box.ns, a.peer_if) as cap, p.listen(80):
        for addr in (p.ip4, p.ip6):
            with (p.listen(81, "::") if ":" in addr else p.listen(81)):
                try:
                    a.connect(addr, 81, 5).close()
                    expect(False, "connected")
                except ConnectionRefusedError:
                    pass
        x = wait_ended(a, 81, 2)
        expect_eq((x["reason"], x["end"]), ("require-refused", "refused"))
        sent = [t for t in cap.tcp() if t.dport == 81]
        expect_eq(len([t for t in sent if t.flags & RST]), 2, "RSTs to the peer")
        expect(not [t for t in sent if t.payload], "no data")


def test_require_inbound(lab):
    """A plain client: a RST for its SYN; the application hears nothing of it."""
    box, p, b = hosts(lab, None, REQUIRE)
    with box, Capture(box.ns, p.peer_if) as cap, b.listen(80) as listener:
        try:
            p.connect(b.ip4, 80, 5).close()
            expect(False, "connected")
        except ConnectionRefusedError:
            pass
        x = wait_ended(b, 80)
        expect_eq((x["reason"], x["end"], x["dir"]), ("require-refused", "refused", "in"))
        expect(not [t for t in cap.tcp() if t.flag(SYN | ACK)], "no SYN-ACK")
        expect_none_accepted(listener, 0.1)


def test_require_among_ours(lab):
    """With one another and with those who only prefer it, in both directions."""
    box, a, b = hosts(lab, REQUIRE, REQUIRE)
    with box:
        for at_b in (REQUIRE, ()):
            b.down()
            b.up(*at_b)
            for opener, answerer, port in ((a, b, 80), (b, a, 81)):
                with connected(opener, answerer, port) as (c, s):
                    both_ways(c, s, 20_000)
                    expect_eq(session(a, port)["state"], "encrypted")


def test_require_and_options_that_vanish(lab):
    """Stripped from SYN, SYN-ACK or first ACK: no connection, not a byte in clear."""
    box, a, b = hosts(lab, REQUIRE, REQUIRE)
    is_ack = lambda t: t.to_b and t.flags & (SYN | ACK) == ACK  # noqa: E731
    with box, Capture(box.ns, a.peer_if) as cap, b.listen(80):
        for n, where in enumerate((lambda t: t.is_syn, lambda t: t.is_synack, is_ack)):
            box.rule = lambda t, w=where: [t.without()] if w(t) and t.spans() else None
            got = "refused"
            try:
                with a.connect(b.ip4, 80, 5) as c:
                    c.sendall(b"plaintext marker")
                    got = end_of(c)[0]
            except (ConnectionRefusedError, ConnectionResetError):
                pass
            expect(got in ("refused", "reset"), f"case {n}", got)
            wait_none(a)
            wait_none(b)
        reasons = {x["reason"] for x in ended(a) + ended(b)}
        expect("require-refused" in reasons, "named", reasons)
        expect(not cap.has_bytes(b"plaintext marker"), "plaintext on the wire")
        expect([t for t in cap.tcp() if t.flags & RST], "RSTs")


def test_require_and_a_peer_that_is_switched_off(lab):
    box, a, b = hosts(lab, REQUIRE, ("--policy", "off"))
    with box, b.listen(80), a.listen(81):
        for opener, addr, port in ((a, b.ip4, 80), (b, a.ip4, 81)):
            try:
                opener.connect(addr, port, 5).close()
                expect(False, "connected")
            except ConnectionRefusedError:
                pass
        expect_eq({x["reason"] for x in ended(a)}, {"require-refused"})


# --- Simultaneous opening ---------------------------------------------------------------

class Meet:
    """Holds the first SYN of each side until both are there: they cross."""

    def __init__(self, box):
        self.box, self.held, self.crossed = box, {}, False

    def __call__(self, t):
        if not t.is_syn or self.crossed:
            return None
        self.held[t.to_b] = t
        if len(self.held) < 2:
            return []
        self.crossed = True
        self.box.send(self.held.values())
        return []


def crossing(lab, attached, six=False):
    """Two hosts connect to each other's ports. Return: box, capture, a, b, both sockets."""
    box = Middlebox(lab)
    a, b = box.hosts
    for h in (a, b):
        if h.short in attached:
            h.up()
    box.rule = rule = Meet(box)
    cap = Capture(box.ns, a.peer_if)
    socks, failed = [], []
    for h, port in ((a, 4001), (b, 4002)):
        s = h.socket(socket.AF_INET6 if six else socket.AF_INET)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind(("::" if six else "0.0.0.0", port))
        s.settimeout(8)
        socks.append(s)

    def connect(sock, addr, port):
        try:
            sock.connect((addr, port))
        except OSError as e:
            failed.append((addr, e))

    peers = ((b.ip6 if six else b.ip4, 4002), (a.ip6 if six else a.ip4, 4001))
    threads = [threading.Thread(target=connect, args=(s, *peer), daemon=True)
               for s, peer in zip(socks, peers)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(10)
    expect(not failed, "connect()", failed)
    expect(rule.crossed, "the SYNs crossed")
    return box, cap, a, b, socks


def use_crossed(lab, attached, six=False):
    box, cap, a, b, (c, s) = crossing(lab, attached, six)
    with box, cap, c, s:
        syns = [t for t in cap.tcp() if t.flags & (SYN | ACK) == SYN]
        expect_eq({t.dport for t in syns}, {4001, 4002}, "a SYN each way")
        both_ways(c, s, 100_000)
        for h in (a, b):
            if h.short in attached:
                found = [x for x in h.sessions() if x["peer_port"] in (4001, 4002)]
                expect_eq(len(found), 1, f"{h.short}: one connection")
                expect_eq((found[0]["state"], found[0]["reason"]),
                          ("clear", "role-conflict" if attached == "ab" else "peer-no-eno"))
        if attached == "ab":
            expect(all(t.option(OPT_ENO) for t in syns), "both offered")
            late = [t for t in cap.tcp() if t.option(OPT_ENO) is not None
                    and not t.flags & SYN]
            expect_eq(late, [], "option 69 after the SYNs had disabled it")
        c.shutdown(socket.SHUT_WR)
        expect_eq(end_of(s), ("eof", b""))
        s.close()
        expect_eq(end_of(c), ("eof", b""))


def test_simultaneous_open_natively(lab):
    """The test itself: two kernels can do it."""
    use_crossed(lab, "")


def test_simultaneous_open_one_of_ours(lab):
    use_crossed(lab, "a")


def test_simultaneous_open_one_of_ours_the_other(lab):
    use_crossed(lab, "b")


def test_simultaneous_open_both_of_ours(lab):
    """RFC 8547 4.3: both b bits are 0, so it is clear; see the docs for passive_role."""
    use_crossed(lab, "ab")


def test_simultaneous_open_both_of_ours_ipv6(lab):
    use_crossed(lab, "ab", True)


# --- Ends -------------------------------------------------------------------------------

def check_final_frames(cap):
    """RFC 8548 3.7: each FIN came after a whole last frame, and frames fill the stream."""
    for key, stream in cap.streams().items():
        at = int.from_bytes(stream[4:8], "big") \
            if stream[:4] in (INIT1_MAGIC, INIT2_MAGIC) else 0
        while at < len(stream):
            at += 3 + int.from_bytes(stream[at + 1:at + 3], "big")
        expect_eq(at, len(stream), f"{key}: whole frames up to the FIN")


def half_close(lab, opener_first, **kwargs):
    """One direction ends, the other goes on for long, and then ends too."""
    box, a, b = hosts(lab, **kwargs)
    with box, Capture(box.ns, a.peer_if) as cap:
        for n in range(2):  # full, resumed
            with connected(a, b) as (c, s):
                first, second = (c, s) if opener_first else (s, c)
                first.sendall(b"question")
                first.shutdown(socket.SHUT_WR)
                expect_eq(end_of(second), ("eof", b"question"))
                data = os.urandom(300_000)
                t = threading.Thread(target=second.sendall, args=(data,), daemon=True)
                t.start()
                expect(read_exactly(first, len(data)) == data, "the answer")
                t.join(5)
                if not n:
                    expect_eq(session(a, 80)["state"], "encrypted")
                second.close()
                expect_eq(end_of(first), ("eof", b""))
            for h in (a, b):
                x = wait_ended(h, 80, n + 1)
                expect_eq((x["end"], x.get("error")), ("closed", None), h.short)
        cap.stop()
        expect(not [t for t in cap.tcp() if t.flags & RST], "no RST")
        check_final_frames(cap)


def test_half_close_of_the_opener(lab):
    half_close(lab, True)


def test_half_close_of_the_answerer(lab):
    half_close(lab, False)


def test_half_close_under_rekeying(lab):
    """RFC 8548 3.8: keys change in the direction that goes on."""
    half_close(lab, True, at_a=("--rekey-bytes", "10000"), at_b=("--rekey-bytes", "15000"))


def test_closed_before_anything_was_sent(lab):
    """connect() and close(): an end of file, not an error; full and resumed."""
    box, a, b = hosts(lab)
    with box:
        for n in range(3):
            with b.listen(80) as listener:
                a.connect(b.ip4, 80).close()
                with listener.accept()[0] as s:
                    expect_eq(end_of(s), ("eof", b""), f"connection {n}")
            for h in (a, b):
                expect_eq(wait_ended(h, 80, n + 1)["end"], "closed", h.short)


def test_shut_down_by_both_at_once(lab):
    box, a, b = hosts(lab)
    with box:
        for _ in range(5):
            with connected(a, b) as (c, s):
                c.sendall(b"to s")
                s.sendall(b"to c")
                c.shutdown(socket.SHUT_WR)
                s.shutdown(socket.SHUT_WR)
                expect_eq(end_of(s), ("eof", b"to s"))
                expect_eq(end_of(c), ("eof", b"to c"))
        wait_none(a)
        expect_eq({x["end"] for x in ended(a) + ended(b)}, {"closed"})


def test_all_is_written_and_closed_at_once(lab):
    """Data and the end in the first flight of a resumed connection."""
    box, a, b = hosts(lab)
    data = os.urandom(50_000)
    with box:
        for n in range(3):
            with b.listen(80) as listener:
                with a.connect(b.ip4, 80) as c:
                    c.sendall(data)
                with listener.accept()[0] as s:
                    what, got = end_of(s)
                    expect((what, got) == ("eof", data), f"connection {n}", what, len(got))
            expect_eq(wait_ended(b, 80, n + 1)["reason"], "resumed" if n else "full")


def reset(sock):
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def test_resets_of_applications(lab):
    """SO_LINGER 0, and close() with bytes unread: ECONNRESET at the other end, never the end
    of a file; by opener and answerer, when fresh and when resumed."""
    box, a, b = hosts(lab)
    with box:
        n = 0
        for opener_resets in (True, False):
            for how in ("linger", "unread"):
                with connected(a, b) as (c, s):
                    ping(c, s)
                    one, other = (c, s) if opener_resets else (s, c)
                    if how == "unread":
                        other.sendall(b"never read")
                        wait_for(lambda x=one: x.recv(1, socket.MSG_PEEK), 5, "arrived")
                        one.close()
                    else:
                        reset(one)
                    expect_eq(end_of(other), ("reset", b""), f"{how}, opener {opener_resets}")
                n += 1
                here, there = (a, b) if opener_resets else (b, a)
                expect_eq(wait_ended(here, 80, n)["end"], "reset-by-application")
                expect_eq(wait_ended(there, 80, n)["end"], "reset-by-peer")
        expect_eq((errors(a), errors(b)), ({}, {}), "resets are not errors of the session")


def told_before_reset(a, b, opener_resets, how, before):
    """Return: what the other end reads when one sends bytes and is gone in the same moment."""
    with connected(a, b) as (c, s):
        one, other = (c, s) if opener_resets else (s, c)

        def leave_unread():
            other.sendall(b"never read")
            wait_for(lambda: one.recv(1, socket.MSG_PEEK), 5, "arrived")

        if how == "unread":
            leave_unread()
        one.sendall(before)
        if how == "shut":
            leave_unread()
            one.shutdown(socket.SHUT_WR)
        if how == "linger":
            reset(one)
        one.close()
        what, got = end_of(other)
        return what, got == before, len(got)


def test_data_before_a_reset(lab):
    """What a program sent before its RST is read before ECONNRESET, as natively: an answer and
    close() with bytes unread. Fresh, with keys still to be made, and resumed."""
    box, a, b = hosts(lab, None, None)
    ways = [(opener, how, os.urandom(size)) for opener in (True, False)
            for how in ("linger", "unread", "shut") for size in (100, 9000)]
    with box:
        def tell():
            return [told_before_reset(a, b, *way) for way in ways]

        native = tell()
        expect_eq({x[:2] for x in native}, {("reset", True), ("eof", True)}, "native")
        a.up()
        expect_eq(tell(), native, "clear, outbound")
        b.up()
        expect_eq(tell(), native, "encrypted")
        expect({x["reason"] for x in ended(b)} >= {"full", "resumed"}, "both kinds")
        a.down()
        expect_eq(tell(), native, "clear, inbound")


def test_port_used_again(lab):
    """The same tuple at once after an upload that the server ended: its side is in TIME-WAIT, and
    our next number must lie behind what was sent, which is ahead of the clock of RFC 6528."""
    box, a, b = hosts(lab, None, None)
    data = os.urandom(1_000_000)

    def upload():
        with b.listen(80) as listener, a.socket() as c:
            c.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            c.bind(("0.0.0.0", 4000))
            c.settimeout(5)
            # Until the answer to the last one's FIN has come, its own kernel refuses.
            wait_for(lambda: c.connect_ex((b.ip4, 80)) != errno.EADDRNOTAVAIL, 5, "a free port")
            with listener.accept()[0] as s:
                t = threading.Thread(target=c.sendall, args=(data,), daemon=True)
                t.start()
                expect(read_exactly(s, len(data)) == data, "bytes differ")
                t.join(5)
            expect_eq(end_of(c), ("eof", b""))

    with box:
        for attached in ("", "a", "ab", "b"):
            for h in (a, b):
                if h.short in attached:
                    h.up()
            for _ in range(3):
                upload()
            for h in (a, b):
                if h.short in attached:
                    found = [(x["reason"], x["end"]) for x in ended(h)]
                    expect(attached != "ab" or {x[0] for x in found} <= {"full", "resumed"},
                           "encrypted without a second SYN", found)
                    h.down()


def test_down_resets_both_ends(lab):
    box, a, b = hosts(lab)
    with box, connected(a, b) as (c, s):
        ping(c, s)
        a.down()
        expect_eq(end_of(s), ("reset", b""), "the far end")
        what, got = end_of(c)
        expect(what in ("reset", errno.ECONNABORTED) and got == b"", "the near end", what, got)
        expect_eq(wait_ended(b, 80)["end"], "reset-by-peer")


def test_errors_are_counted_and_listed(lab):
    """status, sessions --ended and the history agree on what went wrong."""
    box, a, b = hosts(lab, (), ("-v",))
    with box:
        for n in range(3):
            with connected(a, b) as (c, s):
                ping(c, s)
                box.rule = lambda t: [t.changed(-1)] if t.to_b and t.payload else None
                c.sendall(b"x")
                expect_eq(end_of(s), ("reset", b""))
                box.rule = None
                expect_eq(end_of(c), ("reset", b""))
            wait_ended(b, 80, n + 1)
        status = json.loads(b.tcns("status", "--json").stdout)
        expect_eq(status["errors"], {"frame-auth": 3})
        expect_eq(status["counters"]["flows_aborted"], 3)
        listed = json.loads(b.tcns("sessions", "--ended", "--json").stdout)["sessions"]
        expect_eq([(x["end"], x["error"]) for x in listed], [("error", "frame-auth")] * 3)
        expect("frame-auth" in b.tcns("sessions", "--ended").stdout, "for people, too")
        expect_eq(errors(a), {})
        with open(b.log_path()) as f:
            expect_eq(f.read().count("error=frame-auth"), 3, "in the log")


if __name__ == "__main__":
    tap.main()
