# SPDX-License-Identifier: BSD-3-Clause
"""What is measured: ourselves, and what people use instead.

How it works: each start(lab) makes a client's and a server's namespace joined by a
veth, puts itself between them and returns where the client has to connect to. The
servers (iperf3, rr) are the same for all and listen in the server's namespace.
Everybody gets the same congestion control and, where there is encryption, AES-128-GCM.
"""
import contextlib
import dataclasses
import json
import os
import resource
import select
import shutil
import subprocess

from lab import Failure, Lab, Space, run, wait_for

CONGESTION_CONTROL = "reno"  # BBR stalls pasta; CUBIC would do as well
IPERF, RR, BYPASSED = 5201, 5301, 5401  # ports
TUNNELLED = 10000  # a wrapper's port on the wire is the service's plus this
CLIENT_IP, SERVER_IP = "10.79.0.1", "10.79.0.2"

OUR_BINARY = None  # path; set by bench/run
RR_BINARY = None


@dataclasses.dataclass
class Setup:
    client: Space  # where the client runs
    server: Space
    near: Space  # the client's end of the veth; the client's own namespace but for pasta
    host: str = SERVER_IP  # where the client connects to
    daemons: list = dataclasses.field(default_factory=list)  # processes at the server's end
    offers_udp: bool = True


def tune(space):
    space.sysctl("net.ipv4.tcp_congestion_control", CONGESTION_CONTROL)
    # 10,000 connections and their TIME-WAIT to one address and port
    space.sysctl("net.ipv4.ip_local_port_range", "1024 65535")
    space.sysctl("net.ipv4.ip_local_reserved_ports",
                 ",".join(str(p) for port in (IPERF, RR, BYPASSED)
                          for p in (port, port + TUNNELLED)))
    space.sysctl("net.core.somaxconn", 8192)
    space.sysctl("net.ipv4.tcp_max_syn_backlog", 8192)
    space.sysctl("net.ipv4.ping_group_range", "0 2147483647")


def two_spaces(lab):
    a, b = lab.space("a"), lab.space("b")
    lab.veth(a, "eth0", b, "eth0")
    for space, own, other in ((a, CLIENT_IP, SERVER_IP), (b, SERVER_IP, CLIENT_IP)):
        tune(space)
        space.ip("addr", "add", own + "/24", "dev", "eth0")
        space.ip("route", "add", "default", "via", other)
    return Setup(client=a, server=b, near=a)


def start_servers(setup):
    for port in (IPERF, BYPASSED):
        setup.server.popen("iperf3", "-s", "-p", port)
    setup.server.popen(RR_BINARY, "serve", RR)
    for port in (IPERF, BYPASSED, RR):
        setup.server.wait_listening(port)


@contextlib.contextmanager
def side_by_side(peer):
    """A further Setup while another one is up, with servers, in namespaces of its own."""
    with Lab("beside-") as lab:
        try:
            setup = peer.start(lab)
            start_servers(setup)
            yield setup
            peer.check(setup)
        except Failure as e:
            raise Failure(f"{e}\n{lab.logs()}") from e


class Peer:
    """Defaults: the kernel's own TCP."""
    name = "kernel"
    title = "kernel TCP, nothing between"
    kind = "none"  # "ours", "ours-clear", "encrypted", "clear" (moves bytes only), "none"
    programs = ()
    idle_cnt = 10000  # open connections in the test of many; 0: left out
    only = None  # names of measures, when not all make sense
    is_default = True

    def missing(self):
        """Return: why it cannot be measured here, or None."""
        lacking = [p for p in self.programs if not shutil.which(p)]
        return "not installed: " + ", ".join(lacking) if lacking else None

    def start(self, lab):
        return two_spaces(lab)

    def check(self, setup):
        """After measuring: was it what it says it is?"""

    def note(self, setup):
        """Return: what else is worth keeping of this turn."""
        return {}


