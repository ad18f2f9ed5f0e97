"""How soon there are answers after a kill: from the servers, asked by hand, and from the router."""

import asyncio
import random
import time
from collections.abc import Callable
from typing import Any

import httpx
import psutil

from tests.kills.record import Kill
from tests.kills.requests import MODEL, ONE_TOKEN
from tests.kills.rig import PROCESSES, Pair, Rig, Server
from tests.watched import runs

POLL_SECONDS = 0.05
BACK_SECONDS = 180.0  # within which everything must be as before
LEG_SECONDS = 10.0  # for a generation by hand; a server that is about to end, or new, may never answer
FRESH = 4  # connections at once, some of which go to the new router process
ROOMS = random.SystemRandom()


class Watch:
    """Follows one kill, in whose moment it is made; its methods return when all is as before, or is not in time.

    Args:
        rig: What runs.
        kill: Gets what is found.
        judges: How many there were before the kill.
    """

    def __init__(self, rig: Rig, kill: Kill, judges: int) -> None:
        self._rig = rig
        self._kill = kill
        self._judges = judges
        self._began = time.monotonic()

    def _since(self) -> float:
        return time.monotonic() - self._began

    async def server(self, server: Server, leader: psutil.Process) -> None:
        """After the end of a server its pair generates again, and the router that has no other pair answers.

        The leader of a server ends some seconds after another process of it; what it still answers does not count.
        """
        pair = self._rig.pair_of(server)
        while runs(leader) and self._since() < BACK_SECONDS:  # noqa: ASYNC110 - no event tells the end of a process
            await asyncio.sleep(POLL_SECONDS)
        await asyncio.gather(self._generate(pair), self._router(pair.router, 1))
        self._kill.back = self._kill.generated

    async def router(self, killed: psutil.Process) -> None:
        """After the end of a router process several new connections at once are answered."""

        def back() -> bool:
            return len([each for each in self._rig.router_processes() if each != killed]) == PROCESSES

        await self._both(FRESH, back)

    async def judge(self, killed: psutil.Process) -> None:
        """After the end of a judge the router answers, and starts another one once a tree needs it."""

        def back() -> bool:
            return len([each for each in self._rig.judges() if each != killed]) >= self._judges

        await self._both(1, back)

    async def _both(self, connections: int, back: Callable[[], bool]) -> None:
        """Where no server was killed: any pair generates, and the router that has both answers."""
        pair = self._rig.pairs[0]
        await asyncio.gather(self._generate(pair), self._router(self._rig.router, connections), self._back(back))

    async def _back(self, there: Callable[[], bool]) -> None:
        while self._since() < BACK_SECONDS:
            if await asyncio.to_thread(there):
                self._kill.back = self._since()
                return
            await asyncio.sleep(0.2)

    async def _generate(self, pair: Pair) -> None:
        async with httpx.AsyncClient(timeout=LEG_SECONDS, trust_env=False) as client:
            while self._since() < BACK_SECONDS:
                if await generated(client, pair):
                    self._kill.generated = self._since()
                    return
                await asyncio.sleep(POLL_SECONDS)

    async def _router(self, url: str, connections: int) -> None:
        while self._since() < BACK_SECONDS:
            if all(await asyncio.gather(*(answers(url) for _ in range(connections)))):
                self._kill.answered = self._since()
                return
            await asyncio.sleep(POLL_SECONDS)


async def generated(client: httpx.AsyncClient, pair: Pair) -> bool:
    """Whether a pair, asked by hand, generates a token."""
    room = ROOMS.getrandbits(62)
    body = _one_token(bootstrap_host="127.0.0.1", bootstrap_port=pair.bootstrap_port, bootstrap_room=room)
    servers = (pair.prefill, pair.decode)
    try:
        for server in servers:  # a leg without the other one would wait
            (await client.get(f"{server.url}/model_info")).raise_for_status()
        legs = await asyncio.gather(*(client.post(f"{server.url}/generate", json=body) for server in servers))
    except httpx.HTTPError:
        return False
    return all(leg.status_code == 200 for leg in legs)


async def answers(url: str) -> bool:
    """Whether a router answers a request on a new connection."""
    async with httpx.AsyncClient(timeout=120, trust_env=False) as client:
        try:
            return (await client.post(f"{url}/generate", json=_one_token())).status_code == 200
        except httpx.TransportError:
            return False


def _one_token(**more: Any) -> dict[str, Any]:
    return {"model": MODEL, "text": "Hello", "sampling_params": ONE_TOKEN, **more}
