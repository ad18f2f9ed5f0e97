"""Runs fake servers with the routers in front of them, and measures all cases."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from router.bench import routers
from router.bench.cases import Case, Load, Samples, run_case
from router.bench.processes import Process, free_port
from router.bench.report import Memory
from router.bench.routers import Target

FakeServers = Callable[[Path, bool], AbstractContextManager[tuple[str, str]]]
WARM_UP = 1.0  # seconds


@dataclass(frozen=True)
class Harness:
    """Which fake servers, and which routers in front of them.

    Attributes:
        fake_servers: Runs two fake servers, with files in a folder: a pair, or plain ones; gives their addresses.
        peers: Other routers to measure: a Python interpreter that has it, by the name in `PEERS`.
        workers: Also measures this router with so many processes, for each of the numbers.
        plain: Whether the servers are plain ones, of which the second is used, and no pair.
        flags: Further flags, the same of all routers.
    """

    fake_servers: FakeServers
    peers: Mapping[str, str] = field(default_factory=dict)
    workers: Sequence[int] = ()
    plain: bool = False
    flags: Sequence[str] = ()

    def measure(
        self, cases: Sequence[Case], rounds: int, load: Load, report_progress: Callable[[str], None]
    ) -> tuple[dict[str, Samples], dict[str, Memory]]:
        """Measure all cases: samples by case, memory by router. Raises `BenchError`."""
        with ExitStack() as stack:
            prefill, decode = stack.enter_context(self.fake_servers(load.folder, self.plain))
            processes: dict[str, Process] = {}
            targets = [Target("direct", decode)]
            servers = ["--worker-urls", decode] if self.plain else routers.pair_arguments(prefill, decode)
            for name, command in self._commands(servers).items():
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

    def _commands(self, servers: Sequence[str]) -> dict[str, tuple[list[str], int]]:
        """Command line and port of each router."""
        commands: dict[str, tuple[list[str], int]] = {}
        for peer, python in self.peers.items():
            port = free_port()
            commands[peer] = routers.peer_command(peer, python, servers, port, *self.flags), port
        for name, flags in self._ours():
            port = free_port()
            commands[name] = routers.router_command(servers, port, *self.flags, *flags), port
        return commands

    def _ours(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        yield "ours", ()
        for count in self.workers:
            yield f"ours, --workers {count}", ("--workers", str(count))
