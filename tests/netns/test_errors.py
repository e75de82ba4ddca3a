# SPDX-License-Identifier: BSD-3-Clause
"""What goes wrong looks to the application as it would without us."""
import errno
import fcntl
import os
import socket
import struct
import time

import tap
from lab import Failure, expect, expect_eq, idle, wait_for
from wire import ACK, FIN, RST, SYN, Capture

SIOCGSKNS = 0x894C  # of linux/sockios.h: a file descriptor of the socket's namespace


def what_is(ns, sock):
    """What a connection is that should not be: its ends, and who knows of it."""
    where = os.fstat(fcntl.ioctl(sock, SIOCGSKNS)).st_ino
    try:
        ends = f"{sock.getsockname()} to {sock.getpeername()}"
    except OSError as e:
        ends = str(e)
    state = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
    return (f"{ends}, state {state}, netns {where} of {os.stat(ns.path).st_ino}\n"
            f"{ns.run('ss', '-tani').stdout}"
            f"{ns.tcns('status', '--json', check=False).stdout}"
            f"{ns.tcns('sessions', '--json', check=False).stdout}")


def connect_error(ns, addr, port, timeout=10):
    """Return: errno of connect() and how long it took."""
    start = time.monotonic()
    try:
        s = ns.connect(addr, port, timeout)
    except TimeoutError as e:
        return (e.errno or "silence"), time.monotonic() - start
    except OSError as e:
        return e.errno, time.monotonic() - start
    with s:
        raise Failure(f"connect() succeeded: {what_is(ns, s)}")


def icmp_error(ns, addr, port):
    """As connect_error(), of a connection that ICMP ends. What comes while the program's thread is
    still in connect() is no more than a hint to the kernel (sk_err_soft of tcp_v4_err()), with us
    or without: its SYN goes out again, a second later. One of three must come at once."""
    for _ in range(3):
        code, took = connect_error(ns, addr, port)
        if took < 1:
            break
    return code, took


def reset_on_close(sock):
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


# --- connect() -----------------------------------------------------------------------

def test_closed_port_of_one_of_ours(lab):
    _, a, b = lab.pair()
    for addr in (b.ip4, b.ip6):
        code, took = connect_error(a, addr, 9)
        expect_eq(code, errno.ECONNREFUSED)
        expect(took < 1, "at once", took)


def test_closed_port_of_a_plain_host(lab):
    _, a, p = lab.star("a", "p")
    a.up()
    for addr in (p.ip4, p.ip6):
        code, took = connect_error(a, addr, 9)
        expect_eq(code, errno.ECONNREFUSED)
        expect(took < 1, "at once", took)


def test_closed_port_inbound_from_a_plain_host(lab):
    """The refused SYN gets its RST, as from a kernel."""
    _, a, p = lab.star("a", "p")
    a.up()
    for addr in (a.ip4, a.ip6):
        code, took = connect_error(p, addr, 9)
        expect_eq(code, errno.ECONNREFUSED)
        expect(took < 1, "at once", took)


def test_no_host_at_that_address(lab):
    """The router's "host unreachable", after it has asked for a neighbour in vain."""
    r, a = lab.star("a")
    r.ip("link", "add", "void", "type", "veth", "peer", "name", "void2")
    for dev in ("void", "void2"):
        r.ip("link", "set", dev, "up")
    r.ip("addr", "add", "10.99.0.1/24", "dev", "void")
    r.ip("addr", "add", "fd99::1/64", "dev", "void", "nodad")
    native = connect_error(a, "10.99.0.7", 80)
    a.up()
    code, took = connect_error(a, "10.99.0.8", 80)
    expect_eq(code, errno.EHOSTUNREACH, f"natively {native}")
    expect(took < native[1] + 3, "as soon as natively", took)
    expect_eq(connect_error(a, "fd99::8", 80)[0], errno.EHOSTUNREACH, "IPv6")


