"""The process that forks servers: it is started again when it has died."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from launch.processes.base import Command, Process
from launch.processes.zygote import Zygote

pytestmark = pytest.mark.servers  # imports all of SGLang, twice


async def ended(process: Process) -> int:
    async with asyncio.timeout(300):
        while (code := process.exit_code()) is None:  # noqa: ASYNC110 - no event tells the end of a process
            await asyncio.sleep(0.1)
    return code


def test_a_server_starts_also_after_the_zygotes_death(tmp_path: Path) -> None:
    async def body() -> None:
        env = {"SGLANG_PLATFORM": "faster_moa_cpu", "CUDA_VISIBLE_DEVICES": ""}
        zygote = Zygote(env, tmp_path / "zygote.log")
        # A server that prints its flags and ends.
        command = Command("m", ("--help",), env, tmp_path / "m.log")
        try:
            assert await ended(await zygote.start(command)) == 0
            assert zygote._process is not None
            os.kill(zygote._process.pid, signal.SIGKILL)
            await zygote._process.wait()
            commands = [Command(name, ("--help",), env, tmp_path / name) for name in "ab"]
            both = await asyncio.gather(*map(zygote.start, commands))
            assert [await ended(process) for process in both] == [0, 0]
        finally:
            await zygote.close()

    asyncio.run(body())
    assert "--model-path" in (tmp_path / "b").read_text()
