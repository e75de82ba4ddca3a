# SPDX-License-Identifier: BSD-3-Clause
"""Real programs through the data path, each compared byte for byte or by its own report."""
import hashlib
import os
import selectors
import socket
import subprocess
import threading

import programs
import tap
from lab import allow_open_files, expect, expect_eq, wait_for

GIB = 1 << 30


def encrypted(ns, port):
    """Return: live sessions with that port at either end, all of which must be encrypted."""
    found = [s for s in ns.sessions() if port in (s["local_port"], s["peer_port"])]
    for s in found:
        if s["state"] in ("opening", "closing"):
            continue
        expect_eq(s["state"], "encrypted", f"{s}")
    return found


def download(lab, addr_of):
    _, a, b = lab.pair()
    root = lab.file("root")
    os.mkdir(root)
    path = programs.random_file(f"{root}/big", GIB)
    programs.nginx(b, 80, root)
    url = f"http://{addr_of(b)}/big"
    p = a.popen("sh", "-c", f"curl -sS -g --max-time 120 '{url}' | cmp - '{path}'")
    live = wait_for(lambda: [s for s in encrypted(a, 80) if s["state"] == "encrypted"],
                    10, "an encrypted session")
    code = p.wait(150)
    expect_eq((code, p.out() + p.err()), (0, ""), "curl | cmp")
    expect_eq(live[0]["reason"], "full")
    before_end = a.counters()
    expect(before_end["flows_clear"] == 0, "a connection was clear", before_end)


@tap.timeout(180)
def test_curl_nginx_1_gib(lab):
    download(lab, lambda b: b.ip4)


@tap.timeout(180)
def test_curl_nginx_1_gib_ipv6(lab):
    download(lab, lambda b: f"[{b.ip6}]")


@tap.timeout(120)
def test_curl_upload_256_mib(lab):
    _, a, b = lab.pair()
    root = lab.file("root")
    os.mkdir(root)
    path = programs.random_file(lab.file("up"), 256 << 20)
    programs.nginx(b, 80, root)
    r = programs.curl(a, f"http://{b.ip4}/put/up", "-T", path, "-o", "/dev/null", "-w",
                      "%{http_code}", timeout=100)
    expect_eq((r.returncode, r.stdout), (0, b"201"), r.stderr.decode())
    subprocess.run(["cmp", path, f"{root}/put/up"], check=True)


def test_curl_many_small_requests_on_one_connection(lab):
    _, a, b = lab.pair()
    root = lab.file("root")
    os.mkdir(root)
    with open(f"{root}/small", "wb") as f:
        f.write(b"0123456789")
    programs.nginx(b, 80, root)
    r = programs.curl(a, f"http://{b.ip4}/small?[1-500]", "-w", "%{num_connects}\n")
    expect_eq(r.returncode, 0, r.stderr.decode())
    expect_eq(r.stdout.count(b"0123456789"), 500)
    expect_eq(sum(map(int, r.stdout.replace(b"0123456789", b"").split())), 1, "connections")


@tap.timeout(120)
def test_iperf3_both_directions_1_and_8_streams(lab):
    _, a, b = lab.pair()
    programs.iperf3_server(b)
    for streams in (1, 8):
        for extra in ((), ("-R",)):
            end = programs.iperf3(a, b.ip4, "-t", "3", "-P", streams, *extra)
            sent, got = end["sum_sent"]["bytes"], end["sum_received"]["bytes"]
            rate = end["sum_received"]["bits_per_second"] / 1e9
            print(f"# {streams} streams {' '.join(extra) or 'to b'}: {rate:.2f} Gbit/s", flush=True)
            expect(got > 10e6, f"hardly anything arrived: {got} bytes")
            expect(got >= sent * 0.5, f"sent {sent}, received {got}")
    expect(a.counters()["flows_clear"] == 0, "a connection was clear")


@tap.timeout(60)
def test_iperf3_bidirectional_ipv6(lab):
    _, a, b = lab.pair()
    programs.iperf3_server(b)
    end = programs.iperf3(a, b.ip6, "-t", "2", "--bidir")
    expect(end["sum_received"]["bytes"] > 10e6, "forward")
    expect(end["sum_received_bidir_reverse"]["bytes"] > 10e6, "reverse")


