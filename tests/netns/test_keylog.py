# SPDX-License-Identifier: BSD-3-Clause
"""The key log, and the dissector that decrypts captures with it."""
import json
import os
import re
import signal
import socket
import stat
import subprocess

import tap
from dissect import fields, tshark, values
from lab import binary, expect, expect_eq, wait_for

LINE = re.compile(r"TCPCRYPT_KEY (\w{66}) (\S+) (\d+) (\S+) (\d+) (\d+) (\w{4}) (\w+) (\w{24})")


class Tcpdump:
    """A capture on the router, as a wire would show it."""

    def __init__(self, router, dev, path):
        router.offload(False, dev)
        self.path = path
        self.proc = router.popen("tcpdump", "-Z", "root", "-U", "-ni", dev, "-w", path, "tcp")
        wait_for(lambda: "listening on" in self.proc.err(), 10, "tcpdump")

    def stop(self, connections):
        """Waits until they have all ended in it."""
        def there():
            return tshark(self.path, "-Y", "tcp.flags.fin == 1").count("\n") >= 2 * connections
        wait_for(there, 10, "the ends are in the capture", 0.2)
        self.proc.stop(signal.SIGINT)


def talk(a, b, port, size=0):
    """Question, answer, size bytes, both ends."""
    listener = b.listen(port)
    c = a.connect(b.ip4, port)
    s, _ = listener.accept()
    listener.close()
    c.sendall(b"question")
    expect_eq(s.recv(100), b"question")
    s.sendall(b"answer")
    expect_eq(c.recv(100), b"answer")
    if size:
        c.sendall(bytes(i % 251 for i in range(size)))
        got = 0
        while got < size:
            got += len(s.recv(65536))
    c.close()
    expect_eq(s.recv(1), b"")
    s.close()


def record(lab, *opts, times=2, size=0):
    """Two containers that talk; a writes its keys. Return: capture, key log, a."""
    r, a, b = lab.star("a", "b")
    keys, pcap = lab.file("keys"), lab.file("wire.pcap")
    a.up("--keylog", keys, *opts)
    b.up(*opts)
    a.offload(False)
    dump = Tcpdump(r, a.peer_if, pcap)
    for _ in range(times):
        talk(a, b, 7000, size)
    dump.stop(times)
    return pcap, keys, a


def plaintext(pcap, keys, port_name="tcp.dstport", port=7000):
    return bytes.fromhex("".join(values(pcap, "tcpcrypt.data", keylog=keys,
                                        show=f"tcpcrypt and {port_name} == {port}")))


