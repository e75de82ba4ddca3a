#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""RFC 8547 and RFC 8548 across boxes that strip, drop, echo, change and add.

What must hold whatever the box does: both ends in clear with the application's
bytes as they were, or both encrypted, or a reset; never bytes that the other
application did not send, and never plaintext after keys were agreed.
"""
import json
import time

import tap
from lab import Failure, expect, expect_eq, expect_none_accepted, wait_for
from middlebox import Middlebox
from rfc import (INIT1_MAGIC, INIT2_MAGIC, accept_of, accept_unless_ended, both_ways, cache,
                 connected, end_of, ended, errors, expect_both_reset, live, ping, read_exactly, session,
                 wait_ended, wait_none)
from wire import ACK, FIN, OPT_ENO, PSH, RST, SYN, Capture

TO_B, TO_A = b"from the opener to the answerer", b"and from the answerer back"
OPT_TFO, OPT_EXPERIMENT = 34, 253


def hosts(lab, at_a=(), at_b=()):
    box = Middlebox(lab)
    a, b = box.hosts
    if at_a is not None:
        a.up(*at_a)
    if at_b is not None:
        b.up(*at_b)
    return box, a, b


def states(a, b, port=80):
    x, y = session(a, port), session(b, port)
    return (x["state"], x["reason"]), (y["state"], y["reason"])


def is_first_ack(t):
    return t.to_b and t.flags & (SYN | ACK) == ACK and t.spans()


# --- Options stripped -------------------------------------------------------------------

def test_stripped_from_all(lab):
    box, a, b = hosts(lab)
    box.rule = lambda t: [t.without()] if t.spans() else None
    with box:
        for addr in (b.ip4, b.ip6):
            with connected(a, b, 80, addr) as (c, s):
                both_ways(c, s, 100_000)
                expect_eq(states(a, b), (("clear", "peer-no-eno"),) * 2)
            wait_none(a)
            wait_none(b)
        expect_eq(cache(a)["fallback"], [], "nothing was lost: nothing to remember")


def test_stripped_after_the_first_ack(lab):
    """RFC 8547 4.6: the first ACK settles it; later segments need no option."""
    box, a, b = hosts(lab)
    seen = []

    def rule(t):
        if not is_first_ack(t):
            return None
        seen.append(t)
        return [t.copy(payload=b""), t.without()] if len(seen) == 1 else [t.without()]

    box.rule = rule
    with box, connected(a, b) as (c, s):
        ping(c, s)
        expect_eq(states(a, b), (("encrypted", "full"),) * 2)
        expect(seen[0].payload, "Init1 has the option, too", seen)


def test_stripped_from_the_first_ack(lab):
    """RFC 8547 4.6 (1): the answerer must go on in clear, the opener is encrypted already. RFC
    8547 9 calls it a failure of type 2: no connection. The answerer may take Init1 for data,
    but no byte of the opener's application is in clear, and the end is a reset."""
    box, a, b = hosts(lab)
    box.rule = lambda t: [t.without()] if is_first_ack(t) else None
    with box, Capture(box.ns, a.peer_if) as cap:
        with connected(a, b) as (c, s):
            c.sendall(TO_B)
            s.sendall(TO_A)
            expect_eq(end_of(c), ("reset", b""), "the opener")
            what, got = end_of(s)
            expect_eq(what, "reset", "the answerer")
            expect(got == b"" or got.startswith(INIT1_MAGIC), "bytes", got)
        expect_eq(wait_ended(a, 80)["error"], "init-magic")
        expect_eq(wait_ended(b, 80)["reason"], "eno-stripped")
        cap.stop()
        expect(not cap.has_bytes(TO_B), "plaintext of the opener on the wire")


# --- Segments with the option dropped ---------------------------------------------------

