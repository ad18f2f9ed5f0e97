"""The servers that an experiment starts: which config, with what more."""

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import orjson
import pytest
from rich.console import Console

from launch.config.loading import load_config
from launch.config.schema import LaunchConfig, ModelConfig
from launch.errors import ConfigError
from launch.experiment import servers
from launch.experiment.config import load_experiment
from launch.experiment.servers import METRICS_FLAG, with_metrics
from launch.experiment.trees import trees_of
from tests.launch.experiment.support import write_config
from tests.router.support.aio import aio


def test_sglang_servers_tell_their_queues() -> None:
    launch = with_metrics(load_config(Path("h200-dummy"), device="gpu"))
    assert launch.server_args == [METRICS_FLAG]
    assert with_metrics(launch) == launch


def test_servers_of_vllm_alone_get_no_flag_of_sglang(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    launch = LaunchConfig(
        models=[ModelConfig(name="m", path=str(tmp_path), engine="vllm")],
        context_length=1024,
    )
    assert with_metrics(launch).server_args == []


class FakeSupervisor:
    """A fake of the launcher's supervisor, which would start SGLang."""

    def __init__(self, plan: Any, logs: Path, trees_file: Path, print_line: Any, *, fork: bool, on_change: Any) -> None:
        self.trees = orjson.loads(trees_file.read_bytes())
        self.fork, self.calls = fork, ["made"]
        self.services: dict[str, Any] = {}
        self.router, self.check_alive = "the router", lambda: None
        made.append(self)

    async def start(self) -> None:
        self.calls.append("started")

    async def stop(self) -> None:
        self.calls.append("stopped")


made: list[FakeSupervisor] = []


@aio
async def test_the_launchers_servers_get_the_arms_trees_with_sizes_and_are_stopped(tmp_path: Path) -> None:
    made.clear()
    config, folder = load_experiment(write_config(tmp_path, launch="h200-dummy", arms={"a": {"tree": "tree-9-3-1"}}))
    server = SimpleNamespace(name="s", argv=("--x",), gpus=(0, 1))
    plan = SimpleNamespace(notes=("a note",), device="gpu", servers=(server,), mps=True)
    asked: list[LaunchConfig] = []

    def build_plan(options: Any, launch: LaunchConfig, *_: Any) -> Any:
        asked.append(launch)
        return plan

    console = Console(file=io.StringIO())

    async def work() -> None:
        async with servers.started_servers(config, trees_of(config), tmp_path, folder, console) as running:
            assert str(running.router) == "the router"
            assert running.gpus == 2
            assert running.about["mps"]
            raise RuntimeError("the work failed")

    faked = mock.patch.multiple(servers, Supervisor=FakeSupervisor, build_plan=build_plan)
    with faked, pytest.raises(RuntimeError, match="the work failed"):
        await work()
    (supervisor,) = made
    assert supervisor.calls == ["made", "started", "stopped"]
    assert [tree["name"] for tree in supervisor.trees["trees"]] == ["tree-9-3-1"]
    assert list(supervisor.trees["sizes"]) == ["qwen3-4b", "qwen3-8b", "qwen3-14b"]
    assert asked[0].server_args == [METRICS_FLAG]


@aio
async def test_without_a_launch_and_without_a_router_nothing_is_started(tmp_path: Path) -> None:
    config, folder = load_experiment(write_config(tmp_path))
    with pytest.raises(ConfigError, match="no `launch`, and no --router"):
        async with servers.started_servers(config, trees_of(config), tmp_path, folder, Console(file=io.StringIO())):
            pass
