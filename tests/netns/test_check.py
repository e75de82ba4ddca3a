# SPDX-License-Identifier: BSD-3-Clause
"""check: each fault is made for real, and has its line with a fix that mends it."""
import contextlib
import json
import os
import re
import signal
import socket
import subprocess

import tap
from lab import binary, expect, expect_eq, wait_for
from schema import load, validate

SO_NETNS_COOKIE = 71


def check(ns, *args, wrap=(), env=None, code=None):
    """Runs check inside the namespace, through wrap. Return: list of its lines, as dicts."""
    argv = [*wrap, binary(), "check", "--json", *args]
    r = ns.run(*argv, check=False, env={**os.environ, **(env or {})})
    found = json.loads(r.stdout)
    validate(found, load("check"))
    levels = [line["level"] for line in found["checks"]]
    expect_eq([levels.count(x) for x in ("ok", "warn", "fail")],
              [found["ok"], found["warn"], found["fail"]], "the counts")
    expect_eq(r.returncode, 1 if found["fail"] else 0, "exit status")
    expect(all("fix" in line for line in found["checks"] if line["level"] != "ok"),
           "a fix for each", found)
    expect_eq(r.stderr, "", "nothing else is said")
    return found["checks"]


def bad(lines, *names):
    """Return: the lines that are not ok; of these checkers only, else of all but "leftovers",
    which tells of the whole machine's daemons."""
    return [line for line in lines if line["level"] != "ok"
            and (line["name"] in names if names else line["name"] != "leftovers")]


def expect_line(lines, name, level, words, fix=""):
    """Return: the one line of that checker and level with these words."""
    found = [line for line in lines if line["name"] == name and line["level"] == level
             and words in line["text"] and fix in line.get("fix", "")]
    expect(len(found) == 1, f"one line {level} {name}: {words!r}, {fix!r}", lines)
    return found[0]


def expect_only(lines, name, level, words, fix=""):
    line = expect_line(lines, name, level, words, fix)
    expect_eq(bad(lines), [line], "nothing else is wrong")
    return line


def shell(command):
    """For wrap: a private mount namespace in which command has run."""
    return ["unshare", "-m", "sh", "-c", f'{command} && exec "$@"', "sh"]


def do(ns, fix):
    """A fix that is a command is done as it stands."""
    ns.run("sh", "-c", fix)


# --- A namespace where all is well ----------------------------------------------------------


def test_all_is_well_and_nothing_stays(lab):
    r, a = lab.star("a")
    before = a.snapshot()
    lines = check(a)
    expect_eq(bad(lines), [])
    expect_eq({line["name"] for line in lines},
              {"capabilities", "user-ns", "tun", "packet", "sock-diag", "uplink", "nftables",
               "exec", "routes", "far-side", "mtu", "offloads", "rp-filter", "daemon",
               "leftovers", "rules", "table", "memory", "clock", "random", "crypto"})
    expect_eq(a.snapshot(), before, "it changes nothing")


def test_text(lab):
    _, a = lab.star("a")
    r = a.run(*shell("mount -t tmpfs none /run"), binary(), "check")
    lines = r.stdout.splitlines()
    expect(all(re.match(r"ok    [a-z0-9-]+ +\S", line) for line in lines[:-1]), r.stdout)
    expect_eq(lines[-1], f"{len(lines) - 1} ok, 0 to look at, 0 failed")
    expect("\033" not in r.stdout, "no colours without a terminal")
    a.ip("link", "set", "eth0", "down")
    r = a.tcns("check", check=False)
    expect_eq(r.returncode, 1)
    at = [i for i, line in enumerate(r.stdout.splitlines()) if line.startswith("fail  uplink")]
    expect(at and r.stdout.splitlines()[at[0] + 1].strip().startswith("fix: "), r.stdout)


