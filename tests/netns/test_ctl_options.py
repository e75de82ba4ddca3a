# SPDX-License-Identifier: BSD-3-Clause
"""Options of up that shape sessions: each changes what it says, and status shows it."""
import contextlib
import json
import os

import tap
from lab import binary, expect, expect_eq, wait_for

TEPS = ("Curve25519", "Curve448", "P-256", "P-521")
AEADS = ("AES-128-GCM", "AES-256-GCM", "ChaCha20-Poly1305")


def status(ns):
    return json.loads(ns.tcns("status", "--json").stdout)


def squeeze(text):
    """The RFC's names and the people's, made the same."""
    return text.upper().replace("-", "").replace("_", "")


@contextlib.contextmanager
def connection(a, b, port):
    """Gives client socket, server socket and the client's session, after a byte each way."""
    with b.listen(port) as listener, a.connect(b.ip4, port) as c:
        s, _ = listener.accept()
        with s:
            s.settimeout(10)
            c.sendall(b"x")
            expect_eq(s.recv(1), b"x")
            s.sendall(b"y")
            expect_eq(c.recv(1), b"y")
            yield c, s, [x for x in a.sessions() if x["peer_port"] == port][0]


def session_of(a, b, port):
    with connection(a, b, port) as (_, _, session):
        return session


def test_defaults_in_status(lab):
    _, a = lab.star("a")
    a.up()
    s = status(a)
    expect_eq(s["teps"], list(TEPS))
    expect_eq(s["aeads"], list(AEADS))
    expect_eq((s["resume"], s["keepalive"], s["app_aware"], s["fallback_time"]),
              (True, 0, "off", 600))
    expect_eq(s["rekey_bytes"], 1 << 36)


def test_given_in_status(lab):
    _, a = lab.star("a")
    a.up("--tep", "P-521,Curve448", "--aead", "chacha20-poly1305,AES-128-GCM", "--no-resume",
         "--keepalive", "30", "--rekey-bytes", "1000000", "--app-aware", "mandatory",
         "--fallback-time", "60")
    s = status(a)
    expect_eq(s["teps"], ["P-521", "Curve448"])
    expect_eq(s["aeads"], ["ChaCha20-Poly1305", "AES-128-GCM"])
    expect_eq((s["resume"], s["keepalive"], s["rekey_bytes"], s["app_aware"],
               s["fallback_time"]), (False, 30, 1000000, "mandatory", 60))


@tap.timeout(120)
def test_each_tep_and_aead(lab):
    """One host is told what to use, the other has the default."""
    _, a, b = lab.star("a", "b")
    b.up()
    for i, tep in enumerate(TEPS):
        aead = AEADS[i % len(AEADS)]
        a.up("--tep", tep, "--aead", aead)
        s = session_of(a, b, 100 + i)
        expect_eq(s["state"], "encrypted", tep)
        expect(squeeze(s["tep"]).endswith(squeeze(tep)), tep, s)
        expect(squeeze(s["aead"]).endswith(squeeze(aead)), aead, s)
        a.down()


def test_nothing_in_common(lab):
    _, a, b = lab.star("a", "b")
    a.up("--tep", "Curve448")
    b.up("--tep", "P-521,P-256")
    with connection(a, b, 80) as (_, _, s):
        expect_eq((s["state"], s["reason"]), ("clear", "peer-no-eno"), "the answer has no ENO")
        s = b.sessions()[0]
        expect_eq((s["state"], s["reason"]), ("clear", "no-common-tep"), "the other knows why")


def test_no_resume(lab):
    _, a, b = lab.star("a", "b")
    b.up()
    a.up()
    session_of(a, b, 80)
    expect_eq(session_of(a, b, 80)["reason"], "resumed", "the default")
    a.down()
    a.up("--no-resume")
    session_of(a, b, 81)
    expect_eq(session_of(a, b, 81)["reason"], "full")


def test_app_aware(lab):
    _, a, b = lab.star("a", "b")
    a.up("--app-aware", "mandatory")
    b.up()
    s = session_of(a, b, 80)
    expect_eq((s["state"], s["reason"]), ("clear", "not-app-aware"))
    b.down()
    b.up("--app-aware", "on")
    expect_eq(session_of(a, b, 81)["state"], "encrypted")


def test_keepalive_ends_a_dead_connection(lab):
    r, a, b = lab.star("a", "b")
    b.up()
    a.up("--keepalive", "1")
    with connection(a, b, 80) as (c, _, session):
        expect_eq(session["state"], "encrypted")
        r.forward_rules("drop")
        c.settimeout(20)
        try:
            data = c.recv(1)
            raise AssertionError(f"end of file or data: {data}")
        except (ConnectionError, TimeoutError) as e:
            expect(not isinstance(e, TimeoutError), "nothing ended it")


def test_rekey_under_load(lab):
    """New keys every 100 kB, in both directions: nothing is lost of 5 MB."""
    _, a, b = lab.star("a", "b")
    a.up("--rekey-bytes", "100000")
    b.up()
    data = os.urandom(5_000_000)
    with connection(a, b, 80) as (c, s, session):
        expect_eq((session["state"], session["tx_generation"]), ("encrypted", 0))
        got = bytearray()
        pid = os.fork()
        if pid == 0:
            c.sendall(data)
            os._exit(0)
        while len(got) < len(data):
            got += s.recv(1 << 16)
        os.waitpid(pid, 0)
        expect(bytes(got) == data, "what was sent arrived")
        s = a.sessions()[0]
        expect(20 <= s["tx_generation"] <= 60, "new keys", s)
        expect(s["rx_generation"] > 0, "the peer follows", s)


def test_crypto_that_does_not_work(lab):
    """The worker tries what it is to offer before it says that it is ready."""
    _, a = lab.star("a")
    before = a.snapshot()
    conf = lab.file("openssl.cnf")
    with open(conf, "w") as f:
        f.write("openssl_conf = all\n[all]\nalg_section = alg\n[alg]\n"
                "default_properties = provider=none\n")
    argv = ["env", f"OPENSSL_CONF={conf}", binary(), "up", "--netns", "self"]
    r = a.run(*argv, check=False)
    expect_eq(r.returncode, 1, r.stderr)
    expect("cannot do" in r.stderr and "leave it out" in r.stderr, "says what", r.stderr)
    expect_eq(a.snapshot(), before, "nothing stays")
    expect_eq(a.run(*argv, "--policy", "off").returncode, 0, "not needed then")
    a.down()
    wait_for(lambda: not a.pids(), what="no process stays")


if __name__ == "__main__":
    tap.main()
