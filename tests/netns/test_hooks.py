#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Programs at the uplink's tcx hooks, the chains in their place, and from one to the other.

"programs": incoming TCP is handed to the device tcpcrypt1; "chains": a packet socket receives it and
an nftables chain drops it (docs/ARCHITECTURE.md).
"""
import contextlib
import errno
import os
import signal
import socket

import tap
import tcx
from hooks import (names, ids, form, wait_form, status, devices, exchange, connected, state_at,
                   expect_encrypted, Echoed, no_plaintext, link, kill_both, powerless, OURS, MARK)
from lab import Failure, expect, expect_eq, idle, wait_for
from wire import Capture, Injector, build_ip, build_tcp, mac


# --- Which form, and what is left ------------------------------------------------------

def test_one_uplink_has_programs(lab):
    r, a, b = lab.star("a", "b")
    b.up()
    before, before_names = a.snapshot(), names(a)
    expect_eq(before_names, {"ingress": [], "egress": []})
    a.up()
    expect_eq(form(a), "programs")
    expect({"tcpcrypt0", "tcpcrypt1"} <= devices(a), "the devices", devices(a))
    expect("addr" not in a.ip("-j", "-6", "addr", "show", "dev", "tcpcrypt1")
           or "fe80" not in a.ip("-6", "addr", "show", "dev", "tcpcrypt1"), "no address of its own")
    with Capture(r, a.peer_if) as cap, Capture(a, "tcpcrypt1") as handed:
        expect_encrypted(a, b)
        expect(handed.tcp(src=b.ip4) and handed.tcp(src=b.ip6), "it takes this way")
        expect(cap.tcp(src=b.ip4) and cap.tcp(src=b.ip6), "the capture sees it")
        no_plaintext(cap, handed)
    a.down()
    expect_eq(names(a), before_names)
    expect_eq(a.snapshot(), before)
    with connected(a, b, b.ip4):
        pass


def test_up_and_down_leave_others_programs(lab):
    """Behind ours they stay, and are asked of what is not handed over."""
    _, a, b = lab.star("a", "b")
    b.up()
    a.up()
    theirs = {hook: tcx.attach(a, hook, "behind") for hook in tcx.HOOKS}
    a.ip("addr", "add", "10.77.9.9/32", "dev", "lo")
    wait_form(a, "programs")
    expect_encrypted(a, b, ["ip4"])
    for hook in tcx.HOOKS:
        expect_eq([n for n, _ in tcx.programs(a, hook)], [OURS[hook], "behind"])
    a.down()
    for hook in tcx.HOOKS:
        expect_eq(tcx.programs(a, hook), [("behind", theirs[hook])], "the same as before")


# --- Fallback ----------------------------------------------------------------------------

def passes_nothing_by(a, b):
    """Nor does a bound socket, under "require"."""
    with b.listen(80), Capture(b, "eth0") as cap, a.bound_socket(socket.AF_INET, 2) as c:
        with contextlib.suppress(OSError):
            c.connect((b.ip4, 80))
            raise Failure("connected past the tunnel")
        cap.stop()
        expect_eq([t for t in cap.tcp() if t.dport == 80], [])
    expect_encrypted(a, b)


def test_chains_where_others_programs_come_first(lab):
    """What they let pass does not reach the programs behind them."""
    a, b = lab.neighbours()
    b.up()
    theirs = {hook: tcx.attach(a, hook, "ahead", verdict=tcx.PASS) for hook in tcx.HOOKS}
    a.up("--policy", "require")
    expect_eq(form(a), "chains")
    a.run("ping", "-c1", "-W2", b.ip4)
    passes_nothing_by(a, b)
    a.tcns("policy", "--rule", "bypass peer=10.99.0.0/16")
    a.tcns("policy", "--no-rules")
    expect_eq(form(a), "chains")
    a.down()
    for hook in tcx.HOOKS:
        expect_eq(tcx.programs(a, hook), [("ahead", theirs[hook])], "the same as before")


def test_chains_when_others_programs_come_first(lab):
    """While it runs the kernel does not tell; any other news makes the daemon look."""
    a, b = link(lab, "--policy", "require")
    b.up()
    a.run("ping", "-c1", "-W2", b.ip4)
    for hook in tcx.HOOKS:
        tcx.attach(a, hook, "ahead", verdict=tcx.PASS, first=True)
    a.ip("addr", "add", "10.77.9.9/32", "dev", "lo")
    wait_form(a, "chains")
    passes_nothing_by(a, b)
    a.down()
    expect_eq(form(a), "nothing")


def test_detached_programs_come_back(lab):
    """With the next change of links, addresses or routes."""
    a, b = link(lab, "--policy", "require")
    b.up()
    for hook in tcx.HOOKS:
        (_, ours), = tcx.programs(a, hook)
        tcx.detach(a, hook, ours)
        a.ip("route", "replace", "203.0.113.0/24", "dev", "lo")
        wait_form(a, "programs")
        a.ip("route", "del", "203.0.113.0/24")
    passes_nothing_by(a, b)


def test_chains_where_the_device_is_taken(lab):
    r, a, b = lab.star("a", "b")
    b.up()
    a.forbid_programs()
    before = a.snapshot()
    a.up()
    expect_eq(form(a), "chains")
    with Capture(r, a.peer_if) as cap:
        expect_encrypted(a, b)
        no_plaintext(cap)
    a.down()
    expect_eq(form(a), "nothing")
    expect_eq(a.snapshot(), before, "the other's device as well")


def test_which_devices_have_programs(lab):
    """Those that are made for a namespace, not those that are lent to it."""
    r, a, b = lab.star("a", "b")
    b.up()
    a.ip("addr", "flush", "dev", "eth0")
    for kind, want in ((("link", "eth0", "name", "up0", "type", "macvlan", "mode", "bridge"), "programs"),
                       (("name", "up0", "type", "bridge"), "chains")):
        a.ip("link", "add", *kind)
        a.ip("addr", "add", f"{a.ip4}/24", "dev", "up0")
        a.ip("link", "set", "up0", "up")
        a.ip("route", "add", "default", "via", "10.77.1.1")
        a.up("--uplink", "up0")
        expect_eq(form(a, "up0"), want, kind)
        if want == "programs":
            expect_encrypted(a, b, ["ip4"])
        a.down()
        a.ip("link", "del", "up0")


def test_chains_without_cap_sys_admin(lab):
    r, a, b = lab.star("a", "b")
    b.up()
    before = a.snapshot()
    powerless(a, "up", "--bypass", "none", "--log", a.log_path())
    expect_eq(form(a), "chains")
    expect("tcpcrypt1" not in devices(a), "no device without a use")
    with Capture(r, a.peer_if) as cap:
        expect_encrypted(a, b)
        no_plaintext(cap)
    powerless(a, "down")
    expect_eq(form(a), "nothing")
    expect_eq(a.snapshot(), before)


# --- While it runs -----------------------------------------------------------------------

def changes(lab, a):
    """(what, how, the form then)."""
    def network(on):
        if not on:
            a.ip("link", "del", "eth1")
            return
        c = lab.ns("c")
        lab.veth(c, "eth0", a, "eth1")
        c.ip("addr", "add", "10.79.2.1/24", "dev", "eth0")
        a.ip("addr", "add", "10.79.2.2/24", "dev", "eth1")

    def setting(key):
        return [(f"{key}={v}", lambda v=v: a.sysctl(key, v), want)
                for v, want in ((1, "chains"), (0, "programs"))]

    return [
        ("forwarding with nowhere to", lambda: a.sysctl("net.ipv4.ip_forward", 1), "programs"),
        ("a device to forward to", lambda: a.ip("link", "add", "br0", "type", "bridge"), "chains"),
        ("no forwarding", lambda: a.sysctl("net.ipv4.ip_forward", 0), "programs"),
        *setting("net.ipv4.ip_forward"),
        *setting("net.ipv6.conf.all.forwarding"),
        *setting("net.ipv4.conf.eth0.forwarding"),
        ("second uplink", lambda: network(True), "chains"),
        ("no second uplink", lambda: network(False), "programs"),
        ("bypass by address",
         lambda: a.tcns("policy", "--rule", "bypass peer=10.99.0.0/16"), "chains"),
        ("no such bypass", lambda: a.tcns("policy", "--no-rules"), "programs"),
    ]


def test_from_one_to_the_other(lab):
    """Connections go on through each change, in both directions, and new ones are encrypted."""
    r, a, b = lab.pair()
    wait_form(a, "programs")
    pid = status(a)["worker_pid"]
    with Capture(r, a.peer_if) as cap, Echoed(a, b, b.ip4) as out, Echoed(b, a, a.ip6) as back:
        for what, change, want in changes(lab, a):
            change()
            wait_form(a, want)
            for c in (out, back):
                c.moves(what)
                expect_eq(state_at(a, c.port), "encrypted", what)
            expect_encrypted(a, b)
    no_plaintext(cap)
    expect_eq(status(a)["worker_pid"], pid, "the same worker")
    before = a.counters()
    expect_eq(before["rst_unknown"], 0, "the tunnel knew all of it")


def test_back_and_forth_quickly(lab):
    """Thirty changes under load lose no byte."""
    _, a, b = lab.pair()
    with Echoed(a, b, b.ip4) as out, Echoed(b, a, a.ip6) as back:
        for i in range(15):
            a.tcns("policy", "--rule", "bypass peer=10.99.0.0/16")
            a.tcns("policy", "--no-rules")
        wait_form(a, "programs")
        for c in (out, back):
            c.moves("after all of them")


def test_rules_flushed_under_load(lab):
    """The guard keeps packets of unbound sockets in; they are repeated by the tunnel's way."""
    r, a, b = lab.pair()
    data = MARK * 200
    with b.listen(80) as listener, a.connect(b.ip4, 80) as c, Capture(r, a.peer_if) as cap:
        s, _ = listener.accept()
        s.settimeout(10)
        with s:
            for _ in range(20):
                for family in ("-4", "-6"):
                    a.ip(family, "rule", "flush")
                    a.ip(family, "rule", "add", "priority", "32766", "lookup", "main")
                c.sendall(data)
                got = b""
                while len(got) < len(data):
                    got += s.recv(65536)
                expect(got == data, "byte for byte")
                wait_for(lambda: "8548" in a.ip("rule"), 5, "the rules are back")
        no_plaintext(cap)


