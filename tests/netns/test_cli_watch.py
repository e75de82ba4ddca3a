# SPDX-License-Identifier: BSD-3-Clause
"""The verbs watch, sid, tcnetstat and status: what they print, exit codes, wrong use."""
import contextlib
import json
import os
import re
import signal
import socket
import subprocess

import tap
import schema
from lab import binary, connection, expect, expect_eq, wait_for

NOBODY = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups")


def ours(lab, *args):
    """Containers a and b of ours, and c that is none."""
    _, a, b, c = lab.star("a", "b", "c")
    a.up(*args)
    b.up(*args)
    return a, b, c


def verb(*args, **kwargs):
    return subprocess.run([binary(), *map(str, args)], text=True, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=30, **kwargs)


def wrong(*args):
    r = verb(*args)
    expect_eq((r.returncode, r.stdout), (2, ""), args)
    return r.stderr


def ends(sock):
    def text(name):
        return f"[{name[0]}]:{name[1]}" if ":" in name[0] else f"{name[0]}:{name[1]}"
    return text(sock.getsockname()), text(sock.getpeername())


# --- watch ----------------------------------------------------------------------------------


def start_watch(ns, *args):
    """Return: a process that watches by now."""
    p = ns.popen(binary(), "watch", *args)
    if "--json" in args:
        wait_for(lambda: '"watching"' in p.out(), 5, "watching")
        return p
    # Without --json nothing is printed before the first event.
    def seen():
        ns.tcns("cache", "--flush")
        return "is forgotten" in p.out()
    wait_for(seen, 5, "an event of the daemon", interval=0.1)
    return p


def events(p):
    """Return: the events so far, each as the published schema says."""
    out = [json.loads(line) for line in p.out().splitlines()]
    for event in out:
        schema.validate(event, schema.load("events"), strict=True)
    return out


def test_watch(lab):
    a, b, c = ours(lab)
    p, q = start_watch(a, "--json"), start_watch(a)
    with connection(a, b, 80), connection(a, c, 81):
        pass
    with contextlib.suppress(ConnectionRefusedError):
        a.connect(b.ip4, 82)
    wait_for(lambda: p.out().count('"event":"ended"') == 3, 5, "three ends")
    got = {}
    for event in events(p):
        if "session" in event:
            got.setdefault(event["session"]["peer_port"], []).append(event)
    expect_eq({port: [e["event"] for e in es] for port, es in got.items()},
              {80: ["opened", "encrypted", "ended"], 81: ["opened", "clear", "ended"],
               82: ["opened", "ended"]})
    expect_eq([e["session"]["reason"] for e in got[81]], ["pending", "peer-no-eno", "peer-no-eno"])
    expect_eq([e["session"]["end"] for e in got[80]], ["live", "live", "closed"])
    expect_eq(got[82][-1]["session"]["end"], "refused")
    expect_eq(len(got[80][1]["session"]["session_id"]), 66)
    times = [e["time"] for e in events(p)]
    expect_eq(times, sorted(times), "in order")
    wait_for(lambda: q.out().count(" ended ") == 3, 5, "three ends")
    sid = got[80][1]["session"]["session_id"]
    stamp = r"\d\d:\d\d:\d\d\.\d\d\d"
    for pattern in (rf"opened     10\.77\.1\.2:\d+ -> {b.ip4}:80$",
                    rf"encrypted  10\.77\.1\.2:\d+ -> {b.ip4}:80  full  Curve25519  "
                    rf"AES_128_GCM  {sid}$",
                    rf"ended      10\.77\.1\.2:\d+ -> {b.ip4}:80  closed  full  "
                    r"5 bytes sent, 0 received, \d+\.\d s$",
                    rf"clear      10\.77\.1\.2:\d+ -> {c.ip4}:81  peer-no-eno$"):
        expect(re.search(rf"^{stamp}  {pattern}", q.out(), re.M), pattern, q.out())
    expect("\x1b" not in q.out(), "plain in a file")


