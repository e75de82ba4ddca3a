# SPDX-License-Identifier: BSD-3-Clause
"""A machine with a systemd of its own, in one of the lab's network namespaces.

How it works: new mount, process, IPC, host-name and cgroup namespaces; the root
is an overlay of this machine's own with all changes in memory, so nothing needs
to be downloaded and nothing stays. Of systemd's own units only the journal is
started; whatever else a test wants, it writes. Process 1 dies with us.
"""
import contextlib
import os
import shutil
import subprocess

from lab import Failure, Skip, _run_root, binary, expect, wait_for

SYSTEMD = "/lib/systemd/systemd"
# $1 a directory, $2 name of the cgroup. "ro" lower layers are never written to.
BOOT = r"""
set -e
dir=$1 group=$2
mount --make-rprivate /
mount -t cgroup2 none "$dir/cgroup"
mkdir -p "$dir/cgroup/$group"
echo $$ >"$dir/cgroup/$group/cgroup.procs"
exec unshare --cgroup -- sh -e -c '
dir=$1 root=$1/root
mount -t tmpfs -o mode=755 none "$dir/layers"
mkdir "$dir/layers/up" "$dir/layers/work"
mount -t overlay overlay -o "lowerdir=/,upperdir=$dir/layers/up,workdir=$dir/layers/work" "$root"
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
mount -t cgroup2 none "$root/sys/fs/cgroup"
mount -t tmpfs -o mode=755 none "$root/run"
mount -t tmpfs none "$root/tmp"
mount -t tmpfs -o mode=755 none "$root/dev"
mkdir "$root/dev/net" "$root/dev/pts" "$root/dev/shm"
for d in null zero full random urandom tty net/tun; do
	: >"$root/dev/$d"
	mount --bind "/dev/$d" "$root/dev/$d"
done
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
mount --bind "$dir/installed" "$root/mnt"
cp -a "$root/mnt/." "$root/"
umount "$root/mnt"
# Nothing of this machine starts there, and no unit changes what the kernel shares.
mount -t tmpfs none "$root/etc/systemd/system"
for d in "$root"/lib/systemd/system/*.wants; do
	[ -L "$d" ] || mount -t tmpfs none "$d"
done
mkdir -p "$root/etc/systemd/network" "$root/var/log"
echo >"$root/etc/machine-id"
rm -rf "$root/var/log/journal"
cat >"$root/etc/systemd/system/lab.target" <<E
[Unit]
Requires=basic.target systemd-journald.service
After=basic.target systemd-journald.service
E
cd "$root"
mkdir -p .old
pivot_root . .old
umount -l /.old
exec env -i container=lab PATH="$PATH" '"$3"' --system --unit=lab.target --show-status=false \
	--log-level=warning
' sh "$dir"
"""
SWEEP = r"""
mount --make-rprivate /
mount -t cgroup2 none "$1"
[ -d "$1/$2" ] && find "$1/$2" -depth -type d -exec rmdir {} +
"""


class Machine:
    def __init__(self, lab, ns):
        if not os.path.exists(SYSTEMD):
            raise Skip("no systemd here")
        self.ns, self.lab = ns, lab
        self.dir = lab.file(f"{ns.short}-machine")
        for d in ("cgroup", "layers", "root", "installed"):
            os.makedirs(os.path.join(self.dir, d))
        self.group = f"tcns-{ns.name}"
        self.pid = None

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.stop()

    def install(self):
        """What "meson install" puts into place, of the build that is tested."""
        _run_root("meson", "install", "-C", os.path.dirname(binary()), "--no-rebuild",
                  "--quiet", "--destdir", os.path.join(self.dir, "installed"))

    def start(self):
        self.proc = self.ns.popen(
            "unshare", "--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child", "--",
            "sh", "-c", BOOT, "sh", self.dir, self.group, SYSTEMD)
        children = f"/proc/{self.proc.pid}/task/{self.proc.pid}/children"

        def first_child():
            expect(self.proc.poll() is None, "the machine does not start", self.proc.err())
            with open(children) as f:
                return f.read().split()

        self.pid = int(wait_for(first_child, 10, "a process 1")[0])
        wait_for(lambda: os.readlink(f"/proc/{self.pid}/exe").endswith("/systemd"), 10, "systemd")
        wait_for(lambda: self.run("systemctl", "is-active", "lab.target", check=False)
                 .stdout.strip() == "active", 20, "lab.target")
        return self

    def argv(self, argv):
        return ["nsenter", "-t", str(self.pid), "--mount", "--uts", "--ipc", "--net", "--pid",
                "--cgroup", "--root", "--wd", *map(str, argv)]

    def run(self, *argv, check=True, timeout=60, **kwargs):
        """Return: CompletedProcess with text output of a command on the machine."""
        if "input" not in kwargs:
            kwargs.setdefault("stdin", subprocess.DEVNULL)
        r = subprocess.run(self.argv(argv), timeout=timeout, text=True,
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE, **kwargs)
        if check and r.returncode != 0:
            raise Failure(f"machine {self.ns.short}: {' '.join(map(str, argv))}: "
                          f"exit {r.returncode}\n{r.stdout}{r.stderr}\n{self.journal()}")
        return r

    def adopt(self, ns, name):
        """Another of the lab's namespaces gets a name on the machine, as "ip netns" gives it."""
        subprocess.run(["nsenter", "-t", str(self.pid), "--mount", "--pid", "--root", "--wd",
                        f"--net={ns.path}", "sh", "-e", "-c",
                        'mkdir -p /run/netns; : >"/run/netns/$1"; '
                        'mount --bind /proc/self/ns/net "/run/netns/$1"', "sh", name],
                       check=True, stdin=subprocess.DEVNULL)

    def journal(self, *args):
        return self.run("journalctl", "--no-pager", "-n", "60", "-o", "cat", *args,
                        check=False).stdout

    def path(self, name):
        """A file of the machine, seen from here."""
        return f"/proc/{self.pid}/root{name}"

    def write(self, name, text):
        path = self.path(name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as f:
            f.write(text)

    def read(self, name):
        with open(self.path(name)) as f:
            return f.read()

    def exists(self, name):
        return os.path.lexists(self.path(name))

    def systemctl(self, *args, **kwargs):
        return self.run("systemctl", "--no-pager", *args, **kwargs)

    def show(self, unit, *props):
        """Return: dict of a unit's properties."""
        out = self.systemctl("show", "-p", ",".join(props), unit).stdout
        return dict(line.split("=", 1) for line in out.splitlines() if "=" in line)

    def stop(self):
        if self.pid is None:
            return
        self.proc.kill()
        self.proc.wait()
        wait_for(lambda: not os.path.exists(f"/proc/{self.pid}"), 10, "the machine's end")
        self.pid = None
        with contextlib.suppress(Failure):
            subprocess.run(["unshare", "--mount", "sh", "-c", SWEEP, "sh",
                            os.path.join(self.dir, "cgroup"), self.group], check=False)
        shutil.rmtree(self.dir, ignore_errors=True)
