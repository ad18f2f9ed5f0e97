"""What operators changed of the workers, on which all processes of a router agree.

Of each worker the last change counts: that it was added or given other settings, with a body that says how it is since,
or removed. A process that
makes a change tells the others before the operator gets the answer. One that was silent, or is started again, asks
another one later: every process does so all the time. Changes are ordered by a Lamport clock, so that all processes
take the same one for the last, whichever they hear of first (a last-writer-wins map).
"""

import asyncio
import logging
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, NamedTuple

import msgspec

from router.endpoints.routes import Route
from router.endpoints.workers import WorkerEndpoints
from router.errors import NotFound, RouterError
from router.http.client_request import ClientRequest
from router.http.ids import new_id
from router.server.processes.peers import Peers

logger = logging.getLogger(__name__)

CHANGES_PATH = "/internal/changes"
SYNC_INTERVAL = 2.0  # seconds between two questions to another process for what it knows
MAX_REMOVALS = 1000  # that are remembered; older ones are forgotten


class WorkerChange(NamedTuple):
    """The last change of one worker.

    Attributes:
        clock: Lamport time: above that of every change that the process knew which made this one.
        nonce: Orders changes of the same time, which were made side by side.
        worker_id: Whose change it is.
        body: A body with which POST would make the worker as it is; None for a removal.
    """

    clock: int
    nonce: str
    worker_id: str
    body: dict[str, Any] | None


class WorkerChanges:
    """The last change of each worker that an operator added or removed.

    Args:
        peers: The processes.
        endpoints: Adds and removes workers in this process.
    """

    def __init__(self, peers: Peers, endpoints: WorkerEndpoints) -> None:
        self._peers = peers
        self._endpoints = endpoints
        self._last: dict[str, WorkerChange] = {}
        self._unapplied: set[str] = set()  # ids of workers
        self._clock = 0
        self._sync: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Apply what this process has missed if it was started again; then ask others all the time."""
        if self._peers.restarted:
            for body in await self._peers.get_from_others(CHANGES_PATH):
                self._merge(body)
            self._apply(starting=True)
        self._sync = asyncio.create_task(self._sync_for_ever())

    async def close(self) -> None:
        """Stop asking the other processes for changes."""
        if self._sync is not None:
            self._sync.cancel()
            await asyncio.gather(self._sync, return_exceptions=True)

    async def announce(self, worker_id: str, body: dict[str, Any] | None) -> None:
        """Tell the other processes of a change that this process has applied; one that is silent asks later."""
        self._clock += 1
        change = WorkerChange(self._clock, new_id(), worker_id, body)
        self._last[worker_id] = change
        self._unapplied.discard(worker_id)
        self._forget_old_removals()
        for index in await self._peers.post_to_others(CHANGES_PATH, msgspec.json.encode([change])):
            logger.warning("process %d does not answer; it follows a change of the workers once it does.", index)

    def routes(self) -> list[Route]:
        """The paths by which processes tell each other."""
        return [
            Route("GET", CHANGES_PATH, self._list, "What operators changed", right=None),
            Route("POST", CHANGES_PATH, self._hear, "What an operator changed", right=None),
        ]

    async def _list(self, request: ClientRequest) -> None:
        _refuse_clients(request)
        await request.send_response(200, msgspec.json.encode([*self._last.values()]))

    async def _hear(self, request: ClientRequest) -> None:
        _refuse_clients(request)
        self._merge(await request.body())
        self._apply()
        await request.send_json({})

    async def _sync_for_ever(self) -> None:
        while True:
            await asyncio.sleep(SYNC_INTERVAL)
            try:
                body = await self._peers.get_from_next(CHANGES_PATH)
                if body is not None:
                    self._merge(body)
                self._apply()
            except Exception:  # an unexpected error must not end it
                logger.exception("unexpected error while asking for changes of the workers")

    def _merge(self, raw: bytes) -> None:
        """Take over changes that are later than what this process knows of the same workers."""
        for change in _changes(raw):
            self._clock = max(self._clock, change.clock)
            known = self._last.get(change.worker_id)
            if known is None or known[:2] < change[:2]:
                self._last[change.worker_id] = change
                self._unapplied.add(change.worker_id)
        self._forget_old_removals()

    def _forget_old_removals(self) -> None:
        removals = [change for change in self._last.values() if change.body is None]
        for change in sorted(removals)[: max(0, len(removals) - MAX_REMOVALS)]:
            del self._last[change.worker_id]
            self._unapplied.discard(change.worker_id)

    def _apply(self, *, starting: bool = False) -> None:
        """Apply what is not applied yet; what has to wait for a worker that is being removed is tried again later."""
        for worker_id in [*self._unapplied]:
            change, done = self._last[worker_id], True
            with suppress(RouterError):  # the process that made the change has checked it
                if change.body is None:
                    self._endpoints.ensure_removed(worker_id, at_once=starting)
                else:
                    done = self._endpoints.ensure_added(change.body, at_once=starting)
            if done:
                self._unapplied.discard(worker_id)


def _changes(raw: bytes) -> Iterable[WorkerChange]:
    """The changes in the JSON that another process sent; none where it is of another form."""
    try:
        return msgspec.json.decode(raw, type=list[WorkerChange])
    except msgspec.DecodeError:
        return []


def _refuse_clients(request: ClientRequest) -> None:
    if not request.internal:
        raise NotFound(f"there is no {request.path} here; GET /openapi.json tells all paths.")