def test_watch_filters(lab):
    a, b, c = ours(lab)
    p = start_watch(a, "--json", "--peer", c.ip4, "--port", "1-100", "--dir", "out")
    with connection(a, b, 80), connection(a, c, 81), connection(a, c, 8080), connection(c, a, 83):
        pass
    with connection(a, c, 82):
        wait_for(lambda: '"peer_port":82' in p.out(), 5, "the last one")
    expect_eq({e["session"]["peer_port"] for e in events(p) if "session" in e}, {81, 82})
    a.tcns("cache", "--flush")
    wait_for(lambda: '"daemon"' in p.out(), 5, "the daemon's events come all the same")


def test_watch_outlives_a_worker(lab):
    a, b, _ = ours(lab)
    p = start_watch(a, "--json")
    with connection(a, b, 80):
        os.kill(json.loads(a.tcns("status", "--json").stdout)["worker_pid"], signal.SIGKILL)
        wait_for(lambda: "there again" in p.out(), 10, "it says that something may be missing")
    with connection(a, b, 81):
        wait_for(lambda: '"peer_port":81' in p.out(), 5, "and goes on")
    a.down()
    expect_eq(p.wait(10), 3, p.err())
    expect("has gone" in p.err(), "says why", p.err())
    expect_eq([e["text"] for e in events(p) if e["event"] == "daemon"][-1], "told to detach")


def test_watch_of_detaching(lab):
    """The last word on each connection still comes."""
    a, b, _ = ours(lab)
    p = start_watch(a, "--json")
    with connection(a, b, 80):
        wait_for(lambda: '"encrypted"' in p.out(), 5)
        a.down()
    p.wait(10)
    last = [e for e in events(p) if "session" in e][-1]
    expect_eq((last["event"], last["session"]["end"]), ("ended", "detached"))


@tap.timeout(90)
def test_slow_watchers(lab):
    """Who does not read loses events, is told how many, and holds nothing up."""
    a, b, _ = ours(lab)
    b.down()
    with contextlib.ExitStack() as stack:
        watchers = []
        for _ in range(4):
            s = stack.enter_context(a.socket(socket.AF_UNIX))
            s.connect("\0tcpcrypt-ns")
            s.sendall(b'{"method":"org.tcpcrypt.Ns1.Watch","more":true}\0')
            s.settimeout(10)
            expect(b'"watching"' in s.recv(1000), "watching")
            watchers.append(s)
        count = 0
        with b.listen(80, backlog=400) as listener:
            for _ in range(1500):
                with a.connect(b.ip4, 80), listener.accept()[0]:
                    count += 1
        wait_for(lambda: not [s for s in a.sessions() if s["state"] != "closing"], 10)
        for s in watchers:
            told, lost, data = 0, 0, b""
            while told + lost < 3 * count:
                data += s.recv(65536)
                *whole, data = data.split(b"\0")
                for text in whole:
                    event = json.loads(text)["parameters"]
                    told += "session" in event
                    lost += event.get("count", 0)
            expect_eq(told + lost, 3 * count, "every event is told or counted")
            expect(lost > 0 and told > 100, "both", told, lost)


def test_watch_wrong_use(lab):
    expect("is no state" in wrong("watch", "--state", "nice"), "state")
    expect("not an option" in wrong("watch", "--process", "nc"), "process")
    expect("no operand" in wrong("watch", "self"), "operand")
    _, a = lab.star("a")
    r = a.tcns("watch", check=False)
    expect_eq((r.returncode, r.stdout), (3, ""), r.stderr)


# --- sid --------------------------------------------------------------------------------------