def test_fresh_and_resumed(lab):
    pcap, keys, _ = record(lab)
    rows = fields(pcap, "tcp_eno.form", "tcp_eno.tep", "tcp_eno.resume.id", "tcp_eno.resume.nonce",
                  "tcp_eno.global.b", "tcp_eno.result", "tcp.flags", show="tcp_eno")
    ack = rows[2]
    syn, synack, syn2, synack2 = [row for row in rows if row["tcp_eno.form"] == ["SYN"]]
    expect_eq(syn["tcp_eno.form"], ["SYN"])
    expect_eq(syn["tcp_eno.tep"], ["0x22", "0x21", "0x24", "0x23"], "all TEPs")
    expect_eq(synack["tcp_eno.tep"], ["0x23"])
    expect_eq(synack["tcp_eno.global.b"], ["1"])
    expect_eq(synack["tcp_eno.result"], ["TCPCRYPT_ECDHE_Curve25519, key exchange"])
    expect_eq(ack["tcp_eno.form"], ["non-SYN"])
    expect_eq(len(syn2["tcp_eno.resume.id"][0].replace(":", "")), 18, "nine bytes")
    expect_eq(len(syn2["tcp_eno.resume.nonce"][0].replace(":", "")), 16, "eight bytes")
    expect_eq(synack2["tcp_eno.result"], ["TCPCRYPT_ECDHE_Curve25519, resumed"])

    inits = fields(pcap, "tcpcrypt.init", "tcpcrypt.init.cipher", "tcpcrypt.init.nonce",
                   "tcpcrypt.init.pubkey", "tcpcrypt.init.len", show="tcpcrypt.init")
    expect_eq([i["tcpcrypt.init"] for i in inits], [["Init1"], ["Init2"]], "once, the second resumes")
    expect_eq(inits[0]["tcpcrypt.init.cipher"], ["0x0001", "0x0002", "0x0010"])
    expect_eq(inits[1]["tcpcrypt.init.cipher"], ["0x0001"])
    for i in inits:
        expect_eq([len(i[f"tcpcrypt.init.{n}"][0].replace(":", "")) for n in ("nonce", "pubkey")],
                  [64, 64])

    expect_eq(set(values(pcap, "tcpcrypt.decryption")), {"no key in the log"})
    expect_eq(set(values(pcap, "tcpcrypt.decryption", keylog=keys)), {"decrypted"})
    expect_eq(plaintext(pcap, keys), b"question" * 2)
    expect_eq(plaintext(pcap, keys, "tcp.srcport"), b"answer" * 2)
    expect_eq(values(pcap, "tcpcrypt.text", keylog=keys), ["question", "answer"] * 2)
    expect_eq(sum(v == "1" for v in values(pcap, "tcpcrypt.flags.fin", keylog=keys)), 4, "FINp")
    two_pass = tshark(pcap, "-2", "-R", "tcpcrypt.text == \"answer\"", keylog=keys)
    expect_eq(two_pass.count("\n"), 2, "the same at the second look")


def test_urgent_mark(lab):
    """URGp and its offset, of a frame with an urgent byte."""
    r, a, b = lab.star("a", "b")
    keys = lab.file("keys")
    a.up("--keylog", keys)
    b.up()
    a.offload(False)
    dump = Tcpdump(r, a.peer_if, lab.file("wire.pcap"))
    listener = b.listen(7000)
    c = a.connect(b.ip4, 7000)
    s, _ = listener.accept()
    listener.close()
    c.sendall(b"q")
    expect_eq(s.recv(1), b"q")
    c.send(b"ab!", socket.MSG_OOB)
    expect_eq(s.recv(10), b"ab")
    expect_eq(s.recv(1, socket.MSG_OOB), b"!")
    c.close()
    expect_eq(s.recv(1), b"")
    s.close()
    dump.stop(1)
    rows = fields(dump.path, "tcpcrypt.flags.urg", "tcpcrypt.urgent", "tcpcrypt.text", keylog=keys,
                  show="tcpcrypt.flags.urg == 1")
    expect_eq(len(rows), 1)
    expect_eq((rows[0]["tcpcrypt.urgent"], rows[0]["tcpcrypt.text"]), (["2"], ["ab!"]))


def test_session_ids_and_lines(lab):
    _, keys, a = record(lab)
    ended = json.loads(a.tcns("sessions", "--json", "--ended").stdout)["sessions"]
    with open(keys) as f:
        lines = [LINE.fullmatch(line.rstrip("\n")) for line in f if not line.startswith("#")]
    expect(all(lines) and len(lines) == 4, "a line for each session and direction", lines)
    expect_eq({m[1] for m in lines}, {s["session_id"] for s in ended}, "session ids")
    for s in ended:
        mine = [m for m in lines if m[1] == s["session_id"]]
        ends = {(s["local"], str(s["local_port"])), (s["peer"], str(s["peer_port"]))}
        expect_eq({(m[2], m[3]) for m in mine}, ends, "from")
        expect_eq({(m[4], m[5]) for m in mine}, ends, "to")
        expect_eq({(m[6], m[7], len(m[8])) for m in mine}, {("0", "0001", 32)})
    expect_eq(len({m[8] for m in lines}), 4, "four keys")


