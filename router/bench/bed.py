"""Fake servers with the routers in front of them, and all cases on them."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from router.bench import routers
from router.bench.cases import Case, Load, Samples, run
from router.bench.processes import Process, free_port
from router.bench.report import Memory
from router.bench.routers import Target

Backends = Callable[[Path], AbstractContextManager[tuple[str, str]]]
WARM_UP = 1.0  # seconds


@dataclass(frozen=True)
class Bed:
    """Which fake servers, and which routers before them.

    Attributes:
        backends: Runs the fake servers in a folder; gives the addresses of prefill and decode.
        rust: The Python interpreter that has sglang-router; None without it.
        workers: Processes of this router, measured beside one; None without that.
    """

    backends: Backends
    rust: str | None = None
    workers: int | None = None

    def measure(
        self, cases: Sequence[Case], rounds: int, load: Load, tell: Callable[[str], None]
    ) -> tuple[dict[str, Samples], dict[str, Memory]]:
        """All cases; samples by case, memory by router. Raises `BenchError`."""
        with ExitStack() as stack:
            prefill, decode = stack.enter_context(self.backends(load.folder))
            processes: dict[str, Process] = {}
            targets = [Target("direct", decode)]
            for name, command in self._commands(prefill, decode).items():
                target = stack.enter_context(routers.router(name, *command, load.folder))
                assert target.process is not None
                processes[name] = target.process
                targets.append(target)
            start = {name: process.memory() for name, process in processes.items()}
            for target in targets:  # connections opened, caches filled, bytecode specialised
                replace(load, seconds=WARM_UP).measure(cases[0], target)
            found = {case.name: run(case, targets, rounds, load, tell) for case in cases}
            memory = {name: Memory(start[name], each.memory(), each.peak()) for name, each in processes.items()}
        return found, memory

    def _commands(self, prefill: str, decode: str) -> dict[str, tuple[list[str], int]]:
        """Command and port by router."""
        port = free_port()
        commands = {"ours": (routers.ours(prefill, decode, port), port)}
        if self.workers is not None:
            port = free_port()
            several = [*routers.ours(prefill, decode, port), "--workers", str(self.workers)]
            commands[f"ours, {self.workers} workers"] = several, port
        if self.rust is not None:
            port = free_port()
            commands = {"rust": (routers.rust(self.rust, prefill, decode, port), port), **commands}
        return commands
