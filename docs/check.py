#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Is what the documentation says of the tree still so? Prints TAP.

usage: docs/check.py SOURCE-FOLDER PROGRAM MAN-PAGE

How it works: the program's own --help, the X-lists in the headers and the
.varlink file are asked for names; the man page and the Markdown files must have
them, and no others. Of each page: links lead somewhere, paths exist, functions
in backquotes exist in the sources, options after "tcpcrypt-ns VERB" are the
verb's.
"""
import glob
import os
import re
import subprocess
import sys

TOP, PROGRAM, MAN = sys.argv[1:4]
FOLDERS = ("ctl", "docs", "stack", "tests", "tunnel", "netns-scripts", "bench", ".ci",
           "include")
# Made by scripts, and checked there.
OTHERS = ("docs/PERFORMANCE.md", "docs/rfc-map.md")


def read(path):
    with open(path if path == MAN else os.path.join(TOP, path), encoding="utf-8") as f:
        return f.read()


def pages():
    return sorted({"README.md", *glob.glob("docs/*.md", root_dir=TOP)} - set(OTHERS))


# --- What the program has -------------------------------------------------------------


def help_of(*args):
    return subprocess.run([PROGRAM, *args, "--help"], check=True, text=True,
                          stdout=subprocess.PIPE).stdout


def program_verbs():
    return re.findall(r"^  ([\w-]+)", help_of(), re.M)


def program_options(verb):
    """Return: {long: (short or None, argument or None)}, without --help."""
    found = re.findall(r"^  (?:-(\w), |    )--([\w-]+)(?: (\S+))?$", help_of(verb), re.M)
    return {long: (short or None, arg or None) for short, long, arg in found if long != "help"}


def x_list(path, name):
    """Return: the first argument of each entry of an X-list."""
    text = read(path).replace("\\\n", "\n")
    body = re.search(rf"#define {name}\(X\)(.*?)\n\s*\n", text, re.S)[1]
    return re.findall(r"\bX\((\w+)", body)


def dashed(name):
    return name.lower().replace("_", "-")


def reasons():
    return [dashed(n) for n in x_list("stack/tcpcrypt/session.h", "SESSION_REASON_LIST")
            + x_list("tunnel/tunnel.h", "TUNNEL_REASON_LIST")
            + x_list("ctl/cli/session_filter.h", "KERNEL_REASON_LIST")]


def default_bypass():
    body = re.search(r"encrypting\[\] = \{(.*?)\};", read("ctl/net/bypass.c"), re.S)[1]
    return [a if a == b else f"{a}-{b}" for a, b in re.findall(r"\{(\d+), (\d+)\}", body)]


# --- What the man page says -------------------------------------------------------------


def man_section(title):
    m = re.search(rf"^\.S[hs] {re.escape(title)}\n(.*?)(?=^\.S[hs] |\Z)", read(MAN), re.M | re.S)
    return m[1] if m else ""


def man_options(verb):
    found = re.findall(r"^\.It (?:Fl (\w) , )?Fl -([\w-]+)(?: Ar (.+))?$", man_section(verb), re.M)
    return {long: (short or None, arg or None) for short, long, arg in found}


# --- Checks: each gives the lines that are wrong ------------------------------------------


def check_verbs():
    """man page: verbs and options are the program's"""
    verbs = program_verbs()
    described = re.findall(r"^\.Ss ([\w-]+)$", read(MAN), re.M)
    bad = [f"{MAN}: verb {v} is missing" for v in verbs if v not in described]
    bad += [f"{MAN}: there is no verb {v}" for v in described if v not in verbs]
    for verb in verbs:
        have, said = program_options(verb), man_options(verb)
        for o in sorted(have.keys() | said.keys()):
            if have.get(o) != said.get(o):
                bad.append(f"{MAN}: {verb} --{o}: the program has {have.get(o)}, "
                           f"the page {said.get(o)}")
        if f".Cm {verb}\n" not in man_section("SYNOPSIS"):
            bad.append(f"{MAN}: verb {verb} is not in the synopsis")
    return bad


