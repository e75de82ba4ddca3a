# SPDX-License-Identifier: BSD-3-Clause
"""libtcpcrypt on real connections: what it says is so at both ends, what it sets has its effect;
and the example programs, with somebody in the middle."""
import contextlib
import errno
import json
import os
import select
import socket
import threading

import tap
import tcpcrypt
from lab import expect, expect_eq, wait_for
from wire import OPT_ENO, SYN, Capture

GLOBAL_A = 2  # RFC 8547 4.2


@contextlib.contextmanager
def connection(a, b, addr, port, prepare=None, prepare_listener=None):
    """prepare: is given the socket that is about to connect."""
    family = socket.AF_INET6 if ":" in addr else socket.AF_INET
    with b.listen(port, addr) as listener, a.socket(family) as c:
        c.settimeout(10)
        if prepare:
            with a.inside():
                prepare(c)
        if prepare_listener:
            with b.inside():
                prepare_listener(listener)
        c.connect((addr, port))
        s, _ = listener.accept()
        with s:
            s.settimeout(10)
            yield c, s


def both(a, b, c, s):
    """Return: what each end's library says when it is negotiated."""
    with a.inside():
        tcpcrypt.wait(c)
        x = tcpcrypt.info(c)
    with b.inside():
        tcpcrypt.wait(s)
        y = tcpcrypt.info(s)
    return x, y


# --- What a connection is -------------------------------------------------------------------


def test_session_id_and_role(lab):
    _, a, b = lab.pair()
    for addr in (b.ip4, b.ip6):
        with connection(a, b, addr, 80) as (c, s):
            x, y = both(a, b, c, s)
            expect_eq((x.state, y.state), (tcpcrypt.ENCRYPTED, tcpcrypt.ENCRYPTED))
            expect_eq((len(x.id), x.id), (33, y.id))
            expect_eq((x.role, y.role), (tcpcrypt.ROLE_A, tcpcrypt.ROLE_B))
            expect_eq((x.inbound, y.inbound), (0, 1))
            shown = json.loads(a.tcns("sessions", "--json").stdout)["sessions"]
            expect_eq([t["session_id"] for t in shown if t["peer"] == addr], [x.id.hex()])
            with a.inside():
                expect_eq(tcpcrypt.getsockopt(c, tcpcrypt.SESSID, 100), x.id)
                expect_eq(tcpcrypt.getsockopt(c, tcpcrypt.APP_SUPPORT, 34), b"\0" + x.id)
                expect_eq(tcpcrypt.getsockopt(c, tcpcrypt.ENABLE, 4), b"\1\0\0\0")
                expect_eq(tcpcrypt.getsessid(addr, 80), x.id.hex().upper())
                local = c.getsockname()
                expect_eq(tcpcrypt.getsessid(addr, 80, local[0], local[1]), x.id.hex().upper())
                expect_eq(tcpcrypt.fails("getsessid", addr.encode(), 81, None, 0), "ENOENT")


def test_ipv4_on_an_ipv6_socket(lab):
    _, a, b = lab.pair()
    with b.socket(socket.AF_INET6) as listener, a.socket(socket.AF_INET6) as c:
        listener.bind(("::", 80))
        listener.listen()
        c.connect((f"::ffff:{b.ip4}", 80))
        s, _ = listener.accept()
        with s:
            x, y = both(a, b, c, s)
            expect_eq(x.id, y.id)
            expect_eq(x.state, tcpcrypt.ENCRYPTED)


def test_no_session_id(lab):
    """There is none, and each time the error says why."""
    _, a, b = lab.star("a", "b")
    with a.inside(), a.socket() as c:
        expect_eq(tcpcrypt.fails("set_policy", c, tcpcrypt.OFF), "ECONNREFUSED", "no daemon")
    a.up("--bypass", "443")
    with a.inside(), a.socket() as c:
        expect_eq(tcpcrypt.fails("wait", c, 1000), "ENOTCONN")
    with connection(a, b, b.ip4, 80) as (c, s), a.inside():
        expect_eq(tcpcrypt.wait(c), tcpcrypt.CLEAR)
        expect_eq(tcpcrypt.info(c).reason, "peer-no-eno")
        expect_eq(tcpcrypt.info(c).id, b"")
        try:
            tcpcrypt.getsockopt(c, tcpcrypt.SESSID, 33)
            expect(False, "a session ID in clear")
        except tcpcrypt.Error as e:
            expect_eq(e.errno, errno.ENODATA)
        expect_eq(tcpcrypt.getsockopt(c, tcpcrypt.ENABLE, 4), bytes(4))
        expect_eq(tcpcrypt.fails("mark_authenticated", c), "ENODATA")
    for addr, port in ((a.ip4, 80), ("127.0.0.1", 80), ("::1", 80)):
        with connection(a, a, addr, port) as (c, s), a.inside():
            expect_eq(tcpcrypt.fails("wait", c, 1000), "ENOENT", f"of its own: {addr}")
    with connection(a, b, b.ip4, 443) as (c, s), a.inside():
        expect_eq(tcpcrypt.fails("wait", c, 1000), "ENOENT", "bypassed")
    with connection(a, b, b.ip4, 80) as (c, s):
        with b.inside():
            expect_eq(tcpcrypt.fails("wait", s, 1000), "ECONNREFUSED", "no daemon at b")
        a.down()
        with a.inside():
            expect(tcpcrypt.fails("wait", c, 1000) in ("ECONNREFUSED", "ENOTCONN"), "and now at a")


