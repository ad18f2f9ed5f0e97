"""`python -m router.bench.routing.live_main --servers URL URL`: every policy on every trace, on running SGLang servers.

The servers stand alone, without a router; one is started for each policy. Before each trace their caches are emptied.
"""

import argparse
import asyncio
import json
import math
import random
import shlex
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from router.bench.errors import BenchError
from router.bench.processes import free_port
from router.bench.report import environment
from router.bench.routers import router_command, running_router
from router.bench.routing.figures import Figures
from router.bench.routing.live import Scale, empty_caches, send_trace
from router.bench.routing.trace_flags import add_trace_flags, check_least
from router.bench.routing.traces import TRACES


def parse(arguments: list[str]) -> argparse.Namespace:
    """Parse the command line; exits with code 2 on a wrong option."""
    parser = argparse.ArgumentParser(prog="python -m router.bench.routing.live_main", description=__doc__)
    parser.add_argument("--servers", nargs="+", required=True, metavar="URL", help="SGLang servers of one model")
    add_trace_flags(parser, requests=100)
    parser.add_argument("--shorter", type=int, default=10, help="by which lengths are divided (%(default)s)")
    parser.add_argument("--slower", type=float, default=10.0, help="by which pauses are multiplied (%(default)s)")
    parser.add_argument("--router-args", nargs=argparse.REMAINDER, default=[], help="further flags of the router, last")
    parser.add_argument("--out", type=Path, metavar="FILE", help="file for the record, JSON")
    options = parser.parse_args(arguments)
    check_least(parser, options, shorter=1)
    if not 0 < options.slower < math.inf:
        parser.error(f"--slower {options.slower:g} is no factor; give a number above 0.")
    return options


def measure(trace: str, policy: str, options: argparse.Namespace, folder: Path) -> Figures:
    """The means of a policy's figures over the seeds; raises `BenchError`."""
    scale = Scale(options.shorter, options.slower)
    found = []
    for seed in range(1, options.seeds + 1):
        requests = list(TRACES[trace](options.requests, len(options.servers), random.Random(seed)))
        asyncio.run(empty_caches(options.servers))
        port = free_port()
        flags = ["--policy", policy, "--workers", "1", *options.router_args]
        command = router_command(["--worker-urls", *options.servers], port, *flags)
        with running_router(policy, command, port, folder) as target:
            found.append(asyncio.run(send_trace(target.url, requests, scale)))
    return Figures.mean(found)


def run(options: argparse.Namespace, arguments: Sequence[str]) -> None:
    """Measure all; print it and write the record as it comes. Raises `BenchError`."""
    record: dict[str, Any] = {
        "command": shlex.join(["python", "-m", "router.bench.routing.live_main", *arguments]),
        "surroundings": environment(),
        "traces": {},
    }
    print(record["command"])
    print(", ".join(f"{name} {value}" for name, value in record["surroundings"].items()))
    with tempfile.TemporaryDirectory(prefix="routing-") as folder:
        for trace in options.traces:
            figures = record["traces"][trace] = {}
            print(f"\n{Figures.head(trace)}", flush=True)
            for policy in options.policies:
                done = measure(trace, policy, options, Path(folder))
                figures[policy] = {name: round(value, 4) for name, value in asdict(done).items()}
                print(done.row(policy), flush=True)
                if options.out is not None:
                    options.out.write_text(json.dumps(record, indent=1) + "\n")


def main(arguments: list[str]) -> int:
    """Run the benchmark; returns the exit code."""
    options = parse(arguments)
    try:
        run(options, arguments)
    except BenchError as error:
        print(f"router.bench.routing.live_main: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
