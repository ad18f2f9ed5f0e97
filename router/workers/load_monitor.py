"""Asks the servers for their own load at an interval, so that several routers before them see each other's requests."""

import asyncio
import logging
import time
from collections.abc import Collection
from dataclasses import dataclass
from http import HTTPStatus
from weakref import WeakKeyDictionary

import orjson

from router.config.flags import flag
from router.errors import RouterError
from router.workers.queries import fetch_response
from router.workers.registry import Registry
from router.workers.server_load import LOAD_PATHS, only_rank
from router.workers.worker import Role, Worker

logger = logging.getLogger(__name__)

POLL_TIMEOUT = 3.0  # seconds
STALE_INTERVALS = 3  # without a report, after which the last one counts no more
SKIPPED_POLLS = 30  # of a server that does not tell its load, before it is asked again
_NO_SUCH_PATH = (HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.NOT_IMPLEMENTED)


@dataclass(frozen=True)
class LoadMonitorSettings:
    """How often servers are asked for their load."""

    interval_secs: float = flag(
        "--load-monitor-interval",
        default=10,
        value_type=float,
        exclusive_minimum=0,
        help_text="seconds between questions to the servers for their load, where a policy or a limit needs it",
    )
    stale_secs: float | None = flag(
        "--worker-stale-secs",
        default=None,
        value_type=float,
        exclusive_minimum=0,
        help_text=f"seconds after which a server's last report counts no more; by default {STALE_INTERVALS} intervals",
    )


@dataclass(slots=True)
class Polls:
    """The polls of one worker.

    Attributes:
        path: Where it told its load last; None if it was not found out.
        skipped: Polls to leave out, since it does not tell its load.
        asked: How often it was asked.
        failed: How often it gave no load.
    """

    path: str | None = None
    skipped: int = 0
    asked: int = 0
    failed: int = 0


class LoadMonitor:
    """Sets `Worker.server_load` of the workers of some roles, and takes it away when it is stale.

    Args:
        registry: The workers.
        settings: The interval.
        roles: The roles whose policies use the servers' loads.

    Attributes:
        polls: The polls of each worker that was asked.
    """

    def __init__(self, registry: Registry, settings: LoadMonitorSettings, roles: Collection[Role]) -> None:
        self._registry = registry
        self._interval = settings.interval_secs
        self._stale = settings.stale_secs or STALE_INTERVALS * settings.interval_secs
        self._roles = roles
        self.polls: WeakKeyDictionary[Worker, Polls] = WeakKeyDictionary()

    @property
    def workers(self) -> list[Worker]:
        """The workers that are asked."""
        return [worker for worker in self._registry.workers if worker.role in self._roles]

    async def run(self) -> None:
        """Ask all workers again and again, until cancelled."""
        while self._roles:
            try:
                await self.poll()
            except Exception:  # an unexpected error must not end the monitoring
                logger.exception("unexpected error while asking the workers for their load")
            await asyncio.sleep(self._interval)

    async def poll(self) -> None:
        """Ask all workers once that can be reached."""
        await asyncio.gather(
            *(self._poll(worker) for worker in self.workers if worker.health.healthy and not worker.health.away)
        )
        oldest = time.monotonic() - self._stale
        for worker in (each for server in self.workers for each in (server, *server.ranks)):
            if worker.server_load is not None and worker.server_load.asked_at < oldest:
                worker.server_load = None

    async def _poll(self, worker: Worker) -> None:
        polls = self.polls.setdefault(worker, Polls())
        if polls.skipped:
            polls.skipped -= 1
            return
        polls.asked += 1
        try:
            async with asyncio.timeout(POLL_TIMEOUT):
                told = await self._ask(worker, polls)
        except (RouterError, TimeoutError, orjson.JSONDecodeError) as error:
            logger.debug("%s does not tell its load now: %s", worker.url, error)
            told = False
        if not told:
            polls.failed += 1

    async def _ask(self, worker: Worker, polls: Polls) -> bool:
        """Ask one worker at the path that it is known to have, or at each; whether it told its load."""
        for path, read in LOAD_PATHS.items():
            if polls.path not in (None, path):
                continue
            own_requests, asked_at = worker.load.in_flight, time.monotonic()
            own_of_ranks = [rank.load.in_flight for rank in worker.ranks]
            status, body, _ = await fetch_response(worker, "GET", path, timeout=POLL_TIMEOUT)
            if status in _NO_SUCH_PATH:
                continue
            answer = orjson.loads(body) if status == HTTPStatus.OK else None
            load = read(answer, own_requests, asked_at)
            if load is not None:
                polls.path, worker.server_load = path, load
                for rank, own in zip(worker.ranks, own_of_ranks, strict=False):
                    rank.server_load = read(only_rank(answer, rank.rank), own, asked_at)
            return load is not None
        if polls.path is None:
            polls.skipped = SKIPPED_POLLS
        polls.path = None  # another version may run there now
        return False