@tap.timeout(90)
def test_ciphers_and_generations(lab):
    for number, (name, aead) in enumerate((("AES-128-GCM", 1), ("AES-256-GCM", 2),
                                           ("ChaCha20-Poly1305", 16))):
        if number:
            lab.close()
            lab.__init__()
        pcap, keys, _ = record(lab, "--aead", name, "--rekey-bytes", "5000", times=1, size=30000)
        rows = fields(pcap, "tcp.dstport", "tcpcrypt.decryption", "tcpcrypt.data",
                      "tcpcrypt.frame.rekey", "tcpcrypt.frame.generation", keylog=keys,
                      show="tcpcrypt.frame.control")
        expect_eq({d for row in rows for d in row["tcpcrypt.decryption"]}, {"decrypted"}, name)
        text = {True: b"", False: b""}
        for row in rows:
            text[row["tcp.dstport"] == ["7000"]] += bytes.fromhex("".join(row["tcpcrypt.data"]))
        expect_eq(text[True], b"question" + bytes(i % 251 for i in range(30000)), name)
        expect_eq(text[False], b"answer", name)
        rekeys = sum(row["tcpcrypt.frame.rekey"].count("1") for row in rows)
        generations = {int(g) for row in rows for g in row["tcpcrypt.frame.generation"]}
        expect(rekeys >= 4 and generations == set(range(max(generations) + 1)), "new keys",
               rekeys, generations)
        with open(keys) as f:
            got = [LINE.fullmatch(line.strip()) for line in f if line.startswith("TCPCRYPT_KEY")]
        expect_eq({int(m[7], 16) for m in got}, {aead})
        expect(max(int(m[6]) for m in got) >= max(generations), "each generation has its line")


def test_other_keys_and_wrong_ones(lab):
    """P-256 has a length before the key; a key that is wrong is said to be."""
    pcap, keys, _ = record(lab, "--tep", "P-256", times=1)
    inits = fields(pcap, "tcpcrypt.init.pubkey_len", "tcpcrypt.init.pubkey", show="tcpcrypt.init")
    expect_eq([i["tcpcrypt.init.pubkey_len"] for i in inits], [["33"]] * 2)
    expect_eq(plaintext(pcap, keys), b"question")
    with open(keys) as f:
        text = f.read()

    def flip(m):
        digit = "0" if m[8][0] != "0" else "1"
        return m[0].replace(m[8], digit + m[8][1:])
    with open(keys, "w") as f:
        f.write(LINE.sub(flip, text))
    said = set(values(pcap, "tcpcrypt.decryption", keylog=keys))
    expect(len(said) == 1 and "the tag does not verify; the key in the log is wrong" in said.pop(),
           "the wrong key is named")
    expect_eq(values(pcap, "tcpcrypt.data", keylog=keys), [], "and nothing is shown")
    expect("the tag does not verify" in tshark(pcap, "-q", "-z", "expert", keylog=keys),
           "expert info")


def test_without_tcpcrypt(lab):
    """A peer that does not answer with ENO: the dissector keeps its hands off."""
    r, a, b = lab.star("a", "b")
    a.up()
    a.offload(False)
    dump = Tcpdump(r, a.peer_if, lab.file("wire.pcap"))
    talk(a, b, 7000)
    dump.stop(1)
    expect_eq(values(dump.path, "tcp_eno.form"), ["SYN"])
    expect_eq(tshark(dump.path, "-Y", "tcpcrypt"), "")
    expect_eq(bytes.fromhex("".join(values(dump.path, "tcp.payload", show="tcp.len > 0"))),
              b"questionanswer")


def up(ns, keys, **kwargs):
    return ns.up("--keylog", keys, check=False, **kwargs)


