# SPDX-License-Identifier: BSD-3-Clause
"""The sidecar image with podman: pods, published ports, names, start order, ends."""
import contextlib
import os
import signal
import time

import tap
from engine import APP, CONFINED, IMAGE, Machine
from lab import expect, expect_eq, wait_for
from wire import OPT_ENO, SYN, Capture

MARK = b"application-plaintext-marker"


def network(m, name="net", subnet="10.131.1.0/24"):
    m.podman("network", "create", "--subnet", subnet, name)


def two_pods(m, *up):
    """Two pods with a sidecar each. Return: the first one's address, the second's."""
    network(m)
    for p in ("p1", "p2"):
        m.pod(p, "net")
        m.sidecar(p + "-enc", "--pod", p, up=up)
    return m.address("p1-infra", "net"), m.address("p2-infra", "net")


def server(m, *where):
    m.podman("run", "-d", "--name", "server", *where, APP)
    m.netns("server").wait_listening(80)


def client(m, *where):
    m.podman("run", "-d", "--name", "client", *where, APP, "sleep", "1000")


def fetch(m, host, *args):
    return m.podman("exec", "client", "curl", "-sS", "--max-time", "10", *args, f"http://{host}/")


def encrypted_id(sessions, peer):
    """The session id of the one connection with that peer."""
    found = [s for s in sessions if s["peer"] == peer]
    expect_eq([s["reason"] for s in found], ["full"], sessions)
    return found[0]["session_id"]


def test_image(lab):
    """Small, and nothing in it but the program and what it is linked with."""
    with Machine(lab) as m:
        size = m.inspect(IMAGE)["Size"]
        expect(size < 32 << 20, "the image's size", size)
        check = m.inspect(IMAGE)["Healthcheck"]["Test"]
        expect_eq(check, ["CMD", "/usr/bin/tcpcrypt-ns", "status"], "health check")
        expect("tcpcrypt-ns" in m.podman("run", "--rm", IMAGE, "version"), "it runs")
        m.podman("create", "--name", "files", IMAGE)
        m.run("podman", "export", "-o", "/run/files.tar", "files")
        names = m.run("tar", "-tf", "/run/files.tar").stdout.split()
        programs = [n for n in names if "/bin/" in n and not n.endswith("/")]
        expect_eq(programs, ["usr/bin/tcpcrypt-ns"], "programs")


def test_two_pods(lab):
    """Encrypted on the bridge; both ends say so; the application sees its true peer."""
    with Machine(lab) as m:
        a, b = two_pods(m)
        server(m, "--pod", "p1")
        client(m, "--pod", "p2")
        with Capture(m.ns, m.bridge("net")) as cap:
            words = fetch(m, a).split()
            cap.wait_tcp(lambda t: t.flag(SYN) and t.dport == 80 and t.option(OPT_ENO), 5,
                         "a SYN with TCP-ENO")
        expect_eq(words[0], MARK.decode())
        expect_eq(words[1], b, "the address that the application sees")
        ids = [encrypted_id(m.sessions("p1-enc", "--ended"), b),
               encrypted_id(m.sessions("p2-enc", "--ended"), a)]
        expect_eq(ids[0], ids[1], "session ids")
        expect(not cap.has_bytes(MARK), "plaintext on the bridge")
        expect(any(t.payload for t in cap.tcp()), "the capture saw data")


def test_confined(lab):
    """Two capabilities, no new privileges, nothing writable."""
    with Machine(lab) as m:
        network(m)
        m.pod("p1", "net")
        m.sidecar("enc", "--pod", "p1")
        text = m.run("cat", f"/proc/{m.inspect('enc')['State']['Pid']}/status").stdout
        status = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
        for kind in ("CapEff", "CapPrm", "CapBnd"):
            expect_eq(int(status[kind], 16), 1 << 12 | 1 << 13, kind)
        expect_eq(status["NoNewPrivs"], "1")
        expect_eq(status["Seccomp"], "2", "the engine's default filter")
        expect(m.inspect("enc")["HostConfig"]["ReadonlyRootfs"], "read-only root")


def test_joins_a_container(lab):
    """--network container:NAME, no pod; the application was there first."""
    with Machine(lab) as m:
        network(m)
        server(m, "--network", "net")
        client(m, "--network", "net")
        for name in ("server", "client"):
            m.sidecar(name + "-enc", "--network", "container:" + name)
        a, b = m.address("server", "net"), m.address("client", "net")
        expect_eq(fetch(m, a).split()[1], b, "the address that the application sees")
        expect_eq(encrypted_id(m.sessions("server-enc", "--ended"), b),
                  encrypted_id(m.sessions("client-enc", "--ended"), a), "session ids")


def test_published_port(lab):
    """From a container of another machine through the published port, encrypted all the way."""
    with Machine(lab) as m:
        network(m)
        m.pod("p1", "net", "-p", "8080:80")
        m.sidecar("enc", "--pod", "p1")
        server(m, "--pod", "p1")
        far = lab.ns("far")
        lab.veth(m.ns, "uplink", far, "eth0")
        m.ns.ip("addr", "add", "10.132.1.1/24", "dev", "uplink")
        far.ip("addr", "add", "10.132.1.2/24", "dev", "eth0")
        far.ip("route", "add", "default", "via", "10.132.1.1")
        far.up()
        with Capture(m.ns, "uplink") as cap:
            words = far.run("curl", "-sS", "--max-time", "10", "http://10.132.1.1:8080/").stdout
        expect_eq(words.split()[:2], [MARK.decode(), "10.132.1.2"])
        theirs = [s for s in far.sessions_ended() if s["peer_port"] == 8080]
        expect_eq([s["session_id"] for s in theirs],
                  [encrypted_id(m.sessions("enc", "--ended"), "10.132.1.2")], "session ids")
        expect(not cap.has_bytes(MARK), "plaintext between the machines")


def test_names(lab):
    """podman's own name server, which is not ours to touch: UDP."""
    with Machine(lab) as m:
        a, b = two_pods(m)
        server(m, "--pod", "p1")
        client(m, "--pod", "p2")
        text = m.podman("exec", "client", "nslookup", "p1")
        expect(f"Address: {a}" in text, "the answer", text)
        expect_eq(fetch(m, "p1").split()[1], b, "by name")


def test_start_order(lab):
    """What waits for the health check starts no clear connection."""
    with Machine(lab) as m:
        network(m)
        m.pod("p1", "net")
        m.podman("create", "--name", "enc", "--pod", "p1", *CONFINED, IMAGE)
        early = m.run("podman", "run", "--rm", "--pod", "p1", *CONFINED, IMAGE, "status",
                      check=False)
        expect_eq(early.returncode, 3, "no daemon yet")
        late = m.run("podman", "run", "--rm", "--pod", "p1", *CONFINED, IMAGE, "status",
                     "--wait", "1", check=False)
        expect_eq(late.returncode, 3, "nor within a second")
        m.podman("start", "enc")
        m.podman("run", "--rm", "--pod", "p1", *CONFINED, IMAGE, "status", "--wait", "10")
        expect_eq(m.run("podman", "healthcheck", "run", "enc").returncode, 0, "health check")
        expect_eq(m.inspect("enc")["State"]["Health"]["Status"], "healthy")


if __name__ == "__main__":
    tap.main()
