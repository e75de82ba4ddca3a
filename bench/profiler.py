# SPDX-License-Identifier: BSD-3-Clause
"""What our workers spend their time with, by perf.

How it works: perf samples one worker while iperf3 runs through both, first the
sender's, then the receiver's; each for 1 and for 8 streams. A sample in user space
belongs to the program or library it hit. One in the kernel comes with its callers:
the innermost that says what is going on (a copy, nftables, a wake-up, the network stack)
names the work, and the one that says which file it is for names the place.
"""
import re
import shutil

import peers
import report
from lab import Failure, Lab, run
from measures import iperf
from peers import CONGESTION_CONTROL, IPERF

FREQUENCY_HZ = 1999
RAMP_UP_S = 0.5  # before perf starts
SYMBOLS_MAX_CNT = 40  # kept of each recording
SYMBOLS_SHOWN_CNT = 20
KERNEL = "[kernel.kallsyms]"

ENCRYPTION, LWIP, OWN, LIBRARIES = (
    "encryption", "lwIP", "our own code", "C library and event loop")
FIREWALL, WAKE, REST = (
    "nftables", "wake-ups, epoll and scheduling", "system calls' entry, and the rest")
# Which of our calls the kernel works for: a function that only this call goes through.
CALLS = [
    (re.compile(r"tun_chr_read_iter"), "reading TUN"),
    (re.compile(r"tun_chr_write_iter"), "writing TUN"),
    (re.compile(r"packet_recvmsg|sock_read_iter"), "reading the packet socket"),
    (re.compile(r"packet_sendmsg|sock_write_iter"), "writing the packet socket"),
]
STACK = {"writing TUN": "TCP/IP, inside writing TUN",
         "writing the packet socket": "veth and receipt, inside writing the packet socket"}
COPY, OTHER = "copy", "the rest"
USER_PARTS = (ENCRYPTION, LWIP, OWN, LIBRARIES)
KERNEL_PARTS = (*(f"{call}: {what}" for _, call in CALLS for what in (COPY, OTHER)),
                *STACK.values(), FIREWALL, WAKE, REST)
# What a function and all below it do; the innermost decides.
WORK = [
    (re.compile(r"nf_hook|nft_"), FIREWALL),
    (re.compile(r"__wake_up|try_to_wake_up|ep_poll_callback|sock_def_(readable|write_space)|"
                r"sk_stream_write_space|finish_task_switch|(__)?schedule\b|exit_to_user_mode_loop|"
                r"do_epoll_wait|do_sys_poll|\w*sysvec_(reschedule|call_function)"), WAKE),
    (re.compile(r"_copy_(to|from)_iter|copy_page_(to|from)_iter|simple_copy_to_iter|"
                r"skb_copy_datagram|__skb_datagram_iter"), COPY),
    (re.compile(r"(__)?netif_receive_skb|net_rx_action|ip6?_rcv|tcp_v[46]_rcv|__dev_queue_xmit"),
     STACK),
]


def first_match(patterns, names):
    """Return: the word of the first name, innermost first, that one of the patterns begins."""
    return next((word for name in names for pattern, word in patterns if pattern.match(name)),
                None)


def part_of(frames, lwip_symbols):
    """frames: [(symbol, object)], innermost first. Return: one of the parts."""
    symbol, place = frames[0]
    if place != KERNEL:
        if re.search(r"libIPSec_MB|libcrypto|libsodium", place):
            return ENCRYPTION
        if not place.endswith("/tcpcrypt-ns"):
            return LIBRARIES
        return LWIP if symbol in lwip_symbols else OWN
    names = [name for name, where in frames if where == KERNEL]
    work, call = first_match(WORK, names), first_match(CALLS, names)
    if work in (FIREWALL, WAKE):
        return work
    if call is None:
        return REST
    if work is STACK and call in STACK:
        return STACK[call]
    return f"{call}: {COPY if work == COPY else OTHER}"


def samples(script):
    """perf script's text. Return: the frames of each sample, innermost first."""
    for block in script.split("\n\n"):
        found = re.findall(r"^\s+[0-9a-f]+ (.+) \(([^()]*)\)$", block, re.M)
        if found:
            yield found


def lwip_functions():
    """Return: names of functions that come from lwIP's sources, by the debug information."""
    lines = run("nm", "--defined-only", "--line-numbers", peers.OUR_BINARY, timeout=60)
    return {m[1] for m in re.finditer(r"^\S+ [tT] (\S+)\t\S*/lwip[^/]*/\S+$", lines, re.M)}


def percent(counts, total):
    return {name: 100 * n / total for name, n in
            sorted(counts.items(), key=lambda item: -item[1])}


