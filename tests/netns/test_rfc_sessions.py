#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""RFC 8548 between two hosts: key exchanges and ciphers, resumption, rekeying, keep-alive."""
import os
import threading
import time

import tap
from lab import expect, expect_eq, wait_for
from middlebox import Middlebox
from rfc import (AEADS, GLOBAL_B, INIT1_MAGIC, INIT2_MAGIC, TEPS, both_ways, cache, call, connected,
                 end_of, ended, errors, expect_both_reset, ping, read_exactly, session, wait_ended,
                 wait_none)
from wire import ACK, OPT_ENO, RST, SYN, Capture


def hosts(lab, at_a=(), at_b=()):
    """Two hosts of ours with a middlebox that does nothing yet. Return: box, a, b."""
    box = Middlebox(lab)
    a, b = box.hosts
    a.up(*at_a)
    b.up(*at_b)
    return box, a, b


def open_once(a, b, port=80):
    """One connection that is used and closed. Return: what a says of it."""
    with connected(a, b, port) as (c, s):
        ping(c, s)
        at_a, at_b = session(a, port), session(b, port)
    wait_none(a)
    wait_none(b)
    expect_eq((at_a["reason"], at_a["state"]), (at_b["reason"], at_b["state"]), "both ends agree")
    return at_a


def is_frame(payload):
    return payload[:4] not in (INIT1_MAGIC, INIT2_MAGIC) and payload[0] in (0, 1)


def frames_of(stream):
    """Return: (control, length of the ciphertext) of each whole frame, RFC 8548 3.6."""
    at, out = 0, []
    if stream[:4] in (INIT1_MAGIC, INIT2_MAGIC):
        at = int.from_bytes(stream[4:8], "big")
    while at + 3 <= len(stream):
        length = int.from_bytes(stream[at + 1:at + 3], "big")
        if at + 3 + length > len(stream):
            break
        out.append((stream[at], length))
        at += 3 + length
    return out


def frames_on(cap, port):
    """Return: frames to the port, frames from it."""
    streams = cap.streams()
    return ([f for k, s in streams.items() if k[3] == port for f in frames_of(s)],
            [f for k, s in streams.items() if k[1] == port for f in frames_of(s)])


# --- Key exchanges and ciphers ----------------------------------------------------------

def one_suite(a, b, tep, aead, port):
    with connected(a, b, port) as (c, s):
        both_ways(c, s, 200_000)
        at_a, at_b = session(a, port), session(b, port)
    for x in (at_a, at_b):
        expect_eq((x["state"], x["reason"]), ("encrypted", "full"), f"{tep}, {aead}")
        expect_eq(x["tep"], "TCPCRYPT_ECDHE_" + tep.replace("-", ""))
        expect_eq(x["aead"], AEADS[aead])
        expect_eq((x["tx_bytes"], x["rx_bytes"]), (200_000, 200_000))
    expect_eq(at_a["session_id"], at_b["session_id"], "ids")
    expect_eq(int(at_a["session_id"][:2], 16), TEPS[tep], "the id begins with the TEP")


def suites(lab, tep):
    """RFC 8548 3.3: each cipher, chosen by the opener's list and by the answerer's."""
    box, a, b = hosts(lab)
    with box:
        for n, aead in enumerate(AEADS):
            picky = (a, b)[n % 2]
            picky.down()
            picky.up("--tep", tep, "--aead", aead)
            one_suite(a, b, tep, aead, 80 + n)
            picky.down()
            picky.up()


def test_curve25519_with_each_aead(lab):
    suites(lab, "Curve25519")


def test_curve448_with_each_aead(lab):
    suites(lab, "Curve448")


def test_p256_with_each_aead(lab):
    suites(lab, "P-256")


def test_p521_with_each_aead(lab):
    suites(lab, "P-521")


