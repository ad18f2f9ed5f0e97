"""Measure how long the router's event loop is blocked while many runs of trees are in flight."""

import argparse
import asyncio
import json
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn
import uvloop

from router.bench.moa.clients import LONG
from router.bench.processes import free_port, running
from router.early_exit import Judge
from router.moa.settings import RunSettings
from router.server.app import App
from router.server.components import build_components
from router.server.connections.protocol import ClientProtocol
from router.server.settings import RouterSettings, ServerSettings
from router.workers.health import HealthSettings
from sglang_ext.versions import versions

PROBE_INTERVAL = 0.001  # seconds
STARTUP_TIMEOUT = 20.0  # seconds, of the fake pair


async def record_lag(lags: list[float]) -> None:
    """Record, until cancelled, by how many seconds the loop overruns each sleep of `PROBE_INTERVAL`."""
    while True:
        started = time.perf_counter()
        await asyncio.sleep(PROBE_INTERVAL)
        lags.append(max(time.perf_counter() - started - PROBE_INTERVAL, 0.0))


async def measure(arm: str, clients: int, runs: int, pair: tuple[str, str]) -> dict[str, Any]:
    """Measure one arm, or `long` answers: so many clients with so many runs each, one after another."""
    settings = RouterSettings(
        prefill=((pair[0], 1),),
        decode=(pair[1],),
        server=ServerSettings(host="127.0.0.1", port=free_port()),
        health=HealthSettings(skip_warm_up=True),
        runs=RunSettings(total=10_000, per_client=10_000),
    )
    port = settings.server.port
    components = build_components(settings)
    app = App(components)
    registry, judge = components.workers.registry, components.runs.judge
    server = uvicorn.Server(uvicorn.Config(app, port=port, http=ClientProtocol, log_level="warning", lifespan="on"))
    serving = asyncio.create_task(server.serve())
    try:
        while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.01)
        deadline = time.monotonic() + STARTUP_TIMEOUT
        while not registry.models() and time.monotonic() < deadline:
            await registry.probe()
        if arm == "exit" and isinstance(judge, Judge):
            await judge.start()
        idle: list[float] = []
        probe = asyncio.create_task(record_lag(idle))
        await asyncio.sleep(1.0)
        probe.cancel()
        busy: list[float] = []
        cpu_before = time.process_time()
        probe = asyncio.create_task(record_lag(busy))
        command = ["-m", "router.bench.moa.clients", f"http://127.0.0.1:{port}", arm]
        process = await asyncio.create_subprocess_exec(
            sys.executable, *command, str(clients), str(runs), stdout=asyncio.subprocess.PIPE
        )
        output, _ = await process.communicate()
        probe.cancel()
        cpu = time.process_time() - cpu_before
        if process.returncode:
            raise SystemExit(f"the clients ended with code {process.returncode}")
        result = json.loads(output)
    finally:
        server.should_exit = True
        await serving
    return {
        "arm": arm,
        "idle_lag_ms": percentiles(idle),
        "lag_ms": percentiles(busy),
        "run_s": percentiles(result["seconds"], scale=1.0),
        "cpu_s": round(cpu, 3),
        "agents": result["states"],
    }


@contextmanager
def fake_pair(tokens: int, tick: float) -> Iterator[tuple[str, str]]:
    """Run a fake pair; `tick` is milliseconds between tokens. Gives the addresses of prefill and decode."""
    prefill, decode = free_port(), free_port()
    command = [sys.executable, "-m", "router.bench.moa.fake_pair", str(prefill), str(decode), str(tokens), str(tick)]
    with tempfile.TemporaryDirectory() as folder, running("fakes", command, Path(folder)):
        yield f"http://127.0.0.1:{prefill}", f"http://127.0.0.1:{decode}"


def percentiles(values: list[float], scale: float = 1e3) -> dict[str, float]:
    """Median, p99 and maximum, times `scale`."""
    cuts = statistics.quantiles(values, n=100) if len(values) > 1 else values * 99
    values_at = {"p50": cuts[49], "p99": cuts[98], "max": max(values)}
    return {key: round(scale * value, 3) for key, value in values_at.items()}


def main() -> None:
    """Measure all arms, print a JSON line for each, write the record."""
    parser = argparse.ArgumentParser(prog="python -m router.bench.moa", description=__doc__)
    parser.add_argument("--clients", type=int, default=50, help="runs at once (%(default)s)")
    parser.add_argument("--runs", type=int, default=4, help="runs of each client, one after another (%(default)s)")
    parser.add_argument("--tokens", type=int, default=64, help="of each agent's answer (%(default)s)")
    parser.add_argument("--tick", type=float, default=20.0, help="milliseconds between tokens (%(default)s)")
    parser.add_argument("--arms", nargs="*", default=["tree", "splice", "exit"])
    parser.add_argument(
        "--long",
        type=int,
        default=8000,
        metavar="TOKENS",
        help="also one answer of so many tokens with log-probabilities, read at full speed; 0: none (%(default)s)",
    )
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rows = []
    if options.arms:
        with fake_pair(options.tokens, options.tick) as pair:
            for arm in options.arms:
                rows.append(uvloop.run(measure(arm, options.clients, options.runs, pair)))
                print(json.dumps(rows[-1]), flush=True)
    if options.long:
        with fake_pair(options.long, tick=0.0) as pair:
            rows.append({"tokens": options.long, **uvloop.run(measure(LONG, 1, 1, pair))})
            print(json.dumps(rows[-1]), flush=True)
    record = {
        "machine": f"{platform.machine()}, {platform.processor() or platform.system()}",
        "versions": versions(("uvloop", "uvicorn", "orjson")),
        "command": f"python -m router.bench.moa --clients {options.clients} --runs {options.runs} "
        f"--tokens {options.tokens} --tick {options.tick:g} --long {options.long} --arms {' '.join(options.arms)}",
        "rows": rows,
    }
    if options.out is not None:
        options.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
