#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Several uplinks in one namespace: chosen, named, coming and going."""
import contextlib
import json
import socket

import tap
from lab import Failure, expect, expect_eq, idle, wait_for
from wire import Capture


def status(ns):
    return json.loads(ns.tcns("status", "--json").stdout)


def two_networks(lab):
    """A container a on two bridged networks, as podman makes them; its peers b and c are on
    one each. Only the first has a default route. Return: a, b, c."""
    a, b, c = lab.ns("a"), lab.ns("b"), lab.ns("c")
    lab.veth(b, "eth0", a, "eth0")
    lab.veth(c, "eth0", a, "eth1")
    for ns, dev, net, host in ((a, "eth0", 1, 2), (b, "eth0", 1, 1),
                               (a, "eth1", 2, 2), (c, "eth0", 2, 1)):
        ns.ip("addr", "add", f"10.79.{net}.{host}/24", "dev", dev)
        ns.ip("addr", "add", f"fd79:{net}::{host}/64", "dev", dev, "nodad")
    a.ip("route", "add", "default", "via", "10.79.1.1")
    return a, b, c


@contextlib.contextmanager
def connected(src, dst, addr, port):
    with dst.listen(port, addr) as listener, src.connect(addr, port) as out:
        back, peer = listener.accept()
        back.settimeout(10)
        with back:
            yield out, back, peer[0]


def exchange(src, dst, addr, port):
    """One connection with an answer. Return: the address the other end saw."""
    with connected(src, dst, addr, port) as (out, back, peer):
        out.sendall(b"marsupial question")
        expect_eq(back.recv(100), b"marsupial question")
        back.sendall(b"marsupial answer")
        expect_eq(out.recv(100), b"marsupial answer")
    return peer


def encrypted(ns):
    return ns.counters()["flows_encrypted"]


def all_encrypted(a, b, c, base):
    """Both families, both networks, both directions."""
    n = 0
    for peer, net in ((b, 1), (c, 2)):
        for form in ("10.79.{}.{}", "fd79:{}::{}"):
            theirs, ours = form.format(net, 1), form.format(net, 2)
            expect_eq(exchange(a, peer, theirs, base + n), ours, "the source address of its network")
            expect_eq(exchange(peer, a, ours, base + n + 1), theirs)
            n += 2
    return n


def test_two_networks(lab):
    a, b, c = two_networks(lab)
    for ns in (a, b, c):
        ns.up()
    with Capture(b, "eth0") as on_b, Capture(c, "eth0") as on_c:
        n = all_encrypted(a, b, c, 7000)
        wait_for(lambda: encrypted(a) == n, 5, "all are encrypted")
    for cap in (on_b, on_c):
        cap.stop()
        sent = b"".join(t.payload for t in cap.tcp())
        expect(len(sent) > 500, "the capture has data", len(sent))
        expect(b"marsupial" not in sent, "no clear text on the wire")
    st = status(a)
    expect_eq((sorted(st["uplinks"]), st["native"]), (["eth0", "eth1"], []))


def test_named_uplink_leaves_others_native(lab):
    a, b, c = two_networks(lab)
    a.up("--uplink", "eth0")
    b.up()
    c.up()
    exchange(a, b, "10.79.1.1", 7000)
    exchange(a, c, "10.79.2.1", 7001)
    expect_eq((status(a)["uplinks"], status(a)["native"]), (["eth0"], ["eth1"]))
    expect_eq((encrypted(a), encrypted(c)), (1, 0))


def test_both_named(lab):
    a, b, c = two_networks(lab)
    a.up("--uplink", "eth1", "--uplink", "eth0")
    b.up()
    c.up()
    all_encrypted(a, b, c, 7000)
    expect_eq(sorted(status(a)["uplinks"]), ["eth0", "eth1"])


def test_bad_names(lab):
    a, _, _ = two_networks(lab)
    for args, code, text in ((("--uplink", "eth0", "--uplink", "eth0"), 2, "twice"),
                             (("--uplink", "nothing-there-of-it"), 2, "too long"),
                             (("--uplink", "eth7"), 1, 'no interface "eth7"'),
                             (("--uplink", "lo"), 1, "loopback")):
        r = a.up(*args, check=False)
        expect_eq(r.returncode, code, str(args))
        expect(text in r.stderr, "the reason", r.stderr)


def test_what_is_no_uplink(lab):
    """A bridge with containers behind it, and what has no address; but a bridge with the default route is one."""
    a, b, _ = two_networks(lab)
    a.ip("link", "add", "br0", "type", "bridge")
    a.ip("addr", "add", "10.80.0.1/24", "dev", "br0")
    a.ip("link", "set", "br0", "up")
    a.ip("addr", "flush", "dev", "eth1")
    a.ip("route", "add", "10.79.2.7", "dev", "eth1")
    a.up()
    st = status(a)
    expect_eq((st["uplinks"], sorted(st["native"])), (["eth0"], ["br0", "eth1"]))
    text = a.tcns("status").stdout
    expect("br0" in text and "native" in text, "as text, too", text)
    a.down()
    a.ip("link", "set", "eth0", "master", "br0")
    a.ip("addr", "flush", "dev", "eth0")
    a.ip("addr", "add", "10.79.1.2/24", "dev", "br0")
    a.ip("route", "add", "default", "via", "10.79.1.1")
    a.up()
    b.up()
    expect_eq(status(a)["uplinks"], ["br0"])
    wait_for(lambda: try_exchange(a, b, "10.79.1.1"), 10, "by the bridge")
    expect(encrypted(a) > 0, "encrypted by the bridge")


