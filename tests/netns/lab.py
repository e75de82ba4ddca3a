# SPDX-License-Identifier: BSD-3-Clause
"""Network namespaces, links, processes and daemons for tests; all of it goes away again.

How it works: a Lab owns what it makes. Namespaces have names (as "ip netns"
makes them) with our process id in them. Processes are started through nsenter
and setpriv, so that they die with us whatever happens. Lab.close() runs at the
end of a "with", at exit and on signals; it first takes daemons down, then kills
what still runs in the namespaces, then deletes them.
"""
import atexit
import contextlib
import json
import os
import resource
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

from namespace import Namespace

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
_labs = []


class Failure(Exception):
    """A test's expectation did not hold."""


class Skip(Exception):
    """The test cannot run here."""


def expect(condition, text="expectation failed", *values):
    if not condition:
        raise Failure(text + "".join(f"\n  {v!r}" for v in values))


def expect_eq(got, want, text="values differ"):
    if got != want:
        raise Failure(f"{text}\n  got  {got!r}\n  want {want!r}")


def wait_for(fn, timeout=5.0, what=None, interval=0.01):
    """Calls fn until it returns something true, and returns that; Failure at the deadline."""
    deadline = time.monotonic() + timeout
    while True:
        value = fn()
        if value:
            return value
        if time.monotonic() > deadline:
            raise Failure(f"not within {timeout} s: {what or getattr(fn, '__name__', fn)}")
        time.sleep(interval)


@contextlib.contextmanager
def connection(a, b, port=80, addr=None):
    """Gives both ends of a connection from a to b, once b has heard five bytes."""
    addr = addr or b.ip4
    with b.listen(port, addr) as listener, a.connect(addr, port) as c:
        s, _ = listener.accept()
        with s:
            s.settimeout(10)
            c.sendall(b"hello")
            expect_eq(s.recv(5), b"hello")
            yield c, s


