# SPDX-License-Identifier: BSD-3-Clause
"""A machine that runs podman, of which nothing is left when the test ends.

How it works: the machine is a network namespace of the lab with a mount and a
process namespace. It has a /run, a /var/lib and an /etc/containers of its own, so
podman finds no other containers, networks or images there than the test's, and all
its processes, mounts and bridges end with the machine's first process. Images are
built from programs of the machine that the test runs on; no registry is asked.

Only control groups outlive that: close() removes containers in order first, and
then the groups that podman has forgotten.
"""
import contextlib
import glob
import json
import os
import shutil
import subprocess
import tempfile

from lab import TOP, Failure, Ns, Proc, binary, wait_for
from programs import need

IMAGE = "localhost/tcpcrypt-ns:latest"
APP = "localhost/app:latest"
# What the sidecar may do: no more than this.
CONFINED = ("--cap-drop", "ALL", "--cap-add", "NET_ADMIN", "--cap-add", "NET_RAW",
            "--read-only", "--security-opt", "no-new-privileges", "--device", "/dev/net/tun")
TOOLS = ("sh", "cat", "ip", "kill", "ls", "nc", "nslookup", "ps", "sleep", "wget")

_START = """set -e
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /var/lib
mkdir -p /var/lib/containers /run/netns
mount --bind "$1" /var/lib/containers
mount -t tmpfs tmpfs /etc/containers
cp "$2"/* /etc/containers
touch /run/ready
exec catatonit -P
"""

_CONF = """[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1000:1000"]
log_driver = "k8s-file"
[engine]
cgroup_manager = "cgroupfs"
runtime = "runc"
events_logger = "none"
[network]
network_backend = "{backend}"
network_config_dir = "/run/networks"
cni_plugin_dirs = ["/opt/cni/bin", "/run/cni", "/usr/lib/cni"]
[engine.runtimes]
"""


def copy_programs(root, *programs):
    """Programs with the shared objects they need, into a root file system."""
    for path in programs:
        os.makedirs(root + "/bin", exist_ok=True)
        shutil.copy(path, root + "/bin/")
        r = subprocess.run(["ldd", path], text=True, stdout=subprocess.PIPE,
                           stderr=subprocess.DEVNULL)
        for word in r.stdout.split():
            if word.startswith("/"):
                os.makedirs(root + os.path.dirname(word), exist_ok=True)
                shutil.copy(word, root + word)


def app_files(root):
    """An application's image: a shell, nginx that answers with its client's address, curl."""
    copy_programs(root, need("busybox"), need("nginx"), need("curl"))
    for tool in TOOLS:
        os.symlink("busybox", f"{root}/bin/{tool}")
    for d in ("etc", "run", "tmp", "proc", "sys", "dev"):
        os.makedirs(f"{root}/{d}", exist_ok=True)
    with open(root + "/etc/passwd", "w") as f:
        f.write("root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n")
    with open(root + "/etc/group", "w") as f:
        f.write("root:x:0:\nnogroup:x:65534:\n")
    with open(root + "/etc/nginx.conf", "w") as f:
        f.write("""daemon off; master_process off; pid /tmp/pid; error_log stderr;
events { worker_connections 512; }
http {
  client_body_temp_path /tmp/a; proxy_temp_path /tmp/b; fastcgi_temp_path /tmp/c;
  uwsgi_temp_path /tmp/d; scgi_temp_path /tmp/e; access_log off;
  server { listen 80; listen [::]:80; location / { return 200 "application-plaintext-marker $remote_addr $remote_port\n"; } }
}
""")


def cgroups():
    """The control groups of all of podman's containers, of this test and others."""
    tops = glob.glob("/sys/fs/cgroup/libpod_parent") + glob.glob("/sys/fs/cgroup/*/libpod_parent")
    return {d for top in tops for d, _, _ in os.walk(top)}


class Pod(Ns):
    """The network namespace of a pod or container; commands of the test's machine run in it."""

    def __init__(self, machine, name, path):
        self.lab, self.short, self.path = machine.lab, name, path
        self.name = path  # what --netns takes

    def ip(self, *args, check=True):
        return self.run("ip", *args, check=check).stdout


