"""Routes of a router with several processes: which requests go to another process, or to all of them."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

import orjson

from router.endpoints.routes import Handler, Route
from router.errors import NoWorker
from router.http.asgi import JSON_HEADERS
from router.http.client_request import ClientRequest
from router.http.disconnect import while_connected
from router.observability.prometheus import CONTENT_TYPE
from router.server.processes.merged_responses import (
    merge_drain,
    merge_info,
    merge_metrics,
    merge_runs,
    merge_worker,
    merge_workers,
)
from router.server.processes.peers import FORWARD_TIMEOUT, PeerResponse, Peers, parsed_responses, send_peer_response

Merge = Callable[[Sequence[dict[str, Any]]], dict[str, Any]]
SendMerged = Callable[[ClientRequest, dict[int, PeerResponse]], Awaitable[None]]  # responses by process, own first
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
    - `/drain`, whatever the method: sent to all processes, each of which must answer.

    Args:
        peers: The processes.
    """

    def __init__(self, peers: Peers) -> None:
        self._peers = peers

    def wrap(self, routes: Sequence[Route]) -> list[Route]:
        """The routes with wrapped handlers."""
        return [replace(route, handler=self._handler(route)) for route in routes]

    def _handler(self, route: Route) -> Handler:
        if route.path.startswith("/runs/"):
            return self._forwarded_to_owner(route.handler)
        if route.path == "/metrics":
            return self._collected(route.handler, self._send_metrics)
        if route.path == "/readiness":
            return self._collected(route.handler, self._send_worst)
        if route.path == "/drain":
            return self._collected(route.handler, self._send_drain)
        if route.method == "GET" and route.path in MERGED_PATHS:
            return self._collected(route.handler, self._send_merged(MERGED_PATHS[route.path]))
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
            responses: dict[int, PeerResponse] = {}

            async def collect() -> None:
                responses.update(await self._peers.collect_responses(request))

            await while_connected(request, collect())
            await send(request, responses)

        return handle

    @staticmethod
    async def _send_metrics(request: ClientRequest, responses: dict[int, PeerResponse]) -> None:
        # In a thread: merging those of many processes would block the event loop for too long.
        text = await asyncio.to_thread(merge_metrics, [each.body for each in responses.values() if each.status == 200])
        await request.send_response(200, text, [(b"content-type", CONTENT_TYPE)])

    def _check_all_answered(self, responses: dict[int, PeerResponse]) -> None:
        """Raise `NoWorker` where a process did not answer: it answers no connections that reach it."""
        silent = self._peers.indexes - responses.keys()
        if silent:
            raise NoWorker(f"process {min(silent)} of the router does not answer; try again.", retry_after=1)

    async def _send_drain(self, request: ClientRequest, responses: dict[int, PeerResponse]) -> None:
        self._check_all_answered(responses)
        await request.send_json(merge_drain(parsed_responses([*responses.values()])))

    async def _send_worst(self, request: ClientRequest, responses: dict[int, PeerResponse]) -> None:
        self._check_all_answered(responses)
        await send_peer_response(request, max(responses.values(), key=lambda each: each.status))

    @staticmethod
    def _send_merged(merge: Merge) -> SendMerged:
        async def send(request: ClientRequest, responses: dict[int, PeerResponse]) -> None:
            if parsed := parsed_responses([*responses.values()]):
                await request.send_response(200, orjson.dumps(merge(parsed)), JSON_HEADERS)
            else:
                await send_peer_response(request, next(iter(responses.values())))

        return send