def check_names():
    """man page: reasons, ends and default ports are the program's"""
    bad = []
    ends = [dashed(n) for n in x_list("tunnel/tunnel.h", "TUNNEL_END_LIST")]
    for title, names in (("REASONS", reasons()), ("ENDS", ends)):
        said = re.findall(r"^\.It (\S+)$", man_section(title), re.M)
        bad += [f"{MAN}: {title} lacks {n}" for n in names if n not in said]
        bad += [f"{MAN}: {title} has {n}, which is not there" for n in said if n not in names]
    flat = re.sub(r"\s+", " ", read(MAN))
    if ", ".join(default_bypass()) not in flat:
        bad.append(f"{MAN}: the default ports are {', '.join(default_bypass())}")
    return bad


def check_control():
    """CONTROL.md: methods, errors and counters are those of the interface"""
    text = read("docs/CONTROL.md")
    varlink = read("docs/org.tcpcrypt.Ns1.varlink")
    names = re.findall(r"^(?:method|error) ([\w-]+)", varlink, re.M)
    names += x_list("tunnel/tunnel.h", "TUNNEL_COUNTER_LIST")
    return [f"docs/CONTROL.md: {n} is missing" for n in names if f"`{n}`" not in text]


def check_lists():
    """ARCHITECTURE.md: ends and errors are the program's"""
    text = read("docs/ARCHITECTURE.md")
    names = x_list("tunnel/tunnel.h", "TUNNEL_END_LIST")
    names += [n for n in x_list("stack/base/err.h", "TCNS_ERR_LIST") if n not in ("OK", "AGAIN")]
    return [f"docs/ARCHITECTURE.md: {dashed(n)} is missing" for n in names
            if f"`{dashed(n)}`" not in text]


def header_names():
    """Return: functions and constants of libtcpcrypt."""
    text = re.sub(r"/\*.*?\*/", "", read("include/tcpcrypt/tcpcrypt.h"), flags=re.S)
    functions = set(re.findall(r"\b(tcpcrypt_\w+)\(", text))
    return functions, set(re.findall(r"\bTCP_?CRYPT_\w+", text)) - {
        "TCPCRYPT_TCPCRYPT_H", "TCPCRYPT_SESSID_LEN", "TCPCRYPT_SID_MAXLEN"}


