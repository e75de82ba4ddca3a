# SPDX-License-Identifier: BSD-3-Clause
"""exec: a command in a namespace of its own, with the semantics of the command alone."""
import contextlib
import json
import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import time

import tap
from lab import Failure, binary, expect, expect_eq, wait_for
from wire import SYN, Capture

SO_NETNS_COOKIE = 71
HERE = os.path.dirname(os.path.abspath(__file__))


def home(lab, *, peer_up=True):
    """A host that calls exec, and a peer of ours behind a router. Return: r, h, b."""
    r, h, b = lab.star("h", "b")
    if peer_up:
        b.up()
    return r, h, b


def state(h):
    """What exec changes in the calling namespace."""
    with h.inside():
        keys = {}
        for ip in ("ipv4", "ipv6"):
            base = f"/proc/sys/net/{ip}/conf"
            for dev in sorted(os.listdir(base)):
                for key in ("forwarding", "accept_ra", "accept_redirects"):
                    with contextlib.suppress(OSError):
                        with open(f"{base}/{dev}/{key}") as f:
                            keys[f"{ip}/{dev}/{key}"] = f.read()
    return {"links": sorted(re.findall(r"^\d+: (\S+?)[@:]", h.ip("link"), re.M)),
            "nft": h.run("nft", "list", "ruleset").stdout, "sysctl": keys,
            "routes": h.ip("route", "show", "table", "all")}


def ex(h, *argv, opts=(), **kwargs):
    kwargs.setdefault("check", False)
    return h.run(binary(), "exec", "--bypass", "none", *opts, "--", *argv, **kwargs)


def start(h, *argv, opts=(), **kwargs):
    return h.popen(binary(), "exec", "--bypass", "none", *opts, "--", *argv, **kwargs)


def gone(h, before, timeout=10):
    """Until everything is as before."""
    last = {}

    def same():
        last.update(state(h))
        return last == before

    try:
        wait_for(same, timeout, "nothing left behind", 0.05)
    except Failure:
        raise Failure("left behind:\n" + "\n".join(
            f"{k}: {before[k]!r} -> {last[k]!r}" for k in before if before[k] != last[k])) from None
    with h.socket(socket.AF_UNIX) as s:
        cookie = struct.unpack("Q", s.getsockopt(socket.SOL_SOCKET, SO_NETNS_COOKIE, 8))[0]
    with contextlib.suppress(FileNotFoundError):
        files = [n for n in os.listdir("/run/tcpcrypt-ns/exec") if n.startswith(f"{cookie:x}-")]
        expect_eq(files, [], "state files")


def test_exit_codes(lab):
    _, h, _b = home(lab, peer_up=False)
    before = state(h)
    for script, want in (("exit 0", 0), ("exit 7", 7), ("exit 255", 255),
                         ("kill -TERM $$", 128 + 15), ("kill -KILL $$", 128 + 9)):
        expect_eq(ex(h, "sh", "-c", script).returncode, want, script)
    r = ex(h, "tcns-no-such-command")
    expect_eq(r.returncode, 127, "not found")
    expect("tcns-no-such-command" in r.stderr, "names it", r.stderr)
    expect_eq(ex(h, "/etc/passwd").returncode, 126, "not executable")
    expect_eq(ex(h, "/etc").returncode, 126, "a directory")
    expect_eq(ex(h, "/etc/passwd/x").returncode, 127, "no such path")
    r = h.run(binary(), "exec", check=False)
    expect_eq(r.returncode, 125, "no command")
    r = h.run(binary(), "exec", "--no-such-option", "--", "true", check=False)
    expect_eq(r.returncode, 125, "unknown option")
    r = h.run(binary(), "exec", "--policy", "maybe", "--", "true", check=False)
    expect_eq(r.returncode, 125, "bad value")
    gone(h, before)


def test_nothing_is_left(lab):
    _, h, _b = home(lab, peer_up=False)
    before = state(h)
    r = ex(h, "true")
    expect_eq((r.returncode, r.stdout, r.stderr), (0, "", ""))
    expect_eq(state(h), before, "at once, not some time later")