class Machine:
    """podman with the two images IMAGE and APP. To be closed; "with" does it."""

    _store = None  # the images, built once in a test file

    def __init__(self, lab, name="m", backend="netavark"):
        for program in ("podman", "runc", "conmon", "catatonit", "busybox"):
            need(program)
        self.lab = lab
        self.ns = lab.ns(name)
        self.dir = lab.file(f"machine-{name}")
        self.cgroups = cgroups()
        self.env = {**os.environ, "DISABLE_HC_SYSTEMD": "true", "PATH": os.environ["PATH"]
                    + ":/usr/sbin:/sbin"}
        os.makedirs(self.dir + "/etc")
        with open(self.dir + "/etc/containers.conf", "w") as f:
            f.write(_CONF.format(backend=backend))
        with open(self.dir + "/etc/policy.json", "w") as f:
            json.dump({"default": [{"type": "insecureAcceptAnything"}]}, f)
        with open(self.dir + "/etc/storage.conf", "w") as f:
            f.write('[storage]\ndriver = "vfs"\nrunroot = "/run/containers/storage"\n'
                    'graphroot = "/var/lib/containers/storage"\n')
        self.init = None
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def _start(self):
        store = self.dir + "/store"
        if Machine._store:
            shutil.copytree(Machine._store.name, store, symlinks=True)
        else:
            os.makedirs(store)
        self.proc = self.ns.popen("unshare", "--mount", "--propagation", "private", "--pid",
                                  "--fork", "--kill-child", "--mount-proc", "sh", "-c", _START,
                                  "sh", store, self.dir + "/etc")
        children = f"/proc/{self.proc.pid}/task/{self.proc.pid}/children"

        def ready():
            if self.proc.poll() is not None:
                raise Failure(f"the machine ended: {self.proc.err()}")
            with open(children) as f:
                pids = f.read().split()
            return pids and os.path.exists(f"/proc/{pids[0]}/root/run/ready") and int(pids[0])

        self.init = wait_for(ready, 10, "a machine")
        if not Machine._store:
            self._build_images()
            Machine._store = tempfile.TemporaryDirectory(prefix="tcns-store-")
            shutil.copytree(store, Machine._store.name, symlinks=True, dirs_exist_ok=True)

    def _build_images(self):
        self.run(TOP + "/netns-scripts/image", "--program", binary(), "--engine", "podman",
                 "--tag", IMAGE)
        files = self.dir + "/app"
        app_files(files)
        with open(self.dir + "/Containerfile", "w") as f:
            f.write('FROM scratch\nCOPY / /\nCMD ["/bin/nginx", "-c", "/etc/nginx.conf"]\n')
        self.podman("build", "-q", "-t", APP, "-f", self.dir + "/Containerfile", files)

    def argv(self, argv):
        return ["setpriv", "--pdeathsig", "KILL", "nsenter", "-t", str(self.init), "--mount",
                "--pid", "--net", "--", *map(str, argv)]

    def popen(self, *argv, env=None):
        """Return: the process; it dies with the machine."""
        name = self.lab.file(f"machine-{len(self.lab.procs)}-{argv[0]}")
        p = Proc(self.argv(argv), name + ".out", name + ".err", env=env or self.env)
        self.lab.procs.append(p)
        return p

    def run(self, *argv, check=True, timeout=60, **kwargs):
        """Runs a command on the machine. Return: CompletedProcess with text output."""
        if "input" not in kwargs:
            kwargs.setdefault("stdin", subprocess.DEVNULL)
        argv = self.argv(argv)
        r = subprocess.run(argv, env=kwargs.pop("env", self.env), text=True, timeout=timeout,
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE, **kwargs)
        if check and r.returncode != 0:
            raise Failure(f"{' '.join(argv[9:])}: exit {r.returncode}\n{r.stdout}\n{r.stderr}")
        return r

    def podman(self, *args, **kwargs):
        """Return: what podman printed."""
        return self.run("podman", *args, **kwargs).stdout.strip()

    def sidecar(self, name, *args, up=(), confined=CONFINED):
        """A sidecar container; up: options of the verb. Its namespace is named by args."""
        self.podman("run", "-d", "--name", name, *confined, *args, IMAGE,
                    "up", "--netns", "self", "--foreground", "--bypass", "none", "-v", *up)
        self.podman("exec", name, "tcpcrypt-ns", "status", "--wait", "10")

    def tcns(self, name, *args, check=True):
        """Runs our program in the container name, a sidecar."""
        return self.run("podman", "exec", name, "tcpcrypt-ns", *args, check=check)

    def sessions(self, name, *args):
        return json.loads(self.tcns(name, "sessions", "--json", *args).stdout)["sessions"]

    def inspect(self, name):
        return json.loads(self.podman("inspect", name))[0]

    def path(self, inside):
        """A path of the machine, as the test sees it."""
        return f"/proc/{self.init}/root{inside}"

    def inside(self, path):
        """The other way round."""
        return path.removeprefix(f"/proc/{self.init}/root")

    def netns(self, name):
        """The namespace of a container, or of a pod by its infra container."""
        return Pod(self, name, self.path(self.inspect(name)["NetworkSettings"]["SandboxKey"]))

    def address(self, name, network):
        return self.inspect(name)["NetworkSettings"]["Networks"][network]["IPAddress"]

    def pod(self, name, network, *args):
        """Return: the name of its infra container, which is started."""
        self.podman("pod", "create", "--name", name, "--infra-name", name + "-infra",
                    "--network", network, *args)
        self.podman("pod", "start", name)
        return name + "-infra"

    def bridge(self, network):
        """The network's bridge, on which a capture sees what its ports say to each other."""
        name = json.loads(self.podman("network", "inspect", network))[0]["network_interface"]
        self.ns.ip("link", "set", name, "promisc", "on")
        return name

    def close(self):
        if self.init:
            for what in (["pod", "rm", "-fa", "-t", "0"], ["rm", "-fa", "-t", "0"]):
                with contextlib.suppress(Failure, subprocess.TimeoutExpired):
                    self.podman(*what, timeout=20)
            self.init = None
            self.proc.kill()
            self.proc.wait()
        with contextlib.suppress(Failure):
            wait_for(self._remove_cgroups, 3)

    def _remove_cgroups(self):
        """Return: whether none is left that was not there before; processes may be ending."""
        for path in sorted(cgroups() - self.cgroups, reverse=True):  # the inner ones first
            with contextlib.suppress(OSError):
                os.rmdir(path)
        return not cgroups() - self.cgroups
