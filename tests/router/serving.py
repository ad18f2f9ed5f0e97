"""The whole router in this process, on a free port, for tests that need real clients."""

import asyncio
import functools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from router.app import App
from router.exit import Judging
from router.settings import Settings
from tests.router.aio import until
from tests.router.fakes import FakePair, started


@dataclass
class Serving:
    """A running router and its fake workers."""

    app: App
    url: str
    port: int
    pairs: tuple[FakePair, ...]
    http: httpx.AsyncClient

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
    plain: tuple[str, ...] = (),
    runs: tuple[int, int] = (256, 64),
    judge: Judging | None = None,
) -> AsyncIterator[Serving]:
    """A router over fake pairs, listening."""
    async with started(*pairs):
        settings = Settings(
            prefill=tuple((pair.prefill.url, 1) for pair in pairs),
            decode=tuple(pair.decode.url for pair in pairs),
            max_payload_bytes=max_body,
            probe_interval=60.0,
            trees=trees,
            plain=plain,
            max_runs=runs[0],
            max_runs_per_client=runs[1],
        )
        app = App(settings, judge)
        # uvicorn's protocol without its server, whose main loop ticks too slowly for many short tests.
        config = uvicorn.Config(app, http="httptools", log_level="critical")
        config.load()
        state = ServerState()
        protocol = functools.partial(HttpToolsProtocol, config=config, server_state=state, app_state={})
        await app.start()
        server = await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", 0)
        port: int = server.sockets[0].getsockname()[1]
        url = f"http://127.0.0.1:{port}"
        try:
            async with httpx.AsyncClient(base_url=url, timeout=5.0, verify=False, trust_env=False) as http:
                yield Serving(app, url, port, pairs, http)
        finally:
            server.close()
            for connection in [*state.connections]:
                connection.shutdown()
            await until(lambda: not state.tasks, "every request has ended")
            await app.stop()