def test_syn_with_option_dropped(lab):
    """RFC 8547 4.6: without it after one timeout; the second is remembered, shown, forgotten on
    request."""
    box, a, b = hosts(lab)
    with box, Capture(box.ns, a.peer_if) as cap:
        box.rule = lambda t: [] if t.is_syn and t.spans() else None
        for _ in range(2):
            expect_eq(cache(a)["fallback"], [], "one lost SYN is no proof")
            start = time.monotonic()
            with connected(a, b) as (c, s):
                took = time.monotonic() - start
                both_ways(c, s, 10_000)
                expect_eq(states(a, b), (("clear", "eno-dropped"), ("clear", "peer-no-eno")))
            expect(0.9 < took < 1.9, "one timeout of TCP", took)
            wait_none(a)
        entries = json.loads(a.tcns("cache", "--json").stdout)["fallback"]
        expect_eq([e["peer"] for e in entries], [b.ip4], "shown")
        expect(540 <= entries[0]["left"] <= 600, "for ten minutes", entries)
        wait_none(a)

        seen = len(cap.tcp())
        start = time.monotonic()
        with connected(a, b) as (c, s):
            ping(c, s)
            expect_eq(states(a, b), (("clear", "fallback-cache"), ("clear", "peer-no-eno")))
        expect(time.monotonic() - start < 0.9, "at once")
        expect(not [t for t in cap.tcp()[seen:] if t.option(OPT_ENO) is not None], "no option")
        wait_none(a)
        # The other host's connections are its own matter.
        box.rule = None
        with connected(b, a, 81) as (c, s):
            ping(c, s)
            expect_eq(states(b, a, 81)[0][0], "encrypted")
        wait_none(a)

        a.tcns("cache", "--flush")
        expect_eq(cache(a)["fallback"], [])
        with connected(a, b) as (c, s):
            ping(c, s)
            expect_eq(states(a, b)[0][0], "encrypted", "tried anew")


def test_fallback_time(lab):
    box, a, b = hosts(lab, ("--fallback-time", "2"))
    with box:
        box.rule = lambda t: [] if t.is_syn and t.spans() else None
        for _ in range(2):
            with connected(a, b) as (c, s):
                ping(c, s)
                expect_eq(session(a, 80)["reason"], "eno-dropped")
            wait_none(a)
        expect_eq([e["peer"] for e in cache(a)["fallback"]], [b.ip4])
        box.rule = None
        wait_none(a)
        wait_for(lambda: cache(a)["fallback"] == [], 4, "forgotten", 0.05)
        with connected(a, b) as (c, s):
            ping(c, s)
            expect_eq(session(a, 80)["reason"], "full")


def test_one_lost_syn(lab):
    """Chance, not a middlebox: the next connection is encrypted."""
    box, a, b = hosts(lab)
    with box:
        box.rule = lambda t: [] if t.is_syn and t.spans() else None
        for port in (80, 82):
            with connected(a, b, port) as (c, s):
                ping(c, s)
                expect_eq(session(a, port)["reason"], "eno-dropped")
            box.rule = None
            with connected(a, b, port + 1) as (c, s):
                ping(c, s)
                expect_eq(states(a, b, port + 1)[0][0], "encrypted")
            box.rule = lambda t: [] if t.is_syn and t.spans() else None
        expect_eq(cache(a)["fallback"], [], "an answer in between starts it over")


def test_fallback_is_not_remembered_of_silence(lab):
    """No answer to either kind of SYN says nothing about the option."""
    box, a, b = hosts(lab)
    with box:
        box.rule = lambda t: [] if t.is_syn else None
        with a.socket() as c:
            c.settimeout(1.6)
            try:
                c.connect((b.ip4, 80))
                expect(False, "connected")
            except TimeoutError:
                pass
        expect_eq(cache(a)["fallback"], [])


def test_never_without_option_under_require(lab):
    box, a, b = hosts(lab, ("--policy", "require"))
    with box, Capture(box.ns, a.peer_if) as cap, b.listen(80):
        box.rule = lambda t: [] if t.is_syn and t.spans() else None
        with a.socket() as c:
            c.settimeout(3.5)
            try:
                c.connect((b.ip4, 80))
                expect(False, "connected")
            except TimeoutError:
                pass
        syns = [t for t in cap.tcp() if t.flags & SYN]
        expect(len(syns) >= 3, "goes on trying", syns)
        expect_eq(len({t.option(OPT_ENO) for t in syns}), 1, "one option in all SYNs")
        expect(syns[0].option(OPT_ENO), "with TEPs")
        expect_eq(cache(a)["fallback"], [])


def test_syn_ack_with_option_dropped(lab):
    """The SYN without the option is a new word: the answer has none either."""
    box, a, b = hosts(lab)
    with box:
        box.rule = lambda t: [] if t.is_synack and t.spans() else None
        for _ in range(2):
            start = time.monotonic()
            with connected(a, b, timeout=15) as (c, s):
                took = time.monotonic() - start
                both_ways(c, s, 10_000)
                expect_eq([x[0] for x in states(a, b)], ["clear", "clear"])
                expect_eq(session(a, 80)["reason"], "eno-dropped")
            expect(took < 4, "after a timeout or two", took)
            wait_none(a)
        expect_eq([e["peer"] for e in cache(a)["fallback"]], [b.ip4])


# --- Options echoed and altered ---------------------------------------------------------

class Echo:
    """A box, or the peer behind it, that puts the SYN's ENO option into the SYN-ACK."""

    def __init__(self):
        self.option = None

    def __call__(self, t):
        if t.is_syn and t.to_b:
            self.option = t.eno()
        if t.is_synack and self.option:
            return [t.with_eno(self.option) if t.spans() else t.plus(self.option)]
        return None


