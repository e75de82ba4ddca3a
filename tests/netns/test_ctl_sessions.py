# SPDX-License-Identifier: BSD-3-Clause
"""sessions and its history, status and cache: what they print is true, and as described."""
import contextlib
import json
import os
import re
import socket
import struct
import sys
import time

import tap
import schema
from lab import TOP, allow_open_files, binary, connection, expect, expect_eq, wait_for
def x_list(path, name):
    with open(os.path.join(TOP, path)) as f:
        text = f.read().replace("\\\n", "\n")
    body = re.search(rf"#define {name}\(X\)(.*?)\n\s*\n", text, re.S)[1]
    return [n.lower().replace("_", "-") for n in re.findall(r"\bX\((\w+)", body)]


def listed(ns, *args):
    """Return: sessions of "sessions --json", which must be as the schema says and no more."""
    text = json.loads(ns.tcns("sessions", "--json", *args).stdout)
    schema.validate(text, schema.load("sessions"), strict=True)
    return text["sessions"]


def ended(ns):
    return listed(ns, "--ended")


def wait_ended(ns, cnt):
    wait_for(lambda: len(ended(ns)) >= cnt, what=f"{cnt} ended connections")
    return ended(ns)


def reset(sock):
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


# --- sessions --------------------------------------------------------------------------------


def test_schema_names_what_the_program_has(lab):
    known = schema.load("sessions")["properties"]["sessions"]["items"]["properties"]
    expect_eq(known["reason"]["enum"], x_list("stack/tcpcrypt/session.h", "SESSION_REASON_LIST")
              + x_list("tunnel/tunnel.h", "TUNNEL_REASON_LIST")
              + x_list("ctl/cli/session_filter.h", "KERNEL_REASON_LIST"))
    expect_eq(known["end"]["enum"], x_list("tunnel/tunnel.h", "TUNNEL_END_LIST"))


def test_live(lab):
    _, a, b = lab.star("a", "b")
    a.up()
    expect_eq(listed(a), [])
    expect_eq(ended(a), [])
    b.up()
    with connection(a, b, 80):
        s, t = listed(a)[0], listed(b)[0]
        expect_eq((s["state"], s["end"], s["dir"], t["dir"]), ("encrypted", "live", "out", "in"))
        expect_eq(s["session_id"], t["session_id"])
        expect("error" not in s and "ended" not in s, "these are of the history", s)
        expect(abs(s["started"] - time.time()) < 10, "when it began", s)


def test_ended_in_order(lab):
    _, a, b = lab.star("a", "b")
    a.up()
    b.up()
    with connection(a, b, 81):
        pass
    wait_ended(a, 1)
    with connection(a, b, 82) as (c, _):
        reset(c)
    wait_ended(a, 2)
    with connection(a, b, 83) as (_, s):
        reset(s)
    first, second, third = wait_ended(a, 3)
    expect_eq([(s["peer_port"], s["end"]) for s in (first, second, third)],
              [(81, "closed"), (82, "reset-by-application"), (83, "reset-by-peer")])
    for s in (first, second, third):
        expect(s["started"] <= s["ended"] <= time.time() + 1, "times", s)
        expect(len(s["session_id"]) == 66, "also in the history", s)
        expect_eq((s["tx_bytes"], s["rx_bytes"]), (5, 0))
        expect("error" not in s, "no error", s)
    text = a.tcns("sessions", "--ended").stdout.splitlines()
    expect(re.match(r"ENDED +LOCAL .* END +ERROR +REASON ", text[0]), "columns", text)
    expect("reset-by-peer" in text[3] and "3 connections ended" in text[4], "rows", text)


def test_refused_and_its_error(lab):
    """Encryption is required of a peer that has none: named in the history and in status."""
    _, a, b = lab.star("a", "b")
    a.up("--policy", "require")
    with b.listen(80), contextlib.suppress(ConnectionError):
        a.connect(b.ip4, 80).close()
    s = wait_ended(a, 1)[0]
    expect_eq((s["end"], s["reason"]), ("refused", "require-refused"))
    errors = json.loads(a.tcns("status", "--json").stdout)["errors"]
    expect_eq(errors, {s["error"]: 1} if "error" in s else {})


def test_errors_in_status(lab):
    """A peer whose final frame never comes: a FIN alone is truncation."""
    _, a, b = lab.star("a", "b")
    a.up()
    b.up()
    expect_eq(json.loads(a.tcns("status", "--json").stdout)["errors"], {})
    with connection(a, b, 80) as (c, s):
        # What b's daemon sends from now on is not authentic any more for a.
        r = lab.spaces[0]
        r.forward_rules("ip saddr 10.77.2.2 tcp flags & (syn|rst) == 0 ip length > 60 "
                        "@th,256,8 set 0x55")
        with contextlib.suppress(OSError):
            s.sendall(b"never arrives as this")
            c.recv(100)
        got = wait_ended(a, 1)[0]
    expect_eq(got["end"], "error")
    expect("error" in got, "its name", got)
    errors = json.loads(a.tcns("status", "--json").stdout)["errors"]
    expect_eq(errors, {got["error"]: 1})
    text = a.tcns("status").stdout
    expect(re.search(rf"^errors +{got['error']} 1$", text, re.M), "status names it", text)


