#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Do the completions work in their shells, and does the man page render? Prints TAP.

usage: tests/unit/completions.py BASH ZSH FISH TABLE.json MAN-PAGE

How it works: bash's function is called with a command line; fish completes on
request; zsh needs a terminal, so it gets one and TAB is pressed in it. Every verb
and every option of the table must be offered.
"""
import json
import os
import pty
import re
import select
import shutil
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True

import cases  # noqa: E402

BASH, ZSH, FISH, TABLE, MAN = map(os.path.abspath, sys.argv[1:6])
with open(TABLE, encoding="utf-8") as table:
    VERBS = json.load(table)
NAMES = [v["name"] for v in VERBS]
DEADLINE_S = 20


def need(program):
    if not shutil.which(program):
        raise cases.Skip(f"{program} is not installed")


def expect(ok, *values):
    if not ok:
        raise AssertionError(" ".join(map(repr, values)))


def run(*argv, text=None):
    r = subprocess.run(argv, input=text, text=True, stdout=subprocess.PIPE,
                       stderr=subprocess.PIPE, timeout=DEADLINE_S)
    expect(r.returncode == 0 and not r.stderr, argv[0], r.returncode, r.stderr)
    return r.stdout


def words(candidates):
    """Return: without descriptions (fish puts them behind a tab) and blanks."""
    return {c.split("\t")[0].strip() for c in candidates if c.strip()}


# --- The shells: each gives what it offers for the last word of a line ---------------------


def bash_words(line):
    """bash cuts words at = and : as well; so does this."""
    out = []
    for word in line.split(" "):
        out += [w for w in re.split(r"([=:])", word) if w] or [""]
    return out


def bash_all(lines):
    script = f"source '{BASH}'\n"
    for line in lines:
        cut = bash_words(line)
        quoted = " ".join(f"'{w}'" for w in cut)
        script += (f"COMP_WORDS=({quoted}) COMP_CWORD={len(cut) - 1}\n_tcpcrypt_ns 2>/dev/null\n"
                   "printf '%s\\n' \"${COMPREPLY[@]}\" ----\n")
    out = run("bash", "--norc", "--noprofile", "-c", script)
    return [words(part.split("\n")) for part in out.split("----\n")[:-1]]


def fish_all(lines):
    script = f"source '{FISH}'\n"
    for line in lines:
        script += f"complete -C '{line}'\necho ----\n"
    out = run("fish", "--no-config", "-c", script)
    return [words(part.split("\n")) for part in out.split("----\n")[:-1]]


class Zsh:
    """An interactive zsh on a terminal of its own."""

    def __init__(self):
        self.home = tempfile.mkdtemp()
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.environ.update(TERM="dumb", HOME=self.home, ZDOTDIR=self.home)
            os.execlp("zsh", "zsh", "-f", "-i")
        self.send("unsetopt zle_bracketed_paste prompt_sp prompt_cr; PS1='>'\n"
                  "stty cols 400 rows 2000; LISTMAX=0; unsetopt list_ambiguous\n"
                  f"fpath=('{os.path.dirname(ZSH)}' $fpath)\n"
                  "autoload -Uz compinit && compinit -D -u\n"
                  "bindkey '^T' list-choices\n"
                  "echo-line() { print; print -r -- \"BUF[$BUFFER]\" }; zle -N echo-line\n"
                  "bindkey '^X' echo-line\n"
                  "print rea''dy\n")
        self.until("ready")

    def send(self, text):
        os.write(self.fd, text.encode())

    def until(self, mark):
        """Return: what it writes until the mark, a regular expression."""
        got, end = "", time.monotonic() + DEADLINE_S
        while not re.search(mark, got):
            left = end - time.monotonic()
            ready, _, _ = select.select([self.fd], [], [], max(left, 0))
            if not ready:
                raise AssertionError(f"zsh: no {mark!r} in {got!r}")
            got += os.read(self.fd, 65536).decode(errors="replace")
        return got

    def offers(self, line):
        """What is listed for the line."""
        self.send("\x15" + line + "\x14" + "\x18")
        return self.until(r"BUF\[.*\]")

    def completed(self, line):
        """The line as TAB leaves it."""
        self.send("\x15" + line + "\t" + "\x18")
        return re.search(r"BUF\[(.*)\]", self.until(r"BUF\[.*\]"))[1]

    def close(self):
        os.close(self.fd)
        os.waitpid(self.pid, 0)
        shutil.rmtree(self.home)


# --- Tests ----------------------------------------------------------------------------------


def long_options(verb):
    return {"--" + o["name"] for o in verb["options"]}


def check_common(complete):
    """What bash and fish must both offer."""
    lines = ["tcpcrypt-ns ", "tcpcrypt-ns ses", "tcpcrypt-ns up --policy re",
             "tcpcrypt-ns up --policy=re", "tcpcrypt-ns up --tep P-256,Curve2",
             "tcpcrypt-ns down --netns se", "tcpcrypt-ns help ver", "tcpcrypt-ns exec -- bas",
             f"tcpcrypt-ns up --log {os.path.dirname(TABLE)}/cli.js", "tcpcrypt-ns nonsense --"]
    (verbs, ses, policy, policy_is, tep, netns, help_verb, command, log,
     nonsense) = complete(lines)
    expect(set(NAMES) <= verbs, "verbs", verbs)
    expect(ses == {"sessions"}, ses)
    expect(policy == {"require"}, policy)
    expect({p.rsplit("=")[-1] for p in policy_is} == {"require"}, policy_is)
    expect(tep == {"P-256,Curve25519"}, tep)
    expect(netns == {"self"}, netns)
    expect(help_verb == {"version"}, help_verb)
    expect("bash" in command, command)
    expect(any(path.endswith("cli.json") for path in log), log)
    expect(not nonsense, nonsense)
    for verb, offered in zip(VERBS, complete([f"tcpcrypt-ns {v} --" for v in NAMES])):
        expect(long_options(verb) <= offered, verb["name"], long_options(verb) - offered)
        expect(offered <= long_options(verb), verb["name"], offered - long_options(verb))


def test_bash():
    check_common(bash_all)


def test_bash_registers():
    out = run("bash", "--norc", "--noprofile", "-c",
              f"source '{BASH}'; complete -p tcpcrypt-ns tcnetstat")
    expect(out.count("-F _tcpcrypt_ns ") == 2, out)


def test_fish():
    need("fish")
    check_common(fish_all)


def test_zsh():
    need("zsh")
    zsh = Zsh()
    try:
        for line, want in (("tcpcrypt-ns ses", "tcpcrypt-ns sessions "),
                           ("tcpcrypt-ns up --policy re", "tcpcrypt-ns up --policy require "),
                           ("tcpcrypt-ns up --policy=re", "tcpcrypt-ns up --policy=require "),
                           ("tcpcrypt-ns up --tep P-256,Curve2",
                            "tcpcrypt-ns up --tep P-256,Curve25519"),
                           ("tcpcrypt-ns down --netns se", "tcpcrypt-ns down --netns self "),
                           ("tcpcrypt-ns help ver", "tcpcrypt-ns help version "),
                           ("tcpcrypt-ns exec -- nsente", "tcpcrypt-ns exec -- nsenter "),
                           (f"tcpcrypt-ns exec -- cat {os.path.dirname(TABLE)}/cli.js",
                            f"tcpcrypt-ns exec -- cat {os.path.dirname(TABLE)}/cli.json "),
                           (f"tcpcrypt-ns up --log {os.path.dirname(TABLE)}/cli.js",
                            f"tcpcrypt-ns up --log {os.path.dirname(TABLE)}/cli.json ")):
            got = zsh.completed(line)
            expect(got.rstrip(", ") == want.rstrip(), line, got)
        listed = zsh.offers("tcpcrypt-ns ")
        expect(all(re.search(rf"(?m)^\s*{re.escape(n)}\s+-- ", listed) for n in NAMES), listed)
        for verb in VERBS:
            listed = zsh.offers(f"tcpcrypt-ns {verb['name']} --")
            found = set(re.findall(r"(?m)(?:^|\s)(--[a-z][\w-]*)", listed))
            if len(verb["options"]) > 1:  # one alone is put in at once, not listed
                expect(found == long_options(verb), verb["name"], found, long_options(verb))
    finally:
        zsh.close()


def test_man_page():
    """groff has nothing to complain about, and all options are on the page."""
    need("man")
    r = subprocess.run(["man", "--warnings=w", "-E", "UTF-8", "-l", "-P", "cat", MAN], text=True,
                       env={**os.environ, "MANWIDTH": "80", "LC_ALL": "C.UTF-8"},
                       stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=DEADLINE_S)
    expect(r.returncode == 0 and not r.stderr, r.returncode, r.stderr)
    text = re.sub(".\b", "", r.stdout)
    expect("@" not in re.sub(r"\S+@\S+", "", text), "a mark of the template is left")
    for verb in VERBS:
        for option in long_options(verb) - {"--help"}:
            expect(option in text, verb["name"], option)
    too_long = [line for line in text.splitlines() if len(line) > 80]
    expect(not too_long, "lines that do not fit", too_long)


TESTS = [test_bash, test_bash_registers, test_fish, test_zsh, test_man_page]


if __name__ == "__main__":
    cases.run(TESTS)
