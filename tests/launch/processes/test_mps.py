"""The daemon of NVIDIA's Multi-Process Service, as the launcher starts and ends it; a fake one, for want of a GPU."""

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest

from launch.errors import PlanError, ServerDied
from launch.processes import mps
from launch.processes.mps import MpsDaemon, check_mps
from launch.processes.spawn import SpawnedProcess, spawn
from tests.launch.processes.fake_mps import put_on_path
from tests.router.support.aio import aio, until


@pytest.fixture
def logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    put_on_path(tmp_path / "bin", monkeypatch)
    monkeypatch.setattr(mps, "POLL_SECONDS", 0.01)
    return tmp_path / "mps"


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The daemons that are started: their process ids."""
    pids: list[int] = []

    def noting(*arguments: Any) -> SpawnedProcess:
        process = spawn(*arguments)
        pids.append(process.pid)
        return process

    monkeypatch.setattr(mps, "spawn", noting)
    return pids


@pytest.fixture
def silent(logs: Path, monkeypatch: pytest.MonkeyPatch) -> MpsDaemon:
    """A daemon that runs and answers nothing."""
    monkeypatch.setenv("MPS_IS_SILENT", "1")
    return MpsDaemon(logs)


def sockets(daemon: MpsDaemon) -> Path:
    return Path(daemon.env["CUDA_MPS_PIPE_DIRECTORY"])


@aio
async def test_it_serves_all_gpus_and_is_gone_after_the_stop(
    logs: Path, started: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    daemon = MpsDaemon(logs)
    assert daemon.env == {}
    assert [*await asyncio.gather(daemon.ensure_running(), daemon.ensure_running())] == [True, False]
    assert daemon.error() is None
    folder = sockets(daemon)
    assert os.getsid(started[0]) == started[0]
    await daemon.stop()
    assert not psutil.pid_exists(started[0])
    assert not folder.exists()
    assert daemon.env == {}
    await daemon.stop()
    told = await asyncio.to_thread((logs / "daemon.log").read_text)
    assert told == "GPUs: all\n", "it counts them as nvidia-smi does, and its clients choose"


@aio
async def test_one_that_died_is_started_again(logs: Path, started: list[int]) -> None:
    daemon = MpsDaemon(logs)
    await daemon.ensure_running()
    os.kill(started[0], signal.SIGKILL)
    await until(lambda: daemon.error() is not None, "its end is seen")
    assert str(daemon.error()).startswith("mps was killed by signal 9")
    assert await daemon.ensure_running()
    assert len(started) == 2
    assert daemon.error() is None
    await daemon.stop()


@aio
async def test_one_that_ends_at_its_start_is_told_with_its_log(logs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPS_FAILS", "1")
    daemon = MpsDaemon(logs)
    with pytest.raises(ServerDied, match=r"mps ended with exit code 1; the last lines of .*\n.*\n.*no GPU is there"):
        await daemon.ensure_running()
    assert daemon.error() is None
    assert daemon.env == {}


@aio
async def test_one_that_does_not_answer_is_told_each_time(
    silent: MpsDaemon, started: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mps, "START_SECONDS", 0.2)
    for _ in range(2):
        with pytest.raises(ServerDied, match=r"mps was not ready after 0\.2 s"):
            await silent.ensure_running()
    assert len(started) == 2
    assert not any(psutil.pid_exists(pid) for pid in started)
    assert silent.env == {}


@aio
async def test_a_start_that_is_cancelled_leaves_nothing(silent: MpsDaemon, started: list[int]) -> None:
    start = asyncio.create_task(silent.ensure_running())
    await until(lambda: bool(started), "it has begun")
    folder = sockets(silent)
    start.cancel()
    await asyncio.gather(start, return_exceptions=True)
    assert silent.env == {}
    assert not folder.exists()
    assert not psutil.pid_exists(started[0])


@aio
async def test_a_stop_without_the_program_still_ends_the_daemon(
    logs: Path, started: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon = MpsDaemon(logs)
    await daemon.ensure_running()
    monkeypatch.setenv("PATH", "")
    await daemon.stop()
    assert not psutil.pid_exists(started[0])


def test_a_machine_without_it_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PlanError, match="mps needs nvidia-cuda-mps-control, which comes with NVIDIA's driver"):
        check_mps()
    put_on_path(tmp_path / "bin", monkeypatch)
    check_mps()
