"""Measure how much memory this router and its peers hold, minute by minute, under a steady load of mixed requests."""

import argparse
import asyncio
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import orjson
import uvloop
from rich.console import Console
from rich.table import Table

from router.bench import peers
from router.bench.errors import BenchError
from router.bench.fake_pair import fake_pair
from router.bench.memory.mixed_load import MixedLoad
from router.bench.processes import free_port
from router.bench.report import environment
from router.bench.routers import (
    Target,
    pair_arguments,
    peer_command,
    router_command,
    running_router,
)

OURS = "ours"
SETTLED = 10  # minutes after which caches have what they will have


def parse(arguments: list[str]) -> argparse.Namespace:
    """Parse the command line; exits with code 2 on a wrong option."""
    parser = argparse.ArgumentParser(prog="python -m router.bench.memory", description=__doc__)
    peers.add_flags(parser)
    parser.add_argument("--minutes", type=int, default=60, help="of the load (%(default)s)")
    parser.add_argument("--rate", type=float, default=20.0, help="requests a second to each router (%(default)s)")
    parser.add_argument("--policy", default="cache_aware", help="of all routers (%(default)s)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write everything as JSON")
    options = parser.parse_args(arguments)
    if options.minutes < 1 or options.rate <= 0:
        parser.error("nothing is measured; give --minutes of at least 1 and a --rate above 0.")
    return options


async def measure(targets: list[Target], minutes: int, rate: float, console: Console) -> list[dict[str, Any]]:
    """Load all routers at once, and look at their memory when they are ready and after each minute.

    Raises:
        BenchError: A router ended.
    """
    loads = [MixedLoad(target.url, rate) for target in targets]
    found: dict[str, list[float]] = {target.name: [] for target in targets}

    def look() -> None:
        for target in targets:
            assert target.process is not None
            target.process.check_running()
            found[target.name].append(round(target.process.memory(), 1))

    look()
    async with asyncio.TaskGroup() as running:
        for load in loads:
            running.create_task(load.run(60.0 * minutes))
        for minute in range(1, minutes + 1):
            await asyncio.sleep(60.0)
            await asyncio.to_thread(look)
            told = ", ".join(f"{name} {megabytes[-1]:g} MB" for name, megabytes in found.items())
            console.print(f"after {minute} of {minutes} min: {told}")
    return [
        {"router": target.name, "megabytes": found[target.name], "requests": dict(load.results)}
        for target, load in zip(targets, loads, strict=True)
    ]


def table(rows: list[dict[str, Any]], minutes: int) -> Table:
    """What is printed."""
    moments = [moment for moment in (0, 1, SETTLED, 30) if moment < minutes] + [minutes]
    made = Table("router", *(f"MB after {moment} min" for moment in moments), "answered", "left", "other")
    for row in rows:
        requests = dict(row["requests"])
        counts = requests.pop("answered", 0), requests.pop("left", 0), sum(requests.values())
        made.add_row(row["router"], *(f"{row['megabytes'][moment]:g}" for moment in moments), *map(str, counts))
    return made


def bench(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Run it, print the table, return what is written as JSON. Raises `BenchError`."""
    pythons = peers.given(options)
    versions = environment() | {peer: peers.peer_version(peer, python) for peer, python in pythons.items()}
    policy = ("--policy", options.policy)
    with tempfile.TemporaryDirectory(prefix="router-memory-") as name, ExitStack() as stack:
        folder = Path(name)
        servers = pair_arguments(*stack.enter_context(fake_pair(folder)))
        port = free_port()
        commands = {OURS: (router_command(servers, port, *policy), port)}
        for peer, python in pythons.items():
            port = free_port()
            commands[peer] = peer_command(peer, python, servers, port, *policy), port
        targets = [
            stack.enter_context(running_router(router, command, port, folder))
            for router, (command, port) in commands.items()
        ]
        rows = uvloop.run(measure(targets, options.minutes, options.rate, console))
    console.print(table(rows, options.minutes))
    return {
        "command": " ".join(["python -m router.bench.memory", *sys.argv[1:]]),
        "surroundings": versions,
        "rate": options.rate,
        "rows": rows,
    }


def main() -> int:
    """Measure; returns the exit code."""
    options = parse(sys.argv[1:])
    console = Console(width=max(120, Console().width))
    try:
        record = bench(options, console)
    except BenchError as error:
        print(f"router.bench.memory: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    if options.out is not None:
        options.out.write_bytes(orjson.dumps(record, option=orjson.OPT_INDENT_2) + b"\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