def test_while_attached(lab):
    _, a = lab.star("a")
    a.up()
    before = a.snapshot()
    lines = check(a)
    expect_eq(bad(lines), [])
    expect_line(lines, "daemon", "ok", "attached: process")
    expect_eq(a.snapshot(), before, "it changes nothing")
    with a.listen(80):
        pass
    status = json.loads(a.tcns("status", "--json").stdout)
    os.kill(status["worker_pid"], signal.SIGKILL)
    wait_for(lambda: json.loads(a.tcns("status", "--json", check=False).stdout or "{}")
             .get("worker_restarts") == 1, what="another worker")
    expect_only(check(a), "daemon", "warn", "started again 1 times")


def test_wrong_use(lab):
    _, a = lab.star("a")
    for args, code, words in ((["--nonsense"], 2, "not an option"), (["x"], 2, "no operand"),
                              (["--netns", "no-such-ns"], 1, "there is none"),
                              (["--netns", "/etc/passwd"], 1, "not a network namespace")):
        r = a.run(binary(), "check", *args, check=False)
        expect_eq(r.returncode, code, args)
        expect(words in r.stderr, r.stderr)
    expect_line(check(a, "--uplink", "eth7"), "uplink", "fail", 'no interface "eth7"')
    expect_line(check(a, "--uplink", "lo"), "uplink", "fail", "loopback")


# --- What the process has ---------------------------------------------------------------------


USER = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]