def test_no_route_at_the_router(lab):
    r, a = lab.star("a")
    a.up()
    code, took = icmp_error(a, "10.99.0.1", 80)
    expect_eq(code, errno.ENETUNREACH)
    expect(took < 1, "at once", took)
    code, took = icmp_error(a, "fd99::1", 80)
    expect(code in (errno.ENETUNREACH, errno.EHOSTUNREACH), "IPv6", code)
    expect(took < 1, "at once", took)


def test_rejected_by_the_router(lab):
    """A firewall that answers: the error its ICMP stands for, or a RST."""
    r, a, p = lab.star("a", "p")
    a.up()
    for rule, want4, want6 in (
            ("reject with icmpx type admin-prohibited", errno.EHOSTUNREACH, errno.EACCES),
            ("reject with icmpx type port-unreachable", errno.ECONNREFUSED, errno.ECONNREFUSED),
            ("reject with tcp reset", errno.ECONNREFUSED, errno.ECONNREFUSED)):
        r.forward_rules(f"tcp dport 81 {rule}")
        code4, took = icmp_error(a, p.ip4, 81)
        expect_eq(code4, want4, f"IPv4, {rule}")
        expect(took < 1, "at once", took)
        expect_eq(icmp_error(a, p.ip6, 81)[0], want6, f"IPv6, {rule}")


def test_no_route_of_our_own(lab):
    """Without a default route the kernel itself says so. Natively it is ENETUNREACH; the
    unreachable route that keeps a dead daemon's TCP closed makes it EHOSTUNREACH."""
    _, a, b = lab.pair()
    a.ip("route", "del", "default")
    wait_for(lambda: connect_error(a, b.ip4, 80, 1)[0] in (errno.ENETUNREACH, errno.EHOSTUNREACH),
             5, "unreachable")


def test_silence_stays_silence(lab):
    """A SYN that is dropped: no SYN-ACK of ours may claim that the peer is there."""
    r, a, p = lab.star("a", "p")
    a.up()
    r.forward_rules("tcp dport 80 drop")
    with Capture(r, a.peer_if) as cap, Capture(a, "tcpcrypt0") as inner:
        code, took = connect_error(a, p.ip4, 80, timeout=4)
        expect_eq(code, "silence")
        expect(took > 3.9, "no early answer", took)
        syns = [t for t in cap.tcp() if t.flags & (SYN | ACK) == SYN]
        expect(2 <= len(syns) <= 5, "a few SYNs, as a kernel sends", syns)
        expect(not [t for t in inner.tcp() if not t.outgoing], "nothing comes back in")


def test_silent_inbound_listener_backlog(lab):
    """A full backlog is silent towards the peer too, and recovers."""
    _, a, b = lab.pair()
    with b.listen(80, backlog=0) as listener:
        held = [a.connect(b.ip4, 80)]
        late = a.socket()
        late.settimeout(0.3)
        try:
            late.connect((b.ip4, 80))
        except OSError:
            pass
        held.append(listener.accept()[0])
        late.close()
        c = a.connect(b.ip4, 80, 10)
        c.close()
        for s in held:
            s.close()


# --- open connections ----------------------------------------------------------------

def test_reset_by_the_peer(lab):
    _, a, b = lab.pair()
    with b.listen(80) as listener, a.connect(b.ip4, 80) as c:
        s, _ = listener.accept()
        c.sendall(b"x")
        expect_eq(s.recv(1), b"x")
        reset_on_close(s)
        try:
            expect_eq(c.recv(1), None, "recv() must fail")
        except ConnectionResetError:
            pass


def test_reset_by_the_application(lab):
    _, a, b = lab.pair()
    with b.listen(80) as listener:
        c = a.connect(b.ip4, 80)
        s, _ = listener.accept()
        s.settimeout(10)
        c.sendall(b"x")
        expect_eq(s.recv(1), b"x")
        reset_on_close(c)
        try:
            expect_eq(s.recv(1), None, "recv() must fail")
        except ConnectionResetError:
            pass
        s.close()
    wait_for(lambda: not a.sessions() and not b.sessions(), 10, "no sessions left")


