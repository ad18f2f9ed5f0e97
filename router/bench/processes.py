"""Processes of a benchmark: started with their output in a file, ended by pid."""

import os
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

STOP = 10.0  # seconds a process gets to end by itself
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
        """Memory of the whole tree, MB; what several processes share counts once (the proportional set size)."""
        return sum(process.memory_full_info().pss for process in self._tree()) / MB

    def peak(self) -> float:
        """The most memory each process of the tree ever had resident, summed, MB; what is shared counts for each."""
        return sum(map(_high_water, self._tree())) / MB

    def check(self) -> None:
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
    """Run a command in its own process group with its output in `folder`; ended, children too, by the end."""
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
        _end(process)


def _end(process: Process) -> None:
    try:
        left = process._tree()
    except psutil.NoSuchProcess:
        left = []
    if process.popen.poll() is None:
        process.popen.send_signal(signal.SIGTERM)
        try:
            process.popen.wait(STOP)
        except subprocess.TimeoutExpired:
            process.popen.kill()
            process.popen.wait()
    for each in left:  # psutil knows a reused pid from the process it saw
        if each.is_running():
            each.kill()


def _high_water(process: psutil.Process) -> int:
    status = Path(f"/proc/{process.pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def until_open(process: Process, port: int, *, timeout: float = 10.0) -> None:
    """Return once the process listens on the port; raises `BenchError` after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        process.check()
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise BenchError(f"{process.name} did not listen on port {port} within {timeout:g} s.")
