#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""What the daemon's processes may still do, seen from outside."""
import ctypes
import errno
import json
import os
import platform
import signal

import tap
from lab import Skip, expect, expect_eq, idle, wait_for
from rfc import both_ways, connected


def pids(ns):
    st = json.loads(ns.tcns("status", "--json").stdout)
    return st["pid"], st["worker_pid"]


def proc_status(pid):
    with open(f"/proc/{pid}/status") as f:
        return dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)


def core_limit(pid):
    with open(f"/proc/{pid}/limits") as f:
        return [line.split()[4:6] for line in f if line.startswith("Max core")][0]


def is_sandboxed(worker):
    s = proc_status(worker)
    for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        expect_eq(int(s[kind], 16), 0, kind)
    expect_eq((s["NoNewPrivs"], s["Seccomp"]), ("1", "2"))
    expect_eq(core_limit(worker), ["0", "0"])
    expect_eq(os.listdir(f"/proc/{worker}/root"), [], "its root directory is empty")


def test_worker(lab):
    _, a = lab.star("a")
    a.up()
    supervisor, worker = pids(a)
    is_sandboxed(worker)
    s = proc_status(supervisor)
    expect_eq((s["NoNewPrivs"], core_limit(supervisor)), ("1", ["0", "0"]))
    expect(int(s["CapEff"], 16) >> 12 & 1, "the supervisor keeps CAP_NET_ADMIN")


def test_next_worker_too(lab):
    _, a = lab.star("a")
    a.up()
    _, worker = pids(a)
    os.kill(worker, signal.SIGKILL)
    wait_for(lambda: a.tcns("status", check=False).returncode == 0 and pids(a)[1] != worker, 5)
    is_sandboxed(pids(a)[1])


# --- System calls, made by the worker itself ----------------------------------------------

ATTACH, DETACH, SINGLESTEP, GETREGS, SETREGS, POKEDATA = 16, 17, 9, 12, 13, 5
REGS = ("r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs eflags rsp ss "
        "fs_base gs_base ds es fs gs").split()
SYS = {"open": 2, "socket": 41, "connect": 42, "fork": 57, "execve": 59, "kill": 62, "ptrace": 101,
       "setuid": 105, "chroot": 161, "mount": 165, "openat": 257, "bpf": 321, "openat2": 437,
       "mprotect": 10, "getpid": 39, "epoll_wait": 232}


class Injector:
    """Stops a process and has it make system calls, as code that took it over could."""

    def __init__(self, pid):
        self.pid = pid
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
        self.libc.ptrace.restype = ctypes.c_long

    def ptrace(self, request, addr=None, data=None):
        if self.libc.ptrace(request, self.pid, addr, data) < 0:
            e = ctypes.get_errno()
            raise OSError(e, os.strerror(e))

    def regs(self):
        data = (ctypes.c_ulonglong * len(REGS))()
        self.ptrace(GETREGS, None, ctypes.addressof(data))
        return data

    def is_asleep(self):
        """Stops it. Return: whether that was in a system call; else it goes on."""
        self.ptrace(ATTACH)
        os.waitpid(self.pid, 0)
        self.saved = self.regs()
        if self.saved[REGS.index("orig_rax")] == SYS["epoll_wait"]:
            return True
        self.ptrace(DETACH)
        return False

    def __enter__(self):
        wait_for(self.is_asleep, 5, "the worker waits for events")
        return self

    def __exit__(self, *exc):
        self.ptrace(SETREGS, None, ctypes.addressof(self.saved))
        self.ptrace(DETACH)

    def call(self, name, *args):
        """Return: what the kernel answers. The process sleeps in a system call: its
        instruction is two bytes back."""
        regs = type(self.saved)(*self.saved)
        values = {"rax": SYS[name], "orig_rax": 2**64 - 1,
                  "rip": self.saved[REGS.index("rip")] - 2,
                  **dict(zip(("rdi", "rsi", "rdx", "r10"), args))}
        for reg, value in values.items():
            regs[REGS.index(reg)] = value % 2**64
        self.ptrace(SETREGS, None, ctypes.addressof(regs))
        self.ptrace(SINGLESTEP)
        os.waitpid(self.pid, 0)
        result = self.regs()[REGS.index("rax")]
        return result - 2**64 if result >= 2**63 else result

    def poke(self, text):
        """Puts text below the stack. Return: its address."""
        at = (self.saved[REGS.index("rsp")] - 4096) & ~7
        data = text.encode() + bytes(8 - len(text) % 8)
        for i in range(0, len(data), 8):
            self.ptrace(POKEDATA, at + i, int.from_bytes(data[i:i + 8], "little"))
        return at


def test_what_it_cannot_do(lab):
    """Not even when somebody else's code runs in it."""
    if platform.machine() != "x86_64":
        raise Skip("system calls are made on x86_64 only")
    _, a = lab.star("a")
    a.up()
    _, worker = pids(a)
    with Injector(worker) as i:
        path = i.poke("/bin/sh")
        expect_eq(i.call("getpid"), worker, "the method works")
        for name, *args in (("open", path, 0), ("openat", -100, path, 0), ("openat2", -100, path, 0, 24),
                            ("execve", path, 0, 0), ("fork",), ("socket", 2, 1, 0), ("connect", 0, 0, 0),
                            ("kill", os.getpid(), 0), ("ptrace", 16, os.getpid()), ("setuid", 0),
                            ("chroot", path), ("mount", path, path, 0, 0), ("bpf", 0, 0, 0),
                            ("mprotect", path & ~4095, 4096, 7)):
            expect_eq(i.call(name, *args), -errno.EPERM, name)
    expect_eq(pids(a)[1], worker, "it goes on")


def test_nothing_it_does_is_refused(lab):
    """At -vv the log would say so, and it must not wait there for a lock."""
    _, a, b = lab.star("a", "b")
    a.up("-vv", "--rule", "off out port=7001")
    b.up("-vv")
    for port in (7000, 7001, 7000):
        with connected(a, b, port) as (c, s):
            both_ways(c, s, 100_000)
            for verb in ("sessions", "status", "cache", "metrics"):
                a.tcns(verb)
    idle(2.5)  # it is told with the beat
    for ns in (a, b):
        with open(ns.log_path()) as f:
            expect("sandbox" not in f.read(), "nothing was refused")


DOWN = """
import socket
s = socket.socket(socket.AF_UNIX)
s.connect("\\0tcpcrypt-ns")
s.sendall(b'{"method":"org.tcpcrypt.Ns1.Down"}' + bytes(1))
print(s.recv(1000).decode())
"""


def test_capability_of_ones_own_namespace(lab):
    """Who makes a user namespace has all capabilities, there. That is no right to detach."""
    _, a = lab.star("a")
    a.up()
    for who in (("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"),
                ("setpriv", "--bounding-set=-net_admin", "--inh-caps=-all")):
        inside = a.run(*who, "unshare", "-Ur", "grep", "CapEff", "/proc/self/status").stdout
        expect(int(inside.split()[1], 16) >> 12 & 1, "it has CAP_NET_ADMIN there", inside)
        answer = a.run(*who, "unshare", "-Ur", "/usr/bin/python3", "-c", DOWN).stdout
        expect("PermissionDenied" in answer, who[1], answer)
    expect("tcpcrypt0" in a.ip("link"), "still attached")
    expect_eq(a.run("/usr/bin/python3", "-c", DOWN).stdout.strip("\0\n"), '{"parameters":{}}', "root may")


if __name__ == "__main__":
    tap.main()
