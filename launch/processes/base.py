"""The contract of a start method (`Starter`), and what a started process can do."""

import os
from abc import ABC, abstractmethod
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from signal import Signals

import psutil

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - the kernel's shared memory, not a place for temporary files


@dataclass(frozen=True)
class Command:
    """What to start.

    Attributes:
        name: Unique among the processes of one launch.
        argv: Arguments of the program, without the program.
        env: Variables added to the launcher's environment.
        log: File that gets stdout and stderr, emptied first.
    """

    name: str
    argv: tuple[str, ...]
    env: dict[str, str]
    log: Path


class Process(ABC):
    """A started process, leader of a session of its own."""

    def __init__(self, command: Command, pid: int) -> None:
        self.command = command
        self.pid = pid
        self.shared_memory: set[Path] = set()

    @abstractmethod
    def exit_code(self) -> int | None:
        """None while the process runs; else its exit code, negative for a signal."""

    def session_processes(self) -> list[psutil.Process]:
        """Every process of its session, the leader's children and orphans alike."""
        found = []
        leader_runs = self.exit_code() is None  # it may not have made its session yet
        for process in psutil.process_iter():
            try:
                in_session = (leader_runs and process.pid == self.pid) or os.getsid(process.pid) == self.pid
                if in_session and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except (ProcessLookupError, psutil.NoSuchProcess):
                continue
        return found

    def record_shared_memory(self) -> None:
        """Remember the shared-memory files that the session maps, since a killed process leaves them behind.

        They are found by inode, since a semaphore is mapped under another name than it ends up with.
        """
        inodes: set[str] = set()
        for process in self.session_processes():
            try:
                maps = Path(f"/proc/{process.pid}/maps").read_text()
            except OSError:
                continue
            inodes.update(line.split(maxsplit=5)[4] for line in maps.splitlines() if f" {SHARED_MEMORY}/" in line)
        for file in SHARED_MEMORY.iterdir() if inodes else ():
            with suppress(FileNotFoundError):
                if str(file.stat().st_ino) in inodes:
                    self.shared_memory.add(file)

    def signal_session(self, signal: Signals) -> None:
        """Send a signal to every process of the session."""
        for process in self.session_processes():
            try:
                process.send_signal(signal)
            except psutil.NoSuchProcess:
                continue

    def signal_leader(self, signal: Signals) -> None:
        """Send a signal to the leader, unless it has exited."""
        if self.exit_code() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal)

    def memory_bytes(self) -> int:
        """Memory of the session: its proportional set size, so that shared pages count once over all processes."""
        return sum(proportional_set_size(process.pid) for process in self.session_processes())


class Starter(ABC):
    """A start method for processes."""

    @abstractmethod
    async def start(self, command: Command) -> Process:
        """Start a process; returns at once, before a server in it is ready."""

    def memory_bytes(self) -> int:
        """Memory of what the starter itself runs, in bytes."""
        return 0

    @abstractmethod
    async def close(self) -> None:
        """End what the starter itself runs."""


def proportional_set_size(pid: int) -> int:
    """A process's share of the memory it maps, in bytes; 0 when it is gone."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except (OSError, IndexError, ValueError):
        pass
    return 0
