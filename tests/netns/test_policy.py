# SPDX-License-Identifier: BSD-3-Clause
"""Policy rules on real connections: which rule decides, and what then happens."""
import contextlib
import errno
import json
import os
import select
import signal
import socket
import threading

import tap
from lab import Failure, binary, expect, expect_eq, wait_for


@contextlib.contextmanager
def talk(client, server, port, addr=None):
    """A connection that has carried a byte each way: client's socket, server's socket."""
    addr = addr or server.ip4
    with server.listen(port, "::" if ":" in addr else None) as listener, \
            client.connect(addr, port) as c:
        s, _ = listener.accept()
        with s:
            s.settimeout(10)
            for x, y in ((c, s), (s, c)):
                x.sendall(b"x")
                expect_eq(y.recv(1), b"x")
            yield c, s


def session_at(ns, port):
    """The one live session of ns with that port at either end."""
    found = [s for s in ns.sessions() if port in (s["local_port"], s["peer_port"])]
    expect_eq(len(found), 1, f"sessions with port {port}")
    return found[0]


def seen(client, server, port, addr=None, at=None):
    """Return: reason, rule and the rule's name of a connection, as the client's daemon tells them."""
    with talk(client, server, port, addr):
        s = session_at(at or client, port)
        return s["reason"], s["rule"], s.get("rule_name")


def refused(client, server, port, addr=None):
    with server.listen(port, "::" if addr and ":" in addr else None):
        try:
            client.connect(addr or server.ip4, port).close()
        except OSError as e:
            return e.errno == errno.ECONNREFUSED
        return False


def rules(*texts):
    return sum((["--rule", t] for t in texts), [])


def test_first_match_by_prefix_port_and_direction(lab):
    _, a, b, c = lab.star("a", "b", "c")
    a.up(*rules(f"off name=plain peer={b.ip4} port=7001",
                f"require peer={b.ip4},{b.ip6}",
                "off in port=7005-7006 name=in",
                f"off peer={c.ip4[:-1]}0/24",
                "off peer=fd77:3::/64"))
    b.up()
    c.up()
    expect_eq(seen(a, b, 7001), ("rule-off", 1, "plain"))
    expect_eq(seen(a, b, 7002), ("full", 2, None))
    expect_eq(seen(a, b, 7003, b.ip6), ("full", 2, None))
    expect_eq(seen(a, c, 7004), ("rule-off", 4, None))
    expect_eq(seen(a, c, 7005), ("rule-off", 4, None), "out, so not rule 3")
    expect_eq(seen(c, a, 7005, at=a), ("rule-off", 3, "in"))
    expect_eq(seen(a, c, 7007, c.ip6), ("rule-off", 5, None))
    expect_eq(seen(c, a, 7008, a.ip6, at=a), ("rule-off", 5, None))
    reason, rule, name = seen(b, a, 7009, at=b)
    expect(reason in ("full", "resumed"), "b has no rules", reason)
    expect_eq((rule, name), (0, None))


def test_require_by_rule(lab):
    _, a, b = lab.star("a", "b")
    a.up(*rules("require name=db out peer-port=7001", "require in local-port=7002"))
    for addr in (b.ip4, b.ip6):
        expect(refused(a, b, 7001, addr), "b has no tcpcrypt")
        expect_eq(seen(a, b, 7003, addr), ("peer-no-eno", 0, None))
    last = [s for s in a.sessions_ended() if s["peer_port"] == 7001][-1]
    expect_eq((last["reason"], last["rule"], last["rule_name"], last["end"]),
              ("require-refused", 1, "db", "refused"))
    for addr in (a.ip4, a.ip6):
        expect(refused(b, a, 7002, addr), "in, and b has no tcpcrypt")
    b.up()
    expect_eq(seen(a, b, 7001), ("full", 1, "db"))
    expect_eq(seen(b, a, 7002, at=a)[1:], (2, None))


def test_exception_from_require(lab):
    """The default may be strict and rules lenient."""
    _, a, b = lab.star("a", "b")
    a.up("--policy", "require", *rules("prefer port=7001", "off port=7002"))
    expect_eq(seen(a, b, 7001), ("peer-no-eno", 1, None))
    expect_eq(seen(a, b, 7002), ("rule-off", 2, None))
    expect(refused(a, b, 7003))


