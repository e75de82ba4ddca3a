#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Writes the first corpus of the fuzz targets from the known-answer vectors.

usage: seed.py vectors.json corpus-folder
"""
import hashlib
import json
import pathlib
import sys

TEPS = ["21", "22", "23", "24"]


def option_seeds(vectors):
    for section, fields in (("eno_parse", ["option"]), ("eno_encode", ["option"]),
                            ("eno_respond", ["option_a", "option_b"]),
                            ("eno_negotiate", ["local_option", "remote_option"])):
        for case in vectors[section]:
            for field in fields:
                if case[field]:
                    yield bytes.fromhex(case[field])


def segment(flags, area):
    number = (1 if "S" in flags else 0) | (2 if "A" in flags else 0)
    return bytes([number, len(area)]) + area


def area_seeds(vectors):
    for case in vectors["eno_options_area"]:
        area = bytes.fromhex(case["options_area"])
        yield segment("S", area) + segment("A", area)
    for case in vectors["eno_handshake"]:
        yield b"".join(segment(e["flags"], bytes.fromhex(e["options_area"]))
                       for e in case["events"] if e["event"] == "recv")


def init_seed(is_client, tep, step, message):
    return bytes([is_client, TEPS.index(tep), step - 1]) + message


def init_seeds(vectors):
    for case in vectors["init_messages"]:
        yield init_seed(case["kind"] == "Init2", case["tep"], 256, bytes.fromhex(case["message"]))
    for case in vectors["key_schedule"]:
        frame = bytes.fromhex(case["frames"][0]["frame"])
        yield init_seed(0, case["tep"], 7, bytes.fromhex(case["init1"]) + frame)
        yield init_seed(1, case["tep"], 100, bytes.fromhex(case["init2"]) + frame)


SEAL, FIN, REKEY, ANSWER, DELIVER, FLIP, RAW, CUT, URGENT = range(9)


def seal(data, op=SEAL):
    return bytes([op, len(data)]) + data


def frame_seeds(vectors):
    good = seal(b"hello") + seal(b"") + seal(bytes(range(200)))
    rekeyed = bytes([REKEY, DELIVER, 255, ANSWER]) + seal(b"new keys")
    for step in (0, 2, 255):
        yield good + bytes([DELIVER, step]) + seal(b"end", FIN) + bytes([DELIVER, step])
        yield good + rekeyed + rekeyed + seal(b"", FIN) + bytes([DELIVER, step])
    for position in range(0, 30):
        yield seal(b"hello") + bytes([FLIP, position, 1, DELIVER, 255]) + good
    for case in vectors["frame_failures"]:
        frame = bytes.fromhex(case["frame"])
        yield seal(b"x") + bytes([RAW, len(frame)]) + frame + seal(b"y")
    yield seal(b"urgent", URGENT) + bytes([0, 5]) + seal(b"", URGENT) + bytes([255, 255]) + good
    yield seal(b"x") * 20 + bytes([DELIVER, 3, ANSWER]) + seal(b"y") * 20
    yield good + bytes([CUT, 3]) + seal(b"after the gap")
    yield seal(b"end", FIN) + bytes([DELIVER, 255]) + seal(b"more") + bytes([RAW, 3, 0, 0, 1])


def write(folder, seeds):
    folder.mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        (folder / hashlib.sha256(seed).hexdigest()[:16]).write_bytes(seed)


def main():
    vectors = json.loads(pathlib.Path(sys.argv[1]).read_text())
    corpus = pathlib.Path(sys.argv[2])
    write(corpus / "eno_option", option_seeds(vectors))
    write(corpus / "options_area", area_seeds(vectors))
    write(corpus / "init", init_seeds(vectors))
    write(corpus / "frames", frame_seeds(vectors))


if __name__ == "__main__":
    main()
