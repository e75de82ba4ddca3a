# SPDX-License-Identifier: BSD-3-Clause
"""Methods of the ctl socket about one connection."""
import contextlib
import json
import os
import signal
import socket
import threading
import time

import tap
from lab import connection, expect, expect_eq, wait_for

NO_SESSION = "org.tcpcrypt.Ns1.NoSession"


class Client:
    """A connection to the ctl socket, by the namespace's own door."""

    def __init__(self, ns):
        with ns.inside():
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.settimeout(10)
            self.sock.connect("\0tcpcrypt-ns")
        self.data = b""

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.sock.close()

    def send(self, method, fd=None, **params):
        call = {"method": f"org.tcpcrypt.Ns1.{method}", "parameters": params}
        text = json.dumps(call).encode() + b"\0"
        if fd is None:
            self.sock.sendall(text)
        else:
            expect_eq(socket.send_fds(self.sock, [text], [fd.fileno()]), len(text))

    def reply(self):
        """Return: parameters, or the name of the error."""
        while b"\0" not in self.data:
            more = self.sock.recv(65536)
            expect(more, "the daemon hung up")
            self.data += more
        text, self.data = self.data.split(b"\0", 1)
        answer = json.loads(text)
        return answer.get("error") or answer["parameters"]

    def call(self, method, fd=None, **params):
        self.send(method, fd, **params)
        return self.reply()


def call(ns, method, fd=None, **params):
    with Client(ns) as c:
        return c.call(method, fd, **params)


def call_as(ns, user, method, **params):
    """The same, as another user without any capability. Return: parameters, or the error's name."""
    text = json.dumps({"method": f"org.tcpcrypt.Ns1.{method}", "parameters": params})
    r = ns.run("setpriv", "--reuid", user, "--regid", user, "--clear-groups", "--inh-caps=-all",
               "/usr/bin/python3", "-c", CALL, text)
    answer = json.loads(r.stdout)
    return answer.get("error") or answer["parameters"]


CALL = """
import socket, sys
s = socket.socket(socket.AF_UNIX)
s.settimeout(10)
s.connect("\\0tcpcrypt-ns")
s.sendall(sys.argv[1].encode() + bytes(1))
data = b""
while not data.endswith(bytes(1)):
    data += s.recv(65536) or sys.exit("hung up")
print(data[:-1].decode())
"""


def tuple_of(sock):
    (local, local_port), (peer, peer_port) = sock.getsockname()[:2], sock.getpeername()[:2]
    return {"local": local, "local_port": local_port, "peer": peer, "peer_port": peer_port}


def state_at(ns, sock, **params):
    answer = call(ns, "GetSession", **tuple_of(sock), **params)
    return answer if isinstance(answer, str) else answer["session"]["state"]


# --- GetSession -----------------------------------------------------------------------------


def test_get_session_both_ends(lab):
    _, a, b = lab.pair()
    for addr in (b.ip4, b.ip6):
        with connection(a, b, 80, addr) as (c, s):
            x = call(a, "GetSession", **tuple_of(c), wait=5000)["session"]
            y = call(b, "GetSession", **tuple_of(s), wait=5000)["session"]
            expect_eq((x["state"], y["state"]), ("encrypted", "encrypted"))
            expect_eq(x["session_id"], y["session_id"])
            expect_eq((x["role"], y["role"]), ("a", "b"))
            expect_eq(x["peer_app_aware"], False)
            at = tuple_of(c)
            wrong = {**at, "peer_port": at["peer_port"] + 1}
            expect_eq(call(a, "GetSession", **wrong), NO_SESSION)
        c.close()
        wait_for(lambda: call(a, "GetSession", **at) == NO_SESSION, what="its end")


def test_get_session_of_loopback_is_none(lab):
    _, a, _ = lab.pair()
    with connection(a, a, 80, "127.0.0.1") as (c, s):
        expect_eq(state_at(a, c), NO_SESSION)


