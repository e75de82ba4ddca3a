# SPDX-License-Identifier: BSD-3-Clause
"""up, down, crash, restart: what is set up goes away, and nothing leaks in between."""
import contextlib
import json
import os
import signal
import socket
import subprocess
import threading
import time

import tap
from lab import Failure, binary, expect, expect_eq, idle, wait_for
from wire import ACK, RST, Capture

MARK = b"lifecycle plaintext marker, more than 32 bytes long! "


def status(ns):
    return json.loads(ns.tcns("status", "--json").stdout)


def is_reset(sock):
    """Reads until the end. Return: whether it was a reset."""
    try:
        while sock.recv(65536):
            pass
        return False
    except ConnectionResetError:
        return True


def connected(a, b, port=80, addr=None):
    """Return: listener, client socket, server socket."""
    addr = addr or b.ip4
    listener = b.listen(port, "::" if ":" in addr else None)
    c = a.connect(addr, port)
    s, _ = listener.accept()
    s.settimeout(10)
    return listener, c, s


def works(c, s):
    c.sendall(b"to server")
    expect_eq(s.recv(100), b"to server")
    s.sendall(b"to client")
    expect_eq(c.recv(100), b"to client")


def try_once(a, b, port):
    """A new connection with data both ways. Return: whether it worked."""
    with contextlib.suppress(OSError):
        with b.listen(port) as listener:
            listener.settimeout(1)
            with a.connect(b.ip4, port, timeout=1) as c:
                s, _ = listener.accept()
                with s:
                    s.settimeout(1)
                    works(c, s)
                    return True
    return False


def test_down_puts_everything_back(lab):
    r, a, b = lab.star("a", "b")
    before = a.snapshot()
    a.up()
    expect(a.snapshot() != before, "up changes something")
    expect("tcpcrypt0" in a.ip("link"), "the TUN device")
    a.down()
    after = a.snapshot()
    for what, text in before.items():
        expect_eq(after[what], text, what)
    expect_eq(a.pids(), [], "no process stays")


def test_up_and_down_ten_times(lab):
    _, a, b = lab.star("a", "b")
    b.up()
    before = a.snapshot()
    for i in range(10):
        a.up()
        expect(try_once(a, b, 100 + i), f"round {i}")
        a.down()
    after = a.snapshot()
    for what, text in before.items():
        expect_eq(after[what], text, what)


def test_up_twice_is_refused(lab):
    _, a = lab.star("a")
    a.up()
    r = a.up(check=False)
    expect_eq(r.returncode, 1, r.stderr)
    expect("already" in r.stderr, "says why", r.stderr)
    expect_eq(status(a)["worker_restarts"], 0, "the first one is undisturbed")


def test_down_without_a_daemon(lab):
    _, a = lab.star("a")
    before = a.snapshot()
    a.down(check=False)
    expect_eq(a.snapshot(), before)


def test_unknown_namespace(lab):
    _, a = lab.star("a")
    for verb in ("up", "down", "sessions", "status"):
        r = a.tcns(verb, check=False, target="tcns-no-such-namespace")
        expect(r.returncode != 0 and r.stderr, verb, r)


def test_namespace_by_path_and_pid(lab):
    _, a, b = lab.star("a", "b")
    b.up()
    p = a.popen("sleep", "60")
    wait_for(lambda: p.pid in a.pids(), 5, "the process is in the namespace")
    for i, target in enumerate((a.path, str(p.pid))):
        a.up(target=target)
        expect(try_once(a, b, 200 + i), target)
        a.down(target=target)


def test_self(lab):
    """The sidecar: run inside the namespace."""
    _, a, b = lab.star("a", "b")
    b.up()
    a.run(binary(), "up", "--netns", "self", "--bypass", "none")
    expect(try_once(a, b, 80), "a connection")
    a.run(binary(), "down", "--netns", "self")


def foreground(lab, sig):
    """up --foreground until the signal; everything must be as before then."""
    _, a, b = lab.star("a", "b")
    b.up()
    before = a.snapshot()
    read_fd, write_fd = os.pipe()
    p = subprocess.Popen([binary(), "up", "--netns", a.name, "--foreground", "--ready-fd",
                          str(write_fd), "--bypass", "none"], pass_fds=(write_fd,),
                         stdin=subprocess.DEVNULL)
    lab.procs.append(p)
    os.close(write_fd)
    with open(read_fd, "rb") as f:
        expect_eq(f.read(), b"\n", "ready, and the descriptor closed after it")
    expect(p.poll() is None, "it stays")
    with contextlib.ExitStack() as stack:
        _, c, s = [stack.enter_context(x) for x in connected(a, b)]
        works(c, s)
        p.send_signal(sig)
        expect_eq(p.wait(10), 0, "exit status")
        for x in (c, s):
            x.settimeout(5)
            expect(is_reset(x), "both ends got a reset")
    after = a.snapshot()
    for what, text in before.items():
        expect_eq(after[what], text, what)