def test_environment_directory_and_descriptors(lab):
    _, h, _b = home(lab, peer_up=False)
    env = dict(os.environ, TCNS_TEST="some value")
    os.mkdir(lab.file("cwd"))
    r = ex(h, "sh", "-c", 'echo "$TCNS_TEST"; pwd; cat; echo err >&2; ls /proc/self/fd | wc -l',
           env=env, cwd=lab.file("cwd"), input="from stdin\n")
    expect_eq(r.stderr, "err\n")
    value, cwd, text, count = r.stdout.splitlines()
    expect_eq((value, cwd, text), ("some value", lab.file("cwd"), "from stdin"))
    expect_eq(count, "4", "0, 1, 2, and the directory itself: none of ours")
    # A descriptor that the caller passes on arrives; a closed one stays closed.
    r = h.run("sh", "-c", f"exec 5<{lab.file('cwd')}; exec 0<&-; "
              f"exec {binary()} exec -- sh -c 'readlink /proc/self/fd/5; test -e /proc/self/fd/0 || echo closed'")
    expect_eq(r.stdout.splitlines(), [lab.file("cwd"), "closed"])


def test_arguments_arrive_as_they_are(lab):
    _, h, _b = home(lab, peer_up=False)
    args = ["", "a b", "--policy", "-v", "--", "$HOME", "'\"", "x\ny"]
    r = ex(h, sys.executable, "-c", "import sys, json; print(json.dumps(sys.argv[1:]))", *args)
    expect_eq(json.loads(r.stdout), args)


def test_user_and_groups_are_the_callers(lab):
    _, h, _b = home(lab, peer_up=False)
    r = h.run("setpriv", "--regid", "12345", "--groups", "23456,34567", binary(), "exec", "--",
              "sh", "-c", "id -u; id -g; id -G")
    expect_eq(r.stdout.split(), ["0", "12345", "12345", "23456", "34567"])


def test_set_user_id_is_refused(lab):
    _, h, _b = home(lab, peer_up=False)
    copy = lab.file("tcpcrypt-ns")
    subprocess.run(["cp", binary(), copy], check=True)
    os.chmod(copy, 0o4755)
    os.chmod(lab.dir, 0o755)
    r = h.run("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups",
              copy, "exec", "--", "true", check=False)
    expect_eq(r.returncode, 125, r.stderr)
    expect("set-user-id" in r.stderr, "says why", r.stderr)


def test_attached_namespace_is_refused(lab):
    _, h, _b = home(lab, peer_up=False)
    h.up()
    r = ex(h, "true")
    expect_eq(r.returncode, 125, r.stderr)
    expect("attached" in r.stderr, "says why", r.stderr)


def test_needs_root_and_says_so(lab):
    _, h, _b = home(lab, peer_up=False)
    before = state(h)
    r = h.run("setpriv", "--reuid", "65534", "--clear-groups", binary(), "exec", "--", "true",
              check=False)
    expect_eq(r.returncode, 125)
    expect("root" in r.stderr, "says what it lacks", r.stderr)
    gone(h, before)


def test_network_inside(lab):
    """Loopback is up, one uplink, its addresses free of collisions, default routes."""
    _, h, _b = home(lab, peer_up=False)
    r = ex(h, "sh", "-c", "ip -j addr; ip -j route; ip -j -6 route")
    addrs, routes, routes6 = [json.loads(line) for line in r.stdout.splitlines()]
    dev = {a["ifname"]: a for a in addrs}
    expect("UP" in dev["lo"]["flags"], "lo is up")
    expect("UP" in dev["eth0"]["flags"], "eth0 is up")
    v4 = [a for a in dev["eth0"]["addr_info"] if a["family"] == "inet"]
    v6 = [a for a in dev["eth0"]["addr_info"] if a["family"] == "inet6" and a["scope"] == "global"]
    expect_eq((len(v4), len(v6)), (1, 1))
    expect(v6[0]["local"].startswith("fd"), "a unique local address", v6)
    expect([x for x in routes if x["dst"] == "default"], "IPv4 default", routes)
    expect([x for x in routes6 if x["dst"] == "default"], "IPv6 default", routes6)


def serve_hello(ns, port):
    return ns.popen(sys.executable, "-c", f"""
import socket, threading
def serve(family, addr):
    s = socket.socket(family); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6: s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    s.bind((addr, {port})); s.listen(100)
    while True:
        c, peer = s.accept()
        try: c.sendall(b"hello " + peer[0].encode())
        except OSError: pass
        c.close()
threading.Thread(target=serve, args=(socket.AF_INET6, "::")).start()
serve(socket.AF_INET, "0.0.0.0")
""")


HELLO = "import socket, sys; s = socket.create_connection((sys.argv[1], int(sys.argv[2])), 10); " \
        "d = b''\nwhile (x := s.recv(100)): d += x\nprint(d.decode())"


