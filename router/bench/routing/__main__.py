"""`python -m router.bench.routing`: every policy on every trace, on modelled servers in virtual time."""

import argparse
import json
import math
import platform
import random
import shlex
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from router.bench.routing.replay import Replayed, replay
from router.bench.routing.trace_flags import add_trace_flags, check_least
from router.bench.routing.traces import TRACES
from router.load_balancing import CacheAwareSettings


def main(arguments: list[str]) -> None:
    """Print a table a trace, and write a record of all if asked for."""
    parser = argparse.ArgumentParser(prog="python -m router.bench.routing", description=__doc__)
    add_trace_flags(parser, requests=2_000)
    parser.add_argument("--servers", type=int, default=8, help="modelled servers (%(default)s)")
    parser.add_argument("--load", type=float, default=1.0, help="times the usual rate of requests (%(default)s)")
    parser.add_argument("--slow", type=int, default=0, help="of these, servers at half the speed (%(default)s)")
    parser.add_argument("--kv-events", action="store_true", help="servers tell which pages they hold")
    parser.add_argument(
        "--balance-abs-threshold",
        type=int,
        default=CacheAwareSettings.balance_abs_threshold,
        help="of cache_aware, as the router's (%(default)s)",
    )
    parser.add_argument("--out", type=Path, help="file for the record, JSON")
    options = parser.parse_args(arguments)
    check_least(parser, options, servers=1)
    if not 0 < options.load < math.inf:
        parser.error(f"--load {options.load:g} is no rate; give a number above 0.")
    try:
        CacheAwareSettings(balance_abs_threshold=options.balance_abs_threshold)
    except ValueError as error:
        parser.error(str(error))
    if not 0 <= options.slow <= options.servers:
        parser.error(f"--slow {options.slow} is no number of the {options.servers} servers.")
    record: dict[str, Any] = {
        "command": shlex.join(["python", "-m", "router.bench.routing", *arguments]),
        "version": f"{platform.python_implementation()} {platform.python_version()}",
        "traces": {},
    }
    print(record["command"])
    print(f"{options.requests} requests, {options.servers} servers, {options.slow} of them slow; milliseconds\n")
    for trace in options.traces:
        figures = record["traces"][trace] = {}
        print(Replayed.head(trace), flush=True)
        for policy, done in _replays(trace, options):
            figures[policy] = {name: round(value, 4) for name, value in asdict(done).items()}
            print(done.row(policy), flush=True)
        print()
    if options.out is not None:
        options.out.write_text(json.dumps(record, indent=1) + "\n")


def _replays(name: str, options: argparse.Namespace) -> Iterator[tuple[str, Replayed]]:
    """Each policy with the means of its figures over traces of several seeds."""
    slowness = [2.0] * options.slow + [1.0] * (options.servers - options.slow)
    traces = [
        list(TRACES[name](options.requests, options.load * options.servers, random.Random(seed)))
        for seed in range(1, options.seeds + 1)
    ]
    for policy in options.policies:
        done = [
            replay(
                policy,
                trace,
                slowness,
                kv_events=options.kv_events,
                balance_abs_threshold=options.balance_abs_threshold,
            )
            for trace in traces
        ]
        yield policy, Replayed.mean(done)


if __name__ == "__main__":
    main(sys.argv[1:])
