"""`python -m tests.quick`: every test that needs no SGLang server and is not slow, properties with fewer examples.

Several pytest processes at once, each with folders of its own. As workers of pytest-xdist each of them would collect
all tests, for seconds, and report each one to another process. Arguments go to every pytest. The exit code is 1 when
any test failed, and 2 when none ran; what failed is printed. All shuffle their tests with the seed that is told first:
to repeat an order, `python -m tests.quick --randomly-seed=N`.
"""

import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.conftest import SLOW

ROOT = Path(__file__).parents[1]
AT_ONCE = (os.cpu_count() or 1) + 2  # many tests wait
# About as long as each other: each process imports what its tests need, for seconds. All other folders are one more.
GROUPS = (
    (
        "tests/sglang_ext", "tests/qmetric", "tests/router/early_exit",  # these import torch
        "tests/launch", "tests/router/http", "tests/router/endpoints",
    ),
    ("tests/router/server", "tests/router/dispatch", "tests/router/forwarding", "tests/router/worker_supervision"),
    ("tests/router/moa", "tests/router/workers"),  # and many of these wait
)  # fmt: skip
WIDE = ("router",)  # of these each folder counts by itself
OPTIONS = ("-q", "-p", "no:cacheprovider", "-m", "not servers and not slow", "--hypothesis-profile=quick")
SEED = "--randomly-seed"
OF_SERVERS = re.compile(r"^pytestmark = pytest\.mark\.servers\b", re.MULTILINE)
NO_TESTS = 5  # pytest's exit code
_SUMMARY = re.compile(r"^(?:=+ )?(\d+ \w+[\w ,]*) in [\d.]+s", re.MULTILINE)


@dataclass(frozen=True)
class Done:
    """A pytest that has ended."""

    paths: tuple[str, ...]
    code: int
    seconds: float
    output: str

    @property
    def failed(self) -> bool:
        """Whether anything went wrong."""
        return self.code not in (0, NO_TESTS)

    @property
    def counts(self) -> dict[str, int]:
        """The numbers of its last line, such as of `passed`."""
        found = _SUMMARY.findall(self.output)
        counts = [each.split(" ", 1) for each in found[-1].split(", ")] if found else []
        return {kind: int(number) for number, kind in counts}


def groups() -> list[tuple[str, ...]]:
    """What each pytest gets: every folder, and every loose module, once."""
    named = {path for group in GROUPS for path in group}
    return [*GROUPS, tuple(path for path in sorted(_test_paths()) if path not in named)]


def _test_paths() -> Iterable[str]:
    """Folders that have tests, of the wide ones the folders within, and modules beside them."""
    tests = ROOT / "tests"
    wide = [tests / name for name in WIDE]
    for path in (each for folder in (tests, *wide) for each in folder.iterdir()):
        is_module = path.name.startswith("test_") and path.suffix == ".py"
        is_folder = path.is_dir() and path not in (tests / "e2e", *wide) and any(path.rglob("test_*.py"))
        if is_module or is_folder:
            yield str(path.relative_to(ROOT))


@cache
def left_out() -> list[str]:
    """Options that leave out modules of which no test is quick: importing them takes seconds."""
    modules = [ROOT / "tests" / path for path in SLOW]
    modules += [path for path in (ROOT / "tests").rglob("test_*.py") if OF_SERVERS.search(path.read_text())]
    return [f"--ignore={path.relative_to(ROOT)}" for path in modules]


def run(paths: tuple[str, ...], arguments: Sequence[str]) -> Done:
    """Run the tests of these paths in a process of their own."""
    started_at = time.monotonic()
    command = [sys.executable, "-m", "pytest", *OPTIONS, *left_out(), *paths, *arguments]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    return Done(paths, done.returncode, time.monotonic() - started_at, done.stdout)


def main(arguments: Sequence[str]) -> int:
    """Run all groups, tell of each as it ends, and of all at the end; returns the exit code."""
    started_at = time.monotonic()
    if not any(SEED in each or "no:randomly" in each for each in arguments):
        arguments = [f"{SEED}={random.SystemRandom().getrandbits(32)}", *arguments]
        print(f"order of the tests: {arguments[0]}", flush=True)
    total: dict[str, int] = {}
    failed = False
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for future in as_completed([pool.submit(run, paths, arguments) for paths in groups()]):
            done = future.result()
            if done.failed:
                failed = True
                print(done.output)
            for kind, number in done.counts.items():
                total[kind] = total.get(kind, 0) + number
            print(f"{done.seconds:5.1f} s  {_told(done.counts)}  {' '.join(done.paths)}", flush=True)
    none = not failed and not total.get("passed")
    word = "FAILED" if failed else "FAILED, since none ran" if none else "passed"
    print(f"{word}: {_told(total)} in {time.monotonic() - started_at:.1f} s")
    return 2 if none else int(failed)


def _told(counts: dict[str, int]) -> str:
    return ", ".join(f"{number} {kind}" for kind, number in counts.items()) or "no tests"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
