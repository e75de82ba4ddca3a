# SPDX-License-Identifier: BSD-3-Clause
"""The doors of the ctl socket: who may come in, what they may do there, and what those
who behave badly can spoil."""
import contextlib
import json
import os
import shutil
import socket
import stat
import subprocess
import sys
import time

import tap
from lab import allow_open_files, binary, expect, expect_eq, wait_for

NOBODY = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups")
POWERLESS = ("setpriv", "--bounding-set=-all", "--inh-caps=-all")
PLACES = 16  # CLIENTS_MAX of ctlserver.c
ABSTRACT = "\0tcpcrypt-ns"


def message(method, **parameters):
    return json.dumps({"method": f"org.tcpcrypt.Ns1.{method}",
                       "parameters": parameters}).encode() + b"\0"


def reply(sock):
    """Return: the next whole reply."""
    data = b""
    while not data.endswith(b"\0"):
        got = sock.recv(65536)
        if not got:
            raise ConnectionResetError("hung up")
        data += got
    return json.loads(data[:-1].split(b"\0")[-1])


def ask(sock, method, **parameters):
    sock.sendall(message(method, **parameters))
    return reply(sock)


def door(ns, address=ABSTRACT):
    s = ns.socket(socket.AF_INET if isinstance(address, tuple) else socket.AF_UNIX)
    s.connect(address)  # waits while many others knock; with a time limit it would not
    s.settimeout(10)
    return s


def denied(answer):
    return answer.get("error") == "org.varlink.service.PermissionDenied"


SCRIPT = """
import socket, sys
place, method = sys.argv[1:]
s = socket.socket(socket.AF_INET if place[0] == ":" else socket.AF_UNIX)
s.connect(("127.0.0.1", int(place[1:])) if place[0] == ":" else place.replace("@", "\\0"))
s.sendall(b'{"method":"org.tcpcrypt.Ns1.%s"}\\0' % method.encode())
print(s.recv(100000).decode())
"""


def ask_as(ns, who, place, method):
    r = ns.run(*who, sys.executable, "-c", SCRIPT, place, method, check=False)
    return r.stdout + r.stderr


# --- The path of --ctl ---------------------------------------------------------------------------


def test_path(lab):
    _, a = lab.star("a")
    place = lab.file("door")
    a.up("--ctl", place)
    mode = os.stat(place)
    expect(stat.S_ISSOCK(mode.st_mode) and stat.S_IMODE(mode.st_mode) == 0o660, "mode", oct(mode.st_mode))
    os.chmod(lab.dir, 0o711)
    expect("PermissionError" in ask_as(a, NOBODY, place, "GetCache"), "not for everybody")
    expect('"resume"' in ask_as(a, POWERLESS, place, "GetCache"), "reading")
    for method in ("FlushCache", "Down"):
        expect("PermissionDenied" in ask_as(a, POWERLESS, place, method), f"{method} is refused")
    expect("PermissionDenied" not in ask_as(a, (), place, "FlushCache"), "with CAP_NET_ADMIN")
    for verb in ("sessions", "status", "cache"):
        r = subprocess.run([binary(), verb, "--json", "-u", place], text=True, stdout=subprocess.PIPE)
        expect_eq(r.returncode, 0, verb)
        json.loads(r.stdout)
    a.down()
    expect(not os.path.exists(place), "removed")
    r = subprocess.run([binary(), "status", "-u", place], text=True, stderr=subprocess.PIPE)
    expect_eq((r.returncode, r.stderr), (3, f"tcpcrypt-ns: no daemon answers at {place}\n"))


def test_path_that_is_taken(lab):
    """A dead socket is replaced; one that answers, and anything else, is left alone."""
    _, a, b = lab.star("a", "b")
    place = lab.file("door")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(place)
    a.up("--ctl", place)
    before = b.snapshot()
    r = b.up("--ctl", place, check=False)
    expect_eq(r.returncode, 1)
    expect(f"cannot listen at {place}: Address already in use" in r.stderr, "says why", r.stderr)
    expect_eq(b.snapshot(), before, "nothing stays")
    expect_eq(a.tcns("status", "-u", place).returncode, 0, "the first one's is untouched")
    file = lab.file("file")
    with open(file, "w") as f:
        f.write("mine")
    expect_eq(b.up("--ctl", file, check=False).returncode, 1, "a file")
    with open(file) as f:
        expect_eq(f.read(), "mine")
    r = b.up("--ctl", lab.file("none/door"), check=False)
    expect(r.returncode == 1 and "No such file" in r.stderr, "no such folder", r.stderr)