def test_the_answerer_prefers(lab):
    """RFC 8547 4.5: the last TEP of host B's option; RFC 8548 3.3: host B chooses the cipher."""
    box, a, b = hosts(lab, ("--tep", "Curve448,P-521", "--aead", "ChaCha20-Poly1305,AES-128-GCM"),
                      ("--tep", "P-256,P-521,Curve448", "--aead", "AES-128-GCM,ChaCha20-Poly1305"))
    with box:
        s = open_once(a, b)
        expect_eq((s["tep"], s["aead"]), ("TCPCRYPT_ECDHE_P521", "AEAD_AES_128_GCM"), "b answers")
        # The other port has no secret at a, but b may resume as the opener: not here.
        next(call(a, "FlushCache"))
        next(call(b, "FlushCache"))
        s = open_once(b, a, 81)
        expect_eq((s["tep"], s["aead"]), ("TCPCRYPT_ECDHE_Curve448", "AEAD_CHACHA20_POLY1305"),
                  "a answers")


def test_no_common_tep_is_clear(lab):
    """RFC 8547 4.5, both ends, and no ENO after the SYN."""
    box, a, b = hosts(lab, ("--tep", "P-256"), ("--tep", "Curve448,Curve25519"))
    with box, Capture(box.ns, a.peer_if) as cap:
        for opener, answerer, port in ((a, b, 80), (b, a, 81)):
            with connected(opener, answerer, port) as (c, s):
                ping(c, s, b"plaintext")
                expect_eq((session(answerer, port)["state"], session(answerer, port)["reason"]),
                          ("clear", "no-common-tep"))
                expect_eq((session(opener, port)["state"], session(opener, port)["reason"]),
                          ("clear", "peer-no-eno"))
        late = [t for t in cap.tcp() if t.option(OPT_ENO) is not None
                and t.flags & (SYN | ACK) != SYN]
        expect_eq(late, [], "segments with option 69 after the SYN")


def test_no_common_aead_is_an_error(lab):
    """RFC 8548 3.3: host B aborts; nothing goes in clear."""
    box, a, b = hosts(lab, ("--aead", "AES-256-GCM"), ("--aead", "ChaCha20-Poly1305"))
    with box, Capture(box.ns, a.peer_if) as cap:
        expect_both_reset(a, b, b"plaintext marker")
        expect_eq(wait_ended(b, 80)["error"], "init-cipher")
        expect_eq(errors(b), {"init-cipher": 1})
        cap.stop()
        expect(not cap.has_bytes(b"plaintext marker"), "nothing in clear")
        expect([t for t in cap.tcp() if t.flags & RST], "a RST on the wire")


# --- Resumption -------------------------------------------------------------------------

def test_resumption_on_the_wire(lab):
    """RFC 8548 3.5: no Init messages, the first data segment is a frame."""
    box, a, b = hosts(lab)
    with box:
        first = open_once(a, b)
        expect_eq(first["reason"], "full")
        with Capture(box.ns, a.peer_if) as cap:
            second = open_once(a, b)
            wait_ended(a, 80, 2)
            cap.stop()
        expect_eq(second["reason"], "resumed")
        expect_eq(second["state"], "encrypted")
        expect(second["session_id"] != first["session_id"], "its own id", first, second)
        syn = next(t for t in cap.tcp() if t.flags & (SYN | ACK) == SYN)
        synack = next(t for t in cap.tcp() if t.flag(SYN | ACK))
        # length byte or last: TEP with v = 1, 9 bytes of the identifier, 8 of nonce
        expect_eq(syn.option(OPT_ENO)[-18], 0x80 | 0x23, "the SYN's last suboption")
        expect_eq(synack.option(OPT_ENO)[:2], bytes([GLOBAL_B, 0x80 | 0x23]), "the SYN-ACK's")
        expect(syn.option(OPT_ENO)[-17:] != synack.option(OPT_ENO)[-17:], "two halves")
        with_data = [t for t in cap.tcp() if t.payload]
        expect(with_data and all(is_frame(t.payload) for t in with_data), "frames only", with_data)
        expect_eq({(x["resume"]) for x in (cache(a), cache(b))}, {1}, "one chain at each end")


def test_resumed_data_is_in_the_first_flight(lab):
    """Nothing of the answerer's but its SYN-ACK gets through, and the data is there."""
    box, a, b = hosts(lab)
    with box:
        open_once(a, b)
        box.rule = lambda t: [] if not t.to_b and not t.flags & SYN else None
        with b.listen(80) as listener, a.connect(b.ip4, 80) as c:
            c.sendall(b"first flight")
            s, _ = listener.accept()
            s.settimeout(5)
            expect_eq(read_exactly(s, 12), b"first flight")
            expect_eq(session(b, 80)["reason"], "resumed")
            box.rule = None
            ping(c, s)
            s.close()