def test_tcp_is_masqueraded_and_encrypted(lab):
    r, h, b = home(lab)
    serve_hello(b, 8000)
    b.wait_listening(8000)
    for addr, seen_as in ((b.ip4, h.ip4), (b.ip6, h.ip6)):
        with Capture(r, h.peer_if) as cap:
            p = ex(h, sys.executable, "-c", HELLO, addr, 8000)
            expect_eq((p.returncode, p.stdout.strip()), (0, f"hello {seen_as}"), p.stderr)
            cap.stop()
        syn = [t for t in cap.tcp() if t.flag(SYN)]
        expect_eq([bool(t.option(69)) for t in syn], [True, True], "option 69 both ways")
        expect(not cap.has_bytes(b"hello "), "no plaintext")


def test_sessions_from_inside(lab):
    """The command finds its own daemon, and the ids match those of the peer."""
    _, h, b = home(lab)
    with b.listen(8001) as listener:
        p = start(h, sys.executable, "-c", f"""
import socket, subprocess
s = socket.create_connection(({b.ip4!r}, 8001), 10)
s.recv(1)
print(subprocess.run([{binary()!r}, "sessions", "--json"], stdout=subprocess.PIPE, text=True).stdout)
""")
        c, _ = listener.accept()
        c.sendall(b"x")
        wait_for(lambda: len([s for s in b.sessions() if s["state"] == "encrypted"]) == 1, 5)
        at_b = b.sessions()[0]
        expect_eq(p.wait(10), 0, p.err())
        c.close()
    live = json.loads(p.out())["sessions"]
    expect_eq([s["session_id"] for s in live], [at_b["session_id"]])


def test_data_written_before_exit_arrives(lab):
    """The command writes, closes and ends at once, as with a kernel's TCP."""
    _, h, b = home(lab)
    size = 2_000_000
    for i in range(3):
        with b.listen(8002 + i) as listener:
            p = start(h, sys.executable, "-c", f"""
import socket
s = socket.create_connection(({b.ip4!r}, {8002 + i}), 10)
s.sendall(b"w" * {size})
""")
            c, _ = listener.accept()
            c.settimeout(20)
            got = 0
            while chunk := c.recv(65536):
                got += len(chunk)
                time.sleep(0.001)  # a receiver that takes its time
            expect_eq(got, size)
            c.close()
            expect_eq(p.wait(10), 0, p.err())


def test_udp_and_reply(lab):
    _, h, b = home(lab, peer_up=False)
    u = b.socket(socket.AF_INET, socket.SOCK_DGRAM)
    u.bind(("0.0.0.0", 9000))
    u.settimeout(10)
    p = start(h, sys.executable, "-c", f"""
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(5)
s.sendto(b"q", ({b.ip4!r}, 9000)); print(s.recv(10))
""")
    data, peer = u.recvfrom(10)
    expect_eq(peer[0], h.ip4, "masqueraded")
    u.sendto(data + b"a", peer)
    expect_eq(p.wait(10), 0, p.err())
    expect_eq(p.out().strip(), "b'qa'")
    u.close()


def test_many_side_by_side(lab):
    """Different addresses, each works, the last one out puts forwarding back."""
    _, h, b = home(lab)
    before = state(h)
    expect_eq(before["sysctl"]["ipv4/all/forwarding"], "0\n")
    serve_hello(b, 8000)
    b.wait_listening(8000)
    script = f"import time\n{HELLO}\nprint(s.family, flush=True)\nsys.stdin.read()"
    procs = [start(h, sys.executable, "-c", script, b.ip4, 8000, stdin=subprocess.PIPE)
             for _ in range(12)]
    for p in procs:
        wait_for(lambda p=p: "hello" in p.out() or p.poll() is not None, 30, "a reply", 0.05)
        expect("hello" in p.out(), "works", p.err())
    now = state(h)
    links = [x for x in now["links"] if x.startswith("tcx")]
    expect_eq(len(links), 12)
    expect_eq(now["nft"].count("table inet tcpcrypt-ns-exec-"), 12)
    addresses = re.findall(r"inet (\S+) .* (tcx\S+)", h.ip("addr"))
    expect_eq(len({a for a, _ in addresses}), 12, "different addresses")
    expect_eq(now["sysctl"]["ipv4/all/forwarding"], "1\n")
    for p in procs[:11]:
        p.stdin.close()
    for p in procs[:11]:
        expect_eq(p.wait(20), 0, p.err())
    expect_eq(state(h)["sysctl"]["ipv4/all/forwarding"], "1\n", "still one that needs it")
    procs[11].stdin.close()
    expect_eq(procs[11].wait(20), 0)
    gone(h, before)


