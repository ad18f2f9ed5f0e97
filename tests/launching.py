"""Starts the launcher for the jobs that a person runs by hand on a GPU machine, and asks its servers."""

import json
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from router.server.processes.parent_death_signal import start_child
from tests.idle_state import is_idle

START_SECONDS = 900.0
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
PORT = re.compile(r"^(\S+)-(prefill|decode) on .*, port (\d+): ready", re.MULTILINE)
ROUTER_PORT = 30900


@dataclass(frozen=True)
class Launched:
    """A launcher that is ready.

    Attributes:
        process: The launcher.
        router: The router's address.
        ports: The port of each server, by the names of its model and role: `small-prefill`.
        folder: Of the launcher's output, `launch.out`, and the servers' logs, `logs`.
    """

    process: "subprocess.Popen[bytes]"
    router: str
    ports: dict[str, int]
    folder: Path

    @property
    def models(self) -> list[str]:
        """The models' names."""
        return sorted({name.rpartition("-")[0] for name in self.ports})

    def output(self) -> str:
        """What the launcher printed."""
        return (self.folder / "launch.out").read_text()

    def log(self, name: str) -> str:
        """What a server logged."""
        return (self.folder / "logs" / f"{name}.log").read_text(errors="replace")

    def becomes_idle(self, seconds: float = 60.0) -> bool:
        """Whether all servers answer and have nothing to do, within some seconds."""
        deadline = time.monotonic() + seconds
        while not (idle := self._is_idle()) and time.monotonic() < deadline:
            time.sleep(1)
        return idle

    def _is_idle(self) -> bool:
        try:
            return all(is_idle(overlay_of(port)) for port in self.ports.values())
        except OSError:
            return False


def ask(url: str, body: Any = None, timeout: float = 120.0) -> Any:
    """A JSON answer; raises `OSError` when there is none, or the status says failure."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"content-type": "application/json"})
    with DIRECT.open(request, timeout=timeout) as response:
        return json.loads(response.read())


def overlay_of(port: int) -> dict[str, Any]:
    """The overlay's part of a server's `/server_info`."""
    found: dict[str, Any] = ask(f"http://127.0.0.1:{port}/server_info", timeout=30)["internal_states"][0]["sglang_ext"]
    return found


def wait(seconds: float, what: str, done: Callable[[], bool], launcher: "subprocess.Popen[bytes]") -> None:
    """Wait for something; leave with a sentence when it does not come, or the launcher ends."""
    deadline = time.monotonic() + seconds
    while not done():
        if launcher.poll() is not None or time.monotonic() > deadline:
            sys.exit(f"{what} did not come; see the launcher's output.")
        time.sleep(1)


@contextmanager
def launched(config: str, more: Sequence[str]) -> Iterator[Launched]:
    """The launcher with a config and further arguments; stopped on exit."""
    folder = Path(tempfile.mkdtemp(prefix="launched-"))
    print(f"output and logs: {folder}", flush=True)
    command = [sys.executable, "-m", "launch.pd", "--config", config, "--port", str(ROUTER_PORT), *more]
    output = folder / "launch.out"
    with output.open("ab") as out:
        process = start_child([*command, "--logs", str(folder / "logs")], stdout=out, stderr=out)
    try:
        wait(START_SECONDS, "the launch", lambda: "\nready: " in output.read_text(), process)
        ports = {f"{name}-{role}": int(port) for name, role, port in PORT.findall(output.read_text())}
        yield Launched(process, f"http://127.0.0.1:{ROUTER_PORT}", ports, folder)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(120)
