#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Writes the first corpus of fuzz_packet: handshakes, data, loss and closing.

usage: seed_packet.py corpus-folder/packet
"""
import hashlib
import pathlib
import sys

FIN, SYN, RST, PSH, ACK, URG = 1, 2, 4, 8, 16, 32
SEGMENT, RAW, TICK, BLOCK, MTU, URGENT, RUN, ABORT, BUSY = range(9)
RUN_AFTER = 0x80
INNER, OUTER = 0, 1
END = 1  # acknowledgement of all that the leg has sent
SYN_OPTIONS, ENO_OPTIONS, SACK, SMALL_MSS, ENO_ACK = 0x20, 0x40, 0x60, 0x84, 0xa0
LEN_1, LEN_10, LEN_1460, LEN_20000 = 0xc0, 0xc1, 0xc4, 0xc6


def near(distance):
    return 0x60 + distance


def edge(distance=0):
    return 0xc0 + ((distance // 4) & 0x3f)


def seg(conn, side, flags, seq=0, ack=END, window=0xffff, options=0, data=0):
    return bytes([SEGMENT | RUN_AFTER, conn << 1 | side, flags, seq, ack, window >> 8,
                  window & 0xff, options, data])


def tick(count):
    return bytes([TICK | RUN_AFTER, count])


def block(side):
    return bytes([BLOCK | RUN_AFTER, side])


def opened(conn, inbound=False, options=SYN_OPTIONS, window=0xffff):
    first, second = (OUTER, INNER) if inbound else (INNER, OUTER)
    return (seg(conn, first, SYN, options=options) +
            seg(conn, second, SYN | ACK, options=options, window=window) +
            seg(conn, first, ACK, options=ENO_ACK if options == ENO_OPTIONS else 0, window=window))


def data(conn, side, length=LEN_1460, **fields):
    return seg(conn, side, ACK | PSH, data=length, **fields)


def closed(conn):
    return (seg(conn, INNER, FIN | ACK) + seg(conn, OUTER, ACK) + seg(conn, OUTER, FIN | ACK) +
            seg(conn, INNER, ACK) + seg(conn, OUTER, FIN | ACK))


def seeds():
    for policy in range(3):
        for conn in (0, 1):
            for inbound in (False, True):
                for options in (SYN_OPTIONS, ENO_OPTIONS, 0):
                    start = bytes([policy]) + opened(conn, inbound, options)
                    yield start + data(conn, INNER) + data(conn, OUTER) + closed(conn)
    start = b"\0" + opened(0)
    yield start + data(0, INNER, LEN_20000) * 4 + seg(0, OUTER, ACK) * 3
    yield start + data(0, INNER, LEN_20000) * 4 + seg(0, OUTER, ACK, ack=0, options=SACK + 2) * 4
    yield start + data(0, INNER, LEN_20000) + tick(60) + seg(0, OUTER, ACK)
    yield start + data(0, OUTER, LEN_10, seq=near(10)) + data(0, OUTER, LEN_10)
    yield start + data(0, OUTER, LEN_1460, seq=edge(-8)) + seg(0, OUTER, FIN | ACK, seq=near(5))
    yield start + data(0, OUTER, LEN_20000) * 16 + tick(10)
    yield start + data(0, INNER, options=SMALL_MSS) + data(0, INNER)
    yield start + block(OUTER) + data(0, INNER) * 4 + block(OUTER) + seg(0, OUTER, ACK)
    yield start + bytes([MTU, 0, 2, 0]) + data(0, INNER, LEN_20000)
    yield start + bytes([BUSY, 3]) + data(0, OUTER, LEN_20000) * 16 + bytes([BUSY, 1])
    for later in (300, 20, 90, 10, 60, 400):
        start += data(0, OUTER, 0xc2, seq=near(later % 32)) + data(0, OUTER, 0xb0, seq=near(later % 20))
        yield start + data(0, OUTER)
    start = b"\0" + opened(0, options=0)
    yield start + data(0, INNER, LEN_1460) * 6 + seg(0, OUTER, ACK, ack=0) * 5 + seg(0, OUTER, ACK)
    start = b"\0" + opened(0)
    yield start + seg(0, OUTER, RST, seq=near(1)) + seg(0, OUTER, RST)
    for window in (0, 1, 2, 10, 1000):
        start = b"\0" + opened(0, window=window)
        yield start + data(0, INNER, LEN_1460) + tick(30) + seg(0, OUTER, ACK) + tick(30)
        yield start + data(0, OUTER, LEN_20000) + seg(0, OUTER, FIN | ACK) + tick(30) + closed(0)
    yield b"\0" + seg(0, INNER, SYN, options=SYN_OPTIONS) + seg(0, OUTER, SYN) + seg(0, OUTER, ACK)


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for seed in seeds():
        (folder / hashlib.sha256(seed).hexdigest()[:16]).write_bytes(seed)


if __name__ == "__main__":
    main()