def test_suites_by_rule_and_role(lab):
    _, a, b = lab.star("a", "b")
    a.up("--aead", "AES-128-GCM", "--aead-b", "AES-256-GCM",
         *rules("prefer port=7001 aead=ChaCha20-Poly1305 tep=P-256",
                "prefer port=7002 aead-b=ChaCha20-Poly1305 tep-a=P-521 no-resume rekey-bytes=1000"))
    b.up()

    def suite(client, server, port):
        with talk(client, server, port):
            s = session_at(a, port)
            return s["role"], s["tep"].split("_")[-1], s["aead"]

    expect_eq(suite(a, b, 7000), ("a", "Curve25519", "AEAD_AES_128_GCM"))
    expect_eq(suite(b, a, 7000), ("b", "Curve25519", "AEAD_AES_256_GCM"))
    expect_eq(suite(a, b, 7001), ("a", "P256", "AEAD_CHACHA20_POLY1305"))
    expect_eq(suite(b, a, 7001), ("b", "P256", "AEAD_CHACHA20_POLY1305"))
    expect_eq(suite(a, b, 7002), ("a", "P521", "AEAD_AES_128_GCM"))
    expect_eq(suite(b, a, 7002), ("b", "Curve25519", "AEAD_CHACHA20_POLY1305"))
    with talk(a, b, 7002) as (c, s):
        c.sendall(b"x" * 20000)
        left = 20000
        while left:
            left -= len(s.recv(left))
        now = session_at(a, 7002)
        expect_eq(now["reason"], "full", "never resumed")
        expect(now["tx_generation"] >= 1, "rekeys after 1,000 bytes", now)


def native(client, server, port, addr=None):
    """A connection works, and the client's daemon has nothing to do with it. Return: its entry."""
    before = client.counters()["flows_opened"]
    with talk(client, server, port, addr):
        entry, = [s for s in json.loads(client.tcns("sessions", "--all", "--json").stdout)
                  ["sessions"] if port in (s["local_port"], s["peer_port"])]
        expect_eq(entry["state"], "bypassed")
    expect_eq(client.counters()["flows_opened"], before)
    return entry["reason"], entry.get("rule"), entry.get("rule_name")


def test_bypass_by_prefix(lab):
    _, a, b, c = lab.star("a", "b", "c")
    clean = a.snapshot()
    a.up(*rules(f"bypass name=c peer={c.ip4[:-1]}0/24,{c.ip6}",
                f"bypass peer={b.ip4} port=7001,7003-7004",
                f"bypass local={a.ip6} local-port=7005",
                "require"))
    b.up()
    expect_eq(native(a, c, 7000), ("bypass-rule", 1, "c"))
    expect_eq(native(a, c, 7000, c.ip6), ("bypass-rule", 1, "c"))
    expect_eq(native(a, b, 7004), ("bypass-rule", 2, None))
    expect_eq(seen(a, b, 7002), ("full", 4, None))
    expect_eq(seen(a, b, 7001, b.ip6)[1:], (4, None), "the other family")
    expect_eq(seen(b, a, 7000, at=a)[1:], (4, None))
    # in: the listener is the kernel's; b has no ENO answer then
    with talk(c, a, 7000):
        expect_eq(a.sessions(), [])
    with talk(b, a, 7003):
        expect_eq([s["reason"] for s in b.sessions()], ["peer-no-eno"])
        expect_eq(a.sessions(), [])
    with talk(b, a, 7005, a.ip6):
        expect_eq((b.sessions()[0]["reason"], a.sessions()), ("peer-no-eno", []))
    expect_eq(seen(b, a, 7005, at=a)[1:], (4, None), "only that address")
    a.down()
    expect_eq(a.snapshot(), clean)


def test_require_is_not_bypassed_by_the_source_port(lab):
    _, a, b = lab.star("a", "b")
    a.up("--policy", "require", *rules(f"bypass peer={b.ip4} port=7001,7003"))
    expect_eq(native(a, b, 7001), ("bypass-rule", 1, None))
    with a.listen(7002), b.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind((b.ip4, 7003))
        s.settimeout(1.5)
        try:
            s.connect((a.ip4, 7002))
        except OSError:
            return
        raise Failure("a peer reached another port in clear")