def test_option_echoed_by_a_plain_peer(lab):
    """RFC 8547 4.3: both b bits are 0, so it is clear, and nothing hangs."""
    box, a, p = hosts(lab, (), None)
    box.rule = Echo()
    with box, Capture(box.ns, a.peer_if) as cap, connected(a, p) as (c, s):
        both_ways(c, s, 10_000)
        x = session(a, 80)
        expect_eq((x["state"], x["reason"]), ("clear", "role-conflict"))
        expect(not [t for t in cap.tcp() if t.option(OPT_ENO) is not None
                    and not t.flags & SYN], "no option after that")


def test_option_echoed_before_one_of_ours(lab):
    box, a, b = hosts(lab)
    box.rule = Echo()
    with box:
        for _ in range(2):
            with connected(a, b) as (c, s):
                both_ways(c, s, 10_000)
                expect_eq(states(a, b), (("clear", "role-conflict"), ("clear", "eno-stripped")))
            wait_none(a)


def test_resumption_echoed(lab):
    """The same when the SYN proposes to resume: the b bit is what tells."""
    box, a, b = hosts(lab)
    with box:
        with connected(a, b) as (c, s):
            ping(c, s)
        wait_none(a)
        box.rule = Echo()
        with connected(a, b) as (c, s):
            both_ways(c, s, 10_000)
            expect_eq(states(a, b), (("clear", "role-conflict"), ("clear", "eno-stripped")))


def attempt(a, b, listener, patience=2.0):
    """One connection with a text each way. Return: "fine" when both arrived, "refused", or the
    ends that both sides saw. Fails when an application gets what was not sent."""
    try:
        c = a.connect(b.ip4, 80, patience)
    except OSError as e:
        return "silent" if isinstance(e, TimeoutError) else "refused"
    s = accept_unless_ended(listener, c, patience)
    if not s:
        with c:
            return "refused" if end_of(c, patience) == ("reset", b"") else "silent"
    with c, s:
        failed = set()
        for sock, text in ((c, TO_B), (s, TO_A)):
            try:
                sock.sendall(text)
            except ConnectionResetError:
                failed.add(sock)  # it is told once; recv() would say end of file now
        got = []
        for sock, text in ((s, TO_B), (c, TO_A)):
            sock.settimeout(patience)
            data = b""
            try:
                if sock in failed:
                    raise ConnectionResetError
                while len(data) < len(text):
                    chunk = sock.recv(len(text) - len(data))
                    if not chunk:
                        raise Failure(f"end of file after {data!r}")
                    data += chunk
                got.append("fine")
            except ConnectionResetError:
                got.append("reset")
            except TimeoutError:
                got.append("silent")
            expect(text.startswith(data), "bytes that nobody sent", data)
        if got == ["fine", "fine"]:
            kinds = {x["state"] for x in live(a) + live(b)}
            expect(len(kinds) == 1, "half encrypted", live(a), live(b))
            return "fine " + kinds.pop()
        return " ".join(got)


def altered(box, a, b, pick, bits, prepare=None):
    """Flips bit after bit of the option in the segments that pick tells. Return: outcomes."""
    out = {}
    with b.listen(80) as listener:
        for bit in range(bits):
            box.rule = None
            if prepare:
                prepare(listener)
            box.rule = lambda t, bit=bit: [t.flipped(bit)] if pick(t) and t.spans() else None
            try:
                out.setdefault(attempt(a, b, listener), []).append(bit)
            except Failure as e:
                raise Failure(f"bit {bit}: {e}") from None
        box.rule = None
        wait_none(a)
        expect_eq(attempt(a, b, listener), "fine encrypted", "without the box again")
    return out


def check_altered(out, bits, unused=()):
    """unused: bits of the option that keys do not depend on."""
    allowed = ("fine clear", "reset reset", "refused")
    bad = {k: v for k, v in out.items()
           if k not in allowed and not (k == "fine encrypted" and set(v) <= set(unused))}
    expect_eq(bad, {}, f"of {bits} bits: {out}")


def option_len(box, a, b, pick):
    """Return: bits of the option in the segments that pick tells."""
    found = []

    def look(t):
        if pick(t) and t.spans():
            found.append(len(t.eno()) * 8)

    box.rule = look
    with connected(a, b) as (c, s):
        ping(c, s)
    box.rule = None
    wait_none(a)
    return found[0]


def is_syn_to_b(t):
    return t.is_syn and t.to_b


def is_synack(t):
    return t.is_synack


