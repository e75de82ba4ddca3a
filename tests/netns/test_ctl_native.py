# SPDX-License-Identifier: BSD-3-Clause
"""TCP that is left to the kernel, or cannot be carried: link-local, sockets of one device."""
import contextlib
import errno
import json
import re
import socket
import struct
import time

import tap
from lab import expect, expect_eq, wait_for
from wire import ACK, RST, SYN, Capture, Injector, build_ip, build_tcp, mac


def link_local(ns, dev="eth0"):
    def look():
        return re.search(r"inet6 (fe80::\S+)/64", ns.ip("-6", "addr", "show", "dev", dev))

    return wait_for(look, what="a link-local address")[1]


def index(ns, dev="eth0"):
    with ns.inside():
        return socket.if_nametoindex(dev)


def connect_scoped(ns, addr, port):
    s = ns.socket(socket.AF_INET6)
    s.settimeout(5)
    try:
        s.connect((addr, port, 0, index(ns)))
    except BaseException:
        s.close()
        raise
    return s


def echo(listener, c):
    s, _ = listener.accept()
    with s:
        s.settimeout(5)
        c.sendall(b"to server")
        expect_eq(s.recv(100), b"to server")
        s.sendall(b"to client")
        expect_eq(c.recv(100), b"to client")


def rst_unknown(ns):
    return ns.counters()["rst_unknown"]


def status(ns, check=True):
    r = ns.tcns("status", "--json", check=check)
    return json.loads(r.stdout) if r.returncode == 0 else {}


def test_link_local(lab):
    """Out and in, at a host that is attached and one that is not, as without us."""
    a, b = lab.neighbours()
    a.up("--policy", "require")
    with b.listen(80, "::") as listener, connect_scoped(a, link_local(b), 80) as c:
        echo(listener, c)
    with a.listen(80, "::") as listener, connect_scoped(b, link_local(a), 80) as c:
        echo(listener, c)
    expect_eq(a.sessions(), [], "the tunnel has not seen it")
    expect_eq(rst_unknown(a), 0, "and resets none of it")
    with contextlib.suppress(OSError):
        connect_scoped(a, link_local(b), 81)
        raise AssertionError("connected to a closed port")


def test_link_local_outlives_us(lab):
    """Neither up, nor a worker that dies, nor down ends it."""
    a, b = lab.neighbours()
    with b.listen(80, "::") as listener, connect_scoped(a, link_local(b), 80) as c:
        s, _ = listener.accept()
        with s:
            for step in ("up", "kill", "down"):
                if step == "kill":
                    pid = status(a)["worker_pid"]
                    a.run("kill", "-9", pid)
                    wait_for(lambda: status(a, False).get("worker_pid", pid) != pid, 5)
                else:
                    getattr(a, step)()
                c.sendall(step.encode())
                expect_eq(s.recv(100), step.encode())


def test_global_from_link_local(lab):
    """Between a link-local and a global address of the same link."""
    a, b = lab.neighbours()
    a.up()
    with b.listen(80, "::") as listener, a.socket(socket.AF_INET6) as c:
        c.settimeout(5)
        c.bind((link_local(a), 0, 0, index(a)))
        c.connect((b.ip6, 80))
        echo(listener, c)
    expect_eq(a.sessions(), [])


def is_refused(fn, error=errno.ECONNREFUSED, within=0.5):
    start = time.monotonic()
    try:
        fn().close()
    except OSError as e:
        return e.errno == error and time.monotonic() - start < within
    return False


def sockets_of_the_uplink(a, b, refusals):
    for family, here, there, any_addr in ((socket.AF_INET, a.ip4, b.ip4, None),
                                          (socket.AF_INET6, a.ip6, b.ip6, "::")):
        with b.listen(80, any_addr) as listener, a.bound_socket(family) as c:
            expect(is_refused(lambda: c.connect((there, 80)) or c, *refusals[family]), "outbound", there)
            listener.settimeout(0.2)
            with contextlib.suppress(socket.timeout):
                listener.accept()
                raise AssertionError("it came through")
        with b.listen(22, any_addr) as listener, a.bound_socket(family) as c:
            c.connect((there, 22))
            echo(listener, c)
        with a.bound_socket(family) as listener:
            listener.bind(("", 81))
            listener.listen()
            expect(is_refused(lambda: b.connect(here, 81)), "inbound, at once", here)
    expect_eq(rst_unknown(a), 0, "the tunnel sees no answers to what it did not send")


