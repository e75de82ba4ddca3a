# SPDX-License-Identifier: BSD-3-Clause
"""metrics: valid text, true numbers, over HTTP as well; the dashboard asks for what there is."""
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess

import tap
from lab import TOP, Failure, Skip, binary, expect, expect_eq, wait_for

PREFIX = "tcpcrypt_"


def metrics(ns):
    """Return: {"name{labels}": value}, names without the prefix."""
    found = {}
    for line in ns.tcns("metrics").stdout.splitlines():
        if not line.startswith("#"):
            name, value = line.rsplit(" ", 1)
            expect(name.startswith(PREFIX), "our prefix", line)
            found[name[len(PREFIX):]] = float(value)
    return found


def exchange(a, b, port=7000, close=True):
    """A question and an answer; returns the sockets, or None when closed."""
    listener = b.listen(port)
    c = a.connect(b.ip4, port)
    s, _ = listener.accept()
    listener.close()
    c.sendall(b"question")
    expect_eq(s.recv(100), b"question")
    s.sendall(b"answer")
    expect_eq(c.recv(100), b"answer")
    if not close:
        return c, s
    c.close()
    expect_eq(s.recv(1), b"")
    s.close()
    return None


def expect_metrics(ns, **want):
    """Waits until the samples have these values; keys are family__label__label."""
    def same():
        have = metrics(ns)
        return all(have.get(k) == v for k, v in want.items())
    try:
        wait_for(same, 5, "metrics")
    except Failure as e:
        have = metrics(ns)
        raise Failure(f"{e}: " + ", ".join(f"{k} is {have.get(k)}, not {v}"
                                           for k, v in want.items() if have.get(k) != v)) from None