def test_wait_for_a_connect_under_way(lab):
    """Until the peer's link comes up."""
    _, a, b = lab.pair()
    with b.listen(80) as listener, a.socket() as c:
        b.ip("link", "set", "eth0", "down")
        c.setblocking(False)
        expect_eq(c.connect_ex((b.ip4, 80)), errno.EINPROGRESS)
        with a.inside():
            expect_eq(tcpcrypt.fails("wait", c, 200), "ETIMEDOUT")
        repair = threading.Timer(0.1, lambda: (b.ip("link", "set", "eth0", "up"), b.ip(
            "route", "add", "default", "via", "10.77.2.1", check=False)))
        repair.start()
        with a.inside():
            expect(tcpcrypt.wait(c, 20000) != tcpcrypt.OPENING, "negotiated")
            expect_eq(len(tcpcrypt.info(c).id) == 33, tcpcrypt.info(c).state == tcpcrypt.ENCRYPTED)
        repair.join()
        listener.accept()[0].close()


def test_silence_of_the_peer(lab):
    """Encryption is agreed, but the peer's Init message does not come: that is no state, and
    waiting for it has an end."""
    r, a, b = lab.pair()
    with b.listen(80) as listener, a.socket() as c:
        c.settimeout(10)
        r.forward_rules(f"iifname {b.peer_if} tcp flags & (syn|psh) == psh drop",
                        f"iifname {b.peer_if} tcp flags & syn == 0 meta length > 100 drop")
        c.connect((b.ip4, 80))
        with a.inside():
            expect_eq(tcpcrypt.fails("wait", c, 300), "ETIMEDOUT")
            try:
                tcpcrypt.getsockopt(c, tcpcrypt.SESSID, 33)
                expect(False, "a session ID before there are keys")
            except tcpcrypt.Error as e:
                expect_eq(e.errno, errno.EINPROGRESS)
            r.forward_rules()
            expect_eq(tcpcrypt.wait(c, 20000), tcpcrypt.ENCRYPTED)
        listener.accept()[0].close()


# --- Settings ------------------------------------------------------------------------------------


def syn_options(capture, port):
    def syn():
        return [t for t in capture.tcp() if t.flag(SYN) and t.dport == port]

    return wait_for(syn, what=f"a SYN to {port}")[0].option(OPT_ENO)


def test_settings_on_the_wire(lab):
    _, a, b = lab.pair()
    for addr in (b.ip4, b.ip6):
        with Capture(b, "eth0") as capture:
            with connection(a, b, addr, 80,
                            lambda c: tcpcrypt.call("set_policy", c, tcpcrypt.OFF)) as (c, s):
                x, y = both(a, b, c, s)
                expect_eq((x.state, x.reason), (tcpcrypt.CLEAR, "socket-off"))
            with connection(a, b, addr, 81,
                            lambda c: tcpcrypt.call("set_app_aware", c, 1)) as (c, s):
                x, y = both(a, b, c, s)
                expect_eq((x.app_aware, x.peer_app_aware), (1, 0))
                expect_eq((y.app_aware, y.peer_app_aware), (0, 1))
                with b.inside():
                    expect_eq(tcpcrypt.getsockopt(s, tcpcrypt.APP_SUPPORT, 34)[0], 2)
            expect_eq(syn_options(capture, 80), None)
            expect_eq(syn_options(capture, 81)[0] & 0xe2, GLOBAL_A, "the global suboption's a bit")


