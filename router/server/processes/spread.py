"""Routes of a router of several processes: whose business a call is."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import orjson

from router.endpoints.routes import Handler, Route
from router.errors import NotFound
from router.http.asgi import JSON_HEADERS, while_connected
from router.http.client_request import Call
from router.observability.prometheus import CONTENT_TYPE
from router.server.processes.merge import merge_info, merge_metrics, merge_runs, merge_worker, merge_workers
from router.server.processes.peers import TELL_PATIENCE, Peers, Told, answer_told, parsed

CHANGES = "/internal/changes"
MOST_CHANGES = 10_000


class Change(NamedTuple):
    """A call of an operator that changed something."""

    method: str
    path: str
    body: str


Merge = Callable[[Sequence[dict[str, Any]]], dict[str, Any]]
MERGED: dict[str, Merge] = {
    "/workers": merge_workers,
    "/workers/{id}": merge_worker,
    "/runs": merge_runs,
    "/server_info": merge_info,
    "/get_server_info": merge_info,
}


class Spread:
    """Wraps the handlers of routes that are about more than one process.

    What comes over the private socket is for this process alone.

    Args:
        peers: The processes.
    """

    def __init__(self, peers: Peers) -> None:
        self._peers = peers
        self._changes: deque[Change] = deque(maxlen=MOST_CHANGES)

    async def catch_up(self, apply: Callable[[Change], None]) -> None:
        """Apply what operators changed before this process began, as the one tells it that knows most of it.

        Others may have begun again with this one, and know nothing yet.
        """
        told = await self._peers.ask_others(CHANGES) if self._peers.again else []
        for each in max(map(orjson.loads, told), key=len, default=[]):
            change = Change(*each)
            self._changes.append(change)
            apply(change)

    def over(self, routes: Sequence[Route]) -> list[Route]:
        """The routes, and one for the processes themselves."""
        own = Route("GET", CHANGES, self._tell_changes, "What operators changed", public=True)
        return [*(replace(route, handler=self._wrapped(route)) for route in routes), own]

    def _wrapped(self, route: Route) -> Handler:
        if route.path.startswith("/runs/"):
            return self._owned(route.handler)
        if route.path == "/metrics":
            return self._all(route.handler, self._answer_metrics)
        if route.path == "/readiness":
            return self._all(route.handler, self._answer_worst)
        if route.method == "GET" and route.path in MERGED:
            return self._all(route.handler, self._answering(MERGED[route.path]))
        if route.path.startswith("/workers") and route.method in {"POST", "DELETE"}:
            return self._everywhere(route.handler)
        return route.handler

    def _owned(self, handler: Handler) -> Handler:
        async def handle(call: Call, run: str) -> None:
            owner = self._peers.owner(run)
            if call.internal or owner == self._peers.index:
                await handler(call, run)
            else:
                await self._peers.pass_on(call, owner, await call.body(), TELL_PATIENCE)

        return handle

    def _all(self, handler: Handler, answer: Callable[[Call, list[Told]], Awaitable[None]]) -> Handler:
        async def handle(call: Call, *variable: str) -> None:
            if call.internal:
                await handler(call, *variable)
                return
            await call.body()
            told: list[Told] = []

            async def ask() -> None:
                told.extend(await self._peers.ask_all(call))

            await while_connected(call, ask())
            await answer(call, told)

        return handle

    def _everywhere(self, handler: Handler) -> Handler:
        async def handle(call: Call, *variable: str) -> None:
            if call.internal:
                raw = await call.read_ahead()
                await handler(call, *variable)
                if call.status < 400:
                    # A removal has no need of a body, and nobody has looked at the one that it may have.
                    body = raw.decode() if call.method == "POST" else ""
                    self._changes.append(Change(call.method, call.path, body))
                return
            await answer_told(call, await self._peers.tell_all(call, await call.body()))

        return handle

    async def _tell_changes(self, call: Call) -> None:
        if not call.internal:
            raise NotFound(f"there is no {call.path} here; GET /openapi.json tells all paths.")
        await call.answer_json([list(each) for each in self._changes])

    @staticmethod
    async def _answer_metrics(call: Call, told: list[Told]) -> None:
        # In a thread: with many processes it takes longer than a request may be held up.
        text = await asyncio.to_thread(merge_metrics, [each.body for each in told if each.status == 200])
        await call.answer(200, text, [(b"content-type", CONTENT_TYPE)])

    @staticmethod
    async def _answer_worst(call: Call, told: list[Told]) -> None:
        await answer_told(call, max(told, key=lambda each: each.status))

    @staticmethod
    def _answering(merge: Merge) -> Callable[[Call, list[Told]], Awaitable[None]]:
        async def answer(call: Call, told: list[Told]) -> None:
            if well := parsed(told):
                await call.answer(200, orjson.dumps(merge(well)), JSON_HEADERS)
            else:
                await answer_told(call, told[0])

        return answer
