"""A launcher run as a command, watched so that nothing it started can go unnoticed."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from router.server.processes.parent_death_signal import start_child
from tests.e2e.servers import wait_for
from tests.watched import Watched, shared_files


class Launched(Watched):
    """`python -m launch.pd` with its output in a file."""

    def __init__(self, arguments: list[str], folder: Path, **environment: str) -> None:
        self.output = folder / "launch.out"
        before = shared_files()
        with self.output.open("wb") as out:
            popen = start_child(
                [sys.executable, "-m", "launch.pd", "--logs", str(folder / "logs"), *arguments],
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONUNBUFFERED": "1", "COLUMNS": "160", **environment},
                start_new_session=True,
            )
        super().__init__(popen, before)

    def text(self) -> str:
        return self.output.read_text(errors="replace")

    def wait_for(self, words: str, seconds: float) -> None:
        found = wait_for(lambda: words in self.text() or self.popen.poll() is not None, seconds)
        assert found, f"{words!r} did not come:\n{self.text()}"
        assert words in self.text(), self.text()

    def end(self, number: signal.Signals, seconds: float = 300.0) -> int:
        self.popen.send_signal(number)
        return self.popen.wait(seconds)

    @contextmanager
    def ready(self, seconds: float) -> Iterator[None]:
        """Wait until the servers serve; whatever happens then, the launcher is ended on exit."""
        try:
            self.wait_for("ready: http", seconds)
            yield
        finally:
            if self.popen.poll() is None:
                self.end(signal.SIGTERM)