def test_listener_and_ciphers(lab):
    _, a, b = lab.pair()
    with connection(a, b, b.ip6, 80, prepare_listener=lambda s: tcpcrypt.set_aeads(
            s, tcpcrypt.CHACHA20_POLY1305)) as (c, s):
        x, y = both(a, b, c, s)
        expect_eq((x.aead, y.aead), ("AEAD_CHACHA20_POLY1305",) * 2)
    with connection(a, b, b.ip4, 81, lambda c: tcpcrypt.set_aeads(
            c, tcpcrypt.AES_256_GCM)) as (c, s):
        expect_eq(both(a, b, c, s)[0].aead, "AEAD_AES_256_GCM")


def test_resumption_and_forgetting(lab):
    _, a, b = lab.pair()

    def reason(prepare=None):
        with connection(a, b, b.ip4, 80, prepare) as (c, s):
            return both(a, b, c, s)[0].reason

    expect_eq(reason(lambda c: tcpcrypt.call("set_cache", c, 0)), "full")
    expect_eq(reason(), "full", "nothing was kept before")
    expect_eq(reason(), "resumed")
    expect_eq(reason(lambda c: tcpcrypt.call("set_resume", c, 0)), "full")
    with connection(a, b, b.ip4, 80, lambda c: tcpcrypt.setsockopt(
            c, tcpcrypt.NOCACHE, 1)) as (c, s):
        both(a, b, c, s)
        with a.inside():
            expect_eq(tcpcrypt.getsockopt(c, tcpcrypt.NOCACHE, 4), b"\1\0\0\0")
    with a.inside():
        tcpcrypt.call("flush")
    with connection(a, b, b.ip4, 80) as (c, s):
        expect_eq(both(a, b, c, s)[0].reason, "full")
        with a.inside():
            tcpcrypt.call("forget", c)
    expect_eq(reason(), "full", "what that connection made was forgotten")


def test_require(lab):
    _, a, b = lab.star("a", "b")
    a.up()
    for addr in (b.ip4, b.ip6):
        try:
            with connection(a, b, addr, 80, lambda c: tcpcrypt.call("set_policy", c,
                                                                    tcpcrypt.REQUIRE)):
                expect(False, "connected in clear")
        except ConnectionRefusedError:
            pass
    b.up()
    with connection(a, b, b.ip4, 80,
                    lambda c: tcpcrypt.call("set_policy", c, tcpcrypt.REQUIRE)) as (c, s):
        expect_eq(both(a, b, c, s)[0].state, tcpcrypt.ENCRYPTED)
        with a.inside():
            expect_eq(tcpcrypt.fails("set_policy", c, tcpcrypt.OFF), "EISCONN")


def test_reset(lab):
    _, a, b = lab.pair()
    with a.inside(), a.socket() as c:
        tcpcrypt.setsockopt(c, tcpcrypt.ENABLE, 0)
        expect_eq(tcpcrypt.getsockopt(c, tcpcrypt.ENABLE, 4), bytes(4))
        tcpcrypt.setsockopt(c, tcpcrypt.RESET, 0)
        expect_eq(tcpcrypt.getsockopt(c, tcpcrypt.ENABLE, 4), b"\1\0\0\0")


USER = """
import os, socket, sys
sys.path.insert(0, sys.argv[1])
import tcpcrypt
s = socket.socket()
tcpcrypt.call("set_policy", s, tcpcrypt.REQUIRE)
s.connect((sys.argv[2], 80))
assert tcpcrypt.wait(s) == tcpcrypt.ENCRYPTED
assert tcpcrypt.fails("flush") == "EPERM", tcpcrypt.fails("flush")
tcpcrypt.call("forget", s)
if os.fork() == 0:  # the child has the socket, too
    tcpcrypt.call("mark_authenticated", s)
    os._exit(tcpcrypt.info(s).authenticated != 1)
assert os.wait()[1] == 0
print("done", flush=True)
sys.stdin.read()
"""


