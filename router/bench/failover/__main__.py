"""Kill one of two servers behind this router and its peers, with the default flags of each, and count what fails."""

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console
from rich.table import Table

from router.bench import peers
from router.bench.errors import BenchError
from router.bench.failover.measure import Requests, Servers, measure
from router.bench.report import environment

KINDS: tuple[Servers, ...] = ("plain", "pairs")
OURS = "this one"


def parse(arguments: list[str]) -> argparse.Namespace:
    """Parse the command line; exits with code 2 on a wrong option."""
    parser = argparse.ArgumentParser(prog="python -m router.bench.failover", description=__doc__)
    peers.add_flags(parser)
    parser.add_argument("--seconds", type=float, default=5.0, help="before the kill; twice as long after (%(default)s)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write everything as JSON")
    return parser.parse_args(arguments)


def commands(options: argparse.Namespace) -> dict[str, list[str]]:
    """The program of each router that is to be measured; raises `BenchError` when one is not there."""
    found = {OURS: [sys.executable, "-m", "router"]}
    for peer, python in peers.given(options).items():
        found[f"{peer} {peers.peer_version(peer, python)}"] = [python, "-m", peers.PEERS[peer].module]
    return found


def row(router: str, kind: Servers, found: Requests) -> dict[str, Any]:
    """A line of the record; times in seconds from the kill."""
    return {
        "router": router,
        "servers": f"two {kind}",
        "requests": found.answered + len(found.failed),
        "failed": len(found.failed),
        "last_failure_s": max((at for at, _ in found.failed), default=None),
        "slowest_answer_s": found.slowest,
        "failures": dict(Counter(problem for _, problem in found.failed)),
    }


def table(rows: list[dict[str, Any]]) -> Table:
    """What is printed."""
    made = Table(title="one of two servers is killed")
    for column in ("router", "servers", "requests", "failed", "last failure after", "slowest answer since"):
        made.add_column(column, justify="left" if column in ("router", "servers") else "right")
    for each in rows:
        last = "-" if each["last_failure_s"] is None else f"{each['last_failure_s']:.1f} s"
        slowest = f"{each['slowest_answer_s'] * 1000:.0f} ms"
        made.add_row(each["router"], each["servers"], str(each["requests"]), str(each["failed"]), last, slowest)
    return made


def main() -> int:
    """Measure; returns the exit code."""
    options = parse(sys.argv[1:])
    console = Console()
    rows = []
    try:
        for router, command in commands(options).items():
            for kind in KINDS:
                console.print(f"{router}, two {kind} ...")
                with tempfile.TemporaryDirectory(prefix="failover-") as folder:
                    rows.append(row(router, kind, measure(router, command, kind, options.seconds, Path(folder))))
    except BenchError as error:
        console.print(f"router.bench.failover: {error}", style="red", markup=False)
        return 1
    console.print(table(rows))
    if options.out is not None:
        command = ["python -m router.bench.failover", *sys.argv[1:]]
        told = {"command": command, "surroundings": environment(), "rows": rows}
        options.out.write_bytes(orjson.dumps(told, option=orjson.OPT_INDENT_2) + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
