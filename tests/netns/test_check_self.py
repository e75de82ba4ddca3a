# SPDX-License-Identifier: BSD-3-Clause
"""check --self: it works, it notices when something does not, and it leaves nothing behind."""
import contextlib
import json
import os
import re
import signal
import time

import tap
from lab import binary, expect, expect_eq, wait_for
from schema import load, validate


def children(pid):
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as f:
            return [int(p) for p in f.read().split()]
    except OSError:
        return []


def descendants(pid):
    """Return: process ids of the daemons below it."""
    return [d for c in children(pid) for d in (c, *descendants(c))]


def names(pids):
    found = []
    for pid in pids:
        with contextlib.suppress(OSError), open(f"/proc/{pid}/comm") as f:
            found.append(f.read().strip())
    return found


def is_gone(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


class Run:
    """One in the background; its /run is its own, so that nothing else is seen there."""

    def __init__(self, lab, ns, *args):
        self.run_dir = lab.file(f"run{len(lab.procs)}")
        os.mkdir(self.run_dir)
        self.proc = ns.popen("unshare", "-m", "sh", "-c",
                             f'mkdir -p /run/tcpcrypt-ns && mount --bind {self.run_dir} '
                             '/run/tcpcrypt-ns && exec "$@"', "sh", binary(), "check", "--self",
                             *args)
        self.seen = set()

    def wait_daemons(self, cnt=2):
        """Until so many supervisors with their workers run."""
        def there():
            self.seen.update(descendants(self.proc.pid))
            return len([n for n in names(descendants(self.proc.pid))
                        if n == "tcpcrypt-worker"]) >= cnt
        wait_for(there, 10, "daemons", 0.001)

    def doors(self):
        return [f for f in os.listdir(self.run_dir) if f.endswith(".sock")]

    def expect_clean(self):
        """No process, no ctl socket, within a moment."""
        wait_for(lambda: all(is_gone(p) for p in self.seen), 8, f"no process of {self.seen}")
        wait_for(lambda: not self.doors(), 3, "no ctl socket")


def test_works(lab):
    """A line for each step, in order, within seconds; the calling namespace is as before."""
    ns = lab.ns("n")
    before = ns.snapshot()
    start = time.monotonic()
    run = Run(lab, ns, "--json")
    run.wait_daemons()
    expect_eq(run.proc.wait(30), 0, run.proc.out() + run.proc.err())
    took = time.monotonic() - start
    found = json.loads(run.proc.out())
    validate(found, load("check"))
    expect_eq([x["name"] for x in found["checks"]],
              ["namespaces", "wire", "daemon", "encrypted", "encrypted", "encrypted", "encrypted",
               "resumption", "resumption", "fallback", "fallback", "end", "verdict"])
    expect_eq(found["fail"] + found["warn"], 0)
    text = json.dumps(found)
    for word in ("Curve25519", "Curve448", "P256", "P521", "AES_128", "AES_256", "CHACHA20",
                 "IPv4, outbound", "IPv6, inbound", "resumed", "peer-no-eno"):
        expect(word in text, word, text)
    expect_eq(run.proc.err(), "")
    expect(took < 10, "a few seconds", took)
    run.expect_clean()
    expect_eq(ns.snapshot(), before, "nothing is changed here")


def test_text_and_wrong_use(lab):
    ns = lab.ns("n")
    r = ns.run(binary(), "check", "--self")
    lines = r.stdout.splitlines()
    expect(all(re.match(r"ok    [a-z]+ +\S", x) for x in lines[:-1]), r.stdout)
    expect("works on this machine" in lines[-2], lines)
    for args in (["--netns", "1"], ["--uplink", "eth0"], ["--peer", "x:1"]):
        r = ns.run(binary(), "check", "--self", *args, check=False)
        expect_eq((r.returncode, r.stdout), (2, ""), args)
    r = ns.run("setpriv", "--reuid", "65534", "--clear-groups", binary(), "check", "--self",
               check=False)
    expect_eq(r.returncode, 4, r.stderr)
    expect("it takes root" in r.stderr, r.stderr)


def test_signals(lab):
    """In the middle of it: everything is taken down in order, and the status tells the signal."""
    ns = lab.ns("n")
    for sig in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        run = Run(lab, ns)
        run.wait_daemons()
        run.proc.send_signal(sig)
        expect_eq(run.proc.wait(15), 128 + sig, run.proc.out())
        run.expect_clean()


def test_killed(lab):
    """With a signal that it cannot catch: the daemons end all the same."""
    ns = lab.ns("n")
    run = Run(lab, ns)
    run.wait_daemons()
    run.proc.kill()
    run.proc.wait(5)
    run.expect_clean()


@tap.timeout(120)
def test_a_daemon_dies(lab):
    """While the second one starts, or later: it is said, and the rest is taken down."""
    ns = lab.ns("n")
    for words in ("namespaces", "ok    encrypted"):
        run = Run(lab, ns)
        run.wait_daemons()
        wait_for(lambda: words in run.proc.out(), 5, words, 0.001)
        run.seen.update(descendants(run.proc.pid))
        for pid in children(run.proc.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        expect_eq(run.proc.wait(60), 1, run.proc.out())
        out = run.proc.out()
        expect("fail  " in out and "does not work here" in out, out)
        run.expect_clean()


def test_what_is_missing_is_noticed(lab):
    """No TUN device; no crypto; both are named."""
    ns = lab.ns("n")
    r = ns.run("unshare", "-m", "sh", "-c", 'mount -t tmpfs none /dev/net && exec "$@"', "sh",
               binary(), "check", "--self", check=False)
    expect_eq(r.returncode, 1, r.stdout)
    expect("fail  daemon       no /dev/net/tun" in r.stdout, r.stdout)
    conf = lab.file("openssl.cnf")
    with open(conf, "w") as f:
        f.write("openssl_conf = all\n[all]\nalg_section = alg\n[alg]\n"
                "default_properties = provider=none\n")
    r = ns.run("env", f"OPENSSL_CONF={conf}", binary(), "check", "--self", check=False)
    expect_eq(r.returncode, 1, r.stdout)
    expect("cannot do" in r.stdout, r.stdout)


if __name__ == "__main__":
    tap.main()
