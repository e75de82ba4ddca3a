# SPDX-License-Identifier: BSD-3-Clause
"""enable and disable: an existing service in an encrypted namespace of its own, and back."""
import contextlib
import json
import os
import sys

import tap
from lab import binary, expect, expect_eq, wait_for
from test_exec import DNS_SERVER, LOOK_UP
from test_publish import refused
from test_systemd import is_active, machine, restarted

# Also the listening socket that systemd gives, as sd_listen_fds(3) has it.
SERVER = """
import os, socket, sys
if os.environ.get("LISTEN_FDS"):
    s = socket.socket(fileno=3)
else:
    s = socket.create_server(("0.0.0.0", int(sys.argv[1])))
while True:
    c, addr = s.accept()
    c.sendall(addr[0].encode() + b" " + c.recv(100))
    c.close()
"""
UNIT = """[Unit]
Description=a server
[Service]
ExecStart=/usr/bin/python3 /srv/server.py {port}
Restart=on-failure
[Install]
WantedBy=multi-user.target
"""
WEB = "/usr/local/lib/systemd/system/web.service"


@contextlib.contextmanager
def host(lab):
    """A machine with a service web, and a peer that is attached. Return: r, h, p, m."""
    r, h, p = lab.star("h", "p")
    p.up()
    with machine(lab, h) as m:
        m.write("/srv/server.py", SERVER)
        m.write(WEB, UNIT.format(port=7000))
        m.write("/usr/local/etc/default/tcpcrypt-ns", 'TCPCRYPT_NS_OPTIONS="--bypass none"\n')
        m.systemctl("daemon-reload")
        yield r, h, p, m


def answers(p, addr, port):
    """Of one connection: what the server says, and its state at the peer that asks."""
    with contextlib.suppress(OSError), p.connect(addr, port, 2) as c:
        with contextlib.suppress(Exception):
            wait_for(lambda: p.sessions()[0]["state"] in ("encrypted", "clear"), 2)
        state = p.sessions()[0]["state"]
        c.sendall(b"hello")
        return c.recv(100).decode(), state
    return None


def expect_served(p, h, port=7000, state="encrypted"):
    wait_for(lambda: p.tcns("cache", "--flush") and
             answers(p, h.ip4, port) == (f"{p.ip4} hello", state), 10,
             f"port {port} answers, {state}", 0.2)


def files(m):
    """All that enable could write."""
    found = {}
    for top in ("/etc/systemd", "/usr/local/lib/systemd", "/etc/tcpcrypt-ns"):
        for folder, dirs, names in os.walk(m.path(top)):
            for name in dirs + names:
                path = os.path.join(folder, name)
                found[path] = None if os.path.isdir(path) else open(path).read()
    return found


def test_service_gets_a_namespace_and_gives_it_back(lab):
    with host(lab) as (_, h, p, m):
        before, files_before = h.snapshot(), files(m)
        m.systemctl("start", "web")
        expect_served(p, h, state="clear")
        r = m.run("tcpcrypt-ns", "enable", "web", "--publish", "7000", "--now")
        expect_eq(r.stdout, 'web.service: is in the namespace "web"\n')
        expect_served(p, h)
        expect_eq(m.read(WEB), UNIT.format(port=7000), "the unit itself")
        verify = m.run("systemd-analyze", "verify", "web.service",
                       "tcpcrypt-ns-netns@web.service")
        expect_eq(verify.stdout + verify.stderr, "", "systemd-analyze verify")
        status = json.loads(m.run("tcpcrypt-ns", "status", "--netns", "web", "--json").stdout)
        expect_eq(status["counters"]["flows_encrypted"] > 0, True)
        # Nothing else of the host is reached, and nothing of it but what is published.
        expect(refused(h, "127.0.0.1", 7000), "not at the host's loopback")

        # Again: nothing happens. With other ports: those.
        now = files(m)
        m.run("tcpcrypt-ns", "enable", "web.service")
        expect_eq(files(m), now, "done again")
        m.run("tcpcrypt-ns", "enable", "web", "--publish", "7005:7000", "--now")
        m.systemctl("restart", "tcpcrypt-ns-netns@web.service")
        expect_served(p, h, 7005)
        expect(refused(p, h.ip4, 7000), "no longer published")

        # Without its service the namespace is not needed; with it, it is there again.
        m.systemctl("stop", "web")
        wait_for(lambda: not is_active(m, "tcpcrypt-ns@web.service") and
                 not is_active(m, "tcpcrypt-ns-netns@web.service"), 10, "not needed")
        wait_for(lambda: h.snapshot() == before, 5, "all is as before")
        m.systemctl("start", "web")
        expect_served(p, h, 7005)

        r = m.run("tcpcrypt-ns", "disable", "web", check=False)
        expect_eq((r.returncode, "--now" in r.stderr), (1, True), r.stderr)
        r = m.run("tcpcrypt-ns", "disable", "web", "--now")
        expect_eq(r.stdout, "web.service: runs outside again\n")
        expect_served(p, h, state="clear")
        expect_eq(files(m), files_before, "disable leaves no file")
        expect_eq(h.snapshot(), before, "nor anything else")
        expect(not m.exists("/run/netns/web"), "nor the name")
        expect_eq(m.run("tcpcrypt-ns", "disable", "web").stdout, "web.service: was not enabled\n")


