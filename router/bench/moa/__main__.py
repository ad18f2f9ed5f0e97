"""The benchmark's command."""

import argparse
import asyncio
import json
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import uvicorn
import uvloop

from router.bench.processes import free_port, running
from router.early_exit import Judge
from router.moa.settings import RunSettings
from router.server.app import App
from router.server.connections.protocol import ClientProtocol
from router.server.settings import RouterSettings, ServerSettings
from router.workers.health import HealthSettings
from sglang_ext.versions import versions

TICK = 0.001  # seconds between two looks at the loop
PATIENCE = 20.0  # seconds for the fake pair to come up


async def lag(found: list[float]) -> None:
    """Note how late the loop is for a sleep of `TICK`, in seconds, for ever."""
    while True:
        began = time.perf_counter()
        await asyncio.sleep(TICK)
        found.append(max(time.perf_counter() - began - TICK, 0.0))


async def measure(arm: str, given: argparse.Namespace, pair: tuple[str, str]) -> dict[str, Any]:
    """One arm: `--clients` clients with `--runs` runs each."""
    settings = RouterSettings(
        prefill=((pair[0], 1),),
        decode=(pair[1],),
        server=ServerSettings(host="127.0.0.1", port=free_port()),
        health=HealthSettings(skip_warm_up=True),
        runs=RunSettings(total=10_000, per_client=10_000),
    )
    port = settings.server.port
    app = App(settings)
    server = uvicorn.Server(uvicorn.Config(app, port=port, http=ClientProtocol, log_level="warning", lifespan="on"))
    serving = asyncio.create_task(server.serve())
    try:
        while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.01)
        deadline = time.monotonic() + PATIENCE
        while not app.registry.models() and time.monotonic() < deadline:
            await app.registry.probe()
        if arm == "exit" and isinstance(app.judge, Judge):
            await app.judge.start()
        idle: list[float] = []
        probe = asyncio.create_task(lag(idle))
        await asyncio.sleep(1.0)
        probe.cancel()
        late: list[float] = []
        probe = asyncio.create_task(lag(late))
        command = ["-m", "router.bench.moa.clients", f"http://127.0.0.1:{port}", arm]
        process = await asyncio.create_subprocess_exec(
            sys.executable, *command, str(given.clients), str(given.runs), stdout=asyncio.subprocess.PIPE
        )
        told, _ = await process.communicate()
        probe.cancel()
        if process.returncode:
            raise SystemExit(f"the clients ended with code {process.returncode}")
        told = json.loads(told)
    finally:
        server.should_exit = True
        await serving
    return {
        "arm": arm,
        "idle_lag_ms": shares(idle),
        "lag_ms": shares(late),
        "run_s": shares(told["seconds"], scale=1.0),
        "agents": told["states"],
    }


def shares(values: list[float], scale: float = 1e3) -> dict[str, float]:
    """Median, p99 and the largest, times `scale`."""
    cuts = statistics.quantiles(values, n=100) if len(values) > 1 else values * 99
    found = {"p50": cuts[49], "p99": cuts[98], "max": max(values)}
    return {key: round(scale * value, 3) for key, value in found.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m router.bench.moa", description=__doc__)
    parser.add_argument("--clients", type=int, default=50, help="runs at once (%(default)s)")
    parser.add_argument("--runs", type=int, default=4, help="runs of each client, one after another (%(default)s)")
    parser.add_argument("--tokens", type=int, default=64, help="of each agent's answer (%(default)s)")
    parser.add_argument("--tick", type=float, default=20.0, help="milliseconds between tokens (%(default)s)")
    parser.add_argument("--arms", nargs="+", default=["tree", "splice", "exit"])
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    prefill, decode = free_port(), free_port()
    command = [sys.executable, "-m", "router.bench.moa.fakes", str(prefill), str(decode)]
    rows = []
    with (
        tempfile.TemporaryDirectory() as folder,
        running("fakes", [*command, str(given.tokens), str(given.tick)], Path(folder)),
    ):
        pair = f"http://127.0.0.1:{prefill}", f"http://127.0.0.1:{decode}"
        for arm in given.arms:
            rows.append(uvloop.run(measure(arm, given, pair)))
            print(json.dumps(rows[-1]), flush=True)
    told = {
        "machine": f"{platform.machine()}, {platform.processor() or platform.system()}",
        "versions": versions(("uvloop", "uvicorn", "orjson")),
        "command": f"python -m router.bench.moa --clients {given.clients} --runs {given.runs} --tokens {given.tokens} "
        f"--tick {given.tick:g} --arms {' '.join(given.arms)}",
        "rows": rows,
    }
    if given.out is not None:
        given.out.write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