def test_ssh_interactive(lab):
    _, a, b = lab.pair()
    key = programs.sshd(b)
    # A terminal at the far side, and one key typed at a time: each must come back alone.
    p = subprocess.Popen(a.argv(programs.ssh_argv(key, b.ip4, 2222, "-tt", "stty raw -echo; echo up; cat")),
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    lab.procs.append(p)
    os.set_blocking(p.stdout.fileno(), False)

    def read_until(needle):
        data = b""

        def more():
            nonlocal data
            data += p.stdout.read() or b""
            return needle in data
        wait_for(more, 10, f"{needle} from ssh")

    read_until(b"up")
    for char in b"interactive":
        p.stdin.write(bytes([char]))
        p.stdin.flush()
        read_until(bytes([char]))
    expect(encrypted(a, 2222), "the session is listed")
    p.kill()


@tap.timeout(60)
def test_ssh_copies_a_file(lab):
    _, a, b = lab.pair()
    key = programs.sshd(b)
    path = programs.random_file(lab.file("f"), 32 << 20)
    with open(path, "rb") as f:
        r = a.run(*programs.ssh_argv(key, b.ip4, 2222, "sha256sum"), stdin=f, timeout=50)
    with open(path, "rb") as f:
        expect_eq(r.stdout.split()[0], hashlib.file_digest(f, "sha256").hexdigest())


@tap.timeout(90)
def test_redis_benchmark(lab):
    _, a, b = lab.pair()
    programs.redis(b)
    programs.need("redis-benchmark")
    r = a.run("redis-benchmark", "-h", b.ip4, "-n", "20000", "-c", "50", "-q",
              "-t", "set,get,lrange_100,mset", timeout=80)
    for name in ("SET", "GET", "MSET"):
        expect(f"{name}" in r.stdout and "requests per second" in r.stdout, name, r.stdout)
    r = a.run("redis-benchmark", "-h", b.ip4, "-n", "50000", "-c", "20", "-P", "32", "-q",
              "-d", "512", "-t", "set,get", timeout=60)
    expect_eq(r.stdout.count("requests per second"), 2, r.stdout)
    r = a.run("redis-cli", "-h", b.ip4, "set", "k", "v")
    expect_eq(r.stdout.strip(), "OK")
    expect_eq(a.run("redis-cli", "-h", b.ip4, "get", "k").stdout.strip(), "v")


def test_server_speaks_first(lab):
    _, a, b = lab.pair()
    for addr in (b.ip4, b.ip6):
        with b.listen(25, "::" if ":" in addr else None) as listener, a.connect(addr, 25) as c:
            s, peer = listener.accept()
            expect_eq(peer[0], a.ip6 if ":" in addr else a.ip4, "the true address of the peer")
            s.sendall(b"220 hello\r\n")
            expect_eq(c.recv(100), b"220 hello\r\n")
            c.sendall(b"EHLO\r\n")
            expect_eq(s.recv(100), b"EHLO\r\n")
            s.close()
            expect_eq(c.recv(100), b"")


def test_client_half_closes(lab):
    _, a, b = lab.pair()
    with b.listen(7000) as listener, a.connect(b.ip4, 7000) as c:
        s, _ = listener.accept()
        s.settimeout(10)
        c.sendall(b"question" * 1000)
        c.shutdown(socket.SHUT_WR)
        got = b""
        while chunk := s.recv(65536):
            got += chunk
        expect_eq(got, b"question" * 1000)
        s.sendall(b"answer" * 100000)  # long after the other direction has ended
        s.shutdown(socket.SHUT_WR)
        got = b""
        while chunk := c.recv(65536):
            got += chunk
        expect_eq(len(got), 600000)
        expect_eq(got, b"answer" * 100000)
        s.close()


def test_server_half_closes(lab):
    _, a, b = lab.pair()
    with b.listen(7000) as listener, a.connect(b.ip4, 7000) as c:
        s, _ = listener.accept()
        s.settimeout(10)
        s.shutdown(socket.SHUT_WR)
        expect_eq(c.recv(1), b"")
        c.sendall(b"late" * 5000)
        c.close()
        got = b""
        while chunk := s.recv(65536):
            got += chunk
        expect_eq(got, b"late" * 5000)
        s.close()


def test_data_in_both_directions_at_once(lab):
    """Both ends write before they read: neither may block the other."""
    _, a, b = lab.pair()
    size = 8 << 20
    left, right = os.urandom(size), os.urandom(size)
    with b.listen(7001) as listener, a.connect(b.ip4, 7001) as c:
        s, _ = listener.accept()
        got = {}

        def write(sock, data):
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)

        def read(name, sock):
            data = bytearray()
            while chunk := sock.recv(1 << 20):
                data += chunk
            got[name] = bytes(data)

        threads = [threading.Thread(target=t, args=args, daemon=True) for t, args in (
            (write, (c, left)), (write, (s, right)), (read, ("c", c)), (read, ("s", s)))]
        for t in threads:
            t.start()
        for t in threads:
            t.join(30)
        expect(got.get("s") == left, "a to b differs", len(got.get("s", b"")))
        expect(got.get("c") == right, "b to a differs", len(got.get("c", b"")))
        s.close()


