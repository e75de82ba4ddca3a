# SPDX-License-Identifier: BSD-3-Clause
"""Real programs, unmodified, as servers and clients in a namespace."""
import os
import subprocess

from lab import Skip, expect
import shutil


def need(name):
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin:/usr/local/sbin")
    if not path:
        raise Skip(f"{name} is not installed")
    return path


def random_file(path, size):
    """size bytes that do not repeat, quickly."""
    subprocess.run(f"head -c {size} /dev/zero | openssl enc -aes-128-ctr -nosalt "
                   f"-K {os.urandom(16).hex()} -iv {os.urandom(16).hex()} > '{path}'",
                   shell=True, check=True)
    return path


def nginx(ns, port=80, root=None):
    """Serves the directory root at all addresses. Return: the process."""
    need("nginx")
    home = ns.lab.file(f"nginx-{ns.short}")
    os.makedirs(home, exist_ok=True)
    root = root or home
    conf = os.path.join(home, "nginx.conf")
    temp = "".join(f"{k}_temp_path {home}/{k};\n" for k in
                   ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    with open(conf, "w") as f:
        f.write(f"""
daemon off; worker_processes 1; user root; pid {home}/pid; error_log {home}/error.log;
events {{ worker_connections 4096; }}
http {{
  {temp} access_log off; sendfile on; keepalive_requests 100000; client_max_body_size 0;
  server {{
    listen 0.0.0.0:{port} backlog=4096; listen [::]:{port} ipv6only=on backlog=4096;
    root {root};
    location /put/ {{ dav_methods PUT; create_full_put_path on; client_body_temp_path {home}/body; }}
  }}
}}
""")
    p = ns.popen("nginx", "-p", home, "-e", f"{home}/error.log", "-c", conf)
    ns.wait_listening(port)
    return p


def curl(ns, url, *args, timeout=60):
    """Return: CompletedProcess; bytes."""
    need("curl")
    return ns.run("curl", "-sS", "--max-time", timeout, *args, url, check=False, text=False,
                  timeout=timeout + 10)


def redis(ns, port=6379):
    need("redis-server")
    p = ns.popen("redis-server", "--port", port, "--bind", "*", "-::*", "--protected-mode", "no",
                 "--save", "", "--appendonly", "no", "--dir", ns.lab.dir)
    ns.wait_listening(port)
    return p


def sshd(ns, port=2222):
    """Return: path of a key that root logs in with."""
    need("sshd")
    need("ssh-keygen")
    home = ns.lab.file(f"sshd-{ns.short}")
    os.makedirs(home, mode=0o700)
    os.makedirs("/run/sshd", mode=0o755, exist_ok=True)  # privilege separation wants it
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", f"{home}/{name}"],
                       check=True, stdin=subprocess.DEVNULL)
    os.rename(f"{home}/user.pub", f"{home}/authorized")
    with open(f"{home}/conf", "w") as f:
        f.write(f"""
Port {port}
HostKey {home}/host
AuthorizedKeysFile {home}/authorized
PermitRootLogin prohibit-password
PasswordAuthentication no
UsePAM no
StrictModes no
PidFile none
""")
    ns.popen(need("sshd"), "-D", "-e", "-f", f"{home}/conf")
    ns.wait_listening(port)
    return f"{home}/user"


def ssh_argv(key, addr, port, *command):
    return ["ssh", "-F", "none", "-i", key, "-p", str(port), "-o", "StrictHostKeyChecking=no",
            "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "-o", "BatchMode=yes",
            f"root@{addr}", *command]


def iperf3_server(ns, port=5201):
    need("iperf3")
    p = ns.popen("iperf3", "-s", "-p", port)
    ns.wait_listening(port)
    return p


def iperf3(ns, addr, *args, port=5201, timeout=30):
    """Return: the client's own report."""
    import json
    r = ns.run("iperf3", "-c", addr, "-p", port, "-J", *args, check=False, timeout=timeout)
    report = json.loads(r.stdout)
    expect(r.returncode == 0 and "error" not in report, f"iperf3: {report.get('error')}")
    return report["end"]
