# SPDX-License-Identifier: BSD-3-Clause
"""TCP that is left to the kernel, or cannot be carried: link-local, sockets of one device."""
import contextlib
import errno
import re
import socket
import time

import tap
from lab import expect, expect_eq, wait_for


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
                    pid = lab_status(a)["worker_pid"]
                    a.run("kill", "-9", pid)
                    wait_for(lambda: lab_status(a, False).get("worker_pid", pid) != pid, 5)
                else:
                    getattr(a, step)()
                c.sendall(step.encode())
                expect_eq(s.recv(100), step.encode())


def lab_status(ns, check=True):
    import json
    r = ns.tcns("status", "--json", check=check)
    return json.loads(r.stdout) if r.returncode == 0 else {}


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
