"""Two servers or two pairs, a router with default flags, and clients that go on asking while one server is killed."""

import asyncio
import itertools
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import httpx

from router.bench.fake_responses import Role
from router.bench.processes import Process, free_port, running, wait_until_listening
from router.bench.routers import running_router

Servers = Literal["plain", "pairs"]
BOOTSTRAP_PORT = "8998"
CLIENTS = 8
PAUSE = 0.05  # seconds of a client between two requests
REQUEST_TIMEOUT = 30.0


@dataclass
class Requests:
    """What clients got; times in seconds, from the kill on.

    Attributes:
        answered: Requests with status 200.
        failed: When each of the others ended, and with what.
        slowest: The longest time to an answer of those that were sent after the kill.
    """

    answered: int = 0
    failed: list[tuple[float, str]] = field(default_factory=list)
    slowest: float = 0.0


@contextmanager
def servers(kind: Servers, folder: Path) -> Iterator[tuple[list[str], Process]]:
    """Two plain servers or two pairs; gives a router's arguments, and the server that is to die.

    Of pairs it is a decode server, which both legs of a request meet at.
    """
    with ExitStack() as stack:
        started: list[tuple[Process, str]] = []
        roles: tuple[Role, ...] = ("plain", "plain") if kind == "plain" else ("prefill", "decode") * 2
        for number, role in enumerate(roles):
            port = free_port()
            command = [sys.executable, "-m", "router.bench.failover.fake_server", role, str(port)]
            process = stack.enter_context(running(f"{role}-{number}", command, folder))
            wait_until_listening(process, port)
            started.append((process, f"http://127.0.0.1:{port}"))
        urls = [url for _, url in started]
        if kind == "plain":
            arguments = ["--worker-urls", *urls]
        else:
            arguments = ["--pd-disaggregation"]
            for prefill, decode in zip(urls[::2], urls[1::2], strict=True):
                arguments += ["--prefill", prefill, BOOTSTRAP_PORT, "--decode", decode]
        yield arguments, started[1][0]


async def ask(url: str, seconds: float, dying: Process) -> Requests:
    """Ask for as long before a server is killed, and twice as long after."""
    found = Requests()
    begin = time.monotonic()
    killed, end = begin + seconds, begin + 3 * seconds
    numbers = itertools.count()
    limits = httpx.Limits(max_connections=CLIENTS)
    async with httpx.AsyncClient(base_url=url, timeout=REQUEST_TIMEOUT, limits=limits, trust_env=False) as client:

        async def go_on() -> None:
            while time.monotonic() < end:
                sent = time.monotonic()
                problem = await _problem(client, next(numbers))
                now = time.monotonic()
                if problem is None:
                    found.answered += 1
                    if sent > killed:
                        found.slowest = max(found.slowest, now - sent)
                else:
                    found.failed.append((now - killed, problem))
                await asyncio.sleep(PAUSE)

        async with asyncio.TaskGroup() as group:
            for _ in range(CLIENTS):
                group.create_task(go_on())
            await asyncio.sleep(killed - time.monotonic())
            dying.popen.kill()
    return found


async def _problem(client: httpx.AsyncClient, number: int) -> str | None:
    """Send one request; what was wrong with its answer."""
    try:
        # Prompts that have nothing in common, so that no policy sends all of them to one server.
        answer = await client.post("/generate", json={"text": f"{number * 7919 % 10007} is the number"})
    except httpx.HTTPError as error:
        return type(error).__name__
    return None if answer.status_code == 200 else f"status {answer.status_code}"


def measure(name: str, command: Sequence[str], kind: Servers, seconds: float, folder: Path) -> Requests:
    """Ask a router while one of its servers dies.

    Args:
        name: Of the router, in logs.
        command: The program and the arguments that come before those of its servers and its address.
        kind: What it has two of.
        seconds: Before the kill; twice as long after it.
        folder: For logs.

    Raises:
        BenchError: The router or a fake server did not start.
    """
    with servers(kind, folder) as (arguments, dying):
        port = free_port()
        metrics = ["--prometheus-host", "127.0.0.1", "--prometheus-port", str(free_port())]
        whole = [*command, *arguments, "--host", "127.0.0.1", "--port", str(port), "--log-level", "error", *metrics]
        with running_router(name, whole, port, folder) as target:
            return asyncio.run(ask(target.url, seconds, dying))