def test_process_killed_in_the_middle(lab):
    """The server is killed with data unread: the client gets a reset."""
    _, a, b = lab.pair()
    p = b.popen("socat", "-u", "TCP-LISTEN:80", "EXEC:sleep 60")
    b.wait_listening(80)
    with a.connect(b.ip4, 80) as c:
        c.settimeout(0.5)
        try:
            while True:
                c.send(b"x" * 65536)
        except TimeoutError:
            pass
        p.kill()
        c.settimeout(10)
        try:
            while c.send(b"x" * 65536):
                pass
        except (ConnectionResetError, BrokenPipeError):
            pass


def test_data_before_an_orderly_end_arrives(lab):
    """Much data and close() at once: nothing may be cut off."""
    _, a, b = lab.pair()
    size = 3_000_000
    with b.listen(80) as listener:
        c = a.connect(b.ip4, 80)
        s, _ = listener.accept()
        s.settimeout(10)
        import threading

        def send():
            c.sendall(b"z" * size)
            c.close()

        t = threading.Thread(target=send, daemon=True)
        t.start()
        got = 0
        while chunk := s.recv(1 << 20):
            got += len(chunk)
        expect_eq(got, size)
        t.join(5)
        s.close()


def rss_of(ns):
    """Bytes of the daemon's worker in memory."""
    import json
    pid = json.loads(ns.tcns("status", "--json").stdout)["worker_pid"]
    with open(f"/proc/{pid}/statm") as f:
        return int(f.read().split()[1]) * 4096


def test_receiver_that_does_not_read(lab):
    """Zero window: the sender blocks, our memory stays bounded, and all goes on later."""
    _, a, b = lab.pair()
    before = rss_of(a), rss_of(b)
    with b.listen(80) as listener, a.connect(b.ip4, 80) as c:
        s, _ = listener.accept()
        s.settimeout(20)
        c.settimeout(1.0)
        sent = 0
        try:
            while True:
                sent += c.send(b"y" * 65536)
        except TimeoutError:
            pass
        expect(sent < 64 << 20, "the sender is held back", sent)
        for ns, was in zip((a, b), before):
            grown = rss_of(ns) - was
            expect(grown < 48 << 20, f"memory of {ns.short} grew by {grown >> 20} MiB")
        c.settimeout(20)
        got = 0
        import threading

        def rest():
            c.sendall(b"y" * 1000)
            c.shutdown(socket.SHUT_WR)

        t = threading.Thread(target=rest, daemon=True)
        t.start()
        while chunk := s.recv(1 << 20):
            expect(chunk.count(b"y") == len(chunk), "bytes differ")
            got += len(chunk)
        expect_eq(got, sent + 1000)
        t.join(5)
        s.close()


@tap.timeout(90)
def test_zero_window_lasts(lab):
    """A window that is shut for longer than a few probes opens again."""
    _, a, b = lab.pair()
    with b.listen(80) as listener, a.connect(b.ip4, 80) as c:
        s, _ = listener.accept()
        c.setblocking(False)
        sent = 0
        idle_until = time.monotonic() + 12
        while time.monotonic() < idle_until:
            try:
                sent += c.send(b"w" * 65536)
            except BlockingIOError:
                time.sleep(0.05)
        c.setblocking(True)
        c.shutdown(socket.SHUT_WR)
        s.settimeout(30)
        got = 0
        while chunk := s.recv(1 << 20):
            got += len(chunk)
        expect_eq(got, sent)
        s.close()


def test_slow_readers_do_not_starve_others(lab):
    """Connections whose readers sleep, and one that works beside them."""
    _, a, b = lab.pair()
    with b.listen(80, backlog=64) as listener:
        stuck = []
        for _ in range(20):
            c = a.connect(b.ip4, 80)
            stuck.append((c, listener.accept()[0]))
            c.setblocking(False)
            try:
                while c.send(b"q" * 65536):
                    pass
            except BlockingIOError:
                pass
        with a.connect(b.ip4, 80) as c:
            s, _ = listener.accept()
            s.settimeout(10)
            start = time.monotonic()
            for _ in range(50):
                c.sendall(b"ping")
                expect_eq(s.recv(10), b"ping")
                s.sendall(b"pong")
                expect_eq(c.recv(10), b"pong")
            expect(time.monotonic() - start < 5, "round trips", time.monotonic() - start)
            s.close()
        for c, s in stuck:
            c.close()
            s.close()


