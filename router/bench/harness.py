"""Runs fake servers with the routers in front of them, and measures all cases."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from router.bench import routers
from router.bench.cases import Case, Load, Samples, run_case
from router.bench.processes import Process, free_port
from router.bench.report import Memory
from router.bench.routers import Target

FakePair = Callable[[Path], AbstractContextManager[tuple[str, str]]]
WARM_UP = 1.0  # seconds


@dataclass(frozen=True)
class Harness:
    """Which fake servers, and which routers in front of them.

    Attributes:
        fake_pair: Runs the fake servers, with files in a folder; gives the addresses of prefill and decode.
        rust: A Python interpreter that has sglang-router; None measures without it.
        workers: Also measures this router with so many processes; None does not.
    """

    fake_pair: FakePair
    rust: str | None = None
    workers: int | None = None

    def measure(
        self, cases: Sequence[Case], rounds: int, load: Load, report_progress: Callable[[str], None]
    ) -> tuple[dict[str, Samples], dict[str, Memory]]:
        """Measure all cases: samples by case, memory by router. Raises `BenchError`."""
        with ExitStack() as stack:
            prefill, decode = stack.enter_context(self.fake_pair(load.folder))
            processes: dict[str, Process] = {}
            targets = [Target("direct", decode)]
            for name, command in self._commands(prefill, decode).items():
                target = stack.enter_context(routers.running_router(name, *command, load.folder))
                assert target.process is not None
                processes[name] = target.process
                targets.append(target)
            at_start = {name: process.memory() for name, process in processes.items()}
            for target in targets:  # connections opened, caches filled, bytecode specialised
                replace(load, seconds=WARM_UP).measure(cases[0], target)
            samples = {case.name: run_case(case, targets, rounds, load, report_progress) for case in cases}
            memory = {
                name: Memory(at_start[name], process.memory(), process.peak()) for name, process in processes.items()
            }
        return samples, memory

    def _commands(self, prefill: str, decode: str) -> dict[str, tuple[list[str], int]]:
        """Command line and port of each router."""
        port = free_port()
        commands = {"ours": (routers.router_command(prefill, decode, port), port)}
        if self.workers is not None:
            port = free_port()
            command = [*routers.router_command(prefill, decode, port), "--workers", str(self.workers)]
            commands[f"ours, {self.workers} workers"] = command, port
        if self.rust is not None:
            port = free_port()
            commands = {"rust": (routers.sglang_router_command(self.rust, prefill, decode, port), port), **commands}
        return commands
