# SPDX-License-Identifier: BSD-3-Clause
"""The sidecar image with podman: pods, published ports, names, start order, ends."""
import contextlib
import json
import os
import re
import time

import tap
from engine import APP, CONFINED, IMAGE, Machine
from lab import TOP, binary, expect, expect_eq, idle, wait_for
from programs import need
from wire import OPT_ENO, SYN, Capture

MARK = b"application-plaintext-marker"


def network(m, name="net", subnet="10.131.1.0/24", subnet6=None):
    six = ["--ipv6", "--subnet", subnet6] if subnet6 else []
    m.podman("network", "create", "--subnet", subnet, *six, name)


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


def session(sessions, peer):
    """The session id of the one connection with that peer, which is encrypted."""
    found = [s for s in sessions if s["peer"] == peer]
    expect_eq([s["reason"] for s in found], ["full"], sessions)
    return found[0]["session_id"]


@contextlib.contextmanager
def connected(m, a, b, port=7000, text=MARK):
    """A connection from namespace b to a that has carried text both ways. Gives both sockets."""
    address = a.run("ip", "-4", "-o", "addr", "show", "eth0").stdout.split()[3].split("/")[0]
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(a.listen(port))
        c = stack.enter_context(b.connect(address, port, timeout=2))
        listener.settimeout(2)
        s = stack.enter_context(listener.accept()[0])
        for x, y in ((c, s), (s, c)):
            y.settimeout(5)
            x.sendall(text)
            expect_eq(y.recv(100), text)
        yield c, s


def works_once(m, a, b):
    """A SYN that meets no daemon is lost, and under prefer repeated without the option: such a
    connection may be clear."""
    with contextlib.suppress(OSError):
        with connected(m, a, b, 7001, b"are you there?"):
            return True
    return False


def ended_by_reset(sock):
    """Reads until the end. Return: whether it was a reset."""
    try:
        while sock.recv(65536):
            pass
        return False
    except (ConnectionResetError, ConnectionAbortedError):
        return True


def test_image(lab):
    """Small, and nothing in it but the program and what it is linked with."""
    with Machine(lab) as m:
        size = m.inspect(IMAGE)["Size"]
        expect(size < 32 << 20, "the image's size", size)
        check = m.inspect(IMAGE)["Healthcheck"]["Test"]
        expect_eq(check, ["CMD", "/usr/bin/tcpcrypt-ns", "status"], "health check")
        expect_eq(m.inspect(IMAGE)["Config"]["Cmd"],
                  ["up", "--netns", "self", "--foreground", "--drain", "8"], "what it does")
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
        ids = [session(m.sessions("p1-enc", "--ended"), b),
               session(m.sessions("p2-enc", "--ended"), a)]
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


def test_doors(lab):
    """The ctl socket in a pod: each container may read by the abstract name, and no more."""
    with Machine(lab) as m:
        network(m)
        m.pod("p1", "net")
        m.sidecar("enc", "--pod", "p1")
        other = ("podman", "run", "--rm", "--pod", "p1", "--cap-drop", "ALL", IMAGE)
        expect("0 connections" in m.run(*other, "sessions").stdout, "another container reads")
        r = m.run(*other, "down", "--netns", "self", check=False)
        expect_eq(r.returncode, 4, r.stderr)
        r = m.run("podman", "run", "--rm", "--pod", "p1", *CONFINED, IMAGE, "down", "--netns",
                  "self", check=False)
        expect_eq(r.returncode, 4, "nor with the capability, in another process namespace")
        pid = m.inspect("enc")["State"]["Pid"]
        expect("0 connections" in m.run(binary(), "sessions", "--netns", pid).stdout,
               "the machine reads")
        expect_eq(m.tcns("enc", "status").returncode, 0, "it is still there")
        m.tcns("enc", "down", "--netns", "self", check=False)  # it may die with the container
        expect_eq(m.podman("wait", "enc"), "0", "it is ended from within its own container")