def test_either_side_opens_next(lab):
    """RFC 8548 3.5: the secret serves both roles; three connections of one chain."""
    box, a, b = hosts(lab)
    with box:
        expect_eq(open_once(a, b)["reason"], "full")
        ids = set()
        for opener, answerer, port in ((b, a, 81), (a, b, 80), (b, a, 82), (a, b, 80)):
            s = open_once(opener, answerer, port)
            expect_eq((s["reason"], s["role"], s["dir"]), ("resumed", "a", "out"), port)
            ids.add(s["session_id"])
        expect_eq(len(ids), 4, "ids")


def test_resumption_over_ipv6_with_each_tep(lab):
    box, a, b = hosts(lab)
    with box:
        for n, tep in enumerate(TEPS):
            b.down()
            b.up("--tep", tep)
            port = 80 + n
            for want in ("full", "resumed"):
                with connected(a, b, port, b.ip6) as (c, s):
                    both_ways(c, s, 50_000)
                    x = session(a, port)
                    expect_eq((x["reason"], x["tep"]),
                              (want, "TCPCRYPT_ECDHE_" + tep.replace("-", "")))


def test_restart_of_the_answerer(lab):
    """It has forgotten the secret: the same SYN leads to a fresh exchange, nothing is lost."""
    box, a, b = hosts(lab)
    with box:
        open_once(a, b)
        b.down()
        b.up()
        with Capture(box.ns, a.peer_if) as cap, connected(a, b) as (c, s):
            both_ways(c, s, 100_000)
            expect_eq(session(a, 80)["reason"], "full")
            syns = [t for t in cap.tcp() if t.flags & (SYN | ACK) == SYN]
            expect_eq(len(syns), 1, "one SYN")
            expect(0x80 | 0x23 in syns[0].option(OPT_ENO), "that proposed to resume", syns)
        expect_eq(open_once(a, b)["reason"], "resumed", "and then again")


def test_restart_of_the_opener(lab):
    box, a, b = hosts(lab)
    with box:
        open_once(a, b)
        a.down()
        a.up()
        expect_eq(open_once(a, b)["reason"], "full")
        expect_eq(open_once(a, b)["reason"], "resumed")


def test_no_resume_at_either_end(lab):
    box, a, b = hosts(lab)
    with box:
        for picky in (b, a):
            picky.down()
            picky.up("--no-resume")
            reasons = [open_once(a, b)["reason"] for _ in range(3)]
            expect_eq(reasons, ["full"] * 3, picky.short)
            picky.down()
            picky.up()


def test_flushed_cache(lab):
    box, a, b = hosts(lab)
    with box:
        for who in (a, b):
            open_once(a, b)
            expect_eq(open_once(a, b)["reason"], "resumed")
            next(call(who, "FlushCache"))
            expect_eq(cache(who)["resume"], 0)
            expect_eq(open_once(a, b)["reason"], "full", who.short)


def test_lost_syns_do_not_end_the_chain(lab):
    """Each uses up a secret; the answerer recognises a few later ones."""
    box, a, b = hosts(lab)
    with box:
        open_once(a, b)
        box.rule = lambda t: [] if t.is_syn else None
        for _ in range(3):
            with a.socket() as c:
                c.settimeout(0.1)
                try:
                    c.connect((b.ip4, 80))
                    expect(False, "connected")
                except TimeoutError:
                    pass
        box.rule = None
        expect_eq(open_once(a, b)["reason"], "resumed")
        # The other host may still believe in the secrets that got lost; then it learns.
        expect(open_once(b, a, 81)["reason"] in ("resumed", "full"), "the other way")
        expect_eq(open_once(b, a, 81)["reason"], "resumed", "the other way, again")