def test_addresses_collide_with_nothing(lab):
    """All of RFC 1918 is routed somewhere, in a table of its own even: another range is taken."""
    _, h, _b = home(lab, peer_up=False)
    h.ip("route", "add", "10.0.0.0/8", "via", "10.77.1.1", "table", "77")
    h.ip("route", "add", "172.16.0.0/12", "via", "10.77.1.1")
    h.ip("route", "add", "blackhole", "192.168.0.0/16")
    out = ex(h, "ip", "-j", "-4", "addr", "show", "dev", "eth0").stdout
    addr = json.loads(out)[0]["addr_info"][0]["local"]
    expect(re.match(r"100\.(6[4-9]|[7-9]\d|1[01]\d|12[0-7])\.", addr), "RFC 6598's range", addr)


def test_forwarding_that_was_on_stays(lab):
    _, h, _b = home(lab, peer_up=False)
    h.sysctl("net.ipv4.ip_forward", 1)
    h.sysctl("net.ipv6.conf.all.forwarding", 1)
    before = state(h)
    expect_eq(ex(h, "true").returncode, 0)
    expect_eq(state(h), before)


def test_odd_sysctls_are_put_back(lab):
    """One interface forwards and another does not; redirects are refused; RAs are accepted."""
    _, h, _b = home(lab, peer_up=False)
    h.ip("link", "add", "x0", "type", "veth", "peer", "name", "x1")
    h.sysctl("net.ipv4.conf.x0.forwarding", 1)
    h.sysctl("net.ipv6.conf.x1.forwarding", 1)
    h.sysctl("net.ipv4.conf.all.accept_redirects", 0)
    h.sysctl("net.ipv6.conf.eth0.accept_ra", 1)
    before = state(h)
    r = ex(h, "sh", "-c", "true")
    expect_eq(r.returncode, 0, r.stderr)
    gone(h, before)
    p = start(h, "cat", stdin=subprocess.PIPE)
    wait_for(lambda: [x for x in state(h)["links"] if x.startswith("tcx")], 10)
    wait_for(lambda: h.sysctl("net.ipv6.conf.all.forwarding") == "1", 5)
    expect_eq(h.sysctl("net.ipv6.conf.eth0.accept_ra"), "2", "router advertisements still count")
    p.stdin.close()
    expect_eq(p.wait(10), 0)
    gone(h, before)


def test_host_does_not_become_a_router(lab):
    """While forwarding is on because of us, strangers' packets are not forwarded."""
    r, h, b = home(lab, peer_up=False)
    third = lab.ns("t")
    lab.veth(third, "eth0", h, "eth1")
    third.ip("addr", "add", "10.55.0.1/24", "dev", "eth0")
    h.ip("addr", "add", "10.55.0.2/24", "dev", "eth1")
    third.ip("route", "add", "default", "via", "10.55.0.2")
    r.ip("route", "add", "10.55.0.0/24", "via", h.ip4)
    p = start(h, "cat", stdin=subprocess.PIPE)
    wait_for(lambda: "tcpcrypt-ns-exec" in state(h)["nft"], 10)
    with b.listen(80):
        try:
            third.connect(b.ip4, 80, 1).close()
            raise Failure("a stranger was forwarded")
        except OSError:
            pass
    p.stdin.close()
    expect_eq(p.wait(10), 0)


def test_no_new_connections_from_outside(lab):
    """What is inside can be reached from the caller's host, and not through it."""
    r, h, _b = home(lab, peer_up=False)
    p = start(h, sys.executable, "-c", """
import socket
s = socket.socket(); s.bind(("0.0.0.0", 80)); s.listen()
print("ready", flush=True)
while True: s.accept()[0].close()
""")
    wait_for(lambda: "ready" in p.out(), 10, "a listener inside")
    inside = re.search(r"inet (\d+\.\d+\.\d+\.)(\d+)/30.* tcx", h.ip("addr"))
    addr = inside[1] + str(int(inside[2]) + 1)
    h.connect(addr, 80).close()
    r.ip("route", "add", f"{addr}/32", "via", h.ip4)
    try:
        r.connect(addr, 80, 1).close()
        raise Failure("reached from outside")
    except OSError:
        pass
    p.stop()


# Nobody else on the machine sleeps just as long.
LONG = f"6{os.getpid()}"


def _sleeps():
    """Return: the process of "sleep LONG", once it runs."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            with open(f"/proc/{pid}/cmdline", "rb") as f:
                if f.read() == f"sleep\0{LONG}\0".encode():
                    return int(pid)
    return None


def test_signals_are_forwarded(lab):
    _, h, _b = home(lab, peer_up=False)
    before = state(h)
    for sig in (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT,
                signal.SIGALRM, signal.SIGWINCH, signal.SIGRTMIN + 1):
        p = start(h, sys.executable, "-c", f"""
