#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Draining: what is there ends by itself, what is new is left to the kernel or refused."""
import contextlib
import json
import os
import signal
import socket
import time

import tap
from lab import Failure, binary, connection, expect, expect_eq, idle, wait_for
from wire import Capture


def status(ns):
    return json.loads(ns.tcns("status", "--json").stdout)


def reasons(ns):
    return sorted(s["reason"] for s in ns.sessions())


def works(out, back, text=b"wombat"):
    out.sendall(text)
    expect_eq(back.recv(100), text)
    back.sendall(text)
    expect_eq(out.recv(100), text)


def ended(sock):
    """Return: how a connection ended for its program."""
    sock.settimeout(5)
    try:
        return "end of file" if sock.recv(100) == b"" else "data"
    except ConnectionError:
        return "reset"


def draining(ns):
    return lambda: "connections left" in ns.err()


def start(ns, *args):
    """Return: a running "down --drain", that has told what is left."""
    p = ns.popen(binary(), "down", "--netns", "self", *args)
    wait_for(draining(p), 5, "the first line of progress")
    return p


def test_ends_with_the_last_connection(lab):
    r, a, b = lab.pair()
    with Capture(r, a.peer_if) as cap:
        with connection(a, b, 7000) as (out, back), connection(b, a, 7001) as (out2, back2):
            works(out, back)
            works(out2, back2)
            p = start(a, "--drain=30")
            expect("2 connections left" in p.err(), "progress", p.err())
            works(out, back, b"still encrypted")
            with connection(a, b, 7002) as (new, new_back), connection(b, a, 7003) as (in_, in_back):
                works(new, new_back, b"platypus in clear")
                works(in_, in_back, b"echidna in clear")
                expect_eq(reasons(a)[:2], ["draining", "draining"])
                expect(all(x in ("full", "resumed") for x in reasons(a)[2:]), "the others are not")
                for s in (out, back):
                    s.close()
                wait_for(lambda: "1 connections left" in p.err(), 5, "one has ended")
                expect_eq(p.poll(), None, "it waits for the other")
                for s in (out2, back2):
                    s.close()
                expect_eq(p.wait(10), 0)
                expect("detached" in p.out(), "done", p.out())
                expect("tcpcrypt0" not in a.ip("link"), "all is taken away")
                # Those in clear are the kernel's now.
                works(new, new_back, b"platypus again")
                works(in_, in_back, b"echidna again")
    cap.stop()
    sent = b"".join(t.payload for t in cap.tcp())
    expect(b"wombat" not in sent and b"still encrypted" not in sent, "encrypted to the end")
    expect(b"platypus in clear" in sent and b"echidna again" in sent, "the new ones in clear")


def test_time_is_up(lab):
    r, a, b = lab.pair()
    with connection(a, b, 7000) as (out, back):
        works(out, back)
        began = time.monotonic()
        p = a.tcns("down", "--drain=1")
        took = time.monotonic() - began
        expect(0.9 < took < 4, "about a second", took)
        expect("1 connections left" in p.stderr, "progress", p.stderr)
        expect_eq((ended(out), ended(back)), ("reset", "reset"))


def test_nothing_to_wait_for(lab):
    r, a, b = lab.pair()
    began = time.monotonic()
    a.tcns("down", "--drain")
    expect(time.monotonic() - began < 3, "at once")


def test_refuse(lab):
    r, a, b = lab.pair()
    with connection(a, b, 7000) as (out, back):
        works(out, back)
        p = start(a, "--drain=30", "--drain-new", "refuse")
        for src, dst in ((a, b), (b, a)):
            with dst.listen(7001):
                try:
                    src.connect(dst.ip4, 7001, timeout=5).close()
                    raise Failure("it must not connect")
                except ConnectionRefusedError:
                    pass
        expect_eq(status(a)["counters"]["flows_refused"], 2)
        out.close()
        back.close()
        expect_eq(p.wait(10), 0)


def test_policy_require_refuses(lab):
    """"clear" makes nothing clear that the policy wants encrypted."""
    r, a, b = lab.pair("--policy", "require")
    with connection(a, b, 7000) as (out, back), Capture(r, a.peer_if) as cap:
        works(out, back)
        p = start(a, "--drain=30", "--drain-new", "clear")
        with b.listen(7001):
            try:
                a.connect(b.ip4, 7001, timeout=5).close()
                raise Failure("it must not connect")
            except ConnectionRefusedError:
                pass
        out.close()
        back.close()
        expect_eq(p.wait(10), 0)
    cap.stop()
    expect(not any(7001 in (t.sport, t.dport) for t in cap.tcp()), "no SYN left")