def test_lost_syn_ack_of_a_resumption(lab):
    """RFC 8547 4.6: the SYN-ACK that comes again is the same, nonce and all."""
    box, a, b = hosts(lab)
    seen = []

    def lose_first(t):
        if not t.is_synack:
            return None
        seen.append(t.options)
        return [] if len(seen) == 1 else None

    with box:
        open_once(a, b)
        box.rule = lose_first
        with connected(a, b) as (c, s):
            ping(c, s)
            reason = session(a, 80)["reason"]
        expect_eq(reason, "resumed")
        expect(len(seen) >= 2, "sent again", seen)
        expect_eq(len(set(seen)), 1, "kinds of SYN-ACKs")


def test_replayed_syn_uses_nothing_up(lab):
    """The SYN of a resumption comes a second time from another port: no secret is spent on it."""
    box, a, b = hosts(lab)
    with box:
        open_once(a, b)
        stolen = []

        def steal(t):
            if t.is_syn and t.to_b and t.dport == 80:
                stolen.append(t.copy(sport=t.sport ^ 1, seq=t.seq + 77))
                return stolen[-1:] + [t] if len(stolen) == 1 else None
            return None

        box.rule = steal
        expect_eq(open_once(a, b)["reason"], "resumed", "the real one")
        box.rule = None
        expect_eq(open_once(a, b)["reason"], "resumed", "the next")


def test_both_open_at_once(lab):
    """Crossing proposals of one secret: it is enabled by neither (RFC 8548 3.5)."""
    box, a, b = hosts(lab)
    with box:
        open_once(a, b)
        held = []

        def meet(t):
            if not t.is_syn or len(held) >= 2:
                return None
            held.append(t)
            if len(held) < 2:
                return []
            box.send(held[:1])
            return held[1:]

        box.rule = meet
        with a.listen(81) as listen_a, b.listen(80) as listen_b:
            out = {}

            def go():
                out["b"] = b.connect(a.ip4, 81)

            t = threading.Thread(target=go, daemon=True)
            t.start()
            c = a.connect(b.ip4, 80)
            t.join(10)
            box.rule = None
            s, x = listen_b.accept()[0], listen_a.accept()[0]
            d = out["b"]
            both_ways(c, s, 50_000)
            both_ways(d, x, 50_000)
            reasons = [session(n, p)["reason"] for n in (a, b) for p in (80, 81)]
            expect_eq(reasons, ["full"] * 4)
            for sock in (c, d, s, x):
                sock.close()
        expect_eq(open_once(a, b)["reason"], "resumed", "later ones resume")


def test_many_at_once_resume_at_most_once_each(lab):
    """Openings at the same time, both directions: each works, and no id comes twice."""
    box, a, b = hosts(lab)
    with box:
        open_once(a, b)
        with b.listen(80) as listen_b, a.listen(81) as listen_a:
            pairs = []
            for opener, addr, port in ((a, b.ip4, 80), (b, a.ip4, 81)) * 8:
                c = opener.socket()
                c.setblocking(False)
                try:
                    c.connect((addr, port))
                except BlockingIOError:
                    pass
                pairs.append(c)
            ends = [listener.accept()[0] for listener in (listen_b, listen_a) for _ in range(8)]
            by_name = {e.getpeername(): e for e in ends}
            for c in pairs:
                c.settimeout(10)
                wait_for(lambda c=c: by_name.get(c.getsockname()), 5, "accepted")
                by_name[c.getsockname()].settimeout(10)
                ping(c, by_name[c.getsockname()])
            ids = [x["session_id"] for x in a.sessions()]
            expect_eq((len(ids), len(set(ids))), (16, 16), "ids")
            for sock in (*pairs, *ends):
                sock.close()


# --- Rekeying, keep-alive ---------------------------------------------------------------

@tap.timeout(60)
def test_rekey_under_load(lab):
    """RFC 8548 3.8: each end asks for new keys and answers the other's; all bytes arrive."""
    box, a, b = hosts(lab, ("--rekey-bytes", "20000"), ("--rekey-bytes", "30000"))
    with box, Capture(box.ns, a.peer_if) as cap:
        with connected(a, b) as (c, s):
            both_ways(c, s, 1_000_000)
            ping(c, s)
            live = session(a, 80), session(b, 80)
        wait_ended(a, 80)
        cap.stop()
        expect_eq(live[0]["session_id"], live[1]["session_id"], "the id stays")
        to, back = frames_on(cap, 80)
        for name, frames in (("to b", to), ("to a", back)):
            rekeys = sum(control & 1 for control, _ in frames)
            expect(rekeys >= 8, f"{name}: generations", rekeys, len(frames))
            expect(all(control in (0, 1) for control, _ in frames), f"{name}: reserved bits")
        expect_eq(sum(c & 1 for c, _ in to), sum(c & 1 for c, _ in back),
                  "one frame with rekey = 1 per generation and direction")


