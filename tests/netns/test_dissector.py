# SPDX-License-Identifier: BSD-3-Clause
"""The dissector on made-up and on broken captures: every suboption, no error of its own."""
import os
import random
import shutil
import socket
import struct

import tap
from dissect import fields, tshark
from lab import expect, expect_eq
from test_keylog import record

SYN, ACK, PSH = 0x02, 0x10, 0x08


def segment(flags, eno=(), payload=b"", reply=False, seq=0, port=4000):
    """One IPv4 packet; eno: contents of its ENO options."""
    options = b"".join(bytes([69, 2 + len(e)]) + e for e in eno)
    options += b"\1" * (-len(options) % 4)
    ends = [(b"\xc0\0\2\1", port), (b"\xc0\0\2\2", 80)]
    (src, sport), (dst, dport) = ends[::-1] if reply else ends
    tcp = struct.pack(">HHIIBBHHH", sport, dport, seq, 1, (20 + len(options)) // 4 << 4, flags,
                      1000, 0, 0) + options + payload
    ip = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(tcp), 0, 0x4000, 64, 6, 0) + src + dst
    return ip + tcp


def write_pcap(path, packets):
    with open(path, "wb") as f:
        f.write(struct.pack("=IHHiIII", 0xa1b2c3d4, 2, 4, 0, 0, 65535, 101))
        for i, p in enumerate(packets):
            f.write(struct.pack("=IIII", i, 0, len(p), len(p)) + p)


def dissect(lab, *packets):
    path = lab.file("made.pcap")
    write_pcap(path, packets)
    names = ("form", "global", "global.a", "global.b", "global.z", "length", "tep", "v", "data",
             "resume.id", "resume.nonce", "ignored", "result", "ill_formed")
    rows = fields(path, *("tcp_eno." + n for n in names), show="tcp")
    return [{k[8:]: v for k, v in row.items() if v} for row in rows]


def test_suboptions(lab):
    resume = bytes(range(9)) + b"nonce"
    rows = dissect(
        lab,
        segment(SYN, [b""]),
        segment(SYN, [bytes([0x02, 0x21, 0x24])]),
        segment(SYN, [bytes([0x1d, 0x01, 0x23])]),
        segment(SYN, [bytes([0x81, 0xc0]) + b"ab" + bytes([0x21])]),
        segment(SYN, [bytes([0x22, 0xa3]) + resume]),
        segment(SYN, [bytes([0xa3]) + b"short"]),
        segment(SYN, [bytes([0x8d, 0xa3]) + resume + bytes([0x24])]),
        segment(ACK, [b"", b"\xff\1"]),
        segment(ACK),
    )
    expect_eq(rows[0], {"form": ["SYN"]})
    expect_eq((rows[1]["global.a"], rows[1]["global.b"], rows[1]["tep"]),
              (["1"], ["0"], ["0x21", "0x24"]))
    expect_eq((rows[2]["global"], rows[2]["global.z"], rows[2]["global.b"]),
              (["0x1d", "0x01"], ["0x07", "0x00"], ["1", "1"]))
    expect_eq((rows[3]["length"], rows[3]["tep"], rows[3]["v"], rows[3]["data"]),
              (["2"], ["0x40", "0x21"], ["1", "0"], ["6162"]))
    expect_eq((rows[4]["resume.id"], rows[4]["resume.nonce"]),
              (["000102030405060708"], ["6e6f6e6365"]))
    expect_eq(rows[5]["data"], ["73686f7274"], "too short for resumption")
    expect_eq((rows[6]["resume.id"], rows[6]["tep"], rows[6]["length"]),
              (["000102030405060708"], ["0x23", "0x24"], ["14"]))
    expect_eq((rows[7]["form"], rows[7]["ignored"]), (["non-SYN", "non-SYN"], ["ff01"]))
    expect_eq(rows[8], {})
    expect(not any("ill_formed" in row for row in rows), "all of this is allowed")


def test_ill_formed(lab):
    bad = [bytes([0x81]), bytes([0x81, 0x21]), bytes([0x81, 0x01]), bytes([0x81, 0x82, 0xa1]),
           bytes([0x9f, 0xa3]) + b"x"]
    rows = dissect(lab, *(segment(SYN, [b], port=4000 + i) for i, b in enumerate(bad)),
                   segment(SYN, [b"\x23", b"\x23"], port=5000))
    for row, what in zip(rows, [*bad, "two options"]):
        expect("ill_formed" in row, "is said to be ill-formed", what, row)


def test_negotiation(lab):
    resume = bytes(9)
    cases = [
        ([b"\x21\x23"], [b"\x01\x23"], "TCPCRYPT_ECDHE_Curve25519, key exchange"),
        ([b"\x21\x23"], [b"\x01\x23\x21"], "TCPCRYPT_ECDHE_P256, key exchange"),  # the last of B's
        ([b"\xa3" + resume], [b"\x01\xa3" + resume], "TCPCRYPT_ECDHE_Curve25519, resumed"),
        ([b"\xa3" + resume], [b"\x01\x23"], "TCPCRYPT_ECDHE_Curve25519, key exchange"),
        ([b"\x21"], [b"\x01\x23"], "no tcpcrypt TEP in common"),
        ([b"\x30"], [b"\x01\x30"], "no tcpcrypt TEP in common"),
        ([b"\x23"], [b"\x01\x23", b"\x23"], "no tcpcrypt TEP in common"),
    ]
    packets = []
    for i, (syn, synack, _) in enumerate(cases):
        packets += [segment(SYN, syn, port=4000 + i),
                    segment(SYN | ACK, synack, reply=True, port=4000 + i)]
    rows = dissect(lab, *packets)
    expect_eq([row.get("result") for row in rows[1::2]], [[c[2]] for c in cases])


