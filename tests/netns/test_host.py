# SPDX-License-Identifier: BSD-3-Clause
"""A whole host: its own services, what it forwards for containers, and its rules stay as they were.

The host is a namespace h with an uplink, sshd and nginx that run before, its own packet filter, and a
container c behind it: c's addresses are translated to h's, and a port of c is published at h. p is a
peer that is attached, q one that is not.
"""
import contextlib
import json
import os
import signal
import subprocess

import tap
from lab import binary, expect, expect_eq, wait_for
from programs import curl, nginx, random_file, ssh_argv, sshd

RULES = """
table inet filter {
  chain input { type filter hook input priority 0; policy accept;
    ct state established,related accept
    ct state invalid counter drop
    iifname "eth0" tcp dport 9 counter drop
  }
  chain forward { type filter hook forward priority 0; policy drop;
    ct state established,related accept
    iifname "br0" accept
    oifname "br0" accept
  }
}
table ip nat {
  chain prerouting { type nat hook prerouting priority -100;
    iifname != "br0" fib daddr type local tcp dport 8080 dnat to 10.99.0.2:80
  }
  chain postrouting { type nat hook postrouting priority 100;
    oifname "eth0" ip saddr 10.99.0.0/24 masquerade
  }
}
table ip6 nat {
  chain postrouting { type nat hook postrouting priority 100;
    oifname "eth0" ip6 saddr fd99::/64 masquerade
  }
}
"""


def world(lab):
    """Return: h, c, p, q; p is attached."""
    r, h, p, q = lab.star("h", "p", "q")
    c = lab.ns("c")
    h.ip("link", "add", "br0", "type", "bridge")
    h.ip("addr", "add", "10.99.0.1/24", "dev", "br0")
    h.ip("addr", "add", "fd99::1/64", "dev", "br0", "nodad")
    h.ip("link", "set", "br0", "up")
    lab.veth(h, "port0", c, "eth0")
    h.ip("link", "set", "port0", "master", "br0")
    c.ip("addr", "add", "10.99.0.2/24", "dev", "eth0")
    c.ip("addr", "add", "fd99::2/64", "dev", "eth0", "nodad")
    c.ip("route", "add", "default", "via", "10.99.0.1")
    c.ip("-6", "route", "add", "default", "via", "fd99::1")
    c.ip4, c.ip6 = "10.99.0.2", "fd99::2"
    # p knows the way to c as it is; q sees what is translated only.
    r.ip("route", "add", "10.99.0.0/24", "via", h.ip4)
    h.sysctl("net.ipv4.ip_forward", 1)
    h.sysctl("net.ipv6.conf.all.forwarding", 1)
    h.nft(RULES)
    p.up()
    return h, c, p, q


def up(h, *args):
    """As on a host: from inside, "self"."""
    h.run(binary(), "up", "--netns", "self", "--log", h.log_path(), *args)


def down(h):
    h.run(binary(), "down", "--netns", "self")


def exchange(a, b):
    a.sendall(b"ping")
    expect_eq(b.recv(100), b"ping")
    b.sendall(b"pong")
    expect_eq(a.recv(100), b"pong")


def connected(stack, client, server, addr, port):
    """Return: the client's socket, the server's, and what the server sees as the peer."""
    listener = stack.enter_context(server.listen(port, "::" if ":" in addr else None))
    c = stack.enter_context(client.connect(addr, port))
    s, peer = listener.accept()
    s.settimeout(10)
    stack.enter_context(s)
    exchange(c, s)
    return c, s, peer[0]


def state_of(ns, **want):
    """The state of the one session with these values."""
    found = [s for s in ns.sessions() if all(s[k] == v for k, v in want.items())]
    expect_eq(len(found), 1, f"sessions with {want}")
    return found[0]["state"]


def counters_left_out(text):
    return "\n".join(line.split("counter")[0] for line in text.splitlines())


