# SPDX-License-Identifier: BSD-3-Clause
"""A worker that hangs: it is replaced, and does not hold down up."""
import json
import os
import signal
import time

import tap
from lab import expect, expect_eq, wait_for


def status(ns, check=True):
    r = ns.tcns("status", "--json", check=check)
    return json.loads(r.stdout) if r.returncode == 0 else {}


def switches(pid):
    """Return: how often the process has gone to sleep by itself."""
    with open(f"/proc/{pid}/status") as f:
        for line in f:
            if line.startswith("voluntary_ctxt_switches:"):
                return int(line.split()[1])
    return 0


def works(a, b, port):
    with b.listen(port) as listener, a.connect(b.ip4, port) as c:
        s, _ = listener.accept()
        with s:
            c.sendall(b"x")
            expect_eq(s.recv(1), b"x")


def is_gone(pid):
    try:
        os.kill(pid, 0)
        return False
    except ProcessLookupError:
        return True


@tap.timeout(60)
def test_hanging_worker_is_replaced(lab):
    _, a, b = lab.star("a", "b")
    a.up()
    b.up()
    old = status(a)
    time.sleep(3)  # not at its birth only
    start = time.monotonic()
    os.kill(old["worker_pid"], signal.SIGSTOP)
    wait_for(lambda: is_gone(old["worker_pid"]), 16, "it is killed", 0.05)
    took = time.monotonic() - start
    expect(7 < took < 14, "after ten seconds, more or less", took)
    new = wait_for(lambda: status(a, False), 5, "a new one answers")
    expect_eq((new["pid"], new["worker_restarts"]), (old["pid"], 1))
    works(a, b, 80)
    with open(a.log_path()) as f:
        expect("the worker hangs" in f.read(), "and the log says why")


@tap.timeout(60)
def test_short_stop_is_forgiven(lab):
    _, a, b = lab.star("a", "b")
    a.up()
    b.up()
    old = status(a)["worker_pid"]
    os.kill(old, signal.SIGSTOP)
    time.sleep(5)
    os.kill(old, signal.SIGCONT)
    time.sleep(6)
    expect_eq(status(a)["worker_pid"], old, "the same one")
    works(a, b, 80)


def test_nothing_is_lost_while_the_worker_is_late(lab):
    """Between the application and us there is no network to lose packets in."""
    _, a, b = lab.star("a", "b")
    a.up()
    worker = status(a)["worker_pid"]
    with b.listen(80) as listener:
        listener.listen(1024)
        os.kill(worker, signal.SIGSTOP)
        socks = []
        for _ in range(800):
            s = a.socket()
            s.setblocking(False)
            s.connect_ex((b.ip4, 80))
            socks.append(s)
        os.kill(worker, signal.SIGCONT)
        for _ in socks:
            listener.accept()[0].close()
        link = json.loads(a.run("ip", "-s", "-j", "link", "show", "tcpcrypt0").stdout)[0]
        for s in socks:
            s.close()
    expect_eq(link["stats64"]["tx"]["dropped"], 0, "packets that the device dropped")


@tap.timeout(60)
def test_all_stopped_and_woken(lab):
    """A frozen container: supervisor and worker sleep together, for longer than a hang."""
    _, a = lab.star("a")
    a.up()
    s = status(a)
    for pid in (s["pid"], s["worker_pid"]):
        os.kill(pid, signal.SIGSTOP)
    time.sleep(13)
    os.kill(s["pid"], signal.SIGCONT)
    time.sleep(0.5)
    os.kill(s["worker_pid"], signal.SIGCONT)
    time.sleep(4)
    expect_eq(status(a)["worker_pid"], s["worker_pid"], "the same one")


def test_down_with_a_hanging_worker(lab):
    _, a, b = lab.star("a", "b")
    before = a.snapshot()
    a.up()
    os.kill(status(a)["worker_pid"], signal.SIGSTOP)
    start = time.monotonic()
    a.down()
    took = time.monotonic() - start
    expect(took < 6, "in seconds", took)
    expect_eq(a.snapshot(), before)
    expect_eq(a.pids(), [])


def test_idle_wakes_seldom(lab):
    _, a = lab.star("a")
    a.up()
    pid = status(a)["pid"]
    time.sleep(1)
    before = switches(pid)
    time.sleep(6)
    cnt = switches(pid) - before
    expect(cnt <= 4, "the supervisor's wake-ups in 6 s", cnt)


if __name__ == "__main__":
    tap.main()
