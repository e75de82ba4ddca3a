# SPDX-License-Identifier: BSD-3-Clause
"""capture: files that tshark reads, of either side, complete and bounded."""
import os
import re
import signal
import stat
import struct
import subprocess
import time

import tap
from dissect import fields, tshark
from lab import binary, expect, expect_eq, wait_for
from test_keylog import talk


class Capture:
    """A running verb."""

    def __init__(self, ns, *args, path=None, stdout=subprocess.PIPE):
        self.path = path or ns.lab.file(f"capture-{len(ns.lab.procs)}.pcapng")
        self.proc = subprocess.Popen([binary(), "capture", "--netns", ns.name, "-w", self.path,
                                      *map(str, args)], stdin=subprocess.DEVNULL, stdout=stdout,
                                     stderr=subprocess.PIPE, text=stdout != subprocess.PIPE)
        ns.lab.procs.append(self.proc)
        if self.path != "-":
            wait_for(lambda: os.path.exists(self.path) and os.path.getsize(self.path) > 100, 5,
                     "the head of the file")

    def end(self, sig=signal.SIGINT):
        """Return: packets, dropped."""
        if sig:
            self.proc.send_signal(sig)
        expect_eq(self.proc.wait(15), 0, "exit code")
        text = self.proc.stderr.read()
        m = re.fullmatch(r"(\d+) packets captured, (\d+) dropped\n",
                         text if isinstance(text, str) else text.decode())
        expect(m, "the numbers are told", text)
        return int(m[1]), int(m[2])


def blocks(path):
    """Return: list of (type, body)."""
    with open(path, "rb") as f:
        data = f.read()
    found, off = [], 0
    while off < len(data):
        kind, length = struct.unpack_from("=II", data, off)
        expect(length % 4 == 0 and off + length <= len(data), "whole blocks")
        expect_eq(struct.unpack_from("=I", data, off + length - 4)[0], length)
        found.append((kind, data[off + 8:off + length - 4]))
        off += length
    return found


def statistics(path):
    """Return: {interface: (received, dropped)}."""
    found = {}
    for kind, body in blocks(path):
        if kind != 5:
            continue
        off, values = 12, {}
        while off < len(body):
            code, length = struct.unpack_from("=HH", body, off)
            values[code] = body[off + 4:off + 4 + length]
            off += 4 + (length + 3) // 4 * 4
        found[struct.unpack_from("=I", body)[0]] = tuple(
            struct.unpack("=Q", values[c])[0] for c in (4, 5))
    return found


def session_ids(ns):
    import json
    ended = json.loads(ns.tcns("sessions", "--json", "--ended").stdout)["sessions"]
    return {s["session_id"] for s in ended if "session_id" in s}


def test_outer_side_decrypts(lab):
    """With the key log, what tshark makes of it is the plaintext; super-segments and all."""
    _, a, b = lab.star("a", "b")
    keys = lab.file("keys")
    a.up("--keylog", keys)
    b.up()
    capture = Capture(a)
    talk(a, b, 7000, 200000)
    talk(a, b, 7000)
    packets, dropped = capture.end()
    expect_eq(dropped, 0)
    expect_eq(statistics(capture.path), {0: (packets, 0)})
    expect_eq(stat.S_IMODE(os.stat(capture.path).st_mode), 0o600)
    rows = fields(capture.path, "tcp.dstport", "frame.len", "tcpcrypt.decryption", "tcpcrypt.data",
                  "tcp.checksum.status", "ip.checksum.status", "frame.comment", "tcp_eno.form",
                  "tcpcrypt.init", "tcp.flags.syn", keylog=keys, show="tcp")
    expect_eq(len(rows), packets)
    text = {True: b"", False: b""}
    for row in rows:
        text[row["tcp.dstport"] == ["7000"]] += bytes.fromhex("".join(row["tcpcrypt.data"]))
    body = bytes(i % 251 for i in range(200000))
    expect_eq(text[True] == b"question" + body + b"question", True, "plaintext")
    expect_eq(text[False], b"answer" * 2)
    expect(max(int(row["frame.len"][0]) for row in rows) > 5000, "a super-segment is one record")
    expect_eq([i for row in rows for i in row["tcpcrypt.init"]], ["Init1", "Init2"])
    expect(all(row["tcp_eno.form"] for row in rows if row["tcp.flags.syn"] == ["1"]), "ENO")
    expect_eq({d for row in rows for d in row["tcpcrypt.decryption"]}, {"decrypted"})
    comments = {c for row in rows for c in row["frame.comment"]}
    expect_eq(comments, {f"tcpcrypt session {i}" for i in session_ids(a)}, "session ids")
    checked = tshark(capture.path, "-o", "tcp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE",
                     "-Y", "tcp.checksum.status != 1 or ip.checksum.status != 1")
    expect_eq(checked, "", "all checksums are right")


def test_inner_side_is_clear(lab):
    _, a, b = lab.pair()
    capture = Capture(a, "--inner")
    talk(a, b, 7000, 100000)
    packets, _ = capture.end(signal.SIGTERM)
    rows = fields(capture.path, "tcp.dstport", "tcp.payload", "frame.interface_name",
                  "frame.comment", "frame.packet_flags_direction", "tcp.flags.syn", show="tcp")
    expect_eq(len(rows), packets)
    sent = b"".join(bytes.fromhex("".join(r["tcp.payload"])) for r in rows
                    if r["tcp.dstport"] == ["7000"])
    expect_eq(sent == b"question" + bytes(i % 251 for i in range(100000)), True, "clear text")
    expect_eq({r["frame.interface_name"][0] for r in rows}, {"tcpcrypt0"})
    # The first question came before there were keys.
    expect_eq({c for r in rows for c in r["frame.comment"]},
              {f"tcpcrypt session {session_ids(a).pop()}"}, "the session's id")
    expect(sum(bool(r["frame.comment"]) for r in rows) > len(rows) / 2, "nearly everywhere")
    checked = tshark(capture.path, "-o", "tcp.check_checksum:TRUE", "-Y", "tcp.checksum.status != 1")
    expect_eq(checked, "", "all checksums are right")


