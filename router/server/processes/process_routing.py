"""Routes of a router with several processes: which requests go to another process, or to all of them."""

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
from router.server.processes.merged_responses import merge_info, merge_metrics, merge_runs, merge_worker, merge_workers
from router.server.processes.peers import FORWARD_TIMEOUT, PeerResponse, Peers, parsed_responses, send_peer_response

CHANGES_PATH = "/internal/changes"
MAX_CHANGES = 10_000


class OperatorChange(NamedTuple):
    """A request of an operator that added or removed a worker."""

    method: str
    path: str
    body: str


Merge = Callable[[Sequence[dict[str, Any]]], dict[str, Any]]
SendMerged = Callable[[ClientRequest, list[PeerResponse]], Awaitable[None]]
MERGED_PATHS: dict[str, Merge] = {
    "/workers": merge_workers,
    "/workers/{id}": merge_worker,
    "/runs": merge_runs,
    "/server_info": merge_info,
    "/get_server_info": merge_info,
}


class ProcessRouting:
    """Wraps the handlers of routes that involve other processes.

    A request that comes over the private socket (`request.internal`) is for this process alone:

    - `/runs/{id}...`: forwarded to the process that owns the run.
    - `/metrics`, `/readiness`, `/workers`, `/runs`, `/server_info`: sent to all processes, responses merged.
    - adding and removing workers: sent to all processes.

    Args:
        peers: The processes.
    """

    def __init__(self, peers: Peers) -> None:
        self._peers = peers
        self._changes: deque[OperatorChange] = deque(maxlen=MAX_CHANGES)

    async def catch_up(self, apply: Callable[[OperatorChange], None]) -> None:
        """In a restarted process, apply the changes it has missed, from the peer that lists the most.

        Other processes may have been restarted too, and list none yet.
        """
        bodies = await self._peers.get_from_others(CHANGES_PATH) if self._peers.restarted else []
        for fields in max(map(orjson.loads, bodies), key=len, default=[]):
            change = OperatorChange(*fields)
            self._changes.append(change)
            apply(change)

    def wrap(self, routes: Sequence[Route]) -> list[Route]:
        """The routes with wrapped handlers, and an internal one that lists changes."""
        changes = Route("GET", CHANGES_PATH, self._list_changes, "What operators changed", public=True)
        return [*(replace(route, handler=self._handler(route)) for route in routes), changes]

    def _handler(self, route: Route) -> Handler:
        if route.path.startswith("/runs/"):
            return self._forwarded_to_owner(route.handler)
        if route.path == "/metrics":
            return self._collected(route.handler, self._send_metrics)
        if route.path == "/readiness":
            return self._collected(route.handler, self._send_worst)
        if route.method == "GET" and route.path in MERGED_PATHS:
            return self._collected(route.handler, self._send_merged(MERGED_PATHS[route.path]))
        if route.path.startswith("/workers") and route.method in {"POST", "DELETE"}:
            return self._broadcast(route.handler)
        return route.handler

    def _forwarded_to_owner(self, handler: Handler) -> Handler:
        async def handle(request: ClientRequest, run: str) -> None:
            owner = self._peers.owner(run)
            if request.internal or owner == self._peers.index:
                await handler(request, run)
            else:
                await self._peers.forward(request, owner, await request.body(), FORWARD_TIMEOUT)

        return handle

    def _collected(self, handler: Handler, send: SendMerged) -> Handler:
        async def handle(request: ClientRequest, *variable: str) -> None:
            if request.internal:
                await handler(request, *variable)
                return
            await request.body()
            responses: list[PeerResponse] = []

            async def collect() -> None:
                responses.extend(await self._peers.collect_responses(request))

            await while_connected(request, collect())
            await send(request, responses)

        return handle

    def _broadcast(self, handler: Handler) -> Handler:
        async def handle(request: ClientRequest, *variable: str) -> None:
            if request.internal:
                raw = await request.prefetch_body()
                await handler(request, *variable)
                if request.status < 400:
                    # DELETE needs no body, and one that a client sent may not even be text.
                    body = raw.decode() if request.method == "POST" else ""
                    self._changes.append(OperatorChange(request.method, request.path, body))
                return
            await send_peer_response(request, await self._peers.broadcast(request, await request.body()))

        return handle

    async def _list_changes(self, request: ClientRequest) -> None:
        if not request.internal:
            raise NotFound(f"there is no {request.path} here; GET /openapi.json tells all paths.")
        await request.send_json([list(change) for change in self._changes])

    @staticmethod
    async def _send_metrics(request: ClientRequest, responses: list[PeerResponse]) -> None:
        # In a thread: merging those of many processes would block the event loop for too long.
        text = await asyncio.to_thread(merge_metrics, [each.body for each in responses if each.status == 200])
        await request.send_response(200, text, [(b"content-type", CONTENT_TYPE)])

    @staticmethod
    async def _send_worst(request: ClientRequest, responses: list[PeerResponse]) -> None:
        await send_peer_response(request, max(responses, key=lambda each: each.status))

    @staticmethod
    def _send_merged(merge: Merge) -> SendMerged:
        async def send(request: ClientRequest, responses: list[PeerResponse]) -> None:
            if parsed := parsed_responses(responses):
                await request.send_response(200, orjson.dumps(merge(parsed)), JSON_HEADERS)
            else:
                await send_peer_response(request, responses[0])

        return send
