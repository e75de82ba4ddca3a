#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Urgent data (RFC 8548 3.7): what applications see of MSG_OOB is what they see natively.

Each way of sending is run between the two plain namespaces first; what the
receiver could tell then is what it must tell with us in between.
"""
import fcntl
import os
import select
import socket
import struct
import threading

import tap
from lab import expect, expect_eq, wait_for
from middlebox import Middlebox
from rfc import connected, session
from wire import URG, Capture

SIOCATMARK = 0x8905
BYTES_RECEIVED_AT = 128  # in struct tcp_info

# bytes before, bytes of the urgent send (the last one is the urgent byte), bytes behind
SMALL = [(0, b"!", 0), (0, b"!", 10), (1, b"!", 1), (100, b"abc!", 100), (5000, b"!", 0),
         (5000, b"!", 5000)]
LARGE = [(70_000, b"!", 70_000), (300_000, b"xyz!", 100_000), (3_000_000, b"xyz!", 100_000)]


def text_of(size):
    return (b"0123456789abcdefghijklmnopqrstuvwxy" * (size // 35 + 1))[:size]


def at_mark(sock):
    return struct.unpack("i", fcntl.ioctl(sock, SIOCATMARK, struct.pack("i", 0)))[0] == 1


def received(sock):
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 232)
    return struct.unpack_from("=Q", info, BYTES_RECEIVED_AT)[0]


def oob(sock):
    """Return: the urgent byte, or why there is none."""
    limit = sock.gettimeout()
    sock.setblocking(False)  # with a time limit Python would wait for other bytes first
    try:
        return sock.recv(1, socket.MSG_OOB)
    except OSError as e:
        return e.errno
    finally:
        sock.settimeout(limit)


def story(sock, total, inline):
    """Return: what the receiver can tell of so many bytes."""
    told, stream, pos = [], b"", 0
    while pos < total:
        wait_for(lambda: received(sock) > pos, 10, f"more than {pos} bytes", 0.0005)
        if at_mark(sock):
            pri = bool(select.select([], [], [sock], 0)[2])
            told.append(("mark", pos, pri))
            if not inline:
                byte = oob(sock)
                told.append(("urgent", byte, "again", oob(sock)))
                pos += 1
                if pos == total:
                    break
        data = sock.recv(65536)
        expect(data, "ended early", pos, told)
        pos += len(data)
        stream += data
    return told, len(stream), hash(stream)


def send(sock, shape):
    before, urgent, behind = shape
    sock.sendall(text_of(before))
    sock.send(urgent, socket.MSG_OOB)
    sock.sendall(text_of(behind))


def run(a, b, shape, inline, from_opener):
    """Return: what the receiver tells, and the state of the connection when it is ours."""
    with connected(a, b) as (c, s):
        tx, rx = (c, s) if from_opener else (s, c)
        rx.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, inline)
        t = threading.Thread(target=send, args=(tx, shape), daemon=True)
        t.start()
        total = shape[0] + len(shape[1]) + shape[2]
        told = story(rx, total, inline)
        t.join(10)
        return told


def all_ways(shapes):
    return [(shape, inline, from_opener) for shape in shapes for inline in (0, 1)
            for from_opener in (True, False)]


def compare(lab, shapes, attached, state):
    box = Middlebox(lab)
    a, b = box.hosts
    with box:
        native = {way: run(a, b, *way) for way in all_ways(shapes)}
        for way, told in native.items():
            before, urgent, _ = way[0]
            expect_eq(told[0][0], ("mark", before + len(urgent) - 1, True), f"native: {way}")
        for h in (a, b):
            if h.short in attached:
                h.up()
        for way in all_ways(shapes):
            expect_eq(run(a, b, *way), native[way], f"(shape), SO_OOBINLINE, from opener: {way}")
        with connected(a, b) as (c, s):
            c.send(b"!", socket.MSG_OOB)
            wait_for(lambda: received(s) > 0, 5, "the byte")
            expect_eq(session(a if "a" in attached else b, 80)["state"], state)


def test_encrypted_small(lab):
    compare(lab, SMALL, "ab", "encrypted")


@tap.timeout(90)
def test_encrypted_large(lab):
    """The mark lies farther ahead than the 16 bits of the field at first.

    The kernel then points as far as they reach. What lies there is not urgent: taken
    for it, it would be missing from the stream.
    """
    compare(lab, LARGE, "ab", "encrypted")


def test_clear_outbound(lab):
    compare(lab, SMALL + LARGE, "a", "clear")


def test_clear_inbound(lab):
    compare(lab, SMALL + LARGE, "b", "clear")


def test_several_marks_one_after_the_other(lab):
    box = Middlebox(lab)
    a, b = box.hosts

    def several():
        out = []
        with connected(a, b) as (c, s):
            sent = 0
            for n in range(5):
                for tx, rx in ((c, s), (s, c)):
                    tx.sendall(text_of(n * 300))
                    tx.send(bytes([65 + n]), socket.MSG_OOB)
                sent += n * 300 + 1
                for rx in (s, c):
                    wait_for(lambda rx=rx, x=sent: received(rx) >= x, 5, "bytes", 0.001)
                    got = b""
                    while len(got) < n * 300:
                        expect(not at_mark(rx), "an early mark", len(got))
                        got += rx.recv(n * 300 - len(got))
                    out.append((at_mark(rx), oob(rx), got == text_of(n * 300)))
        return out

    with box:
        native = several()
        expect_eq(native, [(True, bytes([65 + n]), True) for n in range(5) for _ in "ab"], "native")
        for h in (a, b):
            h.up()
        expect_eq(several(), native, "encrypted")
        expect_eq(several(), native, "resumed")


def test_sigurg_wakes_the_owner(lab):
    """poll() says POLLPRI for an urgent byte that nothing follows."""
    box = Middlebox(lab)
    a, b = box.hosts
    with box:
        for h in (a, b):
            h.up()
        with connected(a, b) as (c, s):
            for tx, rx in ((c, s), (s, c)):
                expect_eq(select.select([], [], [rx], 0)[2], [], "nothing yet")
                tx.send(b"!", socket.MSG_OOB)
                expect_eq(select.select([], [], [rx], 5)[2], [rx], "POLLPRI")
                expect_eq(oob(rx), b"!")


def test_urgent_is_inside_frames(lab):
    """RFC 8548 3.7: nothing of it shows outside, neither the flag nor the pointer."""
    box = Middlebox(lab)
    a, b = box.hosts
    with box, Capture(box.ns, a.peer_if) as cap:
        for h in (a, b):
            h.up()
        with connected(a, b) as (c, s):
            c.send(b"!", socket.MSG_OOB)
            wait_for(lambda: received(s) > 0, 5, "the byte")
            expect_eq(session(a, 80)["state"], "encrypted")
        cap.stop()
        expect_eq([t for t in cap.tcp() if t.flags & URG], [], "URG on the wire")


def test_flag_forged_on_the_wire(lab):
    """A box that sets URG on encrypted segments moves no mark and takes no byte out."""
    box = Middlebox(lab)
    a, b = box.hosts
    with box:
        for h in (a, b):
            h.up()
        box.rule = lambda t: [t.copy(flags=t.flags | URG, urgent=max(len(t.payload) // 2, 1))] \
            if t.payload else None
        with connected(a, b) as (c, s):
            data = os.urandom(50_000)
            t = threading.Thread(target=c.sendall, args=(data,), daemon=True)
            t.start()
            got = b""
            while len(got) < len(data):
                expect(not at_mark(s), "a mark", len(got))
                got += s.recv(65536)
            expect(got == data, "bytes differ")
            t.join(5)
            expect_eq(session(a, 80)["state"], "encrypted")


if __name__ == "__main__":
    tap.main()