def test_each_bit_of_the_syn_altered(lab):
    """RFC 8547 4.8: never a working encrypted connection."""
    box, a, b = hosts(lab, ("--no-resume",))
    with box:
        bits = option_len(box, a, b, is_syn_to_b)
        check_altered(altered(box, a, b, is_syn_to_b, bits), bits)


def test_each_bit_of_the_syn_ack_altered(lab):
    box, a, b = hosts(lab, ("--no-resume",))
    with box:
        bits = option_len(box, a, b, is_synack)
        check_altered(altered(box, a, b, is_synack, bits), bits)


def test_each_bit_of_the_first_ack_altered(lab):
    """The option has no content there. What is option 69 still counts; the rest is as if it
    were stripped, see above."""
    box, a, b = hosts(lab, ("--no-resume",))
    with box, b.listen(80) as listener:
        for bit in range(16):
            box.rule = lambda t, bit=bit: [t.flipped(bit)] if is_first_ack(t) else None
            with a.connect(b.ip4, 80) as c, accept_of(listener, c) as s:
                c.sendall(TO_B)
                what, got = end_of(s, 0.3)
                seen = {x["state"] for x in live(a)}
                if not got.startswith(INIT1_MAGIC):
                    expect_eq((what, got, seen), ("silence", TO_B, {"encrypted"}), f"bit {bit}")
                expect(TO_B not in got or seen == {"encrypted"}, f"bit {bit}", got, seen)
            wait_none(a)


def resumable(a, b):
    """Return: a function that sees to it that the next connection of a resumes. A few lost
    secrets are bridged, but here are many."""
    def prepare(listener):
        expect_eq(attempt(a, b, listener), "fine encrypted", "to have a secret")
        wait_none(a)
    return prepare


@tap.timeout(90)
def test_each_bit_of_a_resuming_syn_altered(lab):
    box, a, b = hosts(lab)
    with box:
        option_len(box, a, b, is_syn_to_b)
        bits = option_len(box, a, b, is_syn_to_b)
        expect(bits >= 8 * 20, "a proposal", bits)
        # RFC 8548 3.5: the secret and the nonces make the keys, no transcript does. So the TEPs
        # in front, which a resumption does not use, are not protected.
        unused = range(16, bits - 18 * 8)
        check_altered(altered(box, a, b, is_syn_to_b, bits, resumable(a, b)), bits, unused)


@tap.timeout(90)
def test_each_bit_of_a_resuming_syn_ack_altered(lab):
    box, a, b = hosts(lab)
    with box:
        option_len(box, a, b, is_synack)
        bits = option_len(box, a, b, is_synack)
        expect(bits >= 8 * 20, "an agreement", bits)
        unused = range(16, 24)  # the global suboption, with the a bit
        check_altered(altered(box, a, b, is_synack, bits, resumable(a, b)), bits, unused)


# --- Options added ----------------------------------------------------------------------

def with_syn_options(lab, change, want, at_b=()):
    box, a, b = hosts(lab, (), at_b)
    box.rule = change
    with box, connected(a, b) as (c, s):
        both_ways(c, s, 20_000)
        expect_eq(states(a, b), want)


def test_two_options_in_the_syn(lab):
    """RFC 8547 4.1: counts as none."""
    with_syn_options(lab, lambda t: [t.plus(b"\x45\x03\x23")] if t.is_syn else None,
                     (("clear", "peer-no-eno"), ("clear", "peer-no-eno")))


def test_two_options_in_the_syn_ack(lab):
    with_syn_options(lab, lambda t: [t.plus(b"\x45\x04\x01\x23")] if t.is_synack else None,
                     (("clear", "peer-no-eno"), ("clear", "eno-stripped")))


def test_two_options_in_the_first_ack(lab):
    """RFC 8547 4.1: outside SYNs several are as good as one."""
    with_syn_options(lab, lambda t: [t.plus(b"\x45\x02")] if is_first_ack(t) else None,
                     (("encrypted", "full"),) * 2)


def test_content_in_the_first_ack(lab):
    """RFC 8547 4.1: outside SYNs only the presence of the option counts."""
    with_syn_options(lab, lambda t: [t.with_eno(b"\x45\x06\xff\xff\0\0")]
                     if is_first_ack(t) else None, (("encrypted", "full"),) * 2)


def test_vacuous_option_in_the_syn(lab):
    """RFC 8547 4.6: no TEP, so clear."""
    with_syn_options(lab, lambda t: [t.with_eno(b"\x45\x02")] if t.is_syn else None,
                     (("clear", "peer-no-eno"), ("clear", "peer-vacuous")))


def test_vacuous_option_in_the_syn_ack(lab):
    with_syn_options(lab, lambda t: [t.with_eno(b"\x45\x03\x01")] if t.is_synack else None,
                     (("clear", "peer-vacuous"), ("clear", "eno-stripped")))


