#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""What bench/ makes of figures: ratios, targets, tables, a profile's parts. Prints TAP.

How it works: nothing is measured; figures and perf's words are given.
"""
import os
import shutil
import subprocess
import sys
import tempfile

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(TOP, "bench"))

import cases  # noqa: E402
import profiler  # noqa: E402
import report  # noqa: E402
import slices  # noqa: E402


def expect_eq(got, want):
    if got != want:
        raise AssertionError(f"got {got!r}, want {want!r}")


def a_result(**peers):
    """peers: name with _ for -: {figure: values}"""
    return {"about": {"commit": None, "date": "2000-01-01", "kernel": "6.1", "cpu_cnt": 2,
                      "cpu": "x", "rounds": 3, "seconds": 1, "congestion_control": "reno",
                      "others_cpu": []},
            "peers": {name.replace("_", "-"): {"title": name, "kind": "none", "figures": figures}
                      for name, figures in peers.items()},
            "micro": []}


def target_of(result, text):
    return next((row[2:] for row in report.targets(result) if row[0] == text), None)


def test_a_failed_round_leaves_its_place():
    figures = {}
    report.keep(figures, "x", 0, 1.0)
    report.keep(figures, "x", 2, 3.0)
    report.keep(figures, "y", 1, 2.0)
    expect_eq(figures, {"x": [1.0, None, 3.0], "y": [None, 2.0]})


def test_ratio_is_the_median_of_the_rounds_ratios():
    # 2, 5 and 3; the ratio of the medians is 2.
    expect_eq(report.middle_ratio([20, 10, 30], [10, 2, 10]), 3)
    expect_eq(report.middle_ratio([10, None, 30], [10, 1, 10]), 2)
    expect_eq(report.middle_ratio([10, 20], [10]), 1)
    expect_eq(report.middle_ratio([10], [0]), None)
    expect_eq(report.middle_ratio([], []), None)


def test_division_table():
    result = a_result(tcpcrypt_ns={"rr_p50_us": [20, 10, 30]}, kernel={"rr_p50_us": [10, 2, 10]})
    expect_eq(report.ratio(result, "kernel", "rr_p50_us"), "3.00")
    expect_eq(report.ratio(result, "tcpcrypt-ns", "rr_p50_us"), "")
    expect_eq(report.ratio(result, "stunnel", "rr_p50_us"), "")


def test_target_takes_the_better_of_each_round():
    result = a_result(tcpcrypt_ns={"gbits_1_up": [10, 20, 10]},
                      stunnel={"gbits_1_up": [4, 1, None]},
                      haproxy_tls={"gbits_1_up": [1, 8, 5]})
    # bounds: 8, 16, 10
    expect_eq(target_of(result, "Gbit/s, 1 stream out"), (10, 10, 1.25, True))


def test_target_of_the_least():
    result = a_result(tcpcrypt_ns={"rr_p99_us": [90, 90]}, stunnel={"rr_p99_us": [100, 60]},
                      haproxy_plain={"rr_p99_us": [80, 100]})
    expect_eq(target_of(result, "latency p99, us"), (90, 70, (90 / 80 + 90 / 60) / 2, False))


def test_target_pasta_and_more():
    result = a_result(tcpcrypt_ns={"rr_p50_us": [50]}, pasta={"rr_p50_us": [40]})
    expect_eq(target_of(result, "latency p50, us"), (50, 50, 1, True))


def test_constant_targets():
    result = a_result(tcpcrypt_ns={"idle_mb": [8, 9, 7], "among_idle_ratio": [0.9, 0.94, 0.99],
                                   "udp_gbits_ratio": [0.96], "icmp_p50_us_ratio": [1.06],
                                   "idle_cpu_percent": [0]})
    expect_eq(target_of(result, "memory idle, MB"), (8, 8, 1, True))
    expect_eq(target_of(result, "1 stream among idle connections")[3], False)
    expect_eq(target_of(result, "UDP, with us by without")[3], True)
    expect_eq(target_of(result, "ICMP latency, with us by without")[3], False)
    expect_eq(target_of(result, "idle CPU with them, %"), (0, 0.1, 0, True))


def test_what_was_not_measured_has_no_target():
    expect_eq(report.targets(a_result()), [])
    expect_eq(report.targets(a_result(tcpcrypt_ns={"gbits_1_up": [1]})), [])
    expect_eq(report.targets(a_result(stunnel={"gbits_1_up": [1]})), [])


def test_tables_with_gaps():
    result = a_result(
        tcpcrypt_ns={"gbits_1_up": [1, None, 3], "udp_gbits": [2], "udp_gbits_without": [4],
                     "udp_gbits_ratio": [0.5]},
        kernel={"gbits_1_up": [None, None, 6]})
    text = report.text(result)
    for words in ("2.00 (1.00..3.00)", "| kernel |          0.50 |",
                  "| UDP, Gbit/s |       4.00 |    2.00 |  0.50 |"):
        if words not in text:
            raise AssertionError(f"no {words!r} in\n{text}")
    report.svg(result)


def test_slices_in_turn():
    order = []

    def load(name, values):
        values = iter(values)

        def run():
            order.append(name)
            return next(values)
        return run

    # The first value of each warms up only.
    got = slices.compare(load("a", [99, 4, 2, 30]), load("b", [1, 2, 4, 10]), pair_cnt=3)
    expect_eq("".join(order), "ababbaab")
    expect_eq(got, (4, 4, 2))


KERNEL = "[kernel.kallsyms]"


def frames(*names):
    return [(name, KERNEL) for name in names] + [("__GI___writev", "/lib/libc.so.6")]


def test_parts_of_a_profile():
    lwip = {"tcp_output"}
    for want, got in (
        ("encryption", [("aes", "/usr/lib/libIPSec_MB.so.1.3.0")]),
        ("lwIP", [("tcp_output", "/x/tcpcrypt-ns"), ("relay", "/x/tcpcrypt-ns")]),
        ("our own code", [("relay", "/x/tcpcrypt-ns"), ("tcp_output", "/x/tcpcrypt-ns")]),
        ("C library and event loop", [("malloc", "/lib/libc.so.6")]),
        ("reading TUN: copy", frames("_copy_to_iter", "tun_do_read", "tun_chr_read_iter")),
        ("writing TUN: copy", frames("get_page", "_copy_from_iter", "tun_chr_write_iter")),
        ("writing TUN: the rest", frames("tun_get_user", "tun_chr_write_iter")),
        ("TCP/IP, inside writing TUN",
         frames("tcp_ack", "ip_rcv", "netif_receive_skb", "tun_chr_write_iter")),
        ("nftables", frames("nft_do_chain", "nf_hook_slow", "ip_rcv", "tun_chr_write_iter")),
        ("wake-ups, epoll and scheduling",
         frames("_raw_spin_unlock", "sock_def_readable", "ip_rcv", "tun_chr_write_iter")),
        ("reading the packet socket: copy",
         frames("_copy_to_iter", "packet_recvmsg", "sock_read_iter")),
        ("veth and receipt, inside writing the packet socket",
         frames("packet_rcv", "__netif_receive_skb_core", "__dev_queue_xmit", "packet_sendmsg")),
        ("system calls' entry, and the rest", frames("do_syscall_64")),
    ):
        expect_eq(profiler.part_of(got, lwip), want)
        if want not in profiler.USER_PARTS + profiler.KERNEL_PARTS:
            raise AssertionError(f"{want} has no line in the table")


SCRIPT = """tcpcrypt-worker  6194 cpu-clock:ppp: 
\tffffffff81db389c tun_get_user ([kernel.kallsyms])
\tffffffff81db5437 tun_chr_write_iter ([kernel.kallsyms])
\t           fde60 __GI___writev (/usr/lib/libc.so.6)
\teb5e280000450010 [unknown] ([unknown])