def test_get_session_waits(lab):
    """A connection to a host that does not answer is opening for as long as one waits."""
    _, a, b = lab.pair()
    b.down()
    b.ip("link", "set", "eth0", "down")
    with a.socket() as c, Client(a) as ctl:
        c.setblocking(False)
        c.connect_ex((b.ip4, 80))
        at = {"local": a.ip4, "local_port": c.getsockname()[1], "peer": b.ip4, "peer_port": 80}
        wait_for(lambda: ctl.call("GetSession", **at) != NO_SESSION, what="the SYN")
        start = time.monotonic()
        answer = ctl.call("GetSession", **at, wait=300)["session"]
        expect_eq((answer["state"], answer["reason"]), ("opening", "pending"))
        expect(0.25 < time.monotonic() - start < 5, "as long as it was told")
        # An end while it is waited for is told at once.
        ctl.send("GetSession", **at, wait=30000)
        end = threading.Timer(0.1, a.down)
        end.start()
        try:
            expect_eq(ctl.sock.recv(10), b"", "the daemon went")
        finally:
            end.join()


# --- SetSocket: each setting has its effect ---------------------------------------------------


def fresh(a, b, addr, port, **settings):
    """A connection with settings of the socket that connects. Return: what both daemons say."""
    family = socket.AF_INET6 if ":" in addr else socket.AF_INET
    with b.listen(port, addr) as listener, a.socket(family) as c:
        c.settimeout(10)
        expect_eq(call(a, "SetSocket", c, **settings), {})
        c.connect((addr, port))
        s, _ = listener.accept()
        with s:
            s.settimeout(10)
            c.sendall(b"to server")
            expect_eq(s.recv(100), b"to server")
            return [call(ns, "GetSession", **tuple_of(x), wait=5000)["session"]
                    for ns, x in ((a, c), (b, s))]


def test_socket_off(lab):
    _, a, b = lab.pair()
    for addr in (b.ip4, b.ip6):
        x, y = fresh(a, b, addr, 80, policy="off")
        expect_eq((x["state"], x["reason"]), ("clear", "socket-off"))
        expect_eq((y["state"], y["reason"]), ("clear", "peer-no-eno"))
    with connection(a, b, 80) as (c, s):  # any other socket is as ever
        expect_eq(state_at(a, c, wait=5000), "encrypted")


def test_socket_require(lab):
    """Refused where the peer cannot, carried where it can; the listening end likewise."""
    _, a, b = lab.star("a", "b")
    a.up()
    for family, addr in ((socket.AF_INET, b.ip4), (socket.AF_INET6, b.ip6)):
        with b.listen(80, addr) as listener, a.socket(family) as c:
            call(a, "SetSocket", c, policy="require")
            c.settimeout(10)
            try:
                c.connect((addr, 80))
                expect(False, "connected in clear")
            except ConnectionError:
                pass
            # The socket's next connection is refused, too.
            with contextlib.suppress(ConnectionError):
                c.connect((addr, 80))
                expect(False, "connected in clear at the second try")
    b.up()
    expect_eq(fresh(a, b, b.ip4, 80, policy="require")[0]["state"], "encrypted")
    a.down()
    for addr in (b.ip4, b.ip6):
        with b.listen(81, addr) as listener:
            call(b, "SetSocket", listener, policy="require")
            with contextlib.suppress(ConnectionError):
                a.connect(addr, 81)
                expect(False, "accepted in clear")
            call(b, "SetSocket", listener, reset=True)
            a.connect(addr, 81).close()


def test_socket_cannot_weaken(lab):
    _, a, b = lab.star("a", "b")
    a.up("--policy", "require", "--app-aware", "mandatory", "--aead", "AES-128-GCM")
    b.up("--app-aware", "on")
    x, _ = fresh(a, b, b.ip4, 80, policy="off", app_aware="off", aeads=["AES-256-GCM"])
    expect_eq((x["state"], x["aead"]), ("encrypted", "AEAD_AES_128_GCM"))


def test_socket_ciphers(lab):
    _, a, b = lab.pair("--no-resume")
    for n, name in enumerate(("ChaCha20-Poly1305", "AES-256-GCM")):
        x, y = fresh(a, b, b.ip4, 80 + n, aeads=[name])
        expect_eq(x["aead"], "AEAD_" + name.upper().replace("-", "_"))
        expect_eq(y["aead"], x["aead"])


def test_socket_app_aware(lab):
    _, a, b = lab.pair()
    x, y = fresh(a, b, b.ip4, 80, app_aware="on")
    expect_eq((x["peer_app_aware"], y["peer_app_aware"]), (False, True))
    x, y = fresh(a, b, b.ip4, 81, app_aware="mandatory")
    expect_eq((x["state"], x["reason"]), ("clear", "not-app-aware"))