def allow_open_files(cnt):
    """Raises this process's soft limit to that many, if the hard one lets it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(cnt, hard)), hard))


def expect_none_accepted(listener, seconds):
    """The program that listens gets no connection for so long."""
    expect(not select.select([listener], [], [], seconds)[0], "a connection to accept")


def idle(seconds):
    """Lets time pass in which something must not happen."""
    time.sleep(seconds)


def binary():
    path = os.environ.get("TCNS_BIN") or os.path.join(TOP, "build", "tcpcrypt-ns")
    if not os.access(path, os.X_OK):
        raise Skip(f"{path} is not built")
    return path


def _run_root(*argv, check=True):
    r = subprocess.run(argv, stdin=subprocess.DEVNULL, text=True,
                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if check and r.returncode != 0:
        raise Failure(f"{' '.join(argv)}: exit {r.returncode}\n{r.stdout}")
    return r.stdout


class Proc(subprocess.Popen):
    """A process of a lab; output goes to files so that it can never block."""

    def __init__(self, argv, out, err, **kwargs):
        self.out_path, self.err_path = out, err
        with open(out, "wb") as o, open(err, "wb") as e:
            kwargs.setdefault("stdin", subprocess.DEVNULL)
            kwargs.setdefault("stdout", o)
            kwargs.setdefault("stderr", e)
            super().__init__(argv, **kwargs)

    def out(self):
        with open(self.out_path, "rb") as f:
            return f.read().decode(errors="replace")

    def err(self):
        with open(self.err_path, "rb") as f:
            return f.read().decode(errors="replace")

    def stop(self, sig=signal.SIGTERM, timeout=5):
        if self.poll() is None:
            self.send_signal(sig)
        try:
            return self.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            return self.wait(timeout)


class Ns(Namespace):
    """One network namespace: a container, a router, a host."""

    def __init__(self, lab, name):
        super().__init__(f"tcns{os.getpid()}-{name}")
        self.lab, self.short = lab, name
        self.ip4 = self.ip6 = None
        self.peer_if = None  # in a star: the router's interface towards us
        _run_root("ip", "netns", "add", self.name)
        # Duplicate address detection keeps link-local addresses, which neighbour
        # discovery needs, tentative for a second or two.
        self.sysctl("net.ipv6.conf.default.accept_dad", 0)
        self.sysctl("net.ipv6.conf.default.dad_transmits", 0)
        # Inherited from the machine, where a container engine may have switched it on.
        self.sysctl("net.ipv4.ip_forward", 0)
        self.ip("link", "set", "lo", "up")

    def run(self, *argv, check=True, timeout=60, **kwargs):
        """Return: CompletedProcess with text output."""
        if "input" not in kwargs:
            kwargs.setdefault("stdin", subprocess.DEVNULL)
        kwargs.setdefault("stdout", subprocess.PIPE)
        kwargs.setdefault("stderr", subprocess.PIPE)
        kwargs.setdefault("text", True)
        r = subprocess.run(self.argv(argv), timeout=timeout, **kwargs)
        if check and r.returncode != 0:
            raise Failure(f"{self.short}: {' '.join(map(str, argv))}: exit {r.returncode}\n"
                          f"{r.stdout}\n{r.stderr}")
        return r

    def popen(self, *argv, **kwargs):
        n = len(self.lab.procs)
        tag = os.path.basename(str(argv[0]))
        p = Proc(self.argv(argv), self.lab.file(f"{self.short}-{n}-{tag}.out"),
                 self.lab.file(f"{self.short}-{n}-{tag}.err"), **kwargs)
        self.lab.procs.append(p)
        return p

    def ip(self, *args, check=True):
        return _run_root("ip", "-n", self.name, *map(str, args), check=check)

    def nft(self, text):
        self.run("nft", "-f", "-", input=text)

    def forward_rules(self, *rules, table="box", extra=""):
        """A router's rules for what it forwards, in a table of their own; none: removes it."""
        self.nft(f"add table inet {table}\ndelete table inet {table}\n")
        if rules:
            lines = "\n".join(rules)
            self.nft(f"table inet {table} {{\n{extra}\nchain forward {{\n"
                     f"type filter hook forward priority 0;\n{lines}\n}}\n}}\n")

    def socket(self, family=socket.AF_INET, kind=socket.SOCK_STREAM, proto=0):
        with self.inside():
            return socket.socket(family, kind, proto)

    def bound_socket(self, family, timeout=5):
        """A TCP socket of eth0 only."""
        s = self.socket(family)
        s.settimeout(timeout)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0\0")
        return s

    def listen(self, port, addr=None, backlog=128):
        """A TCP socket that listens at all addresses of one family (addr: one of it)."""
        six = addr is not None and ":" in addr
        s = self.socket(socket.AF_INET6 if six else socket.AF_INET)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if six:
            s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        s.bind((addr or "0.0.0.0", port))
        s.listen(backlog)
        s.settimeout(10)
        return s

    def connect(self, addr, port, timeout=10):
        s = self.socket(socket.AF_INET6 if ":" in addr else socket.AF_INET)
        s.settimeout(timeout)
        try:
            s.connect((addr, port))
        except BaseException:
            s.close()
            raise
        return s

    def wait_listening(self, port, timeout=10):
        wait_for(lambda: self.has_listener(port), timeout, f"{self.short}: listening at {port}")

    def offload(self, on, dev="eth0"):
        """Checksums and segmentation by the "device"; off for captures of what a wire would see."""
        self.run("ethtool", "-K", dev, *sum(([f, "on" if on else "off"]
                 for f in ("tx", "tso", "gso", "gro")), []))

    def pids(self):
        return [int(p) for p in _run_root("ip", "netns", "pids", self.name, check=False).split()
                if p.isdigit()]

    # --- tcpcrypt-ns ---

    def tcns(self, verb, *args, check=True, timeout=20, target=None, env=None):
        """Runs a verb for this namespace from outside it. env: variables on top of ours."""
        argv = [binary(), verb, "--netns", target or self.name, *map(str, args)]
        r = subprocess.run(argv, stdin=subprocess.DEVNULL, text=True, timeout=timeout,
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                           env={**os.environ, **(env or {})})
        if check and r.returncode != 0:
            raise Failure(f"{' '.join(argv)}: exit {r.returncode}\n{r.stdout}{r.stderr}")
        return r

    def log_path(self):
        return self.lab.file(f"{self.short}.daemon.log")

    def forbid_programs(self):
        """From the next up() on: without the device that its programs would hand packets to, the
        daemon uses chains and packet sockets, as on older kernels."""
        self.ip("tuntap", "add", "tcpcrypt1", "mode", "tun")

    def allow_programs(self):
        self.ip("link", "del", "tcpcrypt1")

    def up(self, *args, **kwargs):
        if "--bypass" not in args:
            args += ("--bypass", "none")
        return self.tcns("up", "--log", self.log_path(), *args, **kwargs)

    def down(self, **kwargs):
        return self.tcns("down", **kwargs)

    def sessions(self):
        """Return: list of dicts, as sessions --json prints them."""
        return json.loads(self.tcns("sessions", "--json").stdout)["sessions"]

    def sessions_ended(self):
        return json.loads(self.tcns("sessions", "--json", "--ended").stdout)["sessions"]

    def counters(self):
        return json.loads(self.tcns("status", "--json").stdout)["counters"]

    def _links(self, what):
        # ip says so when a namespace that it goes through, anybody's, vanishes meanwhile.
        return self.ip(what).replace("Error: Peer netns reference is invalid.\n", "")

    def snapshot(self):
        """What up changes and down must put back, as text."""
        return {
            "rule": self.ip("rule"), "rule6": self.ip("-6", "rule"),
            "route": self.ip("route", "show", "table", "all"),
            "route6": self.ip("-6", "route", "show", "table", "all"),
            "nft": self.run("nft", "list", "ruleset").stdout,
            "link": self._links("link"), "addr": self._links("addr"),
        }


