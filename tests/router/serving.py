"""The whole router in this process, on a free port, for tests that need real clients."""

import asyncio
import functools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from uvicorn.server import ServerState

from router.app import App
from router.exit import Judging
from router.health import HealthSettings
from router.http.impatience import impatient
from router.retries import RetrySettings
from router.settings import ServerSettings, Settings
from tests.router.aio import until
from tests.router.fakes import FakePair, started


@dataclass
class Serving:
    """A running router and its fake workers; `connections` are its clients'."""

    app: App
    url: str
    port: int
    pairs: tuple[FakePair, ...]
    http: httpx.AsyncClient
    connections: set[Any]

    async def post(self, path: str, body: Any) -> httpx.Response:
        return await self.http.post(path, json=body)

    async def settled(self) -> None:
        """No load is counted, and no generation is held open on any worker."""
        await until(lambda: all(worker.load == 0 for worker in self.app.registry.workers), "all loads are 0")
        await self.app.dispatcher.close()

    async def freed(self) -> None:
        """`settled`, and no connection is left on any worker."""
        await self.settled()
        self.app.registry.close()
        for pair in self.pairs:
            for fake in (pair.prefill, pair.decode):
                await until(lambda fake=fake: not fake.server.open, f"{fake.role} is free")  # type: ignore[misc]


@asynccontextmanager
async def serving(
    *pairs: FakePair,
    trees: Path | None = None,
    max_body: int = 1 << 20,
    server: ServerSettings | None = None,
    judge: Judging | None = None,
    **settings: Any,
) -> AsyncIterator[Serving]:
    """A router over fake pairs, listening; it tries once, and asks for no first generation, unless told otherwise."""
    settings.setdefault("retries", RetrySettings(disable_retries=True))
    settings.setdefault("health", HealthSettings(skip_warm_up=True, look_secs=60))
    async with started(*pairs):
        app = App(
            Settings(
                prefill=tuple((pair.prefill.url, 1) for pair in pairs),
                decode=tuple(pair.decode.url for pair in pairs),
                trees=trees,
                server=replace(server or ServerSettings(), max_payload_bytes=max_body),
                **settings,
            ),
            judge,
        )
        # uvicorn's protocol without its server, whose main loop ticks too slowly for many short tests.
        limited = impatient((server or ServerSettings()).client_timeout_secs)
        config = uvicorn.Config(app, http=limited, log_level="critical")
        config.load()
        state = ServerState()
        protocol = functools.partial(limited, config=config, server_state=state, app_state={})
        await app.start()
        listening = await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", 0)
        port: int = listening.sockets[0].getsockname()[1]
        url = f"http://127.0.0.1:{port}"
        try:
            async with httpx.AsyncClient(base_url=url, timeout=5.0, verify=False, trust_env=False) as http:
                yield Serving(app, url, port, pairs, http, state.connections)
        finally:
            listening.close()
            for connection in [*state.connections]:
                connection.shutdown()
            await until(lambda: not state.tasks, "every request has ended")
            await app.stop()