def test_truncation_is_an_error(lab):
    """A FIN that somebody else made must not look like the end of the data."""
    from wire import Injector, build_ip, build_tcp, mac
    r, a, b = lab.pair()
    with Capture(r, b.peer_if) as cap, b.listen(80) as listener, a.connect(b.ip4, 80) as c:
        s, _ = listener.accept()
        s.settimeout(10)
        c.sendall(b"half of")
        expect_eq(s.recv(100), b"half of")
        last = [t for t in cap.tcp() if t.dport == 80 and t.payload][-1]
        back = [t for t in cap.tcp() if t.sport == 80][-1]
        fin = build_ip(a.ip4, b.ip4, build_tcp(
            a.ip4, b.ip4, last.sport, 80, last.seq + len(last.payload),
            back.seq + len(back.payload), FIN | ACK))
        with Injector(r, b.peer_if).to_mac(mac(b, "eth0"), mac(r, b.peer_if)) as i:
            i.send_ip(fin)
        try:
            got = s.recv(100)
            raise Failure(f"recv() must fail, gave {got!r}")
        except ConnectionResetError:
            pass
        s.close()


def test_changed_ciphertext_is_an_error(lab):
    """A router that changes one byte of a frame: the receiver must not see changed text."""
    r, a, b = lab.pair()
    with b.listen(80) as listener, a.connect(b.ip4, 80) as c:
        s, _ = listener.accept()
        s.settimeout(10)
        c.sendall(b"before")
        expect_eq(s.recv(100), b"before")
        r.forward_rules("ip daddr 10.77.2.2 tcp dport 80 meta length > 60 @th,480,8 set 0x41")
        c.sendall(b"A" * 100 + b"B" * 100)
        try:
            got = s.recv(1000)
            raise Failure(f"recv() must fail, gave {got!r}")
        except ConnectionResetError:
            pass
        try:
            c.settimeout(10)
            c.recv(1)
            raise Failure("the sender must see a reset")
        except ConnectionResetError:
            pass
        s.close()


def test_policy_require_refuses_a_plain_peer(lab):
    _, a, p = lab.star("a", "p")
    a.up("--policy", "require")
    with p.listen(80):
        for addr in (p.ip4,):
            expect_eq(connect_error(a, addr, 80)[0], errno.ECONNREFUSED, "out")
    with a.listen(80):
        try:
            with p.connect(a.ip4, 80, 5) as c:
                c.sendall(b"x")
                expect_eq(c.recv(1), None, "no data from a refused connection")
        except (ConnectionResetError, ConnectionRefusedError, BrokenPipeError):
            pass
    expect(a.counters()["flows_refused"] >= 2, "counted", a.counters())


def test_policy_require_accepts_one_of_ours(lab):
    _, a, b = lab.pair("--policy", "require")
    with b.listen(80) as listener, a.connect(b.ip4, 80) as c:
        s, _ = listener.accept()
        c.sendall(b"x")
        expect_eq(s.recv(1), b"x")
        s.close()


def test_policy_off_never_offers(lab):
    r, a, b = lab.star("a", "b")
    a.up("--policy", "off")
    b.up()
    with Capture(r, a.peer_if) as cap, b.listen(80) as listener, a.connect(b.ip4, 80) as c:
        s, _ = listener.accept()
        c.sendall(b"x")
        expect_eq(s.recv(1), b"x")
        expect(not [t for t in cap.tcp() if t.option(69) is not None], "no option 69")
        live = a.sessions()[0]
        expect_eq((live["state"], live["reason"]), ("clear", "off"))
        s.close()


