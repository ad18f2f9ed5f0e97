"""Places on pairs: a request waits in the router, and not on the servers, until both of them have room for it.

A prefill server holds the KV of a request until a decode server takes it, and fails after some minutes. A decode server
runs a number of requests at once that it reports: its *window*, each of which is a *place*. So prefill begins only when
decode has a place for the answer. Who waits longest goes first.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from router.config.flags import flag
from router.errors import NoWorker, RouterError
from router.workers.registry import Registry
from router.workers.worker import PAIR_ROLES, Pair, Role, Worker

POLL_INTERVAL = 0.1  # seconds; no event says that there are new places, as of a server that is back
Group = Sequence[Worker]
Reason = Literal["full", "timeout"]


@dataclass(frozen=True)
class PairPlaceSettings:
    """When a request for a pair waits before its prefill starts.

    Attributes:
        processes: The number of processes that share the windows of the decode servers.
    """

    decode_wait_secs: float | None = flag(
        "--pd-admission-wait-secs",
        default=None,
        value_type=float,
        minimum=0,
        help_text="start a prefill only when a decode server has a place for the answer, of as many as it says it runs "
        "at once; a request waits for it so many seconds, then gets 503; without the flag nothing waits",
    )
    prefills: int = flag(
        "--prefill-max-inflight-requests-per-worker",
        default=-1,
        minimum=-1,
        help_text="requests that a prefill server has at once, the others wait; -1 is no limit",
    )
    queue_size: int | None = flag(
        "--prefill-queue-size",
        default=None,
        value_type=int,
        minimum=0,
        help_text="requests of a model that may wait for a pair so; by default as many as --queue-size",
    )
    queue_timeout_secs: float | None = flag(
        "--prefill-queue-timeout-secs",
        default=None,
        value_type=float,
        minimum=0,
        help_text="seconds that one may wait for a prefill server; by default --queue-timeout-secs",
    )
    processes: int = 1


class _Waiting:
    """A request that waits, for any pair of its model or for one."""

    def __init__(self, model: str, groups: Callable[[], Sequence[Group]], places: int = 1, pair: Pair | None = None):
        self.model = model
        self.groups = groups
        self.places = places
        self.pair = pair
        self.admitted: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class PairPlaces:
    """Lets requests wait for places on pairs. A request that is sent takes places (`WorkerLoad`).

    Args:
        registry: The workers.
        settings: The limits; by default there are none.
        queue_size: Requests of a model that may wait, where the settings have no number.
        queue_timeout: Seconds that one may wait for a prefill server, where the settings have none.

    Attributes:
        enabled: Whether there is a limit.
        waits: Number of requests that waited, by what they lacked first.
        refusals: Number of requests that got no place, by what they lacked, and why they did not wait any longer:
            the queue was full (`full`), or their time over (`timeout`).
    """

    def __init__(
        self,
        registry: Registry,
        settings: PairPlaceSettings | None = None,
        queue_size: int = 100,
        queue_timeout: float = 60.0,
    ) -> None:
        settings = settings or PairPlaceSettings()
        self._registry = registry
        self._prefills = settings.prefills
        self._windowed = settings.decode_wait_secs is not None
        self._processes = settings.processes
        self._size = queue_size if settings.queue_size is None else settings.queue_size
        prefill_wait = queue_timeout if settings.queue_timeout_secs is None else settings.queue_timeout_secs
        self._seconds: dict[Role, float] = {"prefill": prefill_wait, "decode": settings.decode_wait_secs or 0.0}
        self._waiting: deque[_Waiting] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self.enabled = self._windowed or self._prefills > 0
        self.waits: dict[Role, int] = {"prefill": 0, "decode": 0}
        self.refusals: Counter[tuple[Role, Reason]] = Counter()

    @property
    def waiting(self) -> int:
        """Number of requests that wait."""
        return len(self._waiting)

    def window(self, worker: Worker) -> int | None:
        """The places of a decode server for this process; None where the server does not report how many it has."""
        if not self._windowed or worker.report.most_running is None:
            return None
        ranks = 1 if worker.rank is None else worker.report.ranks
        return max(1, worker.report.most_running // ranks // self._processes)

    def has_place(self, worker: Worker, places: int = 1) -> bool:
        """Whether a server has room for a request of so many answers.

        A request for more than the whole window is sent when the server has no other.
        """
        if worker.ranks:
            return any(self.has_place(rank, places) for rank in worker.ranks)
        if worker.role == "prefill":
            return self._prefills <= 0 or worker.load.requests < self._prefills
        window = self.window(worker)
        return window is None or worker.load.places_taken == 0 or worker.load.places_taken + places <= window

    async def wait(self, model: str, places: int = 1) -> None:
        """Return when a prefill and a decode server of the model have a place, or when it has no usable ones.

        The place must be taken, by sending the request, before anything else is awaited.

        Raises:
            NoWorker: There was none in time, or enough requests wait already.
        """
        await self._wait(_Waiting(model, lambda: self._of_model(model), places))

    async def wait_for(self, pair: Pair) -> None:
        """As `wait`, for a place on both servers of one pair."""
        groups = ((pair.prefill,), (pair.decode,))
        await self._wait(_Waiting(str(pair.decode.model), lambda: groups, pair=pair))

    def _of_model(self, model: str) -> Sequence[Group]:
        try:
            groups = [self._registry.usable(model, role) for role in PAIR_ROLES]
        except RouterError:
            return ()  # choosing a pair will raise the same error
        return [[worker for worker in group if worker.breaker.allows()] for group in groups]

    def _lacks(self, request: _Waiting) -> Role | None:
        """The role of which no server has a place; None where both have one."""
        for group in reversed(request.groups()):  # decode first, which frees its places later
            if group and not any(self.has_place(worker, request.places) for worker in group):
                return group[0].role
        return None

    async def _wait(self, request: _Waiting) -> None:
        lacked = self._lacks(request)
        if lacked is None and not any(each.model == request.model for each in self._waiting):
            return
        role = lacked or ("decode" if self._seconds["decode"] else "prefill")
        seconds = self._seconds[role]
        waiting = sum(each.model == request.model for each in self._waiting)
        if waiting >= self._size or not seconds:
            raise self._refusal(request.model, role, "full", f"{waiting} requests wait already")
        self.waits[role] += 1
        self._waiting.append(request)
        self._watch()
        try:
            async with asyncio.timeout(seconds):
                await request.admitted
        except TimeoutError:
            raise self._refusal(request.model, role, "timeout", f"none was free within {seconds:g} s") from None
        finally:
            self._waiting.remove(request)
            # Soon: first this request takes its place.
            asyncio.get_running_loop().call_soon(self._admit_next)

    def _refusal(self, model: str, role: Role, reason: Reason, why: str) -> NoWorker:
        self.refusals[role, reason] += 1
        return NoWorker(
            f"every {role} server of the model {model!r} has as many requests as it may, and {why}; try again later.",
            retry_after=1.0,
        )

    def _watch(self) -> None:
        """Check for free places whenever a request ends, and every `POLL_INTERVAL`."""
        for worker in self._registry.workers:
            worker.load.call_on_release(self._admit_next)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(POLL_INTERVAL, self._poll)

    def _poll(self) -> None:
        self._timer = None
        if self._waiting:
            self._watch()
            self._admit_next()
        else:
            for worker in self._registry.workers:
                worker.load.call_on_release(None)

    def _admit_next(self) -> None:
        """Admit the oldest request that finds a place. The next one is admitted once it has taken the place."""
        if any(request.admitted.done() for request in self._waiting):
            return
        blocked: set[tuple[str, Pair | None]] = set()
        for request in self._waiting:
            wanted = request.model, request.pair
            if wanted in blocked:
                continue
            if self._lacks(request) is None:
                request.admitted.set_result(None)
                return
            blocked.add(wanted)
