# SPDX-License-Identifier: BSD-3-Clause
"""test-server: what it tells visitors is true, in a browser, too; hostile ones do no harm."""
import contextlib
import html
import http.client
import json
import os
import re
import shutil
import signal
import socket
import tempfile

import tap
from lab import Skip, binary, expect, expect_eq, wait_for
from middlebox import Middlebox
from rfc import session
from schema import load, validate

PORT = 7548


@contextlib.contextmanager
def server(ns, *args):
    """Gives the URL that it printed."""
    p = ns.popen(binary(), "test-server", *args)
    try:
        yield wait_for(lambda: p.out().strip() or p.poll() is not None and p.err(), what="the URL")
        expect_eq(p.poll(), None, p.err())
    finally:
        code = p.stop(signal.SIGTERM)
    expect_eq((code, p.err()), (0, ""), "its end")


def get(c, path="/session.json", method="GET"):
    """One request on a connected socket. Return: status, headers, body."""
    c.sendall(f"{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    r = http.client.HTTPResponse(c, method=method)
    r.begin()
    return r.status, dict(r.getheaders()), r.read()


def visit(a, addr, port=PORT):
    """Return: what /session.json says, and our own port."""
    with a.connect(addr, port) as c:
        status, headers, body = get(c)
        expect_eq((status, headers["Content-Type"]), (200, "application/json"))
        found = json.loads(body)
        validate(found, load("visit"))
        expect_eq((found["local"], found["local_port"]), (addr, port))
        expect_eq((found["peer"], found["peer_port"]), c.getsockname()[:2])
        return found


def test_encrypted(lab):
    """Both families: the id is that of the other end."""
    _, a, b = lab.pair()
    with server(b) as url:
        expect_eq(url, f"http://[::]:{PORT}/")
        for addr in (b.ip4, b.ip6):
            with a.connect(addr, PORT) as c:
                c.sendall(b"GET /session.json HTTP/1.1\r\n")
                here = wait_for(lambda: [s for s in a.sessions()
                                         if s["local_port"] == c.getsockname()[1]
                                         and s["state"] == "encrypted"])[0]
                found = json.loads(get_rest(c))
            validate(found, load("visit"))
            expect_eq(found["state"], "encrypted")
            for key in ("session_id", "tep", "aead", "reason"):
                expect_eq(found[key], here[key], key)
            expect_eq((found["role"], here["role"]), ("b", "a"))
        expect(found["reason"] in ("full", "resumed"))


def get_rest(c):
    c.sendall(b"\r\n")
    r = http.client.HTTPResponse(c)
    r.begin()
    return r.read()


def test_clear(lab):
    r, a, b = lab.star("a", "b")
    with server(b):
        expect_eq(visit(a, b.ip4)["reason"], "no-daemon")
        b.up()
        found = visit(a, b.ip4)
        expect_eq((found["state"], found["reason"]), ("clear", "peer-no-eno"))
        expect("session_id" not in found and "role" not in found, found)
        expect_eq(visit(b, b.ip4)["reason"], "not-carried", "loopback")
        b.down()
        b.up("--policy", "off")
        expect_eq(visit(a, b.ip4)["reason"], "off")
        b.down()
        b.up("--bypass", str(PORT))
        expect_eq(visit(a, b.ip4)["reason"], "not-carried", "bypassed")


def test_stripped_on_the_way_back(lab):
    with Middlebox(lab) as box:
        a, b = box.hosts
        a.up()
        b.up()
        box.rule = lambda s: [s.without()] if s.is_synack and s.eno() else None
        with server(b):
            found = visit(a, b.ip4)
            expect_eq((found["state"], found["reason"]), ("clear", "eno-stripped"))
            page = page_of(a, b)
            expect("on the way back, from here to you" in page, page)


def test_daemon_is_silent(lab):
    _, a, b = lab.star("a", "b")
    b.up()
    with server(b), a.connect(b.ip4, PORT) as c:
        session(b, PORT)  # it is accepted before the daemon stops
        pids = [json.loads(b.tcns("status", "--json").stdout)["worker_pid"]]
        c.sendall(b"GET /session.json HTTP/1.1\r\n\r\n")
        expect_eq(json.loads(get_answer(c))["reason"], "peer-no-eno", "before")
        with b.connect(b.ip4, PORT) as own:  # the tunnel does not carry this one
            for pid in pids:
                os.kill(pid, signal.SIGSTOP)
            try:
                status, _, body = get(own)
            finally:
                for pid in pids:
                    os.kill(pid, signal.SIGCONT)
        found = json.loads(body)
        validate(found, load("visit"))
        expect_eq((status, found["state"], found["reason"]), (200, "unknown", "daemon-is-silent"))


def get_answer(c):
    r = http.client.HTTPResponse(c)
    r.begin()
    return r.read()


def page_of(a, b):
    with a.connect(b.ip4, PORT) as c:
        status, headers, body = get(c, "/")
        expect_eq((status, headers["Content-Type"]), (200, "text/html; charset=utf-8"))
        expect("default-src 'none'" in headers["Content-Security-Policy"], headers)
        return body.decode()


def test_page_and_addresses(lab):
    _, a, b = lab.pair()
    with server(b, "--listen", f"{b.ip4}:{PORT}"):
        page = page_of(a, b)
        expect("{{" not in page and "secu" "re" not in page.lower(), page)
        shown = html.unescape(re.search(r"<pre>tcpcrypt-ns (.*?)</pre>", page)[1])
        here = "".join(re.findall(r"<li>([0-9a-f]+)</li>", page))
        wait_for(lambda: here in a.tcns(*shown.split()).stdout, 5, f"{shown} shows {here}")
        expect(re.search(r"<title>encrypted: ", page) and "Encrypted is not authenticated" in page)
        expect_eq(len("".join(re.findall(r"<li>([0-9a-f]+)</li>", page))), 66, page)
        expect(not re.search(r"(src|href)=\"(?!data:,|/session.json)", page), "nothing from outside")
        for path, status in (("/nothing", 404), ("/session.json?x=1", 200), ("/?x", 200)):
            with a.connect(b.ip4, PORT) as c:
                expect_eq(get(c, path)[0], status, path)
        with a.connect(b.ip4, PORT) as c:
            status, headers, body = get(c, "/", "HEAD")
            expect_eq((status, body), (200, b""))
            expect(int(headers["Content-Length"]) > 1000, headers)
        with a.connect(b.ip4, PORT) as c:
            expect_eq(get(c, "/", "POST")[0], 405)
    with server(b, "--listen", f"[{b.ip6}]:0", "--json") as url:
        port = int(re.fullmatch(rf"http://\[{b.ip6}\]:(\d+)/", url)[1])
        with a.connect(b.ip6, port) as c:
            expect_eq(json.loads(get(c, "/")[2])["state"], "encrypted")


def test_hostile_visitors(lab):
    """Garbage, half requests, huge ones, many that say nothing: the next one is served."""
    _, a, b = lab.star("a", "b")
    with server(b):
        idle = [a.connect(b.ip4, PORT) for _ in range(200)]
        for text in (b"\0" * 100, b"\r\n\r\n", b"GET", b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 5000,
                     b"GET " + b"/" * 9000 + b" HTTP/1.1\r\n\r\n", os.urandom(20000),
                     b"GET /<script> HTTP/1.1\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
                     b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"get / http/1.1\r\n\r\n"):
            c = a.connect(b.ip4, PORT)
            with contextlib.suppress(ConnectionError):
                c.sendall(text)
                c.shutdown(socket.SHUT_WR)
                while chunk := c.recv(65536):
                    expect(b"<script>" not in chunk, chunk)
            c.close()
        for i in range(50):  # who leaves before the answer
            c = a.connect(b.ip4, PORT)
            c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            c.sendall(b"GET / HTTP/1.1\r\n\r\n")
            c.close()
        expect_eq(visit(a, b.ip4)["reason"], "no-daemon")
        for c in idle:
            c.close()


def test_wrong_use(lab):
    _, a = lab.star("a")
    for args, code, words in ((["x"], 2, "no operand"), (["--listen", "80"], 2, "ADDRESS:PORT"),
                              (["--listen", "x:80"], 2, "ADDRESS:PORT"),
                              (["--listen", "203.0.113.9:80"], 1, "cannot listen")):
        r = a.run(binary(), "test-server", *args, check=False)
        expect_eq(r.returncode, code, args)
        expect(words in r.stderr, r.stderr)
    with a.listen(PORT):
        r = a.run(binary(), "test-server", check=False)
        expect_eq(r.returncode, 1, r.stderr)


# --- A browser ----------------------------------------------------------------------------------


def browse(ns, url, *args):
    """Chromium in an exec of its own in ns. Return: the page as it stands in the browser."""
    if not shutil.which("chromium"):
        raise Skip("no chromium")
    with tempfile.TemporaryDirectory() as home:
        argv = ["env", f"HOME={home}", binary(), "exec", "--bypass", "none", "--", "chromium",
                "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
                "--disable-background-networking", "--disable-component-update", "--disable-sync",
                "--disable-dev-shm-usage", f"--user-data-dir={home}/profile", *args, url]
        r = ns.run(*argv, timeout=50, check=False)
    expect_eq(r.returncode, 0, r.stderr)
    return r.stdout


def words(page):
    text = re.sub(r"<style.*?</style>|<[^>]*>", " ", page, flags=re.S)
    return re.sub(r"\s+", " ", html.unescape(text))


@tap.timeout(120)
def test_in_a_browser(lab):
    """Unchanged, in exec: it is encrypted, and the id is the one that the server's side has."""
    _, a, b = lab.star("a", "b")
    b.up()
    shots = os.environ.get("TCNS_SHOTS")  # a folder, for who wants to look at them
    with server(b):
        url = f"http://{b.ip4}:{PORT}/"
        page = browse(a, url, "--dump-dom")
        expect("<title>encrypted: " in page, page)
        text = words(page)
        expect("This connection arrived encrypted" in text, text)
        expect("Encrypted is not authenticated" in text, text)
        expect(f"from {a.ip4}:" in text and f"to {b.ip4}:{PORT}" in text, text)
        shown = "".join(re.findall(r"<li>([0-9a-f]+)</li>", page))
        ids = [s["session_id"] for s in json.loads(
            b.tcns("sessions", "--ended", "--json").stdout)["sessions"] if "session_id" in s]
        expect(shown in ids, "the id", shown, ids)
        found = json.loads(html.unescape(re.search(r"\{.*\}", browse(
            a, url + "session.json", "--dump-dom"))[0]))
        expect_eq(found["state"], "encrypted")
        png = lab.file("page.png")
        browse(a, url, f"--screenshot={png}", "--window-size=900,1250")
        with open(png, "rb") as f:
            expect_eq(f.read(8), b"\x89PNG\r\n\x1a\n")
        expect(os.path.getsize(png) > 20000, "not an empty page")
        b.down()
        page = browse(a, url, "--dump-dom")
        expect("<title>clear: " in page and "This connection arrived in clear" in words(page), page)
        if shots:
            look(a, b, url, shots)


def look(a, b, url, shots):
    """Screenshots in both colours, wide and narrow, encrypted and clear."""
    for state in ("clear", "encrypted"):
        if state == "encrypted":
            b.up()
        for colour in ("light", "dark"):
            extra = ["--force-dark-mode", "--blink-settings=preferredColorScheme=0"] \
                if colour == "dark" else []
            browse(a, url, f"--screenshot={shots}/{state}-{colour}.png", "--window-size=900,1250",
                   *extra)
    browse(a, url, f"--screenshot={shots}/narrow.png", "--window-size=500,1800")


if __name__ == "__main__":
    tap.main()