_port = 7500


def try_exchange(src, dst, addr):
    global _port
    _port += 1
    try:
        exchange(src, dst, addr, _port)
    except (OSError, Failure):
        return False
    return True


def test_network_comes_and_goes(lab):
    """As "podman network connect" does: no restart, no clear text, other connections go on."""
    a, b = lab.ns("a"), lab.ns("b")
    lab.veth(b, "eth0", a, "eth0")
    a.ip("addr", "add", "10.79.1.2/24", "dev", "eth0")
    b.ip("addr", "add", "10.79.1.1/24", "dev", "eth0")
    a.ip("route", "add", "default", "via", "10.79.1.1")
    a.up()
    b.up()
    pid = status(a)["worker_pid"]
    with connected(a, b, "10.79.1.1", 7000) as (out, back, _):
        for turn in range(2):
            c = lab.ns(f"c{turn}")
            lab.veth(c, "eth0", a, "eth1")
            c.ip("addr", "add", "10.79.2.1/24", "dev", "eth0")
            c.up()
            with Capture(c, "eth0") as cap:
                a.ip("addr", "add", "10.79.2.2/24", "dev", "eth1")
                wait_for(lambda: try_exchange(a, c, "10.79.2.1"), 10, "by the new network")
                expect(try_exchange(c, a, "10.79.2.2"), "from the new network")
            cap.stop()
            expect(b"marsupial" not in b"".join(t.payload for t in cap.tcp()), "no clear text")
            expect(encrypted(c) >= 2, "encrypted")
            expect_eq(sorted(status(a)["uplinks"]), ["eth0", "eth1"])
            out.sendall(b"still there")
            expect_eq(back.recv(100), b"still there")
            c.down()
            c.ip("link", "del", "eth0")
            wait_for(lambda: status(a)["uplinks"] == ["eth0"], 5, "it is gone")
        expect_eq(status(a)["worker_pid"], pid, "the same worker")


def test_device_of_the_same_name(lab):
    """A named uplink is replaced: the daemon takes the new one."""
    a, b, c = two_networks(lab)
    a.up("--uplink", "eth0")
    c.ip("link", "del", "eth0")
    b.ip("link", "del", "eth0")
    wait_for(lambda: status(a)["uplinks"] == [], 5, "none is left")
    with b.listen(7000):
        with contextlib.suppress(OSError):
            a.connect("10.79.1.1", 7000, timeout=1).close()
            expect(False, "nothing leads there")
    lab.veth(b, "eth0", a, "eth0")
    b.ip("addr", "add", "10.79.1.1/24", "dev", "eth0")
    a.ip("addr", "add", "10.79.1.2/24", "dev", "eth0")
    b.up()
    wait_for(lambda: try_exchange(a, b, "10.79.1.1"), 10, "by the new device")
    expect(encrypted(a) > 0, "encrypted")


def test_answers_go_where_the_peer_came_from(lab):
    """A peer behind the second network's gateway reaches us there, although the default
    route leads to the first."""
    a, b, c = two_networks(lab)
    far = lab.ns("far")
    lab.veth(far, "eth0", c, "eth1")
    far.ip("addr", "add", "10.79.9.9/24", "dev", "eth0")
    c.ip("addr", "add", "10.79.9.1/24", "dev", "eth1")
    c.sysctl("net.ipv4.ip_forward", 1)
    far.ip("route", "add", "default", "via", "10.79.9.1")
    a.ip("route", "add", "default", "via", "10.79.2.1", "metric", "500")
    for ns in (a, far):
        ns.up()
    with Capture(b, "eth0") as cap:
        expect_eq(exchange(far, a, "10.79.2.2", 7000), "10.79.9.9")
        # Refused: the reset has to find the way as well.
        try:
            far.connect("10.79.2.2", 7001, timeout=5).close()
            expect(False, "nobody listens there")
        except ConnectionRefusedError:
            pass
    cap.stop()
    expect_eq(len(cap.tcp()), 0, "nothing of it on the first network")
    expect_eq(encrypted(a), 1)


def test_bound_to_the_second_link(lab):
    """SO_BINDTODEVICE passes no uplink by."""
    a, b, c = two_networks(lab)
    a.up()
    with c.listen(7000), Capture(c, "eth0") as cap:
        s = a.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth1")
        s.settimeout(3)
        try:
            s.connect(("10.79.2.1", 7000))
            expect(False, "it must not connect")
        except OSError:
            pass
        s.close()
        idle(0.2)
    cap.stop()
    expect_eq(cap.tcp(), [], "nothing left")


def test_closed_after_a_crash(lab):
    """Supervisor and worker killed: both networks are closed, not clear."""
    import os
    import signal
    a, b, c = two_networks(lab)
    a.up()
    st = status(a)
    os.kill(st["pid"], signal.SIGKILL)
    wait_for(lambda: "tcpcrypt0" not in a.ip("link"), 5, "the device is gone")
    for peer, addr in ((b, "10.79.1.1"), (c, "10.79.2.1")):
        with peer.listen(7000):
            try:
                a.connect(addr, 7000, timeout=2).close()
                expect(False, "it must not connect")
            except OSError:
                pass
    a.up()
    a.down()
    exchange(a, c, "10.79.2.1", 7002)


if __name__ == "__main__":
    tap.main()
