"""Measure this router, and sglang-router and smg beside it, in front of the same fake servers on the same cores."""

import argparse
import os
import resource
import sys
import tempfile
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console

from router.bench import peers, report, wrk
from router.bench.cases import Load, Samples, body_cases, short_cases
from router.bench.errors import BenchError
from router.bench.fake_pair import fake_pair
from router.bench.harness import Harness
from router.bench.nginx_pair import nginx_pair
from router.bench.report import Memory

MIN_WIDTH = 110  # columns


def parse(arguments: list[str]) -> argparse.Namespace:
    """Parse the command line; exits with code 2 on a wrong option."""
    parser = argparse.ArgumentParser(prog="python -m router.bench", description=__doc__)
    peers.add_flags(parser)
    parser.add_argument(
        "--workers", type=int, nargs="+", default=[], metavar="N", help="this router with N processes too"
    )
    parser.add_argument("--policy", help="of all routers (each router's default)")
    parser.add_argument("--plain", action="store_true", help="in front of a plain server instead of a pair")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each case and target (%(default)s)")
    parser.add_argument("--seconds", type=float, default=4.0, help="length of a measurement (%(default)s)")
    parser.add_argument(
        "--loads", nargs="+", choices=["short", "bodies"], default=["short", "bodies"], help="which to measure (both)"
    )
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 50, 400], help="of the short requests")
    parser.add_argument("--streams", type=int, default=50, help="streams at the same time (%(default)s)")
    parser.add_argument("--open-streams", type=int, default=1000, help="slow streams at the same time (%(default)s)")
    parser.add_argument("--body-mib", type=int, default=16, help="the long body, MiB (%(default)s)")
    parser.add_argument("--cores", type=int, default=2, help="cores that all processes share (%(default)s)")
    parser.add_argument(
        "--pure", action="store_true", help="no nginx and no wrk but Python for both: slower than the routers deserve"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="write everything as JSON")
    options = parser.parse_args(arguments)
    counts = {name: [getattr(options, name)] for name in ("rounds", "streams", "open_streams", "body_mib", "cores")}
    for name, values in {**counts, "connections": options.connections, "workers": options.workers or [1]}.items():
        if min(values) < 1:
            parser.error(f"--{name.replace('_', '-')} {min(values)} measures nothing; give at least 1.")
    if not 0 < options.seconds <= 60:
        parser.error(f"--seconds {options.seconds:g} is no length of a measurement; give seconds above 0 and up to 60.")
    return options


def limit_cores(count: int) -> None:
    """Keep this process, and all it starts, on the first `count` available cores."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < count:
        raise BenchError(f"this machine gives {len(cores)} cores, not {count}; give --cores {len(cores)}.")
    os.sched_setaffinity(0, cores[:count])


def bench(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Run all cases, print the tables, return the results for JSON. Raises `BenchError`."""
    limit_cores(options.cores)
    _, most_files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most_files, most_files))  # of all that this starts too
    versions = report.environment()
    pythons = peers.given(options)
    versions |= {peer: peers.peer_version(peer, python) for peer, python in pythons.items()}
    if not options.pure:
        versions["wrk"] = wrk.version()
    command = ["python", "-m", "router.bench", *sys.argv[1:]]
    console.print(" ".join(command), soft_wrap=True)
    console.print(", ".join(f"{name} {value}" for name, value in versions.items()), soft_wrap=True)
    flags = () if options.policy is None else ("--policy", options.policy)
    plan = {
        "short": (
            Harness(fake_pair if options.pure else nginx_pair, pythons, options.workers, options.plain, flags),
            short_cases(options.connections),
        ),
        "bodies": (
            Harness(fake_pair, pythons, options.workers, options.plain, flags),
            body_cases(options.streams, options.open_streams, options.body_mib),
        ),
    }
    names = {"short": "short requests", "bodies": "streams and long bodies"}
    samples: dict[str, Samples] = {}
    memory: dict[str, dict[str, Memory]] = {}
    with tempfile.TemporaryDirectory(prefix="router-bench-") as folder, console.status("") as status:
        load = Load(options.seconds, Path(folder), use_wrk=not options.pure)
        for kind in options.loads:
            harness, cases = plan[kind]
            measured, memory[names[kind]] = harness.measure(cases, options.rounds, load, status.update)
            samples |= measured
    console.print(report.table(samples), report.memory_table(memory))
    return report.as_json(command, versions, samples, memory)


def main() -> int:
    """Run the benchmark; returns the exit code."""
    options = parse(sys.argv[1:])
    try:
        # Wide enough for the table, also when the output goes to a file.
        result = bench(options, Console(width=max(MIN_WIDTH, Console().width)))
    except BenchError as error:
        print(f"router.bench: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    if options.out is not None:
        options.out.write_bytes(orjson.dumps(result, option=orjson.OPT_INDENT_2))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
