# SPDX-License-Identifier: BSD-3-Clause
"""A distribution, the packages built from it, and what they put on a machine and take away again."""
import atexit
import functools
import glob
import os
import re
import shutil
import subprocess
import tempfile

import tap
from lab import TOP, Failure, Skip, binary, expect, expect_eq, wait_for
from machine import Machine
from test_enable import SERVER, UNIT, expect_served
from test_systemd import works_encrypted

VERSION = re.search(r"version: '([^']+)'", open(os.path.join(TOP, "meson.build")).read())[1]


def run(*argv, check=True, **kwargs):
    kwargs.setdefault("stdin", subprocess.DEVNULL)
    r = subprocess.run(argv, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **kwargs)
    if check and r.returncode != 0:
        raise Failure(f"{' '.join(argv)}: exit {r.returncode}\n{r.stdout[-6000:]}")
    return r.stdout


@functools.cache
def scratch():
    path = tempfile.mkdtemp(prefix="tcns-package-")
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


@functools.cache
def distribution():
    """Return: the unpacked tree of "meson dist", with no git above it."""
    build = os.path.dirname(binary())
    run("meson", "dist", "-C", build, "--no-tests", "--include-subprojects", "--allow-dirty")
    run("tar", "-xf", f"{build}/meson-dist/tcpcrypt-ns-{VERSION}.tar.xz", "-C", scratch())
    return os.path.join(scratch(), f"tcpcrypt-ns-{VERSION}")


@functools.cache
def packages():
    """Return: {name: path}, built from the distribution."""
    if not shutil.which("dpkg-buildpackage"):
        raise Skip("no dpkg-buildpackage")
    out = os.path.join(scratch(), "packages")
    run(os.path.join(distribution(), "netns-scripts", "package"), "--no-tests", "--output", out)
    return {os.path.basename(p).split("_")[0]: p for p in glob.glob(f"{out}/*.deb")
            if "-dbgsym_" not in p}


# --- A clean root ---------------------------------------------------------------------


def closure(names):
    """The packages that names need, by what is installed here and the fields of its Depends."""
    text = run("dpkg-query", "-W", "-f",
               "${db:Status-Status}\t${Package}\t${Essential}\t${Pre-Depends}, ${Depends}\t"
               "${Provides}\n")
    depends, provider, todo = {}, {}, list(names)
    for line in text.splitlines():
        state, name, essential, needs, provides = line.split("\t")
        if state == "installed":
            depends[name] = needs
            for p in re.findall(r"(?:^|, )([^\s,:(]+)", provides):
                provider.setdefault(p, name)
            todo += [name] if essential == "yes" else []
    found = set()
    while todo:
        name = todo.pop()
        if name in found:
            continue
        found.add(name)
        for field in filter(None, depends[name].split(", ")):
            options = [re.match(r"[^\s:(]+", o)[0] for o in field.split(" | ")]
            have = [provider.get(o, o) for o in options if o in depends or o in provider]
            expect(have, f"{name} needs {field}, which is not here")
            todo.append(have[0])
    return sorted(found)


