# SPDX-License-Identifier: BSD-3-Clause
"""What programs and chains leave to be seen, and connections that go on while one takes the other's place."""
import contextlib
import json
import os
import signal
import socket
import threading

import tcx
from lab import Failure, binary, expect, expect_eq, wait_for

MARK = b"plaintext of hooks that must not be seen on any wire! "
OURS = {"ingress": "tcpcrypt_in", "egress": "tcpcrypt_out"}


# --- What is set up --------------------------------------------------------------------

def names(ns, dev="eth0"):
    return {hook: [name for name, _ in tcx.programs(ns, hook, dev)] for hook in tcx.HOOKS}


def ids(ns, dev="eth0"):
    """Of our programs."""
    return {i for hook, ours in OURS.items()
            for name, i in tcx.programs(ns, hook, dev) if name == ours}


def form(ns, dev="eth0"):
    """Return: "programs", "chains", "nothing"; or all there is to see when it is neither."""
    programs = names(ns, dev)
    tables = ns.run("nft", "list", "tables").stdout
    chains = "table netdev tcpcrypt-ns" in tables
    ruleset = ns.run("nft", "list", "ruleset").stdout if "tcpcrypt-ns" in tables else ""
    guarded = "reject with tcp reset" in ruleset
    seen = {hook: [n for n in found if n.startswith("tcpcrypt")] for hook, found in programs.items()}
    if seen == {hook: [name] for hook, name in OURS.items()} and not chains and not guarded:
        return "programs"
    if not any(seen.values()):
        if chains and guarded:
            return "chains"
        if "tcpcrypt-ns" not in tables:
            return "nothing"
    return seen, tables, guarded


def wait_form(ns, want, timeout=5):
    seen = []

    def is_so():
        seen[:] = [form(ns)]
        return seen[0] == want

    try:
        wait_for(is_so, timeout)
    except Failure:
        expect_eq(seen[0], want, f"not within {timeout} s")


def status(ns):
    return json.loads(ns.tcns("status", "--json").stdout)


def devices(ns):
    with ns.inside():
        return {name for _, name in socket.if_nameindex()}


# --- Connections -----------------------------------------------------------------------

_port = 7000


def next_port():
    global _port
    _port += 1
    return _port


def exchange(c, s):
    for x, y in ((c, s), (s, c)):
        x.sendall(MARK)
        got = b""
        while len(got) < len(MARK):
            chunk = y.recv(100)
            expect(chunk, "bytes, not an end")
            got += chunk
        expect_eq(got, MARK)


@contextlib.contextmanager
def connected(client, server, addr, port=None, timeout=5):
    port = port or next_port()
    with server.listen(port, "::" if ":" in addr else None) as listener, \
            client.connect(addr, port, timeout) as c:
        listener.settimeout(timeout)
        s, _ = listener.accept()
        s.settimeout(timeout)
        with s:
            exchange(c, s)
            yield c, s


def state_at(ns, port):
    found = [x["state"] for x in ns.sessions() if port in (x["local_port"], x["peer_port"])]
    return found[0] if len(found) == 1 else found


def expect_encrypted(a, b, families=("ip4", "ip6")):
    """New connections of both families and directions."""
    for family in families:
        for client, server in ((a, b), (b, a)):
            port = next_port()
            with connected(client, server, getattr(server, family), port):
                expect_eq(state_at(a, port), "encrypted", (client.short, family))


class Echoed:
    """A connection that moves data to the peer and back, until closed; every byte is looked at."""

    def __init__(self, client, server, addr):
        self.port = next_port()
        self.listener = server.listen(self.port, "::" if ":" in addr else None)
        self.c = client.connect(addr, self.port)
        self.s, _ = self.listener.accept()
        for sock in (self.c, self.s):
            sock.settimeout(10)
        self.verified, self.sent, self.error = 0, 0, None
        self._stop = threading.Event()
        self._data = os.urandom(65536) * 2
        self._threads = [threading.Thread(target=self._run, args=(fn,), daemon=True)
                         for fn in (self._send, self._echo, self._verify)]
        for t in self._threads:
            t.start()

    def _run(self, fn):
        try:
            fn()
        except (OSError, Failure) as e:
            self.error = self.error or e

    def _send(self):
        while not self._stop.wait(0.002):
            at = self.sent % 65536
            self.c.sendall(self._data[at:at + 8000])
            self.sent += 8000
        self.c.shutdown(socket.SHUT_WR)

    def _echo(self):
        while chunk := self.s.recv(65536):
            self.s.sendall(chunk)
        self.s.shutdown(socket.SHUT_WR)

    def _verify(self):
        while chunk := self.c.recv(65536):
            at = self.verified % 65536
            expect(chunk == self._data[at:at + len(chunk)], "byte for byte", self.verified)
            self.verified += len(chunk)

    def moves(self, what):
        before = self.verified
        wait_for(lambda: self.error or self.verified > before + 100_000, 10, f"data moves: {what}")
        expect(not self.error, f"the connection goes on: {what}", self.error)

    def __enter__(self):
        return self

    def __exit__(self, kind, *exc):
        self._stop.set()
        for t in self._threads:
            t.join(10)
        for sock in (self.c, self.s, self.listener):
            sock.close()
        if kind is None:
            expect(not self.error, "to its end", self.error)
            expect_eq(self.verified, self.sent, "all came back")


def no_plaintext(*captures):
    for cap in captures:
        cap.stop()
        expect(not cap.has_bytes(MARK[:32]), "plaintext on the wire")


def link(lab, *opts):
    """a, attached, and b on one link: the kernel takes a bound socket's IPv4 peer for a neighbour."""
    a, b = lab.neighbours()
    a.up(*opts)
    expect_eq(form(a), "programs")
    return a, b


def both_families(a, b):
    return ((socket.AF_INET, a.ip4, b.ip4, None), (socket.AF_INET6, a.ip6, b.ip6, "::"))


def kill_both(ns):
    now = status(ns)
    os.kill(now["pid"], signal.SIGSTOP)  # so that it cannot replace the worker in between
    for pid in (now["worker_pid"], now["pid"]):
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not ns.pids() and not {"tcpcrypt0", "tcpcrypt1"} & devices(ns), 5,
             "processes and devices are gone")


def powerless(ns, verb, *args, check=True):
    """A verb without CAP_SYS_ADMIN, from inside."""
    return ns.run("setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin", binary(), verb,
                  "--netns", "self", *args, check=check)