def as_user(a, b, *more):
    with b.listen(80) as listener:
        p = a.popen("setpriv", "--reuid", 1000, "--regid", 1000, "--clear-groups",
                    "--inh-caps=-all", *more, "/usr/bin/python3", "-c", USER,
                    os.path.dirname(os.path.abspath(__file__)), b.ip4,
                    env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"})
        wait_for(lambda: p.out() or p.poll() is not None, 15, "the user's program")
        expect_eq(p.out(), "done\n", p.err())
        listener.accept()[0].close()
        p.stop()


def test_as_any_user(lab):
    """No capability, no privilege: the owner of a socket decides for that socket."""
    _, a, b = lab.pair()
    as_user(a, b)


def test_as_root_of_a_user_namespace(lab):
    """As in a container whose users the daemon has no names for."""
    _, a, b = lab.pair()
    as_user(a, b, "unshare", "--user", "--map-root-user")


def test_other_doors(lab):
    _, a, b = lab.star("a", "b")
    path = lab.file("door")
    a.up("--ctl", path)
    b.up("--ctl", ":7777")
    try:
        with connection(a, b, b.ip4, 80) as (c, s):
            tcpcrypt.set_ctl(path)
            with a.inside():
                tcpcrypt.wait(c)
                x = tcpcrypt.info(c)
                tcpcrypt.call("mark_authenticated", c)
            tcpcrypt.set_ctl(":7777")
            with b.inside():
                expect_eq(tcpcrypt.info(s).id, x.id)
                expect_eq(tcpcrypt.fails("mark_authenticated", s), "ENOTSUP",
                          "no descriptor goes over TCP")
    finally:
        tcpcrypt.set_ctl(None)


@tap.timeout(30)
def test_many_threads_wait(lab):
    """More than the daemon has places for at a door."""
    _, a, b = lab.pair()
    ids, failures = [], []

    def use(s):
        try:
            with b.inside():
                tcpcrypt.wait(s, 10000)
                ids.append(tcpcrypt.info(s).id)
        except Exception as e:  # a thread has nobody to tell
            failures.append(repr(e))

    with b.listen(80) as listener, contextlib.ExitStack() as stack:
        for _ in range(40):
            stack.enter_context(a.connect(b.ip4, 80))
        threads = [threading.Thread(target=use, args=(stack.enter_context(listener.accept()[0]),))
                   for _ in range(40)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    expect_eq(failures, [])
    expect_eq(len(set(ids)), 40)


# --- The example -----------------------------------------------------------------------------------


def program(name):
    return os.path.join(tcpcrypt.folder(), "docs", "examples", name)


def password(lab, name, text):
    with open(lab.file(name), "w", encoding="utf-8") as f:
        f.write(text + "\n")
    return lab.file(name)


def prove(lab, a, b, addr, own="correct horse", other="correct horse", between=None):
    """Starts both programs. Return: their processes; the client's goes on until its input ends."""
    server = b.popen(program("prove_server"), 7000, password(lab, "server-secret", other))
    wait_for(lambda: server.out() or server.poll() is not None, what="the server")
    read, write = os.pipe()
    client = a.popen(program("prove_client"), addr, 7000, password(lab, "client-secret", own),
                     stdin=read)
    os.close(read)
    client.input = write
    for p in (client, server):
        wait_for(lambda p=p: "authenticated" in p.out() or p.poll() is not None, 10, "a verdict")
    return client, server


def ended(p):
    with contextlib.suppress(OSError):
        os.close(p.input)
    return p.wait(10)


def marks(ns):
    """Return: for each encrypted connection whether it is authenticated."""
    shown = json.loads(ns.tcns("sessions", "--json").stdout)["sessions"]
    return [s["authenticated"] for s in shown if "session_id" in s]


def test_example(lab):
    _, a, b = lab.pair()
    for addr in (b.ip4, b.ip6):
        client, server = prove(lab, a, b, addr)
        expect("authenticated\n" in server.out(), server.out(), server.err())
        os.write(client.input, b"a line\n")
        wait_for(lambda: client.out() == "authenticated\na line\n", what="the echo")
        expect_eq((marks(a), marks(b)), ([True], [True]))
        table = [line.split() for line in a.tcns("sessions").stdout.splitlines()[:2]]
        expect_eq(dict(zip(*table))["AUTH"], "yes", "for people, too")
        expect_eq((ended(client), server.wait(10)), (0, 0))
        wait_for(lambda: not marks(a) and not marks(b), what="no connection")


def test_example_other_password(lab):
    _, a, b = lab.pair()
    client, server = prove(lab, a, b, b.ip4, own="another")
    expect_eq((ended(client), server.wait(10)), (1, 1))
    expect_eq(client.out(), "not authenticated\n")


def test_example_never_clear(lab):
    _, a, b = lab.star("a", "b")
    a.up()
    with b.listen(7000):
        r = a.run(program("prove_client"), b.ip4, 7000, password(lab, "secret", "x"), check=False)
        expect_eq((r.returncode, r.stderr.strip()), (3, "connect: Connection refused"))
    a.down()
    r = a.run(program("prove_client"), b.ip4, 7000, lab.file("secret"), check=False)
    expect_eq((r.returncode, r.stderr.strip()),
              (3, "encryption: no tcpcrypt-ns answers in this network namespace"))


def copy(x, y, change):
    """Bytes between two sockets until either ends."""
    while True:
        for s in select.select([x, y], [], [])[0]:
            data = s.recv(65536)
            if not data:
                return
            other = y if s is x else x
            with contextlib.suppress(OSError):
                other.sendall(change(data, s is x))


class Middle:
    """Somebody between a and b who ends the encryption of each: two hosts of the attacker, one
    with b's addresses towards a, the other with a's addresses towards b. Each has a tcpcrypt-ns
    of its own; a program carries the clear text from one to the other."""

    def __init__(self, lab, family):
        self.a, self.b, self.to_a, self.to_b = (lab.ns(n) for n in ("a", "b", "to-a", "to-b"))
        self.ends = {self.a: ("10.77.1.2", "fd77:1::2"), self.b: ("10.77.2.2", "fd77:2::2")}
        for host, near, n in ((self.a, self.to_a, 1), (self.b, self.to_b, 2)):
            other = self.b if host is self.a else self.a
            lab.veth(host, "eth0", near, "eth0")
            for ns, last in ((host, 2), (near, 1)):
                ns.ip("addr", "add", f"10.77.{n}.{last}/24", "dev", "eth0")
                ns.ip("addr", "add", f"fd77:{n}::{last}/64", "dev", "eth0", "nodad")
            host.ip("route", "add", "default", "via", f"10.77.{n}.1")
            host.ip("-6", "route", "add", "default", "via", f"fd77:{n}::1")
            near.ip("route", "add", "default", "via", f"10.77.{n}.2")
            near.ip("-6", "route", "add", "default", "via", f"fd77:{n}::2")
            near.ip("addr", "add", self.ends[other][0] + "/32", "dev", "eth0")
            near.ip("addr", "add", self.ends[other][1] + "/128", "dev", "eth0", "nodad")
        for ns in (self.a, self.b, self.to_a, self.to_b):
            ns.up()
        at = 0 if family == socket.AF_INET else 1
        self.family, self.addr_a, self.addr_b = family, self.ends[self.a][at], self.ends[self.b][at]
        self.seen = b""
        self.ids = []
        self.thread = threading.Thread(target=self.run)

    def run(self):
        with self.to_a.listen(7000, self.addr_b) as listener:
            victim = listener.accept()[0]
        with victim, self.to_b.socket(self.family) as onward:
            onward.bind((self.addr_a, 0))
            onward.connect((self.addr_b, 7000))
            for ns, sock in ((self.to_a, victim), (self.to_b, onward)):
                with ns.inside():
                    tcpcrypt.wait(sock)
                    self.ids.append(tcpcrypt.info(sock).id)
            copy(victim, onward, self.change)

    def change(self, data, _from_a):
        self.seen += data
        return data


def man_in_the_middle(lab, family):
    m = Middle(lab, family)
    m.thread.start()
    client, server = prove(lab, m.a, m.b, m.addr_b)
    expect_eq((client.out(), server.out()),
              ("not authenticated\n", "listening\nnot authenticated\n"))
    expect_eq((ended(client), server.wait(10)), (1, 1))
    m.thread.join(10)
    # He really was there: two encrypted connections, and the clear text between them.
    expect_eq([len(i) for i in m.ids], [33, 33])
    expect(m.ids[0] != m.ids[1], "one session ID on each side of him")
    expect(len(m.seen) >= 32, "he has seen the proof", m.seen)
    ids = [json.loads(ns.tcns("sessions", "--ended", "--json").stdout)["sessions"][-1]["session_id"]
           for ns in (m.a, m.b)]
    expect_eq(ids, [i.hex() for i in m.ids])


def test_example_finds_the_man_in_the_middle_ipv4(lab):
    man_in_the_middle(lab, socket.AF_INET)


def test_example_finds_the_man_in_the_middle_ipv6(lab):
    man_in_the_middle(lab, socket.AF_INET6)


def test_example_reflected_proof(lab):
    """Somebody without the password says what was said to him."""
    _, a, b = lab.pair()
    with b.listen(7000) as listener:
        client = a.popen(program("prove_client"), b.ip4, 7000, password(lab, "secret", "x"))
        s = listener.accept()[0]
        with s:
            s.settimeout(10)
            proof = s.recv(32, socket.MSG_WAITALL)
            expect_eq(len(proof), 32)
            s.sendall(proof)
            expect_eq(client.wait(10), 1)
    expect_eq(client.out(), "not authenticated\n")
    expect_eq(client.err(), "")


if __name__ == "__main__":
    tap.main()
