"""The kinds of abuse: `python -m router.bench.abuse.abuses NAME URL SECONDS` does one of them, and prints its statuses.

An abuse is an async function that does one unit of it; `ABUSES` says how many of them go on side by side. A new kind is
a function and its line there.
"""

import asyncio
import itertools
import os
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import orjson
import uvloop

from router.bench.abuse.fake_pair import ABUSED, HANG
from router.errors import RouterError
from router.http_client.origin import Origin

CHAT = "/v1/chat/completions"
TREE = "abused-tree"  # thirteen agents
MIB = 1 << 20
_numbers = (f"{os.getpid()}-{number}" for number in itertools.count())  # names of runs are given once
HEADERS = (("x-forwarded-for", "10.0.0.1"),)  # without a key, clients are told apart by their addresses


class Abuser:
    """Sends requests to the router and counts the statuses of its answers."""

    def __init__(self, url: str) -> None:
        self._origin = Origin(url)
        self.statuses: Counter[str] = Counter()

    async def post(self, path: str, raw: bytes) -> int:
        """The status of the answer to a request, after all of it has come."""
        try:
            async with await self._origin.request("POST", path, raw, HEADERS) as response:
                await response.read()
        except RouterError as error:
            self.statuses[type(error).__name__] += 1
            return 0
        self.statuses[str(response.status)] += 1
        return response.status

    async def leave(self, path: str, raw: bytes, seconds: float) -> None:
        """Send a request, and close the connection after some time."""
        with suppress(TimeoutError, RouterError):
            async with asyncio.timeout(seconds):
                async with await self._origin.request("POST", path, raw, HEADERS) as response:
                    async for _ in response.chunks():
                        pass
        self.statuses["left"] += 1


def _agent(run: str, agent: str, text: str) -> bytes:
    messages = [{"role": "user", "content": text}]
    return orjson.dumps({"model": ABUSED, "run": run, "agent": agent, "messages": messages, "max_tokens": 16})


def _tree(text: str = "Why?", **options: Any) -> bytes:
    return orjson.dumps({"model": TREE, "messages": [{"role": "user", "content": text}], **options})


def _place(name: str) -> str:
    return f"<|answer:{name}|> "


_MANY_NAMES = "".join(_place(f"n{index}") for index in range(100_000))
_LONG_QUESTION = _tree("why " * (2 * MIB))
_BATCH = orjson.dumps({"model": ABUSED, "text": ["why"] * 1000, "stream": True})
_LONG_BODY = orjson.dumps({"model": ABUSED, "text": "x" * (16 * MIB)})


async def places(abuser: Abuser) -> None:
    """A prompt of 8,000 places."""
    run = f"places-{next(_numbers)}"
    reader = asyncio.create_task(abuser.post(CHAT, _agent(run, "reader", _place("a") * 8000)))
    await abuser.post(CHAT, _agent(run, "a", "Speak."))
    await reader


async def names(abuser: Abuser) -> None:
    """A prompt that reads 100,000 agents, 2 MB."""
    await abuser.post(CHAT, _agent(f"names-{next(_numbers)}", "reader", _MANY_NAMES))


async def chunks(abuser: Abuser) -> None:
    """An early exit whose answers are to be embedded in 50 million chunks."""
    await abuser.post(CHAT, _tree(moa={"arm": "exit", "exit": {"m": 50_000_000}}))


async def batch(abuser: Abuser) -> None:
    """A batch of 1,000 prompts whose client leaves."""
    await abuser.leave("/generate", _BATCH, 0.05)


async def questions(abuser: Abuser) -> None:
    """A question of 8 MiB to a tree, which its servers refuse."""
    await abuser.post(CHAT, _LONG_QUESTION)


async def bodies(abuser: Abuser) -> None:
    """A body of 16 MiB, of which the router keeps a few at once."""
    await abuser.post("/generate", _LONG_BODY)


async def readers(abuser: Abuser) -> None:
    """Eighty agents that wait for another one, which comes last."""
    run = f"readers-{next(_numbers)}"
    waiting = [asyncio.create_task(abuser.post(CHAT, _agent(run, f"r{i}", _place("a")))) for i in range(80)]
    await asyncio.sleep(0.3)
    await abuser.post(CHAT, _agent(run, "a", "Speak."))
    await asyncio.gather(*waiting)


async def runs(abuser: Abuser) -> None:
    """Another named run, thousands in all."""
    await abuser.post(CHAT, _agent(f"run-{next(_numbers)}", "a", "Speak."))


async def trees(abuser: Abuser) -> None:
    """A tree of thirteen calls."""
    await abuser.post(CHAT, _tree())


async def hung(abuser: Abuser) -> None:
    """A tree whose servers never tokenize; its client leaves after a second."""
    await abuser.leave(CHAT, _tree(HANG), 1.0)


@dataclass(frozen=True)
class Abuse:
    """A kind of abuse.

    Attributes:
        unit: Does it once.
        at_once: How many go on side by side.
        pause: Seconds after each.
    """

    unit: Callable[[Abuser], Awaitable[None]]
    at_once: int = 1
    pause: float = 0.0


ABUSES = {
    "places": Abuse(places, pause=0.2),
    "names": Abuse(names, pause=0.1),
    "chunks": Abuse(chunks, 2, pause=0.01),
    "batch": Abuse(batch, pause=0.5),
    "questions": Abuse(questions, pause=0.2),
    "bodies": Abuse(bodies, 8, pause=1.0),
    "readers": Abuse(readers, pause=0.2),
    "runs": Abuse(runs, 8, pause=0.02),
    "trees": Abuse(trees, 4, pause=0.1),
    "hung": Abuse(hung, 30, pause=0.1),
}


async def abuse_for(name: str, url: str, seconds: float) -> Counter[str]:
    """Go on with one kind of abuse for some seconds; returns how often which status came."""
    abuse, abuser = ABUSES[name], Abuser(url)
    deadline = time.monotonic() + seconds

    async def repeat() -> None:
        while time.monotonic() < deadline:
            await abuse.unit(abuser)
            await asyncio.sleep(abuse.pause)

    await asyncio.gather(*(repeat() for _ in range(abuse.at_once)))
    return abuser.statuses


if __name__ == "__main__":
    os.nice(10)  # in earnest it has a machine of its own
    print(orjson.dumps(uvloop.run(abuse_for(sys.argv[1], sys.argv[2], float(sys.argv[3])))).decode())
