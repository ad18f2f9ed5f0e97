"""The process that forks servers: it is started again when it has died.

SGLang and transformers are fakes that take no time to import: how they are forked is seen in each launch of tests/e2e.
"""

import asyncio
import os
import signal
from pathlib import Path

from launch.processes.base import Command, Process
from launch.processes.zygote import Zygote
from launch.processes.zygote_main import PRELOADED_MODULES
from tests.router.support.aio import until

FAKES = {
    "sglang.launch_server": "def run_server(argv): print('served with', *argv)",
    "sglang.srt.server_args": "def prepare_server_args(argv): return argv",
    "sglang.srt.plugins": "def load_plugins(): pass",
    "sglang.srt.utils.hf_transformers_utils": "",
    "transformers": "AutoTokenizer = PreTrainedTokenizerFast = None",
}


def fake_sglang(folder: Path) -> Path:
    """A package with all that the process imports."""
    for name in (*PRELOADED_MODULES, *FAKES):
        path = folder.joinpath(*name.split(".")).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(FAKES.get(name, ""))
        for package in path.relative_to(folder).parents[:-1]:
            (folder / package / "__init__.py").touch()
    return folder


async def ended(process: Process) -> int:
    async with asyncio.timeout(300):
        while (code := process.exit_code()) is None:  # noqa: ASYNC110 - no event tells the end of a process
            await asyncio.sleep(0.1)
    return code


def test_a_server_starts_also_after_the_zygotes_death(tmp_path: Path) -> None:
    async def body() -> None:
        env = {"PYTHONPATH": os.pathsep.join([str(fake_sglang(tmp_path / "fakes")), str(Path.cwd())])}
        zygote = Zygote(env, tmp_path / "zygote.log")
        try:
            assert await ended(await zygote.start(Command("m", ("--port", "1"), {}, tmp_path / "m.log"))) == 0
            assert zygote._process is not None
            os.kill(zygote._process.pid, signal.SIGKILL)
            await zygote._process.wait()
            dead, of_dead = zygote._process, zygote._waiting
            commands = [Command(name, ("--port", name), {}, tmp_path / name) for name in "ab"]
            both = asyncio.gather(*map(zygote.start, commands))
            await until(lambda: zygote._process is not dead, "another one is started")
            await zygote._read_replies(dead, of_dead)  # that the first one ended is seen only now
            assert [await ended(process) for process in await both] == [0, 0]
        finally:
            await zygote.close()

    asyncio.run(body())
    assert (tmp_path / "b").read_text() == "served with --port b\n"