# --- Bypassed ports ----------------------------------------------------------------------

def is_native(a, client, server, family):
    """A connection of which a's daemon sees nothing."""
    def connect(port):
        before = a.counters()
        with connected(client, server, getattr(server, family), port):
            pass
        after = a.counters()
        return (after["flows_opened"], after["uplink_rx_packets"]) == \
            (before["flows_opened"], before["uplink_rx_packets"])
    return connect


def test_bypassed_ports(lab):
    """Stay the kernel's; other ones at run time take another program, and only one."""
    _, a, b = lab.star("a", "b")
    b.up()
    conf = lab.file("a.conf")

    def write(bypass):
        with open(conf, "w") as f:
            f.write(f"[daemon]\nbypass = {bypass}\n")

    write("22,1000-1002")
    a.tcns("up", "--config", conf, "--log", a.log_path())
    for native, ours, following in (((22, 1000, 1002), (23, 999, 1003), "23"),
                                    ((23,), (22, 1000, 24), "none"), ((), (22, 23), "22")):
        expect_eq(form(a), "programs")
        for client, server in ((a, b), (b, a)):
            for family in ("ip4", "ip6"):
                alone = is_native(a, client, server, family)
                found = [port for port in native + ours if alone(port)]
                expect_eq(found, list(native), (client.short, family))
        before = ids(a)
        write(following)
        a.tcns("reload")
        expect_eq(form(a), "programs")
        expect(not before & ids(a), "others", before, ids(a))


