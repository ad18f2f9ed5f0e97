"""A daemon of NVIDIA's Multi-Process Service without a GPU: it starts, answers and ends, and shares nothing."""

import os
import shutil
from pathlib import Path

import pytest

from launch.processes.mps import CONTROL

SCRIPT = Path(__file__).with_name("fake_mps_control.sh")


def put_on_path(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let programs find the fake under the real one's name."""
    folder.mkdir()
    shutil.copy(SCRIPT, folder / CONTROL)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
