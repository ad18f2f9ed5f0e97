"""Measure an ordinary client's latency and the router's memory while another client abuses the router."""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import orjson
import uvloop
from rich.console import Console
from rich.table import Table

from router.bench import report, routers
from router.bench.abuse.abuses import ABUSES, TREE
from router.bench.abuse.fake_pair import ABUSED, ORDINARY
from router.bench.abuse.ordinary import measure
from router.bench.errors import BenchError
from router.bench.processes import Process, free_port, running, wait_until_listening
from router.bench.routers import Target
from router.bench.sample import percentile

SETTLE = 2.0  # seconds between an abuse and the look at memory
# Small enough that the abuses reach them; the defaults are for larger machines.
FLAGS = ("--max-body-bytes-in-flight", str(96 << 20), "--max-concurrent-requests", "256", "--queue-size", "256")


def parse(arguments: list[str]) -> argparse.Namespace:
    """Parse the command line; exits with code 2 on a wrong option."""
    parser = argparse.ArgumentParser(prog="python -m router.bench.abuse", description=__doc__)
    parser.add_argument("--seconds", type=float, default=6.0, help="of each abuse, and without it (%(default)s)")
    parser.add_argument("--clients", type=int, default=4, help="ordinary clients (%(default)s)")
    parser.add_argument("--only", nargs="+", choices=ABUSES, default=list(ABUSES), help="some of the abuses")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write everything as JSON")
    return parser.parse_args(arguments)


@contextmanager
def router_under_test(folder: Path) -> Iterator[tuple[str, Process]]:
    """A router over a pair of each model; gives its address and its process."""
    with ExitStack() as stack:
        workers: list[str] = []
        for model in (ORDINARY, ABUSED):
            prefill, decode = free_port(), free_port()
            command = [sys.executable, "-m", "router.bench.abuse.fake_pair", str(prefill), str(decode), model]
            wait_until_listening(stack.enter_context(running(f"fake-{model}", command, folder)), decode)
            workers += ["--prefill", f"http://127.0.0.1:{prefill}", "8998", "--decode", f"http://127.0.0.1:{decode}"]
        port = free_port()
        trees = folder / "trees.json"
        trees.write_bytes(orjson.dumps(_trees()))
        arguments = ["--pd-disaggregation", *workers, "--host", "127.0.0.1", "--port", str(port)]
        command = [sys.executable, "-m", "router", *arguments, "--log-level", "error", "--trees", str(trees), *FLAGS]
        target: Target = stack.enter_context(routers.running_router("router", command, port, folder, model=ORDINARY))
        assert target.process is not None
        yield target.url, target.process


def _trees() -> dict[str, Any]:
    """A tree of nine proposers, three aggregators and a final agent."""

    def agent(name: str, *reads: str) -> dict[str, Any]:
        return {"name": name, "model": ABUSED, "reads": reads, "max_tokens": 16}

    proposers = [
        {"name": f"p{cluster}", "agents": [agent(f"p{cluster}-{k}") for k in range(3)]} for cluster in range(3)
    ]
    middle = [{"name": "mid", "agents": [agent(f"m{cluster}", f"p{cluster}") for cluster in range(3)]}]
    final = [{"name": "end", "agents": [agent("final", "mid")]}]
    layers = [{"clusters": clusters} for clusters in (proposers, middle, final)]
    return {"trees": [{"name": TREE, "arm": "splice", "layers": layers}]}


async def measure_abuse(name: str, url: str, process: Process, options: argparse.Namespace) -> dict[str, Any]:
    """Measure without and with one kind of abuse."""
    quiet = await measure(url, options.clients, options.seconds)
    before = process.memory()
    command = ["-m", "router.bench.abuse.abuses", name, url, str(options.seconds + 1)]
    abuser = await asyncio.create_subprocess_exec(sys.executable, *command, stdout=asyncio.subprocess.PIPE)
    await asyncio.sleep(0.8)  # it imports, and begins
    during = await measure(url, options.clients, options.seconds)
    output, _ = await abuser.communicate()
    if abuser.returncode:
        raise BenchError(f"the abuser {name!r} ended with code {abuser.returncode}.")
    await asyncio.sleep(SETTLE)
    p99 = percentile(quiet, 0.99), percentile(during, 0.99)
    return {
        "abuse": name,
        "what": ABUSES[name].unit.__doc__,
        "quiet_p99_ms": round(1e3 * p99[0], 1),
        "p99_ms": round(1e3 * p99[1], 1),
        "ratio": round(p99[1] / p99[0], 2),
        "requests": [len(quiet), len(during)],
        "memory_before_mb": round(before, 1),
        "memory_after_mb": round(process.memory(), 1),
        "statuses": orjson.loads(output),
    }


async def bench(options: argparse.Namespace, url: str, process: Process) -> list[dict[str, Any]]:
    """Measure every abuse, after one second of each to fill caches and stores."""
    for name in options.only:
        command = ["-m", "router.bench.abuse.abuses", name, url, "1"]
        warm_up = await asyncio.create_subprocess_exec(sys.executable, *command, stdout=asyncio.subprocess.DEVNULL)
        await warm_up.wait()
    await measure(url, options.clients, 1.0)
    return [await measure_abuse(name, url, process, options) for name in options.only]


def table(rows: list[dict[str, Any]]) -> Table:
    """The table of all abuses."""
    columns = ("abuse", "quiet p99, ms", "p99, ms", "ratio", "memory before, MB", "after", "statuses")
    told = Table(*columns, title="Ordinary clients while another one abuses the router")
    for row in rows:
        figures = [f"{row[key]:g}" for key in ("quiet_p99_ms", "p99_ms", "ratio")]
        memory = [f"{row[key]:g}" for key in ("memory_before_mb", "memory_after_mb")]
        statuses = ", ".join(f"{status}: {count}" for status, count in row["statuses"].items())
        told.add_row(row["what"], *figures, *memory, statuses)
    return told


def main() -> int:
    """Run the benchmark; returns the exit code."""
    options = parse(sys.argv[1:])
    record: dict[str, Any] = {
        "command": " ".join(["python", "-m", "router.bench.abuse", *sys.argv[1:]]),
        "versions": report.environment(),
        "router_flags": list(FLAGS),
    }
    try:
        with tempfile.TemporaryDirectory(prefix="router-bench-") as folder, router_under_test(Path(folder)) as router:
            record["rows"] = uvloop.run(bench(options, *router))
    except BenchError as error:
        print(f"router.bench.abuse: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    Console(width=max(150, Console().width)).print(table(record["rows"]))
    if options.out is not None:
        options.out.write_bytes(orjson.dumps(record, option=orjson.OPT_INDENT_2) + b"\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