def test_second_down_ends_at_once(lab):
    r, a, b = lab.pair()
    with connection(a, b, 7000) as (out, back):
        works(out, back)
        p = start(a, "--drain=60")
        began = time.monotonic()
        a.down()
        expect(time.monotonic() - began < 4, "at once")
        expect_eq(p.wait(5), 0, "the first is answered, too")
        expect_eq((ended(out), ended(back)), ("reset", "reset"))


def test_client_goes_away(lab):
    """An interrupted "down --drain" drains on; another one sets the time anew."""
    r, a, b = lab.pair()
    with connection(a, b, 7000) as (out, back):
        works(out, back)
        pid = status(a)["pid"]
        p = start(a, "--drain=60")
        p.stop(signal.SIGINT)
        works(out, back)
        a.tcns("down", "--drain=1")
        wait_for(lambda: not os.path.exists(f"/proc/{pid}"), 5, "the end of the supervisor")


def test_sigterm(lab):
    """What a service manager and a container engine send: once drains, twice ends."""
    r, a, b = lab.star("a", "b")
    a.up("--drain", "60")
    b.up()
    pid = status(a)["pid"]
    with connection(a, b, 7000) as (out, back):
        works(out, back)
        os.kill(pid, signal.SIGTERM)
        idle(0.3)
        works(out, back)
        out.close()
        back.close()
        wait_for(lambda: not os.path.exists(f"/proc/{pid}"), 10, "the end, with the connection")
    expect("tcpcrypt0" not in a.ip("link"), "all is taken away")
    a.up("--drain", "60")
    pid = status(a)["pid"]
    with connection(a, b, 7000) as (out, back):
        works(out, back)
        os.kill(pid, signal.SIGTERM)
        idle(0.3)
        os.kill(pid, signal.SIGTERM)
        wait_for(lambda: not os.path.exists(f"/proc/{pid}"), 5, "the end, at once")
        expect_eq(ended(out), "reset")


def test_worker_dies_while_draining(lab):
    """Nothing is left to wait for then; and nothing of it goes out in clear."""
    r, a, b = lab.pair()
    with connection(a, b, 7000) as (out, back), Capture(r, a.peer_if) as cap:
        works(out, back)
        p = start(a, "--drain=60")
        os.kill(status(a)["worker_pid"], signal.SIGKILL)
        with contextlib.suppress(OSError):
            out.sendall(b"bandicoot")
        p.wait(10)
        wait_for(lambda: "tcpcrypt0" not in a.ip("link"), 5, "all is taken away")
        expect_eq(ended(out), "reset")
    cap.stop()
    expect(b"bandicoot" not in b"".join(t.payload for t in cap.tcp()), "no clear text")


def test_bad_values(lab):
    _, a = lab.star("a")
    a.up()
    for args in (("--drain=x",), ("--drain=-1",), ("--drain=1", "--drain-new", "perhaps"),
                 ("--drain-new", "clear")):
        expect_eq(a.tcns("down", *args, check=False).returncode, 2, str(args))

    def call(params):
        with socket.socket(socket.AF_UNIX) as s:
            inode = os.stat(a.path).st_ino
            s.connect(f"/run/tcpcrypt-ns/{inode}.sock")
            s.settimeout(5)
            s.sendall(json.dumps({"method": "org.tcpcrypt.Ns1.Drain",
                                  "parameters": params}).encode() + b"\0")
            return json.loads(s.recv(4096).rstrip(b"\0"))

    for params, bad in (({"timeout": -1}, "timeout"), ({"timeout": "1"}, "timeout"),
                        ({"timeout": 1, "new": 7}, "new"), ({"timeout": 1, "new": "x"}, "new")):
        expect_eq(call(params)["parameters"], {"parameter": bad})
    expect_eq(call({"timeout": 0}), {"parameters": {}}, "the answer, when all is taken away")
    expect("tcpcrypt0" not in a.ip("link"), "it is")


if __name__ == "__main__":
    tap.main()