import signal, sys, os
signal.signal({int(sig)}, lambda *_: os._exit(42))
print("ready", flush=True)
while True: signal.pause()
""")
        wait_for(lambda p=p: "ready" in p.out(), 10, "ready")
        p.send_signal(sig)
        expect_eq(p.wait(10), 42, f"signal {sig}")
    p = start(h, "sleep", LONG)
    wait_for(_sleeps, 10, "the command")
    p.terminate()
    expect_eq(p.wait(10), 128 + 15, "ended by the signal")
    gone(h, before)


def test_ignored_and_blocked_signals_are_inherited(lab):
    """nohup and its like must work around exec."""
    _, h, _b = home(lab, peer_up=False)
    r = h.run(sys.executable, "-c", "import os, signal, sys\n"
              "for s in (signal.SIGHUP, signal.SIGCHLD): signal.signal(s, signal.SIG_IGN)\n"
              "os.execv(sys.argv[1], sys.argv[1:])", binary(), "exec", "--", "grep", "-E",
              "Sig(Ign|Blk)", "/proc/self/status")
    field = dict(line.split(":\t") for line in r.stdout.splitlines())
    expect(int(field["SigIgn"], 16) & 1, "SIGHUP is ignored", field)
    expect(int(field["SigIgn"], 16) >> 16 & 1, "SIGCHLD is ignored", field)
    expect_eq(int(field["SigBlk"], 16), 0, "none is blocked")


def _is_stopped(script):
    """Both the command that runs the script and the exec around it are stopped."""
    states = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            with open(f"/proc/{pid}/cmdline", "rb") as f:
                if f"\0{script}\0".encode() in b"\0" + f.read():
                    with open(f"/proc/{pid}/stat") as g:
                        states.append(g.read().rsplit(")", 1)[1].split()[0])
    # the janitor and the supervisor, forks of exec, have its command line and go on
    return states.count("T") == 2


class Terminal:
    """exec under a shell with job control, on a terminal of its own."""

    def __init__(self, lab, ns):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.environ.update(PS1="PROMPT>", PATH=os.environ["PATH"], HISTFILE="/dev/null")
            argv = ns.argv(["bash", "--norc", "--noprofile", "-i"])
            os.execvp(argv[0], argv)
        self.text = ""

    def send(self, text):
        os.write(self.fd, text.encode())

    def expect(self, needle, timeout=10):
        deadline = time.monotonic() + timeout
        while needle not in self.text:
            ready, _, _ = select.select([self.fd], [], [], max(0, deadline - time.monotonic()))
            if not ready:
                raise Failure(f"no {needle!r} on the terminal in {self.text!r}")
            try:
                self.text += os.read(self.fd, 65536).decode(errors="replace")
            except OSError:
                raise Failure(f"the terminal was closed after {self.text!r}") from None
        self.text = self.text[self.text.index(needle) + len(needle):]

    def close(self):
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        os.close(self.fd)
        os.waitpid(self.pid, 0)


def test_terminal_and_job_control(lab):
    """Ctrl-C, Ctrl-Z, bg and fg do with exec what they do with the command."""
    _, h, _b = home(lab, peer_up=False)
    before = state(h)
    t = Terminal(lab, h)
    script = lab.file("tty.py")
    with open(script, "w") as f:
        f.write("import signal, sys\n"
                "n = 0\n"
                "def f(*_):\n    global n; n += 1; print('interrupt', n, flush=True)\n"
                "signal.signal(signal.SIGINT, f)\n"
                "print('tty', sys.stdin.isatty(), sys.stdout.isatty(), flush=True)\n"
                "for line in sys.stdin: print('line', line.strip(), flush=True)\n"
                "print('end', n, flush=True)\n")
    try:
        t.expect("PROMPT>")
        t.send(f"{binary()} exec -- {sys.executable} {script}\n")
        t.expect("tty True True")
        t.send("\x03")
        t.expect("interrupt 1")
        t.send("one\n")
        t.expect("line one")
        t.send("\x1a")
        t.expect("Stopped")
        t.expect("PROMPT>")
        t.send("echo the shell is back\n")
        t.expect("the shell is back\r\n")
        t.send("fg\n")
        t.send("two\n")
        t.expect("line two")
        t.send("\x1a")
        t.expect("Stopped")
        t.expect("PROMPT>")
        t.send("bg\n")
        t.expect("PROMPT>")
        # It reads from the terminal in the background and stops; the shell must have
        # seen that before "fg", or it does not wake what it believes to be running.
        wait_for(lambda: _is_stopped(script), 10, "stopped by its read")
        t.send("jobs\n")
        t.expect("Stopped")
        t.send("fg\n")
        t.send("three\n")
        t.expect("line three")
        t.send("\x04")
        t.expect("end 1")  # one interrupt: not one from the terminal and one from us
        t.expect("PROMPT>")
        t.send("echo status $?\n")
        t.expect("status 0")
        t.send(f"{binary()} exec -- sleep {LONG}\n")
        wait_for(_sleeps, 10, "the command")
        t.send("\x03")
        t.expect("PROMPT>")
        t.send("echo status $?\n")
        t.expect("status 130")
        t.send("\x1c")  # Ctrl-\ at the prompt does nothing
        t.send(f"{binary()} exec -- bash --norc --noprofile\n")
        t.expect("PROMPT>")
        t.send(f"sleep {LONG}\n")
        wait_for(_sleeps, 10, "the command")
        t.send("\x1a")
        t.expect("Stopped")
        t.expect("PROMPT>")
        t.send("exit 3\n")
        t.expect("stopped jobs")
        t.expect("PROMPT>")
        t.send("exit 3\n")
        t.send("echo status $?\n")
        t.expect("status 3")
    finally:
        t.close()
    gone(h, before)


def descendants(pid):
    """Return: process ids of a process and of all below it."""
    found = [pid]
    with contextlib.suppress(OSError):
        with open(f"/proc/{pid}/task/{pid}/children") as f:
            for child in f.read().split():
                found += descendants(int(child))
    return found


def test_killed_exec_takes_all_with_it(lab):
    """kill -9: the command dies, and what was changed here goes away by itself."""
    _, h, _b = home(lab, peer_up=False)
    before = state(h)
    p = start(h, "sleep", LONG)
    wait_for(_sleeps, 10, "the command")
    pids = descendants(p.pid)
    expect(len(pids) == 5, "exec, janitor, supervisor, worker, command", pids)
    p.kill()
    p.wait()
    gone(h, before)
    wait_for(lambda: not [x for x in pids if os.path.exists(f"/proc/{x}")], 5, "no processes left")


def test_killed_with_its_group(lab):
    """kill -9 to the whole process group at once."""
    _, h, _b = home(lab, peer_up=False)
    before = state(h)
    p = start(h, "sleep", LONG, start_new_session=True)
    wait_for(_sleeps, 10, "the command")
    os.killpg(p.pid, signal.SIGKILL)
    p.wait()
    gone(h, before)


def test_next_exec_cleans_up_after_a_killed_janitor(lab):
    _, h, _b = home(lab, peer_up=False)
    before = state(h)
    p = start(h, "sleep", LONG)
    wait_for(_sleeps, 10, "the command")
    with open(f"/proc/{p.pid}/task/{p.pid}/children") as f:
        children = [int(x) for x in f.read().split()]
    janitor = [c for c in children if open(f"/proc/{c}/comm").read().strip() == "tcns-janitor"]
    expect_eq(len(janitor), 1, "one janitor")
    os.kill(janitor[0], signal.SIGKILL)
    p.kill()
    p.wait()
    wait_for(lambda: not _sleeps(), 5, "the command is dead")
    expect("tcpcrypt-ns-exec-" in state(h)["nft"], "something is left, for the sake of this test")
    expect_eq(h.sysctl("net.ipv4.ip_forward"), "1")
    r = ex(h, "true")
    expect_eq(r.returncode, 0, r.stderr)
    gone(h, before)


def test_interrupted_while_setting_up(lab):
    """SIGTERM at every stage: nothing is left, whatever was done already."""
    _, h, _b = home(lab, peer_up=False)
    before = state(h)
    for ms in range(0, 120, 8):
        p = start(h, "sleep", LONG)
        time.sleep(ms / 1000)  # the moment is what varies; nothing is waited for
        p.terminate()
        expect(p.wait(10) in (143, -15), "exit status", p.returncode)
    gone(h, before)


def test_killed_while_setting_up(lab):
    _, h, _b = home(lab, peer_up=False)
    before = state(h)
    for ms in range(0, 120, 8):
        p = start(h, "sleep", LONG)
        time.sleep(ms / 1000)
        p.kill()
        p.wait()
    wait_for(lambda: not _sleeps(), 5, "no command runs")
    # A janitor may not have been there yet: then the next one cleans up.
    expect_eq(ex(h, "true").returncode, 0)
    gone(h, before)


DNS_SERVER = """
import socket, struct, sys, threading
addr = sys.argv[1]
six = ":" in addr
def answer(q):
    i = 12
    while q[i]: i += q[i] + 1
    kind = struct.unpack(">H", q[i + 1:i + 3])[0]
    name = q[13:13 + q[12]]
    head = q[:2] + (b"\\x83" if name == b"big" and len(q) < 60000 and not tcp.flag else b"\\x81") + b"\\x80"
    if kind != 1: return head + struct.pack(">HHHH", 1, 0, 0, 0) + q[12:i + 5]
    n = 60 if name == b"big" else 1
    if name == b"big" and not tcp.flag: return head + struct.pack(">HHHH", 1, 0, 0, 0) + q[12:i + 5]
    rr = b"".join(b"\\xc0\\x0c\\0\\1\\0\\1\\0\\0\\0\\5\\0\\4" + bytes([10, 1, 1, x]) for x in range(1, n + 1))
    return head + struct.pack(">HHHH", 1, n, 0, 0) + q[12:i + 5] + rr