def check_library():
    """libtcpcrypt.3 and LIBTCPCRYPT.md: functions and constants are those of the header"""
    man, page = read("docs/libtcpcrypt.3"), read("docs/LIBTCPCRYPT.md")
    functions, constants = header_names()
    in_man = set(re.findall(r"^\.Fn (tcpcrypt_\w+)", man, re.M))
    in_page = set(re.findall(r"\b(tcpcrypt_\w+)\(\)", page))
    bad = [f"docs/libtcpcrypt.3: {n}" for n in sorted(in_man ^ functions)]
    bad += [f"docs/LIBTCPCRYPT.md: {n}" for n in sorted(in_page ^ functions)]
    found = set(re.findall(r"\bTCP_?CRYPT_\w+", man))
    bad += [f"docs/libtcpcrypt.3: {n}" for n in sorted(constants ^ found)]
    r = subprocess.run(["groff", "-ww", "-mandoc", "-Tutf8", os.path.join(TOP, "docs/libtcpcrypt.3")],
                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if r.returncode != 0 or "warning" in r.stdout:
        bad.append(f"docs/libtcpcrypt.3: {r.stdout[:200]}")
    return bad


def anchors(path):
    found = set()
    for title in re.findall(r"^#+ (.+)$", read(path), re.M):
        word = re.sub(r"[^\w\- ]", "", title.replace("`", "").lower())
        found.add(word.strip().replace(" ", "-"))
    return found


def check_links():
    """links lead somewhere"""
    bad = []
    for page in pages():
        for target in re.findall(r"\]\(([^)\s]+)\)", read(page)):
            if re.match(r"\w+:", target):
                continue
            path, _, anchor = target.partition("#")
            path = os.path.normpath(os.path.join(os.path.dirname(page), path)) if path else page
            if not os.path.exists(os.path.join(TOP, path)):
                bad.append(f"{page}: link to {target}, which is not there")
            elif anchor and path.endswith(".md") and anchor not in anchors(path):
                bad.append(f"{page}: {path} has no section #{anchor}")
    return bad


def code_spans(page):
    text = re.sub(r"^```.*?^```", "", read(page), flags=re.M | re.S)
    return re.findall(r"`([^`\n]+)`", text)


def check_paths():
    """files that pages name exist"""
    bad = []
    for page in pages():
        for span in code_spans(page):
            m = re.fullmatch(r"((?:%s)/[\w./*-]*)(?: .*)?" % "|".join(map(re.escape, FOLDERS)), span)
            if m and not glob.glob(os.path.join(TOP, m[1])):
                bad.append(f"{page}: there is no {m[1]}")
    return bad


def words():
    """Return: every word of the sources and scripts, lwIP's among them."""
    found = set()
    for folder in FOLDERS[:1] + FOLDERS[2:] + ("subprojects",):
        for path in glob.glob(f"{folder}/**/*", root_dir=TOP, recursive=True):
            full = os.path.join(TOP, path)
            if os.path.isfile(full) and "/corpus/" not in full:
                with open(full, encoding="utf-8", errors="replace") as f:
                    found.update(re.findall(r"\b\w+\b", f.read()))
    return found


def check_functions():
    """functions and constants that pages name exist"""
    known = words()
    bad = []
    for page in pages():
        for span in code_spans(page):
            m = re.fullmatch(r"(\w+)\(\)|([A-Z][A-Z0-9]*_[A-Z0-9_]+)", span)
            if m and (m[1] or m[2]) not in known:
                bad.append(f"{page}: nothing in the sources is called {span}")
    return bad


def check_options():
    """options that pages name after tcpcrypt-ns VERB are the verb's"""
    bad = []
    options = {verb: program_options(verb) for verb in program_verbs()}
    for page in pages():
        for verb, rest in re.findall(r"tcpcrypt-ns ([\w-]+)((?: [^\n`|;&)]*)?)", read(page)):
            if verb not in options:
                continue
            rest = rest.split(" -- ")[0]
            for long in re.findall(r"(?<=\s)--([a-z][\w-]*)", rest):
                if long not in options[verb] and long != "help":
                    bad.append(f"{page}: {verb} has no option --{long}")
    return bad


def check_page():
    """the test-server's page has words for each reason of a connection that came in"""
    # Never of one that came in and is open.
    never = {"pending", "require-refused", "eno-dropped", "fallback-cache"}
    kernels = set(map(dashed, x_list("ctl/cli/session_filter.h", "KERNEL_REASON_LIST")))
    want = set(reasons()) - never - kernels
    said = set(re.findall(r'^    \{"([a-z-]+)",', read("ctl/http/visit.c"), re.M))
    return [f"ctl/http/visit.c: no words for {n}" for n in want - said] + \
        [f"ctl/http/visit.c: words for {n}, which is not there" for n in said - want]


def check_words():
    """a word that promises too much is not there"""
    word = "secu" "re"
    return [f"{page}: \"{word}\"" for page in pages() + [MAN]
            if re.search(rf"\b{word}(ly|d|s)?\b", read(page), re.I)]


CHECKS = [check_verbs, check_names, check_control, check_lists, check_library, check_links, check_paths,
          check_functions, check_options, check_page, check_words]


def main():
    failed = False
    print(f"1..{len(CHECKS)}")
    for number, check in enumerate(CHECKS, 1):
        bad = check()
        failed |= bool(bad)
        print(f"{'not ok' if bad else 'ok'} {number} - {check.__doc__}")
        for line in bad:
            print(f"# {line}")
    sys.exit(failed)


if __name__ == "__main__":
    main()
