# SPDX-License-Identifier: BSD-3-Clause
"""What our workers spend their time with, by perf.

How it works: perf records one worker while iperf3 runs through both, first the
sender's, then the receiver's; each for 1 and for 8 streams.
"""
import re
import shutil
import sys

import peers
from lab import Failure, Lab, run
from measures import iperf
from peers import CONGESTION_CONTROL, IPERF

SYMBOL_CNT = 15
RAMP_UP_S = 0.5  # before perf starts


def record(lab, setup, space, streams, seconds):
    """Return: what count() returns, and iperf3's Gbit/s."""
    data = lab.file(f"{space.short}-{streams}.perf")
    pid = peers.Ours.status(space)["worker_pid"]
    perf = lab.popen("perf", ["sh", "-c", f"sleep {RAMP_UP_S}; exec perf record -q -F 1999 -p {pid}"
                              f" -o {data} -- sleep {max(0.5, seconds - 2 * RAMP_UP_S)}"])
    got = iperf(setup.client, setup.host, IPERF, "-t", seconds, "-P", streams,
                "-C", CONGESTION_CONTROL)
    perf.wait(20)
    report = run("perf", "report", "-i", data, "--stdio", "-q", "--no-children", "-F",
                 "overhead,dso,symbol", timeout=60)
    return count(report), got["bits_per_second"] / 1e9


def count(report):
    """Return: [(percent, where)], most first. A library without symbols is one line."""
    shares = {}
    for line in report.splitlines():
        m = re.match(r"\s*([\d.]+)%\s+(\S+)\s+\[.\]\s+(\S+)", line)
        if not m:
            continue
        dso = m[2].replace("[kernel.kallsyms]", "kernel")
        symbol = "(no symbols)" if m[3].startswith("0x") else m[3]
        shares[f"{dso} {symbol}"] = shares.get(f"{dso} {symbol}", 0) + float(m[1])
    if not shares:
        raise Failure("perf has recorded nothing")
    return sorted(((share, name) for name, share in shares.items()), reverse=True)


def by_object(lines):
    shares = {}
    for share, name in lines:
        shares[name.split()[0]] = shares.get(name.split()[0], 0) + share
    return ", ".join(f"{name} {share:.0f} %" for name, share in
                     sorted(shares.items(), key=lambda s: -s[1]) if share >= 0.5)


def profile(opts):
    """Prints as it goes. Return: the same, as Markdown."""
    if not shutil.which("perf"):
        sys.exit("bench/run: no perf (Debian's package linux-perf)")
    text = ""
    for streams in (1, 8):
        for side in "ab":
            with Lab() as lab:
                setup = peers.Ours().start(lab)
                peers.start_servers(setup)
                space = setup.client if side == "a" else setup.server
                try:
                    shares, gbits = record(lab, setup, space, streams, opts.seconds)
                except Failure as e:
                    sys.exit(f"bench/run: {e}\n{lab.logs()}")
            lines = [f"{'sender' if side == 'a' else 'receiver'}, {streams} "
                     f"stream{'s' if streams > 1 else ''}, {gbits:.1f} Gbit/s: "
                     f"{by_object(shares)}", ""]
            lines += [f"    {share:5.1f} %  {name}" for share, name in shares[:SYMBOL_CNT]]
            print("\n".join(lines) + "\n", flush=True)
            text += "\n".join(lines) + "\n\n"
    return text
