# SPDX-License-Identifier: BSD-3-Clause
"""The wire as a test sees it: parser, builder, capture and injection of packets.

Written for the tests alone and with no code of the program, so that both cannot
be wrong in the same way.
"""
import select
import socket
import struct
import threading
import time

from lab import Failure

FIN, SYN, RST, PSH, ACK, URG = 1, 2, 4, 8, 16, 32
OPT_EOL, OPT_NOP, OPT_MSS, OPT_WSCALE, OPT_SACK_OK, OPT_SACK, OPT_TS, OPT_ENO = \
    0, 1, 2, 3, 4, 5, 8, 69
ETH_IP, ETH_IP6, ETH_ALL = 0x0800, 0x86DD, 0x0003

SOL_PACKET, PACKET_AUXDATA, SO_RCVBUFFORCE = 263, 8, 33
TP_STATUS_CSUMNOTREADY = 8
PACKET_OUTGOING = 4


def checksum(data, start=0):
    if len(data) % 2:
        data += b"\0"
    total = start + sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _pseudo(src, dst, length):
    if ":" in src:
        return (socket.inet_pton(socket.AF_INET6, src) + socket.inet_pton(socket.AF_INET6, dst)
                + struct.pack(">II", length, 6))
    return socket.inet_aton(src) + socket.inet_aton(dst) + struct.pack(">HH", 6, length)


class Tcp:
    """A TCP segment out of a frame."""
    __slots__ = ("time", "src", "dst", "sport", "dport", "seq", "ack", "flags", "window",
                 "options", "payload", "ip_ok", "tcp_ok", "outgoing", "partial", "raw_options",
                 "ttl", "ip_len")

    def flag(self, bits):
        return self.flags & bits == bits

    def option(self, kind):
        """Return: the option's data; None without it."""
        for k, data in self.options:
            if k == kind:
                return data
        return None

    @property
    def key(self):
        return (self.src, self.sport, self.dst, self.dport)

    def __repr__(self):
        names = "".join(c for bit, c in ((SYN, "S"), (ACK, "A"), (PSH, "P"), (FIN, "F"),
                                         (RST, "R"), (URG, "U")) if self.flags & bit)
        kinds = [k for k, _ in self.options]
        return (f"<{self.src}:{self.sport} > {self.dst}:{self.dport} {names} seq {self.seq} "
                f"ack {self.ack} len {len(self.payload)} options {kinds}>")


def parse_options(area):
    """Return: list of (kind, data); None when the area is malformed."""
    out, i = [], 0
    while i < len(area):
        kind = area[i]
        if kind == OPT_EOL:
            break
        if kind == OPT_NOP:
            i += 1
            continue
        if i + 1 >= len(area) or area[i + 1] < 2 or i + area[i + 1] > len(area):
            return None
        out.append((kind, area[i + 2:i + area[i + 1]]))
        i += area[i + 1]
    return out


def parse_ip(packet):
    """Return: Tcp of an IP packet; None when it is something else."""
    t = Tcp()
    t.partial = t.outgoing = False
    t.time = 0.0
    if not packet:
        return None
    if packet[0] >> 4 == 4:
        head = (packet[0] & 15) * 4
        total, frag = struct.unpack(">H2xH", packet[2:8])
        if packet[9] != 6 or frag & 0x1FFF:
            return None
        t.src, t.dst = socket.inet_ntoa(packet[12:16]), socket.inet_ntoa(packet[16:20])
        t.ip_ok = checksum(packet[:head]) == 0
        t.ttl = packet[8]
        segment = packet[head:total] if total else packet[head:]
    elif packet[0] >> 4 == 6:
        if packet[6] != 6:
            return None
        total = struct.unpack(">H", packet[4:6])[0]
        t.src = socket.inet_ntop(socket.AF_INET6, packet[8:24])
        t.dst = socket.inet_ntop(socket.AF_INET6, packet[24:40])
        t.ip_ok = True
        t.ttl = packet[7]
        segment = packet[40:40 + total] if total else packet[40:]
    else:
        return None
    if len(segment) < 20:
        return None
    t.ip_len = len(packet)
    t.sport, t.dport, t.seq, t.ack, off, t.flags, t.window = struct.unpack(">HHIIBBH",
                                                                           segment[:16])
    head = (off >> 4) * 4
    t.raw_options = segment[20:head]
    t.options = parse_options(t.raw_options) or []
    t.payload = segment[head:]
    t.tcp_ok = checksum(_pseudo(t.src, t.dst, len(segment)) + segment) == 0
    return t


