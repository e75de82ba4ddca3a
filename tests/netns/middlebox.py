# SPDX-License-Identifier: BSD-3-Clause
"""A middlebox between two hosts: sees each TCP segment, and passes, changes, drops or makes some.

How it works: two veth pairs meet in a namespace that has no address, so the two
hosts are neighbours. A thread copies whole frames from one side to the other.
A rule, any callable, is asked about each TCP segment: None lets it pass as it
is, anything else is a list of what to send in its place. Offloads of the hosts
are off, so that each frame is one packet with all its checksums.
"""
import os
import select
import socket
import struct
import threading
import traceback

from lab import Failure
from wire import (ACK, ETH_ALL, ETH_IP, ETH_IP6, OPT_ENO, OPT_NOP, SO_RCVBUFFORCE, SYN, build_ip,
                  build_tcp, parse_ip)

PACKET_IGNORE_OUTGOING = 23
SOL_PACKET = 263


class Segment:
    """A TCP segment that can be changed, in its Ethernet frame."""

    def __init__(self, frame, to_b):
        t = parse_ip(frame[14:])
        self.eth, self.to_b = frame[:14], to_b
        for name in ("src", "dst", "sport", "dport", "seq", "ack", "flags", "window", "ttl"):
            setattr(self, name, getattr(t, name))
        self.options, self.payload = t.raw_options, t.payload
        head = frame[14:]
        at = (head[0] & 15) * 4 if head[0] >> 4 == 4 else 40
        self.urgent = struct.unpack(">H", head[at + 18:at + 20])[0]

    def copy(self, **fields):
        other = Segment.__new__(Segment)
        other.__dict__.update(self.__dict__)
        other.__dict__.update(fields)
        return other

    def frame(self):
        return self.eth + build_ip(self.src, self.dst, build_tcp(
            self.src, self.dst, self.sport, self.dport, self.seq, self.ack, self.flags,
            self.options, self.payload, self.window, urgent=self.urgent), ttl=self.ttl)

    @property
    def is_syn(self):
        return self.flags & (SYN | ACK) == SYN

    @property
    def is_synack(self):
        return self.flags & (SYN | ACK) == SYN | ACK

    def spans(self, kind=OPT_ENO):
        """Return: (start, end) in the options area of each option of that kind."""
        out, i, area = [], 0, self.options
        while i < len(area) and area[i] != 0:
            if area[i] == OPT_NOP:
                i += 1
                continue
            if i + 1 >= len(area) or area[i + 1] < 2:
                break
            if area[i] == kind:
                out.append((i, i + area[i + 1]))
            i += area[i + 1]
        return out

    def eno(self):
        """Return: the whole of the ENO option; None without one."""
        spans = self.spans()
        return self.options[slice(*spans[0])] if spans else None

    def without(self, kind=OPT_ENO):
        """The option overwritten, as middleboxes do it."""
        area = bytearray(self.options)
        for start, end in self.spans(kind):
            area[start:end] = bytes([OPT_NOP]) * (end - start)
        return self.copy(options=bytes(area))

    def plus(self, option):
        """One more option at the end."""
        area = self.options.rstrip(b"\0\1") if not self.spans() else self.options
        area += option
        area += bytes([OPT_NOP]) * (-len(area) % 4)
        if len(area) > 40:
            raise Failure(f"options do not fit: {len(area)} bytes")
        return self.copy(options=area)

    def with_eno(self, option):
        """Another ENO option in place of the one that is there."""
        start, end = self.spans()[0]
        area = self.options[:start] + option + self.options[end:]
        while len(area) % 4 and area.endswith(bytes([OPT_NOP])):
            area = area[:-1]
        return self.copy(options=area + bytes([OPT_NOP]) * (-len(area) % 4))

    def flipped(self, bit):
        """One bit of the ENO option flipped, if it has so many."""
        start, end = self.spans()[0]
        area = bytearray(self.options)
        if start + bit // 8 < end:
            area[start + bit // 8] ^= 0x80 >> bit % 8
        return self.copy(options=bytes(area))

    def changed(self, at, mask=1):
        """One byte of the payload changed."""
        data = bytearray(self.payload)
        data[at] ^= mask
        return self.copy(payload=bytes(data))


class Middlebox:
    """Hosts a and b with a box between them. rule may be set at any time."""

    def __init__(self, lab, names=("a", "b")):
        self.ns = lab.ns("box")
        self.ns.sysctl("net.ipv6.conf.default.disable_ipv6", 1)
        self.hosts = [lab.ns(n) for n in names]
        self.rule = None
        self.failed = None
        self.socks = []
        for i, h in enumerate(self.hosts, 1):
            h.ip4, h.ip6, h.peer_if = f"10.78.0.{i}", f"fd78::{i}", f"to-{h.short}"
            lab.veth(self.ns, h.peer_if, h, "eth0")
            h.ip("addr", "add", f"{h.ip4}/24", "dev", "eth0")
            h.ip("addr", "add", f"{h.ip6}/64", "dev", "eth0", "nodad")
            h.offload(False)
            self.ns.offload(False, h.peer_if)
            self.socks.append(self._socket(h.peer_if))
        for h, other in (self.hosts, self.hosts[::-1]):  # up looks for the default route
            h.ip("route", "add", "default", "via", other.ip4)
            h.ip("-6", "route", "add", "default", "via", other.ip6)
        self.lock = threading.Lock()
        self._stop_r, self._stop_w = os.pipe()
        self._thread = threading.Thread(target=self._loop, daemon=True)
        self._thread.start()

    def _socket(self, dev):
        with self.ns.inside():
            s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        s.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
        s.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 32 << 20)
        with self.ns.inside():
            s.bind((dev, ETH_ALL))
        s.setblocking(False)
        return s

    def send(self, segments, to_b=None):
        """Segments in the direction of each, or in the one given."""
        for s in segments:
            towards = s.to_b if to_b is None else to_b
            self._send_frame(s.frame(), towards)

    def _send_frame(self, frame, to_b):
        with self.lock:
            self.socks[1 if to_b else 0].send(frame)

    def _pass(self, frame, to_b):
        rule = self.rule
        if rule and struct.unpack(">H", frame[12:14])[0] in (ETH_IP, ETH_IP6) and \
                parse_ip(frame[14:]):
            instead = rule(Segment(frame, to_b))
            if instead is not None:
                self.send(instead)
                return
        self._send_frame(frame, to_b)

    def _loop(self):
        by_fd = {s.fileno(): (s, i == 0) for i, s in enumerate(self.socks)}
        poll = select.poll()
        for fd in (*by_fd, self._stop_r):
            poll.register(fd, select.POLLIN)
        while True:
            for fd, _ in poll.poll():
                if fd == self._stop_r:
                    return
                sock, to_b = by_fd[fd]
                for _ in range(64):
                    try:
                        self._pass(sock.recv(70000), to_b)
                    except BlockingIOError:
                        break
                    except Exception:  # the test must see it, and packets must not stop
                        self.failed = self.failed or traceback.format_exc()
                        break

    def close(self):
        os.write(self._stop_w, b"x")
        self._thread.join(5)
        for s in self.socks:
            s.close()
        os.close(self._stop_r)
        os.close(self._stop_w)
        if self.failed:
            raise Failure("the middlebox itself failed:\n" + self.failed)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()