def test_file_is_opened_with_care(lab):
    _, a = lab.star("a")
    keys = lab.file("keys")
    refused = [
        ("symbolic link", lambda: os.symlink(lab.file("other"), keys)),
        ("second name", lambda: (write(lab.file("other"), 0o600), os.link(lab.file("other"), keys))),
        ("others may read", lambda: write(keys, 0o644)),
        ("others may read", lambda: write(keys, 0o602)),
        ("somebody else", lambda: (write(keys, 0o600), os.chown(keys, 12345, -1))),
        ("no regular file", lambda: os.mkfifo(keys, 0o600)),
    ]
    reader = None
    for why, make in refused:
        make()
        if why == "no regular file":
            reader = os.open(keys, os.O_RDONLY | os.O_NONBLOCK)
        r = up(a, keys)
        expect_eq(r.returncode, 1 if "link" in why else 4, why)
        expect(why in r.stderr, why, r.stderr)
        expect("is refused" in r.stderr or "cannot open" in r.stderr, "says so", r.stderr)
        for path in (keys, lab.file("other")):
            if os.path.lexists(path):
                expect_eq(os.path.islink(path) or os.stat(path).st_size, os.path.islink(path) or 0,
                          "nothing was written")
                os.unlink(path)
    os.close(reader)
    r = up(a, lab.file("no/such/folder"))
    expect_eq(r.returncode, 1)
    expect("No such file" in r.stderr, r.stderr)
    expect_eq(a.tcns("status", check=False).returncode, 3, "no daemon came up")
    r = a.run(binary(), "exec", "--keylog", lab.file("no/such/folder"), "--", "true", check=False)
    expect_eq(r.returncode, 125)


def write(path, mode):
    with open(path, "w"):
        pass
    os.chmod(path, mode)


def test_it_is_loud_and_private(lab):
    _, a, b = lab.star("a", "b")
    keys = lab.file("keys")
    old = os.umask(0)
    r = a.up("--keylog", keys)
    os.umask(old)
    expect("WARNING: the keys of all connections are written to" in r.stderr, r.stderr)
    st = os.stat(keys)
    expect_eq((stat.S_IMODE(st.st_mode), st.st_uid), (0o600, 0))
    expect(f"WARNING: the keys of all connections are written to {keys}" in a.tcns("status").stdout,
           "status")
    expect_eq(json.loads(a.tcns("status", "--json").stdout)["keylog"], keys)
    with open(a.log_path()) as f:
        expect("WARNING: the keys" in f.read(), "the log")
    b.up()
    expect("keylog" not in json.loads(b.tcns("status", "--json").stdout), "off by default")
    expect("WARNING" not in b.tcns("status").stdout)
    # A new worker goes on with the file; the daemon's log has no key.
    talk(a, b, 7000)
    os.kill(json.loads(a.tcns("status", "--json").stdout)["worker_pid"], signal.SIGKILL)
    wait_for(lambda: a.tcns("status", check=False).returncode == 0, 10, "the next worker")
    talk(a, b, 7001)
    with open(keys) as f:
        ids = {m[1] for m in map(LINE.match, f) if m}
    expect_eq(len(ids), 2, "both sessions")
    with open(keys) as f, open(a.log_path()) as log:
        text = log.read()
        expect(not any(m[8] in text for m in map(LINE.match, f) if m), "no key in the log")


def test_ipv6_and_relative_path(lab):
    _, a, b = lab.star("a", "b")
    b.up()
    r = subprocess.run([binary(), "up", "--netns", a.name, "--bypass", "none", "--keylog", "keys6"],
                       cwd=lab.dir, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    expect_eq(r.returncode, 0, r.stderr)
    with b.listen(7000, b.ip6) as listener, a.connect(b.ip6, 7000) as c:
        s, _ = listener.accept()
        s.sendall(b"x")
        expect_eq(c.recv(1), b"x")
        s.close()
    with open(lab.file("keys6")) as f:
        lines = [m for m in map(LINE.match, f) if m]
    expect_eq({m[2] for m in lines}, {a.ip6, b.ip6})


if __name__ == "__main__":
    tap.main()