def test_foreground_until_sigterm(lab):
    foreground(lab, signal.SIGTERM)


def test_foreground_until_sigint(lab):
    foreground(lab, signal.SIGINT)


def test_down_resets_open_connections(lab):
    r, a, b = lab.pair()
    for addr in (b.ip4, b.ip6):
        with contextlib.ExitStack() as stack:
            sockets = [stack.enter_context(x) for x in connected(a, b, 80, addr)]
            works(*sockets[1:])
            a.down()
            for x in sockets[1:]:
                x.settimeout(5)
                expect(is_reset(x), f"{addr}: both ends get a reset")
            a.up()


def upload(c, stop):
    """Writes marked text until it fails or stop is set. Return: by the thread's attribute."""
    data = MARK * 1000
    try:
        while not stop.is_set():
            c.sendall(data)
    except OSError as e:
        stop.error = e


def drain(s, stop):
    with contextlib.suppress(OSError):
        while not stop.is_set() and s.recv(1 << 20):
            pass


@contextlib.contextmanager
def encrypted_upload(a, b, port=80):
    """An upload under way. Gives: client socket, stop event."""
    listener, c, s = connected(a, b, port)
    stop = threading.Event()
    stop.error = None
    threads = [threading.Thread(target=upload, args=(c, stop), daemon=True),
               threading.Thread(target=drain, args=(s, stop), daemon=True)]
    for t in threads:
        t.start()
    try:
        yield c, stop
    finally:
        stop.set()
        with contextlib.suppress(OSError):
            s.shutdown(socket.SHUT_RDWR)  # wakes its reader
        with contextlib.suppress(OSError):
            c.shutdown(socket.SHUT_RDWR)
        for x in (c, s, listener):
            x.close()
        for t in threads:
            t.join(5)


def no_plaintext(cap):
    expect(not cap.has_bytes(MARK[:32]), "plaintext on the wire")
    expect(not cap.has_bytes(MARK[16:48]), "plaintext on the wire")


