# SPDX-License-Identifier: BSD-3-Clause
"""TCP that is left to the kernel, or cannot be carried: link-local, sockets of one device."""
import contextlib
import json
import re
import socket
import time

import tap
from lab import expect, expect_eq, wait_for
from wire import Capture


def link_local(ns, dev="eth0"):
    def look():
        return re.search(r"inet6 (fe80::\S+)/64", ns.ip("-6", "addr", "show", "dev", dev))

    return wait_for(look, what="a link-local address")[1]


def pair(lab):
    """Two hosts on one link, with global addresses too."""
    a, b = lab.ns("a"), lab.ns("b")
    lab.veth(a, "eth0", b, "eth0")
    for i, h in enumerate((a, b), 1):
        h.ip4, h.ip6 = f"10.78.0.{i}", f"fd78::{i}"
        h.ip("addr", "add", f"{h.ip4}/24", "dev", "eth0")
        h.ip("addr", "add", f"{h.ip6}/64", "dev", "eth0", "nodad")
        h.ip("route", "add", "default", "via", "10.78.0.254")
        h.ip("-6", "route", "add", "default", "via", "fd78::254")
    return a, b


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
    a, b = pair(lab)
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
    a, b = pair(lab)
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
    a, b = pair(lab)
    a.up()
    with b.listen(80, "::") as listener, a.socket(socket.AF_INET6) as c:
        c.settimeout(5)
        c.bind((link_local(a), 0, 0, index(a)))
        c.connect((b.ip6, 80))
        echo(listener, c)
    expect_eq(a.sessions(), [])


SO_BINDTODEVICE = 25


def bound_socket(ns, family, dev=b"eth0"):
    s = ns.socket(family)
    s.settimeout(5)
    s.setsockopt(socket.SOL_SOCKET, SO_BINDTODEVICE, dev + b"\0")
    return s


def is_refused(fn):
    """Return: whether it ended in ECONNREFUSED, and at once."""
    start = time.monotonic()
    try:
        fn().close()
    except ConnectionRefusedError:
        return time.monotonic() - start < 0.5
    return False


def test_socket_of_the_uplink(lab):
    """Bound to the device it cannot go through the tunnel: refused, and not clear."""
    _, a, b = lab.star("a", "b")
    a.up("--bypass", "22")
    for family, here, there, any_addr in ((socket.AF_INET, a.ip4, b.ip4, None),
                                          (socket.AF_INET6, a.ip6, b.ip6, "::")):
        with b.listen(80, any_addr) as listener, bound_socket(a, family) as c:
            expect(is_refused(lambda: c.connect((there, 80)) or c), "outbound, at once", there)
            listener.settimeout(0.2)
            with contextlib.suppress(socket.timeout):
                listener.accept()
                raise AssertionError("it came through")
        with b.listen(22, any_addr) as listener, bound_socket(a, family) as c:
            c.connect((there, 22))
            echo(listener, c)
        with bound_socket(a, family) as listener:
            listener.bind(("", 81))
            listener.listen()
            expect(is_refused(lambda: b.connect(here, 81)), "inbound, at once", here)
    expect_eq(rst_unknown(a), 0, "the tunnel sees no answers to what it did not send")


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


def test_rules_go_away(lab):
    a, _ = pair(lab)
    link_local(a)
    before = a.snapshot()
    a.up()
    expect("fe80::/10" in a.ip("-6", "rule"), "a rule")
    a.down()
    expect_eq(a.snapshot(), before)


if __name__ == "__main__":
    tap.main()