def test_wrong_places(lab):
    for place in ("", "door", ":", ":0", ":65536", ":80x", ":-1", ": 80", "/" + 200 * "x"):
        for verb in ("up", "status", "sessions", "cache"):
            r = subprocess.run([binary(), verb, "--netns", "self", "--ctl", place], text=True,
                               stderr=subprocess.PIPE)
            expect_eq(r.returncode, 2, (verb, place))
            expect("neither an absolute path nor a colon and a port" in r.stderr, verb, r.stderr)
    r = subprocess.run([binary(), "status", "--wait", "1", "--ctl", ":80"], text=True,
                       stderr=subprocess.PIPE)
    expect_eq(r.returncode, 2, r.stderr)


def test_exec_has_it_too(lab):
    """A command can ask the daemon of its namespace by a path that it was told."""
    _, a = lab.star("a")
    place = lab.file("door")
    r = a.run(binary(), "exec", "--ctl", place, "--", binary(), "status", "--json", "-u", place)
    expect_eq(json.loads(r.stdout)["policy"], "prefer")
    expect(not os.path.exists(place), "removed")


# --- The port of --ctl ------------------------------------------------------------------------------


def test_port(lab):
    """Read only, whoever asks; from the namespace itself only."""
    r, a = lab.star("a")
    a.up("--ctl", ":7777")
    with door(a, ("127.0.0.1", 7777)) as s:
        expect("resume" in ask(s, "GetCache")["parameters"], "reading")
        for method in ("FlushCache", "Down"):
            expect(denied(ask(s, method)), f"{method} is refused to root")
    with contextlib.suppress(ConnectionRefusedError), r.connect(a.ip4, 7777):
        expect(False, "reachable from outside")
    for who in ((), NOBODY):
        out = a.run(*who, binary(), "status", "--json", "-u", ":7777").stdout
        expect_eq(json.loads(out)["uplinks"], ["eth0"])
    out = subprocess.run([binary(), "status", "--json", "--netns", a.name, "-u", ":7777"],
                         stdout=subprocess.PIPE, text=True).stdout
    expect_eq(json.loads(out)["uplinks"], ["eth0"], "of another namespace")
    p = a.run(binary(), "cache", "--flush", "-u", ":7777", check=False)
    expect_eq(p.returncode, 4, p.stderr)
    a.down()
    p = a.run(binary(), "status", "-u", ":7777", check=False)
    expect_eq((p.returncode, p.stderr), (3, "tcpcrypt-ns: no daemon answers at :7777\n"))


def test_port_that_is_taken(lab):
    _, a = lab.star("a")
    before = a.snapshot()
    with a.listen(7777, "127.0.0.1"):
        r = a.up("--ctl", ":7777", check=False)
        expect_eq(r.returncode, 1)
        expect("cannot listen at :7777: Address already in use" in r.stderr, "says why", r.stderr)
    expect_eq(a.snapshot(), before, "nothing stays")
    a.up("--ctl", ":7777")


