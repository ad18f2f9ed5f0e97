"""Clients that each request one run after another: `python -m router.bench.moa.clients URL ARM CLIENTS RUNS`.

ARM is an arm of the tree `moa`, or `long`: then each run is one agent's request to `/generate` with log-probabilities.
Prints one JSON line: the seconds of each run, and how many agents ended in each state.
"""

import asyncio
import sys
import time
import uuid
from collections import Counter
from typing import Any

import orjson
import uvloop

from router.http_client.origin import Origin

LONG = "long"


async def client(origin: Origin, arm: str, runs: int, seconds: list[float], states: Counter[str]) -> None:
    """Request `runs` runs, one after another."""
    for _ in range(runs):
        started = time.monotonic()
        path, body = _long_answer() if arm == LONG else _tree(arm)
        async with await origin.request("POST", path, orjson.dumps(body)) as response:
            payload = orjson.loads(await response.read())
        if response.status != 200:
            raise SystemExit(f"a run failed with {response.status}: {payload}")
        seconds.append(time.monotonic() - started)
        states.update(["done"] if arm == LONG else [agent["state"] for agent in payload["moa"]["agents"]])


def _tree(arm: str) -> tuple[str, dict[str, Any]]:
    return "/v1/chat/completions", {
        "model": "moa",
        "messages": [{"role": "user", "content": f"Why {uuid.uuid4()}?"}],
        "moa": {"arm": arm},
    }


def _long_answer() -> tuple[str, dict[str, Any]]:
    """One agent of a run of its own: the router reads its stream, and answers with the last event."""
    return "/generate", {"run": uuid.uuid4().hex, "agent": "long", "input_ids": [1, 2, 3], "return_logprob": True}


async def main(url: str, arm: str, clients: int, runs: int) -> None:
    """Run all clients at the same time, and print the result."""
    origin = Origin(url)
    seconds: list[float] = []
    states: Counter[str] = Counter()
    await asyncio.gather(*(client(origin, arm, runs, seconds, states) for _ in range(clients)))
    print(orjson.dumps({"seconds": seconds, "states": states}).decode())


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