@tap.timeout(90)
def test_worker_killed_in_an_upload(lab):
    """Replaced within 100 ms, connections reset, not one byte in clear."""
    r, a, b = lab.pair()
    times = []
    for i in range(5):
        port = 80 + i
        with Capture(r, a.peer_if) as cap, encrypted_upload(a, b, port) as (c, stop):
            wait_for(lambda: cap.bytes > 200_000, 10, "an upload")
            old = status(a)["worker_pid"]
            start = time.monotonic()
            os.kill(old, signal.SIGKILL)
            while True:  # tight: the status call itself takes some milliseconds
                try:
                    new = status(a)["worker_pid"]
                except Failure:
                    new = old
                if new not in (old, 0, -1):
                    break
                expect(time.monotonic() - start < 5, "a new worker")
            times.append(time.monotonic() - start)
            wait_for(lambda: stop.error, 5, "the upload to fail")
            expect(isinstance(stop.error, (ConnectionResetError, BrokenPipeError,
                                           ConnectionAbortedError)), "a reset", stop.error)
            # Retransmissions of the kernel would come within a second.
            idle(0.7)
            cap.stop()
            no_plaintext(cap)
        wait_for(lambda: try_once(a, b, 500 + i), 5, "new connections work again")
    print(f"# replaced after {', '.join(f'{t * 1000:.0f}' for t in times)} ms "
          "(with the time of asking)")
    expect(sorted(times)[len(times) // 2] < 0.15, "within 100 ms", times)
    expect_eq(status(a)["worker_restarts"], 5)


@tap.timeout(60)
def test_worker_killed_on_the_receiving_side(lab):
    r, a, b = lab.pair()
    with Capture(r, b.peer_if) as cap, encrypted_upload(a, b) as (c, stop):
        wait_for(lambda: cap.bytes > 200_000, 10, "an upload")
        os.kill(status(b)["worker_pid"], signal.SIGKILL)
        wait_for(lambda: stop.error, 10, "the sender's upload to fail")
        cap.stop()
        no_plaintext(cap)
    wait_for(lambda: try_once(a, b, 90), 5, "new connections work again")


def killed_both(lab):
    """Supervisor and worker killed in the middle of an upload. Return: r, a, b."""
    r, a, b = lab.pair()
    with Capture(r, a.peer_if) as cap, encrypted_upload(a, b) as (c, stop):
        wait_for(lambda: cap.bytes > 200_000, 10, "an upload")
        now = status(a)
        os.kill(now["pid"], signal.SIGSTOP)  # so that it cannot replace the worker in between
        os.kill(now["worker_pid"], signal.SIGKILL)
        os.kill(now["pid"], signal.SIGKILL)
        wait_for(lambda: not a.pids(), 5, "both processes gone")
        idle(1.5)
        cap.stop()
        no_plaintext(cap)
    with Capture(r, a.peer_if) as cap:
        expect(not try_once(a, b, 81), "TCP must stay closed")
        try:
            a.connect(b.ip4, 82, timeout=1).close()
            raise Failure("connected")
        except OSError as e:
            print(f"# closed: {e}")
        cap.stop()
        expect(not [t for t in cap.tcp() if t.dport in (81, 82)], "not even a SYN leaves",
               cap.tcp()[:3])
    return r, a, b


def test_both_killed_then_down(lab):
    r, a, b = killed_both(lab)
    a.down()
    left = a.snapshot()
    expect("tcpcrypt" not in left["nft"] and "tcpcrypt" not in left["link"], "leftovers", left)
    expect_eq(left["rule"].count("\n"), 3, "only the kernel's own rules")
    b.down()
    expect(try_once(a, b, 83), "native TCP again")


def test_both_killed_then_up(lab):
    r, a, b = killed_both(lab)
    a.up()
    expect(try_once(a, b, 83), "a connection")
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(x) for x in connected(a, b, 84)]
        works(*sockets[1:])
        live = [s for s in a.sessions() if s["peer_port"] == 84]
        expect_eq([s["state"] for s in live], ["encrypted"])


def test_worker_that_keeps_dying(lab):
    """Killed again and again: never clear, and well in the end."""
    r, a, b = lab.pair()
    with Capture(r, a.peer_if) as cap:
        for _ in range(8):
            with contextlib.suppress(Failure, ProcessLookupError, KeyError):
                pid = status(a)["worker_pid"]
                if pid > 0:
                    os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(OSError):
                with a.connect(b.ip4, 99, timeout=0.2) as c:
                    c.sendall(MARK * 10)
        cap.stop()
        no_plaintext(cap)
    wait_for(lambda: try_once(a, b, 98), 15, "new connections work again", interval=0.2)


def test_older_connections_go_on(lab):
    r, a, b = lab.star("a", "b")
    with contextlib.ExitStack() as stack:
        older = []
        for addr, port, client, server in ((b.ip4, 80, a, b), (b.ip6, 81, a, b),
                                           (a.ip4, 82, b, a)):
            older.append([stack.enter_context(x) for x in connected(client, server, port, addr)])
            works(*older[-1][1:])
        a.up()
        for sockets in older:
            works(*sockets[1:])
        live = a.sessions()
        expect_eq(sorted(s["reason"] for s in live), ["older"] * 3, f"{live}")
        expect_eq({s["state"] for s in live}, {"clear"})
        # In bulk, both ways, and to an orderly end.
        for sockets in older:
            _, c, s = sockets
            data = os.urandom(2_000_000)
            t = threading.Thread(target=lambda: (c.sendall(data), c.shutdown(socket.SHUT_WR)),
                                 daemon=True)
            t.start()
            got = b""
            while chunk := s.recv(1 << 20):
                got += chunk
            expect(got == data, "bytes differ")
            t.join(5)
            s.sendall(b"bye")
            expect_eq(c.recv(10), b"bye")
            c.close()
            s.close()
        wait_for(lambda: {s["state"] for s in a.sessions()} <= {"closing"}, 5,
                 "their entries end with them")


def test_older_connection_survives_down(lab):
    """down ends what we carry; what was there before us is the kernel's again."""
    r, a, b = lab.star("a", "b")
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(x) for x in connected(a, b)]
        works(*sockets[1:])
        a.up()
        works(*sockets[1:])
        a.down()
        works(*sockets[1:])


