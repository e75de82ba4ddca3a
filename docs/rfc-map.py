#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Checks docs/rfc-clauses.txt and writes docs/rfc-map.md from it.

usage: rfc-map.py [--write] [--texts FOLDER]

Fails when a function or a test that a clause names is not there, or when the map in the
tree is not what comes out (--write puts it there). With the texts of the RFCs
(--texts, or ../shared/ref beside the tree) it also fails when a sentence with a key word
has no clause: clauses name sentences by hash.

How it works: code names are file:function, the file found by its name alone; test names
are program:function, tests/unit/**/test_PROGRAM.c or tests/netns/test_PROGRAM.py.
Functions of the protocol core that carry an RFC tag ("RFC 8548 3.3") in a comment are
found by themselves and listed per section.
"""
import hashlib
import pathlib
import re
import sys

TOP = pathlib.Path(__file__).resolve().parent.parent
CLAUSES = TOP / "docs" / "rfc-clauses.txt"
MAP = TOP / "docs" / "rfc-map.md"
SOURCE_FOLDERS = ["stack", "tunnel", "ctl", "docs/examples"]
KEY_WORD = re.compile(r"\b(?:MUST|SHALL|SHOULD|REQUIRED|RECOMMENDED)(?: NOT)?\b")
TITLES = {"8547": "TCP-ENO", "8548": "tcpcrypt"}


# --- The texts -----------------------------------------------------------------------

def paragraphs(text):
    """(section, words) of each paragraph, pages joined."""
    text = re.sub(r"\n+Bittau, et al\..*\n\f?\n*RFC \d+ .*\n+", "\n", text)
    text = re.sub(r"^(\d+(?:\.\d+)*\.  \S.*)$", r"\n\1\n", text, flags=re.M)
    section = ""
    for block in re.split(r"\n\s*\n", text):
        heading = re.match(r"\s*(\d+(?:\.\d+)*)\.  \S", block)
        if heading and not block.lstrip("\n").startswith(" "):
            section = heading.group(1)
            continue
        yield section, re.sub(r"\s+", " ", block).strip()


def sentences(rfc, folder):
    """(section, sentence) of each sentence with a key word."""
    text = (folder / f"rfc{rfc}.txt").read_text()
    for section, block in paragraphs(text):
        if section in ("", "2"):
            continue
        for sentence in re.split(r"(?<=[.!?:])\)?\s+(?=[A-Z(*o])", block):
            if KEY_WORD.search(sentence):
                yield section, sentence


def sentence_hash(sentence):
    return hashlib.sha256(sentence.encode()).hexdigest()[:8]


# --- The clauses -------------------------------------------------------------------------

class Clause:
    def __init__(self, line):
        self.rfc, self.section, rest = line.split(" ", 2)
        *words, self.hash = rest.split(" ")
        self.words = " ".join(words)
        self.says, self.code, self.test, self.note = "", [], [], ""


def read_clauses():
    clauses = []
    for number, line in enumerate(CLAUSES.read_text().splitlines(), 1):
        if not line or line.startswith("#"):
            continue
        if not line.startswith(" "):
            clauses.append(Clause(line))
            continue
        field, _, value = line.strip().partition(": ")
        if field in ("code", "test"):
            getattr(clauses[-1], field).extend(value.split())
        elif field in ("says", "note"):
            setattr(clauses[-1], field, value)
        else:
            sys.exit(f"{CLAUSES.name}:{number}: what is this?")
    return clauses


# --- The tree --------------------------------------------------------------------------------

class Tree:
    def __init__(self):
        self.sources = {}
        for folder in SOURCE_FOLDERS:
            for path in sorted((TOP / folder).rglob("*.[ch]")):
                self.sources.setdefault(path.name, []).append(path)
        self.texts = {}

    def text(self, path):
        if path not in self.texts:
            self.texts[path] = path.read_text()
        return self.texts[path]

    def problem_with_code(self, name):
        file, _, function = name.partition(":")
        paths = self.sources.get(file, [])
        if len(paths) != 1:
            return f"{len(paths)} files named {file}"
        pattern = rf"^(?!\s|#|.*;$).*\b{re.escape(function)}\(|^#define {re.escape(function)}\b"
        pattern += rf"|^\s*X\({re.escape(function)},|^(?:extern )?const .*\b{re.escape(function)}\b"
        if not re.search(pattern, self.text(paths[0]), re.M):
            return f"no {function} in {file}"
        return None

    def test_path(self, name):
        program = name.partition(":")[0]
        found = sorted((TOP / "tests").rglob(f"test_{program}.c"))
        found += sorted((TOP / "tests").rglob(f"test_{program}.py"))
        return found[0] if len(found) == 1 else None

    def problem_with_test(self, name):
        path, function = self.test_path(name), name.partition(":")[2]
        if not path:
            return f"no test program {name.partition(':')[0]}"
        text = self.text(path)
        if path.suffix == ".py":
            return None if f"\ndef {function}(" in text else f"no {function} in {path.name}"
        if function.startswith("test_state_") and f"X({function[11:]})" in text:
            return None
        if not re.search(rf"\b{function}\(void", text):
            return f"no {function} in {path.name}"
        if len(re.findall(rf"\b{function}\b", text)) < 2:
            return f"{function} in {path.name} is not run"
        return None

    def tagged(self):
        """{(rfc, section): {file:function}} from the tags in the core's comments."""
        found = {}
        for paths in self.sources.values():
            for path in paths:
                if path.suffix == ".c" and path.parent == TOP / "stack" / "tcpcrypt":
                    self.find_tags(path, found)
        return found

    def find_tags(self, path, found):
        lines = self.text(path).splitlines()
        for number, line in enumerate(lines):
            tags = set(re.findall(r"RFC (854[78]) (\d+(?:\.\d+)*)", line))
            for rfc, more in re.findall(r"RFC (854[78]) ((?:\d+(?:\.\d+)*,? (?:to |and )?)+\d[\d.]*)", line):
                tags |= {(rfc, s) for s in re.findall(r"\d+(?:\.\d+)+", more)}
            for rfc, section in tags:
                name = self.function_at(lines, number)
                if name:
                    found.setdefault((rfc, section.rstrip(".")), set()).add(f"{path.name}:{name}")

    @staticmethod
    def function_at(lines, number):
        """The function that the line is in, or that its comment stands before."""
        head = re.compile(r"^(?:[a-z].*[ *])?([a-z_0-9]+)\([^;]*$")
        inside = lines[number].startswith("    ")
        way = range(number, -1, -1) if inside else range(number, min(number + 15, len(lines)))
        for i in way:
            if lines[i].startswith(("#", "typedef", "struct ", "enum ")) and "(" not in lines[i]:
                if not inside:
                    return None
                continue
            match = head.match(lines[i])
            if match and match.group(1) not in ("defined", "static_assert"):
                return match.group(1)
        return None


