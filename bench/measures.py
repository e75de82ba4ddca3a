# SPDX-License-Identifier: BSD-3-Clause
"""What is measured of each peer, and how.

How it works: a measure takes a running Setup and returns {name of a figure: number}.
It runs for a time given beforehand. Measures that need a fresh start of the peer
are in a phase of their own.
"""
import contextlib
import json
import os
import subprocess
import time

import peers
import slices
from lab import Failure
from peers import BYPASSED, CONGESTION_CONTROL, IPERF, RR

RETRY_CNT = 5  # iperf3's server is busy, or does not listen, for a moment after each run
CONNECT_MAX_CNT = 20000  # of one measure: ports and TIME-WAIT are finite
IDLE_AT_ONCE = 64  # connections being set up at a time
IDLE_CPU_S = 2
NARROW_BYTES = 131072
NARROW_S = 10
SLICE_MIN_S = 0.2  # see slices.py
SLICE_MIN_BYTES = 1000000
WARM_UP_BYTES = 64000000  # tells how many bytes a slice takes


class Clock:
    """CPU time of the whole machine, /proc/stat; what others used is taken off."""

    def __init__(self):
        self.tick = os.sysconf("SC_CLK_TCK")
        self.idle_rate = 0.0  # CPU seconds per second with nothing of ours running

    def busy_s(self):
        with open("/proc/stat") as f:
            user, nice, system, _idle, _iowait, irq, softirq = map(int, f.readline().split()[1:8])
        # Steal is not ours, nor is what runs at low priority, unless we do too.
        return (user + (nice if os.nice(0) > 0 else 0) + system + irq + softirq) / self.tick

    def learn_idle(self, seconds):
        before = self.busy_s()
        time.sleep(seconds)
        self.idle_rate = (self.busy_s() - before) / seconds


CLOCK = Clock()


# --- Processes ---------------------------------------------------------------------

def descendants(pid):
    """Return: pid and the processes below it."""
    found = [pid]
    for task in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(FileNotFoundError):  # a thread may end meanwhile
            with open(f"/proc/{pid}/task/{task}/children") as f:
                children = f.read().split()
            for child in children:
                found += descendants(int(child))
    return found


def daemon_pids(setup):
    return [pid for p in setup.daemons for pid in descendants(p.pid)]


def field_kb(path, key):
    with open(path) as f:
        for line in f:
            if line.startswith(key + ":"):
                return int(line.split()[1])
    raise Failure(f"{path} has no {key}")


def memory_kb(setup):
    return {key: sum(field_kb(f"/proc/{pid}/smaps_rollup", key) for pid in daemon_pids(setup))
            for key in ("Pss", "Rss")}


def peak_kb(setup):
    return sum(field_kb(f"/proc/{pid}/status", "VmHWM") for pid in daemon_pids(setup))


def cpu_ns(setup):
    total = 0
    for pid in daemon_pids(setup):
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/schedstat") as f:
                total += int(f.read().split()[0])
    return total


# --- Throughput ---------------------------------------------------------------------

def iperf(space, host, port, *words, timeout=30):
    """The words say for how long, too. Return: iperf3's sum at the receiver."""
    argv = ["iperf3", "-J", "-c", host, "-p", port, *words]
    for attempt in range(RETRY_CNT):
        if attempt:
            time.sleep(0.2)
        # Its exit status can be 0 when it could not connect.
        text = space.run(*argv, check=False, timeout=timeout)
        try:
            got = json.loads(text)
        except ValueError:
            got = {"error": text.strip() or "no words"}
        end = got.get("end", {})
        found = end.get("sum_received") or end.get("sum")
        if found and "error" not in got:
            return found
        if got.get("start", {}).get("connected"):  # it had begun
            break
    raise Failure(f"{' '.join(map(str, argv))}: {got.get('error', 'no result')}")


