# SPDX-License-Identifier: BSD-3-Clause
"""The CNI plugin, called as the specification says, and by podman."""
import contextlib
import json
import os
import signal
import subprocess

import tap
from engine import APP, IMAGE, Machine
from lab import TOP, Failure, binary, expect, expect_eq, wait_for
from wire import OPT_ENO, SYN, Capture

MARK = "application-plaintext-marker"

NET = f"tcnsnet{os.getpid()}"
STATE = "/run/tcpcrypt-ns/cni"
VERSIONS = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"]


def result(ns, version="1.0.0"):
    """What a plugin that makes eth0 would have said."""
    return {"cniVersion": version,
            "interfaces": [{"name": "eth0", "mac": "02:00:00:00:00:01", "sandbox": ns.path}],
            "ips": [{"address": f"{ns.ip4}/24", "gateway": "10.77.1.1", "interface": 0}],
            "routes": [{"dst": "0.0.0.0/0"}], "dns": {"nameservers": ["10.77.1.1"]}}


def conf(ns=None, version="1.0.0", **keys):
    c = {"cniVersion": version, "name": NET, "type": "tcpcrypt", "bypass": "none", **keys}
    if ns:
        c.setdefault("prevResult", result(ns, version))
    return c


def settings(ns):
    """What up sets, and DEL must take away."""
    return {k: v for k, v in ns.snapshot().items() if k not in ("link", "addr")}