def test_sid_of_two_ends(lab):
    a, b, c = ours(lab)
    with connection(a, b, 80) as (x, y), connection(a, b, 81, b.ip6) as (v, w), \
            connection(a, c, 82) as (z, _):
        for one, other in ((x, y), (v, w)):
            here = a.tcns("sid", *ends(one)).stdout
            there = b.tcns("sid", *ends(other)).stdout
            expect(re.fullmatch(r"[0-9a-f]{66}\n", here), "an id", here)
            expect_eq(here, there, "the same at both ends")
        got = json.loads(a.tcns("sid", *ends(x), "--json").stdout)
        schema.validate(got["session"], schema.load("sessions")["properties"]["sessions"]["items"],
                        strict=True)
        expect_eq((got["version"], got["session"]["session_id"] + "\n"),
                  (1, a.tcns("sid", *ends(x)).stdout))
        r = a.tcns("sid", *ends(z), check=False)
        expect_eq((r.returncode, r.stdout, r.stderr),
                  (1, "", "tcpcrypt-ns: the connection has no session id: clear, peer-no-eno\n"))
        r = a.tcns("sid", "--json", *ends(z), check=False)
        expect_eq((r.returncode, json.loads(r.stdout)["session"]["state"]), (1, "clear"))
        r = a.run(*NOBODY, binary(), "sid", *ends(x))
        expect_eq(r.stdout, a.tcns("sid", *ends(x)).stdout, "for everybody in the namespace")
    r = a.tcns("sid", "192.0.2.1:1", "192.0.2.2:2", check=False)
    expect_eq((r.returncode, r.stdout), (1, ""), r.stderr)
    expect("no such connection" in r.stderr, "says why", r.stderr)


def test_sid_of_a_descriptor(lab):
    """As a server would that hands its connection to a program it starts."""
    a, b, c = ours(lab)
    with connection(a, b, 80) as (x, y), connection(a, c, 82) as (z, _):
        def of(ns, sock):
            os.set_inheritable(sock.fileno(), True)
            return ns.run(binary(), "sid", "--fd", sock.fileno(), check=False,
                          pass_fds=(sock.fileno(),))
        here, there = of(a, x), of(b, y)
        expect_eq((here.returncode, len(here.stdout)), (0, 67), here.stderr)
        expect_eq(here.stdout, there.stdout, "the same at both ends")
        expect_eq(of(a, z).returncode, 1, "clear")
        with a.socket() as lonely:
            r = of(a, lonely)
            expect_eq(r.returncode, 1, r.stderr)
        with a.socket(kind=socket.SOCK_DGRAM) as udp:
            expect_eq(of(a, udp).returncode, 2, "UDP")
        with open("/dev/null", "rb") as f:
            r = a.run(binary(), "sid", "--fd", f.fileno(), check=False, pass_fds=(f.fileno(),))
            expect_eq(r.returncode, 2, r.stderr)


def test_sid_of_a_dual_stack_socket(lab):
    """An IPv6 socket that has accepted an IPv4 connection: one of the daemon's all the same."""
    a, b, _ = ours(lab)
    with b.socket(socket.AF_INET6) as listener:
        listener.bind(("::", 80))
        listener.listen()
        with a.connect(b.ip4, 80) as x:
            y, _ = listener.accept()
            x.sendall(b"x")
            expect_eq(y.recv(1), b"x")
            os.set_inheritable(y.fileno(), True)
            r = b.run(binary(), "sid", "--fd", y.fileno(), pass_fds=(y.fileno(),))
            expect_eq(r.stdout, a.tcns("sid", *ends(x)).stdout)
            y.close()


def test_sid_waits(lab):
    """Until it is negotiated: the peer's answer is late."""
    r, a, b, _ = lab.star("a", "b", "c")
    a.up()
    b.up()
    with b.listen(80):
        r.forward_rules("ip saddr 10.77.2.2 tcp flags & (syn|ack) == (syn|ack) drop")
        with a.socket() as x:
            x.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                x.connect((b.ip4, 80))
            wait_for(lambda: a.sessions(), 5, "it is opening")
            name = f"{a.ip4}:{x.getsockname()[1]}", f"{b.ip4}:80"
            p = a.popen(binary(), "sid", "--wait", "20", *name)
            p2 = a.tcns("sid", *name, check=False)
            expect_eq((p2.returncode, ": opening, " in p2.stderr), (1, True), p2.stderr)
            r.forward_rules()
            expect_eq(p.wait(20), 0 if "session id" not in p.err() else 1, p.err())


