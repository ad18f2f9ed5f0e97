"""The mixed load: clients that ask one thing after another until they are told to stop."""

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

import httpx

from tests.kills.answers import judge
from tests.kills.record import HANG_SECONDS, Outcome
from tests.kills.requests import Request, draw

PAUSE_SECONDS = 10.0  # at most, between two requests of a client: an answer shall not wait for the cores
TOLD = 300  # characters that are kept of what is no answer


@dataclass(frozen=True)
class Clients:
    """Several clients of one router."""

    router: str
    url: str
    count: int
    trees: bool


class Load:
    """Requests of all clients, one after another with short pauses; each draws its own from the seed and its number."""

    def __init__(self, groups: list[Clients], seed: int) -> None:
        self.outcomes: list[Outcome] = []
        self._groups = groups
        self._seed = seed
        self._stopped = asyncio.Event()
        self._zero = time.monotonic()
        self._tasks: list[asyncio.Task[None]] = []

    def now(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self._zero

    def begin(self) -> None:
        """Let the clients ask."""
        self._zero = time.monotonic()
        numbers = iter(range(1000))
        for group in self._groups:
            for _ in range(group.count):
                self._tasks.append(asyncio.create_task(self._client(group, next(numbers))))

    async def end(self) -> None:
        """Let every client end what it has under way."""
        self._stopped.set()
        await asyncio.gather(*self._tasks)

    async def _client(self, group: Clients, number: int) -> None:
        chance = random.Random(f"{self._seed} {number}")
        # Some stay with one process of a router, others have a new connection for each request.
        limits = httpx.Limits(max_keepalive_connections=number % 2)
        async with httpx.AsyncClient(base_url=group.url, timeout=None, limits=limits, trust_env=False) as client:
            while not self._stopped.is_set():
                outcome = await ask(client, group.router, draw(chance, trees=group.trees), self.now)
                self.outcomes.append(outcome)
                await asyncio.sleep(chance.uniform(0, PAUSE_SECONDS))


async def ask(client: httpx.AsyncClient, router: str, request: Request, now: Callable[[], float]) -> Outcome:
    """What becomes of one request."""
    outcome = Outcome(request.kind, router, "hung" if request.leaves is None else "left", 0, now(), 0.0)
    try:
        async with (
            asyncio.timeout(HANG_SECONDS if request.leaves is None else request.leaves),
            client.stream("POST", request.path, json=request.body) as response,
        ):
            outcome.status = response.status_code
            text = (await response.aread()).decode()
        outcome.result = judge(request, outcome.status, text)
        if outcome.result != "answer":
            outcome.told = text[-TOLD:]
    except TimeoutError:
        pass
    except httpx.TransportError as error:
        outcome.result, outcome.told = "cut", f"{type(error).__name__}: {error}"[:TOLD]
    outcome.ended = now()
    return outcome
