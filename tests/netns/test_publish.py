# SPDX-License-Identifier: BSD-3-Clause
"""netns, and --publish of netns and exec: a namespace for services, reached from outside."""
import os
import signal
import socket
import sys

import tap
from lab import Ns, binary, expect, expect_eq, wait_for
from test_exec import gone, start, state

ECHO = """
import socket, sys
six = ":" in sys.argv[1]
s = socket.create_server((sys.argv[1], int(sys.argv[2])), family=socket.AF_INET6 if six else socket.AF_INET)
print("listening", flush=True)
while True:
    c, addr = s.accept()
    c.sendall(addr[0].encode() + b" " + c.recv(100))
    c.close()
"""


class Space(Ns):
    """A namespace that tcpcrypt-ns netns makes on the host h."""

    def __init__(self, lab, h, *args, name="space"):
        self.lab, self.short, self.host, self.args = lab, name, h, args
        self.name = f"tcns{os.getpid()}-{name}"
        self.path = f"/run/netns/{self.name}"
        lab.spaces.append(self)  # it is removed at the end, whatever happens

    def provide(self):
        self.proc = self.host.popen(binary(), "netns", "-v", *self.args, self.name)
        wait_for(lambda: "ready" in self.proc.out() or self.proc.poll() is not None, 10, "ready")
        expect_eq((self.proc.poll(), self.proc.out()), (None, f"{self.name}: ready\n"),
                  self.proc.err())
        return self

    def serve(self, port, addr="0.0.0.0"):
        p = self.popen(sys.executable, "-c", ECHO, addr, port)
        wait_for(lambda: "listening" in p.out(), 10, "a server")


def ask(ns, addr, port):
    """What a server says of one connection: the peer's address and what it sent."""
    with ns.connect(addr, port) as c:
        c.sendall(b"hello")
        return c.recv(200).decode()


def ask_encrypted(ns, addr, port):
    """The same of a namespace that is attached: the connection must be encrypted."""
    with ns.connect(addr, port) as c:
        wait_for(lambda: [x["state"] for x in ns.sessions()] == ["encrypted"], 2, "encrypted")
        c.sendall(b"hello")
        return c.recv(200).decode()


def refused(ns, addr, port, timeout=1):
    try:
        ns.connect(addr, port, timeout).close()
    except OSError:
        return True
    return False


def test_services_in_a_namespace(lab):
    """Out, in by published ports with true addresses, encrypted both ways; no trace after."""
    _, h, b = lab.star("h", "b")
    b.up()
    before = state(h)
    s = Space(lab, h, "--publish", "7000", "--publish", "7001:7000", "--publish",
              f"{h.ip4}:7002:7000", "--publish", "7003/udp").provide()
    s.up()
    s.serve(7000)
    s.serve(7000, "::")
    for port in (7000, 7001, 7002):
        expect_eq(ask_encrypted(b, h.ip4, port), f"{b.ip4} hello")
    for port in (7000, 7001):
        expect_eq(ask_encrypted(b, h.ip6, port), f"{b.ip6} hello")
    expect(refused(b, h.ip6, 7002), "published at an IPv4 address only")
    expect(refused(b, h.ip4, 7003), "published for UDP only")
    # The host itself reaches it too, by the address that others use.
    expect_eq(ask(h, h.ip4, 7000).split()[1], "hello")
    expect(refused(h, "127.0.0.1", 7000), "not on the host's loopback")
    # UDP
    with s.socket(socket.AF_INET, socket.SOCK_DGRAM) as u, \
            b.socket(socket.AF_INET, socket.SOCK_DGRAM) as c:
        u.bind(("0.0.0.0", 7003))
        u.settimeout(5)
        c.settimeout(5)
        c.sendto(b"question", (h.ip4, 7003))
        data, peer = u.recvfrom(100)
        expect_eq((data, peer[0]), (b"question", b.ip4))
        u.sendto(b"answer", peer)
        expect_eq(c.recvfrom(100), (b"answer", (h.ip4, 7003)))
    # Outbound: translated to the host's address.
    with b.listen(7100) as listener:
        with s.connect(b.ip4, 7100) as c:
            peer, addr = listener.accept()
            with peer:
                expect_eq(addr[0], h.ip4)
                c.sendall(b"x")
                expect_eq(peer.recv(1), b"x")
                expect_eq(s.sessions()[-1]["state"], "encrypted")
    s.down()
    expect_eq(s.proc.stop(), 0, s.proc.err())
    expect(not os.path.exists(s.path), "the name is gone")
    for p in lab.procs:  # servers that still hold the namespace
        p.stop(signal.SIGKILL)
    gone(h, before)


