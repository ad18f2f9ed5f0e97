"""The whole router in this process, on a free port, for tests that need real clients."""

import asyncio
import functools
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from uvicorn.server import ServerState

from router.cli.parser import parse
from router.dispatch.dispatcher import Dispatcher
from router.dispatch.retries import RetrySettings
from router.early_exit import AgreementJudge
from router.endpoints.routes import RouteTable
from router.http.client_request import ClientRequest
from router.server.admission import AdmissionLimits
from router.server.app import App
from router.server.components import Components, build_components
from router.server.connections.timeouts import protocol_with_timeouts
from router.server.processes.peers import Peers
from router.server.settings import RouterSettings, ServerSettings
from router.tls.contexts import client_context
from router.worker_supervision.supervisor import WorkerSupervisor
from router.workers.health import HealthSettings
from router.workers.load_monitor import LoadMonitor
from router.workers.registry import Registry
from tests.router.support.aio import until
from tests.router.support.fakes import FakePair, FakeServer, Handler, started


@dataclass
class Serving:
    """A running router and its fake workers; `connections` are its clients'."""

    app: App
    url: str
    port: int
    pairs: tuple[FakePair, ...]
    http: httpx.AsyncClient
    connections: set[Any]

    @property
    def load_monitor(self) -> LoadMonitor:
        return next(each for each in self.supervisor._monitors if isinstance(each, LoadMonitor))

    @property
    def components(self) -> Components:
        return self.app.components

    @property
    def registry(self) -> Registry:
        return self.components.workers.registry

    @property
    def dispatcher(self) -> Dispatcher:
        return self.components.workers.dispatcher

    @property
    def supervisor(self) -> WorkerSupervisor:
        return self.components.workers.supervisor

    @property
    def routes(self) -> RouteTable:
        return self.components.endpoints.routes

    @property
    def limits(self) -> AdmissionLimits:
        return self.components.clients.limits

    @property
    def requests(self) -> set[ClientRequest]:
        """Those in flight."""
        return self.components.clients.requests

    async def post(self, path: str, body: Any) -> httpx.Response:
        return await self.http.post(path, json=body)

    @asynccontextmanager
    async def http_from(self, address: str) -> AsyncIterator[httpx.AsyncClient]:
        """Another client: one at another address of this machine, such as 127.0.0.2."""
        transport = httpx.AsyncHTTPTransport(local_address=address, verify=False)
        async with httpx.AsyncClient(base_url=self.url, timeout=60.0, transport=transport) as http:
            yield http

    async def answered(self) -> None:
        """Every answer is over; its client may have had the last byte a moment before."""
        await until(lambda: not self.requests, "every answer is over")

    async def settled(self) -> None:
        """No load is counted, and no generation is held open on any worker."""
        await until(lambda: all(worker.load.requests == 0 for worker in self.registry.workers), "all loads are 0")
        await self.dispatcher.close()

    async def freed(self) -> None:
        """`settled`, and no connection is left on any worker."""
        await self.settled()
        self.registry.close()
        for pair in self.pairs:
            for fake in (pair.prefill, pair.decode):
                await until(lambda fake=fake: not fake.server.open, f"{fake.role} is free")  # type: ignore[misc]


@asynccontextmanager
async def serving(
    *pairs: FakePair,
    trees: Path | None = None,
    max_body: int = 1 << 20,
    server: ServerSettings | None = None,
    judge: AgreementJudge | None = None,
    **settings: Any,
) -> AsyncIterator[Serving]:
    """A router over fake pairs, listening; it tries once, and asks for no first generation, unless told otherwise."""
    async with started(*pairs):
        server = replace(server or ServerSettings(), max_payload_bytes=max_body)
        components = build_components(_settings(pairs, trees, server, settings), judge)
        async with _listening(components, pairs) as router:
            yield router


@asynccontextmanager
async def serving_as(*arguments: str) -> AsyncIterator[Serving]:
    """A router as a command line starts it, but on a free port; its workers are nobody's here."""
    async with _listening(build_components(parse([*arguments])), ()) as router:
        yield router


@asynccontextmanager
async def together(
    *pairs: FakePair,
    folder: Path,
    count: int = 2,
    fakes: Sequence[Handler] = (),
    again: bool = False,
    server: ServerSettings | None = None,
    **settings: Any,
) -> AsyncIterator[list[Serving]]:
    """Several processes of one router, all of them in this one; behind them some that only do as they are told."""
    paths = [folder / str(index) for index in range(count + len(fakes))]
    async with started(*pairs), AsyncExitStack() as stack:
        for handler, path in zip(fakes, paths[count:], strict=True):
            await stack.enter_async_context(FakeServer(handler, path))
        routers = []
        for index, path in enumerate(paths[:count]):
            components = build_components(
                _settings(pairs, None, server or ServerSettings(), settings), peers=Peers(index, paths, restarted=again)
            )
            routers.append(await stack.enter_async_context(_listening(components, pairs, path)))
        yield routers


def _settings(
    pairs: tuple[FakePair, ...], trees: Path | None, server: ServerSettings, more: dict[str, Any]
) -> RouterSettings:
    more.setdefault("retries", RetrySettings(disable_retries=True))
    more.setdefault("igw", True)  # most tests have one model alone, and shall see a wrong name
    more.setdefault("health", HealthSettings(skip_warm_up=True, probe_interval_secs=60))
    prefill = tuple((pair.prefill.url, 1) for pair in pairs)
    return RouterSettings(prefill, tuple(pair.decode.url for pair in pairs), trees=trees, server=server, **more)


@asynccontextmanager
async def _listening(
    components: Components, pairs: tuple[FakePair, ...], private: Path | None = None
) -> AsyncIterator[Serving]:
    app, settings = App(components), components.settings
    # uvicorn's protocol without its server, whose main loop ticks too slowly for many short tests.
    limited = protocol_with_timeouts(settings.server.client_timeout_secs, components.clients.connection_timeouts)
    config = uvicorn.Config(app, http=limited, log_level="critical", log_config=None)
    config.load()
    state = ServerState()
    protocol = functools.partial(limited, config=config, server_state=state, app_state={})
    await app.start()
    loop = asyncio.get_running_loop()
    tls = client_context(settings.tls)
    listening = [await loop.create_server(protocol, "127.0.0.1", 0, ssl=tls)]
    if private is not None:
        listening.append(await loop.create_unix_server(protocol, str(private)))
    port: int = listening[0].sockets[0].getsockname()[1]
    url = f"{'http' if tls is None else 'https'}://127.0.0.1:{port}"
    try:
        async with httpx.AsyncClient(base_url=url, timeout=60.0, verify=False, trust_env=False) as http:
            yield Serving(app, url, port, pairs, http, state.connections)
    finally:
        for each in listening:
            each.close()
        for connection in [*state.connections]:
            connection.shutdown()
        await until(lambda: not state.tasks, "every request has ended")
        await app.stop()
