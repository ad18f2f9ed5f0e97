"""A launcher run as a command, watched so that nothing it started can go unnoticed."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psutil

from tests.e2e.servers import wait_for

SHARED_MEMORY = Path("/dev/shm")


class Launched:
    """`python -m launch.pd` with its output in a file; remembers every process it ever had below it."""

    def __init__(self, arguments: list[str], folder: Path) -> None:
        self.output = folder / "launch.out"
        self.files_before = set(SHARED_MEMORY.iterdir())
        with self.output.open("wb") as out:
            self.popen = subprocess.Popen(
                [sys.executable, "-m", "launch.pd", "--logs", str(folder / "logs"), *arguments],
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONUNBUFFERED": "1", "COLUMNS": "160"},
                start_new_session=True,
            )
        self._seen: set[psutil.Process] = set()
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        launcher = psutil.Process(self.popen.pid)
        while self.popen.poll() is None:
            try:
                self._seen.update(launcher.children(recursive=True))
            except psutil.NoSuchProcess:
                return
            threading.Event().wait(0.2)

    def text(self) -> str:
        return self.output.read_text(errors="replace")

    def wait_for(self, words: str, seconds: float) -> None:
        found = wait_for(lambda: words in self.text() or self.popen.poll() is not None, seconds)
        assert found, f"{words!r} did not come:\n{self.text()}"
        assert words in self.text(), self.text()

    def end(self, number: signal.Signals, seconds: float = 60.0) -> int:
        self.popen.send_signal(number)
        return self.popen.wait(seconds)

    def listening(self, url: str) -> int:
        """The number of the process that serves an address."""
        port = int(url.rsplit(":", 1)[1])
        for process in psutil.Process(self.popen.pid).children(recursive=True):
            if any(c.status == psutil.CONN_LISTEN and c.laddr.port == port for c in process.net_connections()):
                return process.pid
        raise AssertionError(f"no process of the launch listens on {port}")

    def left(self) -> list[str]:
        """Processes of the launch that still run, and new shared memory that no living process maps."""
        assert self._seen, "no process was seen below the launcher"
        running = [f"{process}" for process in self._seen if _runs(process)]
        new = set(SHARED_MEMORY.iterdir()) - self.files_before
        return running + [str(file) for file in new if file.exists() and str(file.stat().st_ino) not in _mapped()]


def _runs(process: psutil.Process) -> bool:
    # psutil compares the start time too, so that a number used again does not count.
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def _mapped() -> set[str]:
    """Inodes of the shared memory that running processes map."""
    inodes: set[str] = set()
    for maps in Path("/proc").glob("[0-9]*/maps"):
        try:
            lines = maps.read_text().splitlines()
        except OSError:
            continue
        inodes.update(line.split(maxsplit=5)[4] for line in lines if f" {SHARED_MEMORY}/" in line)
    return inodes
