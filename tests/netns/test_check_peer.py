# SPDX-License-Identifier: BSD-3-Clause
"""check --peer: what real middleboxes do to the option, with a daemon here and without one."""
import contextlib
import json
import random
import signal
import socket
import subprocess
import threading
import time

import tap
from lab import binary, expect, expect_eq, wait_for
from middlebox import Middlebox
from rfc import ended
from schema import load, validate
from wire import ACK, OPT_ENO, RST, Capture

PORT = 7000


def peer(ns, target, *wrap):
    """Return: the verdict, the object "peer", all lines."""
    r = ns.run(*wrap, binary(), "check", "--peer", target, "--json", check=False)
    expect_eq(r.stderr, "", target)
    found = json.loads(r.stdout)
    validate(found, load("check"))
    verdict = found["peer"]["verdict"]
    expect_eq(r.returncode, 0 if verdict == "supported" else 1, found)
    expect_eq(found["checks"][-1]["name"], "verdict")
    return verdict, found["peer"], found["checks"]


def line(lines, name, words):
    found = [x for x in lines if x["name"] == name and words in x["text"]]
    expect(len(found) == 1, f"one line {name}: {words!r}", lines)
    return found[0]


@contextlib.contextmanager
def hosts(lab, both=False):
    """A box between a, who asks, and b, who has a daemon."""
    with Middlebox(lab) as box:
        a, b = box.hosts
        b.up()
        if both:
            a.up()
        with b.listen(PORT), b.listen(PORT, "::"):
            yield box, a, b


# --- Without a box ------------------------------------------------------------------------------


def test_supported(lab):
    """Without a daemon: the keys are the peer's, nothing is reset before, nothing stays."""
    _, a, b = lab.star("a", "b")
    b.up()
    before = a.snapshot()
    with b.listen(PORT), b.listen(PORT, "::"):
        for addr in (b.ip4, f"[{b.ip6}]"):
            with Capture(a, "eth0") as wire:
                verdict, found, lines = peer(a, f"{addr}:{PORT}")
                wire.stop()
            expect_eq((verdict, found["tep"], found["aead"]),
                      ("supported", "TCPCRYPT_ECDHE_Curve25519", "AEAD_AES_128_GCM"))
            there = wait_for(lambda: [s for s in ended(b) + b.sessions()
                                      if s.get("session_id") == found["session_id"]])[0]
            expect_eq((there["dir"], there["reason"]), ("in", "full"))
            out = [t for t in wire.tcp() if t.outgoing]
            ports = {t.sport for t in out}
            expect_eq(len(ports), 2, "two connections")
            expect(all(t.tcp_ok for t in out), "checksums")
            for port in ports:
                resets = [t for t in out if t.sport == port and t.flag(RST)]
                expect(len(resets) == 1 and [t for t in out if t.sport == port][-1] is resets[0],
                       "one reset, our own, at the end", wire.tcp())
            acks = [t for t in out if t.flag(ACK) and not t.flag(RST)]
            expect(acks and acks[0].option(OPT_ENO) == b"", "the first ACK has the option", out)
    expect_eq(a.snapshot(), before, "nothing stays")


def test_plain_peer(lab):
    """Nobody knows: it does not speak it, or a box has removed it."""
    r, a, b = lab.star("a", "b")
    with b.listen(PORT):
        verdict, found, lines = peer(a, f"{b.ip4}:{PORT}")
        expect_eq(verdict, "no-eno")
        expect("session_id" not in found and "hop" not in found, found)
        expect("does not speak tcpcrypt, or something" in lines[-1]["text"], lines[-1])
        line(lines, "path", "on hop 1, 10.77.1.1, it was still there")


