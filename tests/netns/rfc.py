# SPDX-License-Identifier: BSD-3-Clause
"""What the RFC tests share: connections that are used, and what daemons tell about them."""
import contextlib
import json
import os
import select
import socket
import threading

from lab import Failure, expect, expect_eq, wait_for

TEPS = {"Curve25519": 0x23, "Curve448": 0x24, "P-256": 0x21, "P-521": 0x22}
AEADS = {"AES-128-GCM": "AEAD_AES_128_GCM", "AES-256-GCM": "AEAD_AES_256_GCM",
         "ChaCha20-Poly1305": "AEAD_CHACHA20_POLY1305"}
INIT1_MAGIC, INIT2_MAGIC = bytes.fromhex("15101a0e"), bytes.fromhex("097105e0")

# RFC 8547 4.2, 4.3
GLOBAL_B, GLOBAL_A = 1, 2


def call(ns, method, more=False, **parameters):
    """Yields the parameters of each reply of the namespace's daemon."""
    door = f"/run/tcpcrypt-ns/{os.stat(ns.path).st_ino}.sock"
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(10)
        s.connect(door)
        s.sendall(json.dumps({"method": f"org.tcpcrypt.Ns1.{method}", "more": more,
                              "parameters": parameters}).encode() + b"\0")
        data = b""
        while True:
            while b"\0" not in data:
                data += s.recv(65536) or bytes(1)
            text, data = data.split(b"\0", 1)
            reply = json.loads(text)
            if "error" in reply:
                raise Failure(f"{method}: {reply}")
            yield reply["parameters"]
            if not reply.get("continues"):
                return


def ended(ns):
    """Return: the connections that have ended, oldest first."""
    return [p["session"] for p in call(ns, "ListSessions", True, ended=True) if p.get("session")]


def wait_ended(ns, port, cnt=1):
    """Return: the last of connections with that port, when so many have ended."""
    def last():
        found = [s for s in ended(ns) if port in (s["local_port"], s["peer_port"])]
        return found[-1] if len(found) >= cnt else None

    return wait_for(last, 10, f"{ns.short}: an end of a connection with port {port}", 0.02)


def live(ns):
    """Return: open connections."""
    found = [p["session"] for p in call(ns, "ListSessions", True) if p.get("session")]
    return [s for s in found if s["state"] != "opening"]


def wait_none(ns, timeout=5):
    """Until no open connection is left."""
    wait_for(lambda: not live(ns), timeout, f"{ns.short}: no connection")


def cache(ns):
    return next(call(ns, "GetCache"))


def errors(ns):
    return next(call(ns, "GetStatus"))["errors"]


def session(ns, port):
    """Return: the one live connection with that port that is not older than the daemon, once
    it is open."""
    def one():
        found = [s for s in ns.sessions() if port in (s["local_port"], s["peer_port"])]
        found = [s for s in found if s["state"] in ("encrypted", "clear")
                 and s["reason"] != "older"]
        return found[0] if len(found) == 1 else None

    return wait_for(one, 5, f"{ns.short}: one open session with port {port}")


def accept_of(listener, c, nat=0):
    """Return: the other end of c. A box may have made connections, too; nat: what it does
    to ports."""
    while True:
        s, peer = listener.accept()
        if peer[1] == c.getsockname()[1] ^ nat:
            return s
        s.close()


def accept_unless_ended(listener, c, patience=5):
    """As accept_of(); None when c was reset first: a key exchange that failed early enough
    is no connection for the answerer's program."""
    readable = select.select([listener, c], [], [], patience)[0]
    if listener in readable or select.select([listener], [], [], 0)[0]:
        return accept_of(listener, c)
    return None


def expect_both_reset(a, b, text=b"", port=80):
    """A connection that ends while keys are exchanged. The opener's program is told once: by
    connect(), by sending the text or by recv(). The answerer's may have no connection at all."""
    with b.listen(port) as listener:
        with contextlib.suppress(ConnectionResetError), a.connect(b.ip4, port) as c:
            c.sendall(text)
            expect_eq(end_of(c), ("reset", b""), "the opener")
        if select.select([listener], [], [], 0.2)[0]:
            with listener.accept()[0] as s:
                expect_eq(end_of(s), ("reset", b""), "the answerer")


@contextlib.contextmanager
def connected(a, b, port=80, addr=None, timeout=10, nat=0):
    """Gives both ends of a connection from a to b."""
    addr = addr or b.ip4
    with b.listen(port, "::" if ":" in addr else None) as listener, \
            a.connect(addr, port, timeout) as c:
        s = accept_of(listener, c, nat)
        with s:
            s.settimeout(timeout)
            yield c, s


def read_exactly(sock, size):
    got = bytearray()
    while len(got) < size:
        chunk = sock.recv(min(size - len(got), 1 << 16))
        if not chunk:
            raise Failure(f"ended after {len(got)} of {size} bytes")
        got += chunk
    return bytes(got)


def ping(c, s, text=b"ping"):
    """A few bytes each way, one after the other."""
    c.sendall(text)
    expect_eq(read_exactly(s, len(text)), text, "to the answerer")
    s.sendall(text[::-1])
    expect_eq(read_exactly(c, len(text)), text[::-1], "to the opener")


def both_ways(c, s, size):
    """size random bytes each way, at the same time."""
    texts = os.urandom(size), os.urandom(size)
    failed = []

    def send(sock, text):
        try:
            sock.sendall(text)
        except OSError as e:
            failed.append(e)

    threads = [threading.Thread(target=send, args=x, daemon=True)
               for x in ((c, texts[0]), (s, texts[1]))]
    got = {}

    def receive():
        try:
            got["c"] = read_exactly(c, size)
        except (OSError, Failure) as e:
            failed.append(e)

    threads.append(threading.Thread(target=receive, daemon=True))
    for t in threads:
        t.start()
    at_s = read_exactly(s, size)
    for t in threads:
        t.join(15)
    expect(not failed, "an end failed", failed)
    expect(at_s == texts[0], "what arrived at the answerer differs")
    expect(got.get("c") == texts[1], "what arrived at the opener differs")


def end_of(sock, timeout=10):
    """What the application sees at last. Return: "eof", "reset", "silence" or an errno, and
    what was received before."""
    got = bytearray()
    sock.settimeout(timeout)
    while True:
        try:
            chunk = sock.recv(65536)
        except ConnectionResetError:
            return "reset", bytes(got)
        except TimeoutError as e:
            return (e.errno or "silence"), bytes(got)
        except OSError as e:
            return e.errno, bytes(got)
        if not chunk:
            return "eof", bytes(got)
        got += chunk