tcp = threading.local()
def serve_tcp():
    tcp.flag = True
    s = socket.socket(socket.AF_INET6 if six else socket.AF_INET)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); s.bind((addr, 53)); s.listen()
    while True:
        c, _ = s.accept()
        b = c.recv(65535)
        while len(b) < 2 or len(b) < 2 + struct.unpack(">H", b[:2])[0]: b += c.recv(65535)
        r = answer(b[2:]); c.sendall(struct.pack(">H", len(r)) + r); c.close()
threading.Thread(target=serve_tcp, daemon=True).start()
tcp.flag = False
u = socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_DGRAM); u.bind((addr, 53))
print("ready", flush=True)
while True:
    q, peer = u.recvfrom(65535)
    u.sendto(answer(q), peer)
"""


def with_resolver(h, resolv_conf, *argv, **kwargs):
    """Runs a command of h with another /etc/resolv.conf, in a mount namespace."""
    path = h.lab.file("resolv.conf")
    with open(path, "w") as f:
        f.write(resolv_conf)
    return h.run("unshare", "-m", "sh", "-c", 'mount --bind "$0" /etc/resolv.conf && exec "$@"',
                 path, *argv, check=False, **kwargs)


LOOK_UP = "import socket, sys; print(len({x[4][0] for x in socket.getaddrinfo(sys.argv[1], 1, socket.AF_INET)}))"


def test_names_from_a_resolver_on_loopback(lab):
    _, h, _b = home(lab, peer_up=False)
    before = state(h)
    for addr in ("127.0.0.53", "127.0.0.1", "::1"):
        p = h.popen(sys.executable, "-c", DNS_SERVER, addr)
        wait_for(lambda p=p: "ready" in p.out(), 10, "a resolver")
        conf = f"nameserver {addr}\noptions timeout:2 attempts:1\n"
        for name, count in (("small.example", 1), ("big.example", 60)):
            r = with_resolver(h, conf, binary(), "exec", "--", sys.executable, "-c", LOOK_UP, name)
            expect_eq((r.returncode, r.stdout.strip()), (0, str(count)), f"{addr} {name} {r.stderr}")
        p.stop()
    gone(h, before)


def test_names_from_a_dead_resolver_fail_fast(lab):
    _, h, _b = home(lab, peer_up=False)
    start_at = time.monotonic()
    r = with_resolver(h, "nameserver 127.0.0.53\n", binary(), "exec", "--", sys.executable, "-c",
                      LOOK_UP, "small.example")
    expect_eq(r.returncode, 1, r.stdout)
    expect(time.monotonic() - start_at < 4, "not by a timeout")


def test_names_from_a_resolver_that_can_be_reached(lab):
    _, h, b = home(lab, peer_up=False)
    p = b.popen(sys.executable, "-c", DNS_SERVER, "0.0.0.0")
    wait_for(lambda: "ready" in p.out(), 10, "a resolver")
    for name, count in (("small.example", 1), ("big.example", 60)):
        r = with_resolver(h, f"nameserver {b.ip4}\n", binary(), "exec", "--", sys.executable, "-c",
                          LOOK_UP, name)
        expect_eq((r.returncode, r.stdout.strip()), (0, str(count)), r.stderr)


def test_many_names_at_once(lab):
    """More questions than the relay holds: it serves them all, or fails some, and lives."""
    _, h, _b = home(lab, peer_up=False)
    p = h.popen(sys.executable, "-c", DNS_SERVER, "127.0.0.53")
    wait_for(lambda: "ready" in p.out(), 10, "a resolver")
    script = """
