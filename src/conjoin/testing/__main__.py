"""``python -m conjoin.testing``: is what is installed here sound? One line a check.

It holds every method, threat and model that ships to its contract, on the shipped data: no test
framework and no repository is needed. Exit code 0 if all of them hold, else 1.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from pathlib import Path

import conjoin
from conjoin.testing.shipped import Check, shipped_checks


def main(checks: Iterable[Check]) -> int:
    """Carry the checks out, say how each went, and return the exit code."""
    print(f"conjoin {conjoin.__version__} in {Path(conjoin.__file__).parent}", flush=True)
    total = failed = 0
    for check in checks:
        start, wrong = time.perf_counter(), ""
        try:
            check.act()
        except Exception as error:  # whatever is wrong with one, the others are looked at
            wrong = f": {type(error).__name__}: {' '.join(str(error).split())}"
        seconds = time.perf_counter() - start
        word = "FAILED" if wrong else "ok"
        print(f"{word:7}{check.kind:12}{check.name}  {seconds:.1f} s{wrong}", flush=True)
        total, failed = total + 1, failed + bool(wrong)
    print(f"{total - failed} of {total} hold their contract", flush=True)
    return 1 if failed or not total else 0


if __name__ == "__main__":
    sys.exit(main(shipped_checks()))