class Ours(Peer):
    name = "tcpcrypt-ns"
    title = "tcpcrypt-ns at both ends, AES-128-GCM"
    kind = "ours"
    options = ()
    sides = "ab"
    is_encrypted = True

    def missing(self):
        words = run(OUR_BINARY, "up", "--help", check=False)
        lacking = [o for o in self.options if o.startswith("--") and o not in words]
        return "this build has no " + ", ".join(lacking) if lacking else None

    def up(self, lab, space):
        readable, writable = os.pipe()
        try:
            p = lab.popen(f"{space.short}-tcpcrypt-ns",
                          [OUR_BINARY, "up", "--netns", space.name, "--foreground",
                           "--ready-fd", writable, "--bypass", BYPASSED, *self.options],
                          pass_fds=(writable,))
            os.close(writable)
            writable = -1
            if not select.select([readable], [], [], 10)[0] or not os.read(readable, 1):
                raise Failure(f"tcpcrypt-ns does not start in {space.name}")
        finally:
            os.close(readable)
            if writable >= 0:
                os.close(writable)
        return p

    def start(self, lab):
        setup = two_spaces(lab)
        for space in (setup.client, setup.server):
            if space.short in self.sides:
                setup.daemons = [self.up(lab, space)]
        return setup

    @staticmethod
    def status(space):
        return json.loads(run(OUR_BINARY, "status", "--netns", space.name, "--json"))

    def counters(self, setup):
        return self.status(setup.near)["counters"]

    def check(self, setup):
        n = self.counters(setup)
        wrong = n["flows_clear"] if self.is_encrypted else n["flows_encrypted"]
        if wrong or not n["flows_opened"]:
            raise Failure(f"{wrong} of {n['flows_opened']} connections were "
                          f"{'clear' if self.is_encrypted else 'encrypted'}")
        restarts = self.status(setup.near)["worker_restarts"]
        if restarts:
            raise Failure(f"the worker was restarted {restarts} times")

    def note(self, setup):
        return {"counters": {k: v for k, v in self.counters(setup).items() if v}}


class OursFresh(Ours):
    name = "tcpcrypt-ns-fresh"
    title = "tcpcrypt-ns, a key exchange for each connection"
    options = ("--no-resume",)
    only = ("connect",)

    def check(self, setup):
        super().check(setup)
        n = self.counters(setup)["flows_resumed"]
        if n:
            raise Failure(f"{n} connections were resumed")


class OursClear(Ours):
    name = "tcpcrypt-ns-clear"
    title = "tcpcrypt-ns at one end only: clear connections"
    kind = "ours-clear"
    sides = "a"
    is_encrypted = False


def make_certificate(lab):
    key, cert = lab.file("key.pem"), lab.file("cert.pem")
    run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
        "-nodes", "-keyout", key, "-out", cert, "-days", "2", "-subj", "/CN=bench")
    with open(lab.file("both.pem"), "w") as both:
        for path in (key, cert):
            with open(path) as f:
                both.write(f.read())
    return lab.file("both.pem")


class Wrapper(Peer):
    """A pair of proxies: client - 127.0.0.1 - wire - 127.0.0.1 - server."""
    services = (IPERF, RR)

    def start(self, lab):
        setup = two_spaces(lab)
        setup.host, setup.offers_udp = "127.0.0.1", False
        server = self.run_end(lab, setup.server, is_client=False)
        self.run_end(lab, setup.client, is_client=True)
        setup.daemons = [server]
        for port in self.services:
            setup.server.wait_listening(port + TUNNELLED)
            setup.client.wait_listening(port)
        return setup

    def ends(self, is_client):
        """Return: (service, where to accept, where to connect to) of each service."""
        for port in self.services:
            wire = f"{SERVER_IP}:{port + TUNNELLED}"
            local = f"127.0.0.1:{port}"
            yield port, *((local, wire) if is_client else (wire, local))

    def config(self, lab, space, text):
        path = lab.file(f"{space.short}-{self.name}.conf")
        with open(path, "w") as f:
            f.write(text)
        return path


class Stunnel(Wrapper):
    name = "stunnel"
    title = "stunnel pair, TLS 1.3 AES-128-GCM"
    kind = "encrypted"
    programs = ("stunnel4", "openssl")
    idle_cnt = 1000  # a thread for each

    def run_end(self, lab, space, is_client):
        text = ("foreground = yes\npid =\ndebug = 3\nsslVersion = TLSv1.3\n"
                "ciphersuites = TLS_AES_128_GCM_SHA256\n"
                "socket = l:TCP_NODELAY=1\nsocket = r:TCP_NODELAY=1\n")
        if is_client:
            text += "client = yes\n"
        else:
            text += f"cert = {make_certificate(lab)}\n"
        for service, accept, connect in self.ends(is_client):
            text += f"[{service}]\naccept = {accept}\nconnect = {connect}\n"
        return space.popen("stunnel4", self.config(lab, space, text))


class HaproxyPlain(Wrapper):
    name = "haproxy-plain"
    title = "haproxy pair, no encryption"
    kind = "clear"
    programs = ("haproxy",)
    idle_cnt = 5000  # what it accepts with 20,000 descriptors, and some room
    accept_words = connect_words = ""

    def run_end(self, lab, space, is_client):
        accept_words = connect_words = ""
        if self.kind == "encrypted" and is_client:
            connect_words = "ssl verify none force-tlsv13 ciphersuites TLS_AES_128_GCM_SHA256"
        elif self.kind == "encrypted":
            accept_words = (f"ssl crt {make_certificate(lab)} "
                            "force-tlsv13 ciphersuites TLS_AES_128_GCM_SHA256")
        # Two descriptors for each; it does not start when it cannot have them all.
        most = (resource.getrlimit(resource.RLIMIT_NOFILE)[1] - 200) // 2
        text = (f"global\n  maxconn {min(most, 25000)}\ndefaults\n  mode tcp\n  backlog 8192\n"
                "  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n")
        for service, accept, connect in self.ends(is_client):
            text += (f"listen s{service}\n  bind {accept} {accept_words}\n"
                     f"  server one {connect} {connect_words}\n")
        return space.popen("haproxy", "-db", "-f", self.config(lab, space, text))