def test_unknown_segment_gets_a_reset(lab):
    """A connection that only the peer remembers ends with a RST and is never forwarded."""
    from wire import Injector, build_ip, build_tcp, mac
    r, a, b = lab.star("a", "b")
    a.up()
    with Capture(r, a.peer_if) as cap, Capture(a, "tcpcrypt0") as inner:
        with Injector(r, a.peer_if).to_mac(mac(a, "eth0"), mac(r, a.peer_if)) as i:
            i.send_ip(build_ip(b.ip4, a.ip4, build_tcp(b.ip4, a.ip4, 4321, 80, 1000, 2000, ACK,
                                                       payload=MARK)))
        rst = cap.wait_tcp(lambda t: t.flags & RST and t.dport == 4321, 5, "a RST")
        expect_eq(rst.seq, 2000, "its sequence number is what was acknowledged")
        expect(not inner.tcp(), "nothing reaches the application's kernel")
    expect(a.counters()["rst_unknown"] >= 1, "counted", a.counters())


def test_address_changes(lab):
    """A new address is used at once, with the same daemon; the old one is given up."""
    r, a, b = lab.pair()
    pid = status(a)["pid"], status(a)["worker_pid"]
    expect(try_once(a, b, 80), "before")
    a.ip("addr", "del", f"{a.ip4}/24", "dev", "eth0")
    a.ip("addr", "add", "10.77.1.77/24", "dev", "eth0")
    a.ip("route", "replace", "default", "via", "10.77.1.1")
    with b.listen(81) as listener:
        c = wait_for(lambda: _quiet_connect(a, b.ip4, 81), 5, "a connection from the new address")
        s, peer = listener.accept()
        expect_eq(peer[0], "10.77.1.77")
        works(c, s)
        c.close()
        s.close()
    with a.listen(82) as listener:
        c = b.connect("10.77.1.77", 82)
        s, _ = listener.accept()
        works(c, s)
        c.close()
        s.close()
    expect_eq((status(a)["pid"], status(a)["worker_pid"]), pid, "the same processes")


def _quiet_connect(ns, addr, port):
    try:
        return ns.connect(addr, port, timeout=1)
    except OSError:
        return None


def test_gateway_changes(lab):
    """The default route moves to another router on the same link."""
    r, a, b = lab.pair()
    expect(try_once(a, b, 80), "before")
    pid = status(a)["worker_pid"]
    r.ip("addr", "add", "10.77.1.254/24", "dev", a.peer_if)
    a.ip("route", "replace", "default", "via", "10.77.1.254")
    r.ip("addr", "del", "10.77.1.1/24", "dev", a.peer_if)
    r.ip("addr", "replace", "10.77.1.254/24", "dev", a.peer_if)
    wait_for(lambda: try_once(a, b, 81), 5, "a connection by the new gateway")
    expect_eq(status(a)["worker_pid"], pid, "the same process")


def test_gateway_gets_a_new_mac(lab):
    """The neighbour answers with another hardware address; open connections go on."""
    r, a, b = lab.pair()
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(x) for x in connected(a, b)]
        works(*sockets[1:])
        r.ip("link", "set", a.peer_if, "address", "02:00:00:00:77:77")
        a.ip("neigh", "flush", "dev", "eth0")
        works(*sockets[1:])


def test_link_goes_down_and_up(lab):
    """An open connection outlives it, as in a kernel."""
    r, a, b = lab.pair()
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(x) for x in connected(a, b)]
        works(*sockets[1:])
        pid = status(a)["worker_pid"]
        r.ip("link", "set", a.peer_if, "down")
        sockets[1].sendall(b"while it is down")
        idle(0.5)
        r.ip("link", "set", a.peer_if, "up")
        r.ip("addr", "replace", "fd77:1::1/64", "dev", a.peer_if, "nodad")
        sockets[2].settimeout(20)
        expect_eq(sockets[2].recv(100), b"while it is down")
        works(*sockets[1:])
        expect_eq(status(a)["worker_pid"], pid, "the same process")


def test_uplink_itself_goes_down_and_up(lab):
    r, a, b = lab.pair()
    pid = status(a)["pid"]
    expect(try_once(a, b, 80), "before")
    a.ip("link", "set", "eth0", "down")
    expect(not try_once(a, b, 81), "no link, no connection")
    a.ip("link", "set", "eth0", "up")
    a.ip("route", "replace", "default", "via", "10.77.1.1")
    wait_for(lambda: try_once(a, b, 82), 10, "a connection again", 0.1)
    expect_eq(status(a)["pid"], pid, "the same daemon")