def test_ill_formed_option_in_the_syn_ack(lab):
    """A length byte and nothing that it measures, RFC 8547 4.4."""
    with_syn_options(lab, lambda t: [t.with_eno(b"\x45\x05\x01\x9f\xa3")] if t.is_synack else None,
                     (("clear", "peer-ill-formed"), ("clear", "eno-stripped")))


def test_experimental_option_alone(lab):
    """RFC 8547 11: the number of the experiment means nothing any more."""
    with_syn_options(lab, lambda t: [t.without().plus(b"\xfd\x06\x45\x4e\x21\x23")]
                     if t.is_syn else None, (("clear", "peer-no-eno"),) * 2)


def test_experimental_option_beside_ours(lab):
    def change(t):
        if t.is_syn:
            return [t.plus(b"\xfd\x06\x45\x4e\x21\x23")]
        return [t.plus(b"\xfd\x05\x45\x4e\x01")] if t.is_synack else None

    with_syn_options(lab, change, (("encrypted", "full"),) * 2)


def syn_data(lab, change, want, at_b=()):
    """RFC 8547 4.7: data of a SYN with ENO is neither acknowledged nor delivered."""
    box, a, b = hosts(lab, (), at_b)
    box.rule = change
    with box, Capture(box.ns, b.peer_if) as cap:
        for addr in (b.ip4, b.ip6):
            with connected(a, b, 80, addr) as (c, s):
                both_ways(c, s, 10_000)
                expect_eq(states(a, b), want)
            wait_none(a)
        for syn in (t for t in cap.tcp() if t.flags & (SYN | ACK) == SYN):
            expect(syn.payload, "the box added data", syn)
            synack = next(t for t in cap.tcp() if t.flag(SYN | ACK) and t.dport == syn.sport)
            expect_eq(synack.ack, (syn.seq + 1) & 0xFFFFFFFF, "the SYN-ACK's number")


def test_syn_data_is_discarded(lab):
    syn_data(lab, lambda t: [t.copy(payload=b"evil" * 20)] if t.is_syn and t.to_b else None,
             (("encrypted", "full"),) * 2)


def test_syn_data_with_tfo_is_discarded(lab):
    """RFC 8547 4.7: a non-empty TFO option does not change it."""
    syn_data(lab, lambda t: [t.plus(bytes([OPT_TFO, 10]) + b"cookie!!").copy(payload=b"evil" * 20)]
             if t.is_syn and t.to_b else None, (("encrypted", "full"),) * 2)


def test_syn_data_is_discarded_when_switched_off(lab):
    """RFC 8547 4.7: also by hosts where ENO is disabled by configuration."""
    syn_data(lab, lambda t: [t.copy(payload=b"evil" * 20)] if t.is_syn and t.to_b else None,
             (("clear", "peer-no-eno"), ("clear", "off")), ("--policy", "off"))


def test_tfo_option_alone(lab):
    with_syn_options(lab, lambda t: [t.plus(bytes([OPT_TFO, 2]))] if t.is_syn else None,
                     (("encrypted", "full"),) * 2)


def test_data_in_the_syn_ack(lab):
    """Nothing of it reaches the application."""
    box, a, b = hosts(lab)
    box.rule = lambda t: [t.copy(payload=b"evil" * 20)] if t.is_synack else None
    with box, b.listen(80) as listener:
        result = attempt(a, b, listener)
        expect(result in ("fine encrypted", "reset reset", "refused"), "outcome", result)


# --- Bytes changed ----------------------------------------------------------------------

class Once:
    """Changes the first segment that pick tells, and its retransmissions alike. fresh: of a
    connection that begins from now on; older ones may still be ending."""

    def __init__(self, pick, change, fresh=True):
        self.pick, self.change, self.seq = pick, change, None
        self.port = None if fresh else "any"

    def __call__(self, t):
        if t.is_syn and t.to_b and self.port is None:
            self.port = t.sport
        if self.port not in ("any", t.sport, t.dport) or not t.payload:
            return None
        if self.seq is None and self.pick(t):
            self.seq = t.seq
        return [self.change(t)] if self.seq == t.seq else None


def bytes_changed(box, a, b, pick, size, silent=()):
    """Each byte of a message changed, one at a time. silent: those that make it longer."""
    out = {}
    with b.listen(80) as listener, Capture(box.ns, a.peer_if) as cap:
        for at in range(size):
            seen = len([t for t in cap.tcp() if t.flags & RST])
            box.rule = Once(pick, lambda t, at=at: t.changed(at))
            try:
                result = attempt(a, b, listener, 0.3 if at in silent else 3)
            except Failure as e:
                raise Failure(f"byte {at}: {e}") from None
            out.setdefault(result, []).append(at)
            box.rule = None
            if at not in silent:
                wait_for(lambda n=seen: len([t for t in cap.tcp() if t.flags & RST]) > n, 3,
                         f"byte {at}: a RST on the wire")
    return out