def test_without_privileges(lab):
    """It says what it can, and that another namespace cannot be entered."""
    _, a = lab.star("a")
    lines = check(a, wrap=USER)
    expect_line(lines, "capabilities", "fail", "CAP_NET_ADMIN and CAP_NET_RAW are missing")
    expect_line(lines, "sock-diag", "fail", "cannot be destroyed")
    expect_line(lines, "packet", "fail", "CAP_NET_RAW does not hold")
    expect_line(lines, "nftables", "fail", "could not be tried")
    for name in ("uplink", "mtu", "offloads", "clock", "crypto", "far-side"):
        expect_eq(bad(lines, name), [], "told all the same")
    r = subprocess.run([*USER, binary(), "check", "--netns", a.path], text=True,
                       stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    expect_eq(r.returncode, 4, r.stderr)


def test_missing_capabilities(lab):
    _, a = lab.star("a")
    lines = check(a, wrap=["setpriv", "--bounding-set", "-net_raw"])
    expect_line(lines, "capabilities", "fail", "CAP_NET_RAW is missing", "--cap-add NET_RAW")
    expect_line(lines, "packet", "fail", "CAP_NET_RAW")
    expect_eq(bad(lines, "tun", "nftables", "sock-diag"), [])
    lines = check(a, wrap=["setpriv", "--bounding-set", "-net_admin,-sys_admin"])
    expect_line(lines, "capabilities", "fail", "CAP_NET_ADMIN is missing")
    expect_line(lines, "capabilities", "warn", "CAP_SYS_ADMIN")
    expect_line(lines, "tun", "fail", "CAP_NET_ADMIN does not hold")
    expect_line(lines, "exec", "warn", "no exec")


def test_user_namespaces(lab):
    _, a = lab.star("a")
    lines = check(a, wrap=["unshare", "-U", "--map-root-user"])
    expect_line(lines, "user-ns", "fail", "user namespace above")
    expect_eq(bad(lines, "capabilities"), [], "they are all there, but of no use")
    lines = check(a, wrap=["unshare", "-U", "--map-root-user", "-n"])
    expect_eq(bad(lines, "user-ns", "tun", "packet", "nftables", "sock-diag"), [])
    expect_line(lines, "uplink", "fail", "no interface leads")
    lines = check(a, wrap=["unshare", "-U", "--map-root-user", "-n", "sh", "-c",
                           'echo 0 > /proc/sys/user/max_net_namespaces && exec "$@"', "sh"])
    expect_line(lines, "exec", "warn", "no exec", "user.max_net_namespaces")


def test_tun(lab):
    _, a = lab.star("a")
    expect_only(check(a, wrap=shell("mount -t tmpfs none /dev/net")), "tun", "fail",
                "there is no /dev/net/tun", "--device /dev/net/tun")
    expect_only(check(a, wrap=shell("mount -t tmpfs none /dev/net && touch /dev/net/tun")), "tun",
                "fail", "not the TUN device")
    expect_only(check(a, wrap=shell("mount -t tmpfs none /dev/net && mknod /dev/net/tun c 10 299")),
                "tun", "fail", "/dev/net/tun is there, but")
    fix = 'mount -t tmpfs none /dev/net && mkdir -p /dev/net && mknod /dev/net/tun c 10 200'
    expect_eq(bad(check(a, wrap=shell(fix))), [], "the fix mends it")
    lines = check(a, wrap=shell("mount -t tmpfs none /dev/net && mknod -m 600 /dev/net/tun c 10 200")
                  + USER)
    expect_line(lines, "tun", "fail", "may not be opened", "chmod 0666")


def test_memory(lab):
    _, a = lab.star("a")
    lines = check(a, wrap=["prlimit", "--memlock=4096", "setpriv", "--bounding-set", "-ipc_lock"])
    expect_only(lines, "memory", "warn", "limit: 4 KiB", "--ulimit memlock")


PRELOAD = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <linux/netlink.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>

time_t time(time_t *t) { return getenv("OLD_CLOCK") ? 86400 : (time_t)-1; }

ssize_t getrandom(void *buf, size_t len, unsigned flags)
{
    ssize_t (*real)(void *, size_t, unsigned) = dlsym(RTLD_NEXT, "getrandom");

    if (getenv("NO_ENTROPY") && (flags & GRND_NONBLOCK)) {
        errno = EAGAIN;
        return -1;
    }
    return real(buf, len, flags);
}

int socket(int domain, int type, int protocol)
{
    int (*real)(int, int, int) = dlsym(RTLD_NEXT, "socket");

    if (getenv("NO_SOCKDIAG") && domain == AF_NETLINK && protocol == NETLINK_SOCK_DIAG) {
        errno = EPROTONOSUPPORT;
        return -1;
    }
    return real(domain, type, protocol);
}
"""


def test_clock_randomness_and_missing_kernel_parts(lab):
    """No test sets the machine's clock: the C library is told something else instead."""
    _, a = lab.star("a")
    source = lab.file("preload.c")
    with open(source, "w") as f:
        f.write(PRELOAD)
    env = lab.preload(source)
    expect_line(check(a, env={**env, "OLD_CLOCK": "1"}), "clock", "warn", "1970-01-02")
    expect_line(check(a, env={**env, "NO_ENTROPY": "1"}), "random", "fail", "not ready")
    expect_line(check(a, env={**env, "NO_SOCKDIAG": "1"}), "sock-diag", "fail",
                "cannot be listed", "inet_diag")


def test_crypto(lab):
    _, a = lab.star("a")
    conf = lab.file("openssl.cnf")
    with open(conf, "w") as f:
        f.write("openssl_conf = all\n[all]\nalg_section = alg\n[alg]\n"
                "default_properties = provider=none\n")
    lines = bad(check(a, env={"OPENSSL_CONF": conf}))
    expect_eq({line["name"] for line in lines}, {"crypto"})
    text = " ".join(line["text"] for line in lines)
    expect("Curve448" in text and "ChaCha20" in text and "Curve25519" not in text, text)


# --- The uplink -------------------------------------------------------------------------------


def test_uplink(lab):
    r, a = lab.star("a")
    a.ip("link", "set", "eth0", "mtu", "1000")
    do(a, expect_line(check(a), "mtu", "warn", "MTU of 1000")["fix"])
    expect_eq(bad(check(a), "mtu"), [])
    a.ip("link", "set", "eth0", "mtu", "500")
    expect_line(check(a), "mtu", "fail", "MTU of 500")
    a.ip("link", "set", "eth0", "mtu", "1500")
    a.ip("addr", "add", f"{a.ip6}/64", "dev", "eth0", "nodad")
    a.ip("-6", "route", "add", "default", "via", "fd77:1::1")
    a.offload(False)
    do(a, expect_only(check(a), "offloads", "warn", "switched off", "ethtool -K eth0")["fix"])
    r.ip("link", "set", "to-a", "down")
    wait_for(lambda: "NO-CARRIER" in a.ip("link", "show", "eth0"), what="no carrier")
    expect_line(check(a), "uplink", "fail", "no carrier")
    r.ip("link", "set", "to-a", "up")
    a.ip("link", "set", "eth0", "down")
    do(a, expect_line(check(a, "--uplink", "eth0"), "uplink", "fail", "eth0 is down")["fix"])
    expect_only(check(a), "routes", "warn", "IPv4: no default route", "ip route add default")
    a.ip("addr", "flush", "dev", "eth0")
    expect_line(check(a), "uplink", "fail", "no interface leads", "ip route add default")


def test_several_uplinks(lab):
    r, a = lab.star("a")
    lab.veth(r, "to-a2", a, "eth1")
    a.ip("addr", "add", "fd99::2/64", "dev", "eth1", "nodad")
    a.ip("-6", "route", "del", "default")
    a.ip("-6", "route", "add", "default", "via", "fd99::1", "dev", "eth1")
    lines = check(a)
    expect_eq(bad(lines), [])
    expect_eq(sum(line["name"] == "uplink" for line in lines), 2, lines)
    a.ip("addr", "add", "10.98.0.2/24", "dev", "eth1")
    a.ip("link", "set", "eth1", "mtu", "1000")
    expect_line(check(a), "mtu", "warn", "eth1")
    a.ip("link", "set", "eth1", "mtu", "1500")
    a.ip("addr", "add", "fd99::2/64", "dev", "eth1", "nodad")
    a.ip("-6", "route", "add", "default", "via", "fd99::1", "dev", "eth1")
    lines = check(a, "--uplink", "eth0")
    expect_line(lines, "uplink", "ok", "eth1 is none")
    expect_only(lines, "routes", "warn", "IPv6: a default route leads out by an interface that")
    r = a.run(binary(), "check", "--uplink", "eth0", "--uplink", "eth0", check=False)
    expect_eq((r.returncode, "comes twice" in r.stderr), (2, True))


def test_sysctls(lab):
    _, a = lab.star("a")
    a.sysctl("net.ipv6.conf.default.disable_ipv6", 1)
    do(a, expect_only(check(a), "ipv6", "fail", "the uplink has IPv6")["fix"])
    a.sysctl("net.ipv4.ip_forward", 1)
    a.sysctl("net.ipv4.conf.all.rp_filter", 1)
    do(a, expect_only(check(a), "rp-filter", "warn", "strictly")["fix"])
    expect_eq(bad(check(a)), [])


@contextlib.contextmanager
def network_in_user_space(lab, name, *argv):
    """A namespace whose uplink ends in such a program."""
    ns = lab.ns(name)
    p = subprocess.Popen([a.replace("NETNS", ns.path) for a in argv], stdin=subprocess.DEVNULL,
                         stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: "default" in ns.ip("route"), 10, f"{argv[0]}: a default route")
        yield ns
    finally:
        p.kill()
        p.wait()


def test_slirp4netns(lab):
    with network_in_user_space(lab, "s", "slirp4netns", "--configure", "--netns-type=path", "NETNS",
                               "tap0") as ns:
        expect_only(check(ns), "far-side", "fail", "TCP ends in libslirp", "veth with a bridge")


def test_pasta(lab):
    outside = lab.star("out")[1]  # pasta copies what is around it
    pasta = ["nsenter", f"--net={outside.path}", "pasta", "--runas", "0", "--config-net", "-f",
             "--netns-only", "--netns", "NETNS"]
    with network_in_user_space(lab, "p", *pasta) as ns:
        expect_only(check(ns), "far-side", "warn", "does not answer as a router")


def test_vpn(lab):
    """A TUN device whose far side forwards is not taken for one of those."""
    r, a = lab.star("a")
    relay = lab.file("relay.py")
    with open(relay, "w") as f:
        f.write(RELAY)
    p = a.popen("python3", relay, r.path)
    wait_for(lambda: "ready" in p.out() or p.poll() is not None, what="the TUN devices")
    expect_eq(p.poll(), None, p.err())
    a.ip("addr", "add", "10.99.0.2/24", "dev", "vpn0")
    a.ip("link", "set", "vpn0", "up")
    r.ip("addr", "add", "10.99.0.1/24", "dev", "vpn0")
    r.ip("link", "set", "vpn0", "up")
    r.ip("route", "add", "198.51.100.0/24", "dev", "to-a")
    a.ip("route", "replace", "default", "via", "10.99.0.1", "dev", "vpn0")
    expect_line(check(a), "far-side", "ok", "forwards packets")


RELAY = r"""
import ctypes, fcntl, os, select, struct, sys

def tun():
    fd = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(fd, 0x400454ca, struct.pack("16sH22x", b"vpn0", 0x1001))
    return fd

here = tun()
ctypes.CDLL(None).setns(os.open(sys.argv[1], os.O_RDONLY), 0x40000000)
there = tun()
print("ready", flush=True)
while True:
    for fd in select.select([here, there], [], [])[0]:
        try:
            os.write(there if fd == here else here, os.read(fd, 70000))
        except OSError:
            pass  # the other end is down still
"""


def test_gvisor(lab):
    _, a = lab.star("a")
    version = lab.file("version")
    with open(version, "w") as f:
        f.write("Linux version 4.4.0 #1 SMP Sun Jan 10 15:06:54 PST 2016\n")
    expect_only(check(a, wrap=shell(f"mount --bind {version} /proc/version")), "far-side", "fail",
                "gVisor")


# --- Others in our place --------------------------------------------------------------------


def test_rules_of_others(lab):
    _, a = lab.star("a")
    a.ip("link", "add", "vpn0", "type", "bridge")  # no uplink, as a VPN's device is none
    a.ip("addr", "add", "10.98.0.2/24", "dev", "vpn0")
    a.ip("link", "set", "vpn0", "up")
    a.ip("route", "add", "default", "dev", "vpn0", "table", "100")
    a.ip("route", "add", "default", "via", "10.77.1.1", "dev", "eth0", "table", "101")
    a.ip("rule", "add", "pref", "1000", "fwmark", "0x7", "lookup", "100")
    lines = check(a)
    expect_eq(bad(lines), [], "a VPN's: as it is meant")
    expect_line(lines, "rules", "ok", 'rule 1000 "from all fwmark 0x7 lookup 100"')
    a.ip("rule", "add", "pref", "1001", "from", "10.77.1.0/24", "lookup", "101")
    line = expect_only(check(a), "rules", "warn", "is reset", "rule del pref 1001")
    do(a, line["fix"].split(": ")[1])
    expect_eq(bad(check(a)), [])
    a.ip("rule", "del", "pref", "1000")
    # Without a number the kernel puts it just ahead of the main table's.
    a.ip("rule", "add", "from", "10.98.0.2", "lookup", "100")
    line = expect_only(check(a), "rules", "warn", "TCP does not obey it", "pref 32000")
    do(a, line["fix"])
    lines = check(a)
    expect_eq(bad(lines), [])
    expect_line(lines, "rules", "ok", "rule 32000")
    a.ip("-6", "rule", "add", "pref", "32548", "to", "2001:db8::/32", "lookup", "100")
    line = expect_only(check(a), "rules", "warn", "which comes first is chance")
    do(a, line["fix"])
    expect_eq(bad(check(a)), [])
    a.ip("rule", "add", "pref", "500", "ipproto", "udp", "lookup", "101")
    a.ip("rule", "add", "pref", "501", "iif", "vpn0", "lookup", "101")
    expect_eq(bad(check(a)), [], "not for TCP from here")
    a.ip("rule", "add", "pref", "600", "protocol", "85", "lookup", "100")
    expect_only(check(a), "rules", "warn", "our protocol number")


def test_local_table_moved(lab):
    _, a = lab.star("a")
    a.ip("rule", "add", "pref", "32700", "lookup", "local")
    a.ip("rule", "del", "pref", "0")
    do(a, expect_only(check(a), "rules", "fail", "IPv4: no rule for the local table")["fix"])
    expect_eq(bad(check(a)), [])


def test_table_and_protocol_taken(lab):
    _, a = lab.star("a")
    a.ip("route", "add", "10.5.0.0/16", "via", "10.77.1.1", "table", "8548")
    expect_only(check(a), "table", "warn", "table 8548 has 1 routes of others")
    a.ip("route", "flush", "table", "8548")
    a.ip("-6", "route", "add", "fd55::/64", "via", "fd77:1::1", "proto", "85")
    expect_only(check(a), "table", "warn", "1 routes of others have our protocol")


# --- Leftovers --------------------------------------------------------------------------------


def test_killed_daemon(lab):
    _, a = lab.star("a")
    a.up()
    status = json.loads(a.tcns("status", "--json").stdout)
    for pid in (status["pid"], status["worker_pid"]):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not a.pids(), what="the daemon is dead")
    r = subprocess.run([binary(), "check", "--json", "--netns", a.name], text=True,
                       stdout=subprocess.PIPE)
    expect_eq(r.returncode, 1)
    fix = expect_line(json.loads(r.stdout)["checks"], "daemon", "fail", "leftovers of a killed",
                      f"tcpcrypt-ns down --netns {a.name}")["fix"]
    subprocess.run([binary(), *fix.split(" (")[0].split()[1:]], check=True,
                   stdout=subprocess.DEVNULL)
    expect_eq(bad(check(a)), [], "the fix mends it")


