"""The daemon of NVIDIA's Multi-Process Service, as the launcher starts and ends it."""

import asyncio
import os
import signal
from pathlib import Path

import psutil
import pytest

from launch.errors import PlanError, ServerDied
from launch.processes import mps
from launch.processes.mps import MpsDaemon, check_mps
from tests.launch.processes.fake_mps import put_on_path
from tests.router.support.aio import aio, until


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    put_on_path(tmp_path / "bin", monkeypatch)
    monkeypatch.setattr(mps, "POLL_SECONDS", 0.01)
    return tmp_path / "mps.log"


def pipes(daemon: MpsDaemon) -> Path:
    return Path(daemon.env["CUDA_MPS_PIPE_DIRECTORY"])


def pid_of(daemon: MpsDaemon) -> int:
    return int((pipes(daemon) / "control").read_text())


@aio
async def test_it_serves_all_gpus_and_is_gone_after_the_stop(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    daemon = MpsDaemon(log)
    assert daemon.env == {}
    await asyncio.gather(daemon.ensure_running(), daemon.ensure_running())
    pid, folder = pid_of(daemon), pipes(daemon)
    assert os.getsid(pid) == pid
    await daemon.stop()
    assert not psutil.pid_exists(pid)
    assert not folder.exists()
    assert daemon.env == {}
    await daemon.stop()
    assert_log(log, "GPUs: all\n")


def assert_log(log: Path, text: str) -> None:
    """It numbers GPUs as nvidia-smi does, and its clients choose among all."""
    assert log.read_text() == text


@aio
async def test_one_that_died_is_started_again(log: Path) -> None:
    daemon = MpsDaemon(log)
    await daemon.ensure_running()
    first = pid_of(daemon)
    os.kill(first, signal.SIGKILL)
    await until(lambda: psutil.Process(first).status() == psutil.STATUS_ZOMBIE, "it has ended")
    await daemon.ensure_running()
    assert pid_of(daemon) != first
    await daemon.stop()


@aio
async def test_one_that_ends_at_its_start_is_told_with_its_log(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPS_FAILS", "1")
    daemon = MpsDaemon(log)
    with pytest.raises(ServerDied, match=r"mps ended with exit code 1; the last lines of .*\n.*\n.*no GPU is there"):
        await daemon.ensure_running()
    await daemon.stop()


@aio
async def test_one_that_does_not_answer_is_told(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPS_IS_SILENT", "1")
    monkeypatch.setattr(mps, "START_SECONDS", 0.2)
    daemon = MpsDaemon(log)
    with pytest.raises(ServerDied, match=r"mps was not ready after 0\.2 s"):
        await daemon.ensure_running()
    await daemon.stop()
    assert not [process for process in psutil.Process().children() if process.status() != psutil.STATUS_ZOMBIE]


def test_a_machine_without_it_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PlanError, match="mps needs nvidia-cuda-mps-control, which comes with NVIDIA's driver"):
        check_mps()
    put_on_path(tmp_path / "bin", monkeypatch)
    check_mps()
