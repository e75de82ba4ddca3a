# SPDX-License-Identifier: BSD-3-Clause
"""The first command of the README: what it shows, and that nothing stays."""
import os
import re
import signal
import subprocess
import time

import tap
from lab import TOP, binary, expect, expect_eq, wait_for

SCRIPT = os.path.join(TOP, "netns-scripts", "quickstart")


def start(**kwargs):
    env = dict(os.environ, TCNS_BIN=binary())
    return subprocess.Popen([SCRIPT, "--no-setup"], env=env, stdin=subprocess.DEVNULL, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **kwargs)


def left_of(pid):
    """Namespaces and processes of the run with that process id."""
    found = [n for n in os.listdir("/run/netns") if n.startswith(f"demo{pid}-")]
    ps = subprocess.run(["ps", "-eo", "args"], text=True, stdout=subprocess.PIPE).stdout
    return found + [line for line in ps.splitlines() if f"demo{pid}-" in line]


def test_shows_the_main_job(lab):
    p = start()
    out = p.communicate(timeout=55)[0]
    expect_eq(p.returncode, 0, out)
    ids = re.findall(r"^ +(?:alice|bob) +([0-9a-f]{66})$", out, re.M)
    expect(len(ids) == 2 and ids[0] == ids[1], "two equal session ids", out)
    for text in ("200", "encrypted", "69", "in them: 0 times", "peer-no-eno", "reason"):
        expect(text in out, text, out)
    expect("secure" not in out.lower(), "a word we do not use")
    expect_eq(left_of(p.pid), [])


def test_interrupted_leaves_nothing(lab):
    for sig, seconds in ((signal.SIGTERM, 0.3), (signal.SIGINT, 1.0), (signal.SIGHUP, 1.6)):
        # A session of its own: the signal goes to the script alone.
        p = start(start_new_session=True, preexec_fn=lambda: signal.signal(
            signal.SIGINT, signal.SIG_DFL))
        time.sleep(seconds)  # the moment is what varies; nothing is waited for
        p.send_signal(sig)
        p.communicate(timeout=20)
        wait_for(lambda p=p: not left_of(p.pid), 5, f"nothing left after {sig}")


if __name__ == "__main__":
    tap.main()
