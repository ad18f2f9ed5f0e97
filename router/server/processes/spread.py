"""Routes of a router of several processes: whose business a request is."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import orjson

from router.endpoints.routes import Handler, Route
from router.errors import NotFound
from router.http.asgi import JSON_HEADERS
from router.http.client_request import ClientRequest
from router.http.disconnect import while_connected
from router.observability.prometheus import CONTENT_TYPE
from router.server.processes.merge import merge_info, merge_metrics, merge_runs, merge_worker, merge_workers
from router.server.processes.peers import TELL_PATIENCE, PeerResponse, Peers, parsed_responses, send_peer_response

CHANGES_PATH = "/internal/changes"
MAX_CHANGES = 10_000


class OperatorChange(NamedTuple):
    """A request of an operator that changed something."""

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


class ProcessRouting:
    """Wraps the handlers of routes that are about more than one process.

    What comes over the private socket is for this process alone.

    Args:
        peers: The processes.
    """

    def __init__(self, peers: Peers) -> None:
        self._peers = peers
        self._changes: deque[OperatorChange] = deque(maxlen=MAX_CHANGES)

    async def catch_up(self, apply: Callable[[OperatorChange], None]) -> None:
        """Apply what operators changed before this process began, as the one tells it that knows most of it.

        Others may have begun again with this one, and know nothing yet.
        """
        told = await self._peers.ask_others(CHANGES_PATH) if self._peers.again else []
        for each in max(map(orjson.loads, told), key=len, default=[]):
            change = OperatorChange(*each)
            self._changes.append(change)
            apply(change)

    def over(self, routes: Sequence[Route]) -> list[Route]:
        """The routes, and one for the processes themselves."""
        own = Route("GET", CHANGES_PATH, self._tell_changes, "What operators changed", public=True)
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
        async def handle(request: ClientRequest, run: str) -> None:
            owner = self._peers.owner(run)
            if request.internal or owner == self._peers.index:
                await handler(request, run)
            else:
                await self._peers.pass_on(request, owner, await request.body(), TELL_PATIENCE)

        return handle

    def _all(self, handler: Handler, answer: Callable[[ClientRequest, list[PeerResponse]], Awaitable[None]]) -> Handler:
        async def handle(request: ClientRequest, *variable: str) -> None:
            if request.internal:
                await handler(request, *variable)
                return
            await request.body()
            told: list[PeerResponse] = []

            async def ask() -> None:
                told.extend(await self._peers.ask_all(request))

            await while_connected(request, ask())
            await answer(request, told)

        return handle

    def _everywhere(self, handler: Handler) -> Handler:
        async def handle(request: ClientRequest, *variable: str) -> None:
            if request.internal:
                raw = await request.prefetch_body()
                await handler(request, *variable)
                if request.status < 400:
                    # A removal has no need of a body, and nobody has looked at the one that it may have.
                    body = raw.decode() if request.method == "POST" else ""
                    self._changes.append(OperatorChange(request.method, request.path, body))
                return
            await send_peer_response(request, await self._peers.tell_all(request, await request.body()))

        return handle

    async def _tell_changes(self, request: ClientRequest) -> None:
        if not request.internal:
            raise NotFound(f"there is no {request.path} here; GET /openapi.json tells all paths.")
        await request.send_json([list(each) for each in self._changes])

    @staticmethod
    async def _answer_metrics(request: ClientRequest, told: list[PeerResponse]) -> None:
        # In a thread: with many processes it takes longer than a request may be held up.
        text = await asyncio.to_thread(merge_metrics, [each.body for each in told if each.status == 200])
        await request.send_response(200, text, [(b"content-type", CONTENT_TYPE)])

    @staticmethod
    async def _answer_worst(request: ClientRequest, told: list[PeerResponse]) -> None:
        await send_peer_response(request, max(told, key=lambda each: each.status))

    @staticmethod
    def _answering(merge: Merge) -> Callable[[ClientRequest, list[PeerResponse]], Awaitable[None]]:
        async def answer(request: ClientRequest, told: list[PeerResponse]) -> None:
            if well := parsed_responses(told):
                await request.send_response(200, orjson.dumps(merge(well)), JSON_HEADERS)
            else:
                await send_peer_response(request, told[0])

        return answer