def size_of(box, a, b, pick):
    found = []

    def look(t):
        if t.payload and pick(t):
            found.append(len(t.payload))

    box.rule = look
    with b.listen(80) as listener:
        expect_eq(attempt(a, b, listener), "fine encrypted")
    box.rule = None
    return found[0]


def check_changed(out, silent=()):
    for result, where in out.items():
        # "refused": the reset came before connect() or accept() was through
        allowed = result in ("reset reset", "refused") or set(where) <= set(silent)
        expect(allowed, f"{result}: bytes {where}", out)


@tap.timeout(90)
def test_each_byte_of_init1_changed(lab):
    """RFC 8548 3.3 and 3.4: an error at once, or keys that differ and so a frame that fails."""
    box, a, b = hosts(lab, ("--no-resume",))
    with box:
        pick = lambda t: t.payload[:4] == INIT1_MAGIC  # noqa: E731
        size = size_of(box, a, b, pick)
        silent = (4, 5, 6)  # message_len: more than there is, so far
        check_changed(bytes_changed(box, a, b, pick, size, silent), silent)
        named = set(errors(a)) | set(errors(b))
        expect(named >= {"init-magic", "frame-auth"}, "errors by name", named)
        kinds = {x["error"] for x in ended(b) if x["end"] == "error"}
        expect("init-magic" in kinds, "and in the history", kinds)


@tap.timeout(90)
def test_each_byte_of_init2_changed(lab):
    box, a, b = hosts(lab, ("--no-resume",))
    with box:
        pick = lambda t: t.payload[:4] == INIT2_MAGIC  # noqa: E731
        size = size_of(box, a, b, pick)
        silent = (4, 5, 6, 7)
        check_changed(bytes_changed(box, a, b, pick, size, silent), silent)
        named = set(errors(a)) | set(errors(b))
        expect(named >= {"init-magic", "init-cipher", "frame-auth"}, "errors by name", named)


def is_frame_to_b(t):
    return t.to_b and t.payload[:4] != INIT1_MAGIC


def is_frame_to_a(t):
    return not t.to_b and t.payload[:4] != INIT2_MAGIC


@tap.timeout(90)
def test_each_byte_of_a_frame_changed(lab):
    """Control byte, clen, ciphertext, tag, both directions: never delivered (RFC 8548 3.6)."""
    box, a, b = hosts(lab, ("--no-resume",))
    with box:
        for pick, text in ((is_frame_to_b, TO_B), (is_frame_to_a, TO_A)):
            size = 3 + 1 + len(text) + 16
            silent = (1, 2)  # clen: more than there is, so far
            out = bytes_changed(box, a, b, pick, size, silent)
            place = (is_frame_to_b, is_frame_to_a).index(pick)
            for result, where in out.items():  # what the other had sent before may arrive
                seen = result.split()[place]
                expect(seen == "reset" or (seen == "silent" and set(where) <= set(silent)),
                       f"{result}: bytes {where}", out)
        expect_eq(set(errors(a)) | set(errors(b)), {"frame-auth", "truncated"})
        last = [x for x in ended(b) if x["end"] == "error"][-1]
        expect_eq((last["error"], last["reason"]), ("frame-auth", "full"))


def test_longer_frame_takes_the_next_ones_bytes(lab):
    """A greater clen waits for bytes; when they come the tag does not fit."""
    box, a, b = hosts(lab)
    with box, connected(a, b) as (c, s):
        ping(c, s)
        box.rule = Once(lambda t: t.to_b, lambda t: t.changed(1), fresh=False)
        c.sendall(b"x" * 10)
        for _ in range(20):
            try:
                c.sendall(b"y" * 100)
            except OSError:
                break
        expect_eq(end_of(s), ("reset", b""))
        expect_eq(end_of(c), ("reset", b""))
        expect_eq(wait_ended(b, 80)["error"], "frame-auth")
        expect_eq(wait_ended(a, 80)["end"], "reset-by-peer")


# --- Ends that somebody else makes ------------------------------------------------------

def open_and_track(box, a, b):
    """Return: context manager of a used connection, and a dict with the newest segments."""
    last = {}

    def note(t):
        last[t.to_b] = t

    box.rule = note
    return connected(a, b), last