def test_a_browser_gets_nowhere(lab):
    """What a web page can make a browser send to the port is no call, whatever follows it."""
    _, a = lab.star("a")
    a.up("--ctl", ":7777")
    with door(a, ("127.0.0.1", 7777)) as s:
        body = message("GetCache")
        s.sendall(b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        expect_eq(s.recv(100), b"", "hung up on, without an answer")


# --- Who asks -------------------------------------------------------------------------------------------


def test_a_program_with_more_power_is_not_the_client(lab):
    """Somebody without power connects, and becomes a set-user-id program that sends the call."""
    _, a = lab.star("a")
    a.up()
    os.chmod(lab.dir, 0o711)
    cat, call = lab.file("cat"), lab.file("call")
    shutil.copy("/bin/cat", cat)
    os.chmod(cat, 0o4755)
    with open(call, "wb") as f:
        f.write(message("FlushCache"))
    os.chmod(call, 0o644)
    script = f"""
import os, socket
s = socket.socket(socket.AF_UNIX)
s.connect("\\0tcpcrypt-ns")
r, w = os.pipe()
os.set_inheritable(w, True)
if os.fork() == 0:
    print(s.recv(1000).decode(), flush=True)
    os._exit(0)
os.dup2(s.fileno(), 1)
os.dup2(r, 0)
os.set_inheritable(1, True)
os.execv("{cat}", ["cat", "{call}", "-"])
"""
    p = a.popen(*NOBODY, sys.executable, "-c", script)
    wait_for(p.out, 10, "an answer")
    with open(f"/proc/{p.pid}/status") as f:
        expect("\nUid:\t65534\t0\t0\t0\n" in f.read(), "it runs as root")
    expect("PermissionDenied" in p.out(), "refused", p.out())
    p.stop()


# --- Abuse ----------------------------------------------------------------------------------------------------


def memory(ns):
    """Return: bytes of the worker's own memory, and its process id."""
    pid = json.loads(ns.tcns("status", "--json").stdout)["worker_pid"]
    with open(f"/proc/{pid}/status") as f:
        return int(f.read().split("RssAnon:")[1].split()[0]) * 1024, pid


FLOOD = """
import socket, sys, time
kind, seconds, port = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
family, place = ((socket.AF_INET, ("127.0.0.1", port)) if port
                 else (socket.AF_UNIX, "\\0tcpcrypt-ns"))
half = b'{"method":"org.tcpcrypt.Ns1.Get'
huge = b'{"method":"' + 70000 * b'x'
many = 200 * b'{"method":"org.varlink.service.GetInterfaceDescription",' \\
             b'"parameters":{"interface":"org.tcpcrypt.Ns1"}}\\0'
what = {"half": half, "huge": huge, "many": many, "none": b""}[kind]
until, keep, cnt = time.monotonic() + seconds, [], 0
while time.monotonic() < until:
    s = socket.socket(family)
    s.settimeout(5)
    try:
        s.connect(place)
        s.setblocking(False)
        s.send(what)
    except OSError:
        pass
    keep.append(s)  # and reads nothing
    cnt += 1
    if len(keep) > 500:
        keep.pop(0).close()
print(cnt)
"""


@tap.timeout(60)
def test_floods(lab):
    """Thousands of clients of another user: root's calls at the same door, and connections,
    go on; memory does not grow. The same by the port, where users are not known."""
    _, a, b = lab.star("a", "b")
    a.up("--ctl", ":7777")
    b.up()
    with b.listen(80) as listener, a.connect(b.ip4, 80) as c:
        s = listener.accept()[0]
        for kind, port in (("none", 0), ("half", 0), ("huge", 0), ("many", 0), ("half", 7777)):
            before, pid = memory(a)
            p = a.popen(*NOBODY, sys.executable, "-c", FLOOD, kind, "1.5", port)
            served, moved, slowest = 0, 0, 0
            while p.poll() is None:
                start = time.monotonic()
                with door(a) as mine:
                    expect("resume" in ask(mine, "GetCache")["parameters"], kind)
                c.sendall(b"x" * 1000)
                moved += len(s.recv(1000))
                served += 1
                slowest = max(slowest, time.monotonic() - start)
            after, same = memory(a)
            cnt = int(p.out() or 0)
            expect(cnt > 1000, f"{kind}: clients", cnt, p.err())
            expect(served > 2, f"{kind}: calls served meanwhile", served)
            expect(slowest < 5, f"{kind}: slowest, in seconds", slowest)
            expect_eq(same, pid, f"{kind}: the same worker")
            expect(after - before < 8 << 20, f"{kind}: memory", before, after)
        s.close()


def test_full_door(lab):
    """The user who holds most places loses one, the one silent longest, not another user."""
    _, a = lab.star("a")
    a.up()
    with contextlib.ExitStack() as stack:
        mine = stack.enter_context(door(a))
        ask(mine, "GetCache")
        script = ("import socket, sys\nkeep = []\nfor i in range(100):\n"
                  "    s = socket.socket(socket.AF_UNIX)\n    s.connect('\\0tcpcrypt-ns')\n"
                  "    keep.append(s)\nprint('there', flush=True)\nsys.stdin.read()\n")
        p = a.popen(*NOBODY, sys.executable, "-c", script, stdin=subprocess.PIPE)
        wait_for(lambda: "there" in p.out(), 10, "a hundred clients")
        expect("resume" in ask(mine, "GetCache")["parameters"], "still there")
        others = [stack.enter_context(door(a)) for _ in range(PLACES + 4)]
        for s in others[-4:]:
            expect("resume" in ask(s, "GetCache")["parameters"], "the last ones are in")
        lost = 0
        for s in others:
            with contextlib.suppress(ConnectionError, BrokenPipeError):
                ask(s, "GetCache")
                continue
            lost += 1
        expect(lost >= 4, "no more than there are places", lost)
        p.stop()


@tap.timeout(90)
def test_stream_of_many(lab):
    """A client that reads a long list byte by byte, and ones that never read, cost the daemon
    a buffer each, however long the list is."""
    many = 4000
    _, a, b = lab.star("a", "b")
    allow_open_files(2 * many + 1000)
    a.up()
    keep = []
    with b.listen(80, backlog=4096) as listener:
        for _ in range(many):
            keep += [a.connect(b.ip4, 80), listener.accept()[0]]
    call = b'{"method":"org.tcpcrypt.Ns1.ListSessions","more":true}\0'
    before, pid = memory(a)
    with contextlib.ExitStack() as stack:
        for _ in range(PLACES - 1):
            stack.enter_context(door(a)).sendall(call)
        time.sleep(0.5)  # they could have been served long since
        with door(a) as slow:
            slow.sendall(call)
            slow.recv(10)
            after, same = memory(a)
            expect_eq(same, pid, "the same worker")
            expect(after - before < PLACES * 300_000, "memory", before, after)
            data = b""
            while not data.endswith(b'{"parameters":{}}\0'):
                data += slow.recv(1 << 20)
            expect_eq(data.count(b'"session":'), many, "all of them, in the end")
    for s in keep:
        s.close()


if __name__ == "__main__":
    tap.main()
