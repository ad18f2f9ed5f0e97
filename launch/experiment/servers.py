"""The router of an experiment: one that runs already, or servers and a router that the launcher starts."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console

from launch.cli.build import build_config, build_plan
from launch.cli.options import parse_arguments
from launch.config.schema import LaunchConfig
from launch.errors import ConfigError
from launch.experiment.config import ExperimentConfig
from launch.experiment.router_client import check_trees, router_at
from launch.experiment.trees import trees_file
from launch.machine.inventory import Inventory
from launch.moa.trees_file import OPENAI_NAMES, TREES_FILE, model_sizes
from launch.planning.plan import Plan
from launch.supervision.status_table import StatusTable
from launch.supervision.supervisor import Supervisor
from router.http_client.origin import Origin
from router.moa.tree import Tree

METRICS_FLAG = "--enable-metrics"


@dataclass(frozen=True)
class Servers:
    """What the experiment runs on.

    Attributes:
        router: The router.
        gpus: The number of GPUs; None where it is not known.
        about: Machine and servers, for the log.
        check_alive: Raises when a server has died.
    """

    router: Origin
    gpus: int | None
    about: dict[str, Any]
    check_alive: Callable[[], None]


@asynccontextmanager
async def running_router(
    url: str, config: ExperimentConfig, trees: dict[str, Tree], out: Path
) -> AsyncIterator[Servers]:
    """A router that runs already, once it serves the trees; the file it must have been started with is written first.

    Raises:
        ConfigError: It cannot be reached, or does not serve them.
    """
    path = out / TREES_FILE
    path.write_bytes(orjson.dumps(trees_file(trees, {}, config.sizes), option=orjson.OPT_INDENT_2))
    router = router_at(url)
    try:
        await check_trees(router, {tree.name for tree in trees.values()}, str(path))
        yield Servers(router, config.gpus, {"router": url}, lambda: None)
    finally:
        router.close()


@asynccontextmanager
async def started_servers(
    config: ExperimentConfig, trees: dict[str, Tree], out: Path, folder: Path, console: Console
) -> AsyncIterator[Servers]:
    """Servers and a router of the launcher's config, stopped at the end.

    Raises:
        LaunchError: The config is wrong, the servers do not fit, or one did not start.
    """
    launch, plan = _plan(config, folder, console)
    sampling = {
        model.name: {OPENAI_NAMES.get(key, key): value for key, value in model.sampling.items()}
        for model in launch.models
    }
    path = out / TREES_FILE
    told = trees_file(trees, sampling, model_sizes(launch))
    path.write_bytes(orjson.dumps(told, option=orjson.OPT_INDENT_2))
    logs = out / "logs"
    logs.mkdir(exist_ok=True)
    for note in plan.notes:
        console.print(f"note: {note}", markup=False, highlight=False)
    console.print(f"logs: {logs}", highlight=False)
    status = StatusTable(console)
    supervisor = Supervisor(plan, logs, path, console.print, fork=plan.device == "cpu", on_change=status.on_change)
    status.services = supervisor.services.values()
    try:
        with status:
            await supervisor.start()
        gpus = {gpu for server in plan.servers for gpu in server.gpus}
        about = {
            "servers": [[server.name, *server.argv] for server in plan.servers],
            "launch": config.launch,
            "mps": plan.mps,
        }
        yield Servers(supervisor.router, len(gpus), about, supervisor.check_alive)
    finally:
        await supervisor.stop()


def _plan(config: ExperimentConfig, folder: Path, console: Console) -> tuple[LaunchConfig, Plan]:
    if config.launch is None:
        raise ConfigError("the experiment's config has no `launch`, and no --router is given; give either.")
    beside = folder / config.launch
    options = parse_arguments(["--config", str(beside if beside.is_file() else config.launch)], None)
    inventory = Inventory.detect()
    launch = with_metrics(build_config(options, inventory))
    return launch, build_plan(options, launch, inventory, console)


def with_metrics(launch: LaunchConfig) -> LaunchConfig:
    """The config with SGLang servers that tell how long requests were in their queues."""
    if METRICS_FLAG in launch.server_args or all(model.engine != "sglang" for model in launch.models):
        return launch
    return launch.model_copy(update={"server_args": [*launch.server_args, METRICS_FLAG]})