def test_killed_and_provided_again(lab):
    """What lives in the namespace is not stranded."""
    _, h, b = lab.star("h", "b")
    b.up()
    before = state(h)
    s = Space(lab, h, "--publish", "7000").provide()
    s.up()
    s.serve(7000)
    inode = os.stat(s.path).st_ino
    expect_eq(ask(b, h.ip4, 7000), f"{b.ip4} hello")
    s.proc.kill()
    s.proc.wait()
    # Another exec does not take it for a leftover of its own kind.
    expect_eq(start(h, "true").wait(20), 0)
    expect_eq(ask(b, h.ip4, 7000), f"{b.ip4} hello")
    s.provide()
    expect_eq(os.stat(s.path).st_ino, inode, "the same namespace")

    def again():
        try:
            return ask(b, h.ip4, 7000) == f"{b.ip4} hello"
        except OSError:
            return False

    wait_for(again, 10, "the server is reached again")
    b.tcns("cache", "--flush")  # a SYN that was lost meanwhile
    expect_eq(ask_encrypted(b, h.ip4, 7000), f"{b.ip4} hello")
    # Killed for good: --remove takes it all away, and says so.
    s.proc.kill()
    s.proc.wait()
    s.down()
    for p in lab.procs:
        p.stop(signal.SIGKILL)
    r = h.run(binary(), "netns", "--remove", s.name)
    expect_eq(r.stdout, f"{s.name}: what a killed one left is removed\n")
    expect(not os.path.exists(s.path), "the name is gone")
    r = h.run(binary(), "netns", "--remove", s.name)
    expect_eq(r.stdout, f"{s.name}: was not there\n")
    gone(h, before)


def test_what_is_refused(lab):
    _, h, b = lab.star("h", "b")
    before = state(h)
    s = Space(lab, h).provide()

    def fails(code, words, *args):
        r = h.run(binary(), "netns", *args, check=False)
        expect_eq(r.returncode, code, r.stderr)
        expect(words in r.stderr, f"{words!r} is not said", r.stderr)

    fails(1, "another process provides", s.name)
    fails(1, "another process provides", "--remove", s.name)
    expect(os.path.exists(s.path), "the living one stays")
    fails(1, f'there is a namespace "{b.name}" already', b.name)
    expect(os.path.exists(b.path), "somebody else's stays")
    fails(2, "which name?")
    fails(2, "one operand is enough", "a", "b")
    for name in ("", ".", "..", "a/b", "self", "x" * 201):
        fails(2, "cannot be the name of a namespace", name)
    fails(2, "is not [ADDRESS:]PORT", "--publish", "http", "x")
    fails(2, "published already", "--publish", "80", "--publish", "80:81", "x")
    r = h.run("setpriv", "--reuid", "65534", "--clear-groups", binary(), "netns", "x", check=False)
    expect_eq(r.returncode, 4, r.stderr)
    s.proc.stop()
    gone(h, before)


def test_exec_publishes(lab):
    _, h, b = lab.star("h", "b")
    b.up()
    before = state(h)
    p = start(h, sys.executable, "-c", ECHO, "0.0.0.0", "7000", opts=("--publish", "7010:7000"))
    wait_for(lambda: "listening" in p.out() or p.poll() is not None, 10, "a server")
    expect_eq(ask_encrypted(b, h.ip4, 7010), f"{b.ip4} hello")
    expect(refused(b, h.ip4, 7000), "no other port")
    p.stop()
    gone(h, before)


if __name__ == "__main__":
    tap.main()
