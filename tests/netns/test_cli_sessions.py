# SPDX-License-Identifier: BSD-3-Clause
"""The verb sessions as people and scripts use it: filters, processes, the kernel's own
connections, terminals of several widths, --watch."""
import contextlib
import fcntl
import json
import os
import pty
import re
import resource
import select
import signal
import struct
import subprocess
import sys
import termios

import tap
import schema
from lab import allow_open_files, binary, expect, expect_eq, wait_for

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


def listed(ns, *args):
    """Return: sessions of --json, checked against the published schema."""
    text = json.loads(ns.tcns("sessions", "--json", *args).stdout)
    schema.validate(text, schema.load("sessions"), strict=True)
    return text["sessions"]


def ports(ns, *args):
    return sorted(s["peer_port"] for s in listed(ns, *args))


@contextlib.contextmanager
def connections(a, *ends):
    """Each end is (namespace, port) or (namespace, port, address). Yields pairs of sockets."""
    with contextlib.ExitStack() as stack:
        pairs = []
        for ns, port, *addr in ends:
            addr = addr[0] if addr else ns.ip4
            listener = stack.enter_context(ns.listen(port, addr))
            c = stack.enter_context(a.connect(addr, port))
            s = stack.enter_context(listener.accept()[0])
            s.settimeout(10)
            c.sendall(b"hello")
            expect_eq(s.recv(5), b"hello")
            pairs.append((c, s))
        yield pairs


def two(lab, *args):
    """Containers a and b of ours, and c that is none."""
    _, a, b, c = lab.star("a", "b", "c")
    a.up(*args)
    b.up(*args)
    return a, b, c


def wrong(*args):
    r = subprocess.run([binary(), "sessions", *args], text=True, stdout=subprocess.PIPE,
                       stderr=subprocess.PIPE)
    expect_eq((r.returncode, r.stdout), (2, ""), args)
    return r.stderr


# --- Filters ----------------------------------------------------------------------------


def test_filters(lab):
    a, b, c = two(lab)
    with connections(a, (b, 80), (b, 8080), (c, 81), (b, 82, b.ip6)), connections(b, (a, 5000)):
        expect_eq(ports(a, "--state", "encrypted", "--dir", "out"), [80, 82, 8080])
        expect_eq(ports(a, "--state", "clear"), [81])
        expect_eq(len(listed(a, "--state", "clear,encrypted")), 5)
        expect_eq(ports(a, "--state", "opening,closing"), [])
        expect_eq(ports(a, "--reason", "peer-no-eno"), [81])
        expect_eq(ports(a, "--reason", "full,resumed", "--port", "80"), [80])
        expect_eq(ports(a, "--peer", f"{c.ip4}"), [81])
        expect_eq(ports(a, "--peer", "10.77.3.0/24,fd77::/16"), [81, 82])
        expect_eq(ports(a, "--port", "80-81,8080"), [80, 81, 8080])
        expect_eq([s["local_port"] for s in listed(a, "--port", "5000")], [5000], "of either end")
        expect_eq([s["local_port"] for s in listed(a, "--dir", "in")], [5000])
        text = a.tcns("sessions", "--state", "clear").stdout.splitlines()
        expect_eq((len(text), text[-1]), (3, "1 connection: 0 encrypted, 1 clear"), text)


def test_wrong_use(lab):
    for args, text in (
            (("--state", "nice"), '"nice" is no state'),
            (("--state", ""), '"" is no state'),
            (("--state", "clear,"), '"" is no state'),
            (("--reason", "clear"), '"clear" is no reason'),
            (("--peer", "10.0.0.1/33"), "peer"),
            (("--peer", "host"), "is no prefix"),
            (("--port", "http"), "is no port"),
            (("--port", "70000"), "is no port"),
            (("--dir", "both"), "neither in nor out"),
            (("--process", ""), "a process has"),
            (("--interval", "2"), "--interval goes with --watch"),
            (("--watch", "--interval", "0"), "interval"),
            (("--ended", "--all"), "do not go together"),
            (("--ended", "--process", "nc"), "do not go together"),
            (("operand",), "no operand is expected"),
            (("--nonsense",), "is not an option")):
        expect(text in wrong(*args), text, args, wrong(*args))
    r = subprocess.run([binary(), "sessions", "--netns", "tcns-test-none"], stderr=subprocess.PIPE)
    expect_eq(r.returncode, 1)


# --- Processes ------------------------------------------------------------------------------


