# SPDX-License-Identifier: BSD-3-Clause
"""What the daemon logs: the end of each connection at -v, in every form."""
import json
import os
import re
import socket
import time

import tap
from lab import binary, expect, expect_eq, wait_for
from test_keylog import LINE as KEY_LINE
from test_keylog import talk
from test_rfc_ends import connected, hosts, ping

START = time.time()


def read(path):
    with open(path) as f:
        return f.read()


def wait_lines(path, what, count):
    """Return: the lines that have what, when there are so many."""
    def there():
        lines = [line for line in read(path).splitlines() if what in line]
        return lines if len(lines) >= count else None
    return wait_for(there, 5, f"{count} lines with {what}")


def facts(line):
    return dict(f.split("=", 1) for f in line.split("connection ended: ")[1].split(" "))


def ended(ns):
    return json.loads(ns.tcns("sessions", "--json", "--ended").stdout)["sessions"]


def test_each_end_has_its_line(lab):
    r, a, b = lab.star("a", "b")
    r.ip4 = a.ip4.rsplit(".", 1)[0] + ".1"
    keys = lab.file("keys")
    a.up("-v", "--keylog", keys)
    b.up()
    talk(a, b, 7000, 5000)
    talk(a, b, 7000)
    talk(a, r, 7001)
    with b.listen(7002) as listener:
        c = a.connect(b.ip4, 7002)
        s, _ = listener.accept()
        c.sendall(b"x")
        expect_eq(s.recv(1), b"x")  # there are keys
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        s.close()
        c.close()
    try:
        a.connect(b.ip4, 7003)
    except ConnectionRefusedError:
        pass
    lines = wait_lines(a.log_path(), "connection ended", 5)
    expect_eq(len(lines), 5)
    got = [facts(line) for line in lines]
    history = ended(a)
    for g, h in zip(got, history):
        expect_eq(g["local"], f"{h['local']}:{h['local_port']}")
        expect_eq(g["peer"], f"{h['peer']}:{h['peer_port']}")
        expect_eq((g["dir"], g["reason"], g["end"]), (h["dir"], h["reason"], h["end"]))
        expect_eq((int(g["tx_bytes"]), int(g["rx_bytes"])), (h["tx_bytes"], h["rx_bytes"]))
        expect_eq(g.get("session_id"), h.get("session_id"))
        expect(0 <= float(g["seconds"]) < 30, "how long it lived", g)
        expect("error" not in g, "no error", g)
    want = [("clear", "peer-no-eno", "closed"), ("encrypted", "full", "closed"),
            ("encrypted", "full", "reset-by-peer"), ("encrypted", "resumed", "closed"),
            ("opening", "pending", "refused")]
    expect_eq(sorted((g["state"], g["reason"], g["end"]) for g in got), want)
    for line in lines:
        expect(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z info connection ended: ", line),
               "time and level", line)
    text = read(a.log_path())
    with open(keys) as f:
        for m in filter(None, map(KEY_LINE.match, f)):
            expect(m[8] not in text and m[9] not in text, "no key material")


def test_error_is_named(lab):
    """A byte is changed on the way."""
    box, a, b = hosts(lab, (), ("-v",))
    with box, connected(a, b) as (c, s):
        ping(c, s)
        box.rule = lambda t: [t.changed(-1)] if t.to_b and t.payload else None
        c.sendall(b"x")
        line = wait_lines(b.log_path(), "connection ended", 1)[0]
    got = facts(line)
    expect_eq((got["end"], got["error"], got["state"]), ("error", "frame-auth", "encrypted"))


def test_json(lab):
    _, a, b = lab.star("a", "b")
    a.up("-vv", "--log-format", "json", "--keylog", lab.file("keys"))
    b.up()
    talk(a, b, 7000)
    wait_lines(a.log_path(), "connection ended", 1)
    a.down()
    objects = [json.loads(line) for line in read(a.log_path()).splitlines()]
    for o in objects:
        expect({"time", "level", "message"} <= o.keys(), "every line", o)
        expect(START - 1 < o["time"] < time.time() + 1, "seconds since the epoch", o)
        expect(o["level"] in ("error", "warn", "info", "debug", "trace"), "a level", o)
    expect(any(o["level"] == "warn" and "WARNING: the keys" in o["message"] for o in objects), "warns")
    end = [o for o in objects if o["message"] == "connection ended"]
    expect_eq(len(end), 1)
    expect_eq({k: end[0][k] for k in ("dir", "state", "reason", "end", "tx_bytes", "rx_bytes")},
              {"dir": "out", "state": "encrypted", "reason": "full", "end": "closed",
               "tx_bytes": 8, "rx_bytes": 6})
    expect(len(end[0]["session_id"]) == 66 and end[0]["local"].startswith(f"{a.ip4}:"), "facts", end)


def test_levels_and_journal(lab):
    _, a, b = lab.star("a", "b")
    a.up()
    b.up("-v", "--log-format", "journal")
    talk(a, b, 7000)
    lines = wait_lines(b.log_path(), "connection ended", 1)
    expect(lines[0].startswith("<6>connection ended: "), "with a priority", lines)
    expect_eq(read(a.log_path()), "", "nothing to say without -v")
    r = a.tcns("up", "--log-format", "xml", check=False)
    expect_eq(r.returncode, 2)
    expect("none of text, json, journal" in r.stderr, r.stderr)


def test_priorities_for_systemd(lab):
    """Standard error is what JOURNAL_STREAM names, or it is something else."""
    _, a = lab.star("a")
    for right in (True, False):
        path = lab.file(f"stderr-{right}")
        with open(path, "w") as f:
            st = os.fstat(f.fileno())
            env = {**os.environ, "JOURNAL_STREAM": f"{st.st_dev}:{st.st_ino + (not right)}"}
            p = a.popen(binary(), "up", "--netns", "self", "--foreground", "-v", env=env, stderr=f)
            wait_lines(path, "attached", 1)
            p.stop()
        starts = {line[:13] for line in read(path).splitlines()}
        if right:
            expect(all(s.startswith(("<6>", "<4>")) for s in starts), "priorities", starts)
        else:
            expect_eq(starts, {"tcpcrypt-ns: "})


def test_file_can_be_rotated(lab):
    """By copying and truncating: each line goes to the end of the file, wherever that is."""
    _, a, b = lab.star("a", "b")
    a.up("-v")
    b.up()
    talk(a, b, 7000)
    wait_lines(a.log_path(), "connection ended", 1)
    os.truncate(a.log_path(), 0)
    talk(a, b, 7000)
    wait_lines(a.log_path(), "connection ended", 1)
    expect("\0" not in read(a.log_path()), "no hole")


if __name__ == "__main__":
    tap.main()