def test_a_host_goes_on_as_before(lab):
    h, c, p, q = world(lab)
    key = sshd(h, 22)
    page = random_file(lab.file("page"), 300000)
    root = os.path.dirname(page)
    nginx(h, 8000, root)
    with contextlib.ExitStack() as stack:
        # Before: one from here, one to here, one translated, one forwarded as it is, IPv6 too.
        older = [connected(stack, h, q, q.ip4, 7000), connected(stack, q, h, h.ip4, 7001),
                 connected(stack, c, q, q.ip4, 7002), connected(stack, c, q, q.ip6, 7003),
                 connected(stack, p, c, c.ip4, 7004)]
        expect_eq(older[2][2], h.ip4, "translated")
        expect_eq(older[4][2], p.ip4, "not translated")
        login = subprocess.Popen(p.argv(ssh_argv(key, h.ip4, 22, "cat")), stdin=subprocess.PIPE,
                                 stdout=subprocess.PIPE)
        stack.callback(login.kill)
        login.stdin.write(b"one\n")
        login.stdin.flush()
        expect_eq(login.stdout.readline(), b"one\n")
        before = h.snapshot()
        up(h)
        for a, b, _ in older:
            exchange(a, b)
        login.stdin.write(b"two\n")
        login.stdin.flush()
        expect_eq(login.stdout.readline(), b"two\n")

        # What the host itself opens and serves is encrypted.
        connected(stack, h, p, p.ip4, 7100)
        expect_eq(state_of(h, peer_port=7100), "encrypted")
        connected(stack, p, h, h.ip6, 7101)
        expect_eq(state_of(h, local_port=7101), "encrypted")
        r = curl(p, f"http://{h.ip4}:8000/page")
        expect(r.stdout == open(page, "rb").read(), "nginx serves", r.stderr)
        r = p.run(*ssh_argv(key, h.ip4, 22, "echo", "there"))
        expect_eq(r.stdout, "there\n")
        connected(stack, h, q, q.ip4, 7102)
        expect_eq(state_of(h, peer_port=7102), "clear")

        # What it forwards is left alone: translated, as it is, both families, both directions.
        cnt = len(h.sessions())
        for n, (client, server, addr, seen) in enumerate((
                (c, q, q.ip4, h.ip4), (c, q, q.ip6, h.ip6), (c, p, p.ip4, h.ip4),
                (p, c, c.ip4, p.ip4))):
            expect_eq(connected(stack, client, server, addr, 7200 + n)[2], seen)
        expect_eq(len(h.sessions()), cnt, "forwarded connections are none of ours")
        nginx(q, 8000, root)
        r = curl(c, f"http://{q.ip4}:8000/page")
        expect(r.stdout == open(page, "rb").read(), "a download of a container", r.stderr)
        # A container's connection to a dead port is refused at once, not silently dropped.
        with contextlib.suppress(ConnectionRefusedError):
            c.connect(q.ip4, 7999, 2).close()
            expect(False, "somebody listens at a dead port")
        down(h)
        for a, b, _ in older:
            exchange(a, b)
        login.stdin.write(b"three\n")
        login.stdin.flush()
        expect_eq(login.stdout.readline(), b"three\n")
        after = h.snapshot()
        after["nft"], before["nft"] = (counters_left_out(x["nft"]) for x in (after, before))
        expect_eq(after, before, "after down")


def test_a_published_port_is_bypassed(lab):
    """What the host's own rules lead to a container must be left to the kernel."""
    h, c, p, q = world(lab)
    up(h, "--bypass", "default,8080")
    with c.listen(80) as listener, p.connect(h.ip4, 8080) as client:
        server, peer = listener.accept()
        with server:
            expect_eq(peer[0], p.ip4)
            exchange(client, server)
    # Without that its SYN comes out of the tunnel and goes nowhere: not in clear to the container.
    down(h)
    up(h)
    with c.listen(80) as listener:
        listener.settimeout(1)
        with contextlib.suppress(TimeoutError):
            p.connect(h.ip4, 8080, 1).close()
            expect(False, "connected")
        with contextlib.suppress(TimeoutError):
            listener.accept()
            expect(False, "a SYN reached the container")
    down(h)


def test_forwarding_that_begins_later(lab):
    """A container engine starts on a host that is attached already, and ends again."""
    h, c, p, q = world(lab)
    h.sysctl("net.ipv4.ip_forward", 0)
    h.sysctl("net.ipv6.conf.all.forwarding", 0)
    up(h)

    def notes():
        return "set forwarded " in h.run("nft", "list", "ruleset").stdout

    expect(not notes(), "nothing is noted where nothing is forwarded")
    h.sysctl("net.ipv4.ip_forward", 1)
    wait_for(notes, 5, "forwarding is followed")
    with contextlib.ExitStack() as stack:
        expect_eq(connected(stack, c, q, q.ip4, 7000)[2], h.ip4)
    h.sysctl("net.ipv4.ip_forward", 0)
    wait_for(lambda: not notes(), 5, "and its end")
    down(h)


def test_killed(lab):
    """The host's own TCP is closed, what it forwards goes on; the next up puts it right."""
    h, c, p, q = world(lab)
    before = h.snapshot()
    up(h)
    pids = [json.loads(h.tcns("status", "--json").stdout)[k] for k in ("pid", "worker_pid")]
    with contextlib.ExitStack() as stack:
        forwarded = connected(stack, c, q, q.ip4, 7000)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        wait_for(lambda: "tcpcrypt0" not in h.ip("link"), 5, "the device is gone")
        with contextlib.suppress(OSError):
            h.connect(p.ip4, 7001, 2).close()
            expect(False, "the host's TCP is open")
        exchange(*forwarded[:2])
        connected(stack, c, q, q.ip4, 7002)
        up(h)
        exchange(*forwarded[:2])
        connected(stack, h, p, p.ip4, 7003)
        expect_eq(state_of(h, peer_port=7003), "encrypted")
        down(h)
        exchange(*forwarded[:2])
    after = h.snapshot()
    after["nft"], before["nft"] = (counters_left_out(x["nft"]) for x in (after, before))
    expect_eq(after, before, "after down")


if __name__ == "__main__":
    tap.main()