def test_routes_to_other_interfaces_stay_native(lab):
    """Only the traffic of the named uplink is ours: another interface keeps its own path."""
    r, a, b = lab.star("a", "b")
    other = lab.ns("o")
    lab.veth(other, "eth0", a, "eth1")
    other.ip("addr", "add", "10.88.0.1/24", "dev", "eth0")
    a.ip("addr", "add", "10.88.0.2/24", "dev", "eth1")
    a.up("--uplink", "eth0")
    with other.listen(80) as listener, a.connect("10.88.0.1", 80) as c:
        s, peer = listener.accept()
        expect_eq(peer[0], "10.88.0.2")
        works(c, s)
        s.close()
    with a.listen(81) as listener, other.connect("10.88.0.2", 81) as c:
        s, _ = listener.accept()
        works(c, s)
        s.close()
    expect_eq(a.sessions(), [])


def test_reverse_path_filter(lab):
    """Strict (1) or loose (2), switched on before or after us. Loose is what new devices get on
    many hosts, and in the containers there."""
    r, a, b = lab.star("a", "b")
    a.sysctl("net.ipv4.conf.all.rp_filter", 1)
    b.sysctl("net.ipv4.conf.default.rp_filter", 2)
    for ns in (a, b):
        ns.up()
    expect(try_once(a, b, 80), "out")
    expect(try_once(b, a, 81), "in")
    b.sysctl("net.ipv4.conf.tcpcrypt0.rp_filter", 0)
    for value, names_tcp in ((0, False), (1, True), (0, False), (2, True)):
        for ns in (a, b):
            ns.sysctl("net.ipv4.conf.all.rp_filter", value)
            wait_for(lambda: ("iif tcpcrypt0 ipproto tcp nop" in ns.ip("rule")) == names_tcp, 2,
                     "a rule that follows")
        expect(try_once(a, b, 80), "out")
        expect(try_once(b, a, 81), "in")


def test_namespace_goes_away_under_the_daemon(lab):
    """The uplink is deleted: no spin, no crash; down still works."""
    r, a, b = lab.star("a", "b")
    a.up()
    r.ip("link", "del", a.peer_if)
    with contextlib.suppress(Failure):
        pid = status(a)["worker_pid"]
        with open(f"/proc/{pid}/stat") as f:
            before = sum(map(int, f.read().split()[13:15]))
        idle(1)
        with open(f"/proc/{pid}/stat") as f:
            used = sum(map(int, f.read().split()[13:15])) - before
        expect(used < 50, f"{used} of 100 ticks of CPU while there is nothing to do")
    a.down(check=False)
    expect("tcpcrypt0" not in a.ip("link"), "the TUN device is gone")


def test_idle_daemon_uses_no_cpu(lab):
    r, a, b = lab.pair()
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(x) for x in connected(a, b)]
        works(*sockets[1:])
        pid = status(a)["worker_pid"]

        def ticks():
            with open(f"/proc/{pid}/stat") as f:
                return sum(map(int, f.read().split()[13:15]))

        before = ticks()
        idle(2)
        expect(ticks() - before <= 4, "ticks in two idle seconds", ticks() - before)


def test_two_namespaces_are_apart(lab):
    """Daemons of different namespaces do not see each other's sessions."""
    r, a, b, c = lab.star("a", "b", "c")
    for ns in (a, b, c):
        ns.up()
    with contextlib.ExitStack() as stack:
        for x in connected(a, b):
            stack.enter_context(x)
        expect_eq(len(a.sessions()), 1)
        expect_eq(len(b.sessions()), 1)
        expect_eq(c.sessions(), [])
        a.down()
        expect(try_once(b, c, 81), "the others go on")


def test_sessions_as_text(lab):
    r, a, b = lab.pair()
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(x) for x in connected(a, b)]
        works(*sockets[1:])
        session_id = a.sessions()[0]["session_id"]
        for ns in (a, b):
            text = ns.tcns("sessions").stdout
            expect(session_id in text, "the id", text)
            expect("encrypted" in text, "the state", text)
        # By the door inside the namespace, as a process of the container asks.
        text = a.run(binary(), "sessions", "--netns", "self").stdout
        expect(session_id in text, "from inside", text)


def test_sessions_without_a_daemon(lab):
    _, a = lab.star("a")
    expect_eq(a.tcns("sessions", check=False).returncode, 3, "exit status")


if __name__ == "__main__":
    tap.main()
