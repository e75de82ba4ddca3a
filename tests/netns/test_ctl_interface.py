# SPDX-License-Identifier: BSD-3-Clause
"""Every reply of the ctl socket, and what verbs print with --json, is as the published
interface describes it, member by member."""
import json
import socket

import tap
from lab import connection, expect, expect_eq
from varlink import Interface


def calls(ns, method, more=False, **parameters):
    """Yields the parameters of the replies; an error's name instead of it."""
    with ns.socket(socket.AF_UNIX) as s:
        s.connect("\0tcpcrypt-ns")
        s.settimeout(10)
        s.sendall(json.dumps({"method": f"org.tcpcrypt.Ns1.{method}", "more": more,
                              "parameters": parameters}).encode() + b"\0")
        data = b""
        while True:
            while b"\0" not in data:
                data += s.recv(65536) or b"hung up\0"
            text, data = data.split(b"\0", 1)
            reply = json.loads(text)
            yield reply.get("error") or reply["parameters"]
            if not reply.get("continues"):
                return


def test_replies(lab):
    interface = Interface()
    _, a, b, c = lab.star("a", "b", "c")
    a.up("--rule", "off out port=83 name=web")
    b.up()
    with connection(a, b, 80) as (x, _), connection(a, c, 81), connection(a, b, 83):
        live = list(calls(a, "ListSessions", more=True))
        expect_eq(len(live), 4, "three and the end")
        name = dict(zip(("local", "local_port", "peer", "peer_port"),
                        (*x.getsockname(), *x.getpeername())))
        for reply in live:
            interface.check_reply("ListSessions", reply)
        for method, parameters in (("GetSession", name), ("GetStatus", {}), ("GetCache", {}),
                                   ("GetPolicy", {}), ("GetMetrics", {}), ("FlushCache", {})):
            reply = next(calls(a, method, **parameters))
            interface.check_reply(method, reply)
    watch = calls(a, "Watch", more=True)
    interface.check_reply("Watch", next(watch))
    with connection(a, b, 84):
        seen = []
        while "encrypted" not in seen:
            reply = next(watch)
            interface.check_reply("Watch", reply)
            seen.append(reply["event"])
        expect("opened" in seen, "events", seen)
    ended = list(calls(a, "ListSessions", more=True, ended=True))
    expect(len(ended) >= 3, "the history", ended)
    for reply in ended:
        interface.check_reply("ListSessions", reply)


def test_verbs(lab):
    """status and cache print a reply; cache adds the version of its form."""
    interface = Interface()
    _, a = lab.star("a")
    a.up()
    interface.check_reply("GetStatus", json.loads(a.tcns("status", "--json").stdout))
    cache = json.loads(a.tcns("cache", "--json").stdout)
    expect_eq(cache.pop("version"), 1)
    interface.check_reply("GetCache", cache)


def test_the_daemon_publishes_the_same(lab):
    _, a = lab.star("a")
    a.up()
    with a.socket(socket.AF_UNIX) as s:
        s.connect("\0tcpcrypt-ns")
        s.settimeout(10)
        s.sendall(b'{"method":"org.varlink.service.GetInterfaceDescription",'
                  b'"parameters":{"interface":"org.tcpcrypt.Ns1"}}\0')
        data = b""
        while not data.endswith(b"\0"):
            data += s.recv(65536)
    text = json.loads(data[:-1])["parameters"]["description"]
    path = lab.file("description")
    with open(path, "w") as f:
        f.write(text)
    published, own = Interface(path), Interface()
    expect_eq((published.types, published.replies, published.errors),
              (own.types, own.replies, own.errors))


if __name__ == "__main__":
    tap.main()