def test_bypass_of_a_dead_daemon(lab):
    """The next up knows from the kernel's rules which sockets were not the dead one's."""
    _, a, b, c = lab.star("a", "b", "c")
    b.up()
    conf = ("--rule", f"bypass peer={c.ip4}", "--rule", "bypass peer-port=7007")
    a.up(*conf)
    with talk(a, c, 7000) as by_prefix, talk(a, b, 7007) as by_port, talk(a, b, 7001) as ours, \
            talk(b, a, 7008) as inward:
        status = json.loads(a.tcns("status", "--json").stdout)
        os.kill(status["pid"], signal.SIGKILL)
        wait_for(lambda: "tcpcrypt0" not in a.ip("link"))
        a.up(*conf)
        for pair in (by_prefix, by_port):
            check_flow(*pair)
        for s, _ in (ours, (inward[1], 0)):
            s.settimeout(5)
            try:
                expect_eq(s.recv(1), b"an error")
            except OSError as e:
                expect(e.errno in (errno.ECONNABORTED, errno.ECONNRESET), "reset", e)


def test_wrong_rules(lab):
    _, a = lab.star("a")
    for text, words in (("off peer=10.0.0.1/8", "has bits set behind its length"),
                        ("maybe", "is none of prefer, require, off"),
                        ("off colour=red", "is no key of a rule; there are action,")):
        r = a.up("--rule", text, check=False)
        expect_eq(r.returncode, 2)
        expect(words in r.stderr, "says what is wrong", r.stderr)
    r = a.up(*rules("off name=x", "off name=x"), check=False)
    expect_eq((r.returncode, "same name" in r.stderr), (2, True), r.stderr)
    expect("tcpcrypt0" not in a.snapshot()["link"], "it did not attach")


EVERY_KEY = """[daemon]
log = {log}
verbose = 2
policy = require
bypass = none
tep-a = P-256
aead = AES-256-GCM
keepalive = 100
fallback-time = 10
rule = off out port=7001

[rule lax]
action = prefer
peer = {b},
       {b6}
port = 7002
"""


def test_configuration_file(lab):
    _, a, b = lab.star("a", "b")
    b.up("--aead", "AES-256-GCM")
    conf = lab.file("a.conf")
    with open(conf, "w") as f:
        f.write(EVERY_KEY.format(log=lab.file("a.log"), b=b.ip4, b6=b.ip6))
    a.tcns("up", "--config", conf)
    s = json.loads(a.tcns("status", "--json").stdout)
    expect_eq((s["policy"], s["bypass"], s["aeads"], s["keepalive"], s["fallback_time"]),
              ("require", "none", ["AES-256-GCM"], 100, 10))
    expect("attached" in open(lab.file("a.log")).read(), "verbose, to the log")
    expect_eq(seen(a, b, 7001), ("rule-off", 1, None))
    expect_eq(seen(a, b, 7000), ("full", 0, None))
    b.down()
    expect_eq(seen(a, b, 7002), ("peer-no-eno", 2, "lax"))
    expect_eq(seen(a, b, 7002, b.ip6), ("peer-no-eno", 2, "lax"))
    expect(refused(a, b, 7000))
    a.down()
    # the command line wins, rules and all
    a.tcns("up", "--config", conf, "--policy", "prefer", "--rule", "require port=7002 name=mine")
    expect_eq(seen(a, b, 7000), ("peer-no-eno", 0, None))
    expect(refused(a, b, 7002))
    expect_eq(a.sessions_ended()[-1]["rule_name"], "mine")


def test_exec_reads_it(lab):
    _, a, b = lab.star("a", "b")
    b.up()
    conf = lab.file("a.conf")
    with open(conf, "w") as f:
        f.write("[daemon]\nnetns = self\n[rule plain]\naction = off\nport = 7001\n")
    with b.listen(7001) as listener:
        p = a.popen(binary(), "exec", "--config", conf, "--", "bash", "-c",
                    f"exec 3<>/dev/tcp/{b.ip4}/7001; read -u 3; {binary()} sessions --json")
        s, _ = listener.accept()
        with s:
            s.sendall(b"go\n")
        expect_eq(p.wait(20), 0, p.err())
    found = json.loads(p.out())["sessions"]
    expect_eq([(x["reason"], x["rule_name"]) for x in found], [("rule-off", "plain")])


