# SPDX-License-Identifier: BSD-3-Clause
"""The units, in a systemd that runs: start, notify, watchdog, sandbox, stop."""
import contextlib
import json
import os
import re
import signal

import tap
from lab import Failure, expect, expect_eq, wait_for
from machine import Machine

HOST = "tcpcrypt-ns.service"
SPACE = "tcpcrypt-ns@web.service"
NETNS = "tcpcrypt-ns-netns@web.service"
EXPOSURE_MAX = {HOST: 2.4, SPACE: 2.4, NETNS: 6.9}  # of 10, as "systemd-analyze security" counts


@contextlib.contextmanager
def machine(lab, ns):
    with Machine(lab, ns) as m:
        m.install()
        yield m.start()


def status(ns):
    return json.loads(ns.tcns("status", "--json").stdout)


def works_encrypted(a, b, port=7000):
    """One connection from a to b, both attached. Return: its session id."""
    with b.listen(port) as listener, a.connect(b.ip4, port) as c:
        s, _ = listener.accept()
        with s:
            c.sendall(b"ping")
            expect_eq(s.recv(4), b"ping")
            mine = [x for x in a.sessions() if x["peer_port"] == port]
            expect_eq([x["state"] for x in mine], ["encrypted"])
            return mine[0]["session_id"]


def is_active(m, unit):
    return m.show(unit, "ActiveState")["ActiveState"] == "active"


def restarted(m, unit, before):
    """The unit's next main process, when it is ready."""
    def look():
        now = m.show(unit, "ActiveState", "MainPID", "NRestarts")
        return now["ActiveState"] == "active" and now["MainPID"] not in ("0", before) and now
    return wait_for(look, 20, f"{unit} started again")


def host_pid(m, pid):
    """The number here of a process that has the number pid on the machine."""
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{name}/status") as f:
                n = re.search(r"^NSpid:\t(.*)$", f.read(), re.M)[1].split()
                if n[-1] == str(pid) and len(n) > 1 and \
                        os.readlink(f"/proc/{name}/ns/pid") == os.readlink(f"/proc/{m.pid}/ns/pid"):
                    return int(name)
    raise Failure(f"no process {pid}")


def test_units_are_well_formed_and_little_exposed(lab):
    r, h = lab.star("h")
    with machine(lab, h) as m:
        got = m.run("systemd-analyze", "verify", *EXPOSURE_MAX)
        expect_eq(got.stdout + got.stderr, "", "systemd-analyze verify")
        for unit, most in EXPOSURE_MAX.items():
            out = m.run("systemd-analyze", "--no-pager", "security", unit, check=False).stdout
            score = float(re.search(r"exposure level for \S+: ([0-9.]+)", out)[1])
            expect(score <= most, f"{unit} is exposed more than before", score)


def test_host_unit(lab):
    r, h, p = lab.star("h", "p")
    p.up()
    with machine(lab, h) as m:
        m.write("/usr/local/etc/default/tcpcrypt-ns",
                'TCPCRYPT_NS_OPTIONS="--bypass none --policy require"\n')
        before = h.snapshot()
        m.systemctl("start", HOST)  # returns at READY=1: it works at once
        works_encrypted(h, p)
        shown = m.show(HOST, "StatusText", "MainPID", "CapabilityBoundingSet")
        expect_eq(shown["StatusText"], "Uplink eth0, policy require, 0 worker restarts")
        main = int(shown["MainPID"])
        expect_eq(status(h)["pid"], main)
        # What the sandbox leaves it. 12 and 13: CAP_NET_ADMIN, CAP_NET_RAW.
        with open(m.path(f"/proc/{main}/status")) as f:
            text = f.read()
        expect(int(re.search(r"CapBnd:\t(\w+)", text)[1], 16) & ~(1 << 12 | 1 << 13) == 0, text)
        expect("NoNewPrivs:\t1" in text and "Seccomp:\t2" in text, text)
        expect_eq(os.listdir(m.path(f"/proc/{main}/root/dev/net")), ["tun"])

        m.systemctl("stop", HOST)
        expect_eq(h.snapshot(), before, "after stop")
        expect_eq(m.show(HOST, "Result")["Result"], "success")