def test_worker_killed(lab):
    """In the container the supervisor can do what it does elsewhere."""
    with Machine(lab) as m:
        two_pods(m)
        a, b = m.netns("p1-infra"), m.netns("p2-infra")
        pid = m.inspect("p1-enc")["State"]["Pid"]
        with Capture(m.ns, m.bridge("net")) as cap, connected(m, a, b) as (c, s):
            worker = m.run("cat", f"/proc/{pid}/task/{pid}/children").stdout.strip()
            m.run("kill", "-KILL", worker)
            expect(ended_by_reset(s), "the connection is reset")
            c.sendall(MARK)
            expect(ended_by_reset(c), "its peer too")
            wait_for(lambda: works_once(m, a, b), 5, "TCP is back")
        expect(not cap.has_bytes(MARK), "plaintext on the bridge")
        expect_eq(json.loads(m.tcns("p1-enc", "status", "--json").stdout)["worker_restarts"], 1)


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
        expect_eq(session(m.sessions("server-enc", "--ended"), b),
                  session(m.sessions("client-enc", "--ended"), a), "session ids")


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
                  [session(m.sessions("enc", "--ended"), "10.132.1.2")], "session ids")
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


def test_two_networks(lab):
    """A container in two networks, one with IPv6: its one sidecar encrypts in both."""
    with Machine(lab) as m:
        network(m, "net", "10.131.1.0/24")
        network(m, "second", "10.131.2.0/24", "fd13:2::/64")
        for p in ("p1", "p2"):
            m.pod(p, "net,second")
            m.sidecar(p + "-enc", "--pod", p)
        server(m, "--pod", "p1")
        client(m, "--pod", "p2")
        for net in ("net", "second"):
            a, b = m.address("p1-infra", net), m.address("p2-infra", net)
            with Capture(m.ns, m.bridge(net)) as cap:
                expect_eq(fetch(m, a).split()[:2], [MARK.decode(), b], net)
                cap.wait_tcp(lambda t: t.flag(SYN) and t.dport == 80 and t.option(OPT_ENO), 5,
                             "a SYN with TCP-ENO")
            expect(not cap.has_bytes(MARK), f"plaintext on {net}")
            expect_eq(session(m.sessions("p1-enc", "--ended"), b),
                      session(m.sessions("p2-enc", "--ended"), a), "session ids")
        a, b = (m.inspect(p + "-infra")["NetworkSettings"]["Networks"]["second"]
                ["GlobalIPv6Address"] for p in ("p1", "p2"))
        expect_eq(fetch(m, f"[{a}]").split()[1], b, "IPv6")
        expect_eq(session(m.sessions("p1-enc", "--ended"), b),
                  session(m.sessions("p2-enc", "--ended"), a), "session ids, IPv6")


def test_network_comes_later(lab):
    """podman network connect: the sidecar takes the new one without a restart."""
    with Machine(lab) as m:
        network(m, "net", "10.131.1.0/24")
        network(m, "second", "10.131.2.0/24")
        for name in ("server", "client"):
            m.podman("run", "-d", "--name", name, "--network", "net", APP)
            m.sidecar(name + "-enc", "--network", "container:" + name)
        for name in ("server", "client"):
            m.podman("network", "connect", "second", name)
            m.netns(name).wait_listening(80)
        a, b = m.address("server", "second"), m.address("client", "second")
        for name in ("server", "client"):
            wait_for(lambda: "eth1" in m.tcns(name + "-enc", "status").stdout, 5, "the uplink")
        expect_eq(fetch(m, a).split()[1], b, "the address that the application sees")
        expect_eq(session(m.sessions("server-enc", "--ended"), b),
                  session(m.sessions("client-enc", "--ended"), a), "session ids")


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


def tcp_states(ns):
    """Rules, routes and filters of ours in a namespace, as text; "" without any."""
    return "".join((ns.ip("rule", "show", "protocol", "85"),
                    ns.ip("route", "show", "table", "all", "proto", "85"),
                    ns.run("nft", "list", "tables").stdout))