def test_a_bypassed_connection_outlives_everything(lab):
    """The kernel's own connection goes on through up, a change of form, a crash and down."""
    _, a, b = lab.star("a", "b")
    with connected(a, b, b.ip4, 22) as out, connected(b, a, a.ip6, 22) as back:
        def works():
            for pair in (out, back):
                exchange(*pair)

        a.up("--bypass", "22")
        works()
        for args in (("--rule", "bypass peer=10.99.0.0/16"), ("--no-rules",)):
            a.tcns("policy", *args)
            works()
        kill_both(a)
        works()
        a.up("--bypass", "22")
        works()
        a.down()
        works()

# --- Workers, uplinks, frames ------------------------------------------------------------

def cpu_ticks(pid):
    """Hundredths of a second that it has run."""
    with open(f"/proc/{pid}/stat") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12])


def test_worker_killed(lab):
    """The next one reads the same device; in between nothing is answered by the kernel."""
    r, a, b = lab.pair()
    before = ids(a)
    old = status(a)["worker_pid"]
    with Capture(r, a.peer_if) as cap:
        os.kill(old, signal.SIGKILL)
        wait_for(lambda: a.tcns("status", "--wait", "5", check=False).returncode == 0
                 and status(a)["worker_pid"] not in (old, 0, -1), 5, "another worker")
        expect_encrypted(a, b)
        no_plaintext(cap)
    expect_eq((form(a), ids(a)), ("programs", before), "the same programs")


