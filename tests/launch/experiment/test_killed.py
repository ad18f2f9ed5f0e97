"""Kill -9 in the middle of a run, and the same command again: no answer is lost, none is there twice."""

import asyncio
import os
import sys
from collections import Counter
from pathlib import Path

import orjson
import pytest

from launch.experiment.run_log import read_runs, read_sessions
from tests.launch.experiment.support import FakeRouter, write_config
from tests.launch.experiment.test_experiment import run, timeless

ROOT = Path(__file__).parents[3]
KILLED_AT = 8


async def start(config: Path, out: Path, router: FakeRouter) -> asyncio.subprocess.Process:
    command = ["-m", "launch.experiment", "--config", str(config), "--out", str(out), "--router", router.url]
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *command,
        "--num-samples",
        "4",
        "--no-pictures",
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=asyncio.subprocess.DEVNULL,
    )


async def killed_and_resumed(tmp_path: Path) -> None:
    config = write_config(tmp_path)
    out = tmp_path / "killed"
    async with FakeRouter(config) as router:
        reached = asyncio.Event()

        async def hangs(number: int) -> None:
            if number == KILLED_AT:
                reached.set()
                await asyncio.Event().wait()

        router.before = hangs
        process = await start(config, out, router)
        await reached.wait()
        process.kill()
        await process.wait()
        assert len(read_runs(out)) == KILLED_AT - 1
        assert not (out / "summary.json").exists()
        assert await (await start(config, out, router)).wait() == 0
        assert len(router.runs) == 16 + 1, "only the run that was cut is asked again"
        router.before = lambda _: asyncio.sleep(0)
        whole, _ = await run(config, tmp_path / "whole", router, "--num-samples", "4")
    assert set(Counter(line.key for line in read_runs(out)).values()) == {1}
    assert len(read_runs(out)) == 16
    assert [each["session"] for each in read_sessions(out)] == [1, 2]
    assert timeless(orjson.loads((out / "summary.json").read_bytes())) == timeless(whole)


@pytest.mark.servers
def test_a_killed_experiment_goes_on(tmp_path: Path) -> None:
    asyncio.run(killed_and_resumed(tmp_path))