def test_socket_of_the_uplink(lab):
    """Bound to the device it cannot go through the tunnel: refused, and not clear."""
    _, a, b = lab.star("a", "b")
    a.forbid_programs()
    a.up("--bypass", "22")
    refused = (errno.ECONNREFUSED,)
    sockets_of_the_uplink(a, b, {socket.AF_INET: refused, socket.AF_INET6: refused})


def test_socket_of_the_uplink_with_programs(lab):
    """The kernel takes an IPv4 peer of such a socket for a neighbour, which must answer first."""
    _, a, b = lab.star("a", "b")
    a.up("--bypass", "22")
    sockets_of_the_uplink(a, b, {socket.AF_INET: (errno.EHOSTUNREACH, 5),
                                 socket.AF_INET6: (errno.ECONNABORTED,)})
    a.ip("neigh", "replace", b.ip4, "lladdr", "02:00:00:00:00:01", "dev", "eth0")
    with a.bound_socket(socket.AF_INET) as c:
        expect(is_refused(lambda: c.connect((b.ip4, 80)) or c, errno.ECONNABORTED), "a neighbour's")


def test_rules_flushed(lab):
    """Somebody takes our rules away: what follows on an encrypted connection stays in."""
    r, a, b = lab.star("a", "b")
    a.up()
    b.up()
    mark = b"plaintext that must not leave, 40 bytes."
    supervisor = status(a)["pid"]
    with b.listen(80) as listener, a.connect(b.ip4, 80) as c:
        s, _ = listener.accept()
        with s:
            capture = Capture(r, a.peer_if)
            a.run("kill", "-STOP", supervisor)  # it would put them back
            for family in ("-4", "-6"):
                a.ip(family, "rule", "flush")
                a.ip(family, "rule", "add", "priority", "32766", "lookup", "main")
            with contextlib.suppress(OSError):
                c.sendall(mark)
                c.settimeout(1)
                c.recv(1)
            a.run("kill", "-CONT", supervisor)
            capture.stop()
            expect(not any(mark in frame for _, frame, *_ in capture.frames), "not on the wire")


def test_older_connection_goes_on_after_down(lab):
    """The guard goes before the rules do."""
    _, a, b = lab.star("a", "b")
    with b.listen(80) as listener, a.connect(b.ip4, 80) as c:
        s, _ = listener.accept()
        with s:
            s.settimeout(10)
            a.up()
            for i in range(20):
                c.sendall(b"x" * 1000)
                if i == 10:
                    a.down()
            got = b""
            while len(got) < 20000:
                got += s.recv(65536)


def test_bypassed_traffic_is_not_copied(lab):
    """Bulk data of a bypassed port, in or out, costs the worker nothing."""
    _, a, b = lab.star("a", "b")
    a.up("--bypass", "22,1000-2000")
    for here, there, port in ((a, b, 22), (b, a, 1500)):
        with there.listen(port) as listener, here.connect(there.ip4, port) as c:
            s, _ = listener.accept()
            with s:
                for _ in range(10):
                    s.sendall(b"x" * 50000)
                    c.sendall(b"y" * 50000)
                    for end in (s, c):
                        got = 0
                        while got < 50000:
                            got += len(end.recv(65536))
    expect_eq(a.counters()["uplink_rx_packets"], 0)
    with b.listen(80) as listener, a.connect(b.ip4, 80) as c:
        echo(listener, c)
    expect(a.counters()["uplink_rx_packets"] > 0, "others are")


MORE_FRAGMENTS = 0x2000


def whole(src, dst, segment, ident):
    return [build_ip(src, dst, segment, ident=ident)]