def test_wrong_configuration(lab):
    _, a = lab.star("a")
    conf = lab.file("a.conf")
    for text, words in (("[daemon]\ncolour = red\n", f"{conf}:2: \"colour\" is no key; there are"),
                        ("[daemon]\npolicy = maybe\n", f"{conf}:2: policy: \"maybe\" is none of"),
                        ("[rule x]\naction = off\npeer = 10.0.0.1/8\n", f"{conf}:3: peer:"),
                        ("[daemon]\npolicy = off\n\npolicy = off\n", f"{conf}:4: policy comes twice"),
                        ("policy = off\n", f"{conf}:1: ")):
        with open(conf, "w") as f:
            f.write(text)
        r = a.tcns("up", "--config", conf, check=False)
        expect_eq((r.returncode, words in r.stderr), (2, True), r.stderr)
        r = a.run(binary(), "exec", "--config", conf, "--", "true", check=False)
        expect_eq((r.returncode, words in r.stderr), (125, True), r.stderr)
    r = a.tcns("up", "--config", lab.file("none"), check=False)
    expect_eq((r.returncode, "cannot read" in r.stderr), (2, True), r.stderr)
    expect("tcpcrypt0" not in a.snapshot()["link"], "it did not attach")


def policy_of(ns):
    return json.loads(ns.tcns("policy", "--json").stdout)


def write(path, text):
    with open(path, "w") as f:
        f.write(text)


def check_flow(client, server):
    """Both ends of a connection still carry bytes."""
    for x, y in ((client, server), (server, client)):
        x.sendall(b"still")
        expect_eq(y.recv(5), b"still")


def test_set_policy(lab):
    _, a, b, c = lab.star("a", "b", "c")
    a.up(*rules("off name=first port=7001"))
    b.up()
    with talk(a, b, 7000) as encrypted, talk(a, c, 7002) as clear, talk(a, b, 7001) as off:
        a.tcns("policy", "--policy", "require", "--rule", "off port=7003", "--rule", "prefer in")
        p = policy_of(a)
        expect_eq((p["policy"], [r["text"] for r in p["rules"]], p["otherwise"]["text"]),
                  ("require", ["off port=7003", "prefer in"], "require"))
        expect_eq(seen(a, b, 7003), ("rule-off", 1, None))
        expect_eq(seen(c, a, 7004, at=a), ("peer-no-eno", 2, None))
        expect(refused(a, c, 7006))
        for pair in (encrypted, clear, off):
            check_flow(*pair)
        expect_eq(session_at(a, 7001)["rule_name"], "first", "as it was")
        p = policy_of(a)
        expect_eq([r["matched"] for r in p["rules"]] + [p["otherwise"]["matched"]], [1, 1, 1])
        # parts of it
        a.tcns("policy", "--no-rules")
        expect_eq((policy_of(a)["policy"], policy_of(a)["rules"]), ("require", []))
        a.tcns("policy", "--rule", "off in name=x")
        a.tcns("policy", "--policy", "prefer")
        expect_eq((policy_of(a)["policy"], policy_of(a)["rules"][0]["text"]),
                  ("prefer", "off in name=x"))
        expect_eq(json.loads(a.tcns("status", "--json").stdout)["policy"], "prefer")
        for pair in (encrypted, clear, off):
            check_flow(*pair)
        shown = a.tcns("policy").stdout.splitlines()
        expect_eq([line.split() for line in shown],
                  [["#", "MATCHED", "RULE"], ["1", "0", "off", "in", "name=x"],
                   ["else", "0", "prefer"]])
    # the next worker has it, too
    worker = json.loads(a.tcns("status", "--json").stdout)["worker_pid"]
    os.kill(worker, signal.SIGKILL)
    wait_for(lambda: a.tcns("status", "--wait", "5", check=False).returncode == 0)
    expect_eq(policy_of(a)["rules"][0]["text"], "off in name=x")
    expect_eq(seen(b, a, 7005, at=a), ("rule-off", 1, "x"))


def test_set_policy_wrong(lab):
    _, a = lab.star("a")
    a.up(*rules("off name=keep"))
    for args, code, words in ((("--rule", "maybe"), 2, "none of prefer, require, off"),
                              (("--policy", "bypass"), 2, "none of prefer, require, off"),
                              (("--rule", "off name=x", "--rule", "off name=x"), 1, "same name")):
        r = a.tcns("policy", *args, check=False)
        expect_eq((r.returncode, words in r.stderr), (code, True), r.stderr)
    expect_eq([x["text"] for x in policy_of(a)["rules"]], ["off name=keep"])
    r = a.tcns("reload", check=False)
    expect_eq((r.returncode, "started without a configuration file" in r.stderr), (1, True),
              r.stderr)
    a.down()
    expect_eq(a.tcns("reload", check=False).returncode, 3)
    expect_eq(a.tcns("policy", check=False).returncode, 3)