def test_process(lab):
    a, b, _ = two(lab)
    b.popen("socat", "-u", "TCP-LISTEN:7000,fork", "OPEN:/dev/null")
    b.wait_listening(7000)
    p = a.popen("socat", "-u", "EXEC:sleep 100", f"TCP:{b.ip4}:7000")
    wait_for(lambda: ports(a, "--state", "encrypted") == [7000], 5, "connected")
    with connections(a, (b, 80)):
        mine, others = sorted(listed(a), key=lambda s: s["peer_port"])
        with open("/proc/self/comm") as f:
            expect_eq((mine["pid"], mine["process"]), (os.getpid(), f.read().strip()))
        expect_eq((others["pid"], others["process"]), (p.pid, "socat"))
        expect_eq(ports(a, "--process", "socat"), [7000])
        expect_eq(ports(a, "--process", os.getpid()), [80])
        expect_eq(ports(a, "--process", "soc"), [])
        expect(f"socat/{p.pid}" in a.tcns("sessions").stdout, "in the table")
        # Of the server's connection a child has it; the parent only listens.
        expect_eq([s["process"] for s in listed(b, "--port", "7000")], ["socat"])
        nobody = a.run("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups",
                       binary(), "sessions", "--json").stdout
        expect("encrypted" in nobody and '"pid"' not in nobody, "not for everybody", nobody)


def test_process_of_a_dual_stack_socket(lab):
    """An IPv6 socket that has accepted an IPv4 connection."""
    a, b, _ = two(lab)
    p = b.popen("socat", "-u", "TCP6-LISTEN:7000,ipv6only=0", "OPEN:/dev/null")
    b.wait_listening(7000)
    with a.connect(b.ip4, 7000) as c:
        c.sendall(b"x")
        wait_for(lambda: [s.get("pid") for s in listed(b)] == [p.pid], 5, "its process")


@tap.timeout(90)
def test_quick_for_ten_thousand(lab):
    many = 10_000
    a, b, _ = two(lab)
    allow_open_files(many + 1000)
    b.down()  # clear connections are enough, and quicker to make
    script = ("import resource, socket\n"
              f"resource.setrlimit(resource.RLIMIT_NOFILE, ({many + 100}, {many + 100}))\n"
              "l = socket.create_server(('', 80), backlog=4096)\n"
              "keep = []\nwhile True:\n    keep.append(l.accept())\n")
    b.popen(sys.executable, "-c", script)
    b.wait_listening(80)
    keep = [a.connect(b.ip4, 80) for _ in range(many)]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    out = a.tcns("sessions", "--json", timeout=60).stdout
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    expect_eq(out.count(f'"pid":{os.getpid()},'), many)
    took = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    expect(took < 3, "seconds of processor time", took)
    for s in keep:
        s.close()


# --- The kernel's own ----------------------------------------------------------------------------


def test_all(lab):
    a, b, _ = two(lab, "--bypass", "443,6000-6010", "--rule", "bypass peer=10.77.0.0/16 port=8000")
    a.sysctl("net.ipv6.conf.lo.disable_ipv6", 0)
    with connections(a, (b, 80), (b, 443), (b, 8000), (b, 6005, b.ip6), (a, 90, "127.0.0.1"), (a, 91, "::1"),
                     (a, 92, a.ip4)):
        expect_eq(ports(a), [80], "not without --all")
        got = {s["peer_port"]: s for s in listed(a, "--all", "--state", "bypassed")
               if s["peer_port"] < 10000}
        expect_eq({p: s["reason"] for p, s in got.items()},
                  {443: "bypass-rule", 6005: "bypass-rule", 8000: "bypass-rule", 90: "loopback", 91: "loopback",
                   92: "loopback"})
        for s in got.values():
            expect_eq((s["tx_bytes"], s["rx_bytes"], s["pid"]), (5, 0, os.getpid()))
        expect_eq(ports(a, "--all", "--port", "80"), [80], "the daemon's are not listed twice")
        text = a.tcns("sessions", "--all").stdout.splitlines()
        expect_eq(text[-1], "10 connections: 1 encrypted, 0 clear, 9 bypassed")
        nobody = a.run("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups",
                       binary(), "sessions", "--all", "-n", f"/run/netns/{a.name}", check=False)
        expect(nobody.returncode in (0, 4), "allowed or said so", nobody.returncode, nobody.stderr)
    wait_for(lambda: listed(a, "--all") == [], 5, "nothing of what has ended")


# --- Terminals --------------------------------------------------------------------------------------


class Terminal:
    """A process on a terminal of its own."""

    def __init__(self, argv, columns, rows=24, env=None):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
            env = {**os.environ, "TERM": "xterm", **(env or {})}
            for name in ("COLUMNS", "LINES"):
                env.pop(name, None)
            os.execvpe(argv[0], list(map(str, argv)), env)
        self.text = ""

    def read(self, seconds=0.05):
        """Return: whether it may write more."""
        try:
            if select.select([self.fd], [], [], seconds)[0]:
                self.text += os.read(self.fd, 65536).decode()
        except OSError:
            return False
        return True

    def until(self, mark, seconds=10):
        wait_for(lambda: self.read() and mark in self.text or mark in self.text, seconds, mark)

    def end(self):
        """Return: exit status."""
        while self.read(10):
            pass
        os.close(self.fd)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def on_terminal(argv, columns, env=None):
    t = Terminal(argv, columns, env=env)
    expect_eq(t.end(), 0, t.text)
    return t.text