def test_sigterm_as_pid_1(lab):
    """podman stop: connections are reset, everything of ours goes, the exit status is 0."""
    with Machine(lab) as m:
        network(m)
        for name in ("server", "client"):
            m.podman("run", "-d", "--name", name, "--network", "net", APP, "sleep", "1000")
        a, b = m.netns("server"), m.netns("client")
        before = tcp_states(a)
        for name in ("server", "client"):
            m.sidecar(name + "-enc", "--network", "container:" + name)
        expect(tcp_states(a) != before, "the sidecar sets something")
        with connected(m, a, b) as (c, s):
            start = time.monotonic()
            m.podman("stop", "-t", "20", "server-enc")
            expect(time.monotonic() - start < 8, "it needs no kill")
            for x in (c, s):
                expect(ended_by_reset(x), "both ends get a reset")
        expect_eq(m.inspect("server-enc")["State"]["ExitCode"], 0, "exit status")
        expect_eq(tcp_states(a), before, "what is left in the namespace")
        with connected(m, a, b):
            pass  # the application is not stranded: clear, as policy prefer says


def test_stop_drains(lab):
    """With --drain podman stop lets connections end, encrypted, and waits no longer."""
    with Machine(lab) as m:
        network(m)
        for name in ("server", "client"):
            m.podman("run", "-d", "--name", name, "--network", "net", APP, "sleep", "1000")
            m.sidecar(name + "-enc", "--network", "container:" + name, up=("--drain", "8"))
        a, b = m.netns("server"), m.netns("client")
        with Capture(m.ns, m.bridge("net")) as cap:
            with connected(m, a, b) as (c, s):
                stop = m.popen("podman", "stop", "-t", "20", "server-enc")
                wait_for(lambda: "draining" in m.run("podman", "logs", "server-enc").stderr, 5,
                         "the draining")
                for _ in range(3):
                    c.sendall(MARK)
                    expect_eq(s.recv(100), MARK, "it goes on")
                expect(stop.poll() is None, "podman waits")
            expect_eq(stop.wait(5), 0, "and no longer than the connection lasts")
        expect_eq(m.inspect("server-enc")["State"]["ExitCode"], 0, "exit status")
        expect(not cap.has_bytes(MARK), "plaintext on the bridge")


def test_reaps_as_pid_1(lab):
    """Orphans of containers that share its process namespace do not stay as zombies."""
    with Machine(lab) as m:
        network(m)
        m.sidecar("enc", "--network", "net")
        pid = m.inspect("enc")["State"]["Pid"]
        m.podman("run", "--rm", "--pid", "container:enc", APP, "sh", "-c",
                 "for i in 1 2 3; do sh -c 'sleep 0.3 & exit 0'; done; sleep 0.1")

        def children():
            text = m.run("cat", f"/proc/{pid}/task/{pid}/children").stdout
            return len(text.split())

        wait_for(lambda: children() == 1, 5, "only the worker is left")
        worker = json.loads(m.tcns("enc", "status", "--json").stdout)
        expect_eq(worker["worker_restarts"], 0, "the worker was not taken for one of them")
        m.podman("kill", "-s", "TERM", "enc")
        expect_eq(m.podman("wait", "enc"), "0", "exit status")


def test_killed(lab):
    """kill -9 of the sidecar: never clear, back by its restart policy, old state recognised."""
    with Machine(lab) as m:
        network(m)
        m.pod("p1", "net")
        m.pod("p2", "net")
        m.sidecar("enc", "--pod", "p1", "--restart", "always")
        m.sidecar("other", "--pod", "p2")
        a, b = m.netns("p1-infra"), m.netns("p2-infra")
        with Capture(m.ns, m.bridge("net")) as cap, connected(m, a, b) as (c, s):
            pid = m.inspect("enc")["State"]["Pid"]
            start = time.monotonic()
            m.run("kill", "-KILL", pid)
            s.settimeout(10)
            expect(ended_by_reset(s), "the restarted sidecar resets what the killed one carried")
            c.sendall(MARK)
            expect(ended_by_reset(c), "and answers its peer with a reset")
            wait_for(lambda: works_once(m, a, b), 20, "TCP is back", interval=0.05)
            took = time.monotonic() - start
            print(f"# TCP is back after {took:.1f} s")
            expect(took < 10, "the sidecar is back soon", took)
        expect(not cap.has_bytes(MARK), "plaintext on the bridge")
        expect_eq(m.inspect("enc")["RestartCount"], 1, "the engine's restarts")
        with connected(m, a, b):
            states = [x["state"] for x in m.sessions("enc")]
        expect("encrypted" in states, "encrypted again", states)


