# SPDX-License-Identifier: BSD-3-Clause
"""A network namespace with a name, as "ip netns" makes them; for the tests and bench/.

How it works: this only enters and looks. Who makes a namespace removes it: see lab.py
here and in bench/.
"""
import contextlib
import ctypes
import os

CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def _setns(fd):
    if _libc.setns(fd, CLONE_NEWNET) != 0:
        err = ctypes.get_errno()
        raise OSError(err, os.strerror(err))


class Namespace:
    def __init__(self, name):
        self.name = name
        self.path = f"/run/netns/{name}"

    @contextlib.contextmanager
    def inside(self):
        """This thread is in the namespace meanwhile."""
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        there = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _setns(there)
            yield self
        finally:
            _setns(home)
            os.close(home)
            os.close(there)

    def argv(self, argv):
        """Return: what runs this command there; it dies with us whatever happens."""
        return ["setpriv", "--pdeathsig", "KILL", "nsenter", f"--net={self.path}",
                *map(str, argv)]

    def sysctl(self, key, value=None):
        """Return: the value, where none is given to be set."""
        path = "/proc/sys/" + key.replace(".", "/")
        with self.inside():
            if value is None:
                with open(path) as f:
                    return f.read().strip()
            with open(path, "w") as f:
                f.write(str(value))
        return None

    def has_listener(self, port):
        """Whether something listens at the TCP port; nothing connects to it."""
        want = f"{port:04X}"
        with self.inside():
            for table in ("tcp", "tcp6"):
                with open(f"/proc/thread-self/net/{table}") as f:
                    for line in f.readlines()[1:]:
                        field = line.split()
                        if field[3] == "0A" and field[1].rsplit(":", 1)[1] == want:
                            return True
        return False
