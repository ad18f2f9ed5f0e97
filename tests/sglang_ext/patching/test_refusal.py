"""The overlay refuses an SGLang that it was not verified with, and stops the real server."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from launch.machine.ports import free_ports, is_free
from launch.models.packaged import prepare
from tests.sglang_ext.patching.altered import altered_sglang, run

SCHEDULER = "srt/managers/scheduler.py"
CHANGED_BODY = ('"""Idle housekeeping: guard', '"""Idle work: guard')
ON_IDLE = "sglang.srt.managers.scheduler.Scheduler.on_idle"
REFUSED = {
    "missing function": "Scheduler.on_idle, which the installed software does not have",
    "changed function": "Scheduler.on_idle, whose source in sglang 0.5.17 is not the verified one",
    "old version": "sglang 0.5.17, but sglang 0.5.16 is installed",
    "new version": "sglang 0.5.17, but sglang 0.5.99 is installed",
}
ALLOWED = "changed function, allowed"
pytestmark = pytest.mark.servers  # they import SGLang


def test_the_server_refuses_to_start(tmp_path: Path) -> None:
    port = next(free_ports(start=31900))
    command = ["-m", "sglang.launch_server", "--model-path", str(prepare("smollm2")), "--port", str(port)]
    done = run(command, altered_sglang(tmp_path, SCHEDULER, CHANGED_BODY))
    assert done.returncode == 2
    sentences = [line for line in done.stderr.splitlines() if "sglang_ext" in line]
    assert len(sentences) == 1
    assert REFUSED["changed function"] in sentences[0]
    assert "SGLANG_EXT_ALLOW_UNVERIFIED=1" in sentences[0]
    assert is_free(port)


@pytest.fixture(scope="module")
def loads() -> dict[str, Any]:
    """What became of processes that load the plugins, by case; one process imports SGLang and forks them."""
    command = [sys.executable, "-m", "tests.sglang_ext.patching.forked_loads", *REFUSED, ALLOWED]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


@pytest.mark.parametrize("case", REFUSED)
def test_loading_the_plugins_ends_the_process(loads: dict[str, Any], case: str) -> None:
    assert loads[case]["code"] == 2, loads[case]["output"]
    assert REFUSED[case] in loads[case]["output"]
    assert "went on" not in loads[case]["output"]


def test_going_on_at_ones_own_risk_is_reported(loads: dict[str, Any]) -> None:
    assert loads[ALLOWED]["code"] == 0, loads[ALLOWED]["output"]
    assert f"went on without checking ['{ON_IDLE}']" in loads[ALLOWED]["output"]