def test_deaths(lab):
    """The daemon's, and that of the namespace's keeper: all is there again, encrypted. The
    service is restarted with them, so that it never runs without."""
    with host(lab) as (_, h, p, m):
        m.run("tcpcrypt-ns", "enable", "web", "--publish", "7000")
        m.systemctl("start", "web")
        expect_served(p, h)
        for unit in ("tcpcrypt-ns@web.service", "tcpcrypt-ns-netns@web.service"):
            main = m.show(unit, "MainPID")["MainPID"]
            m.systemctl("kill", "--kill-who=all", "-s", "KILL", unit)
            restarted(m, unit, main)
            expect_served(p, h)
        # An order to stop the daemon, or to restart it, is one for the service.
        web = m.show("web", "MainPID")["MainPID"]
        m.systemctl("restart", "tcpcrypt-ns@web.service")
        wait_for(lambda: m.show("web", "MainPID")["MainPID"] not in ("0", web), 10, "restarted")
        expect_served(p, h)
        m.systemctl("stop", "tcpcrypt-ns@web.service")
        expect(not is_active(m, "web"))
        # A daemon that cannot start keeps the service from running in clear.
        m.write("/usr/local/etc/default/tcpcrypt-ns", 'TCPCRYPT_NS_OPTIONS="--no-such-option"\n')
        expect(m.systemctl("start", "web", check=False).returncode != 0, "started without it")
        expect(not is_active(m, "web"))


def test_sockets_names_and_shared_namespaces(lab):
    with host(lab) as (_, h, p, m):
        m.write("/etc/resolv.conf", "nameserver 127.0.0.53\noptions timeout:2 attempts:1\n")
        server = h.popen(sys.executable, "-c", DNS_SERVER, "127.0.0.53")
        wait_for(lambda: "ready" in server.out(), 10, "a resolver")
        m.write("/etc/systemd/system/lazy.socket", "[Socket]\nListenStream=0.0.0.0:7001\n")
        m.write("/etc/systemd/system/lazy.service",
                "[Service]\nExecStart=/usr/bin/python3 /srv/server.py\n")
        m.systemctl("daemon-reload")
        m.systemctl("start", "lazy.socket")
        files_before = files(m)
        expect_served(p, h, 7001, "clear")
        m.run("tcpcrypt-ns", "enable", "lazy", "--name", "both", "--now",
              "--publish", "7000", "--publish", "7001")
        r = m.run("tcpcrypt-ns", "enable", "web", "--name", "both")
        expect_eq(r.stdout, 'web.service: will be in the namespace "both"\n')
        m.systemctl("start", "web")
        expect_served(p, h, 7000)
        expect_served(p, h, 7001)
        inside = ("nsenter", "--net=/run/netns/both", "python3", "-c")
        expect_eq(m.run(*inside, LOOK_UP, "small.example").stdout, "1\n", "names")
        # They share the loopback.
        r = m.run(*inside, "import socket; c = socket.create_connection(('127.0.0.1', 7001)); "
                  "c.sendall(b'x'); print(c.recv(100))")
        expect_eq(r.stdout, "b'127.0.0.1 x'\n")
        r = m.run("tcpcrypt-ns", "enable", "web", "--name", "other", check=False)
        expect_eq((r.returncode, 'in the namespace "both" already' in r.stderr), (1, True), r.stderr)
        m.run("tcpcrypt-ns", "disable", "web", "--now")
        expect_served(p, h, 7001)
        m.run("tcpcrypt-ns", "disable", "--all", "--now")
        expect_served(p, h, 7001, "clear")
        expect_eq(files(m), files_before, "disable leaves no file")


def test_what_is_refused(lab):
    with host(lab) as (_, h, p, m):
        m.write("/etc/systemd/system/alone.service",
                "[Service]\nExecStart=/bin/true\nPrivateNetwork=yes\n")
        m.write("/etc/systemd/system/placed.service",
                "[Service]\nExecStart=/bin/true\nNetworkNamespacePath=/run/netns/x\n")
        m.write("/etc/systemd/system/web.service.d/50-tcpcrypt-ns.conf", "[Unit]\n")
        m.systemctl("daemon-reload")
        before = files(m)

        def fails(code, words, *args, verb="enable"):
            r = m.run("tcpcrypt-ns", verb, *args, check=False)
            expect_eq(r.returncode, code, r.stderr)
            expect(words in r.stderr, f"{words!r} is not said", r.stderr)

        fails(1, "there is no unit none.service", "none")
        fails(1, "has a network of its own already", "alone")
        fails(1, "is in the namespace /run/netns/x already", "placed")
        fails(1, "is not ours", "web")
        fails(2, "is not a service", "dbus.socket")
        fails(2, "is a template", "getty@.service")
        fails(2, "is a unit of tcpcrypt-ns itself", "tcpcrypt-ns@x")
        fails(2, "is not the name of a unit", "a b")
        fails(2, "cannot be the name of a namespace", "web", "--name", "a/b")
        fails(2, "cannot be the name of a namespace", "web", "--name", "a%n")
        fails(2, "is not [ADDRESS:]PORT", "web", "--publish", "http")
        fails(2, "which unit?")
        fails(2, "one operand is enough", "web", "lazy")
        fails(2, "which unit?", verb="disable")
        fails(2, "not both", "--all", "web", verb="disable")
        expect_eq(set(files(m)) - set(before) -
                  {k for k in files(m) if "tcpcrypt-ns" in k and "@web" in k}, set())
        r = m.run("setpriv", "--reuid", "65534", "--clear-groups", "tcpcrypt-ns", "enable", "web",
                  check=False)
        expect_eq((r.returncode, "needs root" in r.stderr), (4, True), r.stderr)
    r = h.run("unshare", "--mount", "sh", "-c",
              'mount -t tmpfs none /run && exec "$0" enable web', binary(), check=False)
    expect_eq((r.returncode, "systemd is not the service manager here" in r.stderr), (1, True),
              r.stderr)


if __name__ == "__main__":
    tap.main()
