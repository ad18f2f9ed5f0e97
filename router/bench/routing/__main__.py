"""`python -m router.bench.routing`: every policy on every trace, on modelled servers in virtual time."""

import argparse
import json
import math
import platform
import random
import shlex
import statistics
import sys
from collections.abc import Iterator
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from router.bench.routing.replay import Replayed, replay
from router.bench.routing.traces import TRACES
from router.load_balancing import POLICIES, CacheAwareSettings

COLUMNS = {
    "ttft_mean_ms": "TTFT mean",
    "ttft_p50_ms": "p50",
    "ttft_p99_ms": "p99",
    "latency_mean_ms": "latency",
    "hit_rate": "hits",
    "balance": "busiest",
}


def main(arguments: list[str]) -> None:
    """Print a table a trace, and write a record of all if asked for."""
    parser = argparse.ArgumentParser(prog="python -m router.bench.routing", description=__doc__)
    parser.add_argument("--requests", type=int, default=2_000, help="requests a trace (%(default)s)")
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
    parser.add_argument("--seeds", type=int, default=1, help="traces of each kind; figures are means (%(default)s)")
    parser.add_argument("--traces", nargs="+", choices=list(TRACES), default=list(TRACES), help="traces (all)")
    parser.add_argument("--policies", nargs="+", choices=sorted(POLICIES), default=sorted(POLICIES), help="(all)")
    parser.add_argument("--out", type=Path, help="file for the record, JSON")
    options = parser.parse_args(arguments)
    for flag, least in {"requests": 10, "servers": 1, "seeds": 1}.items():
        if getattr(options, flag) < least:
            parser.error(f"--{flag} {getattr(options, flag)} is too few; give at least {least}.")
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
        print(f"{trace:<20}" + "".join(f"{title:>11}" for title in COLUMNS.values()), flush=True)
        for policy, done in _replays(trace, options):
            figures[policy] = {name: round(value, 4) for name, value in asdict(done).items()}
            print(f"{policy:<20}" + _cells(done), flush=True)
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
            asdict(
                replay(
                    policy,
                    trace,
                    slowness,
                    kv_events=options.kv_events,
                    balance_abs_threshold=options.balance_abs_threshold,
                )
            )
            for trace in traces
        ]
        means = {each.name: statistics.fmean(one[each.name] for one in done) for each in fields(Replayed)}
        yield policy, Replayed(**means)


def _cells(done: Replayed) -> str:
    values = asdict(done)
    cells = []
    for name in COLUMNS:
        match name:
            case "hit_rate":
                cells.append(f"{values[name]:>11.1%}")
            case "balance":
                cells.append(f"{values[name]:>10.2f}x")
            case _:
                cells.append(f"{values[name]:>11.1f}")
    return "".join(cells)


if __name__ == "__main__":
    main(sys.argv[1:])