def make_root(root, names):
    """Debian's essential packages and those named, as they are on this machine."""
    for d in ("usr/bin", "usr/sbin", "usr/lib", "usr/lib64", "dev", "proc", "run", "tmp", "etc",
              "var/lib/dpkg/info", "var/lib/dpkg/updates", "var/log"):
        os.makedirs(f"{root}/{d}")
    for d in ("bin", "sbin", "lib", "lib64"):
        os.symlink(f"usr/{d}", f"{root}/{d}")
    files = run("dpkg-query", "-L", *names).splitlines()
    paths = sorted({f[1:] for f in files if f.startswith("/") and os.path.lexists(f)})
    info = [p[1:] for n in names for p in glob.glob(f"/var/lib/dpkg/info/{n}.*")
            + glob.glob(f"/var/lib/dpkg/info/{n}:*")]
    alternatives = [p[1:] for p in glob.glob("/etc/alternatives/awk")]
    tar = subprocess.Popen(["tar", "-C", "/", "-c", "--no-recursion", "--null", "-T", "-"],
                           stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                           stderr=subprocess.DEVNULL)
    untar = subprocess.Popen(["tar", "-C", root, "-x", "--keep-directory-symlink"],
                             stdin=tar.stdout, stderr=subprocess.DEVNULL)
    tar.stdin.write("\0".join(paths + info + alternatives).encode())
    tar.stdin.close()
    tar.stdout.close()
    expect(untar.wait() == 0 and tar.wait() in (0, 1), "copying the packages' files")
    with open(f"{root}/var/lib/dpkg/status", "w") as f:
        text = run("dpkg-query", "-s", *names).replace("\nPackage: ", "\n\nPackage: ")
        f.write(re.sub(r"^Status: .*", "Status: install ok installed", text, flags=re.M))
    run("ldconfig", "-r", root)


def listing(root):
    """Every file with its kind and content's size; without dpkg's own records of the past."""
    found = {}
    for folder, dirs, files in os.walk(root):
        for name in dirs + files:
            path = os.path.join(folder, name)
            short = path[len(root):]
            if re.match(r"/(proc|dev|run|tmp|var/log)/|/var/lib/dpkg/[^/]+-old$"
                        r"|/var/lib/dpkg/(lock|triggers)|/var/cache/ldconfig", short):
                continue
            st = os.lstat(path)
            found[short] = (st.st_mode, 0 if os.path.isdir(path) else st.st_size)
    return found


class Root:
    """A shell's view of the root, in one of the lab's namespaces."""

    def __init__(self, lab, ns, root):
        self.holder = ns.popen(
            "unshare", "--mount", "--", "sh", "-e", "-c",
            'mount --make-rprivate /; mount -t tmpfs none "$1/dev"; mkdir "$1/dev/net";'
            'for d in null urandom net/tun; do : >"$1/dev/$d"; mount --bind "/dev/$d" "$1/dev/$d"; '
            'done; mount -t proc proc "$1/proc"; mount -t tmpfs none "$1/run"; echo ready; '
            "exec sleep 600", "sh", root)
        self.root = root
        wait_for(lambda: "ready" in self.holder.out(), 5, "mounts of the root")

    def run(self, *argv, check=True):
        # setpriv and nsenter replace themselves: the holder's process id is the sleep's.
        return run("nsenter", "-t", str(self.holder.pid), "--mount", "--net",
                   "chroot", self.root, "env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
                   "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C", *argv, check=check)


# --- Tests ----------------------------------------------------------------------------


@tap.timeout(240)
def test_distribution_is_whole(lab):
    """It configures, builds and tests with no git, no shared folder and no network."""
    tree = distribution()
    expect(not os.path.exists(f"{tree}/.git"), "no git")
    env = {**os.environ, "GIT_CEILING_DIRECTORIES": scratch()}
    env.pop("TCNS_VECTORS", None)
    run("meson", "setup", "b", "--wrap-mode=nodownload", "-Dwerror=true", cwd=tree, env=env)
    # A module with known-answer vectors; the packages are a build of all the rest.
    target = "tests/unit/test_tcpcrypt_keys"
    run("ninja", "-C", "b", "-j2", target, cwd=tree, env=env)
    out = run(f"b/{target}", cwd=tree, env=env)
    expect("[  PASSED  ]" in out, out)
    shutil.rmtree(f"{tree}/b")


USER_BUILD = """project('user', 'c')
dep = dependency('libtcpcrypt', fallback: 'tcpcrypt-ns')
executable('user', 'user.c', dependencies: dep)
"""
WORDS = "the connection is not encrypted\n"
USER = """#include <stdio.h>
#include <errno.h>
#include <tcpcrypt/tcpcrypt.h>
int main(void) { return puts(tcpcrypt_strerror(ENODATA)) < 0; }
"""