def test_widths(lab):
    """Never wrapped; what matters most is there at 80 columns, everything at 220."""
    a, b, c = two(lab, "--bypass", "443")
    b.ip("addr", "add", "fd77:2::3333:4444:5555:6666/64", "dev", "eth0", "nodad")
    a_argv = [binary(), "sessions", "--netns", a.name, "--all"]
    with connections(a, (b, 80), (c, 81), (b, 443)):
        for width in (20, 40, 80, 100, 130, 160, 220):
            lines = ESCAPES.sub("", on_terminal(a_argv, width)).splitlines()
            expect_eq(len(lines), 5, width)
            expect(all(len(line) <= width for line in lines[:-1]), str(width), lines)
            for word in ("encrypted", "peer-no-eno", f"{b.ip4}:80") if width >= 80 else ():
                expect(any(word in line for line in lines), f"{word} at {width}", lines)
        full = listed(a, "--port", "80")[0]["session_id"]
        expect(full in on_terminal(a_argv, 220), "the whole id where there is room")
        narrow = on_terminal([*a_argv, "--port", "80"], 80)
        expect(re.search(re.escape(full[:8]) + r"\w*\.\.", narrow), "a part of it at 80", narrow)
        expect("AUTH" in narrow, "encrypted is not authenticated", narrow)
    with connections(a, (b, 82, "fd77:2::3333:4444:5555:6666")):
        line = ESCAPES.sub("", on_terminal(a_argv, 80)).splitlines()[1]
        expect("]:82 " in line and "encrypted" in line and len(line) <= 80, "a long address", line)


def test_colours(lab):
    a, b, c = two(lab)
    argv = [binary(), "sessions", "--netns", a.name]
    with connections(a, (b, 80), (c, 81)):
        text = on_terminal(argv, 120)
        expect("\x1b[32mencrypted\x1b[0m" in text and "\x1b[33mclear\x1b[0m" in text, "both", text)
        for env in ({"NO_COLOR": "1"}, {"TERM": "dumb"}, {"TERM": ""}):
            expect("\x1b" not in on_terminal(argv, 120, env), "no colours", env)
        expect("\x1b" in on_terminal(argv, 120, {"NO_COLOR": ""}), "empty is not set")
        expect("\x1b" not in a.tcns("sessions").stdout, "not in a pipe")


# --- Again and again -----------------------------------------------------------------------------------


def test_watch_on_a_terminal(lab):
    a, b, _ = two(lab)
    argv = [binary(), "sessions", "--netns", a.name, "--watch", "--interval", "1"]
    t = Terminal(argv, 80, rows=10)
    t.until("0 connections")
    expect(t.text.startswith("\x1b[?1049h"), "a screen of its own")
    with contextlib.ExitStack() as stack:
        stack.enter_context(connections(a, *((b, 80 + n) for n in range(9))))
        t.until("9 connections: 9 encrypted")
        t.until("... and ")
        frame = ESCAPES.sub("", t.text[t.text.rindex("\x1b[H"):])
        expect(len(frame.splitlines()) <= 10, "fits", frame)
    t.until("\x1b[H")
    os.write(t.fd, b"q")
    expect_eq(t.end(), 0)
    expect(t.text.endswith("\x1b[?25h\x1b[?1049l"), "the old screen is back", t.text[-40:])
    t = Terminal(argv, 80)
    t.until("0 connections")
    os.kill(t.pid, signal.SIGINT)
    expect_eq(t.end(), 0)
    expect(t.text.endswith("\x1b[?25h\x1b[?1049l"), "and after a signal", t.text[-40:])
    t = Terminal(argv, 80)
    t.until("0 connections")
    a.down()
    expect_eq(t.end(), 3, "the daemon has gone")
    expect("\x1b[?1049l" in t.text, "the message is on the old screen", t.text)


def test_watch_in_a_pipe(lab):
    a, b, _ = two(lab)
    p = a.popen(binary(), "sessions", "--watch", "--interval", "1")
    wait_for(lambda: "0 connections" in p.out(), 5)
    with connections(a, (b, 80)):
        wait_for(lambda: "1 connection: 1 encrypted" in p.out(), 5)
    expect("\x1b" not in p.out(), "plain")
    p.stop()
    p = a.popen(binary(), "sessions", "--watch", "--interval", "1", "--json")
    wait_for(lambda: p.out().count("]}\n") >= 2, 5)
    for text in p.out().split("]}\n")[:2]:
        expect_eq(json.loads(text + "]}")["version"], 1)
    p.stop()


if __name__ == "__main__":
    tap.main()
