"""`python -m tests.peers`: the black-box suites of sglang-router and smg, run against this router.

Downloads the peers' sdists, lets their tests start this router wherever they start theirs, with their command lines,
and prints what passed and what failed and why. The exit code is 1 when fewer than the bar passed, 2 when the suites
cannot be had.
"""

import argparse
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.peers.download import NotFetched
from tests.peers.environment import ROOT, make_environment
from tests.peers.results import enough, known_reasons, table
from tests.peers.running import run_suite
from tests.peers.suites import adapt, copied_suite, downloaded_suites

CACHE = ROOT / "build" / "peers"
# Of the 33 tests in the sdists.
BAR = 30
BAR_AS_IS = 24


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.peers", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--as-is", action="store_true", help="leave their mock of SGLang as it is")
    parser.add_argument(
        "--suite",
        type=Path,
        action="append",
        metavar="PATH",
        help="a folder with tests instead of the downloaded ones: `e2e_test` or `py_test` of a clone (repeatable)",
    )
    parser.add_argument("-k", default="", metavar="EXPR", help="only tests that match, as pytest's -k; no bar then")
    parser.add_argument("--bar", type=int, help=f"tests that must pass ({BAR}; {BAR_AS_IS} with --as-is)")
    parser.add_argument("--cache", type=Path, default=CACHE, help="for downloads and the environment (%(default)s)")
    return parser.parse_args(arguments)


def main() -> int:
    """Run the suites; the exit code."""
    given = parse(sys.argv[1:])
    bar = 0 if given.k or given.suite else BAR_AS_IS if given.as_is else BAR
    bar = bar if given.bar is None else given.bar
    work = Path(tempfile.mkdtemp(prefix="peers-"))
    try:
        programs = make_environment(given.cache / "environment")
        if given.suite:
            suites = [copied_suite(each, work) for each in given.suite]
        else:
            suites = downloaded_suites(given.cache, work)
    except NotFetched as problem:
        print(f"tests.peers: {problem}", file=sys.stderr)
        return 2
    results = []
    for number, suite in enumerate(suites):
        if not given.as_is:
            adapt(suite)
        folder = work / str(number)
        folder.mkdir()
        found = run_suite(suite, programs, folder, given.k)
        if not found and not given.k:
            print(f"tests.peers: {suite.name} ran no test; see {folder / 'output.log'}", file=sys.stderr)
        results += found
    print("\n".join(table(results, known_reasons(as_is=given.as_is))))
    if any(result.outcome == "failed" for result in results) or not results:
        print(f"what they printed is in {work}")
    else:
        shutil.rmtree(work)
    if results and enough(results, bar):
        return 0
    print(f"fewer than {max(bar, 1)} passed.")
    return 1


if __name__ == "__main__":
    sys.exit(main())