def uplink_made_anew(lab, *opts):
    """A device of the same name: found again, with programs of its own."""
    a, b = link(lab, *opts)
    b.up()
    expect_encrypted(a, b)
    pid = status(a)["pid"]
    b.down()
    b.ip("link", "del", "eth0")
    wait_for(lambda: status(a)["uplinks"] == [], 5, "it is gone")
    lab.join(a, b)
    b.up()
    wait_form(a, "programs")
    wait_for(lambda: status(a)["uplinks"] == ["eth0"], 5, "an uplink again")
    expect_encrypted(a, b)
    expect_eq(status(a)["pid"], pid, "the same daemon")


def test_uplink_made_anew(lab):
    uplink_made_anew(lab)


def test_named_uplink_made_anew(lab):
    uplink_made_anew(lab, "--uplink", "eth0")


def test_uplink_replaced_at_once(lab):
    """By one of the same name and number, before the daemon looks: it is not taken for the old one."""
    a, b = link(lab, "--policy", "require")
    b.up()
    pid = status(a)["pid"]
    for _ in range(3):
        os.kill(pid, signal.SIGSTOP)
        b.ip("link", "del", "eth0")
        lab.links -= 1  # the same number
        lab.join(a, b)
        os.kill(pid, signal.SIGCONT)
        for h in (a, b):
            wait_form(h, "programs")
            wait_for(lambda: "dev tcpcrypt0" in h.ip("route", "show", "table", "8548"), 3, "routes")
        expect_encrypted(a, b)


def test_receiving_device_deleted(lab):
    """Chains take over; the worker, which reads the device, neither ends nor spins."""
    _, a, b = lab.pair()
    pid = status(a)["worker_pid"]
    with Echoed(a, b, b.ip4) as out, Echoed(b, a, a.ip6) as back:
        a.ip("link", "del", "tcpcrypt1")
        wait_form(a, "chains")
        for c in (out, back):
            c.moves("after it")
        expect_encrypted(a, b)
    expect_eq(status(a)["worker_pid"], pid, "the same worker")
    used = cpu_ticks(pid)
    idle(0.3)
    expect(cpu_ticks(pid) - used < 10, "it sleeps", cpu_ticks(pid) - used)
    a.down()
    expect_eq(form(a), "nothing")


def test_sending_device_deleted(lab):
    """As with a worker that died: what it carried is reset, and there is another of both."""
    r, a, b = lab.pair("--policy", "require")
    old = status(a)["worker_pid"]
    with Capture(r, a.peer_if) as cap, b.listen(80) as listener, a.connect(b.ip4, 80) as c:
        s, _ = listener.accept()
        with s:
            exchange(c, s)
            a.ip("link", "del", "tcpcrypt0")
            try:
                expect_eq(c.recv(1), b"", "not one byte")
                raise Failure("an end that looks like the peer's")
            except OSError as e:
                expect_eq(e.errno, errno.ECONNABORTED)
        wait_for(lambda: a.tcns("status", "--wait", "5", check=False).returncode == 0
                 and status(a)["worker_pid"] not in (old, 0, -1), 5, "another worker")
        expect_encrypted(a, b)
        no_plaintext(cap)
    expect_eq(form(a), "programs")
    a.down()
    expect_eq(form(a), "nothing")