def test_closed_unreachable_silent(lab):
    r, a, b = lab.star("a", "b")
    expect_eq(peer(a, f"{b.ip4}:{PORT}")[0], "closed")
    expect_eq(peer(a, f"[{b.ip6}]:{PORT}")[0], "closed")
    r.ip("route", "add", "unreachable", "192.0.2.0/24")
    verdict, _, lines = peer(a, f"192.0.2.1:{PORT}")
    expect_eq(verdict, "unreachable")
    line(lines, "plain", "an error from 10.77.1.1: ICMP type 3, code 1")
    r.forward_rules("drop")
    expect_eq(peer(a, f"{b.ip4}:{PORT}")[0], "silent")
    a.ip("route", "del", "default")
    expect_eq(peer(a, f"192.0.2.1:{PORT}")[0], "unreachable")


def test_wrong_use(lab):
    _, a = lab.star("a")
    for target in ("", "x", "x:", ":80", "x:0", "x:65536", "x:8a", "fd00::1:80", "[fd00::1]",
                   "http://x", "http://:80/"):
        r = a.run(binary(), "check", "--peer", target, check=False)
        expect_eq(r.returncode, 2, target)
        expect("is none of HOST:PORT" in r.stderr, r.stderr)
    r = a.run(binary(), "check", "--peer", "..:80", check=False)
    expect_eq(r.returncode, 1, r.stderr)
    r = a.run("setpriv", "--bounding-set", "-net_raw", binary(), "check", "--peer",
              "10.77.1.1:80", check=False)
    expect_eq(r.returncode, 4, r.stderr)
    expect("CAP_NET_RAW" in r.stderr, r.stderr)
    a.up()
    pids = json.loads(a.tcns("status", "--json").stdout)
    for pid in (pids["pid"], pids["worker_pid"]):
        subprocess.run(["kill", "-KILL", str(pid)], check=False)
    wait_for(lambda: "tcpcrypt0" not in a.ip("link"), what="its device is gone")
    a.ip("tuntap", "add", "dev", "tcpcrypt0", "mode", "tun")
    r = a.run(binary(), "check", "--peer", "10.77.1.1:80", check=False)
    expect_eq(r.returncode, 3, r.stderr)
    a.ip("link", "del", "tcpcrypt0")


def test_text_and_names(lab):
    _, a, b = lab.star("a", "b")
    b.up()
    with b.listen(PORT):
        r = a.tcns("check", "--peer", f"{b.ip4}:{PORT}")
        expect("ok    verdict      tcpcrypt works all the way" in r.stdout, r.stdout)
    r = a.tcns("check", "--peer", "localhost:9", check=False)
    expect_eq(r.returncode, 1, r.stdout)
    expect("nothing listens at that port" in r.stdout, r.stdout)


# --- Boxes --------------------------------------------------------------------------------------


def test_boxes(lab):
    """Without a daemon here. The box takes no packet for itself, so the path tells nothing."""
    def no_eno(s):
        return s.copy(options=s.options[:s.spans()[0][0]] + b"\0" * (-s.spans()[0][0] % 4))

    rules = {
        "no-eno": lambda s: [no_eno(s)] if s.is_syn and s.eno() else None,
        "stripped-back": lambda s: [s.without()] if s.is_synack and s.eno() else None,
        "dropped": lambda s: [] if s.is_syn and s.eno() else None,
        "changed": lambda s: [s.with_eno(bytes.fromhex("45040181"))]
        if s.is_synack and s.eno() else None,
        "no-session": lambda s: [s.without()] if s.eno() and not s.is_syn and not s.is_synack
        else None,
        "no-common-tep": lambda s: [s.with_eno(bytes.fromhex("45030100")[:3])]
        if s.is_synack and s.eno() else None,
    }
    with hosts(lab) as (box, a, b):
        expect_eq(peer(a, f"{b.ip4}:{PORT}")[0], "supported")
        for want, rule in rules.items():
            box.rule = rule
            verdict, _, lines = peer(a, f"{b.ip4}:{PORT}")
            expect_eq(verdict, want, lines)
        box.rule = rules["stripped-back"]
        expect_eq(peer(a, f"[{b.ip6}]:{PORT}")[0], "stripped-back")
        box.rule = lambda s: [no_eno(s)] if s.is_synack and s.eno() else None
        expect_eq(peer(a, f"{b.ip4}:{PORT}")[0], "no-eno", "removed without a trace")