def test_one_byte_writes_arrive_in_order(lab):
    _, a, b = lab.pair()
    with b.listen(7002) as listener, a.connect(b.ip4, 7002) as c:
        c.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        s, _ = listener.accept()
        s.settimeout(10)
        want = bytes(i & 255 for i in range(3000))
        for i in want:
            c.send(bytes([i]))
        c.close()
        got = b""
        while chunk := s.recv(4096):
            got += chunk
        expect_eq(got, want)
        s.close()


def _serve_echo(listener, count, errors):
    """Echoes what it gets on count connections, until each ends."""
    sel = selectors.DefaultSelector()
    listener.setblocking(False)
    sel.register(listener, selectors.EVENT_READ)
    done = 0
    while done < count:
        for key, _ in sel.select(20):
            if key.fileobj is listener:
                try:
                    s, _ = listener.accept()
                except BlockingIOError:
                    continue
                sel.register(s, selectors.EVENT_READ)
                continue
            try:
                data = key.fileobj.recv(65536)
                if data:
                    key.fileobj.setblocking(True)
                    key.fileobj.sendall(data)
                    key.fileobj.setblocking(False)
            except OSError as e:
                errors.append(e)
                data = b""
            if not data:
                sel.unregister(key.fileobj)
                key.fileobj.close()
                done += 1


@tap.timeout(120)
def test_1000_connections_in_a_row(lab):
    _, a, b = lab.pair()
    errors = []
    with b.listen(7003, backlog=1024) as listener:
        t = threading.Thread(target=_serve_echo, args=(listener, 1000, errors), daemon=True)
        t.start()
        for i in range(1000):
            with a.connect(b.ip4, 7003) as c:
                text = f"connection {i}".encode()
                c.sendall(text)
                expect_eq(c.recv(100), text)
        t.join(30)
        expect(not t.is_alive(), "the server saw all of them end")
    expect_eq(errors, [])
    counters = a.counters()
    expect(counters["flows_encrypted"] >= 1000, "encrypted", counters)
    wait_for(lambda: not encrypted(a, 7003) and not encrypted(b, 7003), 20, "no sessions left")


@tap.timeout(120)
def test_1000_connections_at_once(lab):
    allow_open_files(8192)
    _, a, b = lab.pair()
    errors, open_ = [], []
    with b.listen(7004, backlog=2048) as listener:
        t = threading.Thread(target=_serve_echo, args=(listener, 1000, errors), daemon=True)
        t.start()
        try:
            for i in range(1000):
                open_.append(a.connect(b.ip4, 7004))
            for i, c in enumerate(open_):
                c.sendall(f"connection {i}".encode())
            for i, c in enumerate(open_):
                expect_eq(c.recv(100), f"connection {i}".encode())
            live = [s for s in encrypted(a, 7004) if s["state"] == "encrypted"]
            expect_eq(len(live), 1000, "listed as encrypted")
            expect_eq(len({s["session_id"] for s in live}), 1000, "different session ids")
        finally:
            for c in open_:
                c.close()
        t.join(30)
        expect(not t.is_alive(), "the server saw all of them end")
    expect_eq(errors, [])


def test_loopback_and_own_address_never_enter(lab):
    _, a = lab.star("a")
    a.up()
    for addr in ("127.0.0.1", "::1", a.ip4, a.ip6):
        with a.listen(7005, addr) as listener, a.connect(addr, 7005) as c:
            s, _ = listener.accept()
            c.sendall(b"x")
            expect_eq(s.recv(1), b"x")
            s.close()
    expect_eq(a.sessions(), [])


def test_udp_and_icmp_stay_native(lab):
    _, a, b = lab.pair()
    u = b.socket(socket.AF_INET, socket.SOCK_DGRAM)
    u.bind(("0.0.0.0", 5353))
    u.settimeout(5)
    c = a.socket(socket.AF_INET, socket.SOCK_DGRAM)
    c.settimeout(5)
    c.sendto(b"ping", (b.ip4, 5353))
    data, peer = u.recvfrom(100)
    u.sendto(data + b"pong", peer)
    expect_eq(c.recv(100), b"pingpong")
    # An echo request by hand: not every machine has ping.
    with a.inside():
        i = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    i.settimeout(5)
    import struct
    from wire import checksum
    head = struct.pack(">BBHHH", 8, 0, 0, 77, 1)
    i.sendto(struct.pack(">BBHHH", 8, 0, checksum(head), 77, 1), (b.ip4, 0))
    reply = i.recv(100)
    expect_eq(reply[20:21], b"\0", "echo reply")
    for s in (u, c, i):
        s.close()


if __name__ == "__main__":
    tap.main()