def test_who_may_change(lab):
    """Reading is everybody's; by the abstract name and by --ctl only the privileged change."""
    _, a = lab.star("a")
    conf = lab.file("a.conf")
    door = lab.file("door")
    write(conf, "[daemon]\n")
    a.tcns("up", "--config", conf, "--ctl", door, "--log", a.log_path())
    os.chmod(lab.dir, 0o755)
    os.chmod(door, 0o777)
    nobody = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups",
              "--bounding-set", "-all", "--inh-caps", "-all", binary())
    for where in ((), ("--ctl", door)):
        expect_eq(a.run(*nobody, "policy", *where).returncode, 0, "reading")
        for call in (("policy", "--policy", "off"), ("policy", "--no-rules"), ("reload",)):
            r = a.run(*nobody, *call, *where, check=False)
            expect_eq(r.returncode, 4, f"{call} {where}: {r.stderr}")
    expect_eq(policy_of(a)["policy"], "prefer")
    a.run(binary(), "policy", "--policy", "off")  # CAP_NET_ADMIN, by the abstract name
    expect_eq(policy_of(a)["policy"], "off")
    a.tcns("reload")  # by the path
    expect_eq(policy_of(a)["policy"], "prefer")


def test_reload(lab):
    _, a, b, c = lab.star("a", "b", "c")
    b.up()
    conf = lab.file("a.conf")
    write(conf, "[daemon]\nbypass = none\nlog = /dev/null\n[rule one]\naction = off\nport = 7001\n")
    a.tcns("up", "--config", conf, "--log", a.log_path(), "-v", "--rule", "prefer port=7009 name=flag")
    with talk(a, b, 7000) as encrypted, talk(a, c, 7002) as clear:
        write(conf, "[daemon]\nbypass = none\npolicy = require\nuplink = eth0\n"
                    "[rule two]\naction = off\nport = 7003\n")
        a.tcns("reload")
        p = policy_of(a)
        expect_eq((p["policy"], [r.get("name") for r in p["rules"]], p["config"]),
                  ("require", ["flag", "two"], conf), "the command line's rule stays first")
        expect("uplink is read at the start only" in open(a.log_path()).read())
        expect_eq(seen(a, b, 7003), ("rule-off", 2, "two"))
        expect(refused(a, c, 7004))
        for text, words in (("[daemon]\npolicy = maybe\n", f"{conf}:2: policy:"),
                            ("[daemon]\ncolour = red\n", f"{conf}:2: \"colour\""),
                            ("nonsense\n", f"{conf}:1: "),
                            ("[rule x]\naction = off\n[rule x]\naction = off\n", "same name")):
            write(conf, text)
            r = a.tcns("reload", check=False)
            expect_eq((r.returncode, words in r.stderr), (1, True), r.stderr)
            expect(words in open(a.log_path()).read(), "and in the log")
        os.unlink(conf)
        r = a.tcns("reload", check=False)
        expect_eq((r.returncode, "cannot read" in r.stderr), (1, True), r.stderr)
        expect_eq(policy_of(a)["policy"], "require", "all is as it was")
        for pair in (encrypted, clear):
            check_flow(*pair)
        # SIGHUP
        write(conf, "[daemon]\nbypass = none\npolicy = off\n")
        supervisor = json.loads(a.tcns("status", "--json").stdout)["pid"]
        os.kill(supervisor, signal.SIGHUP)
        wait_for(lambda: policy_of(a)["policy"] == "off")
        write(conf, "[daemon]\npolicy = nonsense\n")
        os.kill(supervisor, signal.SIGHUP)
        wait_for(lambda: "\"nonsense\" is none of" in open(a.log_path()).read())
        expect_eq(policy_of(a)["policy"], "off")
        for pair in (encrypted, clear):
            check_flow(*pair)
        expect_eq(json.loads(a.tcns("status", "--json").stdout)["worker_restarts"], 0)


