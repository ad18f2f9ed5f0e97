"""Starts and ends the processes of a benchmark, and measures their CPU time and memory."""

import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from router.bench.errors import BenchError

PORTS = (20_000, 28_000)  # below those that the system gives to connections
STOP_TIMEOUT = 10.0  # seconds to end after SIGTERM
MB = 1e6


@dataclass(frozen=True)
class Process:
    """A running process and its children."""

    name: str
    popen: "subprocess.Popen[bytes]"
    log: Path

    def _tree(self) -> list[psutil.Process]:
        root = psutil.Process(self.popen.pid)
        return [root, *root.children(recursive=True)]

    def cpu(self) -> float:
        """Seconds of processor time so far, user and system, of the whole tree."""
        times = [process.cpu_times() for process in self._tree()]
        return sum(each.user + each.system for each in times)

    def memory(self) -> float:
        """Memory of the whole tree, MB: the proportional set size, where shared memory counts once."""
        return sum(process.memory_full_info().pss for process in self._tree()) / MB

    def peak(self) -> float:
        """The sum of each process's peak resident memory, MB; shared memory counts for each."""
        return sum(map(_peak_memory, self._tree())) / MB

    def check_running(self) -> None:
        """Raise `BenchError` when it has ended."""
        code = self.popen.poll()
        if code is not None:
            lines = self.log.read_text(errors="replace").split("\n")
            last = next((line for line in reversed(lines) if line.strip()), "it printed nothing")
            raise BenchError(f"{self.name} ended with code {code}: {last.strip()[:300]}")


@contextmanager
def running(
    name: str, command: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None
) -> Iterator[Process]:
    """Run a command in its own session, with its output in `folder`; stopped on exit, children too."""
    log = folder / f"{name}.log"
    with log.open("wb") as out:
        popen = subprocess.Popen(  # noqa: S603 - the command is the benchmark's own
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, **(environment or {})},
        )
    process = Process(name, popen, log)
    try:
        yield process
    finally:
        _stop(process)


def _stop(process: Process) -> None:
    try:
        tree = process._tree()
    except psutil.NoSuchProcess:
        tree = []
    if process.popen.poll() is None:
        process.popen.send_signal(signal.SIGTERM)
        try:
            process.popen.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.popen.kill()
            process.popen.wait()
    for child in tree:  # psutil tells a reused pid from the process it saw
        if child.is_running():
            child.kill()


def _peak_memory(process: psutil.Process) -> int:
    status = Path(f"/proc/{process.pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def free_port() -> int:
    """A port of 127.0.0.1 that is free now, and that the system gives to nobody who does not name it."""
    while True:
        port = random.SystemRandom().randrange(*PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def wait_until_listening(process: Process, port: int, *, timeout: float = 60.0) -> None:
    """Return once the process listens on the port; raises `BenchError` after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        process.check_running()
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise BenchError(f"{process.name} did not listen on port {port} within {timeout:g} s.")