def test_socket_resume_and_cache(lab):
    """What goes wrong when a setting is ignored: a resumed connection, a kept secret."""
    _, a, b = lab.pair()

    def kept(ns):
        return call(ns, "GetCache")["resume"]

    x, _ = fresh(a, b, b.ip4, 80, cache=False)
    expect_eq((x["reason"], kept(a), kept(b)), ("full", 0, 1))
    x, _ = fresh(a, b, b.ip4, 80)
    expect_eq((x["reason"], kept(a)), ("full", 1))
    x, _ = fresh(a, b, b.ip4, 80)
    expect_eq(x["reason"], "resumed")
    x, _ = fresh(a, b, b.ip4, 80, resume=False)
    expect_eq(x["reason"], "full")


def test_socket_passive_role(lab):
    """b = 1 in an active open, to a host that has b = 1 as well: no encryption."""
    _, a, b = lab.pair()
    x, y = fresh(a, b, b.ip4, 80, passive_role=True)
    expect_eq((x["reason"], y["reason"]), ("peer-no-eno", "role-conflict"))


def test_socket_settings_are_told(lab):
    _, a, b = lab.pair()
    with a.socket() as c, Client(a) as ctl:
        expect_eq(ctl.call("GetSocket", c), {})
        all_of_them = {"policy": "require", "aeads": ["ChaCha20-Poly1305", "AES-128-GCM"],
                       "app_aware": "mandatory", "resume": False, "cache": True,
                       "passive_role": False}
        for key, value in all_of_them.items():
            expect_eq(ctl.call("SetSocket", c, **{key: value}), {})
        expect_eq(ctl.call("SetSocket", c, policy=None), {})
        expect_eq(ctl.call("GetSocket", c), all_of_them)
        expect_eq(ctl.call("SetSocket", c, reset=True, policy="prefer"), {})
        expect_eq(ctl.call("GetSocket", c), {"policy": "prefer"})


def test_socket_wrong_calls(lab):
    _, a, b = lab.pair()
    invalid = "org.varlink.service.InvalidParameter"
    with a.socket() as c, Client(a) as ctl:
        for wrong in ({"policy": "bypass"}, {"policy": 1}, {"aeads": []}, {"aeads": "AES-128-GCM"},
                      {"aeads": ["DES"]}, {"aeads": ["AES-128-GCM", "aes-128-gcm"]},
                      {"aeads": ["AES-128-GCM,AES-256-GCM"]}, {"aeads": [1]}, {"app_aware": "yes"},
                      {"app_aware": True}, {"resume": 0}, {"cache": "no"}, {"passive_role": 1},
                      {"reset": 1}):
            expect_eq(ctl.call("SetSocket", c, **wrong), invalid, str(wrong))
        expect_eq(ctl.call("GetSocket", c), {}, "nothing of it holds")
        expect_eq(ctl.call("SetSocket", policy="off"), "org.tcpcrypt.Ns1.NoSocket")
        expect_eq(ctl.call("MarkAuthenticated", c), "org.tcpcrypt.Ns1.NotConnected")
        with b.socket() as other:
            expect_eq(ctl.call("SetSocket", other, policy="off"), "org.tcpcrypt.Ns1.NoSocket",
                      "a socket of another namespace")
        with a.socket(kind=socket.SOCK_DGRAM) as udp:
            expect_eq(ctl.call("GetSocket", udp), "org.tcpcrypt.Ns1.NoSocket")
    with connection(a, b, 80) as (c, s):
        expect_eq(call(a, "SetSocket", c, policy="off"), "org.tcpcrypt.Ns1.AlreadyConnected")


# --- MarkAuthenticated, Forget ----------------------------------------------------------------


def session_at(ns, sock):
    return call(ns, "GetSession", **tuple_of(sock), wait=5000)["session"]


def test_mark_authenticated(lab):
    _, a, b = lab.pair()
    with connection(a, b, 80, b.ip6) as (c, s):
        expect_eq(session_at(a, c)["authenticated"], False)
        expect_eq(call(a, "MarkAuthenticated", c), {})
        expect_eq(session_at(a, c)["authenticated"], True)
        expect_eq(session_at(b, s)["authenticated"], False, "each end for itself")
        expect_eq(json.loads(a.tcns("sessions", "--json").stdout)["sessions"][0]["authenticated"],
                  True)
    with connection(a, b, 81) as (c, s):
        expect_eq(session_at(a, c)["authenticated"], False, "this one was not")


