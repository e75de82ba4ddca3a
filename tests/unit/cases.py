# SPDX-License-Identifier: BSD-3-Clause
"""Runs the test functions of a file in turn and prints TAP."""
import sys
import traceback


class Skip(Exception):
    pass


def run(tests):
    """Does not return. Exit status: 1 when one failed."""
    failed = False
    print(f"1..{len(tests)}")
    for number, test in enumerate(tests, 1):
        result = f"ok {number} - {test.__name__.removeprefix('test_')}"
        try:
            test()
        except Skip as e:
            result += f" # SKIP {e}"
        except Exception:  # whatever it is, the next test runs
            failed = True
            result = f"not {result}\n# " + traceback.format_exc().rstrip().replace("\n", "\n# ")
        print(result, flush=True)
    sys.exit(failed)
