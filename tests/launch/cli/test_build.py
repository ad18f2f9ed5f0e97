"""From options to a config and a plan."""

from pathlib import Path

import pytest
from rich.console import Console

from launch.cli.build import build_config, build_plan
from launch.cli.options import parse_arguments
from launch.errors import PlanError
from tests.launch.machines import empty_gpus


@pytest.mark.parametrize(
    ("key", "flags", "expected"),
    [
        ("", [], False),
        ("mps: true", [], True),
        ("", ["--mps"], True),
        ("mps: true", ["--no-mps"], False),
    ],
)
def test_the_flag_goes_over_the_configs_mps(tmp_path: Path, key: str, flags: list[str], expected: bool) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(f"models: [{{name: a, shape: qwen3-4b}}]\ncontext_length: 512\n{key}\n")
    assert build_config(parse_arguments(["--config", str(file), *flags], None), empty_gpus(1)).mps == expected


def test_a_machine_without_the_daemon_of_mps_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Before anything is prepared; the plan alone needs no daemon."""
    monkeypatch.setenv("PATH", str(tmp_path))
    arguments, inventory = ["--config", "h200-dummy", "--mps", "--server-ports", "43000"], empty_gpus(1)
    config = build_config(parse_arguments(arguments, None), inventory)
    with pytest.raises(PlanError, match="mps needs nvidia-cuda-mps-control"):
        build_plan(parse_arguments(arguments, None), config, inventory, Console())
    assert build_plan(parse_arguments([*arguments, "--dry-run"], None), config, inventory, Console()).mps