def test_mark_needs_encryption(lab):
    _, a, b = lab.star("a", "b")
    a.up()
    with connection(a, b, 80) as (c, s):
        expect_eq(call(a, "MarkAuthenticated", c), "org.tcpcrypt.Ns1.NotEncrypted")
        expect("authenticated" not in session_at(a, c), "without a session ID")


def test_who_may_name_a_tuple(lab):
    """The user who made the socket, root; nobody else. Who has the socket need not be either."""
    _, a, b = lab.pair()
    denied = "org.varlink.service.PermissionDenied"
    with connection(a, b, 80) as (c, s):
        at = tuple_of(c)
        session_at(a, c)
        for method in ("MarkAuthenticated", "Forget"):
            expect_eq(call_as(a, 1000, method, **at), denied)
            expect_eq(call(a, method, **at), {}, "root")
    with b.listen(81) as listener:
        owner = a.popen("setpriv", "--reuid", 1000, "--regid", 1000, "--clear-groups",
                        "/usr/bin/python3", "-c", "import socket, sys, time\n"
                        f"s = socket.create_connection(({b.ip4!r}, 81))\n"
                        "time.sleep(60)")
        s, (_, port) = listener.accept()
        with s:
            at = {"local": a.ip4, "local_port": port, "peer": b.ip4, "peer_port": 81}
            call(a, "GetSession", **at, wait=5000)
            expect_eq(call_as(a, 1001, "MarkAuthenticated", **at), denied)
            expect_eq(call_as(a, 1000, "MarkAuthenticated", **at), {})
            expect_eq(call_as(a, 1000, "Forget", **{**at, "local_port": 1}), NO_SESSION)
            owner.stop()


def test_forget(lab):
    _, a, b = lab.pair()
    with connection(a, b, 80) as (c, s), connection(a, b, 81) as (c2, s2):
        for ns, sock in ((a, c), (b, s), (a, c2), (b, s2)):
            session_at(ns, sock)
        expect_eq(call(a, "GetCache")["resume"], 2)
        expect_eq(call(a, "Forget", c), {})
        expect_eq(call(a, "GetCache")["resume"], 1, "the other's is still there")
        expect_eq(call(b, "Forget", s), {})
        expect_eq(call(b, "GetCache")["resume"], 1)


def test_settings_go_with_the_socket(lab):
    """More sockets than the daemon keeps settings of, one after the other."""
    _, a, _ = lab.pair()
    with Client(a) as ctl:
        for _ in range(600):
            with a.socket() as c:
                expect_eq(ctl.call("SetSocket", c, policy="require"), {})
        held = [a.socket() for _ in range(257)]
        answers = [ctl.call("SetSocket", c, policy="require") for c in held]
        expect_eq(answers[:256], [{}] * 256)
        expect_eq(answers[256], "org.tcpcrypt.Ns1.TooMany")
        for c in held:
            c.close()


def test_settings_outlive_a_worker(lab):
    """The worker of a host that must not be reached in clear is killed: still it is not."""
    _, a, b = lab.star("a", "b")
    b.up()

    def worker():
        return json.loads(b.tcns("status", "--json").stdout)["worker_pid"]

    with b.listen(80) as listener, b.listen(81) as other:
        call(b, "SetSocket", listener, policy="require")
        old = worker()
        os.kill(old, signal.SIGKILL)
        wait_for(lambda: worker() != old, what="the next worker")
        expect_eq(call(b, "GetSocket", listener), {"policy": "require"})
        with contextlib.suppress(ConnectionError):
            a.connect(b.ip4, 80)
            expect(False, "accepted in clear")
        a.connect(b.ip4, 81).close()
        other.accept()[0].close()


def test_daemon_keeps_no_socket_open(lab):
    """A socket that was handed over: its end is its application's to decide."""
    _, a, b = lab.pair()
    with b.listen(80) as listener, Client(a) as ctl:
        c = a.socket()
        ctl.call("SetSocket", c, policy="require")
        c.connect((b.ip4, 80))
        s, _ = listener.accept()
        s.settimeout(10)
        session_at(a, c)
        ctl.call("MarkAuthenticated", c)
        c.close()
        expect_eq(s.recv(1), b"", "the end of the stream")
        s.close()


if __name__ == "__main__":
    tap.main()
