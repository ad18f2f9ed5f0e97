"""Clients that each request one run after another: `python -m router.bench.moa.clients URL ARM CLIENTS RUNS`.

Prints one JSON line: the seconds of each run, and how many agents ended in each state.
"""

import asyncio
import sys
import time
from collections import Counter

import orjson
import uvloop

from router.http_client.origin import Origin


async def client(origin: Origin, arm: str, runs: int, seconds: list[float], states: Counter[str]) -> None:
    """Request `runs` runs, one after another."""
    body = orjson.dumps({"model": "moa", "messages": [{"role": "user", "content": "Why?"}], "moa": {"arm": arm}})
    for _ in range(runs):
        started = time.monotonic()
        async with await origin.request("POST", "/v1/chat/completions", body) as response:
            payload = orjson.loads(await response.read())
        if response.status != 200:
            raise SystemExit(f"a run failed with {response.status}: {payload}")
        seconds.append(time.monotonic() - started)
        states.update(agent["state"] for agent in payload["moa"]["agents"])


async def main(url: str, arm: str, clients: int, runs: int) -> None:
    """Run all clients at the same time, and print the result."""
    origin = Origin(url)
    seconds: list[float] = []
    states: Counter[str] = Counter()
    await asyncio.gather(*(client(origin, arm, runs, seconds, states) for _ in range(clients)))
    print(orjson.dumps({"seconds": seconds, "states": states}).decode())


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