def test_stripped_ack_is_plain(lab):
    """What comes is no Init message: the connection is plain TCP, and shown as such."""
    path = lab.file("made.pcap")
    write_pcap(path, [segment(SYN, [b"\x23"]), segment(SYN | ACK, [b"\x01\x23"], reply=True),
                      segment(ACK, seq=1), segment(ACK | PSH, payload=b"GET / HTTP/1.0\r\n\r\n", seq=1)])
    expect_eq(tshark(path, "-Y", "tcpcrypt"), "")
    expect_eq(tshark(path, "-Y", "http.request").count("\n"), 1)


@tap.timeout(90)
def test_broken_captures(lab):
    """Bytes changed, packets lost, doubled, out of order, cut: no error of the dissector's."""
    pcap, keys, _ = record(lab, "--rekey-bytes", "2000", size=8000)
    plain = lab.file("plain.pcap")
    shutil.copy(pcap, plain)
    with open(plain, "rb") as f:
        data = f.read()
    head, off, packets = data[:24], 24, []
    while off < len(data):
        length = struct.unpack_from("=I", data, off + 8)[0]
        packets.append(data[off:off + 16 + length])
        off += 16 + length
    rng = random.Random(8548)
    broken = lab.file("broken.pcap")
    for turn in range(6):
        chosen = [bytearray(p) for p in packets]
        if turn % 3 == 0:
            for _ in range(40):
                p = rng.choice(chosen)
                p[rng.randrange(16 + 14, len(p))] = rng.randrange(256)
        elif turn % 3 == 1:
            chosen = [p for p in chosen if rng.random() > 0.1]
            chosen += [rng.choice(chosen) for _ in range(5)]
        else:
            for _ in range(10):
                i = rng.randrange(len(chosen) - 1)
                chosen[i], chosen[i + 1] = chosen[i + 1], chosen[i]
            p = rng.choice(chosen)
            keep = rng.randrange(16, len(p))
            del p[keep:]
            struct.pack_into("=I", p, 8, keep - 16)
        with open(broken, "wb") as f:
            f.write(head + b"".join(chosen))
        args = ("-2",) if turn % 2 else ()
        text = tshark(broken, "-V", *args, keylog=keys)  # fails on a Lua error
        expect("Lua" not in text, "no error in the tree", text[-1000:])


def test_broken_key_logs(lab):
    pcap, keys, _ = record(lab, times=1)
    with open(keys) as f:
        good = f.read()
    lines = good.splitlines()
    key_lines = [line for line in lines if line.startswith("TCPCRYPT_KEY")]
    noise = ["", "TCPCRYPT_KEY", "TCPCRYPT_KEY x y z", key_lines[0][:-30], "\0\1\2",
             key_lines[0].replace("10.77.1.2", "10.77.1.999"), key_lines[0].replace(" 7000 ", " 70000 "),
             key_lines[0].replace(" 0001 ", " 0002 "), key_lines[0].replace("10.77.1.2", ":::")]
    with open(keys, "w") as f:
        f.write("\n".join(noise + key_lines) + "\n")
    text = tshark(pcap, "-V", keylog=keys)
    expect("Lua" not in text, "no error")
    expect_eq(text.count("Text: question"), 1, "the good lines count")
    expect_eq(tshark(pcap, "-Y", "tcpcrypt.data", keylog=lab.file("none")), "", "no such file")
    os.truncate(keys, 0)
    expect_eq(tshark(pcap, "-Y", "tcpcrypt.data", keylog=keys), "")


def test_ipv6_addresses_in_key_logs(lab):
    """The dissector reads each form of an address as the kernel does."""
    script = lab.file("try.lua")
    addrs = ["::", "::1", "1::", "fd77:1::2", "1:2:3:4:5:6:7:8", "1::8", "10.77.1.2", "1:2:3:4:5:6:7::"]
    with open(os.path.join(os.path.dirname(__file__), "..", "..", "docs", "tcpcrypt.lua")) as f:
        text = f.read()
    start = text.index("-- Return: 4 or 16 bytes")
    end = text.index("local function direction_key")
    put16 = text[text.index("local function put16"):start]
    with open(script, "w") as f:
        f.write(put16 + text[start:end] + "for a in io.lines(arg[1]) do print((parse_addr(a) or '-')"
                ":gsub('.', function(c) return ('%02x'):format(c:byte()) end)) end\n")
    wrong = ["1:2", "1:::2", "1:2:3:4:5:6:7:8:9", "12345::", "g::", "1.2.3", "::1.2.3.4", "a.b.c.d"]
    with open(lab.file("list"), "w") as f:
        f.write("\n".join(addrs + wrong) + "\n")
    r = lab.ns("x").run("lua5.2", script, lab.file("list"))
    got = [line.split("\t")[0] for line in r.stdout.splitlines()]
    want = [socket.inet_pton(socket.AF_INET6 if ":" in a else socket.AF_INET, a).hex() for a in addrs]
    expect_eq(got[:len(addrs)], want)
    expect_eq(got[len(addrs):], ["2d"] * len(wrong), "no addresses")


if __name__ == "__main__":
    tap.main()
