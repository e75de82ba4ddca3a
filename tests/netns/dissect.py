# SPDX-License-Identifier: BSD-3-Clause
"""tshark with our dissector, for tests."""
import os
import subprocess

from lab import TOP, Failure

SCRIPT = os.path.join(TOP, "docs", "tcpcrypt.lua")


def tshark(path, *args, keylog=None):
    """Return: what it prints about the capture."""
    argv = ["tshark", "-n", "-X", f"lua_script:{SCRIPT}", "-r", path, *args]
    if keylog:
        argv += ["-o", f"tcpcrypt.keylog:{keylog}"]
    r = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                       stderr=subprocess.PIPE, text=True, timeout=120)
    if r.returncode != 0 or "Lua Error" in r.stdout + r.stderr or "Lua:" in r.stderr:
        raise Failure(f"{' '.join(argv)}: exit {r.returncode}\n{r.stderr}{r.stdout[-2000:]}")
    return r.stdout


def fields(path, *names, show="tcpcrypt or tcp_eno", **kwargs):
    """Return: for each packet shown a dict of field: list of values."""
    args = ["-Y", show, "-T", "fields", "-E", "separator=/t", "-E", "aggregator=|"]
    for n in names:
        args += ["-e", n]
    rows = []
    for line in tshark(path, *args, **kwargs).splitlines():
        values = line.split("\t")
        rows.append({n: v.split("|") if v else [] for n, v in zip(names, values)})
    return rows


def values(path, name, **kwargs):
    """Return: all values of one field, in order."""
    return [v for row in fields(path, name, **kwargs) for v in row[name]]