class HaproxyTls(HaproxyPlain):
    name = "haproxy-tls"
    title = "haproxy pair, TLS 1.3 AES-128-GCM"
    kind = "encrypted"
    programs = ("haproxy", "openssl")


class Socat(Wrapper):
    name = "socat"
    title = "socat pair, TLS 1.2 AES-128-GCM"  # it cannot name a cipher of TLS 1.3
    kind = "encrypted"
    programs = ("socat", "openssl")
    idle_cnt = 0  # a process for each
    is_default = False

    def run_end(self, lab, space, is_client):
        tls = "openssl-max-proto-version=TLS1.2,cipher=ECDHE-ECDSA-AES128-GCM-SHA256,verify=0"
        listen = "reuseaddr,fork,nodelay,backlog=1024"
        cert = None if is_client else make_certificate(lab)
        for _, accept, connect in self.ends(is_client):
            ip, port = accept.split(":")
            if is_client:
                pair = (f"TCP4-LISTEN:{port},bind={ip},{listen}",
                        f"OPENSSL:{connect},nodelay,{tls}")
            else:
                pair = (f"OPENSSL-LISTEN:{port},bind={ip},{listen},cert={cert},{tls}",
                        f"TCP4:{connect},nodelay")
            p = space.popen("socat", "-b65536", *pair)
        return p


class Pasta(Peer):
    name = "pasta"
    title = "pasta, one process, no encryption"
    kind = "clear"
    programs = ("pasta",)
    idle_cnt = 0

    def start(self, lab):
        setup = two_spaces(lab)
        setup.client = lab.space("c")
        tune(setup.client)
        setup.daemons = [self.run_in(setup)]
        wait_for(lambda: "default" in setup.client.ip("route"), f"{self.name}'s interface")
        return setup

    @staticmethod
    def run_in(setup):
        nothing = [w for o in "tuTU" for w in (f"-{o}", "none")]
        return setup.near.popen("pasta", "--foreground", "--quiet", "--ipv4-only", "--runas", 0,
                                "--config-net", "--netns-only", "--no-map-gw", *nothing,
                                "--netns", setup.client.path)


class Slirp(Pasta):
    name = "slirp4netns"
    title = "slirp4netns, one process, no encryption"
    programs = ("slirp4netns",)

    @staticmethod
    def run_in(setup):
        return setup.near.popen("slirp4netns", "--configure", "--mtu=65520",
                                "--netns-type=path", setup.client.path, "tap0")


class WireguardGo(Peer):
    name = "wireguard-go"
    title = "wireguard-go, ChaCha20-Poly1305"
    kind = "encrypted"
    programs = ("wireguard-go", "wg")
    idle_cnt = 0  # knows no connections

    def start(self, lab):
        setup = two_spaces(lab)
        spaces = (setup.client, setup.server)
        public = [self.make_key(lab, s) for s in spaces]
        for i, (space, ip, other) in enumerate(zip(spaces, (CLIENT_IP, SERVER_IP),
                                                   (SERVER_IP, CLIENT_IP))):
            dev = f"wgb{os.getpid()}{space.short}"
            lab.files.append(f"/run/wireguard/{dev}.sock")  # for all namespaces
            setup.daemons = [space.popen("wireguard-go", "-f", dev)]
            wait_for(lambda: os.path.exists(f"/run/wireguard/{dev}.sock"), "wireguard-go")
            space.run("wg", "set", dev, "private-key", lab.file(f"{space.short}.key"),
                      "listen-port", 51820, "peer", public[1 - i],
                      "allowed-ips", "10.80.0.0/24", "endpoint", f"{other}:51820")
            space.ip("addr", "add", ip.replace("10.79.", "10.80.") + "/24", "dev", dev)
            space.ip("link", "set", dev, "mtu", "1420", "up")
        setup.host = SERVER_IP.replace("10.79.", "10.80.")
        return setup

    @staticmethod
    def make_key(lab, space):
        path = lab.file(f"{space.short}.key")
        with open(path, "w") as f:
            f.write(run("wg", "genkey"))
        with open(path) as f:
            return subprocess.run(["wg", "pubkey"], stdin=f, stdout=subprocess.PIPE, text=True,
                                  check=True, timeout=10).stdout.strip()


ALL = [Peer(), Ours(), OursFresh(), OursClear(), Stunnel(), HaproxyTls(), HaproxyPlain(), Pasta(),
       Slirp(), WireguardGo(), Socat()]