@tap.timeout(240)
def test_as_a_subproject(lab):
    """Another project needs no more than the distribution under its subprojects/."""
    user = lab.file("user")
    os.makedirs(f"{user}/subprojects")
    os.symlink(distribution(), f"{user}/subprojects/tcpcrypt-ns")
    for name, text in (("meson.build", USER_BUILD), ("user.c", USER)):
        with open(f"{user}/{name}", "w") as f:
            f.write(text)
    out = run("meson", "setup", "b", "--wrap-mode=nodownload", cwd=user)
    expect("subproject tcpcrypt-ns" in out.lower(), out)
    run("ninja", "-C", "b", "-j2", "user", cwd=user)
    expect_eq(run("b/user", cwd=user), WORDS)
    # Its tests are not the other project's.
    out = run("meson", "test", "-C", "b", "--list", "--no-rebuild", cwd=user, check=False)
    expect("No tests defined." in out, out)


def test_build_dependencies_are_those_of_the_setup(lab):
    setup = open(os.path.join(TOP, "netns-scripts", "setup")).read()
    listed = re.search(r"^packages=\((.*?)^\)", setup, re.M | re.S)[1].split()
    control = open(os.path.join(TOP, "netns-scripts", "debian", "control")).read()
    wanted = set(re.findall(r"^ ([a-z0-9.+-]+)", control.split("\n\n")[0], re.M))
    libs = {p for p in listed if p.endswith("-dev")} - {"libc6-dev", "dpkg-dev"}
    expect_eq(sorted(libs - wanted), [], "libraries that the set-up has and debian/control lacks")


@tap.timeout(240)
def test_packages_in_a_clean_root(lab):
    debs = packages()
    expect("tcpcrypt-ns" in debs, "packages", debs)
    fields = [run("dpkg-deb", "-f", d, "Depends") for d in debs.values()]
    needs = {re.match(r"[^\s:(]+", n)[0] for f in fields for n in f.strip().split(", ")} - set(debs)
    root = lab.file("root")
    make_root(root, closure(needs - {""}))
    r, a, b = lab.star("a", "b")
    b.up()
    inside = Root(lab, a, root)
    inside.run("dpkg", "--triggers-only", "--pending")
    before = listing(root)
    for path in debs.values():
        shutil.copy(path, f"{root}/tmp/")
    inside.run("dpkg", "-i", *(f"/tmp/{os.path.basename(p)}" for p in debs.values()))
    expect_eq(inside.run("dpkg", "--audit"), "")

    expect_eq(inside.run("tcpcrypt-ns", "version").split(), ["tcpcrypt-ns", VERSION])
    inside.run("tcpcrypt-ns", "up", "--netns", "self", "--bypass", "none")
    works_encrypted(a, b)
    inside.run("tcpcrypt-ns", "down", "--netns", "self")
    # With the -dev package something can be built against the root.
    with open(f"{root}/tmp/user.c", "w") as f:
        f.write(USER)
    env = {**os.environ, "PKG_CONFIG_SYSROOT_DIR": root,
           "PKG_CONFIG_LIBDIR": glob.glob(f"{root}/usr/lib/*/pkgconfig")[0]}
    flags = run("pkg-config", "--cflags", "--libs", "libtcpcrypt", env=env).split()
    run("cc", f"{root}/tmp/user.c", *flags, "-o", f"{root}/tmp/user")
    expect_eq(inside.run("/tmp/user"), WORDS)
    installed = set(listing(root)) - set(before)
    for path in ("/usr/bin/tcpcrypt-ns", "/usr/include/tcpcrypt/tcpcrypt.h",
                 "/usr/share/man/man3/libtcpcrypt.3.gz", "/usr/share/man/man1/tcpcrypt-ns.1.gz",
                 "/usr/lib/systemd/system/tcpcrypt-ns@.service", "/etc/apparmor.d/tcpcrypt-ns",
                 "/usr/share/bash-completion/completions/tcpcrypt-ns",
                 "/usr/share/zsh/vendor-completions/_tcpcrypt-ns",
                 "/usr/share/fish/vendor_completions.d/tcpcrypt-ns.fish"):
        expect(path in installed, f"{path} is not installed", sorted(installed))

    inside.run("dpkg", "--purge", *debs)
    after = listing(root)
    changed = {k for k in before.keys() | after.keys() if before.get(k) != after.get(k)}
    # dpkg keeps a record of what was once enabled.
    expect_eq(sorted(changed), [], "purged, and yet different")


