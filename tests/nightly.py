"""`python -m tests.nightly`: what takes too long for CI.

One line a job; the last line says how many passed and failed, and the exit code is 1 when any did. What a failed job
printed is left in a folder, `logs/nightly` unless told otherwise. To add a job, add a line to `JOBS`.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
STOP_SECONDS = 60.0  # that a job has to end its servers when its time is over


@dataclass(frozen=True)
class Job:
    """A command, its name, and the minutes after which it is ended and has failed."""

    name: str
    command: tuple[str, ...]
    minutes: float


def pytest(name: str, *arguments: str, minutes: float) -> Job:
    """A job that runs tests, in an order of its own."""
    seed = random.SystemRandom().getrandbits(32)
    command = (sys.executable, "-m", "pytest", "-p", "no:cacheprovider", f"--randomly-seed={seed}", *arguments)
    return Job(f"{name}, seed {seed}", command, minutes)


BOTH = ("-n", "2")
JOBS = [
    pytest(
        "properties of 1,000 examples, 100,000 fuzzed requests",
        *(*BOTH, "-m", "not servers", "--hypothesis-profile=nightly", "--timeout=10800"),
        minutes=180,
    ),
    Job(
        "an hour of search for requests that end a server",
        (
            "env",
            "SEARCH_SECONDS=3600",
            *pytest("", "tests/e2e/test_harmful_search.py", "--timeout=5400", minutes=80).command,
        ),
        minutes=80,
    ),
    Job(
        "half an hour of search for requests that fill a KV pool",
        (
            "env",
            "SEARCH_SECONDS=900",
            *pytest(
                "",
                *("tests/sglang_ext/open_prompt/test_prefill_memory.py",),
                *("tests/sglang_ext/open_prompt/test_decode_memory.py", "--timeout=5400"),
                minutes=80,
            ).command,
        ),
        minutes=80,
    ),
    pytest(
        "splicing of 100 random trees and 60 histories on real pairs",
        *("tests/e2e/test_splice.py", "--hypothesis-profile=nightly"),
        minutes=40,
    ),
    *(pytest(f"the whole suite, {number} of 3", *BOTH, minutes=60) for number in (1, 2, 3)),
    Job(
        "the whole suite, its processes stalled now and then",
        (sys.executable, "-m", "tests.stalled", "-n", "3", "-p", "no:cacheprovider"),
        minutes=90,
    ),
    Job(
        "the quick tests, each request over a moment after its last byte",
        (sys.executable, "-m", "tests.quick", "-p", "tests.late_ends"),
        minutes=20,
    ),
    *(
        pytest(f"killed clients and servers, {number} of 5", "tests/e2e/test_kills.py", minutes=20)
        for number in range(1, 6)
    ),
    Job(
        "ten minutes of kill -9 under load, one a minute",
        (sys.executable, "-m", "tests.kills", "--minutes", "10"),
        minutes=40,
    ),
    Job("the peers' own suites", (sys.executable, "-m", "tests.peers"), minutes=70),
    Job("the same, their mock of SGLang as it is", (sys.executable, "-m", "tests.peers", "--as-is"), minutes=70),
    Job("a real vLLM beside a pair", ("make", "test-vllm"), minutes=60),
]


def run(jobs: Sequence[Job], logs: Path) -> int:
    """Run jobs one after the other; the exit code."""
    logs.mkdir(parents=True, exist_ok=True)
    failed = 0
    for number, job in enumerate(jobs, start=1):
        log = logs / f"{number}.log"
        began = time.monotonic()
        problem = _problem(job, log)
        took = f"{(time.monotonic() - began) / 60:.1f} min"
        if problem is None:
            log.unlink()
            print(f"passed  {job.name} ({took})", flush=True)
        else:
            failed += 1
            print(f"FAILED  {job.name} ({took}): {problem}; see {log}", flush=True)
    print(f"{len(jobs) - failed} passed, {failed} failed", flush=True)
    return 1 if failed else 0


def _problem(job: Job, log: Path) -> str | None:
    """Run a job; what went wrong."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            job.command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    try:
        code = process.wait(60 * job.minutes)
    except subprocess.TimeoutExpired:
        _end(process)
        return f"it was not over after {job.minutes:g} min"
    except BaseException:
        _end(process)
        raise
    return None if code == 0 else f"exit code {code}"


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End a job and its processes. First as Ctrl-C would: fixtures then stop what they started."""
    for number, seconds in ((signal.SIGINT, STOP_SECONDS), (signal.SIGKILL, None)):
        os.killpg(process.pid, number)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            continue
        return


def main() -> int:
    """Run the jobs that the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m tests.nightly", description="What takes too long for CI.")
    parser.add_argument("--only", default="", metavar="WORDS", help="jobs with these words in their name")
    parser.add_argument("--logs", type=Path, default=ROOT / "logs" / "nightly", help="where failed jobs leave output")
    parser.add_argument("--list", action="store_true", help="print the names of the jobs and leave")
    given = parser.parse_args()
    jobs = [job for job in JOBS if given.only in job.name]
    if given.list:
        print("\n".join(job.name for job in jobs))
        return 0
    if not jobs:
        parser.error(f"no job has {given.only!r} in its name; --list prints the names")
    return run(jobs, given.logs)


if __name__ == "__main__":
    sys.exit(main())
