#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Programs at the uplink's tcx hooks: TCP that would pass the tunnel by, and what a killed daemon leaves."""
import contextlib
import errno
import os
import signal
import socket
import time

import tap
from hooks import (names, ids, form, wait_form, status, next_port, exchange, connected, state_at,
                   expect_encrypted, no_plaintext, link, both_families, kill_both,
                   powerless, MARK)
from lab import Failure, expect, expect_eq, expect_none_accepted, idle, wait_for
from wire import ACK, RST, SYN, Capture, Injector, build_ip, build_tcp, mac


# --- The guard ---------------------------------------------------------------------------

def test_bound_socket_is_aborted(lab):
    a, b = link(lab)
    for family, _, there, any_addr in both_families(a, b):
        a.run("ping", "-c1", "-W2", there)  # the neighbour is known
        with b.listen(80, any_addr) as listener, Capture(b, "eth0") as cap, \
                a.bound_socket(family) as c:
            start = time.monotonic()
            try:
                c.connect((there, 80))
                raise Failure(f"connected to {there}")
            except OSError as e:
                took = time.monotonic() - start
                expect_eq(e.errno, errno.ECONNABORTED, there)
            expect(took < 0.5, "at once", took)
            expect_none_accepted(listener, 0.2)
            cap.stop()
            expect_eq([t for t in cap.tcp() if t.dport == 80], [], "nothing reaches the peer")


def test_renamed_uplink_is_guarded(lab):
    """In either form, before anybody has followed it."""
    a, b = link(lab)
    for want in ("programs", "chains"):
        if want == "chains":
            a.down()
            a.forbid_programs()
            a.up()
            expect_eq(form(a), want)
        pid = status(a)["pid"]
        os.kill(pid, signal.SIGSTOP)
        a.run("ping", "-c1", "-W2", b.ip4)
        with b.listen(80) as listener, a.bound_socket(socket.AF_INET, 1) as c:
            a.ip("link", "set", "eth0", "name", "eth9")
            with contextlib.suppress(OSError):
                c.connect((b.ip4, 80))
                raise Failure(f"connected past the {want}")
            expect_none_accepted(listener, 0.2)
        a.ip("link", "set", "eth9", "name", "eth0")
        os.kill(pid, signal.SIGCONT)


def test_bound_established_socket_is_aborted(lab):
    """One that was connected by a bypass that ends, and was carried by the kernel: not one byte
    passes the tunnel by."""
    _, a, b = lab.star("a", "b")
    a.up("--bypass", "22")
    with b.listen(22, "::") as listener, a.bound_socket(socket.AF_INET6) as c:
        c.connect((b.ip6, 22))
        s, _ = listener.accept()
        with s, Capture(b, "eth0") as cap:
            s.settimeout(1)
            exchange(c, s)
            cap.stop()
            expect(cap.has_bytes(MARK[:32]), "clear while it is bypassed")
            a.down()
            a.up("--bypass", "none")
            with Capture(b, "eth0") as cap:
                with contextlib.suppress(OSError):
                    c.sendall(MARK)
                    c.recv(1)
                expect(c.fileno() >= 0 and is_dead(c), "aborted")
                no_plaintext(cap)


def is_dead(sock):
    try:
        sock.sendall(b"x")
        return False
    except OSError:
        return True


def test_bound_listener_survives(lab):
    """Neither who connects to it ends it, nor forged packets from its port."""
    a, b = link(lab)
    for family, here, there, _ in both_families(a, b):
        with a.bound_socket(family) as listener, \
                Injector(b, "eth0").to_mac(mac(a, "eth0"), mac(b, "eth0")) as i:
            listener.bind((here, 81))
            listener.listen()
            with contextlib.suppress(ConnectionRefusedError):
                b.connect(here, 81, 2).close()
                raise Failure("connected past the tunnel")
            forge(i, here, there, 81, 4000)
            handed_over(a, i, here, there)
            expect_none_accepted(listener, 0.1)
            expect(a.has_listener(81), "it still listens")


def forge(i, src, dst, sport, dport):
    """As if a had sent it itself."""
    for flags in (SYN, ACK, RST, SYN | ACK):
        i.send_ip(build_ip(src, dst, build_tcp(src, dst, sport, dport, 1000, 2000, flags)))


def handed_over(a, i, src, dst):
    """Everything that was sent before has been looked at: so has what comes behind it."""
    before = a.counters()["rst_unknown"]
    i.send_ip(build_ip(dst, src, build_tcp(dst, src, 4999, 9, 1000, 2000, ACK)))
    wait_for(lambda: a.counters()["rst_unknown"] > before, 5, "an answer to a segment of nobody")
    # The supervisor is told by the worker, and answers when it has done what it was told.
    status(a)


def test_forged_packets_end_no_connection(lab):
    """Somebody on the link sends with our own address and an open connection's ports."""
    a, b = link(lab, "--bypass", "22")
    b.up("--bypass", "22")
    i = Injector(b, "eth0").to_mac(mac(a, "eth0"), mac(b, "eth0"))
    with contextlib.ExitStack() as stack:
        stack.enter_context(i)
        for family, here, there, any_addr in both_families(a, b):
            out = stack.enter_context(connected(a, b, there, 80))
            back = stack.enter_context(connected(b, a, here, 81))
            with b.listen(22, any_addr) as listener:
                bound = stack.enter_context(a.bound_socket(family))
                bound.connect((there, 22))
                s, _ = listener.accept()
                s.settimeout(5)
                native = bound, stack.enter_context(s)
            for mine in (out[0], back[1], bound):
                forge(i, here, there, mine.getsockname()[1], mine.getpeername()[1])
            handed_over(a, i, here, there)
            idle(0.2)  # an abort that the supervisor has not done yet
            for pair in (out, back, native):
                exchange(*pair)
        expect_eq(state_at(a, 80), ["encrypted"] * 2)