def read_doc(name):
    with open(os.path.join(TOP, "docs", name)) as f:
        return f.read()


def test_kubernetes_manifest(lab):
    """docs/kubernetes/sidecar.yaml, played by podman: all but the native sidecar's order,
    which this podman does not know. The device comes as a hostPath."""
    text = read_doc("kubernetes/sidecar.yaml")
    head, init, rest = re.split(r"^  (?:initContainers|containers):\n", text, flags=re.M)
    expect("restartPolicy: Always" in init, "a native sidecar", init)
    init = re.sub(r" *(#.*|restartPolicy: Always)\n", "", init)
    text = head + "  containers:\n" + init + rest.replace("docker.io/library/nginx:stable", APP)
    with Machine(lab) as m:
        network(m)
        with open(m.dir + "/pod.yaml", "w") as f:
            f.write(text)
        m.podman("play", "kube", "--network", "net", m.dir + "/pod.yaml")
        m.tcns("web-tcpcrypt-ns", "status", "--wait", "10")
        caps = m.inspect("web-tcpcrypt-ns")["EffectiveCaps"]
        expect_eq(sorted(caps), ["CAP_NET_ADMIN", "CAP_NET_RAW"])
        m.pod("p2", "net")
        m.sidecar("p2-enc", "--pod", "p2")
        client(m, "--pod", "p2")
        m.netns("web-web").wait_listening(80)
        a = m.podman("exec", "web-web", "ip", "-4", "-o", "addr", "show", "eth0").split()[3]
        a, b = a.split("/")[0], m.address("p2-infra", "net")
        expect_eq(fetch(m, a).split()[:2], [MARK.decode(), b])
        expect_eq(session(m.sessions("web-tcpcrypt-ns", "--ended"), b),
                  session(m.sessions("p2-enc", "--ended"), a), "session ids")


def test_compose_file(lab):
    """docs/compose.yaml by docker-compose, with podman as the engine: the application waits
    for the health check, and outlives restarts of its sidecar."""
    need("docker-compose")
    text = read_doc("compose.yaml").replace("docker.io/library/nginx:stable", APP)
    with Machine(lab) as m:
        os.makedirs(m.dir + "/example")
        with open(m.dir + "/example/compose.yaml", "w") as f:
            f.write(text)
        m.popen("podman", "system", "service", "-t", "0", "unix:///run/podman.sock")
        wait_for(lambda: os.path.exists(m.path("/run/podman.sock")), 10, "the engine's socket")
        enc, web = "example_tcpcrypt-ns_1", "example_web_1"
        up = m.popen("docker-compose", "-f", m.dir + "/example/compose.yaml", "up", "-d",
                     env={**m.env, "DOCKER_HOST": "unix:///run/podman.sock"})
        wait_for(lambda: enc in m.podman("ps", "--format", "{{.Names}}"), 20, "the sidecar")
        idle(1)
        expect(web not in m.podman("ps", "-a", "--format", "{{.Names}}"), "the application waits")
        m.tcns(enc, "status", "--wait", "10")
        m.podman("healthcheck", "run", enc)  # the engine's timers need systemd
        expect_eq(up.wait(20), 0, "docker-compose")
        network(m)
        m.pod("p2", "net")
        m.sidecar("p2-enc", "--pod", "p2")
        client(m, "--pod", "p2")
        m.netns("example_net_1").wait_listening(80)
        expect_eq(fetch(m, "10.131.1.1:8080").split()[0], MARK.decode(), "the published port")
        for name in (enc, web):
            m.podman("restart", "-t", "5", name)
        m.tcns(enc, "status", "--wait", "10")
        m.netns("example_net_1").wait_listening(80)
        expect_eq(fetch(m, "10.131.1.1:8080").split()[0], MARK.decode(), "after restarts")
        ended = m.sessions(enc, "--ended")
        expect_eq([(s["local_port"], s["reason"] in ("full", "resumed")) for s in ended],
                  [(80, True)], "by the new one, encrypted")
        m.podman("stop", "-t", "5", "example_net_1")
        expect_eq(m.inspect("example_net_1")["State"]["ExitCode"], 0, "pause ends by SIGTERM")


if __name__ == "__main__":
    tap.main()
