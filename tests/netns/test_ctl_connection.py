# SPDX-License-Identifier: BSD-3-Clause
"""Methods of the ctl socket about one connection."""
import contextlib
import json
import socket
import threading
import time

import tap
from lab import expect, expect_eq, wait_for

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

    def send(self, method, **params):
        call = {"method": f"org.tcpcrypt.Ns1.{method}", "parameters": params}
        self.sock.sendall(json.dumps(call).encode() + b"\0")

    def reply(self):
        """Return: parameters, or the name of the error."""
        while b"\0" not in self.data:
            more = self.sock.recv(65536)
            expect(more, "the daemon hung up")
            self.data += more
        text, self.data = self.data.split(b"\0", 1)
        answer = json.loads(text)
        return answer.get("error") or answer["parameters"]

    def call(self, method, **params):
        self.send(method, **params)
        return self.reply()


def call(ns, method, **params):
    with Client(ns) as c:
        return c.call(method, **params)


def tuple_of(sock):
    (local, local_port), (peer, peer_port) = sock.getsockname()[:2], sock.getpeername()[:2]
    return {"local": local, "local_port": local_port, "peer": peer, "peer_port": peer_port}


def state_at(ns, sock, **params):
    answer = call(ns, "GetSession", **tuple_of(sock), **params)
    return answer if isinstance(answer, str) else answer["session"]["state"]


@contextlib.contextmanager
def connection(a, b, addr, port):
    with b.listen(port, addr) as listener, a.connect(addr, port) as c:
        s, _ = listener.accept()
        with s:
            s.settimeout(10)
            yield c, s


# --- GetSession -----------------------------------------------------------------------------


def test_get_session_both_ends(lab):
    _, a, b = lab.pair()
    for addr in (b.ip4, b.ip6):
        with connection(a, b, addr, 80) as (c, s):
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
    with connection(a, a, "127.0.0.1", 80) as (c, s):
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


if __name__ == "__main__":
    tap.main()
