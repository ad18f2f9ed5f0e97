"""A steady load of mixed requests on one router."""

import asyncio
import random
import time
from collections import Counter
from dataclasses import dataclass, field

from router.bench.memory.requests import Request, draw
from router.errors import RouterError
from router.http_client.origin import Origin

SECONDS = 30.0  # for an answer


@dataclass
class MixedLoad:
    """Asks at a fixed rate, whether or not the router keeps up.

    Args:
        url: The router.
        rate: Requests a second.
        seed: Of the requests: the same ones for the same seed.

    Attributes:
        results: How often a request was `answered`, its client `left` on purpose, or what else became of it.
    """

    url: str
    rate: float
    seed: int = 1
    results: Counter[str] = field(default_factory=Counter)

    async def run(self, seconds: float) -> None:
        """Ask for so long, and wait for the last answers."""
        origin = Origin(self.url)
        chance = random.Random(self.seed)
        began = time.monotonic()
        try:
            async with asyncio.TaskGroup() as requests:
                for number in range(int(seconds * self.rate)):
                    await asyncio.sleep(began + number / self.rate - time.monotonic())
                    requests.create_task(self._ask(origin, draw(chance)))
        finally:
            origin.close()

    async def _ask(self, origin: Origin, request: Request) -> None:
        try:
            async with (
                asyncio.timeout(SECONDS),
                await origin.request("POST", request.path, request.body) as response,
            ):
                async for _ in response.chunks():
                    if request.leaves:
                        break
        except TimeoutError:
            self.results["no answer in time"] += 1
        except RouterError as error:
            self.results[error.kind] += 1
        else:
            answered = "left" if request.leaves else "answered"
            self.results[answered if response.status == 200 else str(response.status)] += 1
