#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""What is installed of libtcpcrypt is enough for a program in C, shared and static; the header
is C99 and C++11. Prints TAP.

usage: installed.py BUILD-FOLDER SANITIZERS COMPILER...
"""
import glob
import os
import re
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
BUILD, SANITIZERS, COMPILER = sys.argv[1], sys.argv[2], sys.argv[3:]
SANITIZE = [] if SANITIZERS == "none" else [f"-fsanitize={SANITIZERS}"]
STRICT = ["-Wall", "-Wextra", "-Wpedantic", "-Werror"]


def run(*argv, **env):
    r = subprocess.run(argv, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                       stderr=subprocess.STDOUT, env={**os.environ, **env})
    if r.returncode != 0:
        raise RuntimeError(f"{' '.join(argv)}: exit {r.returncode}\n{r.stdout}")
    return r.stdout


class Installed:
    def __init__(self, root):
        self.root = root
        run("meson", "install", "-C", BUILD, "--no-rebuild", "--quiet", "--destdir", root)
        self.pc = self.find("libtcpcrypt.pc")
        self.header = self.find("tcpcrypt.h")
        self.folder = os.path.dirname(self.find("libtcpcrypt.so"))

    def find(self, name):
        found = glob.glob(f"{self.root}/**/{name}", recursive=True)
        if len(found) != 1:
            raise RuntimeError(f"{name}: {found}")
        return found[0]

    def config(self, *args):
        return run("pkg-config", *args, "libtcpcrypt", PKG_CONFIG_SYSROOT_DIR=self.root,
                   PKG_CONFIG_PATH=os.path.dirname(self.pc)).split()


def said(text):
    assert text.startswith("ENOTSOCK: not a TCP socket"), text


def test_shared(installed, tmp):
    program = os.path.join(tmp, "shared")
    run(*COMPILER, *SANITIZE, *STRICT, os.path.join(HERE, "program.c"), "-o", program,
        *installed.config("--cflags", "--libs"))
    said(run(program, LD_LIBRARY_PATH=installed.folder))
    needed = run("readelf", "-d", program)
    assert "[libtcpcrypt.so.0]" in needed, needed
    assert "jansson" not in needed, "the program itself needs no more"


def test_static(installed, tmp):
    program = os.path.join(tmp, "static")
    flags = installed.config("--cflags", "--libs", "--static")
    run(*COMPILER, *SANITIZE, *STRICT, os.path.join(HERE, "program.c"), "-o", program,
        *[f for f in flags if f != "-ltcpcrypt"],
        os.path.join(installed.folder, "libtcpcrypt.a"),
        *[f for f in flags if f.startswith("-l") and f != "-ltcpcrypt"])
    said(run(program))
    assert "libtcpcrypt" not in run("readelf", "-d", program)


def test_exports(installed, tmp):
    """The shared library has the names of the header, the static one no others, either."""
    with open(installed.header, encoding="utf-8") as f:
        names = set(re.findall(r"^(?:int|void|char \*|const char \*)\s?\*?(tcpcrypt_\w+)\(",
                               f.read(), re.M))
    dynamic = run("nm", "-D", "--defined-only", os.path.join(installed.folder, "libtcpcrypt.so"))
    exported = {line.split()[2].split("@")[0] for line in dynamic.splitlines() if " T " in line}
    assert exported == names, exported ^ names
    static = run("nm", "--defined-only", os.path.join(installed.folder, "libtcpcrypt.a"))
    visible = {line.split()[2] for line in static.splitlines() if re.search(r" [TDBRC] ", line)}
    assert {n for n in visible if not n.startswith("__")} == names, visible ^ names


def test_c99(installed, tmp):
    source = os.path.join(tmp, "header.c")
    with open(source, "w", encoding="utf-8") as f:
        f.write("#include <tcpcrypt/tcpcrypt.h>\n#include <tcpcrypt/ctl.h>\n"
                "int main(void) { return TCPCRYPT_SESSID_LEN - 33; }\n")
    run(*COMPILER, "-std=c99", *STRICT, "-fsyntax-only", source, *installed.config("--cflags"))


def test_cxx11(installed, tmp):
    source, program = os.path.join(tmp, "header.cc"), os.path.join(tmp, "cxx")
    with open(source, "w", encoding="utf-8") as f:
        f.write("#include <tcpcrypt/tcpcrypt.h>\n#include <cerrno>\n"
                "int main() { tcpcrypt_info info;\n"
                "return tcpcrypt_get_info(-1, &info, sizeof(info)) == -1 && errno == EBADF ? 0 : 1; }\n")
    run("g++", "-std=c++11", *SANITIZE, *STRICT, source, "-o", program,
        *installed.config("--cflags", "--libs"))
    run(program, LD_LIBRARY_PATH=installed.folder)


def main():
    tests = [test_shared, test_static, test_exports, test_c99, test_cxx11]
    failed = False
    print(f"1..{len(tests)}")
    with tempfile.TemporaryDirectory() as tmp:
        installed = Installed(os.path.join(tmp, "root"))
        for number, test in enumerate(tests, 1):
            text = ""
            try:
                test(installed, tmp)
            except (RuntimeError, AssertionError) as e:
                text = str(e) or repr(e)
            failed |= bool(text)
            print(f"{'not ok' if text else 'ok'} {number} - {test.__name__[5:]}")
            for line in text.splitlines():
                print(f"# {line}")
    sys.exit(failed)


main()
