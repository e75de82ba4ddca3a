# SPDX-License-Identifier: BSD-3-Clause
"""Runs the test_* functions of a file and prints TAP.

Each test gets a Lab of its own. Options of a test file: names of tests, or parts
of them; -l lists. Exit status: 0, 1 when a test failed, 77 when all were skipped.
With TCNS_MUST_RUN=1 a skip is a failure.
"""
import inspect
import os
import signal
import sys
import time
import traceback

from lab import Failure, Lab, Skip

TIMEOUT_S = 60


class Timeout(BaseException):
    """Not an Exception: tests that expect errors must not swallow it."""


def timeout(seconds):
    """Decorator: a test's own limit."""
    def mark(fn):
        fn.timeout = seconds
        return fn
    return mark


def _on_alarm(_signo, _frame):
    raise Timeout()


def _diag(text):
    for line in text.rstrip().splitlines():
        print(f"# {line}")


def _run(fn):
    """Return: "ok", "skip" or "fail", and a text."""
    lab = None
    limit = getattr(fn, "timeout", TIMEOUT_S)
    signal.signal(signal.SIGALRM, _on_alarm)
    signal.alarm(limit)
    try:
        lab = Lab()
        fn(lab)
        return "ok", ""
    except Skip as e:
        return "skip", str(e)
    except Timeout:
        text = f"took longer than {limit} s\n" + traceback.format_exc()
        return "fail", text + (lab.logs() if lab else "")
    except Failure as e:
        at = traceback.extract_tb(e.__traceback__)
        where = [f"at {os.path.basename(f.filename)}:{f.lineno} {f.line}" for f in at[1:]]
        return "fail", f"{e}\n" + "\n".join(where) + "\n" + (lab.logs() if lab else "")
    except Exception:  # whatever it is, the next test runs
        return "fail", traceback.format_exc() + (lab.logs() if lab else "")
    finally:
        signal.alarm(0)
        if lab:
            lab.close()


def main():
    module = sys.modules["__main__"]
    tests = [f for n, f in inspect.getmembers(module, inspect.isfunction)
             if n.startswith("test_") and f.__module__ == "__main__"]
    tests.sort(key=lambda f: f.__code__.co_firstlineno)
    args = sys.argv[1:]
    if args == ["-l"]:
        print("\n".join(f.__name__ for f in tests))
        return
    if args:
        tests = [f for f in tests if any(a in f.__name__ for a in args)]
    must_run = os.environ.get("TCNS_MUST_RUN") == "1"
    count = {"ok": 0, "skip": 0, "fail": 0}
    print(f"1..{len(tests)}", flush=True)
    for number, fn in enumerate(tests, 1):
        start = time.monotonic()
        result, text = _run(fn)
        if result == "skip" and must_run:
            result, text = "fail", f"skipped, and TCNS_MUST_RUN is set: {text}"
        count[result] += 1
        name = fn.__name__[len("test_"):]
        took = f"{time.monotonic() - start:.1f} s"
        if result == "skip":
            print(f"ok {number} - {name} # SKIP {text}", flush=True)
            continue
        print(f"{'ok' if result == 'ok' else 'not ok'} {number} - {name} # {took}")
        _diag(text)
        sys.stdout.flush()
    if count["fail"]:
        sys.exit(1)
    sys.exit(77 if count["skip"] and not count["ok"] else 0)