class Capture:
    """All frames of an interface, from construction until stop()."""

    def __init__(self, ns, dev, max_bytes=256 << 20):
        with ns.inside():
            self.sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_ALL))
        with ns.inside():
            self.sock.bind((dev, ETH_ALL))
        self.sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 128 << 20)
        self.sock.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
        self.is_tun = dev.startswith("tcpcrypt")
        self.max_bytes, self.bytes = max_bytes, 0
        self.frames, self.truncated = [], False
        self._parsed = []
        self._ending = False
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._loop, daemon=True)
        self._thread.start()

    def _loop(self):
        waiting = select.poll()
        waiting.register(self.sock, select.POLLIN)
        while not self._ending:
            waiting.poll(50)
            self._read_queued()

    def _read_queued(self):
        with self._lock:
            while self._read_one():
                pass

    def _read_one(self):
        """Return: False when nothing is queued."""
        try:
            frame, aux, _, addr = self.sock.recvmsg(70000, 64, socket.MSG_DONTWAIT)
        except OSError:  # nothing, or the interface is gone
            return False
        partial = False
        for level, kind, data in aux:
            if level == SOL_PACKET and kind == PACKET_AUXDATA:
                partial = bool(struct.unpack("=I", data[:4])[0] & TP_STATUS_CSUMNOTREADY)
        if self.bytes + len(frame) > self.max_bytes:
            self.truncated = True
        else:
            self.bytes += len(frame)
            self.frames.append((time.monotonic(), frame, addr[2] == PACKET_OUTGOING, partial))
        return True

    def _end(self):
        if not self._ending:
            self._ending = True
            self._thread.join(10)
            self._read_queued()
            self.sock.close()

    def stop(self):
        """Everything that is queued is still read."""
        self._end()
        if self.truncated:
            raise Failure("the capture was too small")
        return self

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self._end()

    def tcp(self, **fields):
        """Return: list of Tcp up to now, those whose fields have these values."""
        if not self._ending:
            self._read_queued()
        for i in range(len(self._parsed), len(self.frames)):
            when, frame, outgoing, partial = self.frames[i]
            if self.is_tun:
                t = parse_ip(frame)
            else:
                kind = struct.unpack(">H", frame[12:14])[0]
                t = parse_ip(frame[14:]) if kind in (ETH_IP, ETH_IP6) else None
            if t:
                t.time, t.outgoing, t.partial = when, outgoing, partial
            self._parsed.append(t)
        return [t for t in self._parsed
                if t and all(getattr(t, k) == v for k, v in fields.items())]

    def wait_tcp(self, condition, timeout=5, what="segment"):
        """Return: the first segment for which condition is true."""
        deadline = time.monotonic() + timeout
        while True:
            for t in self.tcp():
                if condition(t):
                    return t
            if time.monotonic() > deadline:
                raise Failure(f"not on the wire within {timeout} s: {what}")
            time.sleep(0.01)

    def streams(self):
        """Return: {(src, sport, dst, dport): bytes} put together by sequence number."""
        parts, base = {}, {}
        for t in self.tcp():
            if t.flags & SYN:
                base[t.key] = (t.seq + 1) & 0xFFFFFFFF
            if t.payload:
                parts.setdefault(t.key, []).append((t.seq, t.payload))
        out = {}
        for key, segments in parts.items():
            start = base.get(key, segments[0][0])
            data = bytearray()
            for seq, payload in segments:
                off = (seq - start) & 0xFFFFFFFF
                if off > 1 << 31:
                    continue
                if len(data) < off + len(payload):
                    data.extend(b"\0" * (off + len(payload) - len(data)))
                data[off:off + len(payload)] = payload
            out[key] = bytes(data)
        return out

    def has_bytes(self, needle):
        """In any frame, or in any stream across frames."""
        return (any(needle in f[1] for f in self.frames)
                or any(needle in s for s in self.streams().values()))


def build_tcp(src, dst, sport, dport, seq=0, ack=0, flags=SYN, options=b"", payload=b"",
              window=65535, data_offset=None, bad_checksum=False, urgent=0):
    """A TCP segment; options are padded to four bytes."""
    options += b"\0" * (-len(options) % 4)
    words = (20 + len(options)) // 4 if data_offset is None else data_offset
    head = struct.pack(">HHIIBBHHH", sport, dport, seq & 0xFFFFFFFF, ack & 0xFFFFFFFF,
                       words << 4, flags, window, 0, urgent)
    segment = head + options + payload
    value = checksum(_pseudo(src, dst, len(segment)) + segment)
    if bad_checksum:
        value ^= 0x5555
    return segment[:16] + struct.pack(">H", value) + segment[18:]


def build_ip(src, dst, payload, proto=6, ttl=64, total=None, ihl=5, version=None, frag=0,
             bad_checksum=False, ident=1):
    """An IP packet of the family of src around payload. ihl, version, total: lies, when given."""
    if ":" in src:
        length = len(payload) if total is None else total
        return (struct.pack(">IHBB", (version or 6) << 28, length, proto, ttl)
                + socket.inet_pton(socket.AF_INET6, src) + socket.inet_pton(socket.AF_INET6, dst)
                + payload)
    length = 20 + len(payload) if total is None else total
    head = struct.pack(">BBHHHBBH", (version or 4) << 4 | ihl, 0, length & 0xFFFF, ident, frag,
                       ttl, proto, 0) + socket.inet_aton(src) + socket.inet_aton(dst)
    value = checksum(head)
    if bad_checksum:
        value ^= 0x5555
    return head[:10] + struct.pack(">H", value) + head[12:] + payload


class Injector:
    """Sends frames on an interface as if its namespace had made them."""

    def __init__(self, ns, dev):
        self.tun = dev.startswith("tcpcrypt")
        with ns.inside():
            self.sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            self.sock.bind((dev, 0))
        self.mac = None

    def to_mac(self, dst, src):
        self.mac = bytes.fromhex(dst.replace(":", "")) + bytes.fromhex(src.replace(":", ""))
        return self

    def send_ip(self, packet, kind=None):
        """kind: Ethernet type; by the version in the packet when not given."""
        if kind is None:
            kind = ETH_IP6 if packet[:1] and packet[0] >> 4 == 6 else ETH_IP
        if self.tun:
            # A TUN device takes bare IP; the protocol goes in the address.
            self.sock.sendto(packet, (self.sock.getsockname()[0], kind))
        else:
            self.sock.send(self.mac + struct.pack(">H", kind) + packet)

    def close(self):
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()


def mac(ns, dev):
    import json
    return json.loads(ns.ip("-j", "link", "show", dev))[0]["address"]
