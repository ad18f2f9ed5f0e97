"""Clients that each ask one run after another: `python -m router.bench.moa.clients URL ARM CLIENTS RUNS`.

Prints one JSON line: seconds of each run, and how often each state of an agent was seen.
"""

import asyncio
import sys
import time
from collections import Counter

import orjson
import uvloop

from router.http_client.origin import Origin


async def client(origin: Origin, arm: str, runs: int, seconds: list[float], states: Counter[str]) -> None:
    """Ask `runs` questions."""
    body = orjson.dumps({"model": "moa", "messages": [{"role": "user", "content": "Why?"}], "moa": {"arm": arm}})
    for _ in range(runs):
        began = time.monotonic()
        async with await origin.request("POST", "/v1/chat/completions", body) as response:
            told = orjson.loads(await response.read())
        if response.status != 200:
            raise SystemExit(f"a run failed with {response.status}: {told}")
        seconds.append(time.monotonic() - began)
        states.update(agent["state"] for agent in told["moa"]["agents"])


async def main(url: str, arm: str, clients: int, runs: int) -> None:
    """Run them all at once."""
    origin = Origin(url)
    seconds: list[float] = []
    states: Counter[str] = Counter()
    await asyncio.gather(*(client(origin, arm, runs, seconds, states) for _ in range(clients)))
    print(orjson.dumps({"seconds": seconds, "states": states}).decode())


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
