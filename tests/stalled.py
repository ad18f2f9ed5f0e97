"""`python -m tests.stalled [pytest's arguments]`: tests whose processes stand still now and then.

As on a machine that many share, any process of the run, also a server, may be stopped for up to two seconds at any
instant. What fails then counts on a machine that is never late. The exit code is pytest's.
"""

import random
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress

import psutil

EVERY_SECONDS = 0.5  # between two stalls, on average
MAX_SECONDS = 2.0  # of one; half of all are shorter than 0.3 s


def stall_one(parent: psutil.Process, generator: random.Random) -> bool:
    """Stop one of its descendants, and let it go on; whether there was one."""
    try:
        processes = parent.children(recursive=True)
        if not processes:
            return False
        process = generator.choice(processes)
        process.suspend()
        try:
            # This waits for nothing: it is how long the process stands still.
            time.sleep(min(MAX_SECONDS, generator.lognormvariate(-1.2, 0.9)))
        finally:
            process.resume()
    except psutil.NoSuchProcess:
        return False
    return True


def main(arguments: Sequence[str]) -> int:
    """Run pytest, stall its processes until it ends; returns its exit code."""
    generator = random.Random()
    stalls = 0
    with subprocess.Popen([sys.executable, "-m", "pytest", *arguments]) as pytest:
        parent = psutil.Process(pytest.pid)
        while pytest.poll() is None:
            stalls += stall_one(parent, generator)
            with suppress(subprocess.TimeoutExpired):
                pytest.wait(generator.expovariate(1 / EVERY_SECONDS))
    print(f"{stalls} stalls")
    return pytest.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
