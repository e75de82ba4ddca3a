# SPDX-License-Identifier: BSD-3-Clause
"""What is on the wire: option 69, ciphertext, checksums, and nothing of the kernel's own TCP."""
import threading

import tap
from lab import expect, expect_eq, wait_for
from wire import ACK, FIN, OPT_ENO, RST, SYN, Capture

MARK = b"tcpcrypt-ns plaintext marker, thirty-two+ bytes "

# RFC 8547 4.2: the b bit of the global suboption; 4.1: bytes below 0x20 are global suboptions
GLOBAL_B = 0x01
TEP_CURVE25519 = 0x23


def both(lab):
    """Two of ours; their links as wires see them. Return: router, a, b."""
    r, a, b = lab.star("a", "b")
    for ns in (a, b):
        ns.offload(False)
        ns.up()
    return r, a, b


def exchange(a, b, addr, size=200_000, port=80):
    """a sends marked text to b and gets it back."""
    text = (MARK * (size // len(MARK) + 1))[:size]
    with b.listen(port, "::" if ":" in addr else None) as listener:
        with a.connect(addr, port) as c:
            s, _ = listener.accept()
            s.settimeout(10)

            def echo():
                while chunk := s.recv(65536):
                    s.sendall(chunk)
                s.close()

            t = threading.Thread(target=echo, daemon=True)
            t.start()
            w = threading.Thread(target=lambda: c.sendall(text), daemon=True)
            w.start()
            got = bytearray()
            while len(got) < size:
                chunk = c.recv(65536)
                expect(chunk, "ended early", len(got))
                got += chunk
            w.join(10)
            ids = sessions_of(a, b, port)
            c.close()
            t.join(10)
    expect(bytes(got) == text, "the echo differs")
    return ids


def sessions_of(a, b, port):
    """Return: session objects of the one connection at both ends."""
    def one(ns):
        found = [s for s in ns.sessions() if port in (s["local_port"], s["peer_port"])]
        return found[0] if len(found) == 1 else None

    return (wait_for(lambda: one(a), 5, "one session at a"),
            wait_for(lambda: one(b), 5, "one session at b"))


def check_handshake(cap, port):
    """Option 69 in SYN, SYN-ACK and the first ACK. Return: the SYN."""
    to = [t for t in cap.tcp() if t.dport == port]
    back = [t for t in cap.tcp() if t.sport == port]
    syn = next(t for t in to if t.flags & (SYN | ACK) == SYN)
    synack = next(t for t in back if t.flag(SYN | ACK))
    ack = next(t for t in to if t.flags & (SYN | ACK) == ACK)
    for t in (syn, synack):
        expect(t.option(OPT_ENO), "option 69 with suboptions", t)
        expect(TEP_CURVE25519 in [x & 0x7F for x in t.option(OPT_ENO)], "Curve25519's TEP",
               t.option(OPT_ENO))
    # RFC 8547 4.1: the non-SYN form is the bare option
    expect_eq(ack.option(OPT_ENO), b"", "option 69 of the first ACK")
    globals_of = {t: [x for x in t.option(OPT_ENO) if x < 0x20] for t in (syn, synack)}
    b_bits = [any(x & GLOBAL_B for x in g) for g in globals_of.values()]
    expect_eq(b_bits, [False, True], "the b bits of opener and answerer")
    # RFC 8548 4.1: Init1 is the first thing the active opener sends
    first = next(t for t in to if t.payload)
    expect_eq(first.payload[:4].hex(), "15101a0e", "INIT1_MAGIC")
    first = next(t for t in back if t.payload)
    expect_eq(first.payload[:4].hex(), "097105e0", "INIT2_MAGIC")
    return syn


def check_wire(cap):
    tcp = cap.tcp()
    bad = [t for t in tcp if not t.ip_ok or not t.tcp_ok]
    expect(not bad, f"{len(bad)} of {len(tcp)} segments with a wrong checksum", bad[:3])
    expect(not [t for t in tcp if t.flags & RST], "a RST", [t for t in tcp if t.flags & RST][:3])
    expect(not cap.has_bytes(MARK[:32]), "plaintext on the wire")


def encrypted_exchange(lab, addr_of):
    r, a, b = both(lab)
    with Capture(r, a.peer_if) as cap_a, Capture(r, b.peer_if) as cap_b:
        at_a, at_b = exchange(a, b, addr_of(b))
        wait_for(lambda: len([t for t in cap_a.tcp() if t.flags & FIN]) >= 2, 5, "both FINs")
        for cap in (cap_a, cap_b):
            cap.stop()
            check_handshake(cap, 80)
            check_wire(cap)
    for s, direction in ((at_a, "out"), (at_b, "in")):
        expect_eq(s["state"], "encrypted")
        expect_eq(s["reason"], "full")
        expect_eq(s["dir"], direction)
        expect_eq(len(s["session_id"]), 66)
        int(s["session_id"], 16)
    expect_eq(at_a["session_id"], at_b["session_id"], "session ids")
    expect_eq(int(at_a["session_id"][:2], 16) & 0x7F, TEP_CURVE25519, "first byte of the id")
    expect_eq((at_a["role"], at_b["role"]), ("a", "b"))
    expect_eq(at_a["tep"], at_b["tep"])
    expect_eq(at_a["aead"], "AEAD_AES_128_GCM")
    expect_eq(at_b["aead"], "AEAD_AES_128_GCM")
    expect_eq((at_a["local"], at_a["peer"]), (at_b["peer"], at_b["local"]))
    expect_eq((at_a["local_port"], at_a["peer_port"]), (at_b["peer_port"], at_b["local_port"]))


def test_encrypted_ipv4(lab):
    encrypted_exchange(lab, lambda b: b.ip4)


def test_encrypted_ipv6(lab):
    encrypted_exchange(lab, lambda b: b.ip6)


def test_tap_sees_through_its_own_eyes(lab):
    """The checks above would find plaintext: they do, without us."""
    r, a, b = lab.star("a", "b")
    for ns in (a, b):
        ns.offload(False)
    with Capture(r, a.peer_if) as cap, b.listen(80) as listener, a.connect(b.ip4, 80) as c:
        s, _ = listener.accept()
        c.sendall(MARK * 100)
        s.recv(100)
        s.close()
        c.close()
        wait_for(lambda: cap.has_bytes(MARK[:32]), 5, "plaintext")
        expect(all(t.tcp_ok for t in cap.tcp()), "checksums of the kernel")


def test_super_segments_keep_the_wire_mtu(lab):
    """With offloads on, 64 KB pass as one; a wire with MTU 1500 must still get 1500."""
    r, a, b = both(lab)
    with Capture(r, b.peer_if) as cap:
        exchange(a, b, b.ip4, 2_000_000)
        cap.stop()
        longest = max(t.ip_len for t in cap.tcp())
        expect(longest <= 1500, "longer than the MTU", longest)
        expect(longest >= 1400, "segments are filled", longest)


def test_same_window_scale_and_mss_as_a_kernel(lab):
    r, a, b = both(lab)
    with Capture(r, a.peer_if) as cap:
        exchange(a, b, b.ip4, 1000)
        syn = check_handshake(cap.stop(), 80)
        expect_eq(syn.option(2), (1460).to_bytes(2, "big"), "MSS")
        expect(syn.option(3) is not None, "window scale", syn)
        expect(syn.option(4) is not None, "SACK permitted", syn)
        expect_eq(syn.ttl, 64, "TTL")


def plain_peer(lab, ours_connects, addr_of):
    """One of ours and a kernel without ENO: plain TCP, nothing lost, no extra round trip."""
    r, a, p = lab.star("a", "p")
    for ns in (a, p):
        ns.offload(False)
    a.up()
    client, server = (a, p) if ours_connects else (p, a)
    port = 8080
    addr = addr_of(server)
    with Capture(r, a.peer_if) as cap:
        with server.listen(port, "::" if ":" in addr else None) as listener:
            with client.connect(addr, port) as c:
                s, _ = listener.accept()
                c.sendall(MARK * 500)
                got = b""
                s.settimeout(10)
                while len(got) < 500 * len(MARK):
                    got += s.recv(65536)
                expect(got == MARK * 500, "bytes differ")
                s.sendall(MARK[::-1] * 500)
                got = b""
                while len(got) < 500 * len(MARK):
                    got += c.recv(65536)
                expect(got == MARK[::-1] * 500, "bytes differ on the way back")
                live = wait_for(a.sessions, 5, "a session")
                s.close()
        cap.stop()
    expect_eq(len(live), 1)
    expect_eq((live[0]["state"], live[0]["reason"]), ("clear", "peer-no-eno"))
    expect(not live[0].get("session_id"), "no session id", live[0])
    syns = [t for t in cap.tcp() if t.flags & (SYN | ACK) == SYN]
    expect_eq(len(syns), 1, "one SYN: no second try without the option")
    opener = [t for t in cap.tcp() if t.sport == syns[0].sport and not t.flags & SYN]
    first = next(t for t in opener if t.payload)
    expect(first.payload.startswith(MARK[:32]), "the application's first bytes come first",
           first.payload[:40])
    expect_eq((first.seq - syns[0].seq) & 0xFFFFFFFF, 1, "at the first sequence number")
    if ours_connects:
        expect(syns[0].option(OPT_ENO), "our SYN offers", syns[0])
        expect_eq(first.option(OPT_ENO), None, "no option 69 after a SYN-ACK without")
    else:
        synack = next(t for t in cap.tcp() if t.flag(SYN | ACK))
        expect_eq(synack.option(OPT_ENO), None, "no option 69 for a peer without")
    expect(all(t.ip_ok and t.tcp_ok for t in cap.tcp()), "checksums")
    expect(not [t for t in cap.tcp() if t.flags & RST], "no RST")


def test_plain_peer_outbound(lab):
    plain_peer(lab, True, lambda s: s.ip4)


def test_plain_peer_inbound(lab):
    plain_peer(lab, False, lambda s: s.ip4)


def test_plain_peer_outbound_ipv6(lab):
    plain_peer(lab, True, lambda s: s.ip6)


def test_plain_peer_inbound_ipv6(lab):
    plain_peer(lab, False, lambda s: s.ip6)


def test_option_stripped_from_the_syn_ack(lab):
    """A middlebox that removes option 69 on the way back: both sides go on in clear."""
    r, a, b = both(lab)
    r.forward_rules("tcp flags & (syn|ack) == syn|ack reset tcp option 69")
    with b.listen(80) as listener, a.connect(b.ip4, 80) as c:
        s, _ = listener.accept()
        c.sendall(b"to b")
        expect_eq(s.recv(10), b"to b")
        s.sendall(b"to a")
        expect_eq(c.recv(10), b"to a")
        at_a, at_b = sessions_of(a, b, 80)
        expect_eq(at_a["state"], "clear")
        expect_eq(at_b["state"], "clear")
        expect_eq(at_b["reason"], "eno-stripped")
        s.close()


def test_option_stripped_from_the_syn(lab):
    r, a, b = both(lab)
    r.forward_rules("tcp flags & (syn|ack) == syn reset tcp option 69")
    with b.listen(80) as listener, a.connect(b.ip4, 80) as c:
        s, _ = listener.accept()
        c.sendall(b"to b")
        expect_eq(s.recv(10), b"to b")
        for one in sessions_of(a, b, 80):
            expect_eq((one["state"], one["reason"]), ("clear", "peer-no-eno"))
        s.close()


def drop_once(r, match):
    """nftables in the router: the first packet of each connection that matches is lost."""
    r.forward_rules(f"{match} tcp sport . tcp dport != @seen "
                    "add @seen { tcp sport . tcp dport } drop",
                    extra="set seen {\ntype inet_service . inet_service\nflags dynamic\n}")


def test_lost_syn_is_repeated_with_the_same_option_or_none(lab):
    """RFC 8547 4.6: never another one; the active opener may give it up."""
    r, a, b = both(lab)
    drop_once(r, "tcp flags & (syn|ack) == syn")
    with Capture(r, a.peer_if) as cap:
        exchange(a, b, b.ip4, 10_000)
        cap.stop()
    syns = [t for t in cap.tcp() if t.flags & (SYN | ACK) == SYN]
    expect(len(syns) >= 2, "the SYN was sent again", syns)
    expect(syns[0].option(OPT_ENO), "the first one offers")
    expect_eq(len({t.option(OPT_ENO) for t in syns} - {None}), 1, "the option's bytes")
    expect_eq(len({t.seq for t in syns}), 1, "the sequence number")
    bad = [t for t in cap.tcp() if not t.ip_ok or not t.tcp_ok or t.flags & RST]
    expect(not bad, "checksums, and no RST", bad[:3])


def test_path_that_drops_option_69(lab):
    """A middlebox that drops SYNs with it: the connection comes about, in clear."""
    r, a, b = both(lab)
    r.forward_rules("tcp option 69 exists drop")
    with b.listen(80) as listener, a.connect(b.ip4, 80, 15) as c:
        s, _ = listener.accept()
        c.sendall(b"to b")
        expect_eq(s.recv(10), b"to b")
        at_a, at_b = sessions_of(a, b, 80)
        expect_eq((at_a["state"], at_b["state"]), ("clear", "clear"))
        expect(at_a["reason"] not in ("full", "peer-no-eno"), "the reason tells", at_a)
        s.close()


def test_path_that_drops_option_69_and_policy_require(lab):
    """Then there is no connection, and no plaintext."""
    r, a, b = lab.star("a", "b")
    a.up("--policy", "require")
    b.up()
    r.forward_rules("tcp option 69 exists drop")
    with Capture(r, a.peer_if) as cap, b.listen(80):
        try:
            a.connect(b.ip4, 80, 4).close()
            expect(False, "connected")
        except OSError:
            pass
        expect(all(t.option(OPT_ENO) for t in cap.tcp() if t.flags & SYN), "each SYN offers")


def test_lost_syn_ack_is_repeated_with_the_same_option(lab):
    r, a, b = both(lab)
    drop_once(r, "tcp flags & (syn|ack) == syn|ack")
    with Capture(r, b.peer_if) as cap:
        exchange(a, b, b.ip4, 10_000)
        cap.stop()
    synacks = [t for t in cap.tcp() if t.flag(SYN | ACK)]
    expect(len(synacks) >= 2, "the SYN-ACK was sent again", synacks)
    expect_eq(len({t.option(OPT_ENO) for t in synacks}), 1, "the option's bytes")
    check_wire(cap)


def test_lost_first_ack(lab):
    """Encryption must not be given up because the ACK that carries option 69 was lost."""
    r, a, b = both(lab)
    drop_once(r, f"ip saddr {a.ip4} tcp flags & (syn|ack|fin|rst) == ack")
    with Capture(r, b.peer_if) as cap:
        at_a, at_b = exchange(a, b, b.ip4, 10_000)
        cap.stop()
    expect_eq((at_a["state"], at_b["state"]), ("encrypted", "encrypted"))
    check_wire(cap)


@tap.timeout(90)
def test_random_loss_both_ways(lab):
    r, a, b = both(lab)
    # Not SYNs: an opener that loses one may go on without the option.
    r.forward_rules("tcp flags & syn == 0 numgen random mod 100 == 0 drop")
    with Capture(r, a.peer_if) as cap:
        exchange(a, b, b.ip4, 2_000_000)
        cap.stop()
    check_wire(cap)


def test_router_reorders_nothing_of_ours_on_the_tun(lab):
    """What the application's kernel sees on the TUN device has valid checksums too."""
    _, a, b = both(lab)
    with Capture(a, "tcpcrypt0") as cap:
        exchange(a, b, b.ip4, 50_000)
        cap.stop()
    inner = [t for t in cap.tcp() if not t.partial]
    bad = [t for t in inner if not t.ip_ok or not t.tcp_ok]
    expect(not bad, "checksums towards the application", bad[:3])
    expect(not [t for t in cap.tcp() if t.option(OPT_ENO) is not None], "option 69 stays outside")


def test_kernel_stays_silent_about_inbound_segments(lab):
    """The kernel's TCP must not see the uplink: no RST from it for what it does not know."""
    r, a, b = both(lab)
    with Capture(r, b.peer_if) as cap:
        exchange(a, b, b.ip4, 100_000)
        cap.stop()
    expect_eq([t for t in cap.tcp() if t.flags & RST], [])
    # Each connection has one set of sequence numbers: ours.
    synacks = {t.seq for t in cap.tcp() if t.flag(SYN | ACK)}
    expect_eq(len(synacks), 1, "one SYN-ACK")


def test_session_ids_differ_between_connections(lab):
    _, a, b = both(lab)
    ids = {exchange(a, b, b.ip4, 100, port)[0]["session_id"] for port in (81, 82, 83)}
    expect_eq(len(ids), 3)


def test_bytes_are_counted(lab):
    _, a, b = both(lab)
    at_a, at_b = exchange(a, b, b.ip4, 123_456)
    expect_eq((at_a["tx_bytes"], at_a["rx_bytes"]), (123_456, 123_456), "a")
    expect_eq((at_b["tx_bytes"], at_b["rx_bytes"]), (123_456, 123_456), "b")



def test_many_at_once_to_a_new_neighbour(lab):
    """All SYNs wait for its address: one that is lost comes again without the option."""
    _, a, b = lab.pair()
    socks = []
    with b.listen(80) as listener:
        for _ in range(100):
            c = a.socket()
            c.setblocking(False)
            c.connect_ex((b.ip4, 80))
            socks.append(c)
        socks += [listener.accept()[0] for _ in range(100)]
        wait_for(lambda: all(s["state"] == "encrypted" for s in a.sessions()), 5, "encrypted")
        for s in socks:
            s.close()


if __name__ == "__main__":
    tap.main()