class Plugin:
    """The program under the name that an engine looks for."""

    def __init__(self, lab):
        self.path = lab.file("tcpcrypt")
        os.symlink(binary(), self.path)

    def call(self, command, config, container="c1", netns=None, ifname="eth0", **env):
        """Return: exit status, what was printed as JSON or None."""
        given = {"CNI_COMMAND": command, "CNI_CONTAINERID": container, "CNI_IFNAME": ifname,
                 "CNI_NETNS": netns, "CNI_PATH": os.path.dirname(self.path), **env}
        text = config if isinstance(config, (str, bytes)) else json.dumps(config)
        r = subprocess.run([self.path], env={k: v for k, v in given.items() if v is not None},
                           input=text if isinstance(text, bytes) else text.encode(), timeout=30,
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        return r.returncode, json.loads(r.stdout) if r.stdout else None

    def ok(self, command, config, ns, **kwargs):
        status, out = self.call(command, config, netns=ns.path, **kwargs)
        expect_eq(status, 0, out)
        return out

    def fails(self, code, command, config, **kwargs):
        """Return: the error's message."""
        status, out = self.call(command, config, **kwargs)
        expect(status != 0 and out, "an error", status, out)
        expect_eq(sorted(out), ["cniVersion", "code", "msg"], "keys of the error")
        expect_eq(out["code"], code, out)
        return out["msg"]


@contextlib.contextmanager
def plugin(lab):
    p = Plugin(lab)
    try:
        yield p
    finally:
        for name in os.listdir(STATE) if os.path.isdir(STATE) else []:
            if name.startswith(NET):
                _, container, ifname = name.split(":")
                p.call("DEL", conf(), container=container, ifname=ifname)


def states():
    return sorted(n.split(":", 1)[1] for n in os.listdir(STATE) if n.startswith(NET + ":"))


def detached(ns, left=()):
    """No daemon, and no files but those."""
    expect_eq(states(), list(left), "attachments")
    wait_for(lambda: not ns.pids(), 5, "the daemon's end")


def talks(a, b, port=7000):
    with b.listen(port) as listener, a.connect(b.ip4, port, timeout=3) as c:
        s, _ = listener.accept()
        with s:
            c.sendall(b"marker")
            expect_eq(s.recv(100), b"marker")
            return [x["state"] for x in b.sessions() if x["local_port"] == port]


def test_add_check_del(lab):
    """In each version: the result is passed through, TCP is encrypted, and all of it goes."""
    _, a, b = lab.star("a", "b")
    b.up()
    with plugin(lab) as p:
        for version in VERSIONS:
            before = settings(a)
            out = p.ok("ADD", conf(a, version), a)
            expect_eq(out, result(a, version), "the result")
            expect_eq(talks(a, b), ["encrypted"], version)
            expect_eq(states(), ["c1:eth0"])
            expect_eq(p.ok("CHECK", conf(a, version), a), None, "CHECK prints nothing")
            expect_eq(p.ok("DEL", conf(a, version), a), None, "DEL prints nothing")
            expect_eq(settings(a), before, "what is left")
            detached(a)
            p.ok("DEL", conf(version=version), a)  # once more, and without a result


def test_version(lab):
    with plugin(lab) as p:
        status, out = p.call("VERSION", '{"cniVersion": "1.0.0"}', container=None, ifname=None)
        expect_eq((status, out), (0, {"cniVersion": "1.0.0", "supportedVersions": VERSIONS}))
        r = subprocess.run([binary(), "cni"], env={"CNI_COMMAND": "VERSION"}, text=True,
                           stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        expect_eq(json.loads(r.stdout), out, "the same by the verb")


def test_bad_calls(lab):
    """Each wrong call has the code of the specification, and changes nothing."""
    _, a = lab.star("a")
    before = settings(a)
    with plugin(lab) as p:
        good = conf(a)
        for name in ("CNI_CONTAINERID", "CNI_IFNAME", "CNI_NETNS"):
            for value in (None, ""):
                text = p.fails(4, "ADD", good, **{"netns": a.path, name: value})
                expect(name in text, "it names the variable", text)
        for name, value in (("CNI_CONTAINERID", "../x"), ("CNI_CONTAINERID", "a:b"),
                            ("CNI_IFNAME", "a/b"), ("CNI_IFNAME", "a234567890123456"),
                            ("CNI_IFNAME", ".."), ("CNI_IFNAME", "a b"), ("CNI_NETNS", "relative")):
            text = p.fails(4, "ADD", good, **{"netns": a.path, name: value})
            expect(name in text, "it names the variable", text)
        expect("CNI_COMMAND" in p.fails(4, None, good, netns=a.path))
        expect("CNI_COMMAND" in p.fails(4, "RENAME", good, netns=a.path))
        for text in ("", "{", "nonsense", "[]", '"x"', b"\xff\xfe", '{"name": 1, "name": 2}',
                     "{" + " " * 2000):
            p.fails(6, "ADD", text, netns=a.path)
        p.fails(5, "ADD", " " * (1 << 21), netns=a.path)
        for version in ("0.1.0", "0.2.0", "1.2.0", "9", "", None, 1):
            p.fails(1, "ADD", {**good, "cniVersion": version}, netns=a.path)
        for name in (None, "", "a/b", "a:b", 7):
            p.fails(7, "ADD", {**good, "name": name}, netns=a.path)
        text = p.fails(7, "ADD", conf(), netns=a.path)
        expect("prevResult" in text, "it must be chained", text)
        p.fails(7, "ADD", {**good, "prevResult": []}, netns=a.path)
        p.fails(7, "CHECK", conf(), netns=a.path)
        p.fails(3, "ADD", good, netns="/run/netns/tcns-no-such")
        p.fails(3, "CHECK", good, netns="/run/netns/tcns-no-such")
        p.fails(4, "ADD", good, netns="/etc/hostname")
        for key, value in (("polcy", "require"), ("netns", "x"), ("foreground", True),
                           ("policy", {}), ("no-resume", "yes"), ("bypass", [1.5]),
                           ("bypass", None)):
            text = p.fails(2, "ADD", {**good, key: value}, netns=a.path)
            expect(f'"{key}"' in text, "it names the field", text)
        for key, value in (("policy", "maybe"), ("bypass", "70000"), ("keepalive", "soon")):
            text = p.fails(7, "ADD", {**good, key: value}, netns=a.path)
            expect(str(value) in text and "tcpcrypt-ns" not in text, "it says the value", text)
        p.fails(100, "ADD", {**good, "uplink": "eth7"}, netns=a.path)
        p.fails(102, "CHECK", good, netns=a.path)
        p.ok("DEL", good, a)
        expect_eq(states(), [])
    expect_eq(settings(a), before, "nothing changed")


def test_options(lab):
    """Keys of the configuration are options of up, of every kind."""
    _, a = lab.star("a")
    with plugin(lab) as p:
        keys = {"policy": "require", "bypass": [22, "8000-8010"], "no-resume": True,
                "keepalive": 90, "aead": ["AES-256-GCM", "AES-128-GCM"], "log": lab.file("cni.log")}
        p.ok("ADD", conf(a, capabilities={"portMappings": True}, runtimeConfig={"x": []},
                         args={"labels": {}}, **keys), a)
        s = json.loads(a.tcns("status", "--json").stdout)
        expect_eq((s["policy"], s["bypass"], s["resume"], s["keepalive"], s["aeads"]),
                  ("require", "22,8000-8010", False, 90, ["AES-256-GCM", "AES-128-GCM"]))
        expect(os.path.exists(keys["log"]), "its log")
        p.ok("DEL", conf(a), a)
        with open(lab.file("cni.conf"), "w") as f:
            f.write("[daemon]\npolicy = require\n")
        p.ok("ADD", conf(a, config=lab.file("cni.conf"), rule=["prefer in port=80", "off out"]), a)
        expect_eq(json.loads(a.tcns("status", "--json").stdout)["policy"], "require", "of the file")
        p.ok("DEL", conf(a), a)
        p.ok("ADD", conf(a, **{"no-resume": False}), a)
        expect_eq(json.loads(a.tcns("status", "--json").stdout)["resume"], True)
        p.ok("DEL", conf(a), a)


def test_daemon_of_others(lab):
    """A container whose daemon is not the plugin's is left alone."""
    _, a = lab.star("a")
    a.up()
    with plugin(lab) as p:
        text = p.fails(100, "ADD", conf(a), netns=a.path)
        expect("not of this plugin" in text, "it says why", text)
        p.ok("DEL", conf(a), a)
        expect_eq(a.tcns("status").returncode, 0, "it is still there")


def test_two_networks(lab):
    """One daemon; it goes with the last of them; other options are refused."""
    r, a, b = lab.star("a", "b")
    b.up()
    with plugin(lab) as p:
        p.ok("ADD", conf(a), a)
        daemon = a.pids()
        p.fails(100, "ADD", conf(a, policy="require"), netns=a.path, ifname="eth1")
        text = p.fails(100, "ADD", conf(a), netns=a.path, ifname="eth1")
        expect("eth1 is no uplink" in text, "it is not there yet", text)
        expect_eq(states(), ["c1:eth0"])
        expect_eq(a.pids(), daemon, "the daemon is not disturbed")
        lab.veth(r, "second", a, "eth1")
        a.ip("addr", "add", "10.78.1.2/24", "dev", "eth1")
        p.ok("ADD", conf(a), a, ifname="eth1")
        expect_eq(a.pids(), daemon, "the same daemon")
        expect_eq(states(), ["c1:eth0", "c1:eth1"])
        p.ok("CHECK", conf(a), a, ifname="eth1")
        p.ok("DEL", conf(a), a, ifname="eth0")
        p.fails(102, "CHECK", conf(a), netns=a.path, ifname="eth0")
        expect_eq(talks(a, b), ["encrypted"], "the other network's")
        p.ok("DEL", conf(a), a, ifname="eth1")
        detached(a)


def test_namespace_gone(lab):
    """The daemon keeps the namespace in existence; DEL finds it without the path."""
    _, a = lab.star("a")
    path, hidden = a.path, lab.file("netns")
    with open(hidden, "w"):
        pass
    subprocess.run(["mount", "--bind", path, hidden], check=True)
    with plugin(lab) as p:
        config = conf(a)
        try:
            expect_eq(p.call("ADD", config, netns=hidden)[0], 0)
        finally:
            subprocess.run(["umount", "--lazy", hidden], check=True)
            os.unlink(hidden)
        for netns in (hidden, "", None):
            expect_eq(p.call("DEL", config, netns=netns), (0, None), "DEL")
        detached(a)


def test_forgotten(lab):
    """Without DEL the daemon ends with the path, and TCP stays closed, not clear."""
    _, a, b = lab.star("a", "b")
    b.up()
    hidden = lab.file("netns")
    with open(hidden, "w"):
        pass
    subprocess.run(["mount", "--bind", a.path, hidden], check=True)
    with plugin(lab) as p:
        try:
            expect_eq(p.call("ADD", conf(a), netns=hidden)[0], 0)
            expect_eq(talks(a, b), ["encrypted"])
        finally:
            subprocess.run(["umount", "--lazy", hidden], check=True)
            os.unlink(hidden)
        wait_for(lambda: not a.pids(), 10, "the daemon's end")
        with contextlib.suppress(OSError):
            talks(a, b)
            raise Failure("TCP is open")
        p.ok("DEL", conf(a), a)
        expect("8548" not in a.ip("rule"), "DEL takes away what is left")


def test_killed(lab):
    """CHECK finds a daemon that was killed; DEL opens what it has left closed."""
    _, a, b = lab.star("a", "b")
    b.up()
    before = settings(a)
    with plugin(lab) as p:
        p.ok("ADD", conf(a), a)
        for pid in a.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not a.pids(), 5, "the end")
        p.fails(102, "CHECK", conf(a), netns=a.path)
        p.ok("DEL", conf(a), a)
        expect_eq(settings(a), before)
        p.ok("ADD", conf(a), a)
        expect_eq(talks(a, b), ["encrypted"])
        p.ok("DEL", conf(a), a)


def test_gc_and_status(lab):
    """CNI 1.1.0: what the engine does not know any more is detached."""
    _, a, b = lab.star("a", "b")
    with plugin(lab) as p:
        p.ok("ADD", conf(a, "1.1.0"), a)
        p.ok("ADD", conf(b, "1.1.0"), b, container="c2")
        keep = [{"containerID": "c2", "ifname": "eth0"}]
        for key in ("cni.dev/valid-attachments",):
            status, out = p.call("GC", conf(version="1.1.0", **{key: keep}), container=None)
            expect_eq((status, out), (0, None))
        detached(a, ["c2:eth0"])
        p.fails(7, "GC", conf(version="1.1.0"))
        expect_eq(p.call("STATUS", conf(version="1.1.0")), (0, None))
        p.ok("DEL", conf(b), b, container="c2")
        r = subprocess.run(["unshare", "--mount", "--propagation", "private", "sh", "-c",
                            'mount -t tmpfs tmpfs /dev/net && exec "$0"', p.path],
                           env={**os.environ, "CNI_COMMAND": "STATUS"}, stdout=subprocess.PIPE,
                           stderr=subprocess.PIPE, text=True,
                           input=json.dumps(conf(version="1.1.0")))
        expect_eq((r.returncode, json.loads(r.stdout)["code"]), (1, 50), "no /dev/net/tun")


def test_no_uplink(lab):
    """ADD fails, and leaves nothing, when the daemon does not take the interface."""
    _, a = lab.star("a")
    before = settings(a)
    with plugin(lab) as p:
        text = p.fails(100, "ADD", conf(a), netns=a.path, ifname="lo")
        expect("lo is no uplink" in text, "it says why", text)
        detached(a)
    expect_eq(settings(a), before)


# --- cni-install ----------------------------------------------------------------------


class Host:
    """Some machine's folders, as an installer's container sees them."""

    def __init__(self, lab):
        self.root = lab.file("host")
        os.makedirs(self.root + "/etc/cni/net.d")

    def install(self, *args, **kwargs):
        return subprocess.run([binary(), "cni-install", "--root", self.root, *args], text=True,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, **kwargs)

    def network(self, text, name="10-net.conflist"):
        with open(f"{self.root}/etc/cni/net.d/{name}", "w") as f:
            f.write(text if isinstance(text, str) else json.dumps(text))

    def plugins(self, name="10-net.conflist"):
        with open(f"{self.root}/etc/cni/net.d/{name}") as f:
            return json.load(f)["plugins"]

    def files(self):
        return sorted(os.path.relpath(os.path.join(d, f), self.root)
                      for d, _, fs in os.walk(self.root) for f in fs)

    def folders(self):
        return os.listdir(self.root + "/opt/tcpcrypt-ns")


BRIDGE = {"cniVersion": "1.0.0", "name": "net", "plugins": [{"type": "bridge"}, {"type": "portmap"}]}


def test_install(lab):
    """The line at the end of the first network's chain, once; a script; all of it goes again."""
    h = Host(lab)
    h.network(BRIDGE)
    h.network(BRIDGE, "20-other.conflist")
    before = h.files()
    r = h.install("--options", '{"policy": "require"}')
    expect_eq((r.returncode, r.stdout, r.stderr), (0, "", ""))
    line = {"policy": "require", "type": "tcpcrypt"}
    expect_eq(h.plugins(), BRIDGE["plugins"] + [line])
    expect_eq(h.plugins("20-other.conflist"), BRIDGE["plugins"], "another network")
    expect(os.access(h.root + "/opt/cni/bin/tcpcrypt", os.X_OK), "the script")
    first = h.folders()
    expect_eq(h.install("--options", '{"policy": "prefer"}').returncode, 0)
    expect_eq(h.plugins(), BRIDGE["plugins"] + [{**line, "policy": "prefer"}], "replaced")
    expect(len(h.folders()) == 1 and h.folders() != first, "one folder, a new one")
    r = h.install("--remove")
    expect_eq((r.returncode, r.stderr), (0, ""))
    expect_eq((h.files(), h.plugins()), (before, BRIDGE["plugins"]), "what is left")
    expect_eq(h.install("--remove").returncode, 0, "once more")


def test_install_refuses(lab):
    h = Host(lab)
    r = h.install()
    expect_eq(r.returncode, 1)
    expect("no network yet" in r.stderr, "no network", r.stderr)
    for text in ("{", "[]", '{"name": "net", "type": "bridge"}', ""):
        h.network(text)
        r = h.install()
        expect(r.returncode == 1 and "10-net.conflist" in r.stderr, "it names the file", r)
        with open(h.root + "/etc/cni/net.d/10-net.conflist") as f:
            expect_eq(f.read(), text, "untouched")
    for args in (["--options", "[]"], ["--options", '{"polcy": "x"}'], ["--bin-dir", "here"],
                 ["--lib-dir", "/a'b"], ["--remove", "--foreground"], ["more"]):
        expect_eq(h.install(*args).returncode, 2, args)


def test_install_stays(lab):
    """In the foreground it waits for a network, and puts the line there again."""
    h = Host(lab)
    p = subprocess.Popen([binary(), "cni-install", "--root", h.root, "--foreground"],
                         stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    lab.procs.append(p)
    for _ in range(2):  # the network's own installer comes, and comes again
        h.network(BRIDGE)
        wait_for(lambda: h.plugins()[-1] == {"type": "tcpcrypt"}, 15, "the line")
    p.send_signal(signal.SIGTERM)
    expect_eq(p.wait(5), 0, "exit status")
    expect_eq(h.plugins()[-1], {"type": "tcpcrypt"}, "it stays")


def manifest(name):
    """Return: the one document of a file in docs/kubernetes, read by Debian's python3-yaml."""
    with open(os.path.join(TOP, "docs", "kubernetes", name)) as f:
        r = subprocess.run(["/usr/bin/python3", "-c", "import json, sys, yaml\n"
                            "json.dump(list(yaml.safe_load_all(sys.stdin)), sys.stdout)"],
                           stdin=f, stdout=subprocess.PIPE, text=True, check=True)
    docs = json.loads(r.stdout)
    expect_eq(len(docs), 1, name)
    return docs[0]


def test_daemonsets(lab):
    """docs/kubernetes: what the DaemonSets call installs the plugin, and takes it away again."""
    h = Host(lab)
    h.network(BRIDGE)
    before = h.files()
    for name, kind, present in (("cni-daemonset.yaml", "containers", True),
                                ("cni-remove.yaml", "initContainers", False)):
        spec = manifest(name)["spec"]
        pod = spec["template"]["spec"]
        expect_eq(spec["selector"]["matchLabels"], spec["template"]["metadata"]["labels"], name)
        c = pod[kind][0]
        expect_eq(c["securityContext"]["capabilities"], {"drop": ["ALL"]}, name)
        expect_eq([c["securityContext"][k] for k in ("privileged", "allowPrivilegeEscalation",
                                                     "readOnlyRootFilesystem")],
                  [False, False, True], name)
        mounts = {m["name"]: m["mountPath"] for m in c["volumeMounts"]}
        for v in pod["volumes"]:
            expect_eq(mounts[v["name"]], "/host" + v["hostPath"]["path"], "seen below --root")
        args = [a.replace("--root=/host", "--root=" + h.root) for a in c["args"]
                if a != "--foreground"]
        expect("--root=" + h.root in args, "--root", args)
        r = subprocess.run([binary(), *args], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE,
                           text=True)
        expect_eq((r.returncode, r.stderr), (0, ""), name)
        expect_eq(h.plugins()[-1]["type"] == "tcpcrypt", present, "the line")
    expect_eq(h.files(), before, "what is left")


# --- podman ---------------------------------------------------------------------------


def chain(m, network, **keys):
    """Puts the plugin at the end of a network's chain: one line in its conflist."""
    path = m.path(f"/run/networks/{network}.conflist")
    with open(path) as f:
        c = json.load(f)
    c["plugins"].append({"type": "tcpcrypt", **keys})
    with open(path, "w") as f:
        json.dump(c, f)
    os.makedirs(m.path("/run/cni"), exist_ok=True)
    with contextlib.suppress(FileExistsError):
        os.symlink(binary(), m.path("/run/cni/tcpcrypt"))


def test_podman_network(lab):
    """Containers of a network are encrypted and know nothing of it."""
    with Machine(lab, backend="cni") as m:
        m.podman("network", "create", "--subnet", "10.133.1.0/24", "net")
        chain(m, "net", bypass="none")
        m.podman("run", "-d", "--name", "server", "--network", "net", APP)
        m.podman("run", "-d", "--name", "client", "--network", "net", APP, "sleep", "1000")
        a, b = m.netns("server"), m.netns("client")
        a.wait_listening(80)
        addresses = [m.address(n, "net") for n in ("server", "client")]
        with Capture(m.ns, m.bridge("net")) as cap:
            words = m.podman("exec", "client", "curl", "-sS", f"http://{addresses[0]}/").split()
            cap.wait_tcp(lambda t: t.flag(SYN) and t.dport == 80 and t.option(OPT_ENO), 5,
                         "a SYN with TCP-ENO")
        expect_eq(words[:2], [MARK, addresses[1]], "the address that the application sees")
        expect(not cap.has_bytes(MARK.encode()), "plaintext on the bridge")
        ids = []
        for ns in (a, b):
            text = m.run(binary(), "sessions", "--json", "--ended", "--netns",
                         m.inside(ns.path)).stdout
            ids.append([s["session_id"] for s in json.loads(text)["sessions"] if 80 in
                        (s["peer_port"], s["local_port"])])
        expect_eq(ids[0], ids[1], "session ids")
        daemons = m.run("ls", "/run/tcpcrypt-ns/cni").stdout.split()
        expect_eq(len(daemons), 2, f"attachments: {daemons}")
        m.podman("rm", "-f", "-t", "0", "server")
        expect_eq(len(m.run("ls", "/run/tcpcrypt-ns/cni").stdout.split()), 1, "DEL")
        m.podman("restart", "-t", "0", "client")
        expect_eq(len(m.run("ls", "/run/tcpcrypt-ns/cni").stdout.split()), 1, "DEL and ADD")
        m.podman("rm", "-f", "-t", "0", "client")
        expect_eq(m.run("ls", "/run/tcpcrypt-ns/cni").stdout, "", "DEL")
        expect_eq(m.run("sh", "-c", "ls /run/tcpcrypt-ns | grep sock", check=False).stdout, "")


def test_podman_two_networks(lab):
    """Two networks with the line: one daemon of the container takes both; the last ends it."""
    with Machine(lab, backend="cni") as m:
        for net, subnet in (("net", "10.133.1.0/24"), ("second", "10.133.2.0/24")):
            m.podman("network", "create", "--subnet", subnet, net)
            chain(m, net, bypass="none")
        for name in ("server", "client"):
            m.podman("run", "-d", "--name", name, "--network", "net,second", APP)
        m.netns("server").wait_listening(80)
        for net in ("net", "second"):
            a, b = (m.address(n, net) for n in ("server", "client"))
            with Capture(m.ns, m.bridge(net)) as cap:
                words = m.podman("exec", "client", "curl", "-sS", f"http://{a}/").split()
                cap.wait_tcp(lambda t: t.flag(SYN) and t.dport == 80 and t.option(OPT_ENO), 5,
                             "a SYN with TCP-ENO")
            expect_eq(words[:2], [MARK, b], net)
            expect(not cap.has_bytes(MARK.encode()), f"plaintext on {net}")
        socks = m.run("sh", "-c", "ls /run/tcpcrypt-ns | grep -c sock").stdout.strip()
        expect_eq(socks, "2", "daemons, one for each container")
        m.podman("rm", "-fa", "-t", "0")
        expect_eq(m.run("ls", "/run/tcpcrypt-ns/cni").stdout, "", "DEL")
        expect_eq(m.run("sh", "-c", "ls /run/tcpcrypt-ns | grep sock", check=False).stdout, "")


def test_podman_names(lab):
    """The network's name server (dnsname), by UDP and by TCP."""
    with Machine(lab, backend="cni") as m:
        m.podman("network", "create", "--subnet", "10.133.1.0/24", "net")
        chain(m, "net", bypass="none")
        for name in ("one", "two"):
            m.podman("run", "-d", "--name", name, "--network", "net", APP, "sleep", "1000")
        text = m.podman("exec", "two", "nslookup", "one")
        expect(m.address("one", "net") in text, "by UDP", text)
        question = (b"\x12\x34\x01\0\0\1\0\0\0\0\0\0" + b"\3one\3dns\6podman\0" + b"\0\1\0\1")
        with m.netns("two").connect("10.133.1.1", 53) as s:
            s.sendall(len(question).to_bytes(2, "big") + question)
            answer = s.recv(1000)
        expect_eq(answer[2:4], question[:2], "the answer is ours")
        expect_eq(answer[-4:], bytes(map(int, m.address("one", "net").split("."))), "by TCP")


def test_podman_installs(lab):
    """As on a node: a container of our image, all capabilities dropped, installs the plugin."""
    with Machine(lab, backend="cni") as m:
        m.podman("network", "create", "--subnet", "10.133.1.0/24", "net")
        m.run("mount", "-t", "tmpfs", "tmpfs", "/opt")
        m.podman("run", "--rm", "--network", "none", "--cap-drop", "ALL", "--read-only",
                 "--security-opt", "no-new-privileges", "-v", "/opt:/host/opt",
                 "-v", "/run/networks:/host/etc/cni/net.d", IMAGE, "cni-install",
                 "--root", "/host", "--bin-dir", "/opt/cni/bin", "--options",
                 '{"bypass": "none", "policy": "require"}')
        for name in ("server", "client"):
            m.podman("run", "-d", "--name", name, "--network", "net", APP)
        m.netns("server").wait_listening(80)
        address = m.address("server", "net")
        words = m.podman("exec", "client", "curl", "-sS", f"http://{address}/").split()
        expect_eq(words[:2], [MARK, m.address("client", "net")])
        r = m.run("curl", "-sS", "--max-time", "5", f"http://{address}/", check=False)
        expect(r.returncode != 0, "require refuses the machine itself, which has no tcpcrypt")
        m.podman("rm", "-fa", "-t", "0")
        expect_eq(m.run("ls", "/run/tcpcrypt-ns/cni").stdout, "", "DEL")


def test_podman_refuses(lab):
    """A network whose line is wrong starts no container, and podman says why."""
    with Machine(lab, backend="cni") as m:
        m.podman("network", "create", "--subnet", "10.133.1.0/24", "net")
        chain(m, "net", policy="perhaps")
        r = m.run("podman", "run", "--rm", "--network", "net", APP, "sleep", "0", check=False)
        expect(r.returncode != 0 and "perhaps" in r.stderr, "it says why", r)
        expect_eq(m.run("sh", "-c", "ls /run/tcpcrypt-ns/cni", check=False).stdout, "")


if __name__ == "__main__":
    tap.main()
