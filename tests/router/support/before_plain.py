"""A router before servers that start and stop with it."""

from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any, Generic, Self, TypeVar

from tests.router.support.fakes import FakeServer
from tests.router.support.serving import Serving, serving

Server = TypeVar("Server", bound=FakeServer)


class BeforePlain(Generic[Server]):
    """A router before plain servers.

    Args:
        servers: They start with it.
        settings: The router's, as of `serving`.
    """

    def __init__(self, servers: Sequence[Server], **settings: Any) -> None:
        self.servers = servers
        self._settings = settings
        self._stack = AsyncExitStack()
        self.router: Serving

    async def __aenter__(self) -> Self:
        for server in self.servers:
            await self._stack.enter_async_context(server)
        urls = tuple(server.url for server in self.servers)
        self.router = await self._stack.enter_async_context(serving(plain=urls, **self._settings))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()
