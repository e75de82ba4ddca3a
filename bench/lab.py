# SPDX-License-Identifier: BSD-3-Clause
"""Namespaces and processes of one measurement; all of it goes away again.

How it works: a Lab owns what it makes and is used in a "with". Its namespaces bear
our process id in their names. Processes die with us (setpriv --pdeathsig), so that
even a SIGKILL leaves only empty namespaces behind, which the next run removes.
"""
import contextlib
import glob
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.append(os.path.join(TOP, "tests", "netns"))  # last: a lab.py is there, too

from namespace import Namespace  # noqa: E402

PREFIX = "bench-"
DIR_PREFIX = "tcns-bench-"


class Failure(Exception):
    """A program did not do what it should; the run goes on and ends with exit code 1."""


def run(*argv, check=True, timeout=30, env=None):
    """Return: what the program printed."""
    argv = [str(a) for a in argv]
    try:
        r = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                           stderr=subprocess.PIPE, text=True, timeout=timeout, env=env)
    except subprocess.TimeoutExpired as e:
        raise Failure(f"{' '.join(argv)}: no end within {timeout} s") from e
    if check and r.returncode != 0:
        words = (r.stderr.strip() or r.stdout.strip())[-600:]
        raise Failure(f"{' '.join(argv)}: exit {r.returncode}\n{words}")
    return r.stdout


def wait_for(fn, what, timeout=10.0, interval=0.01):
    """Calls fn until it returns something true, and returns that."""
    deadline = time.monotonic() + timeout
    while not (value := fn()):
        if time.monotonic() > deadline:
            raise Failure(f"not within {timeout} s: {what}")
        time.sleep(interval)
    return value


class Space(Namespace):
    """One network namespace of a lab."""

    def __init__(self, lab, short):
        super().__init__(f"{PREFIX}{os.getpid()}-{lab.prefix}{short}")
        self.lab, self.short = lab, short
        lab.spaces.append(self)  # first, so that an interrupt leaves nothing behind
        run("ip", "netns", "add", self.name)
        self.ip("link", "set", "lo", "up")

    def ip(self, *args):
        return run("ip", "-n", self.name, *args)

    def run(self, *argv, **kwargs):
        return run(*self.argv(argv), **kwargs)

    def run_json(self, *argv, **kwargs):
        """Return: the objects that the program printed, one a line or one in all."""
        text = self.run(*argv, **kwargs)
        try:
            return json.loads(text)
        except ValueError:
            return [json.loads(line) for line in text.splitlines()]

    def popen(self, *argv, **kwargs):
        """See Lab.popen()."""
        return self.lab.popen(f"{self.short}-{os.path.basename(str(argv[0]))}",
                              ["nsenter", f"--net={self.path}", *argv], **kwargs)

    def wait_listening(self, port):
        def listening():
            self.lab.check_procs()
            return self.has_listener(port)

        wait_for(listening, f"{self.short}: a listener at port {port}")


class Lab:
    def __init__(self, prefix=""):
        """prefix: of the namespaces' names, where several labs are up at a time."""
        self.prefix = prefix
        self.dir = tempfile.mkdtemp(prefix=f"{DIR_PREFIX}{os.getpid()}-")
        self.procs, self.spaces, self.files = [], [], []
        self.links = 0

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def file(self, name):
        return os.path.join(self.dir, name)

    def space(self, short):
        return Space(self, short)

    def popen(self, tag, argv, **kwargs):
        """A program that runs until the lab ends; its words go to a file of the lab."""
        argv = ["setpriv", "--pdeathsig", "KILL", *map(str, argv)]
        with open(self.file(f"{len(self.procs):02}-{tag}.log"), "wb") as log:
            kwargs.setdefault("stdin", subprocess.DEVNULL)
            kwargs.setdefault("stdout", log)
            p = subprocess.Popen(argv, stderr=log, **kwargs)
        p.tag = tag
        self.procs.append(p)
        return p

    def veth(self, a, a_if, b, b_if):
        # Ends with the same number come up a second late: the kernel waits for the
        # carrier of what looks like an interface on top of another one.
        self.links += 1
        a.ip("link", "add", "name", a_if, "index", 500 + self.links, "type", "veth",
             "peer", "name", b_if, "netns", b.name)
        a.ip("link", "set", a_if, "up")
        b.ip("link", "set", b_if, "up")

    def check_procs(self):
        """While things start up, nothing may end."""
        for p in self.procs:
            if p.poll() is not None:
                raise Failure(f"{p.tag} ended: exit {p.returncode}")

    def logs(self):
        """Last lines of what the programs said."""
        text = ""
        for name in sorted(os.listdir(self.dir)):
            if name.endswith(".log"):
                with open(self.file(name), "rb") as f:
                    lines = f.read()[-20000:].decode(errors="replace").splitlines()
                text += "".join(f"  {name}: {line}\n" for line in lines[-8:])
        return text

    def close(self):
        """Interrupts wait until this is over: half of it would leave things behind."""
        held = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        try:
            self._close()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, held)

    def _close(self):
        for p in reversed(self.procs):
            if p.poll() is None:
                p.terminate()
        deadline = time.monotonic() + 3
        for p in reversed(self.procs):
            try:
                p.wait(max(0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                p.kill()
                p.wait()
        for s in self.spaces:
            remove_space(s.name)
        for path in self.files:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        shutil.rmtree(self.dir, ignore_errors=True)


STOP_SIGNALS = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}


def remove_space(name):
    """No process may keep the namespace alive."""
    deadline = time.monotonic() + 3
    while time.monotonic() < deadline:
        pids = run("ip", "netns", "pids", name, check=False).split()
        if not pids:
            break
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        time.sleep(0.01)
    run("ip", "netns", "del", name, check=False)


def is_running(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def remove_leftovers():
    """What a run left behind that was killed."""
    def of_the_dead(pattern):
        for path in glob.glob(pattern + "*"):
            m = re.match(r"(\d+)-", path[len(pattern):])
            if m and not is_running(m[1]):
                yield path

    for path in of_the_dead("/run/netns/" + PREFIX):
        remove_space(os.path.basename(path))
    for path in of_the_dead(os.path.join(tempfile.gettempdir(), DIR_PREFIX)):
        shutil.rmtree(path, ignore_errors=True)