def test_bypassed_port_stays_native(lab):
    r, a, b = lab.star("a", "b")
    for ns in (a, b):
        ns.up("--bypass", "4433")
    with Capture(r, a.peer_if) as cap, b.listen(4433) as listener, a.connect(b.ip4, 4433) as c:
        s, _ = listener.accept()
        c.sendall(b"x")
        expect_eq(s.recv(1), b"x")
        expect_eq(a.sessions(), [], "not ours")
        expect(not [t for t in cap.tcp() if t.option(69) is not None], "no option 69")
        s.close()


def test_require_is_not_bypassed_by_the_peers_port(lab):
    """The bypass goes by either end's port, and a peer may connect from any."""
    _, a, p = lab.star("a", "p")
    for policy, connects in (("prefer", True), ("require", False)):
        a.up("--policy", policy, "--bypass", "4433")
        with a.listen(7000) as listener, p.socket() as c:
            c.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            c.bind(("", 4433))
            c.settimeout(2)
            try:
                c.connect((a.ip4, 7000))
                got = True
            except OSError:
                got = False
            expect_eq(got, connects, f"policy {policy}")
        a.down()


def _send_through(a, b, addr, size, timeout):
    import threading
    with b.listen(80, "::" if ":" in addr else None) as listener, a.connect(addr, 80) as c:
        s, _ = listener.accept()
        s.settimeout(timeout)
        data = os.urandom(size)
        t = threading.Thread(target=lambda: (c.sendall(data), c.shutdown(socket.SHUT_WR)),
                             daemon=True)
        t.start()
        got = b""
        while chunk := s.recv(1 << 20):
            got += chunk
        expect(got == data, f"{addr}: bytes differ", len(got))
        t.join(5)
        s.close()


def test_path_mtu_is_learned(lab):
    """A narrower link behind the router: "fragmentation needed" must shrink our segments."""
    r, a, b = lab.pair()
    r.ip("link", "set", b.peer_if, "mtu", "1280")
    for addr in (b.ip4, b.ip6):
        _send_through(a, b, addr, 500_000, 15)


def test_path_mtu_black_hole(lab):
    """A router that drops large packets and keeps silent (RFC 4821): packets must shrink."""
    r, a, b = lab.pair()
    r.ip("link", "set", b.peer_if, "mtu", "1000")
    r.nft("table ip box { chain out { type filter hook output priority 0;"
          " icmp type destination-unreachable drop; }; }")
    _send_through(a, b, b.ip4, 500_000, 30)


def test_peer_without_eno_resets_after_first_data(lab):
    """A plain server that refuses by RST after accept: seen as a reset, not as a hang."""
    _, a, p = lab.star("a", "p")
    a.up()
    with p.listen(80) as listener, a.connect(p.ip4, 80) as c:
        s, _ = listener.accept()
        reset_on_close(s)
        try:
            c.recv(1)
            raise Failure("recv() must fail")
        except ConnectionResetError:
            pass


def test_idle_connections_survive(lab):
    """Nothing is sent for some seconds on many connections; then each still works."""
    _, a, b = lab.pair()
    with b.listen(80, backlog=64) as listener:
        open_ = []
        for _ in range(30):
            c = a.connect(b.ip4, 80)
            open_.append((c, listener.accept()[0]))
        idle(4)
        for c, s in open_:
            c.sendall(b"?")
            expect_eq(s.recv(1), b"?")
            c.close()
            s.close()


def test_no_reset_leaks_from_tests_of_ports(lab):
    """A port scan of ours: each port answers with exactly one RST."""
    r, a, p = lab.star("a", "p")
    a.up()
    with Capture(r, a.peer_if) as cap:
        for port in range(1, 51):
            expect_eq(connect_error(p, a.ip4, port)[0], errno.ECONNREFUSED)
        wait_for(lambda: len([t for t in cap.tcp() if t.flags & RST]) >= 50, 5, "RSTs")
        cap.stop()
        expect_eq(len([t for t in cap.tcp() if t.flags & RST]), 50)


if __name__ == "__main__":
    tap.main()