def test_namespace_units_and_their_death(lab):
    r, h, w, p = lab.star("h", "w", "p")
    p.up()
    with machine(lab, h) as m:
        m.adopt(w, "web")
        m.adopt(p, "gone")
        m.write("/usr/local/etc/default/tcpcrypt-ns", 'TCPCRYPT_NS_OPTIONS="--bypass none"\n')
        before = w.snapshot()
        m.systemctl("start", SPACE, HOST)
        works_encrypted(w, p)
        works_encrypted(h, w)
        # One ends: the other's socket under /run stays.
        m.systemctl("stop", HOST)
        door = f"/run/tcpcrypt-ns/{os.stat(w.path).st_ino}.sock"
        expect_eq(os.listdir(m.path("/run/tcpcrypt-ns")), [os.path.basename(door)])
        expect_eq(m.run("tcpcrypt-ns", "status", "--netns", "web", "--json").returncode, 0)

        # Killed: closed, and open again with the next.
        main = m.show(SPACE, "MainPID")["MainPID"]
        m.systemctl("kill", "--kill-who=all", "-s", "KILL", SPACE)
        expect("unreachable default" in w.ip("route", "show", "table", "8548"),
               "closed as long as nobody is there")
        now = restarted(m, SPACE, main)
        expect_eq(now["NRestarts"], "1")
        works_encrypted(w, p)
        m.systemctl("stop", SPACE)
        expect_eq(w.snapshot(), before, "after stop")
        # There is a daemon already: it says so, and systemd does not count it as running.
        expect(m.systemctl("start", "tcpcrypt-ns@gone.service", check=False).returncode != 0)
        expect("already attached" in m.journal("-u", "tcpcrypt-ns@gone.service"),
               "the journal says why", m.journal())
        m.systemctl("stop", "tcpcrypt-ns@gone.service")
        expect_eq(m.systemctl("start", "tcpcrypt-ns@none.service", check=False).returncode, 1)


def test_stop_lets_connections_end(lab):
    r, h, p = lab.star("h", "p")
    p.up()
    with machine(lab, h) as m:
        m.systemctl("start", HOST)
        with p.listen(7000) as listener, h.connect(p.ip4, 7000) as c:
            s, _ = listener.accept()
            with s:
                c.sendall(b"before")
                expect_eq(s.recv(100), b"before")
                m.systemctl("stop", "--no-block", HOST)
                wait_for(lambda: m.show(HOST, "StatusText")["StatusText"] == "Draining", 5)
                c.sendall(b"after")
                expect_eq(s.recv(100), b"after")
                expect_eq(m.show(HOST, "ActiveState")["ActiveState"], "deactivating")
        wait_for(lambda: m.show(HOST, "ActiveState", "Result") ==
                 {"ActiveState": "inactive", "Result": "success"}, 10, "stopped")


def test_reload_follows_the_configuration(lab):
    r, h, p = lab.star("h", "p")
    p.up()
    conf = "/etc/tcpcrypt-ns/tcpcrypt-ns.conf"
    with machine(lab, h) as m:
        m.write(conf, "[daemon]\npolicy = prefer\n")
        m.systemctl("start", HOST)
        before = m.show(HOST, "MainPID", "StatusText")
        expect("policy prefer" in before["StatusText"], before)
        with p.listen(7000) as listener, h.connect(p.ip4, 7000) as c:
            s, _ = listener.accept()
            with s:
                m.write(conf, "[daemon]\npolicy = require\n")
                m.systemctl("reload", HOST)
                wait_for(lambda: "policy require" in m.show(HOST, "StatusText")["StatusText"], 5,
                         "the new policy")
                expect_eq(status(h)["policy"], "require")
                c.sendall(b"still")
                expect_eq(s.recv(100), b"still")
        m.write(conf, "[daemon]\npolicy = nonsense\n")
        m.systemctl("reload", HOST, check=False)
        wait_for(lambda: "nonsense" in m.journal("-u", HOST), 5, "the journal says what is wrong")
        now = m.show(HOST, "ActiveState", "MainPID")
        expect_eq((now["ActiveState"], now["MainPID"]), ("active", before["MainPID"]))
        expect_eq(status(h)["policy"], "require")


def test_watchdog_hears_the_worker_not_the_supervisor(lab):
    r, h, p = lab.star("h", "p")
    with machine(lab, h) as m:
        m.write(f"/etc/systemd/system/{HOST}.d/test.conf",
                "[Service]\nWatchdogSec=6\nRestartSec=0\nTimeoutAbortSec=1\n")
        m.systemctl("daemon-reload")
        m.systemctl("start", HOST)
        first = m.show(HOST, "MainPID", "WatchdogTimestampMonotonic")
        # It is told again and again.
        wait_for(lambda: m.show(HOST, "WatchdogTimestampMonotonic")["WatchdogTimestampMonotonic"]
                 != first["WatchdogTimestampMonotonic"], 8, "WATCHDOG=1")
        expect(is_active(m, HOST))
        # A worker that does not turn its loop: the supervisor, which lives, keeps silent.
        os.kill(host_pid(m, status(h)["worker_pid"]), signal.SIGSTOP)
        restarted(m, HOST, first["MainPID"])
        expect("watchdog" in m.journal().lower(), "systemd saw it", m.journal())
        expect_eq(status(h)["worker_restarts"], 0)
        m.systemctl("stop", HOST)


if __name__ == "__main__":
    tap.main()