def test_sid_wrong_use(lab):
    one = "192.0.2.1:1"
    for args in ((), (one,), (one, one, one), (one, "192.0.2.1"), (one, "192.0.2.1:"),
                 (one, "192.0.2.1:0"), (one, "192.0.2.1:65536"), (one, "192.0.2.1:1x"),
                 (one, "192.0.2.300:1"), (one, "2001:db8::1:1"), (one, "[2001:db8::1]"),
                 (one, "[2001:db8::1:1"), (one, "[192.0.2.1]:1"), ("host:1", one), ("", one),
                 (one, "192.0.2.1:-1"), ("--fd", "999"), ("--fd", "x"), ("--fd", "-1"),
                 ("--fd", "0", one, one), ("--wait", "61", one, one), ("--ended", one, one)):
        wrong("sid", *args)
    _, a = lab.star("a")
    expect_eq(a.tcns("sid", one, one, check=False).returncode, 3, "no daemon")


def test_permission(lab):
    """Who may not enter the namespace, nor its door, is told so with exit code 4."""
    _, a = lab.star("a")
    a.up()
    one = "192.0.2.1:1"
    for args in (("sid", one, one), ("watch",), ("tcnetstat",), ("status",), ("sessions",)):
        r = subprocess.run([*NOBODY, binary(), args[0], "-n", a.path, *args[1:]], text=True,
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        expect_eq((r.returncode, r.stdout), (4, ""), f"{args}: {r.stderr}")


# --- tcnetstat ----------------------------------------------------------------------------------


def test_tcnetstat(lab):
    a, b, c = ours(lab)
    link = lab.file("tcnetstat")
    os.symlink(binary(), link)
    with connection(a, b, 80) as (x, _), connection(a, c, 81):
        local, peer = ends(x)
        sid = a.tcns("sid", local, peer).stdout.strip().upper()
        want = ("Local address\t\tForeign address\t\tSID\n"
                f"{local:<21}\t{peer:<21}\t{sid}\n")
        expect_eq(a.tcns("tcnetstat").stdout, want, "encrypted ones only")
        expect_eq(a.run(link).stdout, want, "by the program's name")
        expect_eq(verb("tcnetstat", "-n", a.name).stdout, want)
    expect("no operand" in wrong("tcnetstat", "all"), "operand")
    r = subprocess.run([link, "--nonsense"], stderr=subprocess.PIPE)
    expect_eq(r.returncode, 2, "by its name, too")
    a.down()
    expect_eq(a.run(link, check=False).returncode, 3)


# --- status ----------------------------------------------------------------------------------------


def test_status(lab):
    """One screen of 80 columns, with what matters."""
    a, b, c = ours(lab, "--keepalive", "30", "--bypass", "default")
    with connection(a, b, 80), connection(a, c, 81):
        text = a.tcns("status").stdout
        st = json.loads(a.tcns("status", "--json").stdout)
    lines = text.splitlines()
    expect(len(lines) <= 24 and max(map(len, lines)) <= 80, "one screen", text)
    for pattern in (rf"^daemon +version [\d.]+, process {st['pid']}, worker {st['worker_pid']}, up",
                    rf"^namespace +{st['netns']}, uplinks: eth0 \(programs\)$", "^policy +prefer; ",
                    "^bypassed +22, 443, ", "^exchanges +Curve25519, Curve448, P-256, P-521$",
                    "^ciphers +AES-128-GCM, AES-256-GCM, ", "keep-alive 30 s",
                    r"^connections +2 opened: 1 encrypted \(0 resumed\), 1 clear; 0 refused, ",
                    r"^packets +from programs \d+, to them \d+; from the uplinks ",
                    "^dropped +none$", "^errors +none$"):
        expect(re.search(pattern, text, re.M), pattern, text)
    expect(set(st) >= {"pid", "uplinks", "counters", "errors"}, "json", st)
    os.kill(st["worker_pid"], signal.SIGKILL)
    wait_for(lambda: "worker replaced 1 time" in
             " ".join(a.tcns("status", "--wait", "5").stdout.split()), 10)
    expect("no operand" in wrong("status", "all"), "operand")


if __name__ == "__main__":
    tap.main()