class Lab:
    def __init__(self):
        if os.geteuid() != 0:
            raise Skip("needs root")
        self.dir = tempfile.mkdtemp(prefix="tcns-lab-")
        self.procs, self.spaces, self.sockets = [], [], []
        self.links = 0
        _labs.append(self)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def file(self, name):
        return os.path.join(self.dir, name)

    def preload(self, source):
        """Builds a library that stands between a program and the kernel. Return: the environment
        that loads it."""
        library = self.file("preload.so")
        subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
        return {"LD_PRELOAD": library, "ASAN_OPTIONS": "verify_asan_link_order=0"}

    def ns(self, name):
        n = Ns(self, name)
        self.spaces.append(n)
        return n

    def veth(self, a, a_if, b, b_if, mtu=1500):
        # Ends with the same number come up a second late: see exec_link.c.
        self.links += 1
        _run_root("ip", "-n", a.name, "link", "add", "name", a_if, "index", str(500 + self.links),
                  "mtu", str(mtu), "type", "veth",
                  "peer", "name", b_if, "mtu", str(mtu), "netns", b.name)
        a.ip("link", "set", a_if, "up")
        b.ip("link", "set", b_if, "up")

    def neighbours(self):
        """Two hosts on one link, with global addresses, IPv4 and IPv6."""
        hosts = a, b = self.ns("a"), self.ns("b")
        for i, h in enumerate(hosts, 1):
            h.ip4, h.ip6 = f"10.78.0.{i}", f"fd78::{i}"
        self.join(a, b)
        return hosts

    def join(self, a, b):
        """The link of neighbours; once more, where it was deleted."""
        self.veth(a, "eth0", b, "eth0")
        for h in (a, b):
            h.ip("addr", "add", f"{h.ip4}/24", "dev", "eth0")
            h.ip("addr", "add", f"{h.ip6}/64", "dev", "eth0", "nodad")
            h.ip("route", "add", "default", "via", "10.78.0.254")
            h.ip("-6", "route", "add", "default", "via", "fd78::254")

    def star(self, *names, mtu=1500):
        """A router r and hosts around it, each in a subnet of its own, IPv4 and IPv6."""
        r = self.ns("r")
        r.sysctl("net.ipv4.ip_forward", 1)
        r.sysctl("net.ipv6.conf.all.forwarding", 1)
        hosts = [self.ns(n) for n in names]
        for i, h in enumerate(hosts, 1):
            h.ip4, h.ip6, h.peer_if = f"10.77.{i}.2", f"fd77:{i}::2", f"to-{h.short}"
            self.veth(r, h.peer_if, h, "eth0", mtu)
            r.ip("addr", "add", f"10.77.{i}.1/24", "dev", h.peer_if)
            r.ip("addr", "add", f"fd77:{i}::1/64", "dev", h.peer_if, "nodad")
            h.ip("addr", "add", f"{h.ip4}/24", "dev", "eth0")
            h.ip("addr", "add", f"{h.ip6}/64", "dev", "eth0", "nodad")
            h.ip("route", "add", "default", "via", f"10.77.{i}.1")
            h.ip("-6", "route", "add", "default", "via", f"fd77:{i}::1")
        return [r, *hosts]

    def pair(self, *opts):
        """Two containers of ours with a router between. Return: router, a, b."""
        r, a, b = self.star("a", "b")
        a.up(*opts)
        b.up(*opts)
        return r, a, b

    def logs(self):
        """Tails of what daemons and processes said, for a failed test."""
        text = ""
        for name in sorted(os.listdir(self.dir)):
            if not name.endswith((".log", ".err")):
                continue
            with open(self.file(name), "rb") as f:
                lines = f.read()[-20000:].decode(errors="replace").splitlines()
            if lines:
                text += f"--- {name}\n" + "\n".join(lines[-25:]) + "\n"
        return text

    def close(self):
        if self not in _labs:
            return
        _labs.remove(self)
        for p in self.procs:
            if p.poll() is None:
                p.kill()
        for p in self.procs:
            p.wait()
        for s in self.spaces:
            self._end(s)
        for s in self.spaces:
            _run_root("ip", "netns", "del", s.name, check=False)
        shutil.rmtree(self.dir, ignore_errors=True)

    @staticmethod
    def _end(space):
        """No process may keep the namespace alive."""
        with contextlib.suppress(Exception):
            if space.pids():
                space.tcns("down", check=False, timeout=5)
        deadline = time.monotonic() + 3
        while (pids := space.pids()) and time.monotonic() < deadline:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)


def close_all():
    for lab in list(_labs):
        lab.close()


def _on_signal(signo, _frame):
    sys.exit(128 + signo)


atexit.register(close_all)
for _sig in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(_sig, _on_signal)