def test_both_sides_filters_and_limits(lab):
    r, a, b = lab.pair()
    both = Capture(a, "--both", "--port", 7000)
    four = Capture(a, "--count", 4)
    other = Capture(a, "--peer", a.ip4)
    short = Capture(a, "--both", "--peer", b.ip4, "--snaplen", 60)
    talk(a, b, 7001)
    talk(a, b, 7000)
    expect_eq(four.end(None), (4, 0), "ends by itself")
    packets, _ = both.end()
    rows = fields(both.path, "tcp.port", "frame.interface_id", show="tcp")
    expect_eq(len(rows), packets)
    expect(all("7000" in row["tcp.port"] for row in rows), "one port")
    expect_eq({row["frame.interface_id"][0] for row in rows}, {"0", "1"}, "both sides")
    stats = statistics(both.path)
    expect_eq(sum(s[0] for s in stats.values()), packets)
    expect_eq(other.end(), (0, 0), "nobody talks to itself there")
    packets, _ = short.end()
    expect(packets > 20, "both connections", packets)
    expect(all(struct.unpack_from("=I", body, 12)[0] <= 60
               for kind, body in blocks(short.path) if kind == 6), "cut")
    # Clear connections say why they are.
    a_clear = Capture(a)
    r.ip4 = a.ip4.rsplit(".", 1)[0] + ".1"
    talk(a, r, 7002)
    a_clear.end()
    expect("clear: peer-no-eno" in {c for row in fields(a_clear.path, "frame.comment", show="tcp")
                                    for c in row["frame.comment"]}, "the reason")


def test_seconds_and_standard_output(lab):
    _, a, b = lab.pair()
    start = time.monotonic()
    out = open(lab.file("out"), "wb")
    capture = Capture(a, "--seconds", 1, path="-", stdout=out)
    wait_for(lambda: os.path.getsize(lab.file("out")) > 100, 5, "it runs")
    talk(a, b, 7000)
    packets, _ = capture.end(None)
    expect(0.9 < time.monotonic() - start < 5, "a second")
    out.close()
    expect_eq(tshark(lab.file("out"), "-Y", "tcp").count("\n"), packets)


def test_slow_reader_does_not_stall(lab):
    """A reader that stops costs packets of the capture, none of the connection."""
    _, a, b = lab.pair()
    capture = Capture(a, "--both")
    os.kill(capture.proc.pid, signal.SIGSTOP)
    size = 40 << 20
    start = time.monotonic()
    talk_much(a, b, size)
    took = time.monotonic() - start
    expect(took < 10, "the connection goes on", took)
    os.kill(capture.proc.pid, signal.SIGCONT)
    packets, dropped = capture.end()
    expect(dropped > 0 and packets > 0, "some fit, some did not", packets, dropped)
    stats = statistics(capture.path)
    expect_eq(sum(s[1] for s in stats.values()), dropped, "the file knows")
    expect(os.path.getsize(capture.path) < 12 << 20, "bounded")
    expect_eq(tshark(capture.path, "-Y", "tcp").count("\n"), packets, "and whole")


def talk_much(a, b, size):
    listener = b.listen(7000)
    c = a.connect(b.ip4, 7000)
    s, _ = listener.accept()
    listener.close()
    block, sent, got = bytes(1 << 20), 0, 0
    c.setblocking(False)
    s.setblocking(False)
    deadline = time.monotonic() + 30
    while got < size and time.monotonic() < deadline:
        try:
            sent += c.send(block[:size - sent]) if sent < size else 0
        except BlockingIOError:
            pass
        try:
            got += len(s.recv(1 << 20))
        except BlockingIOError:
            pass
    expect_eq(got, size)
    c.close()
    s.close()


def test_who_may_and_what_fails(lab):
    _, a = lab.star("a")
    path = lab.file("x.pcapng")
    r = a.tcns("capture", "-w", path, check=False)
    expect_eq(r.returncode, 3)
    expect(not os.path.exists(path), "no file without a daemon")
    a.up()
    for args in ([], ["-w", path, "--peer", "example"], ["-w", path, "--port", "0"],
                 ["-w", path, "--count", "0"], ["-w", path, "more"]):
        expect_eq(a.tcns("capture", *args, check=False).returncode, 2, args)
    r = a.tcns("capture", "-w", lab.file("no/x"), check=False)
    expect_eq(r.returncode, 1)
    expect("cannot open" in r.stderr, r.stderr)
    # The container's own users may not; nor may a user without the capability.
    os.chmod(lab.dir, 0o755)
    r = a.run("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups",
              "--bounding-set=-all", "--inh-caps=-all", binary(), "capture", "-w", "/dev/null", check=False)
    expect_eq(r.returncode, 4, r.stderr)
    running = [Capture(a, path=lab.file(f"{i}.pcapng")) for i in range(4)]
    r = a.tcns("capture", "-w", path, check=False)
    expect_eq(r.returncode, 1)
    expect("TooMany" in r.stderr, r.stderr)
    # Down ends them in order.
    a.down()
    for c in running:
        expect_eq(statistics(c.path) if c.proc.wait(10) == 0 else c.proc.stderr.read(),
                  {0: (0, 0)})


if __name__ == "__main__":
    tap.main()