def test_nothing_old_comes_later(lab):
    """What waits in the receiving device at a change is not read when that is used again."""
    a, b = link(lab)
    pid = status(a)["worker_pid"]
    os.kill(pid, signal.SIGSTOP)
    with Injector(b, "eth0").to_mac(mac(a, "eth0"), mac(b, "eth0")) as i:
        for port in range(4000, 4200):
            i.send_ip(build_ip(b.ip4, a.ip4, build_tcp(b.ip4, a.ip4, port, 80)))
    a.ip("link", "add", "br0", "type", "bridge")
    a.sysctl("net.ipv4.ip_forward", 1)
    wait_form(a, "chains")
    os.kill(pid, signal.SIGCONT)
    wait_for(lambda: status(a)["programs"] is False, 5, "the worker knows")
    before = a.counters()["uplink_rx_packets"]
    a.sysctl("net.ipv4.ip_forward", 0)
    wait_form(a, "programs")
    wait_for(lambda: status(a)["programs"], 5, "the worker knows")
    idle(0.2)
    expect_eq(a.counters()["uplink_rx_packets"] - before, 0, "packets from before")


def test_receiving_device_set_down(lab):
    """As with tcpcrypt0, the daemon sets it up again."""
    _, a, b = lab.pair()
    for dev in ("tcpcrypt0", "tcpcrypt1"):
        a.ip("link", "set", dev, "down")
        wait_for(lambda: ",UP" in a.ip("link", "show", "dev", dev), 3, f"{dev} is up")
        wait_for(lambda: "dev tcpcrypt0" in a.ip("route", "show", "table", "8548"), 3, "routes")
        expect_encrypted(a, b)


def test_one_armed_router(lab):
    """One link, two networks on it: what is forwarded between them is none of ours."""
    bridge, a, b, c = (lab.ns(n) for n in ("bridge", "a", "b", "c"))
    bridge.ip("link", "add", "br0", "type", "bridge")
    bridge.ip("link", "set", "br0", "up")
    for h in (a, b, c):
        lab.veth(bridge, f"to-{h.short}", h, "eth0")
        bridge.ip("link", "set", f"to-{h.short}", "master", "br0")
    for net, h in ((1, b), (2, c)):
        a.ip("addr", "add", f"10.78.{net}.1/24", "dev", "eth0")
        h.ip("addr", "add", f"10.78.{net}.2/24", "dev", "eth0")
        h.ip("route", "add", "default", "via", f"10.78.{net}.1")
    a.sysctl("net.ipv4.ip_forward", 1)
    with connected(b, c, "10.78.2.2"):
        pass
    a.up()
    with connected(b, c, "10.78.2.2"):
        expect_eq(a.sessions(), [])


def test_tagged_frames(lab):
    """Of a VLAN, or of none with a priority (802.1p): neither the tunnel nor the kernel's own TCP
    takes them, in either form."""
    r, a, b = lab.star("a", "b")
    for want in ("programs", "chains"):
        if want == "chains":
            a.forbid_programs()
        a.up()
        expect_eq(form(a), want)
        with a.listen(80), a.listen(80, "::"), Capture(r, a.peer_if) as cap, \
                Capture(a, "tcpcrypt0") as inner, Injector(r, a.peer_if) as i:
            i.to_mac(mac(a, "eth0"), mac(r, a.peer_if))
            for src, dst, kind in ((b.ip4, a.ip4, b"\x08\0"), (b.ip6, a.ip6, b"\x86\xdd")):
                for n, tag in enumerate((b"\0\0", b"\0\5", b"\xe0\0", b"\x0f\xff")):
                    segment = build_tcp(src, dst, 4000 + n, 80, options=b"\2\4\5\xb4")
                    i.sock.send(i.mac + b"\x81\0" + tag + kind + build_ip(src, dst, segment))
                i.send_ip(build_ip(src, dst, build_tcp(src, dst, 5000, 80, options=b"\2\4\5\xb4")))
                cap.wait_tcp(lambda t, dst=dst: t.src == dst and t.dport == 5000, 5,
                             "the answer to what is not tagged")
            for where in (cap, inner):
                expect_eq([t for t in where.tcp() if 4000 <= t.dport < 4010], [], want)
        a.down()


if __name__ == "__main__":
    tap.main()