def test_rekey_of_one_end_is_answered(lab):
    """The other has nothing to say: an empty frame answers, RFC 8548 3.8."""
    box, a, b = hosts(lab, ("--rekey-bytes", "10000"))
    with box, Capture(box.ns, a.peer_if) as cap, connected(a, b) as (c, s):
        for _ in range(6):
            data = os.urandom(12_000)
            c.sendall(data)
            expect(read_exactly(s, len(data)) == data, "data")

        def answered():
            to, back = frames_on(cap, 80)
            asked = sum(x & 1 for x, _ in to)
            return asked >= 3 and sum(x & 1 for x, _ in back) == asked
        wait_for(answered, 5, "each rekeying answered", 0.05)
        _, back = frames_on(cap, 80)
        expect_eq({f for f in back}, {(1, 17)}, "frames without data")
        ping(c, s)


def test_keepalive_of_an_idle_connection(lab):
    """RFC 8548 3.9: frames both ways without the application, and all works after it."""
    box, a, b = hosts(lab, ("--keepalive", "1"))
    with box, Capture(box.ns, a.peer_if) as cap, connected(a, b) as (c, s):
        ping(c, s)

        def probed():
            to, back = frames_on(cap, 80)
            return sum(x & 1 for x, _ in to) >= 2 and sum(x & 1 for x, _ in back) >= 2
        wait_for(probed, 8, "two probes and their answers", 0.1)
        to, back = frames_on(cap, 80)
        expect_eq({f for f in to + back if f[0] & 1}, {(1, 17)}, "probes have no data")
        ping(c, s)
        x = session(a, 80)
        expect_eq((x["tx_bytes"], x["rx_bytes"]), (8, 8), "probes are not the application's")


def test_keepalive_and_a_peer_that_vanished(lab):
    """It ends after about two intervals, for those who asked for it only."""
    box, a, b = hosts(lab, ("--keepalive", "1"))
    with box, connected(a, b) as (c, s):
        ping(c, s)
        box.rule = lambda t: []
        start = time.monotonic()
        what, got = end_of(c, 8)
        took = time.monotonic() - start
        expect_eq(got, b"")
        expect(what != "eof", "not an end of the data", what)
        expect(1 <= took <= 4.5, "after about two intervals", took)
        x = wait_ended(a, 80)
        expect_eq(x["end"], "timeout")
        expect_eq(session(b, 80)["state"], "encrypted", "the other end has not asked")


def test_keepalive_leaves_clear_connections_alone(lab):
    box = Middlebox(lab)
    a, p = box.hosts
    a.up("--keepalive", "1")
    with box, Capture(box.ns, a.peer_if) as cap, connected(a, p) as (c, s):
        ping(c, s)
        wait_for(lambda: len([t for t in cap.tcp() if t.payload]) == 2, 3, "the two texts")
        until = time.monotonic() + 3
        wait_for(lambda: time.monotonic() > until, 4, "idle time", 0.1)
        expect_eq(len([t for t in cap.tcp() if t.payload]), 2, "nothing else is sent")
        ping(c, s)


def test_keepalive_from_both_ends_while_data_flows(lab):
    box, a, b = hosts(lab, ("--keepalive", "1", "--rekey-bytes", "5000"), ("--keepalive", "1"))
    with box, connected(a, b) as (c, s):
        until = time.monotonic() + 4
        while time.monotonic() < until:
            both_ways(c, s, 20_000)
        wait_for(lambda: time.monotonic() > until + 2.5, 5, "idle time", 0.1)
        both_ways(c, s, 20_000)
        expect_eq([x for x in ended(a) + ended(b)], [])


if __name__ == "__main__":
    tap.main()