def test_reload_under_load(lab):
    """Connections open, carry bytes and end while the policy changes all the time."""
    _, a, b = lab.star("a", "b")
    b.up()
    conf = lab.file("a.conf")
    write(conf, "[daemon]\nbypass = none\n")
    a.tcns("up", "--config", conf, "--log", a.log_path())
    data = os.urandom(1 << 20)
    failed, done = [], []
    stop, served = threading.Event(), threading.Event()

    def serve(listener):
        while not served.is_set():
            with contextlib.suppress(TimeoutError):
                s, _ = listener.accept()
                with s:
                    s.settimeout(20)
                    while part := s.recv(65536):
                        s.sendall(part)

    def client():
        while not stop.is_set():
            try:
                with a.connect(b.ip4, 7000) as c:
                    got = bytearray()
                    sender = threading.Thread(target=c.sendall, args=(data,))
                    sender.start()
                    while len(got) < len(data):
                        got += c.recv(65536) or failed.append("end of file")
                    sender.join()
                    if bytes(got) != data:
                        failed.append("other bytes")
                    done.append(1)
            except (OSError, TypeError) as e:
                failed.append(repr(e))
                return

    listener = b.listen(7000)
    listener.settimeout(0.2)
    servers = [threading.Thread(target=serve, args=(listener,)) for _ in range(2)]
    clients = [threading.Thread(target=client) for _ in range(2)]
    for t in servers + clients:
        t.start()
    try:
        for i in range(30):
            write(conf, f"[daemon]\nbypass = none\n[rule r{i}]\n"
                        f"action = {('off', 'require', 'prefer')[i % 3]}\n")
            a.tcns("reload")
    finally:
        wait_for(lambda: len(done) >= 4 or failed, 20)
        stop.set()
        for t in clients:
            t.join()
        served.set()
        for t in servers:
            t.join()
        listener.close()
    expect_eq(failed, [])
    expect_eq(policy_of(a)["rules"][0]["name"], "r29")


def test_reload_of_bypass(lab):
    """What was the kernel's goes on through the tunnel, untouched; what is the tunnel's must end
    before it can be bypassed."""
    _, a, b, c = lab.star("a", "b", "c")
    b.up()
    conf = lab.file("a.conf")
    head = "[daemon]\nlog = /dev/null\n"
    bypassing = head + (f"bypass = 7010\n[rule c]\naction = bypass\npeer = {c.ip4}, {c.ip6}\n")
    write(conf, bypassing)
    a.tcns("up", "--config", conf, "--log", a.log_path(), "-v")
    with talk(a, c, 7000) as four, talk(a, c, 7001, c.ip6) as six, talk(c, a, 7002) as inward, \
            talk(a, b, 7010) as by_port, talk(a, b, 7003) as ours:
        kernels = (four, six, inward, by_port)
        write(conf, head + "bypass = none\n")
        a.tcns("reload")
        for pair in (*kernels, ours):
            check_flow(*pair)
        expect_eq(sorted(s["reason"] for s in a.sessions()), ["full"] + 4 * ["older"])
        expect_eq(seen(a, c, 7004)[0], "peer-no-eno", "new ones come to the tunnel")
        expect(seen(a, b, 7011)[0] in ("full", "resumed"))
        # back: refused while there are some
        write(conf, bypassing + "[rule late]\naction = off\n")
        r = a.tcns("reload", check=False)
        expect_eq((r.returncode, "would be bypassed, and go on in clear" in r.stderr), (1, True),
                  r.stderr)
        expect_eq(policy_of(a)["rules"], [], "all is as it was")
        for pair in (*kernels, ours):
            check_flow(*pair)
    wait_for(lambda: a.tcns("reload", check=False).returncode == 0, 10, "they have ended")
    with talk(a, b, 7003) as ours:
        expect_eq(native(a, c, 7020), ("bypass-rule", 1, "c"))
        expect_eq(native(a, c, 7021, c.ip6), ("bypass-rule", 1, "c"))
        with talk(a, b, 7010):
            expect("full" not in [s["reason"] for s in a.sessions() if s["peer_port"] == 7010])
        check_flow(*ours)
    # by SetPolicy, too
    a.tcns("policy", "--rule", f"bypass peer={b.ip4} port=7030")
    expect_eq(native(a, b, 7030), ("bypass-rule", 1, None))
    a.down()
    expect("tcpcrypt" not in a.run("nft", "list", "ruleset").stdout)