import concurrent.futures, socket
def f(i):
    try: return socket.gethostbyname(f"n{i}.example") == "10.1.1.1"
    except OSError: return False
with concurrent.futures.ThreadPoolExecutor(64) as e: print(sum(e.map(f, range(600))))
"""
    r = with_resolver(h, "nameserver 127.0.0.53\n", binary(), "exec", "--", sys.executable, "-c",
                      script)
    expect_eq((r.returncode, r.stdout.strip()), (0, "600"), r.stderr)


def test_a_daemonised_grandchild_does_not_hold_us(lab):
    """The command ends, its background process goes on: exec ends with the command."""
    _, h, _b = home(lab, peer_up=False)
    before = state(h)
    started = time.monotonic()
    r = ex(h, "sh", "-c", "setsid sleep 5 >/dev/null 2>&1 </dev/null & exit 4")
    expect_eq(r.returncode, 4)
    expect(time.monotonic() - started < 4, "at once")
    gone(h, before)


def test_policy_is_passed_on(lab):
    """--policy require: a plain peer is refused."""
    _, h, b = home(lab, peer_up=False)
    serve_hello(b, 8000)
    b.wait_listening(8000)
    r = ex(h, sys.executable, "-c", HELLO, b.ip4, 8000, opts=("--policy", "require"))
    expect_eq(r.returncode, 1, r.stdout)
    expect("refused" in r.stderr, "refused", r.stderr)
    r = ex(h, sys.executable, "-c", HELLO, b.ip4, 8000)
    expect_eq((r.returncode, r.stdout.strip()), (0, f"hello {h.ip4}"), r.stderr)


def test_between_two_execs(lab):
    """Two commands on one machine talk to each other, encrypted, with their true addresses."""
    _, h, _b = home(lab, peer_up=False)
    server = start(h, sys.executable, "-c", """
