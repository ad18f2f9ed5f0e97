"""The overlay refuses an SGLang that it was not verified with, and stops the real server."""

from pathlib import Path

import pytest

from launch.machine.ports import free_ports, is_free
from launch.models.packaged import prepare
from tests.sglang_ext.patching.altered import altered_sglang, run

SCHEDULER = "srt/managers/scheduler.py"
CHANGED_BODY = ('"""Idle housekeeping: guard', '"""Idle work: guard')
RENAMED = ("    def on_idle(self):", "    def on_idle_renamed(self):")
pytestmark = pytest.mark.servers  # each of them starts SGLang, or what imports as much of it
LOAD = "from sglang.srt.plugins import load_plugins; load_plugins(); "


def version(number: str) -> tuple[str, str]:
    return "__version__ = version = '0.5.17'", f"__version__ = version = '{number}'"


@pytest.mark.parametrize(
    ("file", "change", "words"),
    [
        (SCHEDULER, CHANGED_BODY, "Scheduler.on_idle, whose source in sglang 0.5.17 is not the verified one"),
        ("_version.py", version("0.5.16"), "sglang 0.5.17, but sglang 0.5.16 is installed"),
    ],
    ids=["changed function", "old version"],
)
def test_the_server_refuses_to_start(tmp_path: Path, file: str, change: tuple[str, str], words: str) -> None:
    port = next(free_ports(start=31900))
    command = ["-m", "sglang.launch_server", "--model-path", str(prepare("smollm2")), "--port", str(port)]
    done = run(command, altered_sglang(tmp_path, file, change))
    assert done.returncode == 2
    sentences = [line for line in done.stderr.splitlines() if "sglang_ext" in line]
    assert len(sentences) == 1
    assert words in sentences[0]
    assert "SGLANG_EXT_ALLOW_UNVERIFIED=1" in sentences[0]
    assert is_free(port)


@pytest.mark.parametrize(
    ("file", "change", "words"),
    [
        (SCHEDULER, RENAMED, "Scheduler.on_idle, which the installed software does not have"),
        ("_version.py", version("0.5.99"), "sglang 0.5.17, but sglang 0.5.99 is installed"),
    ],
    ids=["missing function", "new version"],
)
def test_loading_the_plugins_ends_the_process(tmp_path: Path, file: str, change: tuple[str, str], words: str) -> None:
    done = run(["-c", f"{LOAD}print('went on')"], altered_sglang(tmp_path, file, change))
    assert done.returncode == 2
    assert words in done.stderr
    assert "went on" not in done.stdout


def test_going_on_at_ones_own_risk_is_reported(tmp_path: Path) -> None:
    report = f"{LOAD}from sglang_ext.patching.apply import unverified_patches; print(unverified_patches())"
    path = altered_sglang(tmp_path, SCHEDULER, CHANGED_BODY)
    done = run(["-c", report], path, SGLANG_EXT_ALLOW_UNVERIFIED="1")
    assert done.returncode == 0, done.stderr
    assert "['sglang.srt.managers.scheduler.Scheduler.on_idle']" in done.stdout
