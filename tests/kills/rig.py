"""What is killed: two launched pairs of one model, and a router of several processes that has both."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import orjson
import psutil

from launch.machine.ports import free_ports
from launch.models.packaged import prepare
from router.server.processes.parent_death_signal import start_child
from tests.e2e.fewer_layers import first_layers
from tests.e2e.launched import Launched
from tests.e2e.servers import is_quiet, overlay_state, wait_for
from tests.kills.record import REQUEST_SECONDS, Held
from tests.kills.requests import MODEL, small_tree
from tests.watched import Watched, shared_files

PAIRS = ("a", "b")
PROCESSES = 2  # of the router that has both pairs
LAYERS = 8  # of 30: what is tried is how soon the servers are there again, and not how fast a CPU multiplies
START_SECONDS = 600.0
READY = re.compile(r"ready: (http://[\d.:]+)/v1")


@dataclass(frozen=True)
class Server:
    """A server of a pair."""

    name: str
    role: str
    url: str
    launched: Launched

    def processes(self) -> list[psutil.Process]:
        """Those of it: first the one that serves, then which schedules and which makes text of tokens."""
        leader = psutil.Process(self.launched.listening(self.url))
        return [leader, *leader.children()]


@dataclass(frozen=True)
class Pair:
    """A launched pair with its own router, which has no other."""

    name: str
    router: str
    prefill: Server
    decode: Server
    bootstrap_port: int


@dataclass
class Rig:
    """All that was started."""

    folder: Path
    pairs: list[Pair] = field(default_factory=list)
    router: str = ""
    watched: list[Watched] = field(default_factory=list)

    @property
    def servers(self) -> list[Server]:
        """All four."""
        return [server for pair in self.pairs for server in (pair.prefill, pair.decode)]

    def pair_of(self, server: Server) -> Pair:
        """The pair that a server belongs to."""
        return next(pair for pair in self.pairs if server in (pair.prefill, pair.decode))

    def router_processes(self) -> list[psutil.Process]:
        """Those that answer the requests of the router that has both pairs."""
        return psutil.Process(self.watched[-1].popen.pid).children()

    def judges(self) -> list[psutil.Process]:
        """The judges' processes, which load their model at the first need."""
        below = psutil.Process(self.watched[-1].popen.pid).children(recursive=True)
        return [process for process in below if "router.early_exit.judge_main" in _command(process)]

    def held(self) -> Held:
        """What all servers hold."""
        states = {server.name: overlay_state(server.url)["kv"] for server in self.servers}
        return Held(
            free_kv={name: kv["free"] + kv["evictable"] for name, kv in states.items()},
            busy=[server.name for server in self.servers if not is_quiet(server.url)],
            shared=len({file for each in self.watched for file in each.held()}),
        )

    def quiet(self) -> bool:
        """Whether no server has a request or holds KV."""
        try:
            return all(is_quiet(server.url) for server in self.servers)
        except httpx.TransportError:
            return False

    def left(self) -> list[str]:
        """What outlived the launchers and the router."""
        return [each for watched in self.watched for each in watched.left()]


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []


@contextmanager
def running_rig(folder: Path) -> Iterator[Rig]:
    """Start everything, and stop it in the end."""
    rig = Rig(folder)
    model = first_layers(prepare("smollm2"), LAYERS, folder / "model")
    first = 18_000 + os.getpid() % 80 * 120  # away from the ports of launches and of other runs
    with ExitStack() as stack:
        for index, name in enumerate(PAIRS):
            rig.pairs.append(_launch(rig, name, model, first + 40 * index, stack))
        rig.router = _start_router(rig, next(free_ports(start=first + 80)), stack)
        yield rig


def _launch(rig: Rig, name: str, model: Path, first_port: int, stack: ExitStack) -> Pair:
    folder = rig.folder / name
    folder.mkdir(parents=True)
    config = folder / "pair.yaml"
    config.write_text(_config(model))
    ports = free_ports(start=first_port)
    arguments = ["--config", str(config), "--port", str(next(ports)), "--server-ports", str(next(ports))]
    launched = Launched(arguments, folder)
    rig.watched.append(launched)
    stack.callback(_end, launched)
    launched.wait_for("ready: http", START_SECONDS)
    found = READY.search(launched.text())
    assert found is not None
    workers = httpx.get(f"{found.group(1)}/workers", timeout=60, trust_env=False).json()["workers"]
    told = {worker["role"]: worker for worker in workers}
    prefill, decode = (Server(f"{role} {name}", role, told[role]["url"], launched) for role in ("prefill", "decode"))
    return Pair(name, found.group(1), prefill, decode, told["prefill"]["bootstrap_port"])


def _config(model: Path) -> str:
    return f"""
models: [{{name: {MODEL}, path: {json.dumps(str(model))}}}]
context_length: 1024
max_total_tokens: 4096
router_args: ['--request-timeout-secs', '{REQUEST_SECONDS:g}']
"""


def _start_router(rig: Rig, port: int, stack: ExitStack) -> str:
    trees = rig.folder / "trees.json"
    trees.write_bytes(orjson.dumps({"trees": [small_tree()]}))
    arguments = ["--pd-disaggregation", "--host", "127.0.0.1", "--port", str(port), "--trees", str(trees)]
    for pair in rig.pairs:
        arguments += ["--prefill", pair.prefill.url, str(pair.bootstrap_port), "--decode", pair.decode.url]
    arguments += ["--workers", str(PROCESSES), "--request-timeout-secs", f"{REQUEST_SECONDS:g}"]
    arguments += ["--worker-probe-interval", "2"]  # as the launcher has it
    before = shared_files()
    with (rig.folder / "router.out").open("wb") as out:
        command = [sys.executable, "-m", "router", *arguments]
        popen = start_child(command, stdout=out, stderr=out, start_new_session=True)
    rig.watched.append(Watched(popen, before))
    stack.callback(_end, rig.watched[-1])
    url = f"http://127.0.0.1:{port}"

    def ready() -> bool:
        try:
            return httpx.get(f"{url}/readiness", timeout=60, trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    assert wait_for(ready, START_SECONDS), (rig.folder / "router.out").read_text()
    return url


def _end(watched: Watched) -> None:
    """As an operator would; a launch or router that does not end is killed."""
    watched.popen.send_signal(signal.SIGTERM)
    try:
        watched.popen.wait(240)
    except subprocess.TimeoutExpired:
        watched.popen.kill()
        watched.popen.wait()