def forged_end(lab, towards_b, flags):
    box, a, b = hosts(lab)
    with box, Capture(box.ns, a.peer_if) as cap:
        manager, last = open_and_track(box, a, b)
        with manager as (c, s):
            ping(c, s)
            wait_for(lambda: last[True].ack == (last[False].seq + len(last[False].payload))
                     & 0xFFFFFFFF, 3, "all acknowledged")
            t = last[towards_b]
            forged = t.copy(seq=(t.seq + len(t.payload)) & 0xFFFFFFFF, flags=flags, payload=b"",
                            ack=(last[not towards_b].seq + len(last[not towards_b].payload))
                            & 0xFFFFFFFF)
            box.send([forged])
            victim, other = (s, c) if towards_b else (c, s)
            at_victim, at_other = (b, a) if towards_b else (a, b)
            expect_eq(end_of(victim), ("reset", b""))
            if flags & FIN:
                expect_eq(end_of(other), ("reset", b""), "the other end")
                expect_eq(wait_ended(at_victim, 80)["error"], "truncated")
                expect_eq(errors(at_victim), {"truncated": 1})
                expect_eq(wait_ended(at_other, 80)["end"], "reset-by-peer")
                expect([x for x in cap.tcp() if x.flags & RST], "a RST on the wire")
            else:
                expect_eq(wait_ended(at_victim, 80)["end"], "reset-by-peer")
                other.sendall(b"into the void")
                expect_eq(end_of(other), ("reset", b""), "the other end, once it sends")


def test_fin_forged_towards_the_answerer(lab):
    """RFC 8548 3.7: a FIN without FINp is no end of file."""
    forged_end(lab, True, FIN | ACK)


def test_fin_forged_towards_the_opener(lab):
    forged_end(lab, False, FIN | ACK)


def test_rst_forged_towards_the_answerer(lab):
    forged_end(lab, True, RST)


def test_rst_forged_towards_the_opener(lab):
    forged_end(lab, False, RST | ACK)


def half_open(lab, *options):
    box, a, b = hosts(lab, options, options)
    box.rule = lambda t: [] if t.to_b and not t.is_syn else None
    with box, b.listen(80) as listener, a.connect(b.ip4, 80) as c:
        expect_none_accepted(listener, 0.7)
        box.rule = None
        c.sendall(TO_B)
        with accept_of(listener, c) as s:
            expect_eq(read_exactly(s, len(TO_B)), TO_B)


def test_half_open_is_no_connection(lab):
    """The answerer's program accepts what the opener has completed, as without us; not a SYN
    that anybody can send in another's name."""
    half_open(lab)


def test_half_open_in_clear(lab):
    half_open(lab, "--policy", "off")


def test_fin_instead_of_init1(lab):
    """A FIN before the keys: truncation as well."""
    box, a, b = hosts(lab)
    box.rule = lambda t: [t.copy(payload=b"", flags=FIN | ACK)] \
        if t.to_b and t.payload[:4] == INIT1_MAGIC else None
    with box:
        expect_both_reset(a, b)
        expect_eq(wait_ended(b, 80)["error"], "truncated")


def test_fin_on_a_data_segment(lab):
    """The frame is good, the end is not: bytes that were verified may arrive, then a reset."""
    box, a, b = hosts(lab)
    with box, connected(a, b) as (c, s):
        ping(c, s)
        box.rule = lambda t: [t.copy(flags=t.flags | FIN)] if t.to_b and t.payload else None
        c.sendall(TO_B)
        what, got = end_of(s)
        expect_eq(what, "reset")
        expect(got in (b"", TO_B), "bytes", got)
        expect_eq(end_of(c)[0], "reset")
        expect_eq(wait_ended(b, 80)["error"], "truncated")


# --- Segments treated roughly, but legally ----------------------------------------------

def rough(lab, rule, size=200_000, nat=0):
    box, a, b = hosts(lab)
    box.rule = rule
    with box:
        for want in ("full", "resumed"):
            with connected(a, b, nat=nat) as (c, s):
                both_ways(c, s, size)
                expect_eq(states(a, b), (("encrypted", want),) * 2)
                c.close()
                expect_eq(end_of(s), ("eof", b""))
                s.close()
            wait_none(a)
            wait_none(b)
        expect_eq((errors(a), errors(b)), ({}, {}))