def test_bound_socket_to_a_bypassed_port(lab):
    a, b = link(lab, "--bypass", "22")
    for family, here, there, any_addr in both_families(a, b):
        with b.listen(22, any_addr) as listener, a.bound_socket(family) as c:
            c.connect((there, 22))
            s, _ = listener.accept()
            s.settimeout(5)
            with s:
                exchange(c, s)
        with a.bound_socket(family) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((here, 22))
            listener.listen()
            with b.connect(here, 22) as c:
                s, _ = listener.accept()
                s.settimeout(5)
                with s:
                    exchange(c, s)

# --- A crash -----------------------------------------------------------------------------

def expect_closed(a, b):
    """TCP both ways, and past the tunnel: nothing of it is on the wire, nothing is accepted."""
    with Capture(b, "eth0") as cap:
        for family, here, there, any_addr in both_families(a, b):
            port = next_port()
            with b.listen(port, any_addr) as listener:
                for sock in (a.socket(family), a.bound_socket(family)):
                    with sock:
                        sock.settimeout(0.3)
                        with contextlib.suppress(OSError):
                            sock.connect((there, port))
                            raise Failure(f"connected to {there}")
                expect_none_accepted(listener, 0.1)
            with a.listen(port, any_addr) as listener, b.socket(family) as c:
                c.settimeout(0.3)
                with contextlib.suppress(OSError):
                    c.connect((here, port))
                    raise Failure(f"connected to {here}")
                expect_none_accepted(listener, 0.1)
        cap.stop()
        expect_eq([t for t in cap.tcp() if t.src in (a.ip4, a.ip6)], [], "silence")


def killed(lab):
    a, b = link(lab)
    b.up()
    for addr in (b.ip4, b.ip6):
        a.run("ping", "-c1", "-W2", addr)
    kill_both(a)
    expect_eq(form(a), "programs")
    expect_closed(a, b)
    return a, b


def test_killed_then_up(lab):
    a, b = killed(lab)
    before = ids(a)
    a.up()
    expect_eq(form(a), "programs")
    expect(not before & ids(a), "replaced", before, ids(a))
    expect_encrypted(a, b)


def test_killed_and_flushed_then_up(lab):
    """Without the rules of the dead daemon its connections are found out, too: they do not go on in
    clear as if they were older than any."""
    r, a, b = lab.pair()
    for also in ((), (("nft", "flush", "ruleset"), ("ip", "route", "flush", "table", "8548"))):
        with connected(a, b, b.ip4) as (c, _), Capture(r, a.peer_if) as cap:
            kill_both(a)
            for family in ("-4", "-6"):
                a.ip(family, "rule", "flush")
                a.ip(family, "rule", "add", "priority", "32766", "lookup", "main")
            for command in also:
                a.run(*command)
            a.up()
            expect(is_dead(c), "reset")
            no_plaintext(cap)


def test_killed_then_up_at_once(lab):
    """Its devices go a moment after it: up waits for them, and has programs again."""
    _, a, _ = lab.star("a", "b")
    a.up()
    for _ in range(8):
        now = status(a)
        for pid, sig in ((now["pid"], signal.SIGSTOP), (now["worker_pid"], signal.SIGKILL),
                         (now["pid"], signal.SIGKILL)):
            os.kill(pid, sig)
        a.up()
        expect_eq(form(a), "programs")
    start = time.monotonic()
    said = a.up(check=False)
    expect("already attached" in said.stderr, "to one that lives", said)
    expect(time.monotonic() - start < 2, "soon")


def test_killed_then_up_with_chains(lab):
    """The dead one's programs would go on to keep from the kernel what is bypassed now."""
    a, b = killed(lab)
    a.up("--rule", f"bypass peer={b.ip4}")
    expect_eq(form(a), "chains")
    expect_encrypted(a, b, ["ip6"])
    for client, server, addr in ((a, b, b.ip4), (b, a, a.ip4)):
        port = next_port()
        with connected(client, server, addr, port):
            expect_eq(state_at(a, port), [], "the kernel's")


def test_killed_then_down(lab):
    a, b = killed(lab)
    a.down()
    expect_eq(form(a), "nothing")
    expect_eq(names(a), {"ingress": [], "egress": []})
    for client, server, addr in ((a, b, b.ip4), (b, a, a.ip6)):
        with connected(client, server, addr):
            pass


def test_killed_then_down_without_cap_sys_admin(lab):
    """Who cannot take programs away says so: TCP is still closed."""
    a, b = killed(lab)
    r = powerless(a, "down", check=False)
    left = form(a)
    expect((r.returncode == 0) == (left == "nothing"), "down tells the truth", r.returncode,
           r.stderr, left)
    a.down()
    expect_eq(form(a), "nothing")


def test_killed_with_chains_then_programs(lab):
    """What the dead one left of the other form goes."""
    a, b = link(lab)
    b.up()
    a.tcns("policy", "--rule", "bypass peer=10.99.0.0/16")
    wait_form(a, "chains")
    kill_both(a)
    expect_eq(form(a), "chains")
    a.up()
    expect_eq(form(a), "programs")
    expect_encrypted(a, b)


if __name__ == "__main__":
    tap.main()