def test_box_that_echoes_or_resets(lab):
    with hosts(lab) as (box, a, b):
        mine = {}

        def echo(s):
            if s.is_syn and s.eno():
                mine["eno"] = s.eno()
            if s.is_synack and s.eno():
                return [s.without().copy(options=s.options[:4] + mine["eno"] + bytes(
                    -len(mine["eno"]) % 4))]
            return None

        box.rule = echo
        expect_eq(peer(a, f"{b.ip4}:{PORT}")[0], "reflected")

        def reset(s):
            if s.is_syn and s.eno():
                back = s.copy(src=s.dst, dst=s.src, sport=s.dport, dport=s.sport, seq=0,
                              ack=s.seq + 1, flags=RST | ACK, options=b"", to_b=not s.to_b,
                              eth=s.eth[6:12] + s.eth[:6] + s.eth[12:])
                return [back]
            return None

        box.rule = reset
        expect_eq(peer(a, f"{b.ip4}:{PORT}")[0], "reset")


def test_boxes_with_a_daemon_here(lab):
    with hosts(lab, both=True) as (box, a, b):
        verdict, found, lines = peer(a, f"{b.ip4}:{PORT}")
        expect_eq(verdict, "supported")
        line(lines, "session", "encrypted, full")
        ids = [s.get("session_id") for s in ended(b) + b.sessions()]
        expect(found["session_id"] in ids, "the id", found, ids)
        box.rule = lambda s: [s.without()] if s.is_syn and s.eno() else None
        expect_eq(peer(a, f"{b.ip4}:{PORT}")[0], "no-eno")
        box.rule = lambda s: [s.with_eno(bytes.fromhex("45040181"))] \
            if s.is_synack and s.eno() else None
        expect_eq(peer(a, f"{b.ip4}:{PORT}")[0], "changed")
        box.rule = lambda s: [] if s.is_syn and s.eno() else None
        for _ in range(2):  # two in a row: one may be chance
            expect_eq(peer(a, f"[{b.ip6}]:{PORT}")[0], "dropped")
        box.rule = None
        verdict, _, lines = peer(a, f"[{b.ip6}]:{PORT}")
        expect_eq(verdict, "remembered")
        expect("cache --flush" in lines[-1]["fix"], lines)
        expect_eq(peer(a, f"{b.ip4}:1")[0], "closed")


def test_policies_here(lab):
    _, a, b = lab.star("a", "b")
    a.up("--policy", "require")
    with b.listen(PORT):
        verdict, _, lines = peer(a, f"{b.ip4}:{PORT}")
        expect_eq(verdict, "no-eno")
        line(lines, "session", "the policy here requires encryption")
        a.down()
        a.up("--policy", "off")
        expect_eq(peer(a, f"{b.ip4}:{PORT}")[0], "off-here")
        a.down()
        a.up("--bypass", str(PORT))
        expect_eq(peer(a, f"{b.ip4}:{PORT}")[0], "not-carried")


# --- The path -----------------------------------------------------------------------------------


