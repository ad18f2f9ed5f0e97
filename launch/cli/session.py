"""One launch from start to stop."""

import argparse
import asyncio
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console

from launch.config.schema import LaunchConfig
from launch.errors import LaunchError
from launch.moa.answer_tables import print_answer
from launch.moa.ask import ask, parse_question
from launch.moa.run_report import report_json
from launch.moa.trees_file import TREES_FILE, trees_json
from launch.planning.plan import Plan
from launch.supervision.service import ROUTER
from launch.supervision.status_table import StatusTable
from launch.supervision.supervisor import Supervisor
from router.errors import RouterError

EXIT_FAILED = 1
EXIT_INTERRUPTED = 130


class LaunchSession:
    """One launch: starts the plan's servers, serves or asks one question, and stops everything."""

    def __init__(self, options: argparse.Namespace, config: LaunchConfig, plan: Plan, console: Console) -> None:
        self._options = options
        self._config = config
        self._plan = plan
        self._console = console
        self._started_at = time.monotonic()
        self._question: dict[str, Any] | None = None
        if options.ask is not None:
            tokenizer = all(model.shape is None for model in config.models)
            self._question = parse_question(options.ask, tokenizer=tokenizer)
        self._trees = trees_json(config, plan.device)

    async def run(self) -> int:
        """Start, serve or ask, stop; return the exit code."""
        logs = self._options.logs or Path(tempfile.mkdtemp(prefix="faster-moa-"))
        logs.mkdir(parents=True, exist_ok=True)
        trees_file = logs / TREES_FILE
        trees_file.write_bytes(orjson.dumps(self._trees, option=orjson.OPT_INDENT_2))
        self._console.print(f"logs: {logs}", highlight=False)
        for note in self._plan.notes:
            self._console.print(f"note: {note}", markup=False, highlight=False)
        status = StatusTable(self._console)
        fork = self._plan.device == "cpu" and not self._options.spawn
        supervisor = Supervisor(
            self._plan, logs, trees_file, self._console.print, fork=fork, on_change=status.on_change
        )
        status.services = supervisor.services.values()
        work = asyncio.create_task(self._serve_or_ask(supervisor, status))
        signals = _StopSignals(work.cancel)
        try:
            return await work
        except asyncio.CancelledError:
            return EXIT_INTERRUPTED if self._question is not None else 0
        except (LaunchError, RouterError, ExceptionGroup) as error:
            self._console.print(str(_user_error(error)), style="red", markup=False, highlight=False)
            return EXIT_FAILED
        finally:
            signals.handler = supervisor.skip_grace_period
            self._console.print("stopping ...")
            await supervisor.stop()
            self._console.print("stopped; nothing is left running")

    async def _serve_or_ask(self, supervisor: Supervisor, status: StatusTable) -> int:
        with status:
            await supervisor.start()
        status.print_table()
        if self._question is None:
            self._console.print(f"ready: {supervisor.router.url}/v1 (Ctrl-C stops)", highlight=False)
            await supervisor.watch()
            return 0
        with self._console.status("asking the tree"):
            answer = await ask(
                supervisor.router, self._trees["trees"][0]["name"], self._question, supervisor.check_alive
            )
        await supervisor.measure_memory()
        servers = [name for name in supervisor.services if name != ROUTER]
        seconds = time.monotonic() - self._started_at
        print_answer(self._console, answer, servers, seconds=seconds, peak_bytes=supervisor.peak_memory_bytes)
        if self._options.report is not None:
            self._options.report.write_bytes(
                report_json(supervisor, answer, seconds=time.monotonic() - self._started_at)
            )
        return 0


class _StopSignals:
    """SIGINT and SIGTERM call `handler`, which can be replaced at any time."""

    def __init__(self, handler: Callable[[], object]) -> None:
        self.handler = handler
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._call)

    def _call(self) -> None:
        self.handler()


def _user_error(error: Exception) -> Exception:
    """The first error within exception groups; raises one that is neither a `LaunchError` nor a `RouterError`."""
    first = error
    while isinstance(first, ExceptionGroup):
        first = first.exceptions[0]
    if isinstance(first, LaunchError | RouterError):
        return first
    raise error