def test_bypass_goes_and_comes_under_load(lab):
    """Connections of the kernel go on while it stops being theirs."""
    _, a, b = lab.star("a", "b")
    conf = lab.file("a.conf")
    write(conf, "[daemon]\nbypass = 7000\n")
    a.tcns("up", "--config", conf, "--log", a.log_path())
    data = os.urandom(4 << 20)
    with talk(a, b, 7000) as (c, s):
        got, sent = bytearray(), threading.Thread(target=lambda: [c.sendall(data) for _ in range(4)])
        sent.start()
        for i in range(4):
            while len(got) < (i + 1) * len(data):
                got += s.recv(65536)
            if i == 0:
                write(conf, "[daemon]\nbypass = none\n")
                a.tcns("reload")
        sent.join()
        expect(bytes(got) == 4 * data, "every byte, in order")
        expect_eq(session_at(a, 7000)["reason"], "older")


def asks(client, server, port, addr=None, wait=5):
    """A datagram and its answer. Return: "answered", "refused", or "silent"."""
    addr = addr or server.ip4
    family = socket.AF_INET6 if ":" in addr else socket.AF_INET
    with server.socket(family, socket.SOCK_DGRAM) as s, \
            client.socket(family, socket.SOCK_DGRAM) as c:
        s.bind((addr, port))
        c.settimeout(min(wait, 1))
        try:
            c.connect((addr, port))
            c.send(b"question")
            if s in select.select([s, c], [], [], wait)[0]:
                s.sendto(*s.recvfrom(100))
            return "answered" if c.recv(100) == b"question" else "garbled"
        except TimeoutError:
            return "silent"
        except OSError as e:
            expect(e.errno in (errno.EPERM, errno.ECONNREFUSED, errno.EHOSTUNREACH), "refused", e)
            return "refused"


def test_require_and_udp(lab):
    _, a, b = lab.star("a", "b")
    clean = a.snapshot()
    b.up()
    conf = lab.file("a.conf")
    head = "[daemon]\nbypass = none\nlog = /dev/null\n"
    write(conf, head + "policy = require\n")
    a.tcns("up", "--config", conf, "--log", a.log_path())
    for addr in (b.ip4, b.ip6):
        expect_eq(asks(a, b, 7000, addr), "answered", "allowed by default")
    write(conf, head + f"policy = require\nrequire-udp = reject\nrequire-udp-dns = {b.ip4}, {b.ip6}\n")
    a.tcns("reload")
    for addr in (b.ip4, b.ip6):
        expect_eq(asks(a, b, 7000, addr), "refused")
        expect_eq(asks(a, b, 53, addr), "answered", "the resolver")
        own = a.ip6 if ":" in addr else a.ip4
        expect_eq(asks(b, a, 7001, own), "refused", "in")
        expect_eq(asks(a, a, 7002, own), "answered", "its own")
    expect_eq(seen(a, b, 7003)[0], "full", "TCP as ever")
    expect_eq(json.loads(a.tcns("status", "--json").stdout)["require_udp"], "reject")
    # what somebody flushes comes back; a new worker changes nothing
    a.nft("delete table inet tcpcrypt-ns")
    wait_for(lambda: asks(a, b, 7000, wait=0.2) == "refused")
    os.kill(json.loads(a.tcns("status", "--json").stdout)["worker_pid"], signal.SIGKILL)
    expect_eq(asks(a, b, 7000), "refused")
    a.tcns("status", "--wait", "10")
    write(conf, head + "policy = require\nrequire-udp = drop\n")
    a.tcns("reload")
    expect_eq(asks(a, b, 53, wait=0.3) in ("silent", "refused"), True, "no exception")
    expect_eq(asks(b, a, 7001, wait=0.3), "silent")
    # only require has that effect
    a.tcns("policy", "--policy", "prefer")
    expect_eq(asks(a, b, 7000), "answered")
    a.tcns("policy", "--policy", "require")
    expect_eq(asks(b, a, 7001, wait=0.3), "silent")
    a.down()
    expect_eq(a.snapshot(), clean)
    expect_eq(asks(a, b, 7000), "answered")
    for args in (("--require-udp", "maybe"), ("--require-udp-dns", "example.org")):
        expect_eq(a.up(*args, check=False).returncode, 2)


if __name__ == "__main__":
    tap.main()
