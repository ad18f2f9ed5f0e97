"""`python -m launch.pd`: prefill/decode pairs, the router over them, and a tree of agents.

    python -m launch.pd --hetero 3                      three models, a pair each, until Ctrl-C
    python -m launch.pd --hetero 3 --ask "Why ...?"     one run of the tree, then stop
    python -m launch.pd --hetero 3 --dry-run            print the plan and start nothing

Exit codes: 0 done, 1 a server died, 2 wrong input or an impossible plan, 130 interrupted.
"""

import argparse
import asyncio
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console

from launch.ask import ask, parse_question, report
from launch.config import LaunchConfig, ModelConfig, hetero, load_config, single_model
from launch.dry_run import render
from launch.errors import LaunchError, PlanError
from launch.inventory import Inventory
from launch.models import cache_folder, prepare, smollm2_folder
from launch.plan import Plan, make_plan
from launch.ports import free_ports, is_free
from launch.report import report_json
from launch.shapes import write_dummy_model
from launch.status import Status
from launch.supervisor import ROUTER, Supervisor
from launch.trees import TREE_FILE, trees_json
from router.errors import RouterError

INTERRUPTED = 130


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command line; argparse leaves with code 2 on a wrong one."""
    parser = argparse.ArgumentParser(
        prog="python -m launch.pd", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--hetero", type=int, metavar="N", help="serve the config's first N models, a pair each")
    what.add_argument("--model", metavar="PATH", help="serve one model: a folder, a hub name or builtin:smollm2")
    parser.add_argument("--config", type=Path, metavar="FILE", help="YAML or JSON file, or a shipped config's name")
    parser.add_argument("--ask", metavar="QUESTION", help="run the tree once on this text or JSON list of token ids")
    parser.add_argument("--dry-run", action="store_true", help="print servers, memory, ports and commands, then stop")
    parser.add_argument("--port", type=int, help="the router's port (default: a free one from 30000)")
    parser.add_argument("--attention-backend", help="over the config's attention_backend")
    parser.add_argument("--sampling-backend", help="over the config's sampling_backend")
    parser.add_argument("--inventory", type=Path, metavar="FILE", help="plan for the machine this JSON file describes")
    parser.add_argument("--logs", type=Path, metavar="DIR", help="folder for logs (default: a new temporary one)")
    parser.add_argument("--report", type=Path, metavar="FILE", help="with --ask: write times and memory as JSON")
    parser.add_argument("--spawn", action="store_true", help="on a CPU: start fresh processes instead of forking")
    given = parser.parse_args(arguments)
    if given.model is not None and given.config is not None:
        parser.error("give --model or --config, not both; a config names its models itself.")
    if given.report is not None and given.ask is None:
        parser.error("--report describes one run; it goes with --ask only.")
    if given.inventory is not None and not given.dry_run:
        parser.error("--inventory describes another machine; it goes with --dry-run only.")
    if given.port is not None and not 0 < given.port < 65536:
        parser.error(f"--port {given.port} is no port; give a number from 1 to 65535.")
    return given


def configured(given: argparse.Namespace, inventory: Inventory) -> LaunchConfig:
    """The config that the command line asks for; raises `ConfigError`."""
    if given.model is not None:
        config = single_model(given.model, inventory.device)
    else:
        config = load_config(given.config, device=inventory.device)
        if given.hetero is not None:
            config = hetero(config, given.hetero)
    changes = {
        key: value for key in ("attention_backend", "sampling_backend") if (value := getattr(given, key)) is not None
    }
    return config.model_copy(update=changes)


def planned(given: argparse.Namespace, config: LaunchConfig, inventory: Inventory, console: Console) -> Plan:
    """The plan, with models prepared unless it is only to be printed.

    Raises:
        PlanError: It does not fit, or the router's port is taken.
    """
    if given.port is not None and not given.dry_run and not is_free(given.port):
        raise PlanError(f"port {given.port} is in use; choose another --port, or leave it out.")
    ports = free_ports()
    router_port = given.port if given.port is not None else next(free_ports(start=30000))

    def next_port() -> int:
        port = next(ports)
        return port if port != router_port else next(ports)

    def folder_of(model: ModelConfig) -> str:
        if model.shape is not None:
            folder = cache_folder() / f"dummy-{model.shape}"
            return str(folder if given.dry_run else write_dummy_model(model.shape, folder))
        assert model.path is not None
        if model.path.startswith("builtin:"):
            packaged = model.path.removeprefix("builtin:")
            return str(smollm2_folder() if given.dry_run else prepare(packaged, console.print))
        return model.path

    return make_plan(config, inventory, ports=next_port, router_port=router_port, folder_of=folder_of)


class Launch:
    """One launch from start to stop."""

    def __init__(self, given: argparse.Namespace, config: LaunchConfig, plan: Plan, console: Console) -> None:
        self._given = given
        self._config = config
        self._plan = plan
        self._console = console
        self._began = time.monotonic()
        self._question: dict[str, Any] | None = None
        if given.ask is not None:
            tokenizer = all(model.shape is None for model in config.models)
            self._question = parse_question(given.ask, tokenizer=tokenizer)
        self._trees = trees_json(config, plan.device)

    async def run(self) -> int:
        """Start, serve or ask, stop; return the exit code."""
        logs = self._given.logs or Path(tempfile.mkdtemp(prefix="faster-moa-"))
        logs.mkdir(parents=True, exist_ok=True)
        trees = logs / TREE_FILE
        trees.write_bytes(orjson.dumps(self._trees, option=orjson.OPT_INDENT_2))
        self._console.print(f"logs: {logs}", highlight=False)
        status = Status(self._console)
        fork = self._plan.device == "cpu" and not self._given.spawn
        supervisor = Supervisor(self._plan, logs, trees, self._console.print, fork=fork, on_change=status.changed)
        status.members = supervisor.members.values()
        work = asyncio.create_task(self._work(supervisor, status))
        interrupts = _Interrupts(work.cancel)
        try:
            return await work
        except asyncio.CancelledError:
            return INTERRUPTED if self._question is not None else 0
        except (LaunchError, RouterError, ExceptionGroup) as error:
            self._console.print(str(_expected(error)), style="red", markup=False, highlight=False)
            return 1
        finally:
            interrupts.act = supervisor.hurry
            self._console.print("stopping ...")
            await supervisor.stop()
            self._console.print("stopped; nothing is left running")

    async def _work(self, supervisor: Supervisor, status: Status) -> int:
        with status:
            await supervisor.start()
        status.print_table()
        if self._question is None:
            self._console.print(f"ready: {supervisor.router.url}/v1 (Ctrl-C stops)", highlight=False)
            await supervisor.watch()
            return 0
        with self._console.status("asking the tree"):
            answer = await ask(supervisor.router, self._trees["trees"][0]["name"], self._question, supervisor.check)
        await supervisor.measure_memory()
        servers = [name for name in supervisor.members if name != ROUTER]
        report(self._console, answer, servers, began=self._began, peak_bytes=supervisor.peak_memory_bytes)
        if self._given.report is not None:
            self._given.report.write_bytes(report_json(supervisor, answer, seconds=time.monotonic() - self._began))
        return 0


class _Interrupts:
    """SIGINT and SIGTERM run `act`, which can be changed meanwhile."""

    def __init__(self, act: Callable[[], object]) -> None:
        self.act = act
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._call)

    def _call(self) -> None:
        self.act()


def _expected(error: Exception) -> Exception:
    """The first error in (groups of) errors; one that no user can cause is raised as it is."""
    first = error
    while isinstance(first, ExceptionGroup):
        first = first.exceptions[0]
    if isinstance(first, LaunchError | RouterError):
        return first
    raise error


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    given = parse(sys.argv[1:] if arguments is None else arguments)
    console = Console(soft_wrap=True)
    try:
        inventory = Inventory.detect() if given.inventory is None else Inventory.from_file(given.inventory)
        config = configured(given, inventory)
        plan = planned(given, config, inventory, console)
        if given.dry_run:
            sys.stdout.write(render(plan, inventory))
            return 0
        launch = Launch(given, config, plan, console)
    except (LaunchError, RouterError) as error:
        print(f"launch: {error}", file=sys.stderr)
        return 2
    with suppress(KeyboardInterrupt):
        return asyncio.run(launch.run())
    return INTERRUPTED


if __name__ == "__main__":
    raise SystemExit(main())