tcpcrypt-worker  6194 cpu-clock:ppp: 
\t          90de2b relay (/x/tcpcrypt-ns)

"""


def test_counting_samples():
    got = profiler.count(SCRIPT, set())
    expect_eq(got, {"samples": 2, "kernel": 50.0,
                    "parts": {"writing TUN: the rest": 50.0, "our own code": 50.0},
                    "symbols": {"kernel tun_get_user": 50.0, "tcpcrypt-ns relay": 50.0}})
    result = {"about": a_result()["about"], "profile": [
        got | {"side": "sender", "streams": 1, "gbits": 9, "busy": 70}]}
    if "| writing TUN: the rest " not in profiler.text(result):
        raise AssertionError(profiler.text(result))


def bench_from(path):
    return subprocess.run([sys.executable, os.path.join(TOP, "bench", "run"), "--from", path],
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, timeout=20)


def test_from_reads_the_published_result():
    r = bench_from(os.path.join(TOP, "docs", "performance.json"))
    expect_eq((r.returncode, r.stderr), (0, ""))
    if "### Targets" not in r.stdout:
        raise AssertionError(r.stdout)


def test_from_says_what_is_wrong():
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "x.json")
        for words in ("", "[]", '{"peers": {}}', '{"about": {}}', '{"about": {}, "peers": {}}',
                      '{"about": {"date": "", "commit": ""}, "profile": [{"side": "sender"}]}'):
            with open(path, "w", encoding="utf-8") as f:
                f.write(words)
            r = bench_from(path)
            expect_eq((r.returncode, len(r.stderr.splitlines()), r.stdout), (1, 1, ""))


def test_each_part_of_the_page_leaves_the_other():
    with tempfile.TemporaryDirectory() as folder:
        os.mkdir(os.path.join(folder, "docs"))
        page = os.path.join(folder, "docs", "PERFORMANCE.md")
        shutil.copy(os.path.join(TOP, "docs", "PERFORMANCE.md"), page)
        report.replace_part(folder, "profile", "of the profile\n")
        report.publish(a_result(), folder)
        with open(page, encoding="utf-8") as f:
            text = f.read()
        expect_eq(text.count("of the profile\n"), 1)
        report.replace_part(folder, "profile", "another\n")
        with open(page, encoding="utf-8") as f:
            expect_eq(f.read(), text.replace("of the profile\n", "another\n"))


if __name__ == "__main__":
    cases.run([f for name, f in list(globals().items()) if name.startswith("test_")])