@tap.timeout(240)
def test_package_on_a_machine_with_systemd(lab):
    debs = packages()
    r, h, p = lab.star("h", "p")
    p.up()
    with Machine(lab, h) as m:
        m.start()
        for path in debs.values():
            shutil.copy(path, m.path("/tmp/"))
        m.run("dpkg", "-i", *(f"/tmp/{os.path.basename(d)}" for d in debs.values()))
        expect_eq(m.show("tcpcrypt-ns.service", "ActiveState", "UnitFileState"),
                  {"ActiveState": "inactive", "UnitFileState": "disabled"}, "nothing starts unasked")
        before = h.snapshot()
        m.write("/etc/default/tcpcrypt-ns.service", 'TCPCRYPT_NS_OPTIONS="--bypass 7000"\n')
        m.systemctl("start", "tcpcrypt-ns.service")
        works_encrypted(h, p, 7500)
        main = m.show("tcpcrypt-ns.service", "MainPID")["MainPID"]
        # An upgrade does not end connections.
        m.run("dpkg", "-i", f"/tmp/{os.path.basename(debs['tcpcrypt-ns'])}")
        expect_eq(m.show("tcpcrypt-ns.service", "MainPID")["MainPID"], main)
        # A service in a namespace of its own gets the host's again. Beside an attached host its
        # published port is a bypassed one: docs/HOST.md.
        m.write("/srv/server.py", SERVER)
        m.write("/etc/systemd/system/web.service", UNIT.format(port=7000))
        units = sorted(os.listdir(m.path("/etc/systemd/system")))
        m.run("tcpcrypt-ns", "enable", "web", "--publish", "7000")
        m.systemctl("start", "web")
        expect_served(p, h)
        m.run("dpkg", "--purge", *debs)
        expect_eq(sorted(os.listdir(m.path("/etc/systemd/system"))), units)
        expect_served(p, h, state="clear")
        expect_eq(h.snapshot(), before, "after removal")
        expect_eq(m.run("find", "/run/tcpcrypt-ns", check=False).stdout.split(),
                  ["/run/tcpcrypt-ns"])


@tap.timeout(240)
def test_lintian(lab):
    if not shutil.which("lintian"):
        raise Skip("no lintian")
    packages()
    changes = glob.glob(os.path.join(scratch(), "packages", "*.changes"))
    # The project has no mail address to give.
    out = run("lintian", "--allow-root", "--fail-on", "error,warning", "--suppress-tags",
              "bogus-mail-host,bogus-mail-host-in-debian-changelog", *changes)
    expect("E:" not in out and "W:" not in out, out)


def test_apparmor_profile_parses(lab):
    if not shutil.which("apparmor_parser"):
        raise Skip("no apparmor_parser")
    profile = os.path.join(TOP, "netns-scripts", "apparmor", "tcpcrypt-ns")
    expect_eq(run("apparmor_parser", "--skip-kernel-load", "--skip-cache", "--names",
                  profile).splitlines()[-1], "tcpcrypt-ns")
    run("apparmor_parser", "--skip-kernel-load", "--skip-cache", profile)


if __name__ == "__main__":
    tap.main()