def fragments(src, dst, ident, parts, proto=6):
    """Of these (offset, data); the last has no more behind it."""
    out = []
    for offset, data in parts:
        more = data is not parts[-1][1]
        if ":" in src:  # a fragment header (44) says where it belongs, in bytes
            head = struct.pack(">BBHI", proto, 0, offset | more, ident)
            out.append(build_ip(src, dst, head + data, proto=44))
        else:
            out.append(build_ip(src, dst, data, ident=ident,
                                frag=(MORE_FRAGMENTS if more else 0) | offset // 8))
    return out


def in_fragments(src, dst, segment, ident, first=24):
    """The TCP header with its options is in the first."""
    return fragments(src, dst, ident, [(0, segment[:first]), (first, segment[first:])])


def last_first(*args):
    return in_fragments(*args)[::-1]


def answers(cap, inject, src, dst, cases, cut):
    """SYNs from and to these ports, the last of which is answered. Return: {ports: flags} of
    what the kernel answers. What follows the header looks like one of a SYN from port 22."""
    data = build_tcp(src, dst, 22, 80) + b"z" * 20
    for i, (sport, dport) in enumerate(cases):
        segment = build_tcp(src, dst, sport, dport, options=b"\2\4\5\xb4", payload=data)
        for packet in cut(src, dst, segment, 100 + i):
            inject.send_ip(packet)
    sport, dport = cases[-1]
    cap.wait_tcp(lambda t: (t.src, t.sport, t.dport) == (dst, dport, sport), what="the last answer")
    return {(t.dport, t.sport): t.flags for t in cap.tcp(src=dst, dst=src)
            if (t.dport, t.sport) in cases and t.flags & (SYN | RST)}


def test_fragments_and_the_kernel(lab):
    """SYNs, whole or in fragments, reach the kernel's own TCP when bypassed, and only then."""
    r, a, b = lab.star("a", "b")
    refused, accepted = RST | ACK, SYN | ACK
    local = link_local(r, a.peer_if), link_local(a)
    for policy in ("prefer", "require"):
        a.up("--bypass", "22-23", "--policy", policy)
        with contextlib.ExitStack() as stack:
            for addr in (None, "::"):
                stack.enter_context(a.listen(22, addr))
                stack.enter_context(a.listen(80, addr))
            cap = stack.enter_context(Capture(r, a.peer_if))
            inject = stack.enter_context(Injector(r, a.peer_if))
            inject.to_mac(mac(a, "eth0"), mac(r, a.peer_if))
            port = 4000
            for cut in (whole, in_fragments, last_first):
                for src, dst in ((b.ip4, a.ip4), (b.ip6, a.ip6), local):
                    port += 10
                    what = policy, cut.__name__, src
                    own, to_closed, to_open = (port, 80), (port + 1, 23), (port + 2, 22)
                    from_bypassed = 22, port + 3
                    want = {to_closed: refused, to_open: accepted}
                    if policy == "prefer" or src == local[0]:
                        want[from_bypassed] = refused
                    if src == local[0]:
                        want[own] = accepted
                    elif cut == whole:
                        own = port + 4, 22  # else the tunnel answers
                        want[own] = accepted
                    expect_eq(answers(cap, inject, src, dst,
                                      (own, from_bypassed, to_closed, to_open), cut), want, what)
        a.down()


def tiny(src, dst, segment, ident):
    """The first has no flags (RFC 1858 3)."""
    return in_fragments(src, dst, segment, ident, 8)


def tiny_backwards(*args):
    return tiny(*args)[::-1]


def tiny_by_eights(src, dst, segment, ident):
    return fragments(src, dst, ident, [(i, segment[i:i + 8]) for i in range(0, len(segment), 8)])


def as_ack(segment):
    return segment[:13] + bytes([ACK]) + segment[14:]


def tiny_padded(src, dst, segment, ident):
    """An ACK's flags stand where the first would have some, behind its end."""
    first, rest = tiny(src, dst, segment, ident)
    return first + as_ack(segment)[8:20], rest


def tiny_after_cut(src, dst, segment, ident):
    """The same flags, in bytes that the kernel cuts off as they make no eight."""
    return fragments(src, dst, ident, [(0, as_ack(segment)[:15]), (8, segment[8:])])


def overlapping(src, dst, segment, ident):
    """An ACK's header, and the SYN's over it."""
    return fragments(src, dst, ident,
                     [(0, as_ack(segment)[:16]), (8, segment[8:16]), (16, segment[16:])])


def tiny_over_allowed(src, dst, segment, ident):
    """A SYN to a bypassed port, and other ports over its own (RFC 3128)."""
    allowed = build_tcp(src, dst, 4000, 22, options=b"\2\4\5\xb4")
    return fragments(src, dst, ident,
                     [(0, allowed[:16]), (0, segment[:8]), (16, segment[16:])])


def tiny_then_allowed(*args):
    head, ports, rest = tiny_over_allowed(*args)
    return ports, head, rest


def behind_options(src, dst, segment, ident, first=8):
    """As tiny, but destination options (60) move the flags to another offset."""
    options = struct.pack(">BBBB4x", 6, 0, 1, 4)
    return fragments(src, dst, ident, [(0, options + segment[:first]),
                                       (8 + first, segment[first:])], proto=60)


def behind_options_whole(*args):
    return behind_options(*args, first=16 + 8)


def test_tiny_fragments_and_require(lab):
    """A peer that connects from a bypassed port hides its SYN's flags: no other port answers.

    Under prefer, where that port may be reached in clear, the same fragments show that they
    are such that the kernel puts together; of IPv6 it does not take them (RFC 8200 4.5)."""
    r, a, b = lab.star("a", "b")
    six = b.ip6, a.ip6
    four = b.ip4, a.ip4
    flagless = tiny, tiny_backwards, tiny_by_eights, tiny_padded
    cuts = [(four, cut, cut not in (overlapping, tiny_over_allowed, tiny_then_allowed))
            for cut in (*flagless, tiny_after_cut, overlapping, tiny_over_allowed,
                        tiny_then_allowed)]
    cuts += [(six, cut, cut in (in_fragments, behind_options_whole))
             for cut in (*flagless, in_fragments, overlapping, tiny_over_allowed,
                         tiny_then_allowed, behind_options, behind_options_whole)]
    for policy in ("prefer", "require"):
        a.up("--bypass", "22,1000-1100", "--policy", policy)
        with contextlib.ExitStack() as stack:
            for addr in (None, "::"):
                for port in (22, 80):
                    stack.enter_context(a.listen(port, addr))
            cap = stack.enter_context(Capture(r, a.peer_if))
            inject = stack.enter_context(Injector(r, a.peer_if))
            inject.to_mac(mac(a, "eth0"), mac(r, a.peer_if))
            for i, ((src, dst), cut, is_taken) in enumerate(cuts):
                sport = 1000 + i
                for packet in cut(src, dst, build_tcp(src, dst, sport, 80, seq=1000,
                                                      options=b"\2\4\5\xb4",
                                                      payload=b"z" * 16), 500 + i):
                    inject.send_ip(packet)
                inject.send_ip(build_ip(src, dst, build_tcp(src, dst, sport, 22)))
                cap.wait_tcp(lambda t, end=(dst, 22, sport): (t.src, t.sport, t.dport) == end,
                             what=f"the answer behind {cut.__name__}")
                got = [t.flags for t in cap.tcp(src=dst, dst=src) if (t.sport, t.dport) == (80, sport)]
                want = [SYN | ACK] if is_taken and policy == "prefer" else []
                expect_eq(got, want, (policy, src, cut.__name__))
        a.down()


def test_many_bypassed_ports(lab):
    """First and last of ranges, in either form of the kernel's set; their neighbours are ours."""
    _, a, b = lab.star("a", "b")

    def is_native(port):
        with b.listen(port) as listener, a.connect(b.ip4, port) as c:
            echo(listener, c)
            return not [s for s in a.sessions() if s["peer_port"] == port]

    spread = ",".join(str(p) for p in range(10, 640, 10))  # 63 of them
    for bypass, native, ours, intervals in (
            ("none", (), (22, 1), 0),
            ("22,1000-2022", (22, 1000, 1500, 2022), (21, 23, 999, 2023), 0),
            ("22,1000-2023", (22, 1000, 1500, 2023), (21, 23, 999, 2024), 2),
            (f"{spread},10000-10960", (10, 630, 10000, 10960), (9, 631, 10961), 0),
            ("61000-65534", (61000, 65534), (60999, 65535), 2),
            (f"{spread},1024-20000", (10, 630, 1024, 20000), (9, 640, 1023, 20001), 2)):
        for programs in (True, False):
            if not programs:
                a.forbid_programs()
            a.up("--bypass", bypass)
            expect_eq([p for p in native + ours if is_native(p)], list(native), (bypass, programs))
            tables = a.run("nft", "list", "ruleset").stdout
            expect_eq(tables.count("flags interval"), 0 if programs else intervals, bypass)
            a.down()
        a.allow_programs()


def test_the_last_port_is_refused(lab):
    """The kernel's rules have no place for 65535: said before anything is changed."""
    a, b = lab.neighbours()
    before = a.snapshot()
    for args in (("--bypass", "1024-65535"), ("--bypass", "22,65535"),
                 ("--rule", f"bypass peer={b.ip4} port=1024-65535")):
        r = a.tcns("up", *args, check=False)
        expect_eq(r.returncode, 2, args)
        expect("port 65535" in r.stderr and "65534" in r.stderr, args, r.stderr)
    expect_eq(a.snapshot(), before)
    a.up("--rule", "off port=1024-65535", "--rule", "prefer peer-port=65535")
    r = a.tcns("policy", "--rule", "bypass port=65535", check=False)
    expect(r.returncode != 0 and "port 65535" in r.stderr, r.stderr)


def test_rules_go_away(lab):
    a, _ = lab.neighbours()
    link_local(a)
    before = a.snapshot()
    a.up()
    expect("fe80::/10" in a.ip("-6", "rule"), "a rule")
    a.down()
    expect_eq(a.snapshot(), before)


if __name__ == "__main__":
    tap.main()