def split(t, parts=3):
    if len(t.payload) < parts:
        return None
    cut = [len(t.payload) * i // parts for i in range(parts + 1)]
    out = []
    for i, (x, y) in enumerate(zip(cut, cut[1:])):
        flags = t.flags if i == parts - 1 else t.flags & ~(FIN | PSH)
        out.append(t.copy(seq=(t.seq + x) & 0xFFFFFFFF, payload=t.payload[x:y], flags=flags))
    return out


def test_segments_split(lab):
    rough(lab, split)


def test_segments_split_byte_by_byte(lab):
    rough(lab, lambda t: split(t, max(len(t.payload), 1)) if len(t.payload) < 600 else None, 3000)


def test_segments_split_and_backwards(lab):
    rough(lab, lambda t: (split(t) or [t])[::-1] if not t.flags & SYN else None, 50_000)


def test_segments_twice(lab):
    rough(lab, lambda t: [t, t])


class Swap:
    """Every third data segment of a direction waits for the next one."""

    def __init__(self):
        self.held, self.cnt = {}, 0

    def __call__(self, t):
        if t.flags & (SYN | RST):
            return None
        if t.to_b in self.held:
            return [t, self.held.pop(t.to_b)]
        self.cnt += bool(t.payload)
        if t.payload and self.cnt % 3 == 0:
            self.held[t.to_b] = t
            return []
        return None


def test_segments_reordered(lab):
    rough(lab, Swap(), 60_000)


class Merge:
    """Some small data segments wait, and leave as one with the next."""

    def __init__(self, limit=40):
        self.held, self.merged, self.limit, self.seen = {}, 0, limit, 0

    def __call__(self, t):
        self.seen += bool(t.payload)
        before = self.held.pop(t.to_b, None)
        if before is None:
            if t.payload and len(t.payload) < 700 and not t.flags & (FIN | SYN) \
                    and self.merged < self.limit:
                self.held[t.to_b] = t
                return []
            return None
        if t.payload and t.seq == (before.seq + len(before.payload)) & 0xFFFFFFFF \
                and len(before.payload) + len(t.payload) <= 1400:
            self.merged += 1
            return [t.copy(seq=before.seq, payload=before.payload + t.payload,
                           options=t.options or before.options)]
        return [before, t]


def test_segments_merged(lab):
    """Frames share segments: each is found."""
    box, a, b = hosts(lab)
    rule = Merge()
    with box, connected(a, b) as (c, s):
        ping(c, s)
        box.rule = rule
        c.setsockopt(6, 1, 1)  # TCP_NODELAY
        text = b"".join(bytes([n]) * 200 for n in range(60))
        for n in range(60):
            seen = rule.seen
            c.sendall(text[n * 200:n * 200 + 200])
            wait_for(lambda n=seen: rule.seen > n, 5, "a segment of its own", 0.0005)
        c.shutdown(1)
        expect_eq(end_of(s), ("eof", text))
        expect(rule.merged >= 5, "merged", rule.merged)


class Renumber:
    """A firewall that gives both directions other sequence numbers, as some do."""

    def __init__(self, delta_b=0x12345678, delta_a=0xDEADBEEF):
        self.delta = {True: delta_b, False: delta_a}

    def __call__(self, t):
        return [t.copy(seq=(t.seq + self.delta[t.to_b]) & 0xFFFFFFFF,
                       ack=(t.ack - self.delta[not t.to_b]) & 0xFFFFFFFF
                       if t.flags & ACK else t.ack)]


def test_sequence_numbers_rewritten(lab):
    """RFC 8548 3.6: frames are numbered by themselves, not by TCP's numbers."""
    rough(lab, Renumber())


def test_sequence_numbers_wrap(lab):
    """Both directions pass 2^32 in the middle of the data."""
    class Wrap(Renumber):
        def __call__(self, t):
            if t.flags & SYN:
                self.delta[t.to_b] = -20_000 - t.seq
            return super().__call__(t)

    rough(lab, Wrap())


def test_ports_rewritten(lab):
    """Nothing of RFC 8548 depends on addresses or ports: NAT."""
    nat = 0x1111
    rough(lab, lambda t: [t.copy(sport=t.sport ^ nat) if t.to_b else t.copy(dport=t.dport ^ nat)],
          nat=nat)


def test_mss_clamped(lab):
    """A box that lowers the MSS in the SYNs changes the options area, but not option 69."""
    def clamp(t):
        for start, end in t.spans(2) if t.flags & SYN else ():
            return [t.copy(options=t.options[:start + 2] + (536).to_bytes(2, "big")
                           + t.options[end:])]
        return None

    rough(lab, clamp)


def test_other_options_stripped(lab):
    """Window scale and SACK-permitted vanish: slower, and still encrypted."""
    rough(lab, lambda t: [t.without(3).without(4)] if t.flags & SYN else None)


def test_syn_ack_without_option_after_a_good_one(lab):
    """RFC 8547 4.6: a later SYN-ACK changes nothing once the first has settled it."""
    box, a, b = hosts(lab)
    box.rule = lambda t: [t, t.without()] if t.is_synack else None
    with box, connected(a, b) as (c, s):
        both_ways(c, s, 20_000)
        expect_eq(states(a, b), (("encrypted", "full"),) * 2)


if __name__ == "__main__":
    tap.main()