def test_promtool_finds_nothing(lab):
    if not shutil.which("promtool"):
        raise Skip("promtool is not installed")
    _, a, b = lab.pair()
    exchange(a, b)
    for ns in (a, b):
        text = ns.tcns("metrics").stdout
        r = subprocess.run(["promtool", "check", "metrics"], input=text, text=True,
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        expect_eq((r.returncode, r.stdout), (0, ""), "promtool")
        for name in set(re.findall(r"^# TYPE (\S+)", text, re.M)):
            expect(f"# HELP {name} " in text, "each has a help text", name)


def test_numbers_follow_what_happens(lab):
    r, a, b = lab.star("a", "b")
    a.up("--rekey-bytes", "1000")
    b.up()
    before = metrics(a)
    expect(before['connections_settled_total{reason="full"}'] == 0, "there before it happens")
    expect(not any(n.startswith("connections{") for n in before), "no connection")
    exchange(a, b)
    c, s = exchange(a, b, close=False)
    expect_metrics(a, **{
        'connections{state="encrypted",reason="resumed"}': 1,
        'connections_opened_total': 2,
        'connections_settled_total{reason="full"}': 1,
        'connections_settled_total{reason="resumed"}': 1,
        'connections_settled_total{reason="peer-no-eno"}': 0,
        'connections_ended_total{end="closed"}': 1,
        'resumptions_total': 1,
        'handshake_duration_seconds_count{kind="full"}': 1,
        'handshake_duration_seconds_count{kind="resumed"}': 1,
        'application_bytes_total{direction="sent",protection="encrypted"}': 16,
        'application_bytes_total{direction="received",protection="encrypted"}': 12,
        'application_bytes_total{direction="sent",protection="clear"}': 0,
        'flows': 1, 'flows_opening': 0, 'aead_failures_total': 0, 'worker_restarts_total': 0,
    })
    for _ in range(5):
        c.sendall(b"x" * 2000)
        got = 0
        while got < 2000:
            got += len(s.recv(65536))
    have = metrics(a)
    expect(have['rekeys_total{direction="sent"}'] >= 4, "new keys", have)
    expect(have['rekeys_total{direction="sent"}'] >= have['rekeys_total{direction="received"}'] >= 3,
           "answered", have)
    expect_eq(metrics(b)['rekeys_total{direction="received"}'],
              have['rekeys_total{direction="sent"}'])
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    s.close()
    c.close()
    expect_metrics(a, **{'connections_ended_total{end="reset-by-peer"}': 1})

    exchange(a, r_with_address(r, a))
    expect_metrics(a, **{
        'connections_settled_total{reason="peer-no-eno"}': 1,
        'application_bytes_total{direction="sent",protection="clear"}': 8,
        'application_bytes_total{direction="received",protection="clear"}': 6,
        'flows': 0,
    })
    have = metrics(a)
    expect(0 < have["loop_lag_max_seconds"] < 5, "loop lag", have["loop_lag_max_seconds"])
    expect(have["loop_lag_seconds_count"] > 10, "turns of the loop")
    expect(0 < have['handshake_duration_seconds_sum{kind="full"}'] < 2, "seconds")
    expect(have["buffer_limit_bytes"] > have["buffer_bytes"] >= 0, "buffers")
    a.tcns("cache", "--flush")
    expect_metrics(a, resumption_peers=0)


def r_with_address(r, a):
    """The router as a host that knows no tcpcrypt."""
    r.ip4 = a.ip4.rsplit(".", 1)[0] + ".1"
    return r


def test_errors_restarts_and_retransmissions(lab):
    r, a, b = lab.pair()
    exchange(a, b)
    # Loss on the way: one packet with data is lost and sent again.
    c, s = exchange(a, b, 7002, close=False)
    r.forward_rules(f"ip saddr {a.ip4} tcp dport 7002 limit rate over 1/hour burst 1 packets accept",
                    f"ip saddr {a.ip4} tcp dport 7002 drop")
    c.sendall(b"late")
    wait_for(lambda: metrics(a)['retransmitted_segments_total{side="outer"}'] >= 1, 10, "again")
    r.forward_rules()
    c.close()
    s.close()
    pid = json.loads(a.tcns("status", "--json").stdout)["worker_pid"]
    os.kill(pid, signal.SIGKILL)

    def restarted():
        p = a.tcns("metrics", check=False)
        return p.returncode == 0 and f"{PREFIX}worker_restarts_total 1\n" in p.stdout
    wait_for(restarted, 10, "the next worker says that it is the second")


def get(port, path, method="GET", addr="127.0.0.1", ns=None):
    with ns.inside():
        c = http.client.HTTPConnection(addr, port, timeout=10)
        c.connect()
    try:
        c.request(method, path)
        r = c.getresponse()
        return r.status, r.read().decode(), r.headers
    finally:
        c.close()


def test_served_over_http(lab):
    _, a, b = lab.pair()
    p = a.popen(binary(), "metrics", "--netns", a.path, "--listen", "[::]:0")
    url = wait_for(lambda: p.out(), 5, "the URL")
    port = int(re.fullmatch(r"http://\[::\]:(\d+)/metrics\n", url)[1])
    status, text, headers = get(port, "/metrics", ns=a)
    expect_eq((status, headers["Content-Type"]), (200, "text/plain; version=0.0.4; charset=utf-8"))
    # The text is asked for anew: a number of it has grown.
    exchange(a, b)
    status, later, _ = get(port, "/metrics", ns=a)
    expect("connections_opened_total 0\n" in text and "connections_opened_total 1\n" in later,
           "each scrape asks", text, later)
    expect_eq(get(port, "/metrics", "HEAD", ns=a)[:2], (200, ""))
    expect_eq(get(port, "/", ns=a)[0], 404)
    expect_eq(get(port, "/metrics", "POST", ns=a)[0], 405)
    expect_eq(get(port, "/metrics?x=y", ns=a)[0], 200)
    # From outside, through the tunnel itself; the scraper knows no tcpcrypt.
    expect_eq(get(port, "/metrics", addr=a.ip4, ns=b)[0], 200)
    a.down()
    expect_eq(get(port, "/metrics", ns=a)[0], 503)
    a.up()
    expect_eq(get(port, "/metrics", ns=a)[0], 200)
    expect_eq(p.stop(), 0, "SIGTERM ends it in order")


def test_server_needs_no_privilege(lab):
    """As a second container of a pod has it; its port is bypassed for the sake of require."""
    r, a, b = lab.star("a", "b")
    a.up("--policy", "require", "--bypass", "default,9548")
    b.up()
    p = a.popen("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups",
                "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs",
                binary(), "metrics", "--listen", ":9548")
    wait_for(lambda: p.out(), 5, "the URL")
    for ns in (r, b):
        expect_eq(get(9548, "/metrics", addr=a.ip4, ns=ns)[0], 200)
    expect_eq((p.stop(), p.err()), (0, ""))


def test_another_door(lab):
    _, a = lab.star("a")
    door = lab.file("door")
    a.up("--ctl", door)
    r = a.tcns("metrics", "--ctl", door)
    expect(f"{PREFIX}build_info" in r.stdout, "by the door of --ctl", r.stdout)
    expect_eq(a.tcns("metrics", "--ctl", door + "x", check=False).returncode, 3)


def test_wrong_use(lab):
    _, a = lab.star("a")
    r = a.tcns("metrics", check=False)
    expect_eq((r.returncode, r.stdout), (3, ""))
    expect("no daemon answers" in r.stderr, r.stderr)
    for bad in ("", "80", "localhost:80", "127.0.0.1:70000", "::1:80"):
        r = a.tcns("metrics", "--listen", bad, check=False)
        expect_eq(r.returncode, 2, bad)
        expect("is no ADDRESS:PORT" in r.stderr, r.stderr)
    with a.listen(9100):
        r = a.run(binary(), "metrics", "--listen", "127.0.0.1:9100", check=False)
        expect_eq(r.returncode, 1)
        expect("cannot listen at 127.0.0.1:9100" in r.stderr, r.stderr)
    expect_eq(a.tcns("metrics", "more", check=False).returncode, 2)


def test_dashboard_asks_for_what_there_is(lab):
    _, a, b = lab.pair()
    c, s = exchange(a, b, close=False)
    have = set()
    labels = {}
    for name in metrics(a):
        family, _, rest = name.partition("{")
        have.add(PREFIX + family)
        labels.setdefault(PREFIX + family, set()).update(re.findall(r"(\w+)=", rest))
    c.close()
    s.close()
    with open(os.path.join(TOP, "docs", "grafana.json")) as f:
        dashboard = json.load(f)
    exprs = [t["expr"] for p in dashboard["panels"] for t in p["targets"]]
    expect(len(exprs) > 20, "queries", exprs)
    asked = set()
    for expr in exprs:
        names = re.findall(rf"{PREFIX}\w+", expr)
        expect(names, "a query of ours", expr)
        asked.update(names)
        for name in names:
            expect(name in have, "no such metric", name, expr)
            for by in re.findall(r"by \(([^)]*)\)", expr):
                for label in re.split(r",\s*", by):
                    expect(any(label in labels[n] for n in names), "no such label", label, expr)
    for var in dashboard["templating"]["list"]:
        for name in re.findall(rf"{PREFIX}\w+", json.dumps(var)):
            expect(name in have, "no such metric", name)
    families = {re.sub(r"_(bucket|sum|count)$", "", n) for n in have}
    shown = {re.sub(r"_(bucket|sum|count)$", "", n) for n in asked}
    expect_eq(families - shown - {PREFIX + "build_info", PREFIX + "start_time_seconds"}, set(),
              "metrics that no panel shows")


if __name__ == "__main__":
    tap.main()