def test_history_is_bounded(lab):
    _, a, b = lab.star("a", "b")
    a.up()
    with b.listen(80, backlog=400) as listener:
        for _ in range(300):
            with a.connect(b.ip4, 80):
                listener.accept()[0].close()
    wait_for(lambda: not [s for s in listed(a) if s["state"] != "closing"], 10)
    expect_eq(len(wait_ended(a, 256)), 256)


@tap.timeout(120)
def test_list_of_thousands(lab):
    """All of them, each once, while others come and go."""
    many = 5000
    _, a, b = lab.star("a", "b")
    allow_open_files(2 * many + 1000)
    a.up()
    keep = []
    with b.listen(80, backlog=4096) as listener:
        for _ in range(many):
            keep += [a.connect(b.ip4, 80), listener.accept()[0]]
        for _ in range(20):
            with a.connect(b.ip4, 80), listener.accept()[0]:
                got = [s["local_port"] for s in listed(a)]
                expect_eq(len(got), len(set(got)), "none twice")
                expect({s.getsockname()[1] for s in keep[::2]} <= set(got), "none missed")
    for s in keep:
        s.close()


# --- cache --------------------------------------------------------------------------------------


def cache(ns, *args):
    return json.loads(ns.tcns("cache", "--json", *args).stdout)


def test_cache_of_resumption(lab):
    _, a, b = lab.star("a", "b")
    a.up()
    b.up()
    expect_eq(cache(a), {"version": 1, "resume": 0, "fallback": []})
    with connection(a, b, 80):
        pass
    expect_eq(cache(a)["resume"], 1)
    expect_eq(cache(a, "--flush"), {"version": 1, "resume": 0, "fallback": []})
    with connection(a, b, 80):
        expect_eq(listed(a)[-1]["reason"], "full", "nothing to resume with")


@tap.timeout(90)
def test_cache_of_fallback(lab):
    """SYNs with ENO disappear twice: the peer is remembered, shown, and forgotten on demand."""
    r, a, b = lab.star("a", "b")
    a.up("--fallback-time", "100")
    b.up()
    # Longer than a SYN without ENO: 20 (IP) + 20 + 4 (MSS) + 2 (SACK) + 3 (scale), padded.
    r.forward_rules("ip saddr 10.77.1.2 tcp flags & (syn|ack) == syn ip length > 52 drop")
    for port in (80, 79):
        with connection(a, b, port):
            expect_eq([s["reason"] for s in listed(a) if s["peer_port"] == port], ["eno-dropped"])
    got = cache(a)["fallback"]
    expect_eq([f["peer"] for f in got], [b.ip4])
    expect(90 < got[0]["left"] <= 100, "seconds left", got)
    text = a.tcns("cache").stdout
    expect(re.search(rf"^  {re.escape(b.ip4)} +\d+ s$", text, re.M), "for people", text)
    r.forward_rules()
    with connection(a, b, 81):
        expect_eq([s["reason"] for s in listed(a) if s["peer_port"] == 81], ["fallback-cache"])
    a.tcns("cache", "--flush")
    expect_eq(cache(a)["fallback"], [])
    with connection(a, b, 82):
        expect_eq([s["state"] for s in listed(a) if s["peer_port"] == 82], ["encrypted"])


NOBODY = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups")
ASK = """
import socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect("\\0tcpcrypt-ns")
s.sendall(b'{"method":"org.tcpcrypt.Ns1.%s"}\\0')
print(s.recv(10000).decode())
"""


def test_flush_takes_privilege(lab):
    _, a = lab.star("a")
    a.up()

    def ask(method):
        return a.run(*NOBODY, sys.executable, "-c", ASK % method).stdout

    expect('"resume"' in ask("GetCache"), "reading is free")
    expect("PermissionDenied" in ask("FlushCache"), "flushing is not")
    r = a.run(*NOBODY, binary(), "cache", "--flush", check=False)
    expect_eq(r.returncode, 4, r.stderr)
    expect("root" in r.stderr, "says why", r.stderr)


def test_root_of_a_container_may_not_change(lab):
    """Root without CAP_NET_ADMIN, as applications of containers often run."""
    _, a = lab.star("a")
    a.up()
    powerless = ("setpriv", "--bounding-set=-all", "--inh-caps=-all")
    for method in ("FlushCache", "Down"):
        out = a.run(*powerless, sys.executable, "-c", ASK % method).stdout
        expect("PermissionDenied" in out, f"{method} is refused", out)
    expect('"resume"' in a.run(*powerless, sys.executable, "-c", ASK % "GetCache").stdout,
           "reading is free")


if __name__ == "__main__":
    tap.main()