import socket, subprocess
s = socket.socket(); s.bind(("0.0.0.0", 8000)); s.listen()
print(subprocess.run(["hostname", "-I"], stdout=subprocess.PIPE, text=True).stdout.split()[0], flush=True)
c, peer = s.accept()
c.sendall(b"hello " + peer[0].encode()); c.close()
""")
    wait_for(lambda: server.out().strip(), 10, "the server's address")
    addr = server.out().split()[0]
    link = re.search(r"(tcx\w+)", h.ip("link"))[1]
    with Capture(h, link) as cap:
        r = ex(h, sys.executable, "-c", HELLO + "; print(s.getsockname()[0])", addr, 8000)
        expect_eq(r.returncode, 0, r.stderr)
        hello, own = r.stdout.splitlines()
        expect_eq(hello, f"hello {own}")
        cap.stop()
        expect(not cap.has_bytes(b"hello "), "no plaintext between them")
    expect_eq(server.wait(10), 0)


def test_a_real_program(lab):
    """curl gets a file from nginx through exec."""
    import programs
    _, h, b = home(lab)
    root = lab.file("root")
    os.mkdir(root)
    path = programs.random_file(f"{root}/f", 50 << 20)
    programs.nginx(b, 80, root)
    programs.need("curl")
    out = lab.file("got")
    r = ex(h, "curl", "-sS", "-o", out, f"http://{b.ip4}/f")
    expect_eq(r.returncode, 0, r.stderr)
    subprocess.run(["cmp", path, out], check=True)
    expect(b.counters()["flows_encrypted"] == 1, "encrypted", b.counters())


def test_without_ipv6_here(lab):
    """A calling namespace without IPv6: IPv4 inside, and its IPv6 settings stay untouched."""
    _, h, b = home(lab, peer_up=False)
    h.ip("-6", "addr", "flush", "dev", "eth0", "scope", "global")
    before = state(h)
    r = ex(h, "sh", "-c", "ip -6 addr show dev eth0 scope global; cat /proc/sys/net/ipv6/conf/all/forwarding")
    expect_eq((r.returncode, r.stdout.strip()), (0, "0"), r.stderr)
    gone(h, before)


def test_without_a_route_out(lab):
    """No default route here: the command still runs."""
    _, h, _b = home(lab, peer_up=False)
    h.ip("route", "del", "default")
    h.ip("-6", "route", "del", "default")
    expect_eq(ex(h, "echo", "ok").stdout, "ok\n")


def test_small_mtu_is_passed_on(lab):
    r, h, b = lab.star("h", "b", mtu=1400)
    out = ex(h, "ip", "-j", "link", "show", "dev", "eth0").stdout
    expect_eq(json.loads(out)[0]["mtu"], 1400)


if __name__ == "__main__":
    tap.main()