def chain(lab, cnt):
    """a - r1 - ... - rN - b. Return: all of them."""
    nodes = [lab.ns("a"), *(lab.ns(f"r{i}") for i in range(1, cnt + 1)), lab.ns("b")]
    for i, (left, right) in enumerate(zip(nodes, nodes[1:])):
        lab.veth(left, "right", right, "left")
        for node, dev, last in ((left, "right", 1), (right, "left", 2)):
            node.ip("addr", "add", f"10.90.{i}.{last}/24", "dev", dev)
            node.ip("addr", "add", f"fd90:{i}::{last}/64", "dev", dev, "nodad")
    for i, node in enumerate(nodes):
        node.sysctl("net.ipv4.ip_forward", 1)
        node.sysctl("net.ipv6.conf.all.forwarding", 1)
        node.sysctl("net.ipv4.icmp_ratelimit", 0)
        node.sysctl("net.ipv6.icmp.ratelimit", 0)
        for j in range(cnt + 1):
            if j > i:
                node.ip("route", "replace", f"10.90.{j}.0/24", "via", f"10.90.{i}.2")
                node.ip("-6", "route", "replace", f"fd90:{j}::/64", "via", f"fd90:{i}::2")
            elif j < i - 1:
                node.ip("route", "replace", f"10.90.{j}.0/24", "via", f"10.90.{i - 1}.1")
                node.ip("-6", "route", "replace", f"fd90:{j}::/64", "via", f"fd90:{i - 1}::1")
    nodes[-1].ip4, nodes[-1].ip6 = f"10.90.{cnt}.2", f"fd90:{cnt}::2"
    return nodes


def test_where_it_is_removed(lab):
    """The second of three routers does: it still quotes the option, the third has none."""
    nodes = chain(lab, 3)
    a, r2, b = nodes[0], nodes[2], nodes[-1]
    b.up("--uplink", "left")
    with b.listen(PORT), b.listen(PORT, "::"):
        expect_eq(peer(a, f"{b.ip4}:{PORT}")[0], "supported")
        r2.forward_rules('iifname "left" tcp flags & (syn | ack) == syn reset tcp option 69')
        verdict, found, lines = peer(a, f"{b.ip4}:{PORT}")
        expect_eq((verdict, found["hop"], found["hop_address"]), ("stripped-out", 3, "10.90.2.2"))
        line(lines, "path", "on hop 2, 10.90.1.2, it was still there")
        verdict, found, _ = peer(a, f"[{b.ip6}]:{PORT}")
        expect_eq((verdict, found["hop"], found["hop_address"]), ("stripped-out", 3, "fd90:2::2"))
        r2.forward_rules('iifname "right" tcp option 69 exists reset tcp option 69')
        verdict, found, lines = peer(a, f"{b.ip4}:{PORT}")
        expect_eq(verdict, "stripped-back")
        line(lines, "path", "on hop 3, 10.90.2.2, it was still there")
        r2.forward_rules('iifname "left" tcp option 69 exists drop')
        verdict, found, lines = peer(a, f"{b.ip4}:{PORT}")
        expect_eq(verdict, "dropped")
        line(lines, "path", "on hop 2, 10.90.1.2, it was still there")


def test_ended_nearby(lab):
    """pasta answers what may not go further than to it."""
    _, outside, b = lab.star("out", "b")
    b.up()
    inside = lab.ns("in")
    p = subprocess.Popen(["nsenter", f"--net={outside.path}", "pasta", "--runas", "0",
                          "--config-net", "-f", "--netns-only", "--netns", inside.path],
                         stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                         stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: "default" in inside.ip("route"), 10, "a default route")
        with b.listen(PORT):
            verdict, _, lines = peer(inside, f"{b.ip4}:{PORT}")
            expect_eq(verdict, "ended-nearby", lines)
    finally:
        p.send_signal(signal.SIGKILL)
        p.wait()


# --- Who means harm -------------------------------------------------------------------------------


def noise(ns, target, quoted_dst, seed, stop):
    """ICMP errors of all lengths, whose quotations are almost right."""
    rnd = random.Random(seed)
    with ns.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as s:
        while not stop.is_set():
            quote = bytearray(rnd.randbytes(rnd.randrange(0, 80)))
            if len(quote) > 20:
                quote[0], quote[9] = 0x40 | rnd.randrange(16), 6
                quote[16:20] = socket.inet_aton(quoted_dst)
            with contextlib.suppress(OSError):
                s.sendto(bytes([rnd.choice((3, 11)), rnd.randrange(16)]) + rnd.randbytes(6) + quote,
                         (target, 0))
            time.sleep(0.001)