def stream(setup, seconds, streams, is_reverse):
    words = ["-P", streams, "-C", CONGESTION_CONTROL] + (["-R"] if is_reverse else [])
    cpu, begin = CLOCK.busy_s(), time.monotonic()
    got = iperf(setup.client, setup.host, IPERF, "-t", seconds, *words, timeout=seconds + 15)
    took = time.monotonic() - begin
    cpu = CLOCK.busy_s() - cpu - CLOCK.idle_rate * took
    if got["bytes"] == 0:
        raise Failure(f"{streams} streams: not a byte arrived")
    # On a busy machine too much may have been taken off: then there is no figure.
    return got["bits_per_second"] / 1e9, cpu / (got["bytes"] / 1e9) if cpu > 0 else None


def slice_s(opts):
    return max(SLICE_MIN_S, opts.seconds / 10)


def iperf_slices(opts, space, host, port, *words):
    """iperf3 counts whole seconds only, so that a slice is a number of bytes.
    Return: a load for slices.compare(), Gbit/s."""
    size = WARM_UP_BYTES

    def load():
        nonlocal size
        got = iperf(space, host, port, "-n", size, *words)
        gbits = got["bits_per_second"] * (1 - got.get("lost_percent", 0) / 100) / 1e9
        if gbits <= 0:
            raise Failure(f"a slice of {size} bytes to port {port}: not a byte arrived")
        size = max(SLICE_MIN_BYTES, int(got["bits_per_second"] / 8 * slice_s(opts)))
        return gbits

    return load


def throughput(setup, peer, opts):
    found = {}
    for streams in (1, 8):
        for is_reverse in (False, True):
            if is_reverse and opts.short:
                continue
            key = f"{streams}_{'down' if is_reverse else 'up'}"
            found["gbits_" + key], cpu = stream(setup, opts.seconds, streams, is_reverse)
            if cpu is not None:
                found["cpu_" + key] = cpu
    if setup.daemons:
        found["peak_mb"] = peak_kb(setup) / 1024
    return found


# --- Requests -------------------------------------------------------------------------

def rr(setup, seconds, mode, *words, ports=(RR,)):
    return setup.client.run_json(peers.RR_BINARY, "-t", seconds, *words, mode, setup.host,
                                 *ports, timeout=seconds + 20)


def latency(setup, peer, opts):
    got = rr(setup, opts.seconds, "pingpong")
    return {"rr_p50_us": got["p50_us"], "rr_p99_us": got["p99_us"]}


def connect(setup, peer, opts):
    found = {}
    for at_once in (1, 16):
        before = peer.counters(setup) if peer.kind == "ours" else None
        got = rr(setup, opts.seconds, "connect", "-c", at_once, "-n", CONNECT_MAX_CNT)
        if got["errors"]:
            raise Failure(f"connect, {at_once} at a time: {got['errors']} of "
                          f"{got['cnt'] + got['errors']} connections failed")
        found[f"connect_{at_once}_per_s"] = got["per_s"]
        found[f"connect_{at_once}_p99_us"] = got["p99_us"]
        if before:
            after = peer.counters(setup)
            found[f"connect_{at_once}_resumed_percent"] = (
                100 * (after["flows_resumed"] - before["flows_resumed"]) /
                max(1, after["flows_encrypted"] - before["flows_encrypted"]))
    return found


# --- Many idle connections ---------------------------------------------------------------