def test_somebody_elses_device(lab):
    _, a = lab.star("a")
    a.ip("tuntap", "add", "dev", "tcpcrypt0", "mode", "tun")
    do(a, expect_only(check(a), "daemon", "fail", "persistent tcpcrypt0")["fix"])
    expect_eq(bad(check(a)), [])


def test_daemon_that_does_not_answer(lab):
    """Both processes are stopped: the device is there, and silence."""
    _, a = lab.star("a")
    a.up()
    pids = a.pids()
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        expect_line(check(a), "daemon", "fail", "no daemon answers")
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def test_dead_doors_and_execs(lab):
    """In a private /run, so that nobody else's are seen."""
    _, a = lab.star("a")
    cookie = a.socket(socket.AF_UNIX, socket.SOCK_DGRAM).getsockopt(socket.SOL_SOCKET,
                                                                     SO_NETNS_COOKIE, 8)
    name = f"{int.from_bytes(cookie, 'little'):x}-0123abcd"
    door = "import socket; socket.socket(socket.AF_UNIX).bind('/run/tcpcrypt-ns/1.sock')"
    lines = check(a, wrap=shell(
        f'mount -t tmpfs none /run && mkdir -p /run/tcpcrypt-ns/exec && python3 -c "{door}" && '
        f"touch /run/tcpcrypt-ns/exec/{name}"))
    expect_line(lines, "leftovers", "warn", "1 killed exec left", "exec -- true")
    expect_line(lines, "leftovers", "warn", "1 ctl socket of", "rm /run/tcpcrypt-ns/1.sock")


if __name__ == "__main__":
    tap.main()