# --- The map -----------------------------------------------------------------------------------

def section_key(section):
    return [int(n) for n in section.split(".")]


def render_clause(clause):
    code = "<br>".join(f"`{c}`" for c in clause.code)
    test = "<br>".join(f"`{t}`" for t in clause.test)
    says = f"**{clause.words}** {clause.says}"
    if clause.note:
        says += f" *{clause.note}*"
    return f"| {says} | {code} | {test} |"


def render(tree, clauses):
    tagged = tree.tagged()
    out = ["<!-- Written by docs/rfc-map.py from docs/rfc-clauses.txt. -->",
           "# RFC 8547 and RFC 8548: where each requirement is met, and which test shows it", "",
           "Each sentence of the RFCs with MUST, SHALL, SHOULD, REQUIRED or RECOMMENDED, in our own",
           "words. Code is file:function. A test is program:function of tests/unit or tests/netns;",
           "tests that run known-answer vectors cover the sections that README.md of the vectors",
           "names. Slanted: why there is no code or no test, or what is left open.", "",
           "`meson test` fails when a function or a test named here is gone."]
    for rfc in TITLES:
        out += ["", f"# RFC {rfc}: {TITLES[rfc]}"]
        mine = [c for c in clauses if c.rfc == rfc]
        for section in sorted({c.section for c in mine}, key=section_key):
            out += ["", f"## {rfc} {section}", ""]
            names = sorted(tagged.get((rfc, section), []))
            if names:
                out += ["Tagged: " + ", ".join(f"`{n}`" for n in names) + ".", ""]
            out += ["| requirement | code | test |", "|---|---|---|"]
            out += [render_clause(c) for c in mine if c.section == section]
    open_cnt = sum(not c.code and not c.test for c in clauses)
    tested = sum(bool(c.test) for c in clauses)
    out += ["", f"{len(clauses)} requirements: {tested} shown by tests, {open_cnt} neither coded nor"
            " tested for the reason given."]
    return "\n".join(out) + "\n"


def problems(tree, clauses):
    for c in clauses:
        where = f"{c.rfc} {c.section} {c.hash}"
        for name in c.code:
            problem = tree.problem_with_code(name)
            if problem:
                yield f"{where}: {problem}"
        for name in c.test:
            problem = tree.problem_with_test(name)
            if problem:
                yield f"{where}: {problem}"
        if not c.says or not (c.note or (c.code and c.test)):
            yield f"{where}: needs says, and code and test or a note"


def text_problems(clauses, folder):
    known = {(c.rfc, c.section, c.hash) for c in clauses}
    seen = set()
    for rfc in TITLES:
        for section, sentence in sentences(rfc, folder):
            key = (rfc, section, sentence_hash(sentence))
            seen.add(key)
            if key not in known:
                yield f"{rfc} {section}: no clause {key[2]} for: {sentence[:60]}..."
    for rfc, section, digest in sorted(known - seen):
        yield f"{rfc} {section}: no sentence for clause {digest}"


def main(args):
    texts = TOP.parent / "shared" / "ref"
    if "--texts" in args:
        texts = pathlib.Path(args[args.index("--texts") + 1])
    if "--list" in args:
        for rfc in TITLES:
            for section, sentence in sentences(rfc, texts):
                print(rfc, section, sentence_hash(sentence), sentence)
        return 0
    tree, clauses = Tree(), read_clauses()
    found = list(problems(tree, clauses))
    if texts.is_dir():
        found += text_problems(clauses, texts)
    text = render(tree, clauses)
    if "--write" in args:
        MAP.write_text(text)
    elif not MAP.exists() or MAP.read_text() != text:
        found.append(f"{MAP.name} is not up to date: run docs/rfc-map.py --write")
    for problem in found:
        print(problem)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
