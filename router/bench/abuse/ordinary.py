"""Ordinary clients: each streams one short answer after another, and notes how long each took."""

import asyncio
import time

import orjson

from router.bench.abuse.fake_pair import ORDINARY
from router.bench.errors import BenchError
from router.http_client.origin import Origin

BODY = orjson.dumps({"model": ORDINARY, "input_ids": [1, 2, 3, 4], "stream": True})
HEADERS = (("x-forwarded-for", "10.0.0.2"),)  # another client than the abuser


async def measure(url: str, clients: int, seconds: float) -> list[float]:
    """The seconds of each answer, sorted. Raises `BenchError` when one fails."""
    origin = Origin(url)
    deadline = time.monotonic() + seconds
    found: list[float] = []

    async def ask() -> None:
        while time.monotonic() < deadline:
            started = time.perf_counter()
            async with await origin.request("POST", "/generate", BODY, HEADERS) as response:
                answer = await response.read()
            if response.status != 200 or b"[DONE]" not in answer:
                raise BenchError(f"an ordinary request got {response.status}: {answer[:200].decode(errors='replace')}")
            found.append(time.perf_counter() - started)

    await asyncio.gather(*(ask() for _ in range(clients)))
    origin.close()
    return sorted(found)