def test_hostile_answers(lab):
    """Random options, random bytes for keys, ICMP noise meanwhile: a verdict, and no crash."""
    rnd = random.Random(8548)

    def answer(s):
        if s.is_synack and rnd.random() < 0.3:
            return [s.copy(options=rnd.randbytes(rnd.randrange(0, 41, 4)))]
        if s.is_synack and s.eno():
            return [s.with_eno(bytes([69, 4]) + rnd.choice((b"\1\x23", rnd.randbytes(2))))]
        if not s.to_b and s.payload:
            return [s.copy(payload=rnd.choice((rnd.randbytes(len(s.payload)),
                                               s.payload[:4] + rnd.randbytes(len(s.payload) - 4))),
                           seq=s.seq + rnd.choice((0, 0, 1, 1 << 31)))]
        return None

    with hosts(lab) as (box, a, b):
        stop = threading.Event()
        noisy = threading.Thread(target=noise, args=(b, a.ip4, b.ip4, 1, stop), daemon=True)
        noisy.start()
        try:
            box.rule = answer
            for _ in range(6):
                peer(a, f"{b.ip4}:{PORT}")
            box.rule = None
            expect_eq(peer(a, f"{b.ip4}:{PORT}")[0], "supported", "the noise does not matter")
        finally:
            stop.set()
            noisy.join(5)


def test_hostile_server(lab):
    """It says that it is a test-server, and is none."""
    _, a, b = lab.star("a", "b")
    answers = [b"", b"HTTP/1.1 200 OK\r\n\r\n", b"\r\n\r\n" + b"[" * 16000, b"\0" * 40000,
               b'\r\n\r\n{"reason":"\\u001b[31mpeer-no-eno\\n"}', b'\r\n\r\n{"reason":5}']
    with b.listen(PORT) as listener:
        def serve():
            for i in range(2 * len(answers)):  # the probe without the option is reset at once
                with contextlib.suppress(OSError):
                    s, _ = listener.accept()
                    s.settimeout(3)
                    with s:
                        if s.recv(1000):
                            s.sendall(answers.pop(0))
        for _ in range(3):
            t = threading.Thread(target=serve, daemon=True)
            t.start()
        for _ in range(len(answers)):
            verdict, _, lines = peer(a, f"http://{b.ip4}:{PORT}/")
            expect_eq(verdict, "no-eno")
            expect(all(" " <= c <= "~" for x in lines for c in x["text"]), lines)
    expect_eq(len(answers), 0, "all were given")


# --- A test-server knows more ----------------------------------------------------------------------


def test_asking_the_server(lab):
    """Removed without a trace, in either direction: the other end tells which."""
    def no_eno(s):
        return s.copy(options=s.options[:s.spans()[0][0]] + b"\0" * (-s.spans()[0][0] % 4))

    with hosts(lab) as (box, a, b):
        url = f"http://{b.ip4}:7548/"
        p = b.popen(binary(), "test-server")
        wait_for(lambda: p.out(), what="the test server")
        for daemon in (False, True):
            if daemon:
                a.up()
            box.rule = lambda s: [no_eno(s)] if s.is_syn and s.eno() else None
            verdict, _, lines = peer(a, url)
            expect_eq(verdict, "stripped-out", lines)
            line(lines, "test-server", "peer-no-eno")
            box.rule = lambda s: [no_eno(s)] if s.is_synack and s.eno() else None
            expect_eq(peer(a, url)[0], "stripped-back")
            box.rule = None
            expect_eq(peer(a, url)[0], "supported")
        a.down()
        b.down()
        verdict, _, lines = peer(a, url)
        expect_eq(verdict, "no-eno", lines)
        line(lines, "test-server", "no-daemon")


if __name__ == "__main__":
    tap.main()