def idle(setup, peer, opts):
    cnt = peer.idle_cnt
    found = {"idle_cnt": cnt}
    if setup.daemons:
        memory = memory_kb(setup)
        found |= {"idle_mb": memory["Pss"] / 1024, "idle_rss_mb": memory["Rss"] / 1024}
    holder = setup.client.popen(peers.RR_BINARY, "-n", cnt, "-c", IDLE_AT_ONCE, "-t", 60, "idle",
                                setup.host, RR, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        opened = json.loads(holder.stdout.readline() or "{}")
        if opened.get("cnt") != cnt:
            raise Failure(f"idle: {opened.get('cnt', 0)} of {cnt} connections could be opened")
        found["idle_setup_s"] = opened["seconds"]
        if setup.daemons:
            time.sleep(0.5)  # what follows a handshake, such as timers of delayed ACKs
            before, begin = cpu_ns(setup), time.monotonic()
            time.sleep(IDLE_CPU_S)
            took = (time.monotonic() - begin) * 1e9
            found["idle_cpu_percent"] = (cpu_ns(setup) - before) / took * 100
            found["idle_kb_each"] = (memory_kb(setup)["Pss"] - memory["Pss"]) / cnt
        found |= among_idle(setup, peer, opts)
        holder.stdin.close()
        lost = json.loads(holder.stdout.readline() or "{}").get("lost", cnt)
        if lost:
            raise Failure(f"idle: {lost} of {cnt} connections did not last")
        holder.wait(10)
    except subprocess.TimeoutExpired as e:
        raise Failure("idle: the client does not end") from e
    finally:
        holder.stdout.close()
    return found


def among_idle(setup, peer, opts):
    """One stream here, where the idle connections are, and one where there are none."""
    with peers.side_by_side(peer) as without:
        gbits, _, ratio = slices.compare(*(
            iperf_slices(opts, at.client, at.host, IPERF, "-C", CONGESTION_CONTROL)
            for at in (setup, without)))
    return {"gbits_1_up_among_idle": gbits, "among_idle_ratio": ratio}


# --- What should be as without us ----------------------------------------------------------

def untouched_loads(setup, opts):
    """Return: {figure: load for slices.compare()}."""
    def p50_us(mode, ports):
        return lambda: rr(setup, slice_s(opts), mode, ports=ports)["p50_us"]

    return {
        "udp_gbits": iperf_slices(opts, setup.client, setup.host, IPERF, "-u", "-b", "0",
                                  "-l", "1400"),
        "udp_p50_us": p50_us("udp", (RR,)),
        "icmp_p50_us": p50_us("icmp", ()),
        "loopback_gbits": iperf_slices(opts, setup.server, "127.0.0.1", IPERF),
        "bypassed_gbits": iperf_slices(opts, setup.client, setup.host, BYPASSED),
    }


def untouched(setup, peer, opts):
    found = {}
    with peers.side_by_side(peers.Peer()) as without:
        theirs = untouched_loads(without, opts)
        for figure, load in untouched_loads(setup, opts).items():
            (found[figure], found[figure + "_without"],
             found[figure + "_ratio"]) = slices.compare(load, theirs[figure])
    return found


# --- A narrow link ---------------------------------------------------------------------------

def narrow(setup, peer, opts):
    """1 Mbit/s both ways: how long a large frame makes its first byte wait."""
    for space in (setup.near, setup.server):
        space.run("tc", "qdisc", "add", "dev", "eth0", "root", "tbf", "rate", "1mbit",
                  "burst", "3200", "limit", "1000000")
    got = rr(setup, NARROW_S, "narrow", "-s", NARROW_BYTES)
    return {"narrow_first_ms": got["first_ms"], "narrow_pause_ms": got["pause_ms"]}


# Each phase starts the peer anew. (name, measures, names of peers or None for all)
PHASES = [
    ("load", [("throughput", throughput), ("latency", latency), ("connect", connect)], None),
    ("idle", [("idle", idle)], None),
    ("untouched", [("untouched", untouched)], ("tcpcrypt-ns",)),
    ("narrow", [("narrow", narrow)], ("kernel", "tcpcrypt-ns", "stunnel", "haproxy-tls")),
]
MEASURES = [name for _, measures, _ in PHASES for name, _ in measures]


def is_wanted(name, peer, only_peers, opts):
    if opts.short:
        return name == "throughput"
    if only_peers and peer.name not in only_peers or peer.only and name not in peer.only:
        return False
    if name == "idle" and not peer.idle_cnt:
        return False
    return not opts.measure or name in opts.measure