def count(script, lwip_symbols):
    """Return: {"samples", "kernel", "parts", "symbols"}, all but the first in percent."""
    total, in_kernel, parts, symbols = 0, 0, {}, {}
    for frames in samples(script):
        symbol, place = frames[0]
        part = part_of(frames, lwip_symbols)
        name = "kernel" if place == KERNEL else place.rsplit("/", 1)[-1]
        name += " " + (symbol if symbol != "[unknown]" else "(no symbols)")
        total += 1
        in_kernel += place == KERNEL
        parts[part] = parts.get(part, 0) + 1
        symbols[name] = symbols.get(name, 0) + 1
    if not total:
        raise Failure("perf has recorded nothing")
    most = dict(list(percent(symbols, total).items())[:SYMBOLS_MAX_CNT])
    return {"samples": total, "kernel": 100 * in_kernel / total,
            "parts": percent(parts, total), "symbols": most}


def record(lab, setup, space, streams, seconds, lwip_symbols):
    """Return: what count() returns, and "gbits", and "busy": percent of a processor."""
    data = lab.file(f"{space.short}-{streams}.perf")
    pid = peers.Ours.status(space)["worker_pid"]
    record_s = max(0.5, seconds - 2 * RAMP_UP_S)
    perf = lab.popen("perf", ["sh", "-c", f"sleep {RAMP_UP_S}; exec perf record -q -g "
                              f"-F {FREQUENCY_HZ} -p {pid} -o {data} -- "
                              f"sleep {record_s}"])
    got = iperf(setup.client, setup.host, IPERF, "-t", seconds, "-P", streams,
                "-C", CONGESTION_CONTROL, timeout=seconds + 15)
    perf.wait(20)
    script = run("perf", "script", "-i", data, "-F", "comm,tid,event,ip,sym,dso", timeout=120)
    counted = count(script, lwip_symbols)
    return counted | {"gbits": got["bits_per_second"] / 1e9,
                      "busy": 100 * counted["samples"] / (FREQUENCY_HZ * record_s)}


def missing():
    """Return: why nothing can be profiled here, or None."""
    lacking = [f"{p} (Debian's package {package})" for p, package in
               (("perf", "linux-perf"), ("nm", "binutils")) if not shutil.which(p)]
    return "no " + ", no ".join(lacking) if lacking else None


def profile(opts, say):
    """Return: [{"side", "streams", "gbits", "busy", and what count() returns}]."""
    found, lwip_symbols = [], lwip_functions()
    if not lwip_symbols:
        raise Failure("the program has no debug information: lwIP cannot be told from our code")
    for streams in (1, 8):
        for side in ("sender", "receiver"):
            recording = {"side": side, "streams": streams}
            say(heading(recording))
            with Lab() as lab:
                try:
                    setup = peers.Ours().start(lab)
                    peers.start_servers(setup)
                    space = setup.client if side == "sender" else setup.server
                    found.append(recording | record(lab, setup, space, streams, opts.seconds,
                                                    lwip_symbols))
                except Failure as e:
                    raise Failure(f"{e}\n{lab.logs()}") from e
    return found


def heading(recording):
    n = recording["streams"]
    return f"{recording['side']}, {n} stream{'s' if n > 1 else ''}"


def text(result):
    """Return: the tables of a result {"about", "profile": what profile() returned}."""
    a, found = result["about"], result["profile"]
    head = [heading(r) for r in found]

    def row(words, values):
        return [*words, *(f"{v:.1f}" for v in values)]

    rows = [row(("Gbit/s", ""), (r["gbits"] for r in found)),
            row(("busy, % of one processor", ""), (r["busy"] for r in found)),
            row(("all", "user"), (100 - r["kernel"] for r in found)),
            row(("all", "kernel"), (r["kernel"] for r in found))]
    for where, parts in (("user", USER_PARTS), ("kernel", KERNEL_PARTS)):
        rows += [row((part, where), (r["parts"].get(part, 0) for r in found)) for part in parts]
    # A symbol below a recording's most frequent ones has no figure there.
    most = {}
    for r in found:
        for name, share in r["symbols"].items():
            most[name] = most.get(name, 0) + share
    symbols = [[f"`{name}`", *(report.number(r["symbols"].get(name)) for r in found)]
               for name in sorted(most, key=most.get, reverse=True)[:SYMBOLS_SHOWN_CNT]]
    least = min(r["samples"] for r in found)
    return (f"Commit {a['commit'] or 'unknown'}, {a['date']}, Linux {a['kernel']}, "
            f"{a['cpu_cnt']} x {a['cpu']}; {a['seconds']} s each, at least {least:,} samples; "
            f"congestion control {a['congestion_control']}. Per cent of the worker's own processor "
            "time.\n\n" + report.table(["", "in", *head], rows, 2) +
            "\nThe functions with the most of it\n\n" + report.table(["", *head], symbols) + "\n")
